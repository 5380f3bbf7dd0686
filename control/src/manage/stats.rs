//! The shape of `GET /stats`, and the parts of it that `show` uses too.

use std::collections::BTreeMap;

use serde::Serialize;
use spillway_dataplane::esp::EspCounter;
use spillway_dataplane::snapshot::{PortId, Side};
use spillway_dataplane::stats::{Counter, DropReason};

use super::appliance::{Appliance, FlowRules, PortInfo, Spread, WorkerHandle};
use super::latency::{self, Measured, Percentiles};
use super::show::colons;
use super::vrf::VrfNames;

#[derive(Debug, Serialize)]
pub(super) struct Stats {
    version: String,
    hostname: String,
    uptime_seconds: u64,
    ports: Vec<PortStats>,
    workers: Vec<WorkerStats>,
    protocols: Protocols,
    esp: EspStats,
    drops: Drops,
    table: Table,
    latency_ns: Percentiles,
    burst_packets: Percentiles,
}

/// What a port is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PortIdentity {
    name: String,
    device: String,
    driver: String,
    mac: String,
    link_up: bool,
    speed_mbps: Option<u32>,
    mtu: u16,
    rx_queues: u16,
    tx_queues: u16,
    spread: Spread,
    flow_rules: Option<FlowRules>,
    numa_node: Option<u32>,
}

impl From<&PortInfo> for PortIdentity {
    fn from(port: &PortInfo) -> PortIdentity {
        PortIdentity {
            name: port.name.clone(),
            device: port.device.clone(),
            driver: port.driver.clone(),
            mac: colons(port.mac),
            link_up: port.link_up,
            speed_mbps: port.speed_mbps,
            mtu: port.mtu,
            rx_queues: port.rx_queues,
            tx_queues: port.tx_queues,
            spread: port.spread,
            flow_rules: port.flow_rules,
            numa_node: port.numa_node,
        }
    }
}

/// A port, what the configuration makes of it, and what went through.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PortStats {
    #[serde(flatten)]
    identity: PortIdentity,
    description: Option<String>,
    shutdown: bool,
    up: bool,
    address: Option<String>,
    /// `None` is the global table.
    vrf: Option<String>,
    nat: Option<&'static str>,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
    device_counters: BTreeMap<String, u64>,
}

impl PortStats {
    pub(super) fn name(&self) -> &str {
        &self.identity.name
    }

    pub(super) fn flow_rules(&self) -> Option<FlowRules> {
        self.identity.flow_rules
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    pub(super) fn device_counters(&self) -> impl Iterator<Item = (&str, u64)> {
        self.device_counters.iter().map(|(n, v)| (n.as_str(), *v))
    }
}

/// What went through a port, over all workers.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Traffic {
    pub(super) rx_packets: u64,
    pub(super) rx_octets: u64,
    pub(super) rx_dropped: u64,
    pub(super) tx_packets: u64,
    pub(super) tx_octets: u64,
    pub(super) tx_dropped: u64,
}

impl Traffic {
    pub(super) fn of(appliance: &Appliance, port: PortId) -> Traffic {
        let mut sum = Traffic::default();
        for counters in appliance
            .workers()
            .iter()
            .filter_map(|w| w.stats.port(port))
        {
            sum.rx_packets += counters.rx_packets.value();
            sum.rx_octets += counters.rx_octets.value();
            sum.rx_dropped += counters.rx_dropped.value();
            sum.tx_packets += counters.tx_packets.value();
            sum.tx_octets += counters.tx_octets.value();
            sum.tx_dropped += counters.tx_dropped.value();
        }
        sum
    }
}

/// Every port, in the order of its number.
pub(super) fn port_stats(appliance: &Appliance) -> Vec<PortStats> {
    let (snapshot, vrfs) = (appliance.snapshot(), VrfNames::of(appliance));
    let with_number = |(at, port): (usize, PortInfo)| {
        let interface = snapshot.interfaces.get(at);
        let words = appliance.parts.description.interface(&port.name);
        let words = words.unwrap_or_default();
        PortStats {
            identity: PortIdentity::from(&port),
            description: words.description,
            shutdown: words.shutdown,
            up: interface.is_some_and(|i| i.up),
            address: interface.and_then(|i| i.address).map(|a| a.to_string()),
            vrf: interface.and_then(|i| vrfs.name(i.vrf)),
            nat: interface.and_then(|i| match i.side {
                Side::None => None,
                Side::Inside => Some("inside"),
                Side::Outside => Some("outside"),
            }),
            traffic: Traffic::of(appliance, PortId(at as u8)),
            device_counters: port.counters.into_iter().collect(),
        }
    };
    let ports = appliance.parts.ports.ports();
    ports.into_iter().enumerate().map(with_number).collect()
}

/// What a worker is.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct WorkerIdentity {
    id: u8,
    core: Option<usize>,
    numa_node: Option<u32>,
    session_capacity: u64,
    memory_bytes: u64,
}

