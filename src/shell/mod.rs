//! `spillway shell` and `spillway exec`: the language of routers at a prompt and in scripts.

mod editor;
mod help;
mod page;
mod place;

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use spillway_control::manage::words::{self, Invocation, SyntaxError, Value, Verb};
use spillway_control::manage::{Format, TERMINAL, client};

use crate::cli::{Client, Exec};
use page::{Filter, Page};
use place::{Place, Step};

/// Exit code of a command that was not understood.
const MISUNDERSTOOD: u8 = 2;

/// Runs commands one after the other up to the first that fails, whose exit code it returns.
/// Scripts are behind `enable` from the start.
pub(crate) fn exec(options: &Exec) -> ExitCode {
    let mut session = Session::new(&options.client, Place::enabled());
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
    let mut session = Session::new(options, Place::default());
    if io::stdin().is_terminal() {
        return match editor::run(&mut session) {
            Ok(code) => ExitCode::from(code),
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
    /// Control-C was typed.
    stop: Option<Arc<AtomicBool>>,
    over: bool,
}

impl Session {
    fn new(options: &Client, place: Place) -> Session {
        Session {
            socket: options.socket.clone(),
            format: if options.json {
                Format::Json
            } else {
                Format::Text
            },
            place,
            length: None,
            height: None,
            stop: None,
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
        let command = line.split('|').next().unwrap_or_default();
        let understood = match words::parse(command) {
            Ok(understood) if self.place.is_enabled || understood.verb.is_open() => understood,
            Ok(_) => return misunderstood(&SyntaxError::Invalid(start(line)), line),
            Err(error) => return misunderstood(&error, line),
        };
        match understood.verb {
            Verb::Exit => self.over = true,
            Verb::Enable if self.place.mode.is_none() => self.place = Place::enabled(),
            Verb::Disable if self.place.mode.is_none() => self.place = Place::default(),
            Verb::Configure => self.place = Place::configuring(),
            Verb::TerminalLength => self.length = Some(number(&understood)),
            Verb::Replace => return self.ask(&absolute(line, &understood)),
            Verb::Confirmed => {
                let code = self.ask(line);
                if code == 0 {
                    self.place = Place::configuring();
                }
                return code;
            }
            _ => return self.ask(line),
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
                    return MISUNDERSTOOD;
                }
            }
        };
        let lines = match (self.height, self.length) {
            (None, _) | (_, Some(0)) => None,
            (Some(height), length) => Some(length.unwrap_or(height)),
        };
        let mut page = Page::new(io::stdout(), filter, lines);
        let errors = &mut io::stderr();
        let stop = self.stop.as_deref();
        if let Some(stop) = stop {
            stop.store(false, Ordering::Relaxed);
        }
        let code = client::run_until(&self.socket, command, self.format, &mut page, errors, stop);
        // A reader that is gone has seen enough.
        let _ = page.finish();
        code
    }

    /// The host's name, if the appliance answers.
    fn hostname(&self) -> Result<String, String> {
        let (mut answer, mut errors) = (Vec::new(), Vec::new());
        let code = client::run_with(
            &self.socket,
            "show version",
            Format::Json,
            &mut answer,
            &mut errors,
        );
        if code != 0 {
            return Err(String::from_utf8_lossy(&errors).trim_end().to_owned());
        }
        let answer: serde_json::Value =
            serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        Ok(answer["hostname"].as_str().unwrap_or("Spillway").to_owned())
    }
}

fn misunderstood(error: &SyntaxError, line: &str) -> u8 {
    eprintln!("{}", error.render(line));
    MISUNDERSTOOD
}

/// Where the first word of a line begins, in characters.
fn start(line: &str) -> usize {
    line.chars().take_while(|c| c.is_whitespace()).count()
}

fn number(understood: &Invocation) -> u16 {
    let mut arguments = understood.arguments.iter();
    let number = arguments.find_map(|(_, value)| match value {
        Value::Port(number) => Some(*number),
        _ => None,
    });
    number.unwrap_or(0)
}

/// The command with its file named from the root: the appliance is elsewhere.
fn absolute(line: &str, understood: &Invocation) -> String {
    let mut arguments = understood.arguments.iter();
    let file = arguments.find_map(|(_, value)| match value {
        Value::Name(name) => std::path::absolute(name).ok(),
        _ => None,
    });
    match file {
        Some(file) => format!("configure replace {}", file.display()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_the_root() {
        let line = "conf rep /etc/a.conf";
        let understood = words::parse(line).expect(line);
        assert_eq!(absolute(line, &understood), "configure replace /etc/a.conf");
        let understood = words::parse("conf rep a.conf").expect("understood");
        let here = std::env::current_dir().expect("a folder").join("a.conf");
        let wanted = format!("configure replace {}", here.display());
        assert_eq!(absolute("", &understood), wanted);
    }
}
