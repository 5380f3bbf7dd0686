//! What is known of datagrams that come in fragments (RFC 4787 REQ-14).
//!
//! Only the first fragment has ports. [`Fragments`] remembers what the translator made of it for
//! the ones that follow, and holds fragments that came before it. Everything has a limit and a
//! lifetime; memory is allocated when the store is made and never again.
//!
//! Two kinds of datagrams have limits of their own, so that a flood of one kind leaves the other
//! alone: *known* ones, whose first fragment has come, and *waiting* ones, whose later fragments
//! are held. Nothing that is in use gives way to something new: a full store refuses.

use std::collections::HashMap;

use crate::snapshot::VrfId;
use crate::stats::DropReason;
use crate::time::Millis;

/// How long a datagram is known, or fragments wait for their first one.
///
/// The fragments of a datagram leave their sender back to back, so what has not come after two
/// seconds is lost. Longer would let a busy sender's next datagram with the same identification
/// (65,536 of them, used up in a few seconds at 10,000 datagrams a second) meet the old one.
pub const LIFETIME_MS: u64 = 2_000;

/// What all fragments of a datagram have in common (RFC 791 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Identification.
    pub id: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// The VRF in which it arrives.
    pub vrf: VrfId,
}

/// How much a store may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Datagrams whose first fragment has come.
    pub known: u32,
    /// Datagrams whose first fragment has not come.
    pub waiting: u32,
    /// Packets held in all.
    pub held: u32,
    /// Packets held for one datagram.
    pub held_per_datagram: u32,
}

impl Default for Limits {
    /// Enough for 8,192 fragmented datagrams a second; 64 held packets are one datagram of the
    /// largest size whose last fragment comes first, over links of 1,500 and even 1,100 octets.
    fn default() -> Limits {
        Limits {
            known: 16_384,
            waiting: 256,
            held: 512,
            held_per_datagram: 64,
        }
    }
}

/// What becomes of a later fragment.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Later<V, P> {
    /// The first fragment has come, and this was said of it: here is the packet, go on.
    Known(V, P),
    /// The packet waits for the first fragment.
    Held,
    /// There is no room for the packet: here it is, and why.
    Refused(DropReason, P),
}

/// No entry, no packet.
const NONE: u32 = u32::MAX;

/// A bounded store of datagrams that come in fragments: `V` is what is remembered of the first
/// fragment, `P` a packet.
#[derive(Debug)]
pub struct Fragments<V, P> {
    limits: Limits,
    /// Twice as large as it ever gets: then the map clears away traces of removed keys in place
    /// and never allocates. Its hash is keyed at random, so nobody can aim at one bucket.
    index: HashMap<FragmentKey, u32>,
    entries: Vec<Entry<V>>,
    free_entries: Vec<u32>,
    known: List,
    waiting: List,
    held: Vec<Held<P>>,
    free_held: Vec<u32>,
}

/// A datagram.
#[derive(Debug)]
struct Entry<V> {
    key: FragmentKey,
    since: Millis,
    /// Neighbours in the list of known or waiting datagrams, oldest first.
    previous: u32,
    next: u32,
    state: State<V>,
}

#[derive(Debug)]
enum State<V> {
    Known(V),
    /// A chain of held packets.
    Waiting {
        first: u32,
        last: u32,
        count: u32,
    },
}

/// A held packet and the one that came after it.
#[derive(Debug)]
struct Held<P> {
    packet: Option<P>,
    next: u32,
}

/// Entries in the order of their age.
#[derive(Debug)]
struct List {
    oldest: u32,
    newest: u32,
    len: u32,
}

impl List {
    const EMPTY: List = List {
        oldest: NONE,
        newest: NONE,
        len: 0,
    };
}

impl<V: Copy, P> Fragments<V, P> {
    /// An empty store with room for what `limits` says.
    #[must_use]
    pub fn new(limits: Limits) -> Fragments<V, P> {
        let datagrams = limits.known.saturating_add(limits.waiting) as usize;
        Fragments {
            limits,
            index: HashMap::with_capacity(2 * datagrams),
            entries: Vec::with_capacity(datagrams),
            free_entries: Vec::with_capacity(datagrams),
            known: List::EMPTY,
            waiting: List::EMPTY,
            held: Vec::with_capacity(limits.held as usize),
            free_held: Vec::with_capacity(limits.held as usize),
        }
    }

    /// Remembers `value` of the first fragment of a datagram, and gives the packets that waited
    /// for it to `release`, in the order in which they came. A first fragment that comes again
    /// counts: its value is the one that is remembered from then on.
    ///
    /// # Errors
    /// `FragmentStoreFull` where too many datagrams are known already: the packets that waited
    /// are released, but fragments that come from now on will not find their first one.
    pub fn first(
        &mut self,
        now: Millis,
        key: FragmentKey,
        value: V,
        release: impl FnMut(P),
    ) -> Result<(), DropReason> {
        if let Some(&at) = self.index.get(&key) {
            self.remove(at, release);
        }
        if self.known.len >= self.limits.known {
            self.evict_expired(now);
        }
        if self.known.len >= self.limits.known {
            return Err(DropReason::FragmentStoreFull);
        }
        self.insert(now, key, State::Known(value));
        Ok(())
    }

