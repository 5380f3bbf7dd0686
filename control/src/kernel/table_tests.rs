//! Forwarding tables from a made-up kernel.

use super::*;
use netlink_packet_route::route::RouteVia;
use spillway_dataplane::snapshot::VrfId;

const INSIDE: PortId = PortId(0);
const OUTSIDE: PortId = PortId(1);

fn ports() -> Ports {
    Ports::from([(10, INSIDE), (11, OUTSIDE)])
}

/// A route message as the kernel sends it.
fn message(prefix: &str, kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
    let prefix: Ipv4Net = prefix.parse().unwrap();
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = kind;
    message.header.destination_prefix_length = prefix.prefix_len();
    if prefix.prefix_len() > 0 {
        let to = RouteAddress::Inet(prefix.addr());
        message.attributes.push(RouteAttribute::Destination(to));
    }
    message.attributes.extend(attributes);
    message
}

fn gateway(address: [u8; 4]) -> RouteAttribute {
    RouteAttribute::Gateway(RouteAddress::Inet(address.into()))
}

fn fib(messages: &[RouteMessage]) -> Fib {
    global(messages, &BTreeMap::new()).fib()
}

/// The tables of one kernel, without VRFs.
fn global(messages: &[RouteMessage], neighbours: &BTreeMap<(u32, Ipv4Addr), Known>) -> Tables {
    let routes: Vec<_> = messages.iter().filter_map(KernelRoute::read).collect();
    let source = Source {
        vrf: VrfId::GLOBAL,
        ports: &ports(),
        routes: &routes,
        neighbours,
    };
    Tables::build(&[source], &[])
}

fn hop(port: PortId, address: [u8; 4]) -> NextHop {
    NextHop {
        port,
        address: address.into(),
    }
}

#[test]
fn connected_and_gateway_routes_lead_out_of_their_twin() {
    use RouteAttribute::Oif;
    let fib = fib(&[
        message("10.1.0.0/24", RouteType::Unicast, vec![Oif(10)]),
        message(
            "0.0.0.0/0",
            RouteType::Unicast,
            vec![gateway([198, 51, 100, 254]), Oif(11)],
        ),
    ]);
    assert_eq!(
        fib.lookup(VrfId::GLOBAL, [10, 1, 0, 9].into()),
        Some(hop(INSIDE, [10, 1, 0, 9]))
    );
    assert_eq!(
        fib.lookup(VrfId::GLOBAL, [8, 8, 8, 8].into()),
        Some(hop(OUTSIDE, [198, 51, 100, 254]))
    );
}

#[test]
fn routes_of_other_interfaces_and_tables_do_not_count() {
    let mut other_table = message(
        "10.9.0.0/16",
        RouteType::Unicast,
        vec![RouteAttribute::Oif(10)],
    );
    other_table.header.table = 83;
    let mut long_table = message(
        "10.8.0.0/16",
        RouteType::Unicast,
        vec![RouteAttribute::Oif(10)],
    );
    long_table.attributes.push(RouteAttribute::Table(1000));
    let elsewhere = message(
        "10.7.0.0/16",
        RouteType::Unicast,
        vec![RouteAttribute::Oif(2)],
    );
    let local = message(
        "10.1.0.1/32",
        RouteType::Local,
        vec![RouteAttribute::Oif(10)],
    );
    assert_eq!(
        fib(&[other_table, long_table, elsewhere, local])
            .routes(VrfId::GLOBAL)
            .count(),
        0
    );
}

#[test]
fn the_lowest_metric_among_our_twins_wins() {
    use RouteAttribute::{Oif, Priority};
    let worse = message(
        "0.0.0.0/0",
        RouteType::Unicast,
        vec![gateway([10, 1, 0, 2]), Oif(10), Priority(200)],
    );
    let better = message(
        "0.0.0.0/0",
        RouteType::Unicast,
        vec![gateway([10, 2, 0, 2]), Oif(11), Priority(100)],
    );
    let management = message(
        "0.0.0.0/0",
        RouteType::Unicast,
        vec![gateway([10, 3, 0, 2]), Oif(2)],
    );
    for order in [
        [&worse, &better, &management],
        [&management, &better, &worse],
    ] {
        let fib = fib(&order.map(Clone::clone));
        assert_eq!(
            fib.lookup(VrfId::GLOBAL, [1, 1, 1, 1].into()),
            Some(hop(OUTSIDE, [10, 2, 0, 2]))
        );
    }
}

