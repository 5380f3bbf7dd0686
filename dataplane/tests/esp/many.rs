//! Many clients of few servers, in virtual time.

use crate::common::*;

use std::net::Ipv4Addr;

use spillway_dataplane::esp::ike::exchange::{AUTH, CREATE_CHILD_SA};
use spillway_dataplane::esp::{EspCounter, Limits};
use spillway_dataplane::snapshot::{InsideHost, VrfId};
use spillway_dataplane::time::Millis;

/// Every third client is in the global table, and the addresses of one VRF are in the others too.
fn client(n: u32) -> InsideHost {
    InsideHost {
        vrf: VrfId((n % 3) as u8),
        address: Ipv4Addr::from(0x0A02_0000 + n / 3),
    }
}

fn peer(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xC633_6400 + n)
}

/// Answers under way to the NAT: when, from where, SPI and sequence number.
type Flight = std::collections::VecDeque<(u64, Ipv4Addr, u32, u32)>;

/// Clients that send `rounds` packets each, all in the same millisecond of each round, and a server
/// that answers after a round trip. Returns the number of answers that each client got.
fn ping(nat: &mut Nat, clients: u32, peers: u32, rounds: u32, interval: u64, sa: u32) -> Vec<u32> {
    const ROUND_TRIP_MS: u64 = 20;
    let mut got = vec![0; clients as usize];
    let mut flight = Flight::new();
    let reach = |flight: &mut Flight, now: u64, n: u32, spi: u32, seq: u32| {
        let spi_in = 0x4000_0000 + (spi & 0x0FFF_FFFF);
        flight.push_back((now + ROUND_TRIP_MS, peer(n % peers), spi_in, seq));
    };
    for round in 1..=rounds {
        for n in 0..clients {
            let spi = 0x1000_0000 + sa * 0x10_0000 + n;
            match nat.out_to(client(n), peer(n % peers), spi, round) {
                Fate::To(_) => reach(&mut flight, nat.now, n, spi, round),
                Fate::Held => {}
                other => panic!("client {n}: {other:?}"),
            }
        }
        let until = nat.now + interval;
        while nat.now < until {
            nat.now += 1;
            nat.engine.tick(Millis(nat.now), 64);
            while flight.front().is_some_and(|f| f.0 <= nat.now) {
                if let Some((_, from, spi, seq)) = flight.pop_front() {
                    let n = spi & 0xF_FFFF;
                    assert_eq!(nat.come_to(from, G1, spi, seq), Fate::For(client(n)));
                    got[n as usize] += 1;
                }
            }
            for (name, fate) in nat.released() {
                assert_eq!(fate, Fate::To(G1));
                let (Name::Out(_, spi, seq) | Name::In(_, spi, seq)) = name;
                reach(&mut flight, nat.now, spi & 0xF_FFFF, spi, seq);
            }
        }
    }
    got
}

#[test]
fn fifty_clients_start_in_one_millisecond_and_all_get_all() {
    let mut nat = Nat::new(Config::overload(&[G1]));
    let got = ping(&mut nat, 50, 1, 10, 1_100, 0);
    assert!(got.iter().all(|&n| n == 10), "{got:?}");
    assert_eq!(nat.drops(), 0);
    assert_eq!(nat.engine.occupancy().tunnels, 50);
    let held = nat.engine.stats().counter(EspCounter::HeldOut);
    assert_eq!(held, 49, "only the first packets were held");
    // After start-up nothing is held.
    nat.engine.clear_stats();
    let got = ping(&mut nat, 50, 1, 0, 0, 0);
    assert_eq!(got.len(), 50);
    assert_eq!(nat.engine.stats().counter(EspCounter::HeldOut), 0);
}

#[test]
fn fifty_clients_rekey_in_one_millisecond_and_all_get_all() {
    let mut nat = Nat::new(Config::overload(&[G1]));
    for n in 0..50 {
        nat.exchange(client(n), 0x100 + u64::from(n), AUTH, 1, true);
    }
    for sa in 0..4 {
        let got = ping(&mut nat, 50, 1, 5, 1_100, sa);
        assert!(got.iter().all(|&n| n == 5), "SA {sa}: {got:?}");
    }
    assert_eq!(nat.drops(), 0);
    assert_eq!(nat.engine.occupancy().tunnels, 200);
    assert_eq!(nat.engine.occupancy().half_open, 0);
}

#[test]
fn ten_thousand_clients_of_a_hundred_servers() {
    let limits = Limits {
        held_packets: 16_384,
        held_octets: 16_384 * 100,
        ..Limits::default()
    };
    let mut nat = Nat::with(Config::overload(&[G1]), limits);
    let got = ping(&mut nat, 10_000, 100, 3, 2_500, 0);
    assert!(got.iter().all(|&n| n == 3));
    assert_eq!(nat.drops(), 0);
    assert_eq!(nat.engine.occupancy().tunnels, 10_000);
    assert_eq!(nat.engine.occupancy().half_open, 0);
    // All leave, and nothing stays.
    nat.now += 301_000;
    for _ in 0..300 {
        nat.engine.tick(Millis(nat.now), 1 << 10);
    }
    assert_eq!(nat.engine.occupancy(), Default::default());
}

#[test]
fn a_pool_that_is_large_enough_never_holds_anything() {
    let globals: Vec<Ipv4Addr> = (0..8).map(|n| Ipv4Addr::from(0xCB00_7101 + n)).collect();
    let mut nat = Nat::new(Config::overload(&globals));
    let mut taken = Vec::new();
    for n in 0..8 {
        match nat.out(client(n), 0x1000 + n, 1) {
            Fate::To(global) => taken.push(global),
            other => panic!("client {n}: {other:?}"),
        }
    }
    for n in 0..8 {
        let fate = nat.come_to(PEER, taken[n as usize], 0x2000 + n, 1);
        assert_eq!(fate, Fate::For(client(n)));
    }
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), 8);
    assert_eq!(nat.engine.stats().counter(EspCounter::HeldOut), 0);
}

#[test]
fn a_restarted_client_with_new_spis_is_paired_again() {
    let mut nat = Nat::new(Config::overload(&[G1]));
    for n in 0..3 {
        nat.exchange(client(n), 0x100 + u64::from(n), AUTH, 1, true);
    }
    assert!(ping(&mut nat, 3, 1, 3, 1_000, 0).iter().all(|&n| n == 3));
    // Client 1 dies; its new IKE SA has a new cookie, its tunnel new SPIs.
    nat.pass(10_000);
    nat.exchange(client(1), 0x999, AUTH, 1, true);
    nat.exchange(client(0), 0x100, CREATE_CHILD_SA, 2, true);
    assert_eq!(nat.out_to(client(1), peer(0), 0x1020_0001, 1), Fate::To(G1));
    assert_eq!(
        nat.come_to(peer(0), G1, 0x4020_0001, 1),
        Fate::For(client(1))
    );
    assert_eq!(
        nat.come_to(peer(0), G1, 0x4020_0001, 2),
        Fate::For(client(1))
    );
    assert_eq!(
        nat.come_to(peer(0), G1, 0x4000_0000, 4),
        Fate::For(client(0))
    );
    assert_eq!(nat.drops(), 0);
}
