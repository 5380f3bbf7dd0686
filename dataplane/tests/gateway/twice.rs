//! Outside hosts with a static of their own (`ip nat outside source static`), alone and with inside
//! translations: both ends of a flow change.

use spillway_dataplane::acl::{AccessList, Action, Entry, Wildcard};
use spillway_dataplane::command::{Because, Ending, FlowQuery};
use spillway_dataplane::snapshot::{PortId, VrfId};
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{
    INSIDE, INSIDE2, OUTSIDE, PLAIN, Policy, each, error, net_of, ping, pong, raw, tcp, udp,
};

/// 203.0.113.8 is 172.16.0.8 inside.
fn alone() -> Policy {
    Policy::default().outside_fixed("203.0.113.8", "172.16.0.8", false)
}

/// The same for inside hosts with an address of their own and with a shared one.
fn twice() -> Policy {
    Policy::overload()
        .fixed("10.1.0.9", "198.51.100.9")
        .forward(6, ("10.1.0.10", 8080), ("198.51.100.1", 80))
        .outside_fixed("203.0.113.8", "172.16.0.8", false)
}

/// Hosts behind the router inside and behind the one outside have the same addresses: 10.9.0.0/16.
fn overlapping() -> Policy {
    Policy::overload()
        .fixed("10.9.0.5", "198.51.100.9")
        .outside_fixed("10.9.0.5", "172.16.0.5", false)
}

#[test]
fn an_outside_static_alone_makes_no_state() {
    each(alone, |lab| {
        let lines = [
            (
                INSIDE,
                tcp("10.1.0.2:5", "172.16.0.8:80", "S"),
                "1 tcp 10.1.0.2:5 > 203.0.113.8:80 S",
            ),
            (
                OUTSIDE,
                tcp("203.0.113.8:80", "10.1.0.2:5", "SA"),
                "0 tcp 172.16.0.8:80 > 10.1.0.2:5 SA",
            ),
            (
                OUTSIDE,
                udp("203.0.113.8:9", "10.2.0.2:7"),
                "3 udp 172.16.0.8:9 > 10.2.0.2:7",
            ),
            (
                INSIDE2,
                udp("10.2.0.2:7", "172.16.0.8:9"),
                "1 udp 10.2.0.2:7 > 203.0.113.8:9",
            ),
            (
                INSIDE,
                ping("10.1.0.2", "172.16.0.8", 4),
                "1 ping 10.1.0.2 > 203.0.113.8 4",
            ),
            (
                OUTSIDE,
                pong("203.0.113.8", "10.1.0.2", 4),
                "0 pong 172.16.0.8 > 10.1.0.2 4",
            ),
            (
                OUTSIDE,
                ping("203.0.113.8", "10.1.0.2", 4),
                "0 ping 172.16.0.8 > 10.1.0.2 4",
            ),
            (
                OUTSIDE,
                raw("203.0.113.8", "10.1.0.2", 47),
                "0 ip47 172.16.0.8 > 10.1.0.2",
            ),
            (
                INSIDE,
                raw("10.1.0.2", "172.16.0.8", 50),
                "1 ip50 10.1.0.2 > 203.0.113.8",
            ),
            (
                OUTSIDE,
                raw("203.0.113.8", "10.1.0.2", 50),
                "0 ip50 172.16.0.8 > 10.1.0.2",
            ),
            // Others are not concerned, nor is who does not go from one side to the other.
            (
                OUTSIDE,
                udp("203.0.113.9:9", "10.1.0.2:7"),
                "0 udp 203.0.113.9:9 > 10.1.0.2:7",
            ),
            (
                INSIDE,
                udp("10.1.0.2:7", "203.0.113.8:9"),
                "1 udp 10.1.0.2:7 > 203.0.113.8:9",
            ),
            (
                OUTSIDE,
                udp("203.0.113.8:9", "192.0.2.5:7"),
                "2 udp 203.0.113.8:9 > 192.0.2.5:7",
            ),
            (
                PLAIN,
                udp("192.0.2.5:7", "10.1.0.2:9"),
                "0 udp 192.0.2.5:7 > 10.1.0.2:9",
            ),
            (
                OUTSIDE,
                udp("203.0.113.8:9", "198.51.100.1:7"),
                "punt 1 udp 203.0.113.8:9 > 198.51.100.1:7",
            ),
        ];
        for (port, packet, wanted) in lines {
            lab.expect(port, packet, wanted);
        }
        assert_eq!(lab.entries(), 0);
        let used = lab.policy.outside_statics[0]
            .last_used
            .load(std::sync::atomic::Ordering::Relaxed);
        assert_ne!(used, 0);
    });
}

