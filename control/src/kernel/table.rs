//! From what the kernel knows to what the data plane forwards by. No I/O in here.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop,
    RouteNextHopFlags, RouteType,
};
use spillway_dataplane::fib::{Fib, Neighbour, NextHop, Route};
use spillway_dataplane::snapshot::PortId;

/// The port of each twin, by the kernel's interface index.
pub(crate) type Ports = HashMap<u32, PortId>;

/// A route of the kernel, as far as Spillway understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelRoute {
    /// Its routing table.
    pub(crate) table: u32,
    /// The destinations.
    pub(crate) prefix: Ipv4Net,
    /// The lower, the better.
    pub(crate) metric: u32,
    /// Where it leads.
    pub(crate) target: Target,
}

/// Where a route of the kernel leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Out of one of these interfaces: index, and router if there is one.
    Out(Vec<(u32, Option<Ipv4Addr>)>),
    /// Nowhere: blackhole, unreachable or prohibit.
    Nowhere,
}

impl KernelRoute {
    /// Reads a route; `None` for what the data plane has no use for: multicast, local, broadcast,
    /// by type of service, cached, dead, or to an IPv6 router.
    pub(crate) fn read(message: &RouteMessage) -> Option<KernelRoute> {
        let header = &message.header;
        let unusable = RouteFlags::Cloned | RouteFlags::Dead | RouteFlags::Linkdown;
        if header.address_family != AddressFamily::Inet
            || header.tos != 0
            || header.source_prefix_length != 0
            || header.flags.intersects(unusable)
        {
            return None;
        }
        let mut route = KernelRoute {
            table: u32::from(header.table),
            prefix: Ipv4Net::new(Ipv4Addr::UNSPECIFIED, 0).ok()?,
            metric: 0,
            target: Target::Nowhere,
        };
        let mut address = Ipv4Addr::UNSPECIFIED;
        let mut hops = Vec::new();
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(table) => route.table = *table,
                RouteAttribute::Priority(metric) => route.metric = *metric,
                RouteAttribute::Destination(RouteAddress::Inet(to)) => address = *to,
                RouteAttribute::MultiPath(several) => hops.extend(several.iter().filter_map(hop)),
                _ => {}
            }
        }
        route.prefix = Ipv4Net::new(address, header.destination_prefix_length)
            .ok()?
            .trunc();
        match header.kind {
            RouteType::Unicast => {
                hops.extend(out(&message.attributes, None));
                route.target = Target::Out(hops);
            }
            RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => {}
            _ => return None,
        }
        Some(route)
    }

    /// The data plane's view; `None` where it leads out of no twin.
    fn route(&self, ports: &Ports) -> Option<Route> {
        match &self.target {
            Target::Nowhere => Some(Route::Unreachable),
            Target::Out(hops) => hops.iter().find_map(|(index, via)| {
                let port = *ports.get(index)?;
                Some(match via {
                    Some(via) => Route::Via { port, via: *via },
                    None => Route::Connected { port },
                })
            }),
        }
    }
}

/// A next hop of a route over several.
fn hop(several: &RouteNextHop) -> Option<(u32, Option<Ipv4Addr>)> {
    let unusable = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
    if several.flags.intersects(unusable) {
        return None;
    }
    out(&several.attributes, Some(several.interface_index))
}

/// Interface and router that the attributes name; `None` without interface or with a router that
/// is not an IPv4 address.
fn out(attributes: &[RouteAttribute], index: Option<u32>) -> Option<(u32, Option<Ipv4Addr>)> {
    let mut index = index;
    let mut via = None;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Gateway(RouteAddress::Inet(router)) => via = Some(*router),
            RouteAttribute::Via(_) => return None,
            _ => {}
        }
    }
    Some((index?, via))
}

/// What the kernel says of one neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The interface and the neighbour's address.
    pub(crate) key: (u32, Ipv4Addr),
    /// What is known; `None` is being found out, or removed.
    pub(crate) state: Option<Known>,
}

/// What the kernel knows of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// For the data plane.
    pub(crate) neighbour: Neighbour,
    /// Known from earlier, not confirmed lately.
    pub(crate) stale: bool,
    /// The kernel is asking the host whether it is still there.
    pub(crate) probed: bool,
}

/// Reads a neighbour message; `None` where it is not about an IPv4 neighbour with an address.
pub(crate) fn read_neighbour(message: &NeighbourMessage, removed: bool) -> Option<Heard> {
    if message.header.family != AddressFamily::Inet {
        return None;
    }
    let mut address = None;
    let mut mac: Option<[u8; 6]> = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => address = Some(*a),
            NeighbourAttribute::LinkLayerAddress(octets) => mac = octets.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let neighbour = match message.header.state {
        NeighbourState::Failed => Some(Neighbour::Failed),
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent => mac.map(Neighbour::Reachable),
        _ => None,
    };
    let stale = message.header.state == NeighbourState::Stale;
    let probed = message.header.state == NeighbourState::Probe;
    Some(Heard {
        key: (message.header.ifindex, address?),
        state: neighbour.filter(|_| !removed).map(|neighbour| Known {
            neighbour,
            stale,
            probed,
        }),
    })
}

/// Routes and neighbours in order, to be compared with the ones published last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    routes: Vec<(Ipv4Net, Route)>,
    neighbours: Vec<(NextHop, Neighbour)>,
}

impl Tables {
    /// Picks from the kernel's routes and neighbours what concerns our ports: the main table, the
    /// lowest metric of each prefix.
    pub(crate) fn build(
        routes: &[KernelRoute],
        neighbours: &BTreeMap<(u32, Ipv4Addr), Known>,
        ports: &Ports,
    ) -> Tables {
        let mut best: BTreeMap<Ipv4Net, (u32, Route)> = BTreeMap::new();
        for route in routes {
            if route.table != u32::from(RouteHeader::RT_TABLE_MAIN) {
                continue;
            }
            let Some(to) = route.route(ports) else {
                continue;
            };
            let better = best
                .get(&route.prefix)
                .is_none_or(|(metric, _)| route.metric < *metric);
            if better {
                best.insert(route.prefix, (route.metric, to));
            }
        }
        let mut neighbours: Vec<_> = neighbours
            .iter()
            .filter_map(|((index, address), known)| {
                let port = *ports.get(index)?;
                let hop = NextHop {
                    port,
                    address: *address,
                };
                Some((hop, known.neighbour))
            })
            .collect();
        neighbours.sort_unstable_by_key(|(hop, _)| (hop.port, hop.address));
        Tables {
            routes: best.into_iter().map(|(p, (_, route))| (p, route)).collect(),
            neighbours,
        }
    }

    /// The forwarding table of these.
    pub(crate) fn fib(&self) -> Fib {
        Fib::new(self.routes.iter().copied(), self.neighbours.iter().copied())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "table_tests.rs"]
mod tests;
