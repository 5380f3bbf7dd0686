//! ESP and IKE: facts of packets go to the engine in `esp`, its answers become packets on their way.
//!
//! All of an outside host's ESP and IKE belongs to one worker (see `steer`), in both directions.
//! The engine sees what comes from inside only once it can leave: what is refused or waits for a MAC
//! address opens no half. What comes from outside may be seen again after a wait for a MAC address;
//! to the engine that is a duplicate, which changes nothing.

use std::net::Ipv4Addr;

use super::create::sender;
use super::forward::{Hop, leaves_outside, next_hop};
use super::ipsec_policy::{Asked, Taken, reason, rule_for, subject, timers};
use super::{Gateway, Item, Output, Pass, arrived};
use crate::esp::ike::{self, IKE_PORT, IkeHeader, IkePayload, NAT_T_PORT};
use crate::esp::{
    EspFilter, EspPacket, IkeIn, IkeOut, IkePacket, Inbound, Outbound, Outcome, Policy,
};
use crate::fib::{Neighbour, NextHop};
use crate::nat::{Global, Nat, Static, Target, Way};
use crate::packet::Packet;
use crate::session::{self, Direction, Key, Session};
use crate::snapshot::{InsideHost, PortId, Snapshot, VrfId};
use crate::stats::{Counter, DropReason};
use crate::time::Millis;
use crate::wire::{self, Ipv4, L4, PROTO_ESP, PROTO_UDP, Parsed, Rewrite};

/// Places of each of the engine's tables looked at a millisecond.
const SWEEP: usize = 64;

/// What a packet is to the engine.
enum Kind {
    Esp(EspPacket),
    Ike(IkeHeader),
    /// UDP between the ports of IKE that is none: mostly ESP in UDP (RFC 3948).
    Udp,
}

/// Whether a packet belongs to the worker of its outside host: ESP, and UDP to or from that host's
/// ports 500 and 4500.
#[inline]
pub(super) fn is_ipsec(direction: Direction, protocol: u8, key: Key) -> bool {
    let peer_port = match direction {
        Direction::Out => key.dport,
        Direction::In => key.sport,
    };
    protocol == PROTO_ESP || protocol == PROTO_UDP && is_ipsec_port(peer_port)
}

/// Whether an outside host's UDP port is one of IKE's.
#[inline]
pub(super) fn is_ipsec_port(peer_port: u16) -> bool {
    peer_port == IKE_PORT || peer_port == NAT_T_PORT
}

/// What later fragments need to know of their first one besides ports: SPI and sequence number of
/// ESP, the initiator's cookie of IKE; else 0.
pub(super) fn mark_of(frame: &[u8], ip: &Ipv4) -> u64 {
    match ip.l4 {
        L4::Esp { spi, seq } => u64::from(spi) << 32 | u64::from(seq),
        L4::Udp { sport, dport } => match ike_payload(frame, ip, (sport, dport)) {
            Some(IkePayload::Ike(header)) => header.initiator,
            _ => 0,
        },
        _ => 0,
    }
}

fn ike_payload(frame: &[u8], ip: &Ipv4, ports: (u16, u16)) -> Option<IkePayload> {
    let is_ike = |port| port == IKE_PORT || port == NAT_T_PORT;
    if !is_ike(ports.0) && !is_ike(ports.1) {
        return None;
    }
    let payload = frame.get(ip.l4_offset() + 8..ip.end())?;
    IkeHeader::parse(payload, ports.0 == NAT_T_PORT || ports.1 == NAT_T_PORT).ok()
}

impl<P: Packet> Gateway<P> {
    pub(super) fn ipsec(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        direction: Direction,
        key: Key,
    ) {
        match direction {
            Direction::Out => self.ipsec_out(pass, item, ip, key),
            Direction::In => self.ipsec_in(pass, item, ip, key),
        }
        self.release_held(pass);
        self.count_ipsec(pass.now);
    }

    /// Entries of the engine that have come or gone count with all others.
    #[inline]
    pub(super) fn count_ipsec(&mut self, now: Millis) {
        let (before, after) = (self.esp_entries, self.esp.entries() as u64);
        if after > before {
            self.census.all().made_many(after - before, now.0);
        } else if after < before {
            self.census.all().removed_many(before - after);
        }
        self.esp_entries = after;
    }

