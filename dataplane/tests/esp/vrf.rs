//! Clients of different VRFs may have the same address. To the engine they are as different as two
//! addresses are.

use crate::common::*;

use std::net::Ipv4Addr;

use spillway_dataplane::esp::ike::exchange::{AUTH, CREATE_CHILD_SA};
use spillway_dataplane::esp::spi_match::{Key, answer};
use spillway_dataplane::esp::{EspCounter, EspFilter, Event, IkeIn, IkeOut, Limits, Trace};
use spillway_dataplane::session::Direction;
use spillway_dataplane::snapshot::{InsideHost, VrfId};
use spillway_dataplane::time::Millis;

/// The same address as [`A`], in two VRFs.
const RED: InsideHost = host(1, [10, 1, 0, 1]);
const BLUE: InsideHost = host(2, [10, 1, 0, 1]);

fn overload() -> Nat {
    Nat::new(Config::overload(&[G1]))
}

/// The three clients, each with a proven tunnel.
fn three_tunnels() -> Nat {
    let mut nat = overload();
    for (n, client) in [(0, A), (1, RED), (2, BLUE)] {
        assert_eq!(nat.out(client, 0x1000, 1), Fate::To(G1));
        for seq in 1..=2 {
            assert_eq!(nat.come(0x2000 + n, seq), Fate::For(client));
        }
    }
    nat
}

#[test]
fn one_address_and_one_spi_in_three_vrfs_are_three_tunnels() {
    let mut nat = three_tunnels();
    assert_eq!(nat.engine.occupancy().tunnels, 3);
    for (n, client) in [(2, BLUE), (1, RED), (0, A)] {
        assert_eq!(nat.out(client, 0x1000, 2), Fate::To(G1));
        assert_eq!(nat.come(0x2000 + n, 3), Fate::For(client));
    }
    assert_eq!(nat.drops(), 0);
}

#[test]
fn who_waits_holds_back_the_same_address_of_another_vrf() {
    let mut nat = overload();
    assert_eq!(nat.out(RED, 0x1000, 1), Fate::To(G1));
    assert_eq!(nat.out(BLUE, 0x1000, 1), Fate::Held);
    assert_eq!(nat.come(0x2000, 1), Fate::For(RED));
    assert_eq!(nat.released(), [(Name::Out(BLUE, 0x1000, 1), Fate::To(G1))]);
    assert_eq!(nat.come(0x2001, 1), Fate::For(BLUE));
}

#[test]
fn exchanges_speak_for_the_client_of_their_vrf() {
    let mut nat = Nat::new(Config {
        preserve: true,
        ..Config::overload(&[G1])
    });
    let clients = [(RED, 0xA), (BLUE, 0xB), (A, 0xC)];
    for (client, cookie) in clients {
        let sent = IkeOut::Translate {
            global: G1,
            port: 500,
        };
        assert_eq!(nat.ike_out(client, 500, opening(cookie)), sent);
    }
    for (client, cookie) in clients {
        let back = nat.ike_in(G1, (500, 500), v2(cookie, AUTH, 1, true));
        assert_eq!(back, IkeIn::Deliver { client, port: 500 });
    }
    nat.exchange(BLUE, 0xB, CREATE_CHILD_SA, 2, true);
    assert_eq!(nat.come(0x2000, 1), Fate::For(BLUE));
    assert_eq!(nat.engine.stats().counter(EspCounter::IkeByCookie), 4);
}

#[test]
fn ports_of_ike_belong_to_one_vrf_each() {
    let mut nat = overload();
    let mut ports = Vec::new();
    for (client, cookie) in [(RED, 0xA), (BLUE, 0xB), (A, 0xC)] {
        let IkeOut::Translate { port, .. } = nat.ike_out(client, 500, opening(cookie)) else {
            panic!("refused");
        };
        assert!(!ports.contains(&port), "{port} is taken");
        ports.push(port);
        let now = Millis(nat.now);
        let engine = &mut nat.engine;
        let out = engine.encapsulated_out(now, client, PEER, (500, 500));
        assert_eq!(out, Some((G1, port)));
        let back = engine.encapsulated_in(now, PEER, G1, (500, port));
        assert_eq!(back, Some((client, 500)));
        assert_eq!(engine.ike_sender_of(PEER, G1, (500, port)), back);
        assert_eq!(engine.ike_global_of(client, PEER, (500, 500)), out);
    }
}

#[test]
fn matched_spis_find_the_client_of_their_vrf() {
    let mut nat = Nat::new(Config {
        spi_match: true,
        ..Config::overload(&[G1])
    });
    for (n, client) in [(0, A), (1, RED), (2, BLUE)] {
        let spi = answer(0x2000 + n, Key::NONE);
        assert_eq!(nat.out(client, spi, 1), Fate::To(G1));
    }
    for (n, client) in [(2, BLUE), (1, RED), (0, A)] {
        assert_eq!(nat.come(0x2000 + n, 1), Fate::For(client));
    }
}

#[test]
fn a_static_is_for_the_global_table() {
    let mut nat = Nat::new(Config {
        fixed: Some((A, G1)),
        ..Config::overload(&[G1, G2])
    });
    assert_eq!(nat.come(0x2000, 1), Fate::For(A));
    assert_eq!(nat.out(A, 0x1000, 1), Fate::To(G1));
    assert_eq!(nat.out(RED, 0x1000, 1), Fate::To(G2));
}

