//! Lines by the pair of networks that they are about; `compiled` tells how they are found.

use std::sync::atomic::AtomicU64;

use super::line::Line;
use super::side::{Bits, Seen, Side};
use super::slots::{Keyed, Part, Slots};
use super::split::Split;
use super::{Entry, Subject};

/// Lines whose masks are among 64 of each side.
#[derive(Debug)]
pub(super) struct Table {
    sources: Side,
    destinations: Side,
    /// By source mask, the destination masks that lines have beside it.
    beside: Box<[Bits]>,
    /// The pairs of masks, where they are so few that all are asked.
    few: Box<[[usize; 2]]>,
    /// The protocols that some line is about, a bit for each.
    protocols: [u64; 4],
    /// By source mask and destination mask, where their pairs are.
    parts: Box<[Part]>,
    /// What is found by pairs, and then what is found by the keys of [`Split`].
    pairs: Slots<Pair>,
    /// Lines that have their key in common, together and in order.
    lines: Box<[Line]>,
}

/// The masks of a table, as the bits that matter.
#[derive(Debug, Default)]
pub(super) struct Masks([Vec<u32>; 2]);

/// A line and the places of its masks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) line: u32,
    pub(super) masks: [u8; 2],
}

/// What a key leads to.
#[derive(Debug)]
struct Pair {
    /// The addresses of source and destination network, or a key of [`Split`].
    key: u64,
    held: Held,
}

const _: () = assert!(size_of::<Option<Pair>>() == 32, "half a line of memory");

#[derive(Debug)]
enum Held {
    /// A line, here so that it and its count wait for memory once.
    One(Line),
    /// Lines in [`Table::lines`].
    Few { first: u32, many: u32 },
    /// Lines that are found by another key.
    Many(Split),
}

impl Keyed for Pair {
    type Key = u64;

    fn key(&self) -> u64 {
        self.key
    }
}

impl Masks {
    /// Most of each side: a bit for each.
    const MOST: usize = Bits::BITS as usize;

    /// The places of both masks, which are added if there is room.
    pub(super) fn places(&mut self, masks: [u32; 2]) -> Option<[u8; 2]> {
        let [source, destination] = [0, 1].map(|side| {
            let of = &self.0[side];
            let at = of.iter().position(|m| *m == masks[side]);
            at.or((of.len() < Self::MOST).then_some(of.len()))
        });
        let places = [source?, destination?];
        for side in [0, 1] {
            if places[side] == self.0[side].len() {
                self.0[side].push(masks[side]);
            }
        }
        Some(places.map(|at| at as u8))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
}

impl Table {
    /// So many pairs of masks are asked without looking which of them a packet may be under.
    const FEW_MASKS: usize = 2;
    /// So many pairs that a packet may be in are asked without looking at their networks first.
    const FEW_PAIRS: u32 = 4;
    /// So many lines are looked at one by one.
    const FEW_LINES: usize = 16;

    /// A table of some lines of `entries`, in order.
    pub(super) fn new(entries: &[Entry], masks: &Masks, placed: &[Placed]) -> Table {
        let [sources, destinations] = &masks.0;
        let mut beside = vec![0; sources.len()];
        let mut protocols = [0; 4];
        for Placed { line, masks } in placed {
            beside[usize::from(masks[0])] |= 1 << masks[1];
            match entries[*line as usize].protocol {
                Some(protocol) => note_protocol(&mut protocols, protocol),
                None => protocols = [u64::MAX; 4],
            }
        }
        let pairs = beside.iter().enumerate();
        let pairs = pairs.flat_map(|(source, bits)| ones(*bits).map(move |at| [source, at]));
        let mut few: Vec<[usize; 2]> = pairs.collect();
        let filtered = few.len() > Self::FEW_MASKS;
        if filtered {
            few.clear();
        }
        let seen = |side: usize| {
            placed.iter().map(move |placed| {
                let entry = &entries[placed.line as usize];
                Seen {
                    mask: placed.masks[side],
                    address: [entry.source, entry.destination][side].address,
                    line: placed.line,
                    other: placed.masks[1 - side],
                }
            })
        };
        // Nobody asks for destinations where all pairs are asked.
        let seen_there = seen(1).filter(|_| filtered);
        let mut table = Table {
            sources: Side::new(sources, seen(0)),
            destinations: Side::new(destinations, seen_there),
            beside: beside.into(),
            few: few.into(),
            protocols,
            parts: Box::default(),
            pairs: Slots::default(),
            lines: Box::default(),
        };
        table.fill(entries, placed);
        table
    }

