//! Packets that wait for a decision: a pool of fixed size, and queues threaded through it.

use super::decision::{Outcome, Release};
use super::table::{Id, NIL};
use crate::time::Millis;

/// The right to one place in the pool; [`super::Engine::keep`] fills it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is not used loses its packet uncounted"]
pub struct HoldTicket {
    pub(super) slot: Id,
    pub(super) generation: u32,
}

/// A queue of held packets, oldest first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue {
    pub(super) head: Id,
    tail: Id,
    pub(super) len: u32,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            head: NIL,
            tail: NIL,
            len: 0,
        }
    }
}

/// What is known of a held packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) octets: u32,
    pub(super) spi: u32,
    pub(super) sequence: u32,
    pub(super) since: Millis,
    pub(super) place: Place,
}

/// Where a held packet waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    /// From inside, with this relation.
    Relation(Id),
    /// From outside, with this group.
    Group(Id),
    /// Decided.
    Ready(Outcome),
}

#[derive(Debug)]
struct Slot<T> {
    packet: Option<T>,
    facts: Facts,
    generation: u32,
    prev: Id,
    next: Id,
}

/// The pool.
#[derive(Debug)]
pub(super) struct Pool<T> {
    slots: Box<[Slot<T>]>,
    free: Queue,
    ready: Queue,
    /// Octets and packets held, from inside and from outside; decided ones no longer count.
    pub(super) outbound: (usize, usize),
    pub(super) inbound: (usize, usize),
}

impl<T> Pool<T> {
    pub(super) fn new(capacity: usize) -> Pool<T> {
        let mut pool = Pool {
            slots: (0..capacity)
                .map(|_| Slot {
                    packet: None,
                    facts: Facts {
                        octets: 0,
                        spi: 0,
                        sequence: 0,
                        since: Millis(0),
                        place: Place::Free,
                    },
                    generation: 0,
                    prev: NIL,
                    next: NIL,
                })
                .collect(),
            free: Queue::default(),
            ready: Queue::default(),
            outbound: (0, 0),
            inbound: (0, 0),
        };
        let mut free = Queue::default();
        for slot in 0..capacity {
            pool.push(&mut free, slot as Id);
        }
        pool.free = free;
        pool
    }

    pub(super) fn memory(capacity: usize) -> usize {
        capacity * size_of::<Slot<T>>()
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outbound.1 + self.inbound.1 == 0
    }

    /// Takes a place at the end of `queue`; `None` where the pool is full.
    pub(super) fn hold(&mut self, queue: &mut Queue, facts: Facts) -> Option<HoldTicket> {
        let slot = self.free.head;
        if slot == NIL {
            return None;
        }
        let mut free = self.free;
        self.unlink(&mut free, slot);
        self.free = free;
        self.push(queue, slot);
        let sum = self.sum(facts.place);
        sum.0 += facts.octets as usize;
        sum.1 += 1;
        let at = &mut self.slots[slot as usize];
        at.facts = facts;
        at.generation = at.generation.wrapping_add(1);
        Some(HoldTicket {
            slot,
            generation: at.generation,
        })
    }

    /// Puts the packet into its place; gives it back where the place is no longer its own.
    pub(super) fn keep(&mut self, ticket: HoldTicket, packet: T) -> Result<(), T> {
        match self.slots.get_mut(ticket.slot as usize) {
            Some(slot)
                if slot.generation == ticket.generation
                    && slot.facts.place != Place::Free
                    && slot.packet.is_none() =>
            {
                slot.packet = Some(packet);
                Ok(())
            }
            _ => Err(packet),
        }
    }

    /// Decides about a held packet: it leaves `queue` and becomes ready.
    pub(super) fn decide(&mut self, queue: &mut Queue, slot: Id, outcome: Outcome) {
        let facts = self.facts(slot);
        let sum = self.sum(facts.place);
        sum.0 -= facts.octets as usize;
        sum.1 -= 1;
        self.unlink(queue, slot);
        let mut ready = self.ready;
        self.push(&mut ready, slot);
        self.ready = ready;
        self.slots[slot as usize].facts.place = Place::Ready(outcome);
    }

    /// The oldest packet that has been decided.
    pub(super) fn next_release(&mut self) -> Option<Release<T>> {
        while self.ready.head != NIL {
            let slot = self.ready.head;
            let mut ready = self.ready;
            self.unlink(&mut ready, slot);
            self.ready = ready;
            let mut free = self.free;
            self.push(&mut free, slot);
            self.free = free;
            let at = &mut self.slots[slot as usize];
            let place = std::mem::replace(&mut at.facts.place, Place::Free);
            if let (Some(packet), Place::Ready(outcome)) = (at.packet.take(), place) {
                return Some(Release { packet, outcome });
            }
        }
        None
    }

    pub(super) fn facts(&self, slot: Id) -> Facts {
        self.slots[slot as usize].facts
    }

    pub(super) fn after(&self, slot: Id) -> Id {
        self.slots[slot as usize].next
    }

    fn sum(&mut self, place: Place) -> &mut (usize, usize) {
        match place {
            Place::Group(_) => &mut self.inbound,
            _ => &mut self.outbound,
        }
    }

    fn push(&mut self, queue: &mut Queue, slot: Id) {
        self.slots[slot as usize].prev = queue.tail;
        self.slots[slot as usize].next = NIL;
        if queue.tail == NIL {
            queue.head = slot;
        } else {
            self.slots[queue.tail as usize].next = slot;
        }
        queue.tail = slot;
        queue.len += 1;
    }

    fn unlink(&mut self, queue: &mut Queue, slot: Id) {
        let (prev, next) = (
            self.slots[slot as usize].prev,
            self.slots[slot as usize].next,
        );
        if prev == NIL {
            queue.head = next;
        } else {
            self.slots[prev as usize].next = next;
        }
        if next == NIL {
            queue.tail = prev;
        } else {
            self.slots[next as usize].prev = prev;
        }
        queue.len -= 1;
    }
}