    fn ipsec_out(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        key: Key,
    ) {
        let snapshot = pass.snapshot;
        let peer = Ipv4Addr::from_bits(ip.dst);
        let way = next_hop(snapshot, ip.vrf, ip.dst);
        let way = way.filter(|hop| leaves_outside(snapshot, hop.to.port));
        let Some(hop) = way.filter(|_| !is_ours(snapshot, ip.vrf, peer)) else {
            return self.plain(pass, item, ip, Direction::Out, key);
        };
        let client = sender(ip);
        if self.has_own_address(&snapshot.nat, (client, ip.protocol), key, hop.to) {
            return self.plain(pass, item, ip, Direction::Out, key);
        }
        if !may_leave(snapshot, ip, hop) {
            // Refused, or waiting, so that it opens nothing: but only if it would be translated here.
            let is_theirs = match kind(&item, ip, key) {
                Kind::Udp => {
                    let ports = (key.sport, key.dport);
                    let to = self.esp.encapsulated_out(pass.now, client, peer, ports);
                    to.is_some()
                }
                Kind::Esp(_) | Kind::Ike(_) => {
                    let rule = rule_for(snapshot, ip.vrf, ip.protocol, key);
                    rule.is_some_and(|rule| matches!(rule.target, Target::Overload(_)))
                }
            };
            return if is_theirs {
                self.forward(pass, item, ip, hop, None)
            } else {
                self.plain(pass, item, ip, Direction::Out, key)
            };
        }
        let asked = Asked {
            nat: &snapshot.nat,
            subject: subject(ip.protocol, key),
            exit: Some(hop.to),
            occupancy: self.census.all(),
        };
        let to = match kind(&item, ip, key) {
            Kind::Esp(packet) => {
                let answer = self
                    .esp
                    .outbound_esp(pass.now, client, peer, &packet, &asked);
                match answer {
                    Outbound::Translate { global } => Ok((global, key.sport)),
                    Outbound::Hold(ticket) => {
                        return self.keep(ticket, item);
                    }
                    Outbound::Drop(drop) => Err(drop),
                }
            }
            Kind::Ike(header) => {
                let packet = IkePacket {
                    source_port: key.sport,
                    destination_port: key.dport,
                    header,
                };
                let taken = Taken {
                    nat: &snapshot.nat,
                    table: &self.table,
                    vrf: ip.vrf,
                    key,
                };
                let answer = self
                    .esp
                    .ike_out(pass.now, client, peer, &packet, &asked, &taken);
                match answer {
                    IkeOut::Translate { global, port } => Ok((global, port)),
                    IkeOut::Drop(drop) => Err(drop),
                }
            }
            Kind::Udp => {
                let ports = (key.sport, key.dport);
                match self.esp.encapsulated_out(pass.now, client, peer, ports) {
                    Some(to) => Ok(to),
                    None => return self.plain(pass, item, ip, Direction::Out, key),
                }
            }
        };
        // What the engine released goes before what released it.
        self.release_held(pass);
        match to {
            Ok((global, sport)) => {
                self.stats.count(Counter::Hits);
                let to = Key {
                    src: global.to_bits(),
                    sport,
                    ..key
                };
                let change = Rewrite::new(ip.protocol, key, to);
                self.told_translated(pass.now, Direction::Out, ip, item.meta, &change, true);
                if !Self::may_leave_as(snapshot, hop.to.port, &item, ip, Some(&change)) {
                    return self.denied(pass, item, ip, DropReason::AccessListOut);
                }
                if let L4::Esp { spi, .. } = ip.l4
                    && !snapshot.nat.lends_addresses()
                {
                    let half = (client, peer, spi);
                    let neighbour = hop.as_session_has_it();
                    self.esp.approve_out(half, snapshot.generation, neighbour);
                }
                self.forward(pass, item, ip, hop, Some(&change));
            }
            // No overload rule wants it.
            Err(crate::esp::EspDrop::NoGlobal) => {
                self.plain(pass, item, ip, Direction::Out, key);
            }
            Err(drop) => {
                self.told_refused(pass.now, ip, item.meta, reason(drop), None);
                self.refused(reason(drop), item.meta);
            }
        }
    }

