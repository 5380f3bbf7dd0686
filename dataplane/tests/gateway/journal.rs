//! What goes into the journal for `debug` and for the log, and what does not.

use std::sync::Arc;

use spillway_dataplane::acl::{AccessList, Action, Entry, Wildcard};
use spillway_dataplane::journal::{Line, Notice, Topic};
use spillway_dataplane::session::Direction;
use spillway_dataplane::stats::DropReason;

use crate::support::{INSIDE, Lab, OUTSIDE, Policy, permit, permit_all, ping, raw, udp};

fn lab(policy: Policy) -> Lab {
    Lab::new(policy, 1, 1 << 10)
}

fn lines(lab: &Lab) -> Vec<Line> {
    std::iter::from_fn(|| lab.workers[0].stats().journal.take()).collect()
}

fn notices(lab: &Lab) -> Vec<Notice> {
    std::iter::from_fn(|| lab.workers[0].stats().journal.take_notice()).collect()
}

fn want(lab: &Lab, topics: &[Topic], only: Vec<Arc<AccessList>>) {
    lab.workers[0].stats().journal.want(topics, only);
}

const SERVER: &str = "203.0.113.5:53";

#[test]
fn nobody_asks_nothing_is_told() {
    let mut lab = lab(Policy::overload());
    lab.pass(INSIDE, udp("10.1.0.2:4000", SERVER));
    lab.pass(INSIDE, esp(1));
    assert_eq!(lines(&lab), []);
    assert_eq!(lab.workers[0].stats().journal.take_lost(), 0);
}

fn esp(sequence: u32) -> crate::support::Packet4 {
    let mut octets = [0x1000_u32.to_be_bytes(), sequence.to_be_bytes()].concat();
    octets.resize(64, 1);
    raw("10.1.0.2", "203.0.113.5", 50).data(&octets)
}

