//! Endpoint-independent mappings: an inside endpoint has one outside port for all its flows
//! (RFC 4787 REQ-1, RFC 5382 REQ-1, RFC 5508 REQ-1), and nobody else has that port (REQ-3).
//!
//! A mapping is an entry of the same table whose keys no packet has. It holds the port, counts the
//! entries under it and goes with the last of them; these live and die as any other entry does.
//! UDP with an outside host's IKE ports stands apart: it is with that host's worker.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Gateway;
use super::create::blank;
use super::in_vain::Free;
use super::ipsec::is_ipsec;
use super::place::{Place, Sought, pairing, port_range};
use crate::nat::{Filtering, GlobalAddress, Nat, Rule};
use crate::packet::Packet;
use crate::session::{Direction, Key, Kind, Session, flag, port_space};
use crate::snapshot::{InsideHost, Snapshot};
use crate::stats::{Counter, DropReason};
use crate::time::Millis;

/// The peer in a mapping's keys. No packet with keys has this source or destination.
const NOBODY: u32 = u32::MAX;
/// Ports of the wanted parity tried at random.
const PARITY_TRIES: u32 = 64;

/// What one worker knows of its mappings beside their entries.
#[derive(Debug)]
pub(super) struct Mappings {
    /// How many there are.
    pub(super) count: u32,
    /// Entries with [`flag::PERMITS`] of each mapping, by its place, and outside address: at most
    /// as many as the table has entries.
    permits: HashMap<(u32, u32), u32>,
}

impl Mappings {
    /// None, with room for as many permits as there may be entries.
    pub(super) fn new(sessions: u32) -> Mappings {
        Mappings {
            count: 0,
            permits: HashMap::with_capacity(sessions as usize),
        }
    }

    /// Whether the filtering of a mapping lets an outside host in, whatever its port.
    fn permits(&self, mapping: u32, peer: u32) -> bool {
        self.permits.contains_key(&(mapping, peer))
    }

    fn permit(&mut self, mapping: u32, peer: u32) {
        *self.permits.entry((mapping, peer)).or_insert(0) += 1;
    }

    fn withdraw(&mut self, mapping: u32, peer: u32) {
        if let Some(entries) = self.permits.get_mut(&(mapping, peer)) {
            *entries -= 1;
            if *entries == 0 {
                self.permits.remove(&(mapping, peer));
            }
        }
    }
}

/// What a mapping keeps in fields that only flows need: it is never hit, so it has no next hop.
impl Session {
    fn filtering(&self) -> Filtering {
        let all = Filtering::ALL.into_iter();
        let is = |filtering: &Filtering| *filtering as u16 == self.hop[0];
        all.clone().find(is).unwrap_or_default()
    }

    fn set_filtering(&mut self, filtering: Filtering) {
        self.hop[0] = filtering as u16;
    }

    /// Entries under a mapping; `None` for what is none.
    pub(super) fn children(&self) -> Option<u32> {
        self.is_mapping().then_some(self.generation)
    }

    fn set_children(&mut self, children: u32) {
        self.generation = children;
    }
}

/// The keys of a mapping. An endpoint may have one with each rule: by route map, it may leave by
/// several providers.
pub(super) fn keys(client: (u32, u16), global: (u32, u16), rule: u16) -> [Key; 2] {
    let outbound = Key {
        src: client.0,
        dst: NOBODY,
        sport: client.1,
        dport: rule,
    };
    [outbound, inbound(global.0, global.1)]
}

fn inbound(global: u32, port: u16) -> Key {
    Key {
        src: NOBODY,
        dst: global,
        sport: 0,
        dport: port,
    }
}

/// Whether a rule wants a mapping for a flow from inside, and how it filters.
pub(super) fn filtering_of(rule: &Rule, protocol: u8, outbound: Key) -> Option<Filtering> {
    rule.mapping
        .filter(|_| !is_ipsec(Direction::Out, protocol, outbound))
}

