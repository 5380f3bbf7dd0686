//! New entries: which rule, which outside address, which port.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Gateway;
use super::access::may_go;
use super::forward::{Hop, next_hop, rewrite_addresses};
use super::inside::{may_begin, untranslatable};
use super::mapping::filtering_of;
use super::outside_source::entry_way;
use super::place::Sought;
use crate::acl::Subject;
use crate::nat::{Global, Lending, Nat, OneToOnePool, Rule, Target};
use crate::packet::Packet;
use crate::session::{Direction, HOP_UNKNOWN, Key, Session, flag, port_space, reverse};
use crate::snapshot::{InsideHost, Snapshot, VrfId, WorkerId};
use crate::stats::{Counter, DropReason};
use crate::time::Millis;
use crate::wire::{Delta, Ipv4, L4, PROTO_ICMP, PROTO_TCP, PROTO_UDP, Rewrite, tcp_flags};

/// The packet for which an entry is wanted.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) ip: &'a Ipv4,
    pub(super) key: Key,
    /// The destination's address as the outside knows it.
    pub(super) host: u32,
    /// Where it goes; `None` where it comes in again.
    pub(super) hop: Option<Hop>,
    /// Whether the access list of the rule that takes it counts it.
    pub(super) is_counted: bool,
}

impl<P: Packet> Gateway<P> {
    /// Makes the entry that the policy wants and returns what it does to the packet; `Ok(None)`
    /// where no rule wants one. A refusal comes with the number of the rule.
    pub(super) fn create(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        wanted: &Wanted,
    ) -> Result<Option<Rewrite>, (DropReason, u16)> {
        let nat = &snapshot.nat;
        let subject = subject(wanted.ip, wanted.key);
        let exit = wanted.hop.map(|hop| hop.to);
        let Some(rule) = nat.rule_for(wanted.ip.vrf, &subject, exit, wanted.is_counted) else {
            return Ok(None);
        };
        let limit = u64::from(nat.max_entries);
        if limit != 0 && self.census.active() >= limit {
            return Err((DropReason::MaxEntries, rule.id));
        }
        let host = sender(wanted.ip);
        if !self.host_counts.reserve(host) {
            return Err((DropReason::MaxEntries, rule.id));
        }
        let change = match &rule.target {
            Target::OneToOne(pool) if !rule.lends_to_flows() => {
                self.create_address(now, snapshot, wanted, rule, pool)
            }
            _ if host.vrf != VrfId::GLOBAL => self.create_extended(now, snapshot, wanted, rule),
            _ if !nat.outside.join(wanted.key.dst, wanted.host) => {
                Err(DropReason::OutsideHostUnknown)
            }
            _ => self
                .create_extended(now, snapshot, wanted, rule)
                .inspect_err(|_| nat.outside.leave(wanted.key.dst)),
        };
        let change = change.map_err(|reason| {
            self.host_counts.not_made(host);
            (reason, rule.id)
        })?;
        self.census.made(nat, now);
        self.stats.sessions.add(1);
        Ok(Some(change))
    }

    fn create_extended(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        wanted: &Wanted,
        rule: &Rule,
    ) -> Result<Rewrite, DropReason> {
        let Wanted { ip, key, hop, .. } = *wanted;
        let away = Key {
            dst: wanted.host,
            ..key
        };
        if let Some(reason) = refused_by(rule, ip) {
            return Err(reason);
        }
        if !may_begin(ip) {
            return Err(DropReason::NoTranslation);
        }
        let (place, mapped) = match &rule.target {
            Target::OneToOne(pool) => self.place_leased(now, snapshot, key, (rule, pool))?,
            Target::Overload(addresses) if filtering_of(rule, ip.protocol, key).is_some() => {
                self.place_mapped(now, snapshot, ip.protocol, away, (rule, addresses))?
            }
            Target::Overload(addresses) => {
                let space = port_space(ip.protocol);
                let space = space.ok_or(DropReason::ProtocolNotTranslatable)?;
                let exit = hop.map(|hop| hop.to.port);
                let sought = Sought {
                    now,
                    nat: &snapshot.nat,
                    space,
                    protocol: ip.protocol,
                    key: away,
                };
                (self.place(&sought, exit, addresses)?, 0)
            }
        };
        let to = Key {
            src: place.address,
            sport: place.port,
            ..away
        };
        let to = if ip.protocol == PROTO_ICMP {
            Key {
                dport: place.port,
                ..to
            }
        } else {
            to
        };
        let mut session = Session {
            vrf: ip.vrf,
            flags: if place.mark { flag::PORT_MARK } else { 0 }
                | mapped
                | if hop.is_none() { flag::HAIRPIN } else { 0 },
            hop: [hop.map_or(HOP_UNKNOWN, Hop::as_session_has_it), HOP_UNKNOWN],
            generation: snapshot.generation,
            addresses: Delta::of_u32(key.src, to.src) + Delta::of_u32(key.dst, to.dst),
            ports: Delta::of_u16(key.sport, to.sport),
            ..blank(now, rule.id, ip.protocol, key, reverse(to))
        };
        if let L4::Tcp { flags, .. } = ip.l4 {
            if flags & tcp_flags::SYN == 0 {
                session.flags |= flag::PICKED_UP;
            }
            session.follow_tcp(Direction::Out, flags);
        }
        let rewrite = session.rewrite(Direction::Out);
        if let Some(hop) = hop
            && !may_go(snapshot, hop.to.port, ip, rewrite.to(), true)
        {
            self.give_back(&snapshot.nat, &session);
            return Err(DropReason::AccessListOut);
        }
        if mapped != 0 && self.is_taken(&session) {
            self.give_back(&snapshot.nat, &session);
            return Err(DropReason::PortsExhausted);
        }
        let timers = &snapshot.nat.timers;
        let Some(at) = self.table.insert(session, now.tick(), timers) else {
            self.give_back(&snapshot.nat, &session);
            return Err(DropReason::SessionTableFull);
        };
        self.host_counts.made(at, session.inside_host());
        self.stats.count(match ip.protocol {
            PROTO_TCP => Counter::CreatedTcp,
            PROTO_UDP => Counter::CreatedUdp,
            PROTO_ICMP => Counter::CreatedIcmp,
            _ => Counter::CreatedOther,
        });
        Ok(rewrite)
    }

