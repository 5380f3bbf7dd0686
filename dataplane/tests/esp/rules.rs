//! One test for each rule of pairing, in virtual time.

use crate::common::*;

use spillway_dataplane::esp::ike::exchange::{AUTH, CREATE_CHILD_SA};
use spillway_dataplane::esp::{EspCounter, EspDrop, EspTimers, HalfState, IkeOut, Limits, Method};
use spillway_dataplane::esp::{EspFilter, Event, Trace, spi_match};
use spillway_dataplane::time::Millis;

fn overload() -> Nat {
    Nat::new(Config::overload(&[G1]))
}

#[test]
fn a_single_client_is_paired_by_its_first_reply() {
    let mut nat = overload();
    assert_eq!(nat.out(A, 0x1000, 1), Fate::To(G1));
    assert_eq!(nat.come(0x2000, 1), Fate::For(A));
    assert_eq!(nat.engine.occupancy().half_open, 1);
    assert_eq!(nat.come(0x2000, 2), Fate::For(A));
    let occupancy = nat.engine.occupancy();
    assert_eq!((occupancy.tunnels, occupancy.half_open), (1, 0));
    assert_eq!(nat.engine.stats().counter(EspCounter::PairedLearned), 1);
}

#[test]
fn the_second_client_waits_for_the_first_ones_reply_and_follows_in_order() {
    let mut nat = overload();
    assert_eq!(nat.out(A, 0x1000, 1), Fate::To(G1));
    for seq in 1..=3 {
        assert_eq!(nat.out(B, 0x1001, seq), Fate::Held);
    }
    assert_eq!(nat.out(C, 0x1002, 1), Fate::Held);
    assert!(nat.released().is_empty());
    assert_eq!(nat.come(0x2000, 1), Fate::For(A));
    let order: Vec<_> = nat.released();
    assert_eq!(
        order,
        [1, 2, 3].map(|seq| (Name::Out(B, 0x1001, seq), Fate::To(G1)))
    );
    assert_eq!(nat.come(0x2001, 1), Fate::For(B));
    assert_eq!(nat.released(), [(Name::Out(C, 0x1002, 1), Fate::To(G1))]);
    assert_eq!(nat.come(0x2002, 1), Fate::For(C));
    assert_eq!(nat.engine.occupancy().held_packets, 0);
    assert_eq!(nat.drops(), 0);
}

#[test]
fn different_peers_do_not_wait_for_each_other() {
    let mut nat = overload();
    let other = std::net::Ipv4Addr::new(198, 51, 100, 10);
    assert_eq!(nat.out(A, 0x1000, 1), Fate::To(G1));
    assert_eq!(nat.out_to(B, other, 0x1000, 1), Fate::To(G1));
    assert_eq!(nat.come_to(other, G1, 0x2000, 1), Fate::For(B));
    assert_eq!(nat.come(0x2000, 1), Fate::For(A));
}

#[test]
fn a_wait_without_a_reply_ends_and_the_next_one_follows() {
    let mut nat = overload();
    nat.engine.set_timers(EspTimers {
        pending_ms: Some(5_000),
        ..EspTimers::default()
    });
    assert_eq!(nat.out(A, 0x1000, 1), Fate::To(G1));
    nat.pass(1_000);
    assert_eq!(nat.out(B, 0x1001, 1), Fate::Held);
    nat.pass(3_900);
    assert!(nat.released().is_empty());
    nat.pass(200);
    assert_eq!(nat.released(), [(Name::Out(B, 0x1001, 1), Fate::To(G1))]);
    assert_eq!(nat.come(0x2001, 1), Fate::For(B));
    assert_eq!(nat.engine.stats().counter(EspCounter::WaitsExpired), 1);
    // The late reply: only A's half is without any partner, but B's is not proven either; then it is.
    assert_eq!(nat.come(0x2001, 2), Fate::For(B));
    assert_eq!(nat.come(0x2000, 1), Fate::For(A));
}

