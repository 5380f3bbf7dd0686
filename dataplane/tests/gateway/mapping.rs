//! Endpoint-independent mappings: RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP queries), by
//! requirement.

use std::collections::{HashMap, HashSet};

use spillway_dataplane::command::{SessionFilter, SessionView};
use spillway_dataplane::nat::{Filtering, Group, GroupLimit, HostLimits, Timer};
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{
    INSIDE, INSIDE2, Lab, OUTSIDE, Policy, each, each_with, error, permit, permit_all, ping, pong,
    tcp, udp,
};

const PEERS: [&str; 4] = [
    "203.0.113.5:3478",
    "203.0.113.5:3479",
    "203.0.113.6:3478",
    "203.0.113.99:9",
];

fn with(filtering: Filtering) -> impl Fn() -> Policy {
    move || Policy::overload().mapping(filtering)
}

fn open() -> Policy {
    with(Filtering::EndpointIndependent)()
}

/// The mappings that there are, as `show` has them.
fn mappings(lab: &mut Lab) -> Vec<SessionView> {
    let all = lab.sessions(SessionFilter::default());
    all.into_iter().filter(|e| e.children.is_some()).collect()
}

/// The global endpoint from which this host's packets leave.
#[track_caller]
fn seen(lab: &mut Lab, from: &str, to: &str) -> (String, u16) {
    let seen = lab.pass(INSIDE, udp(from, to));
    (seen.src().to_string(), seen.sport)
}

#[test]
fn rfc4787_req1_every_peer_sees_the_same_port() {
    each(open, |lab| {
        // Another host has the port already, so that the mapping's is not the host's own.
        let first = seen(lab, "10.1.0.3:4000", PEERS[0]);
        let mine = seen(lab, "10.1.0.2:4000", PEERS[0]);
        assert_ne!(first, mine);
        for peer in PEERS {
            assert_eq!(seen(lab, "10.1.0.2:4000", peer), mine, "{peer}");
            assert_eq!(seen(lab, "10.1.0.3:4000", peer), first, "{peer}");
        }
        let other = seen(lab, "10.1.0.2:4001", PEERS[0]);
        assert_ne!(other, mine, "another endpoint");
        let back = format!("198.51.100.1:{}", mine.1);
        lab.expect(
            OUTSIDE,
            udp(PEERS[3], &back),
            "0 udp 203.0.113.99:9 > 10.1.0.2:4000",
        );
        assert_eq!(mappings(lab).len(), 3);
        assert_eq!(lab.entries(), 3 + 4 + 4 + 1, "mappings and their entries");
        assert_eq!(lab.counted(Counter::CreatedMapping), 3);
    });
}

#[test]
fn rfc4787_req1_each_protocol_has_mappings_of_its_own() {
    each(open, |lab| {
        // The same host, so that its worker has the port's block for both.
        let (_, port) = seen(lab, "10.1.0.2:4000", PEERS[0]);
        let to = format!("198.51.100.1:{port}");
        lab.expect(
            OUTSIDE,
            tcp("203.0.113.6:9", &to, "S"),
            &format!("punt 1 tcp 203.0.113.6:9 > {to} S"),
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.2:4000", "203.0.113.5:9", "S"),
            &format!("1 tcp {to} > 203.0.113.5:9 S"),
        );
        lab.expect(
            OUTSIDE,
            tcp("203.0.113.6:9", &to, "S"),
            "0 tcp 203.0.113.6:9 > 10.1.0.2:4000 S",
        );
        assert_eq!(mappings(lab).len(), 2);
    });
}

#[test]
fn rfc4787_req2_a_client_keeps_its_address() {
    let addresses = ["203.0.113.200", "203.0.113.201", "203.0.113.202"];
    let policy = || {
        let policy = Policy::default().rule_overload(permit_all(), &addresses);
        policy.mapping(Filtering::default())
    };
    each(policy, |lab| {
        let mut all = HashSet::new();
        for host in 2..30 {
            let of = |n: u16| seen(lab, &format!("10.1.0.{host}:{}", 4000 + n), PEERS[0]).0;
            let mine: HashSet<_> = (0..10).map(of).collect();
            assert_eq!(mine.len(), 1);
            all.extend(mine);
        }
        assert_eq!(all.len(), addresses.len());
    });
}

