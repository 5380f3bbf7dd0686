//! ICMP errors about translated packets, both ways.

use spillway_dataplane::stats::Counter;

use crate::support::{
    INSIDE, INSIDE2, OUTSIDE, Packet4, Policy, each, error, permit_all, ping, tcp, udp,
};

fn flows() -> [(Packet4, &'static str, &'static str); 3] {
    [
        (
            udp("10.1.0.2:5000", "203.0.113.5:9").size(600),
            "udp 10.1.0.2:5000 > 203.0.113.5:9",
            "udp 10.1.0.2:5000 > 203.0.113.5:9",
        ),
        (
            tcp("10.1.0.2:5000", "203.0.113.5:9", "S").size(600),
            "tcp 10.1.0.2:5000 > 203.0.113.5:9 S",
            "tcp 10.1.0.2:5000 > 203.0.113.5:9",
        ),
        (
            ping("10.1.0.2", "203.0.113.5", 5000).size(600),
            "ping 10.1.0.2 > 203.0.113.5 5000",
            "icmp8 10.1.0.2 > 203.0.113.5 5000",
        ),
    ]
}

#[test]
fn from_a_router_outside_and_from_the_destination_cut_anywhere() {
    for change_port in [false, true] {
        each(Policy::overload, |lab| {
            for (packet, whole, cut) in flows() {
                if change_port {
                    // Somebody else has the port: the error's inner port must be changed too.
                    let mut other = packet.clone();
                    other.src = [10, 2, 0, 7].into();
                    lab.pass(INSIDE2, other);
                }
                lab.pass(INSIDE, packet);
                let about = lab.last[0].1[14..].to_vec();
                let from = if change_port {
                    "198.51.100.254"
                } else {
                    "203.0.113.5"
                };
                for len in (28..about.len())
                    .step_by(13)
                    .chain([28, 36, 40, about.len()])
                {
                    let line = if len == about.len() {
                        whole.to_owned()
                    } else {
                        format!("{cut} cut")
                    };
                    lab.expect(
                        OUTSIDE,
                        error(from, "198.51.100.1", (3, 1), 0, &about[..len]),
                        &format!("0 icmp 3/1 {from} > 10.1.0.2 [{line}]"),
                    );
                }
            }
        });
    }
}

#[test]
fn from_inside_they_show_no_inside_address() {
    each(Policy::overload, |lab| {
        for (packet, ..) in flows() {
            lab.pass(INSIDE, packet);
        }
        lab.pass(OUTSIDE, udp("203.0.113.5:9", "198.51.100.1:5000"));
        let about = lab.last[0].1[14..].to_vec();
        for from in ["10.1.0.2", "10.9.0.1"] {
            lab.expect(
                INSIDE,
                error(from, "203.0.113.5", (3, 3), 0, &about),
                "1 icmp 3/3 198.51.100.1 > 203.0.113.5 [udp 203.0.113.5:9 > 198.51.100.1:5000]",
            );
        }
    });
}

#[test]
fn path_mtu_discovery_passes() {
    each(Policy::overload, |lab| {
        lab.pass(
            INSIDE,
            tcp("10.1.0.2:5000", "203.0.113.5:80", "A")
                .size(1400)
                .dont_fragment(),
        );
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            OUTSIDE,
            error("192.0.2.99", "198.51.100.1", (3, 4), 1280, &about[..28]),
            "0 icmp 3/4 mtu 1280 192.0.2.99 > 10.1.0.2 [tcp 10.1.0.2:5000 > 203.0.113.5:80 cut]",
        );
        assert_eq!(lab.counted(Counter::IcmpErrorsTranslated), 1);
    });
}

#[test]
fn those_about_nothing_known() {
    each(Policy::overload, |lab| {
        let about = udp("198.51.100.1:5000", "203.0.113.5:9").ip();
        lab.expect(
            OUTSIDE,
            error("203.0.113.5", "198.51.100.1", (3, 3), 0, &about),
            "punt 1 icmp 3/3 203.0.113.5 > 198.51.100.1 [udp 198.51.100.1:5000 > 203.0.113.5:9]",
        );
        let about = udp("203.0.113.5:9", "10.1.0.2:5000").ip();
        lab.expect(
            INSIDE,
            error("10.1.0.2", "203.0.113.5", (3, 3), 0, &about),
            "drop icmp_error_unmatched",
        );
    });
    each(
        || Policy::default().rule_overload(permit_all(), &["203.0.113.200"]),
        |lab| {
            let about = udp("203.0.113.200:5000", "198.51.100.5:9").ip();
            lab.expect(
                OUTSIDE,
                error("198.51.100.5", "203.0.113.200", (3, 3), 0, &about),
                "drop icmp_error_unmatched",
            );
        },
    );
}

#[test]
fn one_that_does_not_go_to_the_sender_it_quotes() {
    each(
        || Policy::default().rule_overload(permit_all(), &["203.0.113.200", "203.0.113.201"]),
        |lab| {
            lab.pass(INSIDE, udp("10.1.0.2:5000", "198.51.100.5:9"));
            let about = lab.last[0].1[14..].to_vec();
            let sender = std::net::Ipv4Addr::new(about[12], about[13], about[14], about[15]);
            let other = if sender.octets()[3] == 200 {
                "203.0.113.201"
            } else {
                "203.0.113.200"
            };
            lab.expect(
                OUTSIDE,
                error("198.51.100.5", other, (3, 3), 0, &about),
                "drop icmp_error_unmatched",
            );
        },
    );
}

#[test]
fn malformed_ones() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        let about = lab.last[0].1[14..].to_vec();
        for len in [0, 10, 19, 20, 23] {
            lab.expect(
                OUTSIDE,
                error("203.0.113.5", "198.51.100.1", (3, 3), 0, &about[..len]),
                "drop icmp_error_malformed",
            );
        }
        let mut bad = error("203.0.113.5", "198.51.100.1", (3, 3), 0, &about).ip();
        let last = bad.len() - 1;
        bad[last] ^= 1;
        lab.expect(OUTSIDE, bad, "drop icmp_error_checksum");
        let mut about = about.clone();
        about[8] = about[8].wrapping_add(1);
        lab.expect(
            OUTSIDE,
            error("203.0.113.5", "198.51.100.1", (3, 3), 0, &about),
            "drop icmp_error_checksum",
        );
    });
}

#[test]
fn traceroute_through_us() {
    each(Policy::overload, |lab| {
        for (packet, whole, _) in flows() {
            let got = lab.run(INSIDE, packet.clone().size(20).ttl(1));
            assert_eq!(
                got,
                [
                    format!("0 icmp 11/0 10.1.0.1 > 10.1.0.2 [{whole}]"),
                    "drop ttl_exceeded".into()
                ]
            );
            lab.pass(INSIDE, packet.ttl(2));
            let about = lab.last[0].1[14..14 + 28].to_vec();
            let got = lab.run(
                OUTSIDE,
                error("198.51.100.254", "198.51.100.1", (11, 0), 0, &about),
            );
            assert_eq!(got.len(), 1);
            assert!(
                got[0].starts_with("0 icmp 11/0 198.51.100.254 > 10.1.0.2 ["),
                "{got:?}"
            );
        }
    });
}
