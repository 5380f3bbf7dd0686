//! The path of an ordinary packet whose entry is there, with nothing on it but that.
//!
//! A burst is looked at in place and leaves as a whole, where it can. Whatever is not ordinary goes
//! the full way ([`Gateway::process_one`]), which judges alone what becomes of it: here nothing is
//! refused, and nothing changes before it is sure that the packet can leave.

use super::ipsec::is_ipsec_port;
use super::{Gateway, Item, Lookup, MULTICAST, Meta, Output, Pass, inside};
use crate::journal::Topic;
use crate::packet::{BURST, Burst, Packet, octets_of};
use crate::session::{Direction, HOP_UNKNOWN, Kind, NIL, flag};
use crate::snapshot::{Interface, PortId, Side, Snapshot, VrfId};
use crate::stats::Counter;
use crate::time::Tick;
use crate::wire::head::{Head, mac_word};
use crate::wire::ipv4::{is_martian_destination, is_martian_source};
use crate::wire::{Ipv4, PROTO_ESP, PROTO_ICMP, PROTO_TCP, PROTO_UDP};

/// [`Head::protocol`] of a packet that is not ordinary: that of no ordinary one.
pub(super) const NOT_ORDINARY: u8 = Head::NONE.protocol;

/// What is to be known of an ordinary packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glance {
    pub(super) head: Head,
    pub(super) hash: u64,
    /// The index's first guess at its entry.
    pub(super) guess: u32,
}

impl Glance {
    const NONE: Glance = Glance {
        head: Head::NONE,
        hash: 0,
        guess: NIL,
    };

    /// Whether it is of a flow that most likely had no entry when the burst came.
    #[inline(always)]
    fn is_of_new_flow(&self) -> bool {
        self.guess == NIL && !matches!(self.head.protocol, NOT_ORDINARY | PROTO_ESP)
    }
}

/// Room for what is known of a burst. A worker keeps it from burst to burst: to clear it would cost
/// more than what it is for.
#[derive(Debug)]
pub(super) struct Glances([Glance; BURST]);

impl Glances {
    pub(super) fn new() -> Box<Glances> {
        Box::new(Glances([Glance::NONE; BURST]))
    }
}

/// What is to be known of a burst.
struct Seen {
    octets: u64,
    /// Whether one of its ordinary packets may be another worker's: it seems to have no entry here.
    has_strangers: bool,
}

/// Why a packet can't be sent on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It is not ordinary.
    NotOrdinary,
    /// It has no entry.
    NoEntry,
    /// It has one, but its way is not known, or not so simple.
    NoWay,
}

/// The first packets of a burst, which are translated, and what the next one met.
struct Run {
    /// The ports that they leave by.
    ports: [PortId; BURST],
    count: usize,
    /// Their octets.
    octets: u64,
    obstacle: Obstacle,
}

impl Run {
    #[inline(always)]
    fn is_to_one_port(&self) -> bool {
        let ports = &self.ports[..self.count];
        ports.iter().all(|port| *port == ports[0])
    }
}

/// Where a burst comes from, as a constant parameter: inside, outside in the global table, outside in
/// a VRF.
const OUT: u8 = 0;
const IN: u8 = 1;
const IN_VRF: u8 = 2;

/// The kind of packets that come from there, with what the compiler then knows of it.
#[inline(always)]
fn known<const WAY: u8>(kind: Kind) -> Kind {
    let of_one = Some(kind.arrived_in());
    let (direction, vrf) = match WAY {
        OUT => (Direction::Out, of_one),
        IN => (Direction::In, None),
        _ => (Direction::In, of_one),
    };
    debug_assert_eq!((kind.direction, kind.vrf), (direction, vrf));
    Kind {
        direction,
        vrf,
        ..kind
    }
}

/// What is to be known of the port that packets came from.
#[derive(Clone, Copy)]
struct Entrance {
    mac: u64,
    direction: Direction,
    vrf: VrfId,
    /// Of its packets, but for their protocol.
    kind: Kind,
}

impl Entrance {
    /// `None` where no packet is ordinary.
    fn new(interface: &Interface) -> Option<Entrance> {
        let direction = match interface.side {
            Side::Inside => Direction::Out,
            Side::Outside => Direction::In,
            Side::None => return None,
        };
        interface.up.then_some(Entrance {
            mac: mac_word(interface.mac),
            direction,
            vrf: interface.vrf,
            kind: Kind::new(direction, interface.vrf, 0),
        })
    }
}

