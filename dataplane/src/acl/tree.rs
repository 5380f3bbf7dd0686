//! Which interval a number is in: a search among sorted numbers, sixteen at a time.
//!
//! Each step looks at one line of the cache and has no branch (a static B-tree without pointers, as in Khuong and Morin,
//! "Array Layouts for Comparison-Based Searching", 2017).

use wide::{CmpGt, i32x8};

use crate::prefetch::{large_slice, prefetch_read};

/// Intervals of all numbers, for several trees.
#[derive(Debug)]
pub(super) struct Forest {
    inner: Box<[Keys]>,
    leaves: Box<[Leaf]>,
}

/// The place of a tree in a [`Forest`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    /// Where each level above the leaves begins, the highest first.
    levels: [u32; Self::LEVELS],
    /// How many of them there are.
    depth: u8,
    /// Where its leaves begin.
    leaves: u32,
}

/// An interval begins after each of these, in order; the first one of a node is known to begin before.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Keys([i32; NODE]);

/// Intervals, and what is known of each.
#[derive(Debug)]
struct Leaf {
    keys: Keys,
    values: [u32; NODE],
}

/// Keys of a line of the cache.
const NODE: usize = 16;

/// Where an interval begins, and what is known of it.
pub(super) type Interval = (u32, u32);

/// What a [`Forest`] is made of.
#[derive(Debug, Default)]
pub(super) struct Seedlings {
    inner: Vec<Keys>,
    leaves: Vec<Leaf>,
}

impl Tree {
    /// Above the leaves: enough for 2^28 intervals.
    const LEVELS: usize = 6;
}

impl Keys {
    /// How many keys are below a number.
    #[inline]
    fn below(&self, number: i32) -> usize {
        let (halves, _) = self.0.as_chunks::<8>();
        let number = i32x8::splat(number);
        let below = |half: &[i32; 8]| number.cmp_gt(i32x8::new(*half)).move_mask() as u32;
        (below(&halves[0]) | below(&halves[1]) << 8).trailing_ones() as usize
    }

    /// Of intervals that begin at these, up to 16.
    fn new(begins: impl Iterator<Item = u32>) -> Keys {
        let mut keys = [i32::MAX; NODE];
        for (key, begin) in keys.iter_mut().zip(begins.skip(1)) {
            *key = signed(begin - 1);
        }
        Keys(keys)
    }
}

/// A number as a signed one, in the same order.
#[inline]
fn signed(number: u32) -> i32 {
    (number ^ 1 << 31) as i32
}

impl Seedlings {
    /// A tree of intervals: in order, without gaps, the first from 0.
    pub(super) fn plant(&mut self, intervals: &[Interval]) -> Tree {
        let leaves = self.leaves.len() as u32;
        for of in intervals.chunks(NODE) {
            let mut values = [0; NODE];
            for (value, (_, of)) in values.iter_mut().zip(of) {
                *value = *of;
            }
            let keys = Keys::new(of.iter().map(|(begin, _)| *begin));
            self.leaves.push(Leaf { keys, values });
        }
        let mut tree = Tree {
            levels: [0; Tree::LEVELS],
            depth: 0,
            leaves,
        };
        let begin = |chunk: &[u32]| chunk.first().copied();
        let mut begins: Vec<u32> = intervals.chunks(NODE).map(|of| of[0].0).collect();
        while begins.len() > 1 {
            tree.levels.copy_within(..Tree::LEVELS - 1, 1);
            tree.levels[0] = self.inner.len() as u32;
            tree.depth += 1;
            let nodes = begins.chunks(NODE).map(|of| Keys::new(of.iter().copied()));
            self.inner.extend(nodes);
            begins = begins.chunks(NODE).filter_map(begin).collect();
        }
        tree
    }

    /// All that were planted.
    pub(super) fn grow(self) -> Forest {
        Forest {
            inner: self.inner.into(),
            leaves: large_slice(self.leaves),
        }
    }
}

impl Forest {
    /// Octets of memory that they take.
    pub(super) fn octets(&self) -> usize {
        size_of_val(&*self.inner) + size_of_val(&*self.leaves)
    }

    /// What is known of the interval that a number is in.
    #[inline]
    pub(super) fn find(&self, tree: &Tree, number: u32) -> u32 {
        let number = signed(number);
        let mut at = 0;
        for level in &tree.levels[..usize::from(tree.depth)] {
            at = at * NODE + self.inner[*level as usize + at].below(number);
        }
        let leaf = &self.leaves[tree.leaves as usize + at];
        prefetch_read(&leaf.values);
        leaf.values[leaf.keys.below(number)]
    }
}
