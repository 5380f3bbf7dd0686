//! Next hops whose MAC address is not known.

use spillway_dataplane::fib::{Neighbour, NextHop};
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{Frame, INSIDE, Lab, OUTSIDE, Policy, each, udp};

fn hop(last: u8) -> NextHop {
    NextHop {
        port: OUTSIDE,
        address: [198, 51, 100, last].into(),
    }
}

const MAC: [u8; 6] = [2, 1, 198, 51, 100, 99];

#[test]
fn packets_wait_and_leave_in_order() {
    let mut lab = Lab::new(Policy::overload(), 1, 100);
    assert_eq!(
        lab.run(INSIDE, udp("10.1.0.2:5", "198.51.100.99:1")),
        ["resolve 1 198.51.100.99"]
    );
    for n in 2..10 {
        assert!(
            lab.run(INSIDE, udp("10.1.0.2:5", &format!("198.51.100.99:{n}")))
                .is_empty()
        );
    }
    assert_eq!(lab.counted(Counter::NeighbourHeld), 9);
    let asked = lab.advance(1000);
    assert!((5..=10).contains(&asked.len()), "{asked:?}");
    assert!(asked.iter().all(|line| line == "resolve 1 198.51.100.99"));
    lab.neighbours.push((hop(99), Neighbour::Reachable(MAC)));
    lab.publish();
    // A packet that comes before the next poll does not overtake them.
    let got = lab.run(INSIDE, udp("10.1.0.2:5", "198.51.100.99:10"));
    let wanted: Vec<_> = (1..=10)
        .map(|n| format!("1 udp 198.51.100.1:5 > 198.51.100.99:{n}"))
        .collect();
    assert_eq!(got, wanted);
    lab.assert_nothing_leaks();
}

#[test]
fn they_leave_without_another_packet_too() {
    each(Policy::overload, |lab| {
        assert_eq!(
            lab.run(INSIDE, udp("10.1.0.2:5", "198.51.100.99:1")),
            ["resolve 1 198.51.100.99"]
        );
        lab.neighbours.push((hop(99), Neighbour::Reachable(MAC)));
        lab.publish();
        assert_eq!(lab.advance(1), ["1 udp 198.51.100.1:5 > 198.51.100.99:1"]);
    });
}

#[test]
fn nobody_answers() {
    each(Policy::overload, |lab| {
        assert_eq!(
            lab.run(INSIDE, udp("10.1.0.2:5", "198.51.100.99:1")),
            ["resolve 1 198.51.100.99"]
        );
        let told = "0 icmp 3/1 10.1.0.1 > 10.1.0.2 [udp 10.1.0.2:5 > 198.51.100.99:1]";
        let asked = |lines: Vec<String>| {
            lines
                .into_iter()
                .filter(|l| l.starts_with("resolve"))
                .count()
        };
        let waited = lab.advance(3_400);
        assert_eq!(asked(waited.clone()), waited.len());
        let given_up = lab.advance(200);
        assert!(given_up.contains(&told.to_owned()), "{given_up:?}");
        assert!(
            given_up.contains(&"drop neighbour_timeout".to_owned()),
            "{given_up:?}"
        );
        assert_eq!(
            lab.run(INSIDE, udp("10.1.0.2:5", "198.51.100.99:1")),
            ["resolve 1 198.51.100.99"]
        );
        lab.neighbours.push((hop(99), Neighbour::Failed));
        lab.publish();
        assert_eq!(lab.advance(1), [told, "drop neighbour_failed"]);
        // From now on its packets are refused at once, and it is asked for again now and then.
        let got = lab.run(INSIDE, udp("10.1.0.2:5", "198.51.100.99:1"));
        assert_eq!(
            got,
            [
                "0 icmp 3/1 10.1.0.1 > 10.1.0.2 [udp 10.1.0.2:5 > 198.51.100.99:1]",
                "drop neighbour_failed",
                "resolve 1 198.51.100.99",
            ]
        );
    });
}

#[test]
fn what_waits_is_bounded() {
    let mut lab = Lab::new(Policy::overload(), 1, 1 << 12);
    let flood: Vec<_> = (0..514)
        .map(|n| {
            (
                INSIDE,
                Frame::new(&lab.frame(
                    INSIDE,
                    &udp(&format!("10.1.0.2:{}", 5 + n), "198.51.100.99:1").ip(),
                )),
            )
        })
        .collect();
    for burst in flood.chunks(32) {
        lab.burst(burst);
    }
    assert_eq!(lab.counted(Counter::NeighbourHeld), 512);
    assert_eq!(lab.dropped(DropReason::NeighbourQueueFull), 2);
    lab.advance(4_000);
    for last in 61..=200 {
        lab.run(INSIDE, udp("10.1.0.2:5", &format!("198.51.100.{last}:1")));
    }
    assert_eq!(lab.counted(Counter::NeighbourHeld), 512 + 64);
    assert_eq!(lab.dropped(DropReason::NeighbourQueueFull), 2 + 140 - 64);
    lab.advance(4_000);
    assert_eq!(lab.dropped(DropReason::NeighbourTimeout), 512 + 64);
}
