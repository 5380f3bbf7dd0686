//! The one handle on the running appliance, and what the other parts must bring to it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use ipnet::Ipv4Net;
use spillway_dataplane::command::{Occupancy, Request};
use spillway_dataplane::snapshot::{Snapshot, VrfId, WorkerId};
use spillway_dataplane::stats::WorkerStats;
use spillway_dataplane::time::Millis;

use super::debug::Listeners;
use super::latency::Latency;
use super::statistics::Baseline;
use crate::config::{Config, Policy};
use crate::kernel::Spaces;

/// One worker as control sees it.
#[derive(Debug)]
pub struct WorkerHandle {
    /// Its number.
    pub id: WorkerId,
    /// The core it is pinned to, if it is.
    pub core: Option<usize>,
    /// The NUMA node of that core, if known.
    pub numa_node: Option<u32>,
    /// The bounded ring of requests to it.
    pub requests: Arc<ArrayQueue<Request>>,
    /// Its counters; it alone writes them.
    pub stats: Arc<WorkerStats>,
    /// Entries that its session table can hold.
    pub capacity: u64,
    /// Octets that its tables take.
    pub memory_bytes: u64,
}

/// A port as its driver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// The configured interface name.
    pub name: String,
    /// The device as configured, e.g. `net_af_packet0,iface=inside` or `0000:03:00.0`.
    pub device: String,
    /// The driver's name, e.g. `net_af_packet`.
    pub driver: String,
    /// MAC address.
    pub mac: [u8; 6],
    /// Whether the device is there and its link is up.
    pub link_up: bool,
    /// Link speed in Mbit/s, if the device knows it.
    pub speed_mbps: Option<u32>,
    /// Largest IPv4 packet in octets.
    pub mtu: u16,
    /// Receive queues in use.
    pub rx_queues: u16,
    /// Transmit queues in use.
    pub tx_queues: u16,
    /// How received packets are spread over the receive queues.
    pub spread: Spread,
    /// Its flow rules; `None` where there are none to be had, or one worker.
    pub flow_rules: Option<FlowRules>,
    /// The NUMA node that the device sits on, if known.
    pub numa_node: Option<u32>,
    /// The device's own counters: name, value.
    pub counters: Vec<(String, u64)>,
}

/// By what a port spreads received packets over its receive queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// There is one queue.
    #[default]
    None,
    /// Receive-side scaling by the source address alone: a client's packets come to its worker.
    SourceAddress,
    /// Receive-side scaling by both addresses.
    Addresses,
    /// Receive-side scaling by both addresses and, of UDP and TCP, both ports.
    AddressesAndPorts,
    /// Its driver does it in a way that it does not tell.
    Unknown,
}

/// Rules by which a device brings ESP and IKE of outside VPN servers to the queue of their worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct FlowRules {
    /// Rules that it has.
    pub installed: u32,
    /// Rules that it should have besides and has not taken: these packets are handed over.
    pub missing: u32,
}

/// Tells about the ports.
pub trait Ports: Send + Sync {
    /// Every port, in the order of its [`PortId`](spillway_dataplane::snapshot::PortId). Called
    /// on the control thread: it must not block.
    fn ports(&self) -> Vec<PortInfo>;
}

/// A dynamic mapping in the words of its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleText {
    /// E.g. `access-list 1 pool NAT-POOL1` or `access-list 1 interface Outside`.
    pub text: String,
    /// The pool that it translates to, if it does.
    pub pool: Option<PoolText>,
}

/// A pool in the words of its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolText {
    /// Its name.
    pub name: String,
    /// Its netmask.
    pub netmask: Ipv4Addr,
    /// First and last address of each range.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Its type.
    pub kind: PoolKind,
}

/// `ip nat pool ... type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// No `type` given.
    Generic,
    /// `type rotary`.
    Rotary,
    /// `type match-host`.
    MatchHost,
}

impl PoolKind {
    /// The word that `show` prints.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PoolKind::Generic => "generic",
            PoolKind::Rotary => "rotary",
            PoolKind::MatchHost => "match-host",
        }
    }
}

/// What the configuration says of an interface and the data plane does not need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceText {
    /// `description`.
    pub description: Option<String>,
    /// `shutdown`.
    pub shutdown: bool,
}

/// Who made a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteOrigin {
    /// `ip route`.
    Static,
    /// The kernel, or somebody who set it there.
    Kernel,
    /// A DHCP client.
    Dhcp,
    /// RIP.
    Rip,
    /// OSPF.
    Ospf,
    /// IS-IS.
    Isis,
    /// EIGRP.
    Eigrp,
    /// BGP.
    Bgp,
}

impl RouteOrigin {
    /// The letter in `show ip route`.
    #[must_use]
    pub fn code(self) -> char {
        match self {
            RouteOrigin::Static | RouteOrigin::Dhcp => 'S',
            RouteOrigin::Kernel => 'K',
            RouteOrigin::Rip => 'R',
            RouteOrigin::Ospf => 'O',
            RouteOrigin::Isis => 'i',
            RouteOrigin::Eigrp => 'D',
            RouteOrigin::Bgp => 'B',
        }
    }

    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RouteOrigin::Static => "static",
            RouteOrigin::Kernel => "kernel",
            RouteOrigin::Dhcp => "dhcp",
            RouteOrigin::Rip => "rip",
            RouteOrigin::Ospf => "ospf",
            RouteOrigin::Isis => "isis",
            RouteOrigin::Eigrp => "eigrp",
            RouteOrigin::Bgp => "bgp",
        }
    }
}

/// What is known of a route besides where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteText {
    /// Who made it.
    pub origin: RouteOrigin,
    /// Administrative distance and metric, where known.
    pub distance: Option<(u8, u32)>,
}

