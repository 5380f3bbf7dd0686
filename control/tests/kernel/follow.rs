//! Routes and neighbours of a real kernel become forwarding tables.

use crate::support::*;
use spillway_dataplane::fib::{Neighbour, NextHop};
use spillway_dataplane::snapshot::PortId;

fn hop(port: PortId, address: [u8; 4]) -> NextHop {
    NextHop {
        port,
        address: address.into(),
    }
}

#[test]
fn connected_routes_are_there_from_the_start() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        assert_eq!(rig.lookup([10, 1, 0, 7]), Some(hop(INSIDE, [10, 1, 0, 7])));
        assert_eq!(
            rig.lookup([198, 51, 100, 7]),
            Some(hop(OUTSIDE, [198, 51, 100, 7]))
        );
        let routes: Vec<_> = rig.routes().into_iter().map(|(prefix, _)| prefix).collect();
        assert_eq!(
            routes,
            ["10.1.0.0/24", "198.51.100.0/24"],
            "our addresses are no routes"
        );
        rig.kernel.stop().await;
    });
}

#[test]
fn routes_come_and_go_with_the_kernel() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        ip("route add 203.0.113.0/24 via 198.51.100.254");
        eventually("the route appears", || {
            (rig.lookup([203, 0, 113, 5]) == Some(hop(OUTSIDE, [198, 51, 100, 254]))).then_some(())
        })
        .await;
        ip("route replace 203.0.113.0/24 dev sw-Inside");
        eventually("the route moves", || {
            (rig.lookup([203, 0, 113, 5]) == Some(hop(INSIDE, [203, 0, 113, 5]))).then_some(())
        })
        .await;
        ip("route add blackhole 203.0.113.128/25");
        eventually("a part of it leads nowhere", || {
            rig.lookup([203, 0, 113, 200]).is_none().then_some(())
        })
        .await;
        ip("route del 203.0.113.0/24");
        eventually("the route goes", || {
            rig.lookup([203, 0, 113, 5]).is_none().then_some(())
        })
        .await;
        rig.kernel.stop().await;
    });
}

#[test]
fn routes_vanish_with_their_link_though_the_kernel_does_not_say_so() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        ip("route add 203.0.113.0/24 via 198.51.100.254");
        eventually("the route appears", || rig.lookup([203, 0, 113, 5])).await;
        ip("link set sw-Outside down");
        eventually("all its routes go", || {
            (rig.routes().len() == 1 && rig.lookup([10, 1, 0, 7]).is_some()).then_some(())
        })
        .await;
        rig.kernel.stop().await;
    });
}

#[test]
fn routes_that_were_there_before_are_found() {
    in_namespace(|| async {
        let mut config = config();
        let mut rig = Rig::start(&config).await;
        ip("route add 203.0.113.0/24 via 198.51.100.254");
        config.interfaces[0].description = Some("a reload that changes little".into());
        assert!(rig.kernel.apply(&config).await.is_empty());
        assert!(rig.lookup([203, 0, 113, 5]).is_some());
        rig.kernel.stop().await;
    });
}

#[test]
fn an_unchanged_table_is_not_published_again() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        let before = rig.count("fib_published");
        // Another table and another interface: nothing of ours.
        ip("route add 203.0.113.0/24 dev sw-Inside table 99");
        ip("route add 192.0.2.0/24 dev lo");
        ip("route add 203.0.113.0/24 dev sw-Inside");
        eventually("the route appears", || rig.lookup([203, 0, 113, 5])).await;
        assert!(rig.lookup([192, 0, 2, 1]).is_none());
        assert_eq!(rig.count("fib_published"), before + 1);
        let events = rig.count("netlink_events");
        ip("route del 203.0.113.0/24 table 99");
        eventually("it is heard of", || {
            (rig.count("netlink_events") > events).then_some(())
        })
        .await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert_eq!(rig.count("fib_published"), before + 1);
        rig.kernel.stop().await;
    });
}

#[test]
fn after_lost_messages_everything_is_read_anew() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        let resyncs = rig.count("resyncs");
        let lines: String = (0..20_000u32)
            .map(|n| {
                format!(
                    "route add 172.{}.{}.0/24 dev sw-Inside\n",
                    16 + n / 250 % 16,
                    n % 250
                )
            })
            .collect();
        let file = std::env::temp_dir().join(format!("spillway-routes-{}", std::process::id()));
        std::fs::write(&file, lines).unwrap();
        // This thread is the runtime: nothing is read from the socket meanwhile.
        ip("route add 100.64.0.0/24 dev sw-Outside");
        let output = std::process::Command::new("ip")
            .args(["-force", "-batch", file.to_str().unwrap()])
            .output()
            .unwrap();
        drop(output); // Repeated prefixes are refused; that is expected.
        ip("route add 100.64.1.0/24 dev sw-Outside");
        std::fs::remove_file(&file).unwrap();
        eventually("the last route appears", || rig.lookup([100, 64, 1, 1])).await;
        eventually("all of them appear", || {
            (rig.routes().len() == 2 + 2 + 16 * 250).then_some(())
        })
        .await;
        assert!(
            rig.count("resyncs") > resyncs,
            "the socket's buffer was too large to overflow"
        );
        rig.kernel.stop().await;
    });
}

