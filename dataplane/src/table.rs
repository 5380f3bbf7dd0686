//! The session table of one worker: a slab of entries, the index over their keys, and the timer
//! wheel. Sized once; nothing is allocated afterwards.

use crate::index::Index;
use crate::nat::Timers;
use crate::prefetch::{large_slice, prefetch_index};
use crate::session::{Direction, Key, Kind, NIL, Session};
use crate::snapshot::VrfId;
use crate::time::Tick;
use crate::wire::Delta;

/// Slots of the timer wheel.
const WHEEL_SLOTS: usize = 4096;
/// A slot of the wheel lasts this many ticks (as a power of two): 256 ms.
const WHEEL_SHIFT: u32 = 2;
/// [`Session::wheel_slot`] of an entry that is in no slot: it never expires.
const NO_SLOT: u16 = u16::MAX;

/// The entries of one worker.
#[derive(Debug)]
pub struct Table {
    slab: Box<[Session]>,
    /// First free place in the slab; free places are linked by `next`.
    free: u32,
    live: usize,
    index: Index,
    wheel: Box<[u32; WHEEL_SLOTS]>,
    /// The slot, counted from the start of time, that is being emptied.
    cursor: u32,
    seed: [u64; 2],
    next_id: u32,
}

const VACANT: Session = Session {
    keys: [Key {
        src: 0,
        dst: 0,
        sport: 0,
        dport: 0,
    }; 2],
    protocol: 0,
    vrf: VrfId::GLOBAL,
    tcp: 0,
    flags: 0,
    used: Tick(0),
    created: Tick(0),
    next: NIL,
    previous: NIL,
    hop: [crate::session::HOP_UNKNOWN; 2],
    generation: 0,
    addresses: Delta::NONE,
    ports: Delta::NONE,
    id: 0,
    rule: 0,
    wheel_slot: NO_SLOT,
};

/// [`Session::previous`] of a vacant place.
const VACANT_MARK: u32 = NIL - 1;

impl Table {
    /// A table for at most `capacity` entries. `seed` makes hashes unpredictable from outside.
    #[must_use]
    pub fn new(capacity: u32, seed: u64) -> Table {
        let capacity = capacity.clamp(1, 1 << 30);
        let link = |at: u32| if at + 1 < capacity { at + 1 } else { NIL };
        let vacant = |at| Session {
            next: link(at),
            previous: VACANT_MARK,
            ..VACANT
        };
        let slab = large_slice((0..capacity).map(vacant));
        Table {
            slab,
            free: 0,
            live: 0,
            index: Index::new(capacity as usize * 2),
            wheel: Box::new([NIL; WHEEL_SLOTS]),
            cursor: 0,
            seed: [
                seed ^ 0x243f_6a88_85a3_08d3,
                seed.rotate_left(32) ^ 0x1319_8a2e_0370_7344,
            ],
            next_id: 1,
        }
    }

