//! A configuration while statements are applied to it, with the place of everything it was told.

use std::collections::{HashMap, HashSet};

use super::commands::{Mode, Run};
use super::diagnostic::{Diagnostic, Severity};
use super::model::{
    AccessList, Clause, Config, InactiveBlock, Interface, ListName, OutsideStatic, Pool,
    SourceRule, StaticRoute, StaticRule, Vrf,
};
use super::syntax::{Args, Item};
use super::text::{Source, Span, words};

/// What is wrong with a statement.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// Where.
    pub span: Span,
    /// What.
    pub message: String,
    /// What may stand there instead.
    pub expected: Vec<String>,
}

impl Problem {
    /// An error at a place.
    #[must_use]
    pub fn new(span: Span, message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            span,
            message: message.into(),
            expected: Vec::new(),
        }
    }

    /// With what may stand there instead.
    #[must_use]
    pub fn expecting(mut self, expected: &str) -> Problem {
        self.expected.push(expected.to_owned());
        self
    }
}

/// What applying a statement comes to.
pub type Outcome = Result<(), Problem>;

/// What the lines of a sub-mode are about.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Context {
    /// Nothing: global lines.
    Global,
    /// An interface, by its place.
    Interface(usize),
    /// An access list.
    List(ListName),
    /// A pool.
    Pool(String),
    /// A VRF.
    Vrf(String),
    /// A clause of a route map, by its sequence number.
    RouteMap(String, u16),
    /// A block that is not active yet, by its place.
    Inactive(usize),
    /// Nothing that is kept: below a wrong line, or one that means nothing here.
    Nothing,
}

/// Where the parts of a configuration stand in the file, beside them or by name.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) interfaces: Vec<InterfacePlaces>,
    pub(super) routes: Vec<RoutePlaces>,
    pub(super) pools: HashMap<String, Span>,
    pub(super) sources: Vec<SourcePlaces>,
    pub(super) statics: Vec<SourcePlaces>,
    pub(super) outside_sources: Vec<SourcePlaces>,
    pub(super) destinations: Vec<SourcePlaces>,
    pub(super) outside_statics: Vec<SourcePlaces>,
    pub(super) route_maps: HashMap<(String, u16), Span>,
    /// The VRFs that have a limit.
    pub(super) limited_vrfs: HashMap<String, Span>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct InterfacePlaces {
    pub(super) name: Span,
    pub(super) port: Span,
    pub(super) address: Span,
    pub(super) vrf: Span,
}

/// Of a static route: where it leads, and its VRF.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct RoutePlaces {
    pub(super) to: Span,
    pub(super) vrf: Span,
}

/// Of a NAT line: what it selects or translates, to what, and in which VRF.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct SourcePlaces {
    pub(super) from: Span,
    pub(super) to: Span,
    pub(super) vrf: Span,
}

/// A configuration in the making.
#[derive(Debug)]
pub struct Draft {
    pub(super) config: Config,
    pub(super) places: Places,
    pub(super) context: Context,
    problems: Vec<Problem>,
    /// Words of wrong lines: what they name is not called unknown.
    suspects: HashSet<String>,
    /// Of what is kept in lists, what is there already.
    pub(super) known: Known,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whatever their distances.
    pub(super) routes: HashSet<StaticRoute>,
    pub(super) sources: HashSet<SourceRule>,
    pub(super) statics: HashSet<StaticRule>,
    pub(super) outside_statics: HashSet<OutsideStatic>,
    inactive: HashMap<String, usize>,
}

impl Draft {
    /// A draft that starts from a configuration.
    #[must_use]
    pub fn new(config: Config) -> Draft {
        let places = Places {
            interfaces: vec![InterfacePlaces::default(); config.interfaces.len()],
            routes: vec![RoutePlaces::default(); config.routes.len()],
            pools: HashMap::new(),
            sources: vec![SourcePlaces::default(); config.sources.len()],
            statics: vec![SourcePlaces::default(); config.statics.len()],
            destinations: vec![SourcePlaces::default(); config.destinations.len()],
            outside_sources: vec![SourcePlaces::default(); config.outside_sources.len()],
            outside_statics: vec![SourcePlaces::default(); config.outside_statics.len()],
            route_maps: HashMap::new(),
            limited_vrfs: HashMap::new(),
        };
        let known = Known {
            routes: config.routes.iter().cloned().collect(),
            sources: config.sources.iter().cloned().collect(),
            statics: config.statics.iter().cloned().collect(),
            outside_statics: config.outside_statics.iter().copied().collect(),
            inactive: index(&config.inactive),
        };
        Draft {
            config,
            places,
            context: Context::Global,
            problems: Vec::new(),
            suspects: HashSet::new(),
            known,
        }
    }

