//! One run: set the flows up, then count cycles in windows.

use std::sync::Arc;

use hdrhistogram::Histogram;
use spillway_dataplane::packet::BURST;
use spillway_dataplane::rss::Steering;
use spillway_dataplane::snapshot::PortId;
use spillway_dpdk::cycles;

use super::events::{self, During};
use super::machine::{self, EmptyLoop};
use super::member::entry;
use super::memory::{Port, Sink, Source};
use super::rig::{BenchClock, INSIDE, OUTSIDE, Place, Rig, source};
use super::stages::{self, Cut, Lane};
use super::traffic::Templates;
use crate::cli::{Bench, BenchDirection, BenchProto, BenchStage};

/// Packets of a window: its cost is divided among them.
const WINDOW: usize = 64 * BURST;
/// Entries that the table has room for beyond those of the run, in percent.
const ROOM_PERCENT: u64 = 25;
/// Smallest table.
const SMALLEST_TABLE: u64 = 1024;
/// Flows below which the cost of making one is not told: too few to measure.
const SETUPS_MEASURED: u32 = 1000;
/// Set-ups that are measured at least: with fewer flows they are made several times, in tables of their own.
const SETUPS_AT_LEAST: u32 = 1 << 16;
/// Packets of a window of set-ups.
const SETUP_WINDOW: usize = 8 * BURST;
/// New flows of a run in which some packets belong to new ones.
const NEW_FLOWS: u32 = 1 << 17;
/// Windows at least that are thrown away, because caches are still cold.
const WARM_UP: u32 = 16;

/// How long a round takes in a run with new flows, about: an empty loop is compared with it.
const USUAL_ROUND_NS: u64 = 2000;

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

/// Nanoseconds of a worker's round: p50, p99, p99.99, most.
pub(super) type Percentiles = [u64; 4];

/// What a run found.
pub(super) struct Measured {
    pub(super) flows: u32,
    pub(super) order: String,
    pub(super) direction: String,
    pub(super) proto: String,
    pub(super) burst: u8,
    pub(super) workers: u8,
    pub(super) new_share: u8,
    /// The worker's whole round, with the memory ports' work.
    pub(super) whole: Cost,
    /// The memory ports alone: packets made, and their buffers taken back.
    pub(super) generator: Cost,
    pub(super) stages: Option<Stages>,
    pub(super) mpps: f64,
    pub(super) session_octets: f64,
    /// Cycles that making a flow took, the memory ports' work included.
    pub(super) setup: Option<Cost>,
    pub(super) setups_per_second: Option<f64>,
    pub(super) latency_ns: Percentiles,
    /// How much longer than the usual round an empty loop took, in turn with the rounds.
    pub(super) machine_latency_ns: Percentiles,
    pub(super) events: Option<Vec<During>>,
}

/// Cycles a packet of each stage.
pub(super) struct Stages {
    pub(super) receive: f64,
    pub(super) emit: f64,
    pub(super) parse: f64,
    pub(super) look_up: f64,
    pub(super) rewrite: f64,
    /// A round in which nothing comes, divided by the packets of one in which something does.
    pub(super) age: f64,
    /// What is left: next hop, lifetime, counters, and the loop.
    pub(super) decide: f64,
}

