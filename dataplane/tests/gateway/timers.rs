//! Every timer: neither early nor late.

use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::nat::Timer;

use crate::support::{INSIDE, Lab, OUTSIDE, Policy, each, permit_all, ping, raw, tcp, udp};

/// After `packet`, the entry lives so many seconds.
#[track_caller]
fn lasts(lab: &mut Lab, packet: impl Into<Vec<u8>>, seconds: u64) {
    lab.advance(37); // no moment is special
    lab.pass(INSIDE, packet);
    assert_eq!(lab.entries(), 1);
    lab.advance(seconds * 1000 - 1);
    assert_eq!(lab.entries(), 1, "gone before {seconds} s");
    lab.advance(1 + 320 + 16);
    assert_eq!(lab.entries(), 0, "still there after {seconds} s");
}

#[test]
fn the_defaults() {
    each(Policy::overload, |lab| {
        lasts(lab, udp("10.1.0.2:5000", "203.0.113.5:9"), 300);
        lasts(lab, udp("10.1.0.2:5000", "203.0.113.5:53"), 60);
        lasts(lab, ping("10.1.0.2", "203.0.113.5", 5), 60);
        lasts(lab, tcp("10.1.0.2:5000", "203.0.113.5:80", "S"), 60);
    });
    let pool = || Policy::default().rule_pool(permit_all(), "203.0.113.200", 1);
    each(pool, |lab| {
        lasts(lab, udp("10.1.0.2:5000", "203.0.113.5:9"), 86_400);
        lasts(lab, raw("10.1.0.3", "203.0.113.5", 47), 86_400);
    });
}

#[test]
fn configured_ones() {
    let policy = || {
        Policy::overload()
            .timer(Timer::Udp, Some(7))
            .timer(Timer::Dns, Some(3))
            .timer(Timer::Icmp, Some(1))
            .timer(Timer::Syn, Some(2))
            .timer(Timer::Tcp, Some(1800))
            .port_timer(17, 1194, Some(3600))
            .port_timer(6, 22, Some(20))
            .port_timer(17, 161, Some(1))
    };
    each(policy, |lab| {
        lasts(lab, udp("10.1.0.2:5000", "203.0.113.5:9"), 7);
        lasts(lab, udp("10.1.0.2:5000", "203.0.113.5:53"), 3);
        lasts(lab, ping("10.1.0.2", "203.0.113.5", 5), 1);
        lasts(lab, tcp("10.1.0.2:5000", "203.0.113.5:80", "S"), 2);
        lasts(lab, udp("10.1.0.2:5000", "203.0.113.5:1194"), 3600);
        lasts(lab, udp("10.1.0.2:1194", "203.0.113.5:9"), 3600);
        lasts(lab, udp("10.1.0.2:5000", "203.0.113.5:161"), 1);
        // Established: the port's timer governs.
        lab.pass(INSIDE, tcp("10.1.0.2:5000", "203.0.113.5:22", "S"));
        lab.pass(OUTSIDE, tcp("203.0.113.5:22", "198.51.100.1:5000", "SA"));
        lasts(lab, tcp("10.1.0.2:5000", "203.0.113.5:22", "A"), 20);
    });
}

#[test]
fn at_every_phase_of_the_wheel() {
    let mut lab = Lab::new(Policy::overload().timer(Timer::Udp, Some(5)), 1, 1 << 12);
    for step in 0..40 {
        lab.advance(step * 7 % 256);
        lasts(&mut lab, udp("10.1.0.2:5000", "203.0.113.5:9"), 5);
    }
}

#[test]
fn packets_of_either_side_prolong() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        for _ in 0..5 {
            lab.advance(299_000);
            lab.pass(OUTSIDE, udp("203.0.113.5:9", "198.51.100.1:5000"));
            lab.advance(299_000);
            lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        }
        lasts(lab, udp("10.1.0.2:5000", "203.0.113.5:9"), 300);
    });
}

#[test]
fn never_is_never() {
    each(
        || Policy::overload().timer(Timer::Udp, None),
        |lab| {
            lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
            assert_eq!(lab.sessions(SessionFilter::default())[0].timeout_ms, None);
            lab.advance(10 * 86_400_000);
            assert_eq!(lab.entries(), 1);
            // Once there is a timer again, it counts from the last packet.
            lab.policy.timers.seconds[Timer::Udp as usize] = Some(300);
            lab.publish();
            assert_eq!(lab.reconcile(), 0);
            lab.advance(300);
            assert_eq!(lab.entries(), 0);
        },
    );
}

#[test]
fn a_shorter_timer_counts_at_once() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        lab.advance(5_000);
        lab.policy.timers.seconds[Timer::Udp as usize] = Some(10);
        lab.publish();
        assert_eq!(lab.reconcile(), 0);
        lab.advance(4_990);
        assert_eq!(lab.entries(), 1);
        lab.advance(400);
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn icmp_errors_prolong_nothing() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        let about = lab.last[0].1[14..].to_vec();
        lab.advance(200_000);
        lab.pass(
            OUTSIDE,
            crate::support::error("203.0.113.5", "198.51.100.1", (3, 3), 0, &about),
        );
        lab.advance(99_000);
        assert_eq!(lab.entries(), 1);
        lab.advance(1_400);
        assert_eq!(lab.entries(), 0);
    });
}