#[test]
fn every_translated_packet_has_a_line_with_its_identification() {
    let mut lab = lab(Policy::overload());
    want(&lab, &[Topic::Packets], Vec::new());
    lab.pass(INSIDE, udp("10.1.0.2:4000", SERVER).id(6825));
    lab.pass(INSIDE, udp("10.1.0.2:4000", SERVER).id(6826));
    lab.pass(OUTSIDE, udp(SERVER, "198.51.100.1:4000").id(7));
    let told: Vec<_> = lines(&lab)
        .into_iter()
        .map(|line| match line {
            Line::Translated(line) => (line.direction, line.id, line.to.sport, line.known),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        (Direction::Out, 6825, 4000, false),
        (Direction::Out, 6826, 4000, true),
        (Direction::In, 7, 53, true),
    ];
    assert_eq!(told, expected);
    lab.advance(70_000);
    let expiring = lines(&lab);
    assert!(matches!(expiring[..], [Line::Expiring(_)]), "{expiring:?}");
}

#[test]
fn only_what_a_list_permits_is_told() {
    let mut lab = lab(Policy::overload());
    want(&lab, &[Topic::Packets], vec![permit("10.1.0.3", "0.0.0.0")]);
    lab.pass(INSIDE, udp("10.1.0.2:4000", SERVER));
    assert_eq!(lines(&lab), []);
    lab.pass(INSIDE, udp("10.1.0.3:4000", SERVER));
    assert_eq!(lines(&lab).len(), 1);
}

#[test]
fn decisions_about_esp_are_told_and_established_packets_are_not() {
    let mut lab = lab(Policy::overload());
    want(&lab, &[Topic::Ipsec], Vec::new());
    lab.pass(INSIDE, esp(1));
    lab.pass(INSIDE, udp("10.1.0.2:4000", SERVER));
    let told = lines(&lab);
    let [Line::Ipsec(event)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(
        event.to_string(),
        "NAT: i: esp 10.1.0.2 -> 203.0.113.5 spi 1000 seq 1: sent as 198.51.100.1 (nobody else waits)"
    );
    lab.pass(INSIDE, esp(2));
    assert_eq!(lines(&lab), []);
}

#[test]
fn more_than_can_be_read_is_lost_and_counted() {
    let mut lab = lab(Policy::overload());
    want(&lab, &[Topic::Packets], Vec::new());
    for _ in 0..3000 {
        lab.pass(INSIDE, udp("10.1.0.2:4000", SERVER));
    }
    let told = lines(&lab).len() as u64;
    let lost = lab.workers[0].stats().journal.take_lost();
    assert_eq!(told + lost, 3000);
    assert!((900..=1024).contains(&told), "{told} lines");
}

#[test]
fn a_refused_packet_is_told_and_an_empty_pool_noticed_once_a_minute() {
    let mut lab = lab(Policy::default().rule_pool(permit_all(), "203.0.113.64", 1));
    lab.pass(INSIDE, ping("10.1.0.2", "203.0.113.5", 1));
    want(&lab, &[Topic::Packets], Vec::new());
    for _ in 0..3 {
        lab.run(INSIDE, ping("10.1.0.3", "203.0.113.5", 1));
    }
    let told = lines(&lab);
    assert_eq!(told.len(), 3);
    assert!(
        matches!(told[0], Line::Refused(r) if r.reason == DropReason::PoolExhausted),
        "{told:?}"
    );
    let expected = Notice::AllocationFailed {
        source: [10, 1, 0, 3].into(),
        reason: DropReason::PoolExhausted,
        rule: 1,
    };
    assert_eq!(notices(&lab), [expected]);
    lab.advance(61_000);
    lab.run(INSIDE, ping("10.1.0.3", "203.0.113.5", 1));
    assert_eq!(notices(&lab), [expected]);
}

#[test]
fn ah_is_noticed_with_who_sent_it() {
    let mut lab = lab(Policy::overload());
    for _ in 0..5 {
        lab.expect(
            INSIDE,
            raw("10.1.0.2", "203.0.113.5", 51).data(&[0; 40]),
            "drop ah_not_translatable",
        );
    }
    let expected = Notice::AuthenticationHeader {
        source: [10, 1, 0, 2].into(),
        destination: [203, 0, 113, 5].into(),
    };
    assert_eq!(notices(&lab), [expected]);
}

#[test]
fn ah_from_outside_is_named_as_such_too() {
    let mut lab = lab(Policy::default().rule_overload(permit_all(), &["203.0.113.64"]));
    lab.expect(
        OUTSIDE,
        raw("203.0.113.5", "203.0.113.64", 51).data(&[0; 40]),
        "drop ah_not_translatable",
    );
    assert!(matches!(
        notices(&lab)[..],
        [Notice::AuthenticationHeader { .. }]
    ));
}

#[test]
fn a_list_that_denies_hides() {
    let deny = Entry::standard(10, Action::Deny, Wildcard::ANY);
    let mut lab = lab(Policy::overload());
    want(
        &lab,
        &[Topic::Packets],
        vec![Arc::new(AccessList::new(vec![deny]))],
    );
    lab.pass(INSIDE, udp("10.1.0.2:4000", SERVER));
    assert_eq!(lines(&lab), []);
}

#[test]
fn what_comes_unasked_to_a_mapping_is_told_let_in_or_not() {
    use spillway_dataplane::nat::Filtering;
    let mut lab = lab(Policy::overload().mapping(Filtering::AddressDependent));
    lab.pass(INSIDE, udp("10.1.0.2:4000", SERVER));
    want(&lab, &[Topic::Packets], Vec::new());
    lab.pass(OUTSIDE, udp("203.0.113.5:99", "198.51.100.1:4000"));
    lab.run(OUTSIDE, udp("203.0.113.6:99", "198.51.100.1:4000"));
    match lines(&lab)[..] {
        [Line::Translated(first), Line::Refused(second)] => {
            assert_eq!((first.direction, first.known), (Direction::In, false));
            assert_eq!(first.to.dport, 4000);
            assert_eq!(second.reason, DropReason::Filtered);
            assert_eq!(second.rule, Some(1));
        }
        ref other => panic!("{other:?}"),
    }
}
