//! Each command: what it does to the running configuration, its `no` form, and wrong variants with
//! their column and expectation.

use super::rows::ROWS;
use super::*;

#[test]
fn each_command_shows_in_the_running_configuration() {
    for row in ROWS {
        let (config, _) = load(&format!("{}{}\n", row.before, row.line));
        let text = config.to_string();
        assert!(
            text.lines().any(|l| l == row.shown),
            "`{}` gives\n{text}",
            row.line
        );
        assert_eq!(load(&text).0, config, "{text}");
    }
}

#[test]
fn each_no_form_takes_its_command_back() {
    for row in ROWS {
        let without = load(row.before).0;
        let (config, warnings) = load(&format!("{}{}\n{}\n", row.before, row.line, row.no));
        assert_eq!(config.to_string(), without.to_string(), "{}", row.no);
        let removed = !warnings
            .iter()
            .any(|w| w.message.contains("nothing that this line removes"));
        assert!(removed, "`{}` says it removes nothing", row.no);
    }
}

#[test]
fn each_wrong_variant_names_its_column_and_what_was_expected() {
    for row in ROWS {
        for (line, column, part) in row.wrong {
            let found = errors(&format!("{}{line}\n", row.before));
            let number = row.before.lines().count() as u32 + 1;
            let right = found
                .iter()
                .find(|d| (d.line, d.column) == (number, *column));
            let all: Vec<String> = found.iter().map(ToString::to_string).collect();
            let right =
                right.unwrap_or_else(|| panic!("no error at {column}:\n{}", all.join("\n")));
            assert!(right.to_string().contains(part), "`{part}` not in\n{right}");
            assert_eq!(found.len(), 1, "{}", all.join("\n"));
        }
    }
}

#[test]
fn every_row_of_the_command_table_has_help() {
    assert!(syntax::commands().count() > 80);
    for command in syntax::commands() {
        assert!(!command.help.is_empty(), "{}", command.pattern);
    }
}

#[test]
fn what_may_follow_is_known_at_every_word() {
    let after = |line: &str| {
        let words = text::words(1, line);
        commands::Table::shared().expected_after(commands::Mode::Global, line, &words)
    };
    assert_eq!(after("ip nat inside"), ["`source`", "`destination`"]);
    assert_eq!(after("ip nat pool P 10.0.0.1"), ["an address A.B.C.D"]);
}
