//! ESP and IKE of clients in different VRFs with the same address, behind one global address.

use spillway_dataplane::acl::AccessList;
use spillway_dataplane::command::{Because, FlowQuery, SessionFilter};
use spillway_dataplane::esp::spi_match::{Key, answer};
use spillway_dataplane::fib::{Neighbour, NextHop, Route};
use spillway_dataplane::nat::StaticEsp;
use spillway_dataplane::snapshot::{PortId, Side, VrfId};
use spillway_dataplane::time::Tick;

use crate::esp::{OURS, OUT, PEER, esp, ike};
use crate::support::{
    INSIDE, INSIDE2, Lab, OUTSIDE, PLAIN, Policy, each, error, net_of, permit_all, udp,
};

const RED: VrfId = VrfId(1);
const BLUE: VrfId = VrfId(7);
const CLIENT: &str = "10.1.0.2";
/// The same client, as each VRF has it.
const CLIENTS: [(PortId, VrfId); 2] = [(INSIDE, RED), (INSIDE2, BLUE)];

/// Both VRFs overload one address.
fn shared() -> Policy {
    Policy::overload()
        .rule_vrf(RED)
        .rule_overload(permit_all(), &[OURS])
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

/// The peer's ESP packet as the client of a port gets it.
fn inside(port: PortId) -> String {
    format!("{} ip50 {PEER} > {CLIENT}", port.0)
}

/// Each client has a tunnel that stands: SPI 0x1000 out for both, 0xa000 and 0xb000 in.
fn tunnels(lab: &mut Lab) {
    for (n, (port, _)) in (0..).zip(CLIENTS) {
        lab.expect(port, esp(CLIENT, PEER, 0x1000, 1), OUT);
        for sequence in 1..=2 {
            let back = esp(PEER, OURS, 0xa000 + 0x1000 * n, sequence);
            lab.expect(OUTSIDE, back, &inside(port));
        }
    }
}

fn of(vrf: VrfId) -> SessionFilter {
    SessionFilter {
        vrf: Some(vrf),
        ..SessionFilter::default()
    }
}

#[test]
fn the_same_address_and_spi_in_two_vrfs_are_two_tunnels() {
    customers(shared, |lab| {
        lab.expect(INSIDE, esp(CLIENT, PEER, 0x1000, 1), OUT);
        let held = lab.run(INSIDE2, esp(CLIENT, PEER, 0x1000, 1));
        assert_eq!(held, [""; 0], "held");
        // The reply of the first goes in after what it released has gone out.
        let told = lab.run(OUTSIDE, esp(PEER, OURS, 0xa000, 1));
        assert_eq!(told, [OUT.to_owned(), inside(INSIDE)]);
        lab.expect(OUTSIDE, esp(PEER, OURS, 0xb000, 1), &inside(INSIDE2));
        for sequence in 2..9 {
            for (spi, (port, _)) in [(0xb000, CLIENTS[1]), (0xa000, CLIENTS[0])] {
                lab.expect(port, esp(CLIENT, PEER, 0x1000, sequence), OUT);
                lab.expect(OUTSIDE, esp(PEER, OURS, spi, sequence), &inside(port));
            }
        }
        for (rule, spi, (_, vrf)) in [(1, 0xa000, CLIENTS[0]), (2, 0xb000, CLIENTS[1])] {
            let views = lab.sessions(of(vrf));
            assert_eq!(views.len(), 2);
            for view in &views {
                assert_eq!((view.vrf, view.rule), (vrf, rule));
                let half = view.half.expect("a half");
                assert_eq!((half.spi_out, half.spi_in), (Some(0x1000), Some(spi)));
            }
        }
    });
}

#[test]
fn a_burst_of_each_client_goes_its_way() {
    use crate::support::Frame;
    customers(shared, |lab| {
        tunnels(lab);
        for worker in 0..lab.workers.len() {
            for (n, (port, _)) in (0..).zip(CLIENTS) {
                let frames = |lab: &Lab, from: PortId, packets: Vec<Vec<u8>>| -> Vec<_> {
                    let frames = packets.iter().map(|ip| Frame::new(&lab.frame(from, ip)));
                    frames.map(|frame| (from, frame)).collect()
                };
                let sequences = 10 + 4 * worker as u32..14 + 4 * worker as u32;
                let out = sequences
                    .clone()
                    .map(|s| esp(CLIENT, PEER, 0x1000, s).into());
                let out = frames(lab, port, out.collect());
                assert_eq!(lab.burst_at(worker, &out), [OUT; 4]);
                let back = sequences.map(|s| esp(PEER, OURS, 0xa000 + 0x1000 * n, s).into());
                let back = frames(lab, OUTSIDE, back.collect());
                assert_eq!(lab.burst_at(worker, &back), vec![inside(port); 4]);
            }
        }
    });
}

#[test]
fn what_a_vrf_has_is_cleared_and_withdrawn_alone() {
    customers(shared, |lab| {
        tunnels(lab);
        assert_eq!(lab.clear(of(RED)), 2);
        lab.expect(OUTSIDE, esp(PEER, OURS, 0xb000, 3), &inside(INSIDE2));
        lab.expect(INSIDE, esp(CLIENT, PEER, 0x1000, 3), OUT);
        lab.expect(OUTSIDE, esp(PEER, OURS, 0xa001, 1), &inside(INSIDE));
        assert_eq!(lab.reconcile(), 0);
        let rules = lab.policy.rules.clone();
        lab.policy.rules.retain(|rule| rule.vrf != BLUE);
        lab.publish();
        assert_eq!(lab.reconcile(), 2);
        assert_eq!(lab.sessions(of(BLUE)).len(), 0);
        assert_eq!(lab.sessions(of(RED)).len(), 2);
        // Its own rules alone are a VRF's: RED's is none for BLUE.
        let plain = format!("1 ip50 {CLIENT} > {PEER}");
        lab.expect(INSIDE2, esp(CLIENT, PEER, 0x1000, 4), &plain);
        lab.policy.rules = rules;
        lab.publish();
    });
}

#[test]
fn ike_keeps_its_port_and_is_told_apart_by_cookie() {
    let preserved = || {
        let mut policy = shared();
        policy.ipsec.preserve_port.push(permit_all());
        policy
    };
    customers(preserved, |lab| {
        let (server, from) = (format!("{PEER}:500"), format!("{CLIENT}:500"));
        for (cookie, (port, _)) in [(7, CLIENTS[0]), (8, CLIENTS[1])] {
            let sent = lab.pass(port, ike(&from, &server, cookie, 200));
            assert_eq!((lab.last[0].0, sent.sport), (OUTSIDE, 500));
        }
        for (cookie, (port, _)) in [(8, CLIENTS[1]), (7, CLIENTS[0])] {
            let back = ike(&server, &format!("{OURS}:500"), cookie, 2000);
            for piece in back.id(cookie as u16).fragments(1480) {
                assert_eq!(lab.pass(OUTSIDE, piece).dst().to_string(), CLIENT);
                assert_eq!(lab.last[0].0, port);
            }
        }
    });
}

#[test]
fn ike_has_a_port_for_each_vrf_and_esp_in_udp_follows_it() {
    customers(shared, |lab| {
        let (server, from) = (format!("{PEER}:500"), format!("{CLIENT}:500"));
        let mut ports = Vec::new();
        for (cookie, (port, vrf)) in [(7, CLIENTS[0]), (8, CLIENTS[1])] {
            let sent = lab.pass(port, ike(&from, &server, cookie, 200));
            assert!(!ports.contains(&sent.sport), "{} is taken", sent.sport);
            ports.push(sent.sport);
            let to = format!("{OURS}:{}", sent.sport);
            let back = format!("{} udp {server} > {from}", port.0);
            lab.expect(OUTSIDE, ike(&server, &to, cookie, 200), &back);
            let data = lab.pass(port, udp(&from, &server).data(&[1; 60]));
            assert_eq!(data.sport, sent.sport);
            lab.expect(OUTSIDE, udp(&server, &to).data(&[1; 60]), &back);
            let rows = lab.sessions(of(vrf));
            assert_eq!((rows.len(), rows[0].inside_global.port), (1, sent.sport));
            // The dry run says the same.
            let would = lab.explain_flow(FlowQuery {
                vrf,
                protocol: 17,
                source: ([10, 1, 0, 2].into(), 500),
                destination: ([203, 0, 113, 5].into(), 500),
            });
            assert_eq!(would.because, Because::Ike);
            assert_eq!(would.to.map(|to| to.sport), Some(sent.sport));
            let would = lab.explain_flow(FlowQuery {
                vrf: VrfId::GLOBAL,
                protocol: 17,
                source: ([203, 0, 113, 5].into(), 500),
                destination: ([198, 51, 100, 1].into(), sent.sport),
            });
            assert_eq!(would.because, Because::Ike);
            assert_eq!(would.hop.map(|hop| hop.port), Some(port));
        }
    });
}

#[test]
fn a_plain_entry_of_one_vrf_keeps_the_ike_of_the_other_off_its_port() {
    customers(shared, |lab| {
        let (server, from) = (format!("{PEER}:500"), format!("{CLIENT}:500"));
        // Nothing that IKE would be: an entry of the table.
        let plain = lab.pass(INSIDE, udp(&from, &server));
        assert_eq!(plain.sport, 500);
        let blue = lab.pass(INSIDE2, ike(&from, &server, 8, 200));
        assert_ne!(blue.sport, 500, "another VRF's entry of the same sockets");
        let red = lab.pass(INSIDE, ike(&from, &server, 7, 200));
        assert_eq!(red.sport, 500, "an entry of its own sockets");
    });
}

#[test]
fn matched_spis_go_to_the_vrf_that_chose_them() {
    let matched = || {
        let mut policy = shared();
        policy.ipsec.spi_match.push(permit_all());
        policy
    };
    customers(matched, |lab| {
        let chosen = [0xa000, 0xb000];
        for (spi, (port, _)) in chosen.into_iter().zip(CLIENTS) {
            let out = esp(CLIENT, PEER, answer(spi, Key::NONE), 1);
            lab.expect(port, out, OUT);
        }
        for (spi, (port, _)) in chosen.into_iter().zip(CLIENTS).rev() {
            lab.expect(OUTSIDE, esp(PEER, OURS, spi, 1), &inside(port));
        }
    });
}

#[test]
fn the_host_of_static_esp_is_in_the_global_table() {
    let fixed = || {
        let mut policy = shared().rule_overload(permit_all(), &["203.0.113.71"]);
        policy = policy.rule_vrf(BLUE);
        policy.rules.remove(1);
        policy.ipsec.static_esp.push(StaticEsp {
            inside: [10, 1, 0, 2].into(),
            global: [198, 51, 100, 1].into(),
            created: Tick(0),
        });
        policy
    };
    each(fixed, |lab| {
        lab.join_vrf(INSIDE2, BLUE);
        lab.routes
            .push((net_of("10.1.0.0/24"), Route::Connected { port: INSIDE }));
        lab.publish();
        lab.expect(OUTSIDE, esp(PEER, OURS, 0xa000, 1), &inside(INSIDE));
        // Its namesake is another host, whose address outside is another one.
        let blue = esp(CLIENT, PEER, 0x1000, 1);
        lab.expect(INSIDE2, blue, "1 ip50 203.0.113.71 > 203.0.113.5");
        lab.expect(INSIDE, esp(CLIENT, PEER, 0x1000, 1), OUT);
    });
}

#[test]
fn errors_find_the_client_of_the_right_vrf() {
    customers(shared, |lab| {
        tunnels(lab);
        // An SPI that BLUE's client alone uses.
        lab.expect(INSIDE2, esp(CLIENT, PEER, 0x1001, 1), OUT);
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            OUTSIDE,
            error("198.51.100.254", OURS, (3, 4), 1300, &about[..28]),
            "3 icmp 3/4 mtu 1300 198.51.100.254 > 10.1.0.2 [ip50 10.1.0.2 > 203.0.113.5 cut]",
        );
        lab.expect(OUTSIDE, esp(PEER, OURS, 0xb000, 3), &inside(INSIDE2));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            INSIDE2,
            error(CLIENT, PEER, (3, 2), 0, &about[..28]),
            "1 icmp 3/2 198.51.100.1 > 203.0.113.5 [ip50 203.0.113.5 > 198.51.100.1 cut]",
        );
        let (server, from) = (format!("{PEER}:500"), format!("{CLIENT}:500"));
        for (cookie, (port, _)) in [(7, CLIENTS[0]), (8, CLIENTS[1])] {
            lab.pass(port, ike(&from, &server, cookie, 200));
            let about = lab.last[0].1[14..].to_vec();
            let told = format!(
                "{} icmp 3/3 {PEER} > {CLIENT} [udp {from} > {server} cut]",
                port.0
            );
            lab.expect(OUTSIDE, error(PEER, OURS, (3, 3), 0, &about[..28]), &told);
        }
    });
}

