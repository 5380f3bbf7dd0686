//! The index of the session table: buckets of one cache line, eight references each.
//!
//! A reference lives in its home bucket; where that is full, in the one other bucket that its tag
//! names (partial-key cuckoo hashing, Fan et al., CoNEXT 2014). A home bucket counts how many of
//! its references live elsewhere, so that a look-up reads a second line only where it must.

use crate::prefetch::{large_slice, prefetch_read};

/// References in a bucket.
const SLOTS: usize = 8;
/// Buckets are made so many that at most this share of all places is in use (in percent).
const LOAD_PERCENT: usize = 65;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// 0 marks a free place.
    tags: [u16; SLOTS],
    references: [u32; SLOTS],
    /// References whose home this is, but which live in their other bucket.
    away: u16,
    /// Bit per place: the reference there has its home in its other bucket.
    guests: u8,
}

const EMPTY: Bucket = Bucket {
    tags: [0; SLOTS],
    references: [0; SLOTS],
    away: 0,
    guests: 0,
};

impl Bucket {
    /// An octet of 1 for each place with this tag: a form that compilers have vectors for.
    #[inline]
    fn matches(&self, tag: u16) -> u64 {
        u64::from_le_bytes(self.tags.map(|have| u8::from(have == tag)))
    }

    fn free(&self) -> Option<usize> {
        self.tags.iter().position(|tag| *tag == 0)
    }

    fn put(&mut self, at: usize, tag: u16, reference: u32, guest: bool) {
        self.tags[at] = tag;
        self.references[at] = reference;
        self.guests = (self.guests & !(1 << at)) | (u8::from(guest) << at);
    }

    fn is_guest(&self, at: usize) -> bool {
        self.guests & (1 << at) != 0
    }
}

/// Hash to reference. Several references may share a hash; the caller compares keys.
#[derive(Debug)]
pub(crate) struct Index {
    buckets: Box<[Bucket]>,
    mask: usize,
}

impl Index {
    /// An index for up to `references` references.
    pub(crate) fn new(references: usize) -> Index {
        let wanted = (references * 100 / LOAD_PERCENT).div_ceil(SLOTS);
        let count = wanted.next_power_of_two().max(2);
        Index {
            buckets: large_slice(count, |_| EMPTY),
            mask: count - 1,
        }
    }

    /// Octets of memory that the index takes.
    pub(crate) fn octets(&self) -> usize {
        std::mem::size_of_val(&*self.buckets)
    }

