//! The addresses of one field of an access list, found by mask.

use std::collections::HashMap;

use super::hash::{Filter, Mixed, mix};
use super::{Entry, Wildcard};

/// The wildcards of the source or of the destination of all lines, each with the first line that
/// has it.
#[derive(Debug)]
pub(super) struct Addresses {
    /// The masks that most lines have, by their bit in [`Addresses::masks_of`].
    masks: Vec<Mask>,
    /// What stands beside them.
    filter: Filter,
    /// The wildcards of all other masks, by their first line.
    others: Vec<(Wildcard, u32)>,
}

/// The addresses that stand beside one mask.
#[derive(Debug)]
struct Mask {
    dont_care: u32,
    /// By address, the first line with it.
    first: HashMap<u32, u32, Mixed>,
    /// The first line of all.
    lowest: u32,
}

/// Masks, a bit for each.
pub(super) type Bits = u64;

impl Addresses {
    /// Masks with a bit of their own.
    const MASKS: usize = 63;
    /// All other masks together.
    const OTHERS: Bits = 1 << Self::MASKS;

    /// The wildcards that `field` tells of each line.
    pub(super) fn new(entries: &[Entry], field: fn(&Entry) -> Wildcard) -> Addresses {
        let mut lines: HashMap<u32, u32, Mixed> = HashMap::default();
        for entry in entries {
            *lines.entry(field(entry).dont_care).or_default() += 1;
        }
        let mut order: Vec<(u32, u32)> = lines.into_iter().collect();
        order.sort_unstable_by_key(|(mask, lines)| (u32::MAX - lines, *mask));
        order.truncate(Self::MASKS);
        let place: HashMap<u32, usize, Mixed> = (0..)
            .zip(&order)
            .map(|(at, (mask, _))| (*mask, at))
            .collect();
        let mut masks: Vec<Mask> = order.iter().map(|(mask, _)| Mask::new(*mask)).collect();
        let mut others: HashMap<(u32, u32), u32, Mixed> = HashMap::default();
        for (line, entry) in (0..).zip(entries) {
            let wildcard = field(entry);
            let address = wildcard.address & !wildcard.dont_care;
            match place
                .get(&wildcard.dont_care)
                .and_then(|at| masks.get_mut(*at))
            {
                Some(mask) => mask.note(address, line),
                None => {
                    others.entry((address, wildcard.dont_care)).or_insert(line);
                }
            }
        }
        let other = |((address, dont_care), line)| (Wildcard { address, dont_care }, line);
        let mut others: Vec<(Wildcard, u32)> = others.into_iter().map(other).collect();
        others.sort_unstable_by_key(|(_, line)| *line);
        let mut filter = Filter::new(masks.iter().map(|mask| mask.first.len()).sum());
        for (at, mask) in masks.iter().enumerate() {
            let addresses = mask.first.keys();
            addresses.for_each(|address| filter.add(mix(at as u64, u64::from(*address))));
        }
        Addresses {
            masks,
            filter,
            others,
        }
    }

    /// The bit of a mask.
    pub(super) fn bit(&self, dont_care: u32) -> Bits {
        let at = self.masks.iter().position(|m| m.dont_care == dont_care);
        at.map_or(Self::OTHERS, |at| 1 << at)
    }

    /// The masks under which some line may have `address`: those of which one has, and few others.
    #[inline]
    pub(super) fn masks_of(&self, address: u32) -> Bits {
        let mut bits = Self::OTHERS;
        for (at, mask) in self.masks.iter().enumerate() {
            let hash = mix(at as u64, u64::from(address & !mask.dont_care));
            bits |= self.filter.has(hash) << at;
        }
        bits
    }

    /// The first line that has `address`.
    pub(super) fn first(&self, address: u32) -> Option<u32> {
        let mut first = u32::MAX;
        for mask in &self.masks {
            if mask.lowest < first {
                first = mask.line(address).map_or(first, |line| line.min(first));
            }
        }
        let before = self.others.iter().take_while(|(_, line)| *line < first);
        let other = before.map(|(wildcard, line)| (wildcard, *line));
        let other = other
            .into_iter()
            .find(|(wildcard, _)| wildcard.matches(address));
        other
            .map(|(_, line)| line)
            .or((first != u32::MAX).then_some(first))
    }
}

impl Mask {
    fn new(dont_care: u32) -> Mask {
        Mask {
            dont_care,
            first: HashMap::default(),
            lowest: u32::MAX,
        }
    }

    /// Lines come in their order.
    fn note(&mut self, address: u32, line: u32) {
        self.first.entry(address).or_insert(line);
        self.lowest = self.lowest.min(line);
    }

    fn line(&self, address: u32) -> Option<u32> {
        self.first.get(&(address & !self.dont_care)).copied()
    }
}
