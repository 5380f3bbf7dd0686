//! `ip nat outside source`: the other end of a flow has another address inside.
//!
//! An outside host's address of its own (outside global) is the source of what comes in and becomes
//! the one by which inside hosts know it (outside local), which is the destination of what leaves.
//! An entry of a flow holds both of its keys and needs nothing more. What has none asks here.
//!
//! Statics are everybody's. An address of a pool is lent by the outside host's worker when a packet
//! of the host comes in: who decides about such a packet and does not know the host hands it to that
//! worker, which notes the address in [`Meta::seen`](super::Meta::seen) and hands it on.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::create::{blank, subject};
use super::forward::{Hop, leaves_outside};
use super::{Gateway, Item, Output, Pass};
use crate::acl::Action;
use crate::nat::{Nat, OutsideLocal, OutsideRule};
use crate::packet::Packet;
use crate::session::{Direction, Key, Kind, Session};
use crate::snapshot::{Snapshot, VrfId};
use crate::stats::{Counter, DropReason};
use crate::time::{Millis, Tick};
use crate::wire::icmp_error::{self, Quoted};
use crate::wire::{Ipv4, L4};

/// The address by which inside hosts know the outside host of a packet from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen(u32);

impl Seen {
    /// Nobody was asked.
    pub const UNKNOWN: Seen = Seen(0);
    /// The packet is on its way to the worker that knows.
    pub const ASKED: Seen = Seen(u32::MAX);

    /// The address is this one.
    #[must_use]
    pub fn is(address: u32) -> Seen {
        Seen(address)
    }

    /// The address, once it is known.
    #[must_use]
    pub fn address(self) -> Option<u32> {
        (self != Seen::UNKNOWN && self != Seen::ASKED).then_some(self.0)
    }
}

/// Where a packet from inside goes.
pub(super) enum Outward {
    /// Outside: its next hop, and the host's address there.
    To(Hop, u32),
    /// It stays inside.
    Inside,
    /// There is no route.
    Nowhere,
    /// The address stands for no outside host.
    Nobody,
}

impl Outward {
    /// The next hop, where it is outside.
    pub(super) fn hop(&self) -> Option<Hop> {
        match self {
            Outward::To(hop, _) => Some(*hop),
            _ => None,
        }
    }
}

/// The outside host that an address stands for inside, if it does: in the global table alone.
#[inline]
pub(super) fn outside_local(
    snapshot: &Snapshot,
    vrf: VrfId,
    address: u32,
) -> Option<&OutsideLocal> {
    let local = snapshot.nat.outside.local(address);
    local.filter(|_| vrf == VrfId::GLOBAL)
}

/// Where packets from inside to an address go, which may be that of an outside host.
#[inline]
pub(super) fn outward(
    snapshot: &Snapshot,
    vrf: VrfId,
    destination: u32,
    mut hop_to: impl FnMut(u32) -> Option<Hop>,
) -> Outward {
    match outside_local(snapshot, vrf, destination) {
        None => match hop_to(destination) {
            None => Outward::Nowhere,
            Some(hop) if !leaves_outside(snapshot, hop.to.port) => Outward::Inside,
            Some(hop) => Outward::To(hop, destination),
        },
        Some(local) => {
            let host = local.host().map(Ipv4Addr::to_bits);
            way(snapshot, (destination, host), local.add_route(), hop_to)
        }
    }
}

/// Where the packets of an entry go that leave for `host`, which is `local` inside.
pub(super) fn entry_way(
    snapshot: &Snapshot,
    vrf: VrfId,
    local: u32,
    host: u32,
    hop_to: impl FnMut(u32) -> Option<Hop>,
) -> Outward {
    let add_route = outside_local(snapshot, vrf, local);
    let add_route = add_route.is_some_and(OutsideLocal::add_route);
    way(snapshot, (local, Some(host)), add_route, hop_to)
}

