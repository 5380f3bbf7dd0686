//! What several workers found, as text and as JSON.

use serde_json::{Value, json};

use super::measure::{Calibration, percentiles};
use super::report::latency;
use super::rig::Traffic;
use super::slices::Rate;
use super::team::{Load, Loaded, TeamMeasured};
use crate::cli::Bench;

/// A worker that had its core for less than this share of the time makes the sum too small.
const ENOUGH_OF_A_CORE: f64 = 0.98;

/// The text.
pub(super) fn lines(m: &TeamMeasured, calibration: &Calibration) {
    println!(
        "{} flows, workers on cores {:?}; best and median slices of 5 ms, in turn with one worker",
        m.flows, m.cores
    );
    println!(
        "{:>22} {:>7} {:>7} {:>9} {:>9} {:>9} {:>7}  by worker: cycles (Mpps, share of its core)",
        "load", "Mpps", "median", "cycles", "to one", "handoffs", "lost"
    );
    let one = m.loads[0].slices.sum();
    for (load, loaded) in Load::ALL.into_iter().zip(&m.loads) {
        let (sum, traffic) = (loaded.slices.sum(), traffic(loaded));
        let workers = loaded.shares.len();
        let by_worker = (0..workers).map(|at| {
            let rate = loaded.slices.rate(at);
            let share = loaded.shares[at].core_time.share();
            let share = share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
            let cycles = cycles(calibration, 1, rate.median);
            format!("{cycles:.1} ({:.2}, {share})", rate.median)
        });
        println!(
            "{:>22} {:>7.2} {:>7.2} {:>9.1} {:>9.2} {:>9.3} {:>5.1} %  {}",
            name(load),
            sum.best,
            sum.median,
            cycles(calibration, workers, sum.best),
            sum.best / one.best,
            part(traffic.handed_out, traffic),
            part(traffic.lost, traffic) * 100.0,
            by_worker.collect::<Vec<_>>().join(", ")
        );
        if let Some(steered) = m.steered.filter(|_| load == Load::Steered) {
            println!(
                "{:>22} answers of {:.1} % of the flows come to the owner",
                "",
                steered * 100.0
            );
        }
        if is_disturbed(loaded) {
            println!(
                "{:>22} a worker did not have its core all the time: medians and losses are the machine's too",
                ""
            );
        }
    }
}

/// A run.
pub(super) fn json(m: &TeamMeasured, options: &Bench, calibration: &Calibration) -> Value {
    let by_rss = &m.loads[Load::Rss as usize];
    let sum = by_rss.slices.sum();
    let name_of = |value: String| value.to_lowercase();
    json!({
        "flows": m.flows,
        "order": name_of(format!("{:?}", options.order)),
        "direction": name_of(format!("{:?}", options.direction)),
        "proto": name_of(format!("{:?}", options.proto)),
        "burst": options.burst,
        "workers": options.workers,
        "skew": options.skew,
        "new_share": 0,
        "cores": m.cores,
        // Of all workers, as receive-side scaling brings them packets: their cycles in the best and
        // the median slice of time, divided by the packets that they sent in it.
        "cycles_per_packet_min": cycles(calibration, by_rss.shares.len(), sum.best),
        "cycles_per_packet_median": cycles(calibration, by_rss.shares.len(), sum.median),
        "mpps": sum.best,
        "stages": null,
        "session_bytes_each": m.session_octets,
        // Of the flows of the load "steered": how many have an outside port by which the card brings
        // answers to the owner; null of ESP.
        "answers_steered_share": m.steered,
        "setups_per_second": null,
        "latency_ns": by_rss.burst_ns.as_ref().map(|of| latency(percentiles(of))),
        "loads": Load::ALL.into_iter().zip(&m.loads).map(|(load, loaded)| {
            (key(load).to_owned(), of_load(loaded, m.loads[0].slices.sum(), calibration))
        }).collect::<serde_json::Map<_, _>>(),
    })
}

fn of_load(loaded: &Loaded, one: Rate, calibration: &Calibration) -> Value {
    let (sum, all) = (loaded.slices.sum(), traffic(loaded));
    let worker = |at: usize| {
        let (rate, share) = (loaded.slices.rate(at), &loaded.shares[at]);
        json!({
            "cycles_per_packet_min": cycles(calibration, 1, rate.best),
            "cycles_per_packet_median": cycles(calibration, 1, rate.median),
            "mpps": rate.best,
            "mpps_median": rate.median,
            "handoffs_per_packet": part(share.traffic.handed_out, share.traffic),
            "share_of_core": share.core_time.share(),
        })
    };
    json!({
        "mpps": sum.best,
        "mpps_median": sum.median,
        "cycles_per_packet_min": cycles(calibration, loaded.shares.len(), sum.best),
        "cycles_per_packet_median": cycles(calibration, loaded.shares.len(), sum.median),
        "ratio_to_one": sum.best / one.best,
        "ratio_to_one_median": sum.median / one.median,
        "handoffs_per_packet": part(all.handed_out, all),
        "lost_share": part(all.lost, all),
        "slices": loaded.slices.count(),
        "too_few_free_cores": is_disturbed(loaded),
        "latency_ns": loaded.burst_ns.as_ref().map(|of| latency(percentiles(of))),
        "by_worker": (0..loaded.shares.len()).map(worker).collect::<Vec<_>>(),
    })
}

fn name(load: Load) -> &'static str {
    match load {
        Load::One => "one worker",
        Load::Owned => "each its own flows",
        Load::Rss => "as by RSS",
        Load::Steered => "steered",
    }
}

fn key(load: Load) -> &'static str {
    match load {
        Load::One => "one",
        Load::Owned => "owned",
        Load::Rss => "rss",
        Load::Steered => "steered",
    }
}

fn cycles(calibration: &Calibration, workers: usize, mpps: f64) -> f64 {
    calibration.cycles_per_second as f64 * workers as f64 / (mpps * 1e6)
}

fn traffic(loaded: &Loaded) -> Traffic {
    let shares = loaded.shares.iter().map(|share| share.traffic);
    shares.fold(Traffic::default(), Traffic::and)
}

fn part(of: u64, all: Traffic) -> f64 {
    of as f64 / all.received.max(1) as f64
}

fn is_disturbed(loaded: &Loaded) -> bool {
    let shares = loaded.shares.iter();
    shares
        .filter_map(|share| share.core_time.share())
        .any(|share| share < ENOUGH_OF_A_CORE)
}
