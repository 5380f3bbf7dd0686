//! Commands as patterns, and the matcher that walks a line through all patterns of a mode at once.
//!
//! A pattern is written as the reference manuals write commands:
//! `keyword`, `<label:kind>` for a value, `{a|b}` one of, `[a|b]` at most one of, `(a|b)*` any number
//! in any order, `label=keyword` for a keyword whose place matters, `$name` for a named piece.
//! At each word the matcher knows every keyword and value that may come next, which gives
//! abbreviations, the "expected" part of errors, `?` and completion.

mod graph;
mod matching;

pub use graph::{Graph, Kind, Symbol};
pub use matching::{Choice, Failure, Match, Matched, Value};