impl<P: Packet> Gateway<P> {
    /// The mapping that has a port of an address.
    pub(super) fn mapping_at(&self, protocol: u8, global: u32, port: u16) -> Option<u32> {
        if self.mappings.count == 0 {
            return None;
        }
        self.table
            .look_up(Kind::from_outside(protocol), inbound(global, port))
    }

    /// The mapping, or lease, that an entry is under.
    pub(super) fn mapping_over(&self, session: &Session) -> Option<u32> {
        let global = session.inside_global();
        let (protocol, port) = match session.flags & flag::LEASED {
            0 => (session.protocol, global.port),
            _ => (0, 0),
        };
        self.mapping_at(protocol, global.address.to_bits(), port)
    }

    /// The mapping of an inside endpoint under a rule.
    pub(super) fn mapping_of(&self, protocol: u8, outbound: Key, rule: &Rule) -> Option<u32> {
        if self.mappings.count == 0 {
            return None;
        }
        let [key, _] = keys((outbound.src, outbound.sport), (0, 0), rule.id);
        self.table
            .look_up(Kind::from_inside(rule.vrf, protocol), key)
    }

    /// Whether mappings leave a port to a flow, or to a mapping that is wanted: where a rule is
    /// endpoint-independent, no port of its addresses is anybody else's.
    pub(super) fn is_left_by_mappings(
        &self,
        nat: &Nat,
        protocol: u8,
        key: Key,
        global: &GlobalAddress,
        port: u16,
    ) -> bool {
        let is_alone = key.dst == NOBODY || nat.is_mapped(global.address);
        let space = port_space(protocol).filter(|_| is_alone);
        space.is_none_or(|space| !global.in_use(space, port))
            && self
                .mapping_at(protocol, global.address.to_bits(), port)
                .is_none()
    }

    /// Whether another entry has the inbound key of a new one: an old one, from before its port
    /// was a mapping's.
    pub(super) fn is_taken(&self, session: &Session) -> bool {
        let key = session.keys[Direction::In as usize];
        let kind = Kind::from_outside(session.protocol);
        self.table.look_up(kind, key).is_some()
    }

    /// The address and port of the inside endpoint's mapping, which is made if need be, for one
    /// more entry under it; and the flags that this entry has. [`Gateway::leave_mapping`] takes
    /// it back.
    pub(super) fn place_mapped(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        protocol: u8,
        key: Key,
        (rule, addresses): (&Rule, &[Arc<GlobalAddress>]),
    ) -> Result<(Place, u8), DropReason> {
        let nat = &snapshot.nat;
        let at = match self.mapping_of(protocol, key, rule) {
            Some(at) if self.is_stale(nat, at, addresses) => {
                return Err(DropReason::NoTranslation);
            }
            Some(at) => at,
            None => self.new_mapping(now, nat, protocol, key, (rule, addresses))?,
        };
        let mapping = self.table.session_mut(at);
        mapping.used = now.tick();
        let global = mapping.inside_global();
        let flags = self.join_mapping(at, key.dst);
        let place = Place {
            address: global.address.to_bits(),
            port: global.port,
            mark: false,
        };
        Ok((place, flags))
    }

    /// Counts one more entry under a mapping or lease.
    pub(super) fn add_child(&mut self, at: u32) {
        let mapping = self.table.session_mut(at);
        mapping.set_children(mapping.children().unwrap_or(0) + 1);
    }

    /// Counts one more entry under a mapping, with this peer; the flags that it has.
    pub(super) fn join_mapping(&mut self, at: u32, peer: u32) -> u8 {
        self.add_child(at);
        if self.table.session(at).filtering() != Filtering::AddressDependent {
            return flag::MAPPED;
        }
        self.mappings.permit(at, peer);
        flag::MAPPED | flag::PERMITS
    }

