//! Checks of `ip nat inside destination`.

use std::net::Ipv4Addr;

use spillway_dataplane::acl::{AccessList as Compiled, Action, Entry, Subject};
use spillway_dataplane::wire::PROTO_TCP;

use super::check::{Claim, Findings, at_line, missing_selector, pool_of_rule};
use super::draft::Draft;
use super::model::{AccessList, ListKind, PoolKind, RuleTarget, Selector, StaticGlobal};
use super::text::Span;

/// Rules name what exists, and their virtual addresses are nobody's to NAT: `claims` says whose the
/// others are.
pub(super) fn destinations(draft: &Draft, claims: &[Claim], findings: &mut Findings) {
    let config = &draft.config;
    if config.destinations.is_empty() {
        return;
    }
    let interfaces = interfaces_in_use(draft);
    let claims: Vec<&Claim> = claims.iter().chain(&interfaces).collect();
    let mut pools: Vec<&str> = Vec::new();
    for rule in &config.sources {
        if let RuleTarget::Pool(pool) = &rule.target {
            pools.push(pool);
        }
    }
    pools.extend(config.outside_sources.iter().map(|r| r.pool.as_str()));
    let mut hosts = 0;
    let rules = config.destinations.iter();
    for (rule, places) in rules.zip(&draft.places.destinations) {
        missing_selector(
            draft,
            findings,
            &Selector::List(rule.list.clone()),
            places.from,
        );
        pool_of_rule(draft, findings, &rule.pool, false, places.to);
        if let Some(pool) = config.pools.get(&rule.pool) {
            hosts += pool.size();
            if pool.kind != PoolKind::Rotary && !draft.is_suspect(&rule.pool) {
                let message = format!(
                    "pool {} is not of `type rotary`: its hosts have their turns all the same",
                    rule.pool
                );
                findings.warn(places.to, message);
            }
        }
        if pools.contains(&rule.pool.as_str()) {
            let message = format!(
                "pool {} has inside hosts here and addresses to translate to elsewhere",
                rule.pool
            );
            findings.error(places.to, message);
        }
        if let Some(list) = config.access_lists.get(&rule.list)
            && let Some((address, claim)) = claimed(list, &claims)
        {
            let line = at_line(claim.span);
            let message = format!(
                "list {} permits {address}, which {}{line} has; a virtual address is nobody else's",
                rule.list, claim.who
            );
            findings.error(places.from, message);
        }
    }
    let most = super::model::Config::MOST_SERVERS;
    if hosts > most {
        let message = format!("{hosts} hosts share connections; {most} is the most");
        let first = draft.places.destinations.first();
        findings.error(first.map(|places| places.to).unwrap_or_default(), message);
    }
}

/// The addresses of interfaces that something is translated to.
fn interfaces_in_use(draft: &Draft) -> Vec<Claim> {
    let config = &draft.config;
    let of_rules = config.sources.iter().filter_map(|rule| match &rule.target {
        RuleTarget::Interface(name) => Some(name),
        RuleTarget::Pool(_) => None,
    });
    let of_statics = config.statics.iter().filter_map(|rule| match &rule.global {
        StaticGlobal::Interface(name) => Some(name),
        StaticGlobal::Address(_) => None,
    });
    let addressed = |name: &String| {
        let address = config.interface(name)?.fixed()?.addr();
        Some(Claim {
            start: address,
            end: address,
            shared: true,
            fixed: true,
            who: format!("interface {name}"),
            span: Span::default(),
        })
    };
    of_rules.chain(of_statics).filter_map(addressed).collect()
}

/// The first address that a list permits as a virtual one though somebody has it.
fn claimed<'a>(list: &AccessList, claims: &[&'a Claim]) -> Option<(Ipv4Addr, &'a Claim)> {
    let compiled = Compiled::new(list.entries().cloned().collect::<Vec<_>>());
    let permits = |address: &Ipv4Addr| permits(&compiled, list.kind, *address);
    claims.iter().copied().find_map(|claim| {
        let all = claim.start.to_bits()..=claim.end.to_bits();
        let found = all.map(Ipv4Addr::from_bits).find(|a| permits(a))?;
        Some((found, claim))
    })
}

/// Whether some connection to an address would be permitted: of an extended list only lines for a
/// connection from anywhere to any port say that.
fn permits(list: &Compiled, kind: ListKind, address: Ipv4Addr) -> bool {
    let destination = address.to_bits();
    let source = match kind {
        ListKind::Standard => destination,
        ListKind::Extended => 0,
    };
    let subject = Subject {
        protocol: PROTO_TCP,
        source,
        destination,
        ports: Some((0, 0)),
        icmp: None,
        established: false,
        later_fragment: false,
    };
    match kind {
        ListKind::Standard => list.decide(&subject) == Action::Permit,
        ListKind::Extended => {
            let about = |e: &&Entry| {
                e.destination.matches(destination) && matches!(e.protocol, None | Some(PROTO_TCP))
            };
            let mut about = list.entries().iter().filter(about);
            about.next().is_some_and(|e| e.action == Action::Permit)
        }
    }
}

/// The addresses that a list permits one by one.
pub(super) fn named_addresses(list: &AccessList) -> impl Iterator<Item = Ipv4Addr> {
    let of = |entry: &Entry| match list.kind {
        ListKind::Standard => entry.source,
        ListKind::Extended => entry.destination,
    };
    let permits = list.entries().filter(|e| e.action == Action::Permit);
    let hosts = permits.map(of).filter(|matcher| matcher.dont_care == 0);
    hosts.map(|matcher| Ipv4Addr::from_bits(matcher.address))
}