#[test]
fn a_client_that_was_not_answered_makes_nobody_wait_again() {
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    nat.pass(31_000);
    assert_eq!(nat.out(A, 0x1100, 1), Fate::To(G1));
    assert_eq!(nat.out(B, 0x1001, 1), Fate::To(G1), "A has lost its turn");
}

#[test]
fn a_clients_own_rekey_never_waits_for_itself() {
    let mut nat = overload();
    assert_eq!(nat.out(A, 0x1000, 1), Fate::To(G1));
    assert_eq!(nat.out(A, 0x1010, 1), Fate::To(G1));
    assert_eq!(nat.out(B, 0x1001, 1), Fate::Held);
    assert_eq!(nat.come(0x2000, 1), Fate::For(A));
    assert!(
        nat.released().is_empty(),
        "A has a second half without reply"
    );
    assert_eq!(nat.come(0x2010, 1), Fate::For(A));
    assert_eq!(nat.released().len(), 1);
}

#[test]
fn one_packet_is_no_proof_and_a_duplicate_neither() {
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    assert_eq!(nat.come(0xBAD0, 1), Fate::For(A));
    assert_eq!(nat.come(0xBAD0, 1), Fate::For(A));
    assert_eq!(nat.engine.occupancy().tunnels, 0);
    nat.pass(10);
    assert_eq!(nat.come(0x2000, 1), Fate::For(A), "the half still answers");
    assert_eq!(nat.come(0x2000, 2), Fate::For(A));
    assert_eq!(nat.engine.occupancy().tunnels, 1);
    assert_eq!(nat.engine.occupancy().inbound, 1, "the forged one is gone");
}

#[test]
fn a_one_way_tunnel_keeps_going_and_expires_when_idle() {
    let mut nat = overload();
    for seq in 1..100 {
        assert_eq!(nat.out(A, 0x1000, seq), Fate::To(G1));
        nat.pass(1_000);
    }
    nat.pass(298_000);
    assert_eq!(nat.engine.occupancy().half_open, 1);
    nat.pass(2_000);
    assert_eq!(nat.engine.occupancy(), Default::default());
}

#[test]
fn a_half_whose_time_is_over_counts_no_more_even_before_its_timer_ran() {
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    nat.out(B, 0x1001, 1);
    nat.come(0x2000, 1);
    nat.come(0x2000, 2);
    nat.come(0x2001, 1);
    nat.released();
    nat.now += 300_000;
    assert_eq!(nat.out(A, 0x1000, 3), Fate::To(G1));
    assert_eq!(nat.engine.stats().counter(EspCounter::Expired), 1);
    assert_eq!(
        nat.engine.occupancy().tunnels,
        0,
        "it waits for a reply again"
    );
    assert_eq!(nat.come(0x2000, 3), Fate::For(A));
    assert_eq!(nat.engine.stats().counter(EspCounter::Expired), 2);
}

#[test]
fn either_direction_keeps_both_halves() {
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    nat.out(B, 0x1001, 1);
    nat.come(0x2000, 1);
    nat.come(0x2000, 2);
    nat.come(0x2001, 1);
    nat.come(0x2001, 2);
    for seq in 2..400 {
        nat.out(A, 0x1000, seq);
        nat.come(0x2001, seq + 1);
        nat.pass(1_000);
    }
    assert_eq!(nat.come(0x2000, 3), Fate::For(A));
    assert_eq!(nat.out(B, 0x1001, 2), Fate::To(G1));
    assert_eq!(nat.engine.occupancy().tunnels, 2);
}

