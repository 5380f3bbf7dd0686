//! VRFs: networks with the same addresses, told apart by where their packets arrive.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use spillway_dataplane::command::{Because, FlowQuery, SessionFilter};
use spillway_dataplane::nat::{Filtering, Group, GroupLimit, HostLimits};
use spillway_dataplane::snapshot::{InsideHost, PortId, VrfId};
use spillway_dataplane::stats::DropReason;

use crate::support::{
    INSIDE, INSIDE2, Lab, OUTSIDE, Packet4, Policy, each, error, permit_all, ping, pong, tcp, udp,
};

const RED: VrfId = VrfId(1);
const BLUE: VrfId = VrfId(7);
const SERVER: &str = "203.0.113.5:9";
/// Every VRF's network has such a host.
const CLIENT: &str = "10.1.0.2:5000";

/// Both VRFs overload one address.
fn shared() -> Policy {
    Policy::overload()
        .rule_vrf(RED)
        .rule_overload(permit_all(), &["198.51.100.1"])
        .rule_vrf(BLUE)
}

/// Each VRF has an address of its own.
fn apart() -> Policy {
    Policy::default()
        .rule_overload(permit_all(), &["203.0.113.71"])
        .rule_vrf(RED)
        .rule_overload(permit_all(), &["203.0.113.72"])
        .rule_vrf(BLUE)
}

/// RED is behind `INSIDE`, BLUE behind `INSIDE2`: the same network.
fn customers(policy: impl Fn() -> Policy, scenario: impl Fn(&mut Lab)) {
    each(policy, |lab| {
        lab.join_vrf(INSIDE, RED);
        lab.join_vrf(INSIDE2, BLUE);
        scenario(lab);
    });
}

fn of(vrf: VrfId) -> SessionFilter {
    SessionFilter {
        vrf: Some(vrf),
        ..SessionFilter::default()
    }
}

/// The outside port of a packet that leaves by one address.
fn port_of(lab: &mut Lab, from: PortId, packet: Packet4) -> u16 {
    let seen = lab.pass(from, packet);
    assert_eq!(lab.last[0].0, OUTSIDE);
    seen.sport
}

#[test]
fn the_same_endpoint_in_two_vrfs_has_two_entries() {
    customers(shared, |lab| {
        let red = port_of(lab, INSIDE, udp(CLIENT, SERVER));
        let blue = port_of(lab, INSIDE2, udp(CLIENT, SERVER));
        assert_ne!(red, blue);
        for (port, vrf, global) in [(0, RED, red), (3, BLUE, blue)] {
            lab.expect(
                OUTSIDE,
                udp(SERVER, &format!("198.51.100.1:{global}")),
                &format!("{port} udp {SERVER} > {CLIENT}"),
            );
            let views = lab.sessions(of(vrf));
            assert_eq!(views.len(), 1);
            assert_eq!((views[0].vrf, views[0].inside_global.port), (vrf, global));
        }
        assert_eq!(lab.clear(of(RED)), 1);
        assert_eq!(lab.sessions(SessionFilter::default()).len(), 1);
        assert_eq!(port_of(lab, INSIDE2, udp(CLIENT, SERVER)), blue);
    });
}

#[test]
fn tcp_and_echo_find_their_way_back() {
    customers(apart, |lab| {
        for (port, inside, global) in [(0, INSIDE, "203.0.113.71"), (3, INSIDE2, "203.0.113.72")] {
            lab.expect(
                inside,
                tcp(CLIENT, SERVER, "S"),
                &format!("1 tcp {global}:5000 > {SERVER} S"),
            );
            lab.expect(
                OUTSIDE,
                tcp(SERVER, &format!("{global}:5000"), "SA"),
                &format!("{port} tcp {SERVER} > {CLIENT} SA"),
            );
            lab.expect(
                inside,
                ping("10.1.0.2", "203.0.113.5", 7),
                &format!("1 ping {global} > 203.0.113.5 7"),
            );
            lab.expect(
                OUTSIDE,
                pong("203.0.113.5", global, 7),
                &format!("{port} pong 203.0.113.5 > 10.1.0.2 7"),
            );
        }
    });
}

