//! Spreads what configured lines say. Nobody who sends packets chooses it.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes hash maps that use [`Mixer`].
pub(super) type Mixed = BuildHasherDefault<Mixer>;

/// Multiplies to 128 bits and folds them.
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
        // The golden ratio's digits: odd, with no pattern.
        let mixed = self.0 ^ value ^ 0x243f_6a88_85a3_08d3;
        let wide = u128::from(mixed) * 0x9e37_79b9_7f4a_7c15;
        self.0 = wide as u64 ^ (wide >> 64) as u64;
    }
}
