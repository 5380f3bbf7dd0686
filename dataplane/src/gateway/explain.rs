//! The dry run of `explain`: what would become of a packet now, and why. Changes nothing.
//!
//! It asks the same tables in the same order as [`Gateway::process`]; the scenario tests compare
//! the two packet by packet.

use std::net::Ipv4Addr;

use super::access::{may_come, may_go};
use super::create::{is_lendable, sender, subject};
use super::explain_outside;
use super::forward::{Hop, next_hop, rewrite_addresses};
use super::inside::{
    Destination, may_begin, rewrite_from_inside, static_from_inside, untranslatable,
};
use super::inside_destination::rule_for;
use super::ipsec::{is_ipsec, may_reach};
use super::ipsec_policy::{Asked, subject as ipsec_subject};
use super::mapping::filtering_of;
use super::outside::{leads_inside, rewrite_from_outside, static_to_global};
use super::outside_source::{Outward, entry_way, is_translated, outward};
use super::place::pairing;
use super::requests::view;
use super::{Gateway, Item, unfit};
use crate::command::{
    Because, Ending, EspExplanation, Explained, FlowExplanation, FlowQuery, Reply,
};
use crate::esp::Engine;
use crate::fib::Neighbour;
use crate::nat::{Global, Rule, Target};
use crate::packet::Packet;
use crate::session::{Direction, Key, Kind, Session, flag};
use crate::snapshot::{PortId, Side, Snapshot, VrfId, WorkerId};
use crate::stats::DropReason;
use crate::time::Millis;
use crate::wire::{Ipv4, L4, PROTO_ICMP, PROTO_TCP, PROTO_UDP, Rewrite, icmp_type, tcp_flags};

/// Places of the ESP engine's tables looked at in one poll.
const SLICE: u32 = 64;

impl<P: Packet> Gateway<P> {
    /// What would become of an ESP packet of `peer` with this SPI, a slice of places from `*cursor` on;
    /// whether there is more. Only the peer's worker has an answer.
    pub(super) fn explain_esp(
        &self,
        now: Millis,
        snapshot: &Snapshot,
        (peer, spi): (Ipv4Addr, u32),
        progress: (&mut u32, &mut u64),
        reply: &Reply<Explained>,
    ) -> bool {
        let (cursor, inbound) = progress;
        if self.pick(peer.to_bits()) != self.options.me || reply.is_abandoned() {
            return false;
        }
        let key = Key {
            src: peer.to_bits(),
            dst: 0,
            sport: 0,
            dport: 0,
        };
        let asked = Asked {
            nat: &snapshot.nat,
            subject: ipsec_subject(crate::wire::PROTO_ESP, key),
            exit: None,
            occupancy: self.census.all(),
        };
        let worker = self.options.me;
        let give = |explanation| {
            // There is room: this worker alone fills the queue, and it was asked before.
            let _ = reply.give(Explained::Esp(EspExplanation {
                worker,
                explanation,
            }));
        };
        let places = self.esp.explain_places();
        let end = cursor.saturating_add(SLICE).min(places);
        while *cursor < end && reply.has_room() {
            let explained = self.esp.explain(now, *cursor, peer, (spi, 1), &asked);
            *inbound += u64::from(explained.as_ref().is_some_and(|e| e.is_inbound));
            explained.into_iter().for_each(give);
            *cursor += 1;
        }
        if *cursor < places || !reply.has_room() {
            return true;
        }
        if *inbound == 0 {
            // Nobody talks to this peer. A static for ESP would get its packets all the same.
            let fixed = snapshot.nat.ipsec.static_esp.first();
            give(Engine::<Item<P>>::explain_stranger(
                fixed.map(|fixed| fixed.global),
                &asked,
            ));
        }
        false
    }

