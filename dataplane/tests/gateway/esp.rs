//! ESP and IKE of many clients through one address, as packets.

use spillway_dataplane::acl::AccessList;
use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::esp::spi_match::{Key, answer};
use spillway_dataplane::esp::{EspCounter, EspOccupancy};
use spillway_dataplane::nat::StaticEsp;
use spillway_dataplane::stats::{Counter, DropReason};
use spillway_dataplane::time::Tick;

use crate::support::{
    INSIDE, INSIDE2, Lab, OUTSIDE, Packet4, Policy, each, error, permit_all, raw, udp,
};

pub(crate) const PEER: &str = "203.0.113.5";
pub(crate) const OURS: &str = "198.51.100.1";
pub(crate) const OUT: &str = "1 ip50 198.51.100.1 > 203.0.113.5";

pub(crate) fn esp(from: &str, to: &str, spi: u32, sequence: u32) -> Packet4 {
    let mut octets = [spi.to_be_bytes(), sequence.to_be_bytes()].concat();
    octets.resize(104, 0x5a);
    raw(from, to, 50).data(&octets)
}

/// IKEv2's first message, or an answer to it, of so many octets.
pub(crate) fn ike(from: &str, to: &str, cookie: u64, octets: usize) -> Packet4 {
    let mut message = cookie.to_be_bytes().to_vec();
    message.extend([0; 8]);
    message.extend([0x21, 0x20, 34, 0x08, 0, 0, 0, 0]);
    message.extend((octets as u32).to_be_bytes());
    message.resize(octets, 0);
    udp(from, to).data(&message)
}

fn inside(client: &str) -> String {
    format!("0 ip50 {PEER} > {client}")
}

/// A tunnel that stands: packets go both ways.
fn tunnel(lab: &mut Lab, client: &str, spi: (u32, u32)) {
    lab.expect(INSIDE, esp(client, PEER, spi.0, 1), OUT);
    for sequence in 1..=2 {
        let back = esp(PEER, OURS, spi.1, sequence);
        lab.expect(OUTSIDE, back, &inside(client));
    }
}

#[test]
fn the_second_client_waits_for_the_reply_of_the_first() {
    each(Policy::overload, |lab| {
        lab.expect(INSIDE, esp("10.1.0.2", PEER, 0x1000, 1), OUT);
        assert_eq!(
            lab.run(INSIDE, esp("10.1.0.3", PEER, 0x2000, 1)),
            [""; 0],
            "held"
        );
        // The reply of the first goes in after what it released has gone out.
        assert_eq!(
            lab.run(OUTSIDE, esp(PEER, OURS, 0xa000, 1)),
            [OUT.to_owned(), inside("10.1.0.2")]
        );
        lab.expect(OUTSIDE, esp(PEER, OURS, 0xb000, 1), &inside("10.1.0.3"));
        for sequence in 2..20 {
            let first = esp(PEER, OURS, 0xa000, sequence);
            lab.expect(OUTSIDE, first, &inside("10.1.0.2"));
            let second = esp(PEER, OURS, 0xb000, sequence);
            lab.expect(OUTSIDE, second, &inside("10.1.0.3"));
        }
        let halves = lab.sessions(SessionFilter::default());
        assert_eq!(halves.len(), 4);
        assert!(halves.iter().all(|half| half.rule == 1), "{halves:?}");
        let tunnels = halves.iter().filter_map(|view| view.half);
        let mut pairs: Vec<_> = tunnels
            .map(|half| (half.client.address.to_string(), half.spi_out, half.spi_in))
            .collect();
        pairs.sort();
        let of = |client: &str, out, back| (client.to_owned(), Some(out), Some(back));
        let first = of("10.1.0.2", 0x1000, 0xa000);
        let second = of("10.1.0.3", 0x2000, 0xb000);
        assert_eq!(pairs, [first.clone(), first, second.clone(), second]);
    });
}

#[test]
fn who_gets_no_reply_makes_room_after_the_pending_timeout() {
    each(Policy::overload, |lab| {
        lab.expect(INSIDE, esp("10.1.0.2", PEER, 0x1000, 1), OUT);
        assert_eq!(lab.run(INSIDE, esp("10.1.0.3", PEER, 0x2000, 1)), [""; 0]);
        let later = lab.advance(31_000);
        assert!(
            later == [OUT] || later == ["drop esp_pending_expired"],
            "{later:?}"
        );
    });
}