#[test]
fn rules_without_vrf_are_the_global_tables_alone() {
    customers(Policy::overload, |lab| {
        // Nobody translates it: it is routed as it is, as in the global table.
        lab.expect(
            INSIDE,
            udp(CLIENT, SERVER),
            &format!("1 udp {CLIENT} > {SERVER}"),
        );
    });
    each(shared, |lab| {
        lab.expect(
            INSIDE,
            udp(CLIENT, SERVER),
            &format!("1 udp {CLIENT} > {SERVER}"),
        );
    });
}

#[test]
fn a_vrf_has_its_own_routes() {
    customers(shared, |lab| {
        // 10.9/16 and 192.0.2/24 are known to the global table: for a VRF they are outside.
        let sent = lab.pass(INSIDE, udp(CLIENT, "10.9.0.7:9"));
        assert_eq!(
            (lab.last[0].0, sent.src()),
            (OUTSIDE, [198, 51, 100, 1].into())
        );
        // Inside, packets go from host to host of one VRF, and never to the other's.
        lab.expect(
            INSIDE2,
            udp(CLIENT, "10.1.0.3:9"),
            &format!("3 udp {CLIENT} > 10.1.0.3:9"),
        );
        lab.vrf_routes.retain(|(_, net, _)| net.prefix_len() != 0);
        lab.publish();
        assert_eq!(
            lab.run(INSIDE, udp(CLIENT, "203.0.113.9:9"))[1..],
            ["drop no_route"]
        );
    });
}

#[test]
fn own_addresses_are_those_of_the_vrf() {
    customers(shared, |lab| {
        let to_us = || ping("10.1.0.2", "10.1.0.1", 1);
        lab.expect(INSIDE, to_us(), "punt 0 ping 10.1.0.2 > 10.1.0.1 1");
        lab.expect(INSIDE2, to_us(), "punt 3 ping 10.1.0.2 > 10.1.0.1 1");
        lab.expect(INSIDE, udp("10.1.0.1:9", SERVER), "drop ip_source");
        // Another table's own address may be anybody's.
        let sent = lab.pass(INSIDE, udp("10.1.0.2:9", "192.0.2.1:9"));
        assert_eq!(sent.src(), Ipv4Addr::new(198, 51, 100, 1));
    });
}

#[test]
fn statics_lead_into_their_vrf() {
    let policy = || {
        apart()
            .fixed("10.1.0.10", "203.0.113.80")
            .static_vrf(RED)
            .forward(6, ("10.1.0.10", 80), ("203.0.113.81", 8080))
            .static_vrf(BLUE)
    };
    customers(policy, |lab| {
        lab.expect(
            OUTSIDE,
            udp(SERVER, "203.0.113.80:53"),
            "0 udp 203.0.113.5:9 > 10.1.0.10:53",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.10:53", SERVER),
            "1 udp 203.0.113.80:53 > 203.0.113.5:9",
        );
        lab.expect(
            OUTSIDE,
            tcp(SERVER, "203.0.113.81:8080", "S"),
            "3 tcp 203.0.113.5:9 > 10.1.0.10:80 S",
        );
        lab.expect(
            INSIDE2,
            tcp("10.1.0.10:80", SERVER, "SA"),
            "1 tcp 203.0.113.81:8080 > 203.0.113.5:9 SA",
        );
        // The other VRF's host of this address has nothing to do with it.
        lab.expect(
            INSIDE2,
            udp("10.1.0.10:53", SERVER),
            "1 udp 203.0.113.72:53 > 203.0.113.5:9",
        );
        // From one customer to what the other shows to the world: as from outside.
        lab.expect(
            INSIDE2,
            udp(CLIENT, "203.0.113.80:53"),
            "0 udp 203.0.113.72:5000 > 10.1.0.10:53",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.10:53", "203.0.113.72:5000"),
            "3 udp 203.0.113.80:53 > 10.1.0.2:5000",
        );
    });
}