    fn create_address(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        wanted: &Wanted,
        rule: &Rule,
        pool: &OneToOnePool,
    ) -> Result<Rewrite, DropReason> {
        let ip = wanted.ip;
        let host = Ipv4Addr::from_bits(ip.src);
        let usable = |address| is_lendable(&snapshot.nat, address);
        let index = pool
            .take(self.options.me, host, usable, &mut self.pool_in_vain)
            .ok_or(DropReason::PoolExhausted)?;
        let global = pool.address(index).to_bits();
        let leaves = Key {
            src: global,
            dst: wanted.host,
            ..wanted.key
        };
        if let Some(hop) = wanted.hop
            && !may_go(snapshot, hop.to.port, ip, leaves, true)
        {
            pool.release(self.options.me, index);
            return Err(DropReason::AccessListOut);
        }
        let outbound = Session::address_key(Direction::Out, ip.src);
        let inbound = Session::address_key(Direction::In, global);
        let session = Session {
            vrf: ip.vrf,
            ..blank(now, rule.id, 0, outbound, inbound)
        };
        let timers = &snapshot.nat.timers;
        let Some(at) = self.table.insert(session, now.tick(), timers) else {
            pool.release(self.options.me, index);
            return Err(DropReason::SessionTableFull);
        };
        self.host_counts.made(at, session.inside_host());
        self.address_entries += 1;
        self.stats.count(Counter::CreatedSimple);
        Ok(rewrite_addresses(ip, global, wanted.host))
    }

    /// Removes an entry and gives back what it held.
    pub(super) fn remove_entry(&mut self, snapshot: &Snapshot, at: u32) {
        self.remove_at(&snapshot.nat, at);
    }

    /// [`Gateway::remove_entry`], which needs no more than the policy.
    pub(super) fn remove_at(&mut self, nat: &Nat, at: u32) {
        let session = self.table.remove(at);
        if session.is_outside_entry() {
            self.give_back_outside(nat, &session);
        } else {
            self.host_counts.removed(at, session.inside_host());
            self.address_entries -= u32::from(session.is_address_entry());
            self.give_back(nat, &session);
        }
        if session.changes_outside() && !session.is_address_entry() {
            nat.outside.leave(session.outside_local().address.to_bits());
        }
        self.census.removed();
        self.stats.sessions.sub(1);
    }

    pub(super) fn give_back(&mut self, nat: &Nat, session: &Session) {
        if session.flags & flag::MAPPED != 0 {
            return self.leave_mapping(nat, session);
        }
        let me = self.options.me;
        let global = session.inside_global();
        match nat.global(global.address) {
            Some(Global::Overload(address)) => {
                if let Some(space) = session.port_space() {
                    address.release(me, space, global.port, session.flags & flag::PORT_MARK != 0);
                }
            }
            Some(Global::OneToOne(pool, index))
                if session.is_address_entry() || session.is_mapping() =>
            {
                pool.release(me, *index);
            }
            // The address has left the configuration or changed its use, and what it kept count
            // of has gone with it.
            Some(Global::OneToOne(..) | Global::Static) | None => {}
        }
    }
}

/// Whether a pool may lend an address: not one that a static has.
pub(super) fn is_lendable(nat: &Nat, address: Ipv4Addr) -> bool {
    !nat.has_static_address(address)
}

pub(super) fn blank(now: Millis, rule: u16, protocol: u8, outbound: Key, inbound: Key) -> Session {
    Session {
        keys: [outbound, inbound],
        protocol,
        vrf: VrfId::GLOBAL,
        tcp: 0,
        flags: 0,
        used: now.tick(),
        created: now.tick(),
        next: crate::session::NIL,
        previous: crate::session::NIL,
        hop: [HOP_UNKNOWN; 2],
        generation: 0,
        addresses: Delta::NONE,
        ports: Delta::NONE,
        id: 0,
        rule,
        wheel_slot: 0,
    }
}

