//! The checked configuration: plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use spillway_dataplane::acl::{Action, Entry};
use spillway_dataplane::nat::{Filtering, Timers};
use spillway_dataplane::snapshot::{PortId, Side};

/// A whole configuration. Its `Display` is the running configuration, which parses back to it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `hostname`.
    pub hostname: Option<String>,
    /// `ip vrf`, in order of configuration; each name once.
    pub vrfs: Vec<Vrf>,
    /// Interfaces, in order of configuration.
    pub interfaces: Vec<Interface>,
    /// Static routes, in order of configuration.
    pub routes: Vec<StaticRoute>,
    /// Access lists.
    pub access_lists: BTreeMap<ListName, AccessList>,
    /// Route maps: their clauses by sequence number.
    pub route_maps: BTreeMap<String, BTreeMap<u16, Clause>>,
    /// NAT pools by name.
    pub pools: BTreeMap<String, Pool>,
    /// Dynamic inside source translations, in order of configuration.
    pub sources: Vec<SourceRule>,
    /// Static inside source translations, in order of configuration.
    pub statics: Vec<StaticRule>,
    /// Dynamic outside source translations, in order of configuration.
    pub outside_sources: Vec<OutsideRule>,
    /// Static outside source translations, in order of configuration.
    pub outside_statics: Vec<OutsideStatic>,
    /// Load sharing among inside hosts, in order of configuration.
    pub destinations: Vec<DestinationRule>,
    /// `ip nat inside source static esp`: inside hosts and the interfaces whose ESP is theirs.
    pub static_esp: Vec<(Ipv4Addr, String)>,
    /// `ip nat service list L ESP spi-match`.
    pub spi_match: BTreeSet<ListName>,
    /// `ip nat service list L IKE preserve-port`.
    pub preserve_port: BTreeSet<ListName>,
    /// `ip nat translation` timers.
    pub timers: Timers,
    /// `ip nat translation max-entries N`; 0 is no limit.
    pub max_entries: u32,
    /// `ip nat translation max-entries` of hosts and lists.
    pub host_limits: HostLimits,
    /// Lines that are understood and kept but do nothing yet.
    pub inactive: Vec<InactiveBlock>,
}

/// `ip vrf`: a routing table of its own, with interfaces of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vrf {
    /// Its name, of which case counts.
    pub name: String,
    /// `description`.
    pub description: Option<String>,
    /// `rd`, as it was written; means nothing here.
    pub rd: Option<String>,
    /// `route-target export`; means nothing here.
    pub exports: BTreeSet<String>,
    /// `route-target import`; means nothing here.
    pub imports: BTreeSet<String>,
}

/// `ip nat translation max-entries` of hosts, lists and VRFs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostLimits {
    /// `all-host N`.
    pub all_hosts: Option<u32>,
    /// `host A.B.C.D N`.
    pub hosts: BTreeMap<Ipv4Addr, u32>,
    /// `list ACL N`.
    pub lists: BTreeMap<ListName, u32>,
    /// `vrf V N`.
    pub vrfs: BTreeMap<String, u32>,
}

impl HostLimits {
    /// Most lists: each is asked about every new entry.
    pub const MOST_LISTS: usize = 64;
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Interface {
    /// Its name; compared without regard to case.
    pub name: String,
    /// `description`.
    pub description: Option<String>,
    /// The DPDK device behind it.
    pub port: Option<Port>,
    /// `ip vrf forwarding`: the VRF that it is in; `None` is the global table.
    pub vrf: Option<String>,
    /// `ip address`.
    pub address: Option<Address>,
    /// `ip nat inside` or `ip nat outside`.
    pub side: Side,
    /// `ip access-group LIST in`, and `out`.
    pub access_groups: [Option<ListName>; 2],
    /// `mtu`, in octets of the IPv4 packet; `None` is the port's own.
    pub mtu: Option<u16>,
    /// `no keepalive`: it is up whatever its device tells of its link.
    pub ignores_link: bool,
    /// `shutdown`.
    pub shutdown: bool,
    /// Lines that are understood and kept but do nothing yet.
    pub inactive: Vec<String>,
}

/// The DPDK device behind an interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Port {
    /// `port pci`: an address as `0000:03:00.0`.
    Pci(String),
    /// `port vdev`: device arguments as `net_af_packet0,iface=inside`.
    Vdev(String),
}

/// Where an interface's address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// `ip address A.B.C.D MASK`.
    Fixed(Ipv4Net),
    /// `ip address dhcp`.
    Dhcp,
    /// `ip address negotiated`.
    Negotiated,
}

/// `ip route`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StaticRoute {
    /// `vrf`: the table that it is in; `None` is the global one.
    pub vrf: Option<String>,
    /// Destinations.
    pub prefix: Ipv4Net,
    /// Where they go.
    pub target: RouteTarget,
    /// `global`: the next hop is in the global table, not in the route's own; only with `vrf`.
    pub global: bool,
    /// Administrative distance, 1 to 255: of the routes to one prefix whose interfaces are up, the one with the lowest
    /// is used, and of several with it the first. One with 255 never is.
    pub distance: u8,
}