    /// Says what was remembered of a later fragment's datagram, or holds the packet until the
    /// first fragment comes.
    pub fn later(&mut self, now: Millis, key: FragmentKey, packet: P) -> Later<V, P> {
        match self.live(now, key) {
            Some(at) => match self.entries[at as usize].state {
                State::Known(value) => Later::Known(value, packet),
                State::Waiting { count, .. } if count < self.limits.held_per_datagram => {
                    self.hold(at, packet)
                }
                State::Waiting { .. } => Later::Refused(DropReason::FragmentStoreFull, packet),
            },
            None if self.waiting.len < self.limits.waiting && self.has_room() => {
                let chain = State::Waiting {
                    first: NONE,
                    last: NONE,
                    count: 0,
                };
                let at = self.insert(now, key, chain);
                self.hold(at, packet)
            }
            None => Later::Refused(DropReason::FragmentStoreFull, packet),
        }
    }

    /// Forgets at most `limit` datagrams that are older than [`LIFETIME_MS`], and gives packets
    /// that still waited to `expired`, to be counted as `FragmentTimeout`. Called every poll.
    /// Returns how many datagrams were forgotten.
    pub fn expire(&mut self, now: Millis, limit: usize, mut expired: impl FnMut(P)) -> usize {
        let mut forgotten = 0;
        while forgotten < limit {
            let oldest = [self.waiting.oldest, self.known.oldest];
            let Some(at) = oldest.into_iter().find(|&at| self.is_expired(now, at)) else {
                break;
            };
            self.remove(at, &mut expired);
            forgotten += 1;
        }
        forgotten
    }

    /// Forgets everything, and gives the packets that waited to `release`.
    pub fn clear(&mut self, mut release: impl FnMut(P)) {
        for oldest in [|s: &Self| s.waiting.oldest, |s: &Self| s.known.oldest] {
            while oldest(self) != NONE {
                self.remove(oldest(self), &mut release);
            }
        }
    }

    /// Datagrams whose first fragment has come.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known.len as usize
    }

    /// Datagrams whose first fragment has not come.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len as usize
    }

    /// Packets that wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len() - self.free_held.len()
    }

    fn has_room(&self) -> bool {
        self.held() < self.limits.held as usize
    }

    /// The entry of a datagram; one that is known for too long is forgotten instead, since its
    /// identification may have come round to another datagram.
    fn live(&mut self, now: Millis, key: FragmentKey) -> Option<u32> {
        let at = *self.index.get(&key)?;
        let known = matches!(self.entries[at as usize].state, State::Known(_));
        if known && self.is_expired(now, at) {
            self.remove(at, drop);
            return None;
        }
        Some(at)
    }

    fn is_expired(&self, now: Millis, at: u32) -> bool {
        self.entries
            .get(at as usize)
            .is_some_and(|entry| now.since(entry.since) >= LIFETIME_MS)
    }

    /// Makes room by forgetting the oldest known datagram, if its time is over.
    fn evict_expired(&mut self, now: Millis) {
        let oldest = self.known.oldest;
        if self.is_expired(now, oldest) {
            self.remove(oldest, drop);
        }
    }

    fn hold(&mut self, at: u32, packet: P) -> Later<V, P> {
        if !self.has_room() {
            return Later::Refused(DropReason::FragmentStoreFull, packet);
        }
        let held = Held {
            packet: Some(packet),
            next: NONE,
        };
        let place = put(&mut self.held, &mut self.free_held, held);
        if let State::Waiting { first, last, count } = &mut self.entries[at as usize].state {
            if *last == NONE {
                *first = place;
            } else {
                self.held[*last as usize].next = place;
            }
            *last = place;
            *count += 1;
        }
        Later::Held
    }

    /// Adds a datagram as the newest of its kind.
    fn insert(&mut self, now: Millis, key: FragmentKey, state: State<V>) -> u32 {
        let list = match state {
            State::Known(_) => &mut self.known,
            State::Waiting { .. } => &mut self.waiting,
        };
        let entry = Entry {
            key,
            since: now,
            previous: list.newest,
            next: NONE,
            state,
        };
        let before = list.newest;
        let at = put(&mut self.entries, &mut self.free_entries, entry);
        list.newest = at;
        list.len += 1;
        if before == NONE {
            list.oldest = at;
        } else {
            self.entries[before as usize].next = at;
        }
        self.index.insert(key, at);
        at
    }

    /// Removes a datagram and gives the packets that waited to `release`.
    fn remove(&mut self, at: u32, mut release: impl FnMut(P)) {
        let entry = &self.entries[at as usize];
        let (previous, next, key) = (entry.previous, entry.next, entry.key);
        let (list, mut held) = match entry.state {
            State::Known(_) => (&mut self.known, NONE),
            State::Waiting { first, .. } => (&mut self.waiting, first),
        };
        list.len -= 1;
        match previous {
            NONE => list.oldest = next,
            _ => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => list.newest = previous,
            _ => self.entries[next as usize].previous = previous,
        }
        self.index.remove(&key);
        self.free_entries.push(at);
        while held != NONE {
            let slot = &mut self.held[held as usize];
            if let Some(packet) = slot.packet.take() {
                release(packet);
            }
            self.free_held.push(held);
            held = slot.next;
        }
    }
}

/// Puts `value` into a free place, or a new one where none is free. The callers stay below the
/// capacity that the vectors were made with.
fn put<T>(places: &mut Vec<T>, free: &mut Vec<u32>, value: T) -> u32 {
    match free.pop() {
        Some(at) => {
            places[at as usize] = value;
            at
        }
        None => {
            places.push(value);
            (places.len() - 1) as u32
        }
    }
}

#[cfg(test)]
mod tests;
