//! Every order in which the packets of two and three clients of one server can interleave, against
//! a model of the endpoints that knows whose SA each SPI is. Enumerated, not sampled.

use crate::common::*;

use std::collections::VecDeque;

use spillway_dataplane::esp::ike::exchange::{AUTH, CREATE_CHILD_SA};
use spillway_dataplane::esp::{HalfState, Limits};
use spillway_dataplane::snapshot::InsideHost;
use spillway_dataplane::time::Millis;

/// What one client, or the server towards it, does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The first IKE exchange.
    Auth,
    /// A new SA, by an exchange of the client.
    Rekey,
    /// A new SA, by an exchange of the server.
    ServerRekey,
    /// A new SA without IKE that the NAT could see (keys set by hand).
    NewKeys,
    /// The client sends on its newest SA; the server answers what reaches it.
    Send,
    /// The oldest answer arrives.
    Reply,
    /// The newest answer arrives, before older ones.
    ReplyLast,
    /// The oldest answer arrives twice.
    Twice,
    /// The oldest answer is lost.
    Lose,
    /// The server sends on the newest SA of its own accord, and it arrives at once.
    ServerSends,
}
use Step::*;

/// Two with one address, in two VRFs, and one in the VRF of the first.
const CLIENTS: [InsideHost; 3] = [A, A_OF_RED, B];
const A_OF_RED: InsideHost = host(1, [10, 1, 0, 1]);

/// A packet from the server: client, SA, sequence number.
type Answer = (usize, u32, u32);

#[derive(Default, Clone)]
struct Endpoint {
    /// The newest SA; 0 before the first.
    sa: u32,
    /// Sequence numbers of each SA, out and in.
    sent: [u32; 4],
    answered: [u32; 4],
    /// Answers under way.
    flight: VecDeque<Answer>,
    /// Packets of each SA that the server sent and the client got.
    shown: [u32; 4],
    messages: (u32, u32),
    asked: u32,
    lost: u32,
    got: u32,
}

struct World {
    nat: Nat,
    ends: Vec<Endpoint>,
    wrong: u32,
    /// A packet came whose owner no evidence could tell.
    unknowable: bool,
}

fn spi_out(client: usize, sa: u32) -> u32 {
    0x1000 + client as u32 * 0x100 + sa
}

fn spi_in(client: usize, sa: u32) -> u32 {
    0x2000 + client as u32 * 0x100 + sa
}

fn tiny() -> Limits {
    Limits {
        clients: 4,
        relations: 4,
        halves: 32,
        ike_entries: 8,
        held_packets: 64,
        ..small()
    }
}

impl World {
    fn new(clients: usize) -> World {
        World {
            nat: Nat::with(Config::overload(&[G1]), tiny()),
            ends: vec![Endpoint::default(); clients],
            wrong: 0,
            unknowable: false,
        }
    }

    fn step(&mut self, client: usize, step: Step) {
        self.nat.now += 1;
        match step {
            Auth => self.ike(client, AUTH, true),
            Rekey => self.ike(client, CREATE_CHILD_SA, true),
            ServerRekey => self.ike(client, CREATE_CHILD_SA, false),
            NewKeys => self.ends[client].sa += 1,
            Send => self.send(client),
            Reply => {
                if let Some(answer) = self.ends[client].flight.pop_front() {
                    self.arrive(answer);
                }
            }
            ReplyLast => {
                if let Some(answer) = self.ends[client].flight.pop_back() {
                    self.arrive(answer);
                }
            }
            Twice => {
                if let Some(answer) = self.ends[client].flight.pop_front() {
                    self.arrive(answer);
                    self.arrive(answer);
                    self.ends[client].got -= 1; // the endpoint's replay window drops it
                }
            }
            Lose => {
                let lost = self.ends[client].flight.pop_front();
                self.ends[client].lost += u32::from(lost.is_some());
            }
            ServerSends => {
                let answer = self.answer(client, self.ends[client].sa);
                self.ends[client].asked += 1;
                self.unknowable |= !self.is_knowable(client, answer.1);
                self.arrive(answer);
            }
        }
        self.settle();
    }

    fn ike(&mut self, client: usize, kind: u8, mine: bool) {
        let end = &mut self.ends[client];
        let message = if mine {
            &mut end.messages.0
        } else {
            &mut end.messages.1
        };
        *message += 1;
        let message = *message;
        let cookie = 0xA0 + client as u64;
        self.nat
            .exchange(CLIENTS[client], cookie, kind, message, mine);
        self.ends[client].sa += 1;
    }

