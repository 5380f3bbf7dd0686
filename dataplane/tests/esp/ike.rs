//! IKE: reading its header, outside ports, and cookies on a shared port.

#![allow(
    unused_must_use,
    reason = "many messages are sent for what they leave behind"
)]

use crate::common::*;

use proptest::prelude::*;
use spillway_dataplane::esp::ike::exchange::{AUTH, CREATE_CHILD_SA, INFORMATIONAL, MAIN, QUICK};
use spillway_dataplane::esp::ike::{IkeHeader, IkeMalformed, IkePayload, esp_header};
use spillway_dataplane::esp::{EspCounter, EspDrop, IkeIn, IkeOut, IkePacket, Limits};
use spillway_dataplane::time::Millis;

fn bytes(version: u8) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(0x1122_3344_5566_7788u64.to_be_bytes());
    octets.extend(0x99AA_BBCC_DDEE_FF00u64.to_be_bytes());
    octets.extend([33, version << 4, AUTH, 0x20]);
    octets.extend(5u32.to_be_bytes());
    octets.extend(1_400u32.to_be_bytes());
    octets
}

#[test]
fn a_header_is_read_field_by_field() {
    let expected = IkeHeader {
        initiator: 0x1122_3344_5566_7788,
        responder: 0x99AA_BBCC_DDEE_FF00,
        version: 2,
        exchange: AUTH,
        flags: 0x20,
        message: 5,
        length: 1_400,
    };
    assert_eq!(
        IkeHeader::parse(&bytes(2), false),
        Ok(IkePayload::Ike(expected))
    );
    let marked = [&[0; 4], &bytes(2)[..]].concat();
    assert_eq!(
        IkeHeader::parse(&marked, true),
        Ok(IkePayload::Ike(expected))
    );
    let mut esp = marked;
    esp[3] = 1;
    assert_eq!(IkeHeader::parse(&esp, true), Ok(IkePayload::Encapsulated));
    assert_eq!(IkeHeader::parse(&[0xFF], true), Ok(IkePayload::Keepalive));
}

