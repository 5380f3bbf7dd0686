//! The dry run of `explain` says what then happens, and changes nothing.

use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::prelude::*;
use spillway_dataplane::acl::{AccessList, Action, Entry, Wildcard};
use spillway_dataplane::command::{
    Because, Ending, Explained, FlowExplanation, FlowQuery, Query, Reply, Request, SessionFilter,
};
use spillway_dataplane::esp::Fate;
use spillway_dataplane::gateway::Spare;
use spillway_dataplane::nat::{Filtering, Group, GroupLimit, HostLimits, Lending, StaticEsp};
use spillway_dataplane::route_map::{Clause, RouteMap};
use spillway_dataplane::snapshot::VrfId;
use spillway_dataplane::stats::DropReason;
use spillway_dataplane::time::Tick;

use crate::support::{INSIDE, Lab, Packet4, Policy, each, permit, permit_all, ping, raw, tcp, udp};

fn policies() -> Vec<fn() -> Policy> {
    vec![
        Policy::overload,
        || {
            Policy::overload()
                .fixed("10.1.0.10", "203.0.113.10")
                .forward(6, ("10.1.0.3", 80), ("198.51.100.1", 80))
        },
        || Policy::default().rule_pool(permit("10.1.0.0", "0.0.0.7"), "203.0.113.64", 2),
        || Policy::default().rule_overload(permit_all(), &["203.0.113.64", "203.0.113.65"]),
        || Policy::overload().max_entries(3),
        || {
            let some = |source: &str| {
                let deny = Wildcard::host(source.parse().expect("an address"));
                AccessList::new(vec![
                    Entry::standard(10, Action::Deny, deny),
                    Entry::standard(20, Action::Permit, Wildcard::ANY),
                ])
            };
            Policy::overload()
                .fixed("10.1.0.10", "203.0.113.10")
                .access_group(0, 0, some("10.1.0.2"))
                .access_group(1, 1, some("203.0.113.10"))
                .access_group(1, 0, some("203.0.113.5"))
        },
        || {
            let ranges = [
                ("203.0.113.64", "203.0.113.65"),
                ("203.0.113.9", "203.0.113.10"),
            ];
            Policy::default()
                .fixed("10.1.0.10", "203.0.113.10")
                .rule_ranges(Lending::Rotary, &ranges)
        },
        || {
            let ranges = [
                ("203.0.113.1", "203.0.113.10"),
                ("198.51.100.99", "198.51.100.99"),
            ];
            Policy::default().rule_ranges(Lending::MatchHost(0xff), &ranges)
        },
        || {
            let limits = HostLimits {
                all_hosts: Some(2),
                hosts: [([10, 1, 0, 3].into(), 3)].into(),
                groups: vec![GroupLimit::new(
                    Group::List(permit("10.1.0.0", "0.0.0.255")),
                    4,
                )],
            };
            Policy::overload().host_limits(limits)
        },
        || Policy::overload().mapping(Filtering::EndpointIndependent),
        || {
            let map = |list| RouteMap {
                clauses: vec![Clause {
                    action: Action::Permit,
                    lists: Some(vec![list]),
                    interfaces: None,
                    next_hops: None,
                }],
            };
            let hosts = || map(permit("10.1.0.0", "0.0.0.7"));
            let policy = Policy::default().rule_map_pool(hosts(), "203.0.113.64", 1);
            let policy = policy.rule_overload(permit_all(), &["198.51.100.1"]);
            policy.max_entries(9)
        },
        || {
            let policy = Policy::default().rule_overload(permit_all(), &["203.0.113.10"]);
            policy.mapping(Filtering::AddressDependent).max_entries(7)
        },
        || {
            let limits = HostLimits {
                all_hosts: Some(3),
                hosts: [([10, 1, 0, 3].into(), 4)].into(),
                groups: vec![GroupLimit::new(
                    Group::List(permit("10.1.0.0", "0.0.0.255")),
                    7,
                )],
            };
            let policy = Policy::default()
                .rule_overload(permit("10.1.0.0", "0.0.0.3"), &["198.51.100.1"])
                .mapping(Filtering::EndpointIndependent);
            let policy = policy.rule_overload(permit_all(), &["198.51.100.1"]);
            policy.host_limits(limits)
        },
        || {
            Policy::overload()
                .fixed("10.1.0.10", "203.0.113.10")
                .outside_fixed("203.0.113.5", "172.16.0.5", false)
                .outside_fixed("10.2.0.2", "172.16.0.7", false)
        },
        || {
            Policy::default()
                .fixed("10.1.0.10", "203.0.113.64")
                .outside_fixed("203.0.113.5", "10.1.0.99", true)
                .outside_fixed("203.0.113.10", "172.16.0.5", true)
        },
        || {
            Policy::overload()
                .fixed("10.1.0.10", "203.0.113.64")
                .outside_pool(
                    permit("203.0.113.0", "0.0.0.255"),
                    "172.16.0.4",
                    "172.16.0.5",
                )
        },
        || {
            Policy::default()
                .rule_pool(permit_all(), "203.0.113.64", 2)
                .outside_fixed("203.0.113.10", "172.16.0.6", false)
                .outside_pool(
                    permit("203.0.113.0", "0.0.0.255"),
                    "172.16.0.5",
                    "172.16.0.6",
                )
                .max_entries(2)
        },
        || {
            Policy::overload()
                .fixed("10.1.0.10", "203.0.113.10")
                .outside_fixed("203.0.113.5", "172.16.0.5", false)
                .share(
                    permit("203.0.113.64", "0.0.0.0"),
                    &[("10.1.0.2", "10.1.0.3")],
                )
                .share(permit("172.16.0.7", "0.0.0.0"), &[])
        },
    ]
}

