//! The lines of a long access list, found without looking at all of them.
//!
//! Lines that ask for the same bits of a packet (the same masks, the same protocol, ports given
//! exactly or not) are a group: what they ask for is a key, and a map leads from the key to the
//! first line that has it (tuple space search: Srinivasan, Suri, Varghese, "Packet Classification
//! Using Tuple Space Search", SIGCOMM 1999). Groups are asked in the order of their first lines,
//! until none can have an earlier line than the one found. Whatever else a line asks for (ranges
//! of ports, flags, ICMP types) is looked at where its key is found.
//!
//! A lookup costs one step for each group that the packet's addresses may be in, and for each line
//! of the same key that asks for more. Lines of groups of their own are compared one by one.

use std::collections::HashMap;

use super::addresses::{Addresses, Bits};
use super::hash::Mixed;
use super::{Entry, Ports, Subject};

/// What finds the first line that matches; it belongs to the lines that it was made of.
#[derive(Debug)]
pub(super) struct Compiled {
    sources: Addresses,
    destinations: Addresses,
    /// By first line.
    groups: Box<[Group]>,
    /// Whether it pays to ask first which groups a packet's addresses may be in.
    asks_masks: bool,
    /// Lines of groups too small for a map, in order.
    loose: Box<[u32]>,
    /// By line, the next one with the same key: for those that ask for more than their key.
    next: Box<[Found]>,
}

/// The bits that a line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    /// The protocol, of lines that ask for one.
    protocol: Option<u8>,
    /// The bits of source and destination that matter.
    matters: [u32; 2],
    /// Whether source and destination port are in the key.
    ports: [bool; 2],
}

#[derive(Debug)]
struct Group {
    shape: Shape,
    /// The bits of its masks among those of all lines.
    source: Bits,
    destination: Bits,
    /// Its first line.
    lowest: u32,
    lines: HashMap<Key, Found, Mixed>,
}

/// What lines of a group ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    addresses: u64,
    ports: u32,
}

/// A line that has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found(u32);

impl Found {
    const NONE: Found = Found(u32::MAX);
    /// Set if a packet with the key matches, whatever else it has.
    const WHOLE: u32 = 1 << 31;

    fn new(line: u32, whole: bool) -> Found {
        Found(if whole { line | Self::WHOLE } else { line })
    }

    fn line(self) -> u32 {
        self.0 & !Self::WHOLE
    }

    fn is_whole(self) -> bool {
        self.0 & Self::WHOLE != 0
    }
}

impl Compiled {
    /// Lists up to here are as fast line by line.
    const SHORT: usize = 16;
    /// Groups of fewer lines get no map.
    const SMALL: u32 = 3;

    /// The lines of a list; `None` where looking at one after the other is as good.
    pub(super) fn new(entries: &[Entry]) -> Option<Compiled> {
        let countable = entries.len() < Found::WHOLE as usize;
        (entries.len() > Self::SHORT && countable).then(|| Compiled::of(entries))
    }