#[test]
fn rfc4787_req3_no_port_is_two_endpoints() {
    // The second rule, without mappings, has the same address.
    let policy = || {
        Policy::default()
            .rule_overload(permit("10.1.0.0", "0.0.0.255"), &["198.51.100.1"])
            .mapping(Filtering::AddressAndPortDependent)
            .rule_overload(permit_all(), &["198.51.100.1"])
    };
    each(policy, |lab| {
        let mut owner: HashMap<u16, String> = HashMap::new();
        for (turn, peer) in PEERS.into_iter().enumerate() {
            for host in 2..30 {
                // Now these, now those come first and would like to keep their port.
                let host = if turn % 2 == 0 { host } else { 31 - host };
                for (port, net, own) in [(INSIDE, 1, 4000), (INSIDE2, 2, 5000)] {
                    let from = format!("10.{net}.0.{host}:{own}");
                    let sport = lab.pass(port, udp(&from, peer)).sport;
                    let whose = owner.entry(sport).or_insert_with(|| from.clone());
                    assert_eq!(*whose, from, "port {sport}");
                }
            }
        }
    });
}

#[test]
fn rfc4787_req3_and_req4_range_and_parity() {
    each(open, |lab| {
        for own in [4000, 4001, 700, 701, 90, 91] {
            for host in 2..22 {
                let (_, port) = seen(lab, &format!("10.1.0.{host}:{own}"), PEERS[0]);
                assert_eq!(port % 2, own % 2, "parity of {own}");
                let range = |port: u16| [512, 1024].partition_point(|first| *first <= port);
                assert_eq!(range(port), range(own), "range of {own}");
            }
        }
    });
}

#[test]
fn rfc4787_req3_no_port_left_is_no_port_shared() {
    let mut lab = Lab::new(open(), 1, 1 << 12);
    let mut used = HashSet::new();
    for n in 0..511 {
        let from = format!("10.1.{}.{}:80", n / 200, 2 + n % 200);
        assert!(used.insert(lab.pass(INSIDE2, udp(&from, PEERS[0])).sport));
    }
    for peer in PEERS {
        lab.expect(INSIDE2, udp("10.9.9.9:80", peer), "drop ports_exhausted");
        // Who has a port needs no other.
        lab.pass(INSIDE2, udp("10.1.0.2:80", peer));
    }
    lab.assert_nothing_leaks();
}

#[test]
fn rfc4787_req5_and_req6_what_is_used_lives() {
    each(open, |lab| {
        let mine = seen(lab, "10.1.0.2:4000", PEERS[0]);
        for _ in 0..5 {
            lab.advance(290_000);
            assert_eq!(seen(lab, "10.1.0.2:4000", PEERS[0]), mine, "outbound");
        }
        // Another peer's entry keeps the mapping as well.
        lab.advance(200_000);
        assert_eq!(seen(lab, "10.1.0.2:4000", PEERS[2]), mine);
        lab.advance(200_000);
        assert_eq!(lab.entries(), 2, "the first peer's entry is over");
        assert_eq!(seen(lab, "10.1.0.2:4000", PEERS[1]), mine);
        lab.advance(301_000);
        assert_eq!(lab.entries(), 0, "mapping and entries");
        assert_eq!(lab.counted(Counter::Expired), 3, "a mapping goes with them");
        let (_, back) = mine;
        let back = format!("198.51.100.1:{back}");
        lab.expect(
            OUTSIDE,
            udp(PEERS[0], &back),
            &format!("punt 1 udp 203.0.113.5:3478 > {back}"),
        );
    });
}

#[test]
fn rfc4787_req8_endpoint_independent_filtering_lets_all_in() {
    each(open, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        for peer in &PEERS[1..] {
            let to = format!("0 udp {peer} > 10.1.0.2:4000");
            lab.expect(OUTSIDE, udp(peer, "198.51.100.1:4000"), &to);
            let back = format!("1 udp 198.51.100.1:4000 > {peer}");
            lab.expect(INSIDE, udp("10.1.0.2:4000", peer), &back);
        }
        assert_eq!(lab.counted(Counter::CreatedInbound), 3);
        // A port that nobody has is the appliance's, as ever.
        lab.expect(
            OUTSIDE,
            udp(PEERS[0], "198.51.100.1:4001"),
            "punt 1 udp 203.0.113.5:3478 > 198.51.100.1:4001",
        );
    });
}

