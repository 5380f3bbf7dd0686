//! Packets from outside, or from a hairpin, that no entry fits, to the port of a mapping: its
//! filtering decides (RFC 4787 REQ-8 and REQ-9, RFC 5382 REQ-3).

use std::net::Ipv4Addr;

use super::access::may_go;
use super::forward::{Hop, next_hop};
use super::ipsec::is_ipsec;
use super::requests::rule_that_keeps;
use super::{Gateway, Item, Output, Pass};
use crate::packet::Packet;
use crate::session::{Direction, HOP_UNKNOWN, Key, Kind, Session, flag, reverse};
use crate::snapshot::{Snapshot, VrfId};
use crate::stats::{Counter, DropReason};
use crate::wire::{Delta, Ipv4, L4, PROTO_TCP, PROTO_UDP, tcp_flags};

/// An entry that a packet from outside may make, and where it goes.
pub(super) struct Admitted {
    pub(super) session: Session,
    pub(super) hop: Hop,
}

impl<P: Packet> Gateway<P> {
    /// The mapping that a packet from outside without entry goes to. ICMP never gets in unasked
    /// (RFC 5508 section 3.1); nor does what an outside host's IKE ports send.
    pub(super) fn mapping_asked(&self, ip: &Ipv4, key: Key) -> Option<u32> {
        let may_ask = matches!(ip.protocol, PROTO_TCP | PROTO_UDP)
            && !is_ipsec(Direction::In, ip.protocol, key);
        may_ask
            .then(|| self.mapping_at(ip.protocol, key.dst, key.dport))
            .flatten()
    }

    /// Lets the packet in, with an entry of its own, or drops it.
    pub(super) fn unsolicited(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        (key, source): (Key, u32),
        mapping: u32,
    ) {
        self.stats.count(Counter::Misses);
        let is_hairpin = item.meta.hairpin;
        let made = self
            .admission(
                pass.snapshot,
                ip,
                (key, source),
                mapping,
                (is_hairpin, true),
            )
            .and_then(|admitted| self.admit(pass, mapping, admitted));
        match made {
            Ok(Admitted { session, hop }) => {
                let change = session.rewrite(Direction::In);
                self.told_translated(pass.now, Direction::In, ip, item.meta, &change, false);
                self.forward(pass, item, ip, hop, Some(&change));
            }
            Err(DropReason::NoRoute) => self.no_route(pass, item, ip),
            Err(DropReason::AccessListOut) => {
                self.denied(pass, item, ip, DropReason::AccessListOut);
            }
            Err(reason) => {
                let rule = self.table.session(mapping).rule;
                self.told_refused(pass.now, ip, item.meta, reason, Some(rule));
                self.refused(reason, item.meta);
            }
        }
    }

    /// What the packet may make, or why it may not. Changes nothing but, if `counts`, hit counts
    /// of access lists.
    pub(super) fn admission(
        &self,
        snapshot: &Snapshot,
        ip: &Ipv4,
        (key, source): (Key, u32),
        at: u32,
        (is_hairpin, counts): (bool, bool),
    ) -> Result<Admitted, DropReason> {
        let nat = &snapshot.nat;
        let vrf = self.table.session(at).vrf;
        if ip.vrf != VrfId::GLOBAL && ip.vrf != vrf {
            return Err(DropReason::NoTranslation);
        }
        if !is_hairpin && nat.global(Ipv4Addr::from_bits(ip.src)).is_some() {
            return Err(DropReason::IpSource); // only what was translated here comes from there
        }
        if !may_ask(ip) {
            return Err(DropReason::NoTranslation);
        }
        if !self.lets_in(at, key.src) {
            return Err(DropReason::Filtered);
        }
        let session = under(self.table.session(at), (key, source), is_hairpin);
        let outbound = session.keys[Direction::Out as usize];
        // The inside host may have this flow already, through another mapping. And the entry must
        // be one that its rule makes.
        let kind = Kind::from_inside(session.vrf, ip.protocol);
        let known = self.table.look_up(kind, outbound);
        let rule = rule_that_keeps(snapshot, self.options.me, &session);
        let hop = next_hop(snapshot, session.vrf, outbound.src).ok_or(DropReason::NoRoute)?;
        let inside = session.rewrite(Direction::In).to();
        if !may_go(snapshot, hop.to.port, ip, inside, counts) {
            return Err(DropReason::AccessListOut);
        }
        if known.is_some() || rule.is_none_or(|rule| rule.id != session.rule) {
            return Err(DropReason::Filtered);
        }
        if !self.has_room_for(nat, 1) || !self.host_counts.allow(session.inside_host()) {
            return Err(DropReason::MaxEntries);
        }
        if !self.has_room_for_strangers() {
            return Err(DropReason::SessionTableFull);
        }
        let mut session = Session {
            hop: [HOP_UNKNOWN, hop.as_session_has_it()],
            generation: snapshot.generation,
            ..session
        };
        if let L4::Tcp { flags, .. } = ip.l4 {
            session.follow_tcp(Direction::In, flags);
        }
        Ok(Admitted { session, hop })
    }

