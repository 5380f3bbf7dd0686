//! To whom an unknown SPI from outside belongs, and what becomes of that answer.

use super::decision::{EspCounter, Method, Outcome};
use super::engine::Engine;
use super::evidence::Expects;
use super::half::{HalfState, In};
use super::table::{Id, NIL};
use super::trace::{Basis, Candidates, Event, Verdict, What};
use crate::time::Millis;

/// Who came into question for an SPI, and who it was.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) relation: Option<Id>,
    pub(super) basis: Basis,
    pub(super) candidates: Candidates,
}

#[derive(Default)]
struct Tally {
    only: Option<Id>,
    candidates: Candidates,
}

impl<T> Engine<T> {
    /// Whom the evidence gives an unknown SPI that came at `at` with this sequence number. Several
    /// candidates and no relation mean that it is ambiguous, no candidates that nobody expects it.
    pub(super) fn choose(&self, group: Id, sequence: u32, at: Millis) -> Choice {
        let here = &self.groups[group];
        let fresh = self.is_fresh(sequence);
        let mut ended = Tally::default();
        let mut maybe = Tally::default();
        let waits = here.waiting != NIL && here.since <= at;
        if waits && (fresh || self.relations[here.waiting].open_midway) {
            self.add(&mut ended, here.waiting);
            return Choice {
                relation: Some(here.waiting),
                basis: Basis::Waiting,
                candidates: ended.candidates,
            };
        }
        if here.relations.len > self.limits.candidates {
            return Choice {
                relation: None,
                basis: Basis::None,
                candidates: Candidates {
                    count: here.relations.len,
                    ..Candidates::default()
                },
            };
        }
        let mut basis = Basis::OpenHalf;
        let mut ended_or_running = Tally::default();
        let (mut running, mut lacking) = (false, false);
        for id in self.relations.walk(&here.relations) {
            let relation = &self.relations[id];
            if relation.matched {
                continue;
            }
            let expects = relation.evidence.expects(at, self.limits.evidence_ms);
            let open =
                relation.open > 0 && relation.open_since <= at && (fresh || relation.open_midway);
            if fresh && expects != Expects::No {
                self.add(&mut ended_or_running, id);
            }
            if fresh && expects == Expects::Ended {
                self.add(&mut ended, id);
                lacking |= !self.has_all_it_expects(id, at);
                continue;
            }
            running |= fresh && expects == Expects::Running;
            if open {
                self.add(&mut maybe, id);
            } else if fresh && expects == Expects::Running {
                self.add(&mut maybe, id);
                basis = Basis::IkeRunning;
            }
        }
        if ended.candidates.count > 0 && running && !lacking {
            // A server uses a new SA before its answer to the client's request is on the wire: this may be the SPI of the
            // exchange under way. Proof of the pairings that there are tells.
            return ended_or_running.choice(Basis::None);
        }
        if ended.candidates.count > 0 {
            return ended.choice(Basis::IkeEnded);
        }
        maybe.choice(basis)
    }

    /// Whether as many SPIs as this client expects have come for it, if only proof of them is missing; or the one of its latest
    /// exchange is proven, so that what an earlier one made will hardly show itself any more.
    fn has_all_it_expects(&self, relation: Id, at: Millis) -> bool {
        let here = &self.relations[relation];
        let expected = here
            .open
            .max(here.evidence.unpaired(at, self.limits.evidence_ms));
        let latest = here.evidence.latest_began();
        let renewed = || {
            self.ins
                .walk(&here.ins)
                .any(|i| self.ins[i].confirmed && self.ins[i].created >= latest)
        };
        here.tentative >= expected.max(1) || (here.open == 0 && renewed())
    }

    fn add(&self, tally: &mut Tally, relation: Id) {
        tally.only = (tally.candidates.count == 0).then_some(relation);
        tally.candidates.count += 1;
        if !tally.candidates.named.is_full() {
            tally.candidates.named.push(self.client_of(relation));
        }
    }

    /// Pairs an unknown SPI with a relation, tentatively. `false` where there is no room: the
    /// packet is delivered all the same, without an entry.
    pub(super) fn pair(&mut self, relation: Id, spi: u32, sequence: u32, basis: Basis) -> bool {
        let method = match basis {
            Basis::IkeEnded | Basis::IkeRunning => Method::Ike,
            _ => Method::Learned,
        };
        if self.relations[relation].tentative >= self.limits.tentative {
            self.count(EspCounter::TentativeFull);
            return false;
        }
        let Some(id) = self.make_in(relation, spi, sequence, method) else {
            self.count(EspCounter::TentativeFull);
            return false;
        };
        self.relations[relation].tentative += 1;
        match self.partnerless(relation) {
            Some(out) => self.engage(out, id),
            None => self.ins[id].early = self.relations[relation].open == 0,
        }
        let group = self.relations[relation].group;
        let over = self.relations[relation].waiting == 0;
        if self.groups[group].waiting == relation && over && !self.groups[group].strict {
            self.end_wait(group);
        }
        true
    }