#[test]
fn both_ends_change_at_once() {
    each(twice, |lab| {
        let lines = [
            // Two statics.
            (
                OUTSIDE,
                tcp("203.0.113.8:4", "198.51.100.9:22", "S"),
                "0 tcp 172.16.0.8:4 > 10.1.0.9:22 S",
            ),
            (
                INSIDE,
                tcp("10.1.0.9:22", "172.16.0.8:4", "SA"),
                "1 tcp 198.51.100.9:22 > 203.0.113.8:4 SA",
            ),
            (
                INSIDE,
                raw("10.1.0.9", "172.16.0.8", 50),
                "1 ip50 198.51.100.9 > 203.0.113.8",
            ),
            (
                OUTSIDE,
                raw("203.0.113.8", "198.51.100.9", 50),
                "0 ip50 172.16.0.8 > 10.1.0.9",
            ),
            // A port and a host.
            (
                OUTSIDE,
                tcp("203.0.113.8:4", "198.51.100.1:80", "S"),
                "0 tcp 172.16.0.8:4 > 10.1.0.10:8080 S",
            ),
            (
                INSIDE,
                tcp("10.1.0.10:8080", "172.16.0.8:4", "SA"),
                "1 tcp 198.51.100.1:80 > 203.0.113.8:4 SA",
            ),
        ];
        for (port, packet, wanted) in lines {
            lab.expect(port, packet, wanted);
        }
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn an_entry_has_both_addresses_of_both_hosts() {
    each(twice, |lab| {
        let seen = lab.pass(INSIDE, tcp("10.1.0.2:5000", "172.16.0.8:80", "S"));
        assert_eq!(
            (seen.src().octets(), seen.dst().octets()),
            ([198, 51, 100, 1], [203, 0, 113, 8])
        );
        let ours = format!("198.51.100.1:{}", seen.sport);
        lab.expect(
            OUTSIDE,
            tcp("203.0.113.8:80", &ours, "SA"),
            "0 tcp 172.16.0.8:80 > 10.1.0.2:5000 SA",
        );
        for _ in 0..2 {
            let wanted = format!("1 tcp {ours} > 203.0.113.8:80 A");
            lab.expect(INSIDE, tcp("10.1.0.2:5000", "172.16.0.8:80", "A"), &wanted);
        }
        let entry = lab.sessions(Default::default())[0];
        let (local, global) = (
            entry.outside_local.expect("one"),
            entry.outside_global.expect("one"),
        );
        assert_eq!(local.address.octets(), [172, 16, 0, 8]);
        assert_eq!(global.address.octets(), [203, 0, 113, 8]);
        // The same host by its own address is another flow, which needs another port.
        let direct = lab.pass(INSIDE, tcp("10.1.0.2:5000", "203.0.113.8:80", "S"));
        assert_ne!(direct.sport, seen.sport);
        assert_eq!(lab.entries(), 2);
        // Nobody outside may say that he is whom the inside knows by this address.
        lab.expect(
            OUTSIDE,
            udp("172.16.0.8:80", "10.1.0.2:1"),
            "drop ip_source",
        );
    });
}

#[test]
fn where_both_sides_have_the_same_addresses() {
    each(overlapping, |lab| {
        let seen = lab.pass(INSIDE, udp("10.9.0.7:5000", "172.16.0.5:53"));
        assert_eq!(
            (seen.src().octets(), seen.dst().octets()),
            ([198, 51, 100, 1], [10, 9, 0, 5])
        );
        let ours = format!("198.51.100.1:{}", seen.sport);
        lab.expect(
            OUTSIDE,
            udp("10.9.0.5:53", &ours),
            "0 udp 172.16.0.5:53 > 10.9.0.7:5000",
        );
        // After a new snapshot the way is found again.
        lab.publish();
        let wanted = format!("1 udp {ours} > 10.9.0.5:53");
        lab.expect(INSIDE, udp("10.9.0.7:5000", "172.16.0.5:53"), &wanted);
        // Two hosts with one address talk to each other.
        lab.expect(
            INSIDE,
            ping("10.9.0.5", "172.16.0.5", 3),
            "1 ping 198.51.100.9 > 10.9.0.5 3",
        );
        lab.expect(
            OUTSIDE,
            pong("10.9.0.5", "198.51.100.9", 3),
            "0 pong 172.16.0.5 > 10.9.0.5 3",
        );
        // What goes to the same address inside stays there.
        lab.expect(
            INSIDE2,
            udp("10.2.0.2:1", "10.9.0.5:2"),
            "0 udp 10.2.0.2:1 > 10.9.0.5:2",
        );
    });
}

#[test]
fn without_add_route_the_local_address_must_lead_outside() {
    let inside =
        |add_route| move || Policy::overload().outside_fixed("203.0.113.8", "10.1.0.77", add_route);
    each(inside(false), |lab| {
        lab.expect(
            INSIDE2,
            udp("10.2.0.2:1", "10.1.0.77:2"),
            "resolve 0 10.1.0.77",
        );
        lab.advance(4_000);
        lab.routes.push((
            net_of("10.1.0.77/32"),
            spillway_dataplane::fib::Route::Unreachable,
        ));
        lab.publish();
        let got = lab.run(INSIDE2, udp("10.2.0.2:1", "10.1.0.77:2"));
        assert_eq!(got[1], "drop no_route", "{got:?}");
    });
    each(inside(true), |lab| {
        let seen = lab.pass(INSIDE2, udp("10.2.0.2:1", "10.1.0.77:2"));
        assert_eq!(seen.dst().octets(), [203, 0, 113, 8]);
        lab.expect(
            OUTSIDE,
            udp("203.0.113.8:2", &format!("198.51.100.1:{}", seen.sport)),
            "3 udp 10.1.0.77:2 > 10.2.0.2:1",
        );
    });
}

#[test]
fn the_rules_are_asked_with_the_local_address() {
    let to = |destination: &str| {
        let host = |text: &str| Wildcard::host(text.parse().expect("an address"));
        let entry = Entry {
            destination: host(destination),
            ..Entry::standard(10, Action::Permit, Wildcard::ANY)
        };
        std::sync::Arc::new(AccessList::new(vec![entry]))
    };
    for (destination, translated) in [("172.16.0.8", true), ("203.0.113.8", false)] {
        let policy = || {
            Policy::default()
                .rule_overload(to(destination), &["198.51.100.1"])
                .outside_fixed("203.0.113.8", "172.16.0.8", false)
        };
        each(policy, |lab| {
            let seen = lab.pass(INSIDE, udp("10.1.0.2:1025", "172.16.0.8:2"));
            assert_eq!(seen.src().octets() == [198, 51, 100, 1], translated);
            assert_eq!(seen.dst().octets(), [203, 0, 113, 8]);
        });
    }
}

#[test]
fn access_groups_see_packets_as_they_come_and_as_they_leave() {
    let deny = |source: &str| {
        let host = Wildcard::host(source.parse().expect("an address"));
        AccessList::new(vec![
            Entry::standard(10, Action::Deny, host),
            Entry::standard(20, Action::Permit, Wildcard::ANY),
        ])
    };
    let cases = [
        (OUTSIDE, 0, "203.0.113.8", Some(DropReason::AccessListIn)),
        (OUTSIDE, 0, "172.16.0.8", None),
        (INSIDE, 1, "172.16.0.8", Some(DropReason::AccessListOut)),
        (INSIDE, 1, "203.0.113.8", None),
    ];
    for (port, way, source, dropped) in cases {
        each(
            || twice().access_group(port.index(), way, deny(source)),
            |lab| {
                let got = lab.run(OUTSIDE, tcp("203.0.113.8:4", "198.51.100.9:22", "S"));
                match dropped {
                    Some(reason) => {
                        assert!(got.contains(&format!("drop {}", reason.name())), "{got:?}")
                    }
                    None => assert_eq!(got, ["0 tcp 172.16.0.8:4 > 10.1.0.9:22 S"]),
                }
            },
        );
    }
}

#[test]
fn errors_name_hosts_as_their_reader_knows_them() {
    each(twice, |lab| {
        // About a packet of an entry: from its destination, and from a router on the way.
        let seen = lab.pass(INSIDE, udp("10.1.0.2:5000", "172.16.0.8:53"));
        let about = lab.last[0].1[14..].to_vec();
        let inner = "[udp 10.1.0.2:5000 > 172.16.0.8:53]";
        lab.expect(
            OUTSIDE,
            error("203.0.113.8", "198.51.100.1", (3, 3), 0, &about),
            &format!("0 icmp 3/3 172.16.0.8 > 10.1.0.2 {inner}"),
        );
        lab.expect(
            OUTSIDE,
            error("203.0.113.77", "198.51.100.1", (11, 0), 0, &about),
            &format!("0 icmp 11/0 203.0.113.77 > 10.1.0.2 {inner}"),
        );
        // The inside host refuses an answer.
        lab.pass(
            OUTSIDE,
            udp("203.0.113.8:53", &format!("198.51.100.1:{}", seen.sport)),
        );
        let about = lab.last[0].1[14..].to_vec();
        let wanted = format!(
            "1 icmp 3/3 198.51.100.1 > 203.0.113.8 [udp 203.0.113.8:53 > 198.51.100.1:{}]",
            seen.sport
        );
        lab.expect(
            INSIDE,
            error("10.1.0.2", "172.16.0.8", (3, 3), 0, &about),
            &wanted,
        );
        // About packets of two statics.
        lab.pass(INSIDE, tcp("10.1.0.9:22", "172.16.0.8:4", "SA"));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            OUTSIDE,
            error("203.0.113.8", "198.51.100.9", (3, 1), 0, &about[..28]),
            "0 icmp 3/1 172.16.0.8 > 10.1.0.9 [tcp 10.1.0.9:22 > 172.16.0.8:4 cut]",
        );
        lab.pass(OUTSIDE, udp("203.0.113.8:4", "198.51.100.9:22"));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            INSIDE,
            error("10.1.0.9", "172.16.0.8", (3, 3), 0, &about),
            "1 icmp 3/3 198.51.100.9 > 203.0.113.8 [udp 203.0.113.8:4 > 198.51.100.9:22]",
        );
    });
    each(alone, |lab| {
        // The inside host has its own address outside.
        lab.pass(INSIDE, udp("10.1.0.2:5", "172.16.0.8:53"));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            OUTSIDE,
            error("203.0.113.8", "10.1.0.2", (3, 3), 0, &about),
            "0 icmp 3/3 172.16.0.8 > 10.1.0.2 [udp 10.1.0.2:5 > 172.16.0.8:53]",
        );
        lab.pass(OUTSIDE, udp("203.0.113.8:53", "10.1.0.2:5"));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            INSIDE,
            error("10.1.0.254", "172.16.0.8", (11, 0), 0, &about),
            "1 icmp 11/0 10.1.0.254 > 203.0.113.8 [udp 203.0.113.8:53 > 10.1.0.2:5]",
        );
        // A host with a static says something about a packet to another.
        lab.pass(INSIDE, udp("10.1.0.2:5", "203.0.113.9:53"));
        assert_eq!(lab.dropped(DropReason::IcmpErrorUnmatched), 0);
    });
}

