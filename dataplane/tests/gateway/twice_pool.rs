//! Outside hosts that get an address of a pool (`ip nat outside source list`).

use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::nat::Timer;
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{INSIDE, Lab, OUTSIDE, Policy, each, error, permit, ping, pong, tcp, udp};

/// Hosts of 203.0.113.0/24 are 172.16.0.1 and 172.16.0.2 inside.
fn pool() -> Policy {
    Policy::overload()
        .fixed("10.1.0.9", "198.51.100.9")
        .outside_pool(
            permit("203.0.113.0", "0.0.0.255"),
            "172.16.0.1",
            "172.16.0.2",
        )
}

fn outside_entries(lab: &mut Lab) -> usize {
    let all = lab.sessions(SessionFilter::default());
    let is_outside = |view: &&spillway_dataplane::command::SessionView| {
        view.protocol == 0 && view.inside_local.address.is_unspecified()
    };
    all.iter().filter(is_outside).count()
}

#[test]
fn who_comes_in_gets_an_address() {
    each(pool, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5", "172.16.0.1:7"),
            "drop outside_host_unknown",
        );
        assert_eq!(lab.entries(), 0);
        for port in 1..4 {
            let from = format!("203.0.113.8:{port}");
            let wanted = format!("0 udp 172.16.0.1:{port} > 10.1.0.9:22");
            lab.expect(OUTSIDE, udp(&from, "198.51.100.9:22"), &wanted);
        }
        assert_eq!((lab.entries(), outside_entries(lab)), (1, 1));
        lab.expect(
            OUTSIDE,
            udp("203.0.113.77:4", "198.51.100.9:22"),
            "0 udp 172.16.0.2:4 > 10.1.0.9:22",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.9:22", "172.16.0.2:4"),
            "1 udp 198.51.100.9:22 > 203.0.113.77:4",
        );
        // Whom the list does not permit keeps his address.
        lab.expect(
            OUTSIDE,
            udp("192.0.3.5:4", "198.51.100.9:22"),
            "0 udp 192.0.3.5:4 > 10.1.0.9:22",
        );
        // The pool has no third.
        lab.expect(
            OUTSIDE,
            udp("203.0.113.78:4", "198.51.100.9:22"),
            "drop pool_exhausted",
        );
        assert_eq!(lab.counted(Counter::CreatedSimple), 2);
    });
}

#[test]
fn who_meets_nobody_inside_gets_none() {
    each(pool, |lab| {
        lab.expect(
            OUTSIDE,
            udp("203.0.113.8:1", "198.51.100.1:7"),
            "punt 1 udp 203.0.113.8:1 > 198.51.100.1:7",
        );
        lab.expect(
            OUTSIDE,
            udp("203.0.113.8:1", "192.0.2.5:7"),
            "2 udp 203.0.113.8:1 > 192.0.2.5:7",
        );
        assert_eq!(lab.entries(), 0);
        lab.expect(
            OUTSIDE,
            udp("203.0.113.8:1", "10.1.0.5:7"),
            "0 udp 172.16.0.1:1 > 10.1.0.5:7",
        );
        assert_eq!(lab.entries(), 1);
    });
}

#[test]
fn entries_of_flows_have_the_address_in_them() {
    each(pool, |lab| {
        for host in 8..10 {
            lab.pass(
                OUTSIDE,
                udp(&format!("203.0.113.{host}:1"), "198.51.100.9:22"),
            );
        }
        let mut ports = Vec::new();
        for host in 2..20 {
            let seen = lab.pass(
                INSIDE,
                tcp(&format!("10.1.0.{host}:5000"), "172.16.0.2:80", "S"),
            );
            if host != 9 {
                assert_eq!(
                    (seen.src().octets(), seen.dst().octets()),
                    ([198, 51, 100, 1], [203, 0, 113, 9])
                );
                ports.push((host, seen.sport));
            }
        }
        for (host, port) in ports {
            let wanted = format!("0 tcp 172.16.0.2:80 > 10.1.0.{host}:5000 SA");
            lab.expect(
                OUTSIDE,
                tcp("203.0.113.9:80", &format!("198.51.100.1:{port}"), "SA"),
                &wanted,
            );
        }
        assert_eq!(outside_entries(lab), 2);
    });
}

