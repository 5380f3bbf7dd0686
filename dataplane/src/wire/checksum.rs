//! The Internet checksum: over octets (RFC 1071) and by difference (RFC 1624).

use std::ops::{Add, AddAssign, Neg};

/// A ones-complement sum in the making (RFC 1071).
///
/// Each slice that is added starts at an even place of the message; only the last one may have an
/// odd number of octets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of the pseudo-header of TCP and UDP (RFC 793 section 3.1, RFC 768); `len` is the
    /// number of octets from the TCP or UDP header on.
    #[inline]
    #[must_use]
    pub fn pseudo_header(src: u32, dst: u32, protocol: u8, len: u16) -> Sum {
        Sum::default()
            .u32(src)
            .u32(dst)
            .u16(u16::from(protocol))
            .u16(len)
    }

    /// Adds octets.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        // The sum does not care about byte order as long as all of it has the same (RFC 1071
        // section 2 B), so words are added as the CPU reads them and swapped once, in `fold`.
        let (words, rest) = bytes.as_chunks::<4>();
        let words: u64 = words
            .iter()
            .map(|word| u64::from(u32::from_ne_bytes(*word)))
            .sum();
        let last = match *rest {
            [a, b, c] => [a, b, c, 0],
            [a, b] => [a, b, 0, 0],
            [a] => [a, 0, 0, 0],
            _ => [0; 4],
        };
        Sum(self.0 + words + u64::from(u32::from_ne_bytes(last)))
    }

    /// Adds one 16-bit word.
    #[inline]
    #[must_use]
    pub fn u16(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(word.to_be()))
    }

    /// Adds two 16-bit words.
    #[inline]
    #[must_use]
    pub fn u32(self, words: u32) -> Sum {
        Sum(self.0 + u64::from(words.to_be()))
    }

    /// The sum in 16 bits.
    #[inline]
    #[must_use]
    pub fn fold(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 32) + (sum & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        u16::from_be(sum as u16)
    }

    /// The checksum field that makes this sum, taken with the field at 0, come out right.
    #[inline]
    #[must_use]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Like [`Sum::checksum`], for UDP: a sum of 0 is sent as 0xffff (RFC 768).
    #[inline]
    #[must_use]
    pub fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// Whether this sum, taken with the checksum field in it, comes out right.
    #[inline]
    #[must_use]
    pub fn is_right(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The checksum field of a message whose field is 0 in `bytes` (RFC 1071).
#[inline]
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::default().bytes(bytes).checksum()
}

/// The ones-complement difference that a change of header fields makes to their checksum: the
/// `~m + m'` of RFC 1624 equation 3, worked out once and applied to every packet.
///
/// Differences add up, and the negative of one undoes it. A field that a computation over the
/// whole message made comes out exactly as a new computation would make it, save where the whole
/// message is zero, whose checksum has two spellings, 0 and 0xffff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Delta(
    // As it lies in packets, so that no field is swapped to be changed: the sum does not care (RFC 1071 section 2 B).
    // Never 0xffff: that is the other spelling of no difference.
    u16,
);

impl Delta {
    /// No difference.
    pub const NONE: Delta = Delta(0);

    /// What one place less to live makes of an IPv4 header checksum.
    pub const TTL_DECREMENT: Delta = Delta((!0x0100_u16).to_be());

    /// The difference of one 16-bit word, a port for one.
    #[inline]
    #[must_use]
    pub const fn of_u16(old: u16, new: u16) -> Delta {
        Delta::canonical(!old.to_be() as u32 + new.to_be() as u32)
    }

    /// The difference of two 16-bit words, an address for one.
    #[inline]
    #[must_use]
    pub const fn of_u32(old: u32, new: u32) -> Delta {
        let (old, new) = (!old.to_be(), new.to_be());
        Delta::canonical((old >> 16) + (old & 0xffff) + (new >> 16) + (new & 0xffff))
    }

    /// The checksum field after the change, from what it was before.
    #[inline]
    #[must_use]
    pub const fn apply(self, field: u16) -> u16 {
        u16::from_be(Deltas(self.0 as u32).apply_ne(field.to_be()))
    }

    /// Like [`Delta::apply`] for UDP (RFC 768): a field of 0 says that there is no checksum and
    /// stays 0; a checksum that comes out as 0 is sent as 0xffff.
    #[inline]
    #[must_use]
    pub const fn apply_udp(self, field: u16) -> u16 {
        u16::from_be(Deltas(self.0 as u32).apply_udp_ne(field.to_be()))
    }

    #[inline]
    const fn canonical(sum: u32) -> Delta {
        match fold(sum) {
            0xffff => Delta(0),
            delta => Delta(delta),
        }
    }
}

impl Add for Delta {
    type Output = Delta;

    #[inline]
    fn add(self, other: Delta) -> Delta {
        Delta::canonical(u32::from(self.0) + u32::from(other.0))
    }
}

impl AddAssign for Delta {
    #[inline]
    fn add_assign(&mut self, other: Delta) {
        *self = *self + other;
    }
}

impl Neg for Delta {
    type Output = Delta;

    #[inline]
    fn neg(self) -> Delta {
        Delta::canonical(u32::from(!self.0))
    }
}

/// Some differences together, whose carries have not been added back in yet.
///
/// Applied to a field that a computation over the whole message made, it gives what the one
/// [`Delta`] that they add up to would give; to a field of 0xffff, which no such computation makes,
/// it may give the other spelling of the same checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deltas(u32);

impl Deltas {
    /// Nothing yet.
    pub const NONE: Deltas = Deltas(0);

    /// These and one more, which is undone where `undo` is 0xffff and done where it is 0.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, delta: Delta, undo: u16) -> Deltas {
        Deltas(self.0 + (delta.0 ^ undo) as u32)
    }

    /// These and others.
    #[inline(always)]
    #[must_use]
    pub const fn and_all(self, others: Deltas) -> Deltas {
        Deltas(self.0 + others.0)
    }

    /// The checksum field after the changes, from what it was before, as this CPU reads it where it lies.
    #[inline(always)]
    #[must_use]
    pub const fn apply_ne(self, field: u16) -> u16 {
        !fold(!field as u32 + self.0)
    }

    /// Like [`Deltas::apply_ne`] for UDP, as [`Delta::apply_udp`].
    #[inline(always)]
    #[must_use]
    pub const fn apply_udp_ne(self, field: u16) -> u16 {
        if field == 0 {
            return 0;
        }
        match self.apply_ne(field) {
            0 => 0xffff,
            checksum => checksum,
        }
    }
}

/// Adds the carries back in.
#[inline]
const fn fold(sum: u32) -> u16 {
    // The upper half of this sum is that of both halves, with the carry of the lower one.
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}
