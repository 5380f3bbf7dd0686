//! The index of the session table: buckets of one cache line, eight references each.
//!
//! A reference lives in its home bucket; where that is full, in the one other bucket that its tag
//! names (partial-key cuckoo hashing, Fan et al., CoNEXT 2014). A home bucket counts how many of
//! its references live elsewhere, so that a look-up reads a second line only where it must.

use wide::{CmpEq, i16x8};

use crate::prefetch::{large_slice, prefetch_read};

/// References in a bucket.
const SLOTS: usize = 8;
/// Buckets are made so many that at most this share of all places is in use (in percent).
const LOAD_PERCENT: usize = 65;

/// What a reference and its key have in common, besides their bucket.
type Tag = i16;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// 0 marks a free place.
    tags: [Tag; SLOTS],
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
    /// The places that have this tag.
    #[inline(always)]
    fn matches(&self, tag: Tag) -> Matches {
        let same = i16x8::new(self.tags).cmp_eq(i16x8::splat(tag));
        Matches(same.move_mask() as u32)
    }

    #[inline]
    fn free(&self) -> Option<usize> {
        self.matches(0).next()
    }

    fn put(&mut self, at: usize, tag: Tag, reference: u32, guest: bool) {
        self.tags[at] = tag;
        self.references[at] = reference;
        self.guests = (self.guests & !(1 << at)) | (u8::from(guest) << at);
    }

    fn is_guest(&self, at: usize) -> bool {
        self.guests & (1 << at) != 0
    }
}

/// Places of a bucket, a bit for each.
#[derive(Clone, Copy)]
struct Matches(u32);

impl Iterator for Matches {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let at = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(at as usize % SLOTS)
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
            buckets: large_slice(std::iter::repeat_n(EMPTY, count)),
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
        let at = bucket.matches(tag_of(hash)).next()?;
        Some(bucket.references[at])
    }

    /// Whether there may be a reference under `hash`, as far as its home bucket tells.
    #[inline(always)]
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        let bucket = &self.buckets[self.home(hash)];
        bucket.away != 0 || bucket.matches(tag_of(hash)).0 != 0
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
            let bucket = &self.buckets[full];
            let (tag, reference) = (bucket.tags[at], bucket.references[at]);
            let guest = self.buckets[full].is_guest(at);
            let other = self.other(full, tag);
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
            let here = &self.buckets[bucket];
            let mut same = here.matches(tag);
            let at = same.find(|at| here.references[*at] == reference);
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
    fn other(&self, bucket: usize, tag: Tag) -> usize {
        (bucket ^ (tag as u16 as usize).wrapping_mul(0x5bd1_e995)) & self.mask
    }
}

#[inline]
fn find_in(bucket: &Bucket, tag: Tag, is_it: &impl Fn(u32) -> bool) -> Option<u32> {
    let mut references = bucket.matches(tag).map(|at| bucket.references[at]);
    references.find(|reference| is_it(*reference))
}

/// The upper 15 bits, and a 1: never that of a free place, and as an odd number times an odd number never the same bucket.
#[inline]
fn tag_of(hash: u64) -> Tag {
    (hash >> 48) as Tag | 1
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
                    prop_assert!(index.may_have(*hash));
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
