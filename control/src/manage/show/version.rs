//! `show version`: what runs, since when, and what it drives.

use serde::Serialize;

use super::{dotted, json};
use crate::manage::appliance::Appliance;
use crate::manage::command::{Failure, Format};
use crate::manage::duration::uptime;
use crate::manage::output::{Output, Sink};
use crate::manage::stats::{PortIdentity, WorkerIdentity};

#[derive(Serialize)]
struct Version {
    version: String,
    hostname: String,
    uptime_seconds: u64,
    session_capacity: u64,
    memory_bytes: u64,
    workers: Vec<WorkerIdentity>,
    ports: Vec<PortIdentity>,
}

pub(in crate::manage) async fn version<S: Sink>(
    appliance: &Appliance,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let up = appliance.now().0;
    let ports = appliance.parts.ports.ports();
    if format == Format::Json {
        out.line(json(&Version {
            version: appliance.parts.version.clone(),
            hostname: appliance.hostname().to_string(),
            uptime_seconds: up / 1000,
            session_capacity: appliance.capacity(),
            memory_bytes: appliance.memory_bytes(),
            workers: appliance.workers().iter().map(Into::into).collect(),
            ports: ports.iter().map(Into::into).collect(),
        })?);
        return Ok(());
    }
    out.line(format!("Spillway, Version {}", appliance.parts.version));
    out.line(format!("{} uptime is {}", appliance.hostname(), uptime(up)));
    out.line(format!(
        "{} entries fit into the session tables, which take {} KiB",
        appliance.capacity(),
        appliance.memory_bytes() / 1024
    ));
    for worker in appliance.workers() {
        let core = worker
            .core
            .map_or("no core".into(), |c| format!("core {c}"));
        let node = node(worker.numa_node);
        out.line(format!("Worker {}: {core}{node}", worker.id.0));
    }
    for port in ports {
        out.line(format!(
            "{}: {} ({}), address {}, {} receive and {} transmit queues{}",
            port.name,
            port.device,
            port.driver,
            dotted(port.mac),
            port.rx_queues,
            port.tx_queues,
            node(port.numa_node)
        ));
    }
    Ok(())
}

fn node(numa_node: Option<u32>) -> String {
    numa_node.map_or_else(String::new, |n| format!(", NUMA node {n}"))
}
