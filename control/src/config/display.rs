//! The running configuration: text in a stable order that parses back to the same [`Config`].

use std::fmt::{self, Display, Formatter};
use std::net::Ipv4Addr;

use spillway_dataplane::acl::{Action, Entry, Ports, Wildcard};
use spillway_dataplane::nat::{Filtering, Timers};
use spillway_dataplane::snapshot::Side;

use super::commands::TIMERS;
use super::model::{
    AccessList, Address, Clause, Config, HostLimits, Interface, ListKind, ListLine, ListName,
    OutsideRule, OutsideStatic, Pool, PoolKind, Port, RouteTarget, RuleTarget, Selector,
    SourceRule, StaticGlobal, StaticRoute, StaticRule, StaticScope, Vrf,
};
use super::names::{self, ICMP_TYPES, PROTOCOLS, TCP_PORTS, UDP_PORTS, WITH_CODE};

impl Display for Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.hostname {
            writeln!(f, "hostname {name}\n!")?;
        }
        for vrf in &self.vrfs {
            writeln!(f, "{vrf}!")?;
        }
        for interface in &self.interfaces {
            writeln!(f, "{interface}!")?;
        }
        for (name, pool) in &self.pools {
            write_pool(f, name, pool)?;
        }
        for rule in &self.sources {
            writeln!(f, "ip nat inside source {rule}")?;
        }
        for rule in &self.statics {
            writeln!(f, "ip nat inside source static {rule}")?;
        }
        for rule in &self.outside_sources {
            writeln!(f, "ip nat outside source {rule}")?;
        }
        for rule in &self.outside_statics {
            writeln!(f, "ip nat outside source static {rule}")?;
        }
        for rule in &self.destinations {
            let (list, pool) = (&rule.list, &rule.pool);
            writeln!(f, "ip nat inside destination list {list} pool {pool}")?;
        }
        for (local, port) in &self.static_esp {
            writeln!(
                f,
                "ip nat inside source static esp {local} interface {port}"
            )?;
        }
        for list in &self.spi_match {
            writeln!(f, "ip nat service list {list} ESP spi-match")?;
        }
        for list in &self.preserve_port {
            writeln!(f, "ip nat service list {list} IKE preserve-port")?;
        }
        write_timers(f, &self.timers)?;
        if self.max_entries != 0 {
            writeln!(f, "ip nat translation max-entries {}", self.max_entries)?;
        }
        write_host_limits(f, &self.host_limits)?;
        for route in &self.routes {
            writeln!(f, "{route}")?;
        }
        for (name, list) in &self.access_lists {
            write_list(f, name, list)?;
        }
        for (name, map) in &self.route_maps {
            for (sequence, clause) in map {
                write_clause(f, name, *sequence, clause)?;
            }
        }
        for block in &self.inactive {
            writeln!(f, "{}", block.line)?;
            for line in &block.below {
                writeln!(f, " {line}")?;
            }
        }
        writeln!(f, "end")
    }
}

impl Display for Vrf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "ip vrf {}", self.name)?;
        if let Some(text) = &self.description {
            writeln!(f, " description {text}")?;
        }
        if let Some(rd) = &self.rd {
            writeln!(f, " rd {rd}")?;
        }
        for (targets, way) in [(&self.exports, "export"), (&self.imports, "import")] {
            for target in targets {
                writeln!(f, " route-target {way} {target}")?;
            }
        }
        Ok(())
    }
}