#[test]
fn limits_of_a_client_are_its_own() {
    let limits = Limits {
        client_halves: 2,
        ..small()
    };
    let mut nat = Nat::with(Config::overload(&[G1]), limits);
    for client in [RED, BLUE] {
        for spi in 0..2 {
            let fate = nat.out(client, 0x1000 + spi, 1);
            assert!(matches!(fate, Fate::To(_) | Fate::Held), "{fate:?}");
        }
        let fate = nat.out(client, 0x1002, 1);
        assert_eq!(fate, Fate::Lost("esp_client_share"));
    }
}

#[test]
fn commands_name_an_address_a_vrf_or_both() {
    let left = |filter: EspFilter| {
        let mut nat = three_tunnels();
        nat.out(host(1, [10, 1, 0, 9]), 0x1000, 1);
        nat.engine.clear(&filter, &mut 0, usize::MAX);
        let now = Millis(nat.now);
        let outs = nat.engine.halves(now).filter(|half| !half.is_inbound);
        let mut left: Vec<_> = outs.map(|half| half.client).collect();
        left.sort();
        left
    };
    let client = Some(A.address);
    let red9 = host(1, [10, 1, 0, 9]);
    assert_eq!(
        left(EspFilter {
            client,
            ..EspFilter::default()
        }),
        [red9]
    );
    let vrf = Some(VrfId(1));
    assert_eq!(
        left(EspFilter {
            vrf,
            ..EspFilter::default()
        }),
        [A, BLUE]
    );
    let both = EspFilter {
        client,
        vrf,
        ..EspFilter::default()
    };
    assert_eq!(left(both), [A, red9, BLUE]);
    let spi_out = Some(0x1000);
    assert_eq!(left(EspFilter { spi_out, ..both }), [A, red9, BLUE]);
    let vrf = Some(VrfId::GLOBAL);
    assert_eq!(left(EspFilter { vrf, ..both }), [RED, red9, BLUE]);
}

#[test]
fn what_stands_is_found_in_its_vrf_only() {
    let mut nat = three_tunnels();
    nat.engine.approve_out((RED, PEER, 0x1000), 5, 77);
    nat.engine.approve_in(BLUE.vrf, (PEER, G1, 0x2002), 5, 78);
    let addresses = |source: Ipv4Addr, destination: Ipv4Addr| {
        u64::from(destination.to_bits()) << 32 | u64::from(source.to_bits())
    };
    let out = |vrf| {
        let engine = &nat.engine;
        let hash = engine.prefetch(Direction::Out, vrf, addresses(A.address, PEER), 0x1000);
        let guess = engine.guess(Direction::Out, hash);
        let client = InsideHost { vrf, ..A };
        let half = engine.established_out(guess, (client, PEER, 0x1000), 5);
        assert!(half.is_none_or(|half| half.place == guess), "a good guess");
        half
    };
    let red = out(RED.vrf).map(|half| (half.address, half.neighbour));
    assert_eq!(red, Some((G1, 77)));
    assert_eq!((out(BLUE.vrf), out(A.vrf)), (None, None));
    // From outside the half says whose it is; it stands for packets of the VRF where it was approved.
    let engine = &nat.engine;
    for (vrf, may) in [(VrfId::GLOBAL, false), (BLUE.vrf, true), (RED.vrf, false)] {
        let hash = engine.prefetch(Direction::In, vrf, addresses(PEER, G1), 0x2002);
        let guess = engine.guess(Direction::In, hash);
        let half = engine.established_in(guess, vrf, (PEER, G1, 0x2002), 3, 5);
        let half = half.map(|half| (half.address, half.neighbour));
        assert_eq!(half, may.then_some((BLUE.address, 78)));
    }
}

#[test]
fn errors_about_a_packet_find_its_sender() {
    let mut nat = three_tunnels();
    assert_eq!(nat.out(BLUE, 0x1003, 1), Fate::To(G1));
    assert_eq!(nat.engine.sender_of(PEER, G1, 0x1003), Some(BLUE));
    assert_eq!(nat.engine.global_of(BLUE, PEER), Some(G1));
    assert_eq!(nat.engine.global_of(host(3, [10, 1, 0, 1]), PEER), None);
}

#[test]
fn the_trace_tells_vrfs_apart() {
    struct Lines(std::sync::mpsc::Sender<[String; 2]>);
    impl Trace for Lines {
        fn event(&mut self, event: &Event) {
            let named = event.with_names(&|vrf| format!("V{}", vrf.0)).to_string();
            assert_eq!(self.0.send([event.to_string(), named]), Ok(()));
        }
    }
    let (send, lines) = std::sync::mpsc::channel();
    let mut nat = overload();
    nat.out(RED, 0x1000, 1);
    nat.engine.set_trace(Some(Box::new(Lines(send))));
    nat.out(A, 0x1000, 1);
    nat.engine.set_trace(None);
    let lines: Vec<_> = lines.iter().collect();
    let line = |red| {
        format!(
            "NAT: i: esp 10.1.0.1 -> 198.51.100.9 spi 1000 seq 1: held (another client waits for \
             its first reply), candidates: 10.1.0.1 vrf {red}"
        )
    };
    assert_eq!(lines, [[line("1"), line("V1")]]);
}