    /// What would become of the first packet of a flow, or of its next one where it has an entry;
    /// `None` where another worker decides. `lent` is the address that the sender has from a pool for
    /// outside hosts.
    pub(super) fn explain_flow(
        &self,
        now: Millis,
        snapshot: &Snapshot,
        query: &FlowQuery,
        lent: Option<u32>,
    ) -> Option<FlowExplanation> {
        let arrives = arrives(snapshot, query);
        let ip = Ipv4 {
            vrf: arrives.map_or(query.vrf, |port| snapshot.vrf(port)),
            ..packet_of(query)
        };
        let key = query.key();
        let mut about = FlowExplanation {
            worker: self.options.me,
            arrives,
            because: Because::NotTranslated,
            to: None,
            hop: None,
            ending: Ending::Forwarded,
        };
        let side = about
            .arrives
            .and_then(|port| snapshot.interface(port))
            .map_or(Side::None, |i| i.side);
        let direction = match side {
            Side::Inside => Direction::Out,
            Side::Outside => Direction::In,
            Side::None => {
                about.because = Because::NoNatSide;
                return Some(match self.unfit(snapshot, &ip, &about) {
                    Some(reason) => ended(about, reason),
                    None => go(snapshot, &ip, about),
                });
            }
        };
        let kind = Kind::new(direction, ip.vrf, ip.protocol);
        // What servers send is of a shared connection where the worker has its entry.
        let is_shared = || {
            let at = self.table.look_up(kind, key);
            at.is_some_and(|at| self.table.session(at).is_shared())
        };
        let owner = self.owner_of_flow(snapshot, direction, &ip, key);
        if owner != self.options.me && !is_shared() {
            return None;
        }
        let asks_us = direction == Direction::In && super::inside::is_request(&ip);
        if !asks_us && let Some(at) = self.table.look_up(kind, key) {
            let session = self.table.session(at);
            about.because = Because::Entry(view(session, now, snapshot, self.options.me));
            if direction == Direction::In && session.flags & flag::HAIRPIN != 0 {
                about.ending = Ending::Dropped(DropReason::IpSource);
                return Some(about);
            }
            let change = session.rewrite(direction);
            return Some(translated(snapshot, &ip, about, session.vrf, change));
        }
        if let Some(reason) = self.unfit(snapshot, &ip, &about) {
            return Some(ended(about, reason));
        }
        if is_ipsec(direction, ip.protocol, key)
            && !is_translated(snapshot, direction, ip.protocol, key)
            && let Some(about) = self.explain_ike(snapshot, direction, &ip, key, about)
        {
            return Some(about);
        }
        Some(match direction {
            Direction::Out => self.explain_inside(snapshot, &ip, key, about),
            Direction::In => self.explain_outside(snapshot, &ip, key, lent, about),
        })
    }

    fn unfit(&self, snapshot: &Snapshot, ip: &Ipv4, about: &FlowExplanation) -> Option<DropReason> {
        let port = about.arrives.unwrap_or(PortId(0));
        let meta = super::Meta::arrived(port);
        let denied = || {
            let may_come = may_come(snapshot, port, ip, super::key_of(ip, meta), false);
            (!may_come).then_some(DropReason::AccessListIn)
        };
        unfit(snapshot, meta, ip).or_else(denied)
    }

    fn owner_of_flow(
        &self,
        snapshot: &Snapshot,
        direction: Direction,
        ip: &Ipv4,
        key: Key,
    ) -> WorkerId {
        if self.options.workers == 1 {
            return self.options.me;
        }
        if direction == Direction::In {
            let meta = super::Meta::arrived(PortId(0));
            let shared = self.owner_of_shared(snapshot, meta, (direction, ip.protocol, key));
            if let Some(worker) = shared {
                return worker;
            }
        }
        let is_ipsec = is_ipsec(direction, ip.protocol, key)
            && !is_translated(snapshot, direction, ip.protocol, key);
        let lookup = if is_ipsec {
            super::Lookup::Ipsec(direction, key)
        } else {
            super::Lookup::Flow {
                direction,
                key,
                hash: 0,
            }
        };
        self.owner_by_lookup(snapshot, ip, lookup)
    }

    /// An IKE entry, if there is one.
    fn explain_ike(
        &self,
        snapshot: &Snapshot,
        direction: Direction,
        ip: &Ipv4,
        key: Key,
        mut about: FlowExplanation,
    ) -> Option<FlowExplanation> {
        let (src, dst) = (Ipv4Addr::from_bits(key.src), Ipv4Addr::from_bits(key.dst));
        let (vrf, to) = match direction {
            Direction::Out => {
                let ports = (key.sport, key.dport);
                let (global, sport) = self.esp.ike_global_of(sender(ip), dst, ports)?;
                let to = Key {
                    src: global.to_bits(),
                    sport,
                    ..key
                };
                (ip.vrf, to)
            }
            Direction::In => {
                let ports = (key.sport, key.dport);
                let (client, dport) = self.esp.ike_sender_of(src, dst, ports)?;
                let to = Key {
                    dst: client.address.to_bits(),
                    dport,
                    ..key
                };
                may_reach(ip.vrf, client).then_some((client.vrf, to))?
            }
        };
        about.because = Because::Ike;
        let change = Rewrite::new(ip.protocol, key, to);
        Some(translated(snapshot, ip, about, vrf, change))
    }

