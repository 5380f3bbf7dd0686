//! Pools without overload: an address for each inside host.

use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::nat::{Leases, Lending, Target};
use spillway_dataplane::stats::Counter;

use crate::support::{
    INSIDE, OUTSIDE, Policy, each, error, permit_all, ping, pool_of, raw, tcp, udp,
};

fn pool() -> Policy {
    Policy::default().rule_pool(permit_all(), "203.0.113.200", 4)
}

#[test]
fn a_host_has_an_address_for_all_it_does() {
    each(pool, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5", "198.51.100.5:6"),
            "1 udp 203.0.113.200:5 > 198.51.100.5:6",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.2:7", "198.51.100.6:8", "A"),
            "1 tcp 203.0.113.200:7 > 198.51.100.6:8 A",
        );
        lab.expect(
            INSIDE,
            ping("10.1.0.2", "198.51.100.5", 9),
            "1 ping 203.0.113.200 > 198.51.100.5 9",
        );
        lab.expect(
            INSIDE,
            raw("10.1.0.2", "198.51.100.5", 47),
            "1 ip47 203.0.113.200 > 198.51.100.5",
        );
        // Anybody outside reaches it there.
        lab.expect(
            OUTSIDE,
            tcp("198.51.100.7:1", "203.0.113.200:22", "S"),
            "0 tcp 198.51.100.7:1 > 10.1.0.2:22 S",
        );
        lab.expect(
            OUTSIDE,
            raw("198.51.100.7", "203.0.113.200", 47),
            "0 ip47 198.51.100.7 > 10.1.0.2",
        );
        assert_eq!((lab.entries(), lab.counted(Counter::CreatedSimple)), (1, 1));
        let views = lab.sessions(SessionFilter::default());
        assert_eq!((views[0].protocol, views[0].outside_global), (0, None));
        assert_eq!(views[0].inside_global.address.to_string(), "203.0.113.200");
    });
}

#[test]
fn a_lent_address_comes_back() {
    each(pool, |lab| {
        for host in 2..6 {
            lab.pass(INSIDE, udp(&format!("10.1.0.{host}:5"), "198.51.100.5:6"));
        }
        lab.expect(
            INSIDE,
            udp("10.1.0.9:5", "198.51.100.5:6"),
            "drop pool_exhausted",
        );
        lab.expect(
            OUTSIDE,
            udp("198.51.100.5:6", "203.0.113.203:5"),
            "0 udp 198.51.100.5:6 > 10.1.0.5:5",
        );
        lab.advance(80_000_000);
        lab.pass(INSIDE, udp("10.1.0.3:5", "198.51.100.5:6"));
        lab.advance(10_000_000);
        assert_eq!(lab.entries(), 1);
        lab.expect(
            INSIDE,
            udp("10.1.0.9:5", "198.51.100.5:6"),
            "1 udp 203.0.113.200:5 > 198.51.100.5:6",
        );
        lab.expect(
            OUTSIDE,
            udp("198.51.100.5:6", "203.0.113.202:5"),
            "drop no_translation",
        );
    });
}

#[test]
fn a_statics_address_is_not_lent() {
    each(
        || pool().fixed("10.1.0.50", "203.0.113.200"),
        |lab| {
            lab.expect(
                INSIDE,
                udp("10.1.0.2:5", "198.51.100.5:6"),
                "1 udp 203.0.113.201:5 > 198.51.100.5:6",
            );
        },
    );
}

#[test]
fn errors_about_packets_of_address_entries() {
    each(pool, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5", "198.51.100.5:6").size(100));
        let about = lab.last[0].1[14..].to_vec();
        for cut in [28, 60, about.len()] {
            let got = lab.run(
                OUTSIDE,
                error("192.0.2.77", "203.0.113.200", (11, 0), 0, &about[..cut]),
            );
            let note = if cut == about.len() { "" } else { " cut" };
            assert_eq!(
                got,
                [format!(
                    "0 icmp 11/0 192.0.2.77 > 10.1.0.2 [udp 10.1.0.2:5 > 198.51.100.5:6{note}]"
                )]
            );
        }
        lab.pass(OUTSIDE, udp("198.51.100.5:6", "203.0.113.200:77"));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            INSIDE,
            error("10.1.0.2", "198.51.100.5", (3, 3), 0, &about),
            "1 icmp 3/3 203.0.113.200 > 198.51.100.5 [udp 198.51.100.5:6 > 203.0.113.200:77]",
        );
    });
}