#[test]
fn ike_tells_whose_first_packet_it_is_when_the_server_speaks_first() {
    let mut nat = overload();
    nat.exchange(A, 0xA, AUTH, 1, true);
    nat.out(A, 0x1000, 1);
    nat.come(0x2000, 1);
    nat.come(0x2000, 2);
    nat.exchange(B, 0xB, AUTH, 1, true);
    assert_eq!(nat.come(0x2001, 1), Fate::For(B));
    // Its own first packet then belongs to that inbound half: nobody waits.
    assert_eq!(nat.out(B, 0x1001, 1), Fate::To(G1));
    assert_eq!(nat.out(C, 0x1002, 1), Fate::To(G1));
    assert_eq!(nat.come(0x2001, 2), Fate::For(B));
    assert_eq!(nat.engine.stats().counter(EspCounter::PairedIke), 1);
    let view = nat
        .engine
        .halves(Millis(nat.now))
        .find(|h| h.client == B && !h.is_inbound);
    let view = view.expect("B has an outbound half");
    assert_eq!(view.method, Some(Method::Ike));
    assert_eq!((view.spi_in, view.state), (Some(0x2001), HalfState::Paired));
    assert_eq!(view.ike.map(|i| i.cookies.0), Some(0xB));
}

#[test]
fn a_rekey_by_the_server_is_evidence_too() {
    let mut nat = overload();
    for (client, n) in [(A, 0), (B, 1)] {
        nat.exchange(client, 0xA0 + u64::from(n), AUTH, 1, true);
        nat.out(client, 0x1000 + n, 1);
        nat.come(0x2000 + n, 1);
        nat.come(0x2000 + n, 2);
    }
    nat.exchange(A, 0xA0, CREATE_CHILD_SA, 0, false);
    assert_eq!(nat.come(0x3000, 1), Fate::For(A));
    assert_eq!(nat.come(0x3000, 2), Fate::For(A));
    nat.exchange(B, 0xA1, CREATE_CHILD_SA, 0, false);
    assert_eq!(nat.come(0x3001, 1), Fate::For(B));
}

#[test]
fn several_exchanges_are_ambiguous_until_one_is_settled() {
    let mut nat = overload();
    nat.exchange(A, 0xA, AUTH, 1, true);
    nat.exchange(B, 0xB, AUTH, 1, true);
    assert_eq!(nat.come(0x2001, 1), Fate::Held);
    nat.out(A, 0x1000, 1);
    assert_eq!(nat.come(0x2000, 1), Fate::For(A));
    assert!(nat.released().is_empty());
    assert_eq!(nat.come(0x2000, 2), Fate::For(A));
    assert_eq!(nat.released(), [(Name::In(PEER, 0x2001, 1), Fate::For(B))]);
    assert_eq!(nat.come(0x2001, 2), Fate::For(B));
}

#[test]
fn an_ambiguous_packet_is_dropped_after_its_time_and_counted() {
    let mut nat = overload();
    nat.exchange(A, 0xA, AUTH, 1, true);
    nat.exchange(B, 0xB, AUTH, 1, true);
    assert_eq!(nat.come(0x2001, 1), Fate::Held);
    nat.pass(1_100);
    let lost = Fate::Lost(EspDrop::Ambiguous.name());
    assert_eq!(nat.released(), [(Name::In(PEER, 0x2001, 1), lost)]);
    assert_eq!(nat.engine.stats().drops(EspDrop::Ambiguous), 1);
}

/// As real servers do: they use a client's new tunnel before their answer to its request is on the wire, while another client's
/// tunnel, as new, has had one reply.
#[test]
fn two_rekeys_at_once_wait_for_proof_instead_of_guessing() {
    let mut nat = overload();
    for (client, n) in [(A, 0), (B, 1)] {
        nat.exchange(client, 0xA0 + u64::from(n), AUTH, 1, true);
        nat.out(client, 0x1000 + n, 1);
        nat.come(0x2000 + n, 1);
        nat.come(0x2000 + n, 2);
    }
    nat.exchange(A, 0xA0, CREATE_CHILD_SA, 2, true);
    nat.out(A, 0x1010, 1);
    assert_eq!(nat.come(0x2010, 1), Fate::For(A));
    let asked = nat.ike_out(B, 500, v2(0xA1, CREATE_CHILD_SA, 2, false));
    assert!(matches!(asked, IkeOut::Translate { .. }), "{asked:?}");
    assert_eq!(nat.come(0x2011, 1), Fate::Held, "A's or B's?");
    // The second packet of A's new tunnel proves that 2010 was all that A expected.
    assert_eq!(nat.come(0x2010, 2), Fate::For(A));
    assert_eq!(nat.released(), [(Name::In(PEER, 0x2011, 1), Fate::For(B))]);
    assert_eq!(nat.come(0x2011, 2), Fate::For(B));
    assert_eq!(nat.out(B, 0x1011, 1), Fate::To(G1));
}