/// The percentiles that are told of a histogram.
pub(super) fn percentiles(of: &Histogram<u64>) -> Percentiles {
    [
        of.value_at_quantile(0.5),
        of.value_at_quantile(0.99),
        of.value_at_quantile(0.9999),
        of.max(),
    ]
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

/// Most tunnels of a run: a worker has room for 16,384 pairs of client and peer.
pub(super) const MOST_TUNNELS: u32 = 16_000;

/// One run. The error is one sentence.
pub(super) fn run(
    options: &Bench,
    flows: u32,
    calibration: &Calibration,
) -> Result<Measured, String> {
    if options.proto == BenchProto::Esp && (flows > MOST_TUNNELS || options.new_share > 0) {
        return Err(format!(
            "ESP: {MOST_TUNNELS} tunnels at most, each of a client and peer of its own, and no --new-share"
        ));
    }
    if options.new_share > 0 && options.direction != BenchDirection::Out {
        return Err("new flows come from inside: --new-share wants --direction out".to_owned());
    }
    let clock = BenchClock::new(calibration.cycles_per_second, false);
    let new = if options.new_share > 0 { NEW_FLOWS } else { 0 };
    let room = room(options, flows + new);
    let mut setups = Vec::new();
    if flows >= SETUPS_MEASURED {
        for _ in 1..SETUPS_AT_LEAST.div_ceil(flows) {
            let clock = BenchClock::new(calibration.cycles_per_second, false);
            setups.extend(set_up(options, flows, &mut Rig::new(room, clock)?)?.1);
        }
    }
    let mut rig = Rig::new(room, clock)?;
    let (mut templates, windows) = set_up(options, flows, &mut rig)?;
    setups.extend(windows);
    let setup = (flows >= SETUPS_MEASURED).then(|| cost(setups));
    let mut last_window = usize::MAX;
    if options.new_share > 0 {
        let mixed = Templates::mixed(flows, new, options.new_share, options.proto);
        last_window = mixed.headers.len() / WINDOW;
        templates = vec![(INSIDE, Arc::new(mixed))];
    }
    let burst = usize::from(options.burst);
    let sources = sources(&rig, &templates, burst);
    let mut lanes = lanes(&rig, &templates, burst);
    let rounds = (WINDOW / burst / sources.len()).max(1);
    let packets = rounds * burst * sources.len();
    rig.attach(sources);
    let mut sink = Sink(rig.port);
    if options.new_share == 0 {
        // Every flow once: its first packet in a direction finds out where packets go.
        let all = (flows as usize).div_ceil(burst);
        (0..all.max(WARM_UP as usize * rounds)).for_each(|_| rig.round());
    }
    // Had the packets been passed already, a run with new flows would find none.
    let usual = match options.new_share {
        0 => rig.histograms()?.burst_ns.value_at_quantile(0.5),
        _ => USUAL_ROUND_NS,
    };
    let usual = usual * calibration.cycles_per_second / 1_000_000_000;
    let mut empty_loop = EmptyLoop::new(calibration.cycles_per_second)?;
    let _ = rig.histograms()?;
    let mut whole = Vec::new();
    let mut cuts: [Vec<f64>; 4] = Default::default();
    let (mut between, mut emitting) = (Vec::new(), Vec::new());
    let end = cycles() + calibration.cycles_per_second / 1000 * options.duration;
    let sent = rig.sent();
    while cycles() < end && whole.len() + 1 < last_window {
        // In turn, so that what disturbs the machine disturbs all of them.
        whole.push(window(packets, || (0..rounds).for_each(|_| rig.round())));
        rig.apart(|| (0..rounds).for_each(|_| empty_loop.wait(usual)));
        if whole.len() % 4 == 0 && options.new_share == 0 {
            for (cut, costs) in Cut::ALL.into_iter().zip(&mut cuts) {
                let mut inside = 0;
                let passes = || {
                    for _ in 0..rounds {
                        inside += stages::pass(cut, rig.table(), &mut lanes, &mut sink);
                    }
                };
                costs.push(rig.apart(|| window(packets, passes)));
                if cut == Cut::Ports {
                    between.push(inside as f64 / packets as f64);
                }
            }
            let mut sending = 0;
            rig.apart(|| {
                for _ in 0..rounds {
                    sending += stages::emit(&mut lanes, &mut sink);
                }
            });
            emitting.push(sending as f64 / packets as f64);
        }
    }
    let apart = cuts.iter().map(Vec::len).sum::<usize>() + emitting.len();
    let by_the_rig = (whole.len() + apart) * packets;
    // Asking for the histograms took a round.
    let asked = burst * templates.len();
    let sent = rig.sent() - sent;
    if !(by_the_rig..=by_the_rig + asked).contains(&(sent as usize)) || !rig.drops().is_empty() {
        return Err(format!(
            "{flows} flows: packets were dropped: {}",
            rig.drops().join(", ")
        ));
    }
    let latency_ns = percentiles(&rig.histograms()?.burst_ns);
    let whole = cost(whole);
    // The two readings in each burst are none of the ports' work.
    let stamps = cost(between).min;
    let cuts = cuts.map(|costs| cost(costs).min - stamps);
    let stages = (options.new_share == 0).then(|| {
        let emit = cost(emitting).min - stamps;
        let age = idle(&mut rig, rounds) / (burst * templates.len()) as f64;
        Stages {
            receive: cuts[0] - emit,
            emit,
            parse: cuts[1] - cuts[0],
            look_up: cuts[2] - cuts[1],
            rewrite: cuts[3] - cuts[2],
            age,
            decide: whole.min - cuts[3] - age,
        }
    });
    let events = if options.events {
        Some(events::events(options, flows, &mut rig)?)
    } else {
        None
    };
    let name = |value: String| value.to_lowercase();
    Ok(Measured {
        flows,
        order: name(format!("{:?}", options.order)),
        direction: name(format!("{:?}", options.direction)),
        proto: name(format!("{:?}", options.proto)),
        burst: options.burst,
        workers: options.workers,
        new_share: options.new_share,
        whole,
        generator: Cost {
            min: cuts[0],
            median: cuts[0],
            windows: whole.windows / 4,
        },
        stages,
        mpps: calibration.cycles_per_second as f64 / whole.min / 1e6,
        session_octets: rig.octets as f64 / rig.capacity as f64,
        setup,
        setups_per_second: setup.map(|cost| calibration.cycles_per_second as f64 / cost.median),
        latency_ns,
        machine_latency_ns: percentiles(empty_loop.longer_ns()),
        events,
    })
}

/// Cycles of a round in which nothing comes.
fn idle(rig: &mut Rig, rounds: usize) -> f64 {
    rig.detach();
    let windows = (0..WARM_UP).map(|_| window(rounds, || (0..rounds).for_each(|_| rig.round())));
    cost(windows.collect()).min
}

/// Sets up and then passes exactly so many packets, or as many rounds as they would take. The error is one
/// sentence.
pub(super) fn pass_exactly(options: &Bench, flows: u32, packets: u64) -> Result<(), String> {
    let clock = BenchClock::new(1_000_000_000, true);
    let burst = usize::from(options.burst);
    let mut places = Place::of_team(options.workers, Steering::default())?;
    // The others stand still, but their ends of the rings are there.
    let place = places.remove(0);
    let mut rig = Rig::at(&place, room(options, flows), clock)?;
    let templates = if options.workers == 1 {
        set_up(options, flows, &mut rig)?.0
    } else {
        set_up_owned(options, flows, &mut rig)?
    };
    let rounds = packets.div_ceil((burst * templates.len()) as u64);
    let cut = match options.up_to {
        None | Some(BenchStage::Age) => None,
        Some(BenchStage::Receive) => Some(Cut::Ports),
        Some(BenchStage::Parse) => Some(Cut::Parse),
        Some(BenchStage::LookUp) => Some(Cut::LookUp),
        Some(BenchStage::Rewrite) => Some(Cut::Rewrite),
    };
    if options.up_to.is_none() {
        rig.attach(sources(&rig, &templates, burst));
    } else {
        rig.detach();
    }
    let mut lanes = lanes(&rig, &templates, burst);
    let mut sink = Sink(rig.port);
    let sent = rig.sent();
    (0..rounds).for_each(|_| match cut {
        None => rig.round(),
        Some(cut) => drop(stages::pass(cut, rig.table(), &mut lanes, &mut sink)),
    });
    println!("{} packets, {} entries", rig.sent() - sent, rig.sessions());
    Ok(())
}

/// The size of the table. Room for pairs of client and peer is a quarter of it.
pub(super) fn room(options: &Bench, flows: u32) -> u32 {
    match options.proto {
        BenchProto::Esp => sessions(flows * 5),
        _ => sessions(flows),
    }
}

fn sessions(flows: u32) -> u32 {
    let room = u64::from(flows) * (100 + ROOM_PERCENT) / 100;
    room.max(SMALLEST_TABLE) as u32
}

/// Where packets come from, and which they are.
type Arrivals = Vec<(PortId, Arc<Templates>)>;

/// Makes the flows; returns what is to come in then, and the cycles that making one took, by window.
fn set_up(options: &Bench, flows: u32, rig: &mut Rig) -> Result<(Arrivals, Vec<f64>), String> {
    let first = Arc::new(Templates::out(flows, options.proto));
    let burst = usize::from(options.burst);
    let noted = Vec::with_capacity(flows as usize + BURST);
    note(rig.port, Some(noted));
    rig.attach(vec![(INSIDE, source(rig, &first, burst))]);
    let mut left = (flows as usize).div_ceil(burst);
    let mut windows = Vec::new();
    while left > 0 {
        let rounds = left.min(SETUP_WINDOW.div_ceil(burst));
        windows.push(window(rounds * burst, || {
            (0..rounds).for_each(|_| rig.round());
        }));
        left -= rounds;
    }
    let ports = note(rig.port, None).unwrap_or_default();
    if rig.sessions() != u64::from(flows) || ports.len() < flows as usize {
        return Err(format!(
            "{flows} flows: {} entries were made, {}",
            rig.sessions(),
            rig.drops().join(", ")
        ));
    }
    if options.proto == BenchProto::Tcp {
        // A connection that nobody answers is not established.
        let answers = Templates::answers(&ports[..flows as usize], options.proto);
        rig.attach(vec![(OUTSIDE, source(rig, &Arc::new(answers), burst))]);
        (0..(flows as usize).div_ceil(burst)).for_each(|_| rig.round());
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
    Ok((arrivals, windows))
}

/// Makes those of the flows that this worker of several owns; returns what is to come in then.
fn set_up_owned(options: &Bench, flows: u32, rig: &mut Rig) -> Result<Arrivals, String> {
    if options.direction != BenchDirection::Out || options.proto == BenchProto::Esp {
        return Err("--packets of several workers: --direction out, and no ESP".to_owned());
    }
    let out = Arc::new(Templates::out(flows, options.proto));
    let burst = usize::from(options.burst);
    rig.attach(vec![(INSIDE, source(rig, &out, burst))]);
    (0..(flows as usize).div_ceil(burst)).for_each(|_| rig.round());
    let mine = out.only(|header| entry(rig, INSIDE, &out.frame(header)).is_some());
    if mine.headers.is_empty() {
        return Err(format!("the first worker owns none of {flows} flows"));
    }
    Ok(vec![(INSIDE, Arc::new(mine.in_order(options.order)))])
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

fn lanes(rig: &Rig, arrivals: &Arrivals, burst: usize) -> Vec<Lane> {
    let lane = |(port, templates): &(PortId, Arc<Templates>)| Lane {
        source: source(rig, templates, burst),
        port: *port,
    };
    arrivals.iter().map(lane).collect()
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