#[test]
fn rfc4787_req8_address_dependent_filtering_lets_known_hosts_in() {
    each(with(Filtering::AddressDependent), |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        lab.expect(
            OUTSIDE,
            udp(PEERS[1], "198.51.100.1:4000"),
            "0 udp 203.0.113.5:3479 > 10.1.0.2:4000",
        );
        lab.expect(OUTSIDE, udp(PEERS[2], "198.51.100.1:4000"), "drop filtered");
        // What another endpoint of the same host has sent lets nobody in here.
        lab.pass(INSIDE, udp("10.1.0.2:4001", PEERS[2]));
        lab.expect(OUTSIDE, udp(PEERS[2], "198.51.100.1:4000"), "drop filtered");
        lab.pass(INSIDE, udp("10.1.0.2:4000", "203.0.113.6:1"));
        lab.expect(
            OUTSIDE,
            udp(PEERS[2], "198.51.100.1:4000"),
            "0 udp 203.0.113.6:3478 > 10.1.0.2:4000",
        );
        // And once no entry with it is left, the host is a stranger again.
        for _ in 0..2 {
            lab.advance(200_000);
            lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        }
        lab.expect(OUTSIDE, udp(PEERS[2], "198.51.100.1:4000"), "drop filtered");
        assert_eq!(lab.dropped(DropReason::Filtered), 3);
    });
}

#[test]
fn rfc4787_req8_address_and_port_dependent_filtering_lets_answers_in() {
    each(with(Filtering::AddressAndPortDependent), |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        for peer in &PEERS[1..] {
            lab.expect(OUTSIDE, udp(peer, "198.51.100.1:4000"), "drop filtered");
        }
        lab.expect(
            OUTSIDE,
            udp(PEERS[0], "198.51.100.1:4000"),
            "0 udp 203.0.113.5:3478 > 10.1.0.2:4000",
        );
        assert_eq!(lab.counted(Counter::CreatedInbound), 0);
    });
}

#[test]
fn rfc4787_req9_hairpin_with_the_external_source() {
    for filtering in Filtering::ALL {
        each(with(filtering), |lab| {
            let (_, one) = seen(lab, "10.1.0.2:4000", PEERS[0]);
            let two = lab.pass(INSIDE2, udp("10.2.0.2:4000", PEERS[0])).sport;
            let (one, two) = (format!("198.51.100.1:{one}"), format!("198.51.100.1:{two}"));
            let first = lab.run(INSIDE, udp("10.1.0.2:4000", &two));
            let there = [format!("3 udp {one} > 10.2.0.2:4000")];
            if filtering == Filtering::EndpointIndependent {
                assert_eq!(first, there);
            } else {
                assert_eq!(first, ["drop filtered"], "not asked yet");
            }
            // The other sends as well, and from now on both hear each other.
            let back = format!("0 udp {two} > 10.1.0.2:4000");
            for _ in 0..3 {
                lab.expect(INSIDE2, udp("10.2.0.2:4000", &one), &back);
                assert_eq!(lab.run(INSIDE, udp("10.1.0.2:4000", &two)), there);
            }
            // From outside, nobody is one of them.
            assert_eq!(lab.run(OUTSIDE, udp(&one, &two)), ["drop ip_source"]);
        });
    }
}

#[test]
fn rfc4787_req9_a_host_reaches_itself() {
    each(open, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        lab.pass(INSIDE, udp("10.1.0.2:4001", PEERS[0]));
        lab.expect(
            INSIDE,
            udp("10.1.0.2:4000", "198.51.100.1:4001"),
            "0 udp 198.51.100.1:4000 > 10.1.0.2:4001",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.2:4001", "198.51.100.1:4000"),
            "0 udp 198.51.100.1:4001 > 10.1.0.2:4000",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.2:4000", "198.51.100.1:4000"),
            "0 udp 198.51.100.1:4000 > 10.1.0.2:4000",
        );
    });
}

#[test]
fn a_stranger_with_a_global_source_is_nobody() {
    each(open, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        lab.expect(
            OUTSIDE,
            udp("198.51.100.1:9", "198.51.100.1:4000"),
            "drop ip_source",
        );
    });
}

