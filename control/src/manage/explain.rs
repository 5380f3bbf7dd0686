//! `explain`: a dry run on the live tables, in words and as JSON.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde::Serialize;
use spillway_dataplane::command::{
    Because, Ending, EspExplanation, Explained, FlowExplanation, FlowQuery, Query,
};
use spillway_dataplane::esp::{Candidates, Fate, Method};
use spillway_dataplane::session::Key;
use spillway_dataplane::snapshot::{InsideHost, PortId, Side, Snapshot, VrfId};
use spillway_dataplane::stats::DropReason;

use super::appliance::Appliance;
use super::ask;
use super::command::{Failure, Format};
use super::output::{Output, Sink};
use super::translation::{Translation, protocol_name};
use super::vrf::VrfNames;

/// Ports of the packet that is explained where the command names none.
const ANY_PORT: u16 = 49_152;

/// The packet in a command; ports that were not named are made up.
pub(super) fn flow(
    protocol: u8,
    vrf: VrfId,
    source: (Ipv4Addr, Option<u16>),
    destination: (Ipv4Addr, Option<u16>),
) -> FlowQuery {
    let source = (source.0, source.1.unwrap_or(ANY_PORT));
    let destination_port = if protocol == 1 {
        source.1 // the identifier is one
    } else {
        destination.1.unwrap_or(ANY_PORT)
    };
    FlowQuery {
        vrf,
        protocol,
        source,
        destination: (destination.0, destination_port),
    }
}

/// The answer to `explain`.
#[derive(Debug, Serialize)]
struct Answer {
    packet: String,
    answers: Vec<One>,
}

/// One way that the packet could go.
#[derive(Debug, Serialize)]
struct One {
    worker: u8,
    /// Sentences, in the order in which things are decided.
    steps: Vec<String>,
    verdict: &'static str,
    /// Of `dropped`: the reason's stable name.
    reason: Option<&'static str>,
    /// Who would get it, or whose it is.
    client: Option<Ipv4Addr>,
    /// The client's VRF; `null` in the global table.
    client_vrf: Option<String>,
    /// Clients that come into question.
    candidates: Vec<Ipv4Addr>,
    /// The entry that decides.
    entry: Option<Translation>,
}

pub(super) async fn explain<S: Sink>(
    appliance: &Appliance,
    query: Query,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let snapshot = appliance.snapshot();
    let mut explained = ask::explain(appliance, query).await?;
    // Who has an entry for the flow knows more than who would decide without one.
    explained.sort_by_key(|one| !has_entry(one));
    let words = Words {
        appliance,
        snapshot: &snapshot,
        vrfs: VrfNames::of(appliance),
    };
    let packet = match query {
        Query::Esp { peer, spi } => format!("esp, peer {peer}, SPI {spi:X}"),
        Query::Flow(flow) => format!(
            "{} {}{}",
            protocol_name(flow.protocol),
            ends(flow.protocol, flow.key()),
            words.in_vrf(flow.vrf)
        ),
    };
    let answers = explained.iter().map(|one| match one {
        Explained::Esp(one) => words.esp(one),
        Explained::Flow(one) => {
            let protocol = match query {
                Query::Flow(flow) => flow.protocol,
                Query::Esp { .. } => 50,
            };
            words.flow(protocol, one)
        }
    });
    let mut answers: Vec<One> = answers.collect();
    if matches!(query, Query::Flow(_)) {
        // What nobody owns is the same with every worker.
        answers.truncate(1);
    }
    let answer = Answer { packet, answers };
    if format == Format::Json {
        out.line(serde_json::to_string(&answer).map_err(std::io::Error::other)?);
        return Ok(());
    }
    out.line(&answer.packet);
    for one in &answer.answers {
        for step in &one.steps {
            out.line(format!("  {step}"));
        }
    }
    Ok(())
}

fn has_entry(explained: &Explained) -> bool {
    matches!(explained, Explained::Flow(flow) if matches!(flow.because, Because::Entry(_)))
}

struct Words<'a> {
    appliance: &'a Appliance,
    snapshot: &'a Snapshot,
    vrfs: VrfNames,
}

