//! Several workers at once, each pinned to a core of its own with memory ports of its own, as the
//! appliance runs them: one configuration, the rings between them, ports of the outside address shared.
//!
//! Four loads are measured in turn: one worker alone with all flows; all workers, each with the
//! flows that it owns, as if the card knew the owner; all workers with the packets that receive-side
//! scaling would bring each of them, of which those of others are handed over; the same where the card
//! inside spreads by the client's address, and workers choose outside ports by the other card's hash (ESP goes by flow rules there). The ports in memory
//! offer as much as workers take: where one is too slow, packets for it are lost, and counted.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};

use crossbeam::queue::ArrayQueue;
use hdrhistogram::Histogram;
use spillway_dataplane::rss::Steering;

use super::machine::CoreTime;
use super::measure::{Calibration, MOST_TUNNELS};
use super::member::Member;
use super::memory::Depot;
use super::rig::{Place, Traffic};
use super::rss::Cards;
use super::slices::{Notes, Slices};
use super::traffic::FLOWS_A_HOST;
use crate::cli::{Bench, BenchProto};

/// Batches of free buffers that may wait for a worker that wants them.
const DEPOT: usize = 256;

/// What workers are given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// All flows to one worker, alone.
    One,
    /// To each worker the flows that it owns.
    Owned,
    /// To each worker what receive-side scaling brings it.
    Rss,
    /// The same where workers know how cards spread.
    Steered,
}

impl Load {
    pub(super) const ALL: [Load; 4] = [Load::One, Load::Owned, Load::Rss, Load::Steered];

    pub(super) fn workers(self, team: usize) -> usize {
        if self == Load::One { 1 } else { team }
    }
}

/// What a worker found under a load.
#[derive(Default)]
pub(super) struct Share {
    pub(super) traffic: Traffic,
    pub(super) core_time: CoreTime,
}

/// What a load led to.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) slices: Slices,
    pub(super) shares: Vec<Share>,
    /// Of the rounds of all workers.
    pub(super) burst_ns: Option<Histogram<u64>>,
}

impl Loaded {
    /// Adds what one of so many workers found in a turn. The error is one sentence.
    pub(super) fn add(
        &mut self,
        workers: usize,
        me: usize,
        found: &Share,
        rounds_ns: &Histogram<u64>,
    ) -> Result<(), String> {
        self.shares.resize_with(workers, Share::default);
        if let Some(share) = self.shares.get_mut(me) {
            share.traffic = share.traffic.and(found.traffic);
            share.core_time = share.core_time.and(found.core_time);
        }
        match &mut self.burst_ns {
            Some(sum) => sum.add(rounds_ns).map_err(|e| e.to_string()),
            none => {
                *none = Some(rounds_ns.clone());
                Ok(())
            }
        }
    }
}

/// What the workers of a run found.
pub(super) struct TeamMeasured {
    pub(super) flows: u32,
    pub(super) cores: Vec<usize>,
    /// In the order of [`Load::ALL`].
    pub(super) loads: [Loaded; 4],
    pub(super) session_octets: f64,
    /// Which share of all flows has an outside port that brings answers to the owner; `None` of ESP, which has none.
    pub(super) steered: Option<f64>,
}

/// The cores for so many workers: the last ones that this process may use. The error is one sentence.
fn cores(workers: u8) -> Result<Vec<usize>, String> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    match ids.len().checked_sub(usize::from(workers)) {
        Some(first) => Ok(ids[first..].iter().map(|core| core.id).collect()),
        None => Err(format!(
            "{workers} workers need as many cores, and this process may use {}",
            ids.len()
        )),
    }
}