impl<P: Packet> Gateway<P> {
    /// Decides about packets that have just arrived on `port`, and tells how many octets they had.
    pub fn process_arrived(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        port: PortId,
        burst: &mut Burst<P>,
    ) -> u64 {
        self.process_alike(pass, Meta::arrived(port), burst)
    }

    /// Decides about packets of which the same is known, and tells how many octets they had.
    pub fn process_alike(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        meta: Meta,
        burst: &mut Burst<P>,
    ) -> u64 {
        self.follow(pass.snapshot);
        // Before this burst's packets, so that none of them overtakes one that waited.
        self.release_waiting(pass);
        // Who debugs sees every packet: then all of them go the full way.
        let is_quiet = !self.stats.journal.wants(Topic::Packets);
        let entrance = pass
            .snapshot
            .interface(meta.port)
            .and_then(Entrance::new)
            .filter(|_| is_quiet && !meta.is_followed());
        let Some(entrance) = entrance else {
            let octets = octets_of(burst);
            burst
                .drain(..)
                .for_each(|packet| self.process_one(pass, Item { packet, meta }));
            self.release_fragments(pass);
            self.census.tell(pass.now);
            return octets;
        };
        let mut glances = self.glances.take().unwrap_or_else(Glances::new);
        let (snapshot, tick) = (pass.snapshot, pass.now.tick());
        // The direction known to the compiler, and loops in functions of their own: so both loops
        // keep what they need in registers.
        let seen = match (entrance.direction, self.options.workers) {
            (Direction::Out, 1) => self.survey_burst::<OUT, false>(entrance, burst, &mut glances),
            (Direction::In, 1) => self.survey_burst::<IN, false>(entrance, burst, &mut glances),
            (Direction::Out, _) => self.survey_burst::<OUT, true>(entrance, burst, &mut glances),
            (Direction::In, _) => self.survey_burst::<IN, true>(entrance, burst, &mut glances),
        };
        let mut kept = Burst::new();
        let burst = if seen.has_strangers {
            self.give_away(
                pass,
                entrance.direction,
                meta,
                burst,
                &mut glances.0,
                &mut kept,
            );
            &mut kept
        } else {
            burst
        };
        let kind = entrance.kind;
        let run = match (entrance.direction, entrance.vrf) {
            (Direction::Out, _) => {
                self.translate_burst::<OUT>(snapshot, tick, kind, burst, &glances)
            }
            (Direction::In, VrfId::GLOBAL) => {
                self.translate_burst::<IN>(snapshot, tick, kind, burst, &glances)
            }
            (Direction::In, _) => {
                self.translate_burst::<IN_VRF>(snapshot, tick, kind, burst, &glances)
            }
        };
        self.stats.add(Counter::Hits, run.count as u64);
        if run.count == burst.len() && run.is_to_one_port() {
            pass.out.transmit_burst(run.ports[0], burst, run.octets);
        } else {
            self.one_by_one(pass, entrance, meta, burst, &glances, &run);
        }
        self.glances = Some(glances);
        self.release_fragments(pass);
        self.census.tell(pass.now);
        seen.octets
    }

    #[inline(never)]
    fn survey_burst<const WAY: u8, const IN_TEAM: bool>(
        &self,
        entrance: Entrance,
        burst: &Burst<P>,
        glances: &mut Glances,
    ) -> Seen {
        let direction = match WAY {
            OUT => Direction::Out,
            _ => Direction::In,
        };
        let kind = Kind {
            direction,
            ..entrance.kind
        };
        self.survey::<IN_TEAM>(
            Entrance {
                direction,
                kind,
                ..entrance
            },
            burst.iter(),
            &mut glances.0[..burst.len()],
        )
    }

    /// Translates packets in place up to the first one that can't be sent on at once.
    #[inline(never)]
    fn translate_burst<const WAY: u8>(
        &mut self,
        snapshot: &Snapshot,
        tick: Tick,
        kind: Kind,
        burst: &mut Burst<P>,
        glances: &Glances,
    ) -> Run {
        let kind = known::<WAY>(kind);
        let mut run = Run {
            ports: [PortId(0); BURST],
            count: burst.len(),
            octets: 0,
            obstacle: Obstacle::NotOrdinary,
        };
        let places = burst.iter_mut().zip(&glances.0).zip(&mut run.ports);
        for (at, ((packet, glance), port)) in places.enumerate() {
            match self.translate(snapshot, tick, kind, packet, glance) {
                Ok(out) => {
                    *port = out;
                    run.octets += glance.head.end() as u64;
                }
                Err(obstacle) => {
                    (run.count, run.obstacle) = (at, obstacle);
                    break;
                }
            }
        }
        run
    }