impl StaticRoute {
    /// The distance of a route that does not say.
    pub const DISTANCE: u8 = 1;
    /// That of a route that is never used.
    pub const NEVER: u8 = 255;
}

/// Where a static route leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RouteTarget {
    /// To this router.
    NextHop(Ipv4Addr),
    /// Out of this interface, straight to the destination.
    Interface(String),
    /// `Null0`: nowhere.
    Null,
}

/// The number or name of an access list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListName {
    /// 1-199, 1300-2699.
    Number(u16),
    /// A name.
    Name(String),
}

/// The kind of an access list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// By source address alone.
    Standard,
    /// By everything in the headers.
    Extended,
}

/// An access list.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessList {
    /// Standard or extended.
    pub kind: ListKind,
    /// Its lines; entries have ascending sequence numbers.
    pub lines: Vec<ListLine>,
}

/// A line of an access list.
#[derive(Debug, Clone, PartialEq)]
pub enum ListLine {
    /// A permit or deny.
    Entry(Entry),
    /// `remark`.
    Remark(String),
}

/// A clause of a route map. What it matches of one kind is any of those named; of several kinds,
/// all must match; of none, everything matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// What a match means.
    pub action: Action,
    /// `match ip address`.
    pub lists: Vec<ListName>,
    /// `match interface`.
    pub interfaces: Vec<String>,
    /// `match ip next-hop`.
    pub next_hops: Vec<ListName>,
}

impl Clause {
    /// A clause that matches everything.
    #[must_use]
    pub fn new(action: Action) -> Clause {
        Clause {
            action,
            lists: Vec::new(),
            interfaces: Vec::new(),
            next_hops: Vec::new(),
        }
    }
}

/// A NAT pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The length of its netmask.
    pub length: u8,
    /// Written with `netmask` rather than `prefix-length`.
    pub by_netmask: bool,
    /// Its type.
    pub kind: PoolKind,
    /// First and last address of each range. One range stands on the pool's own line unless
    /// `sub_lines`.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Ranges are written on lines below.
    pub sub_lines: bool,
}

/// How a pool hands out addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The first free one.
    Generic,
    /// `type rotary`.
    Rotary,
    /// `type match-host`.
    MatchHost,
}

/// `ip nat inside source {list|route-map} ...`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceRule {
    /// Which packets.
    pub selector: Selector,
    /// To which addresses.
    pub target: RuleTarget,
    /// Shared by port.
    pub overload: bool,
    /// `endpoint-independent`, and its `filtering`.
    pub mapping: Option<Filtering>,
    /// `vrf`: only packets of this VRF's inside interfaces; `None`: only those of the global table.
    pub vrf: Option<String>,
}

/// Which packets a dynamic rule translates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// `list`.
    List(ListName),
    /// `route-map`.
    RouteMap(String),
}

/// What a dynamic rule translates to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RuleTarget {
    /// `pool`.
    Pool(String),
    /// `interface`.
    Interface(String),
}

/// `ip nat inside source static`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StaticRule {
    /// The inside host, or the first address of the inside network.
    pub local: Ipv4Addr,
    /// Its address outside.
    pub global: StaticGlobal,
    /// What of the address is translated.
    pub scope: StaticScope,
    /// `extendable`.
    pub extendable: bool,
    /// `no-alias`.
    pub no_alias: bool,
    /// `no-payload`.
    pub no_payload: bool,
    /// `route-map`.
    pub route_map: Option<String>,
    /// `vrf`: the VRF of the inside host; `None` is the global table.
    pub vrf: Option<String>,
}

/// The outside address of a static translation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StaticGlobal {
    /// This address, or the first of the network.
    Address(Ipv4Addr),
    /// The address of this interface.
    Interface(String),
}

/// What a static translation covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StaticScope {
    /// One address.
    Host,
    /// One port of one address.
    Port {
        /// TCP (6) or UDP (17).
        protocol: u8,
        /// The inside host's port.
        local: u16,
        /// The port outside.
        global: u16,
    },
    /// A network of this prefix length, host by host.
    Network(u8),
}

/// `ip nat outside source {list|route-map} ... pool P`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutsideRule {
    /// Which packets from outside.
    pub selector: Selector,
    /// The pool whose addresses their senders get inside.
    pub pool: String,
    /// `add-route`.
    pub add_route: bool,
}

/// `ip nat outside source static`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OutsideStatic {
    /// The outside host's own address.
    pub global: Ipv4Addr,
    /// The address by which inside hosts know it.
    pub local: Ipv4Addr,
    /// `add-route`.
    pub add_route: bool,
    /// `extendable`.
    pub extendable: bool,
    /// `no-alias`.
    pub no_alias: bool,
    /// `no-payload`.
    pub no_payload: bool,
}

/// `ip nat inside destination list A pool P`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DestinationRule {
    /// The list of virtual addresses.
    pub list: ListName,
    /// The pool of inside hosts.
    pub pool: String,
}

/// A line that does nothing yet, with the lines below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InactiveBlock {
    /// The line, keywords written out.
    pub line: String,
    /// The lines below it.
    pub below: Vec<String>,
}

