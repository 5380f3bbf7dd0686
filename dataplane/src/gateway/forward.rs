//! The way out: next hop, time to live, MTU, rewrite, MAC addresses.

use std::net::Ipv4Addr;

use super::outside_source::{Outward, entry_way};
use super::waiting::Outcome;
use super::{Gateway, Item, Meta, Output, Pass, arrived};
use crate::fib::{Neighbour, NextHop};
use crate::packet::Packet;
use crate::session::{Direction, HOP_UNKNOWN, flag};
use crate::snapshot::{PortId, Side, Snapshot, VrfId};
use crate::stats::{Counter, DropReason};
use crate::time::{Millis, Tick};
use crate::wire::icmp_build::{ErrorKind, unreachable};
use crate::wire::{self, Endpoints, Ipv4, L4, Parsed, Rewrite, rewrite, split};

/// A next hop, with its MAC address where that is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hop {
    pub(super) to: NextHop,
    pub(super) neighbour: Option<Neighbour>,
    /// Its place in the forwarding table, where it has one.
    pub(super) place: Option<u32>,
}

impl Hop {
    /// As [`Session::hop`](crate::session::Session::hop) has it.
    pub(super) fn as_session_has_it(self) -> u16 {
        let place = self.place.and_then(|place| u16::try_from(place).ok());
        place.unwrap_or(HOP_UNKNOWN)
    }
}

/// Where the packets of an entry go in the present snapshot.
enum Way {
    /// To this next hop.
    To(Hop),
    /// No longer outside: routes have changed, and nothing is to be translated.
    Inside,
    /// No route.
    Nowhere,
}

impl<P: Packet> Gateway<P> {
    /// A packet of a known entry. (Address entries are found by [`Gateway::inside`] and
    /// [`Gateway::outside`].)
    #[inline]
    pub(super) fn hit(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        direction: Direction,
        at: u32,
    ) {
        let flags = self.table.session(at).flags;
        if flags & flag::HAIRPIN != 0 && direction == Direction::In && !item.meta.hairpin {
            // Only what was translated here comes from a global address.
            return self.refused(DropReason::IpSource, item.meta);
        }
        self.stats.count(Counter::Hits);
        self.touch(pass.now, pass.snapshot, ip, direction, at);
        let change = self.table.session(at).rewrite(direction);
        if direction == Direction::Out && flags & flag::HAIRPIN != 0 {
            self.told_translated(pass.now, direction, ip, item.meta, &change, true);
            self.hairpin(pass, item, ip, change);
            return;
        }
        match self.session_hop(pass.snapshot, at, direction, change.to().dst) {
            Way::To(hop) => {
                self.told_translated(pass.now, direction, ip, item.meta, &change, true);
                self.forward(pass, item, ip, hop, Some(&change));
            }
            Way::Inside => self.route(pass, item, ip),
            Way::Nowhere => self.no_route(pass, item, ip),
        }
    }

    /// Notes that an entry was used, and follows its TCP connection.
    #[inline]
    fn touch(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        ip: &Ipv4,
        direction: Direction,
        at: u32,
    ) {
        match ip.l4 {
            L4::Tcp { flags, .. } => self.follow_tcp(snapshot, now.tick(), direction, flags, at),
            _ => {
                let session = self.table.session_mut(at);
                if session.is_prolonged_by_packets() {
                    session.use_at(now.tick());
                }
            }
        }
    }

    /// Notes that a TCP connection's entry was used by a packet with these flags.
    #[inline(never)]
    pub(super) fn follow_tcp(
        &mut self,
        snapshot: &Snapshot,
        tick: Tick,
        direction: Direction,
        flags: u8,
        at: u32,
    ) {
        let session = self.table.session_mut(at);
        if session.follow_tcp(direction, flags) {
            session.used = tick;
            self.table.rearm(at, tick, &snapshot.nat.timers);
        } else if session.is_prolonged_by_packets() {
            session.used = tick;
        }
    }