    /// Sends the packets of a burst that were translated and decides about the others in their turn.
    #[inline(never)]
    fn one_by_one(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        entrance: Entrance,
        meta: Meta,
        burst: &mut Burst<P>,
        glances: &Glances,
        run: &Run,
    ) {
        let ports = &run.ports[..run.count];
        let nat = &pass.snapshot.nat;
        if entrance.direction == Direction::Out {
            let later = glances.0[..burst.len()].iter().skip(ports.len());
            for glance in later.filter(|glance| glance.is_of_new_flow()) {
                let head = &glance.head;
                self.expect(nat, entrance.vrf, head.protocol, head.key());
            }
        }
        let (snapshot, tick) = (pass.snapshot, pass.now.tick());
        for (at, (mut packet, glance)) in burst.drain(..).zip(&glances.0).enumerate() {
            if let Some(port) = ports.get(at) {
                pass.out.transmit(*port, packet);
                continue;
            }
            let outcome = if at == ports.len() {
                Err(run.obstacle)
            } else if glance.is_of_new_flow() && !self.table.may_have(glance.hash) {
                Err(Obstacle::NoEntry)
            } else {
                self.translate_later(snapshot, tick, entrance.kind, &mut packet, glance)
            };
            match outcome {
                Ok(port) => {
                    self.stats.count(Counter::Hits);
                    pass.out.transmit(port, packet);
                }
                Err(obstacle) => {
                    let item = Item { packet, meta };
                    self.surmount(pass, entrance, item, glance, obstacle);
                }
            }
        }
    }

    /// Decides about a packet that [`Gateway::translate`] could not send on.
    fn surmount(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        entrance: Entrance,
        item: Item<P>,
        glance: &Glance,
        obstacle: Obstacle,
    ) {
        let Glance { head, hash, .. } = *glance;
        if obstacle == Obstacle::NoEntry
            && let Some(ip) = head.ipv4(item.packet.data())
            && is_host(ip.src)
            && is_host(ip.dst)
        {
            let key = head.key();
            let ip = Ipv4 {
                vrf: entrance.vrf,
                ..ip
            };
            let lookup = Lookup::Flow {
                direction: entrance.direction,
                key,
                hash,
            };
            match self.other_worker(pass.snapshot, &item, &ip, lookup) {
                Some(owner) => self.hand_off(pass, owner, item),
                None => self.decide_anew(pass, item, &ip, lookup),
            }
        } else {
            self.process_one(pass, item);
        }
    }