    /// Applies the lines of a file in order.
    pub fn apply(&mut self, source: &Source<'_>, items: Vec<Item>) {
        for item in items {
            match item {
                Item::Statement(statement) => {
                    let args = Args::new(source, &statement.words);
                    if let Err(problem) = self.statement(statement.command, &args) {
                        self.suspect(source, problem.span.line);
                        self.problems.push(problem);
                    }
                }
                Item::Wrong {
                    failure,
                    enters,
                    below,
                } => {
                    self.suspect(source, failure.span.line);
                    if enters.is_some() {
                        self.context = Context::Nothing;
                    } else if !below {
                        self.context = Context::Global;
                    } else if let Context::Interface(at) = self.context {
                        let name = self.config.interfaces[at].name.to_ascii_lowercase();
                        self.suspects.insert(name);
                    }
                    self.problems.push(Problem {
                        severity: Severity::Error,
                        span: failure.span,
                        message: failure.message,
                        expected: failure.expected,
                    });
                }
                Item::AfterEnd(span) => {
                    self.warn(
                        span,
                        "this and all lines below are not read: they follow `end`",
                    );
                }
            }
        }
    }

    fn statement(
        &mut self,
        command: &'static super::commands::Command,
        args: &Args<'_>,
    ) -> Outcome {
        if command.mode == Mode::Global {
            self.context = Context::Global;
        } else if self.context == Context::Nothing && !matches!(command.run, Run::Foreign) {
            return Ok(()); // its heading is wrong, which was said
        }
        let outcome = match command.run {
            Run::Apply(apply) => apply(self, args),
            Run::Inactive => self.inactive(args),
            Run::Foreign => {
                let line = args.canonical(0);
                self.warn(
                    args.whole(),
                    format!("`{line}` means nothing here and is ignored"),
                );
                Ok(())
            }
        };
        if command.enters.is_some() && self.context == Context::Global {
            self.context = Context::Nothing;
        }
        outcome
    }

    /// Keeps (or with `no` removes) a line that does nothing yet.
    fn inactive(&mut self, args: &Args<'_>) -> Outcome {
        let removes = args.has("no");
        let line = args.canonical(usize::from(removes));
        let block = match self.context {
            Context::Interface(at) => Some(&mut self.config.interfaces[at].inactive),
            Context::Inactive(at) => Some(&mut self.config.inactive[at].below),
            _ => None,
        };
        let found = match (block, removes) {
            (Some(lines), true) => {
                let before = lines.len();
                lines.retain(|l| !begins(l, &line));
                lines.len() < before
            }
            (Some(lines), false) => {
                if !lines.contains(&line) {
                    lines.push(line.clone());
                }
                true
            }
            (None, true) => {
                let before = self.config.inactive.len();
                self.config.inactive.retain(|b| !begins(&b.line, &line));
                self.known.inactive = index(&self.config.inactive);
                self.config.inactive.len() < before
            }
            (None, false) => {
                let end = self.config.inactive.len();
                let at = *self.known.inactive.entry(line.clone()).or_insert(end);
                if at == end {
                    self.config.inactive.push(InactiveBlock {
                        line: line.clone(),
                        below: Vec::new(),
                    });
                }
                self.context = Context::Inactive(at);
                true
            }
        };
        match (removes, found) {
            (false, _) => self.warn(args.whole(), format!("`{line}` is not active yet")),
            (true, false) => self.nothing_removed(args),
            (true, true) => {}
        }
        Ok(())
    }

    /// Adds a warning.
    pub fn warn(&mut self, span: Span, message: impl Into<String>) {
        self.problems.push(Problem {
            severity: Severity::Warning,
            ..Problem::new(span, message)
        });
    }