#[test]
fn fragments_in_any_order() {
    each(twice, |lab| {
        let whole = udp("10.1.0.2:5000", "172.16.0.8:53").size(100);
        let mut got = Vec::new();
        for fragment in whole.fragments(40).into_iter().rev() {
            got.extend(lab.run(INSIDE, fragment));
        }
        assert_eq!(got.len(), 3, "{got:?}");
        assert!(got.iter().all(|l| l.starts_with("1 frag 17 ")), "{got:?}");
        assert!(got.iter().all(|l| l.contains("203.0.113.8")), "{got:?}");
        let mut got = Vec::new();
        let answer = udp("203.0.113.8:4", "198.51.100.9:22").size(100);
        for fragment in answer.fragments(40).into_iter().rev() {
            got.extend(lab.run(OUTSIDE, fragment));
        }
        assert_eq!(got.len(), 3, "{got:?}");
        assert!(
            got.iter()
                .all(|l| l.contains("172.16.0.8:") && l.contains("10.1.0.9:")),
            "{got:?}"
        );
    });
}

#[test]
fn hosts_inside_still_meet_through_a_global_address() {
    each(twice, |lab| {
        lab.expect(
            INSIDE,
            tcp("10.1.0.9:5", "198.51.100.1:80", "S"),
            "0 tcp 198.51.100.9:5 > 10.1.0.10:8080 S",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.10:8080", "198.51.100.9:5", "SA"),
            "0 tcp 198.51.100.1:80 > 10.1.0.9:5 SA",
        );
    });
}

