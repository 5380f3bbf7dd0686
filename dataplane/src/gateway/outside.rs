//! Packets from outside that found no entry. They make none for their flow but through a mapping, or for
//! connections that inside hosts share.

use std::net::Ipv4Addr;

use super::create::subject;
use super::forward::{next_hop, rewrite_addresses};
use super::outside_source::outward;
use super::{Gateway, Item, Output, Pass};
use crate::nat::{Global, Static};
use crate::packet::Packet;
use crate::session::{Direction, Key, Kind, port_space, reverse};
use crate::snapshot::{Side, Snapshot, VrfId};
use crate::stats::{Counter, DropReason};
use crate::wire::{Ipv4, PROTO_AH, Rewrite};

impl<P: Packet> Gateway<P> {
    /// Statics, then address entries, then mappings; what is for us goes to the kernel, what is for nobody here
    /// is routed as it is.
    pub(super) fn outside(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        key: Key,
    ) {
        let address = Ipv4Addr::from_bits(ip.dst);
        if let Some(fixed) = static_to_global(pass.snapshot, ip, key) {
            self.stats.count(Counter::Hits);
            fixed.used(pass.now.tick());
            let Some((item, source)) = self.seen_source(pass, item, ip, key, fixed.vrf) else {
                return;
            };
            let change = rewrite_from_outside(fixed, ip, key, source);
            self.told_translated(pass.now, Direction::In, ip, item.meta, &change, true);
            return self.enter(pass, item, ip, fixed.vrf, change);
        }
        let global = pass.snapshot.nat.global(address);
        if let Some(Global::OneToOne(..)) = global
            && let Some(at) = self.address_entry(Kind::new(Direction::In, ip.vrf, 0), ip.dst)
        {
            self.stats.count(Counter::Hits);
            self.table.session_mut(at).used = pass.now.tick();
            let host = self.table.session(at).inside_host();
            let Some((item, source)) = self.seen_source(pass, item, ip, key, host.vrf) else {
                return;
            };
            let change = rewrite_addresses(ip, source, host.address.to_bits());
            self.told_translated(pass.now, Direction::In, ip, item.meta, &change, true);
            return self.enter(pass, item, ip, host.vrf, change);
        }
        if let Some(mapping) = self.mapping_asked(ip, key) {
            // Who is kept out gets no address.
            let vrf = self.table.session(mapping).vrf;
            let seen = if self.lets_in(mapping, key.src) {
                self.seen_source(pass, item, ip, key, vrf)
            } else {
                Some((item, ip.src))
            };
            if let Some((item, source)) = seen {
                self.unsolicited(pass, item, ip, (key, source), mapping);
            }
            return;
        }
        let Some(item) = self.share(pass, item, ip, key) else {
            return;
        };
        if item.meta.hairpin {
            self.refused(DropReason::NoTranslation, item.meta);
        } else if pass.snapshot.local(ip.vrf, address).is_some() {
            self.punt(pass, Counter::PuntedLocal, item);
        } else if global.is_some() {
            let reason = unwanted(ip);
            self.told_refused(pass.now, ip, item.meta, reason, None);
            self.refused(reason, item.meta);
        } else if leads_inside(pass.snapshot, ip.vrf, ip.dst) {
            let Some((item, source)) = self.seen_source(pass, item, ip, key, ip.vrf) else {
                return;
            };
            if source == ip.src {
                return self.route(pass, item, ip);
            }
            let change = rewrite_addresses(ip, source, ip.dst);
            self.told_translated(pass.now, Direction::In, ip, item.meta, &change, true);
            self.enter(pass, item, ip, ip.vrf, change);
        } else {
            self.route(pass, item, ip);
        }
    }

    /// Sends a packet on its way to an inside host in a VRF.
    pub(super) fn enter(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        vrf: VrfId,
        change: Rewrite,
    ) {
        match next_hop(pass.snapshot, vrf, change.to().dst) {
            Some(hop)
                if !Self::may_leave_as(pass.snapshot, hop.to.port, &item, ip, Some(&change)) =>
            {
                self.denied(pass, item, ip, DropReason::AccessListOut);
            }
            Some(hop) => self.forward(pass, item, ip, hop, Some(&change)),
            None => self.no_route(pass, item, ip),
        }
    }
}

/// Whether packets to an address leave by an inside interface, as far as that matters to anybody.
pub(super) fn leads_inside(snapshot: &Snapshot, vrf: VrfId, address: u32) -> bool {
    let is_inside = |port| {
        snapshot
            .interface(port)
            .is_some_and(|i| i.side == Side::Inside)
    };
    !snapshot.nat.outside.is_empty()
        && vrf == VrfId::GLOBAL
        && next_hop(snapshot, vrf, address).is_some_and(|hop| is_inside(hop.to.port))
}

/// Why a packet to a global address that nothing fits is dropped.
pub(super) fn unwanted(ip: &Ipv4) -> DropReason {
    match ip.protocol {
        PROTO_AH => DropReason::AhNotTranslatable,
        _ => DropReason::NoTranslation,
    }
}

/// The static that translates a packet to a global address, if one does.
pub(super) fn static_to_global<'a>(
    snapshot: &'a Snapshot,
    ip: &Ipv4,
    key: Key,
) -> Option<&'a Static> {
    let port = port_space(ip.protocol).map(|_| key.dport);
    let address = Ipv4Addr::from_bits(ip.dst);
    let fixed = snapshot.nat.static_to_global(address, ip.protocol, port)?;
    if ip.vrf != VrfId::GLOBAL && ip.vrf != fixed.vrf {
        return None;
    }
    // The inside host would send the answer to the address that it knows its peer by.
    let peer = || {
        let known = snapshot.nat.outside.static_of(ip.src);
        let known = known.filter(|_| fixed.vrf == VrfId::GLOBAL);
        known.map_or(ip.src, |known| known.local.to_bits())
    };
    let exit = || {
        let hop_to = |to| next_hop(snapshot, fixed.vrf, to);
        let way = outward(snapshot, fixed.vrf, peer(), hop_to);
        way.hop().map(|hop| hop.to)
    };
    let exit = fixed.only.as_ref().and_then(|_| exit());
    let answer = || {
        let key = reverse(rewrite_from_outside(fixed, ip, key, peer()).to());
        let goes = Ipv4 {
            src: key.src,
            dst: key.dst,
            ..*ip
        };
        subject(&goes, key)
    };
    fixed.applies(answer, exit).then_some(fixed)
}

/// What a static makes of a packet to its global address from `source`, as the inside knows that.
pub(super) fn rewrite_from_outside(fixed: &Static, ip: &Ipv4, key: Key, source: u32) -> Rewrite {
    let dport = fixed.port.map_or(key.dport, |port| port.inside);
    Rewrite::new(
        ip.protocol,
        key,
        Key {
            src: source,
            dst: fixed.inside.to_bits(),
            dport,
            ..key
        },
    )
}
