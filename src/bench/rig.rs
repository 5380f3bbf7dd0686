//! The worker under test: the real loop, tables and configuration between two ports in memory.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use spillway_control::config::{self, Policy};
use spillway_dataplane::command::{Histograms, Occupancy, Reply, Request};
use spillway_dataplane::fib::{Fib, Neighbour, NextHop, Route};
use spillway_dataplane::gateway::{Gateway, Options};
use spillway_dataplane::handover::{Peers, mesh, room_between};
use spillway_dataplane::rss::Steering;
use spillway_dataplane::snapshot::{Interface, PortId, Side, Snapshot, VrfId, WorkerId};
use spillway_dataplane::stats::{Counter, DropReason, WorkerStats};
use spillway_dataplane::table::Table;
use spillway_dataplane::time::Tick;
use spillway_dataplane::worker::{Clock, Idle, Links, PortChange, Queues, Worker};

use super::memory::{MemoryPacket, NoPool, Port, Sink, Source};
use super::team::locked;
use super::traffic::{INSIDE_MAC, OUTSIDE_MAC, ROUTER_MAC, Templates};

/// The configuration of every run.
pub(super) const CONFIGURATION: &str = "\
interface Inside
 ip address 10.0.0.1 255.0.0.0
 ip nat inside
interface Outside
 ip address 198.51.100.1 255.255.255.0
 ip nat outside
access-list 1 permit 10.0.0.0 0.255.255.255
ip nat inside source list 1 interface Outside overload
ip nat service list 1 ESP spi-match
ip route 0.0.0.0 0.0.0.0 198.51.100.2
";

/// The inside and the outside port.
pub(super) const INSIDE: PortId = PortId(0);
pub(super) const OUTSIDE: PortId = PortId(1);

/// The cycle counter, or one that counts readings so that a run can be repeated exactly.
pub(super) struct BenchClock {
    start: u64,
    per_second: u64,
    readings: Option<Cell<u64>>,
    /// Cycles by which the clock was set forward, and modulo 2^64 back.
    skipped: Rc<Cell<u64>>,
}

impl BenchClock {
    pub(super) fn new(per_second: u64, exact: bool) -> BenchClock {
        BenchClock {
            start: spillway_dpdk::cycles(),
            per_second,
            readings: exact.then(Cell::default),
            skipped: Rc::default(),
        }
    }
}

impl Clock for BenchClock {
    #[inline]
    fn cycles(&self) -> u64 {
        match &self.readings {
            None => spillway_dpdk::cycles()
                .saturating_sub(self.start)
                .wrapping_add(self.skipped.get()),
            Some(readings) => {
                readings.set(readings.get() + self.per_second / 1_000_000);
                readings.get()
            }
        }
    }

    fn cycles_per_second(&self) -> u64 {
        self.per_second
    }
}

type Changes = Arc<ArrayQueue<PortChange<Source, Sink>>>;

/// What a worker shares with the others of its team, and which of them it is.
pub(super) struct Place {
    pub(super) me: WorkerId,
    pub(super) workers: u8,
    /// Taken by the worker that is put here.
    peers: Mutex<Option<Peers<MemoryPacket>>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) occupancy: Arc<Occupancy>,
    steering: Arc<Steering>,
}

impl Place {
    /// The places of so many workers with one configuration. The error is one sentence.
    pub(super) fn of_team(workers: u8, steering: Steering) -> Result<Vec<Place>, String> {
        let steering = Arc::new(steering);
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot()?));
        let occupancy = Arc::new(Occupancy::default());
        let room = room_between(workers);
        let place = |(me, peers)| Place {
            me: WorkerId(me),
            workers,
            peers: Mutex::new(Some(peers)),
            snapshot: Arc::clone(&snapshot),
            occupancy: Arc::clone(&occupancy),
            steering: Arc::clone(&steering),
        };
        Ok((0..).zip(mesh(workers, room)).map(place).collect())
    }
}

/// One worker and the other ends of what it is linked to.
pub(super) struct Rig {
    worker: Worker<MemoryPacket, Source, Sink, NoPool, BenchClock>,
    changes: Changes,
    requests: Arc<ArrayQueue<Request>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Configurations that were replaced: freeing them is not the worker's business.
    replaced: Vec<Arc<Snapshot>>,
    skipped: Rc<Cell<u64>>,
    per_second: u64,
    stats: Arc<WorkerStats>,
    /// Octets that the tables take, and entries that they have room for.
    pub(super) octets: usize,
    pub(super) capacity: usize,
    /// Where packets go.
    pub(super) port: Port,
}