/// B's tunnel is there; A's first packet waits for a reply, and then A renews its tunnel: the server will never use the old one.
fn a_renews_before_its_first_reply() -> Nat {
    let mut nat = overload();
    nat.exchange(B, 0xB, AUTH, 1, true);
    nat.out(B, 0x1001, 1);
    nat.come(0x2001, 1);
    nat.come(0x2001, 2);
    nat.exchange(A, 0xA, AUTH, 1, true);
    nat.pass(100);
    assert_eq!(nat.out(A, 0x1000, 1), Fate::To(G1));
    nat.pass(100);
    nat.exchange(A, 0xA, CREATE_CHILD_SA, 2, true);
    nat.pass(100);
    nat
}

#[test]
fn a_new_tunnels_reply_is_not_taken_for_the_old_ones() {
    let mut nat = a_renews_before_its_first_reply();
    assert_eq!(nat.out(A, 0x1010, 1), Fate::To(G1));
    assert_eq!(nat.come(0x2010, 1), Fate::For(A));
    assert_eq!(nat.come(0x2010, 2), Fate::For(A));
    // What may be under way for A's old tunnel is awaited a second, not half a minute.
    nat.exchange(B, 0xB, CREATE_CHILD_SA, 2, true);
    assert_eq!(nat.out(B, 0x1011, 1), Fate::Held);
    nat.pass(1_200);
    assert_eq!(nat.released(), [(Name::Out(B, 0x1011, 1), Fate::To(G1))]);
}

#[test]
fn a_server_that_answers_the_old_tunnel_with_the_new_one_keeps_nobody_waiting() {
    let mut nat = a_renews_before_its_first_reply();
    assert_eq!(nat.come(0x2010, 1), Fate::For(A));
    assert_eq!(nat.out(A, 0x1010, 1), Fate::To(G1));
    nat.exchange(B, 0xB, CREATE_CHILD_SA, 2, true);
    assert_eq!(nat.out(B, 0x1011, 1), Fate::To(G1));
    // The same when the new SPI was proven before the client used its own.
    let mut nat = a_renews_before_its_first_reply();
    assert_eq!(nat.come(0x2010, 1), Fate::For(A));
    assert_eq!(nat.come(0x2010, 2), Fate::For(A));
    assert_eq!(nat.out(A, 0x1010, 1), Fate::To(G1));
    nat.exchange(B, 0xB, CREATE_CHILD_SA, 2, true);
    assert_eq!(nat.out(B, 0x1011, 1), Fate::To(G1));
    let view = nat
        .engine
        .halves(Millis(nat.now))
        .find(|h| h.spi_out == Some(0x1010));
    assert_eq!(view.and_then(|v| v.spi_in), Some(0x2010));
}

#[test]
fn a_tunnel_renewed_before_it_was_used_is_expected_no_more() {
    let mut nat = overload();
    nat.exchange(B, 0xB, AUTH, 1, true);
    nat.out(B, 0x1001, 1);
    nat.come(0x2001, 1);
    nat.come(0x2001, 2);
    nat.exchange(A, 0xA, AUTH, 1, true);
    nat.pass(100);
    nat.exchange(A, 0xA, CREATE_CHILD_SA, 2, true);
    nat.out(A, 0x1010, 1);
    nat.come(0x2010, 1);
    assert_eq!(nat.come(0x2010, 2), Fate::For(A));
    let asked = nat.ike_out(B, 500, v2(0xB, CREATE_CHILD_SA, 2, false));
    assert!(matches!(asked, IkeOut::Translate { .. }), "{asked:?}");
    assert_eq!(nat.come(0x2011, 1), Fate::Held);
    assert_eq!(nat.out(B, 0x1011, 1), Fate::To(G1));
    assert_eq!(nat.come(0x2011, 2), Fate::For(B));
    assert_eq!(nat.released(), [(Name::In(PEER, 0x2011, 1), Fate::For(B))]);
}