#[test]
fn lent_addresses_are_lent_to_a_vrfs_host() {
    let policy = || {
        Policy::default()
            .rule_pool(permit_all(), "203.0.113.64", 2)
            .rule_vrf(RED)
            .rule_pool(permit_all(), "203.0.113.90", 2)
            .rule_vrf(BLUE)
    };
    customers(policy, |lab| {
        for (inside, port, global) in [(INSIDE, 0, "203.0.113.64"), (INSIDE2, 3, "203.0.113.90")] {
            lab.expect(
                inside,
                udp(CLIENT, SERVER),
                &format!("1 udp {global}:5000 > {SERVER}"),
            );
            lab.expect(
                OUTSIDE,
                tcp(SERVER, &format!("{global}:80"), "S"),
                &format!("{port} tcp {SERVER} > 10.1.0.2:80 S"),
            );
        }
        assert_eq!(lab.entries(), 2);
    });
}

#[test]
fn mappings_are_a_vrfs_endpoints() {
    let policy = || {
        Policy::overload()
            .rule_vrf(RED)
            .mapping(Filtering::EndpointIndependent)
            .rule_overload(permit_all(), &["198.51.100.1"])
            .rule_vrf(BLUE)
            .mapping(Filtering::EndpointIndependent)
    };
    customers(policy, |lab| {
        let red = port_of(lab, INSIDE, udp(CLIENT, SERVER));
        let blue = port_of(lab, INSIDE2, udp(CLIENT, SERVER));
        assert_ne!(red, blue);
        assert_eq!(port_of(lab, INSIDE, udp(CLIENT, "203.0.113.6:1")), red);
        for (port, global) in [(0, red), (3, blue)] {
            lab.expect(
                OUTSIDE,
                udp("203.0.113.99:1", &format!("198.51.100.1:{global}")),
                &format!("{port} udp 203.0.113.99:1 > {CLIENT}"),
            );
        }
    });
}

#[test]
fn errors_reach_the_sender_in_its_vrf() {
    customers(apart, |lab| {
        for (port, inside, global) in [(0, INSIDE, "203.0.113.71"), (3, INSIDE2, "203.0.113.72")] {
            lab.pass(inside, udp(CLIENT, SERVER));
            let about = udp(&format!("{global}:5000"), SERVER).ip();
            let seen = lab.pass(OUTSIDE, error("203.0.113.5", global, (3, 3), 0, &about));
            assert_eq!(lab.last[0].0, PortId(port));
            assert_eq!(seen.dst(), Ipv4Addr::new(10, 1, 0, 2));
        }
        // Our own go out where the packet came in.
        let lines = lab.run(INSIDE2, udp(CLIENT, SERVER).ttl(1));
        assert_eq!(lab.last[0].0, INSIDE2, "{lines:?}");
    });
}

#[test]
fn fragments_of_two_vrfs_do_not_mix() {
    customers(apart, |lab| {
        let datagram = |payload: u8| udp(CLIENT, SERVER).id(77).data(&[payload; 40]);
        let (red, blue) = (datagram(1).fragments(24), datagram(2).fragments(24));
        // The later fragments first: each waits for its own first one.
        assert!(lab.run(INSIDE, red[1].clone()).is_empty());
        assert!(lab.run(INSIDE2, blue[1].clone()).is_empty());
        for (inside, first, global) in [
            (INSIDE, &red[0], [203, 0, 113, 71]),
            (INSIDE2, &blue[0], [203, 0, 113, 72]),
        ] {
            let lines = lab.run(inside, first.clone());
            assert_eq!(lines.len(), 2, "{lines:?}");
            for (port, frame) in &lab.last {
                assert_eq!(*port, OUTSIDE);
                assert_eq!(frame[26..30], global, "{lines:?}");
            }
        }
        lab.advance(3_000);
    });
}

