//! What `show` tells of the running configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use spillway_dataplane::acl::Action;

use super::json;
use crate::config::display::EntryText;
use crate::config::model::{Address, Config, Interface, ListKind, ListName};
use crate::manage::appliance::Appliance;
use crate::manage::command::{ExitStatus, Failure, Format};
use crate::manage::output::{Output, Sink};

/// `show running-config`.
pub(in crate::manage) async fn running<S: Sink>(
    appliance: &Appliance,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let text = appliance.parts.description.policy().config.to_string();
    write(&text, format, out).await
}

/// `show startup-config`: what the next start runs with, as `show running-config` would show it.
pub(in crate::manage) async fn startup<S: Sink>(
    appliance: &Appliance,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<ExitStatus, Failure> {
    match saved(appliance).await {
        Ok(config) => write(&config.to_string(), format, out).await?,
        Err(why) => return Ok(ExitStatus::failed(why)),
    }
    Ok(ExitStatus::DONE)
}

/// The saved configuration. A disk may be slow, so another thread reads it.
async fn saved(appliance: &Appliance) -> Result<Config, String> {
    let load = Arc::clone(&appliance.parts.saved.load);
    let loaded = tokio::task::spawn_blocking(move || load()).await;
    let loaded = loaded.map_err(|error| error.to_string())?;
    loaded.map_err(|errors| errors.join("\n"))
}

async fn write<S: Sink>(
    text: &str,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    if format == Format::Json {
        out.line(json(&serde_json::json!({ "configuration": text }))?);
        return Ok(());
    }
    for line in text.lines() {
        out.line(line);
        out.flush_piece().await?;
    }
    Ok(())
}

/// How long the shortest difference is looked for: of two long configurations that have little in
/// common it would take for ever. After that, one that is right but longer is told.
const DIFFERENCE_WITHIN: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Entry {
    sequence: u32,
    action: &'static str,
    text: String,
    matches: u64,
}

/// `show access-lists [N|NAME]`: an unknown list is an empty answer, as on routers.
pub(in crate::manage) async fn access_lists<S: Sink>(
    appliance: &Appliance,
    only: Option<&str>,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let policy = appliance.parts.description.policy();
    let wanted = |name: &ListName| only.is_none_or(|only| name.to_string() == only);
    if format == Format::Json {
        out.text().push_str("{\"access_lists\":[");
    }
    let mut first = true;
    for (name, list) in policy.config.access_lists.iter().filter(|(n, _)| wanted(n)) {
        let live = policy.access_lists.get(name);
        let entries = list.entries().enumerate();
        let entries = entries.map(|(at, entry)| (entry, live.map_or(0, |l| l.hits(at))));
        if format == Format::Json {
            let comma = if first { "" } else { "," };
            let (name, kind_name) = (json(&name.to_string())?, kind(list.kind).0);
            let start = format!("{comma}{{\"name\":{name},\"kind\":\"{kind_name}\",\"entries\":[");
            out.text().push_str(&start);
            first = false;
            for (at, (entry, matches)) in entries.enumerate() {
                let entry = Entry {
                    sequence: entry.sequence,
                    action: match entry.action {
                        Action::Permit => "permit",
                        Action::Deny => "deny",
                    },
                    text: EntryText(entry, list.kind).to_string(),
                    matches,
                };
                let comma = if at == 0 { "" } else { "," };
                let entry = json(&entry)?;
                out.text().push_str(&format!("{comma}{entry}"));
                out.flush_piece().await?;
            }
            out.text().push_str("]}");
            continue;
        }
        out.line(format!("{} IP access list {name}", kind(list.kind).1));
        for (entry, matches) in entries {
            let text = match list.kind {
                ListKind::Standard => standard(entry),
                ListKind::Extended => EntryText(entry, list.kind).to_string(),
            };
            let hits = match matches {
                0 => String::new(),
                1 => " (1 match)".to_owned(),
                n => format!(" ({n} matches)"),
            };
            out.line(format!("    {} {text}{hits}", entry.sequence));
            out.flush_piece().await?;
        }
    }
    if format == Format::Json {
        out.line("]}");
    }
    Ok(())
}

fn kind(kind: ListKind) -> (&'static str, &'static str) {
    match kind {
        ListKind::Standard => ("standard", "Standard"),
        ListKind::Extended => ("extended", "Extended"),
    }
}

/// `permit 10.1.0.0, wildcard bits 0.0.0.255`: standard lists have words of their own here.
fn standard(entry: &spillway_dataplane::acl::Entry) -> String {
    let text = EntryText(entry, ListKind::Standard).to_string();
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        [action, address, wildcard, ref rest @ ..] if wildcard.contains('.') => {
            let rest: String = rest.iter().map(|word| format!(" {word}")).collect();
            format!("{action} {address}, wildcard bits {wildcard}{rest}")
        }
        _ => text,
    }
}

