//! VRFs in a real kernel: the same addresses twice, routes of each, moves, and what is left.

use crate::support::*;
use spillway_control::kernel::{
    KernelConfig, KernelError, StaticRoute, StaticTarget, TwinConfig, VrfConfig,
};
use spillway_dataplane::fib::{Neighbour, NextHop};
use spillway_dataplane::snapshot::{PortId, VrfId};

const RED: VrfId = VrfId(1);
const BLUE: VrfId = VrfId(2);
const RED_PORT: PortId = PortId(2);
const BLUE_PORT: PortId = PortId(3);
const RED_MAC: [u8; 6] = [2, 0, 0, 0, 3, 1];
const BLUE_MAC: [u8; 6] = [2, 0, 0, 0, 4, 1];
/// Our address in both VRFs, and that of a host in each.
const OURS: [u8; 4] = [10, 0, 0, 1];
const HOST: [u8; 4] = [10, 0, 0, 11];
const FAR: [u8; 4] = [8, 8, 8, 8];
const ROUTER: [u8; 4] = [198, 51, 100, 254];

fn vrf(id: VrfId, name: &str) -> VrfConfig {
    let name = name.to_owned();
    VrfConfig { id, name }
}

fn customer(vrf: VrfId, port: PortId, name: &str, mac: [u8; 6]) -> TwinConfig {
    TwinConfig {
        vrf,
        ..interface(port, name, mac, "10.0.0.1/24")
    }
}

fn route(vrf: VrfId, prefix: &str, via: [u8; 4], global: bool) -> StaticRoute {
    StaticRoute {
        vrf,
        prefix: prefix.parse().unwrap(),
        target: StaticTarget::NextHop(via.into()),
        global,
    }
}

/// Two customers with one and the same network, beside the global table.
fn customers() -> KernelConfig {
    let mut config = config();
    config.vrfs = vec![vrf(RED, "RED"), vrf(BLUE, "BLUE")];
    config.interfaces.extend([
        customer(RED, RED_PORT, "Red", RED_MAC),
        customer(BLUE, BLUE_PORT, "Blue", BLUE_MAC),
    ]);
    config.routes = vec![
        route(RED, "0.0.0.0/0", ROUTER, true),
        route(BLUE, "10.9.0.0/16", HOST, false),
    ];
    config
}

fn hop(port: PortId, address: [u8; 4]) -> Option<NextHop> {
    let address = address.into();
    Some(NextHop { port, address })
}

/// The echo reply to a ping from the host of a VRF, which must come out of its port alone.
async fn pings(rig: &Rig, port: PortId, mac: [u8; 6]) {
    rig.punt(port, &ping(mac, HOST, OURS));
    let asked = rig.injected("an ARP request or an echo reply", |_, frame| {
        is_arp(frame, 1, OURS, HOST) || is_echo_reply(frame, OURS, HOST)
    });
    let frame = asked.await;
    if is_arp(&frame, 1, OURS, HOST) {
        assert_eq!(frame[6..12], mac, "the twin of the VRF asks");
        rig.punt(port, &arp(mac, 2, (HOST_MAC, HOST), (mac, OURS)));
        let reply = rig.injected("an echo reply", |_, frame| is_echo_reply(frame, OURS, HOST));
        assert_eq!(reply.await[6..12], mac);
    } else {
        assert_eq!(frame[6..12], mac);
    }
}

#[test]
fn each_vrf_has_its_own_kernel_and_no_address_is_told_from_another() {
    in_namespace(|| async {
        let rig = Rig::start(&customers()).await;
        assert_eq!(rig.lookup_in(RED, HOST), hop(RED_PORT, HOST));
        assert_eq!(rig.lookup_in(BLUE, HOST), hop(BLUE_PORT, HOST));
        assert_eq!(
            rig.lookup(HOST),
            None,
            "customers are not in the global table"
        );
        assert_eq!(rig.lookup_in(BLUE, [10, 1, 0, 9]), None);
        let here = ip("link show");
        assert!(here.contains("sw-Inside") && !here.contains("sw-Red"));
        assert!(rig.ip_in(RED, "link show").contains("sw-Red"));
        for (port, mac) in [(RED_PORT, RED_MAC), (BLUE_PORT, BLUE_MAC)] {
            rig.punt(port, &arp_request((HOST_MAC, HOST), OURS));
            let told = rig.injected("an ARP reply", |at, frame| {
                at == port && is_arp(frame, 2, OURS, HOST)
            });
            assert_eq!(told.await[6..12], mac);
            pings(&rig, port, mac).await;
        }
        rig.kernel.stop().await;
    });
}