#[test]
fn routes_to_nowhere_are_kept() {
    let fib = fib(&[
        message(
            "0.0.0.0/0",
            RouteType::Unicast,
            vec![gateway([10, 1, 0, 2]), RouteAttribute::Oif(10)],
        ),
        message("192.0.2.0/24", RouteType::BlackHole, vec![]),
        message("203.0.113.0/24", RouteType::Unreachable, vec![]),
    ]);
    assert_eq!(fib.lookup(VrfId::GLOBAL, [192, 0, 2, 1].into()), None);
    assert_eq!(fib.lookup(VrfId::GLOBAL, [203, 0, 113, 1].into()), None);
    assert!(fib.lookup(VrfId::GLOBAL, [203, 0, 114, 1].into()).is_some());
}

#[test]
fn of_several_paths_the_first_usable_one_of_ours_is_taken() {
    let path = |index, flags, address| {
        let mut path = RouteNextHop::default();
        path.interface_index = index;
        path.flags = flags;
        path.attributes = vec![gateway(address)];
        path
    };
    let ok = RouteNextHopFlags::empty();
    let paths = vec![
        path(2, ok, [1, 0, 0, 1]),
        path(10, RouteNextHopFlags::Dead, [2, 0, 0, 1]),
        path(11, ok, [3, 0, 0, 1]),
    ];
    let fib = fib(&[message(
        "0.0.0.0/0",
        RouteType::Unicast,
        vec![RouteAttribute::MultiPath(paths)],
    )]);
    assert_eq!(
        fib.lookup(VrfId::GLOBAL, [9, 9, 9, 9].into()),
        Some(hop(OUTSIDE, [3, 0, 0, 1]))
    );
}

#[test]
fn dead_routes_and_ipv6_routers_are_not_used() {
    let mut dead = message(
        "10.9.0.0/16",
        RouteType::Unicast,
        vec![RouteAttribute::Oif(10)],
    );
    dead.header.flags = RouteFlags::Dead;
    let six = RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap()));
    let via_six = message(
        "10.8.0.0/16",
        RouteType::Unicast,
        vec![six, RouteAttribute::Oif(10)],
    );
    assert_eq!(fib(&[dead, via_six]).routes(VrfId::GLOBAL).count(), 0);
}

fn neighbour(index: u32, state: NeighbourState, mac: Option<[u8; 6]>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = state;
    let address = NeighbourAddress::Inet([10, 1, 0, 9].into());
    message.attributes = vec![NeighbourAttribute::Destination(address)];
    let mac = mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message.attributes.extend(mac);
    message
}

#[test]
fn every_state_with_a_mac_address_is_reachable() {
    let mac = [2, 0, 0, 0, 0, 9];
    for state in [
        NeighbourState::Reachable,
        NeighbourState::Stale,
        NeighbourState::Delay,
        NeighbourState::Probe,
        NeighbourState::Permanent,
    ] {
        let heard = read_neighbour(&neighbour(10, state, Some(mac)), false).unwrap();
        assert_eq!(heard.key, (10, [10, 1, 0, 9].into()));
        let known = heard.state.unwrap();
        assert_eq!(known.neighbour, Neighbour::Reachable(mac));
        assert_eq!(known.stale, state == NeighbourState::Stale);
    }
}

#[test]
fn failed_is_told_and_incomplete_or_removed_is_absent() {
    let read = |state, removed| {
        read_neighbour(&neighbour(10, state, None), removed)
            .unwrap()
            .state
    };
    let failed = read(NeighbourState::Failed, false).unwrap();
    assert_eq!(failed.neighbour, Neighbour::Failed);
    assert_eq!(read(NeighbourState::Incomplete, false), None);
    assert_eq!(read(NeighbourState::Failed, true), None);
    // An entry without a MAC address of six octets is of no use.
    assert_eq!(read(NeighbourState::Reachable, false), None);
}

#[test]
fn neighbours_of_other_interfaces_do_not_count() {
    let known = Known {
        neighbour: Neighbour::Reachable([2, 0, 0, 0, 0, 9]),
        stale: false,
        probed: false,
    };
    let address = [10, 1, 0, 9].into();
    let neighbours = BTreeMap::from([((10, address), known), ((2, address), known)]);
    let fib = global(&[], &neighbours).fib();
    let ours: Vec<_> = fib.neighbours().collect();
    assert_eq!(ours, [(hop(INSIDE, [10, 1, 0, 9]), known.neighbour)]);
}

/// Two VRFs whose kernels say the same of the same interface numbers, beside the global table.
struct Several {
    ports: [Ports; 3],
    routes: [Vec<KernelRoute>; 3],
    neighbours: [BTreeMap<(u32, Ipv4Addr), Known>; 3],
}

