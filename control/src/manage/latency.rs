//! Histograms of the workers, swapped out of them and added up since the start.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use spillway_dataplane::command::{Histograms, Reply, Request};

use super::appliance::Appliance;
use super::ask::poll;

/// How long a scrape waits for one worker's histograms before it shows what it had.
const PATIENCE: Duration = Duration::from_millis(250);

/// What one worker has measured since the start, and the swap that it has not answered yet.
#[derive(Debug)]
pub(super) struct Latency {
    total: Histograms,
    pending: Option<Arc<Reply<Box<Histograms>>>>,
}

/// Percentiles of one histogram; all `None` while nothing has been measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub(super) struct Percentiles {
    pub(super) count: u64,
    pub(super) p50: Option<u64>,
    pub(super) p90: Option<u64>,
    pub(super) p99: Option<u64>,
    pub(super) p99_9: Option<u64>,
    pub(super) p99_99: Option<u64>,
    pub(super) max: Option<u64>,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Percentiles {
        let some = |value: u64| (!histogram.is_empty()).then_some(value);
        let at = |quantile| some(histogram.value_at_quantile(quantile));
        Percentiles {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: some(histogram.max()),
        }
    }
}

/// Percentiles of one worker, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Measured {
    pub(super) latency_ns: Percentiles,
    pub(super) burst_packets: Percentiles,
}

impl From<&Histograms> for Measured {
    fn from(histograms: &Histograms) -> Measured {
        Measured {
            latency_ns: Percentiles::of(&histograms.burst_ns),
            burst_packets: Percentiles::of(&histograms.burst_packets),
        }
    }
}

/// Swaps the histograms of all workers. A worker that is busy or silent keeps its own until the
/// next time; nothing is lost.
pub(super) async fn collect(appliance: &Appliance) {
    for (index, worker) in appliance.workers().iter().enumerate() {
        let Ok(_turn) = appliance.turns[index].try_lock() else {
            continue;
        };
        let pending = appliance
            .latency()
            .get(&worker.id)
            .and_then(|l| l.pending.clone());
        let Some(reply) = pending.or_else(|| swap(appliance, index)) else {
            continue;
        };
        let answer = poll(&reply, worker.id, PATIENCE).await;
        let mut latencies = appliance.latency();
        let Some(latency) = latencies.get_mut(&worker.id) else {
            continue;
        };
        match answer {
            Ok(Some(full)) => {
                add(&mut latency.total, &full);
                latency.pending = None;
            }
            Ok(None) => latency.pending = None,
            Err(_) => {}
        }
    }
}

/// Asks for a swap, and notes that the answer is awaited.
fn swap(appliance: &Appliance, index: usize) -> Option<Arc<Reply<Box<Histograms>>>> {
    let worker = &appliance.workers()[index];
    let (empty, total) = (Histograms::new().ok()?, Histograms::new().ok()?);
    let reply = Reply::new(1);
    let request = Request::Histograms(Box::new(empty), Arc::clone(&reply));
    worker.requests.push(request).ok()?;
    let mut latencies = appliance.latency();
    let latency = latencies.entry(worker.id).or_insert(Latency {
        total,
        pending: None,
    });
    latency.pending = Some(Arc::clone(&reply));
    Some(reply)
}

fn add(total: &mut Histograms, more: &Histograms) {
    // The bounds are the same, so the values fit; a worker that uses others loses its own only.
    let sums = [
        total.burst_ns.add(&more.burst_ns),
        total.burst_packets.add(&more.burst_packets),
    ];
    for error in sums.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "a worker's histogram has other bounds and is left out");
    }
}

/// What has been measured: by worker, and by all together.
pub(super) fn measured(appliance: &Appliance) -> (Vec<Measured>, Measured) {
    let latencies = appliance.latency();
    let by_worker = appliance
        .workers()
        .iter()
        .map(|w| latencies.get(&w.id).map(|l| Measured::from(&l.total)))
        .map(Option::unwrap_or_default)
        .collect();
    let all = Histograms::new().map(|mut sum| {
        for latency in latencies.values() {
            add(&mut sum, &latency.total);
        }
        Measured::from(&sum)
    });
    (by_worker, all.unwrap_or_default())
}