    fn fill(&mut self, entries: &[Entry], placed: &[Placed]) {
        let pair = |placed: &Placed| {
            let entry = &entries[placed.line as usize];
            let masks = placed.masks.map(usize::from);
            let key = self.key(masks, [entry.source.address, entry.destination.address]);
            (self.part_of(masks), key, placed.line)
        };
        let mut keyed: Vec<(usize, u64, u32)> = placed.iter().map(pair).collect();
        keyed.sort_unstable();
        let parts = self.sources.len() * self.destinations.len();
        let mut pairs: Vec<Vec<Pair>> = (0..parts).map(|_| Vec::new()).collect();
        let (mut split, mut lines) = (Vec::new(), Vec::new());
        let mut splits = 0;
        for same in keyed.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (part, key, lowest) = same[0];
            let held = if same.len() > Self::FEW_LINES && splits < Split::MOST {
                let mut one = Split::new(splits, lowest);
                splits += 1;
                let mut key = |line: u32| one.add(&entries[line as usize]);
                let mut keys: Vec<(u64, u32)> = same.iter().map(|s| (key(s.2), s.2)).collect();
                keys.sort_unstable();
                for same in keys.chunk_by(|a, b| a.0 == b.0) {
                    let of = same.iter().map(|(_, line)| *line);
                    let held = Held::new(entries, of, &mut lines);
                    split.push(Pair {
                        key: same[0].0,
                        held,
                    });
                }
                Held::Many(one)
            } else {
                Held::new(entries, same.iter().map(|s| s.2), &mut lines)
            };
            pairs[part].push(Pair { key, held });
        }
        pairs.push(split);
        (self.pairs, self.parts) = Slots::new(pairs);
        self.lines = lines.into();
    }

    /// The first line that matches, if it is before `first`; else `first`.
    #[inline]
    pub(super) fn find<'a>(
        &'a self,
        entries: &[Entry],
        packet: &Subject,
        first: Option<&'a Line>,
    ) -> Option<&'a Line> {
        let protocol = usize::from(packet.protocol);
        if self.protocols[protocol / 64] >> (protocol % 64) & 1 == 0 {
            return first;
        }
        let mut search = Search {
            table: self,
            entries,
            packet,
            first,
            end: first.map_or(u32::MAX, |line| line.line),
        };
        search.all();
        search.first
    }

    /// The first line about `source`, if it is before `end`; else `end`.
    pub(super) fn first_about(&self, source: u32, end: u32) -> u32 {
        self.sources.first(source, end)
    }

    /// Where the hits of line `line`, which is `entry`, are counted, if it is here.
    pub(super) fn hits(&self, line: u32, entry: &Entry) -> Option<&AtomicU64> {
        let source = self.sources.place(!entry.source.dont_care)?;
        let destination = self.destinations.place(!entry.destination.dont_care)?;
        let masks = [source, destination];
        let key = self.key(masks, [entry.source.address, entry.destination.address]);
        let mut pair = self.pairs.find(self.parts[self.part_of(masks)], key)?;
        if let Held::Many(split) = &pair.held {
            pair = self.pairs.find(self.split_part(), split.key_of(entry))?;
        }
        let lines = self.lines(&pair.held);
        let at = lines.binary_search_by_key(&line, |l| l.line).ok()?;
        Some(&lines[at].hits)
    }

    /// What an address pair is found by under two masks.
    #[inline]
    fn key(&self, masks: [usize; 2], [source, destination]: [u32; 2]) -> u64 {
        let source = self.sources.masked(masks[0], source);
        let destination = self.destinations.masked(masks[1], destination);
        u64::from(source) << 32 | u64::from(destination)
    }

    #[inline]
    fn part_of(&self, [source, destination]: [usize; 2]) -> usize {
        source * self.destinations.len() + destination
    }

    /// Where the keys of [`Split`] are.
    #[inline]
    fn split_part(&self) -> Part {
        self.parts[self.parts.len() - 1]
    }

    /// The lines that a key leads to, unless there are many.
    #[inline]
    fn lines<'a>(&'a self, held: &'a Held) -> &'a [Line] {
        match held {
            Held::One(line) => std::slice::from_ref(line),
            Held::Few { first, many } => &self.lines[*first as usize..][..*many as usize],
            Held::Many(_) => &[],
        }
    }
}