#[test]
fn a_customer_may_have_the_address_that_is_ours_in_another_vrf() {
    in_namespace(|| async {
        let mut config = customers();
        config.interfaces[3].address = Some("10.0.0.254/24".parse().unwrap());
        let rig = Rig::start(&config).await;
        let blue = [10, 0, 0, 254];
        // As a sender it is no martian, and as a host it is asked for.
        rig.punt(BLUE_PORT, &ping(BLUE_MAC, OURS, blue));
        rig.injected("an ARP request for that host", |port, frame| {
            port == BLUE_PORT && is_arp(frame, 1, blue, OURS)
        })
        .await;
        rig.punt(
            BLUE_PORT,
            &arp(BLUE_MAC, 2, (HOST_MAC, OURS), (BLUE_MAC, blue)),
        );
        rig.injected("an echo reply", |port, frame| {
            port == BLUE_PORT && is_echo_reply(frame, blue, OURS)
        })
        .await;
        rig.kernel.stop().await;
    });
}

#[test]
fn neighbours_of_equal_address_are_told_apart() {
    in_namespace(|| async {
        let rig = Rig::start(&customers()).await;
        for (port, mac, last) in [(RED_PORT, RED_MAC, 1), (BLUE_PORT, BLUE_MAC, 2)] {
            rig.resolve.push(hop(port, HOST).unwrap()).unwrap();
            let ours = move |at, frame: &[u8]| at == port && is_arp(frame, 1, OURS, HOST);
            rig.injected("an ARP request in the VRF", ours).await;
            let host = ([2, 0, 0, 0, 9, last], HOST);
            rig.punt(port, &arp(mac, 2, host, (mac, OURS)));
        }
        for (port, last) in [(RED_PORT, 1), (BLUE_PORT, 2)] {
            let wanted = Some(Neighbour::Reachable([2, 0, 0, 0, 9, last]));
            let known = || (rig.neighbour(port, HOST) == wanted).then_some(());
            eventually("the neighbour's own MAC address", known).await;
        }
        rig.kernel.stop().await;
    });
}

#[test]
fn static_routes_lead_where_their_vrf_or_the_global_table_says() {
    in_namespace(|| async {
        let mut config = customers();
        let mut rig = Rig::start(&config).await;
        assert_eq!(rig.lookup_in(RED, FAR), hop(OUTSIDE, ROUTER));
        assert_eq!(rig.lookup_in(BLUE, [10, 9, 1, 1]), hop(BLUE_PORT, HOST));
        assert_eq!((rig.lookup_in(BLUE, FAR), rig.lookup(FAR)), (None, None));
        let kernel = rig.ip_in(BLUE, "route show proto 83");
        assert!(kernel.contains("10.9.0.0/16 via 10.0.0.11 dev sw-Blue metric 4096"));
        assert_eq!(ip("route show proto 83"), "", "not in the global table");

        // A route that a daemon learns in a VRF is followed there.
        rig.ip_in(RED, "route add 10.8.0.0/16 via 10.0.0.11");
        let learned = || rig.lookup_in(RED, [10, 8, 1, 1]) == hop(RED_PORT, HOST);
        eventually("a learned route", || learned().then_some(())).await;
        assert_eq!(rig.lookup_in(BLUE, [10, 8, 1, 1]), None);

        // The way out goes and comes with the global interface.
        ip("link set sw-Outside down");
        let lost = || rig.lookup_in(RED, FAR).is_none().then_some(());
        eventually("the route out goes with its link", lost).await;
        ip("link set sw-Outside up");
        eventually("it comes back", || rig.lookup_in(RED, FAR)).await;

        config.routes[0] = route(RED, "0.0.0.0/0", ROUTER, false);
        let problems = rig.kernel.apply(&config).await;
        assert!(
            matches!(problems[..], [KernelError::NextHop(_)]),
            "{problems:?}"
        );
        assert_eq!(rig.lookup_in(RED, FAR), None, "no such router in the VRF");
        rig.kernel.stop().await;
    });
}

