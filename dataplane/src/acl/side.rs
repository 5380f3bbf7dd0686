//! The networks that lines have on one side: as their source, or as their destination.

use std::num::NonZeroU64;

use super::hash::Filter;
use super::slots::{Keyed, Part, Slots};

/// Masks, a bit for each.
pub(super) type Bits = u64;

/// The networks of one side of a table, by their masks.
#[derive(Debug)]
pub(super) struct Side {
    masks: Box<[Mask]>,
    networks: Slots<Network>,
    /// The networks of all masks.
    filter: Filter,
}

#[derive(Debug, Clone, Copy)]
struct Mask {
    /// The bits that matter.
    matters: u32,
    part: Part,
    /// The first line with this mask.
    lowest: u32,
}

/// An address under a mask.
#[derive(Debug)]
pub(super) struct Network {
    address: u32,
    /// The first line that has it.
    pub(super) lowest: u32,
    /// The masks that lines with it have on the other side.
    pub(super) beside: NonZeroU64,
}

/// A line as one side sees it; ordered by mask, address, line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    /// The place of its mask.
    pub(super) mask: u8,
    /// Its address, of which bits that do not matter may be set.
    pub(super) address: u32,
    pub(super) line: u32,
    /// The place of the mask on the other side.
    pub(super) other: u8,
}

impl Keyed for Network {
    type Key = u32;

    fn key(&self) -> u32 {
        self.address
    }
}

impl Side {
    /// The networks of `lines` under masks whose bits `matters` tells.
    pub(super) fn new(matters: &[u32], lines: impl Iterator<Item = Seen>) -> Side {
        let masked = |seen: Seen| Seen {
            address: seen.address & matters[usize::from(seen.mask)],
            ..seen
        };
        let mut lines: Vec<Seen> = lines.map(masked).collect();
        lines.sort_unstable();
        let mut networks: Vec<Vec<Network>> = matters.iter().map(|_| Vec::new()).collect();
        for same in lines.chunk_by(|a, b| (a.mask, a.address) == (b.mask, b.address)) {
            let beside = same.iter().fold(0, |all, seen| all | 1 << seen.other);
            if let (Some(first), Some(beside)) = (same.first(), NonZeroU64::new(beside)) {
                networks[usize::from(first.mask)].push(Network {
                    address: first.address,
                    lowest: first.line,
                    beside,
                });
            }
        }
        let lowest = |of: &Vec<Network>| of.iter().map(|n| n.lowest).min().unwrap_or(u32::MAX);
        let lowest: Vec<u32> = networks.iter().map(lowest).collect();
        let mut filter = Filter::new(networks.iter().map(Vec::len).sum());
        for (at, networks) in networks.iter().enumerate() {
            let numbers = networks.iter().map(|n| number(at, n.address));
            numbers.for_each(|number| filter.add(number));
        }
        let (networks, parts) = Slots::new(networks);
        let masks = matters.iter().zip(&parts).zip(lowest);
        let mask = |((matters, part), lowest): ((&u32, &Part), u32)| Mask {
            matters: *matters,
            part: *part,
            lowest,
        };
        Side {
            masks: masks.map(mask).collect(),
            networks,
            filter,
        }
    }

    /// How many masks there are.
    pub(super) fn len(&self) -> usize {
        self.masks.len()
    }

    /// The place of the mask whose bits `matters` tells.
    pub(super) fn place(&self, matters: u32) -> Option<usize> {
        self.masks.iter().position(|m| m.matters == matters)
    }

    /// What the mask at `at` leaves of an address.
    #[inline]
    pub(super) fn masked(&self, at: usize, address: u32) -> u32 {
        address & self.masks[at].matters
    }

    /// The masks under which some line may have `address`: those of which one has, and few others.
    #[inline]
    pub(super) fn masks_of(&self, address: u32) -> Bits {
        let mut bits = 0;
        for (at, mask) in self.masks.iter().enumerate().rev() {
            bits = bits << 1 | self.filter.has(number(at, address & mask.matters));
        }
        bits
    }

    /// The network of an address under the mask at `at`.
    #[inline]
    pub(super) fn network(&self, at: usize, address: u32) -> Option<&Network> {
        let mask = &self.masks[at];
        self.networks.find(mask.part, address & mask.matters)
    }

    /// Asks the memory for [`Side::network`].
    #[inline]
    pub(super) fn prefetch(&self, at: usize, address: u32) {
        let mask = &self.masks[at];
        self.networks.prefetch(mask.part, address & mask.matters);
    }

    /// The first line that has `address`, if it is before `end`; else `end`.
    pub(super) fn first(&self, address: u32, end: u32) -> u32 {
        let mut first = end;
        for (at, mask) in self.masks.iter().enumerate() {
            if mask.lowest < first
                && let Some(network) = self.network(at, address)
            {
                first = first.min(network.lowest);
            }
        }
        first
    }
}

/// The number of a network under the mask at `at` in [`Side::filter`].
#[inline]
fn number(at: usize, address: u32) -> u64 {
    (at as u64) << 32 | u64::from(address)
}
