//! ESP from inside.

use std::net::Ipv4Addr;

use super::decision::{EspCounter, EspDrop, Method, Outbound, Outcome};
use super::engine::Engine;
use super::half::{HalfState, Out};
use super::held::{Facts, Place};
use super::policy::Policy;
use super::spi_match;
use super::table::{Id, NIL};
use super::trace::{Basis, Verdict, What};
use crate::snapshot::InsideHost;
use crate::time::Millis;

/// What the engine needs to know of an ESP packet (RFC 4303 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EspPacket {
    /// The security parameters index.
    pub spi: u32,
    /// The sequence number's low 32 bits, as they are on the wire.
    pub sequence: u32,
    /// Octets of the packet, as they count for the limits on held packets.
    pub octets: u32,
}

/// The kinds of words in the index of predicted SPIs.
pub(super) const PREDICTS_BY_HASH: u64 = 1 << 32;
pub(super) const PREDICTED: u64 = 2 << 32;

impl<T> Engine<T> {
    /// Decides about an ESP packet from `client` to `peer`.
    #[inline]
    pub fn outbound_esp(
        &mut self,
        now: Millis,
        client: InsideHost,
        peer: Ipv4Addr,
        packet: &EspPacket,
        policy: &impl Policy,
    ) -> Outbound {
        self.advance(now);
        if let Some(id) = self.outs.find(&(client, peer, packet.spi))
            && !self.out_expired(id)
        {
            let now = self.now;
            let out = &mut self.outs[id];
            if out.state != HalfState::Queued {
                out.used = now;
                out.last_sequence = out.last_sequence.max(packet.sequence);
                return Outbound::Translate { global: out.global };
            }
            return self.hold_out(id, packet);
        }
        self.outbound_new((client, peer), packet, policy)
    }

    fn outbound_new(
        &mut self,
        key: (InsideHost, Ipv4Addr),
        packet: &EspPacket,
        policy: &impl Policy,
    ) -> Outbound {
        let what = What::EspOut(packet.spi, packet.sequence);
        match self.outbound_try(key, packet, policy) {
            Ok((global, Some(id), basis)) if self.outs[id].state == HalfState::Queued => {
                self.tell_out(key, Some(global), what, Verdict::Hold, basis);
                self.hold_out(id, packet)
            }
            Ok((global, _, basis)) => {
                self.tell_out(key, Some(global), what, Verdict::Translate, basis);
                Outbound::Translate { global }
            }
            Err(reason) => {
                self.refuse(reason);
                self.tell_out(key, None, what, Verdict::Drop(reason), Basis::None);
                Outbound::Drop(reason)
            }
        }
    }

    fn outbound_try(
        &mut self,
        key: (InsideHost, Ipv4Addr),
        packet: &EspPacket,
        policy: &impl Policy,
    ) -> Result<(Ipv4Addr, Option<Id>, Basis), EspDrop> {
        let (client, peer) = key;
        if spi_match::is_reserved(packet.spi) {
            return Err(EspDrop::ReservedSpi);
        }
        if let Some(old) = self.outs.find(&(client, peer, packet.spi)) {
            self.expire_out(old);
        }
        if let Some(global) = policy.static_global(client) {
            // A static needs no half; it has one to be seen, as long as there is room.
            let id = self
                .relation(client, peer, Some(global), policy)
                .and_then(|relation| self.make_out(relation, packet))
                .ok();
            if let Some(id) = id {
                self.outs[id].method = Some(Method::Static);
                self.open_out(id, false);
                self.settle_out(id);
                self.count(EspCounter::PairedStatic);
            }
            return Ok((global, id, Basis::Static));
        }
        if !policy.has_room() {
            return Err(EspDrop::MaxEntries);
        }
        let mut relation = self.relation(client, peer, None, policy)?;
        if self.relations[relation].collided && self.rehome(relation, policy) {
            relation = self.relation(client, peer, None, policy)?;
        }
        let id = self.make_out(relation, packet);
        let id = match id {
            Ok(id) => id,
            Err(reason) => {
                self.release_if_empty(relation);
                return Err(reason);
            }
        };
        let global = self.relations[relation].global;
        let basis = self.place_out(id, policy);
        Ok((global, Some(id), basis))
    }

    /// Opens a new half, or queues it behind the client that waits.
    fn place_out(&mut self, id: Id, policy: &impl Policy) -> Basis {
        let relation = self.outs[id].relation;
        let (client, peer) = self.relations.key(relation);
        if !self.relations[relation].unmatched && policy.spi_match(client, peer) {
            self.open_out(id, false);
            self.predict(id, policy.spi_key());
            if let Some(early) = self.early_in(relation) {
                self.marry(id, early);
            }
            return Basis::SpiMatch;
        }
        self.relations[relation].matched = false;
        if let Some(early) = self.early_in(relation) {
            self.open_out(id, false);
            self.marry(id, early);
            return Basis::EarlyInbound;
        }
        if let Some(inbound) = self.taken_for_older(id) {
            self.part(inbound);
            self.open_out(id, false);
            self.marry(id, inbound);
            return Basis::EarlyInbound;
        }
        let group = self.relations[relation].group;
        let waiting = self.groups[group].waiting;
        if self.relations[relation].unanswered {
            self.open_out(id, false);
        } else if waiting == NIL {
            self.open_out(id, true);
            self.begin_wait(group, relation);
        } else if waiting == relation {
            self.open_out(id, true);
        } else {
            self.join_queue(relation);
            return Basis::OtherWaits;
        }
        Basis::NobodyWaits
    }