/// The way of a packet to an outside local address. Routing comes first: without `add-route` the
/// address itself must lead outside. From there it goes to the host's own next hop, unless the host's
/// address leads inside: then both sides have the same addresses, and only the local one is routed.
fn way(
    snapshot: &Snapshot,
    (local, host): (u32, Option<u32>),
    add_route: bool,
    mut hop_to: impl FnMut(u32) -> Option<Hop>,
) -> Outward {
    let of_local = if add_route {
        None
    } else {
        match hop_to(local) {
            None => return Outward::Nowhere,
            Some(hop) if !leaves_outside(snapshot, hop.to.port) => return Outward::Inside,
            hop => hop,
        }
    };
    let Some(host) = host else {
        return Outward::Nobody;
    };
    let of_host = hop_to(host);
    let outside = of_host.filter(|hop| leaves_outside(snapshot, hop.to.port));
    match (outside.or(of_local), of_host) {
        (Some(hop), _) => Outward::To(hop, host),
        (None, Some(_)) => Outward::Inside,
        (None, None) => Outward::Nowhere,
    }
}

/// Whether a packet's outside host has, or may get, another address inside: such a host's ESP and
/// IKE are nothing special, as the engine for these knows a host by one address.
pub(super) fn is_translated(
    snapshot: &Snapshot,
    direction: Direction,
    protocol: u8,
    key: Key,
) -> bool {
    let outside = &snapshot.nat.outside;
    if outside.is_empty() {
        return false;
    }
    match direction {
        Direction::Out => outside.local(key.dst).is_some(),
        Direction::In => {
            let asked = super::ipsec_policy::subject(protocol, key);
            let permits = |r: &OutsideRule| r.selector.decide(&asked, None) == Action::Permit;
            outside.static_of(key.src).is_some() || outside.rules.iter().any(permits)
        }
    }
}

/// Whether the policy would still have `host` known inside as `local`, which is the host's own
/// address where nothing is translated.
pub(super) fn still_known(snapshot: &Snapshot, vrf: VrfId, local: u32, host: u32) -> bool {
    match outside_local(snapshot, vrf, local) {
        None => local == host,
        Some(OutsideLocal::Static(fixed)) => fixed.global.to_bits() == host,
        Some(OutsideLocal::Pool { .. }) => still_lends(snapshot, local, host).is_some(),
    }
}

/// The rule under which the policy would lend `host` the address that it has of a pool.
pub(super) fn still_lends(snapshot: &Snapshot, local: u32, host: u32) -> Option<&OutsideRule> {
    let outside = &snapshot.nat.outside;
    let Some(OutsideLocal::Pool { pool, index, .. }) = outside.local(local) else {
        return None;
    };
    let mut rules = outside.rules.iter();
    let rule = rules.find(|rule| rule.selector.permits_source(host))?;
    let stands = pool.host(*index) == Some(Ipv4Addr::from_bits(host));
    let lends = stands && Arc::ptr_eq(&rule.pool, pool) && outside.static_of(host).is_none();
    lends.then_some(rule)
}

/// When an entry was used last. That of an outside host is used by others too.
pub(super) fn last_used(snapshot: &Snapshot, session: &Session, now: Tick) -> Tick {
    if !session.is_outside_entry() {
        return session.used;
    }
    let local = session.outside_local().address.to_bits();
    let elsewhere = match snapshot.nat.outside.local(local) {
        Some(OutsideLocal::Pool { pool, index, .. }) => pool.last_used(*index, now),
        _ => None,
    };
    let all = [Some(session.used), elsewhere].into_iter().flatten();
    all.min_by_key(|used| now.since(*used))
        .unwrap_or(session.used)
}

