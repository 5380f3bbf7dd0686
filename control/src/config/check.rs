//! Checks that need the whole configuration. None takes more than a sort over what it looks at.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::Ipv4Addr;

use spillway_dataplane::snapshot::Side;

use super::check_destination::destinations;
use super::check_outside::{outside_claims, outside_sources};
use super::check_vrf::{table_of_target, vrfs};
use super::draft::Draft;
use super::model::{
    Address, Config, ListName, PoolKind, Port, RouteTarget, RuleTarget, Selector, StaticGlobal,
    StaticScope,
};
use super::text::Span;

/// Adds an error or warning for everything that does not fit together.
pub fn check(draft: &mut Draft) {
    let mut findings = Findings::default();
    ports(draft, &mut findings);
    addresses(draft, &mut findings);
    routes(draft, &mut findings);
    rules(draft, &mut findings);
    access_groups(draft, &mut findings);
    route_maps(draft, &mut findings);
    statics(draft, &mut findings);
    outside_sources(draft, &mut findings);
    claims(draft, &mut findings);
    ipsec(draft, &mut findings);
    host_limits(draft, &mut findings);
    vrfs(draft, &mut findings);
    for (span, message) in findings.errors {
        draft.error(span, message);
    }
    for (span, message) in findings.warnings {
        draft.warn(span, message);
    }
}

/// The lists of limits are there.
fn host_limits(draft: &Draft, findings: &mut Findings) {
    for list in draft.config.host_limits.lists.keys() {
        let so = "its limit is for no host";
        missing_list(draft, findings, list, Span::default(), so);
    }
}

/// What the lines about IPsec name is there.
fn ipsec(draft: &Draft, findings: &mut Findings) {
    let config = &draft.config;
    let of = |names: &BTreeSet<ListName>, what: &str| {
        let missing = names.iter().filter(|name| {
            !config.access_lists.contains_key(name) && !draft.is_suspect(&name.to_string())
        });
        let say =
            |name: &ListName| format!("there is no access list {name}: {what} is for no host");
        missing.map(say).collect::<Vec<_>>()
    };
    let mut messages = of(&config.spi_match, "ESP spi-match");
    messages.extend(of(&config.preserve_port, "IKE preserve-port"));
    for (local, port) in &config.static_esp {
        if config.interface(port).is_none() && !draft.is_suspect(port) {
            let message = format!("there is no interface {port}: {local} gets no ESP");
            messages.push(message);
        }
    }
    for message in messages {
        findings.warn(Span::default(), message);
    }
}

#[derive(Default)]
pub(super) struct Findings {
    errors: Vec<(Span, String)>,
    warnings: Vec<(Span, String)>,
}

impl Findings {
    pub(super) fn error(&mut self, span: Span, message: String) {
        self.errors.push((span, message));
    }

    pub(super) fn warn(&mut self, span: Span, message: String) {
        self.warnings.push((span, message));
    }
}

pub(super) fn at_line(span: Span) -> String {
    match span.line {
        0 => String::new(),
        line => format!(" (line {line})"),
    }
}

/// The warning about an interface that no device is behind.
pub(super) fn without_port(name: &str) -> String {
    format!("interface {name} has no `port` line: no packets come or go")
}

/// Each device is behind one interface, and each interface has one.
fn ports(draft: &Draft, findings: &mut Findings) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (at, interface) in draft.config.interfaces.iter().enumerate() {
        let places = draft.places.interfaces[at];
        let name = &interface.name;
        let device = match &interface.port {
            Some(Port::Pci(pci)) => pci.as_str(),
            Some(Port::Vdev(arguments)) => arguments.split(',').next().unwrap_or(""),
            None => {
                if !draft.is_suspect(name) {
                    findings.warn(places.name, without_port(name));
                }
                continue;
            }
        };
        if let Some(other) = seen.insert(device, at) {
            let line = at_line(draft.places.interfaces[other].port);
            let other = &draft.config.interfaces[other].name;
            let message = format!("device {device} is behind interface {other} already{line}");
            findings.error(places.port, message);
        }
    }
}

