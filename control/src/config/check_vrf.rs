//! Checks of VRFs: those that are named exist, routes stay in their table, and an address outside
//! belongs to one VRF.

use std::net::Ipv4Addr;

use super::check::{Findings, at_line};
use super::draft::Draft;
use super::model::{RouteTarget, StaticGlobal, StaticRoute, StaticScope};
use super::text::Span;

/// The VRFs that lines name exist.
pub(super) fn vrfs(draft: &Draft, findings: &mut Findings) {
    let (config, places) = (&draft.config, &draft.places);
    let interfaces = config.interfaces.iter().zip(&places.interfaces);
    for (interface, places) in interfaces {
        known_vrf(draft, findings, interface.vrf.as_deref(), places.vrf);
    }
    for (route, places) in config.routes.iter().zip(&places.routes) {
        known_vrf(draft, findings, route.vrf.as_deref(), places.vrf);
        route_target(draft, findings, route, places.to);
    }
    for (rule, places) in config.sources.iter().zip(&places.sources) {
        known_vrf(draft, findings, rule.vrf.as_deref(), places.vrf);
    }
    for (rule, places) in config.statics.iter().zip(&places.statics) {
        known_vrf(draft, findings, rule.vrf.as_deref(), places.vrf);
    }
    for vrf in config.host_limits.vrfs.keys() {
        let place = places.limited_vrfs.get(vrf).copied().unwrap_or_default();
        known_vrf(draft, findings, Some(vrf), place);
    }
    shared_addresses(draft, findings);
}

fn known_vrf(draft: &Draft, findings: &mut Findings, vrf: Option<&str>, span: Span) {
    if let Some(name) = vrf
        && draft.config.vrf(name).is_none()
        && !draft.is_suspect(name)
    {
        findings.error(span, format!("there is no VRF {name}"));
    }
}

/// `VRF RED`, or `the global table`.
pub(super) fn table(vrf: Option<&str>) -> String {
    vrf.map_or("the global table".to_owned(), |name| format!("VRF {name}"))
}

/// The table in which a route's next hop is looked for.
pub(super) fn table_of_target(route: &StaticRoute) -> Option<&str> {
    route.vrf.as_deref().filter(|_| !route.global)
}

/// A route leads out of an interface of the table that it says.
fn route_target(draft: &Draft, findings: &mut Findings, route: &StaticRoute, span: Span) {
    let RouteTarget::Interface(name) = &route.target else {
        return;
    };
    let Some(interface) = draft.config.interface(name) else {
        return; // which is said elsewhere
    };
    let (there, wanted) = (interface.vrf.as_deref(), table_of_target(route));
    if there == wanted || draft.is_suspect(name) {
        return;
    }
    let (is_in, not_in) = (table(there), table(wanted));
    let hint = match there {
        None => "; say `global` behind it",
        Some(_) => "",
    };
    findings.error(
        span,
        format!("interface {name} is in {is_in}, not in {not_in}{hint}"),
    );
}

/// The global addresses of a static.
struct Owned<'a> {
    start: u32,
    end: u32,
    scope: StaticScope,
    vrf: Option<&'a str>,
    span: Span,
}

impl Owned<'_> {
    /// All of each address, not one port.
    fn is_whole(&self) -> bool {
        !matches!(self.scope, StaticScope::Port { .. })
    }
}

/// An address that one VRF has as a whole is not another one's by port, nor in a network: whoever
/// asks for it from outside would reach the one or the other by chance. (Equal statics are found
/// out whatever their VRF.)
fn shared_addresses(draft: &Draft, findings: &mut Findings) {
    let config = &draft.config;
    let statics = config.statics.iter().zip(&draft.places.statics);
    let owned = statics.filter_map(|(rule, places)| {
        let start = match &rule.global {
            StaticGlobal::Address(address) => *address,
            StaticGlobal::Interface(name) => config.interface(name)?.fixed()?.addr(),
        };
        let start = start.to_bits();
        let more = u32::try_from(rule.hosts() - 1).unwrap_or(u32::MAX);
        Some(Owned {
            start,
            end: start.saturating_add(more),
            scope: rule.scope,
            vrf: rule.vrf.as_deref(),
            span: places.to,
        })
    });
    let mut owned: Vec<Owned<'_>> = owned.collect();
    owned.sort_by_key(|o| (o.start, o.end));
    let (mut any, mut whole) = (Farthest::default(), Farthest::default());
    for one in &owned {
        let before = if one.is_whole() { &any } else { &whole };
        let same = |other: &Owned<'_>| (other.start, other.scope) == (one.start, one.scope);
        if let Some(other) = before.other(one).filter(|other| !same(other)) {
            let (at, there) = match one.span.line {
                0 => (other, one),
                _ => (one, other),
            };
            let (address, line) = (Ipv4Addr::from_bits(one.start), at_line(there.span));
            let (here, other) = (table(at.vrf), table(there.vrf));
            findings.error(
                at.span,
                format!("{address} belongs to {other}{line}, so nothing of it to {here}"),
            );
        }
        any.note(one);
        if one.is_whole() {
            whole.note(one);
        }
    }
}

/// Of those seen so far, which reaches farthest, and which does of those of another VRF than that.
#[derive(Default)]
struct Farthest<'a> {
    first: Option<&'a Owned<'a>>,
    second: Option<&'a Owned<'a>>,
}

impl<'a> Farthest<'a> {
    fn note(&mut self, one: &'a Owned<'a>) {
        let reaches = |there: Option<&Owned<'_>>| there.is_none_or(|there| there.end < one.end);
        match self.first {
            Some(first) if first.vrf == one.vrf => {
                if reaches(Some(first)) {
                    self.first = Some(one);
                }
            }
            Some(_) if !reaches(self.first) => {
                if reaches(self.second) {
                    self.second = Some(one);
                }
            }
            before => (self.first, self.second) = (Some(one), before),
        }
    }

    /// One of another VRF that overlaps `one`, which starts behind all that were noted.
    fn other(&self, one: &Owned<'_>) -> Option<&'a Owned<'a>> {
        let of_other = |there: &&Owned<'_>| there.vrf != one.vrf && there.end >= one.start;
        self.first.filter(of_other).or(self.second.filter(of_other))
    }
}