impl<P: Packet> Gateway<P> {
    /// The address that a packet's source has inside in a VRF. `None` where the packet is not here any more:
    /// another worker knows, or it was refused.
    pub(super) fn seen_source(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        mut item: Item<P>,
        ip: &Ipv4,
        key: Key,
        vrf: VrfId,
    ) -> Option<(Item<P>, u32)> {
        let outside = &pass.snapshot.nat.outside;
        if outside.is_empty() || item.meta.hairpin || vrf != VrfId::GLOBAL {
            return Some((item, ip.src));
        }
        if let Some(fixed) = outside.static_of(ip.src) {
            OutsideLocal::Static(Arc::clone(fixed)).used(pass.now.tick());
            return Some((item, fixed.local.to_bits()));
        }
        let seen = match item.meta.seen.address() {
            Some(seen) => seen,
            None if outside.rules.is_empty() => ip.src,
            None => {
                let knows = self.pick(ip.src);
                if self.options.workers > 1 && knows != self.options.me {
                    item.meta.seen = Seen::ASKED;
                    self.hand_off(pass, knows, item);
                    return None;
                }
                let (seen, kept) = self.lend_outside(pass, item, ip, key)?;
                item = kept;
                seen
            }
        };
        if seen == ip.src && outside.local(ip.src).is_some() {
            // Untranslated, it would look like somebody whom we translate.
            self.refused(DropReason::IpSource, item.meta);
            return None;
        }
        Some((item, seen))
    }

    /// A packet that another worker asks about: with the answer.
    pub(super) fn answer_asked(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        mut item: Item<P>,
        ip: &Ipv4,
    ) -> Option<Item<P>> {
        let seen = if matches!(ip.l4, L4::IcmpError { .. }) {
            // An error gives nobody an address.
            let quoted = icmp_error::read(item.packet.data(), ip).map(|quoted| quoted.dst);
            let host = quoted.unwrap_or(ip.src); // who asked will count it
            self.lent_to(pass.snapshot, host).unwrap_or(host)
        } else {
            let key = super::key_of(ip, item.meta);
            let (seen, kept) = self.lend_outside(pass, item, ip, key)?;
            item = kept;
            seen
        };
        item.meta.seen = Seen::is(seen);
        Some(item)
    }

    fn lend_outside(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        key: Key,
    ) -> Option<(u32, Item<P>)> {
        match self.outside_entry(pass.now, pass.snapshot, ip, key) {
            Ok(seen) => Some((seen, item)),
            Err((reason, rule)) => {
                self.told_refused(pass.now, ip, item.meta, reason, Some(rule));
                self.refused(reason, item.meta);
                None
            }
        }
    }

    /// The address that an outside host of this worker has from a pool.
    pub(super) fn lent_to(&self, snapshot: &Snapshot, host: u32) -> Option<u32> {
        let at = self.outside_entry_of(host)?;
        let local = self.table.session(at).outside_local().address.to_bits();
        let stands = |local: &OutsideLocal| local.host() == Some(Ipv4Addr::from_bits(host));
        let lent = snapshot.nat.outside.local(local).is_some_and(stands);
        lent.then_some(local)
    }

    fn outside_entry_of(&self, host: u32) -> Option<u32> {
        let key = Session::outside_key(Direction::In, host);
        self.table.look_up(Kind::from_outside(0), key)
    }

