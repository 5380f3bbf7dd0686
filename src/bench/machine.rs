//! What the figures were measured on.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longest wait of an empty loop, in nanoseconds: a round that took longer was disturbed itself.
const LONGEST_WAIT_NS: u64 = 100_000;

/// How long the cycle counter is held against the clock.
const CALIBRATION: Duration = Duration::from_millis(100);

/// Cycles a second of the cycle counter, which need not be those of the core. A core that slept begins slowly: this
/// one is kept busy meanwhile.
pub(super) fn cycles_per_second() -> u64 {
    let (began, first) = (Instant::now(), spillway_dpdk::cycles());
    while began.elapsed() < CALIBRATION {
        std::hint::spin_loop();
    }
    let (cycles, took) = (spillway_dpdk::cycles() - first, began.elapsed());
    (u128::from(cycles) * 1_000_000_000 / took.as_nanos().max(1)) as u64
}

/// A loop that does nothing but read the counter, in turn with the worker on the same core: how much
/// longer than it was told to wait it takes is what the machine takes away.
pub(super) struct EmptyLoop {
    cycles_per_second: u64,
    longer_ns: Histogram<u64>,
}

impl EmptyLoop {
    /// One that has not waited yet. The error is one sentence.
    pub(super) fn new(cycles_per_second: u64) -> Result<EmptyLoop, String> {
        let longer_ns = Histogram::new_with_bounds(1, 1_000_000_000, 2);
        Ok(EmptyLoop {
            cycles_per_second,
            longer_ns: longer_ns.map_err(|e| e.to_string())?,
        })
    }

    /// Waits about as long as a round of the worker took.
    pub(super) fn wait(&mut self, round_cycles: u64) {
        let most = u128::from(LONGEST_WAIT_NS) * u128::from(self.cycles_per_second) / 1_000_000_000;
        let wanted = round_cycles.min(most as u64);
        let begin = spillway_dpdk::cycles();
        let took = loop {
            let took = spillway_dpdk::cycles().saturating_sub(begin);
            if took >= wanted {
                break took;
            }
        };
        let longer = u128::from(took - wanted) * 1_000_000_000 / u128::from(self.cycles_per_second);
        self.longer_ns.saturating_record(longer as u64);
    }

    /// How much longer the waits took, in nanoseconds.
    pub(super) fn longer_ns(&self) -> &Histogram<u64> {
        &self.longer_ns
    }
}

/// How long a thread ran, and how long it was ready to run while its core did something else.
#[derive(Clone, Copy, Default)]
pub(super) struct CoreTime {
    ran_ns: u64,
    waited_ns: u64,
}

impl CoreTime {
    /// Of the calling thread up to now; zero where the kernel does not tell.
    pub(super) fn now() -> CoreTime {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
        CoreTime {
            ran_ns: numbers.next().unwrap_or(0),
            waited_ns: numbers.next().unwrap_or(0),
        }
    }

    /// What came after `before`.
    pub(super) fn since(self, before: CoreTime) -> CoreTime {
        CoreTime {
            ran_ns: self.ran_ns.saturating_sub(before.ran_ns),
            waited_ns: self.waited_ns.saturating_sub(before.waited_ns),
        }
    }

    /// Both together.
    pub(super) fn and(self, other: CoreTime) -> CoreTime {
        CoreTime {
            ran_ns: self.ran_ns + other.ran_ns,
            waited_ns: self.waited_ns + other.waited_ns,
        }
    }

    /// The share of the time that the thread had its core, of 1; `None` where it is not known.
    pub(super) fn share(self) -> Option<f64> {
        let all = self.ran_ns + self.waited_ns;
        (all > 0).then(|| self.ran_ns as f64 / all as f64)
    }
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