#[test]
fn several_ranges_are_one_pool() {
    let ranges = [
        ("203.0.113.200", "203.0.113.200"),
        ("203.0.113.7", "203.0.113.8"),
    ];
    let policy = || Policy::default().rule_ranges(Lending::FirstFree, &ranges);
    each(policy, |lab| {
        for (host, global) in [(2, "203.0.113.200"), (3, "203.0.113.7"), (4, "203.0.113.8")] {
            lab.expect(
                INSIDE,
                udp(&format!("10.1.0.{host}:5"), "198.51.100.5:6"),
                &format!("1 udp {global}:5 > 198.51.100.5:6"),
            );
            lab.expect(
                OUTSIDE,
                udp("198.51.100.5:6", &format!("{global}:5")),
                &format!("0 udp 198.51.100.5:6 > 10.1.0.{host}:5"),
            );
        }
        lab.expect(
            INSIDE,
            udp("10.1.0.9:5", "198.51.100.5:6"),
            "drop pool_exhausted",
        );
    });
}

#[test]
fn a_rotary_pool_lends_in_turn() {
    let ranges = [("203.0.113.7", "203.0.113.9")];
    let policy = || Policy::default().rule_ranges(Lending::Rotary, &ranges);
    each(policy, |lab| {
        for (host, last) in [(2, 7), (3, 8), (4, 9), (5, 7)] {
            lab.expect(
                INSIDE,
                udp(&format!("10.1.0.{host}:5"), "198.51.100.5:6"),
                &format!("1 udp 203.0.113.{last}:5 > 198.51.100.5:6"),
            );
            if last == 7 {
                lab.clear(SessionFilter::default());
            }
        }
    });
}

#[test]
fn match_host_keeps_the_hosts_part_of_the_address() {
    let ranges = [("203.0.113.1", "203.0.113.9")];
    let policy = || Policy::default().rule_ranges(Lending::MatchHost(0xff), &ranges);
    each(policy, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.7:5", "198.51.100.5:6"),
            "1 udp 203.0.113.7:5 > 198.51.100.5:6",
        );
        // Its counterpart of another network has the same host part, and .10 has no address.
        for host in ["10.9.0.7", "10.1.0.10"] {
            let packet = udp(&format!("{host}:5"), "198.51.100.5:6");
            lab.expect(INSIDE, packet, "drop pool_exhausted");
        }
        lab.clear(SessionFilter::default());
        lab.expect(
            INSIDE,
            udp("10.9.0.7:5", "198.51.100.5:6"),
            "1 udp 203.0.113.7:5 > 198.51.100.5:6",
        );
    });
}

#[test]
fn hosts_keep_their_addresses_when_the_pool_is_cut_anew() {
    let first = [("203.0.113.7", "203.0.113.9")];
    let policy = || Policy::default().rule_ranges(Lending::FirstFree, &first);
    let global = |host: u8| {
        let last = host + 5;
        format!("1 udp 203.0.113.{last}:5 > 198.51.100.5:6")
    };
    let packet = |host: u8| udp(&format!("10.1.0.{host}:5"), "198.51.100.5:6");
    let recut = |before: &Policy, lending, ranges: &[(&str, &str)]| {
        let mut leases = Leases::default();
        if let Target::OneToOne(pool) = &before.rules[0].target {
            leases.learn(pool);
        }
        Policy::default().rule_one_to_one(permit_all(), pool_of(lending, ranges, &mut leases))
    };
    each(policy, |lab| {
        for host in 2..5 {
            lab.expect(INSIDE, packet(host), &global(host));
        }
        // .7 goes; .8 and .9 stay whose they are, and .6 is new.
        let ranges = [
            ("203.0.113.8", "203.0.113.9"),
            ("203.0.113.6", "203.0.113.6"),
        ];
        lab.policy = recut(&lab.policy, Lending::Rotary, &ranges);
        lab.publish();
        lab.expect(INSIDE, packet(20), "1 udp 203.0.113.6:5 > 198.51.100.5:6");
        assert_eq!(lab.reconcile(), 1);
        lab.expect(INSIDE, packet(3), &global(3));
        lab.expect(INSIDE, packet(4), &global(4));
        lab.expect(INSIDE, packet(2), "drop pool_exhausted");
        lab.expect(
            OUTSIDE,
            udp("198.51.100.5:6", "203.0.113.9:5"),
            "0 udp 198.51.100.5:6 > 10.1.0.4:5",
        );
        // No host has an address with its own bits.
        lab.policy = recut(&lab.policy, Lending::MatchHost(0xff), &first);
        lab.publish();
        assert_eq!(lab.reconcile(), 3);
    });
}
