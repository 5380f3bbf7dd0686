//! Random sequences of everything: nothing is lost uncounted, nothing stays, no bound is passed.

use crate::common::*;

use std::collections::HashSet;

use proptest::prelude::*;
use spillway_dataplane::esp::ike::exchange::{AUTH, CREATE_CHILD_SA};
use spillway_dataplane::esp::{EspFilter, HalfState, Limits};
use spillway_dataplane::snapshot::InsideHost;
use spillway_dataplane::time::Millis;

#[derive(Debug, Clone, Copy)]
enum Act {
    Out(usize, u32, u32),
    In(u32, u32),
    IkeOut(usize, u64, u8, u32, bool),
    IkeIn(u64, u8, u32, bool),
    Pass(u64),
    Clear(Option<usize>, bool, Option<u32>),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let sequence = prop_oneof![4 => 1..6u32, 1 => 2_000..2_010u32];
    let kind = prop_oneof![Just(AUTH), Just(CREATE_CHILD_SA)];
    let act = prop_oneof![
        8 => (0..4usize, 0..5u32, sequence.clone()).prop_map(|(c, s, n)| Act::Out(c, s, n)),
        8 => (0..12u32, sequence).prop_map(|(s, n)| Act::In(s, n)),
        2 => (0..4usize, 1..6u64, kind.clone(), 0..4u32, any::<bool>())
            .prop_map(|(c, k, e, m, r)| Act::IkeOut(c, k, e, m, r)),
        2 => (1..6u64, kind, 0..4u32, any::<bool>())
            .prop_map(|(k, e, m, r)| Act::IkeIn(k, e, m, r)),
        2 => prop_oneof![Just(1u64), Just(900), Just(4_000), Just(40_000)].prop_map(Act::Pass),
        1 => (proptest::option::of(0..4usize), any::<bool>(), proptest::option::of(0..12u32))
            .prop_map(|(c, v, s)| Act::Clear(c, v, s)),
    ];
    proptest::collection::vec(act, 1..200)
}

/// Two addresses in the global table, and the same two in a VRF.
const CLIENTS: [InsideHost; 4] = [A, B, host(7, [10, 1, 0, 1]), host(7, [10, 1, 0, 2])];

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(512)
    })]
    #[test]
    fn every_packet_ends_once_and_everything_vanishes(
        acts in acts(), spi_match: bool, preserve: bool, pool: bool, tight: bool,
    ) {
        let globals: &[_] = if pool { &[G1, G2] } else { &[G1] };
        let config = Config { spi_match, preserve, ..Config::overload(globals) };
        let mut limits = Limits { held_packets: 20, ..small() };
        if tight {
            limits = Limits {
                clients: 3, relations: 3, halves: 7, ike_entries: 2, client_halves: 4,
                held_packets: 3, tentative: 2, relation_cookies: 1, ..limits
            };
        }
        let mut nat = Nat::with(config, limits);
        let (mut held, mut back) = (0u64, 0u64);
        let mut lost = 0u64;
        for act in acts {
            nat.now += 1;
            match act {
                Act::Out(client, spi, seq) => {
                    let spi = 0x1000 + client as u32 * 16 + spi;
                    match nat.out(CLIENTS[client], spi, seq) {
                        Fate::Held => held += 1,
                        Fate::Lost(_) => lost += 1,
                        _ => {}
                    }
                }
                Act::In(spi, seq) => match nat.come(0x2000 + spi, seq) {
                    Fate::Held => held += 1,
                    Fate::Lost(_) => lost += 1,
                    _ => {}
                },
                Act::IkeOut(client, cookie, kind, message, response) => {
                    let out = nat.ike_out(CLIENTS[client], 500, v2(cookie, kind, message, response));
                    lost += u64::from(matches!(out, spillway_dataplane::esp::IkeOut::Drop(_)));
                }
                Act::IkeIn(cookie, kind, message, response) => {
                    let to = nat.ike_in(G1, (500, 500), v2(cookie, kind, message, response));
                    lost += u64::from(matches!(to, spillway_dataplane::esp::IkeIn::Drop(_)));
                }
                Act::Pass(ms) => nat.pass(ms),
                Act::Clear(client, of_vrf, spi_in) => {
                    let client = client.map(|c| CLIENTS[c]);
                    let filter = EspFilter {
                        client: client.map(|c| c.address),
                        vrf: client.map(|c| c.vrf).filter(|_| of_vrf),
                        spi_in: spi_in.map(|s| 0x2000 + s),
                        ..EspFilter::default()
                    };
                    nat.engine.clear(&filter, &mut 0, usize::MAX);
                }
            }
            for (_, fate) in nat.released() {
                back += 1;
                lost += u64::from(matches!(fate, Fate::Lost(_)));
            }
            let occupancy = nat.engine.occupancy();
            prop_assert_eq!(held, back + occupancy.held_packets as u64);
            prop_assert_eq!(nat.drops(), lost);
            let views: Vec<_> = nat.engine.halves(Millis(nat.now)).collect();
            let outs = views.iter().filter(|v| !v.is_inbound).count();
            prop_assert_eq!(outs, occupancy.tunnels + occupancy.half_open);
            prop_assert_eq!(views.len() - outs, occupancy.inbound);
            // Where packets are held from inside, somebody waits, and is not held itself.
            let queued: HashSet<_> = views.iter()
                .filter(|v| v.state == HalfState::Queued).map(|v| (v.peer, v.global)).collect();
            for (peer, global) in queued {
                let sends = views.iter().any(|v| !v.is_inbound && v.peer == peer
                    && v.global == global && v.state != HalfState::Queued);
                prop_assert!(sends, "all wait for nobody");
            }
        }
        nat.pass(700_000);
        back += nat.released().len() as u64;
        prop_assert_eq!(held, back);
        prop_assert_eq!(nat.engine.occupancy(), Default::default());
    }
}
