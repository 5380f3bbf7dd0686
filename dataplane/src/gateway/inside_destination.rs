//! `ip nat inside destination`: TCP connections to a virtual address are shared among inside hosts.
//!
//! A connection's entry is made by its first packet, at the worker of the outside host's address:
//! the virtual address is nobody's. So what the hosts send is looked up there first; who has no entry
//! for it hands it on to the inside host's own worker, for ordinary decisions.

use std::net::Ipv4Addr;

use super::access::{may_come, may_go};
use super::create::{blank, subject};
use super::explain::{ended, translated};
use super::forward::{Hop, next_hop};
use super::outside_source::still_known;
use super::{Gateway, Item, Lookup, Meta, Output, Pass};
use crate::command::{Because, Ending, FlowExplanation};
use crate::nat::{DestinationRule, OutsideLocal};
use crate::packet::Packet;
use crate::session::{Direction, HOP_UNKNOWN, Key, Kind, Session, flag, reverse};
use crate::snapshot::{Snapshot, VrfId, WorkerId};
use crate::stats::{Counter, DropReason};
use crate::wire::{Delta, Ipv4, L4, PROTO_TCP, Rewrite, icmp_error, tcp_flags};

/// Hosts that are tried for a connection: one whose port has one with the same outside socket already
/// is no good for another.
const TRIES: u32 = 64;

/// Whether a packet begins a connection.
pub(super) fn begins(ip: &Ipv4) -> bool {
    use tcp_flags::{ACK, RST, SYN};
    matches!(ip.l4, L4::Tcp { flags, .. } if flags & (SYN | ACK | RST) == SYN)
}

/// The rule under which a packet from outside would be shared.
pub(super) fn rule_for<'a>(
    snapshot: &'a Snapshot,
    ip: &Ipv4,
    key: Key,
    counts: bool,
) -> Option<&'a DestinationRule> {
    let nat = &snapshot.nat;
    if nat.destinations.is_empty() || ip.protocol != PROTO_TCP {
        return None;
    }
    if nat.global(Ipv4Addr::from_bits(key.dst)).is_some() {
        return None;
    }
    nat.destinations.rule_for(&subject(ip, key), counts)
}

/// The key of what a host answers to a connection of `key`, whose source it knows as `source`.
fn answer(key: Key, source: u32, server: Ipv4Addr) -> Key {
    reverse(Key {
        src: source,
        dst: server.to_bits(),
        ..key
    })
}

/// The number of the rule under which the entry of a shared connection may stay.
pub(super) fn keeps(snapshot: &Snapshot, session: &Session) -> Option<u16> {
    let key = session.keys[Direction::In as usize];
    let to = session.rewrite(Direction::In).to();
    let query = crate::command::FlowQuery {
        vrf: VrfId::GLOBAL,
        protocol: session.protocol,
        source: (Ipv4Addr::from_bits(key.src), key.sport),
        destination: (Ipv4Addr::from_bits(key.dst), key.dport),
    };
    let ip = super::explain::packet_of(&query);
    let rule = rule_for(snapshot, &ip, key, false)?;
    let port_to = |address| next_hop(snapshot, VrfId::GLOBAL, address).map(|hop| hop.to.port);
    let from = super::create::exit_of(snapshot, session).map(|hop| hop.to.port);
    let comes = from.is_none_or(|port| may_come(snapshot, port, &ip, key, false));
    let goes = port_to(to.dst).is_none_or(|port| may_go(snapshot, port, &ip, to, false));
    let known = still_known(snapshot, VrfId::GLOBAL, to.src, key.src);
    let stays = rule.servers.contains(session.inside_local().address);
    (stays && known && comes && goes).then_some(rule.id)
}

