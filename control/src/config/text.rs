//! A file as lines of words, each with its place.

use super::diagnostic::{Diagnostic, Severity};

/// A place in a file: octets `start..end` of line `line` (from 1; 0 is no line).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Line, from 1; 0 where the thing came from no line of this file.
    pub line: u32,
    /// First octet in the line.
    pub start: u32,
    /// Octet after the last.
    pub end: u32,
}

impl Span {
    /// From the start of `self` to the end of `last`, both in one line.
    #[must_use]
    pub fn to(self, last: Span) -> Span {
        Span {
            end: last.end.max(self.end),
            ..self
        }
    }
}

/// A configuration's text.
#[derive(Debug)]
pub struct Source<'a> {
    name: String,
    lines: Vec<&'a str>,
}

impl<'a> Source<'a> {
    /// The lines of `text`, of a file that diagnostics call `name`.
    #[must_use]
    pub fn new(name: &str, text: &'a str) -> Source<'a> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Source {
            name: name.to_owned(),
            lines: text.lines().collect(),
        }
    }

    /// All lines with their numbers from 1.
    pub fn lines(&self) -> impl Iterator<Item = (u32, &'a str)> + '_ {
        (1..).zip(self.lines.iter().copied())
    }

    /// The text at a place; empty where there is none.
    #[must_use]
    pub fn text(&self, span: Span) -> &'a str {
        self.line(span.line)
            .get(span.start as usize..span.end as usize)
            .unwrap_or("")
    }

    /// The line `number`, from 1; empty where there is none.
    #[must_use]
    pub fn line(&self, number: u32) -> &'a str {
        (number as usize)
            .checked_sub(1)
            .and_then(|at| self.lines.get(at).copied())
            .unwrap_or("")
    }

    /// A diagnostic about a place.
    #[must_use]
    pub fn diagnostic(
        &self,
        severity: Severity,
        span: Span,
        message: String,
        expected: Vec<String>,
    ) -> Diagnostic {
        let line = self.line(span.line);
        let characters = |upto: u32| {
            line.char_indices()
                .take_while(|(at, _)| *at < upto as usize)
                .count() as u32
        };
        let (start, end) = (characters(span.start), characters(span.end));
        Diagnostic {
            severity,
            file: self.name.clone(),
            line: span.line,
            column: if span.line == 0 { 0 } else { start + 1 },
            width: end.saturating_sub(start).max(1),
            line_text: printable(line),
            message,
            expected,
        }
    }
}

/// `text` without control characters, which could play tricks on a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// The words of a line: what stands between white space. A line that starts with `!` has none.
#[must_use]
pub fn words(number: u32, line: &str) -> Vec<Span> {
    let mut words = Vec::new();
    if line.trim_start().starts_with('!') {
        return words;
    }
    let mut start = None;
    for (at, c) in line.char_indices().chain([(line.len(), ' ')]) {
        match (start, c.is_whitespace()) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                words.push(Span {
                    line: number,
                    start: from as u32,
                    end: at as u32,
                });
                start = None;
            }
            _ => {}
        }
    }
    words
}
