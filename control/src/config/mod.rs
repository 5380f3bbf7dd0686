//! The configuration language: text to syntax tree to checked configuration to data plane policy.
//!
//! 1. [`text`] cuts a file into lines and words, each with its place.
//! 2. [`grammar`] matches each line against the command table of [`commands`]: [`syntax`] statements.
//! 3. [`draft`] applies the statements one by one, [`check`] looks at the whole: a [`Config`].
//! 4. [`policy`] compiles a [`Config`] into what workers read.
//!
//! Every error of a file is reported, each with its line, column and what was expected. A line that
//! is understood but does nothing yet, or means nothing here, loads with a warning that names it.

pub mod check;
mod check_destination;
mod check_outside;
mod check_vrf;
pub mod commands;
pub mod diagnostic;
pub mod display;
pub mod draft;
pub mod grammar;
pub mod model;
pub mod names;
pub mod policy;
mod policy_destination;
mod policy_outside;
pub mod syntax;
pub mod text;
mod vrf_ids;

#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, Severity};
pub use model::Config;
pub use policy::Policy;
pub use vrf_ids::VrfIds;

use std::collections::HashSet;

use draft::Draft;
use text::Source;

/// A configuration and the warnings of its file; `amend` gives the same.
pub type Loaded = (Config, Vec<Diagnostic>);

/// Parses and checks a configuration. `name` is the file's name as diagnostics show it.
///
/// # Errors
/// Every error of the file, in the order of its lines; at most
/// [`Diagnostic::MOST`] and then one that tells how many more there are.
pub fn parse(name: &str, text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    amend(Config::default(), name, text)
}

/// Parses and checks a configuration whose interfaces get their `port` lines in a second file.
/// Each file is its name and its text. Of the warnings, those about missing devices hold for both
/// files together.
///
/// # Errors
/// As [`parse`]; those of the second file only where the first has none.
pub fn parse_both(router: (&str, &str), ports: (&str, &str)) -> Result<Loaded, Vec<Diagnostic>> {
    let (config, first) = parse(router.0, router.1)?;
    let (config, second) = amend(config, ports.0, ports.1)?;
    let resolved: HashSet<String> = config
        .interfaces
        .iter()
        .filter(|i| i.port.is_some())
        .map(|i| check::without_port(&i.name))
        .collect();
    // The whole is checked once with each file: what both say is said where its line is known.
    let said: HashSet<&str> = first.iter().map(|w| w.message.as_str()).collect();
    let more: Vec<Diagnostic> = second
        .iter()
        .filter(|w| w.line != 0 || !said.contains(w.message.as_str()))
        .cloned()
        .collect();
    let kept = first.into_iter().filter(|w| !resolved.contains(&w.message));
    Ok((config, kept.chain(more).collect()))
}

/// Applies the lines of `text` to a configuration and checks the result: what `configure terminal`
/// and a second file do.
///
/// # Errors
/// As [`parse`]; nothing is applied then.
pub fn amend(config: Config, name: &str, text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    let source = Source::new(name, text);
    let mut draft = Draft::new(config);
    let tree = syntax::parse(&source);
    draft.apply(&source, tree);
    check::check(&mut draft);
    draft.finish(&source)
}
