//! Workers that ask each other for ports: how much one question costs, and what it must not count twice.
//!
//! Source ports below 512 keep among themselves, so 511 flows use up an address.

use std::net::Ipv4Addr;
use std::sync::Arc;

use spillway_dataplane::acl::AccessList;
use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::snapshot::WorkerId;
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{Frame, INSIDE2, Lab, Policy, permit_all, udp};
use crate::workers::worker_of;

const OUT: &str = "203.0.113.5:9";
const PORTS: u16 = 511;

/// Two workers; the first one's clients have a flow on each low port of so many addresses. And clients of
/// the second one.
fn exhausted(addresses: u8) -> (Lab, Vec<String>) {
    exhausted_by(&permit_all(), addresses)
}

fn exhausted_by(list: &Arc<AccessList>, addresses: u8) -> (Lab, Vec<String>) {
    let pool: Vec<String> = (0..addresses)
        .map(|n| format!("198.51.100.{}", 20 + n))
        .collect();
    let pool: Vec<&str> = pool.iter().map(String::as_str).collect();
    let policy = Policy::default().rule_overload(Arc::clone(list), &pool);
    let mut lab = Lab::new(policy, 2, 1 << 14);
    let hosts = (2..80).map(|host| format!("10.2.0.{host}"));
    let (first, second): (Vec<_>, Vec<_>) =
        hosts.partition(|host| worker_of(&mut lab, host) == WorkerId(0));
    for client in &first[..usize::from(addresses)] {
        for port in 1..=PORTS {
            lab.pass(INSIDE2, udp(&format!("{client}:{port}"), OUT));
        }
    }
    assert_eq!(lab.counted(Counter::PortsAsked), 0);
    (lab, second)
}

/// One more flow of a client, with a low port; whether it was made, without a word about its port.
fn one_more(lab: &mut Lab, client: &str, sport: u16) -> bool {
    let frame = lab.frame(INSIDE2, &udp(&format!("{client}:{sport}"), OUT).ip());
    let got = lab.burst_at(1, &[(INSIDE2, Frame::new(&frame))]);
    got != ["drop ports_exhausted"]
}

#[test]
fn a_large_pool_is_asked_about_a_few_addresses_at_a_time() {
    const ADDRESSES: u8 = 9;
    let (mut lab, clients) = exhausted(ADDRESSES);
    assert!(!one_more(&mut lab, &clients[0], 1));
    // Three rounds of four addresses or less: twice it came back to its own worker between them.
    assert_eq!(lab.questions, 3 + 2);
    assert_eq!(lab.counted(Counter::PortsLent), 0);
    for n in 0..ADDRESSES {
        // Whichever address has a port to spare, it is found.
        let freed = SessionFilter {
            inside_global: Some((Ipv4Addr::new(198, 51, 100, 20 + n), Some(77))),
            ..SessionFilter::default()
        };
        assert!(lab.clear(freed) > 0);
        lab.now.0 += 1000;
        assert!(one_more(&mut lab, &clients[0], 100 + u16::from(n)));
        assert_eq!(lab.counted(Counter::PortsLent), u64::from(n) + 1);
        assert!(!one_more(&mut lab, &clients[0], 200 + u16::from(n)));
    }
    lab.assert_nothing_leaks();
}

#[test]
fn questions_are_limited() {
    for (addresses, each) in [(1, 1), (9, 3)] {
        let (mut lab, clients) = exhausted(addresses);
        lab.now.0 += 1000;
        let refuse = |lab: &mut Lab, count: u16| {
            for n in 0..count {
                let client = &clients[usize::from(n / 500)];
                assert!(!one_more(lab, client, 1 + n % 500));
            }
        };
        refuse(&mut lab, 2200);
        assert_eq!(lab.counted(Counter::PortsAsked), 2048 / each);
        assert_eq!(lab.dropped(DropReason::PortsExhausted), 2200);
        lab.now.0 += 3;
        refuse(&mut lab, 200);
        assert_eq!(lab.counted(Counter::PortsAsked), (2048 + 30) / each);
    }
}

#[test]
fn a_packet_that_went_round_is_counted_once() {
    let list = permit_all();
    let (mut lab, clients) = exhausted_by(&list, 1);
    let hits = list.hits(0);
    let misses = lab.counted(Counter::Misses);
    for n in 0..20 {
        assert!(!one_more(&mut lab, &clients[0], 1 + n));
    }
    assert_eq!(lab.counted(Counter::PortsAsked), 20);
    assert_eq!(lab.counted(Counter::Misses) - misses, 20);
    assert_eq!(list.hits(0) - hits, 20);
}

#[test]
fn who_is_too_late_for_the_ports_lent_to_it_asks_again() {
    let (mut lab, clients) = exhausted(1);
    // In blocks of their own, so that each is lent alone.
    for port in [77, 200, 333] {
        let freed = SessionFilter {
            inside_global: Some((Ipv4Addr::new(198, 51, 100, 20), Some(port))),
            ..SessionFilter::default()
        };
        assert_eq!(lab.clear(freed), 1);
    }
    let frame = |lab: &mut Lab, sport: u16| {
        let packet = udp(&format!("{}:{sport}", clients[0]), OUT);
        Frame::new(&lab.frame(INSIDE2, &packet.ip()))
    };
    let [first, second, third] = [1, 2, 3].map(|sport| frame(&mut lab, sport));
    let got = lab.burst_and(1, &[(INSIDE2, first)], |lab| {
        assert!(lab.answer(), "it asks");
        // Its port is taken before it is back, and so is the next one.
        lab.feed_early(1, INSIDE2, second);
        assert!(lab.take_over(), "it is back, and asks again");
        assert!(lab.answer());
        lab.feed_early(1, INSIDE2, third);
    });
    let made = [77, 200, 333].map(|port| format!("1 udp 198.51.100.20:{port} > {OUT}"));
    assert_eq!(got, made);
    assert_eq!(lab.counted(Counter::PortsAsked), 3);
    assert_eq!(lab.counted(Counter::PortsLent), 3);
    lab.assert_nothing_leaks();
}

#[test]
fn a_rule_may_go_while_a_packet_asks_for_its_ports() {
    let (mut lab, clients) = exhausted(9);
    let frame = lab.frame(INSIDE2, &udp(&format!("{}:1", clients[0]), OUT).ip());
    let got = lab.burst_and(1, &[(INSIDE2, Frame::new(&frame))], |lab| {
        lab.policy = Policy::default();
        lab.publish();
    });
    assert_eq!(lab.counted(Counter::PortsAsked), 1);
    assert_eq!(
        got,
        [format!("1 udp {}:1 > {OUT}", clients[0])],
        "routed, as others are now"
    );
}