/// Networks of interfaces of one table do not overlap.
fn addresses(draft: &Draft, findings: &mut Findings) {
    let fixed = |at: usize| draft.config.interfaces[at].fixed();
    let vrf = |at: usize| draft.config.interfaces[at].vrf.as_deref();
    for at in 0..draft.config.interfaces.len() {
        let Some(net) = fixed(at) else { continue };
        let overlaps = |other: &usize| {
            fixed(*other).is_some_and(|o| o.contains(&net.network()) || net.contains(&o.network()))
        };
        let mut neighbours = (0..at).filter(|other| vrf(*other) == vrf(at));
        if let Some(other) = neighbours.find(overlaps) {
            let line = at_line(draft.places.interfaces[other].address);
            let name = &draft.config.interfaces[other].name;
            let message = format!(
                "{} overlaps the network of interface {name}{line}",
                net.trunc()
            );
            findings.error(draft.places.interfaces[at].address, message);
        }
    }
}

fn routes(draft: &Draft, findings: &mut Findings) {
    for (at, route) in draft.config.routes.iter().enumerate() {
        let span = draft.places.routes[at].to;
        match &route.target {
            RouteTarget::Interface(name) => known_interface(draft, findings, name, span),
            RouteTarget::NextHop(via) => {
                let is = |i: &&super::model::Interface| {
                    i.vrf.as_deref() == table_of_target(route)
                        && i.fixed().is_some_and(|n| n.addr() == *via)
                };
                if let Some(own) = draft.config.interfaces.iter().find(is) {
                    let message = format!("{via} is the address of interface {} itself", own.name);
                    findings.error(span, message);
                }
            }
            RouteTarget::Null => {}
        }
    }
}

fn known_interface(draft: &Draft, findings: &mut Findings, name: &str, span: Span) {
    if draft.config.interface(name).is_none() && !draft.is_suspect(name) {
        findings.error(span, format!("there is no interface {name}"));
    }
}

/// An interface whose address NAT needs.
fn addressed_interface(draft: &Draft, findings: &mut Findings, name: &str, span: Span) {
    known_interface(draft, findings, name, span);
    let Some(interface) = draft.config.interface(name) else {
        return;
    };
    match interface.address {
        Some(Address::Fixed(_) | Address::Dhcp) => {}
        _ if draft.is_suspect(name) => {}
        None => findings.error(
            span,
            format!("interface {name} has no address to translate to"),
        ),
        Some(Address::Negotiated) => findings.warn(
            span,
            format!("interface {name} has no address: what would be translated to it is dropped"),
        ),
    }
}

/// Access groups name lists that exist: one that does not permits everything.
fn access_groups(draft: &Draft, findings: &mut Findings) {
    for (interface, places) in draft.config.interfaces.iter().zip(&draft.places.interfaces) {
        for list in interface.access_groups.iter().flatten() {
            missing_list(
                draft,
                findings,
                list,
                places.name,
                "everything is permitted",
            );
        }
    }
}

/// What clauses of route maps name exists.
fn route_maps(draft: &Draft, findings: &mut Findings) {
    for (name, clauses) in &draft.config.route_maps {
        for (sequence, clause) in clauses {
            let key = (name.clone(), *sequence);
            let span = draft
                .places
                .route_maps
                .get(&key)
                .copied()
                .unwrap_or_default();
            for list in clause.lists.iter().chain(&clause.next_hops) {
                missing_list(draft, findings, list, span, "it matches nothing");
            }
            for interface in &clause.interfaces {
                known_interface(draft, findings, interface, span);
            }
        }
    }
}

fn missing_list(draft: &Draft, findings: &mut Findings, list: &ListName, span: Span, so: &str) {
    if !draft.config.access_lists.contains_key(list) && !draft.is_suspect(&list.to_string()) {
        findings.warn(span, format!("there is no access list {list}: {so}"));
    }
}

/// Dynamic rules: what they name exists, and a pool is shared by port or not, not both.
fn rules(draft: &Draft, findings: &mut Findings) {
    let config = &draft.config;
    let mut shared: HashMap<String, (bool, Span)> = HashMap::new();
    for (rule, places) in config.sources.iter().zip(&draft.places.sources) {
        missing_selector(draft, findings, &rule.selector, places.from);
        match &rule.target {
            RuleTarget::Interface(name) => addressed_interface(draft, findings, name, places.to),
            RuleTarget::Pool(name) => {
                pool_of_rule(draft, findings, name, rule.overload, places.to);
            }
        }
        let target = rule.target.to_string();
        let key = match rule.target {
            RuleTarget::Interface(_) => target.to_ascii_lowercase(),
            RuleTarget::Pool(_) => target.clone(),
        };
        let before = *shared.entry(key).or_insert((rule.overload, places.to));
        if before.0 != rule.overload {
            let line = at_line(before.1);
            let (is, other) = if rule.overload {
                ("with", "without")
            } else {
                ("without", "with")
            };
            let message =
                format!("{target} is used {is} `overload` here and {other} it before{line}");
            findings.error(places.to, message);
        }
    }
}