#[test]
fn nothing_held_is_lost_uncounted_at_the_end() {
    let mut lab = Lab::new(Policy::overload(), 1, 1 << 10);
    lab.expect(INSIDE, esp("10.1.0.2", PEER, 0x1000, 1), OUT);
    for sequence in 1..=5 {
        assert_eq!(
            lab.run(INSIDE, esp("10.1.0.3", PEER, 0x2000, sequence)),
            [""; 0]
        );
    }
    lab.workers[0].let_go();
    assert_eq!(lab.dropped(DropReason::Stopped), 5);
}

#[test]
fn two_clients_keep_apart_on_ike_and_meet_no_plain_entry() {
    each(Policy::overload, |lab| {
        let server = format!("{PEER}:500");
        // Something else than IKE has port 500 of this peer already.
        let plain = lab.pass(INSIDE2, udp("10.2.0.9:500", &server));
        assert_eq!(plain.sport, 500);
        let mut ports = vec![plain.sport];
        for (host, cookie) in [("10.1.0.2", 7), ("10.1.0.3", 8)] {
            let from = format!("{host}:500");
            let sent = lab.pass(INSIDE, ike(&from, &server, cookie, 200));
            assert!(!ports.contains(&sent.sport), "{} is taken", sent.sport);
            ports.push(sent.sport);
            let to = format!("{OURS}:{}", sent.sport);
            let back = format!("0 udp {server} > {from}");
            lab.expect(OUTSIDE, ike(&server, &to, cookie, 200), &back);
        }
        // And the other way round: no plain entry takes a port of IKE.
        let late = lab.pass(INSIDE2, udp(&format!("10.2.0.8:{}", ports[1]), &server));
        assert!(!ports.contains(&late.sport), "{} is taken", late.sport);
    });
}

#[test]
fn esp_in_udp_leaves_by_the_port_of_ike() {
    each(Policy::overload, |lab| {
        let server = format!("{PEER}:4500");
        let mut marked = vec![0; 4];
        let message = ike("10.1.0.2:4500", &server, 7, 200).ip();
        marked.extend(&message[28..]);
        let first = lab.pass(INSIDE2, udp("10.2.0.9:4500", &server).data(&[1; 60]));
        assert_eq!(first.sport, 4500);
        let sent = lab.pass(INSIDE, udp("10.1.0.2:4500", &server).data(&marked));
        assert_ne!(sent.sport, 4500);
        let data = udp("10.1.0.2:4500", &server).data(&[1; 60]);
        assert_eq!(lab.pass(INSIDE, data).sport, sent.sport);
        let back = udp(&server, &format!("{OURS}:{}", sent.sport)).data(&[2; 60]);
        lab.expect(OUTSIDE, back, &format!("0 udp {server} > 10.1.0.2:4500"));
    });
}

#[test]
fn fragments_follow_their_spi_and_their_cookie() {
    each(Policy::overload, |lab| {
        tunnel(lab, "10.1.0.2", (0x1000, 0xa000));
        tunnel(lab, "10.1.0.3", (0x2000, 0xb000));
        for reversed in [false, true] {
            for (client, spi) in [("10.1.0.2", 0xa000_u32), ("10.1.0.3", 0xb000)] {
                let octets = [spi.to_be_bytes(), 9_u32.to_be_bytes()].concat();
                let mut data = octets;
                data.resize(2000, 1);
                let id = spi as u16 + u16::from(reversed);
                let mut pieces = raw(PEER, OURS, 50).data(&data).id(id).fragments(1480);
                if reversed {
                    pieces.reverse();
                }
                let sent: Vec<_> = pieces
                    .into_iter()
                    .flat_map(|piece| lab.run(OUTSIDE, piece))
                    .collect();
                assert_eq!(sent.len(), 2, "{sent:?}");
                assert!(sent.iter().all(|line| line.contains(client)), "{sent:?}");
            }
        }
        let server = format!("{PEER}:500");
        let big = ike("10.1.0.2:500", &server, 7, 2000).fragments(1480);
        for piece in big {
            lab.pass(INSIDE, piece);
        }
        let answer = ike(&server, &format!("{OURS}:500"), 7, 2000).fragments(1480);
        for piece in answer {
            assert_eq!(lab.pass(OUTSIDE, piece).dst().to_string(), "10.1.0.2");
        }
    });
}

