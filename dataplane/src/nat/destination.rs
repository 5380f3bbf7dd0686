//! `ip nat inside destination`: TCP connections to a virtual address, shared among inside hosts.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::AddressHasher;
use crate::acl::{AccessList, Action, Subject};

/// `ip nat inside destination list A pool P`.
#[derive(Debug, Clone)]
pub struct DestinationRule {
    /// The mapping's number in `show ip nat statistics`.
    pub id: u16,
    /// The list of virtual addresses.
    pub list: Arc<AccessList>,
    /// It is a standard list: what it says of sources is meant of destinations.
    pub is_standard: bool,
    /// Who gets the connections.
    pub servers: Arc<Servers>,
}

/// The hosts of a pool in turn.
#[derive(Debug)]
pub struct Servers {
    /// First and last address of each range.
    ranges: Box<[(Ipv4Addr, Ipv4Addr)]>,
    /// Connections that were given to hosts, modulo 2^32.
    given: AtomicU32,
}

/// All rules of load sharing.
#[derive(Debug, Default)]
pub struct Destinations {
    /// The rules, in order of configuration.
    pub rules: Vec<DestinationRule>,
    /// Virtual addresses that lists name one by one: ARP is answered for them.
    pub addresses: Vec<Ipv4Addr>,
    servers: HashSet<u32, BuildHasherDefault<AddressHasher>>,
}

impl Servers {
    /// The hosts of these ranges, each by its first and last address; the first one is the next.
    #[must_use]
    pub fn new(ranges: &[(Ipv4Addr, Ipv4Addr)]) -> Servers {
        Servers {
            ranges: ranges.into(),
            given: AtomicU32::new(0),
        }
    }

    /// First and last address of each range.
    #[must_use]
    pub fn ranges(&self) -> &[(Ipv4Addr, Ipv4Addr)] {
        &self.ranges
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        let sizes = self.ranges.iter().map(size);
        sizes.fold(0, u32::saturating_add)
    }

    /// Whether an address is one of them.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let holds = |(first, last): &(Ipv4Addr, Ipv4Addr)| (*first..=*last).contains(&address);
        self.ranges.iter().any(holds)
    }

    /// Whose turn it is after `turns` others, without taking it.
    #[must_use]
    pub fn next_but(&self, turns: u32) -> Option<Ipv4Addr> {
        let given = self.given.load(Ordering::Relaxed);
        self.at(given.wrapping_add(turns))
    }

    /// Takes a turn. Any worker may; each gets another one.
    #[must_use]
    pub fn take_turn(&self) -> Option<Ipv4Addr> {
        self.at(self.given.fetch_add(1, Ordering::Relaxed))
    }

    fn at(&self, turn: u32) -> Option<Ipv4Addr> {
        let mut index = turn.checked_rem(self.count())?;
        for range in &self.ranges {
            if index < size(range) {
                return Some(Ipv4Addr::from_bits(range.0.to_bits() + index));
            }
            index -= size(range);
        }
        None
    }
}

fn size((first, last): &(Ipv4Addr, Ipv4Addr)) -> u32 {
    let others = last.to_bits().saturating_sub(first.to_bits());
    others.saturating_add(1)
}

impl DestinationRule {
    /// Whether a packet's connection is to be shared, with its match counted if `counts`.
    #[must_use]
    pub fn shares(&self, subject: &Subject, counts: bool) -> bool {
        let asked = if self.is_standard {
            Subject {
                source: subject.destination,
                ..*subject
            }
        } else {
            *subject
        };
        self.list.look(&asked, counts) == Action::Permit
    }
}

impl Destinations {
    /// These rules, of which the lists name `addresses` one by one.
    #[must_use]
    pub fn new(rules: Vec<DestinationRule>, addresses: Vec<Ipv4Addr>) -> Destinations {
        let pools = rules.iter().flat_map(|rule| &rule.servers.ranges);
        let all = pools.flat_map(|(first, last)| first.to_bits()..=last.to_bits());
        Destinations {
            servers: all.collect(),
            rules,
            addresses,
        }
    }

    /// Whether no load is shared.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether an inside host may have been given connections.
    #[must_use]
    pub fn is_server(&self, address: u32) -> bool {
        self.servers.contains(&address)
    }

    /// The rule under which a packet's connection is shared.
    #[must_use]
    pub fn rule_for(&self, subject: &Subject, counts: bool) -> Option<&DestinationRule> {
        self.rules.iter().find(|rule| rule.shares(subject, counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_its_turn() {
        let ip = |last: u8| Ipv4Addr::new(10, 0, 0, last);
        let servers = Servers::new(&[(ip(7), ip(8)), (ip(1), ip(1))]);
        let turns: Vec<_> = (0..4).filter_map(|_| servers.take_turn()).collect();
        assert_eq!(turns, [ip(7), ip(8), ip(1), ip(7)]);
        assert_eq!(
            (servers.next_but(0), servers.next_but(1)),
            (Some(ip(8)), Some(ip(1)))
        );
        assert!(servers.contains(ip(8)) && !servers.contains(ip(2)));
        assert_eq!(Servers::new(&[]).take_turn(), None);
        let servers = Servers::new(&[(ip(1), ip(3))]);
        servers.given.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(
            (servers.take_turn(), servers.take_turn()),
            (Some(ip(1)), Some(ip(1)))
        );
    }
}