    fn send(&mut self, client: usize) {
        let end = &mut self.ends[client];
        let sa = end.sa;
        end.asked += 1;
        end.sent[sa as usize] += 1;
        let seq = end.sent[sa as usize];
        match self.nat.out(CLIENTS[client], spi_out(client, sa), seq) {
            Fate::To(_) => self.reach(client, sa),
            Fate::Held => {}
            other => panic!("a client's packet was lost: {other:?}"),
        }
    }

    /// A packet reaches the server, which answers it on the same SA.
    fn reach(&mut self, client: usize, sa: u32) {
        let answer = self.answer(client, sa);
        self.ends[client].flight.push_back(answer);
    }

    fn answer(&mut self, client: usize, sa: u32) -> Answer {
        self.ends[client].answered[sa as usize] += 1;
        (client, sa, self.ends[client].answered[sa as usize])
    }

    fn arrive(&mut self, (client, sa, seq): Answer) {
        match self.nat.come(spi_in(client, sa), seq) {
            Fate::For(to) => {
                if seq == 1 && to != CLIENTS[client] {
                    assert!(self.awaits_proof(to), "given to one who expects nothing");
                }
                self.deliver(client, sa, to);
            }
            Fate::Held | Fate::Lost(_) => {}
            Fate::NotOurs | Fate::To(_) => panic!("the peer is known"),
        }
    }

    /// Whether a first packet that answers nothing can be told to be this client's: nobody else
    /// may have an SA that two packets have not proven yet. Of answers the engine can always tell.
    fn is_knowable(&self, client: usize, sa: u32) -> bool {
        let expects = |c: usize| {
            let end = &self.ends[c];
            (1..=end.sa).any(|s| end.shown[s as usize] < 2)
        };
        let others = (0..self.ends.len()).any(|c| c != client && expects(c));
        self.ends[client].shown[sa as usize] > 0 || !others
    }

    /// Whether a client has sent on an SA that two packets from the server have not proven: only
    /// to such a one may a first packet go astray.
    fn awaits_proof(&self, host: InsideHost) -> bool {
        let client = CLIENTS.iter().position(|&c| c == host);
        let end = &self.ends[client.expect("one of ours")];
        (1..=end.sa as usize).any(|sa| end.sent[sa] > 0 && end.shown[sa] < 2)
    }

    fn deliver(&mut self, client: usize, sa: u32, to: InsideHost) {
        if to == CLIENTS[client] {
            self.ends[client].got += 1;
            self.ends[client].shown[sa as usize] += 1;
        } else {
            self.wrong += 1;
        }
    }

    /// What the engine has released goes its way.
    fn settle(&mut self) {
        for released in self.nat.released() {
            match released {
                (Name::Out(host, spi, _), Fate::To(_)) => {
                    let client = CLIENTS.iter().position(|&c| c == host);
                    self.reach(client.expect("one of ours"), spi & 0xFF);
                }
                (Name::In(_, spi, _), Fate::For(to)) => {
                    self.deliver((spi as usize - 0x2000) / 0x100, spi & 0xFF, to);
                }
                (Name::In(..), Fate::Lost(_)) => {}
                other => panic!("lost in the queue: {other:?}"),
            }
        }
    }

    /// All answers arrive, and each client exchanges a few more packets.
    fn finish(&mut self) {
        for _ in 0..4 {
            for client in 0..self.ends.len() {
                while !self.ends[client].flight.is_empty() {
                    self.step(client, Reply);
                }
            }
        }
        for _ in 0..3 {
            for client in 0..self.ends.len() {
                self.step(client, Send);
                self.step(client, Reply);
            }
        }
    }
}

/// Runs every interleaving of the scripts; `check` judges each world at its end.
fn enumerate(scripts: &[&[Step]], check: &mut impl FnMut(&mut World, &[usize])) -> u64 {
    fn go(
        scripts: &[&[Step]],
        at: &mut Vec<usize>,
        order: &mut Vec<usize>,
        check: &mut impl FnMut(&mut World, &[usize]),
    ) -> u64 {
        let mut runs = 0;
        let mut leaf = true;
        for client in 0..scripts.len() {
            if at[client] < scripts[client].len() {
                leaf = false;
                at[client] += 1;
                order.push(client);
                runs += go(scripts, at, order, check);
                order.pop();
                at[client] -= 1;
            }
        }
        if leaf {
            let mut world = World::new(scripts.len());
            let mut next = vec![0; scripts.len()];
            for &client in order.iter() {
                world.step(client, scripts[client][next[client]]);
                next[client] += 1;
            }
            world.finish();
            check(&mut world, order);
            runs = 1;
        }
        runs
    }
    go(scripts, &mut vec![0; scripts.len()], &mut Vec::new(), check)
}

