//! An engine whose clients have an address each is what one is compared with whose clients share
//! addresses in different VRFs.

use crate::common::*;

use proptest::prelude::*;
use spillway_dataplane::esp::ike::exchange::{AUTH, CREATE_CHILD_SA};
use spillway_dataplane::esp::{EspFilter, FlowView, HalfView, IkeIn, IkeOut, IkeView, Limits};
use spillway_dataplane::snapshot::InsideHost;
use spillway_dataplane::time::Millis;

/// What both engines are given.
#[derive(Debug, Clone, Copy)]
enum Act {
    Out(usize, u32, u32),
    In(u32, u32),
    IkeOut(usize, u64, u8, u32, bool),
    IkeIn(u64, u8, u32, bool),
    Pass(u64),
    Clear(usize),
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
        1 => (0..4usize).prop_map(Act::Clear),
    ];
    proptest::collection::vec(act, 1..120)
}

/// Everything that an engine says about one act, with clients by their numbers.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    fate: String,
    released: Vec<String>,
    halves: Vec<(usize, HalfView)>,
    flows: Vec<(usize, FlowView)>,
}

struct Side {
    nat: Nat,
    clients: [InsideHost; 4],
}

impl Side {
    fn number(&self, client: InsideHost) -> usize {
        let at = self.clients.iter().position(|&c| c == client);
        at.expect("a client of the test")
    }

    fn told(&self, fate: Fate) -> String {
        match fate {
            Fate::For(client) => format!("for {}", self.number(client)),
            other => format!("{other:?}"),
        }
    }

    fn act(&mut self, act: Act) -> Said {
        self.nat.now += 1;
        let fate = match act {
            // All clients choose from the same SPIs.
            Act::Out(client, spi, seq) => {
                let fate = self.nat.out(self.clients[client], 0x1000 + spi, seq);
                self.told(fate)
            }
            Act::In(spi, seq) => {
                let fate = self.nat.come(0x2000 + spi, seq);
                self.told(fate)
            }
            Act::IkeOut(client, cookie, kind, message, response) => {
                let header = v2(cookie, kind, message, response);
                match self.nat.ike_out(self.clients[client], 500, header) {
                    // Which low port it is depends on the address.
                    IkeOut::Translate { port, .. } => format!("own port: {}", port == 500),
                    IkeOut::Drop(reason) => reason.name().to_owned(),
                }
            }
            Act::IkeIn(cookie, kind, message, response) => {
                let header = v2(cookie, kind, message, response);
                match self.nat.ike_in(G1, (500, 500), header) {
                    IkeIn::Deliver { client, port } => {
                        format!("for {} port {port}", self.number(client))
                    }
                    other => format!("{other:?}"),
                }
            }
            Act::Pass(ms) => {
                self.nat.pass(ms);
                String::new()
            }
            Act::Clear(client) => {
                let filter = EspFilter {
                    client: Some(self.clients[client].address),
                    vrf: Some(self.clients[client].vrf),
                    ..EspFilter::default()
                };
                let gone = self.nat.engine.clear(&filter, &mut 0, usize::MAX);
                format!("{gone} gone")
            }
        };
        let released = self.nat.released();
        let released = released.into_iter().map(|(name, fate)| match name {
            Name::Out(client, spi, seq) => {
                format!("{} {spi} {seq} {}", self.number(client), self.told(fate))
            }
            name @ Name::In(..) => format!("{name:?} {}", self.told(fate)),
        });
        let released = released.collect();
        let now = Millis(self.nat.now);
        let engine = &self.nat.engine;
        let halves = engine.halves(now).map(|half| {
            let ike = half.ike.map(|ike| {
                let ports = ike
                    .ports
                    .map(|(own, port, to)| (own, u16::from(port == 500), to));
                IkeView { ports, ..ike }
            });
            (
                self.number(half.client),
                HalfView {
                    client: A,
                    ike,
                    ..half
                },
            )
        });
        let flows = (0..engine.flow_places()).filter_map(|at| engine.flow_at(now, at));
        let flows = flows.map(|flow| {
            let global = (flow.global.0, u16::from(flow.global.1 == 500));
            let client = (A, flow.client.1);
            let number = self.number(flow.client.0);
            (
                number,
                FlowView {
                    client,
                    global,
                    ..flow
                },
            )
        });
        Said {
            fate,
            released,
            halves: halves.collect(),
            flows: flows.collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(384)
    })]
    /// At every step the two say the same.
    #[test]
    fn vrfs_tell_clients_apart_as_addresses_do(
        acts in acts(), spi_match: bool, preserve: bool, pool: bool, tight: bool,
    ) {
        let globals: &[_] = if pool { &[G1, G2] } else { &[G1] };
        let config = Config { spi_match, preserve, ..Config::overload(globals) };
        let limits = if tight {
            Limits {
                clients: 3, relations: 3, halves: 7, ike_entries: 2, client_halves: 4,
                held_packets: 3, tentative: 2, relation_cookies: 1, ..small()
            }
        } else {
            Limits { halves: 64, ike_entries: 16, ..small() }
        };
        let side = |clients| Side { nat: Nat::with(config.clone(), limits), clients };
        let mut plain = side([1, 2, 3, 4].map(|n| host(0, [10, 1, 0, n])));
        let mut vrfs = side([A, B, host(1, [10, 1, 0, 1]), host(200, [10, 1, 0, 2])]);
        for act in acts {
            prop_assert_eq!(plain.act(act), vrfs.act(act), "{:?}", act);
        }
        prop_assert_eq!(plain.nat.engine.stats(), vrfs.nat.engine.stats());
    }
}
