//! Any command line is understood or refused without a panic; what is refused points into the line;
//! what may follow a beginning is known at every word; and lines of `configure terminal` too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spillway_control::config::commands::{Mode, Table};
use spillway_control::config::text::words as spans;
use spillway_control::manage::words::{self, SyntaxError};

fuzz_target!(|line: &str| {
    match words::parse(line) {
        Ok(found) => {
            assert_eq!(found.arguments.len(), found.positions.len());
            assert!(words::walk(line).is_ok());
        }
        Err(error) => {
            if let SyntaxError::Invalid(at) = error {
                assert!(at < line.chars().count(), "{at} is not in {line:?}");
            }
            assert!(error.render(line).contains('%'));
        }
    }
    let first = line.lines().next().unwrap_or_default();
    let words = spans(1, first);
    for upto in 0..=words.len() {
        let _ = Table::shared().next(Mode::Global, first, &words[..upto]);
    }
});