    fn explain_inside(
        &self,
        snapshot: &Snapshot,
        ip: &Ipv4,
        key: Key,
        mut about: FlowExplanation,
    ) -> FlowExplanation {
        let hairpin = match self.destination(snapshot, ip, key) {
            Destination::Ours => {
                about.because = Because::Ours;
                about.ending = Ending::Punted;
                return about;
            }
            Destination::Hairpin => true,
            Destination::Elsewhere => false,
        };
        let hop_to = |to| next_hop(snapshot, ip.vrf, to);
        let way = outward(snapshot, ip.vrf, ip.dst, hop_to);
        let host = match way {
            _ if hairpin => ip.dst,
            Outward::Nowhere => return ended(about, DropReason::NoRoute),
            Outward::Inside => {
                about.because = Because::StaysInside;
                return go(snapshot, ip, about);
            }
            Outward::Nobody => return ended(about, DropReason::OutsideHostUnknown),
            Outward::To(_, host) => host,
        };
        let nat = &snapshot.nat;
        let source = Ipv4Addr::from_bits(ip.src);
        let exit = way.hop().map(|hop| hop.to).filter(|_| !hairpin);
        if let Some(fixed) = static_from_inside(snapshot, ip, key, exit) {
            about.because = Because::Static;
            let change = rewrite_from_inside(fixed, ip, key, host);
            return translated(snapshot, ip, about, ip.vrf, change);
        }
        let address_key = Session::address_key(Direction::Out, ip.src);
        if let Some(at) = self
            .table
            .look_up(Kind::from_inside(ip.vrf, 0), address_key)
        {
            let session = self.table.session(at);
            let global = session.inside_global().address.to_bits();
            about.because = Because::AddressEntry;
            let change = rewrite_addresses(ip, global, host);
            return translated(snapshot, ip, about, ip.vrf, change);
        }
        let asked = subject(ip, key);
        match nat.rule_for(ip.vrf, &asked, exit, false) {
            Some(rule) => self.explain_new(snapshot, ip, key, (rule, host), about),
            None if hairpin => {
                about.ending = Ending::Dropped(DropReason::NoTranslation);
                about
            }
            None if nat.globals.contains_key(&source) => {
                about.ending = Ending::Dropped(DropReason::IpSource);
                about
            }
            None if host != ip.dst => {
                about.because = explain_outside::because(snapshot, ip.dst);
                let change = rewrite_addresses(ip, ip.src, host);
                translated(snapshot, ip, about, ip.vrf, change)
            }
            None => go(snapshot, ip, about),
        }
    }

    /// A flow that would get an entry: with its own port, where that is known to be free.
    fn explain_new(
        &self,
        snapshot: &Snapshot,
        ip: &Ipv4,
        key: Key,
        (rule, host): (&Rule, u32),
        mut about: FlowExplanation,
    ) -> FlowExplanation {
        let nat = &snapshot.nat;
        about.because = Because::NewEntry {
            rule: rule.id,
            keeps_port: None,
        };
        let limit = u64::from(nat.max_entries);
        if limit != 0 && self.census.active() >= limit {
            about.ending = Ending::Dropped(DropReason::MaxEntries);
            return about;
        }
        if !self.host_counts.allow(sender(ip)) {
            return ended(about, DropReason::MaxEntries);
        }
        let away = Key { dst: host, ..key };
        let addresses = match &rule.target {
            Target::OneToOne(pool) if rule.lends_to_flows() => {
                return self.explain_leased(snapshot, ip, away, (rule, pool), about);
            }
            Target::OneToOne(pool) => {
                let source = Ipv4Addr::from_bits(ip.src);
                let usable = |address| is_lendable(nat, address);
                let Some(index) = pool.candidate(source, usable) else {
                    return ended(about, DropReason::PoolExhausted);
                };
                let global = pool.address(index).to_bits();
                let change = rewrite_addresses(ip, global, host);
                return translated(snapshot, ip, about, ip.vrf, change);
            }
            Target::Overload(addresses) => addresses,
        };
        if let Some(reason) = untranslatable(ip) {
            about.ending = Ending::Dropped(reason);
            return about;
        }
        if !may_begin(ip) {
            about.ending = Ending::Dropped(DropReason::NoTranslation);
            return about;
        }
        if filtering_of(rule, ip.protocol, key).is_some() {
            return self.explain_mapped(snapshot, ip, away, (rule, addresses), about);
        }
        let first = pairing(key.src, addresses.len());
        let Some(global) = addresses.get(first) else {
            about.ending = Ending::Dropped(DropReason::PortsExhausted);
            return about;
        };
        let me = self.options.me;
        let may_have = match global.owner(key.sport) {
            Some(owner) => owner == me,
            None => global.is_below_share(me, self.options.workers),
        };
        let keeps = may_have
            && self.fits(
                nat,
                ip.protocol,
                Key { dst: host, ..key },
                global,
                key.sport,
            );
        about.because = Because::NewEntry {
            rule: rule.id,
            keeps_port: Some(keeps),
        };
        let sport = if keeps { key.sport } else { 0 };
        let to = Key {
            src: global.address.to_bits(),
            dst: host,
            sport,
            ..key
        };
        let change = Rewrite::new(ip.protocol, key, to);
        translated(snapshot, ip, about, ip.vrf, change)
    }

