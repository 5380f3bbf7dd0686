//! Searches for a port that found none: not repeated for every packet that is refused.

use std::net::Ipv4Addr;

use super::place::{Sought, port_range};
use crate::nat::{GlobalAddress, PortSpace};
use crate::time::Millis;
use crate::wire::PROTO_ICMP;

/// For how long it is believed that a destination has a flow on all ports of an address. What ends meanwhile is
/// noticed that much later; without it, every refused packet would cost hundreds of look-ups.
const BELIEVED_MS: u64 = 20;

/// Room for the searches of 256 neighbouring addresses, which a pool's are.
const FREE: usize = 4 * 256;
/// Room for destinations.
const SHARED: usize = 1024;

/// A search for a port without any entry, and how often one had been freed before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Free {
    address: Ipv4Addr,
    space: PortSpace,
    /// The lowest port of the range.
    low: u16,
    freed: u32,
}

/// A search for a port that no flow to a destination has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shared {
    address: Ipv4Addr,
    space: PortSpace,
    low: u16,
    peer: u32,
    /// 0 of ICMP.
    peer_port: u16,
}

/// The latest ones; a place for each, which others may take.
#[derive(Debug)]
pub(super) struct InVain {
    free: Box<[Option<(Era, Free)>; FREE]>,
    shared: Box<[Option<(Era, Shared, Millis)>; SHARED]>,
    era: Era,
}

/// What is of another one is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Era(u32);

impl InVain {
    /// None yet.
    pub(super) fn new() -> InVain {
        InVain {
            free: Box::new([None; FREE]),
            shared: Box::new([None; SHARED]),
            era: Era(0),
        }
    }

    /// Begins anew: an address may have gone and come back with other ports.
    pub(super) fn forget(&mut self) {
        self.era = Era(self.era.0.wrapping_add(1));
    }

    /// As long as nothing of the address is given back, the search finds nothing again.
    #[inline]
    pub(super) fn was_free(&self, search: &Free) -> bool {
        self.free[search.place()] == Some((self.era, *search))
    }

    #[cold]
    pub(super) fn note_free(&mut self, search: Free) {
        self.free[search.place()] = Some((self.era, search));
    }

    /// The same for a destination, for a short time.
    #[cold]
    pub(super) fn was_shared(&self, sought: &Sought<'_>, global: &GlobalAddress) -> bool {
        let search = Shared::new(sought, global);
        let noted = &self.shared[search.place()];
        noted.is_some_and(|(era, noted, at)| {
            (era, noted) == (self.era, search) && sought.now.since(at) < BELIEVED_MS
        })
    }

    /// Notes such a search, unless it is one that was believed.
    #[cold]
    pub(super) fn note_shared(&mut self, sought: &Sought<'_>, global: &GlobalAddress) {
        if !self.was_shared(sought, global) {
            let search = Shared::new(sought, global);
            self.shared[search.place()] = Some((self.era, search, sought.now));
        }
    }
}

impl Free {
    #[inline]
    pub(super) fn new(sought: &Sought<'_>, global: &GlobalAddress) -> Free {
        Free {
            address: global.address,
            space: sought.space,
            low: port_range(sought.space, sought.key.sport).0,
            freed: global.freed(),
        }
    }

    fn place(&self) -> usize {
        (self.address.to_bits() as usize * 4 + self.space as usize) % FREE
    }
}

impl Shared {
    fn new(sought: &Sought<'_>, global: &GlobalAddress) -> Shared {
        let peer_port = match sought.protocol {
            PROTO_ICMP => 0,
            _ => sought.key.dport,
        };
        Shared {
            address: global.address,
            space: sought.space,
            low: port_range(sought.space, sought.key.sport).0,
            peer: sought.key.dst,
            peer_port,
        }
    }

    fn place(&self) -> usize {
        let peer = u64::from(self.peer) << 16 | u64::from(self.peer_port);
        let mixed = (peer ^ u64::from(self.address.to_bits()).rotate_left(40))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 48) as usize % SHARED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::Nat;
    use crate::session::Key;
    use crate::wire::PROTO_UDP;

    #[test]
    fn a_search_is_believed_until_something_is_freed_or_the_policy_changes() {
        let mut in_vain = InVain::new();
        let search = Free {
            address: Ipv4Addr::new(198, 51, 100, 1),
            space: PortSpace::Udp,
            low: 1024,
            freed: 7,
        };
        in_vain.note_free(search);
        assert!(in_vain.was_free(&search));
        assert!(!in_vain.was_free(&Free { freed: 8, ..search }));
        assert!(!in_vain.was_free(&Free { low: 1, ..search }));
        in_vain.forget();
        assert!(!in_vain.was_free(&search));
    }

    #[test]
    fn a_destination_is_believed_for_a_moment_and_for_a_range() {
        let (nat, global) = (
            Nat::default(),
            GlobalAddress::new(Ipv4Addr::new(198, 51, 100, 1)),
        );
        let sought = |sport, dport, now| Sought {
            now: Millis(now),
            nat: &nat,
            space: PortSpace::Udp,
            protocol: PROTO_UDP,
            key: Key {
                src: 1,
                dst: 2,
                sport,
                dport,
            },
        };
        let mut in_vain = InVain::new();
        in_vain.note_shared(&sought(5000, 9, 100), &global);
        let was = |in_vain: &InVain, sport, dport, now| {
            in_vain.was_shared(&sought(sport, dport, now), &global)
        };
        assert!(was(&in_vain, 6000, 9, 119), "any port of the same range");
        assert!(!was(&in_vain, 500, 9, 100), "of another one");
        assert!(!was(&in_vain, 5000, 10, 100), "another destination");
        assert!(!was(&in_vain, 5000, 9, 120));
        // Believed, it is no new search.
        in_vain.note_shared(&sought(5000, 9, 119), &global);
        assert!(!was(&in_vain, 5000, 9, 120));
        in_vain.note_shared(&sought(5000, 9, 120), &global);
        assert!(was(&in_vain, 5000, 9, 139));
    }
}