#[test]
fn a_large_sequence_number_is_no_new_sa() {
    let mut nat = overload();
    nat.exchange(A, 0xA, AUTH, 1, true);
    nat.out(B, 0x1001, 1);
    nat.come(0x2001, 1);
    nat.come(0x2001, 2);
    let lost = Fate::Lost(EspDrop::UnknownSpi.name());
    assert_eq!(nat.come(0x7777, 70_000), lost);
    assert_eq!(nat.come(0x7777, 3), Fate::For(A));
}

#[test]
fn evidence_ends_with_its_window() {
    let mut nat = overload();
    nat.exchange(A, 0xA, AUTH, 1, true);
    nat.exchange(B, 0xB, AUTH, 1, true);
    nat.pass(20_000);
    nat.exchange(B, 0xB, CREATE_CHILD_SA, 2, true);
    nat.pass(15_000);
    assert_eq!(nat.come(0x2001, 1), Fate::For(B), "only B's is recent");
}

#[test]
fn a_tunnel_in_midlife_is_learnt_after_a_restart() {
    let mut nat = overload();
    nat.out(A, 0x1000, 50_000);
    assert_eq!(nat.out(B, 0x1001, 80_000), Fate::Held);
    assert_eq!(nat.come(0x2000, 60_000), Fate::For(A));
    assert_eq!(nat.released().len(), 1);
    assert_eq!(nat.come(0x2001, 90_000), Fate::For(B));
}

#[test]
fn unknown_spis_go_to_the_only_client_and_make_no_entry() {
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    nat.come(0x2000, 1);
    nat.come(0x2000, 2);
    let before = nat.engine.occupancy();
    assert_eq!(nat.come(0x9999, 1), Fate::For(A));
    assert_eq!(nat.engine.occupancy(), before);
    assert_eq!(nat.engine.stats().counter(EspCounter::OnlyClient), 1);
}

#[test]
fn reserved_spis_are_refused_both_ways() {
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    let lost = Fate::Lost(EspDrop::ReservedSpi.name());
    for spi in [0, 1, 255] {
        assert_eq!(nat.out(A, spi, 1), lost);
        assert_eq!(nat.come(spi, 1), lost);
    }
    assert_eq!(nat.out(A, 256, 1), Fate::To(G1));
}

#[test]
fn a_pool_keeps_clients_of_one_peer_apart() {
    let mut nat = Nat::new(Config::overload(&[G1, G2]));
    assert_eq!(nat.out(A, 0x1000, 1), Fate::To(G1));
    assert_eq!(nat.out(B, 0x1001, 1), Fate::To(G2));
    assert_eq!(nat.out(C, 0x1002, 1), Fate::Held, "both are taken");
    assert_eq!(nat.come_to(PEER, G2, 0x2001, 1), Fate::For(B));
    let other = std::net::Ipv4Addr::new(198, 51, 100, 10);
    assert_eq!(nat.out_to(B, other, 0x1, 1), Fate::Lost("esp_reserved_spi"));
    assert_eq!(
        nat.out_to(B, other, 0x1001, 1),
        Fate::To(G2),
        "B keeps its own"
    );
}

#[test]
fn esp_and_ike_of_a_client_leave_with_one_address() {
    let mut nat = Nat::new(Config::overload(&[G1, G2]));
    nat.out(A, 0x1000, 1);
    let sent = nat.ike_out(B, 500, opening(0xB));
    let global = G2;
    assert_eq!(
        sent,
        spillway_dataplane::esp::IkeOut::Translate { global, port: 500 }
    );
    assert_eq!(nat.out(B, 0x1001, 1), Fate::To(G2));
}

