//! Relations of a client and a peer: made, given a global address, moved, removed.

use std::net::Ipv4Addr;

use super::decision::{EspCounter, EspDrop, Outcome};
use super::engine::Engine;
use super::half::{Client, Group, Relation};
use super::held::Queue;
use super::policy::{Globals, Policy};
use super::table::{Id, NIL};
use super::trace::{Basis, Candidates, Event, Verdict, What};
use crate::snapshot::InsideHost;

impl<T> Engine<T> {
    /// The relation of `client` and `peer`, made if there is none. `forced` is the global address
    /// of a static.
    pub(super) fn relation(
        &mut self,
        client: InsideHost,
        peer: Ipv4Addr,
        forced: Option<Ipv4Addr>,
        policy: &impl Policy,
    ) -> Result<Id, EspDrop> {
        if let Some(id) = self.relations.find(&(client, peer)) {
            return Ok(id);
        }
        let owner = self.clients.find(&client);
        if let Some(owner) = owner
            && self.clients[owner].relations >= self.limits.client_relations
        {
            return Err(EspDrop::ClientShare);
        }
        if self.relations.is_full() || (owner.is_none() && self.clients.is_full()) {
            return Err(EspDrop::RelationTableFull);
        }
        let global = match forced {
            Some(global) => global,
            None => self
                .choose_global(client, peer, None, policy)
                .ok_or(EspDrop::NoGlobal)?,
        };
        let group = self.group(peer, global).ok_or(EspDrop::RelationTableFull)?;
        let owner = owner
            .or_else(|| self.clients.insert(client, Client::default()))
            .ok_or(EspDrop::RelationTableFull)?;
        let relation = Relation {
            client: owner,
            group,
            global,
            ..Relation::default()
        };
        let id = self
            .relations
            .insert((client, peer), relation)
            .ok_or(EspDrop::RelationTableFull)?;
        self.clients[owner].relations += 1;
        self.clients[owner].global = Some(global);
        self.relations.push(&mut self.groups[group].relations, id);
        Ok(id)
    }

    fn group(&mut self, peer: Ipv4Addr, global: Ipv4Addr) -> Option<Id> {
        // As many groups as relations fit, and a group without relations is removed: there is room.
        self.groups
            .find(&(peer, global))
            .or_else(|| self.groups.insert((peer, global), Group::default()))
    }

    /// The best global address: one behind which nobody else talks to this peer, the client's own
    /// before others; else the one with the fewest.
    pub(super) fn choose_global(
        &self,
        client: InsideHost,
        peer: Ipv4Addr,
        not: Option<Ipv4Addr>,
        policy: &impl Policy,
    ) -> Option<Ipv4Addr> {
        let mut globals = Globals::new();
        policy.globals(client, peer, &mut globals);
        let own = self
            .clients
            .find(&client)
            .and_then(|c| self.clients[c].global);
        globals
            .iter()
            .filter(|&&g| Some(g) != not)
            .filter(|&&g| policy.static_esp(g).is_none_or(|host| host == client))
            .min_by_key(|&&g| {
                let others = self
                    .groups
                    .find(&(peer, g))
                    .map_or(0, |id| self.groups[id].relations.len);
                (others, Some(g) != own)
            })
            .copied()
    }

    /// Moves a relation whose SPI met another client's to another global address, if there is
    /// one: its halves and IKE entries go, and the new tunnel begins afresh.
    pub(super) fn rehome(&mut self, id: Id, policy: &impl Policy) -> bool {
        let (client, peer) = self.relations.key(id);
        let present = self.relations[id].global;
        self.relations[id].collided = false;
        let better = self.choose_global(client, peer, Some(present), policy);
        let Some(global) = better else { return false };
        self.remove_relation(id, EspCounter::Rehomed);
        self.relation(client, peer, Some(global), policy).is_ok()
    }

