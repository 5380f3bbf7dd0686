//! What those can't do who mean harm, outside and inside.

use crate::common::*;

use std::net::Ipv4Addr;

use spillway_dataplane::esp::ike::exchange::{AUTH, CREATE_CHILD_SA, INFORMATIONAL};
use spillway_dataplane::esp::{EspDrop, EspPacket, IkeIn, Limits};
use spillway_dataplane::time::Millis;

/// Three clients with proven tunnels and IKE.
fn settled(config: Config) -> Nat {
    let mut nat = Nat::new(config);
    for (n, client) in (0..).zip([A, B, C]) {
        assert!(matches!(
            nat.ike_out(client, 500, v2(0xA0 + u64::from(n), AUTH, 1, false)),
            spillway_dataplane::esp::IkeOut::Translate { .. }
        ));
        nat.out(client, 0x1000 + n, 1);
        for seq in 1..=3 {
            assert_eq!(nat.come(0x2000 + n, seq), Fate::For(client));
        }
    }
    nat.released();
    nat.pass(40_000);
    nat
}

fn all_still_works(nat: &mut Nat) {
    for (n, client) in (0..).zip([A, B, C]) {
        assert_eq!(nat.out(client, 0x1000 + n, 9), Fate::To(G1));
        assert_eq!(nat.come(0x2000 + n, 9), Fate::For(client));
    }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(11);
        (self.0 >> 32) as u32
    }
}

#[test]
fn random_spis_from_anywhere_make_no_state() {
    let mut nat = settled(Config::overload(&[G1]));
    let before: Vec<_> = nat.engine.halves(Millis(nat.now)).collect();
    let occupancy = nat.engine.occupancy();
    let mut dice = Dice(1);
    for _ in 0..200_000 {
        let from = Ipv4Addr::from(dice.roll());
        let seq = dice.roll() % 4;
        let fate = nat.come_to(from, G1, dice.roll() | 256, seq);
        assert_eq!(fate, Fate::NotOurs);
    }
    assert_eq!(nat.engine.occupancy(), occupancy);
    let after: Vec<_> = nat.engine.halves(Millis(nat.now)).collect();
    assert_eq!(before, after);
    all_still_works(&mut nat);
}

#[test]
fn random_spis_with_the_peers_address_move_nothing() {
    let mut nat = settled(Config::overload(&[G1]));
    let before: Vec<_> = nat.engine.halves(Millis(nat.now)).collect();
    let mut dice = Dice(2);
    for _ in 0..200_000 {
        let seq = if dice.roll() & 1 == 0 { 1 } else { dice.roll() };
        let fate = nat.come(dice.roll() | 0x8000_0000, seq);
        assert_eq!(fate, Fate::Lost(EspDrop::UnknownSpi.name()));
    }
    let after: Vec<_> = nat.engine.halves(Millis(nat.now)).collect();
    assert_eq!(before, after);
    assert_eq!(nat.drops(), 200_000);
    all_still_works(&mut nat);
}

#[test]
fn a_flood_while_a_client_waits_leaves_few_entries_that_vanish() {
    let mut nat = settled(Config::overload(&[G1]));
    nat.out(A, 0x1100, 1);
    let mut dice = Dice(3);
    for _ in 0..50_000 {
        nat.come(dice.roll() | 0x8000_0000, 1);
    }
    nat.released();
    let limit = small().tentative as usize;
    assert!(nat.engine.occupancy().inbound <= 3 + limit);
    all_still_works(&mut nat);
    // The true answer still arrives, and proves itself.
    assert_eq!(nat.come(0x2100, 1), Fate::For(A));
    assert_eq!(nat.come(0x2100, 2), Fate::For(A));
    nat.pass(31_000);
    assert!(nat.engine.occupancy().inbound <= 5);
}

#[test]
fn a_flood_with_the_peers_address_cannot_stop_new_tunnels_for_long() {
    let mut nat = Nat::new(Config::overload(&[G1]));
    // Two clients start while one forged packet comes just before each answer.
    nat.out(A, 0x1000, 1);
    nat.out(B, 0x1001, 1);
    nat.come(0xBAD0_0001, 1);
    nat.released();
    nat.come(0x2000, 1);
    nat.come(0xBAD0_0002, 1);
    nat.come(0x2001, 1);
    let mut flight: Vec<(u32, u32)> = Vec::new();
    let mut right = [0; 2];
    for seq in 2..62 {
        nat.pass(200);
        for (spi, seq) in flight.split_off(0) {
            let client = [A, B][(spi - 0x2000) as usize];
            if nat.come(spi, seq) == Fate::For(client) {
                right[(spi - 0x2000) as usize] = seq;
            }
        }
        for (n, client) in [(0, A), (1, B)] {
            if let Fate::To(_) = nat.out(client, 0x1000 + n, seq) {
                flight.push((0x2000 + n, seq));
            }
        }
        for released in nat.released() {
            if let (Name::Out(_, spi, seq), Fate::To(_)) = released {
                flight.push((spi + 0x1000, seq));
            }
        }
    }
    assert!(right.iter().all(|&last| last > 50), "{right:?}");
    assert_eq!(nat.engine.occupancy().tunnels, 2);
}