    /// The inbound half of a client's new half `out`, if it came before it: since the latest exchange began, and then with nothing to
    /// go with but a half of before. The peer had changed to the new SA already.
    fn taken_for_older(&self, out: Id) -> Option<Id> {
        let relation = self.outs[out].relation;
        let here = &self.relations[relation];
        let latest = here.evidence.latest_began();
        let (_, peer, _) = self.outs.key(out);
        self.ins.walk(&here.ins).find(|&i| {
            let partner = self.partner_out(peer, &self.ins[i]);
            self.ins[i].created >= latest
                && partner.is_some_and(|o| o != out && self.outs[o].created < latest)
        })
    }

    /// An inbound half leaves the half that it was taken to belong to.
    fn part(&mut self, inbound: Id) {
        let (peer, _, _) = self.ins.key(inbound);
        let half = self.ins[inbound];
        if let Some(old) = self.partner_out(peer, &half) {
            self.outs[old].partner = 0;
        }
        self.ins[inbound].partner = 0;
    }

    /// Makes an outbound half that is queued until it is opened.
    fn make_out(&mut self, relation: Id, packet: &EspPacket) -> Result<Id, EspDrop> {
        let (client, peer) = self.relations.key(relation);
        let owner = self.relations[relation].client;
        if self.clients[owner].outs >= self.limits.client_halves {
            return Err(EspDrop::ClientShare);
        }
        let out = Out {
            relation,
            global: self.relations[relation].global,
            first_sequence: packet.sequence,
            last_sequence: packet.sequence,
            created: self.now,
            used: self.now,
            ..Out::default()
        };
        let id = self
            .outs
            .insert((client, peer, packet.spi), out)
            .ok_or(EspDrop::HalfTableFull)?;
        self.clients[owner].outs += 1;
        self.outs.push(&mut self.relations[relation].outs, id);
        self.count(EspCounter::HalvesOut);
        Ok(id)
    }

    /// Makes a half answer to the SPIs that SPI matching predicts.
    fn predict(&mut self, id: Id, key: spi_match::Key) {
        let (_, peer, spi) = self.outs.key(id);
        let global = self.outs[id].global;
        let words = [
            PREDICTS_BY_HASH | u64::from(spi),
            PREDICTED | u64::from(spi_match::answer(spi, key)),
        ];
        for (at, word) in words.into_iter().enumerate() {
            let place = (peer, global, word);
            if self.predicted.find(&place).is_none()
                && let Some(entry) = self.predicted.insert(place, id)
            {
                self.outs[id].predicted[at] = entry;
            }
        }
    }

    /// Holds a packet of a queued half.
    fn hold_out(&mut self, id: Id, packet: &EspPacket) -> Outbound {
        let relation = self.outs[id].relation;
        let client = self.relations[relation].client;
        let (held, limits) = (&self.clients[client], &self.limits);
        let (octets, packets) = self.pool.outbound;
        let fits = held.held_packets < limits.client_held_packets
            && held.held_octets.saturating_add(packet.octets) <= limits.client_held_octets
            && packets < limits.held_packets
            && octets + packet.octets as usize <= limits.held_octets;
        let facts = Facts {
            octets: packet.octets,
            spi: packet.spi,
            sequence: packet.sequence,
            since: self.now,
            place: Place::Relation(relation),
        };
        let ticket = if fits {
            let mut queue = self.relations[relation].held;
            let ticket = self.pool.hold(&mut queue, facts);
            self.relations[relation].held = queue;
            ticket
        } else {
            None
        };
        let now = self.now;
        self.outs[id].used = now;
        match ticket {
            Some(ticket) => {
                self.clients[client].held_packets += 1;
                self.clients[client].held_octets += packet.octets;
                self.count(EspCounter::HeldOut);
                Outbound::Hold(ticket)
            }
            None => {
                self.refuse(EspDrop::HoldFull);
                Outbound::Drop(EspDrop::HoldFull)
            }
        }
    }

    /// Removes an outbound half whose time is over.
    pub(super) fn expire_out(&mut self, id: Id) {
        let relation = self.outs[id].relation;
        self.count(EspCounter::Expired);
        self.remove_out(id);
        self.release_if_empty(relation);
    }

    /// Removes an outbound half; its relation stays, perhaps empty.
    pub(super) fn remove_out(&mut self, id: Id) {
        let out = self.outs[id];
        let (_, peer, spi) = self.outs.key(id);
        if let Some(partner) = self.partner_in(peer, &out)
            && self.ins[partner].partner == spi
        {
            self.ins[partner].partner = 0;
        }
        for entry in out.predicted {
            if entry != NIL {
                self.predicted.remove(entry);
            }
        }
        match out.state {
            HalfState::Queued => self.drop_held_of(out.relation, spi),
            HalfState::Open => {
                self.stop_waiting(id);
                self.relations[out.relation].open -= 1;
            }
            HalfState::Paired => self.paired -= 1,
        }
        let relation = &mut self.relations[out.relation];
        self.outs.unlink(&mut relation.outs, id);
        self.outs.remove(id);
        let (client, group, waiting) = (relation.client, relation.group, relation.waiting);
        self.clients[client].outs -= 1;
        if self.groups[group].waiting == out.relation && waiting == 0 {
            self.end_wait(group);
        }
    }

    fn drop_held_of(&mut self, relation: Id, spi: u32) {
        let mut slot = self.relations[relation].held.head;
        while slot != NIL {
            let next = self.pool.after(slot);
            if self.pool.facts(slot).spi == spi {
                self.decide_out(relation, slot, Outcome::Drop(EspDrop::Cleared));
            }
            slot = next;
        }
    }
}
