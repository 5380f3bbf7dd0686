//! ICMP errors: those that pass are translated with the packet they quote (RFC 5508 section 4),
//! those of our own go back to the sender (RFC 1812 section 4.3).

use std::net::Ipv4Addr;

use super::forward::{Hop, leaves_outside, next_hop};
use super::outside::leads_inside;
use super::outside_source::{Outward, entry_way, outside_local, outward};
use super::{Gateway, Item, Output, Pass};
use crate::nat::{OutsideLocal, Static};
use crate::packet::Packet;
use crate::session::{Direction, Key, Kind, Session, port_space};
use crate::snapshot::{InsideHost, Snapshot, VrfId};
use crate::stats::{Counter, DropReason};
use crate::wire::icmp_build::{self, ErrorKind};
use crate::wire::icmp_error::{self, Quoted, QuotedL4};
use crate::wire::{Ethernet, Ipv4, rewrite};

/// What an ICMP error becomes: its own addresses, and those of the packet it quotes.
struct Translated {
    src: u32,
    dst: u32,
    inner: Key,
    /// The VRF of the inside host.
    vrf: VrfId,
}

impl<P: Packet> Gateway<P> {
    /// An ICMP error from either side.
    pub(super) fn translate_error(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        direction: Direction,
    ) {
        let quoted = match icmp_error::read(item.packet.data(), ip) {
            Ok(quoted) => quoted,
            Err(reason) => return self.refused(reason, item.meta),
        };
        let host = self.quoted_host(pass, item, &quoted, (direction, reverse_key(&quoted)));
        let Some((item, host)) = host else {
            return;
        };
        let Some(translated) = self.translation(pass.snapshot, ip, &quoted, direction, host) else {
            return self.error_without_entry(pass, item, ip, direction);
        };
        let is_nobodys = |local: &OutsideLocal| local.host().is_none();
        let local = outside_local(pass.snapshot, ip.vrf, ip.dst);
        if direction == Direction::Out && translated.dst == ip.dst && local.is_some_and(is_nobodys)
        {
            return self.refused(DropReason::IcmpErrorUnmatched, item.meta);
        }
        let hairpin = direction == Direction::Out
            && pass
                .snapshot
                .nat
                .globals
                .contains_key(&Ipv4Addr::from_bits(translated.dst));
        if hairpin {
            return self.hairpin_error(pass, item, ip, &quoted, &translated);
        }
        let way = match direction {
            Direction::Out => {
                let hop_to = |to| next_hop(pass.snapshot, ip.vrf, to);
                entry_way(pass.snapshot, ip.vrf, ip.dst, translated.dst, hop_to)
            }
            Direction::In => match next_hop(pass.snapshot, translated.vrf, translated.dst) {
                Some(hop) => Outward::To(hop, translated.dst),
                None => Outward::Nowhere,
            },
        };
        let hop = match way {
            Outward::To(hop, _) => hop,
            Outward::Inside => return self.route(pass, item, ip),
            Outward::Nowhere | Outward::Nobody => return self.no_route(pass, item, ip),
        };
        self.forward_error(pass, item, ip, &quoted, &translated, hop);
    }

    fn forward_error(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        mut item: Item<P>,
        ip: &Ipv4,
        quoted: &Quoted,
        translated: &Translated,
        hop: Hop,
    ) {
        if hop.neighbour.is_none() {
            return self.wait(pass, item, hop.to);
        }
        let Translated {
            src, dst, inner, ..
        } = *translated;
        icmp_error::rewrite(item.packet.data_mut(), ip, quoted, src, dst, inner);
        self.stats.count(Counter::IcmpErrorsTranslated);
        self.forward(pass, item, &Ipv4 { src, dst, ..*ip }, hop, None);
    }

    fn hairpin_error(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        mut item: Item<P>,
        ip: &Ipv4,
        quoted: &Quoted,
        translated: &Translated,
    ) {
        if item.meta.hairpin {
            return self.refused(DropReason::IcmpErrorUnmatched, item.meta);
        }
        let Translated {
            src, dst, inner, ..
        } = *translated;
        icmp_error::rewrite(item.packet.data_mut(), ip, quoted, src, dst, inner);
        self.stats.count(Counter::Hairpinned);
        item.meta.hairpin = true;
        self.process_one(pass, item);
    }

