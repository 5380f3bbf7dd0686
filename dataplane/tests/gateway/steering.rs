//! Cards that spread packets over workers by a known hash: answers come to where their entry is.

use spillway_dataplane::rss::{Fields, KEY, PLACES, Spread, Steering};
use spillway_dataplane::session::Key;
use spillway_dataplane::snapshot::{PortId, WorkerId};
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{Frame, INSIDE, INSIDE2, Lab, OUTSIDE, Policy, ping, tcp, udp};

/// Cards on all sides: by source inside, by addresses and ports outside.
struct Cards {
    inside: Spread,
    outside: Spread,
}

impl Cards {
    fn new(workers: u8) -> Cards {
        let table: Vec<WorkerId> = Spread::in_turn(PLACES, u16::from(workers))
            .iter()
            .map(|queue| WorkerId(*queue as u8))
            .collect();
        let card = |fields| Spread::new(&KEY, fields, &table).expect("a power of two");
        Cards {
            inside: card(Fields::Source),
            outside: card(Fields::Flow {
                udp: true,
                tcp: true,
            }),
        }
    }

    fn lab(&self, workers: u8, sessions: u32) -> Lab {
        let answers = vec![None, Some(self.outside.clone())];
        let steering = Steering::new(Some(self.inside.clone()), answers);
        Lab::steered(Policy::overload(), workers, sessions, &steering)
    }

    /// A packet arrives at the worker to which its port's card takes it; what leaves.
    fn pass(&self, lab: &mut Lab, port: PortId, ip: &[u8]) -> Vec<String> {
        let card = if port == OUTSIDE {
            &self.outside
        } else {
            &self.inside
        };
        let at = card.worker(ip[9], key_of(ip)).index();
        let frame = lab.frame(port, ip);
        lab.burst_at(at, &[(port, Frame::new(&frame))])
    }
}