#[test]
fn rfc5382_req1_and_req3_connections_from_outside() {
    each(open, |lab| {
        lab.expect(
            INSIDE,
            tcp("10.1.0.2:4000", "203.0.113.5:80", "S"),
            "1 tcp 198.51.100.1:4000 > 203.0.113.5:80 S",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.2:4000", "203.0.113.6:81", "S"),
            "1 tcp 198.51.100.1:4000 > 203.0.113.6:81 S",
        );
        // Only a SYN makes an entry, and nothing answers what does not.
        for flags in ["A", "SA", "R", "FA", "SF"] {
            lab.expect(
                OUTSIDE,
                tcp("203.0.113.7:82", "198.51.100.1:4000", flags),
                "drop no_translation",
            );
        }
        let handshake = [
            (OUTSIDE, "S", "0 tcp 203.0.113.7:82 > 10.1.0.2:4000 S"),
            (INSIDE, "SA", "1 tcp 198.51.100.1:4000 > 203.0.113.7:82 SA"),
            (OUTSIDE, "A", "0 tcp 203.0.113.7:82 > 10.1.0.2:4000 A"),
        ];
        for (port, flags, wanted) in handshake {
            let packet = if port == OUTSIDE {
                tcp("203.0.113.7:82", "198.51.100.1:4000", flags)
            } else {
                tcp("10.1.0.2:4000", "203.0.113.7:82", flags)
            };
            lab.expect(port, packet, wanted);
        }
        lab.advance(3_000_000);
        assert_eq!(lab.entries(), 2, "the mapping and the one connection");
        lab.expect(
            OUTSIDE,
            tcp("203.0.113.7:82", "198.51.100.1:4000", "A"),
            "0 tcp 203.0.113.7:82 > 10.1.0.2:4000 A",
        );
    });
}

#[test]
fn rfc5382_req4_a_filtered_syn_is_dropped_in_silence() {
    each(Policy::overload, |lab| {
        lab.policy = with(Filtering::AddressDependent)();
        lab.publish();
        lab.pass(INSIDE, tcp("10.1.0.2:4000", "203.0.113.5:80", "S"));
        lab.expect(
            OUTSIDE,
            tcp("203.0.113.6:80", "198.51.100.1:4000", "S"),
            "drop filtered",
        );
    });
}

