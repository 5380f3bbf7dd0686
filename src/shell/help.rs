//! What may stand next: `?` and tab.

use spillway_control::config::commands::{Mode, Next, Table};
use spillway_control::config::text::words as spans;
use spillway_control::manage::words::{self, Node, Token, Verb};

use super::page::Filter;
use super::place::Place;

/// The choices for the last word of `line`, which may be empty, and where it begins.
pub(super) fn choices(place: &Place, line: &str) -> (usize, Vec<Next>) {
    let begin = line
        .char_indices()
        .rev()
        .find(|(_, c)| c.is_whitespace() || *c == '|')
        .map_or(0, |(at, c)| at + c.len_utf8());
    let (before, word) = line.split_at(begin);
    let start = before.trim_start();
    let mut found = match place.mode {
        None => commands(before, place.is_enabled),
        Some(_) if start.starts_with("do ") => commands(&start[3..], true),
        Some(mode) => configuration(mode, before),
    };
    let lower = word.to_lowercase();
    found.retain(|next| match next.is_word {
        true => next.text.to_lowercase().starts_with(&lower),
        // A value may begin with anything; the end of the line is no word at all.
        false => word.is_empty() || next.text != "<cr>",
    });
    if !word.is_empty() && found.iter().any(|next| next.is_word) {
        found.retain(|next| next.is_word);
    }
    found.sort();
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
    let line = |c: &Next| {
        let line = format!("  {:width$}  {}", c.text, c.help);
        format!("{}\n", line.trim_end())
    };
    choices.iter().map(line).collect()
}

/// In `configure terminal`: the lines of the mode, and behind their first word those that leave it.
fn configuration(mode: Mode, before: &str) -> Vec<Next> {
    let table = Table::shared();
    let words = spans(1, before);
    let mut found = table.next(mode, before, &words);
    if words.is_empty() {
        found.push(next("do", "A command as outside the configuration", true));
        found.push(next("end", "Leave the configuration", true));
        found.push(next("exit", "Leave this mode", true));
    } else if mode != Mode::Global {
        // `ip` begins lines of an interface and global ones: both are taken here.
        let mut leaving = table.next(Mode::Global, before, &words);
        leaving.retain(|next| found.iter().all(|own| own.text != next.text));
        found.extend(leaving);
    }
    found
}

fn commands(before: &str, is_enabled: bool) -> Vec<Next> {
    let (command, filter) = match before.split_once('|') {
        Some((command, filter)) => (command, Some(filter)),
        None => (before, None),
    };
    let is_shown = if is_enabled { |_| true } else { Verb::is_open };
    let Ok(reached) = words::walk(command) else {
        return Vec::new();
    };
    let ends = reached.verb.is_some_and(is_shown);
    match filter {
        Some(filter) if !ends || filter.trim().contains(' ') => return Vec::new(),
        Some(filter) if filter.trim().is_empty() => {
            let words = Filter::WORDS.iter();
            return words.map(|(text, help)| next(text, help, true)).collect();
        }
        Some(_) => return vec![next("LINE", "A regular expression", false)],
        None => {}
    }
    let of = |node: &Node| match node.token {
        Token::Word(word) | Token::Whole(word) => next(word, node.help, true),
        Token::Address => next("A.B.C.D", node.help, false),
        Token::Port => next("<0-65535>", node.help, false),
        Token::Endpoint => next("A.B.C.D[:PORT]", node.help, false),
        Token::Spi => next("HEX", node.help, false),
        Token::Name => next("WORD", node.help, false),
    };
    let nodes = reached.next.iter().filter(|node| node.leads_to(is_shown));
    let mut found: Vec<Next> = nodes.map(of).collect();
    if ends {
        found.push(next("<cr>", "", false));
        found.push(next("|", "Filter the answer", true));
    }
    found
}

fn next(text: &str, help: &str, is_word: bool) -> Next {
    Next {
        text: text.to_owned(),
        help: help.to_owned(),
        is_word,
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
        let place = Place::enabled();
        assert_eq!(texts(&place, "sh ip nat tr"), ["translations"]);
        let after_ip = ["access-lists", "interface", "nat", "route", "vrf"];
        assert_eq!(texts(&place, "show ip "), after_ip);
        assert_eq!(texts(&place, "show arp "), ["<cr>", "|"]);
        assert_eq!(texts(&place, "show arp | in"), ["include"]);
        assert_eq!(texts(&place, "show arp | include x"), ["LINE"]);
        assert_eq!(texts(&place, "ping 10"), ["A.B.C.D"]);
        assert!(texts(&place, "show nonsense ").is_empty());
        assert!(text(&place, "sh ver").contains("Software version"));
        let place = Place::configuring();
        assert_eq!(texts(&place, "ip nat inside "), ["destination", "source"]);
        assert_eq!(texts(&place, "do show arp | js"), ["json"]);
        assert!(texts(&place, "").contains(&"end".to_owned()));
    }

    #[test]
    fn the_view_before_enable_offers_only_what_it_has() {
        let (user, enabled) = (Place::default(), Place::enabled());
        for (line, word) in [
            ("", "configure"),
            ("show ", "running-config"),
            ("", "clear"),
        ] {
            assert!(!texts(&user, line).contains(&word.to_owned()), "{word}");
            assert!(texts(&enabled, line).contains(&word.to_owned()), "{word}");
        }
        assert!(texts(&user, "show ip nat ").contains(&"translations".to_owned()));
    }

    #[test]
    fn a_sub_mode_offers_its_own_lines_and_those_that_leave_it() {
        let place = Place {
            mode: Some(Mode::Interface),
            ..Place::enabled()
        };
        assert!(texts(&place, "").contains(&"shutdown".to_owned()));
        let nat = ["inside", "outside", "pool", "service", "translation"];
        assert_eq!(texts(&place, "ip nat "), nat);
        assert_eq!(texts(&place, "ip ro"), ["route"]);
        let inside = ["<cr>", "destination", "source"];
        assert_eq!(texts(&place, "ip nat inside "), inside);
        assert_eq!(texts(&place, "no ip nat po"), ["pool"]);
        // What another mode has alone is not offered.
        assert!(texts(&place, "match ").is_empty());
        assert_eq!(texts(&place, "ip nat inside source st"), ["static"]);
        assert!(text(&place, "mtu ").contains("<68-9216>  "));
    }
}
