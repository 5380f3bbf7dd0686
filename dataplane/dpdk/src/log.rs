//! DPDK's log lines become `tracing` events of the target `dpdk`, at the level that DPDK gave them.
//!
//! While a call that may fail runs, the lines of its thread are held back: if it fails, they go
//! into its error (and only to the debug log), so that the user reads one sentence, not five.

use spillway_dpdk_sys as sys;
use std::cell::RefCell;
use std::ffi::c_char;

/// Longest log line kept; what is beyond is cut.
const LINE_OCTETS: usize = 1024;
/// Most lines held back during one call; further ones are logged at once.
const LINES_HELD: usize = 32;

/// DPDK's severities that matter here (rte_log.h): at or below is at least that severe.
const SEVERITY_ERROR: u32 = 4;
const SEVERITY_WARNING: u32 = 5;
const SEVERITY_INFO: u32 = 7;

#[derive(Default)]
struct Lines {
    /// The line that has no end yet.
    partial: Vec<u8>,
    /// Whether a [`held`] call runs.
    holding: bool,
    held: Vec<(u32, String)>,
}

thread_local! {
    static LINES: RefCell<Lines> = RefCell::default();
}

/// Sends DPDK's log here from now on.
pub(crate) fn open() -> i32 {
    // SAFETY: `write` is a function of the type the shim expects and lives as long as the process.
    unsafe { sys::spw_log_open(Some(write)) }
}

/// Takes what DPDK wrote to its log, which may be several lines or part of one.
///
/// # Safety
/// `text` points to `octets` readable octets.
unsafe extern "C" fn write(severity: u32, text: *const c_char, octets: usize) {
    // SAFETY: the shim passes the buffer of the stream that it was called for.
    let text = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), octets) };
    let mut whole = Vec::new();
    // Neither a thread at its end nor a line logged while logging may end the process.
    let _ = LINES.try_with(|lines| {
        if let Ok(mut lines) = lines.try_borrow_mut() {
            whole = lines.take(severity, text);
        }
    });
    for line in whole {
        emit(severity, &line);
    }
}

impl Lines {
    /// Adds octets and gives back the lines that are to be logged now.
    fn take(&mut self, severity: u32, text: &[u8]) -> Vec<String> {
        let mut now = Vec::new();
        for &octet in text {
            if octet != b'\n' {
                if self.partial.len() < LINE_OCTETS {
                    self.partial.push(octet);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.partial).trim().to_owned();
            self.partial.clear();
            if line.is_empty() {
                continue;
            }
            if self.holding && self.held.len() < LINES_HELD {
                self.held.push((severity, line));
            } else {
                now.push(line);
            }
        }
        now
    }
}

fn emit(severity: u32, line: &str) {
    match severity {
        0..=SEVERITY_ERROR => tracing::error!(target: "dpdk", "{line}"),
        SEVERITY_WARNING => tracing::warn!(target: "dpdk", "{line}"),
        6..=SEVERITY_INFO => tracing::info!(target: "dpdk", "{line}"),
        _ => tracing::debug!(target: "dpdk", "{line}"),
    }
}

/// Runs `call` with this thread's log lines held back. Where it fails (a negative number), what
/// DPDK said of it comes back as one line, empty if it said nothing.
pub(crate) fn held(call: impl FnOnce() -> i32) -> Result<i32, (i32, String)> {
    LINES.with_borrow_mut(|lines| lines.holding = true);
    let code = call();
    let held = LINES.with_borrow_mut(|lines| {
        lines.holding = false;
        std::mem::take(&mut lines.held)
    });
    if code >= 0 {
        for (severity, line) in held {
            emit(severity, &line);
        }
        return Ok(code);
    }
    for (_, line) in &held {
        tracing::debug!(target: "dpdk", "{line}");
    }
    Err((code, summary(&held)))
}

/// What EAL adds to every device that it could not attach.
const SAYS_NOTHING: &str = "Failed to attach device on primary process";
/// What EAL adds too, and what is all there is if the driver is silent.
const SAYS_LITTLE: &str = "Driver cannot attach the device";

/// The first errors of a call in one line: the cause comes first, its consequences after it.
fn summary(held: &[(u32, String)]) -> String {
    let mut errors: Vec<&str> = held
        .iter()
        .filter(|(severity, _)| *severity <= SEVERITY_WARNING)
        .map(|(_, line)| line.as_str())
        .filter(|line| !line.contains(SAYS_NOTHING))
        .take(2)
        .collect();
    if errors.len() > 1 {
        errors.retain(|line| !line.contains(SAYS_LITTLE));
    }
    errors.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines_and_are_held_while_a_call_runs() {
        let mut lines = Lines::default();
        assert!(lines.take(4, b"EAL: one ").is_empty());
        assert_eq!(
            lines.take(4, b"line\n\nEAL: two\nEAL"),
            ["EAL: one line", "EAL: two"]
        );
        lines.holding = true;
        assert!(lines.take(4, b": three\n").is_empty());
        assert_eq!(lines.held, [(4, "EAL: three".to_owned())]);
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut lines = Lines::default();
        for _ in 0..10 {
            assert!(lines.take(4, &[b'x'; 1000]).is_empty());
        }
        assert_eq!(lines.take(4, b"\n"), ["x".repeat(LINE_OCTETS)]);
    }

    #[test]
    fn the_summary_leaves_out_what_is_no_error() {
        let held = [
            (7, "info".to_owned()),
            (4, "bad".to_owned()),
            (5, "so so".to_owned()),
        ];
        assert_eq!(summary(&held), "bad; so so");
    }
}
