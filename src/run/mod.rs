//! `spillway run`: starts the parts in order, joins them, and ends them in the reverse order.

mod aliases;
mod control;
mod cores;
mod description;
mod leases;
mod links;
mod ports;
mod save;
mod servers;
mod workers;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use spillway_control::config::{Config, VrfIds, model};
use spillway_control::publish::Publisher;
use spillway_dataplane::snapshot::Interface;
use spillway_dpdk::{Eal, EalOptions, Memory, Pool, PoolConfig};
use tracing::{error, info, warn};

use crate::check::{self, BAD_CONFIGURATION, Files};
use crate::cli::Run;
use crate::log;

/// Octets of a packet buffer beyond its MTU: DPDK's header, headroom, Ethernet, alignment.
const BUFFER_OVERHEAD: u64 = 512;
/// Smallest data room of a packet buffer, in octets.
const LEAST_DATA_ROOM: u64 = 2048;
/// DPDK's own needs beside packet buffers, in megabytes.
const DPDK_MEGABYTES: u64 = 64;

/// Runs the appliance until it is told to stop. Exit codes: 0 stopped, 1 could not start,
/// 2 bad configuration or arguments.
pub(crate) fn run(options: &Run) -> ExitCode {
    if let Err(sentence) = log::start(options.log_format, &options.log_level) {
        eprintln!("spillway: {sentence}");
        return ExitCode::from(BAD_CONFIGURATION);
    }
    let config = match check::load(&files(options)) {
        Ok((config, warnings)) => {
            for warning in warnings {
                warn!("{warning}");
            }
            config
        }
        Err(refused) => {
            for text in refused.texts() {
                eprintln!("{text}");
            }
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    if !config.interfaces.iter().any(|i| i.port.is_some()) {
        eprintln!(
            "{}: no interface has a port; add `port pci ADDRESS` or `port vdev ARGUMENTS` to at least one",
            options.config.display()
        );
        return ExitCode::from(BAD_CONFIGURATION);
    }
    match start(options, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentences) => {
            for sentence in sentences {
                error!("{sentence}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Allows this process as many open files as it may have at most: each VRF takes some.
fn open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(e) = raised {
        warn!("can't raise the number of open files: {e}");
    }
}

/// The files that the configuration is in.
fn files(options: &Run) -> Files {
    Files {
        config: options.config.clone(),
        ports: options.ports.clone(),
    }
}

/// Starts everything, serves until told to stop, ends everything. An error is a sentence each.
fn start(options: &Run, config: Config) -> Result<(), Vec<String>> {
    let one = |error: &dyn std::fmt::Display| vec![error.to_string()];
    info!(
        "Spillway {} starts, {}",
        env!("CARGO_PKG_VERSION"),
        Eal::version()
    );
    open_files();
    ports::check_cards(&config)?;
    let cores = cores::choose(options.workers, options.cores.as_deref()).map_err(|e| one(&e))?;
    let mtu = config
        .interfaces
        .iter()
        .filter_map(|i| i.mtu)
        .max()
        .unwrap_or(0)
        .max(1500);
    let eal = Arc::new(Eal::start(eal_options(options, &config, mtu)).map_err(|e| one(&e))?);
    let buffers = PoolConfig {
        count: options.buffers,
        mtu,
        ..PoolConfig::default()
    };
    let pool = Pool::create(&eal, &buffers).map_err(|e| one(&e))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| one(&format!("the control thread can't start: {e}")))?;

    let mut ports = ports::Ports::new(&config, options.workers, pool.clone());
    ports.open_all(&eal)?;
    let steering = ports.steering();
    // The policy numbers VRFs in the same way: there is no earlier one.
    let vrfs = VrfIds::new(&config, None);
    let interfaces: Vec<Interface> = ports.interfaces(&config, &vrfs, &leases::Leases::default());
    let publisher = Arc::new(Mutex::new(Publisher::new(interfaces)));
    let mut workers =
        workers::Workers::start(options, &cores, &eal, &pool, &ports, &steering, &publisher)?;
    tell(options, &eal, &pool, &ports, &workers);
    ports.attach_all(&workers);

    let served = runtime.block_on(control::serve(control::Parts {
        options,
        config,
        eal: &eal,
        pool: &pool,
        ports,
        workers: &mut workers,
        publisher,
    }));
    // Whatever ended it, queues are gone before their ports, and ports before DPDK.
    workers.stop();
    info!("stopped");
    served
}

fn eal_options(options: &Run, config: &Config, mtu: u16) -> EalOptions {
    let buffer = u64::from(mtu).max(LEAST_DATA_ROOM) + BUFFER_OVERHEAD;
    let megabytes = (u64::from(options.buffers) * buffer).div_ceil(1 << 20) + DPDK_MEGABYTES;
    let pci = config.interfaces.iter().filter_map(|i| match &i.port {
        Some(model::Port::Pci(address)) => Some(address.clone()),
        _ => None,
    });
    EalOptions {
        memory: if options.no_huge {
            Memory::Normal
        } else {
            Memory::Auto
        },
        memory_mb: options
            .memory
            .unwrap_or(u32::try_from(megabytes).unwrap_or(u32::MAX)),
        pci: pci.collect(),
        ..EalOptions::default()
    }
}

/// Says what is driven: ports, drivers, queues, cores, NUMA nodes, table sizes and memory.
fn tell(options: &Run, eal: &Eal, pool: &Pool, ports: &ports::Ports, workers: &workers::Workers) {
    for line in ports.describe() {
        info!("{line}");
    }
    for line in workers.describe() {
        info!("{line}");
    }
    info!(
        "packet buffers: {} in {} MiB of {} pages",
        pool.size(),
        pool.memory_octets() >> 20,
        if eal.huge_pages() { "huge" } else { "normal" }
    );
    info!(
        "control: socket {}, http://{}/stats",
        options.socket.display(),
        options.http
    );
}