/// What a rule's packets are chosen by exists.
pub(super) fn missing_selector(
    draft: &Draft,
    findings: &mut Findings,
    selector: &Selector,
    span: Span,
) {
    match selector {
        Selector::RouteMap(map) => {
            if !draft.config.route_maps.contains_key(map) && !draft.is_suspect(map) {
                let message = format!("there is no route map {map}: nothing is translated");
                findings.warn(span, message);
            }
        }
        Selector::List(list) => {
            missing_list(draft, findings, list, span, "nothing is translated");
        }
    }
}

pub(super) fn pool_of_rule(
    draft: &Draft,
    findings: &mut Findings,
    name: &str,
    overload: bool,
    span: Span,
) {
    let Some(pool) = draft.config.pools.get(name) else {
        if !draft.is_suspect(name) {
            findings.error(span, format!("there is no pool {name}"));
        }
        return;
    };
    if pool.ranges.is_empty() && !draft.is_suspect(name) {
        findings.warn(
            span,
            format!("pool {name} has no addresses: nothing is translated"),
        );
    }
    if overload && pool.kind != PoolKind::Generic {
        let message = format!("the type of pool {name} means nothing with `overload`");
        findings.warn(span, message);
    }
}

/// Statics: every global address or port has one inside host of one VRF, and the other way round
/// unless `extendable` or told apart by a `route-map`.
fn statics(draft: &Draft, findings: &mut Findings) {
    let mut globals: HashMap<_, Span> = HashMap::new();
    let mut locals: HashMap<_, Span> = HashMap::new();
    let mut hosts = 0u64;
    for (rule, places) in draft.config.statics.iter().zip(&draft.places.statics) {
        if let StaticGlobal::Interface(name) = &rule.global {
            addressed_interface(draft, findings, name, places.to);
        }
        if let Some(map) = &rule.route_map
            && !draft.config.route_maps.contains_key(map)
            && !draft.is_suspect(map)
        {
            let message = format!("there is no route map {map}: nothing is translated");
            findings.warn(places.from, message);
        }
        hosts += rule.hosts();
        let address = match &rule.global {
            StaticGlobal::Address(address) => Some(*address),
            StaticGlobal::Interface(name) => draft
                .config
                .interface(name)
                .and_then(|i| i.fixed())
                .map(|net| net.addr()),
        };
        let (local_port, global_port) = match rule.scope {
            StaticScope::Host => (None, None),
            StaticScope::Network(length) => {
                let scope = Some((0, u16::from(length)));
                (scope, scope)
            }
            StaticScope::Port {
                protocol,
                local,
                global,
            } => (Some((protocol, local)), Some((protocol, global))),
        };
        let port = |port: Option<(u8, u16)>| match port {
            Some((0, length)) => format!("/{length}"),
            Some((_, port)) => format!(" port {port}"),
            None => String::new(),
        };
        if let Some(address) = address
            && let Some(before) = claim(&mut globals, (address, global_port), places.to)
        {
            let (what, line) = (port(global_port), at_line(before));
            let message = format!("{address}{what} is another static's global address{line}");
            findings.error(places.to, message);
        }
        let local = (&rule.vrf, rule.local, local_port);
        let before = claim(&mut locals, local, places.from);
        let is_told_apart = rule.extendable || rule.route_map.is_some();
        if let (Some(before), false) = (before, is_told_apart) {
            let (what, line) = (port(local_port), at_line(before));
            findings.error(
                places.from,
                format!(
                    "{}{what} is translated already{line}; several need `extendable`, or a `route-map` each",
                    rule.local
                ),
            );
        }
    }
    if hosts > Config::MOST_ADDRESSES {
        let most = Config::MOST_ADDRESSES;
        let message = format!("the static translations cover {hosts} hosts; {most} is the most");
        findings.error(Span::default(), message);
    }
}

/// Notes who has `key`; returns who had it before.
pub(super) fn claim<K: Eq + Hash>(map: &mut HashMap<K, Span>, key: K, span: Span) -> Option<Span> {
    match map.entry(key) {
        Occupied(there) => Some(*there.get()),
        Vacant(free) => {
            free.insert(span);
            None
        }
    }
}

