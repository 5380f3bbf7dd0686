//! The first line about a source, whatever else it asks for.

use std::collections::HashSet;

use super::compiled::Compiled;
use super::{Action, Entry, Subject};

/// The sources of a list; it belongs to the lines that it was made of.
#[derive(Debug)]
pub(super) struct Sources {
    /// For each source that lines ask for, the first of these, which here asks for nothing else.
    first: Compiled,
    /// Their places in the list.
    lines: Box<[u32]>,
}

impl Sources {
    /// The sources of a list; `None` if its lines ask for nothing else, and so tell it themselves.
    pub(super) fn new(entries: &[Entry]) -> Option<Sources> {
        let alone = |entry: &Entry| Entry {
            log: entry.log,
            ..Entry::standard(entry.sequence, entry.action, entry.source)
        };
        if entries.iter().all(|entry| *entry == alone(entry)) {
            return None;
        }
        let mut seen = HashSet::new();
        let numbered = (0u32..).zip(entries);
        let first = numbered.filter(|(_, entry)| seen.insert(entry.source));
        let (lines, first): (Vec<u32>, Vec<Entry>) =
            first.map(|(line, entry)| (line, alone(entry))).unzip();
        Some(Sources {
            first: Compiled::new(&first),
            lines: lines.into(),
        })
    }

    /// Octets of memory that they take.
    pub(super) fn octets(&self) -> usize {
        self.first.octets() + size_of_val(&*self.lines)
    }

    /// Whether the first line of `entries`, of which this was made, that is about `source` permits.
    pub(super) fn permit(&self, entries: &[Entry], source: u32) -> bool {
        let has = |line: usize| entries[self.lines[line] as usize].source.matches(source);
        let found = self.first.find(&Subject::from_alone(source), has);
        found.is_some_and(|found| found.action == Action::Permit)
    }
}
