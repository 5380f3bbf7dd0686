//! Sorts the lines of a list into groups.

use super::Entry;
use super::compiled::{Compiled, Group, Held, Place, Sorted};
use super::dimension::{Dimension, Prefix};
use super::exact::Exact;
use super::line::Line;
use super::tree::{Interval, Seedlings};
use crate::prefetch::large_slice;

/// A [`Compiled`] list in the making.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    entries: &'a [Entry],
    lines: Vec<Line>,
    places: Vec<Place>,
    groups: Vec<Group>,
    trees: Vec<Sorted>,
    exact: Exact,
    seedlings: Seedlings,
}

/// A prefix and who asks for it: the place of a line among those that are told apart.
type Asked = (Prefix, u32);

/// Groups up to this size are as good as smaller ones.
const SMALL: usize = 4;

impl<'a> Builder<'a> {
    /// So many lines are looked at one by one.
    const FEW: usize = 16;

    pub(super) fn new(entries: &'a [Entry]) -> Builder<'a> {
        Builder {
            entries,
            lines: Vec::new(),
            places: vec![Place::Line(0); entries.len()],
            groups: Vec::new(),
            trees: Vec::new(),
            exact: Exact::default(),
            seedlings: Seedlings::default(),
        }
    }

    pub(super) fn build(mut self) -> Compiled {
        let entries = self.entries;
        let all = self.held((0..entries.len() as u32).collect(), &[]);
        Compiled {
            lines: self.lines.into(),
            places: self.places.into(),
            groups: large_slice(self.groups),
            trees: self.trees.into(),
            exact: self.exact,
            forest: self.seedlings.grow(),
            all,
        }
    }

    /// Lines, in order, that were told apart by `done`.
    fn held(&mut self, lines: Vec<u32>, done: &[Dimension]) -> Held {
        let sorted = if lines.len() > Self::FEW {
            self.sorted(&lines, done)
        } else {
            Vec::new()
        };
        if sorted.is_empty() {
            let first = self.lines.len() as u32;
            for (at, line) in (first..).zip(&lines) {
                self.places[*line as usize] = Place::Line(at);
                self.lines
                    .push(Line::new(*line, &self.entries[*line as usize]));
            }
            let many = lines.len() as u32;
            return Held::Lines { first, many };
        }
        let (first, many) = (self.trees.len() as u32, sorted.len() as u32);
        self.trees.extend(&sorted);
        Held::Trees { first, many }
    }

    /// Lines by the dimensions that tell them apart; none if none does.
    fn sorted(&mut self, lines: &[u32], done: &[Dimension]) -> Vec<Sorted> {
        for dimensions in Dimension::ALL {
            let left = dimensions.iter().filter(|by| !done.contains(by));
            let asked = left.map(|by| (*by, self.asked(lines, *by)));
            let useful: Vec<(Dimension, Vec<Asked>)> = asked
                .filter(|(_, asked)| asked[0].0 != asked[asked.len() - 1].0)
                .collect();
            if useful.is_empty() {
                continue;
            }
            let shared = share_out(lines.len(), useful);
            let shared = shared.into_iter().filter(|(_, asked)| !asked.is_empty());
            let done = |by| [done, &[by]].concat();
            return shared
                .map(|(by, asked)| self.groups(lines, by, &asked, &done(by)))
                .collect();
        }
        Vec::new()
    }

    /// Lines by the prefix that they ask for, and in order.
    fn asked(&self, lines: &[u32], by: Dimension) -> Vec<Asked> {
        let prefix = |line: &u32| by.prefix(&self.entries[*line as usize]);
        let mut asked: Vec<Asked> = lines.iter().map(prefix).zip(0..).collect();
        asked.sort_unstable();
        asked
    }

    /// Lines by the prefix that they ask for, as groups.
    fn groups(
        &mut self,
        lines: &[u32],
        by: Dimension,
        asked: &[Asked],
        done: &[Dimension],
    ) -> Sorted {
        let mut groups: Vec<(Prefix, Group)> = Vec::new();
        for same in asked.chunk_by(|a, b| a.0 == b.0) {
            let of: Vec<u32> = same.iter().map(|(_, at)| lines[*at as usize]).collect();
            let lowest = of[0];
            let first = Line::new(lowest, &self.entries[lowest as usize]);
            let rest = self.held(of[1..].to_vec(), done);
            let up = Group::NONE;
            let group = Group {
                first,
                rest,
                up,
                lowest,
            };
            groups.push((same[0].0, group));
        }
        let first = self.groups.len() as u32;
        let exact = single(&groups, first);
        let intervals = intervals(&mut groups, first, !exact.is_empty());
        for (at, (_, group)) in (first..).zip(groups) {
            self.places[group.first.line as usize] = Place::First(at);
            self.groups.push(group);
        }
        Sorted {
            by,
            exact: self.exact.add(&exact),
            tree: self.seedlings.plant(&intervals),
        }
    }
}

/// Leaves each line to the dimension that gives it the smallest group, the first of equals.
fn share_out(lines: usize, mut all: Vec<(Dimension, Vec<Asked>)>) -> Vec<(Dimension, Vec<Asked>)> {
    let mut best = vec![(usize::MAX, 0); lines];
    for (at, (_, asked)) in all.iter().enumerate() {
        for group in asked.chunk_by(|a, b| a.0 == b.0) {
            let size = group.len().max(SMALL);
            for (_, line) in group {
                let best = &mut best[*line as usize];
                *best = (size, at).min(*best);
            }
        }
    }
    for (at, (_, asked)) in all.iter_mut().enumerate() {
        asked.retain(|(_, line)| best[*line as usize].1 == at);
    }
    all
}

/// The groups of single numbers, if most are: else a step more for all others does not pay. `first` is the first group's number.
fn single(groups: &[(Prefix, Group)], first: u32) -> Vec<(u32, u32)> {
    let numbered = (first..).zip(groups);
    let single = numbered.filter(|(_, (prefix, _))| prefix.is_one());
    let mut single: Vec<(u32, u32)> = single.map(|(at, (of, _))| (of.first, at)).collect();
    if single.len() * 2 < groups.len() {
        single.clear();
    }
    single
}

/// Where the longest prefix changes, without those of single numbers if these are `hashed`; tells each group the next one up.
/// Prefixes are sorted, and `first` is the first group's number.
fn intervals(groups: &mut [(Prefix, Group)], first: u32, hashed: bool) -> Vec<Interval> {
    let mut intervals: Vec<Interval> = vec![(0, Group::NONE)];
    let mut begins = |at: u32, group: u32| {
        intervals.pop_if(|(begin, _)| *begin == at);
        intervals.push((at, group));
    };
    // Groups that the current one is in, with the last number of each.
    let mut within: Vec<(u32, u32)> = Vec::new();
    let outer = |within: &[(u32, u32)]| within.last().map_or(Group::NONE, |(_, group)| *group);
    for at in 0..groups.len() {
        let prefix = groups[at].0;
        while let Some((last, _)) = within.pop_if(|(last, _)| *last < prefix.first) {
            begins(last + 1, outer(&within));
        }
        let up = outer(&within);
        if up != Group::NONE {
            let lowest = groups[(up - first) as usize].1.lowest;
            let group = &mut groups[at].1;
            (group.up, group.lowest) = (up, group.lowest.min(lowest));
        }
        if hashed && prefix.is_one() {
            continue;
        }
        let group = first + at as u32;
        begins(prefix.first, group);
        within.push((prefix.last(), group));
    }
    while let Some((last, _)) = within.pop() {
        if last < u32::MAX {
            begins(last + 1, outer(&within));
        }
    }
    intervals
}
