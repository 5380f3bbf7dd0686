//! A file as statements: lines that fit a command.

use super::commands::{COMMANDS, Command, Mode, Table};
use super::grammar::{Failure, Matched, Value};
use super::text::{Source, Span, words};

/// A line that fits a command.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The command.
    pub command: &'static Command,
    /// The line's words in order.
    pub words: Vec<Matched>,
}

/// A line of the tree.
#[derive(Debug, Clone)]
pub enum Item {
    /// It fits a command.
    Statement(Statement),
    /// It fits none; `enters` is the mode that its sub-lines are in.
    Wrong {
        /// What does not fit.
        failure: Failure,
        /// The mode of the lines below it, if it looks like a line that has some.
        enters: Option<Mode>,
        /// Whether it is a sub-line itself.
        below: bool,
    },
    /// The first line behind `end`.
    AfterEnd(Span),
}

/// Reads the lines of a file. Blank lines and comments leave nothing in the tree.
#[must_use]
pub fn parse(source: &Source<'_>) -> Vec<Item> {
    let table = Table::shared();
    let mut items = Vec::new();
    let mut mode = Mode::Global;
    let mut ended = false;
    for (number, line) in source.lines() {
        let words = words(number, line);
        let (Some(first), Some(last)) = (words.first(), words.last()) else {
            continue;
        };
        if ended {
            items.push(Item::AfterEnd(first.to(*last)));
            break;
        }
        match read(table, mode, line, &words) {
            Ok(statement) => {
                let command = statement.command;
                ended = command.ends;
                mode = match command.enters {
                    Some(entered) => entered,
                    None => command.mode,
                };
                items.push(Item::Statement(statement));
            }
            Err(failure) => {
                let below = mode != Mode::Global && first.start > 0;
                let enters = failure.1.filter(|_| !below);
                if let Some(entered) = enters {
                    mode = entered;
                }
                items.push(Item::Wrong {
                    failure: failure.0,
                    enters,
                    below,
                });
            }
        }
    }
    items
}

/// Reads a line in its mode, else in the global one: a global command leaves a sub-mode.
fn read(
    table: &Table,
    mode: Mode,
    line: &str,
    words: &[Span],
) -> Result<Statement, (Failure, Option<Mode>)> {
    let here = match table.read(mode, line, words) {
        Ok(statement) => return Ok(statement),
        Err(failure) => failure,
    };
    if mode == Mode::Global {
        let enters = entered(table, mode, &here);
        return Err((here, enters));
    }
    let mut global = match table.read(Mode::Global, line, words) {
        Ok(statement) => return Ok(statement),
        Err(failure) => failure,
    };
    if here.depth > global.depth {
        return Err((here, None));
    }
    let enters = entered(table, Mode::Global, &global);
    if here.depth == global.depth {
        // Both read equally far: either could be meant.
        let more: Vec<String> = global
            .expected
            .drain(..)
            .filter(|e| !here.expected.contains(e))
            .collect();
        global.expected = here.expected;
        global.expected.extend(more);
    }
    Err((global, enters))
}

/// The mode that a wrong line would have entered: its sub-lines are then read in that mode.
fn entered(table: &Table, mode: Mode, failure: &Failure) -> Option<Mode> {
    if failure.depth == 0 {
        return None;
    }
    let mut modes = failure
        .patterns
        .iter()
        .map(|p| table.command(mode, *p).and_then(|c| c.enters));
    let first = modes.next()??;
    modes.all(|m| m == Some(first)).then_some(first)
}

/// A statement's words by label.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    source: &'a Source<'a>,
    words: &'a [Matched],
}

impl<'a> Args<'a> {
    /// The words of a statement of `source`.
    #[must_use]
    pub fn new(source: &'a Source<'a>, words: &'a [Matched]) -> Args<'a> {
        Args { source, words }
    }

    /// Whether the keyword or value with this label is there.
    #[must_use]
    pub fn has(&self, label: &str) -> bool {
        self.find(label).is_some()
    }

    /// The first word with this label.
    #[must_use]
    pub fn find(&self, label: &str) -> Option<&'a Matched> {
        self.words.iter().find(|w| w.label == label)
    }

    /// The number with this label.
    #[must_use]
    pub fn number(&self, label: &str) -> Option<u32> {
        match self.find(label)?.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The number below 65,536 with this label: a port, a size.
    #[must_use]
    pub fn port(&self, label: &str) -> Option<u16> {
        self.number(label).and_then(|n| u16::try_from(n).ok())
    }

    /// The address, netmask or wildcard mask with this label.
    #[must_use]
    pub fn address(&self, label: &str) -> Option<std::net::Ipv4Addr> {
        match self.find(label)?.value {
            Value::Address(address) => Some(address),
            _ => None,
        }
    }

    /// The keyword that was read at this label.
    #[must_use]
    pub fn keyword(&self, label: &str) -> Option<&'static str> {
        match self.find(label)?.value {
            Value::Keyword(keyword) => Some(keyword),
            _ => None,
        }
    }

    /// The text of the word with this label; empty where there is none.
    #[must_use]
    pub fn text(&self, label: &str) -> &'a str {
        self.find(label).map_or("", |w| self.source.text(w.span))
    }

    /// All words with one of these labels in their order: the text, and the number if it is one.
    pub fn all(&self, labels: &'a [&str]) -> impl Iterator<Item = (&'a str, Option<u32>)> {
        let (source, words) = (self.source, self.words.iter());
        let labelled = words.filter(|w| labels.contains(&w.label));
        labelled.map(|w| {
            let number = match w.value {
                Value::Number(number) => Some(number),
                _ => None,
            };
            (source.text(w.span), number)
        })
    }

    /// Where the word with this label stands, else the whole line.
    #[must_use]
    pub fn span(&self, label: &str) -> Span {
        self.find(label).map_or_else(|| self.whole(), |w| w.span)
    }

    /// Where the statement stands.
    #[must_use]
    pub fn whole(&self) -> Span {
        match (self.words.first(), self.words.last()) {
            (Some(first), Some(last)) => first.span.to(last.span),
            _ => Span::default(),
        }
    }

    /// The statement with its keywords written out, single spaces between, from word `skip` on.
    #[must_use]
    pub fn canonical(&self, skip: usize) -> String {
        let words = self.words.iter().skip(skip).map(|w| match w.value {
            Value::Keyword(keyword) => keyword,
            _ => self.source.text(w.span),
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// All commands, for those who list them.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().copied().flatten()
}
