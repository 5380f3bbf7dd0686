//! The lines of a long access list, found without looking at all of them.
//!
//! Lines that ask for the same bits of a packet (the same masks, the same protocol, ports given
//! exactly or not) are a group: what they ask for is a key, and a hash table leads from the key to
//! the first line that has it (tuple space search: Srinivasan, Suri, Varghese, "Packet
//! Classification Using Tuple Space Search", SIGCOMM 1999). Groups are asked in the order of their
//! first lines, until none can have an earlier line than the one found. Whatever else a line asks
//! for (ranges of ports, flags, ICMP types) is looked at where its key is found.
//!
//! A lookup costs a step for each group that the packet's addresses may be in, and for each line
//! of the same key that asks for more. Lines of groups too small for this are compared one by one.

use std::collections::HashMap;

use super::addresses::{Addresses, Bits};
use super::hash::{Filter, Mixed};
use super::slots::{Found, Key, Part, Slots};
use super::{Action, Entry, Ports, Subject};

/// What finds the first line that matches; it belongs to the lines that it was made of.
#[derive(Debug)]
pub(super) struct Compiled {
    sources: Addresses,
    destinations: Addresses,
    /// In the order of their first lines.
    groups: Box<[Group]>,
    /// The place of each among them.
    place: HashMap<Shape, usize, Mixed>,
    slots: Slots,
    /// The keys of all groups, where there are several.
    keys: Option<Filter>,
    /// By 64 groups, those that have each source mask, destination mask and protocol.
    having: Box<[[[u64; 64]; 3]]>,
    /// The bit of each protocol.
    protocols: Box<[u8; 256]>,
    /// Lines of groups too small for a table, in order.
    loose: Box<[u32]>,
    /// By line, the next one with the same key: for those that ask for more than their key.
    next: Box<[Found]>,
}

/// A line that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) line: u32,
    pub(super) action: Action,
    /// Where its hits are counted, if that is beside its key.
    pub(super) slot: Option<usize>,
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
    /// Its first line.
    lowest: u32,
    part: Part,
}

impl Compiled {
    /// Lists up to here are as fast line by line.
    const SHORT: usize = 16;
    /// Groups of fewer lines get no table.
    const SMALL: u32 = 3;
    /// So few groups are asked without a filter.
    const FEW: usize = 2;

    /// The lines of a list; `None` where looking at one after the other is as good.
    pub(super) fn new(entries: &[Entry]) -> Option<Compiled> {
        // Beyond a quarter of a billion lines, tables would no longer be counted in 32 bits.
        let countable = entries.len() < Found::LINES / 8;
        (entries.len() > Self::SHORT && countable).then(|| Compiled::of(entries))
    }

    /// As [`Compiled::new`], however short the list is.
    pub(super) fn of(entries: &[Entry]) -> Compiled {
        let sources = Addresses::new(entries, |e| e.source);
        let destinations = Addresses::new(entries, |e| e.destination);
        let (shapes, loose) = shapes(entries);
        let (mut slots, parts) = Slots::new(shapes.iter().map(|s| s.lines));
        let filtered = shapes.len() > Self::FEW;
        let mut keys = filtered.then(|| Filter::new(entries.len()));
        let protocols = protocols(&shapes);
        let mut having = vec![[[0; 64]; 3]; shapes.len().div_ceil(64)];
        let mut place: HashMap<Shape, usize, Mixed> = HashMap::default();
        for (at, size) in shapes.iter().enumerate() {
            place.insert(size.shape, at);
            let [source, destination] = size.shape.matters.map(|bits| !bits);
            let protocol = size
                .shape
                .protocol
                .map_or(ANY_PROTOCOL, |p| protocols[usize::from(p)]);
            let bits = [
                sources.bit(source).trailing_zeros(),
                destinations.bit(destination).trailing_zeros(),
                u32::from(protocol),
            ];
            for (field, bit) in bits.into_iter().enumerate() {
                having[at / 64][field][bit as usize] |= 1 << (at % 64);
            }
        }
        let mut next = vec![Found::NONE; entries.len()];
        // From behind, so that the first line with a key is put there last.
        for (at, entry) in entries.iter().enumerate().rev() {
            let shape = Shape::of(entry);
            let Some(group) = place.get(&shape).copied() else {
                continue;
            };
            let key = shape.key_of(entry);
            let hash = key.hash(group);
            if let Some(keys) = &mut keys {
                keys.add(hash);
            }
            let found = Found::new(at as u32, entry, is_whole(entry));
            next[at] = slots.put(parts[group], hash, key, found);
        }
        let group = |(size, part): (&Size, Part)| Group {
            shape: size.shape,
            lowest: size.lowest,
            part,
        };
        Compiled {
            groups: shapes.iter().zip(parts).map(group).collect(),
            place,
            sources,
            destinations,
            slots,
            keys,
            having: having.into(),
            protocols,
            loose: loose.into(),
            next: next.into(),
        }
    }