#[test]
fn a_neighbour_is_resolved_on_request() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        rig.resolve.push(hop(INSIDE, [10, 1, 0, 9])).unwrap();
        rig.resolve.push(hop(INSIDE, [10, 1, 0, 9])).unwrap();
        let asked = rig
            .injected("an ARP request", |port, frame| {
                port == INSIDE && is_arp(frame, 1, [10, 1, 0, 1], [10, 1, 0, 9])
            })
            .await;
        assert_eq!(asked[..6], [0xff; 6]);
        assert_eq!(rig.neighbour(INSIDE, [10, 1, 0, 9]), None);
        let ours = (INSIDE_MAC, [10, 1, 0, 1]);
        rig.punt(INSIDE, &arp(INSIDE_MAC, 2, (HOST_MAC, [10, 1, 0, 9]), ours));
        eventually("the MAC address is known", || {
            (rig.neighbour(INSIDE, [10, 1, 0, 9]) == Some(Neighbour::Reachable(HOST_MAC)))
                .then_some(())
        })
        .await;
        assert_eq!(rig.count("resolve_asked"), 1);
        assert_eq!(rig.count("resolve_repeated"), 1);
        rig.kernel.stop().await;
    });
}

#[test]
fn a_silent_neighbour_fails_and_is_asked_for_again() {
    in_namespace(|| async {
        let mut rig = Rig::start(&config()).await;
        // Soon given up, so that the test is short.
        std::fs::write("/proc/sys/net/ipv4/neigh/sw-Inside/retrans_time_ms", "300").unwrap();
        let silent = hop(INSIDE, [10, 1, 0, 66]);
        rig.resolve.push(silent).unwrap();
        eventually("it has failed", || {
            (rig.neighbour(INSIDE, [10, 1, 0, 66]) == Some(Neighbour::Failed)).then_some(())
        })
        .await;
        while rig.inject.pop().is_some() {}
        // It comes to life; the next packet for it asks again.
        let asked = eventually("it is asked again", || {
            let _ = rig.resolve.push(silent);
            rig.inject.pop()
        })
        .await;
        let frame = spillway_dataplane::packet::Packet::data(&asked.1).to_vec();
        assert!(
            is_arp(&frame, 1, [10, 1, 0, 1], [10, 1, 0, 66]),
            "{frame:?}"
        );
        assert_eq!(
            rig.neighbour(INSIDE, [10, 1, 0, 66]),
            Some(Neighbour::Failed)
        );
        // Also when everything is read anew meanwhile.
        assert!(rig.kernel.apply(&config()).await.is_empty());
        assert_eq!(
            rig.neighbour(INSIDE, [10, 1, 0, 66]),
            Some(Neighbour::Failed)
        );
        let ours = (INSIDE_MAC, [10, 1, 0, 1]);
        rig.punt(
            INSIDE,
            &arp(INSIDE_MAC, 2, (HOST_MAC, [10, 1, 0, 66]), ours),
        );
        eventually("it is reachable", || {
            (rig.neighbour(INSIDE, [10, 1, 0, 66]) == Some(Neighbour::Reachable(HOST_MAC)))
                .then_some(())
        })
        .await;
        rig.kernel.stop().await;
    });
}

#[test]
fn a_stale_neighbour_is_checked_and_a_dead_one_fails() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        for (key, value) in [("retrans_time_ms", "50"), ("delay_first_probe_time", "1")] {
            let path = format!("/proc/sys/net/ipv4/neigh/sw-Inside/{key}");
            std::fs::write(path, value).unwrap();
        }
        ip("neigh add 10.1.0.9 lladdr 02:00:00:00:09:09 nud stale dev sw-Inside");
        eventually("it is known", || rig.neighbour(INSIDE, [10, 1, 0, 9])).await;
        rig.injected("a question to its MAC address", |_, frame| {
            frame[..6] == HOST_MAC && is_arp(frame, 1, [10, 1, 0, 1], [10, 1, 0, 9])
        })
        .await;
        eventually("it has failed", || {
            (rig.neighbour(INSIDE, [10, 1, 0, 9]) == Some(Neighbour::Failed)).then_some(())
        })
        .await;
        rig.kernel.stop().await;
    });
}
