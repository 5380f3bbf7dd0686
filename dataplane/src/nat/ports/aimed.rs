//! The search for a free port of which something is wanted.

use super::loans::Part;
use super::{GlobalAddress, PortSpace, block_of, port_in};
use crate::snapshot::WorkerId;

/// Free ports looked at, and blocks passed by, before the search is given up.
const CANDIDATES: u32 = 64;
const PASSED_BY: usize = 256;

impl GlobalAddress {
    /// As [`GlobalAddress::free_port`], but a port that is `wanted`, after a short search: `None` does
    /// not mean that there is none.
    #[must_use]
    pub fn free_port_that(
        &self,
        me: WorkerId,
        may_claim: bool,
        space: PortSpace,
        range: (u16, u16),
        start: u16,
        wanted: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let (low, high) = (block_of(range.0), block_of(range.1));
        let begin = block_of(start).clamp(low, high);
        let mut left = CANDIDATES;
        for block in (begin..=high).chain(low..begin).take(PASSED_BY) {
            let Some((part, mut free)) = self.free_ports(me, space, block) else {
                continue;
            };
            let is_nobodys = part == Part::Nobodys;
            if is_nobodys && !may_claim {
                continue;
            }
            while free != 0 {
                if left == 0 {
                    return None;
                }
                left -= 1;
                let port = port_in(block, free);
                if wanted(port) {
                    if !is_nobodys || self.claim_block(me, block) {
                        return Some(port);
                    }
                    break;
                }
                free &= free - 1;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What it finds is free, wanted, in the range and the worker's; and it finds something wherever
        /// a free port is wanted that the short search comes by.
        #[test]
        fn finds_a_free_port_that_is_wanted(
            taken in proptest::collection::hash_set(1024u16..1600, 0..500),
            of_other in proptest::collection::hash_set(16usize..25, 0..6),
            modulus in 1u16..9, start: u16, may_claim: bool,
        ) {
            let (me, other) = (WorkerId(0), WorkerId(1));
            let global = GlobalAddress::new([198, 51, 100, 1].into());
            for block in &of_other {
                prop_assert!(global.claim(other, *block as u16 * 64));
            }
            for port in &taken {
                if global.claim(me, *port) {
                    prop_assert!(global.take(me, PortSpace::Udp, *port));
                }
            }
            let wanted = |port: u16| port.is_multiple_of(modulus);
            let range = (1024, 1599);
            let may_be = |port: &u16| {
                let owner = global.owner(*port);
                let mine = owner == Some(me) || may_claim && owner.is_none();
                mine && !global.in_use(PortSpace::Udp, *port) && wanted(*port)
            };
            let any = (range.0..=range.1).find(may_be);
            let found = global.free_port_that(me, may_claim, PortSpace::Udp, range, start, wanted);
            if let Some(port) = found {
                prop_assert!((range.0..=range.1).contains(&port) && wanted(port));
                prop_assert_eq!(global.owner(port), Some(me));
                prop_assert!(!global.in_use(PortSpace::Udp, port));
                prop_assert!(any.is_some());
            } else if modulus == 1 {
                prop_assert_eq!(any, None, "where all are wanted, the first free one is");
            }
        }
    }
}
