//! `spillway shell` and `spillway exec`: the language of routers at a prompt and in scripts.

mod editor;
mod help;
mod page;
mod place;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use spillway_control::manage::words::{self, Value, Verb};
use spillway_control::manage::{Format, TERMINAL, client};

use crate::cli::{Client, Exec};
use page::{Filter, Page};
use place::{Place, Step};

/// Runs commands one after the other up to the first that fails, whose exit code it returns.
pub(crate) fn exec(options: &Exec) -> ExitCode {
    let mut session = Session::new(&options.client);
    for command in &options.commands {
        let code = session.line(command);
        if code != 0 {
            return ExitCode::from(code);
        }
        if session.over {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// Takes commands from a terminal until `exit`, or from a pipe until its end. From a pipe, the exit
/// code is that of the first command that failed; the others still run.
pub(crate) fn shell(options: &Client) -> ExitCode {
    let mut session = Session::new(options);
    if io::stdin().is_terminal() {
        return match editor::run(&mut session) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("spillway: the terminal can't be used: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut first = 0;
    for line in io::stdin().lock().lines() {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                eprintln!("spillway: standard input can't be read: {error}");
                return ExitCode::FAILURE;
            }
        };
        let code = match line.trim_end().strip_suffix('?') {
            Some(before) => {
                print!("{}", help::text(&session.place, before));
                0
            }
            None => session.line(&line),
        };
        if first == 0 {
            first = code;
        }
        if session.over {
            break;
        }
    }
    ExitCode::from(first)
}

/// Where an operator is, and how he wants his answers.
struct Session {
    socket: PathBuf,
    format: Format,
    place: Place,
    /// Lines of a page; `None` is the terminal's height, 0 never stops.
    length: Option<u16>,
    /// Lines of the terminal, if it is one.
    height: Option<u16>,
    over: bool,
}

impl Session {
    fn new(options: &Client) -> Session {
        Session {
            socket: options.socket.clone(),
            format: if options.json {
                Format::Json
            } else {
                Format::Text
            },
            place: Place::default(),
            length: None,
            height: None,
            over: false,
        }
    }

    /// Does one line, in whatever mode we are. Returns its exit code.
    fn line(&mut self, line: &str) -> u8 {
        let words = line.trim();
        if words.is_empty() || words.starts_with('!') {
            return 0;
        }
        match self.place.step(line) {
            None => self.command(line),
            Some(Step::Do(command)) => self.command(&command),
            Some(Step::Moved(place)) => {
                self.place = place;
                0
            }
            Some(Step::Apply(lines, place)) => {
                let code = self.ask(&format!("{TERMINAL}\n{lines}"));
                if let (0, Some(place)) = (code, place) {
                    self.place = place;
                }
                code
            }
        }
    }

    /// A command that is no configuration line.
    fn command(&mut self, line: &str) -> u8 {
        let understood = words::parse(line.split('|').next().unwrap_or_default());
        let verb = understood.as_ref().ok().map(|i| i.verb);
        match verb {
            Some(Verb::Exit) => self.over = true,
            Some(Verb::Configure) => self.place = Place::configuring(),
            Some(Verb::TerminalLength) => {
                let arguments = understood.map(|i| i.arguments).unwrap_or_default();
                self.length = arguments.iter().find_map(|(_, value)| match value {
                    Value::Port(lines) => Some(*lines),
                    _ => None,
                });
            }
            _ => {
                let code = self.ask(line);
                if code == 0 && verb == Some(Verb::Confirmed) {
                    self.place = Place::configuring();
                }
                return code;
            }
        }
        0
    }

    /// Asks the appliance and shows the answer, filtered and in pages.
    fn ask(&self, line: &str) -> u8 {
        let (command, filter) = if line.starts_with(TERMINAL) {
            (line, Filter::All)
        } else {
            match Filter::of(line) {
                Ok(found) => found,
                Err(sentence) => {
                    eprintln!("{sentence}");
                    return 2;
                }
            }
        };
        let lines = match (self.height, self.length) {
            (None, _) | (_, Some(0)) => None,
            (Some(height), length) => Some(length.unwrap_or(height)),
        };
        let mut page = Page::new(io::stdout(), filter, lines);
        let errors = &mut io::stderr();
        let code = client::run_with(&self.socket, command, self.format, &mut page, errors);
        // A reader that is gone has seen enough.
        let _ = page.finish();
        code
    }

    /// The host's name, if the appliance answers.
    fn hostname(&self) -> Option<String> {
        let mut answer = Vec::new();
        let mut errors = io::stderr();
        let code = client::run_with(
            &self.socket,
            "show version",
            Format::Json,
            &mut answer,
            &mut errors,
        );
        let _ = errors.flush();
        let answer: serde_json::Value = serde_json::from_slice(&answer).ok()?;
        (code == 0).then(|| answer["hostname"].as_str().map(str::to_owned))?
    }
}