/// Who hands out an address: two that do so differently must not have the same one.
pub(super) struct Claim {
    pub(super) start: Ipv4Addr,
    pub(super) end: Ipv4Addr,
    /// Shared by port, so that others who share by port may have it as well.
    pub(super) shared: bool,
    /// Whether it is a static, which only minds one-to-one pools.
    pub(super) fixed: bool,
    pub(super) who: String,
    pub(super) span: Span,
}

fn claims(draft: &Draft, findings: &mut Findings) {
    let mut claims = dynamic_claims(draft);
    claims.extend(outside_claims(draft));
    let size = |c: &Claim| u64::from(c.end.to_bits() - c.start.to_bits()) + 1;
    let total = |shared: bool| {
        claims
            .iter()
            .filter(|c| c.shared == shared)
            .map(size)
            .sum::<u64>()
    };
    let bounds = [
        (true, Config::MOST_OVERLOAD, "with `overload`"),
        (false, Config::MOST_ADDRESSES, "without `overload`"),
    ];
    for (shared, most, how) in bounds {
        let total = total(shared);
        if total > most {
            let span = claims
                .iter()
                .filter(|c| c.shared == shared)
                .max_by_key(|c| size(c))
                .map_or_else(Span::default, |c| c.span);
            let message = format!("{total} addresses are used {how}; {most} is the most");
            findings.error(span, message);
        }
    }
    for (rule, places) in draft.config.statics.iter().zip(&draft.places.statics) {
        let StaticGlobal::Address(start) = &rule.global else {
            continue;
        };
        let end = u64::from(start.to_bits()) + rule.hosts() - 1;
        claims.push(Claim {
            start: *start,
            end: Ipv4Addr::from_bits(u32::try_from(end).unwrap_or(u32::MAX)),
            shared: true,
            fixed: true,
            who: format!("the static translation of {}", rule.local),
            span: places.to,
        });
    }
    let mut interfaces = Vec::new();
    for interface in &draft.config.interfaces {
        // Customers' networks may well use addresses that are pools' outside.
        let is_apart = interface.vrf.is_some() && interface.side != Side::Outside;
        let Some(net) = interface.fixed().filter(|_| !is_apart) else {
            continue;
        };
        interfaces.push(Claim {
            start: net.addr(),
            end: net.addr(),
            shared: true,
            fixed: true,
            who: format!("interface {}", interface.name),
            span: Span::default(),
        });
    }
    destinations(draft, &claims, findings);
    claims.extend(interfaces);
    claims.sort_by_key(|c| (c.start, c.end));
    overlaps(&claims, findings);
}

fn dynamic_claims(draft: &Draft) -> Vec<Claim> {
    let mut claims = Vec::new();
    let mut seen: HashMap<String, ()> = HashMap::new();
    let sources = draft.config.sources.iter().zip(&draft.places.sources);
    for (rule, places) in sources {
        let who = rule.target.to_string();
        if seen.insert(who.clone(), ()).is_some() {
            continue;
        }
        if let RuleTarget::Pool(name) = &rule.target {
            let ranges = draft.config.pools.get(name).map(|p| p.ranges.as_slice());
            claims.extend(ranges.unwrap_or_default().iter().map(|(start, end)| Claim {
                start: *start,
                end: *end,
                shared: rule.overload,
                fixed: false,
                who: who.clone(),
                span: places.to,
            }));
        }
    }
    claims
}

/// Sorted by start: whoever overlaps a one-to-one pool overlaps the farthest-reaching one before
/// it, or is a one-to-one pool that reaches into the farthest-reaching of all before it.
fn overlaps(claims: &[Claim], findings: &mut Findings) {
    let mut any: Option<&Claim> = None;
    let mut one_to_one: Option<&Claim> = None;
    for claim in claims {
        let before = if claim.shared { one_to_one } else { any };
        if let Some(before) = before.filter(|b| b.end >= claim.start) {
            let (at, other) = if claim.fixed || claim.span.line == 0 {
                (before, claim)
            } else {
                (claim, before)
            };
            let line = at_line(other.span);
            let first = claim.start;
            findings.error(
                at.span,
                format!("{} and {}{line} both have {first}; without `overload` an address has one owner", at.who, other.who),
            );
        }
        let farther = |b: &Claim| b.end < claim.end;
        if any.is_none_or(farther) {
            any = Some(claim);
        }
        if !claim.shared && one_to_one.is_none_or(farther) {
            one_to_one = Some(claim);
        }
    }
}