#[test]
fn a_static_host_gets_every_peers_packets() {
    let mut nat = Nat::new(Config {
        fixed: Some((A, G1)),
        ..Config::overload(&[G1, G2])
    });
    assert_eq!(nat.come(0x5555, 9), Fate::For(A));
    assert_eq!(nat.out(A, 0x1000, 1), Fate::To(G1));
    assert_eq!(nat.out(B, 0x1001, 1), Fate::To(G2), "G1 belongs to A");
    assert_eq!(nat.come(0x2000, 1), Fate::For(A));
    let alone = Config {
        fixed: Some((A, G1)),
        ..Config::overload(&[G1])
    };
    let mut nat = Nat::new(alone);
    assert_eq!(nat.out(B, 0x1001, 1), Fate::Lost("esp_no_global"));
    assert_eq!(nat.engine.occupancy(), Default::default());
}

#[test]
fn spi_matching_pairs_at_once_whoever_began() {
    let key = spi_match::Key::from_octets(b"group");
    let mut nat = Nat::new(Config {
        spi_match: true,
        key,
        ..Config::overload(&[G1])
    });
    // The initiators are inside: the responder's SPI, which they send, is H of their own.
    assert_eq!(nat.out(A, spi_match::answer(0x2000, key), 1), Fate::To(G1));
    assert_eq!(nat.out(B, spi_match::answer(0x2001, key), 1), Fate::To(G1));
    // The initiator is outside: what it gets is H of what it sends.
    assert_eq!(nat.out(C, 0x1002, 1), Fate::To(G1));
    assert_eq!(nat.come(0x2001, 1), Fate::For(B));
    assert_eq!(nat.come(spi_match::answer(0x1002, key), 1), Fate::For(C));
    assert_eq!(nat.come(0x2000, 1), Fate::For(A));
    let stats = *nat.engine.stats();
    assert_eq!(stats.counter(EspCounter::PairedMatched), 3);
    assert_eq!(stats.counter(EspCounter::HeldOut), 0);
    assert_eq!(nat.engine.occupancy().tunnels, 3);
}

#[test]
fn endpoints_that_do_not_match_fall_through_to_learning() {
    let mut nat = Nat::new(Config {
        spi_match: true,
        ..Config::overload(&[G1])
    });
    assert_eq!(nat.out(A, 0x1000, 1), Fate::To(G1));
    assert_eq!(nat.come(0x2000, 1), Fate::For(A));
    assert_eq!(nat.come(0x2000, 2), Fate::For(A));
    assert_eq!(nat.out(B, 0x1001, 1), Fate::To(G1));
    assert_eq!(nat.come(0x2001, 1), Fate::For(B));
}

#[test]
fn two_that_do_not_match_take_turns() {
    let mut nat = Nat::new(Config {
        spi_match: true,
        ..Config::overload(&[G1])
    });
    nat.out(A, 0x1000, 1);
    nat.out(B, 0x1001, 1);
    assert_eq!(nat.come(0x2000, 1), Fate::Held, "A's or B's");
    assert_eq!(nat.out(A, 0x1000, 2), Fate::To(G1));
    assert_eq!(nat.out(B, 0x1001, 2), Fate::Held);
    assert_eq!(nat.come(0x2000, 2), Fate::For(A));
    assert_eq!(nat.released(), [(Name::In(PEER, 0x2000, 1), Fate::For(A))]);
    assert_eq!(nat.come(0x2000, 3), Fate::For(A));
    assert_eq!(nat.released(), [(Name::Out(B, 0x1001, 2), Fate::To(G1))]);
    assert_eq!(nat.come(0x2001, 1), Fate::For(B));
}

#[test]
fn the_second_client_with_one_spi_is_refused_and_moves() {
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    for seq in 1..200 {
        nat.come(0x2000, seq);
    }
    nat.out(B, 0x1001, 1);
    assert_eq!(nat.come(0x2000, 1), Fate::Lost("esp_spi_collision"));
    assert_eq!(nat.come(0x2000, 200), Fate::For(A), "the first keeps it");
    nat.config.globals.push(G2);
    assert_eq!(nat.out(B, 0x1010, 1), Fate::To(G2));
    assert_eq!(nat.come_to(PEER, G2, 0x2000, 1), Fate::For(B));
}