#[test]
fn errors_about_esp_and_ike_find_the_client() {
    each(Policy::overload, |lab| {
        tunnel(lab, "10.1.0.2", (0x1000, 0xa000));
        tunnel(lab, "10.1.0.3", (0x2000, 0xb000));
        lab.expect(INSIDE, esp("10.1.0.3", PEER, 0x2000, 3), OUT);
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            OUTSIDE,
            error("198.51.100.254", OURS, (3, 4), 1300, &about[..28]),
            "0 icmp 3/4 mtu 1300 198.51.100.254 > 10.1.0.3 [ip50 10.1.0.3 > 203.0.113.5 cut]",
        );
        lab.expect(
            OUTSIDE,
            esp(PEER, OURS, 0xb000, 3),
            "0 ip50 203.0.113.5 > 10.1.0.3",
        );
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            INSIDE,
            error("10.1.0.3", PEER, (3, 2), 0, &about[..28]),
            "1 icmp 3/2 198.51.100.1 > 203.0.113.5 [ip50 203.0.113.5 > 198.51.100.1 cut]",
        );
        // A port that somebody else has: the quoted one must be changed too.
        let server = format!("{PEER}:500");
        lab.pass(INSIDE, ike("10.1.0.2:500", &server, 7, 200));
        lab.pass(INSIDE, ike("10.1.0.3:500", &server, 8, 200));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            OUTSIDE,
            error(PEER, OURS, (3, 3), 0, &about[..28]),
            "0 icmp 3/3 203.0.113.5 > 10.1.0.3 [udp 10.1.0.3:500 > 203.0.113.5:500 cut]",
        );
    });
}

#[test]
fn what_cannot_leave_opens_no_half() {
    each(Policy::overload, |lab| {
        let large = esp("10.1.0.2", PEER, 0x1000, 1).size(1600);
        let told = lab.run(INSIDE, large.dont_fragment());
        assert!(
            told.contains(&"drop mtu_exceeded".to_owned()) || told.len() == 2,
            "{told:?}"
        );
        let told = lab.run(INSIDE, esp("10.1.0.2", PEER, 0x1000, 1).ttl(1));
        assert!(told.contains(&"drop ttl_exceeded".to_owned()), "{told:?}");
        assert_eq!(lab.sessions(SessionFilter::default()).len(), 0);
    });
}

#[test]
fn strangers_and_the_authentication_header() {
    each(Policy::overload, |lab| {
        lab.expect(
            INSIDE,
            raw("10.1.0.2", PEER, 51),
            "drop ah_not_translatable",
        );
        // The appliance may have IPsec of its own.
        let got = lab.run(OUTSIDE, esp(PEER, OURS, 0xa000, 1));
        assert!(got[0].starts_with("punt 1"), "{got:?}");
        tunnel(lab, "10.1.0.2", (0x1000, 0xa000));
        tunnel(lab, "10.1.0.3", (0x2000, 0xb000));
        let got = lab.run(OUTSIDE, esp(PEER, OURS, 0x77, 1));
        assert_eq!(got, ["drop esp_reserved_spi"]);
        let got = lab.run(OUTSIDE, esp(PEER, OURS, 0x7777_7777, 1));
        assert_eq!(got, ["drop esp_unknown_spi"]);
        assert_eq!(lab.sessions(SessionFilter::default()).len(), 4);
    });
}

#[test]
fn without_overload_esp_is_like_any_protocol() {
    let lent = || Policy::default().rule_pool(permit_all(), "203.0.113.64", 4);
    each(lent, |lab| {
        let sent = lab.pass(INSIDE, esp("10.1.0.2", "192.0.0.9", 0x1000, 1));
        let back = esp("192.0.0.9", &sent.src().to_string(), 0xa000, 1);
        lab.expect(OUTSIDE, back, "0 ip50 192.0.0.9 > 10.1.0.2");
    });
    let fixed = || Policy::default().fixed("10.1.0.2", "198.51.100.77");
    each(fixed, |lab| {
        let sent = lab.pass(INSIDE, esp("10.1.0.2", PEER, 0x1000, 1));
        assert_eq!(sent.src().to_string(), "198.51.100.77");
        let back = esp(PEER, "198.51.100.77", 0xa000, 1);
        lab.expect(OUTSIDE, back, "0 ip50 203.0.113.5 > 10.1.0.2");
    });
}

