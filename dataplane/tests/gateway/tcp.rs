//! TCP connections and the timers of their states.

use spillway_dataplane::command::{SessionFilter, TcpState};

use crate::support::{INSIDE, Lab, OUTSIDE, Policy, each, tcp};

const CLIENT: &str = "10.1.0.2:5000";
const GLOBAL: &str = "198.51.100.1:5000";
const SERVER: &str = "203.0.113.5:80";

fn out(lab: &mut Lab, flags: &str) {
    let shown: String = "FSRPA".chars().filter(|c| flags.contains(*c)).collect();
    lab.expect(
        INSIDE,
        tcp(CLIENT, SERVER, flags),
        &format!("1 tcp {GLOBAL} > {SERVER} {shown}"),
    );
}

fn back(lab: &mut Lab, flags: &str) {
    let shown: String = "FSRPA".chars().filter(|c| flags.contains(*c)).collect();
    lab.expect(
        OUTSIDE,
        tcp(SERVER, GLOBAL, flags),
        &format!("0 tcp {SERVER} > {CLIENT} {shown}"),
    );
}

fn connect(lab: &mut Lab) {
    out(lab, "S");
    back(lab, "SA");
    out(lab, "A");
}

#[track_caller]
fn is(lab: &mut Lab, state: TcpState, seconds: u64) {
    let views = lab.sessions(SessionFilter::default());
    assert_eq!(views.len(), 1);
    assert_eq!(views[0].tcp, Some(state));
    let timeout = views[0].timeout_ms.expect("a timer");
    assert!(
        (seconds * 1000..seconds * 1000 + 64).contains(&timeout),
        "{timeout} ms"
    );
}

/// The entry lives so many seconds from now, not less and hardly more.
#[track_caller]
fn lives(lab: &mut Lab, seconds: u64) {
    lab.advance(seconds * 1000 - 1);
    assert_eq!(lab.entries(), 1, "gone too early");
    lab.advance(400);
    assert_eq!(lab.entries(), 0, "still there");
}

#[test]
fn a_connection_that_nobody_answers_lasts_a_minute() {
    each(Policy::overload, |lab| {
        out(lab, "S");
        is(lab, TcpState::Syn, 60);
        lab.advance(59_000);
        out(lab, "S");
        lives(lab, 60);
    });
}

#[test]
fn an_established_one_lasts_a_day() {
    each(Policy::overload, |lab| {
        connect(lab);
        is(lab, TcpState::Established, 86_400);
        lab.advance(1_000_000);
        back(lab, "A");
        lives(lab, 86_400);
    });
}

#[test]
fn simultaneous_open() {
    each(Policy::overload, |lab| {
        out(lab, "S");
        back(lab, "S");
        is(lab, TcpState::Established, 86_400);
        back(lab, "SA");
        out(lab, "SA");
        is(lab, TcpState::Established, 86_400);
    });
}

#[test]
fn half_closed_goes_on() {
    each(Policy::overload, |lab| {
        connect(lab);
        out(lab, "FA");
        is(lab, TcpState::FinOneWay, 86_400);
        lab.advance(3_600_000);
        back(lab, "A");
        is(lab, TcpState::FinOneWay, 86_400);
    });
}

#[test]
fn after_fin_both_ways_nothing_prolongs_it() {
    for out_first in [true, false] {
        each(Policy::overload, |lab| {
            connect(lab);
            let [first, second] = if out_first { [out, back] } else { [back, out] };
            first(lab, "FA");
            lab.advance(10_000);
            second(lab, "FA");
            is(lab, TcpState::Closed, 60);
            lab.advance(30_000);
            first(lab, "A");
            second(lab, "FA");
            lives(lab, 30);
        });
    }
}

#[test]
fn a_reset_from_outside_ends_it_unless_the_inside_host_goes_on() {
    each(Policy::overload, |lab| {
        connect(lab);
        lab.advance(10_000);
        back(lab, "R");
        is(lab, TcpState::Reset, 60);
        lab.advance(30_000);
        back(lab, "A");
        is(lab, TcpState::Reset, 60);
        out(lab, "A");
        is(lab, TcpState::Established, 86_400);
        lab.advance(100_000);
        back(lab, "R");
        lives(lab, 60);
    });
}

#[test]
fn no_two_ends_prolong_each_other() {
    each(Policy::overload, |lab| {
        connect(lab);
        out(lab, "FA");
        back(lab, "FA");
        for _ in 0..5 {
            lab.advance(10_000);
            back(lab, "R");
            is(lab, TcpState::Reset, 60);
            out(lab, "A");
            is(lab, TcpState::Closed, 60);
        }
        lives(lab, 10);
    });
}

#[test]
fn a_reset_from_inside_ends_it() {
    each(Policy::overload, |lab| {
        connect(lab);
        out(lab, "RA");
        is(lab, TcpState::Reset, 60);
        lab.advance(20_000);
        out(lab, "R");
        back(lab, "R");
        lives(lab, 40);
    });
}

#[test]
fn a_refused_connection_may_be_tried_again() {
    each(Policy::overload, |lab| {
        out(lab, "S");
        back(lab, "RA");
        is(lab, TcpState::Reset, 60);
        lab.advance(1_000);
        connect(lab);
        is(lab, TcpState::Established, 86_400);
    });
}

#[test]
fn the_same_ports_again_after_close_are_a_new_connection() {
    each(Policy::overload, |lab| {
        connect(lab);
        out(lab, "FA");
        back(lab, "FA");
        lab.advance(50_000);
        out(lab, "S");
        is(lab, TcpState::Syn, 60);
        back(lab, "SA");
        is(lab, TcpState::Established, 86_400);
        lab.advance(80_000);
        assert_eq!(lab.entries(), 1);
    });
}

#[test]
fn a_connection_is_picked_up_in_its_middle() {
    each(Policy::overload, |lab| {
        out(lab, "A");
        is(lab, TcpState::Syn, 60);
        back(lab, "A");
        is(lab, TcpState::Established, 86_400);
    });
}

#[test]
fn the_stray_end_of_a_connection_does_not_last_a_day() {
    each(Policy::overload, |lab| {
        out(lab, "FA");
        is(lab, TcpState::Syn, 60);
        lives(lab, 60);
    });
}

#[test]
fn a_syn_from_outside_does_not_revive_a_closed_connection() {
    each(Policy::overload, |lab| {
        connect(lab);
        out(lab, "FA");
        back(lab, "FA");
        lab.advance(30_000);
        back(lab, "S");
        is(lab, TcpState::Closed, 60);
        lives(lab, 30);
    });
}