impl Rig {
    /// A worker alone with room for `sessions` entries. The error is one sentence.
    pub(super) fn new(sessions: u32, clock: BenchClock) -> Result<Rig, String> {
        let mut places = Place::of_team(1, Steering::default())?;
        Rig::at(&places.remove(0), sessions, clock)
    }

    /// The worker at a place, with room for `sessions` entries. The error is one sentence.
    pub(super) fn at(place: &Place, sessions: u32, clock: BenchClock) -> Result<Rig, String> {
        let stats = Arc::new(WorkerStats::new(2));
        let options = Options {
            me: place.me,
            workers: place.workers,
            sessions,
            seed: 0x5eed_5eed_5eed_5eed,
        };
        let gateway = Gateway::new(options, Arc::clone(&stats), Arc::clone(&place.occupancy));
        let gateway = gateway.with_steering(&place.steering);
        let (octets, capacity) = (gateway.table().octets(), gateway.table().capacity());
        let changes: Changes = Arc::new(ArrayQueue::new(16));
        let requests = Arc::new(ArrayQueue::new(4));
        let snapshot = Arc::clone(&place.snapshot);
        let (skipped, per_second) = (Rc::clone(&clock.skipped), clock.per_second);
        let links = Links {
            snapshot: Arc::clone(&snapshot),
            requests: Arc::clone(&requests),
            ports: Arc::clone(&changes),
            inject: Arc::new(ArrayQueue::new(4)),
            punt: Arc::new(ArrayQueue::new(4)),
            resolve: Arc::new(ArrayQueue::new(4)),
            peers: locked(&place.peers)
                .take()
                .ok_or("a worker is at this place already")?,
            transmitter: vec![place.me; 2],
            stop: Arc::default(),
        };
        let histograms = Box::new(Histograms::new().map_err(|e| e.to_string())?);
        let worker = Worker::new(
            place.me,
            gateway,
            NoPool,
            links,
            clock,
            histograms,
            Idle::Spin,
        );
        Ok(Rig {
            worker,
            changes,
            requests,
            snapshot,
            replaced: Vec::new(),
            skipped,
            per_second,
            stats,
            octets,
            capacity,
            port: Port::new(),
        })
    }

    /// Replaces what comes in and where: from now on packets come from these.
    pub(super) fn attach(&mut self, sources: Vec<(PortId, Source)>) {
        let mut sources: HashMap<PortId, Source> = sources.into_iter().collect();
        for port in [INSIDE, OUTSIDE] {
            let _ = self.changes.push(PortChange::Detach(port));
            let attach = PortChange::Attach(Queues {
                port,
                rx: sources.remove(&port),
                tx: Some(Sink(self.port)),
            });
            let _ = self.changes.push(attach);
        }
    }

    /// Takes away what comes in.
    pub(super) fn detach(&mut self) {
        for port in [INSIDE, OUTSIDE] {
            let _ = self.changes.push(PortChange::Detach(port));
        }
        self.round();
    }

    /// Cycles a second of the worker's clock.
    pub(super) fn per_second(&self) -> u64 {
        self.per_second
    }

    /// The worker's table.
    pub(super) fn table(&self) -> &Table {
        self.worker.gateway().table()
    }

    /// Sets the worker's clock forward.
    pub(super) fn skip(&self, seconds: u64) {
        self.skipped
            .set(self.skipped.get().wrapping_add(seconds * self.per_second));
    }

    /// Does something that is not the worker's business: its clock stands still, so that the time
    /// is not counted to its next round.
    pub(super) fn apart<R>(&self, work: impl FnOnce() -> R) -> R {
        let begin = spillway_dpdk::cycles();
        let result = work();
        let took = spillway_dpdk::cycles().saturating_sub(begin);
        self.skipped.set(self.skipped.get().wrapping_sub(took));
        result
    }

    /// Publishes the same configuration as a new one.
    pub(super) fn publish_again(&mut self) {
        let mut next = Snapshot::clone(&self.snapshot.load());
        next.generation += 1;
        self.replaced.push(self.snapshot.swap(Arc::new(next)));
    }

    /// Asks the worker for something; whether there was room for the question.
    pub(super) fn ask(&self, request: Request) -> bool {
        self.requests.push(request).is_ok()
    }

    /// One round of the worker's loop.
    #[inline]
    pub(super) fn round(&mut self) {
        self.worker.round();
    }

