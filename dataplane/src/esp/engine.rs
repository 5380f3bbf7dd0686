//! The engine: its tables, and what every part of it uses.

use std::net::Ipv4Addr;

use super::decision::{EspCounter, EspDrop, EspOccupancy, EspStats, Release};
use super::half::{Client, Group, HalfState, In, Out, Relation};
use super::held::{HoldTicket, Pool};
use super::ike_entry::{Flow, Port, Sa};
use super::limits::{EspTimers, Limits};
use super::table::{Id, List, Table};
use super::trace::{Basis, Candidates, Event, Trace, Verdict, What};
use crate::snapshot::InsideHost;
use crate::time::Millis;

/// Decides about the ESP and IKE packets of the peers that one worker owns. `T` is the packet type.
///
/// Nothing is allocated after [`Engine::new`]; every table and queue is bounded by [`Limits`].
pub struct Engine<T> {
    pub(super) limits: Limits,
    pub(super) timers: EspTimers,
    pub(super) clients: Table<InsideHost, Client>,
    pub(super) relations: Table<(InsideHost, Ipv4Addr), Relation>,
    pub(super) groups: Table<(Ipv4Addr, Ipv4Addr), Group>,
    /// Groups in which somebody waits, longest first: for a first reply, and for a turn.
    pub(super) waits: [List; 2],
    /// The latest moment that came in.
    pub(super) now: Millis,
    pub(super) outs: Table<(InsideHost, Ipv4Addr, u32), Out>,
    pub(super) ins: Table<(Ipv4Addr, Ipv4Addr, u32), In>,
    /// (P, G, word): SPIs that spi-match halves answer to, and the halves.
    pub(super) predicted: Table<(Ipv4Addr, Ipv4Addr, u64), Id>,
    pub(super) flows: Table<(InsideHost, Ipv4Addr, u16, u16), Flow>,
    pub(super) ports: Table<(Ipv4Addr, Ipv4Addr, u16, u16), Port>,
    pub(super) sas: Table<(Ipv4Addr, Ipv4Addr, u64), Sa>,
    pub(super) pool: Pool<T>,
    pub(super) stats: EspStats,
    pub(super) paired: usize,
    /// Where each sweep of a table goes on.
    pub(super) sweep: [Id; 5],
    trace: Option<Box<dyn Trace>>,
}

impl<T> std::fmt::Debug for Engine<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({:?})", self.occupancy())
    }
}

