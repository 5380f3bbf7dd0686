//! Spreads what configured lines say. Nobody who sends packets chooses it.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes hash maps that use [`Mixer`].
pub(super) type Mixed = BuildHasherDefault<Mixer>;

/// `value` mixed into `state`: multiplied to 128 bits, which are folded.
#[inline]
pub(super) fn mix(state: u64, value: u64) -> u64 {
    // Odd numbers without a pattern: digits of pi and of the golden ratio.
    let mixed = state ^ value ^ 0x243f_6a88_85a3_08d3;
    let wide = u128::from(mixed) * 0x9e37_79b9_7f4a_7c15;
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

/// A set of hashes that may say yes to others too: one in ten or fewer.
#[derive(Debug)]
pub(super) struct Filter {
    /// A power of two of words.
    words: Box<[u64]>,
}

impl Filter {
    /// An empty set for so many.
    pub(super) fn new(many: usize) -> Filter {
        let words = many.div_ceil(4).next_power_of_two();
        Filter {
            words: vec![0; words].into(),
        }
    }

    pub(super) fn add(&mut self, hash: u64) {
        let at = self.at(hash);
        self.words[at] |= 1 << (hash & 63);
    }

    /// 1 if it may be in the set, else 0.
    #[inline]
    pub(super) fn has(&self, hash: u64) -> u64 {
        self.words[self.at(hash)] >> (hash & 63) & 1
    }

    #[inline]
    fn at(&self, hash: u64) -> usize {
        (hash >> 6) as usize & (self.words.len() - 1)
    }
}
