//! The client's end of the management socket: one command, its answer to standard output.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::command::Format;
use super::socket::{Answered, Asked};

/// Exit code when there is no daemon to ask, or the answer breaks off.
pub const NO_ANSWER: u8 = 3;

/// Exit code when the operator stops an answer.
pub const STOPPED: u8 = 130;

/// How often a client that may be stopped looks up from waiting.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Runs `command` in the daemon behind `socket`. Its output goes to standard output as it comes,
/// errors to standard error. Returns the exit code: that of the command, or [`NO_ANSWER`].
#[must_use]
pub fn run(socket: &Path, command: &str, format: Format) -> u8 {
    run_with(
        socket,
        command,
        format,
        &mut io::stdout().lock(),
        &mut io::stderr().lock(),
    )
}

/// [`run`] with its two outputs named.
#[must_use]
pub fn run_with(
    socket: &Path,
    command: &str,
    format: Format,
    output: &mut impl Write,
    errors: &mut impl Write,
) -> u8 {
    run_until(socket, command, format, output, errors, None)
}

/// [`run_with`] that ends early, with [`STOPPED`], when `stop` is set.
#[must_use]
pub fn run_until(
    socket: &Path,
    command: &str,
    format: Format,
    output: &mut impl Write,
    errors: &mut impl Write,
    stop: Option<&AtomicBool>,
) -> u8 {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => {
            let _ = writeln!(errors, "{}", no_daemon(socket, &error));
            return NO_ANSWER;
        }
    };
    match exchange(stream, command, format, output, errors, stop) {
        Ok(code) => code,
        Err(Broken::Stopped) => STOPPED,
        Err(Broken::Reader) => 0, // `| head` has seen enough
        Err(Broken::Daemon(error)) => {
            let _ = writeln!(
                errors,
                "spillway: the answer from {} broke off: {error}",
                socket.display()
            );
            NO_ANSWER
        }
    }
}

fn no_daemon(socket: &Path, error: &io::Error) -> String {
    let path = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "spillway: no daemon answers on {path}; start one with `spillway run --config FILE`, or name its socket with --socket"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("spillway: no permission to use {path}; try as root")
        }
        _ => format!("spillway: {path} can't be reached: {error}"),
    }
}

enum Broken {
    /// Nobody reads our output any more.
    Reader,
    /// The operator has seen enough.
    Stopped,
    /// The daemon's side failed.
    Daemon(io::Error),
}

fn exchange(
    mut stream: UnixStream,
    command: &str,
    format: Format,
    output: &mut impl Write,
    errors: &mut impl Write,
    stop: Option<&AtomicBool>,
) -> Result<u8, Broken> {
    let asked = Asked {
        command: command.to_owned(),
        format,
    };
    let mut line = serde_json::to_vec(&asked).map_err(|e| Broken::Daemon(e.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(Broken::Daemon)?;
    let wait = stop.map(|_| LOOK_UP);
    stream.set_read_timeout(wait).map_err(Broken::Daemon)?;
    let mut reader = BufReader::new(stream);
    loop {
        next_line(&mut reader, &mut line, stop)?;
        match serde_json::from_slice(&line).map_err(|e| Broken::Daemon(e.into()))? {
            Answered::Piece { out } => output
                .write_all(out.as_bytes())
                .map_err(|_| Broken::Reader)?,
            Answered::End { exit, error } => {
                output.flush().map_err(|_| Broken::Reader)?;
                if let Some(error) = error {
                    let _ = writeln!(errors, "{error}");
                }
                return Ok(exit);
            }
        }
    }
}

/// Reads the next line of the answer into `line`.
fn next_line(
    reader: &mut BufReader<UnixStream>,
    line: &mut Vec<u8>,
    stop: Option<&AtomicBool>,
) -> Result<(), Broken> {
    line.clear();
    loop {
        if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(Broken::Stopped);
        }
        match reader.read_until(b'\n', line) {
            Ok(_) if line.ends_with(b"\n") => return Ok(()),
            Ok(_) => return Err(Broken::Daemon(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => match error.kind() {
                // What was read before stays in `line`.
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {}
                _ => return Err(Broken::Daemon(error)),
            },
        }
    }
}