/// Why a rule can't have an entry for a packet, if it can't. Where no ports change, there need be
/// none.
pub(super) fn refused_by(rule: &Rule, ip: &Ipv4) -> Option<DropReason> {
    let is_portless = |reason: &DropReason| *reason == DropReason::ProtocolNotTranslatable;
    untranslatable(ip).filter(|reason| !(rule.lends_to_flows() && is_portless(reason)))
}

/// The inside host that sent a packet.
pub(super) fn sender(ip: &Ipv4) -> InsideHost {
    InsideHost {
        vrf: ip.vrf,
        address: Ipv4Addr::from_bits(ip.src),
    }
}

/// A packet as access lists look at it.
pub(super) fn subject(ip: &Ipv4, key: Key) -> Subject {
    let icmp = match ip.l4 {
        L4::IcmpQuery {
            icmp_type, code, ..
        }
        | L4::IcmpError { icmp_type, code }
        | L4::IcmpOther { icmp_type, code } => Some((icmp_type, code)),
        _ => None,
    };
    let has_ports = matches!(ip.protocol, PROTO_TCP | PROTO_UDP);
    Subject {
        protocol: ip.protocol,
        source: ip.src,
        destination: ip.dst,
        ports: has_ports.then_some((key.sport, key.dport)),
        icmp,
        established: matches!(ip.l4, L4::Tcp { flags, .. } if flags & (tcp_flags::ACK | tcp_flags::RST) != 0),
        later_fragment: ip.is_later_fragment(),
    }
}

/// The rule that would make an entry again, as it stands: for entries that outlive a change of
/// configuration.
pub(super) fn rule_of<'a>(snapshot: &'a Snapshot, session: &Session) -> Option<&'a Rule> {
    let nat = &snapshot.nat;
    if session.is_address_entry() {
        let source = session.inside_local().address.to_bits();
        let is_such = |r: &&Rule| r.vrf == session.vrf && !r.lends_to_flows();
        let mut rules = nat.rules.iter().filter(is_such);
        return rules.find(|r| r.selector.permits_source(source));
    }
    let (from, to) = (session.inside_local(), session.outside_local());
    let has_ports = matches!(session.protocol, PROTO_TCP | PROTO_UDP);
    let subject = Subject {
        protocol: session.protocol,
        source: from.address.to_bits(),
        destination: to.address.to_bits(),
        ports: has_ports.then_some((from.port, to.port)),
        icmp: (session.protocol == PROTO_ICMP).then_some((crate::wire::icmp_type::ECHO, 0)),
        established: false,
        later_fragment: false,
    };
    let exit = exit_of(snapshot, session).map(|hop| hop.to);
    let exit = exit.filter(|_| session.flags & flag::HAIRPIN == 0);
    nat.rule_for(session.vrf, &subject, exit, false)
}

/// The next hop of what an entry's inside host sends.
pub(super) fn exit_of(snapshot: &Snapshot, session: &Session) -> Option<Hop> {
    let hop_to = |address| next_hop(snapshot, session.vrf, address);
    let (local, host) = (session.outside_local(), session.outside_global());
    let (local, host) = (local.address.to_bits(), host.address.to_bits());
    if session.changes_outside() {
        return entry_way(snapshot, session.vrf, local, host, hop_to).hop();
    }
    hop_to(local)
}

/// Whether a rule of worker `me` still translates to the address that an entry has.
pub(super) fn has_address(nat: &Nat, me: WorkerId, rule: &Rule, session: &Session) -> bool {
    let address: Ipv4Addr = session.inside_global().address;
    match &rule.target {
        Target::Overload(addresses) => {
            !session.is_address_entry()
                && session.flags & flag::LEASED == 0
                && addresses.iter().any(|global| global.address == address)
        }
        Target::OneToOne(pool) => {
            // Lent to us: one that left the configuration and came back is nobody's.
            let lends = |index| pool.owner(index) == Some(me) && would_lend(pool, session, address);
            let is_such = if rule.lends_to_flows() {
                session.flags & flag::LEASED != 0
            } else {
                session.is_address_entry()
            };
            is_such
                && matches!(nat.global(address), Some(Global::OneToOne(of, index)) if Arc::ptr_eq(of, pool) && lends(*index))
        }
    }
}

/// Whether a pool that lends by the host's own bits would lend an entry's host this address.
fn would_lend(pool: &OneToOnePool, session: &Session, address: Ipv4Addr) -> bool {
    match pool.lending() {
        Lending::FirstFree | Lending::Rotary => true,
        Lending::MatchHost(mask) => {
            let host = session.inside_local().address;
            (host.to_bits() ^ address.to_bits()) & mask == 0
        }
    }
}