#[test]
fn an_sa_that_begins_again_with_its_spi_goes_on() {
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    for seq in 1..2_000 {
        nat.come(0x2000, seq);
    }
    assert_eq!(nat.come(0x2000, 1), Fate::For(A));
    assert_eq!(nat.come(0x2000, 2), Fate::For(A));
}

#[test]
fn held_packets_are_bounded_by_client_and_in_all() {
    let limits = Limits {
        client_held_packets: 3,
        client_held_octets: 1_000,
        held_packets: 4,
        ..small()
    };
    let mut nat = Nat::with(Config::overload(&[G1]), limits);
    nat.out(A, 0x1000, 1);
    let full = Fate::Lost(EspDrop::HoldFull.name());
    for seq in 1..=3 {
        assert_eq!(nat.out(B, 0x1001, seq), Fate::Held);
    }
    assert_eq!(nat.out(B, 0x1001, 4), full, "B's share");
    assert_eq!(nat.out(C, 0x1002, 1), Fate::Held);
    assert_eq!(nat.out(C, 0x1002, 2), full, "all places");
    assert_eq!(nat.engine.stats().drops(EspDrop::HoldFull), 2);
    nat.come(0x2000, 1);
    assert_eq!(nat.released().len(), 3);
    assert_eq!(nat.engine.occupancy().held_packets, 1);
}

#[test]
fn held_octets_are_bounded() {
    let limits = Limits {
        client_held_octets: 250,
        ..small()
    };
    let mut nat = Nat::with(Config::overload(&[G1]), limits);
    nat.out(A, 0x1000, 1);
    assert_eq!(nat.out(B, 0x1001, 1), Fate::Held);
    assert_eq!(nat.out(B, 0x1001, 2), Fate::Held);
    assert_eq!(nat.out(B, 0x1001, 3), Fate::Lost("esp_hold_full"));
}

#[test]
fn a_packet_is_not_held_longer_than_the_pending_timeout() {
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    nat.out(B, 0x1001, 1);
    nat.out(C, 0x1002, 1);
    nat.pass(30_500);
    let released = nat.released();
    assert_eq!(released[0], (Name::Out(B, 0x1001, 1), Fate::To(G1)));
    assert_eq!(
        released[1],
        (Name::Out(C, 0x1002, 1), Fate::Lost("esp_pending_expired"))
    );
    assert_eq!(nat.out(C, 0x1002, 2), Fate::Held, "its turn still comes");
}

#[test]
fn clearing_removes_what_was_meant_and_drops_what_was_held() {
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    nat.out(B, 0x1001, 1);
    nat.come(0x2000, 1);
    nat.released();
    nat.come(0x2001, 1);
    nat.out(C, 0x1002, 1);
    nat.out(A, 0x1010, 1);
    let by_spi = EspFilter {
        spi_in: Some(0x2001),
        ..EspFilter::default()
    };
    let mut cursor = 0;
    assert_eq!(nat.engine.clear(&by_spi, &mut cursor, usize::MAX), 2);
    assert_eq!(cursor, nat.engine.relation_places());
    assert_eq!(nat.come(0x2000, 2), Fate::For(A));
    let mut cursor = 0;
    let all = EspFilter::default();
    let mut gone = 0;
    while cursor < nat.engine.relation_places() {
        gone += nat.engine.clear(&all, &mut cursor, 7);
    }
    assert_eq!(gone, 4);
    assert_eq!(nat.engine.occupancy(), Default::default());
    let fates: Vec<_> = nat.released().into_iter().map(|r| r.1).collect();
    assert!(fates.len() <= 2 && !fates.is_empty());
}