    /// Asks the memory for the home bucket of `hash`.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        prefetch_read(&self.buckets[self.home(hash)]);
    }

    /// The first reference in the home bucket that may be the one: good for prefetching.
    #[inline]
    pub(crate) fn guess(&self, hash: u64) -> Option<u32> {
        let bucket = &self.buckets[self.home(hash)];
        let mask = bucket.matches(tag_of(hash));
        (mask != 0).then(|| bucket.references[first(mask)])
    }

    /// The reference under `hash` for which `is_it` says yes.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (home, tag) = (self.home(hash), tag_of(hash));
        let bucket = &self.buckets[home];
        find_in(bucket, tag, &is_it).or_else(|| {
            if bucket.away == 0 {
                return None;
            }
            find_in(&self.buckets[self.other(home, tag)], tag, &is_it)
        })
    }

    /// Adds a reference; `false` where there is no place for it.
    pub(crate) fn insert(&mut self, hash: u64, reference: u32) -> bool {
        let (home, tag) = (self.home(hash), tag_of(hash));
        if let Some(at) = self.buckets[home].free() {
            self.buckets[home].put(at, tag, reference, false);
            return true;
        }
        let other = self.other(home, tag);
        if let Some(at) = self.buckets[other].free() {
            self.buckets[other].put(at, tag, reference, true);
            self.buckets[home].away += 1;
            return true;
        }
        if let Some(at) = self.make_room(home) {
            self.buckets[home].put(at, tag, reference, false);
            return true;
        }
        if let Some(at) = self.make_room(other) {
            self.buckets[other].put(at, tag, reference, true);
            self.buckets[home].away += 1;
            return true;
        }
        false
    }

    /// Moves one reference of a full bucket to its other bucket, if any of them has room there.
    fn make_room(&mut self, full: usize) -> Option<usize> {
        for at in 0..SLOTS {
            let Bucket {
                tags, references, ..
            } = self.buckets[full];
            let (tag, reference) = (tags[at], references[at]);
            let guest = self.buckets[full].is_guest(at);
            let other = self.other(full, tag);
            if other == full {
                continue;
            }
            if let Some(free) = self.buckets[other].free() {
                self.buckets[other].put(free, tag, reference, !guest);
                let home = if guest { other } else { full };
                let away = &mut self.buckets[home].away;
                *away = if guest { *away - 1 } else { *away + 1 };
                self.buckets[full].tags[at] = 0;
                return Some(at);
            }
        }
        None
    }

    /// Removes a reference; `false` where it was not there.
    pub(crate) fn remove(&mut self, hash: u64, reference: u32) -> bool {
        let (home, tag) = (self.home(hash), tag_of(hash));
        for bucket in [home, self.other(home, tag)] {
            let at = self.buckets[bucket]
                .tags
                .iter()
                .zip(self.buckets[bucket].references)
                .position(|(t, r)| *t == tag && r == reference);
            if let Some(at) = at {
                if self.buckets[bucket].is_guest(at) {
                    self.buckets[home].away -= 1;
                }
                self.buckets[bucket].tags[at] = 0;
                return true;
            }
        }
        false
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    /// The other bucket of a tag; its own inverse.
    #[inline]
    fn other(&self, bucket: usize, tag: u16) -> usize {
        (bucket ^ (usize::from(tag).wrapping_mul(0x5bd1_e995) | 1)) & self.mask
    }
}

#[inline]
fn find_in(bucket: &Bucket, tag: u16, is_it: &impl Fn(u32) -> bool) -> Option<u32> {
    let mut mask = bucket.matches(tag);
    while mask != 0 {
        let reference = bucket.references[first(mask)];
        if is_it(reference) {
            return Some(reference);
        }
        mask &= mask - 1;
    }
    None
}

/// The first place of those that [`Bucket::matches`] gave.
#[inline]
fn first(mask: u64) -> usize {
    (mask.trailing_zeros() / u8::BITS) as usize % SLOTS
}

/// The upper 16 bits, never 0.
#[inline]
fn tag_of(hash: u64) -> u16 {
    ((hash >> 48) as u16).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!(size_of::<Bucket>(), 64);
    }

    #[test]
    fn takes_what_it_was_made_for() {
        let mut index = Index::new(100_000);
        let hash = |n: u32| {
            u64::from(n)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
        };
        for n in 0..100_000 {
            assert!(index.insert(hash(n), n), "refused entry {n}");
        }
        for n in 0..100_000 {
            assert_eq!(index.find(hash(n), |r| r == n), Some(n));
        }
    }

    proptest! {
        /// Beside a map from references to their hashes; few hashes, so that buckets fill and move.
        #[test]
        fn agrees_with_a_map(steps in proptest::collection::vec((0u64..6, 0u64..5, 0u32..40, any::<bool>()), 1..400)) {
            let mut index = Index::new(64);
            let mut map = HashMap::new();
            for (low, tag, reference, add) in steps {
                let hash = low | (tag << 48);
                match map.get(&reference).copied() {
                    None if add && index.insert(hash, reference) => {
                        map.insert(reference, hash);
                    }
                    Some(hash) if !add => {
                        prop_assert!(index.remove(hash, reference));
                        prop_assert_eq!(index.find(hash, |r| r == reference), None);
                        map.remove(&reference);
                    }
                    _ => {}
                }
                for (reference, hash) in &map {
                    prop_assert_eq!(index.find(*hash, |r| r == *reference), Some(*reference));
                }
            }
            for (reference, hash) in map.drain() {
                prop_assert!(index.remove(hash, reference));
            }
            prop_assert!(index.buckets.iter().all(|b| b.away == 0 && b.tags == [0; SLOTS]));
        }
    }
}