impl<T> Engine<T> {
    /// An empty engine. `seed` is a secret number that keeps outsiders from choosing hash buckets;
    /// nothing else depends on it.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Engine<T> {
        const NO: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
        let nobody = InsideHost::from(NO);
        Engine {
            limits,
            timers: EspTimers::default(),
            clients: Table::new(limits.clients, nobody, seed),
            relations: Table::new(limits.relations, (nobody, NO), seed),
            groups: Table::new(limits.relations, (NO, NO), seed),
            waits: [List::default(); 2],
            now: Millis(0),
            outs: Table::new(limits.halves, (nobody, NO, 0), seed),
            ins: Table::new(limits.halves, (NO, NO, 0), seed),
            predicted: Table::new(2 * limits.halves, (NO, NO, 0), seed),
            flows: Table::new(limits.ike_entries, (nobody, NO, 0, 0), seed),
            ports: Table::new(limits.ike_entries, (NO, NO, 0, 0), seed),
            sas: Table::new(limits.ike_entries, (NO, NO, 0), seed),
            pool: Pool::new(limits.held_slots()),
            stats: EspStats::default(),
            paired: 0,
            sweep: [0; 5],
            trace: None,
        }
    }

    /// Changes the timers; entries follow from now on.
    pub fn set_timers(&mut self, timers: EspTimers) {
        self.timers = timers;
    }

    /// Sends events to `trace`, or to nobody.
    pub fn set_trace(&mut self, trace: Option<Box<dyn Trace>>) {
        self.trace = trace;
    }

    /// Counts a packet that the caller refuses itself (malformed ESP, AH), so that all refusals
    /// are in one place.
    pub fn refuse(&mut self, reason: EspDrop) {
        self.stats.drops[reason as usize] += 1;
    }

    /// Takes the packet of a [`HoldTicket`] until [`Engine::next_release`] gives it back.
    ///
    /// # Errors
    /// The packet, if the ticket's place is no longer its own: other calls came in between.
    pub fn keep(&mut self, ticket: HoldTicket, packet: T) -> Result<(), T> {
        self.pool.keep(ticket, packet)
    }

    /// The next held packet whose fate is decided, in order. Ask after every other call, before
    /// acting on its answer: held packets go before the one that released them.
    pub fn next_release(&mut self) -> Option<Release<T>> {
        self.pool.next_release()
    }

    /// Whether it holds nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.relations.len() == 0 && self.pool.is_empty()
    }

    /// Entries that `show ip nat translations` lists: half-entries and IKE entries.
    #[inline]
    #[must_use]
    pub fn entries(&self) -> usize {
        self.outs.len() + self.ins.len() + self.flows.len()
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &EspStats {
        &self.stats
    }

    /// Sets all counters to zero.
    pub fn clear_stats(&mut self) {
        self.stats = EspStats::default();
    }

    /// How much it holds now.
    #[must_use]
    pub fn occupancy(&self) -> EspOccupancy {
        EspOccupancy {
            tunnels: self.paired,
            half_open: self.outs.len() - self.paired,
            inbound: self.ins.len(),
            relations: self.relations.len(),
            ike_entries: self.flows.len(),
            ike_sas: self.sas.len(),
            held_packets: self.pool.outbound.1 + self.pool.inbound.1,
            held_octets: self.pool.outbound.0 + self.pool.inbound.0,
        }
    }

    /// Time goes on, never back.
    #[inline]
    pub(super) fn advance(&mut self, now: Millis) {
        self.now = self.now.max(now);
    }

    pub(super) fn count(&mut self, counter: EspCounter) {
        self.stats.counters[counter as usize] += 1;
    }

    pub(super) fn is_fresh(&self, sequence: u32) -> bool {
        sequence <= self.limits.fresh_sequence
    }

    /// Whether nothing has passed in a tunnel for `esp-timeout`, either way.
    pub(super) fn out_expired(&self, id: Id) -> bool {
        let Some(timeout) = self.timers.esp_ms else {
            return false;
        };
        let now = self.now;
        let out = &self.outs[id];
        if out.state == HalfState::Queued || now.since(out.used) < timeout {
            return false;
        }
        let peer = self.outs.key(id).1;
        self.partner_in(peer, out)
            .is_none_or(|i| now.since(self.ins[i].used) >= timeout)
    }

    /// The same, seen from the inbound half.
    pub(super) fn in_expired(&self, id: Id) -> bool {
        let Some(timeout) = self.timers.esp_ms else {
            return false;
        };
        let now = self.now;
        let inbound = &self.ins[id];
        if now.since(inbound.used) < timeout {
            return false;
        }
        self.partner_out(self.ins.key(id).0, inbound)
            .is_none_or(|o| now.since(self.outs[o].used) >= timeout)
    }

    pub(super) fn partner_in(&self, peer: Ipv4Addr, out: &Out) -> Option<Id> {
        (out.partner != 0)
            .then(|| self.ins.find(&(peer, out.global, out.partner)))
            .flatten()
            .filter(|&i| self.ins[i].relation == out.relation)
    }

    pub(super) fn partner_out(&self, peer: Ipv4Addr, inbound: &In) -> Option<Id> {
        (inbound.partner != 0)
            .then(|| self.outs.find(&(inbound.client, peer, inbound.partner)))
            .flatten()
    }

    pub(super) fn client_of(&self, relation: Id) -> InsideHost {
        self.relations.key(relation).0
    }

    /// Tells the trace, if there is one; `event` runs only then.
    pub(super) fn tell(&mut self, event: impl FnOnce(&Engine<T>) -> Event) {
        if self.trace.as_ref().is_some_and(|trace| trace.is_on()) {
            let event = event(self);
            if let Some(trace) = self.trace.as_mut() {
                trace.event(&event);
            }
        }
    }

    /// Tells the trace about an outbound packet.
    pub(super) fn tell_out(
        &mut self,
        key: (InsideHost, Ipv4Addr),
        global: Option<Ipv4Addr>,
        what: What,
        verdict: Verdict,
        basis: Basis,
    ) {
        self.tell(|engine| Event {
            at: engine.now,
            what,
            client: Some(key.0),
            peer: key.1,
            global,
            candidates: match (basis, global) {
                (Basis::OtherWaits, Some(global)) => engine.waiting_in(key.1, global),
                _ => Candidates::default(),
            },
            verdict,
            basis,
        });
    }

    fn waiting_in(&self, peer: Ipv4Addr, global: Ipv4Addr) -> Candidates {
        let mut candidates = Candidates::default();
        if let Some(group) = self.groups.find(&(peer, global)) {
            let waiting = self.groups[group].waiting;
            if waiting != super::table::NIL {
                candidates.named.push(self.client_of(waiting));
                candidates.count = 1;
            }
        }
        candidates
    }
}