    /// Takes back what an entry has of its mapping, and removes the mapping behind the last one.
    pub(super) fn leave_mapping(&mut self, nat: &Nat, session: &Session) {
        let Some(at) = self.mapping_over(session) else {
            return; // a mapping stays as long as it has entries
        };
        if session.flags & flag::PERMITS != 0 {
            let peer = session.outside_global().address.to_bits();
            self.mappings.withdraw(at, peer);
        }
        let mapping = self.table.session_mut(at);
        let left = mapping.children().unwrap_or(0).saturating_sub(1);
        mapping.set_children(left);
        if left == 0 {
            self.mappings.count -= 1;
            self.remove_at(nat, at);
        }
    }

    /// Whether a mapping is one that the present policy would not make. Its entries go before long
    /// and it with them; no new one may join.
    pub(super) fn is_stale(&self, nat: &Nat, at: u32, addresses: &[Arc<GlobalAddress>]) -> bool {
        let mapping = self.table.session(at);
        let global = mapping.inside_global();
        nat.is_reserved(global.address, mapping.protocol, global.port)
            || !addresses.iter().any(|a| a.address == global.address)
    }

    /// A mapping without entries: whoever asks for it adds the first one.
    fn new_mapping(
        &mut self,
        now: Millis,
        nat: &Nat,
        protocol: u8,
        key: Key,
        (rule, addresses): (&Rule, &[Arc<GlobalAddress>]),
    ) -> Result<u32, DropReason> {
        let (Some(filtering), Some(space)) = (rule.mapping, port_space(protocol)) else {
            return Err(DropReason::ProtocolNotTranslatable);
        };
        if !self.has_room_for(nat, 2) {
            return Err(DropReason::MaxEntries);
        }
        let host = InsideHost {
            vrf: rule.vrf,
            address: Ipv4Addr::from_bits(key.src),
        };
        if !self.host_counts.reserve_second(host) {
            return Err(DropReason::MaxEntries);
        }
        let sought = Sought {
            now,
            nat,
            space,
            protocol,
            key: Self::alone(key),
        };
        let Some(place) = self.place_alone(&sought, addresses) else {
            self.host_counts.not_made(host);
            return Err(DropReason::PortsExhausted);
        };
        let client = (key.src, key.sport);
        let [outbound, inbound] = keys(client, (place.address, place.port), rule.id);
        let mut mapping = Session {
            vrf: rule.vrf,
            flags: flag::MAPPING | if place.mark { flag::PORT_MARK } else { 0 },
            ..blank(now, rule.id, protocol, outbound, inbound)
        };
        mapping.set_filtering(filtering);
        let Some(at) = self.table.insert(mapping, now.tick(), &nat.timers) else {
            self.give_back(nat, &mapping);
            self.host_counts.not_made(host);
            return Err(DropReason::SessionTableFull);
        };
        self.mappings.count += 1;
        self.host_counts.made(at, host);
        self.census.made(nat, now);
        self.stats.sessions.add(1);
        self.stats.count(Counter::CreatedMapping);
        Ok(at)
    }

    /// Whether `max-entries` leaves room for so many more.
    pub(super) fn has_room_for(&self, nat: &Nat, more: u64) -> bool {
        let limit = u64::from(nat.max_entries);
        limit == 0 || self.census.active() + more <= limit
    }

    /// The packet for which a mapping asks for a port of its own.
    pub(super) fn alone(key: Key) -> Key {
        Key {
            dst: NOBODY,
            dport: 0,
            ..key
        }
    }

    /// An outside port that is nobody's, for an inside endpoint: its own port, else one of the same
    /// range and parity (RFC 4787 REQ-4), else one of the same range (REQ-3).
    fn place_alone(
        &mut self,
        sought: &Sought<'_>,
        addresses: &[Arc<GlobalAddress>],
    ) -> Option<Place> {
        let first = pairing(sought.key.src, addresses.len());
        let (before, from) = addresses.split_at(first);
        for global in from.iter().chain(before) {
            if self.in_vain.was_free(&Free::new(sought, global)) {
                continue; // a port with an entry is no good
            }
            let like = self.place_with_parity(sought, global);
            // Its peers' answers come by all queues: no port aims at one.
            let place = like.or_else(|| self.place_at(sought, (global, 0), None));
            if place.is_some() {
                return place;
            }
        }
        None
    }