    /// The first line of `entries`, of which this was made, that matches.
    pub(super) fn find(&self, entries: &[Entry], packet: &Subject) -> Option<Match> {
        let mut first = Match {
            line: u32::MAX,
            action: Action::Deny,
            slot: None,
        };
        match &self.keys {
            None => {
                for (at, group) in self.groups.iter().enumerate() {
                    if let Some(key) = group.shape.key(packet) {
                        self.ask(entries, packet, group, (key, key.hash(at)), &mut first);
                    }
                }
            }
            Some(keys) => self.ask_filtered(entries, packet, keys, &mut first),
        }
        for line in self.loose.iter().take_while(|line| **line < first.line) {
            let entry = entries.get(*line as usize);
            if let Some(entry) = entry.filter(|e| e.matches(packet)) {
                return Some(Match {
                    line: *line,
                    action: entry.action,
                    slot: None,
                });
            }
        }
        (first.line != u32::MAX).then_some(first)
    }

    /// Asks the groups that the packet may be in.
    fn ask_filtered(&self, entries: &[Entry], packet: &Subject, keys: &Filter, first: &mut Match) {
        let protocol = self.protocols[usize::from(packet.protocol)];
        let bits = [
            self.sources.masks_of(packet.source),
            self.destinations.masks_of(packet.destination),
            1 << ANY_PROTOCOL | 1 << protocol,
        ];
        for (word, having) in self.having.iter().enumerate() {
            let mut groups = (having.iter().zip(bits))
                .fold(u64::MAX, |all, (field, bits)| all & any_of(field, bits));
            while groups != 0 {
                let at = word * 64 + groups.trailing_zeros() as usize;
                groups &= groups - 1;
                let group = &self.groups[at];
                if group.lowest >= first.line {
                    return;
                }
                let Some(key) = group.shape.key(packet) else {
                    continue;
                };
                let hash = key.hash(at);
                if keys.has(hash) != 0 {
                    self.ask(entries, packet, group, (key, hash), first);
                }
            }
        }
    }

    /// Notes the first line of a group that matches, if it is before the first one found.
    #[inline]
    fn ask(
        &self,
        entries: &[Entry],
        packet: &Subject,
        group: &Group,
        (key, hash): (Key, u64),
        first: &mut Match,
    ) {
        let (mut found, at) = self.slots.find(group.part, hash, key);
        let mut slot = Some(at);
        while found != Found::NONE && found.line() < first.line {
            let line = found.line() as usize;
            if found.is_whole() || entries.get(line).is_some_and(|e| e.matches(packet)) {
                *first = Match {
                    line: found.line(),
                    action: found.action(),
                    slot,
                };
                return;
            }
            found = self.next.get(line).copied().unwrap_or(Found::NONE);
            slot = None;
        }
    }

    /// The first line about `source`, whatever else it asks for.
    pub(super) fn first_about(&self, source: u32) -> Option<usize> {
        self.sources.first(source).map(|line| line as usize)
    }