    /// Most entries that it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slab.len()
    }

    /// Entries in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether it holds no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Octets of memory that it takes, whatever it holds.
    #[must_use]
    pub fn octets(&self) -> usize {
        size_of_val(&*self.slab) + self.index.octets() + size_of_val(&*self.wheel)
    }

    /// The hash under which a key is found.
    #[inline(always)]
    #[must_use]
    pub fn hash(&self, kind: Kind, key: Key) -> u64 {
        let (addresses, ports) = key.words();
        self.hasher(kind).hash(kind.protocol, addresses, ports)
    }

    /// [`Table::hash`] of keys in words, for packets of a kind that may differ in their protocols.
    #[inline(always)]
    #[must_use]
    pub fn hasher(&self, kind: Kind) -> Hasher {
        let vrf = u64::from(kind.hashed_vrf()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Hasher {
            seed: [self.seed[0] ^ vrf, self.seed[1] | 1],
            direction: kind.direction,
        }
    }

    /// Asks the memory for what [`Table::find`] will read first.
    #[inline]
    pub fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Asks the memory for what the removal of the entry at a place, or another timer for it, will touch.
    pub fn prefetch_around(&self, at: u32) {
        let Some(session) = self.at(at) else {
            return;
        };
        for neighbour in [session.next, session.previous] {
            prefetch_index(&self.slab, neighbour as usize);
        }
        for hash in self.hashes(session) {
            self.prefetch_index(hash);
        }
    }

    /// Asks the memory for the entry that [`Table::find`] will most likely read, and tells which
    /// that is, for [`Table::guessed_mut`]; [`NIL`] where there is none.
    #[inline(always)]
    #[must_use]
    pub fn prefetch_entry(&self, hash: u64) -> u32 {
        let guess = self.index.guess(hash).map_or(NIL, place);
        prefetch_index(&self.slab, guess as usize);
        guess
    }

    /// Whether there may be an entry under a hash: a `false` saves [`Table::find`].
    #[inline(always)]
    #[must_use]
    pub fn may_have(&self, hash: u64) -> bool {
        self.index.may_have(hash)
    }

    /// The entry at a place that was guessed, if it is that of a key in words.
    #[inline(always)]
    #[must_use]
    pub fn guessed_mut(
        &mut self,
        guess: u32,
        kind: Kind,
        words: (u64, u32),
    ) -> Option<&mut Session> {
        let session = self.slab.get_mut(guess as usize)?;
        let key = session.keys[kind.direction as usize];
        // A vacant place is no protocol's.
        (key.words() == words && kind.is_of(session)).then_some(session)
    }

    /// Whether a reference leads to the entry of a key. A vacant place is no protocol's.
    #[inline]
    fn is_entry(&self, reference: u32, kind: Kind, key: Key) -> bool {
        self.slab
            .get(place(reference) as usize)
            .is_some_and(|session| {
                reference & 1 == kind.direction as u32
                    && session.keys[kind.direction as usize] == key
                    && kind.is_of(session)
            })
    }

    /// The entry of a key.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, kind: Kind, key: Key) -> Option<u32> {
        let is_it = |reference: u32| self.is_entry(reference, kind, key);
        self.index.find(hash, is_it).map(place)
    }

    /// [`Table::find`] for a key that was not hashed before.
    #[inline]
    #[must_use]
    pub fn look_up(&self, kind: Kind, key: Key) -> Option<u32> {
        let hash = self.hash(kind, key);
        self.may_have(hash)
            .then(|| self.find(hash, kind, key))
            .flatten()
    }

    /// The entry at a place.
    #[inline]
    #[must_use]
    pub fn session(&self, at: u32) -> &Session {
        &self.slab[at as usize]
    }

    /// The entry at a place, to be changed. Its keys must stay.
    #[inline]
    pub fn session_mut(&mut self, at: u32) -> &mut Session {
        &mut self.slab[at as usize]
    }

    /// Entries made so far; it begins anew at some time.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.next_id
    }

    /// Adds an entry, which gets its number and its timer. `None` where the table is full.
    ///
    /// Neither of its keys may be in the table.
    pub fn insert(&mut self, session: Session, now: Tick, timers: &Timers) -> Option<u32> {
        let at = self.free;
        if at == NIL {
            return None;
        }
        let hashes = self.hashes(&session);
        if !self.index.insert(hashes[0], reference(at, Direction::Out)) {
            return None;
        }
        if !self.index.insert(hashes[1], reference(at, Direction::In)) {
            self.index.remove(hashes[0], reference(at, Direction::Out));
            return None;
        }
        self.free = self.slab[at as usize].next;
        prefetch_index(&self.slab, self.free as usize);
        self.slab[at as usize] = Session {
            id: self.next_id,
            next: NIL,
            previous: NIL,
            wheel_slot: NO_SLOT,
            ..session
        };
        self.next_id = self.next_id.wrapping_add(1).max(1);
        self.live += 1;
        self.arm(at, now, timers);
        Some(at)
    }

    /// Removes the entry at a place and returns it.
    pub fn remove(&mut self, at: u32) -> Session {
        self.disarm(at);
        let session = self.slab[at as usize];
        let hashes = self.hashes(&session);
        let removed = [
            self.index.remove(hashes[0], reference(at, Direction::Out)),
            self.index.remove(hashes[1], reference(at, Direction::In)),
        ];
        debug_assert_eq!(
            removed,
            [true, true],
            "an entry is in the index under both keys"
        );
        self.slab[at as usize] = Session {
            next: self.free,
            previous: VACANT_MARK,
            ..VACANT
        };
        self.free = at;
        self.live -= 1;
        session
    }

    /// The entry at a place, or `None` where the place is vacant or beyond the table.
    #[must_use]
    pub fn at(&self, at: u32) -> Option<&Session> {
        self.slab
            .get(at as usize)
            .filter(|s| s.previous != VACANT_MARK)
    }

    /// Sets an entry's timer anew from its state.
    pub fn rearm(&mut self, at: u32, now: Tick, timers: &Timers) {
        self.disarm(at);
        self.arm(at, now, timers);
    }

    /// Finds one entry whose time is over, looking at no more than `budget` entries and empty
    /// slots; what was looked at comes off the budget. The caller removes the entry.
    pub fn next_expired(&mut self, now: Tick, timers: &Timers, budget: &mut u32) -> Option<u32> {
        while *budget > 0 && self.cursor < now.0 >> WHEEL_SHIFT {
            *budget -= 1;
            let at = self.wheel[self.cursor as usize % WHEEL_SLOTS];
            if at == NIL {
                self.cursor += 1;
                continue;
            }
            let session = &self.slab[at as usize];
            let timeout = session.timeout(timers);
            if timeout != u32::MAX && now.since(session.used) >= timeout {
                return Some(at);
            }
            self.rearm(at, now, timers);
        }
        None
    }

    fn hashes(&self, session: &Session) -> [u64; 2] {
        [Direction::Out, Direction::In].map(|direction| {
            let kind = Kind::new(direction, session.vrf, session.protocol);
            self.hash(kind, session.keys[direction as usize])
        })
    }

    /// Puts an entry into the slot in which its timer ends, or the farthest one if that is nearer.
    fn arm(&mut self, at: u32, now: Tick, timers: &Timers) {
        let session = &self.slab[at as usize];
        let timeout = session.timeout(timers);
        if timeout == u32::MAX {
            return;
        }
        let end = session.used.0.saturating_add(timeout) >> WHEEL_SHIFT;
        let nearest = (now.0 >> WHEEL_SHIFT).max(self.cursor + 1);
        let farthest = self.cursor + WHEEL_SLOTS as u32 - 1;
        // A slot is emptied when it has passed, so a timer fires up to 256 ms late, never early.
        let slot = (end.max(nearest).min(farthest) as usize % WHEEL_SLOTS) as u16;
        let head = std::mem::replace(&mut self.wheel[usize::from(slot)], at);
        if head != NIL {
            self.slab[head as usize].previous = at;
        }
        let session = &mut self.slab[at as usize];
        (session.next, session.previous, session.wheel_slot) = (head, NIL, slot);
    }

    fn disarm(&mut self, at: u32) {
        let Session {
            next,
            previous,
            wheel_slot,
            ..
        } = self.slab[at as usize];
        if wheel_slot == NO_SLOT {
            return;
        }
        if next != NIL {
            self.slab[next as usize].previous = previous;
        }
        if previous == NIL {
            self.wheel[usize::from(wheel_slot)] = next;
        } else {
            self.slab[previous as usize].next = next;
        }
        let session = &mut self.slab[at as usize];
        (session.next, session.previous, session.wheel_slot) = (NIL, NIL, NO_SLOT);
    }
}

/// See [`Table::hasher`].
#[derive(Debug, Clone, Copy)]
pub struct Hasher {
    seed: [u64; 2],
    direction: Direction,
}

impl Hasher {
    /// The hash under which the entry of a packet with this protocol and key is found.
    #[inline(always)]
    #[must_use]
    pub fn hash(&self, protocol: u8, addresses: u64, ports: u32) -> u64 {
        let rest = u64::from(ports) << 32 | u64::from(protocol) << 8 | self.direction as u64;
        let first = fold(addresses ^ self.seed[0], 0xa076_1d64_78bd_642f);
        fold(first ^ rest, self.seed[1])
    }
}

fn reference(at: u32, direction: Direction) -> u32 {
    at << 1 | direction as u32
}

#[inline]
fn place(reference: u32) -> u32 {
    reference >> 1
}

/// Both halves of a 128-bit product, folded: the mixing step of wyhash.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}