#[test]
fn a_standing_tunnel_is_judged_by_the_lists_of_its_own_port() {
    customers(shared, |lab| {
        tunnels(lab);
        let nobody = std::sync::Arc::new(AccessList::new(Vec::new()));
        lab.policy.access_groups[INSIDE2.index()][0] = Some(nobody);
        lab.publish();
        let denied = lab.run(INSIDE2, esp(CLIENT, PEER, 0x1000, 3));
        assert_eq!(
            denied.last().map(String::as_str),
            Some("drop access_list_in")
        );
        for sequence in 3..6 {
            lab.expect(INSIDE, esp(CLIENT, PEER, 0x1000, sequence), OUT);
        }
    });
}

/// RED gets an outside interface of its own, behind which there is another world.
fn give_red_a_world(lab: &mut Lab) {
    let interface = &mut lab.snapshot.interfaces[PLAIN.index()];
    (interface.side, interface.vrf) = (Side::Outside, RED);
    lab.routes
        .retain(|(_, route)| *route != Route::Connected { port: PLAIN });
    lab.vrf_routes
        .retain(|(vrf, _, route)| *vrf != RED || matches!(route, Route::Connected { .. }));
    // Its peer is there at once, and not the one that others know by this address.
    let peer_net = net_of("203.0.113.0/24");
    let here = Route::Connected { port: PLAIN };
    lab.vrf_routes.push((RED, peer_net, here));
    let peer = NextHop {
        port: PLAIN,
        address: [203, 0, 113, 5].into(),
    };
    let mac = [2, PLAIN.0, 203, 0, 113, 5];
    lab.neighbours.push((peer, Neighbour::Reachable(mac)));
    lab.publish();
}