    /// Reads packets without touching them, and asks the memory for their entries.
    #[inline(always)]
    fn survey<'a, const IN_TEAM: bool>(
        &self,
        entrance: Entrance,
        packets: impl Iterator<Item = &'a P>,
        glances: &mut [Glance],
    ) -> Seen
    where
        P: 'a,
    {
        let hasher = self.table.hasher(entrance.kind);
        let mut octets = 0;
        let mut last = (0, 0, NOT_ORDINARY, 0);
        for (packet, glance) in packets.zip(glances.iter_mut()) {
            let verify = !packet.ip_checksum_verified();
            let frame = packet.data();
            octets += frame.len() as u64;
            let head = &mut glance.head;
            let is_known = head.read_again(frame, entrance.mac, verify);
            if !is_known || !is_ordinary(entrance.direction, head) {
                head.protocol = NOT_ORDINARY;
                continue;
            }
            let (addresses, ports, protocol, _) = last;
            if (head.addresses, head.ports, head.protocol) != (addresses, ports, protocol) {
                let hash = if head.protocol == PROTO_ESP {
                    self.esp
                        .prefetch(entrance.direction, entrance.vrf, head.addresses, head.spi())
                } else {
                    let hash = hasher.hash(head.protocol, head.addresses, head.ports);
                    self.table.prefetch_index(hash);
                    hash
                };
                last = (head.addresses, head.ports, head.protocol, hash);
            }
            glance.hash = last.3;
        }
        let mut last = (0, NIL);
        let mut largest = 0;
        for glance in glances {
            if glance.head.protocol == NOT_ORDINARY {
                continue;
            }
            // Packets of one flow in a row are looked up once.
            if glance.hash != last.0 {
                let guess = if glance.head.protocol == PROTO_ESP {
                    self.esp.guess(entrance.direction, glance.hash)
                } else {
                    self.table.prefetch_entry(glance.hash)
                };
                if IN_TEAM {
                    largest = largest.max(guess);
                }
                last = (glance.hash, guess);
            }
            glance.guess = last.1;
        }
        const { assert!(NIL == u32::MAX) };
        Seen {
            octets,
            has_strangers: largest == NIL,
        }
    }

    /// Translates a packet whose entry is there and whose way is known, and tells the port that it
    /// leaves by. Else nothing has changed.
    #[inline(always)]
    fn translate(
        &mut self,
        snapshot: &Snapshot,
        tick: Tick,
        kind: Kind,
        packet: &mut P,
        glance: &Glance,
    ) -> Result<PortId, Obstacle> {
        let (head, guess) = (&glance.head, glance.guess);
        let direction = kind.direction;
        if head.protocol == NOT_ORDINARY {
            return Err(Obstacle::NotOrdinary);
        }
        if head.protocol == PROTO_ESP {
            return self.translate_esp(
                snapshot,
                tick,
                (direction, kind.arrived_in()),
                packet,
                glance,
            );
        }
        let words = (head.addresses, head.ports);
        let table = &mut self.table;
        let Some(session) = table.guessed_mut(guess, kind.with(head.protocol), words) else {
            return self.translate_elsewhere(snapshot, tick, kind, packet, glance);
        };
        let neighbour = session.hop[direction as usize];
        if session.flags & flag::HAIRPIN != 0
            || session.generation != snapshot.generation
            || neighbour == HOP_UNKNOWN
        {
            return Err(Obstacle::NoWay);
        }
        let exit = self.exits.to(snapshot, neighbour).ok_or(Obstacle::NoWay)?;
        let frame = packet.data_mut();
        if Head::ttl(frame) <= 1 || head.total_len > exit.mtu {
            return Err(Obstacle::NoWay);
        }
        let port = exit.port;
        session
            .change(direction, exit.macs)
            .apply(frame, head.protocol);
        if head.protocol == PROTO_TCP && !session.is_plain_tcp(head.detail) {
            self.follow_tcp(snapshot, tick, direction, head.detail, guess);
        } else {
            session.use_at(tick);
        }
        packet.truncate(head.end()); // Ethernet padding stays behind
        Ok(port)
    }

    /// [`Gateway::translate`] where the guess at the entry was wrong.
    #[inline(never)]
    fn translate_elsewhere(
        &mut self,
        snapshot: &Snapshot,
        tick: Tick,
        kind: Kind,
        packet: &mut P,
        glance: &Glance,
    ) -> Result<PortId, Obstacle> {
        let Glance { head, hash, .. } = *glance;
        let found = self.table.find(hash, kind.with(head.protocol), head.key());
        let guess = found.ok_or(Obstacle::NoEntry)?;
        let glance = Glance { guess, ..*glance };
        self.translate(snapshot, tick, kind, packet, &glance)
    }

    /// [`Gateway::translate`] off the straight way.
    #[inline(never)]
    fn translate_later(
        &mut self,
        snapshot: &Snapshot,
        tick: Tick,
        kind: Kind,
        packet: &mut P,
        glance: &Glance,
    ) -> Result<PortId, Obstacle> {
        self.translate(snapshot, tick, kind, packet, glance)
    }
}

/// Whether a host may have this address, whichever side it is on.
fn is_host(address: u32) -> bool {
    !is_martian_source(address) && !is_martian_destination(address) && address < MULTICAST
}

/// Whether a packet's entry, if it has one, decides about it alone.
#[inline(always)]
fn is_ordinary(direction: Direction, head: &Head) -> bool {
    match head.protocol {
        // The entries of these are the engine's, which follows every message.
        PROTO_UDP => {
            let peer_port = match direction {
                Direction::Out => (head.ports >> 16) as u16,
                Direction::In => head.ports as u16,
            };
            !is_ipsec_port(peer_port)
        }
        // Entries are for answers to requests from inside.
        PROTO_ICMP => direction == Direction::Out || !inside::is_request_type(head.detail),
        _ => true,
    }
}
