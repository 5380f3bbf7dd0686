//! The result as a table, as JSON, and beside an earlier one.

use std::path::Path;

use serde_json::{Value, json};

use super::events::During;
use super::machine;
use super::measure::{Calibration, Measured, Percentiles};
use super::rig::CONFIGURATION;

/// How many times the saved cycles a run may cost.
const ALLOWED: f64 = 1.15;

/// What makes two runs the same.
const SAME: [&str; 7] = [
    "flows",
    "order",
    "direction",
    "proto",
    "burst",
    "workers",
    "skew",
];

/// The first lines of the table.
pub(super) fn heading(calibration: &Calibration, one_worker: bool) {
    println!(
        "counter: {:.3} GHz, {} cycles a reading; cycles a packet, smallest and median of windows",
        calibration.cycles_per_second as f64 / 1e9,
        calibration.reading
    );
    if !one_worker {
        return;
    }
    println!(
        "{:>9} {:>8} {:>8} {:>9} {:>7} {:>9} {:>10} {:>9} {:>8} {:>9} {:>9}",
        "flows",
        "min",
        "median",
        "generator",
        "Mpps",
        "set-up",
        "set-ups/s",
        "octets",
        "p50 ns",
        "p9999 ns",
        "machine's"
    );
}

/// A whole number, or a dash where nothing was measured.
fn or_dash(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.0}"))
}

/// A line of the table.
pub(super) fn line(m: &Measured) {
    let [p50, _, p9999, _] = m.latency_ns;
    println!(
        "{:>9} {:>8.1} {:>8.1} {:>9} {:>7.2} {:>9} {:>10} {:>9.1} {:>8} {:>9} {:>9}",
        m.flows,
        m.whole.min,
        m.whole.median,
        if m.generator.min.is_nan() {
            "-".to_owned()
        } else {
            format!("{:.1}", m.generator.min)
        },
        m.mpps,
        or_dash(m.setup.map(|setup| setup.median)),
        or_dash(m.setups_per_second),
        m.session_octets,
        p50,
        p9999,
        m.machine_latency_ns[2]
    );
    for during in m.events.iter().flatten() {
        let During {
            what,
            rounds: [p50, p99, p9999, max],
            every_time,
            machine,
        } = during;
        println!(
            "          while {what}: round p50 {p50} ns, p99 {p99}, p99.99 {p9999}, most {max}; every time p50 {}, p99 {}, p99.99 {}, most {}; \
             the machine alone p99 {}, p99.99 {}, most {}",
            every_time[0],
            every_time[1],
            every_time[2],
            every_time[3],
            machine[1],
            machine[2],
            machine[3]
        );
    }
}

pub(super) fn latency([p50, p99, p9999, max]: Percentiles) -> Value {
    json!({ "p50": p50, "p99": p99, "p9999": p9999, "max": max })
}

/// Everything.
pub(super) fn json(calibration: &Calibration, results: &[Value]) -> Value {
    json!({
        "machine": machine::describe(),
        "command": std::env::args().collect::<Vec<_>>().join(" "),
        "configuration": CONFIGURATION,
        "calibration": {
            "cycles_per_second": calibration.cycles_per_second,
            "cycles_per_reading": calibration.reading,
        },
        "results": results,
    })
}

/// A run of one worker.
pub(super) fn result(m: &Measured) -> Value {
    json!({
        "flows": m.flows,
        "order": m.order,
        "direction": m.direction,
        "proto": m.proto,
        "burst": m.burst,
        "workers": m.workers,
        "new_share": m.new_share,
        "cycles_per_packet_min": m.whole.min,
        "cycles_per_packet_median": m.whole.median,
        "windows": m.whole.windows,
        // Part of the figures above, measured alone: it is not subtracted from them.
        "generator_cycles_per_packet_min": m.generator.min,
        "generator_cycles_per_packet_median": m.generator.median,
        "mpps": m.mpps,
        // Cycles a packet: differences between the minima of a pipeline cut off after the stage and
        // of the one before. One worker has nothing to steer; `receive` and `emit` are the ports'
        // work at both ends, and `decide` is what is left of the whole.
        "stages": m.stages.as_ref().map(|s| json!({
            "receive": s.receive,
            "parse": s.parse,
            "steer": 0.0,
            "look_up": s.look_up,
            "decide": s.decide,
            "rewrite": s.rewrite,
            "emit": s.emit,
            "age": s.age,
        })),
        "session_bytes_each": m.session_octets,
        "setup_cycles": m.setup.map(|setup| setup.median),
        "setup_cycles_min": m.setup.map(|setup| setup.min),
        "setups_per_second": m.setups_per_second,
        "latency_ns": latency(m.latency_ns),
        "machine_latency_ns": latency(m.machine_latency_ns),
        "latency_ns_while": m.events.as_ref().map(|events| by_event(events, |of| of.rounds)),
        "latency_ns_while_every_time": m.events.as_ref().map(|events| by_event(events, |of| of.every_time)),
        "machine_latency_ns_while": m.events.as_ref().map(|events| by_event(events, |of| of.machine)),
    })
}

fn by_event(events: &[During], which: fn(&During) -> Percentiles) -> Value {
    events
        .iter()
        .map(|of| (of.what.to_owned(), latency(which(of))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A saved result. The error is one sentence.
pub(super) fn read(file: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{} can't be read: {error}", file.display()))?;
    serde_json::from_str(&text)
        .map_err(|error| format!("{} is no result of --json: {error}", file.display()))
}

/// Prints what each run costs as a ratio to the saved one; whether none has become too slow and
/// there was something to compare.
pub(super) fn compare(now: &Value, saved: &Value, quiet: bool) -> bool {
    let (mut compared, mut good) = (0, true);
    let empty = Vec::new();
    let runs = |v: &'_ Value| v["results"].as_array().cloned().unwrap_or_default();
    let before = saved["results"].as_array().unwrap_or(&empty);
    for run in runs(now) {
        let Some(old) = before
            .iter()
            .find(|old| SAME.iter().all(|k| old[*k] == run[*k]))
        else {
            continue;
        };
        let cycles = |v: &Value| v["cycles_per_packet_min"].as_f64().unwrap_or(f64::NAN);
        let ratio = cycles(&run) / cycles(old);
        compared += 1;
        good &= ratio <= ALLOWED;
        let text = format!("{} flows: {ratio:.3} times the saved cycles", run["flows"]);
        if quiet {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }
    if compared == 0 {
        eprintln!("bench: the saved result has none of these runs");
    }
    good && compared > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(flows: u32, cycles: f64) -> Value {
        json!({"results": [{"flows": flows, "cycles_per_packet_min": cycles}]})
    }

    #[test]
    fn compares_by_ratio() {
        assert!(compare(&run(1, 114.0), &run(1, 100.0), true));
        assert!(!compare(&run(1, 116.0), &run(1, 100.0), true));
        assert!(
            !compare(&run(2, 1.0), &run(1, 100.0), true),
            "nothing was compared"
        );
        assert!(
            !compare(&run(1, 1.0), &json!({}), true),
            "nothing was compared"
        );
    }
}
