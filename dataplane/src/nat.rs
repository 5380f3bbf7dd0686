//! NAT policy as workers read it: dynamic rules, pools, statics, global addresses, timers.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::acl::{AccessList, Action, Subject};
use crate::fib::NextHop;
use crate::route_map::{RouteMap, Selector};
use crate::snapshot::{InsideHost, PortId, VrfId};
use crate::time::Tick;

mod destination;
mod limits;
mod mapping;
mod outside;
mod pool;
mod ports;
mod statics;

pub use destination::{DestinationRule, Destinations, Servers};
pub use limits::{Group, GroupLimit, HostLimits};
pub use mapping::Filtering;
pub use outside::{Outside, OutsideLeases, OutsideLocal, OutsidePool, OutsideRule, OutsideStatic};
pub use pool::{InVain, Leases, Lending, OneToOnePool};
pub use ports::{BLOCK_PORTS, BLOCKS, GlobalAddress, Lending as PortLending, PortSpace};
use statics::InsideStatics;

/// `ip nat inside source list A ...`: which packets it translates, and to what.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The mapping's number in `show ip nat statistics`, the same over reloads as long as the
    /// line stays.
    pub id: u16,
    /// `vrf`: only packets of this VRF's inside interfaces; without, those of the global table.
    pub vrf: VrfId,
    /// The packets that it translates; a list or map that does not exist matches nothing.
    pub selector: Selector,
    /// To what.
    pub target: Target,
    /// `endpoint-independent`: an inside endpoint has one port of an address for all its flows,
    /// and the filtering says whose packets get in there unasked. Means nothing without overload.
    pub mapping: Option<Filtering>,
}

/// What a dynamic rule translates to.
#[derive(Debug, Clone)]
pub enum Target {
    /// `overload`: these addresses, shared by port, in this order of preference.
    Overload(Arc<[Arc<GlobalAddress>]>),
    /// A pool without overload: one address for each inside host.
    OneToOne(Arc<OneToOnePool>),
}

/// A configured static translation. It makes no state and belongs to no worker.
#[derive(Debug)]
pub struct Static {
    /// Protocol and ports `(inside, global)`, or `None` for the whole address.
    pub port: Option<StaticPort>,
    /// `vrf`: the table in which the inside host is.
    pub vrf: VrfId,
    /// The inside host.
    pub inside: Ipv4Addr,
    /// The address it has outside.
    pub global: Ipv4Addr,
    /// `route-map`: only packets from inside that it permits, and the answers to these.
    pub only: Option<Arc<RouteMap>>,
    /// When it was made.
    pub created: Tick,
    /// Last use, written by any worker at most once a tick; 0 means never.
    pub last_used: AtomicU32,
}

/// The port part of a static translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StaticPort {
    /// TCP (6) or UDP (17).
    pub protocol: u8,
    /// The inside host's port.
    pub inside: u16,
    /// The port that it has outside.
    pub global: u16,
}

/// Which packets of an interface an access group is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Those that come in.
    In = 0,
    /// Those that go out.
    Out = 1,
}

/// What an address is to NAT.
#[derive(Debug, Clone)]
pub enum Global {
    /// Shared by port.
    Overload(Arc<GlobalAddress>),
    /// Address `.1` of a pool without overload.
    OneToOne(Arc<OneToOnePool>, u32),
    /// Only statics use it.
    Static,
}

/// The timers of `ip nat translation`, in ticks; `u32::MAX` means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Timer {
    /// `timeout`: dynamic entries without overload.
    Simple,
    /// `tcp-timeout`: established TCP.
    Tcp,
    /// `udp-timeout`.
    Udp,
    /// `icmp-timeout`.
    Icmp,
    /// `dns-timeout`: UDP to or from port 53.
    Dns,
    /// `finrst-timeout`: TCP after FIN both ways or RST.
    FinRst,
    /// `syn-timeout`: TCP before it is established.
    Syn,
    /// `pptp-timeout`.
    Pptp,
    /// `esp-timeout`.
    Esp,
    /// `esp-pending-timeout`.
    EspPending,
}

impl Timer {
    /// How many there are.
    pub const COUNT: usize = 10;
}

/// All timers. `port_timers` are `port-timeout` lines: (protocol, port, seconds).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timers {
    /// Seconds by [`Timer`]; `None` means never.
    pub seconds: [Option<u32>; Timer::COUNT],
    /// `port-timeout {tcp|udp} PORT SECONDS`: beats the protocol's timer.
    pub ports: Vec<PortTimer>,
}

/// A `port-timeout` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortTimer {
    /// TCP (6) or UDP (17).
    pub protocol: u8,
    /// The port.
    pub port: u16,
    /// Seconds; `None` means never.
    pub seconds: Option<u32>,
}

