//! What may stand next: `?` and tab.

use spillway_control::config::commands::Table;
use spillway_control::config::text::words as spans;
use spillway_control::manage::words::{self, Node, Token};

use super::page::Filter;
use super::place::Place;

/// A word that may stand next, or what kind of value, and a line about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) text: String,
    pub(super) help: String,
    /// Whether the text is to be typed as it stands.
    pub(super) typed: bool,
}

/// The choices for the last word of `line`, which may be empty, and where it begins.
pub(super) fn choices(place: &Place, line: &str) -> (usize, Vec<Choice>) {
    let begin = line
        .char_indices()
        .rev()
        .find(|(_, c)| c.is_whitespace() || *c == '|')
        .map_or(0, |(at, c)| at + c.len_utf8());
    let (before, word) = line.split_at(begin);
    let mut found = match (place.mode, before.trim_start().strip_prefix("do ")) {
        (None, _) => commands(before),
        (Some(_), Some(command)) => commands(command),
        (Some(mode), None) => {
            let table = Table::shared();
            let mut found = table.expected_after(mode, before, &spans(1, before));
            if found.is_empty() {
                let global = spillway_control::config::commands::Mode::Global;
                found = table.expected_after(global, before, &spans(1, before));
            }
            found.into_iter().map(described).collect()
        }
    };
    found.retain(|c| !c.typed || c.text.to_lowercase().starts_with(&word.to_lowercase()));
    found.sort_by(|a, b| a.text.cmp(&b.text));
    found.dedup();
    (begin, found)
}

/// The lines that `?` prints.
pub(super) fn text(place: &Place, line: &str) -> String {
    let (_, choices) = choices(place, line);
    if choices.is_empty() {
        return "% Unrecognized command\n".to_owned();
    }
    let width = choices.iter().map(|c| c.text.len()).max().unwrap_or(0);
    let line = |c: &Choice| {
        format!("  {:width$}  {}", c.text, c.help)
            .trim_end()
            .to_owned()
            + "\n"
    };
    choices.iter().map(line).collect()
}

fn described(text: String) -> Choice {
    let keyword = text.strip_prefix('`').and_then(|t| t.strip_suffix('`'));
    Choice {
        typed: keyword.is_some(),
        text: keyword.map_or_else(|| format!("<{text}>"), str::to_owned),
        help: String::new(),
    }
}

fn commands(before: &str) -> Vec<Choice> {
    if before.contains('|') {
        let words = Filter::WORDS.iter();
        return words
            .map(|(text, help)| choice((*text).to_owned(), help, true))
            .collect();
    }
    let mut nodes = words::COMMANDS;
    let mut ends = false;
    for word in before.split_whitespace() {
        let Some(node) = follow(nodes, word) else {
            return Vec::new();
        };
        (nodes, ends) = (node.next, node.verb.is_some());
    }
    let of = |node: &Node| match node.token {
        Token::Word(word) => choice(word.to_owned(), node.help, true),
        Token::Address => choice("A.B.C.D".to_owned(), node.help, false),
        Token::Port => choice("<0-65535>".to_owned(), node.help, false),
        Token::Endpoint => choice("A.B.C.D[:PORT]".to_owned(), node.help, false),
        Token::Spi => choice("HEX".to_owned(), node.help, false),
        Token::Name => choice("WORD".to_owned(), node.help, false),
    };
    let mut found: Vec<Choice> = nodes.iter().map(of).collect();
    if ends {
        found.push(choice("<cr>".to_owned(), "", false));
        found.push(choice("|".to_owned(), "Filter the answer", true));
    }
    found
}

/// The node that a word means, if it is one alone.
fn follow(nodes: &'static [Node], word: &str) -> Option<&'static Node> {
    let lower = word.to_lowercase();
    let text = |node: &Node| match node.token {
        Token::Word(text) => Some(text),
        _ => None,
    };
    if let Some(node) = nodes.iter().find(|n| text(n) == Some(lower.as_str())) {
        return Some(node);
    }
    let begins = |node: &&Node| text(node).is_some_and(|t| t.starts_with(&lower));
    let mut short = nodes.iter().filter(begins);
    match (short.next(), short.next()) {
        (Some(node), None) => Some(node),
        (Some(_), Some(_)) => None,
        (None, _) => {
            let number = word.bytes().all(|b| b.is_ascii_digit());
            nodes.iter().find(|node| match node.token {
                Token::Word(_) => false,
                Token::Port => number,
                Token::Address | Token::Endpoint => word.contains('.'),
                Token::Spi => word.bytes().all(|b| b.is_ascii_hexdigit()),
                Token::Name => true,
            })
        }
    }
}

fn choice(text: String, help: &str, typed: bool) -> Choice {
    Choice {
        text,
        help: help.to_owned(),
        typed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(place: &Place, line: &str) -> Vec<String> {
        let (_, found) = choices(place, line);
        found.into_iter().map(|c| c.text).collect()
    }

    #[test]
    fn every_word_has_its_choices() {
        let place = Place::default();
        assert_eq!(texts(&place, "sh ip nat tr"), ["translations"]);
        assert_eq!(texts(&place, "show ip "), ["interface", "nat", "route"]);
        assert_eq!(texts(&place, "show arp "), ["<cr>", "|"]);
        assert_eq!(texts(&place, "show arp | in"), ["include"]);
        assert!(texts(&place, "show nonsense ").is_empty());
        assert!(text(&place, "sh ver").contains("Software version"));
        let place = Place::configuring();
        assert!(texts(&place, "ip nat inside ").contains(&"source".to_owned()));
        assert_eq!(texts(&place, "do show arp | js"), ["json"]);
    }
}