#[test]
fn the_timer_runs_from_the_last_use_whoever_saw_it() {
    let policy = || {
        pool()
            .timer(Timer::Simple, Some(100))
            .timer(Timer::Udp, Some(1000))
    };
    each(policy, |lab| {
        lab.pass(OUTSIDE, udp("203.0.113.8:1", "198.51.100.9:22"));
        lab.pass(OUTSIDE, udp("203.0.113.9:1", "198.51.100.9:22"));
        for _ in 0..4 {
            lab.advance(60_000);
            // Only from inside, without an entry of its own: any worker may see it.
            lab.expect(
                INSIDE,
                udp("10.1.0.9:22", "172.16.0.1:1"),
                "1 udp 198.51.100.9:22 > 203.0.113.8:1",
            );
        }
        assert_eq!(outside_entries(lab), 1, "the other one is over");
        lab.expect(
            INSIDE,
            udp("10.1.0.9:22", "172.16.0.2:1"),
            "drop outside_host_unknown",
        );
        // An entry of a flow keeps the address.
        let seen = lab.pass(INSIDE, udp("10.1.0.2:5000", "172.16.0.1:99"));
        lab.advance(500_000);
        assert_eq!(outside_entries(lab), 1);
        lab.expect(
            OUTSIDE,
            udp("203.0.113.8:99", &format!("198.51.100.1:{}", seen.sport)),
            "0 udp 172.16.0.1:99 > 10.1.0.2:5000",
        );
        lab.advance(1_200_000);
        assert_eq!(lab.entries(), 0);
        lab.expect(
            OUTSIDE,
            udp("203.0.113.50:1", "198.51.100.9:22"),
            "0 udp 172.16.0.1:1 > 10.1.0.9:22",
        );
    });
}

#[test]
fn a_cleared_address_waits_for_its_flows() {
    each(pool, |lab| {
        lab.pass(OUTSIDE, udp("203.0.113.8:1", "198.51.100.9:22"));
        let seen = lab.pass(INSIDE, udp("10.1.0.2:5000", "172.16.0.1:53"));
        let simple = SessionFilter {
            protocol: Some(0),
            ..SessionFilter::default()
        };
        assert_eq!(lab.clear(simple), 1);
        // Another host, another address: the first one's flow lives.
        lab.expect(
            OUTSIDE,
            udp("203.0.113.50:1", "198.51.100.9:22"),
            "0 udp 172.16.0.2:1 > 10.1.0.9:22",
        );
        lab.expect(
            OUTSIDE,
            udp("203.0.113.8:53", &format!("198.51.100.1:{}", seen.sport)),
            "0 udp 172.16.0.1:53 > 10.1.0.2:5000",
        );
        lab.clear(SessionFilter::default());
        lab.expect(
            OUTSIDE,
            udp("203.0.113.51:1", "198.51.100.9:22"),
            "0 udp 172.16.0.1:1 > 10.1.0.9:22",
        );
    });
}

