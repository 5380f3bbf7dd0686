//! The way out: next hop, time to live, MTU, rewrite, MAC addresses.

use std::net::Ipv4Addr;

use super::waiting::Outcome;
use super::{Gateway, Item, Meta, Output};
use crate::fib::{Neighbour, NextHop};
use crate::packet::Packet;
use crate::session::{Direction, HOP_UNKNOWN, flag};
use crate::snapshot::{PortId, Side, Snapshot};
use crate::stats::{Counter, DropReason};
use crate::time::Millis;
use crate::wire::icmp_error::Kind;
use crate::wire::{Endpoints, Ipv4, L4, Rewrite, rewrite, split};

/// A next hop, with its MAC address where that is known.
#[derive(Clone, Copy)]
pub(super) struct Hop {
    pub(super) to: NextHop,
    pub(super) neighbour: Option<Neighbour>,
    /// Its place in the forwarding table, where it has one.
    place: Option<u32>,
}

impl<P: Packet> Gateway<P> {
    /// A packet of a known entry.
    #[inline]
    pub(super) fn hit(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        item: Item<P>,
        ip: &Ipv4,
        direction: Direction,
        at: u32,
        out: &mut impl Output<P>,
    ) {
        self.stats.count(Counter::Hits);
        self.touch(now, snapshot, ip, direction, at);
        let session = self.table.session(at);
        let change = if session.is_address_entry() {
            address_rewrite(ip, direction, session.keys[direction.reverse() as usize])
        } else {
            session.rewrite(direction)
        };
        if session.flags & flag::HAIRPIN != 0 && direction == Direction::Out {
            self.hairpin(now, snapshot, item, ip, change, out);
            return;
        }
        match self.session_hop(snapshot, at, direction, change.to().dst) {
            Some(hop) => self.forward(now, snapshot, item, ip, hop, Some(change), out),
            None => self.no_route(now, snapshot, item, ip, out),
        }
    }

    /// Notes that an entry was used, and follows its TCP connection.
    #[inline]
    pub(super) fn touch(&mut self, now: Millis, snapshot: &Snapshot, ip: &Ipv4, direction: Direction, at: u32) {
        let tick = now.tick();
        let session = self.table.session_mut(at);
        if let L4::Tcp { flags, .. } = ip.l4
            && session.follow_tcp(direction, flags)
        {
            session.used = tick;
            self.table.rearm(at, tick, &snapshot.nat.timers);
        } else if session.is_prolonged_by_packets() {
            session.used = tick;
        }
    }

    /// The next hop of an entry's packets, looked up once a snapshot.
    #[inline]
    fn session_hop(&mut self, snapshot: &Snapshot, at: u32, direction: Direction, to: u32) -> Option<Hop> {
        let session = self.table.session_mut(at);
        if session.generation != snapshot.generation {
            session.generation = snapshot.generation;
            session.hop = [HOP_UNKNOWN; 2];
        }
        let place = session.hop[direction as usize];
        // An address entry has many destinations outbound: its next hop is none of its own.
        if place != HOP_UNKNOWN
            && let Some((to, neighbour)) = snapshot.fib.neighbour_at(u32::from(place))
        {
            return Some(Hop { to, neighbour: Some(neighbour), place: None });
        }
        let hop = next_hop(snapshot, to)?;
        let one_destination = direction == Direction::In || !session.is_address_entry();
        if let Some(place) = hop.place.and_then(|place| u16::try_from(place).ok())
            && one_destination
            && place != HOP_UNKNOWN
        {
            session.hop[direction as usize] = place;
        }
        Some(hop)
    }

    /// Forwards a packet as it is.
    pub(super) fn route(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        item: Item<P>,
        ip: &Ipv4,
        out: &mut impl Output<P>,
    ) {
        if snapshot.local(Ipv4Addr::from_bits(ip.dst)).is_some() {
            self.punt(Counter::PuntedLocal, item, out);
            return;
        }
        match next_hop(snapshot, ip.dst) {
            Some(hop) => {
                self.stats.count(Counter::Routed);
                self.forward(now, snapshot, item, ip, hop, None, out);
            }
            None => self.no_route(now, snapshot, item, ip, out),
        }
    }

    pub(super) fn no_route(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        item: Item<P>,
        ip: &Ipv4,
        out: &mut impl Output<P>,
    ) {
        self.refuse(now, snapshot, item, ip, DropReason::NoRoute, Kind::NET_UNREACHABLE, out);
    }

