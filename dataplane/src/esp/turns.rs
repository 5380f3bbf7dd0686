//! Whose first reply is awaited, and who waits behind: one client of a group at a time.

use super::decision::{EspCounter, Outcome};
use super::engine::Engine;
use super::half::HalfState;
use super::table::{Id, NIL};
use super::trace::{Basis, Candidates, Event, Verdict, What};
use crate::time::Millis;

impl<T> Engine<T> {
    /// Sends an outbound half's packets from now on. `waits` makes the others wait for its reply.
    pub(super) fn open_out(&mut self, id: Id, waits: bool) {
        let now = self.now;
        let midway = !self.is_fresh(self.outs[id].first_sequence);
        let out = &mut self.outs[id];
        debug_assert_eq!(out.state, HalfState::Queued, "a half opens once");
        out.state = HalfState::Open;
        out.waiting = waits;
        let relation = &mut self.relations[out.relation];
        if relation.open == 0 {
            relation.open_since = now;
            relation.open_midway = false;
        }
        relation.open += 1;
        relation.open_midway |= midway;
        relation.waiting += u32::from(waits);
    }

    /// An open half is paired for certain.
    pub(super) fn settle_out(&mut self, id: Id) {
        let out = &mut self.outs[id];
        debug_assert_eq!(out.state, HalfState::Open, "only open halves settle");
        out.state = HalfState::Paired;
        let relation = &mut self.relations[out.relation];
        relation.open -= 1;
        relation.waiting -= u32::from(std::mem::take(&mut out.waiting));
        self.paired += 1;
    }

    /// Nobody waits for this half's reply any more.
    pub(super) fn stop_waiting(&mut self, id: Id) {
        let out = &mut self.outs[id];
        if std::mem::take(&mut out.waiting) {
            self.relations[out.relation].waiting -= 1;
        }
    }

    /// Whether a client only waits for replies to tunnels of before its latest exchange, and the tunnel of that exchange is proven: the peer has
    /// gone over to it, and what is under way of the older ones arrives soon or never.
    pub(super) fn waits_in_vain(&self, group: Id) -> bool {
        let at = &self.groups[group];
        if at.waiting == NIL || at.strict {
            return false;
        }
        let relation = &self.relations[at.waiting];
        let latest = relation.evidence.latest_began();
        let mut renewed = false;
        for id in self.outs.walk(&relation.outs) {
            let out = &self.outs[id];
            if out.waiting && out.created >= latest {
                return false;
            }
            renewed |= out.state == HalfState::Paired && out.created >= latest;
        }
        renewed
    }

    pub(super) fn begin_wait(&mut self, group: Id, relation: Id) {
        let now = self.now;
        let at = &mut self.groups[group];
        debug_assert_eq!(at.waiting, NIL, "one client waits at a time");
        at.waiting = relation;
        at.since = now;
        let list = usize::from(at.strict);
        let mut waits = self.waits[list];
        self.groups.push(&mut waits, group);
        self.waits[list] = waits;
    }

    /// Ends the present wait of a group and lets the next client have its turn.
    pub(super) fn end_wait(&mut self, group: Id) {
        self.drop_wait(group);
        self.promote(group);
    }

    fn drop_wait(&mut self, group: Id) {
        let relation = std::mem::replace(&mut self.groups[group].waiting, NIL);
        if relation == NIL {
            return;
        }
        let list = usize::from(self.groups[group].strict);
        let mut waits = self.waits[list];
        self.groups.unlink(&mut waits, group);
        self.waits[list] = waits;
        let mut out = self.relations[relation].outs.head;
        while out != NIL {
            self.stop_waiting(out);
            out = self.outs.after(out);
        }
    }

    /// Releases the packets of the clients in the queue, up to one whose reply must be awaited.
    fn promote(&mut self, group: Id) {
        while self.groups[group].queue_head != NIL {
            let relation = self.groups[group].queue_head;
            self.leave_queue(relation);
            let mut out = self.relations[relation].outs.head;
            while out != NIL {
                if self.outs[out].state == HalfState::Queued {
                    self.outs[out].used = self.now;
                    let early = self.early_in(relation);
                    self.open_out(out, early.is_none());
                    if let Some(early) = early {
                        self.marry(out, early);
                    }
                }
                out = self.outs.after(out);
            }
            let global = self.relations[relation].global;
            while self.relations[relation].held.head != NIL {
                let slot = self.relations[relation].held.head;
                self.decide_out(relation, slot, Outcome::Translate { global });
            }
            if self.relations[relation].waiting > 0 {
                self.begin_wait(group, relation);
                return;
            }
        }
        self.groups[group].strict = false;
    }