#[test]
fn a_syn_that_nobody_answers_ends_early() {
    each(open, |lab| {
        lab.pass(INSIDE, tcp("10.1.0.2:4000", "203.0.113.5:80", "S"));
        lab.pass(OUTSIDE, tcp("203.0.113.7:82", "198.51.100.1:4000", "S"));
        lab.advance(61_000);
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn rfc5508_queries_have_one_identifier_and_no_request_gets_in() {
    each(open, |lab| {
        lab.pass(INSIDE2, ping("10.2.0.2", "203.0.113.5", 7));
        let first = lab.pass(INSIDE, ping("10.1.0.2", "203.0.113.5", 7));
        let (_, id) = first.line.rsplit_once(' ').expect("an identifier");
        let id: u16 = id.parse().expect("a number");
        assert_ne!(id, 7, "another host's");
        for peer in ["203.0.113.6", "203.0.113.7"] {
            let wanted = format!("1 ping 198.51.100.1 > {peer} {id}");
            lab.expect(INSIDE, ping("10.1.0.2", peer, 7), &wanted);
            let back = format!("0 pong {peer} > 10.1.0.2 7");
            lab.expect(OUTSIDE, pong(peer, "198.51.100.1", id), &back);
        }
        let before = lab.entries();
        for peer in ["203.0.113.6", "203.0.113.8"] {
            let punted = format!("punt 1 ping {peer} > 198.51.100.1 {id}");
            lab.expect(OUTSIDE, ping(peer, "198.51.100.1", id), &punted);
        }
        let punted = format!("punt 1 pong 203.0.113.8 > 198.51.100.1 {id}");
        lab.expect(OUTSIDE, pong("203.0.113.8", "198.51.100.1", id), &punted);
        assert_eq!(lab.entries(), before);
    });
}

#[test]
fn errors_about_a_mapped_flow_find_its_host() {
    each(open, |lab| {
        lab.pass(INSIDE2, udp("10.2.0.2:4000", PEERS[0]));
        let out = lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        let global = format!("198.51.100.1:{}", out.sport);
        lab.expect(
            OUTSIDE,
            error(
                "203.0.113.5",
                "198.51.100.1",
                (3, 3),
                0,
                &udp(&global, PEERS[0]).ip(),
            ),
            "0 icmp 3/3 203.0.113.5 > 10.1.0.2 [udp 10.1.0.2:4000 > 203.0.113.5:3478]",
        );
        // One about the mapping itself, which no packet ever was.
        let of_nobody = udp(&global, "255.255.255.255:0");
        lab.expect(
            OUTSIDE,
            error("203.0.113.5", "198.51.100.1", (3, 3), 0, &of_nobody.ip()),
            &format!(
                "punt 1 icmp 3/3 203.0.113.5 > 198.51.100.1 [udp {global} > 255.255.255.255:0]"
            ),
        );
    });
}

#[test]
fn the_rule_of_the_mapping_must_want_the_flow() {
    use spillway_dataplane::acl::{AccessList, Action, Entry, Wildcard};
    // Nothing from 10.1.0.2 to 203.0.113.6 is translated, so nothing comes in from there either.
    let list = || {
        let host = |text: &str| Wildcard::host(text.parse().expect("an address"));
        let deny = Entry {
            destination: host("203.0.113.6"),
            ..Entry::standard(10, Action::Deny, host("10.1.0.2"))
        };
        std::sync::Arc::new(AccessList::new(vec![
            deny,
            Entry::standard(20, Action::Permit, Wildcard::ANY),
        ]))
    };
    let policy = || {
        let policy = Policy::default().rule_overload(list(), &["198.51.100.1"]);
        policy.mapping(Filtering::EndpointIndependent)
    };
    each(policy, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        lab.expect(OUTSIDE, udp(PEERS[2], "198.51.100.1:4000"), "drop filtered");
        lab.expect(
            OUTSIDE,
            udp(PEERS[3], "198.51.100.1:4000"),
            "0 udp 203.0.113.99:9 > 10.1.0.2:4000",
        );
    });
}

#[test]
fn access_groups_judge_what_comes_in_unasked() {
    use spillway_dataplane::acl::{AccessList, Action, Entry, Wildcard};
    let some = |source: &str| {
        let deny = Wildcard::host(source.parse().expect("an address"));
        AccessList::new(vec![
            Entry::standard(10, Action::Deny, deny),
            Entry::standard(20, Action::Permit, Wildcard::ANY),
        ])
    };
    let policy = || {
        open()
            .access_group(1, 0, some("203.0.113.6"))
            .access_group(0, 1, some("203.0.113.99"))
    };
    each(policy, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        let denied = |lab: &mut Lab, from| {
            let lines = lab.run(OUTSIDE, udp(from, "198.51.100.1:4000"));
            lines.last().cloned().expect("a drop")
        };
        assert_eq!(denied(lab, PEERS[2]), "drop access_list_in");
        assert_eq!(denied(lab, PEERS[3]), "drop access_list_out");
        assert_eq!(lab.entries(), 2);
        lab.pass(OUTSIDE, udp("203.0.113.7:9", "198.51.100.1:4000"));
        assert_eq!(lab.reconcile(), 0);
        lab.policy.access_groups[1][0] = Some(std::sync::Arc::new(some("203.0.113.7")));
        lab.publish();
        assert_eq!(lab.reconcile(), 1, "made by a packet that is denied now");
    });
}

#[test]
fn limits_count_mappings_and_entries() {
    each(
        || open().max_entries(4),
        |lab| {
            lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
            lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[1]));
            lab.expect(
                INSIDE,
                udp("10.1.0.2:4001", PEERS[0]),
                "drop max_entries", // it would take two
            );
            lab.pass(OUTSIDE, udp(PEERS[2], "198.51.100.1:4000"));
            lab.expect(
                OUTSIDE,
                udp(PEERS[3], "198.51.100.1:4000"),
                "drop max_entries",
            );
            assert_eq!(lab.entries(), 4);
        },
    );
    let limits = || HostLimits {
        all_hosts: Some(3),
        groups: vec![GroupLimit::new(
            Group::List(permit("10.1.0.0", "0.0.0.255")),
            5,
        )],
        ..HostLimits::default()
    };
    each(
        || open().host_limits(limits()),
        |lab| {
            lab.poll();
            lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
            lab.expect(INSIDE, udp("10.1.0.2:4001", PEERS[0]), "drop max_entries");
            lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[1]));
            lab.expect(
                OUTSIDE,
                udp(PEERS[2], "198.51.100.1:4000"),
                "drop max_entries",
            );
            lab.pass(INSIDE, udp("10.1.0.3:5000", PEERS[0]));
            lab.expect(INSIDE, udp("10.1.0.4:6000", PEERS[0]), "drop max_entries");
            let counts = lab.policy.host_limits.clone().expect("limits");
            assert_eq!(counts.groups[0].entries(), 5);
            lab.clear(SessionFilter::default());
            assert_eq!(counts.groups[0].entries(), 0);
        },
    );
}