#[test]
fn an_interface_moves_to_another_vrf_and_back() {
    in_namespace(|| async {
        let mut config = customers();
        let mut rig = Rig::start(&config).await;
        pings(&rig, RED_PORT, RED_MAC).await;
        config.interfaces.remove(3);
        for to in [BLUE, VrfId::GLOBAL, RED] {
            config.interfaces[2].vrf = to;
            let problems = rig.kernel.apply(&config).await;
            let told = |p: &KernelError| matches!(p, KernelError::NextHop(_));
            // Only in BLUE there is the next hop of its route.
            assert!(problems.iter().all(told) && problems.is_empty() == (to == BLUE));
            for vrf in [RED, BLUE, VrfId::GLOBAL] {
                let wanted = match vrf {
                    vrf if vrf == to => hop(RED_PORT, HOST),
                    // What is left is the way out.
                    RED => hop(OUTSIDE, ROUTER),
                    _ => None,
                };
                assert_eq!(
                    rig.lookup_in(vrf, HOST),
                    wanted,
                    "{vrf:?} when it is in {to:?}"
                );
            }
            assert_eq!(rig.neighbour(RED_PORT, HOST), None, "it is another network");
            assert!(
                rig.ip_in(to, "addr show sw-Red")
                    .contains("inet 10.0.0.1/24")
            );
            pings(&rig, RED_PORT, RED_MAC).await;
        }
        assert!(!ip("link show").contains("sw-Red"));
        rig.kernel.stop().await;
    });
}

#[test]
fn a_vrf_that_is_removed_takes_its_namespace_with_it_and_another_may_have_its_number() {
    in_namespace(|| async {
        let mut config = customers();
        let mut rig = Rig::start(&config).await;
        let red = rig.kernel.spaces().of(RED).unwrap();
        config.vrfs.remove(0);
        config.interfaces.remove(2);
        config.routes.remove(0);
        assert!(rig.kernel.apply(&config).await.is_empty());
        assert!(rig.kernel.spaces().of(RED).is_none());
        assert_eq!(
            (rig.lookup_in(RED, HOST), rig.lookup_in(RED, FAR)),
            (None, None)
        );
        let left = red.enter(|| ip("link show")).unwrap();
        assert!(!left.contains("sw-Red"), "{left}");
        pings(&rig, BLUE_PORT, BLUE_MAC).await;

        config.vrfs.push(vrf(RED, "GREEN"));
        config
            .interfaces
            .push(customer(RED, RED_PORT, "Green", RED_MAC));
        assert!(rig.kernel.apply(&config).await.is_empty());
        assert!(rig.kernel.spaces().of(RED).unwrap() != red);
        pings(&rig, RED_PORT, RED_MAC).await;
        rig.kernel.stop().await;
    });
}

#[test]
fn nothing_is_left_at_the_end() {
    in_namespace(|| async {
        let rig = Rig::start(&customers()).await;
        let spaces = rig.kernel.spaces();
        let red = spaces.of(RED).unwrap();
        rig.kernel.stop().await;
        drop(spaces);
        // The test itself holds the namespace.
        let left = red.enter(|| ip("link show")).unwrap();
        assert!(!left.contains("sw-"), "{left}");
        assert!(!red.enter(|| ip("rule show")).unwrap().contains("lookup 83"));
        assert!(!ip("link show").contains("sw-"));
    });
}

#[test]
fn a_twin_that_somebody_deletes_in_a_vrf_comes_back_with_a_reload() {
    in_namespace(|| async {
        let config = customers();
        let mut rig = Rig::start(&config).await;
        rig.ip_in(RED, "link del sw-Red");
        // What is left is the way out.
        let gone = || (rig.lookup_in(RED, HOST) == hop(OUTSIDE, ROUTER)).then_some(());
        eventually("its route goes", gone).await;
        assert!(rig.kernel.apply(&config).await.is_empty());
        assert_eq!(rig.lookup_in(RED, HOST), hop(RED_PORT, HOST));
        pings(&rig, RED_PORT, RED_MAC).await;
        rig.kernel.stop().await;
    });
}
