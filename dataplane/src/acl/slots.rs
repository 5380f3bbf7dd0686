//! Hash tables that are filled once, several in one piece of memory.

use super::hash::mix;
use crate::prefetch::{large_slice, prefetch_index};

/// Something that is found by its key.
pub(super) trait Keyed {
    /// What it is found by.
    type Key: Copy + PartialEq + Into<u64>;

    fn key(&self) -> Self::Key;
}

/// What several tables hold; each has a part of the places for itself.
#[derive(Debug)]
pub(super) struct Slots<T>(Box<[Option<T>]>);

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots(Box::default())
    }
}

/// Where one table is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    first: u32,
    /// None if nothing is in it; else one more than are taken, at least.
    places: u32,
}

impl<T: Keyed> Slots<T> {
    /// Tables of these; no two in one table have the same key. A third of the places stays free.
    pub(super) fn new(tables: impl IntoIterator<Item = Vec<T>>) -> (Slots<T>, Box<[Part]>) {
        let (mut all, mut end) = (Vec::new(), 0);
        let mut part = |held: Vec<T>| {
            let many = held.len() as u32;
            let places = if many == 0 { 0 } else { many + many / 2 + 1 };
            let part = Part { first: end, places };
            end += places;
            all.push((part, held));
            part
        };
        let parts = tables.into_iter().map(&mut part).collect();
        let mut slots = Slots(large_slice(end as usize, |_| None));
        for (part, held) in all {
            for one in held {
                let mut at = part.begin(part.hash(one.key()));
                while slots.0[at].is_some() {
                    at = part.after(at);
                }
                slots.0[at] = Some(one);
            }
        }
        (slots, parts)
    }

    /// What has a key in a table.
    #[inline]
    pub(super) fn find(&self, part: Part, key: T::Key) -> Option<&T> {
        if part.places == 0 {
            return None;
        }
        let mut at = part.begin(part.hash(key));
        loop {
            let held = self.0[at].as_ref()?;
            if held.key() == key {
                return Some(held);
            }
            at = part.after(at);
        }
    }

    /// Asks the memory for where a key would be.
    #[inline]
    pub(super) fn prefetch(&self, part: Part, key: T::Key) {
        prefetch_index(&self.0, part.begin(part.hash(key)));
    }
}

impl Part {
    /// The hash of a key in this table.
    #[inline]
    pub(super) fn hash(self, key: impl Into<u64>) -> u64 {
        mix(u64::from(self.first), key.into())
    }

    /// Where the search for a hash begins.
    #[inline]
    fn begin(self, hash: u64) -> usize {
        let share = ((hash >> 32) * u64::from(self.places)) >> 32;
        (u64::from(self.first) + share) as usize
    }

    /// The place after one of them, in a ring.
    #[inline]
    fn after(self, at: usize) -> usize {
        let next = at + 1;
        let end = (self.first + self.places) as usize;
        if next == end {
            self.first as usize
        } else {
            next
        }
    }
}