#[test]
fn reconciling_removes_what_is_no_longer_allowed() {
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    nat.out(B, 0x1001, 1);
    let mut cursor = 0;
    let gone = nat
        .engine
        .reconcile(|view| view.client != A, &mut cursor, usize::MAX);
    assert_eq!(gone, 1);
    assert_eq!(nat.released(), [(Name::Out(B, 0x1001, 1), Fate::To(G1))]);
    assert_eq!(nat.come(0x2001, 1), Fate::For(B));
}

#[test]
fn explaining_changes_nothing_and_agrees_with_what_happens() {
    use spillway_dataplane::esp::Fate as Would;
    let mut nat = overload();
    nat.exchange(A, 0xA, AUTH, 1, true);
    nat.exchange(B, 0xB, AUTH, 1, true);
    let explain = |nat: &Nat, spi, seq| {
        let at = |place| {
            let now = Millis(nat.now);
            nat.engine
                .explain(now, place, PEER, (spi, seq), &nat.config)
        };
        let places = 0..nat.engine.explain_places();
        places.filter_map(at).collect::<Vec<_>>()
    };
    let before = (nat.engine.occupancy(), *nat.engine.stats());
    let all = explain(&nat, 0x2000, 1);
    assert_eq!((all.len(), all[0].fate), (1, Would::Held));
    assert_eq!(all[0].candidates.named.as_slice(), [A, B]);
    assert_eq!((nat.engine.occupancy(), *nat.engine.stats()), before);
    assert_eq!(nat.come(0x2000, 1), Fate::Held);
    nat.out(A, 0x1000, 1);
    let all = explain(&nat, 0x2000, 2);
    assert_eq!((all[0].client, all[0].fate), (Some(A), Would::Passes));
    assert_eq!(nat.come(0x2000, 2), Fate::For(A));
    let all = explain(&nat, 0x2000, 3);
    assert_eq!(all[0].fate, Would::Established);
    let all = explain(&nat, 0x1000, 3);
    assert_eq!((all[0].client, all[0].fate), (Some(A), Would::Established));
    assert_eq!(
        explain(&nat, 0, 0)[0].fate,
        Would::Dropped(EspDrop::ReservedSpi)
    );
}

#[test]
fn the_trace_names_candidates_and_reasons() {
    struct Lines(std::sync::mpsc::Sender<String>);
    impl Trace for Lines {
        fn event(&mut self, event: &Event) {
            assert_eq!(self.0.send(event.to_string()), Ok(()));
        }
    }
    let (send, lines) = std::sync::mpsc::channel();
    let mut nat = overload();
    nat.out(A, 0x1000, 1);
    nat.engine.set_trace(Some(Box::new(Lines(send))));
    nat.out(B, 0x1001, 1);
    nat.come(0x2000, 1);
    nat.come(0x2000, 2);
    nat.come(0x2000, 3);
    nat.engine.set_trace(None);
    nat.come(0x2001, 1);
    let lines: Vec<String> = lines.iter().collect();
    assert_eq!(
        lines,
        [
            "NAT: i: esp 10.1.0.2 -> 198.51.100.9 spi 1001 seq 1: held (another client waits for \
             its first reply), candidates: 10.1.0.1",
            "NAT: i: esp 10.1.0.2 -> 198.51.100.9 spi 1001 seq 1: sent as 203.0.113.1 (was held)",
            "NAT: o: esp 198.51.100.9 -> 203.0.113.1 spi 2000 seq 1: delivered to 10.1.0.1 (its \
             reply was awaited), candidates: 10.1.0.1",
            "NAT: o: esp 198.51.100.9 -> 203.0.113.1 spi 2000 seq 2: proven for 10.1.0.1 (second \
             packet, higher sequence number)",
        ]
    );
}

#[test]
fn memory_is_what_the_limits_say() {
    let one = Limits::default().memory::<u64>();
    let half = Limits {
        halves: Limits::default().halves / 2,
        ..Limits::default()
    };
    assert!(half.memory::<u64>() < one);
    assert!(one < 48 << 20, "{one} octets");
    println!("default limits: {one} octets");
}
