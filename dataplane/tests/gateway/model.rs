//! A translator that is slow and obviously right, beside the real one, over random packets.
//!
//! The model is told which port the real one chose, and checks that it was allowed to.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;
use spillway_dataplane::nat::Filtering;

use crate::support::{INSIDE, Lab, OUTSIDE, Packet4, Policy, error, ping, pong, tcp, udp};

const OURS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const STATIC: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 1, 0, 10), Ipv4Addr::new(203, 0, 113, 10));
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 9), 5000);
const SERVER_PORT: u16 = 80;
/// A timer may be so late.
const LATE_MS: u64 = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proto {
    Tcp,
    Udp,
    Icmp,
}

#[derive(Debug, Clone)]
enum Step {
    Out {
        proto: Proto,
        from: SocketAddrV4,
        to: SocketAddrV4,
        flags: String,
    },
    /// To a port that some entry has, if there is one, else to `to`.
    In {
        proto: Proto,
        from: SocketAddrV4,
        to: SocketAddrV4,
        entry: Option<usize>,
        /// From `from`, whoever the entry is with.
        stranger: bool,
        flags: String,
    },
    /// About a packet of an entry, or of none.
    Error {
        entry: usize,
        alien: bool,
    },
    Wait(u64),
}

#[derive(Debug, Clone)]
struct Entry {
    proto: Proto,
    inside: SocketAddrV4,
    port: u16,
    peer: SocketAddrV4,
    used_ms: u64,
    syn: [bool; 2],
    fin: [bool; 2],
    reset: bool,
    picked_up: bool,
}

impl Entry {
    fn is_over(&self) -> bool {
        self.reset || self.fin == [true; 2]
    }

    fn timeout_ms(&self) -> u64 {
        1000 * match self.proto {
            Proto::Udp if self.peer.port() == 53 => 60,
            Proto::Udp => 300,
            Proto::Icmp => 60,
            Proto::Tcp if self.is_over() || self.syn != [true; 2] => 60,
            Proto::Tcp => 86_400,
        }
    }

    fn see(&mut self, now_ms: u64, way: usize, flags: &str) {
        let was_over = self.is_over();
        let has = |flag: char| flags.contains(flag);
        if self.proto == Proto::Tcp {
            if has('R') {
                self.reset = true;
            } else if has('S') {
                if was_over && way == 0 {
                    (self.syn, self.fin) = ([false; 2], [false; 2]);
                    (self.reset, self.picked_up) = (false, false);
                }
                self.syn[way] = true;
            } else {
                self.syn[way] |= self.picked_up;
                self.reset &= way == 1;
            }
            self.fin[way] |= has('F');
        }
        if !(was_over && self.is_over()) {
            self.used_ms = now_ms;
        }
    }
}

#[derive(Default)]
struct Model {
    now_ms: u64,
    entries: Vec<Entry>,
    /// Of an endpoint-independent rule.
    mapping: Option<Filtering>,
}

