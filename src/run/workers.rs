//! The worker threads: wired, pinned, started, joined.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use crossbeam::queue::ArrayQueue;
use spillway_control::manage::WorkerHandle;
use spillway_control::publish::Publisher;
use spillway_dataplane::command::{Histograms, Occupancy, Request, ResolveQueue};
use spillway_dataplane::gateway::{Gateway, Options};
use spillway_dataplane::handover::{mesh, room_between};
use spillway_dataplane::rss::Steering;
use spillway_dataplane::snapshot::{PortId, WorkerId};
use spillway_dataplane::stats::WorkerStats;
use spillway_dataplane::time::Millis;
use spillway_dataplane::worker::{Clock, Idle, Links, PortChange, Worker};
use spillway_dpdk::{DpdkRxQueue, DpdkTxQueue, Eal, Mbuf, Pool};
use tracing::error;

use super::cores::numa_node;
use super::ports::Ports;
use crate::cli::{IdleArg, Run};

/// Requests of control that may wait for one worker.
const REQUESTS: usize = 16;
/// Changes of ports that may wait for one worker: all ports, all their queues, come and gone.
const PORT_CHANGES: usize = 1024;
/// Frames that may wait for the kernel twins.
const PUNTED: usize = 1024;
/// Frames of kernel twins that may wait for one worker.
const INJECTED: usize = 1024;
/// Next hops that may wait to be resolved.
const RESOLVE: usize = 256;

type Change = PortChange<DpdkRxQueue, DpdkTxQueue>;

/// The CPU's cycle counter since the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct CycleClock {
    start: u64,
    per_second: u64,
}

impl CycleClock {
    fn new(eal: &Eal) -> CycleClock {
        CycleClock {
            start: spillway_dpdk::cycles(),
            per_second: spillway_dpdk::cycles_hz(eal),
        }
    }

    /// Milliseconds since the start, as the workers count them.
    pub(super) fn millis(self) -> Millis {
        Millis(self.cycles() / (self.per_second / 1000).max(1))
    }
}

impl Clock for CycleClock {
    fn cycles(&self) -> u64 {
        // Counters of different cores may be some cycles apart.
        spillway_dpdk::cycles().saturating_sub(self.start)
    }

    fn cycles_per_second(&self) -> u64 {
        self.per_second
    }
}

/// One started worker.
struct Started {
    core: usize,
    requests: Arc<ArrayQueue<Request>>,
    changes: Arc<ArrayQueue<Change>>,
    inject: Arc<ArrayQueue<(PortId, Mbuf)>>,
    stats: Arc<WorkerStats>,
    capacity: usize,
    octets: usize,
    thread: Option<JoinHandle<()>>,
}

/// All workers, and what control shares with them.
pub(super) struct Workers {
    started: Vec<Started>,
    pub(super) punt: Arc<ArrayQueue<(PortId, Mbuf)>>,
    pub(super) resolve: ResolveQueue,
    pub(super) occupancy: Arc<Occupancy>,
    pub(super) clock: CycleClock,
    stop: Arc<AtomicBool>,
}

impl Workers {
    /// Starts a worker on each core. The errors are a sentence each.
    pub(super) fn start(
        options: &Run,
        cores: &[usize],
        eal: &Arc<Eal>,
        pool: &Pool,
        ports: &Ports,
        steering: &Steering,
        publisher: &Mutex<Publisher>,
    ) -> Result<Workers, Vec<String>> {
        let peers = mesh(cores.len() as u8, room_between(cores.len() as u8));
        let mut workers = Workers {
            started: Vec::new(),
            punt: Arc::new(ArrayQueue::new(PUNTED)),
            resolve: Arc::new(ArrayQueue::new(RESOLVE)),
            occupancy: Arc::default(),
            clock: CycleClock::new(eal),
            stop: Arc::default(),
        };
        let snapshot = publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .shared();
        let seed = seed();
        for ((at, core), peers) in cores.iter().enumerate().zip(peers) {
            let me = WorkerId(at as u8);
            let changes = Arc::new(ArrayQueue::new(PORT_CHANGES));
            let links = Links {
                snapshot: Arc::clone(&snapshot),
                requests: Arc::new(ArrayQueue::new(REQUESTS)),
                ports: Arc::clone(&changes),
                inject: Arc::new(ArrayQueue::new(INJECTED)),
                punt: Arc::clone(&workers.punt),
                resolve: Arc::clone(&workers.resolve),
                peers,
                transmitter: ports.transmitters(me),
                stop: Arc::clone(&workers.stop),
            };
            let gateway = Options {
                me,
                workers: cores.len() as u8,
                sessions: options.sessions.div_ceil(cores.len() as u32),
                seed,
            };
            let started = workers.spawn(options, (gateway, steering), *core, links, eal, pool);
            match started {
                Ok(started) => workers.started.push(started),
                Err(sentence) => {
                    workers.stop();
                    return Err(vec![sentence]);
                }
            }
        }
        Ok(workers)
    }