#[test]
fn ike_of_a_translated_host_is_like_any_udp() {
    each(twice, |lab| {
        let seen = lab.pass(INSIDE, udp("10.1.0.2:4500", "172.16.0.8:4500"));
        assert_eq!(seen.dst().octets(), [203, 0, 113, 8]);
        let ours = format!("198.51.100.1:{}", seen.sport);
        lab.expect(
            OUTSIDE,
            udp("203.0.113.8:4500", &ours),
            "0 udp 172.16.0.8:4500 > 10.1.0.2:4500",
        );
        lab.expect(
            INSIDE,
            raw("10.1.0.2", "172.16.0.8", 50),
            "drop protocol_not_translatable",
        );
    });
}

#[test]
fn a_reload_removes_what_it_would_not_make() {
    each(twice, |lab| {
        let seen = lab.pass(INSIDE, udp("10.1.0.2:5000", "172.16.0.8:53"));
        let ours = format!("198.51.100.1:{}", seen.sport);
        lab.pass(INSIDE, udp("10.1.0.2:5001", "203.0.113.9:53"));
        lab.publish();
        assert_eq!(
            (lab.reconcile(), lab.entries()),
            (0, 2),
            "nothing has changed"
        );
        lab.policy.outside_statics.clear();
        lab.publish();
        // Under traffic, before the entries are looked at.
        let wanted = format!("1 udp {ours} > 203.0.113.8:53");
        lab.expect(INSIDE, udp("10.1.0.2:5000", "172.16.0.8:53"), &wanted);
        assert_eq!((lab.reconcile(), lab.entries()), (1, 1));
        assert_eq!(lab.counted(Counter::Withdrawn), 1);
        let now = lab.pass(INSIDE, udp("10.1.0.2:5000", "172.16.0.8:53"));
        assert_eq!(
            now.dst().octets(),
            [172, 16, 0, 8],
            "to somebody else, like any address"
        );
        lab.policy =
            std::mem::take(&mut lab.policy).outside_fixed("203.0.113.7", "172.16.0.8", false);
        lab.publish();
        assert_eq!(lab.reconcile(), 1, "the address means another host now");
    });
}

#[test]
fn explain_names_the_static() {
    each(alone, |lab| {
        let query = FlowQuery {
            vrf: VrfId::GLOBAL,
            protocol: 17,
            source: ([10, 1, 0, 2].into(), 5),
            destination: ([172, 16, 0, 8].into(), 53),
        };
        let said = lab.explain_flow(query);
        assert_eq!(
            (said.because, said.ending),
            (Because::Static, Ending::Forwarded)
        );
        assert_eq!(said.hop.map(|hop| hop.port), Some(PortId(1)));
        assert_eq!(
            said.to.map(|to| to.dst.to_be_bytes()),
            Some([203, 0, 113, 8])
        );
    });
}