    /// Whether the table has so much room that strangers may use it: its last quarter is for hosts
    /// inside, whatever comes from outside.
    fn has_room_for_strangers(&self) -> bool {
        let capacity = self.table.capacity();
        self.table.len() < capacity - capacity / 4
    }

    fn admit(
        &mut self,
        pass: &Pass<'_, impl Output<P>>,
        mapping: u32,
        mut admitted: Admitted,
    ) -> Result<Admitted, DropReason> {
        let session = &mut admitted.session;
        let tick = pass.now.tick();
        (session.used, session.created) = (tick, tick);
        let host = session.inside_host();
        if !self.host_counts.reserve(host) {
            return Err(DropReason::MaxEntries);
        }
        let nat = &pass.snapshot.nat;
        let (local, peer) = (session.outside_local(), session.outside_global());
        let (local, peer) = (local.address.to_bits(), peer.address.to_bits());
        if !nat.outside.join(local, peer) {
            self.host_counts.not_made(host);
            return Err(DropReason::OutsideHostUnknown);
        }
        session.flags |= self.join_mapping(mapping, peer);
        let Some(at) = self.table.insert(*session, tick, &nat.timers) else {
            self.host_counts.not_made(host);
            self.give_back(nat, session);
            nat.outside.leave(local);
            return Err(DropReason::SessionTableFull);
        };
        self.host_counts.made(at, host);
        self.census.made(&pass.snapshot.nat, pass.now);
        self.stats.sessions.add(1);
        self.stats.count(Counter::CreatedInbound);
        self.stats.count(match session.protocol {
            PROTO_TCP => Counter::CreatedTcp,
            _ => Counter::CreatedUdp,
        });
        Ok(admitted)
    }
}

/// Whether a packet may begin something from outside: a datagram, or the SYN of a connection.
fn may_ask(ip: &Ipv4) -> bool {
    use tcp_flags::{ACK, FIN, RST, SYN};
    match ip.l4 {
        L4::Tcp { flags, .. } => flags & (SYN | ACK | RST | FIN) == SYN,
        _ => ip.protocol == PROTO_UDP,
    }
}

/// The entry under a mapping for packets with this key from outside, whose sender the client knows as
/// `source`; yet without times and place.
fn under(mapping: &Session, (key, source): (Key, u32), is_hairpin: bool) -> Session {
    let client = mapping.inside_local();
    let inside = Key {
        src: source,
        dst: client.address.to_bits(),
        dport: client.port,
        ..key
    };
    let outbound = reverse(inside);
    let hairpin = if is_hairpin { flag::HAIRPIN } else { 0 };
    Session {
        keys: [outbound, key],
        tcp: 0,
        flags: flag::MAPPED | flag::FROM_OUTSIDE | hairpin,
        addresses: Delta::of_u32(outbound.src, key.dst) + Delta::of_u32(outbound.dst, key.src),
        ports: Delta::of_u16(outbound.sport, key.dport),
        ..*mapping
    }
}
