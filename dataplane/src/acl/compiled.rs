//! The lines of a long access list, found without looking at all of them.
//!
//! A [`Group`] is lines that ask for the same prefix of one [`Dimension`]: for one source network, say. Each line is in one group: of
//! its source network or of its destination network, whichever fewer lines ask for. The groups of a packet are those of the networks
//! that its addresses are in: a table of hosts or a [`Tree`] tells the smallest one, and each knows the next larger. Their
//! lines are looked at one by one; a group of many is told apart by another dimension first, with trees of its own.
//!
//! Trees of one field inside those of another are from Srinivasan, Varghese, Suri, Waldvogel, "Fast and Scalable Layer Four
//! Switching", SIGCOMM 1998; to sort lines by the field in which they are small, from Vamanan, Voskuilen, Vijaykumar, "EffiCuts",
//! SIGCOMM 2010.

use std::sync::atomic::AtomicU64;

use super::build::Builder;
use super::dimension::Dimension;
use super::exact::{Exact, Part};
use super::line::Line;
use super::tree::{Forest, Tree};
use super::{Entry, Match, Subject};
use crate::prefetch::prefetch_index;

/// What finds the first line that matches; it belongs to the lines that it was made of.
#[derive(Debug)]
pub(super) struct Compiled {
    /// Lines that are not the first of a group, those of one group together and in order.
    pub(super) lines: Box<[Line]>,
    /// By line, where it is.
    pub(super) places: Box<[Place]>,
    pub(super) groups: Box<[Group]>,
    pub(super) trees: Box<[Sorted]>,
    pub(super) exact: Exact,
    pub(super) forest: Forest,
    /// All lines.
    pub(super) all: Held,
}

/// Lines that ask for one prefix.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Group {
    /// The first, here so that it and its count wait for memory once.
    pub(super) first: Line,
    /// The others.
    pub(super) rest: Held,
    /// The group of the next shorter prefix, or [`Group::NONE`].
    pub(super) up: u32,
    /// The first line of this group and all further up.
    pub(super) lowest: u32,
}

/// Where a line is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// The first line of a group.
    First(u32),
    /// Among the other lines.
    Line(u32),
}

/// Some lines.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held {
    /// Looked at one by one.
    Lines { first: u32, many: u32 },
    /// Told apart by trees.
    Trees { first: u32, many: u32 },
}

/// Lines sorted into groups by a dimension.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sorted {
    pub(super) by: Dimension,
    /// The groups of single numbers, where they are most.
    pub(super) exact: Part,
    /// For all other numbers, the group of the longest prefix.
    pub(super) tree: Tree,
}

impl Group {
    pub(super) const NONE: u32 = u32::MAX;
}

impl Compiled {
    /// Lists up to here are as fast line by line.
    pub(super) const SHORT: usize = 16;
    /// Beyond this, trees would need more levels.
    pub(super) const LONG: usize = 1 << 26;

    /// The lines of a list.
    pub(super) fn new(entries: &[Entry]) -> Compiled {
        Builder::new(entries).build()
    }

    /// The first line that matches. `more` tells whether the packet matches a line that asks for what only the list knows:
    /// an ICMP type, a mask that is no prefix's.
    #[inline]
    pub(super) fn find(&self, packet: &Subject, more: impl Fn(usize) -> bool) -> Option<Match<'_>> {
        let mut search = Search {
            compiled: self,
            packet,
            more,
            first: None,
            end: u32::MAX,
        };
        search.held(self.all);
        search.first.map(|line| Match {
            action: line.action(),
            hits: &line.hits,
        })
    }

    /// The group of the longest prefix that a number has, or [`Group::NONE`].
    #[inline]
    pub(super) fn longest(&self, sorted: &Sorted, number: u32) -> u32 {
        let exact = self.exact.find(sorted.exact, number);
        exact.unwrap_or_else(|| self.forest.find(&sorted.tree, number))
    }

    /// Octets of memory that it takes.
    pub(super) fn octets(&self) -> usize {
        size_of_val(&*self.lines)
            + size_of_val(&*self.places)
            + size_of_val(&*self.groups)
            + size_of_val(&*self.trees)
            + self.exact.octets()
            + self.forest.octets()
    }

    /// Where the hits of a line are counted.
    pub(super) fn hits(&self, line: usize) -> Option<&AtomicU64> {
        let line = match *self.places.get(line)? {
            Place::First(group) => &self.groups[group as usize].first,
            Place::Line(at) => &self.lines[at as usize],
        };
        Some(&line.hits)
    }
}

/// A lookup.
struct Search<'a, 'b, More> {
    compiled: &'a Compiled,
    packet: &'b Subject,
    more: More,
    /// The first line that matches, of those looked at.
    first: Option<&'a Line>,
    /// Its number: lines from there on need no look.
    end: u32,
}

impl<'a, More: Fn(usize) -> bool> Search<'a, '_, More> {
    #[inline]
    fn held(&mut self, held: Held) {
        let compiled = self.compiled;
        match held {
            Held::Lines { first, many } => {
                self.lines(&compiled.lines[first as usize..][..many as usize]);
            }
            Held::Trees { first, many } => {
                self.trees(&compiled.trees[first as usize..][..many as usize]);
            }
        }
    }

    /// Looks at the groups that the packet is in.
    fn trees(&mut self, trees: &'a [Sorted]) {
        let compiled = self.compiled;
        let mut longest = [Group::NONE; Dimension::MOST];
        for (at, sorted) in longest.iter_mut().zip(trees) {
            *at = compiled.longest(sorted, sorted.by.number(self.packet));
            prefetch_index(&compiled.groups, *at as usize);
        }
        for at in &longest[..trees.len()] {
            self.groups(*at);
        }
    }

    /// Looks at a group and all further up.
    #[inline]
    fn groups(&mut self, mut at: u32) {
        while let Some(group) = self.compiled.groups.get(at as usize) {
            if group.lowest >= self.end {
                return;
            }
            self.lines(std::slice::from_ref(&group.first));
            self.held(group.rest);
            at = group.up;
        }
    }

    /// Looks at lines, in order.
    #[inline]
    fn lines(&mut self, lines: &'a [Line]) {
        for line in lines {
            if line.line >= self.end {
                return;
            }
            if line.matches(self.packet, &self.more) {
                self.end = line.line;
                self.first = Some(line);
                return;
            }
        }
    }
}
