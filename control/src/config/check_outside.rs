//! Checks of `ip nat outside source`.

use std::collections::HashMap;

use spillway_dataplane::snapshot::Side;

use super::check::{Claim, Findings, at_line, claim, missing_selector, pool_of_rule};
use super::draft::Draft;

/// Rules name what exists; statics do not contradict each other, the interfaces or IPsec.
pub(super) fn outside_sources(draft: &Draft, findings: &mut Findings) {
    let config = &draft.config;
    let rules = config.outside_sources.iter();
    for (rule, places) in rules.zip(&draft.places.outside_sources) {
        missing_selector(draft, findings, &rule.selector, places.from);
        pool_of_rule(draft, findings, &rule.pool, false, places.to);
    }
    let (mut globals, mut locals) = (HashMap::new(), HashMap::new());
    let statics = config.outside_statics.iter();
    for (fixed, places) in statics.zip(&draft.places.outside_statics) {
        let before = claim(&mut globals, fixed.global, places.from);
        if let (Some(before), false) = (before, fixed.extendable) {
            let (global, line) = (fixed.global, at_line(before));
            findings.error(
                places.from,
                format!("{global} is translated already{line}; several need `extendable`"),
            );
        }
        if let Some(before) = claim(&mut locals, fixed.local, places.to) {
            let (local, line) = (fixed.local, at_line(before));
            findings.error(
                places.to,
                format!("{local} stands for another outside host{line}"),
            );
        }
        // These translations are of the global table.
        let mut interfaces = config.interfaces.iter().filter(|i| i.vrf.is_none());
        let own = |i: &&super::model::Interface| i.fixed().map(|net| net.addr());
        if let Some(own) = interfaces.find(|i| own(i) == Some(fixed.global)) {
            let message = format!(
                "{} is the address of interface {} itself",
                fixed.global, own.name
            );
            findings.error(places.from, message);
        }
        let mut interfaces = config.interfaces.iter().filter(|i| i.vrf.is_none());
        let inside = interfaces.find(|i| {
            i.side == Side::Inside && i.fixed().is_some_and(|net| net.contains(&fixed.local))
        });
        if let (Some(inside), false) = (inside, fixed.add_route) {
            let message = format!(
                "{} is in the network of inside interface {}: packets to it stay there without `add-route`",
                fixed.local, inside.name
            );
            findings.warn(places.to, message);
        }
    }
    let is_ipsec_special = !config.spi_match.is_empty()
        || !config.preserve_port.is_empty()
        || !config.static_esp.is_empty();
    let of_rules = draft.places.outside_sources.iter();
    let first = of_rules.chain(&draft.places.outside_statics).next();
    if let (Some(first), true) = (first, is_ipsec_special) {
        let message = "ESP with these outside hosts passes for inside hosts with a static only, and their IKE is like any UDP";
        findings.warn(first.from, message.to_owned());
    }
}

/// Who hands out outside local addresses.
pub(super) fn outside_claims(draft: &Draft) -> Vec<Claim> {
    let config = &draft.config;
    let mut claims: Vec<Claim> = Vec::new();
    let rules = config.outside_sources.iter();
    for (at, (rule, places)) in rules.zip(&draft.places.outside_sources).enumerate() {
        if config.outside_sources[..at]
            .iter()
            .any(|r| r.pool == rule.pool)
        {
            continue;
        }
        let ranges = config.pools.get(&rule.pool).map(|p| p.ranges.as_slice());
        claims.extend(ranges.unwrap_or_default().iter().map(|(start, end)| Claim {
            start: *start,
            end: *end,
            shared: false,
            fixed: false,
            who: format!("pool {} for outside hosts", rule.pool),
            span: places.to,
        }));
    }
    let statics = config.outside_statics.iter();
    let mut seen = std::collections::HashSet::new();
    for (fixed, places) in statics.zip(&draft.places.outside_statics) {
        // Two with one address are found out above.
        if seen.insert(fixed.local) {
            claims.push(Claim {
                start: fixed.local,
                end: fixed.local,
                shared: false,
                fixed: false,
                who: format!("the static translation of outside host {}", fixed.global),
                span: places.to,
            });
        }
    }
    claims
}
