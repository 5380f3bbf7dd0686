//! A line's words walked through a [`Graph`].

use std::net::Ipv4Addr;

use super::super::text::Span;
use super::graph::{Edge, Graph, Kind, Symbol};

/// What a word was read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// This keyword or a beginning of it.
    Keyword(&'static str),
    /// A number, or the value of a name; of `/24` it is 24.
    Number(u32),
    /// An address, netmask or wildcard mask.
    Address(Ipv4Addr),
    /// The text at the span.
    Text,
}

/// A word of a line with its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// The pattern's label: for a keyword mostly the keyword itself.
    pub label: &'static str,
    /// What the word was read as.
    pub value: Value,
    /// Where it stands.
    pub span: Span,
}

/// A line that fits a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The pattern's place among those that made the graph.
    pub pattern: usize,
    /// The words in their order.
    pub words: Vec<Matched>,
}

/// A line that fits no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How many words fitted.
    pub depth: usize,
    /// Where it went wrong.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What may stand there.
    pub expected: Vec<String>,
    /// Patterns that fitted up to there.
    pub patterns: Vec<usize>,
}

/// A word that may stand at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What is accepted.
    pub symbol: Symbol,
    /// The pattern's label for it.
    pub label: &'static str,
    /// The patterns that it leads to.
    pub patterns: Vec<usize>,
}

/// A word read along an edge, and the step before.
struct Step {
    edge: usize,
    value: Value,
    span: Span,
    before: Option<usize>,
}

/// A place in the graph that the words so far lead to, by way of a step.
type Thread = (usize, Option<usize>);

impl Graph {
    /// Reads `words`, which stand in `line`.
    ///
    /// # Errors
    /// The first word that nothing accepts, and what would have been.
    pub fn read(&self, line: &str, words: &[Span]) -> Result<Match, Failure> {
        let mut steps: Vec<Step> = Vec::new();
        let mut threads: Vec<Thread> = vec![(0, None)];
        for (depth, span) in words.iter().enumerate() {
            let rest = span.to(*words.last().unwrap_or(span));
            let next = self.advance(line, *span, rest, &threads, &mut steps);
            let next = next.map_err(|candidates| {
                self.failure(depth, *span, text(line, *span), &threads, candidates)
            })?;
            threads = next;
            if let Some(end) = self.text_end(&threads, &steps) {
                return self.finish(end, &steps);
            }
        }
        let end = threads
            .iter()
            .filter(|(node, _)| self.nodes[*node].ends.is_some())
            .min_by_key(|(node, _)| self.nodes[*node].ends);
        match end {
            Some(thread) => self.finish(*thread, &steps),
            None => {
                let last = words.last().copied().unwrap_or_default();
                let behind = Span {
                    start: last.end,
                    end: last.end + 1,
                    ..last
                };
                Err(self.failure(words.len(), behind, "", &threads, Vec::new()))
            }
        }
    }

    /// What may follow `words`: for each keyword and value its description.
    #[must_use]
    pub fn expected_after(&self, line: &str, words: &[Span]) -> Vec<String> {
        let mut steps = Vec::new();
        let mut threads: Vec<Thread> = vec![(0, None)];
        for span in words {
            match self.advance(line, *span, *span, &threads, &mut steps) {
                Ok(next) => threads = next,
                Err(_) => return Vec::new(),
            }
        }
        self.expected(&threads)
    }

    /// What may stand behind `words`, and the pattern that may end there; `None` where the words
    /// fit nothing. A keyword that may come once and has come is no choice any more.
    #[must_use]
    pub fn choices_after(
        &self,
        line: &str,
        words: &[Span],
    ) -> Option<(Vec<Choice>, Option<usize>)> {
        let mut steps = Vec::new();
        let mut threads: Vec<Thread> = vec![(0, None)];
        for span in words {
            threads = self
                .advance(line, *span, *span, &threads, &mut steps)
                .ok()?;
        }
        let mut choices: Vec<Choice> = Vec::new();
        for (node, last) in &threads {
            for at in &self.nodes[*node].edges {
                let edge = &self.edges[*at];
                if edge.once && self.has_come(*at, *last, &steps) {
                    continue;
                }
                let patterns = self.patterns_from(&[(edge.to, None)]);
                match choices.iter_mut().find(|c| c.symbol == edge.symbol) {
                    Some(there) => there.patterns.extend(patterns),
                    None => choices.push(Choice {
                        symbol: edge.symbol,
                        label: edge.label,
                        patterns,
                    }),
                }
            }
        }
        let ends = threads
            .iter()
            .filter_map(|(node, _)| self.nodes[*node].ends);
        Some((choices, ends.min()))
    }