    /// Adds an error.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.problems.push(Problem::new(span, message));
    }

    /// Warns that a `no` line found nothing.
    pub fn nothing_removed(&mut self, args: &Args<'_>) {
        self.warn(args.whole(), "there is nothing that this line removes");
    }

    /// Warns that a line was there already.
    pub fn given_twice(&mut self, args: &Args<'_>) {
        self.warn(args.whole(), "this line was there already");
    }

    /// Whether a wrong line mentions this word.
    #[must_use]
    pub fn is_suspect(&self, word: &str) -> bool {
        !self.suspects.is_empty() && self.suspects.contains(&word.to_ascii_lowercase())
    }

    fn suspect(&mut self, source: &Source<'_>, line: u32) {
        for span in words(line, source.line(line)) {
            self.suspects.insert(source.text(span).to_ascii_lowercase());
        }
    }

    /// The place of an interface in the list, without regard to case.
    #[must_use]
    pub fn interface_at(&self, name: &str) -> Option<usize> {
        let interfaces = &self.config.interfaces;
        interfaces
            .iter()
            .position(|i| i.name.eq_ignore_ascii_case(name))
    }

    /// The interface whose sub-lines are read.
    pub fn interface(&mut self) -> Option<&mut Interface> {
        match self.context {
            Context::Interface(at) => self.config.interfaces.get_mut(at),
            _ => None,
        }
    }

    pub(super) fn interface_places(&mut self) -> Option<&mut InterfacePlaces> {
        match self.context {
            Context::Interface(at) => self.places.interfaces.get_mut(at),
            _ => None,
        }
    }

    /// The access list whose sub-lines are read.
    pub fn list(&mut self) -> Option<&mut AccessList> {
        match &self.context {
            Context::List(name) => self.config.access_lists.get_mut(name),
            _ => None,
        }
    }

    /// The pool whose sub-lines are read.
    pub fn pool(&mut self) -> Option<&mut Pool> {
        match &self.context {
            Context::Pool(name) => self.config.pools.get_mut(name),
            _ => None,
        }
    }

    /// The VRF whose sub-lines are read.
    pub fn vrf(&mut self) -> Option<&mut Vrf> {
        match &self.context {
            Context::Vrf(name) => self.config.vrfs.iter_mut().find(|vrf| vrf.name == *name),
            _ => None,
        }
    }

    /// The clause whose sub-lines are read.
    pub fn clause(&mut self) -> Option<&mut Clause> {
        match &self.context {
            Context::RouteMap(name, sequence) => {
                self.config.route_maps.get_mut(name)?.get_mut(sequence)
            }
            _ => None,
        }
    }

    /// The configuration with its warnings, or all errors.
    ///
    /// # Errors
    /// If any statement or check failed.
    pub fn finish(self, source: &Source<'_>) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
        let errors = self.of(source, Severity::Error);
        if errors.is_empty() {
            let warnings = self.of(source, Severity::Warning);
            Ok((self.config, warnings))
        } else {
            Err(errors)
        }
    }

    fn of(&self, source: &Source<'_>, severity: Severity) -> Vec<Diagnostic> {
        let mut chosen: Vec<&Problem> = self
            .problems
            .iter()
            .filter(|p| p.severity == severity)
            .collect();
        chosen.sort_by_key(|p| (p.span.line, p.span.start));
        let mut diagnostics: Vec<Diagnostic> = chosen
            .iter()
            .take(Diagnostic::MOST)
            .map(|p| source.diagnostic(severity, p.span, p.message.clone(), p.expected.clone()))
            .collect();
        if let Some(more) = chosen.len().checked_sub(Diagnostic::MOST + 1) {
            let message = format!("{} more like these are not shown", more + 1);
            diagnostics.push(source.diagnostic(severity, Span::default(), message, Vec::new()));
        }
        diagnostics
    }
}

fn index(blocks: &[InactiveBlock]) -> HashMap<String, usize> {
    let lines = blocks.iter().enumerate();
    lines.map(|(at, b)| (b.line.clone(), at)).collect()
}

/// Whether `line` is `start` or goes on behind it with another word.
fn begins(line: &str, start: &str) -> bool {
    line.strip_prefix(start)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}
