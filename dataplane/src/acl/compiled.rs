//! The lines of a long access list, found without looking at all of them.
//!
//! A *network* is an address under one of the masks that lines have; what a line asks of the two
//! addresses is a *pair* of networks. Few of the networks that have a packet's source stand in one
//! line with one that has its destination, so a lookup goes by pairs ([`table`](super::table)):
//!
//! 1. [`Side`](super::side): the masks under which some line has the source, and those under which
//!    one has the destination; a filter in the nearest memory tells them.
//! 2. Each such network knows the masks that it is paired with and its first line: what is left is
//!    the pairs that some line has, and few others.
//! 3. A hash table leads from a pair to its [`Line`](super::line)s in their order. Only where there
//!    are many, protocol and exact ports make a second key.
//!
//! The idea of asking by masks is that of tuple space search (Srinivasan, Suri, Varghese, "Packet
//! Classification Using Tuple Space Search", SIGCOMM 1999). Masks need not be prefixes: a table has
//! room for 64 of each side, lines with others go into a further table, and lines whose masks hardly
//! any other has are compared one by one.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use super::hash::Mixed;
use super::table::{Masks, Placed, Table};
use super::{Entry, Match, Subject, Wildcard};

/// What finds the first line that matches; it belongs to the lines that it was made of.
#[derive(Debug)]
pub(super) struct Compiled {
    tables: Box<[Table]>,
    /// Lines that are in no table, in order.
    loose: Box<[Loose]>,
}

/// A line that is in no table: the addresses are enough to pass most of them over.
#[derive(Debug, Clone, Copy)]
struct Loose {
    line: u32,
    source: Wildcard,
    destination: Wildcard,
}

impl Compiled {
    /// Lists up to here are as fast line by line.
    const SHORT: usize = 16;
    /// Beyond this, places in memory would no longer be counted in 32 bits.
    const LONG: usize = 1 << 28;
    /// To ask for the networks under a mask takes as long as to look at so many lines.
    const LINES_A_MASK: usize = 4;
    /// Most tables.
    const TABLES: usize = 16;

    /// The lines of a list; `None` where looking at one after the other is as good.
    pub(super) fn new(entries: &[Entry]) -> Option<Compiled> {
        let is_between = entries.len() > Self::SHORT && entries.len() < Self::LONG;
        is_between.then(|| Compiled::of(entries))
    }

    /// As [`Compiled::new`], however short the list is.
    pub(super) fn of(entries: &[Entry]) -> Compiled {
        let (masks, home) = share_out(entries);
        let mut placed: Vec<Vec<Placed>> = masks.iter().map(|_| Vec::new()).collect();
        let mut loose = Vec::new();
        for (line, entry) in (0..).zip(entries) {
            match home.get(&matters(entry)) {
                Some((table, masks)) => placed[*table].push(Placed {
                    line,
                    masks: *masks,
                }),
                None => loose.push(Loose {
                    line,
                    source: entry.source,
                    destination: entry.destination,
                }),
            }
        }
        let tables = masks.iter().zip(&placed);
        Compiled {
            tables: tables.map(|(m, p)| Table::new(entries, m, p)).collect(),
            loose: loose.into(),
        }
    }

    /// The first line of `entries`, of which this was made, that matches. `hits` are the counts of
    /// lines that are in no table.
    #[inline]
    pub(super) fn find<'a>(
        &'a self,
        (entries, hits): (&'a [Entry], &'a [AtomicU64]),
        packet: &Subject,
    ) -> Option<Match<'a>> {
        let mut first = None;
        for table in &self.tables {
            first = table.find(entries, packet, first);
        }
        let end = first.map_or(u32::MAX, |found| found.line);
        for loose in self.loose.iter().take_while(|loose| loose.line < end) {
            if !loose.source.matches(packet.source)
                || !loose.destination.matches(packet.destination)
            {
                continue;
            }
            let line = loose.line as usize;
            let entry = &entries[line];
            if entry.matches(packet) {
                return Some(Match {
                    action: entry.action,
                    hits: &hits[line],
                });
            }
        }
        first.map(|line| Match {
            action: line.action,
            hits: &line.hits,
        })
    }

    /// The first line about `source`, whatever else it asks for.
    pub(super) fn first_about(&self, source: u32) -> Option<usize> {
        let mut first = u32::MAX;
        for table in &self.tables {
            first = table.first_about(source, first);
        }
        let mut before = self.loose.iter().take_while(|loose| loose.line < first);
        let loose = before.find(|loose| loose.source.matches(source));
        let first = loose.map_or(first, |loose| loose.line);
        (first != u32::MAX).then_some(first as usize)
    }

    /// Where the hits of line `line`, which is `entry`, are counted, if it is in a table.
    pub(super) fn hits(&self, line: usize, entry: &Entry) -> Option<&AtomicU64> {
        let line = u32::try_from(line).ok()?;
        self.tables.iter().find_map(|t| t.hits(line, entry))
    }
}

/// The bits of source and destination that a line asks for.
fn matters(entry: &Entry) -> [u32; 2] {
    [!entry.source.dont_care, !entry.destination.dont_care]
}

/// By the bits that matter, the table that such lines are in, and the place of each mask there.
type Homes = HashMap<[u32; 2], (usize, [u8; 2]), Mixed>;

/// The masks of each table, and what lines go there: the most frequent first.
fn share_out(entries: &[Entry]) -> (Vec<Masks>, Homes) {
    let mut lines: HashMap<[u32; 2], usize, Mixed> = HashMap::default();
    for entry in entries {
        *lines.entry(matters(entry)).or_default() += 1;
    }
    let mut with_mask: [HashMap<u32, usize, Mixed>; 2] = Default::default();
    for (masks, lines) in &lines {
        for (side, mask) in with_mask.iter_mut().zip(masks) {
            *side.entry(*mask).or_default() += lines;
        }
    }
    let enough = |side: usize, mask: u32| {
        let lines = with_mask[side].get(&mask);
        lines.is_some_and(|lines| *lines >= Compiled::LINES_A_MASK)
    };
    let mut left: Vec<([u32; 2], usize)> = lines.into_iter().collect();
    left.retain(|([source, destination], _)| enough(0, *source) && enough(1, *destination));
    left.sort_unstable_by_key(|(masks, lines)| (usize::MAX - lines, *masks));
    let (mut tables, mut homes) = (Vec::new(), Homes::default());
    while !left.is_empty() && tables.len() < Compiled::TABLES {
        let (mut table, mut taken, mut others) = (Masks::default(), Vec::new(), Vec::new());
        let mut held = 0;
        for (masks, lines) in left {
            match table.places(masks) {
                Some(places) => {
                    held += lines;
                    taken.push((masks, (tables.len(), places)));
                }
                None => others.push((masks, lines)),
            }
        }
        if held <= Compiled::LINES_A_MASK * table.len() {
            break;
        }
        homes.extend(taken);
        tables.push(table);
        left = others;
    }
    (tables, homes)
}
