//! SPI matching: the published function H by which a responder chooses its SPI so that a NAT can
//! pair the two directions of a tunnel without waiting for a reply.
//!
//! The initiator chooses its inbound SPI as it likes. The responder answers with
//! `answer(initiator's SPI, key)`. Both numbers are on the wire, in the two directions of the ESP
//! packets, so anybody who knows the key can see that they belong together. `docs/ipsec.md` has H
//! in words, for implementers, with the same vectors that are tested below.

/// A group key, folded to 32 bits. It only keeps groups apart; it is no secret of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u32);

impl Key {
    /// No group key: the same as the key of no octets.
    pub const NONE: Key = Key(FNV_BASIS);

    /// The key made of these octets: 32-bit FNV-1a.
    #[must_use]
    pub const fn from_octets(octets: &[u8]) -> Key {
        let mut hash = FNV_BASIS;
        let mut at = 0;
        while at < octets.len() {
            hash = (hash ^ octets[at] as u32).wrapping_mul(FNV_PRIME);
            at += 1;
        }
        Key(hash)
    }
}

impl Default for Key {
    fn default() -> Key {
        Key::NONE
    }
}

const FNV_BASIS: u32 = 0x811C_9DC5;
const FNV_PRIME: u32 = 0x0100_0193;

/// H: the SPI that answers `spi` in the group of `key`. Never 0 to 255 (RFC 4303 section 2.1).
///
/// Except for the 256 results that are moved out of the reserved range, H is one to one, so that
/// different SPIs have different answers.
#[must_use]
pub const fn answer(spi: u32, key: Key) -> u32 {
    let mut h = spi ^ key.0;
    h ^= h >> 16;
    h = h.wrapping_mul(0x85EB_CA6B);
    h ^= h >> 13;
    h = h.wrapping_mul(0xC2B2_AE35);
    h ^= h >> 16;
    if is_reserved(h) { h | 0x8000_0000 } else { h }
}

/// Whether an SPI is one that no ESP packet may carry: 0, or 1 to 255 (RFC 4303 section 2.1).
#[must_use]
pub const fn is_reserved(spi: u32) -> bool {
    spi < 256
}

/// Whether two SPIs, one of each direction, belong together, whoever began.
#[must_use]
pub const fn is_pair(one: u32, other: u32, key: Key) -> bool {
    answer(one, key) == other || answer(other, key) == one
}