#[test]
fn errors_and_echoes_of_such_hosts() {
    each(pool, |lab| {
        lab.expect(
            OUTSIDE,
            ping("203.0.113.8", "198.51.100.9", 7),
            "0 ping 172.16.0.1 > 10.1.0.9 7",
        );
        lab.expect(
            INSIDE,
            pong("10.1.0.9", "172.16.0.1", 7),
            "1 pong 198.51.100.9 > 203.0.113.8 7",
        );
        lab.pass(INSIDE, udp("10.1.0.9:5", "172.16.0.1:53"));
        let about = lab.last[0].1[14..].to_vec();
        let inner = "[udp 10.1.0.9:5 > 172.16.0.1:53]";
        // As any worker may get it.
        for _ in 0..6 {
            lab.expect(
                OUTSIDE,
                error("203.0.113.8", "198.51.100.9", (3, 3), 0, &about),
                &format!("0 icmp 3/3 172.16.0.1 > 10.1.0.9 {inner}"),
            );
            lab.expect(
                OUTSIDE,
                error("192.0.3.7", "198.51.100.9", (11, 0), 0, &about),
                &format!("0 icmp 11/0 192.0.3.7 > 10.1.0.9 {inner}"),
            );
        }
        lab.pass(OUTSIDE, udp("203.0.113.8:53", "198.51.100.9:5"));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            INSIDE,
            error("10.1.0.9", "172.16.0.1", (3, 3), 0, &about),
            "1 icmp 3/3 198.51.100.9 > 203.0.113.8 [udp 203.0.113.8:53 > 198.51.100.9:5]",
        );
        // An error makes no entry.
        let stranger = udp("198.51.100.9:5", "203.0.113.99:53").ip();
        lab.expect(
            OUTSIDE,
            error("203.0.113.99", "198.51.100.9", (3, 3), 0, &stranger),
            "0 icmp 3/3 203.0.113.99 > 10.1.0.9 [udp 10.1.0.9:5 > 203.0.113.99:53]",
        );
        lab.expect(
            INSIDE,
            error(
                "10.1.0.9",
                "172.16.0.2",
                (3, 3),
                0,
                &udp("172.16.0.2:1", "10.1.0.9:2").ip(),
            ),
            "drop icmp_error_unmatched",
        );
        assert_eq!(outside_entries(lab), 1);
    });
}

#[test]
fn fragments_find_the_address_once() {
    each(pool, |lab| {
        let whole = udp("203.0.113.8:4", "198.51.100.9:22").size(100);
        let mut got = Vec::new();
        for fragment in whole.fragments(40).into_iter().rev() {
            got.extend(lab.run(OUTSIDE, fragment));
        }
        assert_eq!(got.len(), 3, "{got:?}");
        assert!(
            got.iter()
                .all(|l| l.contains("172.16.0.1:") && l.contains("10.1.0.9:")),
            "{got:?}"
        );
        assert_eq!(lab.entries(), 1);
    });
}

#[test]
fn a_reload_takes_back_what_it_would_not_lend() {
    each(pool, |lab| {
        lab.pass(OUTSIDE, udp("203.0.113.8:1", "198.51.100.9:22"));
        lab.pass(OUTSIDE, udp("203.0.113.200:1", "198.51.100.9:22"));
        lab.pass(INSIDE, udp("10.1.0.2:5000", "172.16.0.1:53"));
        lab.pass(INSIDE, udp("10.1.0.2:5000", "172.16.0.2:53"));
        lab.publish();
        assert_eq!((lab.reconcile(), lab.entries()), (0, 4));
        // The list permits only one of them now.
        let pool = std::sync::Arc::clone(&lab.policy.outside_rules[0].pool);
        lab.policy.outside_rules.clear();
        lab.policy =
            std::mem::take(&mut lab.policy).outside_rule(permit("203.0.113.0", "0.0.0.127"), pool);
        lab.publish();
        assert_eq!((lab.reconcile(), lab.entries()), (2, 2));
        lab.expect(
            OUTSIDE,
            udp("203.0.113.200:1", "198.51.100.9:22"),
            "0 udp 203.0.113.200:1 > 10.1.0.9:22",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.9:22", "172.16.0.1:1"),
            "1 udp 198.51.100.9:22 > 203.0.113.8:1",
        );
        let rules = std::mem::take(&mut lab.policy.outside_rules);
        lab.publish();
        lab.expect(
            OUTSIDE,
            udp("203.0.113.8:1", "198.51.100.9:22"),
            "0 udp 203.0.113.8:1 > 10.1.0.9:22",
        );
        assert_eq!((lab.reconcile(), lab.entries()), (2, 0));
        assert_eq!(lab.counted(Counter::Withdrawn), 4);
        // Without the pool nothing could be given back to it; a new one starts afresh.
        assert_eq!(rules[0].pool.addresses().lent(), 1);
    });
}

#[test]
fn limits_are_kept() {
    each(
        || pool().max_entries(1),
        |lab| {
            lab.pass(OUTSIDE, udp("203.0.113.8:1", "198.51.100.9:22"));
            lab.expect(
                OUTSIDE,
                udp("203.0.113.9:1", "198.51.100.9:22"),
                "drop max_entries",
            );
            assert_eq!(lab.dropped(DropReason::MaxEntries), 1);
        },
    );
}
