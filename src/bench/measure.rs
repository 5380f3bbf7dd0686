//! One run: set the flows up, then count cycles in windows.

use std::hint::black_box;
use std::sync::Arc;

use spillway_dataplane::packet::{BURST, Burst, Packet, RxQueue, TxQueue};
use spillway_dataplane::snapshot::PortId;
use spillway_dataplane::wire;
use spillway_dpdk::cycles;

use super::machine;
use super::memory::{Port, Sink, Source};
use super::rig::{BenchClock, INSIDE, OUTSIDE, Rig, source};
use super::traffic::Templates;
use crate::cli::{Bench, BenchDirection};

/// Packets of a window: its cost is divided among them.
const WINDOW: usize = 64 * BURST;
/// Entries that the table has room for beyond those of the run, in percent.
const ROOM_PERCENT: u64 = 25;
/// Smallest table.
const SMALLEST_TABLE: u64 = 1024;
/// Flows below which the cost of making one is not told: too few to measure.
const SETUPS_MEASURED: u32 = 1000;
/// Windows that are thrown away, because caches are still cold.
const WARM_UP: u32 = 16;

/// Fewest and usual cycles a packet over the windows of a measurement.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) windows: usize,
}

/// What is known before the runs.
pub(super) struct Calibration {
    /// Cycles a second of the counter.
    pub(super) cycles_per_second: u64,
    /// Cycles between two readings of the counter.
    pub(super) reading: u64,
}

/// What a run found.
pub(super) struct Measured {
    pub(super) flows: u32,
    pub(super) order: String,
    pub(super) direction: String,
    pub(super) proto: String,
    pub(super) burst: u8,
    pub(super) workers: u8,
    /// The worker's whole round, with the memory ports' work.
    pub(super) whole: Cost,
    /// The memory ports alone: packets made, and their buffers taken back.
    pub(super) generator: Cost,
    /// As `generator`, and every packet parsed.
    pub(super) parsed: Cost,
    pub(super) mpps: f64,
    pub(super) session_octets: f64,
    /// Cycles that making a flow took on average, the memory ports' work included.
    pub(super) setup_cycles: Option<f64>,
    pub(super) setups_per_second: Option<f64>,
    /// Nanoseconds of a round: p50, p99, p99.99, most.
    pub(super) latency_ns: [u64; 4],
}

/// Measures the counter itself. The error is one sentence.
pub(super) fn calibrate(_options: &Bench) -> Result<Calibration, String> {
    let reading = (0..1000)
        .map(|_| {
            let begin = cycles();
            cycles().saturating_sub(begin)
        })
        .min()
        .unwrap_or(0);
    match machine::cycles_per_second() {
        0 => Err("the cycle counter stands still".to_owned()),
        cycles_per_second => Ok(Calibration {
            cycles_per_second,
            reading,
        }),
    }
}

/// One run. The error is one sentence.
pub(super) fn run(
    options: &Bench,
    flows: u32,
    calibration: &Calibration,
) -> Result<Measured, String> {
    let clock = BenchClock::new(calibration.cycles_per_second, false);
    let mut rig = Rig::new(sessions(flows), clock)?;
    let (templates, setup) = set_up(options, flows, &mut rig)?;
    let burst = usize::from(options.burst);
    let sources = sources(&rig, &templates, burst);
    let mut alone: Vec<Source> = sources
        .iter()
        .map(|_| source(&rig, &templates[0].1, burst))
        .collect();
    for (at, (_, templates)) in templates.iter().enumerate() {
        alone[at] = source(&rig, templates, burst);
    }
    let rounds = (WINDOW / burst / sources.len()).max(1);
    let packets = rounds * burst * sources.len();
    rig.attach(sources);
    let mut sink = Sink(rig.port);
    for _ in 0..WARM_UP {
        (0..rounds).for_each(|_| rig.round());
    }
    let _ = rig.histograms()?;
    let (mut whole, mut generator, mut parsed) = (Vec::new(), Vec::new(), Vec::new());
    let end = cycles() + calibration.cycles_per_second / 1000 * options.duration;
    let sent = rig.sent();
    while cycles() < end {
        // In turn, so that what disturbs the machine disturbs all of them.
        whole.push(window(packets, || (0..rounds).for_each(|_| rig.round())));
        if whole.len() % 4 == 0 {
            generator.push(window(packets, || {
                (0..rounds).for_each(|_| pass_by(&mut alone, &mut sink, |_| {}));
            }));
            parsed.push(window(packets, || {
                (0..rounds).for_each(|_| pass_by(&mut alone, &mut sink, parse));
            }));
        }
    }
    let by_the_rig = (whole.len() + generator.len() + parsed.len()) * packets;
    if rig.sent() - sent != by_the_rig as u64 || !rig.drops().is_empty() {
        return Err(format!(
            "{flows} flows: packets were dropped: {}",
            rig.drops().join(", ")
        ));
    }
    let latency = rig.histograms()?.burst_ns;
    let whole = cost(whole);
    let name = |value: String| value.to_lowercase();
    Ok(Measured {
        flows,
        order: name(format!("{:?}", options.order)),
        direction: name(format!("{:?}", options.direction)),
        proto: name(format!("{:?}", options.proto)),
        burst: options.burst,
        workers: options.workers,
        whole,
        generator: cost(generator),
        parsed: cost(parsed),
        mpps: calibration.cycles_per_second as f64 / whole.min / 1e6,
        session_octets: rig.octets as f64 / rig.capacity as f64,
        setup_cycles: setup,
        setups_per_second: setup.map(|cycles| calibration.cycles_per_second as f64 / cycles),
        latency_ns: [
            latency.value_at_quantile(0.5),
            latency.value_at_quantile(0.99),
            latency.value_at_quantile(0.9999),
            latency.max(),
        ],
    })
}

