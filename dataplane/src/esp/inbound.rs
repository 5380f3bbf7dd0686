//! ESP from outside.

use std::net::Ipv4Addr;

use super::decision::{EspCounter, EspDrop, Inbound, Method};
use super::engine::Engine;
use super::half::HalfState;
use super::held::{Facts, Place};
use super::outbound::{EspPacket, PREDICTED, PREDICTS_BY_HASH};
use super::policy::Policy;
use super::spi_match;
use super::table::{Id, NIL};
use super::trace::{Basis, Candidates, Event, Verdict, What};
use crate::snapshot::InsideHost;
use crate::time::Millis;

/// Sequence numbers that may arrive late (RFC 4303 section 3.4.3: a receiver's usual window).
pub(super) const REPLAY_WINDOW: u32 = 64;

impl<T> Engine<T> {
    /// Decides about an ESP packet from `peer` to the global address `global`.
    #[inline]
    pub fn inbound_esp(
        &mut self,
        now: Millis,
        peer: Ipv4Addr,
        global: Ipv4Addr,
        packet: &EspPacket,
        policy: &impl Policy,
    ) -> Inbound {
        self.advance(now);
        if let Some(id) = self.ins.find(&(peer, global, packet.spi))
            && !self.in_expired(id)
        {
            let now = self.now;
            let inbound = &mut self.ins[id];
            let late = packet.sequence.saturating_add(REPLAY_WINDOW) < inbound.last_sequence;
            if inbound.confirmed && !late {
                inbound.used = now;
                inbound.last_sequence = inbound.last_sequence.max(packet.sequence);
                return Inbound::Deliver {
                    client: inbound.client,
                };
            }
            return self.inbound_known(id, packet, late);
        }
        self.inbound_unknown(peer, global, packet, policy)
    }

    /// A tentative half, or a sequence number from the past.
    fn inbound_known(&mut self, id: Id, packet: &EspPacket, late: bool) -> Inbound {
        let inbound = self.ins[id];
        let client = inbound.client;
        let (peer, global, _) = self.ins.key(id);
        if late && inbound.confirmed {
            let group = self.relations[inbound.relation].group;
            let choice = self.choose(group, packet.sequence, self.now);
            if let Some(other) = choice.relation
                && other != inbound.relation
            {
                self.relations[other].collided = true;
                let drop = Verdict::Drop(EspDrop::SpiCollision);
                self.refuse(EspDrop::SpiCollision);
                let known = Some(self.client_of(other));
                self.tell_in(
                    peer,
                    global,
                    packet,
                    known,
                    drop,
                    choice.basis,
                    choice.candidates,
                );
                return Inbound::Drop(EspDrop::SpiCollision);
            }
        }
        let now = self.now;
        // Far behind and small: the SA began again with the same SPI (keys set by hand).
        let again = late && self.is_fresh(packet.sequence);
        let at = &mut self.ins[id];
        at.used = now;
        at.last_sequence = if again {
            packet.sequence
        } else {
            at.last_sequence.max(packet.sequence)
        };
        if !inbound.confirmed && packet.sequence > inbound.first_sequence {
            self.confirm(id);
        }
        Inbound::Deliver { client }
    }

    fn inbound_unknown(
        &mut self,
        peer: Ipv4Addr,
        global: Ipv4Addr,
        packet: &EspPacket,
        policy: &impl Policy,
    ) -> Inbound {
        let none = Candidates::default;
        if spi_match::is_reserved(packet.spi) {
            self.refuse(EspDrop::ReservedSpi);
            let drop = Verdict::Drop(EspDrop::ReservedSpi);
            self.tell_in(peer, global, packet, None, drop, Basis::None, none());
            return Inbound::Drop(EspDrop::ReservedSpi);
        }
        if let Some(old) = self.ins.find(&(peer, global, packet.spi)) {
            self.expire_in(old);
        }
        if let Some(client) = policy.static_esp(global) {
            self.count(EspCounter::StaticDelivered);
            return Inbound::Deliver { client };
        }
        let Some(group) = self.groups.find(&(peer, global)) else {
            self.count(EspCounter::NotOurs);
            return Inbound::NotOurs;
        };
        if let Some(relation) = self.match_spi(peer, global, packet, policy.spi_key()) {
            return self.give(group, relation, packet, Basis::SpiMatch, none());
        }
        let choice = self.choose(group, packet.sequence, self.now);
        if let Some(relation) = choice.relation {
            self.pair(relation, packet.spi, packet.sequence, choice.basis);
            return self.give(group, relation, packet, choice.basis, choice.candidates);
        }
        if self.groups[group].relations.len == 1 {
            self.count(EspCounter::OnlyClient);
            let only = self.groups[group].relations.head;
            return self.give(group, only, packet, Basis::OnlyClient, none());
        }
        if choice.candidates.count == 0 {
            return self.refuse_in(peer, global, packet, EspDrop::UnknownSpi, none());
        }
        if self.is_fresh(packet.sequence) && self.groups[group].waiting == NIL {
            self.take_turns(group);
        }
        self.hold_in(group, packet, choice.candidates)
    }

