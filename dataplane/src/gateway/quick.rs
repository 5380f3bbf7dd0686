//! The path of an ordinary packet whose entry is there, with nothing on it but that.
//!
//! A burst is looked at in place and leaves as a whole, where it can. Whatever is not ordinary goes
//! the full way ([`Gateway::process_one`]), which judges alone what becomes of it: here nothing is
//! refused, and nothing changes before it is sure that the packet can leave.

use arrayvec::ArrayVec;

use super::ipsec::is_ipsec_port;
use super::{Gateway, Item, Lookup, MULTICAST, Meta, Output, Pass, Prepared, inside};
use crate::journal::Topic;
use crate::packet::{BURST, Burst, Packet};
use crate::session::{Direction, HOP_UNKNOWN, NIL, flag};
use crate::snapshot::{Interface, PortId, Side, Snapshot};
use crate::stats::Counter;
use crate::time::Tick;
use crate::wire::head::{Head, mac_word};
use crate::wire::ipv4::{is_martian_destination, is_martian_source};
use crate::wire::{PROTO_ICMP, PROTO_TCP, PROTO_UDP};

/// [`Head::protocol`] of a packet that is not ordinary: that of no ordinary one.
const NOT_ORDINARY: u8 = 0;

/// What is to be known of an ordinary packet.
#[derive(Clone, Copy)]
struct Glance {
    head: Head,
    hash: u64,
    /// The index's first guess at its entry.
    guess: u32,
}

impl Glance {
    const NONE: Glance = Glance {
        head: Head {
            addresses: 0,
            ports: 0,
            total_len: 0,
            protocol: NOT_ORDINARY,
            detail: 0,
        },
        hash: 0,
        guess: NIL,
    };
}

type Glances = ArrayVec<Glance, BURST>;

/// Why a packet can't be sent on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// It is not ordinary.
    NotOrdinary,
    /// It has no entry.
    NoEntry,
    /// It has one, but its way is not known, or not so simple.
    NoWay,
}

/// What is to be known of the port that packets came from.
#[derive(Clone, Copy)]
struct Entrance {
    mac: u64,
    direction: Direction,
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
        })
    }
}

impl<P: Packet> Gateway<P> {
    /// Decides about packets that have just arrived on `port`.
    pub fn process_arrived(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        port: PortId,
        burst: &mut Burst<P>,
    ) {
        self.follow(pass.snapshot);
        // Before this burst's packets, so that none of them overtakes one that waited.
        self.release_waiting(pass);
        let meta = Meta::arrived(port);
        // Who debugs sees every packet: then all of them go the full way.
        let is_quiet = !self.stats.journal.wants(Topic::Packets);
        let entrance = pass.snapshot.interface(port).and_then(Entrance::new);
        let Some(entrance) = entrance.filter(|_| is_quiet) else {
            burst
                .drain(..)
                .for_each(|packet| self.process_one(pass, Item { packet, meta }));
            return self.release_fragments(pass);
        };
        let mut glances = Glances::new();
        self.survey(entrance, burst.iter(), &mut glances);
        let (snapshot, tick) = (pass.snapshot, pass.now.tick());
        let mut ports = ArrayVec::<PortId, BURST>::new();
        let mut stopped = Err(Obstacle::NotOrdinary);
        for (packet, glance) in burst.iter_mut().zip(&glances) {
            stopped = self.translate(snapshot, tick, entrance.direction, packet, glance);
            match stopped {
                Ok(port) => ports.push(port),
                Err(_) => break,
            }
        }
        self.stats.add(Counter::Hits, ports.len() as u64);
        if let Some(first) = ports.first().copied()
            && ports.len() == burst.len()
            && ports.iter().all(|port| *port == first)
        {
            pass.out.transmit_burst(first, burst);
        } else {
            self.one_by_one(pass, entrance, meta, burst, &glances, &ports, stopped);
        }
        self.release_fragments(pass);
    }

    /// Sends the first packets of a burst by their `ports` and decides about the others in their
    /// turn; the first of these has been looked at, and `stopped` says what it met.
    #[allow(clippy::too_many_arguments)]
    #[inline(never)]
    fn one_by_one(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        entrance: Entrance,
        meta: Meta,
        burst: &mut Burst<P>,
        glances: &Glances,
        ports: &[PortId],
        stopped: Result<PortId, Obstacle>,
    ) {
        let nat = &pass.snapshot.nat;
        if entrance.direction == Direction::Out {
            for Glance { head, guess, .. } in glances.iter().skip(ports.len()) {
                if *guess == NIL && head.protocol != NOT_ORDINARY {
                    self.expect(nat, head.protocol, head.key());
                }
            }
        }
        let (snapshot, tick, direction) = (pass.snapshot, pass.now.tick(), entrance.direction);
        for (at, (mut packet, glance)) in burst.drain(..).zip(glances).enumerate() {
            if let Some(port) = ports.get(at) {
                pass.out.transmit(*port, packet);
                continue;
            }
            let outcome = if at == ports.len() {
                stopped
            } else {
                self.translate_later(snapshot, tick, direction, &mut packet, glance)
            };
            match outcome {
                Ok(port) => {
                    self.stats.count(Counter::Hits);
                    pass.out.transmit(port, packet);
                }
                Err(obstacle) => {
                    let item = Item { packet, meta };
                    self.surmount(pass, direction, item, glance, obstacle);
                }
            }
        }
    }