    /// Every word that may ever stand somewhere.
    #[cfg(test)]
    pub(in super::super) fn all_choices(&self) -> impl Iterator<Item = Choice> + '_ {
        self.edges.iter().map(|edge| Choice {
            symbol: edge.symbol,
            label: edge.label,
            patterns: self.patterns_from(&[(edge.to, None)]),
        })
    }

    fn has_come(&self, edge: usize, last: Option<usize>, steps: &[Step]) -> bool {
        let is_keyword = matches!(self.edges[edge].symbol, Symbol::Keyword(_));
        let mut at = last.map(|at| &steps[at]);
        while let Some(step) = at {
            if is_keyword && step.edge == edge {
                return true;
            }
            at = step.before.map(|at| &steps[at]);
        }
        false
    }

    /// The threads behind one more word; on failure the keywords that it could be short for.
    fn advance(
        &self,
        line: &str,
        span: Span,
        rest: Span,
        threads: &[Thread],
        steps: &mut Vec<Step>,
    ) -> Result<Vec<Thread>, Vec<&'static str>> {
        let word = text(line, span);
        let mut exact = Vec::new();
        let mut short = Vec::new();
        let mut values = Vec::new();
        for (node, before) in threads {
            for at in &self.nodes[*node].edges {
                let found = |value| (*at, *before, value);
                match self.edges[*at].symbol {
                    Symbol::Keyword(keyword) => match fit(word, keyword) {
                        Fit::Exact => exact.push(found(Value::Keyword(keyword))),
                        Fit::Short if !self.edges[*at].whole => {
                            short.push((keyword, found(Value::Keyword(keyword))));
                        }
                        Fit::Short | Fit::No => {}
                    },
                    Symbol::Names(names, _) => {
                        for (name, value) in names {
                            match fit(word, name) {
                                Fit::Exact => exact.push(found(Value::Number(*value))),
                                Fit::Short => short.push((name, found(Value::Number(*value)))),
                                Fit::No => {}
                            }
                        }
                    }
                    Symbol::Value(kind) => values.extend(value(kind, word).map(found)),
                }
            }
        }
        let chosen = if !exact.is_empty() {
            exact
        } else if !values.is_empty() {
            values
        } else {
            let mut keywords: Vec<&'static str> = short.iter().map(|(k, _)| *k).collect();
            keywords.sort_unstable();
            keywords.dedup();
            if keywords.len() != 1 {
                return Err(keywords);
            }
            short.into_iter().map(|(_, found)| found).collect()
        };
        let mut next: Vec<Thread> = Vec::with_capacity(chosen.len());
        for (edge, before, value) in chosen {
            let to = self.edges[edge].to;
            if next.iter().any(|(node, _)| *node == to) {
                continue;
            }
            let text = self.edges[edge].symbol == Symbol::Value(Kind::Text);
            steps.push(Step {
                edge,
                value,
                span: if text { rest } else { span },
                before,
            });
            next.push((to, Some(steps.len() - 1)));
        }
        Ok(next)
    }

    /// The thread that took the rest of the line as text, if one did.
    fn text_end(&self, threads: &[Thread], steps: &[Step]) -> Option<Thread> {
        threads.iter().copied().find(|(_, step)| {
            step.is_some_and(|s| self.edges[steps[s].edge].symbol == Symbol::Value(Kind::Text))
        })
    }

    fn finish(&self, (node, last): Thread, steps: &[Step]) -> Result<Match, Failure> {
        let mut path = Vec::new();
        let mut at = last;
        while let Some(step) = at.map(|at| &steps[at]) {
            path.push(step);
            at = step.before;
        }
        path.reverse();
        for (depth, step) in path.iter().enumerate() {
            let edge = &self.edges[step.edge];
            let again = path[..depth].iter().any(|s| s.edge == step.edge);
            if edge.once && again && matches!(edge.symbol, Symbol::Keyword(_)) {
                return Err(Failure {
                    depth,
                    span: step.span,
                    message: format!("{} is given twice", edge.symbol.describe()),
                    expected: Vec::new(),
                    patterns: self.nodes[node].ends.into_iter().collect(),
                });
            }
        }
        let words = path.iter().map(|step| Matched {
            label: self.edges[step.edge].label,
            value: step.value,
            span: step.span,
        });
        Ok(Match {
            pattern: self.nodes[node].ends.unwrap_or_default(),
            words: words.collect(),
        })
    }

    fn failure(
        &self,
        depth: usize,
        span: Span,
        word: &str,
        threads: &[Thread],
        candidates: Vec<&'static str>,
    ) -> Failure {
        let word = super::super::text::printable(word);
        let (message, expected) = if candidates.len() > 1 {
            let names = candidates.iter().map(|c| format!("`{c}`")).collect();
            (format!("found `{word}`, which is ambiguous"), names)
        } else if word.is_empty() {
            (
                "found the end of the line".to_owned(),
                self.expected(threads),
            )
        } else {
            (format!("found `{word}`"), self.expected(threads))
        };
        Failure {
            depth,
            span,
            message,
            expected,
            patterns: self.patterns_from(threads),
        }
    }

    fn expected(&self, threads: &[Thread]) -> Vec<String> {
        let mut expected: Vec<String> = Vec::new();
        let edges = threads
            .iter()
            .flat_map(|(node, _)| &self.nodes[*node].edges);
        let mut symbols: Vec<&Edge> = edges.map(|at| &self.edges[*at]).collect();
        symbols.sort_by_key(|e| !matches!(e.symbol, Symbol::Keyword(_)));
        for edge in symbols {
            let name = edge.symbol.describe();
            if !expected.contains(&name) {
                expected.push(name);
            }
        }
        if threads.iter().any(|(n, _)| self.nodes[*n].ends.is_some()) {
            expected.push("the end of the line".to_owned());
        }
        expected
    }

    /// The patterns that can still be finished from these threads.
    fn patterns_from(&self, threads: &[Thread]) -> Vec<usize> {
        let mut seen = vec![false; self.nodes.len()];
        let mut open: Vec<usize> = threads.iter().map(|(node, _)| *node).collect();
        let mut patterns = Vec::new();
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            patterns.extend(self.nodes[at].ends);
            open.extend(self.nodes[at].edges.iter().map(|e| self.edges[*e].to));
        }
        patterns.sort_unstable();
        patterns.dedup();
        patterns
    }
}

