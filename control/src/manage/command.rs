//! Running one command line.

use std::io;

use serde::Serialize;

use super::appliance::Appliance;
use super::arguments::{Selection, has};
use super::ask::{self, AskError};
use super::output::{Output, Sink};
use super::show;
use super::words::{self, Invocation, Role, SyntaxError, Value, Verb};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As routers print it.
    #[default]
    Text,
    /// JSON, documented in `docs/json.md`.
    Json,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitStatus {
    /// 0: done. 1: it could not be done. 2: the command was not understood.
    pub code: u8,
    /// Why not, for people.
    pub error: Option<String>,
}

impl ExitStatus {
    /// The command was done.
    pub const DONE: ExitStatus = ExitStatus {
        code: 0,
        error: None,
    };

    /// The command could not be done.
    #[must_use]
    pub fn failed(error: impl Into<String>) -> ExitStatus {
        ExitStatus {
            code: 1,
            error: Some(error.into()),
        }
    }

    fn misunderstood(error: &SyntaxError, line: &str) -> ExitStatus {
        ExitStatus {
            code: 2,
            error: Some(error.render(line)),
        }
    }
}

/// Why a command stopped half-way.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The reader is gone.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// A worker could not be asked.
    #[error("% {0}")]
    Ask(#[from] AskError),
}

#[derive(Serialize)]
struct Cleared {
    cleared: u64,
}

/// Runs one command line and writes its answer to `sink` in pieces. Words may be shortened; a
/// line may end in `| json`.
///
/// # Errors
/// Only those of the sink: the reader is gone. What is wrong with the command or the appliance is
/// in the [`ExitStatus`].
pub async fn execute<S: Sink>(
    appliance: &Appliance,
    line: &str,
    format: Format,
    sink: &mut S,
) -> io::Result<ExitStatus> {
    let (command, format) = match line.rsplit_once('|') {
        Some((command, filter)) if filter.trim() == "json" => (command, Format::Json),
        _ => (line, format),
    };
    let invocation = match words::parse(command) {
        Ok(invocation) => invocation,
        Err(error) => return Ok(ExitStatus::misunderstood(&error, line)),
    };
    let mut out = Output::new(sink);
    let result = run(appliance, &invocation, line, format, &mut out).await;
    // What was written before a worker failed is still shown.
    out.flush().await?;
    match result {
        Ok(status) => Ok(status),
        Err(Failure::Output(gone)) => Err(gone),
        Err(failure @ Failure::Ask(_)) => Ok(ExitStatus::failed(failure.to_string())),
    }
}

async fn run<S: Sink>(
    appliance: &Appliance,
    invocation: &Invocation,
    line: &str,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<ExitStatus, Failure> {
    match invocation.verb {
        Verb::ShowTranslations => {
            let filter = Selection::new(invocation).filter;
            let verbose = has(invocation, Role::Verbose);
            show::translations(appliance, filter, verbose, format, out).await?;
        }
        Verb::ShowStatistics => show::statistics(appliance, format, out).await?,
        Verb::ShowInterfaces => {
            return show_interfaces(appliance, invocation, line, format, out).await;
        }
        Verb::ShowRoutes => show::routes(appliance, format, out).await?,
        Verb::ShowArp => show::arp(appliance, format, out).await?,
        Verb::ShowVersion => show::version(appliance, format, out).await?,
        Verb::ClearTranslations => return clear(appliance, invocation, format, out).await,
        Verb::ClearStatistics => {
            appliance.clear_statistics();
            if format == Format::Json {
                out.line("{}");
            }
        }
        Verb::Reload => return reload(appliance, format, out).await,
    }
    Ok(ExitStatus::DONE)
}

async fn show_interfaces<S: Sink>(
    appliance: &Appliance,
    invocation: &Invocation,
    line: &str,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<ExitStatus, Failure> {
    let name = invocation
        .arguments
        .iter()
        .find_map(|(_, value)| match value {
            Value::Name(name) => Some(name.as_str()),
            _ => None,
        });
    Ok(
        match show::interfaces(appliance, name, format, out).await? {
            Ok(()) => ExitStatus::DONE,
            Err(show::NoSuchInterface) => {
                let at = invocation.positions.first().copied().unwrap_or(0);
                ExitStatus::misunderstood(&SyntaxError::Invalid(at), line)
            }
        },
    )
}

async fn clear<S: Sink>(
    appliance: &Appliance,
    invocation: &Invocation,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<ExitStatus, Failure> {
    let selection = Selection::new(invocation);
    let cleared = if selection.is_empty() {
        0
    } else {
        ask::clear(appliance, selection.filter).await?
    };
    if format == Format::Json {
        out.line(serde_json::to_string(&Cleared { cleared }).map_err(io::Error::other)?);
    }
    // `*` is content with an empty table; a named entry has to be there.
    let named = selection != Selection::default();
    Ok(if named && cleared == 0 {
        ExitStatus::failed("% Translation not found")
    } else {
        ExitStatus::DONE
    })
}

async fn reload<S: Sink>(
    appliance: &Appliance,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<ExitStatus, Failure> {
    let report = match (appliance.parts.reloader)().await {
        Ok(report) => report,
        Err(errors) => return Ok(ExitStatus::failed(errors.join("\n"))),
    };
    if format == Format::Json {
        out.line(serde_json::to_string(&report).map_err(io::Error::other)?);
        return Ok(ExitStatus::DONE);
    }
    for warning in &report.warnings {
        out.line(warning);
    }
    out.line(format!(
        "{} is in force; {} entries withdrawn",
        report.file, report.withdrawn
    ));
    Ok(ExitStatus::DONE)
}