const RED: VrfId = VrfId(1);
const BLUE: VrfId = VrfId(2);
const RED_PORT: PortId = PortId(2);
const BLUE_PORT: PortId = PortId(3);

impl Several {
    fn new() -> Several {
        let oif = |index| vec![RouteAttribute::Oif(index)];
        let read = |m| KernelRoute::read(&m).unwrap();
        let inside = || read(message("10.0.0.0/24", RouteType::Unicast, oif(10)));
        let outside = read(message("198.51.100.0/24", RouteType::Unicast, oif(11)));
        let mac = |last| Known {
            neighbour: Neighbour::Reachable([2, 0, 0, 0, 0, last]),
            stale: false,
            probed: false,
        };
        let host: Ipv4Addr = [10, 0, 0, 9].into();
        Several {
            ports: [
                ports(),
                Ports::from([(10, RED_PORT)]),
                Ports::from([(10, BLUE_PORT)]),
            ],
            routes: [vec![outside], vec![inside()], vec![inside()]],
            neighbours: [
                BTreeMap::new(),
                BTreeMap::from([((10, host), mac(1))]),
                BTreeMap::from([((10, host), mac(2))]),
            ],
        }
    }

    fn fib(&self, leaks: &[Leak]) -> Fib {
        let source = |at: usize| Source {
            vrf: VrfId(at as u8),
            ports: &self.ports[at],
            routes: &self.routes[at],
            neighbours: &self.neighbours[at],
        };
        Tables::build(&[source(0), source(1), source(2)], leaks).fib()
    }
}

fn leak(prefix: &str, router: Option<[u8; 4]>) -> Leak {
    Leak {
        vrf: RED,
        prefix: prefix.parse().unwrap(),
        metric: 4096,
        port: OUTSIDE,
        router: router.map(Ipv4Addr::from),
    }
}

#[test]
fn each_vrf_has_its_own_routes_and_neighbours_though_they_are_the_same() {
    let fib = Several::new().fib(&[]);
    let host = [10, 0, 0, 9];
    for (vrf, port, last) in [(RED, RED_PORT, 1), (BLUE, BLUE_PORT, 2)] {
        let (found, known) = fib.hop(vrf, host.into()).unwrap();
        assert_eq!(found, hop(port, host));
        let mac = Neighbour::Reachable([2, 0, 0, 0, 0, last]);
        assert_eq!(known.unwrap().1, mac);
        assert_eq!(fib.lookup(vrf, [198, 51, 100, 2].into()), None);
    }
    assert_eq!(fib.lookup(VrfId::GLOBAL, host.into()), None);
}

#[test]
fn a_route_of_a_vrf_may_lead_out_of_the_global_table_while_that_has_its_link() {
    let mut several = Several::new();
    let router = [198, 51, 100, 1];
    let leaks = [leak("0.0.0.0/0", Some(router)), leak("192.0.2.0/24", None)];
    let far = |fib: &Fib, vrf| fib.lookup(vrf, [8, 8, 8, 8].into());
    let fib = several.fib(&leaks);
    assert_eq!(far(&fib, RED), Some(hop(OUTSIDE, router)));
    assert_eq!((far(&fib, BLUE), far(&fib, VrfId::GLOBAL)), (None, None));
    let near = [192, 0, 2, 7];
    assert_eq!(fib.lookup(RED, near.into()), Some(hop(OUTSIDE, near)));
    // Another address of the link is no way to a router that is not on it.
    let elsewhere = several.fib(&[leak("0.0.0.0/0", Some([203, 0, 113, 1]))]);
    assert_eq!(far(&elsewhere, RED), None);
    several.routes[0].clear();
    assert_eq!(several.fib(&leaks).routes(RED).count(), 1);
}

#[test]
fn of_a_leak_and_a_route_of_the_vrf_the_lower_metric_wins() {
    let mut several = Several::new();
    let leaks = [leak("0.0.0.0/0", Some([198, 51, 100, 1]))];
    for (metric, wanted) in [
        (4095, hop(RED_PORT, [10, 0, 0, 1])),
        (4097, hop(OUTSIDE, [198, 51, 100, 1])),
    ] {
        use RouteAttribute::{Oif, Priority};
        let attributes = vec![gateway([10, 0, 0, 1]), Oif(10), Priority(metric)];
        let own = message("0.0.0.0/0", RouteType::Unicast, attributes);
        several.routes[1] = vec![KernelRoute::read(&own).unwrap()];
        let found = several.fib(&leaks).lookup(RED, [8, 8, 8, 8].into());
        assert_eq!(found, Some(wanted));
    }
}
