//! Twins as configured, reloads, and the kernel interfaces under the ports.

use crate::support::*;
use spillway_control::kernel::{KernelConfig, KernelError, LinkState, StaticRoute, StaticTarget};
use spillway_dataplane::snapshot::VrfId;

/// Inside works on the kernel interface `under`, as af_packet does.
fn on_device(name: &str) -> KernelConfig {
    let mut config = config();
    config.interfaces[0].device = af_packet(name);
    config
}

/// Waits until the last event is of this state. Others may come before: an interface that is
/// deleted goes down first.
async fn becomes(rig: &Rig, expected: LinkState) {
    eventually(&format!("{expected:?}"), || {
        let links = rig.links.lock().unwrap();
        let last = links.last()?;
        (last.port == INSIDE && last.device == "inside" && last.state == expected).then_some(())
    })
    .await;
}

#[test]
fn a_twin_is_what_the_configuration_says() {
    in_namespace(|| async {
        let mut config = config();
        config.interfaces[0].mtu = 1400;
        config.interfaces[0].description = Some("to the offices".into());
        config.interfaces[1].shutdown = true;
        let rig = Rig::start(&config).await;
        let inside = ip("-d addr show dev sw-Inside");
        for part in [
            "02:00:00:00:01:01",
            "mtu 1400",
            "alias Spillway Inside: to the offices",
            "inet 10.1.0.1/24 brd 10.1.0.255",
            "LOWER_UP",
        ] {
            assert!(inside.contains(part), "{part} in {inside}");
        }
        assert!(!ip("link show dev sw-Outside").contains(",UP"));
        let names: Vec<_> = rig
            .kernel
            .twins()
            .into_iter()
            .map(|twin| twin.name)
            .collect();
        assert_eq!(names, ["sw-Inside", "sw-Outside"]);
        rig.kernel.stop().await;
    });
}

#[test]
fn a_reload_keeps_interfaces_and_what_others_put_on_them() {
    in_namespace(|| async {
        let mut config = config();
        let mut rig = Rig::start(&config).await;
        let index = ip("link show dev sw-Inside");
        ip("addr add 10.5.0.1/24 dev sw-Inside");
        config.interfaces[0].address = Some("10.2.0.1/16".parse().unwrap());
        config.interfaces[0].mtu = 1300;
        config.interfaces[0].mac = [2, 0, 0, 0, 7, 7];
        assert!(rig.kernel.apply(&config).await.is_empty());
        let inside = ip("addr show dev sw-Inside");
        assert_eq!(
            inside.split(':').next(),
            index.split(':').next(),
            "the same interface"
        );
        for part in [
            "10.5.0.1/24",
            "10.2.0.1/16",
            "mtu 1300",
            "02:00:00:00:07:07",
        ] {
            assert!(inside.contains(part), "{part} in {inside}");
        }
        assert!(!inside.contains("10.1.0.1"), "{inside}");
        assert!(rig.lookup([10, 2, 200, 1]).is_some() && rig.lookup([10, 1, 0, 7]).is_none());

        // Addresses swap; an interface goes; one is shut down.
        config.interfaces[0].address = Some("198.51.100.1/24".parse().unwrap());
        config.interfaces[1].address = Some("10.2.0.1/16".parse().unwrap());
        assert!(rig.kernel.apply(&config).await.is_empty());
        assert_eq!(rig.lookup([10, 2, 0, 9]).unwrap().port, OUTSIDE);
        config.interfaces[1].shutdown = true;
        assert!(rig.kernel.apply(&config).await.is_empty());
        assert_eq!(rig.lookup([10, 2, 0, 9]), None);
        config.interfaces.remove(1);
        assert!(rig.kernel.apply(&config).await.is_empty());
        assert!(!ip("link show").contains("sw-Outside"));
        rig.kernel.stop().await;
    });
}