#[test]
fn a_full_table_refuses_and_leaves_nothing_behind() {
    each_with(10, open, |lab| {
        for n in 0..60 {
            lab.run(
                INSIDE,
                udp(&format!("10.1.0.{}:{}", 2 + n % 50, 2000 + n), PEERS[0]),
            );
        }
        assert!(lab.dropped(DropReason::SessionTableFull) > 0);
        let entries = lab.sessions(SessionFilter::default());
        let children: u32 = entries.iter().filter_map(|e| e.children).sum();
        let flows = entries.iter().filter(|e| e.children.is_none()).count();
        assert_eq!(children as usize, flows, "every flow is under a mapping");
    });
}

#[test]
fn strangers_leave_a_quarter_of_the_table_to_hosts_inside() {
    each_with(100, open, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        for n in 0..100 {
            lab.run(
                OUTSIDE,
                udp(&format!("203.0.113.7:{}", 1000 + n), "198.51.100.1:4000"),
            );
        }
        assert_eq!(lab.entries(), 75);
        assert_eq!(lab.dropped(DropReason::SessionTableFull), 27);
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[1]));
        assert_eq!(lab.entries(), 76);
    });
}

#[test]
fn the_mapping_is_shown_with_its_entries() {
    each(open, |lab| {
        lab.pass(INSIDE, tcp("10.1.0.2:4000", "203.0.113.5:80", "S"));
        lab.pass(OUTSIDE, tcp("203.0.113.6:80", "198.51.100.1:4000", "S"));
        let [mapping] = mappings(lab)[..] else {
            panic!("one mapping");
        };
        assert_eq!(mapping.children, Some(2));
        assert_eq!((mapping.protocol, mapping.rule), (6, 1));
        assert_eq!(
            (mapping.inside_local.port, mapping.inside_global.port),
            (4000, 4000)
        );
        assert_eq!(
            (mapping.outside_local, mapping.outside_global),
            (None, None)
        );
        assert_eq!((mapping.tcp, mapping.timeout_ms), (None, None));
    });
}

#[test]
fn a_named_mapping_with_entries_goes_only_when_forced() {
    each(open, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[2]));
        lab.pass(INSIDE, udp("10.1.0.3:5000", PEERS[2]));
        let address = |text: &str| text.parse().expect("an address");
        let named = SessionFilter {
            protocol: Some(17),
            inside_global: Some((address("198.51.100.1"), Some(4000))),
            inside_local: Some((address("10.1.0.2"), Some(4000))),
            ..SessionFilter::default()
        };
        assert_eq!(lab.clear(named), 0, "it has entries");
        assert_eq!(lab.entries(), 5);
        let of_peer = SessionFilter {
            outside_global: Some((address("203.0.113.6"), Some(3478))),
            ..named
        };
        assert_eq!(lab.clear(of_peer), 1);
        assert_eq!(lab.entries(), 4);
        let forced = SessionFilter {
            forced: true,
            ..named
        };
        assert_eq!(
            lab.clear(forced),
            1,
            "its last entry, and the mapping with it"
        );
        assert_eq!(lab.entries(), 2);
    });
}

#[test]
fn only_the_filtering_changes_and_everything_stays() {
    each(open, |lab| {
        let mine = seen(lab, "10.1.0.2:4000", PEERS[0]);
        lab.pass(OUTSIDE, udp(PEERS[2], "198.51.100.1:4000"));
        for filtering in [
            Filtering::AddressDependent,
            Filtering::AddressAndPortDependent,
            Filtering::AddressDependent,
        ] {
            lab.policy.rules[0].mapping = Some(filtering);
            lab.publish();
            assert_eq!(lab.reconcile(), 0, "{filtering:?}");
            assert_eq!(lab.entries(), 3);
            lab.pass(OUTSIDE, udp(PEERS[2], "198.51.100.1:4000"));
            let near = lab.run(OUTSIDE, udp(PEERS[1], "198.51.100.1:4000"));
            if filtering == Filtering::AddressDependent {
                assert_eq!(near, ["0 udp 203.0.113.5:3479 > 10.1.0.2:4000"]);
                let of = SessionFilter {
                    outside_global: Some(([203, 0, 113, 5].into(), Some(3479))),
                    ..SessionFilter::default()
                };
                assert_eq!(lab.clear(of), 1);
            } else {
                assert_eq!(near, ["drop filtered"]);
            }
            // Who was let in once without being asked opens no door for others of its host.
            lab.expect(
                OUTSIDE,
                udp("203.0.113.6:1", "198.51.100.1:4000"),
                "drop filtered",
            );
        }
        assert_eq!(seen(lab, "10.1.0.2:4000", PEERS[3]), mine);
    });
}

