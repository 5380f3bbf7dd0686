//! The kernel answers ARP and ping through the queues, as a worker would use them.

use crate::support::*;

#[test]
fn the_kernel_answers_arp_for_our_address() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        let host = (HOST_MAC, [10, 1, 0, 9]);
        rig.punt(INSIDE, &arp_request(host, [10, 1, 0, 1]));
        let reply = rig
            .injected("an ARP reply", |port, frame| {
                port == INSIDE && is_arp(frame, 2, [10, 1, 0, 1], [10, 1, 0, 9])
            })
            .await;
        assert_eq!(reply[..6], HOST_MAC);
        assert_eq!(
            reply[22..28],
            INSIDE_MAC,
            "the twin has the port's MAC address"
        );
        rig.kernel.stop().await;
    });
}

#[test]
fn the_kernel_does_not_answer_arp_for_the_address_of_another_interface() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        let host = (HOST_MAC, [10, 1, 0, 9]);
        rig.punt(INSIDE, &arp_request(host, [198, 51, 100, 1]));
        rig.punt(INSIDE, &arp_request(host, [10, 1, 0, 1]));
        let first = rig
            .injected("an ARP reply", |_, frame| {
                frame[12..14] == [8, 6] && frame[21] == 2
            })
            .await;
        assert!(is_arp(&first, 2, [10, 1, 0, 1], [10, 1, 0, 9]));
        rig.kernel.stop().await;
    });
}

#[test]
fn arp_for_nat_global_addresses_is_answered() {
    in_namespace(|| async {
        let mut config = config();
        config.interfaces[1].aliases = vec!["198.51.100.8/29".parse().unwrap()];
        let rig = Rig::start(&config).await;
        let host = (HOST_MAC, [198, 51, 100, 254]);
        rig.punt(OUTSIDE, &arp_request(host, [198, 51, 100, 10]));
        let reply = rig
            .injected("an ARP reply", |port, frame| {
                port == OUTSIDE && is_arp(frame, 2, [198, 51, 100, 10], [198, 51, 100, 254])
            })
            .await;
        assert_eq!(reply[22..28], OUTSIDE_MAC);
        assert_eq!(rig.count("arp_answered"), 1);
        rig.kernel.stop().await;
    });
}

#[test]
fn the_kernel_answers_ping_to_our_address() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        rig.punt(INSIDE, &ping(INSIDE_MAC, [10, 1, 0, 9], [10, 1, 0, 1]));
        // The kernel wants to know the host's MAC address first.
        rig.injected("an ARP request", |_, frame| {
            is_arp(frame, 1, [10, 1, 0, 1], [10, 1, 0, 9])
        })
        .await;
        let ours = (INSIDE_MAC, [10, 1, 0, 1]);
        rig.punt(INSIDE, &arp(INSIDE_MAC, 2, (HOST_MAC, [10, 1, 0, 9]), ours));
        let reply = rig
            .injected("an echo reply", |port, frame| {
                port == INSIDE && is_echo_reply(frame, [10, 1, 0, 1], [10, 1, 0, 9])
            })
            .await;
        assert_eq!(reply[..6], HOST_MAC);
        assert!(reply.ends_with(b"spillway"));
        assert!(rig.count("written") >= 2 && rig.count("injected") >= 2);
        rig.kernel.stop().await;
    });
}

#[test]
fn ipv6_frames_reach_the_kernel_and_it_says_nothing_by_itself() {
    in_namespace(|| async {
        let rig = Rig::start(&config()).await;
        let mut frame = [&INSIDE_MAC[..], &HOST_MAC, &[0x86, 0xdd, 0x60]].concat();
        frame.resize(60, 0);
        rig.punt(INSIDE, &frame);
        eventually("the frame is written", || {
            (rig.count("written") == 1).then_some(())
        })
        .await;
        let received = ip("-s link show dev sw-Inside");
        let counts = received
            .lines()
            .skip_while(|l| !l.contains("RX:"))
            .nth(1)
            .unwrap();
        assert_eq!(counts.split_whitespace().nth(1), Some("1"), "{received}");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        while let Some((_, packet)) = rig.inject.pop() {
            let frame = spillway_dataplane::packet::Packet::data(&packet);
            assert_ne!(frame[12..14], [0x86, 0xdd], "IPv6 noise");
        }
        rig.kernel.stop().await;
    });
}

#[test]
fn every_lost_frame_has_its_counter() {
    in_namespace(|| async {
        let mut config = config();
        config.interfaces[1].shutdown = true;
        // Room for one frame of the kernel, buffers for two.
        let rig = Rig::start_with(&config, VecPool(2), 1).await;
        rig.punt(INSIDE, &[0; 13]);
        rig.punt(spillway_dataplane::snapshot::PortId(7), &[0; 60]);
        rig.punt(
            OUTSIDE,
            &arp_request((HOST_MAC, [198, 51, 100, 9]), [198, 51, 100, 1]),
        );
        let asked = arp_request((HOST_MAC, [10, 1, 0, 9]), [10, 1, 0, 1]);
        rig.punt(INSIDE, &asked);
        rig.punt(INSIDE, &asked);
        eventually("a full queue", || {
            (rig.count("drop_inject_full") == 1).then_some(())
        })
        .await;
        for _ in 0..2 {
            rig.inject.pop();
            rig.punt(INSIDE, &asked);
            eventually("the frame is written", || rig.punt.is_empty().then_some(())).await;
        }
        eventually("an empty pool", || {
            (rig.count("drop_pool_empty") == 1).then_some(())
        })
        .await;
        assert_eq!(rig.count("drop_short"), 1);
        assert_eq!(rig.count("drop_no_twin"), 1);
        assert_eq!(rig.count("drop_tap_down"), 1);
        assert_eq!(rig.count("injected"), 2);
        rig.kernel.stop().await;
    });
}