    /// The next hop of an entry's packets, looked up once a snapshot.
    #[inline]
    fn session_hop(&mut self, snapshot: &Snapshot, at: u32, direction: Direction, to: u32) -> Way {
        let session = self.table.session_mut(at);
        if session.generation != snapshot.generation {
            session.generation = snapshot.generation;
            session.hop = [HOP_UNKNOWN; 2];
        }
        let vrf = session.vrf;
        let place = session.hop[direction as usize];
        if place != HOP_UNKNOWN
            && let Some((to, neighbour)) = snapshot.fib.neighbour_at(u32::from(place))
        {
            return Way::To(Hop {
                to,
                neighbour: Some(neighbour),
                place: None,
            });
        }
        let hop = if direction == Direction::Out && session.changes_outside() {
            let local = session.outside_local().address.to_bits();
            let hop_to = |to| next_hop(snapshot, vrf, to);
            match entry_way(snapshot, vrf, local, to, hop_to) {
                Outward::To(hop, _) => hop,
                Outward::Inside => return Way::Inside,
                Outward::Nowhere | Outward::Nobody => return Way::Nowhere,
            }
        } else {
            let Some(hop) = next_hop(snapshot, vrf, to) else {
                return Way::Nowhere;
            };
            if direction == Direction::Out && !leaves_outside(snapshot, hop.to.port) {
                return Way::Inside;
            }
            hop
        };
        session.hop[direction as usize] = hop.as_session_has_it();
        Way::To(hop)
    }

    /// Forwards a packet as it is.
    pub(super) fn route(&mut self, pass: &mut Pass<'_, impl Output<P>>, item: Item<P>, ip: &Ipv4) {
        let address = Ipv4Addr::from_bits(ip.dst);
        if pass.snapshot.local(ip.vrf, address).is_some() {
            self.punt(pass, Counter::PuntedLocal, item);
            return;
        }
        match next_hop(pass.snapshot, ip.vrf, ip.dst) {
            Some(hop) if !Self::may_leave_as(pass.snapshot, hop.to.port, &item, ip, None) => {
                self.denied(pass, item, ip, DropReason::AccessListOut);
            }
            Some(hop) => {
                self.stats.count(Counter::Routed);
                self.forward(pass, item, ip, hop, None);
            }
            None => self.no_route(pass, item, ip),
        }
    }

    pub(super) fn no_route(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
    ) {
        self.refuse(
            pass,
            item,
            ip,
            DropReason::NoRoute,
            ErrorKind::Unreachable(unreachable::NETWORK),
        );
    }

    /// Sends a packet to a next hop, changed by `change`. ICMP errors quote it as it came.
    pub(super) fn forward(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        mut item: Item<P>,
        ip: &Ipv4,
        hop: Hop,
        change: Option<&Rewrite>,
    ) {
        let Some(egress) = pass.snapshot.interface(hop.to.port).filter(|i| i.up) else {
            self.refuse(
                pass,
                item,
                ip,
                DropReason::PortDown,
                ErrorKind::Unreachable(unreachable::NETWORK),
            );
            return;
        };
        if ip.ttl <= 1 {
            self.refuse(
                pass,
                item,
                ip,
                DropReason::TtlExceeded,
                ErrorKind::TimeExceeded,
            );
            return;
        }
        if ip.total_len > egress.mtu && ip.dont_fragment {
            let kind = ErrorKind::FragmentationNeeded { mtu: egress.mtu };
            self.refuse(pass, item, ip, DropReason::MtuExceeded, kind);
            return;
        }
        let mac = match hop.neighbour {
            Some(Neighbour::Reachable(mac)) => mac,
            Some(Neighbour::Failed) => {
                if self.retry_limit.pass(pass.now) {
                    pass.out.resolve(hop.to);
                }
                self.refuse(
                    pass,
                    item,
                    ip,
                    DropReason::NeighbourFailed,
                    ErrorKind::Unreachable(unreachable::HOST),
                );
                return;
            }
            None => return self.wait(pass, item, hop.to),
        };
        let frame = item.packet.data_mut();
        match change {
            Some(change) => change.apply_and_decrement_ttl(frame, ip),
            None => rewrite::decrement_ttl(frame),
        }
        rewrite::set_macs(frame, mac, egress.mac);
        if ip.fragment.is_some() {
            self.stats.count(Counter::FragmentsTranslated);
        }
        let Item { mut packet, meta } = item;
        packet.truncate(ip.end()); // Ethernet padding stays behind
        if ip.total_len > egress.mtu {
            self.send_in_fragments(pass, packet, ip, egress.mtu, hop.to.port, meta);
        } else {
            pass.out.transmit(hop.to.port, packet);
        }
    }