#[test]
fn a_link_takes_its_routes_along_and_brings_them_back() {
    in_namespace(|| async {
        let default = |via: [u8; 4]| StaticRoute {
            vrf: VrfId::GLOBAL,
            prefix: "0.0.0.0/0".parse().unwrap(),
            target: StaticTarget::NextHop(via.into()),
            global: false,
        };
        let mut config = config();
        config.routes = vec![default([198, 51, 100, 254]), default([10, 1, 0, 254])];
        config.interfaces[1].link = false;
        let mut rig = Rig::start(&config).await;
        ip("route add 192.0.2.0/24 via 198.51.100.7");
        let port = |rig: &Rig, to| rig.lookup(to).map(|hop| hop.port);
        let (far, of_hand, connected) = ([8, 8, 8, 8], [192, 0, 2, 9], [198, 51, 100, 9]);
        for (link, expected) in [
            (false, INSIDE),
            (true, OUTSIDE),
            (false, INSIDE),
            (true, OUTSIDE),
        ] {
            config.interfaces[1].link = link;
            assert!(rig.kernel.apply(&config).await.is_empty());
            let shown = ip("link show dev sw-Outside");
            assert_eq!(shown.contains("NO-CARRIER"), !link, "{shown}");
            for to in [far, of_hand, connected] {
                eventually(&format!("{to:?} by {expected:?}, link {link}"), || {
                    (port(&rig, to) == Some(expected)).then_some(())
                })
                .await;
            }
            // What others put there stays, as on any interface without a cable.
            let hand = ip("route show 192.0.2.0/24");
            assert!(hand.contains("via 198.51.100.7 dev sw-Outside"), "{hand}");
            let ours = ip("route show default proto 83");
            assert_eq!(ours.contains("198.51.100.254"), link, "{ours}");
            // The kernel marks its routes some time after the carrier has gone.
            eventually("the kernel marks its routes", || {
                let all = ip("route show table all dev sw-Outside");
                (all.contains("linkdown") != link).then_some(())
            })
            .await;
        }
        // Also where the kernel has marked our own route before we come to it.
        ip("link set sw-Outside carrier off");
        eventually("the kernel marks our route", || {
            let ours = ip("route show default proto 83");
            ours.contains("linkdown").then_some(())
        })
        .await;
        config.interfaces[1].link = false;
        assert!(rig.kernel.apply(&config).await.is_empty());
        let ours = ip("route show default proto 83");
        assert!(!ours.contains("198.51.100.254"), "{ours}");
        config.interfaces[1].link = true;
        assert!(rig.kernel.apply(&config).await.is_empty());
        rig.kernel.stop().await;
    });
}

#[test]
fn an_interface_that_is_another_one_is_announced_before_it_has_a_link() {
    in_namespace(|| async {
        ip("link add inside type veth peer name host");
        let mut config = on_device("inside");
        config.interfaces[0].link = false;
        let mut rig = Rig::start(&config).await;
        let shown = ip("link show dev sw-Inside");
        assert!(shown.contains("LOWER_UP"), "{shown}");
        // It came back, and its neighbours know the old address.
        for last in [7, 8] {
            let mac = [2, 0, 0, 0, 7, last];
            config.interfaces[0].mac = mac;
            assert!(rig.kernel.apply(&config).await.is_empty());
            rig.injected("an announcement", |port, frame| {
                let is_announced = is_arp(frame, 1, [10, 1, 0, 1], [10, 1, 0, 1]);
                port == INSIDE && is_announced && frame[6..12] == mac
            })
            .await;
        }
        rig.kernel.stop().await;
    });
}

#[test]
fn a_twin_that_was_deleted_is_made_anew_at_the_next_reload() {
    in_namespace(|| async {
        let config = config();
        let mut rig = Rig::start(&config).await;
        ip("link del sw-Inside");
        eventually("its routes go", || {
            rig.lookup([10, 1, 0, 7]).is_none().then_some(())
        })
        .await;
        assert!(rig.kernel.apply(&config).await.is_empty());
        assert!(rig.lookup([10, 1, 0, 7]).is_some());
        rig.punt(
            INSIDE,
            &arp_request((HOST_MAC, [10, 1, 0, 9]), [10, 1, 0, 1]),
        );
        rig.injected("an ARP reply", |_, frame| {
            is_arp(frame, 2, [10, 1, 0, 1], [10, 1, 0, 9])
        })
        .await;
        rig.kernel.stop().await;
    });
}

