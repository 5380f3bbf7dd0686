//! How long rounds take while something happens to the whole table: an operator shows it, a
//! configuration is loaded, everything is cleared, everything expires.

use std::sync::Arc;

use spillway_dataplane::command::{Reply, Request, SessionFilter};
use spillway_dpdk::cycles;

use super::machine::EmptyLoop;
use super::measure::{Percentiles, percentiles};
use super::rig::{INSIDE, Rig, source};
use super::traffic::Templates;
use crate::cli::Bench;

/// Rounds after which an event that is not over counts as hanging.
const PATIENCE: u32 = 50_000_000;
/// Answers that may wait for whoever asked.
const ANSWERS: usize = 4096;
/// Flows that go on while all others expire.
const GO_ON: u32 = 1000;
/// Longer than any timer of the flows.
const LATER: u64 = 86_400 + 1;

/// How long rounds took while something happened, and in turn with them how much longer than that
/// an empty loop took. In nanoseconds.
pub(super) struct During {
    pub(super) rounds: Percentiles,
    pub(super) machine: Percentiles,
}

/// The latencies of each event's rounds.
pub(super) struct Events {
    pub(super) show: During,
    pub(super) reload: During,
    pub(super) clear: During,
    pub(super) expiry: During,
}

/// Lets all of it happen, one after the other, while packets from inside come. The error is one
/// sentence.
pub(super) fn events(options: &Bench, flows: u32, rig: &mut Rig) -> Result<Events, String> {
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
    let mut show = Reply::new(ANSWERS);
    let request = Request::Sessions(everything, 0, Arc::clone(&show));
    let show = during(rig, Some(request), |rig| {
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
    let reload = during(rig, Some(request), |_| reload.take().is_some())?;
    let clear = Reply::new(1);
    let request = Request::Clear(everything, Arc::clone(&clear));
    let clear = during(rig, Some(request), |_| clear.take().is_some())?;
    // Make them again, then let most of them rest.
    every_flow(rig);
    let few = flows.min(GO_ON);
    come(rig, few);
    rig.skip(LATER);
    rig.round(); // its end is that much later than its beginning
    let expiry = during(rig, None, |rig| rig.sessions() <= u64::from(few))?;
    Ok(Events {
        show,
        reload,
        clear,
        expiry,
    })
}

/// Asks, and goes round until it is over. What whoever asked does with the answers is not the worker's business.
fn during(
    rig: &mut Rig,
    request: Option<Request>,
    mut is_over: impl FnMut(&Rig) -> bool,
) -> Result<During, String> {
    let mut empty_loop = EmptyLoop::new(rig.per_second())?;
    let _: Box<_> = rig.histograms()?;
    if request.is_some_and(|request| !rig.ask(request)) {
        return Err("the worker takes no questions".to_owned());
    }
    for _ in 0..PATIENCE {
        let begin = cycles();
        rig.round();
        let took = cycles().saturating_sub(begin);
        let over = rig.apart(|| {
            empty_loop.wait(took);
            is_over(rig)
        });
        if over {
            return Ok(During {
                rounds: percentiles(&rig.histograms()?.burst_ns),
                machine: percentiles(empty_loop.longer_ns()),
            });
        }
    }
    Err("the worker does not get done".to_owned())
}
