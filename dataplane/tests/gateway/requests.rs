//! What control asks: show, clear, reconcile.

use std::sync::Arc;

use spillway_dataplane::command::{Reply, Request, SessionFilter};
use spillway_dataplane::gateway::Spare;
use spillway_dataplane::nat::Timer;
use spillway_dataplane::stats::Counter;

use crate::support::{
    INSIDE, INSIDE2, Lab, OUTSIDE, Policy, each, permit, permit_all, ping, tcp, udp,
};

const OUT: &str = "203.0.113.5:9";

#[test]
fn an_entry_is_shown_as_it_is() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", OUT));
        lab.advance(10_000);
        lab.pass(OUTSIDE, udp(OUT, "198.51.100.1:5000"));
        lab.advance(5_000);
        let views = lab.sessions(SessionFilter::default());
        let [view] = views.as_slice() else {
            panic!("one entry")
        };
        let endpoint =
            |e: spillway_dataplane::command::Endpoint| format!("{}:{}", e.address, e.port);
        assert_eq!(endpoint(view.inside_local), "10.1.0.2:5000");
        assert_eq!(endpoint(view.inside_global), "198.51.100.1:5000");
        assert_eq!(view.outside_local.map(endpoint).as_deref(), Some(OUT));
        assert_eq!(view.outside_global.map(endpoint).as_deref(), Some(OUT));
        assert_eq!((view.protocol, view.rule, view.tcp), (17, 1, None));
        assert!(view.age_ms.abs_diff(15_000) < 64 && view.idle_ms.abs_diff(5_000) < 64);
    });
}

#[test]
fn a_reader_with_little_room_gets_them_all_a_few_at_a_time() {
    let mut lab = Lab::new(Policy::overload(), 1, 1 << 10);
    for n in 0..500 {
        lab.pass(INSIDE, udp(&format!("10.1.0.2:{}", 2000 + n), OUT));
    }
    let mut seen = std::collections::HashSet::new();
    let mut from = Some(0);
    while let Some(place) = from {
        let reply = Reply::new(7);
        // Ends by itself, whether or not anybody reads.
        let request = Request::Sessions(SessionFilter::default(), place, Arc::clone(&reply));
        lab.serve(0, request);
        assert!(reply.is_done() && !lab.workers[0].is_serving());
        from = reply.resume();
        // The world goes on meanwhile.
        lab.pass(INSIDE, udp("10.1.0.2:2000", OUT));
        for view in std::iter::from_fn(|| reply.take()) {
            assert!(seen.insert(view.id), "{} twice", view.id);
        }
    }
    assert_eq!(seen.len(), 500);
}

#[test]
fn an_abandoned_reader_does_not_block_the_next_one() {
    let mut lab = Lab::new(Policy::overload(), 1, 1 << 10);
    for n in 0..50 {
        lab.pass(INSIDE, udp(&format!("10.1.0.2:{}", 2000 + n), OUT));
    }
    let reply = Reply::new(64);
    lab.workers[0].begin(Request::Sessions(
        SessionFilter::default(),
        0,
        Arc::clone(&reply),
    ));
    lab.workers[0].serve(lab.now, &lab.snapshot, Spare::Much);
    assert!(lab.workers[0].is_serving() && reply.slices() == 1);
    reply.abandon();
    lab.workers[0].serve(lab.now, &lab.snapshot, Spare::Much);
    assert!(!lab.workers[0].is_serving());
    assert_eq!(lab.sessions(SessionFilter::default()).len(), 50);
}

#[test]
fn clear_by_filter() {
    let address = |text: &str| text.parse().expect("an address");
    each(Policy::overload, |lab| {
        for host in [2, 3] {
            lab.pass(INSIDE, udp(&format!("10.1.0.{host}:5000"), OUT));
            lab.pass(INSIDE, udp(&format!("10.1.0.{host}:5001"), "203.0.113.6:9"));
            lab.pass(INSIDE, tcp(&format!("10.1.0.{host}:5002"), OUT, "S"));
            lab.pass(INSIDE, ping(&format!("10.1.0.{host}"), "203.0.113.5", 5));
        }
        let all = SessionFilter::default();
        let udp = SessionFilter {
            protocol: Some(17),
            ..all
        };
        let host = SessionFilter {
            inside_local: Some((address("10.1.0.2"), None)),
            ..all
        };
        let port = SessionFilter {
            inside_local: Some((address("10.1.0.3"), Some(5002))),
            ..all
        };
        let peer = SessionFilter {
            outside_global: Some((address("203.0.113.6"), Some(9))),
            ..all
        };
        let global = SessionFilter {
            inside_global: Some((address("198.51.100.1"), None)),
            ..all
        };
        assert_eq!(lab.sessions(host).len(), 4);
        assert_eq!(lab.clear(peer), 2);
        assert_eq!(lab.clear(host), 3);
        assert_eq!(lab.clear(port), 1);
        assert_eq!(lab.clear(udp), 1);
        assert_eq!(
            lab.clear(SessionFilter {
                inside_global: Some((address("198.51.100.2"), None)),
                ..all
            }),
            0
        );
        assert_eq!(lab.clear(global), 1);
        assert_eq!((lab.entries(), lab.counted(Counter::Cleared)), (0, 8));
    });
}