enum Fit {
    Exact,
    Short,
    No,
}

fn fit(word: &str, keyword: &str) -> Fit {
    match keyword.get(..word.len()) {
        Some(start) if start.eq_ignore_ascii_case(word) => {
            if word.len() == keyword.len() {
                Fit::Exact
            } else {
                Fit::Short
            }
        }
        _ => Fit::No,
    }
}

fn text(line: &str, span: Span) -> &str {
    line.get(span.start as usize..span.end as usize)
        .unwrap_or("")
}

/// The value of a word of this kind, if it is one.
fn value(kind: Kind, word: &str) -> Option<Value> {
    let address = || word.parse::<Ipv4Addr>().ok();
    match kind {
        Kind::Text => Some(Value::Text),
        Kind::Word => (!word.contains(char::is_control)).then_some(Value::Text),
        Kind::Name | Kind::Interface => word
            .starts_with(|c: char| c.is_ascii_alphabetic())
            .then(|| value(Kind::Word, word))
            .flatten(),
        Kind::Address => address().map(Value::Address),
        Kind::Mask => address()
            .filter(|a| (!a.to_bits()).leading_zeros() + a.to_bits().trailing_zeros() == 32)
            .map(Value::Address),
        Kind::Wildcard => address().map(Value::Address),
        Kind::Slash => number(word.strip_prefix('/')?, 0, 32),
        Kind::Pci => is_pci(word).then_some(Value::Text),
        Kind::Number(low, high) => number(word, low, high),
    }
}

fn number(word: &str, low: u32, high: u32) -> Option<Value> {
    if !word.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = word.parse().ok()?;
    (low..=high)
        .contains(&number)
        .then_some(Value::Number(number))
}

/// `[dddd:]bb:dd.f` in hexadecimal.
fn is_pci(word: &str) -> bool {
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let Some((bus, function)) = word.rsplit_once('.') else {
        return false;
    };
    let parts: Vec<&str> = bus.split(':').collect();
    let places = match parts[..] {
        [domain, bus, device] => hex(domain, 4) && hex(bus, 2) && hex(device, 2),
        [bus, device] => hex(bus, 2) && hex(device, 2),
        _ => false,
    };
    places && matches!(function.as_bytes(), [b'0'..=b'7'])
}
