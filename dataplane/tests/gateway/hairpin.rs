//! Inside hosts that reach each other through global addresses.

use crate::support::{
    INSIDE, INSIDE2, OUTSIDE, Policy, each, error, permit, permit_all, ping, pong, tcp, udp,
};

#[test]
fn through_a_static() {
    each(
        || Policy::overload().fixed("10.1.0.9", "203.0.113.9"),
        |lab| {
            lab.expect(
                INSIDE,
                tcp("10.1.0.2:5000", "203.0.113.9:80", "S"),
                "0 tcp 198.51.100.1:5000 > 10.1.0.9:80 S",
            );
            lab.expect(
                INSIDE,
                tcp("10.1.0.9:80", "198.51.100.1:5000", "SA"),
                "0 tcp 203.0.113.9:80 > 10.1.0.2:5000 SA",
            );
            lab.expect(
                INSIDE2,
                ping("10.2.0.2", "203.0.113.9", 7),
                "0 ping 198.51.100.1 > 10.1.0.9 7",
            );
            lab.expect(
                INSIDE,
                pong("10.1.0.9", "198.51.100.1", 7),
                "3 pong 203.0.113.9 > 10.2.0.2 7",
            );
            // The host itself, through its own global address.
            lab.expect(
                INSIDE,
                udp("10.1.0.9:5", "203.0.113.9:6"),
                "0 udp 203.0.113.9:5 > 10.1.0.9:6",
            );
        },
    );
}

#[test]
fn between_two_statics() {
    each(
        || {
            Policy::overload()
                .fixed("10.1.0.9", "203.0.113.9")
                .fixed("10.1.0.10", "203.0.113.10")
        },
        |lab| {
            lab.expect(
                INSIDE,
                udp("10.1.0.9:5", "203.0.113.10:6"),
                "0 udp 203.0.113.9:5 > 10.1.0.10:6",
            );
            lab.expect(
                INSIDE,
                udp("10.1.0.10:6", "203.0.113.9:5"),
                "0 udp 203.0.113.10:6 > 10.1.0.9:5",
            );
        },
    );
}

#[test]
fn through_a_port_forward() {
    let policy = || Policy::overload().forward(6, ("10.1.0.9", 8080), ("198.51.100.1", 80));
    each(policy, |lab| {
        lab.expect(
            INSIDE,
            tcp("10.1.0.2:5000", "198.51.100.1:80", "S"),
            "0 tcp 198.51.100.1:5000 > 10.1.0.9:8080 S",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.9:8080", "198.51.100.1:5000", "SA"),
            "0 tcp 198.51.100.1:80 > 10.1.0.2:5000 SA",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.2:5000", "198.51.100.1:80", "A"),
            "0 tcp 198.51.100.1:5000 > 10.1.0.9:8080 A",
        );
        let seen = lab.pass(INSIDE, tcp("10.1.0.2:5000", "198.51.100.1:80", "A"));
        assert_eq!(seen.ip.time_to_live, 63, "one hop");
    });
}

#[test]
fn udp_hole_punching() {
    each(Policy::overload, |lab| {
        let rendezvous = "203.0.113.5:3478";
        let a = lab.pass(INSIDE, udp("10.1.0.2:5000", rendezvous)).sport;
        let b = lab.pass(INSIDE2, udp("10.2.0.3:6000", rendezvous)).sport;
        let (a_out, b_out) = (format!("198.51.100.1:{a}"), format!("198.51.100.1:{b}"));
        lab.expect(INSIDE, udp("10.1.0.2:5000", &b_out), "drop no_translation");
        lab.expect(
            INSIDE2,
            udp("10.2.0.3:6000", &a_out),
            &format!("0 udp {b_out} > 10.1.0.2:5000"),
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5000", &b_out),
            &format!("3 udp {a_out} > 10.2.0.3:6000"),
        );
        lab.expect(
            INSIDE2,
            udp("10.2.0.3:6000", &a_out),
            &format!("0 udp {b_out} > 10.1.0.2:5000"),
        );
    });
}

