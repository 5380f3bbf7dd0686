use super::*;

mod arbitrary;
mod compile;
mod destination;
mod each;
mod outside;
mod rows;
mod samples;
mod spec;
mod vrf;
mod whole;

/// Loads a configuration that must be good.
fn load(text: &str) -> Loaded {
    parse("router.conf", text).unwrap_or_else(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{}", errors.join("\n"))
    })
}

/// The errors of a configuration that must be bad.
fn errors(text: &str) -> Vec<Diagnostic> {
    match parse("router.conf", text) {
        Ok((config, _)) => panic!("it loads:\n{config}"),
        Err(errors) => errors,
    }
}