impl Display for Interface {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "interface {}", self.name)?;
        if let Some(text) = &self.description {
            writeln!(f, " description {text}")?;
        }
        match &self.port {
            Some(Port::Pci(pci)) => writeln!(f, " port pci {pci}")?,
            Some(Port::Vdev(arguments)) => writeln!(f, " port vdev {arguments}")?,
            None => {}
        }
        if let Some(vrf) = &self.vrf {
            writeln!(f, " ip vrf forwarding {vrf}")?;
        }
        match self.address {
            Some(Address::Fixed(net)) => {
                writeln!(f, " ip address {} {}", net.addr(), net.netmask())?;
            }
            Some(Address::Dhcp) => writeln!(f, " ip address dhcp")?,
            Some(Address::Negotiated) => writeln!(f, " ip address negotiated")?,
            None => {}
        }
        match self.side {
            Side::None => {}
            Side::Inside => writeln!(f, " ip nat inside")?,
            Side::Outside => writeln!(f, " ip nat outside")?,
        }
        for (list, way) in self.access_groups.iter().zip(["in", "out"]) {
            if let Some(list) = list {
                writeln!(f, " ip access-group {list} {way}")?;
            }
        }
        if let Some(mtu) = self.mtu {
            writeln!(f, " mtu {mtu}")?;
        }
        if self.ignores_link {
            writeln!(f, " no keepalive")?;
        }
        for line in &self.inactive {
            writeln!(f, " {line}")?;
        }
        if self.shutdown {
            writeln!(f, " shutdown")?;
        }
        Ok(())
    }
}

fn write_clause(f: &mut Formatter<'_>, name: &str, sequence: u16, clause: &Clause) -> fmt::Result {
    let action = match clause.action {
        Action::Permit => "permit",
        Action::Deny => "deny",
    };
    writeln!(f, "route-map {name} {action} {sequence}")?;
    for line in clause.matches() {
        writeln!(f, " match {line}")?;
    }
    Ok(())
}

impl Clause {
    /// What follows `match` in each of its lines.
    #[must_use]
    pub fn matches(&self) -> Vec<String> {
        let join = |words: Vec<String>| words.join(" ");
        let names = |lists: &[ListName]| join(lists.iter().map(ToString::to_string).collect());
        let mut lines = Vec::new();
        if !self.lists.is_empty() {
            lines.push(format!("ip address {}", names(&self.lists)));
        }
        if !self.interfaces.is_empty() {
            lines.push(format!("interface {}", self.interfaces.join(" ")));
        }
        if !self.next_hops.is_empty() {
            lines.push(format!("ip next-hop {}", names(&self.next_hops)));
        }
        lines
    }
}

impl Display for StaticRoute {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (network, mask) = (self.prefix.addr(), self.prefix.netmask());
        f.write_str("ip route ")?;
        if let Some(vrf) = &self.vrf {
            write!(f, "vrf {vrf} ")?;
        }
        write!(f, "{network} {mask} ")?;
        match &self.target {
            RouteTarget::NextHop(via) => via.fmt(f)?,
            RouteTarget::Interface(name) => name.fmt(f)?,
            RouteTarget::Null => "Null0".fmt(f)?,
        }
        f.write_str(if self.global { " global" } else { "" })?;
        match self.distance {
            StaticRoute::DISTANCE => Ok(()),
            distance => write!(f, " {distance}"),
        }
    }
}

fn write_pool(f: &mut Formatter<'_>, name: &str, pool: &Pool) -> fmt::Result {
    write!(f, "ip nat pool {name}")?;
    if let (false, Some((start, end))) = (pool.sub_lines, pool.ranges.first()) {
        write!(f, " {start} {end}")?;
    }
    if pool.by_netmask {
        write!(f, " netmask {}", pool.netmask())?;
    } else {
        write!(f, " prefix-length {}", pool.length)?;
    }
    match pool.kind {
        PoolKind::Generic => writeln!(f)?,
        PoolKind::Rotary => writeln!(f, " type rotary")?,
        PoolKind::MatchHost => writeln!(f, " type match-host")?,
    }
    if pool.sub_lines {
        for (start, end) in &pool.ranges {
            writeln!(f, " range {start} {end}")?;
        }
    }
    Ok(())
}

impl Display for SourceRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.selector, self.target)?;
        if let Some(vrf) = &self.vrf {
            write!(f, " vrf {vrf}")?;
        }
        if self.overload {
            f.write_str(" overload")?;
        }
        if let Some(filtering) = self.mapping {
            f.write_str(" endpoint-independent")?;
            if filtering != Filtering::default() {
                write!(f, " filtering {}", filtering.name())?;
            }
        }
        Ok(())
    }
}

impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Selector::List(name) => write!(f, "list {name}"),
            Selector::RouteMap(name) => write!(f, "route-map {name}"),
        }
    }
}

impl Display for OutsideRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let route = if self.add_route { " add-route" } else { "" };
        write!(f, "{} pool {}{route}", self.selector, self.pool)
    }
}

impl Display for OutsideStatic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.global, self.local)?;
        let options = [
            (self.add_route, " add-route"),
            (self.extendable, " extendable"),
            (self.no_alias, " no-alias"),
            (self.no_payload, " no-payload"),
        ];
        for (_, word) in options.iter().filter(|(given, _)| *given) {
            f.write_str(word)?;
        }
        Ok(())
    }
}

impl Display for RuleTarget {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            RuleTarget::Pool(name) => write!(f, "pool {name}"),
            RuleTarget::Interface(name) => write!(f, "interface {name}"),
        }
    }
}

impl Display for StaticRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (local, global) = (self.local, &self.global);
        match self.scope {
            StaticScope::Host => write!(f, "{local} {global}")?,
            StaticScope::Network(length) => write!(f, "network {local} {global} /{length}")?,
            StaticScope::Port {
                protocol,
                local: port,
                global: global_port,
            } => {
                let protocol = if protocol == 6 { "tcp" } else { "udp" };
                write!(f, "{protocol} {local} {port} {global} {global_port}")?;
            }
        }
        if let Some(vrf) = &self.vrf {
            write!(f, " vrf {vrf}")?;
        }
        if let Some(map) = &self.route_map {
            write!(f, " route-map {map}")?;
        }
        let options = [
            (self.extendable, " extendable"),
            (self.no_alias, " no-alias"),
            (self.no_payload, " no-payload"),
        ];
        for (_, word) in options.iter().filter(|(given, _)| *given) {
            f.write_str(word)?;
        }
        Ok(())
    }
}

impl Display for StaticGlobal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            StaticGlobal::Address(address) => address.fmt(f),
            StaticGlobal::Interface(name) => write!(f, "interface {name}"),
        }
    }
}

fn write_timers(f: &mut Formatter<'_>, timers: &Timers) -> fmt::Result {
    let usual = Timers::default();
    let length = |seconds: Option<u32>| seconds.map_or("never".to_owned(), |s| s.to_string());
    for (word, timer) in TIMERS {
        let seconds = timers.seconds[timer as usize];
        if seconds != usual.seconds[timer as usize] {
            writeln!(f, "ip nat translation {word} {}", length(seconds))?;
        }
    }
    for timer in &timers.ports {
        let protocol = if timer.protocol == 6 { "tcp" } else { "udp" };
        let (port, seconds) = (timer.port, length(timer.seconds));
        writeln!(
            f,
            "ip nat translation port-timeout {protocol} {port} {seconds}"
        )?;
    }
    Ok(())
}

fn write_host_limits(f: &mut Formatter<'_>, limits: &HostLimits) -> fmt::Result {
    const START: &str = "ip nat translation max-entries";
    if let Some(entries) = limits.all_hosts {
        writeln!(f, "{START} all-host {entries}")?;
    }
    for (host, entries) in &limits.hosts {
        writeln!(f, "{START} host {host} {entries}")?;
    }
    for (list, entries) in &limits.lists {
        writeln!(f, "{START} list {list} {entries}")?;
    }
    for (vrf, entries) in &limits.vrfs {
        writeln!(f, "{START} vrf {vrf} {entries}")?;
    }
    Ok(())
}