#[test]
fn a_second_process_is_told_who_is_in_its_way() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        let Err(problems) = Rig::try_start(&config(), VecPool(1), 1).await else {
            panic!("two of them run")
        };
        let text = problems
            .iter()
            .map(KernelError::to_string)
            .collect::<String>();
        assert!(
            text.contains("sw-Inside") && text.contains("second Spillway"),
            "{text}"
        );
        // The first one is none the worse for it.
        assert!(ip("link show").contains("sw-Inside"));
        rig.kernel.stop().await;
    });
}

#[test]
fn what_the_kernel_would_receive_twice_is_dropped_until_the_end() {
    in_namespace(|| async {
        ip("link add inside type veth peer name host");
        for name in ["inside", "host"] {
            ip(&format!("link set {name} up"));
        }
        // A leftover of a killed process.
        run("nft", "add table netdev spillway_inside");
        let rig = Rig::start(&on_device("inside")).await;
        becomes(&rig, LinkState::Up).await;
        let rules = run("nft", "list ruleset");
        assert!(
            rules.contains("device \"inside\"") && rules.contains("drop"),
            "{rules}"
        );

        // What comes from the far end of the link does not reach the kernel.
        send_frame("host");
        eventually("the frame is dropped", || {
            let rules = run("nft", "list ruleset");
            (!rules.contains("packets 0 ")).then_some(())
        })
        .await;
        rig.kernel.stop().await;
        assert_eq!(run("nft", "list ruleset"), "");
    });
}

/// Has the kernel send a frame out of `device`.
fn send_frame(device: &str) {
    ip(&format!("addr add 10.77.0.1/24 dev {device}"));
    ip(&format!(
        "neigh add 10.77.0.2 dev {device} lladdr ff:ff:ff:ff:ff:ff nud permanent"
    ));
    let socket = std::net::UdpSocket::bind("10.77.0.1:0").unwrap();
    socket.send_to(b"x", "10.77.0.2:9").unwrap();
}

#[test]
fn the_interface_under_a_port_may_go_and_come_back() {
    in_namespace(|| async {
        use LinkState::{Absent, Down, Up};
        let rig = Rig::start(&on_device("inside")).await;
        becomes(&rig, Absent).await;
        ip("link add inside type veth peer name host");
        becomes(&rig, Down).await;
        ip("link set host up");
        ip("link set inside up");
        becomes(&rig, Up).await;
        assert!(run("nft", "list ruleset").contains("device \"inside\""));
        ip("link del inside");
        becomes(&rig, Absent).await;
        ip("link add inside type veth peer name host");
        becomes(&rig, Down).await;
        let rules = run("nft", "list ruleset");
        assert!(rules.contains("device \"inside\""), "{rules}");
        rig.kernel.stop().await;
        assert_eq!(run("nft", "list ruleset"), "");
    });
}

#[test]
fn a_reload_that_moves_a_port_away_lets_the_kernel_have_the_interface_back() {
    in_namespace(|| async {
        ip("link add inside type veth peer name host");
        let mut rig = Rig::start(&on_device("inside")).await;
        assert!(run("nft", "list ruleset").contains("inside"));
        assert!(rig.kernel.apply(&config()).await.is_empty());
        assert_eq!(run("nft", "list ruleset"), "");
        rig.kernel.stop().await;
    });
}

#[test]
fn starting_twice_on_the_same_port_number_is_refused() {
    in_namespace(|| async {
        let mut config = config();
        config.interfaces[1].port = INSIDE;
        let Err(problems) = Rig::try_start(&config, VecPool(1), 1).await else {
            panic!("two twins of one port")
        };
        assert!(
            matches!(problems[..], [KernelError::Port(0)]),
            "{problems:?}"
        );
        assert!(!ip("link show").contains("sw-"), "nothing stays behind");
    });
}