/// Sets up and then passes exactly so many packets. The error is one sentence.
pub(super) fn pass_exactly(options: &Bench, flows: u32, packets: u64) -> Result<(), String> {
    let clock = BenchClock::new(1_000_000_000, true);
    let mut rig = Rig::new(sessions(flows), clock)?;
    let (templates, _) = set_up(options, flows, &mut rig)?;
    let sources = sources(&rig, &templates, usize::from(options.burst));
    let a_round = u64::from(options.burst) * sources.len() as u64;
    rig.attach(sources);
    let sent = rig.sent();
    (0..packets.div_ceil(a_round)).for_each(|_| rig.round());
    println!("{} packets, {} entries", rig.sent() - sent, rig.sessions());
    Ok(())
}

fn sessions(flows: u32) -> u32 {
    let room = u64::from(flows) * (100 + ROOM_PERCENT) / 100;
    room.max(SMALLEST_TABLE) as u32
}

/// Where packets come from, and which they are.
type Arrivals = Vec<(PortId, Arc<Templates>)>;

/// Makes the flows; returns what is to come in then, and what making one took.
fn set_up(options: &Bench, flows: u32, rig: &mut Rig) -> Result<(Arrivals, Option<f64>), String> {
    let first = Arc::new(Templates::out(flows, options.proto));
    let burst = usize::from(options.burst);
    let noted = Vec::with_capacity(flows as usize + BURST);
    note(rig.port, Some(noted));
    rig.attach(vec![(INSIDE, source(rig, &first, burst))]);
    let begin = cycles();
    for _ in 0..(flows as usize).div_ceil(burst) {
        rig.round();
    }
    let took = cycles().saturating_sub(begin) as f64 / f64::from(flows);
    let ports = note(rig.port, None).unwrap_or_default();
    if rig.sessions() != u64::from(flows) || ports.len() < flows as usize {
        return Err(format!(
            "{flows} flows: {} entries were made, {}",
            rig.sessions(),
            rig.drops().join(", ")
        ));
    }
    let out = || {
        let templates = Templates::out(flows, options.proto).in_order(options.order);
        (INSIDE, Arc::new(templates))
    };
    let answers = || {
        let ports = &ports[..flows as usize];
        let templates = Templates::answers(ports, options.proto).in_order(options.order);
        (OUTSIDE, Arc::new(templates))
    };
    let arrivals = match options.direction {
        BenchDirection::Out => vec![out()],
        BenchDirection::In => vec![answers()],
        BenchDirection::Both => vec![out(), answers()],
    };
    Ok((arrivals, (flows >= SETUPS_MEASURED).then_some(took)))
}

fn note(port: Port, noted: Option<Vec<u16>>) -> Option<Vec<u16>> {
    port.with(|port| std::mem::replace(&mut port.noted, noted))
}

fn sources(rig: &Rig, arrivals: &Arrivals, burst: usize) -> Vec<(PortId, Source)> {
    arrivals
        .iter()
        .map(|(port, templates)| (*port, source(rig, templates, burst)))
        .collect()
}

/// The memory ports without the worker between them.
#[inline]
fn pass_by<P: Packet>(
    sources: &mut [impl RxQueue<Packet = P>],
    sink: &mut impl TxQueue<Packet = P>,
    look: impl Fn(&P),
) {
    for source in sources {
        let mut burst = Burst::new();
        source.receive(&mut burst);
        burst.iter().for_each(&look);
        sink.transmit(&mut burst);
    }
}

#[inline]
fn parse<P: Packet>(packet: &P) {
    let _ = black_box(wire::parse(packet.data(), true));
}

fn window(packets: usize, work: impl FnOnce()) -> f64 {
    let begin = cycles();
    work();
    cycles().saturating_sub(begin) as f64 / packets as f64
}

fn cost(mut windows: Vec<f64>) -> Cost {
    windows.sort_by(f64::total_cmp);
    Cost {
        min: windows.first().copied().unwrap_or(f64::NAN),
        median: windows.get(windows.len() / 2).copied().unwrap_or(f64::NAN),
        windows: windows.len(),
    }
}
