//! What the figures were measured on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long the cycle counter is held against the clock.
const CALIBRATION: Duration = Duration::from_millis(100);

/// Cycles a second of the cycle counter, which need not be those of the core.
pub(super) fn cycles_per_second() -> u64 {
    let (began, first) = (Instant::now(), spillway_dpdk::cycles());
    std::thread::sleep(CALIBRATION);
    let (cycles, took) = (spillway_dpdk::cycles() - first, began.elapsed());
    (u128::from(cycles) * 1_000_000_000 / took.as_nanos().max(1)) as u64
}

/// The processor, the kernel and this program.
pub(super) fn describe() -> Value {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({
        "cpu": cpu(),
        "cores": cores,
        "kernel": kernel.trim(),
        "spillway": env!("CARGO_PKG_VERSION"),
        "debug_assertions": cfg!(debug_assertions),
    })
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    name.unwrap_or_else(|| "unknown".to_owned())
}
