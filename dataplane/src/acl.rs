//! Access lists: first match wins, nothing matched is denied.
//!
//! Consulted when an entry is made, never on a hit. What a line means is said here; long lists are
//! searched by `compiled`, which must find the same line as looking at one after the other does.

mod build;
mod compiled;
mod dimension;
mod exact;
mod line;
mod sources;
#[cfg(test)]
mod tests;
mod tree;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use compiled::Compiled;
use sources::Sources;

/// Permit or deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The packet is permitted (in NAT: translated).
    Permit,
    /// The packet is denied (in NAT: left alone by this rule).
    Deny,
}

/// An address and a wildcard mask, whose one bits mean "don't care".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wildcard {
    /// The address, as a number in host byte order.
    pub address: u32,
    /// Bits that do not matter.
    pub dont_care: u32,
}

impl Wildcard {
    /// Matches every address.
    pub const ANY: Wildcard = Wildcard {
        address: 0,
        dont_care: u32::MAX,
    };

    /// Matches one address.
    #[must_use]
    pub fn host(address: Ipv4Addr) -> Wildcard {
        Wildcard {
            address: address.to_bits(),
            dont_care: 0,
        }
    }

    /// Whether `address` matches.
    #[must_use]
    pub fn matches(self, address: u32) -> bool {
        (self.address ^ address) & !self.dont_care == 0
    }
}

/// A set of ports: a range, or everything but a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ports {
    /// First port of the range.
    pub first: u16,
    /// Last port of the range, included.
    pub last: u16,
    /// Whether the set is everything but the range (`neq`).
    pub negated: bool,
}

impl Ports {
    /// Every port.
    pub const ANY: Ports = Ports {
        first: 0,
        last: u16::MAX,
        negated: false,
    };

    /// Whether `port` is in the set.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first <= port && port <= self.last) != self.negated
    }
}

/// The headers that an access list looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// IP protocol number.
    pub protocol: u8,
    /// Source address, host byte order.
    pub source: u32,
    /// Destination address, host byte order.
    pub destination: u32,
    /// Source and destination port (TCP, UDP), or `None` where the packet shows none.
    pub ports: Option<(u16, u16)>,
    /// ICMP type and code, or `None` where the packet is not ICMP or shows none.
    pub icmp: Option<(u8, u8)>,
    /// TCP with ACK or RST set.
    pub established: bool,
    /// A fragment other than the first.
    pub later_fragment: bool,
}

impl Subject {
    /// A packet that shows nothing but its source, for lines that ask for nothing else.
    fn from_alone(source: u32) -> Subject {
        Subject {
            protocol: 0,
            source,
            destination: 0,
            ports: None,
            icmp: None,
            established: false,
            later_fragment: false,
        }
    }
}

/// One line of an access list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Sequence number, for display.
    pub sequence: u32,
    /// What a match means.
    pub action: Action,
    /// IP protocol, or `None` for `ip`.
    pub protocol: Option<u8>,
    /// Source addresses.
    pub source: Wildcard,
    /// Source ports (TCP and UDP).
    pub source_ports: Ports,
    /// Destination addresses.
    pub destination: Wildcard,
    /// Destination ports (TCP and UDP).
    pub destination_ports: Ports,
    /// ICMP type, and code where given.
    pub icmp: Option<(u8, Option<u8>)>,
    /// Only TCP with ACK or RST.
    pub established: bool,
    /// Only fragments other than the first.
    pub fragments: bool,
    /// Whether matches are logged.
    pub log: bool,
}

impl Entry {
    /// An entry that matches every packet from `source`: a line of a standard list.
    #[must_use]
    pub fn standard(sequence: u32, action: Action, source: Wildcard) -> Entry {
        Entry {
            sequence,
            action,
            protocol: None,
            source,
            source_ports: Ports::ANY,
            destination: Wildcard::ANY,
            destination_ports: Ports::ANY,
            icmp: None,
            established: false,
            fragments: false,
            log: false,
        }
    }

    /// Whether the packet matches this line.
    #[must_use]
    pub fn matches(&self, packet: &Subject) -> bool {
        self.protocol.is_none_or(|p| p == packet.protocol)
            && self.source.matches(packet.source)
            && self.destination.matches(packet.destination)
            && self.ports_match(packet)
            && (!self.established || packet.established)
            && (!self.fragments || packet.later_fragment)
            && self.icmp.is_none_or(|(kind, code)| {
                packet
                    .icmp
                    .is_some_and(|(k, c)| k == kind && code.is_none_or(|code| code == c))
            })
    }