/// One run of several workers. The error is one sentence.
pub(super) fn run(
    options: &Bench,
    flows: u32,
    calibration: &Calibration,
) -> Result<TeamMeasured, String> {
    if options.new_share > 0 || options.events {
        return Err("several workers: no --new-share or --events".to_owned());
    }
    if options.proto == BenchProto::Esp && flows > MOST_TUNNELS {
        return Err(format!("ESP: {MOST_TUNNELS} tunnels at most"));
    }
    if options.skew && flows <= FLOWS_A_HOST {
        return Err(format!(
            "--skew wants more flows than a client's {FLOWS_A_HOST}"
        ));
    }
    let cores = cores(options.workers)?;
    let mut alone = Place::of_team(1, Steering::default())?;
    let usual = Cards::usual(options.workers)?;
    let (steering_cards, steering) = Cards::steering(options.workers)?;
    let team = Team {
        options,
        flows,
        calibration,
        barrier: Barrier::new(cores.len()),
        failure: Mutex::default(),
        arrivals: AtomicUsize::new(0),
        usual: Scheme::new(usual, flows),
        steering: Scheme::new(steering_cards, flows),
        steered: Mutex::default(),
        depot: Arc::new(ArrayQueue::new(DEPOT)),
        noted: Mutex::new(vec![Notes::new(); cores.len()]),
        loads: Mutex::default(),
        session_octets: Mutex::default(),
    };
    let places = Place::of_team(options.workers, Steering::default())?;
    let steering_places = Place::of_team(options.workers, steering)?;
    std::thread::scope(|scope| {
        let places = places.iter().zip(&steering_places).zip(&cores);
        for ((place, steering), core) in places {
            let (team, alone) = (&team, alone.pop());
            let member = Member::new(team, place, steering);
            scope.spawn(move || member.work(alone.as_ref(), *core));
        }
    });
    if let Some(sentence) = locked(&team.failure).take() {
        return Err(format!("{flows} flows: {sentence}"));
    }
    let session_octets = *locked(&team.session_octets);
    let steered = *locked(&team.steered);
    let made = steered.0 + steered.1;
    Ok(TeamMeasured {
        flows,
        cores,
        loads: std::mem::take(&mut *locked(&team.loads)),
        session_octets,
        steered: (made > 0).then(|| steered.0 as f64 / made as f64),
    })
}

/// How packets come to workers, and what came of it.
pub(super) struct Scheme {
    pub(super) cards: Cards,
    /// The outside port of each flow.
    pub(super) ports: Mutex<Vec<u16>>,
}

impl Scheme {
    fn new(cards: Cards, flows: u32) -> Scheme {
        Scheme {
            cards,
            ports: Mutex::new(vec![0; flows as usize]),
        }
    }
}

/// What the threads share.
pub(super) struct Team<'a> {
    pub(super) options: &'a Bench,
    pub(super) flows: u32,
    pub(super) calibration: &'a Calibration,
    pub(super) barrier: Barrier,
    /// The first sentence about what went wrong.
    failure: Mutex<Option<String>>,
    /// How often workers have come to where they wait for others, all together.
    pub(super) arrivals: AtomicUsize,
    pub(super) usual: Scheme,
    pub(super) steering: Scheme,
    /// Entries whose answers come to their worker, and whose don't.
    pub(super) steered: Mutex<(u64, u64)>,
    pub(super) depot: Depot,
    pub(super) noted: Mutex<Vec<Notes>>,
    pub(super) loads: Mutex<[Loaded; 4]>,
    pub(super) session_octets: Mutex<f64>,
}

/// The value behind a lock: nobody panics while he has it.
pub(super) fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Team<'_> {
    /// Waits for all others. `None` where one of them failed.
    pub(super) fn agree<R>(&self, mine: Result<R, String>) -> Option<R> {
        let mine = match mine {
            Ok(mine) => Some(mine),
            Err(sentence) => {
                locked(&self.failure).get_or_insert(sentence);
                None
            }
        };
        self.barrier.wait();
        let failed = locked(&self.failure).is_some();
        self.barrier.wait(); // nobody fails anew before all have seen that
        mine.filter(|_| !failed)
    }

    /// Adds up what was noted under a load in this turn.
    pub(super) fn add_up(&self, at: usize, load: Load) {
        let noted = locked(&self.noted);
        let notes = &noted[..load.workers(noted.len())];
        let slices = &mut locked(&self.loads)[at].slices;
        slices.add(notes, self.calibration.cycles_per_second);
    }
}