impl<P: Packet> Gateway<P> {
    /// The worker that has the entry of a packet's connection, if that is or may be a shared one.
    pub(super) fn owner_of_shared(
        &self,
        snapshot: &Snapshot,
        meta: Meta,
        (direction, protocol, key): (Direction, u8, Key),
    ) -> Option<WorkerId> {
        let nat = &snapshot.nat;
        let is_global = snapshot.vrf(meta.port) == VrfId::GLOBAL;
        if nat.destinations.is_empty() || protocol != PROTO_TCP || meta.hairpin || !is_global {
            return None;
        }
        match direction {
            Direction::In => {
                let is_global = nat.global(Ipv4Addr::from_bits(key.dst)).is_some();
                (!is_global).then(|| self.pick(key.src))
            }
            Direction::Out if meta.unshared || !nat.destinations.is_server(key.src) => None,
            Direction::Out => {
                let host = nat.outside.local(key.dst).and_then(OutsideLocal::host);
                Some(self.pick(host.map_or(key.dst, Ipv4Addr::to_bits)))
            }
        }
    }

    /// Whether a packet that found no entry here may be another worker's, which has not been asked.
    #[inline(always)]
    pub(super) fn has_own_worker(&self, snapshot: &Snapshot, meta: Meta) -> bool {
        self.options.workers > 1 && !snapshot.nat.destinations.is_empty() && !meta.unshared
    }

    /// A packet that found no entry here: with its own worker's leave to decide, or handed to that.
    #[inline(never)]
    pub(super) fn leave_to_own_worker(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        mut item: Item<P>,
        ip: &Ipv4,
        lookup: Lookup,
    ) -> Option<Item<P>> {
        let destinations = &pass.snapshot.nat.destinations;
        let (protocol, key) = match lookup {
            Lookup::Flow {
                direction: Direction::Out,
                key,
                ..
            } => (ip.protocol, key),
            Lookup::Quoted(Direction::Out) => {
                let Ok(quoted) = icmp_error::read(item.packet.data(), ip) else {
                    return Some(item); // it is counted where it is read again
                };
                let key = super::icmp::reverse_key(&quoted);
                let kind = Kind::from_inside(ip.vrf, quoted.protocol);
                let entry = self.table.look_up(kind, key);
                if entry.is_some() {
                    return Some(item);
                }
                (quoted.protocol, key)
            }
            _ => return Some(item),
        };
        if protocol != PROTO_TCP || !destinations.is_server(key.src) {
            return Some(item);
        }
        item.meta.unshared = true;
        self.keep_if_mine(pass, item, ip, lookup)
    }

    /// A packet from outside to nobody's address: gives it back unless its connection is shared.
    pub(super) fn share(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        key: Key,
    ) -> Option<Item<P>> {
        if item.meta.hairpin || ip.vrf != VrfId::GLOBAL {
            return Some(item);
        }
        let Some(rule) = rule_for(pass.snapshot, ip, key, true) else {
            return Some(item);
        };
        if !begins(ip)
            && pass
                .snapshot
                .local(ip.vrf, Ipv4Addr::from_bits(ip.dst))
                .is_some()
        {
            return Some(item); // of a connection that the appliance itself has from there
        }
        if !begins(ip) {
            self.refused(DropReason::NoConnection, item.meta);
            return None;
        }
        let (item, source) = self.seen_source(pass, item, ip, key, ip.vrf)?;
        self.stats.count(Counter::Misses);
        match self.create_shared(pass, rule, ip, (key, source)) {
            Ok((at, hop)) => {
                let change = self.table.session(at).rewrite(Direction::In);
                self.told_translated(pass.now, Direction::In, ip, item.meta, &change, false);
                self.forward(pass, item, ip, hop, Some(&change));
            }
            Err(DropReason::NoRoute) => self.no_route(pass, item, ip),
            Err(DropReason::AccessListOut) => {
                self.denied(pass, item, ip, DropReason::AccessListOut);
            }
            Err(reason) => {
                self.told_refused(pass.now, ip, item.meta, reason, Some(rule.id));
                self.refused(reason, item.meta);
            }
        }
        None
    }