    fn place_with_parity(&mut self, sought: &Sought<'_>, global: &GlobalAddress) -> Option<Place> {
        let Sought {
            nat,
            space,
            protocol,
            key: wanted,
            ..
        } = *sought;
        let me = self.options.me;
        let (low, high) = port_range(space, wanted.sport);
        let width = u32::from(high - low) + 1;
        let below_share = global.is_below_share(me, self.options.workers);
        for n in 0..=PARITY_TRIES {
            let port = match n {
                0 => wanted.sport,
                _ => (low + (self.random() as u32 % width) as u16) & !1 | wanted.sport & 1,
            };
            let may_have = below_share || global.owner(port) == Some(me);
            let is_known = n == 0 || (low.max(1)..=high).contains(&port);
            if !may_have || !is_known || !global.claim(me, port) {
                continue;
            }
            if self.fits(nat, protocol, wanted, global, port) {
                return Some(Place {
                    address: global.address.to_bits(),
                    port,
                    mark: global.take(me, space, port),
                });
            }
            global.abandon(me, port);
        }
        None
    }

    /// Whether an entry that `rule` keeps may stay as far as mappings are concerned; its mapping
    /// follows the rule.
    pub(super) fn keeps_mapping(&mut self, nat: &Nat, at: u32, rule: &Rule) -> bool {
        let session = *self.table.session(at);
        let outbound = session.keys[Direction::Out as usize];
        let filtering = filtering_of(rule, session.protocol, outbound);
        let is_leased = session.flags & flag::LEASED != 0;
        if is_leased || rule.lends_to_flows() {
            let lease = self.mapping_over(&session).filter(|_| is_leased);
            return rule.lends_to_flows()
                && lease.is_some_and(|lease| self.renumber(nat, lease, rule));
        }
        let is_mapped = session.flags & flag::MAPPED != 0;
        let Some(filtering) = filtering.filter(|_| is_mapped) else {
            return is_mapped == filtering.is_some();
        };
        let mapping = self.mapping_over(&session);
        let Some(mapping) = mapping.filter(|mapping| self.renumber(nat, *mapping, rule)) else {
            return false;
        };
        self.table.session_mut(mapping).set_filtering(filtering);
        let may_permit = session.flags & (flag::PERMITS | flag::FROM_OUTSIDE) == 0;
        if may_permit && filtering == Filtering::AddressDependent {
            let peer = session.outside_global().address.to_bits();
            self.mappings.permit(mapping, peer);
            self.table.session_mut(at).flags |= flag::PERMITS;
        }
        true
    }

    /// Gives a mapping the number of a rule, if the one that it has is no such rule's any more.
    fn renumber(&mut self, nat: &Nat, at: u32, rule: &Rule) -> bool {
        let mapping = *self.table.session(at);
        if mapping.rule == rule.id {
            return true;
        }
        let is_its = |rule: &Rule| {
            rule.id == mapping.rule && (rule.mapping.is_some() || rule.lends_to_flows())
        };
        let outbound = mapping.keys[Direction::Out as usize];
        if nat.rules.iter().any(is_its)
            || self.mapping_of(mapping.protocol, outbound, rule).is_some()
        {
            return false;
        }
        let (from, to) = (mapping.inside_local(), mapping.inside_global());
        let client = (from.address.to_bits(), from.port);
        let mut renumbered = Session {
            keys: keys(client, (to.address.to_bits(), to.port), rule.id),
            ..mapping
        };
        renumbered.rule = rule.id;
        // The place that has just become free is the next that is taken.
        self.table.remove(at);
        let again = self.table.insert(renumbered, mapping.used, &nat.timers);
        debug_assert_eq!(again, Some(at), "a place given back is taken first");
        again == Some(at)
    }

    /// Whether the filtering of a mapping lets a host in that no entry fits.
    pub(super) fn lets_in(&self, at: u32, peer: u32) -> bool {
        match self.table.session(at).filtering() {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => self.mappings.permits(at, peer),
            Filtering::AddressAndPortDependent => false,
        }
    }
}