impl Default for Timers {
    fn default() -> Timers {
        // In the order of `Timer`: simple, tcp, udp, icmp, dns, finrst, syn, pptp, esp, esp-pending.
        let seconds = [86400, 86400, 300, 60, 60, 60, 60, 86400, 300, 30].map(Some);
        Timers {
            seconds,
            ports: Vec::new(),
        }
    }
}

/// What is said of ESP and IKE alone; all of it may be empty.
#[derive(Debug, Clone, Default)]
pub struct Ipsec {
    /// `ip nat service list L ESP spi-match`.
    pub spi_match: Vec<Arc<AccessList>>,
    /// `ip nat service list L IKE preserve-port`.
    pub preserve_port: Vec<Arc<AccessList>>,
    /// `ip nat inside source static esp LOCAL interface NAME`.
    pub static_esp: Vec<StaticEsp>,
}

/// The inside host that gets all ESP to a global address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StaticEsp {
    /// The inside host.
    pub inside: Ipv4Addr,
    /// The global address.
    pub global: Ipv4Addr,
    /// When it was made.
    pub created: Tick,
}

/// The whole policy.
#[derive(Debug, Default)]
pub struct Nat {
    /// Dynamic rules, in order of configuration.
    pub rules: Vec<Rule>,
    /// Statics, in order of configuration.
    pub statics: Vec<Arc<Static>>,
    /// What each global address is; an interface's address is here if a rule or static uses it.
    pub globals: HashMap<Ipv4Addr, Global>,
    /// Timers.
    pub timers: Timers,
    /// `max-entries N`: entries in all; 0 means no limit.
    pub max_entries: u32,
    /// `max-entries` of hosts and lists, if there are any.
    pub host_limits: Option<Arc<HostLimits>>,
    /// What is said of ESP and IKE alone.
    pub ipsec: Ipsec,
    /// `ip nat outside source`.
    pub outside: Outside,
    /// `ip nat inside destination`.
    pub destinations: Destinations,
    /// `ip access-group`, by port: in and out.
    access_groups: Vec<[Option<Arc<AccessList>>; 2]>,
    /// Addresses of rules with `endpoint-independent`.
    mapped: HashSet<u32>,
    static_by_inside: InsideStatics,
    static_by_global: StaticMap,
    /// `globals` again, for those who ask for every new entry.
    by_address: HashMap<u32, Global, BuildHasherDefault<AddressHasher>>,
}

/// Spreads addresses. They are configured: nobody outside chooses them to collide.
#[derive(Debug, Clone, Copy, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, value: u32) {
        let mixed = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

impl Nat {
    /// The policy of these rules and statics, with `globals` telling what each global address is.
    #[must_use]
    pub fn new(
        rules: Vec<Rule>,
        statics: Vec<Arc<Static>>,
        globals: HashMap<Ipv4Addr, Global>,
        timers: Timers,
        max_entries: u32,
    ) -> Nat {
        let static_by_inside = InsideStatics::new(&statics);
        let static_by_global = statics
            .iter()
            .map(|s| {
                (
                    (s.global, s.port.map(|p| (p.protocol, p.global))),
                    Arc::clone(s),
                )
            })
            .collect();
        Nat {
            mapped: mapping::addresses(&rules),
            rules,
            statics,
            by_address: globals
                .iter()
                .map(|(address, global)| (address.to_bits(), global.clone()))
                .collect(),
            globals,
            timers,
            max_entries,
            host_limits: None,
            ipsec: Ipsec::default(),
            outside: Outside::default(),
            destinations: Destinations::default(),
            access_groups: Vec::new(),
            static_by_inside,
            static_by_global,
        }
    }

    /// The same policy with limits of hosts. The same limits in the next policy go on counting;
    /// others begin with what is there.
    #[must_use]
    pub fn with_host_limits(self, host_limits: Option<Arc<HostLimits>>) -> Nat {
        Nat {
            host_limits,
            ..self
        }
    }

    /// The same policy with what is said of ESP and IKE.
    #[must_use]
    pub fn with_ipsec(self, ipsec: Ipsec) -> Nat {
        Nat { ipsec, ..self }
    }

    /// The same policy with translations of outside hosts.
    #[must_use]
    pub fn with_outside(self, outside: Outside) -> Nat {
        Nat { outside, ..self }
    }

    /// The same policy with connections that inside hosts share.
    #[must_use]
    pub fn with_destinations(self, destinations: Destinations) -> Nat {
        Nat {
            destinations,
            ..self
        }
    }

    /// What a global address is to NAT.
    #[inline]
    #[must_use]
    pub fn global(&self, address: Ipv4Addr) -> Option<&Global> {
        self.by_address.get(&address.to_bits())
    }

    /// The same policy with access groups: of each port, in its order, the lists for packets that
    /// come in and that go out.
    #[must_use]
    pub fn with_access_groups(self, access_groups: Vec<[Option<Arc<AccessList>>; 2]>) -> Nat {
        let any = access_groups.iter().flatten().any(Option::is_some);
        Nat {
            access_groups: if any { access_groups } else { Vec::new() },
            ..self
        }
    }