#[test]
fn a_rule_that_goes_takes_its_tunnels_along() {
    each(Policy::overload, |lab| {
        tunnel(lab, "10.1.0.2", (0x1000, 0xa000));
        assert_eq!(lab.reconcile(), 0);
        let rules = std::mem::take(&mut lab.policy.rules);
        lab.publish();
        assert_eq!(lab.reconcile(), 2);
        lab.policy.rules = rules;
        lab.publish();
        assert_eq!(lab.sessions(SessionFilter::default()).len(), 0);
    });
}

#[test]
fn spi_match_waits_for_nobody() {
    let matched = || {
        let mut policy = Policy::overload();
        policy.ipsec.spi_match.push(permit_all());
        policy
    };
    each(matched, |lab| {
        // The peers of the clients answer with H of what the clients chose for themselves.
        let spi = |client: u32| (answer(0xa000 + client, Key::NONE), 0xa000 + client);
        let host = |client: u32| format!("10.1.0.{client}");
        for client in 2..10 {
            lab.expect(INSIDE, esp(&host(client), PEER, spi(client).0, 1), OUT);
        }
        for client in (2..10).rev() {
            let back = esp(PEER, OURS, spi(client).1, 1);
            lab.expect(OUTSIDE, back, &inside(&host(client)));
        }
    });
}

#[test]
fn clients_that_keep_port_500_are_told_apart_by_cookie() {
    let preserved = || {
        let mut policy = Policy::overload();
        policy.ipsec.preserve_port.push(permit_all());
        policy
    };
    each(preserved, |lab| {
        let server = format!("{PEER}:500");
        let clients = [("10.1.0.2", 7), ("10.1.0.3", 8), ("10.1.0.4", 9)];
        for (host, cookie) in clients {
            let from = format!("{host}:500");
            let sent = lab.pass(INSIDE, ike(&from, &server, cookie, 200));
            assert_eq!(sent.sport, 500);
        }
        for (host, cookie) in clients {
            let back = ike(&server, &format!("{OURS}:500"), cookie, 2000);
            for piece in back.id(cookie as u16).fragments(1480) {
                assert_eq!(lab.pass(OUTSIDE, piece).dst().to_string(), host);
            }
        }
    });
}

#[test]
fn the_host_of_static_esp_gets_it_all() {
    let fixed = || {
        let mut policy = Policy::overload();
        policy.ipsec.static_esp.push(StaticEsp {
            inside: [10, 1, 0, 2].into(),
            global: [198, 51, 100, 1].into(),
            created: Tick(0),
        });
        policy
    };
    each(fixed, |lab| {
        lab.expect(OUTSIDE, esp(PEER, OURS, 0xa000, 1), &inside("10.1.0.2"));
        lab.expect(INSIDE, esp("10.1.0.2", PEER, 0x1000, 1), OUT);
    });
}

