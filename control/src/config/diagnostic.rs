//! Errors and warnings that name the place and what was expected there.

use std::fmt;

use serde::Serialize;

/// How bad a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration loads.
    Warning,
}

/// An error or a warning about a place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file's name as it was given.
    pub file: String,
    /// Line, from 1; 0 where it is about no line.
    pub line: u32,
    /// Column of the first character meant, from 1; 0 where it is about no line.
    pub column: u32,
    /// How many characters are meant, at least 1.
    pub width: u32,
    /// The line itself, with control characters other than tabs replaced.
    pub line_text: String,
    /// What is wrong.
    pub message: String,
    /// What may stand there instead; empty where that is no question of words.
    pub expected: Vec<String>,
}

impl Diagnostic {
    /// Most diagnostics of one kind that a file gets.
    pub const MOST: usize = 1000;
    /// Most expectations that are printed.
    const MOST_EXPECTED: usize = 8;

    /// What is wrong and what was expected, without the place.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!("{}{}", self.expectation(), self.message)
    }

    fn expectation(&self) -> String {
        let shown = &self.expected[..self.expected.len().min(Self::MOST_EXPECTED)];
        match shown {
            [] => String::new(),
            [only] => format!("expected {only}, "),
            [first @ .., _] if shown.len() < self.expected.len() => {
                format!("expected one of {}, ..., ", first.join(", "))
            }
            [first @ .., last] => format!("expected {} or {last}, ", first.join(", ")),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        let what = format!("{kind}{}", self.sentence());
        if self.line == 0 {
            return write!(f, "{}: {what}", self.file);
        }
        writeln!(f, "{}:{}:{}: {what}", self.file, self.line, self.column)?;
        let number = self.line.to_string();
        writeln!(f, " {number} | {}", self.line_text)?;
        // Tabs stay tabs, so that the caret stands below its word.
        let before = self.column.saturating_sub(1) as usize;
        let indent: String = self
            .line_text
            .chars()
            .take(before)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let missing = before.saturating_sub(indent.chars().count());
        write!(
            f,
            " {:width$} | {indent}{:missing$}{}",
            "",
            "",
            "^".repeat(self.width.max(1) as usize),
            width = number.len(),
        )
    }
}

impl std::error::Error for Diagnostic {}