    /// Rounds of the worker's loop until there is nothing to do.
    pub(super) fn rounds_until_quiet(&mut self) {
        while self.worker.round() {}
    }

    /// Packets sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.port.with(|port| port.sent)
    }

    /// What was dropped, by reason; nothing may be.
    pub(super) fn drops(&self) -> Vec<String> {
        let some = |reason: &&DropReason| self.stats.drops(**reason) > 0;
        DropReason::ALL
            .iter()
            .filter(some)
            .map(|r| format!("{} {}", self.stats.drops(*r), r.name()))
            .collect()
    }

    /// Packets that came in, were given to other workers, and were lost because those took none.
    pub(super) fn traffic(&self) -> Traffic {
        let received = |port| self.stats.port(port).map_or(0, |p| p.rx_packets.value());
        Traffic {
            received: received(INSIDE) + received(OUTSIDE),
            handed_out: self.stats.counter(Counter::HandoffOut),
            lost: self.stats.drops(DropReason::HandoffFull),
        }
    }

    /// Entries made whose answers the card brings here, and whose answers it does not.
    pub(super) fn steered(&self) -> (u64, u64) {
        let counter = |counter| self.stats.counter(counter);
        let not = counter(Counter::AnswersNotSteered);
        (counter(Counter::AnswersSteered), not)
    }

    /// Entries in the table, and of ESP.
    pub(super) fn sessions(&self) -> u64 {
        self.stats.sessions.value() + self.worker.gateway().ipsec_entries() as u64
    }

    /// The worker's histograms since the last call. The error is one sentence.
    pub(super) fn histograms(&mut self) -> Result<Box<Histograms>, String> {
        let empty = self.apart(Histograms::new);
        let empty = Box::new(empty.map_err(|e| e.to_string())?);
        let reply = Reply::new(1);
        let _ = self
            .requests
            .push(Request::Histograms(empty, Arc::clone(&reply)));
        self.worker.round();
        reply
            .take()
            .ok_or_else(|| "the worker gave no histograms".to_owned())
    }
}

/// What [`Rig::traffic`] counts.
#[derive(Clone, Copy, Default)]
pub(super) struct Traffic {
    pub(super) received: u64,
    pub(super) handed_out: u64,
    pub(super) lost: u64,
}

impl Traffic {
    /// What came after `before`.
    pub(super) fn since(self, before: Traffic) -> Traffic {
        Traffic {
            received: self.received - before.received,
            handed_out: self.handed_out - before.handed_out,
            lost: self.lost - before.lost,
        }
    }

    /// Both together.
    pub(super) fn and(self, other: Traffic) -> Traffic {
        Traffic {
            received: self.received + other.received,
            handed_out: self.handed_out + other.handed_out,
            lost: self.lost + other.lost,
        }
    }
}

fn snapshot() -> Result<Snapshot, String> {
    let (config, _) = config::parse("bench", CONFIGURATION)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<String>())?;
    let config = Arc::new(config);
    let interface = |name: &str, side, mac| Interface {
        name: name.to_owned(),
        side,
        vrf: VrfId::GLOBAL,
        address: config.interface(name).and_then(|i| i.fixed()),
        mac,
        mtu: 1500,
        up: true,
    };
    let interfaces = vec![
        interface("Inside", Side::Inside, INSIDE_MAC),
        interface("Outside", Side::Outside, OUTSIDE_MAC),
    ];
    let via = Ipv4Addr::new(198, 51, 100, 2);
    let inside = Ipv4Addr::new(10, 255, 255, 254);
    // Inside, one router stands before the hosts, as outside.
    let routes = [(INSIDE, "10.0.0.0/8", inside), (OUTSIDE, "0.0.0.0/0", via)];
    let mut table = Vec::new();
    for (port, prefix, via) in routes {
        let prefix = prefix
            .parse()
            .map_err(|_| format!("{prefix} is no prefix"))?;
        table.push((prefix, Route::Via { port, via }));
    }
    let neighbour =
        |(port, _, address)| (NextHop { port, address }, Neighbour::Reachable(ROUTER_MAC));
    Ok(Snapshot {
        generation: 1,
        interfaces,
        fib: Arc::new(Fib::new(table, routes.map(neighbour))),
        nat: Policy::compile(config, &HashMap::new(), Tick(0), None).nat,
    })
}

/// Packets from inside or outside at the pace of `burst` a round.
pub(super) fn source(rig: &Rig, templates: &Arc<Templates>, burst: usize) -> Source {
    Source::new(rig.port, Arc::clone(templates), burst)
}