    /// Makes an inbound half that is neither tentative nor confirmed yet in the sums.
    pub(super) fn make_in(
        &mut self,
        relation: Id,
        spi: u32,
        sequence: u32,
        method: Method,
    ) -> Option<Id> {
        let (client, peer) = self.relations.key(relation);
        let owner = self.relations[relation].client;
        if self.clients[owner].ins >= self.limits.client_halves {
            return None;
        }
        let inbound = In {
            relation,
            client,
            method,
            first_sequence: sequence,
            last_sequence: sequence,
            created: self.now,
            used: self.now,
            ..In::default()
        };
        let global = self.relations[relation].global;
        let id = self.ins.insert((peer, global, spi), inbound)?;
        self.clients[owner].ins += 1;
        self.ins.push(&mut self.relations[relation].ins, id);
        self.count(EspCounter::HalvesIn);
        Some(id)
    }

    /// The oldest open half without even a tentative partner; one of before the latest exchange, whose SA may be gone, only if
    /// there is no other.
    fn partnerless(&self, relation: Id) -> Option<Id> {
        let here = &self.relations[relation];
        let latest = here.evidence.latest_began();
        let alone = |o: &Id| self.outs[*o].state == HalfState::Open && self.outs[*o].partner == 0;
        let outs = || self.outs.walk(&here.outs).filter(alone);
        outs()
            .find(|&o| self.outs[o].created >= latest)
            .or_else(|| outs().next())
    }

    /// Two halves belong together, tentatively.
    fn engage(&mut self, out: Id, inbound: Id) {
        let (spi_out, spi_in) = (self.outs.key(out).2, self.ins.key(inbound).2);
        self.outs[out].partner = spi_in;
        self.outs[out].method = Some(self.ins[inbound].method);
        self.ins[inbound].partner = spi_out;
        self.ins[inbound].early = false;
        let group = self.relations[self.outs[out].relation].group;
        if !self.groups[group].strict {
            self.stop_waiting(out);
        }
    }

    /// An open half and an inbound half that came before it belong together.
    pub(super) fn marry(&mut self, out: Id, inbound: Id) {
        self.engage(out, inbound);
        if self.ins[inbound].confirmed {
            self.settle_out(out);
            self.count_paired(self.ins[inbound].method);
        }
    }

    /// The oldest inbound half that came before any packet of its tunnel went out.
    pub(super) fn early_in(&self, relation: Id) -> Option<Id> {
        self.ins.walk(&self.relations[relation].ins).find(|&i| {
            let inbound = &self.ins[i];
            inbound.early
                && inbound.partner == 0
                && self.now.since(inbound.created) <= self.limits.evidence_ms
        })
    }

    /// A second packet with a higher sequence number came: the pairing is proven, unless more
    /// SPIs came for this client than it can have and another client is unproven too.
    pub(super) fn confirm(&mut self, id: Id) {
        let relation = self.ins[id].relation;
        let group = self.relations[relation].group;
        let here = &self.relations[relation];
        let expected = here
            .open
            .max(here.evidence.unpaired(self.now, self.limits.evidence_ms));
        if here.tentative > expected.max(1) && self.take_turns(group) {
            return;
        }
        self.ins[id].confirmed = true;
        self.relations[relation].tentative -= 1;
        self.relations[relation].evidence.paired();
        self.relations[relation].unanswered = false;
        self.groups[group].backoff_ms = 0;
        self.count(EspCounter::Confirmed);
        self.tell(|engine| engine.confirmed_event(id));
        let spi = self.ins.key(id).2;
        if let Some(out) = self.best_partner(relation, spi) {
            self.divorce(out, spi);
            self.engage(out, id);
            self.stop_waiting(out);
            self.settle_out(out);
            self.count_paired(self.ins[id].method);
        }
        let here = &self.relations[relation];
        if here.open == 0 && here.evidence.unpaired(self.now, self.limits.evidence_ms) == 0 {
            self.withdraw_tentative(relation);
        }
        let waits = self.groups[group].waiting == relation;
        let over = self.relations[relation].waiting == 0 || self.groups[group].strict;
        if waits && over {
            self.end_wait(group);
        }
        self.reconsider(group);
    }