#[test]
fn spoofed_ike_makes_no_state_and_no_evidence() {
    let mut nat = settled(Config {
        preserve: true,
        ..Config::overload(&[G1])
    });
    let before = nat.engine.occupancy();
    let mut dice = Dice(4);
    let mut tried = 0;
    for n in 0..10_000 {
        let cookie = u64::from(dice.roll()) << 32 | u64::from(dice.roll()) | 1;
        let kind = [AUTH, CREATE_CHILD_SA, INFORMATIONAL][n % 3];
        match nat.ike_in(G1, (500, 500), v2(cookie, kind, dice.roll(), n % 2 == 0)) {
            IkeIn::Deliver { .. } => tried += 1,
            IkeIn::Drop(EspDrop::IkeTries) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(tried, small().ike_tries);
    assert_eq!(nat.engine.occupancy(), before);
    assert_eq!(
        nat.come(0x9999, 1),
        Fate::Lost("esp_unknown_spi"),
        "nobody expects it"
    );
    // Knowing one cookie is not enough.
    let half_known = spillway_dataplane::esp::ike::IkeHeader {
        responder: 0xDEAD,
        ..v2(0xA0, CREATE_CHILD_SA, 7, false)
    };
    nat.pass(1_000);
    assert!(matches!(
        nat.ike_in(G1, (500, 500), half_known),
        IkeIn::Deliver { .. }
    ));
    assert_eq!(nat.come(0x9999, 1), Fate::Lost("esp_unknown_spi"));
    all_still_works(&mut nat);
}

#[test]
fn ike_from_strangers_is_not_ours() {
    let mut nat = settled(Config::overload(&[G1]));
    let packet = spillway_dataplane::esp::IkePacket {
        source_port: 500,
        destination_port: 500,
        header: opening(7),
    };
    let stranger = Ipv4Addr::new(192, 0, 2, 66);
    let answer = nat.engine.ike_in(Millis(nat.now), stranger, G1, &packet);
    assert_eq!(answer, IkeIn::NotOurs);
}

#[test]
fn one_inside_cannot_take_more_than_its_share() {
    let limits = Limits {
        client_halves: 10,
        client_relations: 4,
        client_held_packets: 5,
        ..small()
    };
    let mut nat = Nat::with(Config::overload(&[G1]), limits);
    let share = Fate::Lost(EspDrop::ClientShare.name());
    let mut dice = Dice(5);
    let mut refused = 0;
    for n in 0..10_000 {
        let to = Ipv4Addr::from(0xC633_6400 + n % 50);
        if nat.out_to(A, to, dice.roll() | 256, 1) == share {
            refused += 1;
        }
    }
    assert!(refused >= 9_990);
    let occupancy = nat.engine.occupancy();
    assert!(occupancy.half_open <= 10 && occupancy.relations <= 4);
    assert_eq!(nat.out(B, 0x1001, 1), Fate::To(G1));
    assert_eq!(nat.come(0x2001, 1), Fate::For(B));
}

#[test]
fn one_inside_that_never_gets_answers_delays_others_once_only() {
    let mut nat = Nat::new(Config::overload(&[G1]));
    for n in 0..40 {
        nat.out(A, 0x5000 + n, 1);
    }
    assert_eq!(nat.out(B, 0x1001, 1), Fate::Held);
    nat.pass(30_100);
    let sent: Vec<_> = nat.released();
    assert_eq!(sent, [(Name::Out(B, 0x1001, 1), Fate::To(G1))]);
    nat.come(0x2001, 1);
    nat.come(0x2001, 2);
    for n in 0..40 {
        nat.out(A, 0x6000 + n, 1);
        assert_eq!(nat.out(B, 0x1100 + n, 1), Fate::To(G1));
        nat.come(0x2100 + n, 1);
        nat.come(0x2100 + n, 2);
        nat.pass(100);
    }
}

#[test]
fn full_tables_refuse_with_their_own_reason_and_go_on() {
    let limits = Limits {
        clients: 4,
        relations: 4,
        halves: 6,
        ..small()
    };
    let mut nat = Nat::with(Config::overload(&[G1]), limits);
    for n in 0..6 {
        let peer = Ipv4Addr::from(0xC633_6400 + n % 2);
        assert_eq!(nat.out_to(A, peer, 0x1000 + n, 1), Fate::To(G1));
    }
    assert_eq!(nat.out(A, 0x3000, 1), Fate::Lost("esp_half_table_full"));
    assert_eq!(
        nat.engine.occupancy().relations,
        2,
        "nothing is left behind"
    );
    nat.pass(301_000);
    for n in 0..4 {
        let client = Ipv4Addr::from(0x0A01_0000 + n);
        let peer = Ipv4Addr::from(0xC633_6400 + n);
        assert_eq!(nat.out_to(client.into(), peer, 0x1000, 1), Fate::To(G1));
    }
    let fate = nat.out_to(B, PEER, 0x1000, 1);
    assert_eq!(fate, Fate::Lost("esp_relation_table_full"));
}

#[test]
fn a_ticket_is_good_once_and_for_its_own_packet() {
    let mut nat = Nat::new(Config::overload(&[G1]));
    nat.out(A, 0x1000, 1);
    let packet = EspPacket {
        spi: 0x1001,
        sequence: 1,
        octets: 60,
    };
    let now = Millis(nat.now);
    let held = nat.engine.outbound_esp(now, B, PEER, &packet, &nat.config);
    let spillway_dataplane::esp::Outbound::Hold(ticket) = held else {
        panic!("{held:?}");
    };
    nat.come(0x2000, 1);
    assert!(nat.released().is_empty(), "no packet was given");
    let name = Name::Out(B, 0x1001, 1);
    assert_eq!(nat.engine.keep(ticket, name), Err(name));
}