    /// The client whose half predicts this SPI, paired at once.
    fn match_spi(
        &mut self,
        peer: Ipv4Addr,
        global: Ipv4Addr,
        packet: &EspPacket,
        key: spi_match::Key,
    ) -> Option<Id> {
        let out = self.predicted_out(peer, global, packet.spi, key)?;
        let relation = self.outs[out].relation;
        if let Some(id) = self.make_in(relation, packet.spi, packet.sequence, Method::Matched) {
            self.ins[id].confirmed = true;
            self.relations[relation].evidence.paired();
            self.relations[relation].unanswered = false;
            self.relations[relation].matched = true;
            self.ins[id].early = self.outs[out].state == HalfState::Queued;
            if self.outs[out].state == HalfState::Open {
                let old = self.outs[out];
                if let Some(tentative) = self.partner_in(peer, &old) {
                    self.ins[tentative].partner = 0;
                }
                self.outs[out].partner = 0;
                self.marry(out, id);
            }
            let here = &self.relations[relation];
            let window = self.limits.evidence_ms;
            if here.open == 0 && here.evidence.unpaired(self.now, window) == 0 {
                self.withdraw_tentative(relation);
            }
            let group = self.relations[relation].group;
            self.reconsider(group);
        }
        Some(relation)
    }

    pub(super) fn predicted_out(
        &self,
        peer: Ipv4Addr,
        global: Ipv4Addr,
        spi: u32,
        key: spi_match::Key,
    ) -> Option<Id> {
        let answer = u64::from(spi_match::answer(spi, key));
        let words = [PREDICTED | u64::from(spi), PREDICTS_BY_HASH | answer];
        words
            .into_iter()
            .find_map(|word| self.predicted.find(&(peer, global, word)))
            .map(|entry| self.predicted[entry])
    }

    /// Delivers a packet, and before it what was held of its SPI.
    fn give(
        &mut self,
        group: Id,
        relation: Id,
        packet: &EspPacket,
        basis: Basis,
        candidates: Candidates,
    ) -> Inbound {
        self.deliver_held(group, packet.spi, relation);
        let client = self.client_of(relation);
        let (peer, global) = self.groups.key(group);
        let known = Some(client);
        self.tell_in(
            peer,
            global,
            packet,
            known,
            Verdict::Deliver,
            basis,
            candidates,
        );
        Inbound::Deliver { client }
    }

    fn hold_in(&mut self, group: Id, packet: &EspPacket, candidates: Candidates) -> Inbound {
        let (peer, global) = self.groups.key(group);
        let (octets, packets) = self.pool.inbound;
        let mut queue = self.groups[group].held;
        let fits = queue.len < self.limits.group_held_packets
            && packets < self.limits.held_packets / 2
            && octets + packet.octets as usize <= self.limits.held_octets / 2;
        let facts = Facts {
            octets: packet.octets,
            spi: packet.spi,
            sequence: packet.sequence,
            since: self.now,
            place: Place::Group(group),
        };
        let ticket = if fits {
            self.pool.hold(&mut queue, facts)
        } else {
            None
        };
        let Some(ticket) = ticket else {
            return self.refuse_in(peer, global, packet, EspDrop::Ambiguous, candidates);
        };
        self.groups[group].held = queue;
        self.count(EspCounter::HeldIn);
        self.tell_in(
            peer,
            global,
            packet,
            None,
            Verdict::Hold,
            Basis::None,
            candidates,
        );
        Inbound::Hold(ticket)
    }

    fn refuse_in(
        &mut self,
        peer: Ipv4Addr,
        global: Ipv4Addr,
        packet: &EspPacket,
        reason: EspDrop,
        candidates: Candidates,
    ) -> Inbound {
        self.refuse(reason);
        let drop = Verdict::Drop(reason);
        self.tell_in(peer, global, packet, None, drop, Basis::None, candidates);
        Inbound::Drop(reason)
    }

    #[expect(clippy::too_many_arguments, reason = "one event, built in one place")]
    fn tell_in(
        &mut self,
        peer: Ipv4Addr,
        global: Ipv4Addr,
        packet: &EspPacket,
        client: Option<InsideHost>,
        verdict: Verdict,
        basis: Basis,
        candidates: Candidates,
    ) {
        self.tell(|engine| Event {
            at: engine.now,
            what: What::EspIn(packet.spi, packet.sequence),
            client,
            peer,
            global: Some(global),
            candidates,
            verdict,
            basis,
        });
    }

    /// Removes an inbound half whose time is over.
    pub(super) fn expire_in(&mut self, id: Id) {
        let relation = self.ins[id].relation;
        self.count(EspCounter::Expired);
        self.remove_in(id);
        self.release_if_empty(relation);
    }
}
