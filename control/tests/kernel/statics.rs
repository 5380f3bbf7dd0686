//! Static routes of the configuration in a real kernel.

use crate::support::*;
use spillway_control::kernel::{KernelConfig, KernelError, StaticRoute, StaticTarget};
use spillway_dataplane::fib::Route;
use spillway_dataplane::snapshot::VrfId;

fn route(prefix: &str, target: StaticTarget) -> StaticRoute {
    StaticRoute {
        vrf: VrfId::GLOBAL,
        prefix: prefix.parse().unwrap(),
        target,
        global: false,
    }
}

fn via(address: &str) -> StaticTarget {
    StaticTarget::NextHop(octets(address).into())
}

/// A default route, one out of an interface, one to nowhere.
fn with_routes() -> KernelConfig {
    KernelConfig {
        routes: vec![
            route("0.0.0.0/0", via("198.51.100.254")),
            route("10.9.0.0/16", StaticTarget::Port(INSIDE)),
            route("192.0.2.0/24", StaticTarget::Null),
        ],
        ..config()
    }
}

#[test]
fn static_routes_are_in_the_kernel_and_in_the_table_and_go_at_the_end() {
    in_namespace(|| async {
        let rig = Rig::start(&with_routes()).await;
        let kernel = ip("route show proto 83");
        for line in [
            "default via 198.51.100.254 dev sw-Outside metric 4096",
            "10.9.0.0/16 dev sw-Inside scope link metric 4096",
            "unreachable 192.0.2.0/24 metric 4096",
        ] {
            assert!(kernel.contains(line), "{line} in {kernel}");
        }
        let far = rig.lookup([8, 8, 8, 8]).unwrap();
        assert_eq!(
            (far.port, far.address.octets()),
            (OUTSIDE, [198, 51, 100, 254])
        );
        assert_eq!(rig.lookup([10, 9, 1, 1]).unwrap().port, INSIDE);
        assert!(
            rig.routes()
                .contains(&("192.0.2.0/24".into(), Route::Unreachable))
        );
        rig.kernel.stop().await;
        assert_eq!(ip("route show table all proto 83"), "");
        assert!(!ip("rule show").contains("lookup 83"));
        assert!(!ip("link show").contains("sw-"));
    });
}

#[test]
fn a_reload_changes_only_what_differs() {
    in_namespace(|| async {
        let mut config = with_routes();
        let mut rig = Rig::start(&config).await;
        config.routes.remove(2);
        config.routes[0] = route("0.0.0.0/0", via("198.51.100.253"));
        config.routes.push(route("10.8.0.0/16", via("10.1.0.9")));
        assert!(rig.kernel.apply(&config).await.is_empty());
        assert_eq!(
            rig.lookup([8, 8, 8, 8]).unwrap().address.octets(),
            [198, 51, 100, 253]
        );
        assert_eq!(
            rig.lookup([10, 8, 1, 1]).unwrap().address.octets(),
            [10, 1, 0, 9]
        );
        assert!(!ip("route show").contains("192.0.2.0/24"));
        rig.kernel.stop().await;
    });
}

#[test]
fn the_default_route_of_the_host_stays_and_our_answers_leave_through_the_twin() {
    in_namespace(|| async {
        ip("link add manage type veth peer name far");
        ip("addr add 172.31.0.2/24 dev manage");
        ip("link set manage up");
        ip("link set far up");
        ip("route add default via 172.31.0.1");
        // As strict as a host may be.
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
        let rig = Rig::start(&with_routes()).await;
        assert!(ip("route get 8.8.8.8").contains("dev manage"));
        assert!(ip("route get 8.8.8.8 from 198.51.100.1").contains("dev sw-Outside"));
        assert!(ip("route get 10.1.0.9 from 198.51.100.1").contains("dev sw-Inside"));
        assert_eq!(rig.lookup([8, 8, 8, 8]).unwrap().port, OUTSIDE);

        // A ping from far away, not from the link.
        rig.punt(OUTSIDE, &ping(OUTSIDE_MAC, [8, 8, 8, 8], [198, 51, 100, 1]));
        rig.injected("an ARP request for the router", |port, frame| {
            port == OUTSIDE && is_arp(frame, 1, [198, 51, 100, 1], [198, 51, 100, 254])
        })
        .await;
        let router = (HOST_MAC, [198, 51, 100, 254]);
        rig.punt(
            OUTSIDE,
            &arp(OUTSIDE_MAC, 2, router, (OUTSIDE_MAC, [198, 51, 100, 1])),
        );
        rig.injected("an echo reply", |port, frame| {
            port == OUTSIDE && is_echo_reply(frame, [198, 51, 100, 1], [8, 8, 8, 8])
        })
        .await;
        rig.kernel.stop().await;
    });
}

#[test]
fn leftovers_of_a_killed_process_are_removed() {
    in_namespace(|| async {
        // Routes out of a TAP go with it; these stay behind.
        ip("route add unreachable 192.0.2.0/24 metric 4096 proto 83");
        ip("rule add from 203.0.113.1 lookup 83 priority 8301 protocol 83");
        ip("route add 192.0.3.0/24 dev lo proto static");
        let rig = Rig::start(&config()).await;
        assert_eq!(ip("route show proto 83"), "");
        assert!(!ip("rule show").contains("203.0.113.1"));
        assert!(ip("route show proto static").contains("192.0.3.0/24"));
        rig.kernel.stop().await;
    });
}

#[test]
fn static_routes_come_back_with_their_link() {
    in_namespace(|| async {
        let rig = Rig::start(&with_routes()).await;
        ip("link set sw-Outside down");
        eventually("the default route goes", || {
            rig.lookup([8, 8, 8, 8]).is_none().then_some(())
        })
        .await;
        ip("link set sw-Outside up");
        eventually("the default route comes back", || rig.lookup([8, 8, 8, 8])).await;
        rig.kernel.stop().await;
    });
}

#[test]
fn a_next_hop_on_no_link_is_told_and_the_rest_works() {
    in_namespace(|| async {
        let mut config = with_routes();
        config.routes.push(route("10.7.0.0/16", via("172.16.0.1")));
        let started = Rig::try_start(&config, VecPool(100), 16).await;
        let Ok((rig, later)) = started else {
            panic!("did not start")
        };
        assert!(matches!(later[..], [KernelError::NextHop(_)]), "{later:?}");
        assert!(rig.lookup([8, 8, 8, 8]).is_some());
        rig.kernel.stop().await;
    });
}

#[test]
fn a_second_process_that_can_not_start_leaves_the_first_one_alone() {
    in_namespace(|| async {
        let rig = Rig::start(&with_routes()).await;
        let before = (ip("route show table all proto 83"), ip("rule show"));
        assert!(Rig::try_start(&config(), VecPool(1), 1).await.is_err());
        assert_eq!(
            (ip("route show table all proto 83"), ip("rule show")),
            before
        );
        rig.kernel.stop().await;
    });
}

#[test]
fn a_ping_may_come_in_on_another_link_than_its_answer_leaves_by() {
    in_namespace(|| async {
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
        let rig = Rig::start(&config()).await;
        ip("neigh add 10.1.0.9 lladdr 02:00:00:00:09:09 dev sw-Inside");
        rig.punt(
            OUTSIDE,
            &ping(OUTSIDE_MAC, [10, 1, 0, 9], [198, 51, 100, 1]),
        );
        rig.injected("an echo reply", |port, frame| {
            port == INSIDE && is_echo_reply(frame, [198, 51, 100, 1], [10, 1, 0, 9])
        })
        .await;
        rig.kernel.stop().await;
    });
}