#[derive(Serialize)]
struct Brief {
    name: String,
    address: Option<String>,
    method: &'static str,
    status: &'static str,
    protocol: &'static str,
}

/// `show ip interface brief`.
pub(in crate::manage) async fn brief<S: Sink>(
    appliance: &Appliance,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let policy = appliance.parts.description.policy();
    let snapshot = appliance.snapshot();
    let of = |interface: &Interface| {
        let all = &snapshot.interfaces;
        let at = (all.iter()).position(|i| i.name.eq_ignore_ascii_case(&interface.name));
        let live = at.and_then(|at| all.get(at));
        let up = live.is_some_and(|i| i.up);
        let address = live.and_then(|i| i.address).or(interface.fixed());
        Brief {
            name: interface.name.clone(),
            address: address.map(|net| net.addr().to_string()),
            method: match interface.address {
                Some(Address::Fixed(_)) => "manual",
                Some(Address::Dhcp) => "DHCP",
                Some(Address::Negotiated) => "IPCP",
                None => "unset",
            },
            status: match (interface.shutdown, up) {
                (true, _) => "administratively down",
                (false, true) => "up",
                (false, false) => "down",
            },
            protocol: if up && !interface.shutdown {
                "up"
            } else {
                "down"
            },
        }
    };
    let interfaces: Vec<Brief> = policy.config.interfaces.iter().map(of).collect();
    if format == Format::Json {
        let answer = BTreeMap::from([("interfaces", interfaces)]);
        out.line(json(&answer)?);
        return Ok(());
    }
    out.line("Interface              IP-Address      OK? Method Status                Protocol");
    for line in interfaces {
        let address = line.address.as_deref().unwrap_or("unassigned");
        let (name, method, status, protocol) = (line.name, line.method, line.status, line.protocol);
        out.line(format!(
            "{name:<22} {address:<15} YES {method:<6} {status:<21} {protocol}"
        ));
    }
    Ok(())
}

#[derive(Serialize)]
struct Clause {
    name: String,
    action: &'static str,
    sequence: u16,
    matches: Vec<String>,
}

/// `show route-map`.
pub(in crate::manage) async fn route_maps<S: Sink>(
    appliance: &Appliance,
    only: Option<&str>,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let policy = appliance.parts.description.policy();
    let maps = policy.config.route_maps.iter();
    let wanted = maps.filter(|(name, _)| only.is_none_or(|only| only == name.as_str()));
    let mut clauses = Vec::new();
    for (name, map) in wanted {
        clauses.extend(map.iter().map(|(sequence, clause)| Clause {
            name: name.clone(),
            action: match clause.action {
                Action::Permit => "permit",
                Action::Deny => "deny",
            },
            sequence: *sequence,
            matches: clause.matches(),
        }));
    }
    if format == Format::Json {
        out.line(json(&BTreeMap::from([("route_maps", clauses)]))?);
        return Ok(());
    }
    for clause in clauses {
        let Clause {
            name,
            action,
            sequence,
            matches,
        } = clause;
        out.line(format!("route-map {name}, {action}, sequence {sequence}"));
        out.line("  Match clauses:");
        for line in matches {
            let line = match line.strip_prefix("ip address ") {
                Some(lists) => format!("ip address (access-lists): {lists}"),
                None => line.replacen("ip next-hop ", "ip next-hop (access-lists): ", 1),
            };
            out.line(format!("    {line} "));
        }
        out.line("  Set clauses:");
        // Packets are not routed by policy, so these are always so.
        out.line("  Policy routing matches: 0 packets, 0 bytes");
        out.flush_piece().await?;
    }
    Ok(())
}

/// `show config diff`: what the file would change, and what it lacks.
pub(in crate::manage) async fn difference<S: Sink>(
    appliance: &Appliance,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<ExitStatus, Failure> {
    let name = appliance.parts.saved.file.display().to_string();
    let policy = appliance.parts.description.policy();
    let saved = match saved(appliance).await {
        Ok(saved) => saved,
        Err(why) => return Ok(ExitStatus::failed(why)),
    };
    let called = name.clone();
    let compare = move || {
        let (saved, running) = (saved.to_string(), policy.config.to_string());
        similar::TextDiff::configure()
            .timeout(DIFFERENCE_WITHIN)
            .diff_lines(&saved, &running)
            .unified_diff()
            .header(&called, "running")
            .to_string()
    };
    let compared = tokio::task::spawn_blocking(compare).await;
    let difference = match compared {
        Ok(difference) => difference,
        Err(error) => return Ok(ExitStatus::failed(error.to_string())),
    };
    if format == Format::Json {
        let same = difference.is_empty();
        let answer = serde_json::json!({ "file": name, "same": same, "difference": difference });
        out.line(json(&answer)?);
        return Ok(ExitStatus::DONE);
    }
    for line in difference.lines() {
        out.line(line);
        out.flush_piece().await?;
    }
    Ok(ExitStatus::DONE)
}
