//! Static translations: whole addresses and ports.

use std::sync::atomic::Ordering;

use spillway_dataplane::stats::DropReason;

use crate::support::{
    INSIDE, Lab, OUTSIDE, PLAIN, Policy, each, error, permit_all, ping, pong, raw, tcp, udp,
};

fn one_to_one() -> Policy {
    Policy::overload().fixed("10.1.0.9", "203.0.113.9")
}

fn forward() -> Policy {
    Policy::overload()
        .forward(6, ("10.1.0.9", 8080), ("198.51.100.1", 80))
        .forward(17, ("10.1.0.10", 53), ("198.51.100.1", 53))
}

#[test]
fn a_whole_address_from_both_sides() {
    each(one_to_one, |lab| {
        lab.expect(
            OUTSIDE,
            tcp("192.0.2.5:5", "203.0.113.9:22", "S"),
            "0 tcp 192.0.2.5:5 > 10.1.0.9:22 S",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.9:22", "198.51.100.5:5", "SA"),
            "1 tcp 203.0.113.9:22 > 198.51.100.5:5 SA",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.9:7", "198.51.100.5:5"),
            "1 udp 203.0.113.9:7 > 198.51.100.5:5",
        );
        lab.expect(
            INSIDE,
            ping("10.1.0.9", "198.51.100.5", 5),
            "1 ping 203.0.113.9 > 198.51.100.5 5",
        );
        lab.expect(
            OUTSIDE,
            ping("198.51.100.5", "203.0.113.9", 5),
            "0 ping 198.51.100.5 > 10.1.0.9 5",
        );
        lab.expect(
            INSIDE,
            pong("10.1.0.9", "198.51.100.5", 5),
            "1 pong 203.0.113.9 > 198.51.100.5 5",
        );
        lab.expect(
            INSIDE,
            raw("10.1.0.9", "198.51.100.5", 47),
            "1 ip47 203.0.113.9 > 198.51.100.5",
        );
        lab.expect(
            OUTSIDE,
            raw("198.51.100.5", "203.0.113.9", 47),
            "0 ip47 198.51.100.5 > 10.1.0.9",
        );
        assert_eq!(lab.entries(), 0, "a static makes no state");
        assert_ne!(lab.policy.statics[0].last_used.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_port_from_both_sides() {
    each(forward, |lab| {
        lab.expect(
            OUTSIDE,
            tcp("198.51.100.5:5", "198.51.100.1:80", "S"),
            "0 tcp 198.51.100.5:5 > 10.1.0.9:8080 S",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.9:8080", "198.51.100.5:5", "SA"),
            "1 tcp 198.51.100.1:80 > 198.51.100.5:5 SA",
        );
        lab.expect(
            OUTSIDE,
            udp("198.51.100.5:5", "198.51.100.1:53"),
            "0 udp 198.51.100.5:5 > 10.1.0.10:53",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.10:53", "198.51.100.5:5"),
            "1 udp 198.51.100.1:53 > 198.51.100.5:5",
        );
        assert_eq!(lab.entries(), 0);
        // Other ports of the host and of the address are not concerned.
        lab.expect(
            OUTSIDE,
            udp("198.51.100.5:5", "198.51.100.1:80"),
            "punt 1 udp 198.51.100.5:5 > 198.51.100.1:80",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.9:9000", "198.51.100.5:5", "S"),
            "1 tcp 198.51.100.1:9000 > 198.51.100.5:5 S",
        );
        assert_eq!(lab.entries(), 1);
    });
}

#[test]
fn dynamic_entries_keep_off_a_statics_port() {
    each(forward, |lab| {
        for host in 2..9 {
            let seen = lab.pass(
                INSIDE,
                tcp(&format!("10.1.0.{host}:80"), "198.51.100.5:5", "S"),
            );
            assert_ne!(seen.sport, 80);
            assert!(seen.sport < 512);
        }
    });
    let mut lab = Lab::new(forward(), 1, 100);
    let seen = lab.pass(INSIDE, udp("10.1.0.2:80", "198.51.100.5:5"));
    assert_eq!(seen.sport, 80, "the static is TCP's");
}

#[test]
fn an_address_of_a_static_serves_no_other_host() {
    let policy = || {
        Policy::default()
            .rule_overload(permit_all(), &["203.0.113.9"])
            .fixed("10.1.0.9", "203.0.113.9")
    };
    each(policy, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5", "198.51.100.5:5"),
            "drop ports_exhausted",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.9:5", "198.51.100.5:5"),
            "1 udp 203.0.113.9:5 > 198.51.100.5:5",
        );
        lab.expect(
            OUTSIDE,
            udp("198.51.100.5:5", "203.0.113.9:6"),
            "0 udp 198.51.100.5:5 > 10.1.0.9:6",
        );
    });
}

#[test]
fn a_static_is_no_matter_between_inside_interfaces() {
    each(one_to_one, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.9:5", "10.2.0.5:5"),
            "3 udp 10.1.0.9:5 > 10.2.0.5:5",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.9:5", "192.0.2.5:5"),
            "2 udp 10.1.0.9:5 > 192.0.2.5:5",
        );
        lab.expect(
            PLAIN,
            udp("192.0.2.5:5", "10.1.0.9:5"),
            "0 udp 192.0.2.5:5 > 10.1.0.9:5",
        );
    });
}

#[test]
fn errors_about_packets_of_statics() {
    each(
        || forward().fixed("10.1.0.11", "203.0.113.11"),
        |lab| {
            // The server's answer can't be delivered.
            lab.pass(INSIDE, tcp("10.1.0.9:8080", "198.51.100.5:5", "SA"));
            let about = lab.last[0].1[14..].to_vec();
            lab.expect(
                OUTSIDE,
                error("198.51.100.5", "198.51.100.1", (3, 1), 0, &about[..28]),
                "0 icmp 3/1 198.51.100.5 > 10.1.0.9 [tcp 10.1.0.9:8080 > 198.51.100.5:5 cut]",
            );
            // A packet from outside meets a closed port inside.
            lab.pass(OUTSIDE, udp("198.51.100.5:5", "203.0.113.11:99"));
            let about = lab.last[0].1[14..].to_vec();
            lab.expect(
                INSIDE,
                error("10.1.0.11", "198.51.100.5", (3, 3), 0, &about),
                "1 icmp 3/3 203.0.113.11 > 198.51.100.5 [udp 198.51.100.5:5 > 203.0.113.11:99]",
            );
            lab.pass(OUTSIDE, tcp("198.51.100.5:5", "198.51.100.1:80", "S"));
            let about = lab.last[0].1[14..].to_vec();
            lab.expect(
            INSIDE,
            error("10.1.0.254", "198.51.100.5", (11, 0), 0, &about[..28]),
            "1 icmp 11/0 198.51.100.1 > 198.51.100.5 [tcp 198.51.100.5:5 > 198.51.100.1:80 cut]",
        );
            assert_eq!(lab.dropped(DropReason::IcmpErrorUnmatched), 0);
        },
    );
}
