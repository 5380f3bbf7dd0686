//! Asking the workers: over their bounded rings, with bounded ways back, and never for ever.
//!
//! Workers poll and wake nobody, so control looks for answers with short sleeps between. One
//! command at a time talks to a worker.

use std::sync::Arc;
use std::time::Duration;

use spillway_dataplane::command::{Explained, Query, Reply, Request, SessionFilter, SessionView};
use spillway_dataplane::esp::PeerView;
use spillway_dataplane::snapshot::WorkerId;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep, timeout};

use super::appliance::Appliance;

/// How long control sleeps when a worker has nothing for it yet.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// After so many entries the control thread's other tasks get a turn.
const GIVE_WAY: u64 = 256;

/// Most answers of one worker to `explain`: clients and global addresses of one peer.
const EXPLANATIONS: usize = 1024;

/// Why the workers could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The worker took nothing from its request ring.
    #[error("worker {} takes no requests: its request ring is full since {} ms", .0.0, .1.as_millis())]
    RingFull(WorkerId, Duration),
    /// Another command has the worker's attention.
    #[error("worker {} is busy with another command since {} ms; try again", .0.0, .1.as_millis())]
    Busy(WorkerId, Duration),
    /// The worker took the request and then stayed silent.
    #[error("worker {} did not answer for {} ms", .0.0, .1.as_millis())]
    Silent(WorkerId, Duration),
}

/// The way back from one worker; gone, the worker stops working on it.
struct Answer<T>(Arc<Reply<T>>);

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// The dynamic entries of all workers that a filter means, one worker after the other, with
/// memory for [`Limits::reply_capacity`](super::Limits::reply_capacity) entries.
pub struct SessionStream<'a> {
    appliance: &'a Appliance,
    filter: SessionFilter,
    /// The worker whose turn it is, and from which of its places on.
    worker: usize,
    from: u64,
    /// Entries given, so that the control thread's other tasks get their turn in between.
    given: u64,
    current: Option<Answer<SessionView>>,
}