#[test]
fn a_reload_keeps_what_it_would_make_again() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", OUT));
        lab.pass(INSIDE2, udp("10.2.0.2:5001", OUT));
        lab.pass(INSIDE, tcp("10.1.0.9:80", OUT, "A"));
        // The same policy: nothing changes.
        lab.publish();
        assert_eq!(lab.reconcile(), 0);
        // A narrower list, and a static for one host's port.
        let mut policy = Policy::default();
        policy.globals = lab.policy.globals.clone();
        lab.policy = policy
            .rule_overload(permit("10.1.0.0", "0.0.0.255"), &["198.51.100.1"])
            .forward(6, ("10.1.0.9", 80), ("198.51.100.1", 80))
            .timer(Timer::Udp, Some(30));
        lab.publish();
        assert_eq!(lab.reconcile(), 2);
        assert_eq!((lab.entries(), lab.counted(Counter::Withdrawn)), (1, 2));
        lab.expect(
            OUTSIDE,
            udp(OUT, "198.51.100.1:5000"),
            "0 udp 203.0.113.5:9 > 10.1.0.2:5000",
        );
        lab.expect(
            INSIDE2,
            udp("10.2.0.2:5001", OUT),
            "1 udp 10.2.0.2:5001 > 203.0.113.5:9",
        );
        lab.advance(30_400);
        assert_eq!(lab.entries(), 0, "the new timer counts");
    });
}

#[test]
fn a_reload_to_another_address_withdraws() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", OUT));
        let old = lab.policy.global("198.51.100.1");
        lab.policy = Policy::default().rule_overload(permit_all(), &["203.0.113.200"]);
        lab.publish();
        // Until then, the flow goes on.
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5000", OUT),
            "1 udp 198.51.100.1:5000 > 203.0.113.5:9",
        );
        assert_eq!(lab.reconcile(), 1);
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5000", OUT),
            "1 udp 203.0.113.200:5000 > 203.0.113.5:9",
        );
        drop(old);
    });
}

#[test]
fn an_overload_address_that_becomes_a_pools() {
    each(
        || Policy::default().rule_overload(permit_all(), &["203.0.113.200"]),
        |lab| {
            for n in 0..20 {
                lab.pass(
                    INSIDE,
                    udp(&format!("10.1.0.{}:5000", 2 + n), "198.51.100.9:9"),
                );
            }
            lab.policy = Policy::default().rule_pool(permit_all(), "203.0.113.200", 1);
            lab.publish();
            // Before the old entries are withdrawn, a new host gets the address.
            lab.expect(
                INSIDE2,
                udp("10.2.0.7:5", "198.51.100.9:9"),
                "1 udp 203.0.113.200:5 > 198.51.100.9:9",
            );
            assert_eq!(lab.reconcile(), 20);
            assert_eq!(lab.entries(), 1);
            // It is still lent, and only once.
            lab.expect(
                INSIDE2,
                udp("10.2.0.8:5", "198.51.100.9:9"),
                "drop pool_exhausted",
            );
            lab.expect(
                OUTSIDE,
                udp("198.51.100.9:7", "203.0.113.200:8"),
                "3 udp 198.51.100.9:7 > 10.2.0.7:8",
            );
        },
    );
}

#[test]
fn a_pools_address_that_becomes_an_overload_one() {
    each(
        || Policy::default().rule_pool(permit_all(), "203.0.113.200", 1),
        |lab| {
            lab.pass(INSIDE, udp("10.1.0.2:5000", "198.51.100.9:9"));
            lab.policy = Policy::default().rule_overload(permit_all(), &["203.0.113.200"]);
            lab.publish();
            assert_eq!(lab.reconcile(), 1);
            lab.expect(
                INSIDE,
                udp("10.1.0.2:5000", "198.51.100.9:9"),
                "1 udp 203.0.113.200:5000 > 198.51.100.9:9",
            );
        },
    );
}

#[test]
fn a_static_outranks_the_entry_that_has_its_address() {
    each(
        || Policy::default().rule_pool(permit_all(), "203.0.113.200", 2),
        |lab| {
            lab.pass(INSIDE, udp("10.1.0.2:5000", "198.51.100.9:9"));
            lab.policy = std::mem::take(&mut lab.policy).fixed("10.1.0.50", "203.0.113.200");
            lab.publish();
            assert_eq!(lab.reconcile(), 1);
            lab.expect(
                OUTSIDE,
                udp("198.51.100.9:9", "203.0.113.200:5000"),
                "0 udp 198.51.100.9:9 > 10.1.0.50:5000",
            );
            lab.expect(
                INSIDE,
                udp("10.1.0.2:5000", "198.51.100.9:9"),
                "1 udp 203.0.113.201:5000 > 198.51.100.9:9",
            );
        },
    );
}