    /// Sends a packet to a next hop, changed by `change`. ICMP errors quote it as it came.
    pub(super) fn forward(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        mut item: Item<P>,
        ip: &Ipv4,
        hop: Hop,
        change: Option<Rewrite>,
        out: &mut impl Output<P>,
    ) {
        let Some(egress) = snapshot.interface(hop.to.port).filter(|i| i.up) else {
            self.refuse(now, snapshot, item, ip, DropReason::PortDown, Kind::NET_UNREACHABLE, out);
            return;
        };
        if ip.ttl <= 1 {
            self.refuse(now, snapshot, item, ip, DropReason::TtlExceeded, Kind::TIME_EXCEEDED, out);
            return;
        }
        if ip.total_len > egress.mtu && ip.dont_fragment {
            let kind = Kind::FragmentationNeeded { mtu: egress.mtu };
            self.refuse(now, snapshot, item, ip, DropReason::MtuExceeded, kind, out);
            return;
        }
        if let Some(Neighbour::Failed) = hop.neighbour {
            if self.retry_limit.pass(now) {
                out.resolve(hop.to);
            }
            self.refuse(now, snapshot, item, ip, DropReason::NeighbourFailed, Kind::HOST_UNREACHABLE, out);
            return;
        }
        let frame = item.packet.data_mut();
        match change {
            Some(change) => change.apply_and_decrement_ttl(frame, ip),
            None => rewrite::decrement_ttl(frame),
        }
        if ip.fragment.is_some() {
            self.stats.count(Counter::FragmentsTranslated);
        }
        let Item { mut packet, meta } = item;
        packet.truncate(ip.end()); // Ethernet padding stays behind
        if ip.total_len > egress.mtu {
            self.send_in_fragments(now, snapshot, packet, ip, egress.mtu, hop, meta, out);
        } else {
            self.send(now, snapshot, packet, hop.to, hop.neighbour, meta, out);
        }
    }

    fn send_in_fragments(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        packet: P,
        ip: &Ipv4,
        mtu: u16,
        hop: Hop,
        meta: Meta,
        out: &mut impl Output<P>,
    ) {
        match split::split(&packet, ip, mtu, out) {
            Ok(fragments) => {
                self.stats.count(Counter::Fragmented);
                for fragment in fragments {
                    self.send(now, snapshot, fragment, hop.to, hop.neighbour, meta, out);
                }
            }
            Err(reason) => self.drop(reason, meta),
        }
    }

    /// Sends a finished packet, or lets it wait for its next hop's MAC address.
    fn send(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        mut packet: P,
        to: NextHop,
        neighbour: Option<Neighbour>,
        meta: Meta,
        out: &mut impl Output<P>,
    ) {
        if let Some(Neighbour::Reachable(mac)) = neighbour {
            if let Some(egress) = snapshot.interface(to.port) {
                rewrite::set_macs(packet.data_mut(), mac, egress.mac);
                out.transmit(to.port, packet);
            }
            return;
        }
        match self.waiting.hold(now, to, (meta.port, packet)) {
            Ok(first) => {
                self.stats.count(Counter::NeighbourHeld);
                if first {
                    out.resolve(to);
                }
            }
            Err(_) => self.drop(DropReason::NeighbourQueueFull, meta),
        }
    }

    /// Sends or drops the packets that no longer wait for a MAC address.
    pub(super) fn release_waiting(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        out: &mut impl Output<P>,
    ) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let mut any = false;
        while let Some(outcome) = self.waiting.next(now, &snapshot.fib) {
            any = true;
            match outcome {
                Outcome::Send(to, mac, (arrived, packet)) => {
                    let known = Some(Neighbour::Reachable(mac));
                    self.send(now, snapshot, packet, to, known, Meta::arrived(arrived), out);
                }
                Outcome::Drop(reason, (arrived, _)) => self.drop(reason, Meta::arrived(arrived)),
            }
        }
        any
    }

    /// From inside to a global address: changed as if it left, then taken as if it came in.
    pub(super) fn hairpin(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        mut item: Item<P>,
        ip: &Ipv4,
        change: Rewrite,
        out: &mut impl Output<P>,
    ) {
        if item.meta.hairpin || ip.ttl <= 1 {
            self.refuse(now, snapshot, item, ip, DropReason::TtlExceeded, Kind::TIME_EXCEEDED, out);
            return;
        }
        self.stats.count(Counter::Hairpinned);
        change.apply(item.packet.data_mut(), ip);
        item.meta.hairpin = true;
        if item.meta.ports.is_some() {
            item.meta.ports = Some((change.to().sport, change.to().dport));
        }
        self.process_one(now, snapshot, item, out);
    }
}

/// The next hop to an address; `None` where there is no route.
pub(super) fn next_hop(snapshot: &Snapshot, destination: u32) -> Option<Hop> {
    let to = snapshot.fib.lookup(Ipv4Addr::from_bits(destination))?;
    let known = snapshot.fib.neighbour(to);
    Some(Hop { to, neighbour: known.map(|(_, n)| n), place: known.map(|(at, _)| at) })
}

/// Whether packets to this next hop leave the translated network.
pub(super) fn leaves_outside(snapshot: &Snapshot, port: PortId) -> bool {
    snapshot.interface(port).is_some_and(|i| i.side == Side::Outside)
}

/// What an address entry makes of a packet: its inside host's address is replaced, all else stays.
/// `other` is the entry's key of the other direction.
fn address_rewrite(ip: &Ipv4, direction: Direction, other: Endpoints) -> Rewrite {
    let (src, dst) = match direction {
        Direction::Out => (other.dst, ip.dst),
        Direction::In => (ip.src, other.src),
    };
    rewrite_addresses(ip, src, dst)
}

/// The rewrite that gives a packet other addresses and keeps its ports.
pub(super) fn rewrite_addresses(ip: &Ipv4, src: u32, dst: u32) -> Rewrite {
    let key = super::key_of(ip, Meta::arrived(PortId(0)));
    Rewrite::new(ip.protocol, Endpoints { src: ip.src, dst: ip.dst, ..key }, Endpoints { src, dst, ..key })
}
