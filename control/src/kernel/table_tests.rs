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
    let routes: Vec<_> = messages.iter().filter_map(KernelRoute::read).collect();
    Tables::build(&routes, &BTreeMap::new(), &ports()).fib()
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
    let fib = Tables::build(&[], &neighbours, &ports()).fib();
    let ours: Vec<_> = fib.neighbours().collect();
    assert_eq!(ours, [(hop(INSIDE, [10, 1, 0, 9]), known.neighbour)]);
}