    /// As [`Compiled::new`], of fewer than 2^31 lines.
    pub(super) fn of(entries: &[Entry]) -> Compiled {
        let sources = Addresses::new(entries, |e| e.source);
        let destinations = Addresses::new(entries, |e| e.destination);
        let mut sizes: HashMap<Shape, u32, Mixed> = HashMap::default();
        for entry in entries {
            *sizes.entry(Shape::of(entry)).or_default() += 1;
        }
        let mut groups: HashMap<Shape, Group, Mixed> = HashMap::default();
        let mut loose = Vec::new();
        let mut next = vec![Found::NONE; entries.len()];
        // From behind, so that the first line with a key is put there last.
        for (at, entry) in entries.iter().enumerate().rev() {
            let (line, shape) = (at as u32, Shape::of(entry));
            let size = sizes.get(&shape).copied().unwrap_or_default();
            if size < Self::SMALL {
                loose.push(line);
                continue;
            }
            let group = groups.entry(shape).or_insert_with(|| Group {
                shape,
                source: sources.bit(entry.source.dont_care),
                destination: destinations.bit(entry.destination.dont_care),
                lowest: line,
                lines: HashMap::with_capacity_and_hasher(size as usize, Mixed::default()),
            });
            group.lowest = line;
            let found = Found::new(line, is_whole(entry));
            let behind = group.lines.insert(Key::of(entry, &shape), found);
            next[at] = behind.unwrap_or(Found::NONE);
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_unstable_by_key(|group| group.lowest);
        loose.reverse();
        Compiled {
            asks_masks: groups.len() > sources.cost() + destinations.cost(),
            sources,
            destinations,
            groups: groups.into(),
            loose: loose.into(),
            next: next.into(),
        }
    }

    /// The first line of `entries`, of which this was made, that matches.
    pub(super) fn find(&self, entries: &[Entry], packet: &Subject) -> Option<usize> {
        let (sources, destinations) = if self.asks_masks {
            let destinations = self.destinations.masks_of(packet.destination);
            (self.sources.masks_of(packet.source), destinations)
        } else {
            (Bits::MAX, Bits::MAX)
        };
        let mut first = u32::MAX;
        for group in &self.groups {
            if group.lowest >= first {
                break;
            }
            if group.source & sources == 0 || group.destination & destinations == 0 {
                continue;
            }
            let found = group
                .shape
                .key(packet)
                .and_then(|key| group.lines.get(&key));
            if let Some(found) = found {
                first = self.walk(entries, *found, packet, first);
            }
        }
        let before = self.loose.iter().take_while(|line| **line < first);
        let mut before = before.map(|line| *line as usize);
        let loose = before.find(|line| entries.get(*line).is_some_and(|e| e.matches(packet)));
        loose.or((first != u32::MAX).then_some(first as usize))
    }

    /// The first line from `found` on, among those of its key, that matches; `first` if none does
    /// before that.
    fn walk(&self, entries: &[Entry], found: Found, packet: &Subject, first: u32) -> u32 {
        let mut found = found;
        while found != Found::NONE && found.line() < first {
            let at = found.line() as usize;
            if found.is_whole() || entries.get(at).is_some_and(|e| e.matches(packet)) {
                return found.line();
            }
            found = self.next.get(at).copied().unwrap_or(Found::NONE);
        }
        first
    }

    /// The first line about `source`, whatever else it asks for.
    pub(super) fn first_about(&self, source: u32) -> Option<usize> {
        self.sources.first(source).map(|line| line as usize)
    }
}

impl Shape {
    fn of(entry: &Entry) -> Shape {
        Shape {
            protocol: entry.protocol,
            matters: [!entry.source.dont_care, !entry.destination.dont_care],
            ports: [entry.source_ports, entry.destination_ports].map(|p| exact(p).is_some()),
        }
    }

    /// What a packet has of these bits; `None` if no line of this shape can match it.
    fn key(&self, packet: &Subject) -> Option<Key> {
        if self.protocol.is_some_and(|p| p != packet.protocol) {
            return None;
        }
        let ports = match self.ports {
            [false, false] => [0, 0],
            [source, destination] => {
                let (from, to) = packet.ports?;
                [
                    if source { from } else { 0 },
                    if destination { to } else { 0 },
                ]
            }
        };
        Some(Key::new(
            [
                packet.source & self.matters[0],
                packet.destination & self.matters[1],
            ],
            ports,
        ))
    }
}

impl Key {
    fn new(addresses: [u32; 2], ports: [u16; 2]) -> Key {
        Key {
            addresses: u64::from(addresses[0]) << 32 | u64::from(addresses[1]),
            ports: u32::from(ports[0]) << 16 | u32::from(ports[1]),
        }
    }

    fn of(entry: &Entry, shape: &Shape) -> Key {
        Key::new(
            [
                entry.source.address & shape.matters[0],
                entry.destination.address & shape.matters[1],
            ],
            [entry.source_ports, entry.destination_ports].map(|p| exact(p).unwrap_or_default()),
        )
    }
}

/// The only port of a set, if it has one.
fn exact(ports: Ports) -> Option<u16> {
    (ports.first == ports.last && !ports.negated).then_some(ports.first)
}

/// Whether a line asks for nothing but what is in its key.
fn is_whole(entry: &Entry) -> bool {
    let in_key = |ports: Ports| ports == Ports::ANY || exact(ports).is_some();
    in_key(entry.source_ports)
        && in_key(entry.destination_ports)
        && entry.icmp.is_none()
        && !entry.established
        && !entry.fragments
}
