//! What lines ask for, in one place of memory with the count of who asked.

use std::sync::atomic::{AtomicU64, Ordering};

use super::hash::mix;
use super::{Action, Entry};

/// What lines of a group ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    addresses: u64,
    ports: u32,
}

/// A line that has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found(u32);

/// The keys of all groups; each group has a part of it for itself.
#[derive(Debug)]
pub(super) struct Slots(Box<[Slot]>);

/// Half a line of memory, so that a look at a key and its count wait for memory once.
#[derive(Debug)]
#[repr(align(32))]
struct Slot {
    key: Key,
    found: Found,
    hits: AtomicU64,
}

/// Where a group's keys are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    first: u32,
    /// Places less one; places are a power of two.
    mask: u32,
}

impl Key {
    /// Of source and destination.
    #[inline]
    pub(super) fn new(addresses: [u32; 2], ports: [u16; 2]) -> Key {
        Key {
            addresses: u64::from(addresses[0]) << 32 | u64::from(addresses[1]),
            ports: u32::from(ports[0]) << 16 | u32::from(ports[1]),
        }
    }

    /// Its hash in the group `group`.
    #[inline]
    pub(super) fn hash(&self, group: usize) -> u64 {
        mix(mix(group as u64, self.addresses), u64::from(self.ports))
    }
}

impl Found {
    /// No line.
    pub(super) const NONE: Found = Found(u32::MAX);
    /// Set if a packet with the key matches, whatever else it has.
    const WHOLE: u32 = 1 << 31;
    /// Set if the line permits: the line itself is somewhere else in memory.
    const PERMITS: u32 = 1 << 30;
    /// Most lines that can be told apart.
    pub(super) const LINES: usize = Self::PERMITS as usize - 1;

    /// Line `line`, below [`Found::LINES`], that asks for nothing but its key if `whole`.
    pub(super) fn new(line: u32, entry: &Entry, whole: bool) -> Found {
        let whole = if whole { Self::WHOLE } else { 0 };
        let permits = match entry.action {
            Action::Permit => Self::PERMITS,
            Action::Deny => 0,
        };
        Found(line | whole | permits)
    }

    #[inline]
    pub(super) fn line(self) -> u32 {
        self.0 & !(Self::WHOLE | Self::PERMITS)
    }

    #[inline]
    pub(super) fn is_whole(self) -> bool {
        self.0 & Self::WHOLE != 0
    }

    #[inline]
    pub(super) fn action(self) -> Action {
        if self.0 & Self::PERMITS != 0 {
            Action::Permit
        } else {
            Action::Deny
        }
    }
}

impl Slots {
    /// Places for groups of so many keys at most, with each group's part; a fifth stays free.
    pub(super) fn new(groups: impl Iterator<Item = u32>) -> (Slots, Vec<Part>) {
        let mut end = 0u32;
        let part = |keys: u32| {
            let places = (keys + keys / 4 + 1).next_power_of_two();
            let part = Part {
                first: end,
                mask: places - 1,
            };
            end += places;
            part
        };
        let parts: Vec<Part> = groups.map(part).collect();
        let empty = || Slot {
            key: Key::new([0; 2], [0; 2]),
            found: Found::NONE,
            hits: AtomicU64::new(0),
        };
        ((Slots((0..end).map(|_| empty()).collect())), parts)
    }

    /// Puts a line before those that have its key; returns the one that was first.
    pub(super) fn put(&mut self, part: Part, hash: u64, key: Key, found: Found) -> Found {
        let at = self.place(part, hash, key);
        let slot = &mut self.0[at];
        slot.key = key;
        std::mem::replace(&mut slot.found, found)
    }

    /// The first line that has a key, and its place; [`Found::NONE`] if there is none.
    #[inline]
    pub(super) fn find(&self, part: Part, hash: u64, key: Key) -> (Found, usize) {
        let at = self.place(part, hash, key);
        (self.0[at].found, at)
    }

    /// The place of a key, or the free one that would be its.
    #[inline]
    fn place(&self, part: Part, hash: u64, key: Key) -> usize {
        let mut step = (hash >> 40) as u32;
        loop {
            let at = (part.first + (step & part.mask)) as usize;
            let slot = &self.0[at];
            if slot.found == Found::NONE || slot.key == key {
                return at;
            }
            step = step.wrapping_add(1);
        }
    }

    /// Counts a hit at a place.
    #[inline]
    pub(super) fn count(&self, at: usize) {
        // Several workers may count here; where an entry is made, never on a hit.
        self.0[at].hits.fetch_add(1, Ordering::Relaxed);
    }

    /// The hits at a place.
    pub(super) fn hits(&self, at: usize) -> u64 {
        self.0[at].hits.load(Ordering::Relaxed)
    }
}