impl Model {
    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        let now = self.now_ms;
        self.entries
            .retain(|e| now - e.used_ms < e.timeout_ms() + LATE_MS);
    }

    /// Entries, and the mappings above them.
    fn count(&self) -> usize {
        let endpoints = self.entries.iter().map(|e| (e.proto as u8, e.inside));
        let mappings = endpoints.collect::<std::collections::HashSet<_>>().len();
        self.entries.len() + self.mapping.map_or(0, |_| mappings)
    }

    /// Some entry may or may not be gone already.
    fn is_unsure(&self) -> bool {
        self.entries
            .iter()
            .any(|e| self.now_ms - e.used_ms + 1 >= e.timeout_ms())
    }

    /// What leaves for a packet from inside; `chosen` is asked for the port of a new entry.
    fn out(
        &mut self,
        proto: Proto,
        (from, to): (SocketAddrV4, SocketAddrV4),
        flags: &str,
        mut chosen: impl FnMut() -> u16,
        preserves: bool,
    ) -> Result<String, &'static str> {
        let now = self.now_ms;
        let found = |e: &&mut Entry| e.proto == proto && e.inside == from && e.peer == to;
        if let Some(entry) = self.entries.iter_mut().find(found) {
            entry.see(now, 0, flags);
            return Ok(line(
                proto,
                SocketAddrV4::new(OURS, entry.port),
                to,
                flags,
                "ping",
            ));
        }
        if proto == Proto::Tcp && from == SERVER {
            return Ok(line(
                proto,
                SocketAddrV4::new(OURS, SERVER_PORT),
                to,
                flags,
                "ping",
            ));
        }
        if *from.ip() == STATIC.0 {
            return Ok(line(
                proto,
                SocketAddrV4::new(STATIC.1, from.port()),
                to,
                flags,
                "ping",
            ));
        }
        if flags.contains('R') {
            return Err("drop no_translation");
        }
        let port = chosen();
        let mine = |e: &&Entry| e.proto == proto && e.inside == from;
        let mapped = self
            .entries
            .iter()
            .find(mine)
            .filter(|_| self.mapping.is_some());
        if let Some(mapped) = mapped {
            assert_eq!(port, mapped.port, "the port of the mapping of {from}");
        }
        let is_free = |port: u16| {
            let shares = |e: &Entry| match self.mapping {
                Some(_) => e.inside == from,
                None => e.peer != to,
            };
            let taken = |e: &Entry| e.proto == proto && e.port == port && !shares(e);
            !(self.entries.iter().any(taken) || proto == Proto::Tcp && port == SERVER_PORT)
        };
        assert!(is_free(port), "port {port} is taken");
        let range = |port: u16| [512, 1024].partition_point_of(port);
        assert!(
            proto == Proto::Icmp || range(port) == range(from.port()),
            "{port} for {from}"
        );
        assert!(
            !preserves || port == from.port() || mapped.is_some() || !is_free(from.port()),
            "{port} though {from} was free"
        );
        let mut entry = Entry {
            proto,
            inside: from,
            port,
            peer: to,
            used_ms: now,
            syn: [false; 2],
            fin: [false; 2],
            reset: false,
            picked_up: !flags.contains('S'),
        };
        entry.see(now, 0, flags);
        self.entries.push(entry);
        Ok(line(
            proto,
            SocketAddrV4::new(OURS, port),
            to,
            flags,
            "ping",
        ))
    }

    /// Where a packet from outside goes; `None` to the kernel.
    fn inward(
        &mut self,
        proto: Proto,
        from: SocketAddrV4,
        to: SocketAddrV4,
        flags: &str,
    ) -> Result<Option<SocketAddrV4>, &'static str> {
        let known = self.known(proto, from, to, flags);
        let mine = |e: &&Entry| e.proto == proto && e.port == to.port();
        let mapped = self.entries.iter().find(mine).map(|e| e.inside);
        let (None, Some(filtering), OURS) = (known, self.mapping, *to.ip()) else {
            return Ok(known);
        };
        let Some(inside) = mapped.filter(|_| proto != Proto::Icmp) else {
            return Ok(None);
        };
        if proto == Proto::Tcp && flags != "S" {
            return Err("drop no_translation");
        }
        let spoken = |e: &Entry| mine(&e) && e.peer.ip() == from.ip();
        let lets_in = match filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => self.entries.iter().any(spoken),
            Filtering::AddressAndPortDependent => false,
        };
        if !lets_in {
            return Err("drop filtered");
        }
        self.entries.push(Entry {
            proto,
            inside,
            port: to.port(),
            peer: from,
            used_ms: self.now_ms,
            syn: [false, true],
            fin: [false; 2],
            reset: false,
            picked_up: false,
        });
        Ok(Some(inside))
    }

    /// Where a packet from outside goes that an entry or a static fits.
    fn known(
        &mut self,
        proto: Proto,
        from: SocketAddrV4,
        to: SocketAddrV4,
        flags: &str,
    ) -> Option<SocketAddrV4> {
        let now = self.now_ms;
        let found = |e: &&mut Entry| e.proto == proto && e.port == to.port() && e.peer == from;
        if *to.ip() == OURS
            && let Some(entry) = self.entries.iter_mut().find(found)
        {
            entry.see(now, 1, flags);
            return Some(entry.inside);
        }
        match (proto, *to.ip(), to.port()) {
            (Proto::Tcp, OURS, SERVER_PORT) => Some(SERVER),
            (_, address, port) if address == STATIC.1 => Some(SocketAddrV4::new(STATIC.0, port)),
            _ => None,
        }
    }
}

trait Ranges {
    fn partition_point_of(&self, port: u16) -> usize;
}