    fn send_in_fragments(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        packet: P,
        ip: &Ipv4,
        mtu: u16,
        port: PortId,
        meta: Meta,
    ) {
        let mut pieces = std::mem::take(&mut self.pieces);
        match split::split(packet.data(), ip, mtu, pass.out, |piece| pieces.push(piece)) {
            Ok(_) => self.stats.count(Counter::Fragmented),
            Err(reason) => {
                pieces.clear(); // nobody can use a part
                self.refused(reason, meta);
            }
        }
        for piece in pieces.drain(..) {
            pass.out.transmit(port, piece);
        }
        self.pieces = pieces; // its memory is used again
    }

    /// Lets a packet, as it came, wait for its next hop's MAC address.
    pub(super) fn wait(&mut self, pass: &mut Pass<'_, impl Output<P>>, item: Item<P>, to: NextHop) {
        let meta = item.meta;
        match self.waiting.hold(pass.now, to, item) {
            Ok(first) => {
                self.stats.count(Counter::NeighbourHeld);
                if first {
                    pass.out.resolve(to);
                }
            }
            Err(_) => self.refused(DropReason::NeighbourQueueFull, meta),
        }
    }

    /// Goes on with the packets that no longer wait for a MAC address. Those that waited in vain
    /// are answered, which is why they wait as they came.
    pub(super) fn release_waiting(&mut self, pass: &mut Pass<'_, impl Output<P>>) -> bool {
        let moment = (pass.snapshot.generation, pass.now.tick());
        if self.waiting.is_empty() || self.waiting_checked == moment {
            return false;
        }
        self.waiting_checked = moment;
        for hop in self.waiting.questions(pass.now) {
            pass.out.resolve(hop);
        }
        let mut any = false;
        while let Some(outcome) = self.waiting.next(pass.now, &pass.snapshot.fib) {
            any = true;
            match outcome {
                Outcome::GoOn(item) => self.process_one(pass, item),
                Outcome::Drop(reason, item) => match wire::parse(item.packet.data(), false) {
                    Ok(Parsed::Ipv4(ip)) => {
                        let ip = arrived(pass.snapshot, item.meta, ip);
                        let kind = ErrorKind::Unreachable(unreachable::HOST);
                        self.refuse(pass, item, &ip, reason, kind);
                    }
                    _ => self.refused(reason, item.meta),
                },
            }
        }
        any
    }

    /// From inside to a global address: changed as if it left, then taken as if it came in.
    pub(super) fn hairpin(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        mut item: Item<P>,
        ip: &Ipv4,
        change: Rewrite,
    ) {
        if item.meta.hairpin || ip.ttl <= 1 {
            self.refuse(
                pass,
                item,
                ip,
                DropReason::TtlExceeded,
                ErrorKind::TimeExceeded,
            );
            return;
        }
        self.stats.count(Counter::Hairpinned);
        change.apply(item.packet.data_mut(), ip);
        item.meta.hairpin = true;
        if item.meta.ports.is_some() {
            item.meta.ports = Some((change.to().sport, change.to().dport));
        }
        self.process_one(pass, item);
    }
}

/// The next hop to an address in a VRF; `None` where there is no route.
pub(super) fn next_hop(snapshot: &Snapshot, vrf: VrfId, destination: u32) -> Option<Hop> {
    let (to, known) = snapshot.fib.hop(vrf, Ipv4Addr::from_bits(destination))?;
    Some(Hop {
        to,
        neighbour: known.map(|(_, n)| n),
        place: known.map(|(at, _)| at),
    })
}

/// Whether packets to this next hop leave the translated network.
pub(super) fn leaves_outside(snapshot: &Snapshot, port: PortId) -> bool {
    snapshot
        .interface(port)
        .is_some_and(|i| i.side == Side::Outside)
}

/// The rewrite that gives a packet other addresses and keeps its ports.
pub(super) fn rewrite_addresses(ip: &Ipv4, src: u32, dst: u32) -> Rewrite {
    let key = super::key_of(ip, Meta::arrived(PortId(0)));
    Rewrite::new(
        ip.protocol,
        Endpoints {
            src: ip.src,
            dst: ip.dst,
            ..key
        },
        Endpoints { src, dst, ..key },
    )
}
