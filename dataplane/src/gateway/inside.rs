//! Packets from inside that found no entry.

use std::net::Ipv4Addr;

use super::borrow::Borrowing;
use super::create::{Wanted, sender, subject};
use super::forward::{Hop, next_hop, rewrite_addresses};
use super::outside_source::{Outward, outside_local, outward};
use super::{Gateway, Item, Output, Pass};
use crate::fib::NextHop;
use crate::nat::{Global, OutsideLocal, Static};
use crate::packet::Packet;
use crate::session::{Direction, Key, Kind, Session, port_space};
use crate::snapshot::Snapshot;
use crate::stats::{Counter, DropReason};
use crate::wire::{Ipv4, L4, PROTO_AH, Rewrite, icmp_type, tcp_flags};

impl<P: Packet> Gateway<P> {
    /// Statics first, then address entries, then the rules; what none of them wants is routed. The
    /// next hop is known of packets to hosts [`beyond`](super::exits::Exits::beyond).
    pub(super) fn inside(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        key: Key,
        beyond: Option<Hop>,
    ) {
        let (hop, host, outside) = if beyond.is_some() {
            (beyond, ip.dst, None)
        } else {
            let hop_to = |to| next_hop(pass.snapshot, ip.vrf, to);
            let (hop, host) = match self.destination(pass.snapshot, ip, key) {
                Destination::Ours => return self.punt(pass, Counter::PuntedLocal, item),
                Destination::Hairpin => (None, ip.dst),
                Destination::Elsewhere => match outward(pass.snapshot, ip.vrf, ip.dst, hop_to) {
                    Outward::Nowhere => return self.no_route(pass, item, ip),
                    Outward::Inside => return self.route(pass, item, ip),
                    Outward::Nobody => {
                        return self.refused(DropReason::OutsideHostUnknown, item.meta);
                    }
                    Outward::To(hop, host) => (Some(hop), host),
                },
            };
            (hop, host, outside_local(pass.snapshot, ip.vrf, ip.dst))
        };
        let note_use = |local: &OutsideLocal| local.used(pass.now.tick());
        if let Some(fixed) = static_from_inside(pass.snapshot, ip, key, hop.map(|hop| hop.to)) {
            self.stats.count(Counter::Hits);
            fixed.used(pass.now.tick());
            outside.into_iter().for_each(note_use);
            let change = rewrite_from_inside(fixed, ip, key, host);
            self.told_translated(pass.now, Direction::Out, ip, item.meta, &change, true);
            return self.leave_if_permitted(pass, item, ip, change, hop);
        }
        if let Some(at) = self.address_entry(Kind::from_inside(ip.vrf, 0), ip.src) {
            self.stats.count(Counter::Hits);
            self.table.session_mut(at).used = pass.now.tick();
            let global = self.table.session(at).inside_global().address.to_bits();
            outside.into_iter().for_each(note_use);
            let change = rewrite_addresses(ip, global, host);
            self.told_translated(pass.now, Direction::Out, ip, item.meta, &change, true);
            return self.leave_if_permitted(pass, item, ip, change, hop);
        }
        // What comes back from asking other workers for a port was counted before.
        let is_counted = item.meta.borrowing == Borrowing::NotTried;
        self.stats.add(Counter::Misses, u64::from(is_counted));
        let wanted = Wanted {
            ip,
            key,
            host,
            hop,
            is_counted,
        };
        match self.create(pass.now, pass.snapshot, &wanted) {
            Ok(Some(change)) => {
                self.told_translated(pass.now, Direction::Out, ip, item.meta, &change, false);
                self.leave(pass, item, ip, change, hop);
            }
            // Answers to an untranslated host would not come back through here.
            Ok(None) if hop.is_none() => self.refused(DropReason::NoTranslation, item.meta),
            // Untranslated, it would look like somebody whom we translate.
            Ok(None)
                if pass
                    .snapshot
                    .nat
                    .globals
                    .contains_key(&Ipv4Addr::from_bits(ip.src)) =>
            {
                self.refused(DropReason::IpSource, item.meta);
            }
            Ok(None) if outside.is_some() => {
                outside.into_iter().for_each(note_use);
                let change = rewrite_addresses(ip, ip.src, host);
                self.told_translated(pass.now, Direction::Out, ip, item.meta, &change, true);
                self.leave_if_permitted(pass, item, ip, change, hop);
            }
            Ok(None) => self.route(pass, item, ip),
            Err((DropReason::AccessListOut, _)) => {
                self.denied(pass, item, ip, DropReason::AccessListOut);
            }
            Err((reason, rule)) => {
                let Some(item) = self.borrow(pass, item, ip, key.sport, (reason, rule)) else {
                    return;
                };
                self.told_refused(pass.now, ip, item.meta, reason, Some(rule));
                self.refused(reason, item.meta);
            }
        }
    }