    /// Counts a hit beside a key.
    #[inline]
    pub(super) fn count(&self, slot: usize) {
        self.slots.count(slot);
    }

    /// The hits that are counted beside the key of line `line`, which is `entry`.
    pub(super) fn hits(&self, line: usize, entry: &Entry) -> u64 {
        let shape = Shape::of(entry);
        let Some((at, group)) = self.place.get(&shape).map(|at| (*at, &self.groups[*at])) else {
            return 0;
        };
        let key = shape.key_of(entry);
        let (found, slot) = self.slots.find(group.part, key.hash(at), key);
        if found == Found::NONE || found.line() as usize != line {
            return 0;
        }
        self.slots.hits(slot)
    }
}

/// The bit of lines that ask for no protocol.
const ANY_PROTOCOL: u8 = 0;

/// A bit for each protocol that some shape asks for; all others, and those beyond the 62nd, share
/// the last.
fn protocols(shapes: &[Size]) -> Box<[u8; 256]> {
    let mut bits = Box::new([63; 256]);
    let mut free = ANY_PROTOCOL + 1..63;
    for protocol in shapes.iter().filter_map(|size| size.shape.protocol) {
        let bit = &mut bits[usize::from(protocol)];
        if *bit == 63 {
            *bit = free.next().unwrap_or(63);
        }
    }
    bits
}

/// The groups that have any of `bits`.
#[inline]
fn any_of(having: &[u64; 64], bits: Bits) -> u64 {
    let (mut bits, mut groups) = (bits, 0);
    while bits != 0 {
        groups |= having[bits.trailing_zeros() as usize];
        bits &= bits - 1;
    }
    groups
}

/// A shape, its first line and how many lines have it.
#[derive(Debug)]
struct Size {
    shape: Shape,
    lowest: u32,
    lines: u32,
}

/// The shapes that get tables, in the order of their first lines, and the lines of all others.
fn shapes(entries: &[Entry]) -> (Vec<Size>, Vec<u32>) {
    let mut sizes: HashMap<Shape, Size, Mixed> = HashMap::default();
    for (line, entry) in (0..).zip(entries) {
        let shape = Shape::of(entry);
        let size = sizes.entry(shape).or_insert(Size {
            shape,
            lowest: line,
            lines: 0,
        });
        size.lines += 1;
    }
    let is_small = |shape: &Shape| sizes.get(shape).is_none_or(|s| s.lines < Compiled::SMALL);
    let lines = (0..).zip(entries);
    let loose = lines.filter(|(_, entry)| is_small(&Shape::of(entry)));
    let loose: Vec<u32> = loose.map(|(line, _)| line).collect();
    let mut shapes: Vec<Size> = sizes.into_values().collect();
    shapes.retain(|size| size.lines >= Compiled::SMALL);
    shapes.sort_unstable_by_key(|size| size.lowest);
    (shapes, loose)
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
    #[inline]
    fn key(&self, packet: &Subject) -> Option<Key> {
        if self.protocol.is_some_and(|p| p != packet.protocol) {
            return None;
        }
        let ports = match self.ports {
            [false, false] => [0, 0],
            [source, destination] => {
                let (from, to) = packet.ports?;
                let of = |asked: bool, port: u16| if asked { port } else { 0 };
                [of(source, from), of(destination, to)]
            }
        };
        let addresses = [packet.source, packet.destination];
        Some(Key::new(self.masked(addresses), ports))
    }

    /// What a line of this shape asks for.
    fn key_of(&self, entry: &Entry) -> Key {
        let addresses = [entry.source.address, entry.destination.address];
        let ports = [entry.source_ports, entry.destination_ports];
        let ports = ports.map(|p| exact(p).unwrap_or_default());
        Key::new(self.masked(addresses), ports)
    }

    #[inline]
    fn masked(&self, [source, destination]: [u32; 2]) -> [u32; 2] {
        [source & self.matters[0], destination & self.matters[1]]
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