    /// What the entry or static of the quoted packet makes of an error that goes `direction`. `host`
    /// is the packet's outside host as the other side knows it, where no entry says that.
    fn translation(
        &self,
        snapshot: &Snapshot,
        ip: &Ipv4,
        quoted: &Quoted,
        direction: Direction,
        host: u32,
    ) -> Option<Translated> {
        if ip.dst != quoted.src {
            return None; // an error goes to the sender of what it quotes
        }
        let key = reverse_key(quoted);
        let kind = Kind::new(direction, ip.vrf, quoted.protocol);
        let entry = self.table.look_up(kind, key);
        if let Some(at) = entry.filter(|at| !self.table.session(*at).is_mapping()) {
            let session = self.table.session(at);
            // What the quoted packet looked like on the other side.
            let inner = session.keys[direction.reverse() as usize];
            let vrf = session.vrf;
            return Some(translated(snapshot, ip, direction, quoted, (inner, vrf)));
        }
        let spi = match quoted.l4 {
            QuotedL4::Esp { spi } => Some(spi),
            _ => None,
        };
        if let Some(inner) = self.quoted_ipsec(direction, quoted.protocol, spi, key) {
            let inner = (inner, VrfId::GLOBAL);
            return Some(translated(snapshot, ip, direction, quoted, inner));
        }
        let (sport, dport) = quoted_ports(quoted);
        let went = Key {
            src: quoted.src,
            dst: quoted.dst,
            sport,
            dport,
        };
        let (known, went) = match direction {
            Direction::Out => (quoted.src, Key { src: host, ..went }),
            Direction::In => (quoted.dst, Key { dst: host, ..went }),
        };
        let inner = self.quoted_address(snapshot, quoted, direction, ip.vrf, went);
        // Of the outside host alone, where the inside host has its own address outside.
        let is_plain = direction == Direction::Out || leads_inside(snapshot, ip.vrf, quoted.src);
        let by_host = (host != known && is_plain && !is_ours(snapshot, ip.vrf, quoted))
            .then_some((went, ip.vrf));
        let inner = inner.or(by_host)?;
        Some(translated(snapshot, ip, direction, quoted, inner))
    }

    /// What the static or address entry of its inside host makes of a quoted packet.
    fn quoted_address(
        &self,
        snapshot: &Snapshot,
        quoted: &Quoted,
        direction: Direction,
        vrf: VrfId,
        went: Key,
    ) -> Option<(Key, VrfId)> {
        let nat = &snapshot.nat;
        let port = port_space(quoted.protocol).filter(|_| quoted.l4 != QuotedL4::LaterFragment);
        Some(match direction {
            Direction::In => {
                let global = Ipv4Addr::from_bits(quoted.src);
                match nat.static_to_global(global, quoted.protocol, port.map(|_| went.sport)) {
                    Some(fixed) if vrf != VrfId::GLOBAL && vrf != fixed.vrf => return None,
                    Some(fixed) => {
                        let inner = Key {
                            src: fixed.inside.to_bits(),
                            sport: fixed.port.map_or(went.sport, |port| port.inside),
                            ..went
                        };
                        (inner, fixed.vrf)
                    }
                    None => {
                        let key = Session::address_key(direction, quoted.src);
                        let at = self.table.look_up(Kind::new(direction, vrf, 0), key)?;
                        let host = self.table.session(at).inside_host();
                        let src = host.address.to_bits();
                        (Key { src, ..went }, host.vrf)
                    }
                }
            }
            Direction::Out => {
                let address = Ipv4Addr::from_bits(quoted.dst);
                let inside = InsideHost { vrf, address };
                // The quoted packet came in: its answer would leave by the static that it came by.
                let hop_to = |to| next_hop(snapshot, vrf, to);
                let way = outward(snapshot, vrf, quoted.src, hop_to);
                let exit = way.hop().map(|hop| hop.to);
                let key = reverse_key(quoted);
                let asked = super::requests::packet_like(vrf, quoted.protocol, key);
                let applies =
                    |fixed: &Static| fixed.applies(|| super::create::subject(&asked, key), exit);
                let (protocol, port) = (quoted.protocol, port.map(|_| went.dport));
                let inner = match nat.static_from_inside(inside, protocol, port, applies) {
                    Some(fixed) => Key {
                        dst: fixed.global.to_bits(),
                        dport: fixed.port.map_or(went.dport, |port| port.global),
                        ..went
                    },
                    None => {
                        let key = Session::address_key(direction, quoted.dst);
                        let at = self.table.look_up(Kind::from_inside(vrf, 0), key)?;
                        Key {
                            dst: self.table.session(at).inside_global().address.to_bits(),
                            ..went
                        }
                    }
                };
                (inner, vrf)
            }
        })
    }

    fn error_without_entry(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        direction: Direction,
    ) {
        let address = Ipv4Addr::from_bits(ip.dst);
        let (port, key) = (item.meta.port, super::key_of(ip, item.meta));
        // Errors about known flows come with these; others are packets like any.
        if !item.meta.hairpin && !super::access::may_come(pass.snapshot, port, ip, key, true) {
            return self.denied(pass, item, ip, DropReason::AccessListIn);
        }
        if pass.snapshot.local(ip.vrf, address).is_some() {
            self.punt(pass, Counter::PuntedLocal, item);
        } else if pass.snapshot.nat.globals.contains_key(&address)
            || direction == Direction::Out && outside_local(pass.snapshot, ip.vrf, ip.dst).is_some()
            || direction == Direction::Out && self.would_be_translated(pass.snapshot, ip)
        {
            self.refused(DropReason::IcmpErrorUnmatched, item.meta);
        } else {
            self.route(pass, item, ip);
        }
    }