#[test]
fn ike_is_an_entry_like_any_other() {
    each(Policy::overload, |lab| {
        let server = format!("{PEER}:500");
        lab.pass(INSIDE, ike("10.1.0.2:500", &server, 7, 200));
        let rows = lab.sessions(SessionFilter::default());
        let [row] = &rows[..] else {
            panic!("{rows:?}");
        };
        assert_eq!((row.protocol, row.inside_local.port), (17, 500));
        assert_eq!(row.rule, 1, "the mapping whose refcount it is in");
        assert_eq!(lab.occupancy.active(), 1);
        let other = SessionFilter {
            protocol: Some(17),
            inside_local: Some(([10, 1, 0, 2].into(), Some(501))),
            ..SessionFilter::default()
        };
        assert_eq!(lab.clear(other), 0);
        let this = SessionFilter {
            inside_local: Some(([10, 1, 0, 2].into(), Some(500))),
            ..other
        };
        assert_eq!(lab.clear(this), 1);
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn esp_and_ike_count_towards_max_entries() {
    each(
        || Policy::overload().max_entries(2),
        |lab| {
            tunnel(lab, "10.1.0.2", (0x1000, 0xa000));
            assert_eq!(lab.entries(), 2);
            let refused = "drop max_entries";
            lab.expect(INSIDE, esp("10.1.0.3", PEER, 0x2000, 1), refused);
            let server = format!("{PEER}:500");
            lab.expect(INSIDE, ike("10.1.0.3:500", &server, 8, 200), refused);
            lab.expect(INSIDE, udp("10.1.0.3:4000", "203.0.113.6:53"), refused);
            // What stands goes on.
            lab.expect(INSIDE, esp("10.1.0.2", PEER, 0x1000, 2), OUT);
        },
    );
}

#[test]
fn figures_follow_within_a_millisecond_and_go_to_zero() {
    each(Policy::overload, |lab| {
        tunnel(lab, "10.1.0.2", (0x1000, 0xa000));
        lab.expect(INSIDE, esp("10.1.0.2", PEER, 0x1001, 1), OUT);
        assert_eq!(lab.run(INSIDE, esp("10.1.0.3", PEER, 0x2000, 1)), [""; 0]);
        let sum = |lab: &Lab, of: fn(&EspOccupancy) -> usize| -> usize {
            let all = lab.workers.iter().map(|w| w.stats().esp.occupancy());
            all.map(|occupancy| of(&occupancy)).sum()
        };
        lab.advance(1);
        assert_eq!(sum(lab, |o| o.tunnels), 1);
        assert_eq!(sum(lab, |o| o.half_open), 2);
        assert_eq!(sum(lab, |o| o.held_packets), 1);
        let held = |lab: &Lab| -> u64 {
            let all = lab.workers.iter().map(|w| w.stats());
            all.map(|s| s.esp.counter(EspCounter::HeldOut)).sum()
        };
        assert_eq!(held(lab), 1);
        lab.clear(SessionFilter::default());
        lab.advance(1);
        assert_eq!(sum(lab, |o| o.tunnels + o.half_open + o.held_packets), 0);
    });
}

#[test]
fn packets_of_a_standing_tunnel_are_judged_anew_when_something_changes() {
    each(Policy::overload, |lab| {
        tunnel(lab, "10.1.0.2", (0x1000, 0xa000));
        lab.expect(INSIDE, esp("10.1.0.2", PEER, 0x1000, 2), OUT);
        let hits = lab.counted(Counter::Hits);
        lab.expect(INSIDE, esp("10.1.0.2", PEER, 0x1000, 3), OUT);
        lab.expect(OUTSIDE, esp(PEER, OURS, 0xa000, 3), &inside("10.1.0.2"));
        assert_eq!(lab.counted(Counter::Hits), hits + 2);
        let dying = lab.run(INSIDE, esp("10.1.0.2", PEER, 0x1000, 4).ttl(1));
        assert_eq!(dying.last().map(String::as_str), Some("drop ttl_exceeded"));
        // A sequence number far behind is not for the quick way: it may be another client's.
        for sequence in [500, 3] {
            let back = esp(PEER, OURS, 0xa000, sequence);
            lab.expect(OUTSIDE, back, &inside("10.1.0.2"));
        }
        let nobody = std::sync::Arc::new(AccessList::new(Vec::new()));
        lab.policy.access_groups[0][0] = Some(nobody);
        lab.publish();
        let denied = lab.run(INSIDE, esp("10.1.0.2", PEER, 0x1000, 5));
        assert_eq!(
            denied.last().map(String::as_str),
            Some("drop access_list_in")
        );
        lab.policy.access_groups[0][0] = None;
        lab.publish();
        lab.expect(INSIDE, esp("10.1.0.2", PEER, 0x1000, 6), OUT);
        // Its timer follows the packets, on the quick way too.
        for sequence in 7..12 {
            lab.advance(200_000);
            lab.expect(INSIDE, esp("10.1.0.2", PEER, 0x1000, sequence), OUT);
        }
        assert_eq!(lab.entries(), 2);
        lab.advance(1_000_000);
        assert_eq!(lab.entries(), 0);
    });
}