    fn explain_outside(
        &self,
        snapshot: &Snapshot,
        ip: &Ipv4,
        key: Key,
        lent: Option<u32>,
        mut about: FlowExplanation,
    ) -> FlowExplanation {
        let nat = &snapshot.nat;
        let address = Ipv4Addr::from_bits(ip.dst);
        let seen_in = |vrf| {
            if vrf == VrfId::GLOBAL {
                return self.explain_seen(snapshot, ip, key, lent);
            }
            Ok((ip.src, Because::NotTranslated))
        };
        let seen = || seen_in(ip.vrf);
        if let Some(fixed) = static_to_global(snapshot, ip, key) {
            let (source, _) = match seen_in(fixed.vrf) {
                Ok(seen) => seen,
                Err(reason) => return ended(about, reason),
            };
            about.because = Because::Static;
            let change = rewrite_from_outside(fixed, ip, key, source);
            return translated(snapshot, ip, about, fixed.vrf, change);
        }
        let global = nat.globals.get(&address);
        if let Some(Global::OneToOne(..)) = global {
            let key = Session::address_key(Direction::In, ip.dst);
            if let Some(at) = self.table.look_up(Kind::new(Direction::In, ip.vrf, 0), key) {
                let host = self.table.session(at).inside_host();
                let (source, _) = match seen_in(host.vrf) {
                    Ok(seen) => seen,
                    Err(reason) => return ended(about, reason),
                };
                about.because = Because::AddressEntry;
                let change = rewrite_addresses(ip, source, host.address.to_bits());
                return translated(snapshot, ip, about, host.vrf, change);
            }
        }
        if let Some(mapping) = self.mapping_asked(ip, key) {
            let vrf = self.table.session(mapping).vrf;
            let source = if self.lets_in(mapping, key.src) {
                seen_in(vrf).map(|(source, _)| source)
            } else {
                Ok(ip.src)
            };
            return match source {
                Ok(source) => self.explain_unsolicited(snapshot, ip, (key, source), mapping, about),
                Err(reason) => ended(about, reason),
            };
        }
        if ip.vrf == VrfId::GLOBAL
            && let Some(rule) = rule_for(snapshot, ip, key, false)
        {
            return match seen() {
                Ok((source, _)) => self.explain_share(snapshot, ip, rule, (key, source), about),
                Err(reason) => ended(about, reason),
            };
        }
        if snapshot.local(ip.vrf, address).is_some() {
            about.because = Because::Ours;
            about.ending = Ending::Punted;
            about
        } else if global.is_some() {
            about.ending = Ending::Dropped(DropReason::NoTranslation);
            about
        } else if leads_inside(snapshot, ip.vrf, ip.dst) {
            match seen() {
                Err(reason) => ended(about, reason),
                Ok((source, _)) if source == ip.src => go(snapshot, ip, about),
                Ok((source, because)) => {
                    about.because = because;
                    let change = rewrite_addresses(ip, source, ip.dst);
                    translated(snapshot, ip, about, ip.vrf, change)
                }
            }
        } else {
            go(snapshot, ip, about)
        }
    }
}

