//! Patterns compiled into one graph for a mode.

use super::super::names::{ICMP_TYPES, Names, PROTOCOLS, TCP_PORTS, UDP_PORTS};

/// The kind of a value in a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any word.
    Word,
    /// A word that starts with a letter: the name of an interface.
    Interface,
    /// The name of a list, pool or map: a word that starts with a letter.
    Name,
    /// The rest of the line.
    Text,
    /// An IPv4 address.
    Address,
    /// A netmask.
    Mask,
    /// A wildcard mask: ones are "don't care".
    Wildcard,
    /// A prefix length written `/24`.
    Slash,
    /// A PCI address such as `0000:03:00.0`.
    Pci,
    /// A decimal number from the first to the second, included.
    Number(u32, u32),
}

/// What an edge of the graph accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    /// This word or an unambiguous beginning of it.
    Keyword(&'static str),
    /// One of these names or an unambiguous beginning of one; and how the set is called.
    Names(Names, &'static str),
    /// A value.
    Value(Kind),
}

impl Symbol {
    /// The symbol as an error message names it.
    #[must_use]
    pub fn describe(&self) -> String {
        let kind = match self {
            Symbol::Keyword(word) => return format!("`{word}`"),
            Symbol::Names(_, what) => what,
            Symbol::Value(Kind::Number(low, high)) => return format!("a number {low}-{high}"),
            Symbol::Value(Kind::Word) => "a word",
            Symbol::Value(Kind::Interface) => "the name of an interface",
            Symbol::Value(Kind::Name) => "a name that starts with a letter",
            Symbol::Value(Kind::Text) => "text",
            Symbol::Value(Kind::Address) => "an address A.B.C.D",
            Symbol::Value(Kind::Mask) => "a netmask such as 255.255.255.0",
            Symbol::Value(Kind::Wildcard) => "a wildcard mask such as 0.0.0.255",
            Symbol::Value(Kind::Slash) => "a prefix length such as /24",
            Symbol::Value(Kind::Pci) => "a PCI address such as 0000:03:00.0",
        };
        kind.to_owned()
    }
}

/// One word of a pattern, and where it leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) symbol: Symbol,
    pub(super) label: &'static str,
    pub(super) to: usize,
    /// In a `( )*` group: a keyword may come once only.
    pub(super) once: bool,
    /// Only the whole keyword counts.
    pub(super) whole: bool,
}

/// A place between words: which edges leave it, and which command may end here.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) edges: Vec<usize>,
    pub(super) ends: Option<usize>,
}

/// All patterns of a mode. Node 0 is the start.
#[derive(Debug)]
pub struct Graph {
    pub(super) edges: Vec<Edge>,
    pub(super) nodes: Vec<Node>,
}

impl Graph {
    /// The graph of these patterns; with each goes whether it takes whole keywords only, no short
    /// ones. `pieces` are the texts of `$name`.
    ///
    /// # Errors
    /// A sentence about the first pattern that is no pattern.
    pub fn new(
        patterns: impl IntoIterator<Item = (&'static str, bool)>,
        pieces: &[(&'static str, &'static str)],
    ) -> Result<Graph, String> {
        let mut builder = Builder {
            pieces,
            states: vec![State::default()],
            edges: Vec::new(),
            group: 0,
            whole: false,
        };
        for (command, (pattern, whole)) in patterns.into_iter().enumerate() {
            builder.whole = whole;
            let mut words = split(pattern, pieces)?;
            words.reverse();
            let end = builder.alternatives(0, &mut words, None)?;
            if !words.is_empty() {
                return Err(format!("`{pattern}`: a closing bracket too many"));
            }
            builder.states[end].command.get_or_insert(command);
        }
        Ok(builder.finish())
    }
}

#[derive(Debug, Default)]
struct State {
    /// States that are reached without a word.
    free: Vec<usize>,
    edge: Option<usize>,
    command: Option<usize>,
}

struct Builder<'a> {
    pieces: &'a [(&'static str, &'static str)],
    states: Vec<State>,
    edges: Vec<Edge>,
    /// How many `( )*` groups we are in.
    group: u32,
    /// Whether this pattern takes whole keywords only.
    whole: bool,
}

type Words = Vec<&'static str>;