impl Lab {
    /// The one answer that the workers give.
    fn explain(&mut self, query: Query) -> Vec<Explained> {
        let mut all = Vec::new();
        for at in 0..self.workers.len() {
            let reply = Reply::new(64);
            self.serve(at, Request::Explain(query, Arc::clone(&reply)));
            all.extend(std::iter::from_fn(|| reply.take()));
            assert!(reply.is_finished());
        }
        all
    }

    pub(crate) fn explain_flow(&mut self, query: FlowQuery) -> FlowExplanation {
        let all = self.explain(Query::Flow(query));
        let flows = all.iter().filter_map(|one| match one {
            Explained::Flow(flow) => Some(*flow),
            Explained::Esp(_) => None,
        });
        // As control does: what has an entry goes before what has none.
        let by_entry = |flow: &FlowExplanation| !matches!(flow.because, Because::Entry(_));
        flows.min_by_key(by_entry).expect("an answer")
    }
}

fn packet(query: &FlowQuery) -> Packet4 {
    let end = |(address, port): (Ipv4Addr, u16)| format!("{address}:{port}");
    let (from, to) = (end(query.source), end(query.destination));
    match query.protocol {
        6 => tcp(&from, &to, "S"),
        17 => udp(&from, &to),
        _ => ping(
            &query.source.0.to_string(),
            &query.destination.0.to_string(),
            query.source.1,
        ),
    }
}

fn check(lab: &mut Lab, query: FlowQuery) {
    let entries = lab.sessions(SessionFilter::default()).len();
    let said = lab.explain_flow(query);
    assert_eq!(lab.sessions(SessionFilter::default()).len(), entries);
    let arrives = said.arrives.expect("there is a default route");
    let lines = lab.run(arrives, packet(&query));
    let context = || format!("{query:?}\n{said:?}\n{lines:?}");
    match said.ending {
        Ending::Dropped(reason) => {
            let wanted = format!("drop {}", reason.name());
            assert!(lines.contains(&wanted), "{}", context());
        }
        Ending::Punted => assert!(lines[0].starts_with("punt "), "{}", context()),
        Ending::WaitsForNeighbour => {
            let waits = lines.iter().all(|l| l.starts_with("resolve"));
            assert!(waits && lab.last.is_empty(), "{}", context());
        }
        Ending::Hairpinned => {
            // It may wait with others for a neighbour inside, and then nothing is seen of it.
            let punted = lines.first().is_some_and(|l| l.starts_with("punt "));
            assert!(!punted, "{}", context());
            // What came in again shows who it says it is, unless it was refused there.
            let sent = lab.last.first().and_then(|(_, f)| crate::support::peek(f));
            if let (Some(seen), Some(to)) = (sent.filter(|_| lines.len() == 1), said.to) {
                assert_eq!(seen.src(), Ipv4Addr::from_bits(to.src), "{}", context());
            }
        }
        Ending::Forwarded => {
            let hop = said.hop.expect("a way").port;
            assert!(
                lines[0].starts_with(&format!("{} ", hop.0)),
                "{}",
                context()
            );
            let seen = crate::support::peek(&lab.last[0].1).expect("a whole packet");
            let Some(to) = said.to else { return };
            assert_eq!(seen.src(), Ipv4Addr::from_bits(to.src), "{}", context());
            assert_eq!(seen.dst(), Ipv4Addr::from_bits(to.dst), "{}", context());
            let is_icmp = query.protocol == 1;
            if !is_icmp && to.sport != 0 {
                assert_eq!(seen.sport, to.sport, "{}", context());
            }
            if !is_icmp {
                assert_eq!(seen.dport, to.dport, "{}", context());
            }
        }
    }
}