/// The interface on which packets of a host arrive: the one on which packets to it leave.
fn arrives(snapshot: &Snapshot, query: &FlowQuery) -> Option<PortId> {
    next_hop(snapshot, query.vrf, query.source.0.to_bits()).map(|hop| hop.to.port)
}

/// A small packet of the flow: SYN, echo request.
pub(super) fn packet_of(query: &FlowQuery) -> Ipv4 {
    let (sport, dport) = (query.source.1, query.destination.1);
    Ipv4 {
        vrf: query.vrf,
        src: query.source.0.to_bits(),
        dst: query.destination.0.to_bits(),
        total_len: 64,
        id: 0,
        fragment: None,
        protocol: query.protocol,
        ttl: 64,
        header_len: 20,
        dont_fragment: false,
        l4: match query.protocol {
            PROTO_TCP => L4::Tcp {
                sport,
                dport,
                flags: tcp_flags::SYN,
            },
            PROTO_UDP => L4::Udp { sport, dport },
            PROTO_ICMP => L4::IcmpQuery {
                icmp_type: icmp_type::ECHO,
                code: 0,
                id: sport,
            },
            _ => L4::Other,
        },
    }
}

pub(super) fn ended(about: FlowExplanation, reason: DropReason) -> FlowExplanation {
    FlowExplanation {
        ending: Ending::Dropped(reason),
        ..about
    }
}

/// It goes on changed like this, routed in a VRF.
pub(super) fn translated(
    snapshot: &Snapshot,
    ip: &Ipv4,
    mut about: FlowExplanation,
    vrf: VrfId,
    change: Rewrite,
) -> FlowExplanation {
    about.to = Some(change.to());
    let goes = Ipv4 {
        src: change.to().src,
        dst: change.to().dst,
        ..*ip
    };
    if snapshot
        .nat
        .globals
        .contains_key(&Ipv4Addr::from_bits(goes.dst))
        || snapshot.local(vrf, Ipv4Addr::from_bits(goes.dst)).is_some()
    {
        // From inside to a global address: it comes in again.
        about.ending = Ending::Hairpinned;
        return about;
    }
    let came = about.arrives.and_then(|port| snapshot.interface(port));
    let hop_to = |to| next_hop(snapshot, vrf, to);
    // Only from inside is a destination that changes somebody whom the inside knows by it.
    let hop = if goes.dst != ip.dst && came.is_some_and(|i| i.side == Side::Inside) {
        entry_way(snapshot, vrf, ip.dst, goes.dst, hop_to).hop()
    } else {
        hop_to(goes.dst)
    };
    go_by(snapshot, &goes, about, hop)
}

/// The way out, as `forward` goes it.
fn go(snapshot: &Snapshot, ip: &Ipv4, mut about: FlowExplanation) -> FlowExplanation {
    let address = Ipv4Addr::from_bits(ip.dst);
    if about.to.is_none() && snapshot.local(ip.vrf, address).is_some() {
        about.because = Because::Ours;
        about.ending = Ending::Punted;
        return about;
    }
    let hop = next_hop(snapshot, ip.vrf, ip.dst);
    go_by(snapshot, ip, about, hop)
}

/// The way out by a next hop.
fn go_by(
    snapshot: &Snapshot,
    ip: &Ipv4,
    mut about: FlowExplanation,
    hop: Option<Hop>,
) -> FlowExplanation {
    let Some(hop) = hop else {
        about.ending = Ending::Dropped(DropReason::NoRoute);
        return about;
    };
    about.hop = Some(hop.to);
    let leaves = about.to.unwrap_or_else(|| {
        let meta = super::Meta::arrived(hop.to.port);
        super::key_of(ip, meta)
    });
    if !matches!(about.because, Because::Entry(_))
        && !may_go(snapshot, hop.to.port, ip, leaves, false)
    {
        return ended(about, DropReason::AccessListOut);
    }
    let up = snapshot.interface(hop.to.port).is_some_and(|i| i.up);
    about.ending = match hop.neighbour {
        _ if !up => Ending::Dropped(DropReason::PortDown),
        Some(Neighbour::Reachable(_)) => Ending::Forwarded,
        Some(Neighbour::Failed) => Ending::Dropped(DropReason::NeighbourFailed),
        None => Ending::WaitsForNeighbour,
    };
    about
}