#[test]
fn what_comes_in_a_vrf_is_for_its_clients_alone() {
    customers(shared, |lab| {
        give_red_a_world(lab);
        let red_out = "2 ip50 198.51.100.1 > 203.0.113.5";
        lab.expect(INSIDE, esp(CLIENT, PEER, 0x1000, 1), red_out);
        lab.expect(PLAIN, esp(PEER, OURS, 0xa000, 1), &inside(INSIDE));
        lab.expect(PLAIN, esp(PEER, OURS, 0xa000, 2), &inside(INSIDE));
        lab.expect(INSIDE2, esp(CLIENT, PEER, 0x1000, 1), OUT);
        lab.expect(OUTSIDE, esp(PEER, OURS, 0xb000, 1), &inside(INSIDE2));
        for sequence in 2..4 {
            lab.expect(OUTSIDE, esp(PEER, OURS, 0xb000, sequence), &inside(INSIDE2));
            lab.expect(
                PLAIN,
                esp(PEER, OURS, 0xa000, 1 + sequence),
                &inside(INSIDE),
            );
        }
        // The quick way and the full one.
        for _ in 0..2 {
            lab.expect(PLAIN, esp(PEER, OURS, 0xb000, 4), "drop no_translation");
            lab.publish();
        }
        let (server, from) = (format!("{PEER}:500"), format!("{CLIENT}:500"));
        let blue = lab.pass(INSIDE2, ike(&from, &server, 8, 200));
        let back = ike(&server, &format!("{OURS}:{}", blue.sport), 8, 200);
        lab.expect(PLAIN, back.clone(), "drop no_translation");
        lab.expect(OUTSIDE, back, &format!("3 udp {server} > {from}"));
    });
}

#[test]
fn what_was_held_is_for_clients_of_the_vrf_where_it_came_in() {
    let matched = || {
        let mut policy = shared();
        policy.ipsec.spi_match.push(permit_all());
        policy
    };
    customers(matched, |lab| {
        give_red_a_world(lab);
        let spi = |chosen| answer(chosen, Key::NONE);
        lab.expect(INSIDE2, esp(CLIENT, PEER, spi(0xb000), 1), OUT);
        lab.pass(INSIDE, esp(CLIENT, PEER, spi(0xa000), 1));
        // Either's; once RED has its own, the engine thinks that it is BLUE's.
        assert_eq!(lab.run(PLAIN, esp(PEER, OURS, 0x7777, 1)), [""; 0], "held");
        let told = lab.run(PLAIN, esp(PEER, OURS, 0xa000, 1));
        assert_eq!(told, [inside(INSIDE), "drop no_translation".to_owned()]);
    });
}
