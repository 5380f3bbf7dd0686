//! `ip nat`: pools, rules, statics, timers.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use spillway_dataplane::nat::{Filtering, PortTimer, Timer, Timers};

use super::super::draft::{Context, Draft, Outcome, Problem, SourcePlaces};
use super::super::model::{
    Config, HostLimits, ListName, Pool, PoolKind, RuleTarget, Selector, SourceRule, StaticGlobal,
    StaticRule, StaticScope, prefix_length,
};
use super::super::syntax::Args;
use super::Run::Apply;
use super::access_list::list_name;
use super::interface::is_host;
use super::system::{retain, vrf};
use super::{Command, Mode};

const fn row(
    pattern: &'static str,
    help: &'static str,
    apply: fn(&mut Draft, &Args<'_>) -> Outcome,
) -> Command {
    Command::new(Mode::Global, pattern, help, Apply(apply))
}

pub(super) const COMMANDS: &[Command] = &[
    row(
        "ip nat pool <pool-name:word> <start:address> <end:address> {$pool-options}",
        "Addresses to translate to",
        pool,
    ),
    row(
        "ip nat pool <pool-name:word> {$pool-options}",
        "Addresses to translate to, in ranges on the lines below",
        pool,
    )
    .entering(Mode::Pool),
    row(
        "no ip nat pool <pool-name:word> [<text:text>]",
        "Remove a pool",
        no_pool,
    ),
    Command::new(
        Mode::Pool,
        "{range|address} <start:address> <end:address>",
        "Addresses of the pool",
        Apply(range),
    ),
    Command::new(
        Mode::Pool,
        "no {range|address} <start:address> <end:address>",
        "Remove addresses of the pool",
        Apply(no_range),
    ),
    row(
        "ip nat inside source {$dynamic}",
        "Translate what a list permits",
        source,
    ),
    row(
        "no ip nat inside source {$dynamic}",
        "Remove a translation rule",
        no_source,
    ),
    row(
        "ip nat inside source static {$static}",
        "One inside host is always this address or port outside",
        fixed,
    ),
    row(
        "no ip nat inside source static {$static}",
        "Remove a static translation",
        no_fixed,
    ),
    row(
        "ip nat inside source static esp <local:address> interface <port:interface>",
        "One inside host gets all ESP",
        static_esp,
    ),
    row(
        "no ip nat inside source static esp <local:address> interface <port:interface>",
        "ESP is for no host in particular",
        no_static_esp,
    ),
    row(
        "ip nat service list $list {ESP spi-match | IKE preserve-port}",
        "How IPsec of these hosts is told apart",
        ipsec_service,
    ),
    row(
        "no ip nat service list $list {ESP spi-match | IKE preserve-port}",
        "IPsec of these hosts is nothing special",
        no_ipsec_service,
    ),
    row(
        "ip nat translation {$timer} {$seconds}",
        "How long unused entries live, in seconds",
        timer,
    ),
    row(
        "no ip nat translation {$timer} [$seconds]",
        "As long as is usual",
        no_timer,
    ),
    row(
        "ip nat translation port-timeout {tcp|udp} <port:1-65535> {$seconds}",
        "How long unused entries of a port live, in seconds",
        port_timer,
    ),
    row(
        "no ip nat translation port-timeout {tcp|udp} <port:1-65535> [$seconds]",
        "As long as those of other ports",
        no_port_timer,
    ),
    row(
        "ip nat translation max-entries <entries:1-2147483647>",
        "Most entries",
        max_entries,
    ),
    row(
        "ip nat translation max-entries {all-host | host <inside:address> | list $list | vrf <vrf-name:word>}
         <entries:1-2147483647>",
        "Most entries of each host, of one, of all that a list permits, of a VRF",
        host_limit,
    ),
    row(
        "no ip nat translation max-entries {all-host | host <inside:address> | list $list | vrf <vrf-name:word>}
         [<entries:1-2147483647>]",
        "As many entries of these hosts as there is room for",
        no_host_limit,
    ),
    row(
        "no ip nat translation max-entries [<entries:1-2147483647>]",
        "As many entries as there is room for",
        no_max_entries,
    ),
];

fn pool(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = args.text("pool-name").to_owned();
    let kind = if args.has("rotary") {
        PoolKind::Rotary
    } else if args.has("match-host") {
        PoolKind::MatchHost
    } else {
        PoolKind::Generic
    };
    let (length, by_netmask) = match (args.address("mask"), args.number("length")) {
        (Some(mask), _) => (prefix_length(mask), true),
        (None, length) => (length.unwrap_or(32) as u8, false),
    };
    let mut pool = Pool {
        length,
        by_netmask,
        kind,
        ranges: Vec::new(),
        sub_lines: !args.has("start"),
    };
    if pool.sub_lines {
        // The same heading again goes on with the pool that is there.
        if let Some(there) = draft.config.pools.get(&name).filter(|p| p.sub_lines) {
            pool.ranges.clone_from(&there.ranges);
        }
        draft.context = Context::Pool(name.clone());
    } else {
        pool.ranges.push(pool_range(args, length)?);
    }
    let place = args.span("pool-name");
    draft.places.pools.insert(name.clone(), place);
    draft.config.pools.insert(name, pool);
    Ok(())
}

/// A range of addresses, of one network of this prefix length.
fn pool_range(args: &Args<'_>, length: u8) -> Result<(Ipv4Addr, Ipv4Addr), Problem> {
    let (Some(start), Some(end)) = (args.address("start"), args.address("end")) else {
        return Err(Problem::new(args.whole(), "no range"));
    };
    for (label, address) in [("start", start), ("end", end)] {
        if !is_host(address) {
            let message = format!("{address} is no host's address");
            return Err(Problem::new(args.span(label), message).expecting("the address of a host"));
        }
    }
    if end < start {
        let message = format!("the range ends before it starts at {start}");
        return Err(Problem::new(args.span("end"), message)
            .expecting(&format!("an address from {start} on")));
    }
    let outside = (start.to_bits() ^ end.to_bits()).leading_zeros() < u32::from(length);
    if outside {
        let message = format!("{start} and {end} are not in one network of prefix length {length}");
        return Err(
            Problem::new(args.span("end"), message).expecting("an address of the same network")
        );
    }
    Ok((start, end))
}

fn no_pool(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    if draft.config.pools.remove(args.text("pool-name")).is_none() {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn range(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let Some(pool) = draft.pool() else {
        return Ok(());
    };
    let range = pool_range(args, pool.length)?;
    let overlaps = |r: &&(Ipv4Addr, Ipv4Addr)| r.0 <= range.1 && range.0 <= r.1;
    if pool.ranges.len() >= Pool::MOST_RANGES {
        let message = format!("a pool has at most {} ranges", Pool::MOST_RANGES);
        return Err(Problem::new(args.whole(), message));
    }
    if let Some((start, end)) = pool.ranges.iter().find(overlaps) {
        let message = format!("the range {start} to {end} of this pool has these addresses");
        return Err(Problem::new(args.span("start"), message));
    }
    pool.ranges.push(range);
    Ok(())
}

fn no_range(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let range = (args.address("start"), args.address("end"));
    let Some(pool) = draft.pool() else {
        return Ok(());
    };
    let before = pool.ranges.len();
    pool.ranges.retain(|r| (Some(r.0), Some(r.1)) != range);
    if pool.ranges.len() == before {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn source_rule(args: &Args<'_>) -> SourceRule {
    SourceRule {
        selector: if args.has("map") {
            Selector::RouteMap(args.text("map").to_owned())
        } else {
            Selector::List(list_name(args))
        },
        target: if args.has("pool-name") {
            RuleTarget::Pool(args.text("pool-name").to_owned())
        } else {
            RuleTarget::Interface(args.text("port").to_owned())
        },
        overload: args.has("overload"),
        mapping: args.has("endpoint-independent").then(|| filtering(args)),
        vrf: vrf(args),
    }
}

fn filtering(args: &Args<'_>) -> Filtering {
    let [eif, _, apdf] = ["eif", "adf", "apdf"].map(|label| args.has(label));
    match (eif, apdf) {
        (true, _) => Filtering::EndpointIndependent,
        (_, true) => Filtering::AddressAndPortDependent,
        _ => Filtering::AddressDependent,
    }
}

/// `filtering` is of mappings, and mappings are of ports.
fn check_mapping(rule: &SourceRule, args: &Args<'_>) -> Outcome {
    if rule.mapping.is_some() && !rule.overload {
        let span = args.span("endpoint-independent");
        let message = "`endpoint-independent` means nothing without `overload`";
        return Err(Problem::new(span, message).expecting("`overload` in the same line"));
    }
    if rule.mapping.is_none() && args.has("filtering") {
        let message = "`filtering` means nothing without `endpoint-independent`";
        return Err(Problem::new(args.span("filtering"), message)
            .expecting("`endpoint-independent` in the same line"));
    }
    Ok(())
}

fn source(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let rule = source_rule(args);
    check_mapping(&rule, args)?;
    let identity = rule.identity();
    let is_same = |other: &&mut SourceRule| other.mapping.is_some() && other.identity() == identity;
    if rule.mapping.is_some()
        && !draft.known.sources.contains(&rule)
        && let Some(there) = draft.config.sources.iter_mut().find(is_same)
    {
        // Only its filtering changes: it keeps its place and its entries.
        draft.known.sources.remove(there);
        draft.known.sources.insert(rule.clone());
        *there = rule;
        return Ok(());
    }
    if draft.config.sources.len() >= Config::MOST_RULES {
        let message = format!("there can be at most {} such rules", Config::MOST_RULES);
        return Err(Problem::new(args.whole(), message));
    }
    if !draft.known.sources.insert(rule.clone()) {
        draft.given_twice(args);
        return Ok(());
    }
    let label = |labels: &[&'static str]| labels.iter().copied().find(|l| args.has(l));
    let from = label(&["number", "name", "map"]).unwrap_or_default();
    let to = label(&["pool-name", "port"]).unwrap_or_default();
    draft.config.sources.push(rule);
    draft.places.sources.push(SourcePlaces {
        from: args.span(from),
        to: args.span(to),
        vrf: args.span("vrf-name"),
    });
    Ok(())
}

fn no_source(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let rule = source_rule(args);
    check_mapping(&rule, args)?;
    let rule = rule.identity(); // whatever its filtering
    let removed = retain(&mut draft.config.sources, &mut draft.places.sources, |r| {
        r.identity() != rule
    });
    draft.known.sources.retain(|r| r.identity() != rule);
    if removed == 0 {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn static_rule(args: &Args<'_>) -> Result<StaticRule, Problem> {
    let (Some(local), global) = (args.address("local"), args.address("global")) else {
        return Err(Problem::new(args.whole(), "no inside address"));
    };
    let global = match global {
        Some(global) => StaticGlobal::Address(global),
        None => StaticGlobal::Interface(args.text("port").to_owned()),
    };
    let scope = if args.has("network") {
        let mask = args.address("mask").map(prefix_length);
        let length = mask.or_else(|| args.number("length").map(|n| n as u8));
        StaticScope::Network(length.unwrap_or(32))
    } else if args.has("lport") {
        StaticScope::Port {
            protocol: if args.has("tcp") { 6 } else { 17 },
            local: args.port("lport").unwrap_or_default(),
            global: args.port("gport").unwrap_or_default(),
        }
    } else {
        StaticScope::Host
    };
    let text = |label: &str| args.has(label).then(|| args.text(label).to_owned());
    Ok(StaticRule {
        local,
        global,
        scope,
        extendable: args.has("extendable"),
        no_alias: args.has("no-alias"),
        no_payload: args.has("no-payload"),
        route_map: text("map"),
        vrf: vrf(args),
    })
}

fn fixed(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let rule = static_rule(args)?;
    for (label, address) in ["local", "global"].map(|l| (l, args.address(l))) {
        let Some(address) = address else { continue };
        if let StaticScope::Network(length) = rule.scope {
            if address
                .to_bits()
                .checked_shl(u32::from(length))
                .unwrap_or(0)
                != 0
            {
                let message = format!("{address} has bits outside the prefix length {length}");
                return Err(Problem::new(args.span(label), message)
                    .expecting("the first address of a network"));
            }
        } else if !is_host(address) {
            let message = format!("{address} is no host's address");
            return Err(Problem::new(args.span(label), message).expecting("the address of a host"));
        }
    }
    if !draft.known.statics.insert(rule.clone()) {
        draft.given_twice(args);
        return Ok(());
    }
    draft.config.statics.push(rule);
    let to = if args.has("global") { "global" } else { "port" };
    draft.places.statics.push(SourcePlaces {
        from: args.span("local"),
        to: args.span(to),
        vrf: args.span("vrf-name"),
    });
    Ok(())
}

fn no_fixed(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let gone = static_rule(args)?;
    let same = |rule: &StaticRule| {
        (&rule.vrf, rule.local, &rule.global, rule.scope)
            == (&gone.vrf, gone.local, &gone.global, gone.scope)
    };
    let removed = retain(&mut draft.config.statics, &mut draft.places.statics, |r| {
        !same(r)
    });
    draft.known.statics.retain(|r| !same(r));
    if removed == 0 {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn static_esp(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let Some(local) = args.address("local") else {
        return Err(Problem::new(args.whole(), "no inside address"));
    };
    if !is_host(local) {
        let message = format!("{local} is no host's address");
        return Err(Problem::new(args.span("local"), message).expecting("the address of a host"));
    }
    let port = args.text("port").to_owned();
    let fixed = &mut draft.config.static_esp;
    // One host an interface, one interface a host: the later line holds.
    fixed.retain(|(host, name)| *host != local && !name.eq_ignore_ascii_case(&port));
    fixed.push((local, port));
    Ok(())
}

fn no_static_esp(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let (local, port) = (args.address("local"), args.text("port"));
    let fixed = &mut draft.config.static_esp;
    let before = fixed.len();
    fixed.retain(|(host, name)| Some(*host) != local || !name.eq_ignore_ascii_case(port));
    if fixed.len() == before {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn service_lists<'a>(config: &'a mut Config, args: &Args<'_>) -> &'a mut BTreeSet<ListName> {
    if args.has("ESP") {
        &mut config.spi_match
    } else {
        &mut config.preserve_port
    }
}

fn ipsec_service(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    service_lists(&mut draft.config, args).insert(list_name(args));
    Ok(())
}

fn no_ipsec_service(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    if !service_lists(&mut draft.config, args).remove(&list_name(args)) {
        draft.nothing_removed(args);
    }
    Ok(())
}

/// The timers by the words that set them.
pub(in super::super) const TIMERS: [(&str, Timer); Timer::COUNT] = [
    ("timeout", Timer::Simple),
    ("tcp-timeout", Timer::Tcp),
    ("udp-timeout", Timer::Udp),
    ("icmp-timeout", Timer::Icmp),
    ("dns-timeout", Timer::Dns),
    ("finrst-timeout", Timer::FinRst),
    ("syn-timeout", Timer::Syn),
    ("pptp-timeout", Timer::Pptp),
    ("esp-timeout", Timer::Esp),
    ("esp-pending-timeout", Timer::EspPending),
];

fn named_timer(args: &Args<'_>) -> usize {
    let named = TIMERS.iter().find(|(word, _)| args.has(word));
    named.map_or(Timer::Simple, |(_, timer)| *timer) as usize
}

fn timer(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    draft.config.timers.seconds[named_timer(args)] = args.number("seconds");
    Ok(())
}

fn no_timer(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let at = named_timer(args);
    draft.config.timers.seconds[at] = Timers::default().seconds[at];
    Ok(())
}

fn port_key(args: &Args<'_>) -> (u8, u16) {
    let protocol = if args.has("tcp") { 6 } else { 17 };
    (protocol, args.port("port").unwrap_or_default())
}

fn port_timer(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let (protocol, port) = port_key(args);
    let timer = PortTimer {
        protocol,
        port,
        seconds: args.number("seconds"),
    };
    let ports = &mut draft.config.timers.ports;
    match ports.binary_search_by_key(&(protocol, port), |p| (p.protocol, p.port)) {
        Ok(at) => ports[at] = timer,
        Err(at) => ports.insert(at, timer),
    }
    Ok(())
}

fn no_port_timer(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let key = port_key(args);
    let ports = &mut draft.config.timers.ports;
    let before = ports.len();
    ports.retain(|p| (p.protocol, p.port) != key);
    if ports.len() == before {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn max_entries(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    draft.config.max_entries = args.number("entries").unwrap_or(0);
    Ok(())
}

fn no_max_entries(draft: &mut Draft, _: &Args<'_>) -> Outcome {
    draft.config.max_entries = 0;
    Ok(())
}

fn host_limit(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let entries = args.number("entries").unwrap_or(0);
    let limits = &mut draft.config.host_limits;
    if let Some(host) = args.address("inside") {
        if !is_host(host) {
            let message = format!("{host} is no host's address");
            return Err(
                Problem::new(args.span("inside"), message).expecting("the address of a host")
            );
        }
        limits.hosts.insert(host, entries);
    } else if args.has("all-host") {
        limits.all_hosts = Some(entries);
    } else if let Some(vrf) = vrf(args) {
        let place = args.span("vrf-name");
        draft.places.limited_vrfs.insert(vrf.clone(), place);
        limits.vrfs.insert(vrf, entries);
    } else {
        let list = list_name(args);
        let most = HostLimits::MOST_LISTS;
        if limits.lists.len() >= most && !limits.lists.contains_key(&list) {
            let message = format!("there can be limits for at most {most} lists");
            return Err(Problem::new(args.whole(), message));
        }
        limits.lists.insert(list, entries);
    }
    Ok(())
}

fn no_host_limit(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let limits = &mut draft.config.host_limits;
    let gone = if let Some(host) = args.address("inside") {
        limits.hosts.remove(&host)
    } else if args.has("all-host") {
        limits.all_hosts.take()
    } else if let Some(vrf) = vrf(args) {
        limits.vrfs.remove(&vrf)
    } else {
        limits.lists.remove(&list_name(args))
    };
    if gone.is_none() {
        draft.nothing_removed(args);
    }
    Ok(())
}