    /// Puts a relation at the end of its group's queue.
    pub(super) fn join_queue(&mut self, relation: Id) {
        let at = &mut self.relations[relation];
        if std::mem::replace(&mut at.queued, true) {
            return;
        }
        at.next_queued = NIL;
        let group = &mut self.groups[at.group];
        let tail = std::mem::replace(&mut group.queue_tail, relation);
        if tail == NIL {
            group.queue_head = relation;
        } else {
            self.relations[tail].next_queued = relation;
        }
    }

    /// Takes a relation out of its group's queue, wherever it stands.
    pub(super) fn leave_queue(&mut self, relation: Id) {
        if !std::mem::take(&mut self.relations[relation].queued) {
            return;
        }
        let group = self.relations[relation].group;
        let next = std::mem::replace(&mut self.relations[relation].next_queued, NIL);
        let mut before = NIL;
        let mut at = self.groups[group].queue_head;
        while at != relation {
            before = at;
            at = self.relations[at].next_queued;
        }
        if before == NIL {
            self.groups[group].queue_head = next;
        } else {
            self.relations[before].next_queued = next;
        }
        if next == NIL {
            self.groups[group].queue_tail = before;
        }
    }

    /// A wait ran out: the client's next tunnels make nobody wait until one is answered.
    pub(super) fn expire_wait(&mut self, group: Id) {
        let relation = self.groups[group].waiting;
        self.count(EspCounter::WaitsExpired);
        let strict = self.groups[group].strict;
        if relation != NIL && self.relations[relation].tentative == 0 && !strict {
            self.relations[relation].unanswered = true;
        }
        self.tell(|engine| Event {
            at: engine.now,
            what: What::Timer,
            client: Some(engine.client_of(relation)),
            peer: engine.groups.key(group).0,
            global: Some(engine.groups.key(group).1),
            candidates: Candidates::default(),
            verdict: Verdict::WaitOver,
            basis: Basis::None,
        });
        self.end_wait(group);
    }

    /// Learning went wrong: more than one client of the group has tunnels that nothing proves, and
    /// an SPI came that could be either's. Makes them take turns again, each turn ended only by
    /// proof or by time. Their tentative pairings go. Rarer and rarer while nothing is proven, so
    /// that an outsider can't keep one-way tunnels waiting. Returns whether turns began.
    pub(super) fn take_turns(&mut self, group: Id) -> bool {
        let now = self.now;
        let pending = self.timers.pending_ms.unwrap_or(super::timers::HOLD_MAX_MS);
        if now < self.groups[group].next_turns || self.unproven(group) < 2 {
            return false;
        }
        let backoff = self.groups[group]
            .backoff_ms
            .clamp(pending, pending.saturating_mul(64));
        self.groups[group].next_turns = Millis(now.0.saturating_add(backoff));
        self.groups[group].backoff_ms = backoff.saturating_mul(2);
        self.drop_wait(group);
        self.groups[group].strict = true;
        let mut relation = self.groups[group].relations.head;
        while relation != NIL {
            if self.is_unproven(relation) {
                self.withdraw_tentative(relation);
                self.requeue(relation);
            }
            relation = self.relations.after(relation);
        }
        self.count(EspCounter::Serialised);
        self.tell(|engine| Event {
            at: now,
            what: What::Timer,
            client: None,
            peer: engine.groups.key(group).0,
            global: Some(engine.groups.key(group).1),
            candidates: Candidates::default(),
            verdict: Verdict::TakeTurns,
            basis: Basis::None,
        });
        self.promote(group);
        true
    }

    /// Back to the queue with a relation's open halves.
    fn requeue(&mut self, relation: Id) {
        let mut out = self.relations[relation].outs.head;
        while out != NIL {
            if self.outs[out].state == HalfState::Open {
                self.stop_waiting(out);
                self.outs[out].state = HalfState::Queued;
                self.relations[relation].open -= 1;
            }
            out = self.outs.after(out);
        }
        self.relations[relation].unmatched = true;
        self.relations[relation].unanswered = false;
        self.join_queue(relation);
    }

    /// Clients of the group with open halves in use, up to the bound on candidates.
    fn unproven(&self, group: Id) -> usize {
        if self.groups[group].relations.len > self.limits.candidates {
            return 0;
        }
        self.relations
            .walk(&self.groups[group].relations)
            .filter(|&r| self.is_unproven(r))
            .count()
    }

    fn is_unproven(&self, relation: Id) -> bool {
        let at = &self.relations[relation];
        let recent = self.timers.pending_ms.unwrap_or(super::timers::HOLD_MAX_MS);
        at.open > 0
            && !at.matched
            && self.outs.walk(&at.outs).any(|o| {
                self.outs[o].state == HalfState::Open && self.now.since(self.outs[o].used) < recent
            })
    }
}