/// Where the server answers and never speaks first, every client gets every answer that the
/// network has not lost, in every order, and nobody gets another's.
fn all_get_all(scripts: &[&[Step]]) -> u64 {
    let count = scripts.len();
    enumerate(scripts, &mut |world, order| {
        assert_eq!(world.wrong, 0, "order {order:?}");
        for end in &world.ends {
            assert_eq!(end.got + end.lost, end.asked, "order {order:?}");
        }
        let occupancy = world.nat.engine.occupancy();
        assert_eq!(occupancy.held_packets, 0, "order {order:?}");
        assert!(occupancy.tunnels >= count, "order {order:?}");
        assert_eq!(world.nat.drops(), 0, "order {order:?}");
    })
}

#[test]
fn two_clients_with_ike_and_a_rekey() {
    let script = [
        Auth, Send, Reply, Send, Reply, Rekey, Send, Reply, Send, Reply,
    ];
    assert_eq!(all_get_all(&[&script, &script]), 184_756);
}

#[test]
fn two_clients_with_hand_made_keys_that_change() {
    let script = [
        NewKeys, Send, Reply, Send, NewKeys, Send, Reply, Reply, Send,
    ];
    assert_eq!(all_get_all(&[&script, &script]), 48_620);
}

#[test]
fn two_clients_with_answers_still_under_way_at_the_rekey() {
    let script = [Auth, Send, Send, Reply, Rekey, Send, Reply, Reply, Send];
    assert_eq!(all_get_all(&[&script, &script]), 48_620);
}

#[test]
fn two_clients_with_a_rekey_by_the_server() {
    let script = [Auth, Send, Reply, Send, Reply, ServerRekey, Send, Reply];
    assert_eq!(all_get_all(&[&script, &script]), 12_870);
}

#[test]
fn lost_doubled_and_overtaking_answers() {
    let lossy = [NewKeys, Send, Lose, Send, Reply, Send, Reply, Send];
    let doubled = [NewKeys, Send, Twice, Send, Twice, Send, Reply];
    let overtaking = [NewKeys, Send, Send, ReplyLast, Reply, Send, Reply];
    all_get_all(&[&lossy, &lossy]);
    all_get_all(&[&lossy, &doubled]);
    all_get_all(&[&doubled, &doubled]);
    all_get_all(&[&overtaking, &doubled]);
    all_get_all(&[&overtaking, &lossy]);
}

#[test]
fn three_clients_start_in_every_order() {
    let script: &[Step] = &[NewKeys, Send, Reply, Send];
    assert_eq!(all_get_all(&[script; 3]), 34_650);
    let script: &[Step] = &[Auth, Send, Reply, Send];
    assert_eq!(all_get_all(&[script; 3]), 34_650);
}

/// Where the server may speak first, a packet goes to the right client in every order in which the
/// evidence tells whose it is. In the others it may be held, dropped or, while the first answer
/// of another client is awaited, go astray; `docs/ipsec.md` says so.
fn right_where_knowable(scripts: &[&[Step]]) -> (u64, u64) {
    let mut knowable = 0;
    let runs = enumerate(scripts, &mut |world, order| {
        if world.unknowable {
            return;
        }
        knowable += 1;
        assert_eq!(world.wrong, 0, "order {order:?}");
        for end in &world.ends {
            assert_eq!(end.got, end.asked, "order {order:?}");
        }
        assert_eq!(world.nat.drops(), 0, "order {order:?}");
        let now = Millis(world.nat.now);
        let open = world
            .nat
            .engine
            .halves(now)
            .filter(|h| h.state == HalfState::Queued);
        assert_eq!(open.count(), 0, "order {order:?}");
    });
    (knowable, runs)
}

#[test]
fn the_server_speaks_first_after_its_rekey() {
    let quiet = [
        Auth,
        Send,
        Reply,
        Send,
        Reply,
        ServerRekey,
        ServerSends,
        Send,
        Reply,
    ];
    let (knowable, runs) = right_where_knowable(&[&quiet, &quiet]);
    assert_eq!(runs, 48_620);
    println!("{knowable} of {runs} orders can be known");
    assert!(knowable > 500);
    let client = [
        Auth, Send, Reply, Send, Reply, Rekey, Send, Reply, Send, Reply,
    ];
    let quiet = &quiet[..8];
    let (knowable, runs) = right_where_knowable(&[quiet, &client]);
    println!("{knowable} of {runs} orders can be known");
    assert!(knowable > 500);
}

#[test]
fn the_server_speaks_first_at_the_start() {
    let script: &[Step] = &[Auth, ServerSends, ServerSends, Send, Reply, Send];
    let (knowable, runs) = right_where_knowable(&[script; 2]);
    println!("{knowable} of {runs} orders can be known");
    assert!(knowable > 100);
}
