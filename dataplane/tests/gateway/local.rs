//! What is for the appliance itself, what is for nobody, and what should not be.

use spillway_dataplane::stats::Counter;

use crate::support::{
    INSIDE, INSIDE2, OUTSIDE, PLAIN, Policy, each, ethernet, permit, ping, tcp, udp,
};

#[test]
fn ping_of_our_own_addresses() {
    each(Policy::overload, |lab| {
        lab.expect(
            INSIDE,
            ping("10.1.0.2", "10.1.0.1", 5),
            "punt 0 ping 10.1.0.2 > 10.1.0.1 5",
        );
        lab.expect(
            INSIDE,
            ping("10.1.0.2", "198.51.100.1", 5),
            "punt 0 ping 10.1.0.2 > 198.51.100.1 5",
        );
        lab.expect(
            INSIDE2,
            ping("10.2.0.2", "10.1.0.1", 5),
            "punt 3 ping 10.2.0.2 > 10.1.0.1 5",
        );
        lab.expect(
            OUTSIDE,
            ping("198.51.100.9", "198.51.100.1", 5),
            "punt 1 ping 198.51.100.9 > 198.51.100.1 5",
        );
        lab.expect(
            OUTSIDE,
            ping("198.51.100.9", "10.1.0.1", 5),
            "punt 1 ping 198.51.100.9 > 10.1.0.1 5",
        );
        lab.expect(
            PLAIN,
            ping("192.0.2.9", "192.0.2.1", 5),
            "punt 2 ping 192.0.2.9 > 192.0.2.1 5",
        );
        assert_eq!(lab.counted(Counter::PuntedLocal), 6);
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn a_peer_that_pings_us_with_the_identifier_of_its_own_flow() {
    each(Policy::overload, |lab| {
        lab.expect(
            INSIDE,
            ping("10.1.0.2", "198.51.100.9", 5),
            "1 ping 198.51.100.1 > 198.51.100.9 5",
        );
        lab.expect(
            OUTSIDE,
            ping("198.51.100.9", "198.51.100.1", 5),
            "punt 1 ping 198.51.100.9 > 198.51.100.1 5",
        );
        lab.expect(
            INSIDE,
            ping("10.1.0.3", "198.51.100.1", 5),
            "punt 0 ping 10.1.0.3 > 198.51.100.1 5",
        );
    });
}

#[test]
fn what_is_not_ipv4_goes_to_the_kernel() {
    each(Policy::overload, |lab| {
        let ours = lab.snapshot.interfaces[0].mac;
        let host = [2, 0, 10, 1, 0, 2];
        for (ethertype, line) in [
            (0x0806, "punt 0 arp"),
            (0x86dd, "punt 0 ipv6"),
            (0x88cc, "punt 0 ethertype 88cc"),
            (0x8100, "punt 0 ethertype 8100"),
            (38, "punt 0 ethertype 0026"),
        ] {
            for mac in [ours, [0xff; 6], [1, 0x80, 0xc2, 0, 0, 0x0e]] {
                assert_eq!(
                    lab.run_frame(INSIDE, &ethernet(mac, host, ethertype, &[0; 46])),
                    [line]
                );
            }
            let other = [2, 0, 10, 1, 0, 77];
            assert_eq!(
                lab.run_frame(INSIDE, &ethernet(other, host, ethertype, &[0; 46])),
                ["drop not_our_mac"]
            );
        }
        assert_eq!(lab.counted(Counter::PuntedArp), 3);
        assert_eq!(lab.counted(Counter::PuntedIpv6), 3);
        assert_eq!(lab.counted(Counter::PuntedOther), 9);
    });
}

#[test]
fn packets_for_all_hosts_go_to_the_kernel() {
    each(Policy::overload, |lab| {
        let host = [2, 0, 10, 1, 0, 2];
        for (mac, from, to) in [
            ([0xff; 6], "10.1.0.2:68", "255.255.255.255:67"),
            ([0xff; 6], "0.0.0.0:68", "255.255.255.255:67"),
            ([0xff; 6], "10.1.0.2:137", "10.1.0.255:137"),
            ([1, 0, 0x5e, 0, 0, 5], "10.1.0.2:520", "224.0.0.5:520"),
            ([0xff; 6], "10.1.0.2:5", "203.0.113.5:5"),
        ] {
            let frame = ethernet(mac, host, 0x0800, &udp(from, to).ip());
            assert_eq!(
                lab.run_frame(INSIDE, &frame),
                [format!("punt 0 udp {from} > {to}")]
            );
        }
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5", "224.0.0.251:5353"),
            "punt 0 udp 10.1.0.2:5 > 224.0.0.251:5353",
        );
    });
}

#[test]
fn broadcast_of_a_connected_network_is_not_forwarded() {
    each(Policy::overload, |lab| {
        for (port, from) in [
            (OUTSIDE, "203.0.113.5:9"),
            (INSIDE2, "10.2.0.2:9"),
            (PLAIN, "192.0.2.2:9"),
            (INSIDE, "10.1.0.2:9"),
        ] {
            for to in [
                "10.1.0.255:9",
                "10.1.0.0:9",
                "198.51.100.255:9",
                "198.51.100.0:9",
                "10.2.0.255:9",
            ] {
                lab.expect(port, udp(from, to), "drop ip_destination");
            }
        }
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn addresses_that_nobody_has() {
    each(Policy::overload, |lab| {
        for from in [
            "127.0.0.1:5",
            "224.0.0.1:5",
            "255.255.255.255:5",
            "240.0.0.1:5",
            "0.0.0.0:5",
        ] {
            lab.expect(INSIDE, udp(from, "203.0.113.5:9"), "drop ip_source");
            lab.expect(OUTSIDE, udp(from, "198.51.100.1:9"), "drop ip_source");
        }
        for to in ["127.0.0.1:5", "0.0.0.0:5", "240.0.0.1:5"] {
            lab.expect(INSIDE, udp("10.1.0.2:5", to), "drop ip_destination");
        }
    });
}

#[test]
fn our_own_addresses_as_a_source() {
    let policy = || Policy::overload().forward(6, ("10.1.0.9", 80), ("198.51.100.1", 80));
    each(policy, |lab| {
        for ours in ["198.51.100.1", "10.1.0.1", "192.0.2.1"] {
            let from = format!("{ours}:5");
            lab.expect(OUTSIDE, udp(&from, "10.1.0.2:9"), "drop ip_source");
            lab.expect(
                OUTSIDE,
                tcp(&from, "198.51.100.1:80", "S"),
                "drop ip_source",
            );
            lab.expect(INSIDE, udp(&from, "203.0.113.5:9"), "drop ip_source");
            lab.expect(INSIDE, udp(&from, "10.2.0.5:9"), "drop ip_source");
            lab.expect(PLAIN, udp(&from, "10.2.0.5:9"), "drop ip_source");
        }
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn an_outsider_does_not_enter_a_hairpin_flow_as_us() {
    each(Policy::overload, |lab| {
        for (host, port) in [(2, 5000), (3, 6000)] {
            lab.pass(
                INSIDE,
                udp(&format!("10.1.0.{host}:{port}"), "203.0.113.5:9"),
            );
        }
        lab.run(INSIDE, udp("10.1.0.2:5000", "198.51.100.1:6000"));
        lab.expect(
            OUTSIDE,
            udp("198.51.100.1:6000", "198.51.100.1:5000"),
            "drop ip_source",
        );
    });
}

#[test]
fn a_global_address_as_a_source_from_inside() {
    let policy =
        || Policy::default().rule_overload(permit("10.1.0.0", "0.0.0.255"), &["203.0.113.200"]);
    each(policy, |lab| {
        lab.expect(
            INSIDE,
            udp("203.0.113.200:5", "198.51.100.9:9"),
            "drop ip_source",
        );
    });
    // A host that has the same address on both sides.
    each(
        || policy().fixed("203.0.113.77", "203.0.113.77"),
        |lab| {
            let frame = lab.frame(INSIDE, &udp("203.0.113.77:5", "198.51.100.9:9").ip());
            assert_eq!(
                lab.run_frame(INSIDE, &frame),
                ["1 udp 203.0.113.77:5 > 198.51.100.9:9"]
            );
        },
    );
}