    /// The address that an outside host of this worker has inside, with an entry made if some rule
    /// wants one. A refusal comes with the number of the rule.
    fn outside_entry(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        ip: &Ipv4,
        key: Key,
    ) -> Result<u32, (DropReason, u16)> {
        if let Some(at) = self.outside_entry_of(ip.src) {
            if let Some(local) = self.lent_to(snapshot, ip.src) {
                self.table.session_mut(at).used = now.tick();
                return Ok(local);
            }
            // Of a configuration that is no more.
            self.remove_entry(snapshot, at);
            self.stats.count(Counter::Withdrawn);
        }
        let outside = &snapshot.nat.outside;
        let asked = subject(ip, key);
        let mut rules = outside.rules.iter();
        let Some(rule) = rules.find(|r| r.selector.check(&asked, None) == Action::Permit) else {
            return Ok(ip.src);
        };
        self.stats.count(Counter::Misses);
        let limit = u64::from(snapshot.nat.max_entries);
        if limit != 0 && self.census.active() >= limit {
            return Err((DropReason::MaxEntries, rule.id));
        }
        let (me, host) = (self.options.me, Ipv4Addr::from_bits(ip.src));
        let usable = |address| outside.is_lendable(address);
        let index = rule.pool.lend(me, host, usable);
        let index = index.ok_or((DropReason::PoolExhausted, rule.id))?;
        let local = rule.pool.addresses().address(index).to_bits();
        let outbound = Session::outside_key(Direction::Out, local);
        let inbound = Session::outside_key(Direction::In, ip.src);
        let session = blank(now, rule.id, 0, outbound, inbound);
        let timers = &snapshot.nat.timers;
        if self.table.insert(session, now.tick(), timers).is_none() {
            rule.pool.release(me, index, host);
            return Err((DropReason::SessionTableFull, rule.id));
        }
        self.stats.count(Counter::CreatedSimple);
        self.census.made(&snapshot.nat, now);
        self.stats.sessions.add(1);
        Ok(local)
    }

    /// Gives back what the entry of an outside host held.
    pub(super) fn give_back_outside(&self, nat: &Nat, session: &Session) {
        let (local, host) = (session.outside_local(), session.outside_global());
        if let Some(OutsideLocal::Pool { pool, index, .. }) =
            nat.outside.local(local.address.to_bits())
        {
            pool.release(self.options.me, *index, host.address);
        }
    }

    /// Whether an outside host's entry whose time seems over was used by others, and so stays.
    pub(super) fn is_used_elsewhere(&mut self, now: Millis, snapshot: &Snapshot, at: u32) -> bool {
        let session = self.table.session(at);
        if !session.is_outside_entry() {
            return false;
        }
        let tick = now.tick();
        let used = last_used(snapshot, session, tick);
        let timers = &snapshot.nat.timers;
        let stays = tick.since(used) < session.timeout(timers);
        if stays {
            self.table.session_mut(at).used = used;
            self.table.rearm(at, tick, timers);
        }
        stays
    }

    /// The outside host of the packet that an ICMP error quotes, as the other side knows it. `None`
    /// where the packet is not here any more, because another worker knows.
    pub(super) fn quoted_host(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        mut item: Item<P>,
        quoted: &Quoted,
        (direction, key): (Direction, Key),
    ) -> Option<(Item<P>, u32)> {
        let outside = &pass.snapshot.nat.outside;
        let host = match direction {
            Direction::Out => {
                let vrf = pass.snapshot.vrf(item.meta.port);
                let local = outside_local(pass.snapshot, vrf, quoted.src);
                let local = local.and_then(OutsideLocal::host);
                return Some((item, local.map_or(quoted.src, Ipv4Addr::to_bits)));
            }
            Direction::In => quoted.dst,
        };
        if outside.is_empty() || item.meta.hairpin {
            return Some((item, host));
        }
        if let Some(fixed) = outside.static_of(host) {
            return Some((item, fixed.local.to_bits()));
        }
        if let Some(seen) = item.meta.seen.address() {
            return Some((item, seen));
        }
        let has_entry = || {
            let kind = Kind::new(direction, VrfId::GLOBAL, quoted.protocol);
            let entry = self.table.look_up(kind, key);
            entry.is_some()
        };
        if outside.rules.is_empty() || has_entry() {
            return Some((item, host));
        }
        let knows = self.pick(host);
        if self.options.workers > 1 && knows != self.options.me {
            item.meta.seen = Seen::ASKED;
            self.hand_off(pass, knows, item);
            return None;
        }
        let seen = self.lent_to(pass.snapshot, host);
        Some((item, seen.unwrap_or(host)))
    }
}
