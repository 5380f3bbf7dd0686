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
use spillway_dataplane::snapshot::{PortId, VrfId};

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
    /// by type of service, cached, dead, without a link, or to an IPv6 router.
    pub(crate) fn read(message: &RouteMessage) -> Option<KernelRoute> {
        let unusable = RouteFlags::Dead | RouteFlags::Linkdown;
        if message.header.flags.intersects(unusable) {
            return None;
        }
        KernelRoute::read_unused(message)
    }

    /// The same, whether or not packets can go there at present.
    pub(crate) fn read_unused(message: &RouteMessage) -> Option<KernelRoute> {
        let header = &message.header;
        if header.address_family != AddressFamily::Inet
            || header.tos != 0
            || header.source_prefix_length != 0
            || header.flags.contains(RouteFlags::Cloned)
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

/// What one kernel knows: that of a VRF, or of the global table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Whose it is.
    pub(crate) vrf: VrfId,
    /// Its twins.
    pub(crate) ports: &'a Ports,
    /// Its routes.
    pub(crate) routes: &'a [KernelRoute],
    /// Its neighbours, by interface and address.
    pub(crate) neighbours: &'a BTreeMap<(u32, Ipv4Addr), Known>,
}

/// A static route out of an interface that is not in the route's VRF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leak {
    /// The table that it is in.
    pub(crate) vrf: VrfId,
    /// The destinations.
    pub(crate) prefix: Ipv4Net,
    /// The lower, the better.
    pub(crate) metric: u32,
    /// Out of this port.
    pub(crate) port: PortId,
    /// To this router; `None` straight to the destination.
    pub(crate) router: Option<Ipv4Addr>,
}

/// The best route to each prefix of each table, with its metric.
type Best = BTreeMap<(VrfId, Ipv4Net), (u32, Route)>;

/// Routes and neighbours in order, to be compared with the ones published last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    routes: Vec<(VrfId, Ipv4Net, Route)>,
    neighbours: Vec<(NextHop, Neighbour)>,
}

impl Tables {
    /// Picks from the kernels' routes and neighbours what concerns our ports: the main tables, the
    /// lowest metric of each prefix. A leak is there while the kernel has a connected route out of
    /// its port, as it would keep a route of its own.
    pub(crate) fn build(sources: &[Source<'_>], leaks: &[Leak]) -> Tables {
        let mut best = Best::new();
        for source in sources {
            for route in source.routes {
                if route.table != u32::from(RouteHeader::RT_TABLE_MAIN) {
                    continue;
                }
                if let Some(to) = route.route(source.ports) {
                    offer(&mut best, (source.vrf, route.prefix), route.metric, to);
                }
            }
        }
        let connected: Vec<(Ipv4Net, PortId)> = best
            .iter()
            .filter_map(|((_, prefix), (_, route))| match route {
                Route::Connected { port } => Some((*prefix, *port)),
                _ => None,
            })
            .collect();
        for leak in leaks {
            let reaches = |(prefix, port): &(Ipv4Net, PortId)| {
                let there = leak.router.is_none_or(|router| prefix.contains(&router));
                *port == leak.port && there
            };
            if connected.iter().any(reaches) {
                let port = leak.port;
                let to = match leak.router {
                    Some(via) => Route::Via { port, via },
                    None => Route::Connected { port },
                };
                offer(&mut best, (leak.vrf, leak.prefix), leak.metric, to);
            }
        }
        let mut neighbours: Vec<_> = sources.iter().flat_map(Source::known).collect();
        neighbours.sort_unstable_by_key(|(hop, _)| (hop.port, hop.address));
        Tables {
            routes: best
                .into_iter()
                .map(|((vrf, prefix), (_, route))| (vrf, prefix, route))
                .collect(),
            neighbours,
        }
    }

    /// The forwarding tables of these.
    pub(crate) fn fib(&self) -> Fib {
        Fib::of_vrfs(self.routes.iter().copied(), self.neighbours.iter().copied())
    }
}

/// Takes a route if there is none that is at least as good.
fn offer(best: &mut Best, to: (VrfId, Ipv4Net), metric: u32, route: Route) {
    if best.get(&to).is_none_or(|(have, _)| metric < *have) {
        best.insert(to, (metric, route));
    }
}

impl Source<'_> {
    /// The neighbours on our ports.
    fn known(&self) -> impl Iterator<Item = (NextHop, Neighbour)> {
        self.neighbours
            .iter()
            .filter_map(|((index, address), known)| {
                let port = *self.ports.get(index)?;
                let hop = NextHop {
                    port,
                    address: *address,
                };
                Some((hop, known.neighbour))
            })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "table_tests.rs"]
mod tests;