impl Builder<'_> {
    fn state(&mut self) -> usize {
        self.states.push(State::default());
        self.states.len() - 1
    }

    fn join(&mut self, from: usize, to: usize) {
        self.states[from].free.push(to);
    }

    /// `a | b | c` up to `close`; returns the state behind it.
    fn alternatives(
        &mut self,
        from: usize,
        words: &mut Words,
        close: Option<&str>,
    ) -> Result<usize, String> {
        let exit = self.state();
        loop {
            let start = self.state();
            self.join(from, start);
            let end = self.sequence(start, words)?;
            self.join(end, exit);
            match (words.pop(), close) {
                (Some("|"), _) => {}
                (None, None) => return Ok(exit),
                (Some(found), Some(wanted)) if found == wanted => return Ok(exit),
                (found, _) => return Err(format!("expected {close:?}, found {found:?}")),
            }
        }
    }

    fn sequence(&mut self, from: usize, words: &mut Words) -> Result<usize, String> {
        let mut at = from;
        while let Some(word) = words.last().copied() {
            if matches!(word, "|" | "}" | "]" | ")*") {
                break;
            }
            words.pop();
            at = match word {
                "{" => self.alternatives(at, words, Some("}"))?,
                "[" => {
                    let exit = self.alternatives(at, words, Some("]"))?;
                    self.join(at, exit);
                    exit
                }
                "(" => {
                    let hub = self.state();
                    self.join(at, hub);
                    self.group += 1;
                    let end = self.alternatives(hub, words, Some(")*"))?;
                    self.group -= 1;
                    self.join(end, hub);
                    let exit = self.state();
                    self.join(hub, exit);
                    exit
                }
                word => self.word(at, word)?,
            };
        }
        Ok(at)
    }

    fn word(&mut self, from: usize, word: &'static str) -> Result<usize, String> {
        if let Some(piece) = word.strip_prefix('$') {
            return Err(format!("no piece `{piece}` among {}", self.pieces.len()));
        }
        let (label, symbol) = match word.strip_prefix('<').and_then(|w| w.strip_suffix('>')) {
            Some(inner) => {
                let (label, kind) = inner
                    .split_once(':')
                    .ok_or_else(|| format!("`{word}` has no kind"))?;
                (label, symbol(kind)?)
            }
            None => {
                let (label, keyword) = word.split_once('=').unwrap_or((word, word));
                (label, Symbol::Keyword(keyword))
            }
        };
        let (source, to) = (self.state(), self.state());
        self.join(from, source);
        self.edges.push(Edge {
            symbol,
            label,
            to,
            once: self.group > 0,
            whole: self.whole,
        });
        self.states[source].edge = Some(self.edges.len() - 1);
        Ok(to)
    }

    /// Follows the steps that need no word, so that matching never has to.
    fn finish(self) -> Graph {
        let nodes = (0..self.states.len()).map(|at| self.node(at)).collect();
        Graph {
            edges: self.edges,
            nodes,
        }
    }

    fn node(&self, at: usize) -> Node {
        let mut node = Node::default();
        let mut seen = vec![false; self.states.len()];
        let mut open = vec![at];
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let state = &self.states[at];
            node.edges.extend(state.edge);
            node.ends = match (node.ends, state.command) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            open.extend(&state.free);
        }
        node.edges.sort_unstable();
        node
    }
}

/// The words of a pattern, brackets and bars on their own, `$name` replaced by its text.
fn split(pattern: &'static str, pieces: &[(&'static str, &'static str)]) -> Result<Words, String> {
    let mut words = Vec::new();
    for chunk in pattern.split_whitespace() {
        let mut rest = chunk;
        while !rest.is_empty() {
            let bracket = rest.find(|c| "{}[]()|".contains(c)).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(bracket);
            if let Some(name) = word.strip_prefix('$') {
                let piece = pieces.iter().find(|(n, _)| *n == name);
                let (_, text) = piece.ok_or_else(|| format!("no piece `{name}`"))?;
                words.push("{");
                words.extend(split(text, pieces)?);
                words.push("}");
            } else if !word.is_empty() {
                words.push(word);
            }
            let length = match tail {
                "" => 0,
                tail if tail.starts_with(")*") => 2,
                _ => 1,
            };
            let (bracket, tail) = tail.split_at(length);
            if !bracket.is_empty() {
                words.push(bracket);
            }
            rest = tail;
        }
    }
    Ok(words)
}

fn symbol(kind: &'static str) -> Result<Symbol, String> {
    let kind = match kind {
        "tcp-port" => return Ok(Symbol::Names(TCP_PORTS, "the name of a TCP port")),
        "udp-port" => return Ok(Symbol::Names(UDP_PORTS, "the name of a UDP port")),
        "icmp-type" => return Ok(Symbol::Names(ICMP_TYPES, "the name of an ICMP type")),
        "protocol" => return Ok(Symbol::Names(PROTOCOLS, "the name of a protocol")),
        "word" => Kind::Word,
        "name" => Kind::Name,
        "interface" => Kind::Interface,
        "text" => Kind::Text,
        "address" => Kind::Address,
        "mask" => Kind::Mask,
        "wildcard" => Kind::Wildcard,
        "slash" => Kind::Slash,
        "pci" => Kind::Pci,
        range => {
            let ends = range.split_once('-');
            let ends = ends.and_then(|(l, h)| Some((l.parse().ok()?, h.parse().ok()?)));
            let (low, high) = ends.ok_or_else(|| format!("no kind `{range}`"))?;
            Kind::Number(low, high)
        }
    };
    Ok(Symbol::Value(kind))
}