    /// Decides about packets from anywhere, other workers included.
    pub fn process(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        items: ArrayVec<Item<P>, BURST>,
    ) {
        self.follow(pass.snapshot);
        self.release_waiting(pass);
        let (snapshot, tick) = (pass.snapshot, pass.now.tick());
        let is_quiet = !self.stats.journal.wants(Topic::Packets);
        let entrance = |item: &Item<P>| {
            let Meta { port, hairpin, .. } = item.meta;
            let interface = snapshot.interface(port).filter(|_| !hairpin && is_quiet)?;
            Entrance::new(interface)
        };
        let mut glances = Glances::new();
        for item in &items {
            match entrance(item) {
                Some(entrance) => {
                    self.survey(entrance, std::iter::once(&item.packet), &mut glances);
                }
                None => glances.push(Glance::NONE),
            }
        }
        for (mut item, glance) in items.into_iter().zip(&glances) {
            let Some(Entrance { direction, .. }) = entrance(&item) else {
                self.process_one(pass, item);
                continue;
            };
            match self.translate_later(snapshot, tick, direction, &mut item.packet, glance) {
                Ok(port) => {
                    self.stats.count(Counter::Hits);
                    pass.out.transmit(port, item.packet);
                }
                Err(obstacle) => self.surmount(pass, direction, item, glance, obstacle),
            }
        }
        self.release_fragments(pass);
    }

    /// Decides about a packet that [`Gateway::translate`] could not send on.
    fn surmount(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        direction: Direction,
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
            let lookup = Lookup::Flow {
                direction,
                key,
                hash,
            };
            let ready = Prepared { item, ip, lookup };
            if let Some(ready) = self.keep_if_mine(pass, ready) {
                self.decide_anew(pass, ready);
            }
        } else {
            self.process_one(pass, item);
        }
    }

    /// Reads packets without touching them, and asks the memory for their entries.
    #[inline(always)]
    fn survey<'a>(
        &self,
        entrance: Entrance,
        packets: impl Iterator<Item = &'a P>,
        glances: &mut Glances,
    ) where
        P: 'a,
    {
        let begin = glances.len();
        let mut last = Glance::NONE;
        for packet in packets {
            let verify = !packet.ip_checksum_verified();
            let head = Head::read(packet.data(), entrance.mac, verify);
            last = match head.filter(|head| is_ordinary(entrance.direction, head)) {
                None => Glance::NONE,
                Some(head)
                    if head.addresses == last.head.addresses
                        && head.ports == last.head.ports
                        && head.protocol == last.head.protocol =>
                {
                    Glance { head, ..last } // the same flow as before
                }
                Some(head) => {
                    let hash = self.table.hash_words(
                        entrance.direction,
                        head.protocol,
                        head.addresses,
                        head.ports,
                    );
                    self.table.prefetch_index(hash);
                    let guess = NIL;
                    Glance { head, hash, guess }
                }
            };
            glances.push(last);
        }
        let mut last = (0, NIL);
        for glance in glances.iter_mut().skip(begin) {
            if glance.head.protocol == NOT_ORDINARY {
                continue;
            }
            if glance.hash != last.0 {
                last = (glance.hash, self.table.prefetch_entry(glance.hash));
            }
            glance.guess = last.1;
        }
    }

    /// Translates a packet whose entry is there and whose way is known, and tells the port that it
    /// leaves by. Else nothing has changed.
    #[inline(always)]
    fn translate(
        &mut self,
        snapshot: &Snapshot,
        tick: Tick,
        direction: Direction,
        packet: &mut P,
        glance: &Glance,
    ) -> Result<PortId, Obstacle> {
        let Glance { head, hash, guess } = *glance;
        if head.protocol == NOT_ORDINARY {
            return Err(Obstacle::NotOrdinary);
        }
        let words = (head.addresses, head.ports);
        let at = self
            .table
            .find_guessed(guess, hash, direction, head.protocol, words)
            .ok_or(Obstacle::NoEntry)?;
        let session = self.table.session_mut(at);
        let neighbour = session.hop[direction as usize];
        if session.flags & flag::HAIRPIN != 0
            || session.generation != snapshot.generation
            || neighbour == HOP_UNKNOWN
        {
            return Err(Obstacle::NoWay);
        }
        let exit = self.exits.to(snapshot, neighbour).ok_or(Obstacle::NoWay)?;
        let frame = packet.data_mut();
        let ttl = frame.get(22).copied().unwrap_or(0);
        if ttl <= 1 || head.total_len > exit.mtu {
            return Err(Obstacle::NoWay);
        }
        session
            .change(direction, exit.macs)
            .apply(frame, head.protocol);
        if head.protocol == PROTO_TCP && !session.is_plain_tcp(head.detail) {
            self.follow_tcp(snapshot, tick, direction, head.detail, at);
        } else {
            session.use_at(tick);
        }
        packet.truncate(head.end()); // Ethernet padding stays behind
        Ok(exit.port)
    }

    /// [`Gateway::translate`] off the straight way.
    #[inline(never)]
    fn translate_later(
        &mut self,
        snapshot: &Snapshot,
        tick: Tick,
        direction: Direction,
        packet: &mut P,
        glance: &Glance,
    ) -> Result<PortId, Obstacle> {
        self.translate(snapshot, tick, direction, packet, glance)
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
