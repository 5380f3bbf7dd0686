//! `show interfaces`.

use serde::Serialize;
use spillway_dataplane::snapshot::{Interface, PortId, Side};
use spillway_dataplane::stats::DropReason;

use super::{dotted, json};
use crate::manage::appliance::{Appliance, FlowRules, PortInfo, Spread};
use crate::manage::command::{Failure, Format};
use crate::manage::output::{Output, Sink};
use crate::manage::stats::{PortStats, Traffic, port_stats};
use crate::manage::vrf::VrfNames;

#[derive(Serialize)]
struct Interfaces {
    interfaces: Vec<PortStats>,
}

/// The operator has named an interface that does not exist.
pub(in crate::manage) struct NoSuchInterface;

pub(in crate::manage) async fn interfaces<S: Sink>(
    appliance: &Appliance,
    only: Option<&str>,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<Result<(), NoSuchInterface>, Failure> {
    let snapshot = appliance.snapshot();
    let ports = appliance.parts.ports.ports();
    let wanted = match only.map(|name| find(&snapshot.interfaces, name)) {
        None => None,
        Some(Some(at)) => Some(at),
        Some(None) => return Ok(Err(NoSuchInterface)),
    };
    let chosen = |at: usize| wanted.is_none_or(|wanted| wanted == at);
    if format == Format::Json {
        let interfaces = port_stats(appliance)
            .into_iter()
            .enumerate()
            .filter_map(|(at, port)| chosen(at).then_some(port))
            .collect();
        out.line(json(&Interfaces { interfaces })?);
        return Ok(Ok(()));
    }
    for (at, interface) in snapshot.interfaces.iter().enumerate() {
        if chosen(at) {
            write(appliance, at, interface, ports.get(at), out);
            out.flush_piece().await?;
        }
    }
    if wanted.is_none() {
        write_drops(appliance, out);
    }
    Ok(Ok(()))
}

/// The interface of this name; upper and lower case matter only where they must.
fn find(interfaces: &[Interface], name: &str) -> Option<usize> {
    let position = |same: &dyn Fn(&str) -> bool| interfaces.iter().position(|i| same(&i.name));
    position(&|n| n == name).or_else(|| position(&|n| n.eq_ignore_ascii_case(name)))
}

fn write<S: Sink>(
    appliance: &Appliance,
    at: usize,
    interface: &Interface,
    port: Option<&PortInfo>,
    out: &mut Output<'_, S>,
) {
    let words = appliance
        .parts
        .description
        .interface(&interface.name)
        .unwrap_or_default();
    let state = match (words.shutdown, interface.up) {
        (true, _) => "administratively down, line protocol is down",
        (false, true) => "up, line protocol is up",
        (false, false) => "down, line protocol is down",
    };
    out.line(format!("{} is {state}", interface.name));
    let driver = port.map_or("absent", |p| &p.driver);
    let mac = dotted(interface.mac);
    out.line(format!(
        "  Hardware is {driver}, address is {mac} (bia {mac})"
    ));
    if let Some(description) = words.description {
        out.line(format!("  Description: {description}"));
    }
    out.line(match interface.address {
        Some(address) => format!("  Internet address is {address}"),
        None => "  Internet protocol processing disabled".into(),
    });
    if let Some(vrf) = VrfNames::of(appliance).name(interface.vrf) {
        out.line(format!("  VPN Routing/Forwarding \"{vrf}\""));
    }
    let speed = port
        .and_then(|p| p.speed_mbps)
        .map_or_else(String::new, |mbps| {
            format!(", BW {} Kbit/sec", u64::from(mbps) * 1000)
        });
    out.line(format!("  MTU {} bytes{speed}", interface.mtu));
    if let Some(port) = port {
        let node = port
            .numa_node
            .map_or_else(String::new, |n| format!(", NUMA node {n}"));
        out.line(format!(
            "  Device {}, {} receive and {} transmit queues{node}",
            port.device, port.rx_queues, port.tx_queues
        ));
        if let Some(by) = spread(port.spread) {
            out.line(format!("  Packets are spread over receive queues {by}"));
        }
        if let Some(rules) = port.flow_rules {
            out.line(flow_rules(rules));
        }
    }
    match interface.side {
        Side::None => {}
        Side::Inside => out.line("  IP NAT inside"),
        Side::Outside => out.line("  IP NAT outside"),
    }
    let traffic = Traffic::of(appliance, PortId(at as u8));
    out.line(format!(
        "     {} packets input, {} bytes, {} dropped",
        traffic.rx_packets, traffic.rx_octets, traffic.rx_dropped
    ));
    out.line(format!(
        "     {} packets output, {} bytes, {} dropped",
        traffic.tx_packets, traffic.tx_octets, traffic.tx_dropped
    ));
    for (name, value) in port.iter().flat_map(|p| &p.counters) {
        out.line(format!("     {value} {name}"));
    }
}

/// In words; `None` where there is one queue.
fn spread(by: Spread) -> Option<&'static str> {
    match by {
        Spread::None => None,
        Spread::SourceAddress => Some("by source address (RSS)"),
        Spread::Addresses => Some("by addresses (RSS)"),
        Spread::AddressesAndPorts => Some("by addresses and ports (RSS)"),
        Spread::Unknown => Some("as the driver likes"),
    }
}

fn flow_rules(rules: FlowRules) -> String {
    let of = match rules.missing {
        0 => String::new(),
        missing => format!(" of {}", rules.installed + missing),
    };
    format!(
        "  {}{of} flow rules bring ESP and IKE to the workers of their servers",
        rules.installed
    )
}

/// Reasons are counted by worker, not by port, so they follow the last interface.
fn write_drops<S: Sink>(appliance: &Appliance, out: &mut Output<'_, S>) {
    let drops = DropReason::ALL
        .iter()
        .map(|reason| (reason, appliance.drops(*reason)))
        .filter(|(_, packets)| *packets > 0);
    let total: u64 = drops.clone().map(|(_, packets)| packets).sum();
    out.line(format!("{total} packets dropped on all interfaces"));
    for (reason, packets) in drops {
        out.line(format!(
            "     {packets} {}: {}",
            reason.name(),
            reason.help()
        ));
    }
}