impl From<&WorkerHandle> for WorkerIdentity {
    fn from(worker: &WorkerHandle) -> WorkerIdentity {
        WorkerIdentity {
            id: worker.id.0,
            core: worker.core,
            numa_node: worker.numa_node,
            session_capacity: worker.capacity,
            memory_bytes: worker.memory_bytes,
        }
    }
}

#[derive(Debug, Serialize)]
struct WorkerStats {
    #[serde(flatten)]
    identity: WorkerIdentity,
    sessions: u64,
    busy_cycles_per_packet: Option<f64>,
    counters: BTreeMap<&'static str, u64>,
    drops: Drops,
    latency_ns: Percentiles,
    burst_packets: Percentiles,
}

impl WorkerStats {
    fn new(worker: &WorkerHandle, measured: &Measured) -> WorkerStats {
        let counter = |c: Counter| worker.stats.counter(c);
        let packets = counter(Counter::BusyPackets);
        let cycles = counter(Counter::BusyCycles);
        WorkerStats {
            identity: worker.into(),
            sessions: worker.stats.sessions.value(),
            busy_cycles_per_packet: (packets > 0).then(|| cycles as f64 / packets as f64),
            counters: Counter::ALL
                .iter()
                .map(|c| (c.name(), counter(*c)))
                .collect(),
            drops: Drops::new(|reason| worker.stats.drops(reason)),
            latency_ns: measured.latency_ns,
            burst_packets: measured.burst_packets,
        }
    }
}

#[derive(Debug, Serialize)]
struct Protocols {
    tcp: Created,
    udp: Created,
    icmp: Created,
    /// Address entries, which have no protocol.
    simple: Created,
}

/// ESP and IKE, over all workers.
#[derive(Debug, Serialize)]
struct EspStats {
    tunnels: u64,
    half_open: u64,
    relations: u64,
    ike_entries: u64,
    ike_sas: u64,
    held: u64,
    held_bytes: u64,
    held_total: u64,
    released_total: u64,
    counters: BTreeMap<&'static str, u64>,
}

impl EspStats {
    fn new(appliance: &Appliance) -> EspStats {
        let now = appliance.esp_occupancy();
        let counted = |counter| appliance.esp_counter(counter);
        EspStats {
            tunnels: now.tunnels as u64,
            half_open: now.half_open as u64,
            relations: now.relations as u64,
            ike_entries: now.ike_entries as u64,
            ike_sas: now.ike_sas as u64,
            held: now.held_packets as u64,
            held_bytes: now.held_octets as u64,
            held_total: counted(EspCounter::HeldOut) + counted(EspCounter::HeldIn),
            released_total: counted(EspCounter::Released),
            counters: EspCounter::ALL
                .iter()
                .map(|counter| (counter.name(), counted(*counter)))
                .collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Created {
    created: u64,
}

#[derive(Debug, Serialize)]
struct Drops {
    total: u64,
    by_reason: BTreeMap<&'static str, u64>,
}

impl Drops {
    fn new(count: impl Fn(DropReason) -> u64) -> Drops {
        let by_reason: BTreeMap<_, _> = DropReason::ALL
            .iter()
            .map(|reason| (reason.name(), count(*reason)))
            .collect();
        Drops {
            total: by_reason.values().sum(),
            by_reason,
        }
    }
}

#[derive(Debug, Serialize)]
struct Table {
    active: u64,
    statics: u64,
    capacity: u64,
    memory_bytes: u64,
    peak: u64,
    peak_age_seconds: Option<u64>,
}

/// Everything, with the workers' histograms as new as they give them.
pub(super) async fn stats(appliance: &Appliance) -> Stats {
    latency::collect(appliance).await;
    let (by_worker, all) = latency::measured(appliance);
    let created = |counter| Created {
        created: appliance.counter(counter),
    };
    let now = appliance.now();
    let (peak, peak_at) = appliance.parts.occupancy.peak();
    Stats {
        version: appliance.parts.version.clone(),
        hostname: appliance.hostname().to_string(),
        uptime_seconds: now.0 / 1000,
        ports: port_stats(appliance),
        workers: appliance
            .workers()
            .iter()
            .zip(&by_worker)
            .map(|(worker, measured)| WorkerStats::new(worker, measured))
            .collect(),
        protocols: Protocols {
            tcp: created(Counter::CreatedTcp),
            udp: created(Counter::CreatedUdp),
            icmp: created(Counter::CreatedIcmp),
            simple: created(Counter::CreatedSimple),
        },
        esp: EspStats::new(appliance),
        drops: Drops::new(|reason| appliance.drops(reason)),
        table: Table {
            active: appliance.parts.occupancy.active(),
            statics: appliance.statics(),
            capacity: appliance.capacity(),
            memory_bytes: appliance.memory_bytes(),
            peak,
            peak_age_seconds: (peak > 0).then(|| now.since(peak_at) / 1000),
        },
        latency_ns: all.latency_ns,
        burst_packets: all.burst_packets,
    }
}
