//! Running one command line.

use std::io;
use std::path::PathBuf;

use serde::Serialize;
use spillway_dataplane::command::{Query, SessionFilter};
use spillway_dataplane::journal::Topic;
use spillway_dataplane::snapshot::VrfId;

use super::appliance::{Appliance, Change};
use super::arguments::{filter, has};
use super::ask::{self, AskError, SessionStream};
use super::output::{Output, Sink};
use super::ping;
use super::show;
use super::vrf;
use super::words::{self, Invocation, Role, SyntaxError, Value, Verb};
use super::{debug, explain};

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

/// With lines of configuration below it, this is one change of all these lines.
pub const TERMINAL: &str = "configure terminal";

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
    if let Some((TERMINAL, lines)) = line.split_once('\n') {
        let mut out = Output::new(sink);
        let changed = (appliance.parts.reloader)(Change::Amend(lines.to_owned())).await;
        let status = match changed {
            Ok(report) => {
                report.warnings.iter().for_each(|text| out.line(text));
                if report.withdrawn > 0 {
                    out.line(format!("% {} entries withdrawn", report.withdrawn));
                }
                ExitStatus::DONE
            }
            Err(errors) => ExitStatus {
                code: 2,
                error: Some(errors.join("\n")),
            },
        };
        out.flush().await?;
        return Ok(status);
    }
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
    let vrf = match vrf::named(appliance, invocation) {
        Ok(vrf) => vrf,
        Err(unknown) => return Ok(unknown),
    };
    match invocation.verb {
        Verb::ShowTranslations => {
            let filter = SessionFilter {
                vrf,
                ..filter(invocation)
            };
            let verbose = has(invocation, Role::Verbose);
            show::translations(appliance, filter, verbose, format, out).await?;
        }
        Verb::ShowStatistics => show::statistics(appliance, format, out).await?,
        Verb::ShowInterfaces => {
            return show_interfaces(appliance, invocation, line, format, out).await;
        }
        Verb::ShowRoutes => show::routes(appliance, vrf.unwrap_or_default(), format, out).await?,
        Verb::ShowVrfs => show::vrfs(appliance, vrf, format, out).await?,
        Verb::ShowArp => show::arp(appliance, format, out).await?,
        Verb::ShowVersion => show::version(appliance, format, out).await?,
        Verb::ClearTranslations => return clear(appliance, invocation, format, out).await,
        Verb::ClearStatistics => {
            appliance.clear_statistics();
            if format == Format::Json {
                out.line("{}");
            }
        }
        Verb::Debug => return debug(appliance, invocation, line, format, out).await,
        Verb::DebugOff => {
            debug::stop_all(appliance);
            if format == Format::Text {
                out.line("All possible debugging has been turned off");
            } else {
                out.line("{}");
            }
        }
        Verb::ExplainEsp | Verb::ExplainFlow => {
            if let Some(query) = query(invocation, vrf.unwrap_or_default()) {
                explain::explain(appliance, query, format, out).await?;
            }
        }
        Verb::Reload => return change(appliance, Change::Reload, format, out).await,
        Verb::ShowRunning => show::running(appliance, format, out).await?,
        Verb::ShowStartup => return show::startup(appliance, format, out).await,
        Verb::Ping => {
            let vrf = vrf.unwrap_or_default();
            return ping::ping(appliance, invocation, vrf, format, out).await;
        }
        Verb::ShowAccessLists => {
            show::access_lists(appliance, named(invocation), format, out).await?;
        }
        Verb::ShowBrief => show::brief(appliance, format, out).await?,
        Verb::ShowRouteMaps => show::route_maps(appliance, named(invocation), format, out).await?,
        Verb::ShowDiff => return show::difference(appliance, format, out).await,
        Verb::Replace => {
            let file = PathBuf::from(named(invocation).unwrap_or_default());
            if file.is_relative() {
                return Ok(ExitStatus::failed("% name the file from the root: /..."));
            }
            return change(appliance, Change::Replace(file), format, out).await;
        }
        Verb::Confirmed => {
            let minutes = number(invocation).unwrap_or(0);
            if minutes == 0 {
                return Ok(ExitStatus::failed("% expected at least one minute"));
            }
            return change(appliance, Change::Confirmed(minutes), format, out).await;
        }
        Verb::Confirm => return change(appliance, Change::Confirm, format, out).await,
        Verb::Write => return change(appliance, Change::Write, format, out).await,
        // What these mean is up to the shell.
        Verb::Configure
        | Verb::TerminalLength
        | Verb::TerminalWidth
        | Verb::Enable
        | Verb::Disable
        | Verb::Exit => {}
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

async fn debug<S: Sink>(
    appliance: &Appliance,
    invocation: &Invocation,
    line: &str,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<ExitStatus, Failure> {
    let only = match named(invocation) {
        None => None,
        Some(name) => {
            let policy = appliance.parts.description.policy();
            let list = policy
                .access_lists
                .iter()
                .find(|(known, _)| known.to_string().eq_ignore_ascii_case(name));
            let Some((_, list)) = list else {
                let at = invocation.positions.last().copied().unwrap_or(0);
                return Ok(ExitStatus::misunderstood(&SyntaxError::Invalid(at), line));
            };
            Some(std::sync::Arc::clone(list))
        }
    };
    let wanted = debug::Wanted {
        topic: if has(invocation, Role::Ipsec) {
            Topic::Ipsec
        } else {
            Topic::Packets
        },
        detailed: has(invocation, Role::Detailed),
        only,
    };
    debug::stream(appliance, &wanted, format, out).await?;
    Ok(ExitStatus::DONE)
}

/// What `explain` asks.
fn query(invocation: &Invocation, vrf: VrfId) -> Option<Query> {
    let argument = |wanted: Role| {
        let mut all = invocation.arguments.iter();
        all.find(|(role, _)| *role == wanted)
            .map(|(_, value)| value)
    };
    if let (Some(Value::Address(peer)), Some(Value::Spi(spi))) =
        (argument(Role::Peer), argument(Role::Spi))
    {
        return Some(Query::Esp {
            peer: *peer,
            spi: *spi,
        });
    }
    let protocol = invocation
        .arguments
        .iter()
        .find_map(|(role, _)| match role {
            Role::Protocol(protocol) => Some(*protocol),
            _ => None,
        })?;
    let end = |role| match argument(role)? {
        Value::Endpoint(address, port) => Some((*address, *port)),
        _ => None,
    };
    let (source, destination) = (end(Role::Source)?, end(Role::Destination)?);
    let flow = explain::flow(protocol, vrf, source, destination);
    Some(Query::Flow(flow))
}

/// The name in the command, if there is one.
fn named(invocation: &Invocation) -> Option<&str> {
    let mut arguments = invocation.arguments.iter();
    arguments.find_map(|(role, value)| match (role, value) {
        (Role::Named, Value::Name(name)) => Some(name.as_str()),
        _ => None,
    })
}

/// The number in the command.
pub(super) fn number(invocation: &Invocation) -> Option<u16> {
    let mut arguments = invocation.arguments.iter();
    arguments.find_map(|(role, value)| match (role, value) {
        (Role::Number, Value::Port(number)) => Some(*number),
        _ => None,
    })
}

async fn clear<S: Sink>(
    appliance: &Appliance,
    invocation: &Invocation,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<ExitStatus, Failure> {
    let filter = filter(invocation);
    let cleared = ask::clear(appliance, filter).await?;
    if format == Format::Json {
        out.line(serde_json::to_string(&Cleared { cleared }).map_err(io::Error::other)?);
    }
    // `*` is content with an empty table; a named entry has to be there.
    let named = filter != SessionFilter::default();
    if !named || cleared > 0 {
        return Ok(ExitStatus::DONE);
    }
    let may_be_mapping = filter.names_endpoint() && !filter.forced;
    let is_there = may_be_mapping
        && SessionStream::new(appliance, filter)
            .next()
            .await?
            .is_some();
    Ok(ExitStatus::failed(if is_there {
        "% Translation has entries below it: clear these, or say `forced`"
    } else {
        "% Translation not found"
    }))
}

async fn change<S: Sink>(
    appliance: &Appliance,
    change: Change,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<ExitStatus, Failure> {
    let report = match (appliance.parts.reloader)(change.clone()).await {
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
    let (file, withdrawn, kept) = (&report.file, report.withdrawn, report.kept);
    out.line(match change {
        Change::Write => format!("{file} is written"),
        Change::Confirm => "confirmed: the running configuration stays".to_owned(),
        Change::Confirmed(minutes) => {
            format!("{minutes} minutes to `configure confirm`, or all changes from now on go")
        }
        _ => format!("{file} is in force; {withdrawn} entries withdrawn, {kept} kept"),
    });
    Ok(ExitStatus::DONE)
}
