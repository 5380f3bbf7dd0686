//! NAT policies, a line each.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use spillway_dataplane::acl::{AccessList, Action, Entry, Wildcard};
use spillway_dataplane::nat::{
    DestinationRule, Destinations, Filtering, Global, GlobalAddress, HostLimits, Ipsec, Leases,
    Lending, Nat, OneToOnePool, Outside, OutsideLeases, OutsidePool, OutsideRule, OutsideStatic,
    PortTimer, Rule, Servers, Static, StaticPort, Target, Timer, Timers,
};
use spillway_dataplane::route_map::{RouteMap, Selector};
use spillway_dataplane::snapshot::VrfId;
use spillway_dataplane::time::Tick;

/// A policy that can be changed and made into what workers read.
#[derive(Default)]
pub(crate) struct Policy {
    pub(crate) rules: Vec<Rule>,
    pub(crate) statics: Vec<Arc<Static>>,
    pub(crate) globals: HashMap<Ipv4Addr, Global>,
    pub(crate) timers: Timers,
    pub(crate) max_entries: u32,
    pub(crate) host_limits: Option<Arc<HostLimits>>,
    pub(crate) ipsec: Ipsec,
    pub(crate) outside_statics: Vec<Arc<OutsideStatic>>,
    pub(crate) outside_rules: Vec<OutsideRule>,
    pub(crate) shares: Vec<DestinationRule>,
    /// By port: in and out.
    pub(crate) access_groups: [[Option<Arc<AccessList>>; 2]; 4],
}

/// An access list that permits sources: an address and its wildcard mask.
pub(crate) fn permit(address: &str, wildcard: &str) -> Arc<AccessList> {
    let bits = |text: &str| text.parse::<Ipv4Addr>().expect("an address").to_bits();
    let source = Wildcard {
        address: bits(address),
        dont_care: bits(wildcard),
    };
    Arc::new(AccessList::new(vec![Entry::standard(
        10,
        Action::Permit,
        source,
    )]))
}

