//! How long rounds take while something happens to the whole table: an operator shows it, a
//! configuration is loaded, everything is cleared, everything expires.
//!
//! What the machine takes away comes at another round each time; what the worker does itself comes every
//! time. So all of it happens several times over, and of each round the shortest is told as well.

use std::sync::Arc;

use hdrhistogram::Histogram;
use spillway_dataplane::command::{Reply, Request, SessionFilter};
use spillway_dpdk::cycles;

use super::machine::EmptyLoop;
use super::measure::{Percentiles, percentiles};
use super::rig::{INSIDE, Rig, source};
use super::traffic::Templates;
use crate::cli::Bench;

/// How often all of it happens.
const REPETITIONS: u32 = 5;
/// Rounds while nothing happens.
const ROUNDS_OF_NOTHING: u32 = 200_000;
/// Rounds after which an event that is not over counts as hanging.
const PATIENCE: u32 = 50_000_000;
/// Answers that may wait for whoever asked.
const ANSWERS: usize = 4096;
/// Flows that go on while all others expire.
const GO_ON: u32 = 1000;
/// Longer than any timer of the flows.
const LATER: u64 = 86_400 + 1;

/// How long rounds took while something happened, in nanoseconds.
pub(super) struct During {
    pub(super) what: &'static str,
    /// All rounds.
    pub(super) rounds: Percentiles,
    /// The shortest of the rounds that come at the same place each time.
    pub(super) every_time: Percentiles,
    /// How much longer an empty loop took, in turn with the rounds.
    pub(super) machine: Percentiles,
}

/// What happens, in this order; and what is seen of it.
struct Watches {
    nothing: Watch,
    show: Watch,
    reload: Watch,
    clear: Watch,
    expiry: Watch,
}

/// Lets all of it happen, one after the other and several times, while packets from inside come. The error
/// is one sentence.
pub(super) fn events(options: &Bench, flows: u32, rig: &mut Rig) -> Result<Vec<During>, String> {
    let watch = || Watch::new(rig.per_second());
    let mut watches = Watches {
        nothing: watch()?,
        show: watch()?,
        reload: watch()?,
        clear: watch()?,
        expiry: watch()?,
    };
    for _ in 0..REPETITIONS {
        once(options, flows, rig, &mut watches)?;
    }
    let Watches {
        nothing,
        show,
        reload,
        clear,
        expiry,
    } = watches;
    [
        ("nothing", nothing),
        ("show", show),
        ("reload", reload),
        ("clear", clear),
        ("expiry", expiry),
    ]
    .into_iter()
    .map(|(what, watch)| watch.told(what))
    .collect()
}

fn once(options: &Bench, flows: u32, rig: &mut Rig, watches: &mut Watches) -> Result<(), String> {
    let burst = usize::from(options.burst);
    let everything = SessionFilter::default();
    let come = |rig: &mut Rig, flows: u32| {
        let templates = Templates::out(flows, options.proto).in_order(options.order);
        let source = source(rig, &Arc::new(templates), burst);
        rig.attach(vec![(INSIDE, source)]);
        rig.round();
    };
    let every_flow = |rig: &mut Rig| {
        (0..2 * (flows as usize).div_ceil(burst)).for_each(|_| rig.round());
    };
    come(rig, flows);
    every_flow(rig);
    let mut left = ROUNDS_OF_NOTHING;
    watches.nothing.during(rig, None, |_| {
        left -= 1;
        left == 0
    })?;
    let mut show = Reply::new(ANSWERS);
    let request = Request::Sessions(everything, 0, Arc::clone(&show));
    watches.show.during(rig, Some(request), |rig| {
        while show.take().is_some() {}
        if let (true, Some(place)) = (show.is_done(), show.resume()) {
            show = Reply::new(ANSWERS);
            let request = Request::Sessions(everything, place, Arc::clone(&show));
            // An empty ring takes it; otherwise it is never over, which is told.
            rig.ask(request);
        }
        show.is_finished()
    })?;
    rig.publish_again();
    let reload = Reply::new(1);
    let request = Request::Reconcile(Arc::clone(&reload));
    watches
        .reload
        .during(rig, Some(request), |_| reload.take().is_some())?;
    let clear = Reply::new(1);
    let request = Request::Clear(everything, Arc::clone(&clear));
    watches
        .clear
        .during(rig, Some(request), |_| clear.take().is_some())?;
    // Make them again, then let most of them rest.
    every_flow(rig);
    let few = flows.min(GO_ON);
    come(rig, few);
    rig.skip(LATER);
    rig.round(); // its end is that much later than its beginning
    watches
        .expiry
        .during(rig, None, |rig| rig.sessions() <= u64::from(few))
}

/// What is seen of one event.
struct Watch {
    per_second: u64,
    rounds_ns: Histogram<u64>,
    /// In cycles, by the place of the round in the event.
    shortest: Vec<u32>,
    machine: EmptyLoop,
    is_first: bool,
}

impl Watch {
    fn new(per_second: u64) -> Result<Watch, String> {
        let rounds_ns = Histogram::new_with_bounds(1, 1_000_000_000, 2);
        Ok(Watch {
            per_second,
            rounds_ns: rounds_ns.map_err(|e| e.to_string())?,
            shortest: Vec::new(),
            machine: EmptyLoop::new(per_second)?,
            is_first: true,
        })
    }

    /// Asks, and goes round until it is over. What whoever asked does with the answers is not the worker's business.
    fn during(
        &mut self,
        rig: &mut Rig,
        request: Option<Request>,
        mut is_over: impl FnMut(&Rig) -> bool,
    ) -> Result<(), String> {
        if request.is_some_and(|request| !rig.ask(request)) {
            return Err("the worker takes no questions".to_owned());
        }
        for place in 0..PATIENCE {
            let begin = cycles();
            rig.round();
            let took = cycles().saturating_sub(begin);
            let over = rig.apart(|| {
                self.saw(place as usize, took);
                self.machine.wait(took);
                is_over(rig)
            });
            if over {
                self.shortest.truncate(place as usize + 1);
                self.is_first = false;
                return Ok(());
            }
        }
        Err("the worker does not get done".to_owned())
    }

    fn saw(&mut self, place: usize, took: u64) {
        self.rounds_ns.saturating_record(self.nanoseconds(took));
        let took = u32::try_from(took).unwrap_or(u32::MAX);
        match self.shortest.get_mut(place) {
            Some(shortest) => *shortest = took.min(*shortest),
            None if self.is_first => self.shortest.push(took),
            None => {} // it took fewer rounds another time
        }
    }

    fn nanoseconds(&self, cycles: u64) -> u64 {
        (u128::from(cycles) * 1_000_000_000 / u128::from(self.per_second)) as u64
    }

    fn told(mut self, what: &'static str) -> Result<During, String> {
        let rounds = percentiles(&self.rounds_ns);
        self.rounds_ns.reset();
        for took in std::mem::take(&mut self.shortest) {
            let took = self.nanoseconds(u64::from(took));
            self.rounds_ns.saturating_record(took);
        }
        Ok(During {
            what,
            rounds,
            every_time: percentiles(&self.rounds_ns),
            machine: percentiles(self.machine.longer_ns()),
        })
    }
}