    /// The entry of a host with an address of its own.
    pub(super) fn address_entry(&self, kind: Kind, address: u32) -> Option<u32> {
        if self.address_entries == 0 {
            return None;
        }
        let key = Session::address_key(kind.direction, address);
        self.table.look_up(kind, key)
    }

    /// [`Gateway::leave`] for a packet without an entry, which an outbound list has yet to judge.
    fn leave_if_permitted(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        change: Rewrite,
        hop: Option<Hop>,
    ) {
        if let Some(hop) = hop
            && !Self::may_leave_as(pass.snapshot, hop.to.port, &item, ip, Some(&change))
        {
            return self.denied(pass, item, ip, DropReason::AccessListOut);
        }
        self.leave(pass, item, ip, change, hop);
    }

    /// Sends a translated packet on its way outside, or in again where there is no next hop.
    fn leave(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        change: Rewrite,
        hop: Option<Hop>,
    ) {
        match hop {
            Some(hop) => self.forward(pass, item, ip, hop, Some(&change)),
            None => self.hairpin(pass, item, ip, change),
        }
    }

    /// Whether a packet from inside goes to an address of ours, and to whom there.
    pub(super) fn destination(&self, snapshot: &Snapshot, ip: &Ipv4, key: Key) -> Destination {
        let address = Ipv4Addr::from_bits(ip.dst);
        let local = snapshot.local(ip.vrf, address).is_some();
        let port = port_space(ip.protocol).map(|_| key.dport);
        if snapshot
            .nat
            .static_to_global(address, ip.protocol, port)
            .is_some()
        {
            return Destination::Hairpin;
        }
        match snapshot.nat.global(address) {
            // An interface's address belongs to the kernel too: only ports in use are NAT's.
            Some(Global::Overload(global)) if local => {
                let in_use =
                    port_space(ip.protocol).is_some_and(|space| global.in_use(space, key.dport));
                if in_use && !is_request(ip) {
                    Destination::Hairpin
                } else {
                    Destination::Ours
                }
            }
            Some(Global::Static) | None if local => Destination::Ours,
            Some(_) => Destination::Hairpin,
            None => Destination::Elsewhere,
        }
    }
}

pub(super) enum Destination {
    Ours,
    Hairpin,
    Elsewhere,
}

/// The static that translates a packet from inside, if one does.
pub(super) fn static_from_inside<'a>(
    snapshot: &'a Snapshot,
    ip: &Ipv4,
    key: Key,
    exit: Option<NextHop>,
) -> Option<&'a Static> {
    let port = port_space(ip.protocol).map(|_| key.sport);
    let applies = |fixed: &Static| fixed.applies(|| subject(ip, key), exit);
    let nat = &snapshot.nat;
    let fixed = nat.static_from_inside(sender(ip), ip.protocol, port, applies);
    fixed.map(AsRef::as_ref)
}

/// What a static makes of a packet from its inside host to `host`, as the outside knows that.
pub(super) fn rewrite_from_inside(fixed: &Static, ip: &Ipv4, key: Key, host: u32) -> Rewrite {
    let sport = fixed.port.map_or(key.sport, |port| port.global);
    Rewrite::new(
        ip.protocol,
        key,
        Key {
            src: fixed.global.to_bits(),
            dst: host,
            sport,
            ..key
        },
    )
}

/// Whether a TCP packet without entry may make one: not a RST, which only ends things.
pub(super) fn may_begin(ip: &Ipv4) -> bool {
    !matches!(ip.l4, L4::Tcp { flags, .. } if flags & tcp_flags::RST != 0)
}

/// Whether it is an ICMP query, not the answer to one.
pub(super) fn is_request(ip: &Ipv4) -> bool {
    matches!(ip.l4, L4::IcmpQuery { icmp_type, .. } if is_request_type(icmp_type))
}

/// Whether messages of an ICMP type are queries that wait for an answer.
pub(super) fn is_request_type(icmp_type: u8) -> bool {
    use icmp_type::{ECHO, INFORMATION, MASK, TIMESTAMP};
    matches!(icmp_type, ECHO | TIMESTAMP | INFORMATION | MASK)
}

/// Why a packet that some rule permits can't have an entry under overload, if it can't.
pub(super) fn untranslatable(ip: &Ipv4) -> Option<DropReason> {
    match ip.l4 {
        _ if is_request(ip) => None,
        L4::Tcp { .. } | L4::Udp { .. } => None,
        L4::LaterFragment if port_space(ip.protocol).is_some() => None,
        L4::IcmpQuery { .. } | L4::IcmpOther { .. } | L4::IcmpError { .. } => {
            Some(DropReason::IcmpNotTranslatable)
        }
        _ if ip.protocol == PROTO_AH => Some(DropReason::AhNotTranslatable),
        _ => Some(DropReason::ProtocolNotTranslatable),
    }
}
