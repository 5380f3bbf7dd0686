//! Timers: a bounded piece of work a call.

use super::decision::{EspCounter, EspDrop, Outcome};
use super::engine::Engine;
use super::half::HalfState;
use super::held::Place;
use super::table::{Id, NIL};
use crate::time::Millis;

/// Longest time that a packet from inside is held where `esp-pending-timeout` is `never`.
pub(super) const HOLD_MAX_MS: u64 = 60_000;

impl<T> Engine<T> {
    /// Runs the timers: at most `work` places of each table and `work` waits. Call it in every
    /// poll; ask [`Engine::next_release`] afterwards.
    pub fn tick(&mut self, now: Millis, work: usize) {
        self.advance(now);
        self.end_waits(work);
        self.sweep_held(work);
        self.sweep_tables(work);
    }

    fn end_waits(&mut self, work: usize) {
        let patience = [self.timers.pending_ms, Some(self.limits.turn_ms)];
        for (list, patience) in patience.into_iter().enumerate() {
            let Some(patience) = patience else { continue };
            for _ in 0..work {
                let group = self.waits[list].head;
                if group == NIL || self.now.since(self.groups[group].since) < patience {
                    break;
                }
                self.expire_wait(group);
            }
        }
    }

    fn sweep_held(&mut self, work: usize) {
        if self.pool.is_empty() {
            return;
        }
        let pending = self.timers.pending_ms.unwrap_or(HOLD_MAX_MS);
        let capacity = self.pool.capacity();
        for _ in 0..work.min(capacity) {
            let slot = next_place(&mut self.sweep[0], capacity);
            let facts = self.pool.facts(slot);
            let age = self.now.since(facts.since);
            match facts.place {
                Place::Relation(relation) if age >= pending => {
                    let drop = Outcome::Drop(EspDrop::PendingExpired);
                    self.decide_out(relation, slot, drop);
                }
                Place::Relation(relation) if age >= self.limits.ambiguous_ms => {
                    let group = self.relations[relation].group;
                    if self.waits_in_vain(group) {
                        self.end_wait(group);
                    }
                }
                Place::Group(group) if age >= self.limits.ambiguous_ms => {
                    self.decide_in(group, slot, Outcome::Drop(EspDrop::Ambiguous));
                }
                _ => {}
            }
        }
    }

    fn sweep_tables(&mut self, work: usize) {
        let capacity = self.outs.capacity();
        for _ in 0..work.min(capacity) {
            let id = next_place(&mut self.sweep[1], capacity);
            if self.outs.is_live(id) && self.out_expired(id) {
                self.expire_out(id);
            }
            let id = next_place(&mut self.sweep[2], capacity);
            if self.ins.is_live(id) && self.in_over(id) {
                self.expire_in(id);
            }
        }
        let capacity = self.flows.capacity();
        for _ in 0..work.min(capacity) {
            let id = next_place(&mut self.sweep[3], capacity);
            if self.flows.is_live(id) && self.flow_over(id) {
                let relation = self.flows[id].relation;
                self.count(EspCounter::IkeExpired);
                self.remove_flow(id);
                self.release_if_empty(relation);
            }
            let id = next_place(&mut self.sweep[4], capacity);
            if self.sas.is_live(id) && self.sa_over(id) {
                self.remove_sa(id);
            }
        }
    }

    /// A tentative half beyond what its client expects lives for `esp-pending-timeout` only. One
    /// that fills a place lives as long as any: a quiet tunnel may have had one packet only.
    fn in_over(&self, id: Id) -> bool {
        let inbound = &self.ins[id];
        if inbound.confirmed {
            return self.in_expired(id);
        }
        let pending = self.timers.pending_ms.unwrap_or(HOLD_MAX_MS);
        let taken = self
            .partner_out(self.ins.key(id).0, inbound)
            .is_some_and(|o| {
                self.outs[o].state == HalfState::Open && self.outs[o].partner == self.ins.key(id).2
            });
        if taken {
            return self.in_expired(id);
        }
        self.now.since(inbound.created) >= pending
    }

    /// IKE entries live for their timeout past the last message; the one used last of a relation
    /// also as long as ESP flows, so that the peer's next rekey arrives.
    fn flow_over(&self, id: Id) -> bool {
        let flow = &self.flows[id];
        let Some(timeout) = self.timers.ike_ms else {
            return false;
        };
        let relation = &self.relations[flow.relation];
        let needed = relation.last_flow == id && relation.outs.len + relation.ins.len > 0;
        self.now.since(flow.used) >= timeout && !needed
    }

    fn sa_over(&self, id: Id) -> bool {
        let sa = &self.sas[id];
        let Some(timeout) = self.timers.ike_ms else {
            return false;
        };
        let relation = &self.relations[sa.relation];
        self.now.since(sa.used) >= timeout && relation.outs.len + relation.ins.len == 0
    }
}

fn next_place(at: &mut Id, capacity: usize) -> Id {
    let here = if (*at as usize) < capacity { *at } else { 0 };
    *at = here + 1;
    here
}
