//! Answers on their way to the terminal: filtered, and a page at a time.

use std::io::{self, Write};

use nix::sys::termios::{self, LocalFlags, SetArg};
use regex::Regex;

/// What stands behind `|`.
#[derive(Debug, Clone)]
pub(super) enum Filter {
    All,
    Include(Regex),
    Exclude(Regex),
    Begin(Regex),
    Count(Regex),
}

impl Filter {
    /// The words of the filters.
    pub(super) const WORDS: [(&'static str, &'static str); 5] = [
        ("begin", "From the first line that matches on"),
        ("count", "How many lines match"),
        ("exclude", "Lines that do not match"),
        ("include", "Lines that match"),
        ("json", "As JSON"),
    ];

    /// The command, and the filter behind it. JSON is the appliance's own.
    pub(super) fn of(line: &str) -> Result<(&str, Filter), String> {
        let Some((command, filter)) = line.split_once('|') else {
            return Ok((line, Filter::All));
        };
        let filter = filter.trim();
        let (word, text) = filter
            .split_once(char::is_whitespace)
            .unwrap_or((filter, ""));
        let text = text.trim();
        let known = |(name, _): &&(&str, _)| !word.is_empty() && name.starts_with(word);
        let name = Self::WORDS.iter().find(known).map(|(name, _)| *name);
        if name == Some("json") {
            return Ok((line, Filter::All));
        }
        let Some(name) = name else {
            return Err(format!(
                "% expected begin, count, exclude, include or json behind `|`, found `{word}`"
            ));
        };
        if text.is_empty() {
            return Err("% Incomplete command.".to_owned());
        }
        let matcher =
            Regex::new(text).map_err(|_| format!("% `{text}` is no regular expression"))?;
        let filter = match name {
            "count" => Filter::Count(matcher),
            "include" => Filter::Include(matcher),
            "exclude" => Filter::Exclude(matcher),
            _ => Filter::Begin(matcher),
        };
        Ok((command, filter))
    }
}

/// A writer that shows only what its filter lets through, and stops at full pages.
#[derive(Debug)]
pub(super) struct Page<W> {
    to: W,
    filter: Filter,
    lines: Option<u16>,
    shown: u16,
    counted: u64,
    rest: Vec<u8>,
}

impl<W: Write> Page<W> {
    /// To `to`; `lines` are those of a page, if there are pages.
    pub(super) fn new(to: W, filter: Filter, lines: Option<u16>) -> Page<W> {
        Page {
            to,
            filter,
            lines,
            shown: 0,
            counted: 0,
            rest: Vec::new(),
        }
    }

    /// Shows what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.line(&rest)?;
        }
        if let Filter::Count(_) = self.filter {
            writeln!(
                self.to,
                "Number of lines which match regexp = {}",
                self.counted
            )?;
        }
        self.to.flush()
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(line);
        let show = match &self.filter {
            Filter::All => true,
            Filter::Include(wanted) => wanted.is_match(&text),
            Filter::Exclude(unwanted) => !unwanted.is_match(&text),
            Filter::Begin(wanted) => wanted.is_match(&text),
            Filter::Count(wanted) => {
                self.counted += u64::from(wanted.is_match(&text));
                false
            }
        };
        if !show {
            return Ok(());
        }
        if let Filter::Begin(_) = self.filter {
            self.filter = Filter::All;
        }
        if self.lines.is_some_and(|lines| self.shown + 1 >= lines) {
            self.more()?;
        }
        self.shown = self.shown.saturating_add(1);
        self.to.write_all(line)?;
        self.to.write_all(b"\n")
    }

    /// Waits for a key: space for a page, return for a line, any other for the end.
    fn more(&mut self) -> io::Result<()> {
        self.to.write_all(b" --More-- ")?;
        self.to.flush()?;
        let key = key()?;
        self.to.write_all(b"\r          \r")?;
        match key {
            b' ' => self.shown = 0,
            b'\r' | b'\n' => self.shown = self.shown.saturating_sub(1),
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        Ok(())
    }
}

impl<W: Write> Write for Page<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(octets);
        let octets_to = |end| end + 1;
        let whole = self
            .rest
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, octets_to);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        for line in lines.split_inclusive(|b| *b == b'\n') {
            self.line(line.strip_suffix(b"\n").unwrap_or(line))?;
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// One key from the terminal, without waiting for return.
fn key() -> io::Result<u8> {
    let stdin = io::stdin();
    let before = termios::tcgetattr(&stdin)?;
    let mut raw = before.clone();
    // Control-C is a key like any other here: it ends the answer.
    raw.local_flags
        .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
    termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
    let mut key = [0];
    // Past the buffer of standard input, which would keep from the prompt what was typed ahead.
    let read = nix::unistd::read(&stdin, &mut key);
    termios::tcsetattr(&stdin, SetArg::TCSANOW, &before)?;
    match read? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(key[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(command: &str) -> String {
        let mut out = Vec::new();
        let (_, filter) = Filter::of(command).expect(command);
        let mut page = Page::new(&mut out, filter, None);
        for piece in ["one a\ntw", "o b\nthree a", "\nlast b"] {
            page.write_all(piece.as_bytes()).expect("taken");
        }
        page.finish().expect("finished");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn lines_are_filtered_across_pieces() {
        assert_eq!(filtered("x"), "one a\ntwo b\nthree a\nlast b\n");
        assert_eq!(filtered("x | include a"), "one a\nthree a\nlast b\n");
        assert_eq!(filtered("x | exc a"), "two b\n");
        assert_eq!(filtered("x | b two"), "two b\nthree a\nlast b\n");
        let count = filtered("x|count b");
        assert_eq!(count, "Number of lines which match regexp = 2\n");
        assert!(Filter::of("x | include").is_err());
        assert!(Filter::of("x | tac").is_err());
        assert!(Filter::of("x | include (").is_err());
        let json = Filter::of("x | json").expect("the appliance's own");
        assert_eq!(json.0, "x | json");
        assert_eq!(filtered("x | include ^one|^last"), "one a\nlast b\n");
    }
}