    fn ipsec_in(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        key: Key,
    ) {
        let nat = &pass.snapshot.nat;
        let (peer, global) = (Ipv4Addr::from_bits(ip.src), Ipv4Addr::from_bits(ip.dst));
        let asked = Asked {
            nat,
            subject: subject(ip.protocol, key),
            exit: None,
            occupancy: self.census.all(),
        };
        let port = (ip.protocol == PROTO_UDP).then_some(key.dport);
        let shared = matches!(nat.globals.get(&global), Some(Global::Overload(_)))
            || asked.static_esp(global).is_some();
        if !shared || nat.static_to_global(global, ip.protocol, port).is_some() {
            return self.plain(pass, item, ip, Direction::In, key);
        }
        let to = match kind(&item, ip, key) {
            Kind::Esp(packet) => {
                let answer = self
                    .esp
                    .inbound_esp(pass.now, peer, global, &packet, &asked);
                match answer {
                    Inbound::Deliver { client } => Ok((client, key.dport)),
                    Inbound::Hold(ticket) => return self.keep(ticket, item),
                    Inbound::Drop(drop) => Err(drop),
                    Inbound::NotOurs => return self.plain(pass, item, ip, Direction::In, key),
                }
            }
            Kind::Ike(header) => {
                let packet = IkePacket {
                    source_port: key.sport,
                    destination_port: key.dport,
                    header,
                };
                match self.esp.ike_in(pass.now, peer, global, &packet) {
                    IkeIn::Deliver { client, port } => Ok((client, port)),
                    IkeIn::Drop(drop) => Err(drop),
                    IkeIn::NotOurs => return self.plain(pass, item, ip, Direction::In, key),
                }
            }
            Kind::Udp => {
                let ports = (key.sport, key.dport);
                match self.esp.encapsulated_in(pass.now, peer, global, ports) {
                    Some(to) => Ok(to),
                    None => return self.plain(pass, item, ip, Direction::In, key),
                }
            }
        };
        self.release_held(pass);
        match to {
            Ok((client, _)) if !may_reach(ip.vrf, client) => {
                self.plain(pass, item, ip, Direction::In, key);
            }
            Ok((client, dport)) => {
                self.stats.count(Counter::Hits);
                let to = Key {
                    dst: client.address.to_bits(),
                    dport,
                    ..key
                };
                let change = Rewrite::new(ip.protocol, key, to);
                self.told_translated(pass.now, Direction::In, ip, item.meta, &change, true);
                if let L4::Esp { spi, .. } = ip.l4
                    && let Some(hop) = next_hop(pass.snapshot, client.vrf, to.dst)
                    && nat.access_group(hop.to.port, Way::Out).is_none()
                {
                    let half = (peer, global, spi);
                    let (generation, neighbour) =
                        (pass.snapshot.generation, hop.as_session_has_it());
                    self.esp.approve_in(ip.vrf, half, generation, neighbour);
                }
                self.enter(pass, item, ip, client.vrf, change);
            }
            Err(drop) => {
                if let (crate::esp::EspDrop::SpiCollision, L4::Esp { spi, .. }) = (drop, ip.l4) {
                    self.told_collision(pass.now, ip, spi);
                }
                self.told_refused(pass.now, ip, item.meta, reason(drop), None);
                self.refused(reason(drop), item.meta);
            }
        }
    }

    /// As any other packet: an entry of the table, or none.
    fn plain(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        direction: Direction,
        key: Key,
    ) {
        let kind = session::Kind::new(direction, ip.vrf, ip.protocol);
        if let Some(at) = self.table.look_up(kind, key) {
            return self.hit(pass, item, ip, direction, at);
        }
        match direction {
            Direction::Out => self.inside(pass, item, ip, key, None),
            Direction::In => self.outside(pass, item, ip, key),
        }
    }

    /// Whether a client has a static or a lent address, which take all its protocols.
    fn has_own_address(
        &self,
        nat: &Nat,
        (client, protocol): (InsideHost, u8),
        key: Key,
        exit: NextHop,
    ) -> bool {
        let port = (protocol == PROTO_UDP).then_some(key.sport);
        let applies = |fixed: &Static| fixed.applies(|| subject(protocol, key), Some(exit));
        let fixed = nat.static_from_inside(client, protocol, port, applies);
        fixed.is_some()
            || nat.lends_addresses()
                && self
                    .table
                    .look_up(
                        session::Kind::from_inside(client.vrf, 0),
                        Session::address_key(Direction::Out, key.src),
                    )
                    .is_some()
    }

    fn keep(&mut self, ticket: crate::esp::HoldTicket, item: Item<P>) {
        if let Err(item) = self.esp.keep(ticket, item) {
            self.refused(DropReason::EspHoldFull, item.meta);
        }
    }

    /// Goes on with held packets whose fate is decided; whether there were any.
    pub(super) fn release_held(&mut self, pass: &mut Pass<'_, impl Output<P>>) -> bool {
        let mut any = false;
        while let Some(release) = self.esp.next_release() {
            any = true;
            let item = release.packet;
            let Ok(Parsed::Ipv4(ip)) = wire::parse(item.packet.data(), false) else {
                // It was read before it was held.
                self.refused(DropReason::EspMalformed, item.meta);
                continue;
            };
            let ip = arrived(pass.snapshot, item.meta, ip);
            let rewrite = |src, dst| super::forward::rewrite_addresses(&ip, src, dst);
            match release.outcome {
                Outcome::Translate { global } => {
                    let change = rewrite(global.to_bits(), ip.dst);
                    match next_hop(pass.snapshot, ip.vrf, ip.dst) {
                        Some(hop) => self.forward(pass, item, &ip, hop, Some(&change)),
                        None => self.no_route(pass, item, &ip),
                    }
                }
                Outcome::Deliver { client } if !may_reach(ip.vrf, client) => {
                    self.refused(DropReason::NoTranslation, item.meta);
                }
                Outcome::Deliver { client } => {
                    let change = rewrite(ip.src, client.address.to_bits());
                    self.enter(pass, item, &ip, client.vrf, change);
                }
                Outcome::Drop(drop) => self.refused(reason(drop), item.meta),
            }
        }
        any
    }