#[test]
fn bad_headers_have_names() {
    let short = &bytes(2)[..27];
    assert_eq!(IkeHeader::parse(short, false), Err(IkeMalformed::Short));
    assert_eq!(IkeHeader::parse(&[], true), Err(IkeMalformed::Short));
    assert_eq!(
        IkeHeader::parse(&bytes(3), false),
        Err(IkeMalformed::Version)
    );
    let mut length = bytes(1);
    length[24..28].fill(0);
    assert_eq!(IkeHeader::parse(&length, false), Err(IkeMalformed::Length));
    let mut nobody = bytes(1);
    nobody[..8].fill(0);
    assert_eq!(
        IkeHeader::parse(&nobody, false),
        Err(IkeMalformed::Initiator)
    );
    assert_eq!(esp_header(&[0, 0, 1, 2, 0, 0, 0]), None);
    assert_eq!(esp_header(&[0, 0, 1, 2, 0, 0, 0, 9]), Some((0x102, 9)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_octets_make_the_parser_panic(octets: Vec<u8>, marked: bool) {
        if let Ok(IkePayload::Ike(header)) = IkeHeader::parse(&octets, marked) {
            prop_assert!(octets.len() >= 28 && header.initiator != 0);
        }
        prop_assert_eq!(esp_header(&octets).is_some(), octets.len() >= 8);
    }
}

fn sent(port: u16) -> IkeOut {
    IkeOut::Translate { global: G1, port }
}

fn to(client: spillway_dataplane::snapshot::InsideHost) -> IkeIn {
    IkeIn::Deliver { client, port: 500 }
}

#[test]
fn the_first_keeps_500_and_the_others_get_low_ports() {
    let mut nat = Nat::new(Config::overload(&[G1]));
    assert_eq!(nat.ike_out(A, 500, opening(0xA)), sent(500));
    let IkeOut::Translate { port, .. } = nat.ike_out(B, 500, opening(0xB)) else {
        panic!("refused");
    };
    assert!((1..=511).contains(&port) && port != 500);
    assert_eq!(nat.ike_out(B, 500, v2(0xB, AUTH, 1, false)), sent(port));
    assert_eq!(nat.ike_in(G1, (500, 500), v2(0xA, AUTH, 1, true)), to(A));
    assert_eq!(nat.ike_in(G1, (500, port), v2(0xB, AUTH, 1, true)), to(B));
    assert_eq!(nat.ike_in(G1, (500, 77), opening(0xC)), IkeIn::NotOurs);
    assert!(nat.engine.holds_port(G1, PEER, 500, port));
    assert!(!nat.engine.holds_port(G1, PEER, 500, 77));
}

#[test]
fn a_port_that_others_use_is_left_alone() {
    let mut nat = Nat::new(Config::overload(&[G1]));
    let packet = IkePacket {
        source_port: 500,
        destination_port: 500,
        header: opening(0xA),
    };
    let free = |_, _, port: u16| port == 123;
    let now = Millis(nat.now);
    let answer = nat
        .engine
        .ike_out(now, A, PEER, &packet, &nat.config, &free);
    assert_eq!(answer, sent(123));
    let answer = nat
        .engine
        .ike_out(now, B, PEER, &packet, &nat.config, &free);
    assert_eq!(answer, IkeOut::Drop(EspDrop::IkePortsExhausted));
    assert_eq!(nat.engine.occupancy().relations, 1);
}

fn preserving() -> Nat {
    Nat::new(Config {
        preserve: true,
        ..Config::overload(&[G1])
    })
}

#[test]
fn clients_that_keep_their_port_are_told_apart_by_cookie() {
    let mut nat = preserving();
    for (client, cookie) in [(A, 0xA), (B, 0xB), (C, 0xC)] {
        assert_eq!(nat.ike_out(client, 500, opening(cookie)), sent(500));
    }
    for (client, cookie) in [(C, 0xC), (A, 0xA), (B, 0xB)] {
        assert_eq!(
            nat.ike_in(G1, (500, 500), v2(cookie, AUTH, 1, true)),
            to(client)
        );
    }
    assert_eq!(nat.engine.stats().counter(EspCounter::IkeByCookie), 3);
    assert_eq!(
        nat.ike_out(B, 500, v2(0xA, INFORMATIONAL, 3, false)),
        IkeOut::Drop(EspDrop::IkeCollision)
    );
}

#[test]
fn the_cookies_follow_a_client_to_port_4500() {
    let mut nat = preserving();
    nat.ike_out(A, 500, opening(0xA));
    nat.ike_out(B, 500, opening(0xB));
    assert_eq!(nat.ike_out(A, 4500, v2(0xA, AUTH, 1, false)), sent(4500));
    assert_eq!(nat.ike_out(B, 4500, v2(0xB, AUTH, 1, false)), sent(4500));
    let back = nat.ike_in(G1, (4500, 4500), v2(0xB, AUTH, 1, true));
    assert_eq!(
        back,
        IkeIn::Deliver {
            client: B,
            port: 4500
        }
    );
}

#[test]
fn an_unknown_cookie_goes_by_evidence_and_else_to_each_in_turn() {
    let mut nat = preserving();
    for (client, cookie) in [(A, 0xA), (B, 0xB)] {
        nat.ike_out(client, 500, opening(cookie));
    }
    // The server opens a new IKE SA and sends again until the right one answers.
    let first = nat.ike_in(G1, (500, 500), opening(0x5));
    let second = nat.ike_in(G1, (500, 500), opening(0x5));
    assert_eq!([first, second], [to(A), to(B)]);
    assert_eq!(nat.ike_out(B, 500, v2(0x5, 34, 0, true)), sent(500));
    assert_eq!(nat.ike_in(G1, (500, 500), v2(0x5, AUTH, 1, false)), to(B));
    // A new pair of cookies after a CREATE_CHILD_SA of A: its IKE SA was rekeyed.
    nat.ike_out(A, 500, v2(0xA, CREATE_CHILD_SA, 2, false));
    nat.ike_in(G1, (500, 500), v2(0xA, CREATE_CHILD_SA, 2, true));
    for _ in 0..3 {
        let rekeyed = v2(0x77, INFORMATIONAL, 0, false);
        assert_eq!(nat.ike_in(G1, (500, 500), rekeyed), to(A));
    }
}

#[test]
fn ikev1_quick_mode_is_evidence_and_main_mode_is_not() {
    let v1 = |cookie: u64, kind, message| IkeHeader {
        version: 1,
        flags: 0,
        ..v2(cookie, kind, message, false)
    };
    let mut nat = preserving();
    for (client, cookie) in [(A, 0xA), (B, 0xB)] {
        nat.ike_out(client, 500, v1(cookie, MAIN, 0));
        nat.ike_in(G1, (500, 500), v1(cookie, MAIN, 0));
    }
    assert_eq!(nat.come(0x2000, 1), Fate::Lost("esp_unknown_spi"));
    nat.ike_out(B, 500, v1(0xB, QUICK, 0x1234));
    nat.ike_in(G1, (500, 500), v1(0xB, QUICK, 0x1234));
    nat.ike_in(G1, (500, 500), v1(0xB, QUICK, 0x1234));
    nat.ike_out(B, 500, v1(0xB, QUICK, 0x1234));
    assert_eq!(nat.engine.stats().counter(EspCounter::IkeExchanges), 1);
    assert_eq!(nat.come(0x2001, 1), Fate::For(B));
    assert_eq!(nat.come(0x2001, 2), Fate::For(B));
    assert_eq!(
        nat.come(0x2002, 1),
        Fate::Lost("esp_unknown_spi"),
        "one exchange, one SA"
    );
}

#[test]
fn messages_that_are_sent_again_count_once() {
    let mut nat = preserving();
    nat.ike_out(B, 500, opening(0xB));
    for _ in 0..3 {
        nat.exchange(A, 0xA, CREATE_CHILD_SA, 5, true);
        nat.exchange(A, 0xA, CREATE_CHILD_SA, 0, false);
    }
    assert_eq!(nat.engine.stats().counter(EspCounter::IkeExchanges), 2);
}

#[test]
fn rounds_of_one_authentication_count_once() {
    let mut nat = preserving();
    nat.ike_out(B, 500, opening(0xB));
    for message in 1..=4 {
        nat.exchange(A, 0xA, AUTH, message, true);
    }
    assert_eq!(nat.engine.stats().counter(EspCounter::IkeExchanges), 1);
}

#[test]
fn ike_entries_end_five_minutes_after_their_last_message_unless_esp_flows() {
    let mut nat = Nat::new(Config::overload(&[G1]));
    nat.ike_out(A, 500, opening(0xA));
    nat.ike_out(B, 500, opening(0xB));
    for seq in 1..310 {
        nat.out(A, 0x1000, seq);
        nat.pass(1_000);
    }
    assert_eq!(nat.engine.occupancy().ike_entries, 1);
    assert_eq!(nat.engine.occupancy().relations, 1);
    assert_eq!(
        nat.ike_in(G1, (500, 500), v2(0xA, CREATE_CHILD_SA, 0, false)),
        to(A)
    );
    nat.pass(601_000);
    assert_eq!(nat.engine.occupancy(), Default::default());
}

#[test]
fn cookies_of_a_client_are_bounded_and_the_oldest_goes() {
    let mut nat = Nat::with(
        Config {
            preserve: true,
            ..Config::overload(&[G1])
        },
        Limits {
            relation_cookies: 3,
            ..small()
        },
    );
    nat.ike_out(B, 500, opening(0xB));
    for cookie in 1..=100 {
        nat.now += 1;
        nat.ike_out(A, 500, opening(cookie));
    }
    assert_eq!(nat.engine.occupancy().ike_sas, 4);
    assert_eq!(nat.ike_in(G1, (500, 500), v2(100, AUTH, 1, true)), to(A));
    assert_eq!(nat.ike_in(G1, (500, 500), v2(0xB, AUTH, 1, true)), to(B));
}

#[test]
fn esp_in_udp_shares_the_ike_entry_of_its_sockets() {
    let mut nat = Nat::new(Config::overload(&[G1]));
    nat.ike_out(A, 4500, v2(0xA, AUTH, 1, false));
    let IkeOut::Translate { port, .. } = nat.ike_out(B, 4500, v2(0xB, AUTH, 1, false)) else {
        panic!("refused");
    };
    let now = Millis(nat.now);
    let engine = &mut nat.engine;
    let out = engine.encapsulated_out(now, B, PEER, (4500, 4500));
    assert_eq!(out, Some((G1, port)));
    let back = engine.encapsulated_in(now, PEER, G1, (4500, port));
    assert_eq!(back, Some((B, 4500)));
    assert_eq!(engine.encapsulated_out(now, C, PEER, (4500, 4500)), None);
    let mut nat = preserving();
    nat.ike_out(A, 4500, v2(0xA, AUTH, 1, false));
    nat.ike_out(B, 4500, v2(0xB, AUTH, 1, false));
    let now = Millis(nat.now);
    assert_eq!(
        nat.engine.encapsulated_out(now, A, PEER, (4500, 4500)),
        None
    );
    assert_eq!(
        nat.engine.encapsulated_in(now, PEER, G1, (4500, 4500)),
        None
    );
}
