//! `spillway check`: whether a configuration is good.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use spillway_control::config::{self, Config, Diagnostic};

use crate::cli::Check;

/// Exit code for a configuration that is refused.
pub(crate) const BAD_CONFIGURATION: u8 = 2;

/// Why a configuration is refused.
pub(crate) enum Refused {
    /// It can't be read; one sentence.
    Unreadable(String),
    /// What is wrong in it, all of it.
    Wrong(Vec<Diagnostic>),
}

impl Refused {
    /// One text for each thing that is wrong.
    pub(crate) fn texts(&self) -> Vec<String> {
        match self {
            Refused::Unreadable(sentence) => vec![sentence.clone()],
            Refused::Wrong(diagnostics) => diagnostics.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The files that a configuration is in.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The router's configuration.
    pub(crate) config: PathBuf,
    /// The `port` lines of its interfaces, where they are apart.
    pub(crate) ports: Option<PathBuf>,
}

/// Reads and checks a configuration.
pub(crate) fn load(files: &Files) -> Result<(Config, Vec<Diagnostic>), Refused> {
    let (name, text) = read(&files.config)?;
    let Some(ports) = &files.ports else {
        return config::parse(&name, &text).map_err(Refused::Wrong);
    };
    let (ports_name, ports) = read(ports)?;
    config::parse_both((&name, &text), (&ports_name, &ports)).map_err(Refused::Wrong)
}

/// A file's name and text.
fn read(file: &Path) -> Result<(String, String), Refused> {
    let name = file.display().to_string();
    let octets = std::fs::read(file)
        .map_err(|error| Refused::Unreadable(format!("{name} can't be read: {error}")))?;
    let text = String::from_utf8(octets).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Refused::Unreadable(format!("{name} is no text: octet {at} is not UTF-8"))
    })?;
    Ok((name, text))
}

/// Runs the command. Exit codes: 0 good, 2 refused.
pub(crate) fn check(options: &Check) -> ExitCode {
    let loaded = load(&Files {
        config: options.file.clone(),
        ports: options.ports.clone(),
    });
    if options.json {
        let answer = match &loaded {
            Ok((_, warnings)) => json!({"good": true, "diagnostics": warnings}),
            Err(Refused::Unreadable(sentence)) => {
                json!({"good": false, "error": sentence, "diagnostics": []})
            }
            Err(Refused::Wrong(errors)) => json!({"good": false, "diagnostics": errors}),
        };
        println!("{answer}");
    }
    match loaded {
        Ok((_, warnings)) => {
            if !options.json {
                for warning in &warnings {
                    eprintln!("{warning}");
                }
                println!(
                    "{}: good, {} warnings",
                    options.file.display(),
                    warnings.len()
                );
            }
            ExitCode::SUCCESS
        }
        Err(refused) => {
            if !options.json {
                for text in refused.texts() {
                    eprintln!("{text}");
                }
            }
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}