#[test]
fn a_vrf_has_so_many_entries() {
    let policy = || {
        let limits = HostLimits {
            all_hosts: Some(3),
            groups: vec![GroupLimit::new(Group::Vrf(RED), 4)],
            ..HostLimits::default()
        };
        shared().host_limits(limits)
    };
    customers(policy, |lab| {
        lab.poll(); // the limits are new: what is there is counted
        let flow = |host: u8, port: u16| udp(&format!("10.1.0.{host}:{port}"), SERVER);
        for port in 1..=3 {
            port_of(lab, INSIDE, flow(2, 5000 + port));
            port_of(lab, INSIDE2, flow(2, 5000 + port));
        }
        // The host has its three, in both VRFs.
        lab.expect(INSIDE, flow(2, 5004), "drop max_entries");
        lab.expect(INSIDE2, flow(2, 5004), "drop max_entries");
        port_of(lab, INSIDE, flow(3, 5001));
        lab.expect(INSIDE, flow(4, 5001), "drop max_entries");
        port_of(lab, INSIDE2, flow(3, 5001));
        port_of(lab, INSIDE2, flow(4, 5001));
        let limits = lab.policy.host_limits.clone().expect("there are some");
        assert_eq!(limits.groups[0].entries(), 4);
        let host = |vrf| InsideHost {
            vrf,
            address: [10, 1, 0, 9].into(),
        };
        assert!(!limits.groups_have_room(host(RED)) && limits.groups_have_room(host(BLUE)));
    });
}

#[test]
fn entries_go_with_the_rule_of_their_vrf() {
    customers(shared, |lab| {
        port_of(lab, INSIDE, udp(CLIENT, SERVER));
        let blue = port_of(lab, INSIDE2, udp(CLIENT, SERVER));
        assert_eq!(lab.reconcile(), 0);
        lab.policy.rules.retain(|rule| rule.vrf == BLUE);
        lab.publish();
        assert_eq!(lab.reconcile(), 1);
        assert_eq!(port_of(lab, INSIDE2, udp(CLIENT, SERVER)), blue);
        assert_eq!(lab.sessions(of(RED)).len(), 0);
    });
}

#[test]
fn from_outside_in_a_vrf_only_that_vrf_is_reached() {
    let policy = || {
        apart()
            .fixed("10.1.0.10", "203.0.113.80")
            .static_vrf(RED)
            .fixed("10.1.0.10", "203.0.113.81")
            .static_vrf(BLUE)
    };
    customers(policy, |lab| {
        lab.pass(INSIDE, udp(CLIENT, SERVER));
        lab.pass(INSIDE2, udp(CLIENT, SERVER));
        lab.snapshot.interfaces[OUTSIDE.index()].vrf = BLUE;
        lab.publish();
        for red in ["203.0.113.71:5000", "203.0.113.80:5000"] {
            lab.expect(OUTSIDE, udp(SERVER, red), "drop no_translation");
        }
        lab.expect(
            OUTSIDE,
            udp(SERVER, "203.0.113.72:5000"),
            &format!("3 udp {SERVER} > {CLIENT}"),
        );
        lab.expect(
            OUTSIDE,
            udp(SERVER, "203.0.113.81:5000"),
            "3 udp 203.0.113.5:9 > 10.1.0.10:5000",
        );
        // About a packet of the other VRF's entry.
        let about = udp("203.0.113.71:5000", SERVER).ip();
        lab.expect(
            OUTSIDE,
            error("203.0.113.5", "203.0.113.71", (3, 3), 0, &about),
            "drop icmp_error_unmatched",
        );
    });
}

#[test]
fn the_dry_run_asks_in_a_vrf() {
    customers(shared, |lab| {
        let query = |vrf| FlowQuery {
            vrf,
            protocol: 17,
            source: ([10, 1, 0, 2].into(), 5000),
            destination: ([203, 0, 113, 5].into(), 9),
        };
        for (vrf, rule, port) in [(RED, 1, INSIDE), (BLUE, 2, INSIDE2)] {
            let said = lab.explain_flow(query(vrf));
            assert_eq!(said.arrives, Some(port));
            assert!(
                matches!(said.because, Because::NewEntry { rule: of, .. } if of == rule),
                "{said:?}"
            );
        }
        let global = port_of(lab, INSIDE2, udp(CLIENT, SERVER));
        let said = lab.explain_flow(query(BLUE));
        assert!(matches!(said.because, Because::Entry(view) if view.vrf == BLUE));
        assert!(matches!(
            lab.explain_flow(query(RED)).because,
            Because::NewEntry { .. }
        ));
        let back = lab.explain_flow(FlowQuery {
            source: ([203, 0, 113, 5].into(), 9),
            destination: ([198, 51, 100, 1].into(), global),
            ..query(VrfId::GLOBAL)
        });
        assert_eq!(back.hop.map(|hop| hop.port), Some(INSIDE2), "{back:?}");
    });
}

