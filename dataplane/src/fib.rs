//! Routes and neighbours: longest prefix match to a next hop, next hop to a MAC address.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use prefix_trie::PrefixMap;

use crate::snapshot::{PortId, VrfId};

/// Where packets of a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// Out of `port`: straight to the destination.
    Connected {
        /// The port that the prefix is on.
        port: PortId,
    },
    /// Out of `port`, to the router `via`.
    Via {
        /// The port that the router is on.
        port: PortId,
        /// The router's address.
        via: Ipv4Addr,
    },
    /// Discarded (`ip route PREFIX MASK Null0`, or the kernel's blackhole and unreachable routes).
    Unreachable,
}

/// A next hop: the host whose MAC address the frame needs, and the port that it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The port to send from.
    pub port: PortId,
    /// The host on the port's link.
    pub address: Ipv4Addr,
}

/// What is known of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Neighbour {
    /// Its MAC address.
    Reachable([u8; 6]),
    /// It was asked for and did not answer.
    Failed,
}

/// Routes of one table, with the place of the router, if it is known.
type Routes = PrefixMap<Ipv4Net, (Route, Option<u32>)>;

/// The forwarding tables, of which each VRF has one, and the neighbours of all of them: immutable
/// once built.
#[derive(Debug, Default)]
pub struct Fib {
    /// By [`VrfId`].
    routes: Vec<Routes>,
    neighbours: Vec<(NextHop, Neighbour)>,
    by_next_hop: HashMap<NextHop, u32>,
}

impl Fib {
    /// The global table of these routes, and these neighbours. Of two routes to one prefix the later
    /// one counts.
    #[must_use]
    pub fn new(
        routes: impl IntoIterator<Item = (Ipv4Net, Route)>,
        neighbours: impl IntoIterator<Item = (NextHop, Neighbour)>,
    ) -> Fib {
        let global = |(prefix, route)| (VrfId::GLOBAL, prefix, route);
        Fib::of_vrfs(routes.into_iter().map(global), neighbours)
    }

    /// [`Fib::new`] of all VRFs.
    #[must_use]
    pub fn of_vrfs(
        routes: impl IntoIterator<Item = (VrfId, Ipv4Net, Route)>,
        neighbours: impl IntoIterator<Item = (NextHop, Neighbour)>,
    ) -> Fib {
        let neighbours: Vec<_> = neighbours.into_iter().collect();
        let by_next_hop: HashMap<_, _> = neighbours
            .iter()
            .enumerate()
            .map(|(i, (hop, _))| (*hop, i as u32))
            .collect();
        let router = |route: &Route| match *route {
            Route::Via { port, via } => by_next_hop.get(&NextHop { port, address: via }).copied(),
            Route::Connected { .. } | Route::Unreachable => None,
        };
        let mut tables: Vec<Routes> = Vec::new();
        for (vrf, prefix, route) in routes {
            if tables.len() <= vrf.index() {
                tables.resize_with(vrf.index() + 1, Routes::new);
            }
            tables[vrf.index()].insert(prefix, (route, router(&route)));
        }
        Fib {
            routes: tables,
            neighbours,
            by_next_hop,
        }
    }

    /// The next hop in a VRF of the longest prefix that holds `destination`; `None` where there is
    /// none or it is unreachable.
    #[must_use]
    pub fn lookup(&self, vrf: VrfId, destination: Ipv4Addr) -> Option<NextHop> {
        self.hop(vrf, destination).map(|(hop, _)| hop)
    }

    /// [`Fib::lookup`], and [`Fib::neighbour`] of what it finds.
    #[must_use]
    pub fn hop(
        &self,
        vrf: VrfId,
        destination: Ipv4Addr,
    ) -> Option<(NextHop, Option<(u32, Neighbour)>)> {
        let routes = self.routes.get(vrf.index())?;
        match *routes.get_lpm(&Ipv4Net::from(destination))?.1 {
            (Route::Connected { port }, _) => {
                let hop = NextHop {
                    port,
                    address: destination,
                };
                Some((hop, self.neighbour(hop)))
            }
            (Route::Via { port, via }, router) => {
                let hop = NextHop { port, address: via };
                let known = router.and_then(|at| Some((at, self.neighbour_at(at)?.1)));
                Some((hop, known))
            }
            (Route::Unreachable, _) => None,
        }
    }

    /// The place of a neighbour in this table (good for this table only) and what is known of it.
    #[must_use]
    pub fn neighbour(&self, hop: NextHop) -> Option<(u32, Neighbour)> {
        self.by_next_hop
            .get(&hop)
            .map(|at| (*at, self.neighbours[*at as usize].1))
    }

    /// The neighbour at a place that [`Fib::neighbour`] gave.
    #[must_use]
    pub fn neighbour_at(&self, at: u32) -> Option<(NextHop, Neighbour)> {
        self.neighbours.get(at as usize).copied()
    }

    /// All routes of a VRF, in the order of their prefixes.
    pub fn routes(&self, vrf: VrfId) -> impl Iterator<Item = (Ipv4Net, Route)> + '_ {
        let routes = self.routes.get(vrf.index());
        let routes = routes.into_iter().flat_map(Routes::iter);
        routes.map(|(prefix, (route, _))| (prefix, *route))
    }

    /// All neighbours.
    pub fn neighbours(&self) -> impl Iterator<Item = (NextHop, Neighbour)> + '_ {
        self.neighbours.iter().copied()
    }
}