impl Ranges for [u16; 2] {
    fn partition_point_of(&self, port: u16) -> usize {
        self.partition_point(|first| *first <= port)
    }
}

fn line(proto: Proto, from: SocketAddrV4, to: SocketAddrV4, flags: &str, echo: &str) -> String {
    match proto {
        Proto::Tcp => {
            let shown: String = "FSRPA".chars().filter(|c| flags.contains(*c)).collect();
            format!("tcp {from} > {to} {shown}")
        }
        Proto::Udp => format!("udp {from} > {to}"),
        Proto::Icmp => {
            let id = if echo == "ping" {
                from.port()
            } else {
                to.port()
            };
            format!("{echo} {} > {} {id}", from.ip(), to.ip())
        }
    }
}

fn packet(
    proto: Proto,
    from: SocketAddrV4,
    to: SocketAddrV4,
    flags: &str,
    id: Option<u16>,
) -> Packet4 {
    let ip = |e: SocketAddrV4| e.ip().to_string();
    match (proto, id) {
        (Proto::Tcp, _) => tcp(&from.to_string(), &to.to_string(), flags),
        (Proto::Udp, _) => udp(&from.to_string(), &to.to_string()),
        (Proto::Icmp, Some(id)) => pong(&ip(from), &ip(to), id),
        (Proto::Icmp, None) => ping(&ip(from), &ip(to), from.port()),
    }
}

/// An outside host that inside hosts may know by another address.
const PEER: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(203, 0, 113, 5), Ipv4Addr::new(172, 16, 0, 5));

fn check(lab: &mut Lab, mapping: Option<Filtering>, steps: Vec<Step>, twice: bool) {
    // A peer as the inside knows it.
    let known_as = |peer: SocketAddrV4| match (twice, *peer.ip() == PEER.0) {
        (true, true) => SocketAddrV4::new(PEER.1, peer.port()),
        _ => peer,
    };
    let mut model = Model {
        mapping,
        ..Model::default()
    };
    let preserves = lab.workers.len() == 1;
    for step in steps {
        match step {
            Step::Out {
                proto,
                from,
                mut to,
                flags,
            } => {
                if proto == Proto::Icmp {
                    to.set_port(0); // one entry for each identifier and destination
                }
                let flags = if proto == Proto::Tcp {
                    flags
                } else {
                    String::new()
                };
                let got = lab.run(INSIDE, packet(proto, from, known_as(to), &flags, None));
                let sent = lab.last.first().map(|(_, frame)| frame.clone());
                let at = if proto == Proto::Icmp { 38 } else { 34 };
                let chosen = || {
                    let frame = sent.as_deref().expect("a new entry sends its packet");
                    u16::from_be_bytes([frame[at], frame[at + 1]])
                };
                let wanted = match model.out(proto, (from, to), &flags, chosen, preserves) {
                    Ok(line) => format!("1 {line}"),
                    Err(reason) => reason.to_owned(),
                };
                assert_eq!(got, [wanted]);
            }
            Step::In {
                proto,
                mut from,
                mut to,
                entry,
                stranger,
                flags,
            } => {
                let proto =
                    match entry.and_then(|at| model.entries.get(at % model.entries.len().max(1))) {
                        Some(entry) => {
                            to = SocketAddrV4::new(OURS, entry.port);
                            if !stranger {
                                from = entry.peer;
                            }
                            entry.proto
                        }
                        None => proto,
                    };
                if proto == Proto::Icmp {
                    from.set_port(0);
                }
                let flags = if proto == Proto::Tcp {
                    flags
                } else {
                    String::new()
                };
                let got = lab.run(OUTSIDE, packet(proto, from, to, &flags, Some(to.port())));
                let wanted = match model.inward(proto, from, to, &flags) {
                    Ok(Some(inside)) => {
                        let line = line(proto, known_as(from), inside, &flags, "pong");
                        format!("0 {line}")
                    }
                    Ok(None) => format!("punt 1 {}", line(proto, from, to, &flags, "pong")),
                    Err(reason) => reason.to_owned(),
                };
                assert_eq!(got, [wanted]);
            }
            Step::Error { entry, alien } => {
                let Some(entry) = model
                    .entries
                    .get(entry % model.entries.len().max(1))
                    .cloned()
                else {
                    continue;
                };
                let port = if alien { 777 } else { entry.port };
                let quoted =
                    |source: SocketAddrV4| packet(entry.proto, source, entry.peer, "A", None);
                let about = quoted(SocketAddrV4::new(OURS, port));
                let known = model
                    .entries
                    .iter()
                    .find(|e| (e.proto, e.port, e.peer) == (entry.proto, port, entry.peer));
                let got = lab.run(
                    OUTSIDE,
                    error("192.0.2.50", "198.51.100.1", (3, 1), 0, &about.ip()),
                );
                let (to, source, peer) = match known {
                    Some(known) => (
                        format!("0 icmp 3/1 192.0.2.50 > {}", known.inside.ip()),
                        known.inside,
                        known_as(entry.peer),
                    ),
                    None => (
                        "punt 1 icmp 3/1 192.0.2.50 > 198.51.100.1".to_owned(),
                        SocketAddrV4::new(OURS, port),
                        entry.peer,
                    ),
                };
                let wanted = format!("{to} [{}]", line(entry.proto, source, peer, "A", "ping"));
                assert_eq!(got, [wanted]);
            }
            Step::Wait(ms) => {
                lab.advance(ms);
                model.wait(ms);
                while model.is_unsure() {
                    lab.advance(LATE_MS);
                    model.wait(LATE_MS);
                }
            }
        }
        assert_eq!(lab.entries(), model.count());
    }
    lab.assert_nothing_leaks();
}

