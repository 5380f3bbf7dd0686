//! How long rounds take while something happens to the whole table: an operator shows it, a
//! configuration is loaded, everything is cleared, everything expires.

use std::sync::Arc;

use hdrhistogram::Histogram;
use spillway_dataplane::command::{Reply, Request, SessionFilter};

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

/// The latencies of each event's rounds.
pub(super) struct Events {
    pub(super) show: Percentiles,
    pub(super) reload: Percentiles,
    pub(super) clear: Percentiles,
    pub(super) expiry: Percentiles,
}

/// Lets all of it happen, one after the other, while packets from inside come. The error is one
/// sentence.
pub(super) fn events(options: &Bench, flows: u32, rig: &mut Rig) -> Result<Events, String> {
    let burst = usize::from(options.burst);
    let all = Templates::out(flows, options.proto).in_order(options.order);
    let all = source(rig, &Arc::new(all), burst);
    rig.attach(vec![(INSIDE, all)]);
    let show = Reply::new(ANSWERS);
    let all = SessionFilter::default();
    let show = during(
        rig,
        Request::Sessions(all, Arc::clone(&show)),
        || {
            while show.take().is_some() {}
            show.is_finished()
        },
    )?;
    rig.publish_again();
    let reload = Reply::new(1);
    let reload = during(rig, Request::Reconcile(Arc::clone(&reload)), || {
        reload.take().is_some()
    })?;
    let clear = Reply::new(1);
    let clear = during(rig, Request::Clear(all, Arc::clone(&clear)), || {
        clear.take().is_some()
    })?;
    // Make them again, then let most of them rest.
    for _ in 0..2 * (flows as usize).div_ceil(burst) {
        rig.round();
    }
    let few = Templates::out(flows.min(GO_ON), options.proto).in_order(options.order);
    let few = source(rig, &Arc::new(few), burst);
    rig.attach(vec![(INSIDE, few)]);
    rig.round();
    rig.skip(LATER);
    rig.round(); // its end is that much later than its beginning
    let _ = rig.histograms()?;
    let mut rounds = 0;
    while rig.sessions() > u64::from(GO_ON) && rounds < PATIENCE {
        rig.round();
        rounds += 1;
    }
    if rig.sessions() > u64::from(GO_ON) {
        return Err("the entries do not expire".to_owned());
    }
    let expiry = percentiles(&rig.histograms()?.burst_ns);
    Ok(Events {
        show,
        reload,
        clear,
        expiry,
    })
}

fn during(
    rig: &mut Rig,
    request: Request,
    mut is_over: impl FnMut() -> bool,
) -> Result<Percentiles, String> {
    let _: Box<_> = rig.histograms()?;
    if !rig.ask(request) {
        return Err("the worker takes no questions".to_owned());
    }
    for _ in 0..PATIENCE {
        rig.round();
        if is_over() {
            let histogram: &Histogram<u64> = &rig.histograms()?.burst_ns;
            return Ok(percentiles(histogram));
        }
    }
    Err("the worker does not answer".to_owned())
}