    /// Removes a relation with all it has; counts each half under `why`.
    pub(super) fn remove_relation(&mut self, id: Id, why: EspCounter) {
        self.drop_queue(id, EspDrop::Cleared);
        while self.relations[id].outs.head != NIL {
            let out = self.relations[id].outs.head;
            self.remove_out(out);
            if why != EspCounter::Rehomed {
                self.count(why);
            }
        }
        while self.relations[id].ins.head != NIL {
            let inbound = self.relations[id].ins.head;
            self.remove_in(inbound);
            if why != EspCounter::Rehomed {
                self.count(why);
            }
        }
        while self.relations[id].flows.head != NIL {
            let flow = self.relations[id].flows.head;
            self.remove_flow(flow);
        }
        if why == EspCounter::Rehomed {
            self.count(why);
        }
        self.release_if_empty(id);
    }

    /// Removes a relation without halves and IKE entries.
    pub(super) fn release_if_empty(&mut self, id: Id) {
        let relation = self.relations[id];
        if relation.outs.len + relation.ins.len + relation.flows.len > 0 {
            return;
        }
        self.drop_queue(id, EspDrop::Cleared);
        self.leave_queue(id);
        while self.relations[id].sas.head != NIL {
            let sa = self.relations[id].sas.head;
            self.remove_sa(sa);
        }
        let group = relation.group;
        if self.groups[group].waiting == id {
            self.end_wait(group);
        }
        self.relations.unlink(&mut self.groups[group].relations, id);
        self.relations.remove(id);
        let client = &mut self.clients[relation.client];
        client.relations -= 1;
        if client.relations == 0 {
            self.clients.remove(relation.client);
        }
        if self.groups[group].relations.len == 0 {
            let mut held = self.groups[group].held;
            while held.head != NIL {
                let slot = held.head;
                self.pool
                    .decide(&mut held, slot, Outcome::Drop(EspDrop::Cleared));
                self.refuse(EspDrop::Cleared);
            }
            self.groups.remove(group);
        }
    }

    /// Drops all packets that a relation holds.
    fn drop_queue(&mut self, id: Id, reason: EspDrop) {
        while self.relations[id].held.head != NIL {
            let slot = self.relations[id].held.head;
            self.decide_out(id, slot, Outcome::Drop(reason));
        }
    }

    /// Decides about one packet of a relation's queue.
    pub(super) fn decide_out(&mut self, id: Id, slot: Id, outcome: Outcome) {
        let facts = self.pool.facts(slot);
        let mut queue: Queue = self.relations[id].held;
        self.pool.decide(&mut queue, slot, outcome);
        self.relations[id].held = queue;
        let client = &mut self.clients[self.relations[id].client];
        client.held_packets -= 1;
        client.held_octets -= facts.octets;
        self.note_decided(outcome);
        let (client, peer) = self.relations.key(id);
        self.tell(|engine| Event {
            at: engine.now,
            what: What::EspOut(facts.spi, facts.sequence),
            client: Some(client),
            peer,
            global: Some(engine.relations[id].global),
            candidates: Candidates::default(),
            verdict: verdict_of(outcome),
            basis: Basis::WasHeld,
        });
    }

    /// Decides about one packet of a group's queue.
    pub(super) fn decide_in(&mut self, group: Id, slot: Id, outcome: Outcome) {
        let facts = self.pool.facts(slot);
        let mut queue = self.groups[group].held;
        self.pool.decide(&mut queue, slot, outcome);
        self.groups[group].held = queue;
        self.note_decided(outcome);
        let (peer, global) = self.groups.key(group);
        self.tell(|engine| Event {
            at: engine.now,
            what: What::EspIn(facts.spi, facts.sequence),
            client: match outcome {
                Outcome::Deliver { client } => Some(client),
                _ => None,
            },
            peer,
            global: Some(global),
            candidates: Candidates::default(),
            verdict: verdict_of(outcome),
            basis: Basis::WasHeld,
        });
    }

    fn note_decided(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Drop(reason) => self.refuse(reason),
            _ => self.count(EspCounter::Released),
        }
    }
}

fn verdict_of(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Translate { .. } => Verdict::Translate,
        Outcome::Deliver { .. } => Verdict::Deliver,
        Outcome::Drop(reason) => Verdict::Drop(reason),
    }
}