#[test]
fn a_rule_that_becomes_another_takes_its_entries_with_it() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        lab.policy.rules[0].mapping = Some(Filtering::EndpointIndependent);
        lab.publish();
        assert_eq!(lab.reconcile(), 1, "made without a mapping");
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[1]));
        // The same rule under another number keeps them.
        lab.policy.rules[0].id = 9;
        lab.publish();
        assert_eq!(lab.reconcile(), 0);
        assert_eq!(mappings(lab)[0].rule, 9);
        lab.expect(
            INSIDE,
            udp("10.1.0.2:4000", PEERS[2]),
            "1 udp 198.51.100.1:4000 > 203.0.113.6:3478",
        );
        lab.policy.rules[0].mapping = None;
        lab.publish();
        assert_eq!(lab.reconcile(), 3, "and the mapping");
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn old_entries_that_share_a_port_are_left_alone() {
    each(Policy::overload, |lab| {
        // Two hosts have the port, and the one that holds its mark goes first.
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[2]));
        let policy = std::mem::take(&mut lab.policy);
        lab.policy = Policy {
            rules: Vec::new(),
            ..policy
        }
        .rule_overload(permit("10.1.0.3", "0.0.0.0"), &["198.51.100.1"])
        .mapping(Filtering::EndpointIndependent)
        .rule_overload(permit_all(), &["198.51.100.1"]);
        lab.publish();
        assert_eq!(lab.reconcile(), 0);
        let of = SessionFilter {
            outside_global: Some(([203, 0, 113, 5].into(), None)),
            ..SessionFilter::default()
        };
        assert_eq!(lab.clear(of), 1);
        let taken = seen(lab, "10.1.0.3:4000", PEERS[0]).1;
        let lines = lab.run(INSIDE, udp("10.1.0.3:4000", PEERS[2]));
        if taken == 4000 {
            assert_eq!(lines, ["drop ports_exhausted"], "that is the old one's");
        } else {
            assert_eq!(lab.last.len(), 1, "{lines:?}");
        }
        lab.expect(
            OUTSIDE,
            udp(PEERS[2], "198.51.100.1:4000"),
            "0 udp 203.0.113.6:3478 > 10.1.0.2:4000",
        );
    });
}

#[test]
fn fragments_make_entries_as_whole_packets_do() {
    each(open, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        let pieces = udp(PEERS[2], "198.51.100.1:4000")
            .size(2000)
            .fragments(1000);
        let lines: Vec<_> = pieces
            .into_iter()
            .rev()
            .flat_map(|piece| lab.run(OUTSIDE, piece))
            .collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines.iter().all(|line| line.contains("10.1.0.2")),
            "{lines:?}"
        );
        assert_eq!(lab.counted(Counter::CreatedInbound), 1);
    });
}

#[test]
fn timers_are_those_of_the_entries() {
    each(
        || {
            open()
                .timer(Timer::Udp, Some(120))
                .port_timer(17, 3478, None)
        },
        |lab| {
            lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
            lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[3]));
            lab.pass(OUTSIDE, udp(PEERS[2], "198.51.100.1:4000"));
            lab.advance(1_000_000);
            assert_eq!(lab.entries(), 3, "those of port 3478 have no end");
        },
    );
}

#[test]
fn ike_ports_stand_apart() {
    each(open, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", PEERS[0]));
        let mapped = mappings(lab).len();
        lab.run(INSIDE, udp("10.1.0.2:4000", "203.0.113.6:4500"));
        assert_eq!(mappings(lab).len(), mapped);
        let lines = lab.run(OUTSIDE, udp("203.0.113.7:4500", "198.51.100.1:4000"));
        assert!(lines[0].starts_with("punt "), "{lines:?}");
    });
}