fn write_list(f: &mut Formatter<'_>, name: &ListName, list: &AccessList) -> fmt::Result {
    let usual = (1u64..)
        .zip(list.entries())
        .all(|(at, e)| u64::from(e.sequence) == at * 10);
    let numbered = matches!(name, ListName::Number(_)) && usual && !list.lines.is_empty();
    if !numbered {
        let kind = match list.kind {
            ListKind::Standard => "standard",
            ListKind::Extended => "extended",
        };
        writeln!(f, "ip access-list {kind} {name}")?;
    }
    for line in &list.lines {
        match line {
            _ if numbered => write!(f, "access-list {name} ")?,
            ListLine::Entry(entry) if !usual => write!(f, " {} ", entry.sequence)?,
            _ => f.write_str(" ")?,
        }
        match line {
            ListLine::Remark(text) => writeln!(f, "remark {text}")?,
            ListLine::Entry(entry) => writeln!(f, "{}", EntryText(entry, list.kind))?,
        }
    }
    Ok(())
}

/// An entry as a line of a list of its kind, without number or sequence.
#[derive(Debug, Clone, Copy)]
pub struct EntryText<'a>(pub &'a Entry, pub ListKind);

impl Display for EntryText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let EntryText(entry, kind) = *self;
        f.write_str(match entry.action {
            Action::Permit => "permit ",
            Action::Deny => "deny ",
        })?;
        if kind == ListKind::Standard {
            write_addresses(f, entry.source, true)?;
        } else {
            write_extended(f, entry)?;
        }
        if entry.log {
            f.write_str(" log")?;
        }
        Ok(())
    }
}

fn write_extended(f: &mut Formatter<'_>, entry: &Entry) -> fmt::Result {
    match entry.protocol {
        None => f.write_str("ip ")?,
        Some(1) => f.write_str("icmp ")?,
        Some(6) => f.write_str("tcp ")?,
        Some(17) => f.write_str("udp ")?,
        Some(number) => match names::name_of(PROTOCOLS, u32::from(number)) {
            Some(name) => write!(f, "{name} ")?,
            None => write!(f, "{number} ")?,
        },
    }
    write_addresses(f, entry.source, false)?;
    write_ports(f, entry.source_ports, entry.protocol)?;
    f.write_str(" ")?;
    write_addresses(f, entry.destination, false)?;
    write_ports(f, entry.destination_ports, entry.protocol)?;
    if let Some((kind, code)) = entry.icmp {
        let plain = u32::from(kind);
        let value = code.map_or(plain, |c| plain | u32::from(c) << 8 | WITH_CODE);
        match (names::name_of(ICMP_TYPES, value), code) {
            (Some(name), _) => write!(f, " {name}")?,
            (None, None) => write!(f, " {kind}")?,
            (None, Some(code)) => write!(f, " {kind} {code}")?,
        }
    }
    if entry.established {
        f.write_str(" established")?;
    }
    if entry.fragments {
        f.write_str(" fragments")?;
    }
    Ok(())
}

fn write_addresses(f: &mut Formatter<'_>, matcher: Wildcard, standard: bool) -> fmt::Result {
    let address = Ipv4Addr::from_bits(matcher.address);
    match matcher.dont_care {
        u32::MAX => f.write_str("any"),
        0 if standard => address.fmt(f),
        0 => write!(f, "host {address}"),
        dont_care => write!(f, "{address} {}", Ipv4Addr::from_bits(dont_care)),
    }
}

fn write_ports(f: &mut Formatter<'_>, ports: Ports, protocol: Option<u8>) -> fmt::Result {
    let names = if protocol == Some(6) {
        TCP_PORTS
    } else {
        UDP_PORTS
    };
    let name = |port: u16| {
        let named = names::name_of(names, u32::from(port));
        named.map_or_else(|| port.to_string(), str::to_owned)
    };
    let (first, last) = (ports.first, ports.last);
    match ports {
        Ports::ANY => Ok(()),
        Ports { negated: true, .. } => write!(f, " neq {}", name(first)),
        _ if first == last => write!(f, " eq {}", name(first)),
        Ports { last: u16::MAX, .. } => write!(f, " gt {}", name(first - 1)),
        Ports { first: 0, .. } => write!(f, " lt {}", name(last + 1)),
        _ => write!(f, " range {} {}", name(first), name(last)),
    }
}