impl<'a> SessionStream<'a> {
    /// A stream of the entries that `filter` means. No worker is asked before the first
    /// [`SessionStream::next`].
    #[must_use]
    pub fn new(appliance: &'a Appliance, filter: SessionFilter) -> SessionStream<'a> {
        SessionStream {
            appliance,
            filter,
            worker: 0,
            from: 0,
            given: 0,
            current: None,
        }
    }

    /// The next entry; `None` after the last one.
    ///
    /// # Errors
    /// A worker that can't be asked or falls silent.
    pub async fn next(&mut self) -> Result<Option<SessionView>, AskError> {
        loop {
            let Some(answer) = &self.current else {
                if self.worker == self.appliance.workers().len() {
                    return Ok(None);
                }
                self.current = Some(self.ask().await?);
                continue;
            };
            if let Some(session) = answer.0.take() {
                self.given += 1;
                if self.given.is_multiple_of(GIVE_WAY) {
                    tokio::task::yield_now().await;
                }
                return Ok(Some(session));
            }
            match answer.0.resume() {
                Some(place) => self.from = place,
                None => (self.worker, self.from) = (self.worker + 1, 0),
            }
            self.current = None;
        }
    }

    /// As many entries as there is room for. Whoever reads them may take his time: the worker has
    /// done its part, and others have their turn with it.
    async fn ask(&self) -> Result<Answer<SessionView>, AskError> {
        let sessions = |reply| Request::Sessions(self.filter, self.from, reply);
        page(self.appliance, self.worker, sessions).await
    }
}

/// As much of an answer as there is room for, once all of that is there.
async fn page<T>(
    appliance: &Appliance,
    index: usize,
    make: impl FnOnce(Arc<Reply<T>>) -> Request,
) -> Result<Answer<T>, AskError> {
    let _turn = turn(appliance, index).await?;
    let reply = Reply::new(appliance.parts.limits.reply_capacity);
    let answer = Answer(Arc::clone(&reply));
    request(appliance, index, make(reply)).await?;
    let id = appliance.workers()[index].id;
    wait(&answer.0, id, appliance.parts.limits.answer, Reply::is_done).await?;
    Ok(answer)
}

/// The outside hosts with which clients have tunnels, by worker. One may come more than once, see
/// [`Request::Peers`].
///
/// # Errors
/// A worker that can't be asked or falls silent.
pub async fn peers(appliance: &Appliance) -> Result<Vec<(WorkerId, PeerView)>, AskError> {
    let mut all = Vec::new();
    for (index, worker) in appliance.workers().iter().enumerate() {
        let mut from = Some(0);
        while let Some(place) = from {
            let answer = page(appliance, index, |reply| Request::Peers(place, reply)).await?;
            from = answer.0.resume();
            while let Some(peer) = answer.0.take() {
                all.push((worker.id, peer));
            }
        }
    }
    Ok(all)
}

/// Removes the dynamic entries that `filter` means from all workers, and says how many.
///
/// # Errors
/// A worker that can't be asked or falls silent; workers before it have cleared theirs.
pub async fn clear(appliance: &Appliance, filter: SessionFilter) -> Result<u64, AskError> {
    count(appliance, |reply| Request::Clear(filter, reply)).await
}

/// Makes all workers remove the entries that the present snapshot would not make, and says how
/// many those were. The main program calls it after publishing a new configuration.
///
/// # Errors
/// A worker that can't be asked or falls silent; workers before it have removed theirs.
pub async fn reconcile(appliance: &Appliance) -> Result<u64, AskError> {
    count(appliance, Request::Reconcile).await
}

/// The same where ways have changed, but for entries whose packets have none at present.
///
/// # Errors
/// As [`reconcile`].
pub async fn reroute(appliance: &Appliance) -> Result<u64, AskError> {
    count(appliance, Request::Reroute).await
}

/// A dry run; the answers of all workers that have one.
///
/// # Errors
/// A worker that can't be asked or falls silent.
pub(super) async fn explain(
    appliance: &Appliance,
    query: Query,
) -> Result<Vec<Explained>, AskError> {
    let mut all = Vec::new();
    for (index, worker) in appliance.workers().iter().enumerate() {
        let _turn = turn(appliance, index).await?;
        let reply = Reply::new(EXPLANATIONS);
        let answer = Answer(Arc::clone(&reply));
        request(appliance, index, Request::Explain(query, reply)).await?;
        let limit = appliance.parts.limits.answer;
        while let Some(one) = poll(&answer.0, worker.id, limit).await? {
            all.push(one);
        }
    }
    Ok(all)
}

async fn count(
    appliance: &Appliance,
    make: impl Fn(Arc<Reply<u64>>) -> Request,
) -> Result<u64, AskError> {
    let mut sum = 0;
    for (index, worker) in appliance.workers().iter().enumerate() {
        let _turn = turn(appliance, index).await?;
        let reply = Reply::new(1);
        let answer = Answer(Arc::clone(&reply));
        request(appliance, index, make(reply)).await?;
        let limit = appliance.parts.limits.answer;
        while let Some(n) = poll(&answer.0, worker.id, limit).await? {
            sum += n;
        }
    }
    Ok(sum)
}

/// Waits for this command's turn with a worker.
pub(super) async fn turn(
    appliance: &Appliance,
    index: usize,
) -> Result<MutexGuard<'_, ()>, AskError> {
    let limit = appliance.parts.limits.ring;
    timeout(limit, appliance.turns[index].lock())
        .await
        .map_err(|_| AskError::Busy(appliance.workers()[index].id, limit))
}

/// Puts a request into a worker's ring, trying for a short while if it is full.
pub(super) async fn request(
    appliance: &Appliance,
    index: usize,
    mut request: Request,
) -> Result<(), AskError> {
    let worker = &appliance.workers()[index];
    let limit = appliance.parts.limits.ring;
    let start = Instant::now();
    while let Err(back) = worker.requests.push(request) {
        if start.elapsed() >= limit {
            return Err(AskError::RingFull(worker.id, limit));
        }
        request = back;
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// The next item of a reply, or `None` when the worker has finished.
pub(super) async fn poll<T>(
    reply: &Reply<T>,
    worker: WorkerId,
    limit: Duration,
) -> Result<Option<T>, AskError> {
    wait(reply, worker, limit, |reply| {
        reply.has_item() || reply.is_finished()
    })
    .await?;
    Ok(reply.take())
}

/// Waits for what a worker does, as long as it is at it.
async fn wait<T>(
    reply: &Reply<T>,
    worker: WorkerId,
    limit: Duration,
    until: impl Fn(&Reply<T>) -> bool,
) -> Result<(), AskError> {
    let (mut since, mut slices) = (Instant::now(), reply.slices());
    while !until(reply) {
        if reply.slices() != slices {
            (since, slices) = (Instant::now(), reply.slices());
        } else if since.elapsed() >= limit {
            return Err(AskError::Silent(worker, limit));
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}
