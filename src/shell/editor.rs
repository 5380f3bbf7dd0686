//! The prompt of a terminal: editing, history, `?` and tab.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Context, Editor, Event, EventContext,
    EventHandler, Helper, KeyEvent, RepeatCount,
};

use spillway_control::manage::client;

use super::place::Place;
use super::{Session, help};

/// The place that tab asks about: the prompt's.
#[derive(Default)]
struct Words(Arc<Mutex<Place>>);

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = line.get(..pos).unwrap_or(line);
        let (begin, choices) = help::choices(&place, before);
        let typed = choices.into_iter().filter(|c| c.is_word);
        let pairs = typed.map(|c| Pair {
            replacement: format!("{} ", c.text),
            display: c.text,
        });
        Ok((begin, pairs.collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

/// `?` ends the line at once; where the cursor stood, it is taken up again behind the help.
struct Question(Arc<AtomicBool>, Arc<Mutex<usize>>);

impl ConditionalEventHandler for Question {
    fn handle(
        &self,
        _: &Event,
        _: RepeatCount,
        _: bool,
        context: &EventContext<'_>,
    ) -> Option<Cmd> {
        self.0.store(true, Ordering::Relaxed);
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = context.pos();
        Some(Cmd::AcceptLine)
    }
}

/// Control-Z ends the line and `configure terminal`.
struct Leave(Arc<AtomicBool>);

impl ConditionalEventHandler for Leave {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        self.0.store(true, Ordering::Relaxed);
        Some(Cmd::AcceptLine)
    }
}

/// Takes commands until `exit` or the end of input, and returns the exit code.
pub(super) fn run(session: &mut Session) -> rustyline::Result<u8> {
    let mut hostname = match session.hostname() {
        Ok(name) => name,
        Err(sentence) => {
            eprintln!("{sentence}");
            return Ok(client::NO_ANSWER);
        }
    };
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .build();
    let mut editor: Editor<Words, DefaultHistory> = Editor::with_config(config)?;
    let place = Arc::new(Mutex::new(Place::default()));
    editor.set_helper(Some(Words(Arc::clone(&place))));
    let (asked, left) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let cursor = Arc::new(Mutex::new(0));
    let question = Question(Arc::clone(&asked), Arc::clone(&cursor));
    editor.bind_sequence(
        KeyEvent::from('?'),
        EventHandler::Conditional(Box::new(question)),
    );
    editor.bind_sequence(
        KeyEvent::ctrl('z'),
        EventHandler::Conditional(Box::new(Leave(Arc::clone(&left)))),
    );
    // While an answer comes, control-C ends the answer and not the shell.
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))?;
    session.stop = Some(stop);
    let mut kept: Option<(String, String)> = None;
    while !session.over {
        hostname = session.hostname().unwrap_or(hostname);
        let height = editor.dimensions().map(|(_, rows)| rows);
        session.height = height.filter(|_| io::stdout().is_terminal());
        *place.lock().unwrap_or_else(PoisonError::into_inner) = session.place.clone();
        let prompt = format!("{hostname}{}", session.place.prompt());
        let read = match kept.take() {
            Some((left, right)) => editor.readline_with_initial(&prompt, (&left, &right)),
            None => editor.readline(&prompt),
        };
        let line = match read {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(0),
            Err(error) => return Err(error),
        };
        if asked.swap(false, Ordering::Relaxed) {
            let at = *cursor.lock().unwrap_or_else(PoisonError::into_inner);
            let (left, right) = line.split_at_checked(at).unwrap_or((&line, ""));
            print!("{}", help::text(&session.place, left));
            kept = Some((left.to_owned(), right.to_owned()));
            continue;
        }
        if left.swap(false, Ordering::Relaxed) {
            if session.place.mode.is_some() {
                session.line("end");
            }
            continue;
        }
        editor.add_history_entry(&line)?;
        session.line(&line);
    }
    Ok(0)
}