    fn ports_match(&self, packet: &Subject) -> bool {
        if self.source_ports == Ports::ANY && self.destination_ports == Ports::ANY {
            return true;
        }
        packet.ports.is_some_and(|(source, destination)| {
            self.source_ports.contains(source) && self.destination_ports.contains(destination)
        })
    }
}

/// A line that matches.
#[derive(Debug, Clone, Copy)]
struct Match<'a> {
    action: Action,
    /// The count of its hits.
    hits: &'a AtomicU64,
}

/// An access list with its hit counts.
#[derive(Debug, Default)]
pub struct AccessList {
    entries: Vec<Entry>,
    /// What finds lines of a long list, and counts their hits.
    compiled: Option<Box<Compiled>>,
    /// Of a short list, the hits of each line.
    hits: Box<[AtomicU64]>,
    /// What finds lines of a long list by their sources, if they ask for more.
    sources: Option<Box<Sources>>,
}

impl AccessList {
    /// A list of `entries` in their order. One of more than 16 lines is made ready for fast
    /// lookups: about a microsecond a line, and 84 to 172 octets.
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> AccessList {
        if entries.len() > Compiled::SHORT && entries.len() < Compiled::LONG {
            return AccessList::long(entries);
        }
        AccessList {
            hits: entries.iter().map(|_| AtomicU64::new(0)).collect(),
            entries,
            ..AccessList::default()
        }
    }

    /// As [`AccessList::new`] makes a list of many lines, however short it is.
    fn long(entries: Vec<Entry>) -> AccessList {
        AccessList {
            compiled: Some(Box::new(Compiled::new(&entries))),
            sources: Sources::new(&entries).map(Box::new),
            entries,
            ..AccessList::default()
        }
    }

    /// The first line that matches.
    #[inline]
    fn find(&self, packet: &Subject) -> Option<Match<'_>> {
        if let Some(compiled) = &self.compiled {
            return compiled.find(packet, |line| self.entries[line].matches(packet));
        }
        let mut lines = self.entries.iter().zip(&self.hits);
        let (entry, hits) = lines.find(|(entry, _)| entry.matches(packet))?;
        Some(Match {
            action: entry.action,
            hits,
        })
    }

    /// The lines, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The first line that matches counts a hit and decides; no line means deny.
    #[must_use]
    pub fn check(&self, packet: &Subject) -> Action {
        let Some(found) = self.find(packet) else {
            return Action::Deny;
        };
        // Several workers may count here; like the number of entries, it is counted where an
        // entry is made, never on a hit.
        found.hits.fetch_add(1, Ordering::Relaxed);
        found.action
    }

    /// [`AccessList::check`] if `counts`, else [`AccessList::decide`].
    #[must_use]
    pub fn look(&self, packet: &Subject, counts: bool) -> Action {
        if counts {
            self.check(packet)
        } else {
            self.decide(packet)
        }
    }

    /// What [`AccessList::check`] would say, without counting.
    #[must_use]
    pub fn decide(&self, packet: &Subject) -> Action {
        self.find(packet).map_or(Action::Deny, |found| found.action)
    }

    /// Whether the first line about `source`, whatever else it asks for, permits.
    #[must_use]
    pub fn permits_source(&self, source: u32) -> bool {
        if let Some(sources) = &self.sources {
            return sources.permit(&self.entries, source);
        }
        if self.compiled.is_some() {
            return self.decide(&Subject::from_alone(source)) == Action::Permit;
        }
        let about = self.entries.iter().find(|e| e.source.matches(source));
        about.is_some_and(|entry| entry.action == Action::Permit)
    }

    /// Octets of memory that lookups take, besides the lines themselves.
    #[must_use]
    pub fn octets(&self) -> usize {
        let compiled = self.compiled.as_ref().map_or(0, |c| c.octets());
        let sources = self.sources.as_ref().map_or(0, |s| s.octets());
        size_of_val(&*self.hits) + compiled + sources
    }

    /// Matches of the line at `index` so far.
    #[must_use]
    pub fn hits(&self, index: usize) -> u64 {
        let hits = match &self.compiled {
            Some(compiled) => compiled.hits(index),
            None => self.hits.get(index),
        };
        hits.map_or(0, |hits| hits.load(Ordering::Relaxed))
    }
}