/// `access-list 1 permit 10.0.0.0 0.255.255.255`.
pub(crate) fn permit_all() -> Arc<AccessList> {
    permit("10.0.0.0", "0.255.255.255")
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

/// A pool of ranges that lends so.
pub(crate) fn pool_of(
    lending: Lending,
    ranges: &[(&str, &str)],
    leases: &mut Leases,
) -> OneToOnePool {
    let ranges: Vec<_> = ranges
        .iter()
        .map(|(first, last)| (address(first), address(last)))
        .collect();
    OneToOnePool::with_leases(&ranges, lending, leases)
}

impl Policy {
    /// `ip nat inside source list 1 interface Outside overload`.
    pub(crate) fn overload() -> Policy {
        Policy::default().rule_overload(permit_all(), &["198.51.100.1"])
    }

    /// Another rule with overload.
    pub(crate) fn rule_overload(mut self, list: Arc<AccessList>, addresses: &[&str]) -> Policy {
        let addresses: Vec<_> = addresses.iter().map(|a| self.global(a)).collect();
        let id = self.rules.len() as u16 + 1;
        let target = Target::Overload(addresses.into());
        let selector = Selector::List(list);
        self.rules.push(Rule {
            id,
            vrf: VrfId::GLOBAL,
            selector,
            target,
            mapping: None,
        });
        self
    }

    /// The last rule is of a VRF.
    pub(crate) fn rule_vrf(mut self, vrf: VrfId) -> Policy {
        self.rules.last_mut().expect("a rule").vrf = vrf;
        self
    }

    /// The last static is of a VRF.
    pub(crate) fn static_vrf(mut self, vrf: VrfId) -> Policy {
        let last = self.statics.last_mut().expect("a static");
        Arc::get_mut(last).expect("nobody else has it").vrf = vrf;
        self
    }

    /// The last rule is `endpoint-independent`, with this filtering.
    pub(crate) fn mapping(mut self, filtering: Filtering) -> Policy {
        let last = self.rules.last_mut().expect("a rule");
        last.mapping = Some(filtering);
        self
    }

    /// `ip access-group` at a port; 0 is in, 1 out.
    pub(crate) fn access_group(mut self, port: usize, way: usize, list: AccessList) -> Policy {
        self.access_groups[port][way] = Some(Arc::new(list));
        self
    }

    /// A rule with overload by route map.
    pub(crate) fn rule_map(mut self, map: RouteMap, address: &str) -> Policy {
        let addresses = vec![self.global(address)];
        self.rules.push(Rule {
            vrf: VrfId::GLOBAL,
            id: self.rules.len() as u16 + 1,
            selector: Selector::RouteMap(Arc::new(map)),
            target: Target::Overload(addresses.into()),
            mapping: None,
        });
        self
    }

    /// A rule without overload by route map.
    pub(crate) fn rule_map_pool(mut self, map: RouteMap, first: &str, size: u32) -> Policy {
        self = self.rule_pool(permit_all(), first, size);
        let last = self.rules.last_mut().expect("a rule");
        last.selector = Selector::RouteMap(Arc::new(map));
        self
    }

    /// The address with its ports; one and the same however often it is asked for.
    pub(crate) fn global(&mut self, text: &str) -> Arc<GlobalAddress> {
        let made = || Global::Overload(Arc::new(GlobalAddress::new(address(text))));
        match self.globals.entry(address(text)).or_insert_with(made) {
            Global::Overload(global) => Arc::clone(global),
            _ => panic!("{text} is something else"),
        }
    }

    /// A rule without overload.
    pub(crate) fn rule_pool(self, list: Arc<AccessList>, first: &str, size: u32) -> Policy {
        self.rule_one_to_one(list, OneToOnePool::new(address(first), size))
    }

    /// A rule without overload, by a pool of ranges that lends so.
    pub(crate) fn rule_ranges(self, lending: Lending, ranges: &[(&str, &str)]) -> Policy {
        let pool = pool_of(lending, ranges, &mut Leases::default());
        self.rule_one_to_one(permit_all(), pool)
    }

    /// A rule without overload, by this pool.
    pub(crate) fn rule_one_to_one(mut self, list: Arc<AccessList>, pool: OneToOnePool) -> Policy {
        let pool = Arc::new(pool);
        for (index, address) in (0..).zip(pool.addresses()) {
            let global = Global::OneToOne(Arc::clone(&pool), index);
            self.globals.insert(address, global);
        }
        let id = self.rules.len() as u16 + 1;
        self.rules.push(Rule {
            id,
            vrf: VrfId::GLOBAL,
            selector: Selector::List(list),
            target: Target::OneToOne(pool),
            mapping: None,
        });
        self
    }

    /// `ip nat inside source static INSIDE GLOBAL`.
    pub(crate) fn fixed(self, inside: &str, global: &str) -> Policy {
        self.add_static(inside, global, None)
    }

    /// `ip nat inside source static tcp|udp INSIDE PORT GLOBAL PORT`.
    pub(crate) fn forward(self, protocol: u8, inside: (&str, u16), global: (&str, u16)) -> Policy {
        let port = StaticPort {
            protocol,
            inside: inside.1,
            global: global.1,
        };
        self.add_static(inside.0, global.0, Some(port))
    }

    fn add_static(mut self, inside: &str, global: &str, port: Option<StaticPort>) -> Policy {
        let (inside, global) = (address(inside), address(global));
        self.globals.entry(global).or_insert(Global::Static);
        self.statics.push(Arc::new(Static {
            vrf: VrfId::GLOBAL,
            port,
            inside,
            global,
            only: None,
            created: Tick(0),
            last_used: AtomicU32::new(0),
        }));
        self
    }

    /// The last static has this `route-map`.
    pub(crate) fn only(mut self, map: RouteMap) -> Policy {
        let last = self.statics.pop().expect("a static");
        self.statics.push(Arc::new(Static {
            vrf: last.vrf,
            only: Some(Arc::new(map)),
            port: last.port,
            inside: last.inside,
            global: last.global,
            created: last.created,
            last_used: AtomicU32::new(0),
        }));
        self
    }

    /// `ip nat outside source static GLOBAL LOCAL [add-route]`.
    pub(crate) fn outside_fixed(mut self, global: &str, local: &str, add_route: bool) -> Policy {
        self.outside_statics.push(Arc::new(OutsideStatic {
            global: address(global),
            local: address(local),
            add_route,
            created: Tick(0),
            last_used: AtomicU32::new(0),
        }));
        self
    }

    /// `ip nat outside source list A pool P`.
    pub(crate) fn outside_pool(self, list: Arc<AccessList>, first: &str, last: &str) -> Policy {
        let range = [(address(first), address(last))];
        let leases = &mut OutsideLeases::default();
        let pool = OutsidePool::new(&range, Lending::FirstFree, leases);
        self.outside_rule(list, Arc::new(pool))
    }

    /// `ip nat outside source list A pool P`, with this pool.
    pub(crate) fn outside_rule(mut self, list: Arc<AccessList>, pool: Arc<OutsidePool>) -> Policy {
        self.outside_rules.push(OutsideRule {
            id: 101 + self.outside_rules.len() as u16,
            selector: Selector::List(list),
            pool,
            add_route: false,
        });
        self
    }

    /// `ip nat inside destination list A pool P`, with a standard list.
    pub(crate) fn share(mut self, list: Arc<AccessList>, ranges: &[(&str, &str)]) -> Policy {
        let ends = |(first, last): &(&str, &str)| (address(first), address(last));
        let ranges: Vec<_> = ranges.iter().map(ends).collect();
        self.shares.push(DestinationRule {
            id: 201 + self.shares.len() as u16,
            list,
            is_standard: true,
            servers: Arc::new(Servers::new(&ranges)),
        });
        self
    }

    /// One timer; `None` means never.
    pub(crate) fn timer(mut self, timer: Timer, seconds: Option<u32>) -> Policy {
        self.timers.seconds[timer as usize] = seconds;
        self
    }

    /// `ip nat translation port-timeout`.
    pub(crate) fn port_timer(mut self, protocol: u8, port: u16, seconds: Option<u32>) -> Policy {
        self.timers.ports.push(PortTimer {
            protocol,
            port,
            seconds,
        });
        self
    }

    /// `ip nat translation max-entries`.
    pub(crate) fn max_entries(mut self, most: u32) -> Policy {
        self.max_entries = most;
        self
    }

    /// `ip nat translation max-entries` of hosts and lists.
    pub(crate) fn host_limits(mut self, limits: HostLimits) -> Policy {
        self.host_limits = Some(Arc::new(limits));
        self
    }

    /// What workers read.
    pub(crate) fn nat(&self) -> Nat {
        Nat::new(
            self.rules.clone(),
            self.statics.clone(),
            self.globals.clone(),
            self.timers.clone(),
            self.max_entries,
        )
        .with_host_limits(self.host_limits.clone())
        .with_ipsec(self.ipsec.clone())
        .with_outside(Outside::new(
            self.outside_rules.clone(),
            self.outside_statics.clone(),
        ))
        .with_destinations(Destinations::new(self.shares.clone(), Vec::new()))
        .with_access_groups(self.access_groups.to_vec())
    }
}