impl Words<'_> {
    fn port(&self, port: PortId) -> &str {
        self.snapshot.interface(port).map_or("?", |i| &i.name)
    }

    /// `, VRF RED`; nothing for the global table.
    fn in_vrf(&self, vrf: VrfId) -> String {
        let name = self.vrfs.name(vrf);
        name.map_or(String::new(), |name| format!(", VRF {name}"))
    }

    /// A client, with its VRF if that is not the global table.
    fn host(&self, client: InsideHost) -> String {
        let name = self.vrfs.name(client.vrf);
        let vrf = name.map_or(String::new(), |name| format!(" vrf {name}"));
        format!("{}{vrf}", client.address)
    }

    fn named(&self, candidates: &Candidates) -> String {
        if candidates.count == 0 {
            return String::new();
        }
        let names: Vec<String> = candidates.named.iter().map(|c| self.host(*c)).collect();
        let more = candidates.count as usize - candidates.named.len();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!("; candidates: {}{more}", names.join(", "))
    }

    fn esp(&self, about: &EspExplanation) -> One {
        let it = &about.explanation;
        let client = it.client.map_or("?".to_owned(), |client| self.host(client));
        let global = it.global.map_or("?".to_owned(), |a| a.to_string());
        let way = match (it.fate, it.is_inbound) {
            (Fate::NotOurs, _) => "no client talks to this peer".to_owned(),
            (_, true) => format!("from the peer to {global}"),
            (_, false) => format!("from {client} to the peer"),
        };
        let mut text = match it.fate {
            Fate::NotOurs => {
                format!("{way}: no half-entry, no IKE; a packet from it is for the appliance")
            }
            Fate::Established if it.is_inbound => format!("{way}: delivered to {client}"),
            Fate::Established => format!("{way}: sent as {global}"),
            Fate::Passes => format!("{way}: would be delivered to {client}"),
            Fate::Held => format!("{way}: would be held"),
            Fate::Dropped(reason) => format!("{way}: would be dropped, {}", reason.name()),
        };
        match (it.fate, it.method) {
            (Fate::NotOurs, _) => {}
            (Fate::Established, Some(method)) => {
                let _ = write!(text, " (paired: {})", Method::name(method));
            }
            (Fate::Established, None) => text.push_str(" (half-open: no reply yet)"),
            _ => {
                let _ = write!(text, " ({})", it.basis.text());
            }
        }
        text.push_str(&self.named(&it.candidates));
        let (verdict, reason) = match it.fate {
            Fate::Established => ("established", None),
            Fate::Passes => ("delivered", None),
            Fate::Held => ("held", None),
            Fate::Dropped(reason) => ("dropped", Some(reason.name())),
            Fate::NotOurs => ("not_ours", None),
        };
        One {
            worker: about.worker.0,
            steps: vec![text],
            verdict,
            reason,
            client: it.client.map(|client| client.address),
            client_vrf: it.client.and_then(|client| self.vrfs.name(client.vrf)),
            candidates: it.candidates.named.iter().map(|c| c.address).collect(),
            entry: None,
        }
    }

    fn flow(&self, protocol: u8, about: &FlowExplanation) -> One {
        let mut steps = vec![self.arrival(about)];
        steps.push(self.because(about));
        if let Some(to) = about.to {
            let text = ends(protocol, to);
            steps.push(match about.because {
                Because::NewEntry {
                    keeps_port: Some(false),
                    ..
                } => format!(
                    "translated to {} and another port of its range, as its own is taken",
                    Ipv4Addr::from_bits(to.src)
                ),
                _ => format!("translated to {text}"),
            });
        }
        steps.push(self.ending(about));
        let (verdict, reason) = match about.ending {
            Ending::Forwarded => ("forwarded", None),
            Ending::WaitsForNeighbour => ("waits", None),
            Ending::Punted => ("punted", None),
            Ending::Hairpinned => ("hairpinned", None),
            Ending::Dropped(reason) => ("dropped", Some(reason.name())),
        };
        One {
            worker: about.worker.0,
            steps,
            verdict,
            reason,
            client: None,
            client_vrf: None,
            candidates: Vec::new(),
            entry: match about.because {
                Because::Entry(entry) => Some(Translation::new(entry, &self.vrfs)),
                _ => None,
            },
        }
    }

    fn arrival(&self, about: &FlowExplanation) -> String {
        let worker = about.worker.0;
        let Some(port) = about.arrives else {
            return format!(
                "worker {worker}: no route leads to its source: where it arrives is unknown"
            );
        };
        let side = match self.snapshot.interface(port).map(|i| i.side) {
            Some(Side::Inside) => "ip nat inside",
            Some(Side::Outside) => "ip nat outside",
            _ => "no NAT",
        };
        let (name, vrf) = (self.port(port), self.in_vrf(self.snapshot.vrf(port)));
        format!("arrives on {name} ({side}{vrf}); worker {worker} decides")
    }

    fn because(&self, about: &FlowExplanation) -> String {
        match about.because {
            Because::Entry(entry) => format!(
                "entry {} fits: inside local {}:{}, inside global {}:{}, used {} s ago",
                entry.id,
                entry.inside_local.address,
                entry.inside_local.port,
                entry.inside_global.address,
                entry.inside_global.port,
                entry.idle_ms / 1000
            ),
            Because::Static => "a configured static fits".to_owned(),
            Because::AddressEntry => "its host has a pool address".to_owned(),
            Because::Ike => "an IKE entry fits".to_owned(),
            Because::NewEntry { rule, .. } => {
                let text = self.appliance.parts.description.rule(rule);
                let text = text.map_or("?".to_owned(), |rule| rule.text);
                format!("no entry yet; mapping {rule} ({text}) makes one")
            }
            Because::Mapping(rule) => {
                let text = self.appliance.parts.description.rule(rule);
                let text = text.map_or("?".to_owned(), |rule| rule.text);
                format!(
                    "no entry fits, but its port is that of an inside endpoint of mapping {rule} ({text}), whose filtering decides"
                )
            }
            Because::Ours => "it is for the appliance itself".to_owned(),
            Because::StaysInside => "it does not leave by an outside interface".to_owned(),
            Because::NoNatSide => "NAT does not look at it here".to_owned(),
            Because::NotTranslated => "no entry, static or mapping wants it".to_owned(),
        }
    }

    fn ending(&self, about: &FlowExplanation) -> String {
        let way = about.hop.map_or(String::new(), |hop| {
            format!(" on {} to {}", self.port(hop.port), hop.address)
        });
        match about.ending {
            Ending::Forwarded => format!("sent{way}"),
            Ending::WaitsForNeighbour => {
                format!("waits for the MAC address of its next hop, then sent{way}")
            }
            Ending::Punted => "given to the kernel".to_owned(),
            Ending::Hairpinned => "comes in again through the global address".to_owned(),
            Ending::Dropped(reason) => dropped(reason),
        }
    }
}

fn dropped(reason: DropReason) -> String {
    format!("dropped, {}: {}", reason.name(), reason.help())
}

fn ends(protocol: u8, key: Key) -> String {
    let (src, dst) = (Ipv4Addr::from_bits(key.src), Ipv4Addr::from_bits(key.dst));
    match protocol {
        1 => format!("{src} -> {dst} id {}", key.dport),
        _ => format!("{src}:{} -> {dst}:{}", key.sport, key.dport),
    }
}
