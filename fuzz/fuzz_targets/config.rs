//! Any text is read without a panic; what loads prints as text that loads to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spillway_control::config::parse;

fuzz_target!(|text: &str| {
    match parse("fuzz", text) {
        Ok((config, _)) => {
            let shown = config.to_string();
            let (again, _) = parse("shown", &shown).expect("the running configuration loads");
            assert_eq!(again, config, "{shown}");
        }
        Err(errors) => {
            for error in errors {
                let _ = error.to_string();
            }
        }
    }
});