    /// Runs the engine's timers, once a millisecond; whether packets went on.
    pub(super) fn age_ipsec(&mut self, pass: &mut Pass<'_, impl Output<P>>) -> bool {
        let moment = (pass.snapshot.generation, pass.now);
        if self.esp_aged == moment {
            return false;
        }
        if self.esp_aged.0 != moment.0 {
            self.esp.set_timers(timers(&pass.snapshot.nat));
        }
        self.esp_aged = moment;
        let mut released = false;
        if !self.esp.is_empty() {
            self.esp.tick(pass.now, SWEEP);
            released = self.release_held(pass);
            self.count_ipsec(pass.now);
        }
        let figures = &self.stats.esp;
        figures.publish(&self.esp.occupancy(), self.esp.stats());
        released
    }

    /// Drops what the engine holds, because the worker ends.
    pub(super) fn let_go_held(&mut self, mut stopped: impl FnMut(PortId)) {
        let mut cursor = 0;
        let all = self.esp.relation_places() as usize;
        self.esp.clear(&EspFilter::default(), &mut cursor, all);
        while let Some(release) = self.esp.next_release() {
            stopped(release.packet.meta.port);
        }
    }
}

/// Whether the packet of a client with a lent address would come here.
pub(super) fn is_lent(snapshot: &Snapshot, vrf: VrfId, protocol: u8, key: Key) -> bool {
    snapshot.nat.lends_addresses()
        && rule_for(snapshot, vrf, protocol, key)
            .is_some_and(|rule| matches!(rule.target, Target::OneToOne(_)))
}

/// Whether what arrived from outside in a VRF may go to a client: what came in the global table may go
/// to those of any VRF, what came in a VRF to that VRF's only.
pub(super) fn may_reach(vrf: VrfId, client: InsideHost) -> bool {
    vrf == VrfId::GLOBAL || vrf == client.vrf
}

/// Whether an address is one of the appliance's in a VRF, or of NAT's.
fn is_ours(snapshot: &Snapshot, vrf: VrfId, address: Ipv4Addr) -> bool {
    snapshot.local(vrf, address).is_some() || snapshot.nat.globals.contains_key(&address)
}

/// Whether nothing keeps a packet from leaving at once.
fn may_leave(snapshot: &Snapshot, ip: &Ipv4, hop: Hop) -> bool {
    let fits = |mtu: u16| ip.total_len <= mtu || !ip.dont_fragment;
    ip.ttl > 1
        && matches!(hop.neighbour, Some(Neighbour::Reachable(_)))
        && snapshot
            .interface(hop.to.port)
            .is_some_and(|egress| egress.up && fits(egress.mtu))
}

/// What a packet or later fragment is.
fn kind<P: Packet>(item: &Item<P>, ip: &Ipv4, key: Key) -> Kind {
    let mark = item.meta.mark;
    let octets = u32::from(ip.total_len);
    match ip.l4 {
        L4::Esp { spi, seq } => Kind::Esp(EspPacket {
            spi,
            sequence: seq,
            octets,
        }),
        L4::LaterFragment if ip.protocol == PROTO_ESP => Kind::Esp(EspPacket {
            spi: (mark >> 32) as u32,
            sequence: mark as u32,
            octets,
        }),
        L4::LaterFragment if mark != 0 => Kind::Ike(later_fragment_of(mark)),
        L4::Udp { .. } => match ike_payload(item.packet.data(), ip, (key.sport, key.dport)) {
            Some(IkePayload::Ike(header)) => Kind::Ike(header),
            Some(IkePayload::Encapsulated | IkePayload::Keepalive) | None => Kind::Udp,
        },
        _ => Kind::Udp,
    }
}

/// A header that finds the SA of a cookie and says nothing about it.
fn later_fragment_of(initiator: u64) -> IkeHeader {
    IkeHeader {
        initiator,
        responder: 0,
        version: 2,
        exchange: ike::exchange::SA_INIT,
        flags: ike::FLAG_RESPONSE,
        message: 0,
        length: ike::HEADER_OCTETS as u32,
    }
}