    /// Whether a rule wants the packet translated on its way out, so that it can't leave as it is.
    fn would_be_translated(&self, snapshot: &Snapshot, ip: &Ipv4) -> bool {
        let subject = super::create::subject(
            ip,
            super::key_of(ip, super::Meta::arrived(crate::snapshot::PortId(0))),
        );
        let exit = next_hop(snapshot, ip.vrf, ip.dst).map(|hop| hop.to);
        exit.is_some_and(|exit| leaves_outside(snapshot, exit.port))
            && snapshot
                .nat
                .rule_for(ip.vrf, &subject, exit, false)
                .is_some()
    }

    /// Drops a packet and tells its sender why, unless the rate limit or RFC 1812 section 4.3.2.7
    /// forbids that. The packet must be as it arrived.
    pub(super) fn refuse(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        reason: DropReason,
        kind: ErrorKind,
    ) {
        self.refused(reason, item.meta);
        let Item { mut packet, meta } = item;
        let Some(interface) = pass.snapshot.interface(meta.port) else {
            return;
        };
        let Some(source) = interface.address.map(|a| a.addr().to_bits()) else {
            return;
        };
        let Some(sender) = Ethernet::new(packet.data()).map(Ethernet::src) else {
            return;
        };
        let to_all = pass
            .snapshot
            .is_directed_broadcast(ip.vrf, Ipv4Addr::from_bits(ip.src));
        if meta.hairpin || to_all || !icmp_build::may_answer(packet.data(), ip) {
            return;
        }
        if !self.icmp_limit.pass(pass.now) {
            self.stats.count(Counter::IcmpRateLimited);
            return;
        }
        let id = self.random() as u16;
        if let Err(reason) = icmp_build::build(&mut packet, ip, kind, source, id) {
            // The error, not the packet that it is about, which is counted already.
            self.stats.dropped(reason);
            return;
        }
        rewrite::set_macs(packet.data_mut(), sender, interface.mac);
        self.stats.count(match kind {
            ErrorKind::TimeExceeded => Counter::IcmpTimeExceededSent,
            ErrorKind::Unreachable(_) => Counter::IcmpUnreachableSent,
            ErrorKind::FragmentationNeeded { .. } => Counter::IcmpFragmentationNeededSent,
        });
        pass.out.transmit(meta.port, packet);
    }
}

/// The error's own addresses: its destination is the quoted packet's sender. Its source changes if
/// it is the quoted packet's destination, if it is a router outside that has a static, and from
/// inside always: no inside address may leave (RFC 5508 REQ-5).
fn translated(
    snapshot: &Snapshot,
    ip: &Ipv4,
    direction: Direction,
    quoted: &Quoted,
    (inner, vrf): (Key, VrfId),
) -> Translated {
    let from_endpoint = ip.src == quoted.dst;
    let hides = direction == Direction::Out && inner.dst != quoted.dst;
    let known = |router| match direction {
        Direction::Out => None,
        Direction::In if vrf != VrfId::GLOBAL => None,
        Direction::In => snapshot.nat.outside.static_of(router),
    };
    let src = if from_endpoint || hides {
        inner.dst
    } else {
        known(ip.src).map_or(ip.src, |router| router.local.to_bits())
    };
    Translated {
        src,
        dst: inner.src,
        inner,
        vrf,
    }
}

/// Whether a quoted packet was the appliance's own, or of an entry that is no more.
fn is_ours(snapshot: &Snapshot, vrf: VrfId, quoted: &Quoted) -> bool {
    let source = Ipv4Addr::from_bits(quoted.src);
    snapshot.local(vrf, source).is_some() || snapshot.nat.global(source).is_some()
}

/// The key of an answer to a quoted packet: what the error is to the entry of that.
pub(super) fn reverse_key(quoted: &Quoted) -> Key {
    let (sport, dport) = quoted_ports(quoted);
    Key {
        src: quoted.dst,
        dst: quoted.src,
        sport: dport,
        dport: sport,
    }
}

/// The ports of a quoted packet as a key has them.
pub(super) fn quoted_ports(quoted: &Quoted) -> (u16, u16) {
    match quoted.l4 {
        QuotedL4::Tcp { sport, dport } | QuotedL4::Udp { sport, dport } => (sport, dport),
        QuotedL4::IcmpQuery { id, .. } => (id, id),
        QuotedL4::Esp { .. } | QuotedL4::Other | QuotedL4::LaterFragment => (0, 0),
    }
}