/// The words of the running configuration, for `show`. The implementation follows reloads.
pub trait Description: Send + Sync {
    /// The policy in force, with its configuration and the live access lists.
    fn policy(&self) -> Arc<Policy>;

    /// The dynamic mapping with this number.
    fn rule(&self, id: u16) -> Option<RuleText>;

    /// The interface with this name.
    fn interface(&self, name: &str) -> Option<InterfaceText>;

    /// The route of a VRF to this prefix by this router, if by one, unless it is connected.
    fn route(&self, vrf: VrfId, prefix: Ipv4Net, via: Option<Ipv4Addr>) -> Option<RouteText>;
}

/// What a reload has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ReloadReport {
    /// The file that was read.
    pub file: String,
    /// Warnings, one each.
    pub warnings: Vec<String>,
    /// Entries removed because the new configuration would not make them.
    pub withdrawn: u64,
    /// Dynamic entries that stay.
    pub kept: u64,
}

/// What a [`Reloader`] returns.
pub type ReloadFuture = Pin<Box<dyn Future<Output = Result<ReloadReport, Vec<String>>> + Send>>;

/// What shall become of the running configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Read the appliance's own file again.
    Reload,
    /// The whole configuration in this file instead.
    Replace(PathBuf),
    /// These lines besides, as `configure terminal` takes them.
    Amend(String),
    /// Nothing; write it to the appliance's own file.
    Write,
    /// Nothing; go back to it after so many minutes unless [`Change::Confirm`] comes first.
    Confirmed(u16),
    /// What is running stays.
    Confirm,
}

/// Changes the running configuration, or changes nothing and says why.
pub type Reloader = Box<dyn Fn(Change) -> ReloadFuture + Send + Sync>;

/// The configuration as it would be loaded at the next start.
#[derive(Clone)]
pub struct Saved {
    /// Its file.
    pub file: PathBuf,
    /// Reads it. It may block.
    pub load: Loader,
}

/// Reads a configuration, or says why it can't be read.
pub type Loader = Arc<dyn Fn() -> Result<Config, Vec<String>> + Send + Sync>;

/// Limits of patience and of memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a worker may be silent before the command fails.
    pub answer: Duration,
    /// How long a full request ring, or a worker busy with another command, is waited for.
    pub ring: Duration,
    /// Entries on their way from a worker to the operator.
    pub reply_capacity: usize,
    /// How long a client may take to send a command or to take a piece of an answer.
    pub idle: Duration,
    /// Clients of the management socket, and of HTTP, at once.
    pub clients: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            answer: Duration::from_secs(5),
            ring: Duration::from_secs(2),
            reply_capacity: 4096,
            idle: Duration::from_secs(60),
            clients: 32,
        }
    }
}

/// What the main program brings to make an [`Appliance`].
pub struct Parts {
    /// The version that `show version` prints.
    pub version: String,
    /// The configured host name, which a reload may change.
    pub hostname: Arc<ArcSwap<String>>,
    /// The clock that the workers' milliseconds come from.
    pub clock: Box<dyn Fn() -> Millis + Send + Sync>,
    /// The workers, in the order of their numbers.
    pub workers: Vec<WorkerHandle>,
    /// The configuration that was saved.
    pub saved: Saved,
    /// The published snapshot.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// How full the session tables are.
    pub occupancy: Arc<Occupancy>,
    /// The ports.
    pub ports: Arc<dyn Ports>,
    /// The words of the configuration.
    pub description: Arc<dyn Description>,
    /// The network namespaces of the VRFs.
    pub spaces: Spaces,
    /// Changes the configuration.
    pub reloader: Reloader,
    /// Limits.
    pub limits: Limits,
}

/// The running appliance, as the operator's commands see it.
pub struct Appliance {
    pub(super) parts: Parts,
    /// One command at a time talks to a worker; the others wait here, not in its ring.
    pub(super) turns: Vec<tokio::sync::Mutex<()>>,
    baseline: Mutex<Baseline>,
    pub(super) listeners: Listeners,
    latency: Mutex<BTreeMap<WorkerId, Latency>>,
}

impl std::fmt::Debug for Appliance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appliance")
            .field("version", &self.parts.version)
            .field("workers", &self.parts.workers)
            .finish_non_exhaustive()
    }
}

impl Appliance {
    /// The appliance made of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Appliance> {
        Arc::new(Appliance {
            turns: parts.workers.iter().map(|_| Default::default()).collect(),
            baseline: Mutex::default(),
            listeners: Listeners::default(),
            latency: Mutex::default(),
            parts,
        })
    }

    /// The workers, in the order of their numbers.
    #[must_use]
    pub fn workers(&self) -> &[WorkerHandle] {
        &self.parts.workers
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.parts.snapshot.load_full()
    }

    /// Now, as the workers count it.
    #[must_use]
    pub fn now(&self) -> Millis {
        (self.parts.clock)()
    }

    /// The configured host name.
    #[must_use]
    pub fn hostname(&self) -> Arc<String> {
        self.parts.hostname.load_full()
    }

    /// Entries that all session tables can hold.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.workers().iter().map(|w| w.capacity).sum()
    }

    /// Octets that all tables take.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.workers().iter().map(|w| w.memory_bytes).sum()
    }

    /// Configured statics, those of ESP included.
    #[must_use]
    pub fn statics(&self) -> u64 {
        let snapshot = self.snapshot();
        let nat = &snapshot.nat;
        (nat.statics.len() + nat.outside.statics.len() + nat.ipsec.static_esp.len()) as u64
    }

    pub(super) fn baseline(&self) -> MutexGuard<'_, Baseline> {
        self.baseline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn latency(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Latency>> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