impl Config {
    /// Most VRFs, besides the global table.
    pub const MOST_VRFS: usize = spillway_dataplane::snapshot::VrfId::MAX;
    /// Most interfaces of one appliance.
    pub const MOST_INTERFACES: usize = spillway_dataplane::snapshot::PortId::MAX;
    /// Most dynamic rules.
    pub const MOST_RULES: usize = 1024;
    /// Most addresses that are shared by port, over all rules.
    pub const MOST_OVERLOAD: u64 = 4096;
    /// Most rules of load sharing: each may be asked about every new connection.
    pub const MOST_DESTINATIONS: usize = 16;
    /// Most inside hosts that share connections, over all rules.
    pub const MOST_SERVERS: u64 = 1 << 16;
    /// Most addresses in pools without overload, and most static translations.
    pub const MOST_ADDRESSES: u64 = 1 << 18;

    /// The VRF of this name.
    #[must_use]
    pub fn vrf(&self, name: &str) -> Option<&Vrf> {
        self.vrfs.iter().find(|vrf| vrf.name == name)
    }

    /// The interface of this name, without regard to case.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces
            .iter()
            .find(|i| i.name.eq_ignore_ascii_case(name))
    }

    /// The number of the port behind an interface: its place among the interfaces that have one.
    #[must_use]
    pub fn port_of(&self, name: &str) -> Option<PortId> {
        let mut ports = self.interfaces.iter().filter(|i| i.port.is_some());
        let at = ports.position(|i| i.name.eq_ignore_ascii_case(name))?;
        u8::try_from(at).ok().map(PortId)
    }

    /// The interfaces of a side, for `show ip nat statistics`.
    pub fn side(&self, side: Side) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(move |i| i.side == side)
    }
}

impl SourceRule {
    /// The rule with the usual filtering: two that differ in nothing else are one and the same, of
    /// which the later line holds.
    #[must_use]
    pub fn identity(&self) -> SourceRule {
        SourceRule {
            mapping: self.mapping.map(|_| Filtering::default()),
            ..self.clone()
        }
    }
}

impl Interface {
    /// Its fixed address and prefix, if it has one.
    #[must_use]
    pub fn fixed(&self) -> Option<Ipv4Net> {
        match self.address {
            Some(Address::Fixed(net)) => Some(net),
            _ => None,
        }
    }
}

impl AccessList {
    /// The greatest sequence number.
    pub const LAST_SEQUENCE: u32 = 2_147_483_647;

    /// An empty list.
    #[must_use]
    pub fn new(kind: ListKind) -> AccessList {
        AccessList {
            kind,
            lines: Vec::new(),
        }
    }

    /// The permits and denies, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.lines.iter().filter_map(ListLine::entry)
    }

    /// The sequence number of the next line at the end; `None` where no number is left.
    #[must_use]
    pub fn next_sequence(&self) -> Option<u32> {
        let last = self.lines.iter().rev().find_map(ListLine::entry);
        let next = last.map_or(Some(10), |e| e.sequence.checked_add(10));
        next.filter(|next| *next <= Self::LAST_SEQUENCE)
    }
}

impl ListLine {
    /// The entry, unless it is a remark.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            ListLine::Entry(entry) => Some(entry),
            ListLine::Remark(_) => None,
        }
    }
}

impl ListName {
    /// The kind that a number stands for; a name may be either.
    #[must_use]
    pub fn kind(&self) -> Option<ListKind> {
        match self {
            ListName::Number(1..=99 | 1300..=1999) => Some(ListKind::Standard),
            ListName::Number(_) => Some(ListKind::Extended),
            ListName::Name(_) => None,
        }
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListName::Number(number) => number.fmt(f),
            ListName::Name(name) => name.fmt(f),
        }
    }
}

impl Pool {
    /// Most ranges of one pool.
    pub const MOST_RANGES: usize = 256;

    /// Number of addresses.
    #[must_use]
    pub fn size(&self) -> u64 {
        let size = |(start, end): &(Ipv4Addr, Ipv4Addr)| {
            u64::from(end.to_bits().saturating_sub(start.to_bits())) + 1
        };
        self.ranges.iter().map(size).sum()
    }

    /// Its netmask.
    #[must_use]
    pub fn netmask(&self) -> Ipv4Addr {
        netmask(self.length)
    }

    /// Its addresses in order.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let bits = |&(start, end): &(Ipv4Addr, Ipv4Addr)| start.to_bits()..=end.to_bits();
        self.ranges.iter().flat_map(bits).map(Ipv4Addr::from_bits)
    }
}

impl StaticRule {
    /// How many hosts it covers.
    #[must_use]
    pub fn hosts(&self) -> u64 {
        match self.scope {
            StaticScope::Network(length) => 1 << (32 - u32::from(length.min(32))),
            _ => 1,
        }
    }
}

/// The netmask of a prefix length, at most 32.
#[must_use]
pub fn netmask(length: u8) -> Ipv4Addr {
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, length.min(32)).netmask()
}

/// The prefix length of a netmask.
#[must_use]
pub fn prefix_length(mask: Ipv4Addr) -> u8 {
    mask.to_bits().leading_ones() as u8
}