#[test]
fn hosts_outside_are_known_by_their_own_address() {
    // 172.16.0.5 inside stands for 203.0.113.5, but not for those in a VRF.
    let policy = || shared().outside_fixed("203.0.113.5", "172.16.0.5", true);
    customers(policy, |lab| {
        let port = port_of(lab, INSIDE, udp(CLIENT, SERVER));
        lab.expect(
            OUTSIDE,
            udp(SERVER, &format!("198.51.100.1:{port}")),
            &format!("0 udp {SERVER} > {CLIENT}"),
        );
        let sent = lab.pass(INSIDE, udp(CLIENT, "172.16.0.5:9"));
        assert_eq!(sent.dst(), Ipv4Addr::new(172, 16, 0, 5));
        assert_eq!(lab.dropped(DropReason::OutsideHostUnknown), 0);
    });
}

/// What happens to one VRF's hosts.
#[derive(Debug, Clone)]
enum Step {
    Out(Packet4),
    In(Packet4),
    Wait(u64),
}

/// Hosts with source ports in blocks of their own, so that none is changed.
fn steps(global: &'static str) -> impl Strategy<Value = Step> {
    let peers = prop_oneof![Just("203.0.113.5"), Just("203.0.113.6")];
    (2_u8..5, peers, 0_u8..3, 0_u8..9, 0_usize..4).prop_map(
        move |(host, peer, kind, what, flags)| {
            let (inside, port) = (format!("10.1.0.{host}"), 5000 + 64 * u16::from(host));
            let flags = ["S", "A", "FA", "R"][flags];
            let (out, back) = match kind {
                0 => (
                    udp(&format!("{inside}:{port}"), &format!("{peer}:9")),
                    udp(&format!("{peer}:9"), &format!("{global}:{port}")),
                ),
                1 => (
                    tcp(&format!("{inside}:{port}"), &format!("{peer}:9"), flags),
                    tcp(&format!("{peer}:9"), &format!("{global}:{port}"), flags),
                ),
                _ => (ping(&inside, peer, port), pong(peer, global, port)),
            };
            match what {
                0..=3 => Step::Out(out),
                4..=7 => Step::In(back),
                _ => Step::Wait(u64::from(host) * 20_000),
            }
        },
    )
}

fn play(lab: &mut Lab, inside: PortId, step: &Step) -> Vec<String> {
    match step {
        Step::Out(packet) => lab.run(inside, packet.clone()),
        Step::In(packet) => lab.run(OUTSIDE, packet.clone()),
        Step::Wait(_) => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// An appliance with two VRFs does what two appliances with one network each do.
    #[test]
    fn two_vrfs_are_as_two_appliances(
        workers in 1..4_u8,
        steps in proptest::collection::vec(
            (any::<bool>(), steps("203.0.113.71"), steps("203.0.113.72")), 1..60),
    ) {
        let both = &mut Lab::new(apart(), workers, 1 << 10);
        both.join_vrf(INSIDE, RED);
        both.join_vrf(INSIDE2, BLUE);
        let mut alone = [(INSIDE, RED), (INSIDE2, BLUE)].map(|(port, vrf)| {
            let mut lab = Lab::new(apart(), workers, 1 << 10);
            lab.join_vrf(port, vrf);
            lab
        });
        for (is_blue, red, blue) in steps {
            let (inside, step) = if is_blue { (INSIDE2, blue) } else { (INSIDE, red) };
            if let Step::Wait(ms) = step {
                both.advance(ms);
                alone.iter_mut().for_each(|lab| { lab.advance(ms); });
                continue;
            }
            let one = &mut alone[usize::from(is_blue)];
            prop_assert_eq!(play(both, inside, &step), play(one, inside, &step), "{:?}", step);
        }
        prop_assert_eq!(both.entries(), alone[0].entries() + alone[1].entries());
        both.assert_nothing_leaks();
    }
}
