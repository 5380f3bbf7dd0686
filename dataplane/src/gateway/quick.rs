//! The path of an ordinary packet whose entry is there, with nothing on it but that.
//!
//! A burst is looked at in place and leaves as a whole, where it can. Whatever is not ordinary goes
//! the full way ([`Gateway::process_one`]), which judges alone what becomes of it: here nothing is
//! refused, and nothing changes before it is sure that the packet can leave.

use arrayvec::ArrayVec;

use super::ipsec::is_ipsec_port;
use super::{Gateway, Item, Meta, Output, Pass, inside};
use crate::packet::{BURST, Burst, Packet};
use crate::session::{Direction, HOP_UNKNOWN, NIL, flag};
use crate::snapshot::{Interface, PortId, Side, Snapshot};
use crate::stats::Counter;
use crate::time::Tick;
use crate::wire::head::{Change, Head, mac_word};
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
        // Before this burst's packets, so that none of them overtakes one that waited.
        self.release_waiting(pass);
        let Some(entrance) = pass.snapshot.interface(port).and_then(Entrance::new) else {
            let meta = Meta::arrived(port);
            burst
                .drain(..)
                .for_each(|packet| self.process_one(pass, Item { packet, meta }));
            return self.release_fragments(pass);
        };
        self.exits.follow(pass.snapshot);
        let mut glances = Glances::new();
        self.survey(entrance, burst.iter(), &mut glances);
        let (snapshot, tick) = (pass.snapshot, pass.now.tick());
        let mut ports = ArrayVec::<PortId, BURST>::new();
        for (packet, glance) in burst.iter_mut().zip(&glances) {
            match self.translate(snapshot, tick, entrance.direction, packet, glance) {
                Some(port) => ports.push(port),
                None => break,
            }
        }
        let mut hits = ports.len();
        if let Some(first) = ports.first().copied()
            && hits == burst.len()
            && ports.iter().all(|port| *port == first)
        {
            pass.out.transmit_burst(first, burst);
        } else {
            for (at, (mut packet, glance)) in burst.drain(..).zip(&glances).enumerate() {
                let port_out = match ports.get(at) {
                    Some(port_out) => Some(*port_out),
                    None => {
                        let direction = entrance.direction;
                        let out =
                            self.translate_later(snapshot, tick, direction, &mut packet, glance);
                        hits += usize::from(out.is_some());
                        out
                    }
                };
                match port_out {
                    Some(port_out) => pass.out.transmit(port_out, packet),
                    None => {
                        let meta = Meta::arrived(port);
                        self.process_one(pass, Item { packet, meta });
                    }
                }
            }
        }
        self.stats.add(Counter::Hits, hits as u64);
        self.release_fragments(pass);
    }

    /// Decides about packets from anywhere, other workers included.
    pub fn process(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        items: ArrayVec<Item<P>, BURST>,
    ) {
        self.release_waiting(pass);
        self.exits.follow(pass.snapshot);
        let (snapshot, tick) = (pass.snapshot, pass.now.tick());
        let entrance = |item: &Item<P>| {
            let Meta { port, hairpin, .. } = item.meta;
            let interface = snapshot.interface(port).filter(|_| !hairpin)?;
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
        let mut hits = 0;
        for (mut item, glance) in items.into_iter().zip(&glances) {
            let port = entrance(&item).and_then(|Entrance { direction, .. }| {
                self.translate_later(snapshot, tick, direction, &mut item.packet, glance)
            });
            match port {
                Some(port) => {
                    hits += 1;
                    pass.out.transmit(port, item.packet);
                }
                None => self.process_one(pass, item),
            }
        }
        self.stats.add(Counter::Hits, hits);
        self.release_fragments(pass);
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
    /// leaves by. `None`, and nothing changed, where it must go the full way.
    #[inline(always)]
    fn translate(
        &mut self,
        snapshot: &Snapshot,
        tick: Tick,
        direction: Direction,
        packet: &mut P,
        glance: &Glance,
    ) -> Option<PortId> {
        let Glance { head, hash, guess } = *glance;
        if head.protocol == NOT_ORDINARY {
            return None;
        }
        let words = (head.addresses, head.ports);
        let at = self
            .table
            .find_guessed(guess, hash, direction, head.protocol, words)?;
        let session = self.table.session_mut(at);
        let neighbour = session.hop[direction as usize];
        if session.flags & flag::HAIRPIN != 0
            || session.generation != snapshot.generation
            || neighbour == HOP_UNKNOWN
        {
            return None;
        }
        let exit = self.exits.to(snapshot, neighbour)?;
        let frame = packet.data_mut();
        let ttl = frame.get(22).copied().unwrap_or(0);
        if ttl <= 1 || head.total_len > exit.mtu {
            return None;
        }
        let (addresses, ports, of_addresses, of_ports) = session.written(direction);
        let change = Change {
            addresses,
            ports,
            of_addresses,
            of_ports,
            macs: exit.macs,
        };
        change.apply(frame, head.protocol);
        if head.protocol == PROTO_TCP && !session.is_plain_tcp(head.detail) {
            self.follow_tcp(snapshot, tick, direction, head.detail, at);
        } else {
            session.use_at(tick);
        }
        packet.truncate(head.end()); // Ethernet padding stays behind
        Some(exit.port)
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
    ) -> Option<PortId> {
        self.translate(snapshot, tick, direction, packet, glance)
    }
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