fn key_of(ip: &[u8]) -> Key {
    let word = |at: usize| u32::from_be_bytes([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
    let half = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    Key {
        src: word(12),
        dst: word(16),
        sport: half(20),
        dport: half(22),
    }
}

/// Flows of many clients and destinations: as the packet leaves the client, and its answer to a port.
fn flow(n: u32) -> (Vec<u8>, impl Fn(u16) -> Vec<u8>) {
    let mixed = n.wrapping_mul(0x9e37_79b1);
    let client = format!("10.2.0.{}:{}", 2 + n % 50, 1024 + (mixed >> 16) % 60_000);
    let peer = format!("203.0.113.{}:{}", 1 + mixed % 200, 1 + mixed % 3 * 440);
    let is_tcp = n.is_multiple_of(3);
    let out = if is_tcp {
        tcp(&client, &peer, "S")
    } else {
        udp(&client, &peer)
    };
    let answer = move |port: u16| {
        let to = format!("198.51.100.1:{port}");
        if is_tcp {
            tcp(&peer, &to, "SA").ip()
        } else {
            udp(&peer, &to).ip()
        }
    };
    (out.ip(), answer)
}

#[test]
fn no_packet_of_a_steered_flow_changes_workers() {
    for workers in 2..=4 {
        let cards = Cards::new(workers);
        let mut lab = cards.lab(workers, 1 << 12);
        for n in 0..3_000 {
            let (out, answer) = flow(n);
            assert_eq!(cards.pass(&mut lab, INSIDE2, &out).len(), 1);
            let left = key_of(&lab.last[0].1[14..]);
            let came = cards.pass(&mut lab, OUTSIDE, &answer(left.sport));
            assert_eq!(came.len(), 1);
            assert_eq!(lab.last[0].0, INSIDE2, "{came:?}");
        }
        assert_eq!(lab.counted(Counter::AnswersSteered), 3_000);
        assert_eq!(lab.counted(Counter::AnswersNotSteered), 0);
        assert_eq!(lab.handovers, 0, "{workers} workers");
        let entries = |at: usize| lab.workers[at].table().len();
        assert!((0..usize::from(workers)).all(|at| entries(at) > 0));
        lab.assert_nothing_leaks();
    }
}

/// The card may take packets elsewhere all the same: fragments, or after it was opened anew.
#[test]
fn any_worker_takes_any_packet_of_a_steered_flow() {
    let cards = Cards::new(3);
    let mut lab = cards.lab(3, 1 << 10);
    for n in 0..50 {
        let (out, answer) = flow(n);
        for at in 0..3 {
            let frame = lab.frame(INSIDE2, &out);
            lab.burst_at(at, &[(INSIDE2, Frame::new(&frame))]);
            let left = key_of(&lab.last[0].1[14..]);
            let frame = lab.frame(OUTSIDE, &answer(left.sport));
            let came = lab.burst_at(at, &[(OUTSIDE, Frame::new(&frame))]);
            assert_eq!((came.len(), lab.last[0].0), (1, INSIDE2), "{came:?}");
        }
    }
    assert_eq!(lab.entries(), 50);
    assert!(lab.handovers > 0);
    assert_eq!(lab.dropped(DropReason::Loop), 0);
    lab.assert_nothing_leaks();
}

/// A client keeps its port where that steers the answers right, and where nobody knows what does.
#[test]
fn a_port_that_steers_right_is_kept() {
    let cards = Cards::new(2);
    let mut lab = cards.lab(2, 1 << 10);
    let (mut kept, mut would_hit) = (0, 0);
    for n in 0..200 {
        let (out, answer) = flow(n);
        let client = key_of(&out);
        let owner = cards.inside.worker(out[9], client);
        let as_it_is = answer(client.sport);
        let hits = cards.outside.worker(out[9], key_of(&as_it_is)) == owner;
        cards.pass(&mut lab, INSIDE2, &out);
        let left = key_of(&lab.last[0].1[14..]);
        would_hit += usize::from(hits);
        kept += usize::from(left.sport == client.sport);
        assert!(hits || left.sport != client.sport);
    }
    // Of those that would steer right, some lie in a block that the other worker has.
    assert!(
        would_hit > 60 && kept * 3 > would_hit,
        "{kept} of {would_hit}"
    );
    lab.assert_nothing_leaks();
    let cards = Cards::new(1);
    let mut alone = cards.lab(1, 1 << 10);
    for n in 0..200 {
        let (out, _) = flow(n);
        cards.pass(&mut alone, INSIDE2, &out);
        assert_eq!(key_of(&alone.last[0].1[14..]).sport, key_of(&out).sport);
    }
    assert_eq!(alone.counted(Counter::AnswersSteered), 0);
    alone.assert_nothing_leaks();
}

/// Echo requests have no ports that a card would hash: where answers come is luck, and told.
#[test]
fn what_no_port_steers_is_counted() {
    let cards = Cards::new(2);
    let mut lab = cards.lab(2, 1 << 10);
    for n in 0..60u16 {
        let ip = ping(
            &format!("10.2.0.{}", 2 + n % 50),
            &format!("203.0.113.{}", 1 + n),
            n,
        )
        .ip();
        assert_eq!(cards.pass(&mut lab, INSIDE2, &ip).len(), 1);
    }
    let steered = lab.counted(Counter::AnswersSteered);
    assert!((1..60).contains(&steered), "{steered}");
    assert_eq!(steered + lab.counted(Counter::AnswersNotSteered), 60);
    lab.assert_nothing_leaks();
}

#[test]
fn steering_loses_no_port_to_one_destination() {
    const PEER: &str = "203.0.113.5:9";
    for workers in 1..=3u8 {
        let cards = Cards::new(workers);
        let mut lab = cards.lab(workers, 1 << 17);
        // A client of each worker in turn: workers share the ports evenly.
        let of = |worker: u8| {
            let is_its = |host: &u8| {
                let ip = udp(&format!("10.2.0.{host}:1"), PEER).ip();
                cards.inside.worker(17, key_of(&ip)) == WorkerId(worker)
            };
            (2..60).find(is_its).expect("a client of each worker")
        };
        let clients: Vec<u8> = (0..workers).map(of).collect();
        for n in 0..64_000u32 {
            let client = clients[n as usize % clients.len()];
            let port = 1024 + (n * 40_501) % 64_512;
            let ip = udp(&format!("10.2.0.{client}:{port}"), PEER).ip();
            let got = cards.pass(&mut lab, INSIDE2, &ip);
            assert!(got[0].starts_with("1 udp"), "flow {n}: {got:?}");
        }
        assert_eq!(lab.dropped(DropReason::PortsExhausted), 0);
        assert_eq!(lab.entries(), 64_000);
        if workers > 1 {
            // Of each worker's ports one in so many brings this peer's answers to it.
            let steered = lab.counted(Counter::AnswersSteered);
            let fair = 64_000 / u64::from(workers);
            assert!(steered > fair * 8 / 10, "{steered}");
            assert_eq!(steered + lab.counted(Counter::AnswersNotSteered), 64_000);
        }
        lab.assert_nothing_leaks();
    }
}

/// One direction inside is enough to send a client's packets to the same worker over all ports.
#[test]
fn all_inside_ports_agree_about_a_client() {
    let cards = Cards::new(3);
    let mut lab = cards.lab(3, 1 << 10);
    for host in 2..60 {
        for (port, net) in [(INSIDE, "10.1.0"), (INSIDE2, "10.2.0")] {
            let ip = udp(&format!("{net}.{host}:5000"), "203.0.113.5:9").ip();
            cards.pass(&mut lab, port, &ip);
        }
    }
    assert_eq!(lab.handovers, 0);
    assert_eq!(lab.entries(), 116);
    lab.assert_nothing_leaks();
}
