//! Spreads what configured lines say. Nobody who sends packets chooses it.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes hash maps that use [`Mixer`].
pub(super) type Mixed = BuildHasherDefault<Mixer>;

// Odd numbers without a pattern: digits of pi and of the golden ratio.
const PI: u64 = 0x243f_6a88_85a3_08d3;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// `value` mixed into `state`: multiplied to 128 bits, which are folded.
#[inline]
pub(super) fn mix(state: u64, value: u64) -> u64 {
    let mixed = state ^ value ^ PI;
    let wide = u128::from(mixed) * u128::from(GOLDEN);
    wide as u64 ^ (wide >> 64) as u64
}

/// A [`Hasher`] of [`mix`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = mix(self.0, value);
    }
}

/// A set of numbers that may say yes to others too: to one in thirty or fewer.
///
/// A number has two bits of one word (a Bloom filter in blocks: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom
/// Filters", 2007).
#[derive(Debug)]
pub(super) struct Filter {
    /// A power of two of words.
    words: Box<[u64]>,
    /// The bits of a hash less those that tell a word and two bits of it.
    shift: u32,
}

impl Filter {
    /// An empty set for so many.
    pub(super) fn new(many: usize) -> Filter {
        let words = many.div_ceil(8).next_power_of_two();
        Filter {
            words: vec![0; words].into(),
            shift: 64 - 12 - words.trailing_zeros(),
        }
    }

    pub(super) fn add(&mut self, number: u64) {
        let (word, [one, other]) = self.place(number);
        self.words[word] |= 1 << one | 1 << other;
    }

    /// 1 if it may be in the set, else 0.
    #[inline]
    pub(super) fn has(&self, number: u64) -> u64 {
        let (word, [one, other]) = self.place(number);
        let word = self.words[word];
        (word >> one) & (word >> other) & 1
    }

    /// A number's word and its bits there: one multiplication spreads it well enough.
    #[inline]
    fn place(&self, number: u64) -> (usize, [u64; 2]) {
        let hash = number.wrapping_mul(GOLDEN) >> self.shift;
        ((hash >> 12) as usize, [hash & 63, hash >> 6 & 63])
    }
}