    /// The host that would get a connection of `key`, whose source it would know as `source`, after
    /// so many others.
    pub(super) fn server_for(
        &self,
        rule: &DestinationRule,
        key: Key,
        source: u32,
        turn: impl Fn(u32) -> Option<Ipv4Addr>,
    ) -> Option<Ipv4Addr> {
        let tries = rule.servers.count().min(TRIES);
        let is_free = |server: &Ipv4Addr| {
            let answer = answer(key, source, *server);
            let kind = Kind::from_inside(VrfId::GLOBAL, PROTO_TCP);
            let entry = self.table.look_up(kind, answer);
            entry.is_none()
        };
        (0..tries).filter_map(turn).find(is_free)
    }

    fn create_shared(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        rule: &DestinationRule,
        ip: &Ipv4,
        (key, source): (Key, u32),
    ) -> Result<(u32, Hop), DropReason> {
        let (snapshot, now) = (pass.snapshot, pass.now);
        let nat = &snapshot.nat;
        let limit = u64::from(nat.max_entries);
        if limit != 0 && self.census.active() >= limit {
            return Err(DropReason::MaxEntries);
        }
        let turn = |_| rule.servers.take_turn();
        let server = self.server_for(rule, key, source, turn);
        let server = server.ok_or(DropReason::PoolExhausted)?;
        let outbound = answer(key, source, server);
        let hop = next_hop(snapshot, VrfId::GLOBAL, server.to_bits()).ok_or(DropReason::NoRoute)?;
        if !may_go(snapshot, hop.to.port, ip, reverse(outbound), true) {
            return Err(DropReason::AccessListOut);
        }
        if !self.host_counts.reserve(server.into()) {
            return Err(DropReason::MaxEntries);
        }
        let leaves = reverse(key);
        let mut session = Session {
            flags: flag::FROM_OUTSIDE,
            hop: [HOP_UNKNOWN, hop.as_session_has_it()],
            generation: snapshot.generation,
            addresses: Delta::of_u32(outbound.src, leaves.src)
                + Delta::of_u32(outbound.dst, leaves.dst),
            ..blank(now, rule.id, PROTO_TCP, outbound, key)
        };
        if let L4::Tcp { flags, .. } = ip.l4 {
            session.follow_tcp(Direction::In, flags);
        }
        let joins = source != key.src;
        let made = if joins && !nat.outside.join(source, key.src) {
            Err(DropReason::OutsideHostUnknown)
        } else {
            let at = self.table.insert(session, now.tick(), &nat.timers);
            at.ok_or_else(|| {
                if joins {
                    nat.outside.leave(source);
                }
                DropReason::SessionTableFull
            })
        };
        let at = made.inspect_err(|_| self.host_counts.not_made(server.into()))?;
        self.host_counts.made(at, server.into());
        self.stats.count(Counter::CreatedTcp);
        self.census.made(nat, now);
        self.stats.sessions.add(1);
        Ok((at, hop))
    }

    /// What would become of the first packet of a connection that is to be shared.
    pub(super) fn explain_share(
        &self,
        snapshot: &Snapshot,
        ip: &Ipv4,
        rule: &DestinationRule,
        (key, source): (Key, u32),
        mut about: FlowExplanation,
    ) -> FlowExplanation {
        let nat = &snapshot.nat;
        about.because = Because::NewEntry {
            rule: rule.id,
            keeps_port: Some(true),
        };
        let limit = u64::from(nat.max_entries);
        if limit != 0 && self.census.active() >= limit {
            return ended(about, DropReason::MaxEntries);
        }
        let turn = |turns| rule.servers.next_but(turns);
        let Some(server) = self.server_for(rule, key, source, turn) else {
            return ended(about, DropReason::PoolExhausted);
        };
        let to = reverse(answer(key, source, server));
        let change = Rewrite::new(PROTO_TCP, key, to);
        let about = translated(snapshot, ip, about, ip.vrf, change);
        let is_refused = matches!(about.ending, Ending::Dropped(_));
        if !is_refused && !self.host_counts.allow(server.into()) {
            return ended(about, DropReason::MaxEntries);
        }
        about
    }
}