fn steps() -> impl Strategy<Value = Step> {
    let proto = || prop_oneof![Just(Proto::Tcp), Just(Proto::Udp), Just(Proto::Icmp)];
    let inside = (
        prop::sample::select(vec![2, 3, 9, 10]),
        prop::sample::select(vec![5000, 5001, 80, 600]),
    )
        .prop_map(|(host, port)| SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, host), port));
    let peer = || {
        (5u8..7, prop::sample::select(vec![9, 53]))
            .prop_map(|(host, port)| SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, host), port))
    };
    let global = (
        prop::sample::select(vec![OURS, STATIC.1]),
        prop::sample::select(vec![5000, 80, 600]),
    )
        .prop_map(|(address, port)| SocketAddrV4::new(address, port));
    let flags = || {
        prop::sample::select(vec!["S", "A", "A", "SA", "FA", "R", "RA", "PA"])
            .prop_map(str::to_owned)
    };
    let wait = prop::sample::select(vec![
        40u64, 7_000, 23_000, 59_000, 61_000, 290_000, 310_000, 86_500_000,
    ]);
    prop_oneof![
        8 => (proto(), inside, peer(), flags()).prop_map(|(proto, from, to, flags)| Step::Out { proto, from, to, flags }),
        8 => (proto(), peer(), global, prop::option::weighted(0.8, any::<usize>()), (prop::bool::weighted(0.3), flags()))
            .prop_map(|(proto, from, to, entry, (stranger, flags))| Step::In { proto, from, to, entry, stranger, flags }),
        2 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(entry, alien)| Step::Error { entry, alien }),
        2 => wait.prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_gateway(workers in 1u8..=3, twice: bool, steps in prop::collection::vec(steps(), 1..80)) {
        let policy = Policy::overload()
            .forward(6, ("10.1.0.9", SERVER.port()), ("198.51.100.1", SERVER_PORT))
            .fixed("10.1.0.10", "203.0.113.10");
        let policy = if twice {
            policy.outside_fixed("203.0.113.5", "172.16.0.5", false)
        } else {
            policy
        };
        check(&mut Lab::new(policy, workers, 1 << 10), None, steps, twice);
    }

    #[test]
    fn agrees_with_endpoint_independent_mappings(
        workers in 1u8..=3,
        filtering in prop::sample::select(&Filtering::ALL),
        twice: bool,
        steps in prop::collection::vec(steps(), 1..80),
    ) {
        let policy = Policy::overload()
            .mapping(filtering)
            .forward(6, ("10.1.0.9", SERVER.port()), ("198.51.100.1", SERVER_PORT))
            .fixed("10.1.0.10", "203.0.113.10");
        let policy = if twice {
            policy.outside_fixed("203.0.113.5", "172.16.0.5", false)
        } else {
            policy
        };
        check(&mut Lab::new(policy, workers, 1 << 10), Some(filtering), steps, twice);
    }
}