    /// The access group of a port, if it has one.
    #[inline]
    #[must_use]
    pub fn access_group(&self, port: PortId, way: Way) -> Option<&AccessList> {
        self.access_groups.get(port.index())?[way as usize].as_deref()
    }

    /// Whether an address belongs to a rule with `endpoint-independent`, so that no two entries of
    /// different inside endpoints have the same port of it.
    #[inline]
    #[must_use]
    pub fn is_mapped(&self, global: Ipv4Addr) -> bool {
        !self.mapped.is_empty() && self.mapped.contains(&global.to_bits())
    }

    /// Whether some rule lends whole addresses.
    #[must_use]
    pub fn lends_addresses(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| matches!(rule.target, Target::OneToOne(_)))
    }

    /// The rule for packets from inside in a VRF: the first of its rules that permits them.
    /// Counts the matches of access lists if `counts`.
    #[must_use]
    pub fn rule_for(
        &self,
        vrf: VrfId,
        subject: &Subject,
        exit: Option<NextHop>,
        counts: bool,
    ) -> Option<&Rule> {
        let permits = |rule: &Rule| {
            let action = if counts {
                rule.selector.check(subject, exit)
            } else {
                rule.selector.decide(subject, exit)
            };
            action == Action::Permit
        };
        let mut rules = self.rules.iter();
        rules.find(|rule| rule.vrf == vrf && permits(rule))
    }

    /// The static for packets from an inside host that `applies`: by port if one does, else by
    /// address; of several, one with a route map, in order of configuration, before one without.
    pub fn static_from_inside(
        &self,
        inside: InsideHost,
        protocol: u8,
        port: Option<u16>,
        applies: impl FnMut(&Static) -> bool,
    ) -> Option<&Arc<Static>> {
        let port = port.map(|port| (protocol, port));
        self.static_by_inside.find(inside, port, applies)
    }

    /// The static for packets to a global address: by port if one fits, else by address.
    #[must_use]
    pub fn static_to_global(
        &self,
        global: Ipv4Addr,
        protocol: u8,
        port: Option<u16>,
    ) -> Option<&Arc<Static>> {
        find_static(&self.static_by_global, global, protocol, port)
    }

    /// Whether a static has an address for itself, whatever the port.
    #[must_use]
    pub fn has_static_address(&self, global: Ipv4Addr) -> bool {
        self.static_by_global.contains_key(&(global, None))
    }

    /// Whether a port of a global address belongs to a static, so that no entry may take it.
    #[must_use]
    pub fn is_reserved(&self, global: Ipv4Addr, protocol: u8, port: u16) -> bool {
        self.static_to_global(global, protocol, Some(port))
            .is_some()
    }
}

type StaticMap = HashMap<(Ipv4Addr, Option<(u8, u16)>), Arc<Static>>;

fn find_static(
    map: &StaticMap,
    address: Ipv4Addr,
    protocol: u8,
    port: Option<u16>,
) -> Option<&Arc<Static>> {
    if map.is_empty() {
        return None;
    }
    port.and_then(|port| map.get(&(address, Some((protocol, port)))))
        .or_else(|| map.get(&(address, None)))
}

impl Static {
    /// The inside host.
    #[must_use]
    pub fn inside_host(&self) -> InsideHost {
        InsideHost {
            vrf: self.vrf,
            address: self.inside,
        }
    }

    /// Whether it translates a packet from its inside host that leaves by `exit`. A packet to its
    /// global address is asked about as if it were the answer to one: `subject` as it would leave.
    #[must_use]
    pub fn applies(&self, subject: impl FnOnce() -> Subject, exit: Option<NextHop>) -> bool {
        let permits = |map: &Arc<RouteMap>| map.decide(&subject(), exit, false) == Action::Permit;
        self.only.as_ref().is_none_or(permits)
    }

    /// Notes a use at `now`. Any worker may call this: the last one wins, and a use that is
    /// noted already costs no write.
    pub fn used(&self, now: Tick) {
        if self.last_used.load(Ordering::Relaxed) != now.0 {
            self.last_used.store(now.0, Ordering::Relaxed);
        }
    }
}

impl Timers {
    /// The length in ticks of the first `port-timeout` for either of a flow's ports, if there is
    /// one; `u32::MAX` means never.
    #[must_use]
    pub fn of_ports(&self, protocol: u8, ports: [u16; 2]) -> Option<u32> {
        let governs = |t: &&PortTimer| t.protocol == protocol && ports.contains(&t.port);
        let timer = self.ports.iter().find(governs)?;
        Some(timer.seconds.map_or(u32::MAX, Tick::from_seconds))
    }

    /// The timer's length in ticks; `u32::MAX` means never.
    #[must_use]
    pub fn ticks(&self, timer: Timer) -> u32 {
        self.seconds[timer as usize].map_or(u32::MAX, Tick::from_seconds)
    }
}