impl Held {
    /// `lines` of `entries`, in order, which have the same key.
    fn new(entries: &[Entry], lines: impl Iterator<Item = u32>, all: &mut Vec<Line>) -> Held {
        let first = all.len();
        all.extend(lines.map(|line| Line::new(line, &entries[line as usize])));
        let many = all.len() - first;
        match all.pop_if(|_| many == 1) {
            Some(line) => Held::One(line),
            None => Held::Few {
                first: first as u32,
                many: many as u32,
            },
        }
    }
}

/// A lookup.
struct Search<'a, 'b> {
    table: &'a Table,
    entries: &'b [Entry],
    packet: &'b Subject,
    /// The first line that matches, of those looked at.
    first: Option<&'a Line>,
    /// Its number: lines from there on need no look.
    end: u32,
}

impl<'a> Search<'a, '_> {
    /// Looks at all lines that the packet may match.
    #[inline]
    fn all(&mut self) {
        let (table, packet) = (self.table, self.packet);
        if !table.few.is_empty() {
            return table.few.iter().for_each(|masks| self.pair(*masks));
        }
        let sources = table.sources.masks_of(packet.source);
        let destinations = table.destinations.masks_of(packet.destination);
        if sources.count_ones() * destinations.count_ones() > Table::FEW_PAIRS {
            return self.paired(sources, destinations);
        }
        for source in ones(sources) {
            for destination in ones(destinations & table.beside[source]) {
                self.pair([source, destination]);
            }
        }
    }

    /// Looks at the pairs that the networks of both sides tell of.
    fn paired(&mut self, sources: Bits, destinations: Bits) {
        let (table, packet) = (self.table, self.packet);
        for source in ones(sources) {
            table.sources.prefetch(source, packet.source);
        }
        // By destination mask, the source masks that lines with this network have.
        let mut beside = [0; Masks::MOST];
        for at in ones(destinations) {
            if let Some(network) = table.destinations.network(at, packet.destination) {
                beside[at] = network.beside.get();
            }
        }
        for source in ones(sources) {
            let Some(network) = table.sources.network(source, packet.source) else {
                continue;
            };
            if network.lowest >= self.end {
                continue;
            }
            for at in ones(network.beside.get() & destinations) {
                if beside[at] >> source & 1 != 0 {
                    self.pair([source, at]);
                }
            }
        }
    }

    /// Looks at the lines of a pair of networks.
    #[inline]
    fn pair(&mut self, masks: [usize; 2]) {
        let (table, packet) = (self.table, self.packet);
        let key = table.key(masks, [packet.source, packet.destination]);
        let part = table.parts[table.part_of(masks)];
        match table.pairs.find(part, key).map(|pair| &pair.held) {
            None => {}
            Some(Held::Many(split)) => self.many(split),
            Some(held) => self.lines(table.lines(held)),
        }
    }

    /// Looks at the lines of a pair that has many.
    #[inline(never)]
    fn many(&mut self, split: &'a Split) {
        let table = self.table;
        if split.lowest >= self.end {
            return;
        }
        for key in split.keys(self.packet) {
            if let Some(pair) = table.pairs.find(table.split_part(), key) {
                self.lines(table.lines(&pair.held));
            }
        }
    }

    /// Looks at lines, in order, of which the packet has the key.
    #[inline]
    fn lines(&mut self, lines: &'a [Line]) {
        for line in lines {
            if line.line >= self.end {
                return;
            }
            if line.matches(self.entries, self.packet) {
                self.end = line.line;
                self.first = Some(line);
                return;
            }
        }
    }
}

fn note_protocol(protocols: &mut [u64; 4], protocol: u8) {
    protocols[usize::from(protocol / 64)] |= 1 << (protocol % 64);
}

/// The places of the bits that are set, lowest first.
#[inline]
fn ones(mut bits: Bits) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = bits.trailing_zeros() as usize;
        (bits != 0).then(|| {
            bits &= bits - 1;
            at
        })
    })
}