fn flows() -> impl Strategy<Value = FlowQuery> {
    let hosts = prop_oneof![
        Just("10.1.0.2"),
        Just("10.1.0.3"),
        Just("10.1.0.10"),
        Just("10.1.0.1"),
        Just("10.1.0.99"),
        Just("10.2.0.2"),
        Just("172.16.0.5"),
        Just("172.16.0.7"),
        Just("192.0.2.5"),
        Just("198.51.100.1"),
        Just("198.51.100.7"),
        Just("198.51.100.99"),
        Just("203.0.113.5"),
        Just("203.0.113.10"),
        Just("203.0.113.64"),
        Just("10.1.0.255"),
    ]
    .prop_map(|text| text.parse::<Ipv4Addr>().expect("an address"));
    let port = || prop_oneof![Just(80_u16), Just(500), Just(40_000), Just(40_001)];
    let protocol = prop_oneof![Just(6_u8), Just(17), Just(1)];
    ((hosts.clone(), port()), (hosts, port()), protocol).prop_map(
        |(source, destination, protocol)| {
            // Of ICMP both are the identifier.
            let destination = match protocol {
                1 => (destination.0, source.1),
                _ => destination,
            };
            FlowQuery {
                vrf: VrfId::GLOBAL,
                protocol,
                source,
                destination,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_it_says_is_what_happens(
        which in 0..policies().len(),
        workers in 1..4_u8,
        flows in proptest::collection::vec(flows(), 1..25),
    ) {
        let mut lab = Lab::new(policies()[which](), workers, 1 << 10);
        for flow in flows {
            check(&mut lab, flow);
        }
    }
}

fn flow(protocol: u8, from: (&str, u16), to: (&str, u16)) -> FlowQuery {
    let end = |(address, port): (&str, u16)| (address.parse().expect("an address"), port);
    FlowQuery {
        vrf: VrfId::GLOBAL,
        protocol,
        source: end(from),
        destination: end(to),
    }
}

#[test]
fn an_entry_is_named_in_both_directions() {
    each(Policy::overload, |lab| {
        let query = flow(17, ("10.1.0.2", 4000), ("203.0.113.5", 53));
        let before = lab.explain_flow(query);
        assert_eq!(
            before.because,
            Because::NewEntry {
                rule: 1,
                keeps_port: Some(true)
            }
        );
        lab.pass(INSIDE, packet(&query));
        let after = lab.explain_flow(query);
        assert!(matches!(after.because, Because::Entry(_)), "{after:?}");
        let back = lab.explain_flow(flow(17, ("203.0.113.5", 53), ("198.51.100.1", 4000)));
        assert!(matches!(back.because, Because::Entry(_)), "{back:?}");
        let stranger = lab.explain_flow(flow(17, ("203.0.113.6", 53), ("198.51.100.1", 4001)));
        assert_eq!(stranger.ending, Ending::Punted, "an interface's address");
    });
}

#[test]
fn an_unasked_packet_to_a_pool_address_is_dropped() {
    let pool = || Policy::default().rule_overload(permit_all(), &["203.0.113.64"]);
    each(pool, |lab| {
        let said = lab.explain_flow(flow(6, ("203.0.113.5", 80), ("203.0.113.64", 4000)));
        assert_eq!(said.ending, Ending::Dropped(DropReason::NoTranslation));
    });
}

#[test]
fn one_worker_answers_for_a_peer() {
    each(Policy::overload, |lab| {
        let esp = |spi: u32| {
            let mut octets = [spi.to_be_bytes(), 1_u32.to_be_bytes()].concat();
            octets.resize(64, 1);
            raw("10.1.0.2", "203.0.113.5", 50).data(&octets)
        };
        let peer: Ipv4Addr = "203.0.113.5".parse().expect("an address");
        let fates = |lab: &mut Lab, spi| {
            let all = lab.explain(Query::Esp { peer, spi });
            let fate = |e: &Explained| match e {
                Explained::Esp(e) => e.explanation.fate,
                Explained::Flow(_) => panic!("asked for ESP"),
            };
            all.iter().map(fate).collect::<Vec<_>>()
        };
        assert_eq!(fates(lab, 0x1000), [Fate::NotOurs]);
        lab.policy.ipsec.static_esp.push(StaticEsp {
            inside: [10, 1, 0, 9].into(),
            global: [198, 51, 100, 1].into(),
            created: Tick(0),
        });
        lab.publish();
        assert_eq!(fates(lab, 0x1000), [Fate::Passes], "to the static's host");
        lab.policy.ipsec.static_esp.clear();
        lab.publish();
        lab.pass(INSIDE, esp(0x1000));
        assert_eq!(fates(lab, 0x1000), [Fate::Established, Fate::Passes]);
        assert_eq!(fates(lab, 0xa000), [Fate::Passes]);
    });
}

#[test]
fn a_poll_looks_at_a_slice_of_the_tunnels_and_no_more() {
    let mut lab = Lab::new(Policy::overload(), 1, 1 << 14);
    let reply = Reply::new(4);
    let peer = [203, 0, 113, 5].into();
    lab.workers[0].begin(Request::Explain(
        Query::Esp { peer, spi: 0x1000 },
        Arc::clone(&reply),
    ));
    let mut polls = 0;
    while lab.workers[0].is_serving() {
        lab.workers[0].serve(lab.now, &lab.snapshot, Spare::Much);
        polls += 1;
    }
    assert!(polls > 100, "{polls} polls for all places of the tables");
    assert!(reply.take().is_some() && reply.is_finished());
}
