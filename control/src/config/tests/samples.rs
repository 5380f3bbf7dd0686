//! The sample files load, and say which lines do nothing.

use super::*;

const LAB: &str = include_str!("../../../../tests/configs/lab.conf");
const HUB: &str = include_str!("../../../../tests/configs/hub-sam-i-am.conf");
const REMOTE: &str = include_str!("../../../../tests/configs/remote-dr_whoovie.conf");

fn load(text: &str) -> Loaded {
    parse("router.conf", text).unwrap_or_else(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{}", errors.join("\n"))
    })
}

#[test]
fn the_lab_loads_without_a_word() {
    let (config, warnings) = load(LAB);
    assert_eq!(warnings, []);
    assert_eq!(config.interfaces.len(), 2);
    assert_eq!(config.sources.len(), 1);
    assert_eq!(load(&config.to_string()).0, config);
}

#[test]
fn the_samples_load_and_every_line_without_effect_is_named() {
    for (text, interfaces) in [(HUB, 2), (REMOTE, 2)] {
        let (config, warnings) = load(text);
        for w in &warnings {
            println!("{w}");
        }
        println!("{config}");
        assert_eq!(config.interfaces.len(), interfaces);
        assert_eq!(config.access_lists.len(), 2);
        assert_eq!(load(&config.to_string()).0, config);
    }
}