#[test]
fn through_the_address_of_a_pool() {
    each(
        || Policy::default().rule_pool(permit_all(), "203.0.113.200", 4),
        |lab| {
            lab.pass(INSIDE, udp("10.1.0.2:5", "198.51.100.9:9"));
            lab.expect(
                INSIDE,
                udp("10.1.0.3:7", "203.0.113.200:8"),
                "0 udp 203.0.113.201:7 > 10.1.0.2:8",
            );
            lab.expect(
                INSIDE,
                udp("10.1.0.2:8", "203.0.113.201:7"),
                "0 udp 203.0.113.200:8 > 10.1.0.3:7",
            );
            lab.expect(
                INSIDE,
                udp("10.1.0.2:8", "203.0.113.203:7"),
                "drop no_translation",
            );
        },
    );
}

#[test]
fn a_host_that_is_not_translated_has_no_way_back() {
    let policy = || {
        Policy::default()
            .rule_overload(permit("10.1.0.0", "0.0.0.255"), &["203.0.113.200"])
            .fixed("10.1.0.9", "203.0.113.9")
    };
    each(policy, |lab| {
        lab.expect(
            INSIDE2,
            udp("10.2.0.2:5", "203.0.113.9:6"),
            "drop no_translation",
        );
        lab.expect(
            INSIDE2,
            udp("10.2.0.2:5", "203.0.113.200:6"),
            "drop no_translation",
        );
    });
}

/// A worker remembers which destinations are outside hosts; a change of configuration is noticed.
#[test]
fn an_outside_host_whose_address_becomes_ours() {
    each(Policy::overload, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5000", "203.0.113.9:9"),
            "1 udp 198.51.100.1:5000 > 203.0.113.9:9",
        );
        lab.policy = std::mem::take(&mut lab.policy).fixed("10.2.0.9", "203.0.113.9");
        lab.publish();
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5001", "203.0.113.9:9"),
            "3 udp 198.51.100.1:5001 > 10.2.0.9:9",
        );
        lab.policy = Policy::overload();
        lab.publish();
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5002", "203.0.113.9:9"),
            "1 udp 198.51.100.1:5002 > 203.0.113.9:9",
        );
    });
}

#[test]
fn errors_of_hairpin_flows() {
    let policy = || {
        Policy::overload().fixed("10.1.0.9", "203.0.113.9").forward(
            17,
            ("10.1.0.10", 53),
            ("198.51.100.1", 53),
        )
    };
    each(policy, |lab| {
        lab.pass(INSIDE2, udp("10.2.0.2:5000", "203.0.113.9:80"));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            INSIDE,
            error("10.1.0.9", "198.51.100.1", (3, 3), 0, &about),
            "3 icmp 3/3 203.0.113.9 > 10.2.0.2 [udp 10.2.0.2:5000 > 203.0.113.9:80]",
        );
        lab.pass(INSIDE2, udp("10.2.0.2:5000", "198.51.100.1:53"));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            INSIDE,
            error("10.1.0.10", "198.51.100.1", (3, 3), 0, &about[..28]),
            "3 icmp 3/3 198.51.100.1 > 10.2.0.2 [udp 10.2.0.2:5000 > 198.51.100.1:53 cut]",
        );
    });
}

#[test]
fn time_to_live_of_a_hairpin_flow() {
    each(
        || Policy::overload().fixed("10.1.0.9", "203.0.113.9"),
        |lab| {
            let got = lab.run(INSIDE, udp("10.1.0.2:5000", "203.0.113.9:80").ttl(1));
            assert_eq!(
                got,
                [
                    "0 icmp 11/0 10.1.0.1 > 10.1.0.2 [udp 10.1.0.2:5000 > 203.0.113.9:80]",
                    "drop ttl_exceeded"
                ]
            );
        },
    );
}

#[test]
fn a_port_forward_for_outsiders_and_insiders_at_once() {
    let policy = || Policy::overload().forward(6, ("10.1.0.9", 8080), ("198.51.100.1", 80));
    each(policy, |lab| {
        lab.expect(
            OUTSIDE,
            tcp("203.0.113.5:5000", "198.51.100.1:80", "S"),
            "0 tcp 203.0.113.5:5000 > 10.1.0.9:8080 S",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.2:5000", "198.51.100.1:80", "S"),
            "0 tcp 198.51.100.1:5000 > 10.1.0.9:8080 S",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.9:8080", "203.0.113.5:5000", "SA"),
            "1 tcp 198.51.100.1:80 > 203.0.113.5:5000 SA",
        );
    });
}