    fn spawn(
        &self,
        options: &Run,
        (gateway, steering): (Options, &Steering),
        core: usize,
        links: Links<Mbuf, DpdkRxQueue, DpdkTxQueue>,
        eal: &Arc<Eal>,
        pool: &Pool,
    ) -> Result<Started, String> {
        let stats = Arc::new(WorkerStats::new(links.transmitter.len()));
        let occupancy = Arc::clone(&self.occupancy);
        let clock = self.clock;
        let (requests, inject, changes) = (
            Arc::clone(&links.requests),
            Arc::clone(&links.inject),
            Arc::clone(&links.ports),
        );
        let idle = match options.idle {
            IdleArg::Sleep => Idle::Sleep,
            IdleArg::Spin => Idle::Spin,
        };
        let name = format!("worker {}", gateway.me.0);
        let histograms = Histograms::new().map_err(|e| format!("{name}: {e}"))?;
        let (ready, outcome) = mpsc::sync_channel(1);
        let (pool, counters) = (pool.clone(), Arc::clone(&stats));
        let (me, eal) = (gateway.me, Arc::clone(eal));
        let steering = steering.clone();
        let work = move || {
            if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
                let _ = ready.send(Err(format!("can't be pinned to core {core}")));
                return;
            }
            let _registered = match spillway_dpdk::thread_register(&eal) {
                Ok(guard) => guard,
                Err(error) => {
                    let _ = ready.send(Err(error.to_string()));
                    return;
                }
            };
            // Made here, so that its memory is on this core's NUMA node.
            let gateway = Gateway::new(gateway, counters, occupancy).with_steering(&steering);
            let sizes = (gateway.table().capacity(), gateway.table().octets());
            let mut worker =
                Worker::new(me, gateway, pool, links, clock, Box::new(histograms), idle);
            let _ = ready.send(Ok(sizes));
            worker.run();
        };
        let thread = std::thread::Builder::new().name(name.clone()).spawn(work);
        let thread = thread.map_err(|e| format!("{name} can't start: {e}"))?;
        let (capacity, octets) = match outcome.recv() {
            Ok(Ok(sizes)) => sizes,
            Ok(Err(why)) => return Err(format!("{name}: {why}")),
            Err(_) => return Err(format!("{name} ended at its start")),
        };
        Ok(Started {
            core,
            requests,
            changes,
            inject,
            stats,
            capacity,
            octets,
            thread: Some(thread),
        })
    }

    /// What `show` needs of each worker.
    pub(super) fn handles(&self) -> Vec<WorkerHandle> {
        let handle = |(at, worker): (usize, &Started)| WorkerHandle {
            id: WorkerId(at as u8),
            core: Some(worker.core),
            numa_node: numa_node(worker.core),
            requests: Arc::clone(&worker.requests),
            stats: Arc::clone(&worker.stats),
            capacity: worker.capacity as u64,
            memory_bytes: worker.octets as u64,
        };
        self.started.iter().enumerate().map(handle).collect()
    }

    /// By port, the ring to the worker that sends what the port's kernel twin says.
    pub(super) fn injectors(&self, ports: &Ports) -> Vec<Arc<ArrayQueue<(PortId, Mbuf)>>> {
        ports
            .transmitters(WorkerId(0))
            .iter()
            .map(|worker| Arc::clone(&self.started[worker.index()].inject))
            .collect()
    }

    /// Tells a worker of a change of its ports.
    pub(super) fn change_port(&self, worker: usize, change: Change) {
        if self.started[worker].changes.push(change).is_err() {
            error!("worker {worker} does not take changes of its ports: it hangs");
        }
    }

    /// The first worker whose thread has ended by itself.
    pub(super) fn fallen(&self) -> Option<usize> {
        self.started
            .iter()
            .position(|worker| worker.thread.as_ref().is_none_or(JoinHandle::is_finished))
    }

    /// Ends all workers; their queues are gone when this returns.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (at, worker) in self.started.iter_mut().enumerate() {
            if worker
                .thread
                .take()
                .is_some_and(|thread| thread.join().is_err())
            {
                error!("worker {at} has panicked");
            }
            while worker.changes.pop().is_some() {}
            while worker.inject.pop().is_some() {}
        }
        while self.punt.pop().is_some() {}
    }

    /// A sentence about each worker.
    pub(super) fn describe(&self) -> Vec<String> {
        let line = |(at, worker): (usize, &Started)| {
            format!(
                "worker {at}: core {}, NUMA node {}, {} entries in {} MiB",
                worker.core,
                numa_node(worker.core).map_or("unknown".to_owned(), |node| node.to_string()),
                worker.capacity,
                worker.octets.div_ceil(1 << 20)
            )
        };
        self.started.iter().enumerate().map(line).collect()
    }
}

/// A number that nobody outside can foresee: the standard library's hash keys are random.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one("spillway")
}