    /// The open half of a proven inbound one: its own tentative partner, else one without, else
    /// one whose partner is tentative.
    fn best_partner(&self, relation: Id, spi: u32) -> Option<Id> {
        let open = |o: &Id| self.outs[*o].state == HalfState::Open;
        let outs = || self.outs.walk(&self.relations[relation].outs).filter(open);
        outs()
            .find(|&o| self.outs[o].partner == spi)
            .or_else(|| self.partnerless(relation))
            .or_else(|| outs().next())
    }

    /// An open half leaves its tentative partner, unless that is `spi`.
    fn divorce(&mut self, out: Id, spi: u32) {
        let half = self.outs[out];
        if half.partner == spi {
            return;
        }
        if let Some(old) = self.partner_in(self.outs.key(out).1, &half) {
            self.ins[old].partner = 0;
        }
    }

    /// Takes all tentative pairings of a relation back: their SPIs are unknown again.
    pub(super) fn withdraw_tentative(&mut self, relation: Id) {
        let mut at = self.relations[relation].ins.head;
        while at != NIL {
            let next = self.ins.after(at);
            if !self.ins[at].confirmed {
                self.count(EspCounter::Withdrawn);
                self.remove_in(at);
            }
            at = next;
        }
    }

    /// Removes an inbound half; its relation stays, perhaps empty.
    pub(super) fn remove_in(&mut self, id: Id) {
        let inbound = self.ins[id];
        let (peer, _, spi) = self.ins.key(id);
        if let Some(out) = self.partner_out(peer, &inbound)
            && self.outs[out].partner == spi
        {
            self.outs[out].partner = 0;
            if self.outs[out].state == HalfState::Paired {
                // It may get another partner, in the middle of its life.
                self.outs[out].state = HalfState::Queued;
                self.paired -= 1;
                self.open_out(out, false);
                self.relations[inbound.relation].open_midway = true;
            }
        }
        let relation = &mut self.relations[inbound.relation];
        relation.tentative -= u32::from(!inbound.confirmed);
        self.ins.unlink(&mut relation.ins, id);
        self.ins.remove(id);
        let client = relation.client;
        self.clients[client].ins -= 1;
    }

    /// Looks again at what the group holds: there are fewer candidates now. A packet is judged by
    /// what could be known when it came, less what has been settled since.
    pub(super) fn reconsider(&mut self, group: Id) {
        let (peer, global) = self.groups.key(group);
        let mut slot = self.groups[group].held.head;
        while slot != NIL {
            let facts = self.pool.facts(slot);
            let known = self.ins.find(&(peer, global, facts.spi));
            let relation = known.map(|i| self.ins[i].relation).or_else(|| {
                let choice = self.choose(group, facts.sequence, facts.since);
                let relation = choice.relation?;
                self.pair(relation, facts.spi, facts.sequence, choice.basis);
                Some(relation)
            });
            let next = self.pool.after(slot);
            if let Some(relation) = relation {
                let client = self.client_of(relation);
                self.decide_in(group, slot, Outcome::Deliver { client });
            }
            slot = next;
        }
    }

    /// Delivers what the group holds of one SPI, in order.
    pub(super) fn deliver_held(&mut self, group: Id, spi: u32, relation: Id) {
        let client = self.client_of(relation);
        let mut slot = self.groups[group].held.head;
        while slot != NIL {
            let next = self.pool.after(slot);
            if self.pool.facts(slot).spi == spi {
                self.decide_in(group, slot, Outcome::Deliver { client });
            }
            slot = next;
        }
    }

    pub(super) fn count_paired(&mut self, method: Method) {
        self.count(match method {
            Method::Static => EspCounter::PairedStatic,
            Method::Matched => EspCounter::PairedMatched,
            Method::Learned => EspCounter::PairedLearned,
            Method::Ike => EspCounter::PairedIke,
        });
    }

    fn confirmed_event(&self, id: Id) -> Event {
        let (peer, global, spi) = self.ins.key(id);
        Event {
            at: self.now,
            what: What::EspIn(spi, self.ins[id].last_sequence),
            client: Some(self.ins[id].client),
            peer,
            global: Some(global),
            candidates: Candidates::default(),
            verdict: Verdict::Confirm,
            basis: Basis::SecondPacket,
        }
    }
}

impl Tally {
    fn choice(self, basis: Basis) -> Choice {
        Choice {
            relation: self.only,
            basis: if self.only.is_some() {
                basis
            } else {
                Basis::None
            },
            candidates: self.candidates,
        }
    }
}
