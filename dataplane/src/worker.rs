//! The poll loop of one worker: receive, process, send, age, serve control; and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use crossbeam::queue::ArrayQueue;

use crate::command::{Histograms, Request, ResolveQueue};
use crate::fib::NextHop;
use crate::gateway::{Asking, Gateway, Item, Meta, Output, Pass, Spare};
use crate::handover::{Given, Inbox, Outboxes, Passed, Peers};
use crate::packet::{BURST, Burst, Packet, PacketPool, RxQueue, TxQueue, octets_of};
use crate::prefetch::prefetch_write;
use crate::snapshot::{PortId, Snapshot, WorkerId};
use crate::stats::{Counter, DropReason, WorkerStats};
use crate::time::Millis;

/// A port's queues, on their way to or from the worker that polls them.
pub struct Queues<R, T> {
    /// The port.
    pub port: PortId,
    /// Its receive queue for this worker, if this worker has one.
    pub rx: Option<R>,
    /// Its transmit queue for this worker, if this worker has one.
    pub tx: Option<T>,
}

/// Attaching and detaching ports while the worker runs.
pub enum PortChange<R, T> {
    /// Poll these queues from now on.
    Attach(Queues<R, T>),
    /// Poll one more receive queue of a port: it has more queues than there are workers.
    AttachRx(PortId, R),
    /// Stop using this port; its queues are dropped.
    Detach(PortId),
}

/// What a worker does when nothing comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Poll on.
    Spin,
    /// Nap for a short while, once a number of rounds in a row brought nothing.
    Sleep,
}

/// Rounds without work before a worker naps.
const ROUNDS_BEFORE_NAP: u32 = 256;
/// How long a nap lasts at first and, once it has been quiet for a while, at most; the system's
/// timer slack comes on top.
const NAP: Duration = Duration::from_micros(20);
const LONG_NAP: Duration = Duration::from_micros(250);
/// Rounds without work before naps are long.
const ROUNDS_BEFORE_LONG_NAP: u32 = 1024;
/// Items taken from each ring in one round.
const RING_BUDGET: usize = BURST;

/// The clock as a worker reads it, once a round.
pub trait Clock {
    /// CPU cycles since the start of time, which is the same for all workers.
    fn cycles(&self) -> u64;
    /// Cycles a second.
    fn cycles_per_second(&self) -> u64;
}

/// Cycles in other units, without a division.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Cycles of a millisecond.
    per_ms: u64,
    /// Nanoseconds of a cycle, times 2^32.
    ns: u64,
    /// The present millisecond, and the cycle in which it began.
    ms: u64,
    began: u64,
}

impl Pace {
    fn new(cycles_per_second: u64) -> Pace {
        Pace {
            per_ms: (cycles_per_second / 1000).max(1),
            ns: ((1_000_000_000_u128 << 32) / u128::from(cycles_per_second.max(1))) as u64,
            ms: 0,
            began: 0,
        }
    }

    /// Milliseconds since the start of time.
    #[inline]
    fn millis(&mut self, cycles: u64) -> Millis {
        // Earlier than before, or in another millisecond: divide.
        if cycles.wrapping_sub(self.began) >= self.per_ms {
            self.ms = cycles / self.per_ms;
            self.began = self.ms * self.per_ms;
        }
        Millis(self.ms)
    }

    #[inline]
    fn nanoseconds(&self, cycles: u64) -> u64 {
        ((u128::from(cycles) * u128::from(self.ns)) >> 32) as u64
    }
}

/// Everything around a worker that others hold the other end of.
pub struct Links<P, R, T> {
    /// The published configuration.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Requests of control.
    pub requests: Arc<ArrayQueue<Request>>,
    /// Ports that come and go.
    pub ports: Arc<ArrayQueue<PortChange<R, T>>>,
    /// Frames of kernel twins, to be sent as they are.
    pub inject: Arc<ArrayQueue<(PortId, P)>>,
    /// Frames for kernel twins.
    pub punt: Arc<ArrayQueue<(PortId, P)>>,
    /// Next hops to resolve.
    pub resolve: ResolveQueue,
    /// Its ends of the rings between workers.
    pub peers: Peers<P>,
    /// Which worker has the transmit queue that this worker uses for each port: itself, or the
    /// one that it passes packets to. By [`PortId`].
    pub transmitter: Vec<WorkerId>,
    /// Set when the worker must end.
    pub stop: Arc<AtomicBool>,
}

/// One worker.
pub struct Worker<P: Packet, R, T, A, C> {
    /// Apart from the rest, so that a round can borrow the configuration while it changes the rest.
    snapshot: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    parts: Parts<P, R, T, A, C>,
}

/// What a worker works with.
struct Parts<P: Packet, R, T, A, C> {
    gateway: Gateway<P>,
    rx: Vec<(PortId, R)>,
    egress: Egress<P, T, A>,
    requests: Arc<ArrayQueue<Request>>,
    ports: Arc<ArrayQueue<PortChange<R, T>>>,
    inject: Arc<ArrayQueue<(PortId, P)>>,
    inboxes: Vec<Inbox<P>>,
    stop: Arc<AtomicBool>,
    clock: C,
    pace: Pace,
    /// When the last round that moved a packet ended, unless a round without one came after it.
    ended: Option<u64>,
    histograms: Box<Histograms>,
    idle: Idle,
}

impl<P, R, T, A, C> Worker<P, R, T, A, C>
where
    P: Packet,
    R: RxQueue<Packet = P>,
    T: TxQueue<Packet = P>,
    A: PacketPool<Packet = P>,
    C: Clock,
{
    /// A worker that decides with `gateway`, takes new packets from `pool` and is linked to the
    /// rest by `links`. Its ports come through `links.ports`.
    pub fn new(
        me: WorkerId,
        gateway: Gateway<P>,
        pool: A,
        links: Links<P, R, T>,
        clock: C,
        histograms: Box<Histograms>,
        idle: Idle,
    ) -> Worker<P, R, T, A, C> {
        let ports = links.transmitter.len();
        let stats = Arc::clone(gateway.stats());
        let parts = Parts {
            gateway,
            rx: Vec::with_capacity(ports),
            egress: Egress {
                me,
                queues: (0..ports)
                    .map(|_| Lane {
                        queue: None,
                        burst: Burst::new(),
                    })
                    .collect(),
                transmitter: links.transmitter,
                outboxes: links.peers.outboxes,
                punt: links.punt,
                resolve: links.resolve,
                pool,
                stats,
            },
            requests: links.requests,
            ports: links.ports,
            inject: links.inject,
            inboxes: links.peers.inboxes,
            stop: links.stop,
            pace: Pace::new(clock.cycles_per_second()),
            clock,
            ended: None,
            histograms,
            idle,
        };
        Worker {
            snapshot: Cache::new(links.snapshot),
            parts,
        }
    }

    /// The worker's share of the translation.
    #[must_use]
    pub fn gateway(&self) -> &Gateway<P> {
        &self.parts.gateway
    }

    /// Runs until told to stop.
    pub fn run(&mut self) {
        let mut quiet = 0_u32;
        while !self.parts.stop.load(Ordering::Relaxed) {
            if self.round() {
                quiet = 0;
                continue;
            }
            quiet = quiet.saturating_add(1);
            if self.parts.idle == Idle::Sleep && quiet > ROUNDS_BEFORE_NAP {
                self.parts.egress.stats.count(Counter::Naps);
                std::thread::sleep(if quiet > ROUNDS_BEFORE_LONG_NAP {
                    LONG_NAP
                } else {
                    NAP
                });
            }
        }
        self.parts.let_go();
    }

    /// One round; whether there was anything to do.
    pub fn round(&mut self) -> bool {
        self.parts.round(self.snapshot.load())
    }
}

impl<P, R, T, A, C> Parts<P, R, T, A, C>
where
    P: Packet,
    R: RxQueue<Packet = P>,
    T: TxQueue<Packet = P>,
    A: PacketPool<Packet = P>,
    C: Clock,
{
    fn round(&mut self, snapshot: &Snapshot) -> bool {
        let begin = self.ended.take().unwrap_or_else(|| self.clock.cycles());
        let now = self.pace.millis(begin);
        let mut moved = 0;
        self.change_ports();
        // While this worker's own packets are decided, the memory brings those that others gave it.
        for inbox in &mut self.inboxes {
            inbox.look();
            inbox.show(P::prefetch_first);
        }
        for at in 0..self.rx.len() {
            moved += self.receive(now, snapshot, at);
        }
        moved += self.take_over(now, snapshot);
        moved += self.take_injected();
        // More packets may be waiting where some came: what else there is to do waits rather than they.
        let spare = if moved > 0 {
            Spare::Little
        } else {
            Spare::Much
        };
        let mut pass = Pass {
            now,
            snapshot,
            out: &mut self.egress,
        };
        let aged = self.gateway.age(&mut pass, spare);
        let served = self.serve(now, snapshot, spare);
        self.egress.flush();
        self.account(begin, moved);
        moved > 0 || aged || served
    }

    /// Counts what is still here when the worker ends.
    fn let_go(&mut self) {
        self.gateway.let_go();
        let mut left = 0;
        for inbox in &mut self.inboxes {
            left += inbox.empty() as u64;
        }
        while let Some(_injected) = self.inject.pop() {
            left += 1;
        }
        self.egress.stats.dropped_many(DropReason::Stopped, left);
    }

    fn receive(&mut self, now: Millis, snapshot: &Snapshot, at: usize) -> usize {
        let (port, queue) = &mut self.rx[at];
        let port = *port;
        let mut burst = Burst::new();
        let received = queue.receive(&mut burst);
        let unusable = queue.take_not_linear();
        let stats = &self.egress.stats;
        if unusable > 0 {
            stats.dropped_many(DropReason::NotLinear, unusable);
        }
        if received == 0 && unusable == 0 {
            return 0;
        }
        let mut pass = Pass {
            now,
            snapshot,
            out: &mut self.egress,
        };
        let octets = self.gateway.process_arrived(&mut pass, port, &mut burst);
        if let Some(counters) = self.egress.stats.port(port) {
            counters.rx_packets.add(received as u64 + unusable);
            counters.rx_octets.add(octets);
            counters.rx_dropped.add(unusable);
        }
        received
    }

    /// Packets that other workers gave us, up to a burst of each.
    fn take_over(&mut self, now: Millis, snapshot: &Snapshot) -> usize {
        let Parts {
            inboxes,
            gateway,
            egress,
            ..
        } = self;
        let mut burst = Burst::new();
        let (mut port, mut handoffs) = (PortId(0), 0);
        let mut taken = 0;
        for inbox in inboxes {
            inbox.show(|packet| prefetch_write(packet.data()));
            taken += inbox.take(|passed| match passed {
                Passed::Plain(of_port, of_handoffs, packet) => {
                    if (port, handoffs) != (of_port, of_handoffs) || burst.is_full() {
                        let meta = Meta::handed(port, handoffs);
                        egress.take_over(gateway, now, snapshot, meta, &mut burst);
                        (port, handoffs) = (of_port, of_handoffs);
                    }
                    burst.push(packet);
                }
                Passed::Process(Item { packet, meta }) => {
                    let before = Meta::handed(port, handoffs);
                    egress.take_over(gateway, now, snapshot, before, &mut burst);
                    burst.push(packet);
                    egress.take_over(gateway, now, snapshot, meta, &mut burst);
                }
                Passed::Ask(asking) => {
                    egress.stats.count(Counter::HandoffIn);
                    let mut pass = Pass {
                        now,
                        snapshot,
                        out: egress,
                    };
                    gateway.lend(&mut pass, asking);
                }
                Passed::Transmit(port, packet) => egress.send_own(port, packet),
            });
        }
        let meta = Meta::handed(port, handoffs);
        egress.take_over(gateway, now, snapshot, meta, &mut burst);
        taken
    }

    fn take_injected(&mut self) -> usize {
        if self.inject.is_empty() {
            return 0;
        }
        let mut taken = 0;
        while taken < RING_BUDGET {
            let Some((port, packet)) = self.inject.pop() else {
                break;
            };
            taken += 1;
            self.egress.stats.count(Counter::Injected);
            self.egress.transmit(port, packet);
        }
        taken
    }

    /// Goes on with what control asks; whether there was anything to do.
    fn serve(&mut self, now: Millis, snapshot: &Snapshot, spare: Spare) -> bool {
        let begun = if self.gateway.is_serving() || self.requests.is_empty() {
            None
        } else {
            self.requests.pop()
        };
        let any = begun.is_some() || self.gateway.is_serving();
        if let Some(request) = begun {
            match request {
                Request::Histograms(mut empty, reply) => {
                    std::mem::swap(&mut self.histograms, &mut empty);
                    // The requester made room for this one answer.
                    let _ = reply.give(empty);
                    reply.finish();
                }
                request => self.gateway.begin(request),
            }
        }
        self.gateway.serve(now, snapshot, spare);
        any
    }

    fn change_ports(&mut self) {
        if self.ports.is_empty() {
            return;
        }
        while let Some(change) = self.ports.pop() {
            match change {
                PortChange::Attach(Queues { port, rx, tx }) => {
                    self.rx.extend(rx.map(|rx| (port, rx)));
                    if let Some(lane) = self.egress.queues.get_mut(port.index()) {
                        lane.queue = tx;
                    }
                }
                PortChange::AttachRx(port, rx) => self.rx.push((port, rx)),
                PortChange::Detach(port) => {
                    self.rx.retain(|(have, _)| *have != port);
                    if let Some(lane) = self.egress.queues.get_mut(port.index()) {
                        lane.queue = None;
                    }
                }
            }
        }
    }

    fn account(&mut self, begin: u64, moved: usize) {
        let stats = &self.egress.stats;
        stats.count(Counter::Polls);
        if moved == 0 {
            return;
        }
        let end = self.clock.cycles();
        let cycles = end.saturating_sub(begin);
        self.ended = Some(end);
        stats.count(Counter::BusyPolls);
        stats.add(Counter::BusyCycles, cycles);
        stats.add(Counter::BusyPackets, moved as u64);
        let ns = self.pace.nanoseconds(cycles);
        self.histograms.burst_ns.saturating_record(ns);
        self.histograms
            .burst_packets
            .saturating_record(moved as u64);
    }
}

/// A port's transmit queue, if this worker has it, and what waits to be sent there.
struct Lane<P, T> {
    queue: Option<T>,
    burst: Burst<P>,
}

impl<P: Packet, T: TxQueue<Packet = P>> Lane<P, T> {
    /// Sends what waits.
    fn send(&mut self, stats: &WorkerStats, port: PortId) {
        let octets = octets_of(&self.burst);
        send(stats, port, &mut self.queue, &mut self.burst, octets);
    }
}

/// Where packets leave a worker.
struct Egress<P: Packet, T, A> {
    me: WorkerId,
    queues: Vec<Lane<P, T>>,
    transmitter: Vec<WorkerId>,
    outboxes: Outboxes<P>,
    punt: Arc<ArrayQueue<(PortId, P)>>,
    resolve: ResolveQueue,
    pool: A,
    stats: Arc<WorkerStats>,
}

impl<P: Packet, T: TxQueue<Packet = P>, A> Egress<P, T, A> {
    /// Sends from a queue of this worker.
    fn send_own(&mut self, port: PortId, packet: P) {
        let Some(lane) = self.queues.get_mut(port.index()) else {
            self.stats.dropped(DropReason::PortDown);
            return;
        };
        lane.burst.push(packet);
        if lane.burst.is_full() {
            lane.send(&self.stats, port);
        }
    }

    fn flush(&mut self) {
        for (at, lane) in self.queues.iter_mut().enumerate() {
            if !lane.burst.is_empty() {
                lane.send(&self.stats, PortId(at as u8));
            }
        }
        let given = self.outboxes.publish();
        self.account_given(given);
    }

    #[inline]
    fn give(&mut self, to: WorkerId, passed: Passed<P>) {
        let given = self.outboxes.put(to, passed);
        self.account_given(given);
    }

    #[inline]
    fn account_given(&self, given: Given) {
        if given == Given::default() {
            return;
        }
        self.stats.add(Counter::HandoffOut, given.handed);
        if given.lost > 0 {
            self.stats.dropped_many(DropReason::HandoffFull, given.lost);
        }
    }
}

/// Sends a burst of so many octets from a port's queue, if there is one, and leaves it empty.
fn send<P: Packet, T: TxQueue<Packet = P>>(
    stats: &WorkerStats,
    port: PortId,
    queue: &mut Option<T>,
    burst: &mut Burst<P>,
    octets: u64,
) {
    let packets = burst.len() as u64;
    let (sent, reason) = match queue {
        Some(queue) => (queue.transmit(burst) as u64, DropReason::TransmitFull),
        None => (0, DropReason::PortDown),
    };
    burst.clear();
    let unsent = packets - sent;
    if unsent > 0 {
        stats.dropped_many(reason, unsent);
    }
    if let Some(counters) = stats.port(port) {
        counters.tx_packets.add(sent);
        if unsent == 0 {
            counters.tx_octets.add(octets);
        } else {
            // A full queue is rare: its octets are taken as average ones.
            counters.tx_octets.add(octets * sent / packets.max(1));
            counters.tx_dropped.add(unsent);
        }
    }
}

impl<P: Packet, T: Send, A: PacketPool<Packet = P>> PacketPool for Egress<P, T, A> {
    type Packet = P;

    fn alloc(&mut self) -> Option<P> {
        self.pool.alloc()
    }
}

impl<P: Packet, T: TxQueue<Packet = P>, A: PacketPool<Packet = P>> Egress<P, T, A> {
    /// Lets the gateway decide about packets that other workers gave us, of which the same is known.
    #[inline(never)]
    fn take_over(
        &mut self,
        gateway: &mut Gateway<P>,
        now: Millis,
        snapshot: &Snapshot,
        meta: Meta,
        burst: &mut Burst<P>,
    ) {
        if burst.is_empty() {
            return;
        }
        self.stats.add(Counter::HandoffIn, burst.len() as u64);
        let mut pass = Pass {
            now,
            snapshot,
            out: self,
        };
        gateway.process_alike(&mut pass, meta, burst);
        burst.clear(); // it is empty
    }
}

impl<P: Packet, T: TxQueue<Packet = P>, A: PacketPool<Packet = P>> Output<P> for Egress<P, T, A> {
    fn transmit(&mut self, port: PortId, packet: P) {
        let via = self
            .transmitter
            .get(port.index())
            .copied()
            .unwrap_or(self.me);
        if via == self.me {
            self.send_own(port, packet);
        } else {
            self.give(via, Passed::Transmit(port, packet));
        }
    }

    #[inline]
    fn transmit_burst(&mut self, port: PortId, burst: &mut Burst<P>, octets: u64) {
        let own = self
            .transmitter
            .get(port.index())
            .is_none_or(|via| *via == self.me);
        match self.queues.get_mut(port.index()) {
            // What waits for its turn goes first.
            Some(lane) if own && lane.burst.is_empty() => {
                send(&self.stats, port, &mut lane.queue, burst, octets);
            }
            _ => burst
                .drain(..)
                .for_each(|packet| self.transmit(port, packet)),
        }
    }

    fn punt(&mut self, port: PortId, packet: P) {
        if self.punt.push((port, packet)).is_err() {
            self.stats.dropped(DropReason::PuntFull);
        }
    }

    #[inline]
    fn hand_off(&mut self, to: WorkerId, item: Item<P>) {
        self.give(to, Passed::from(item));
    }

    fn ask(&mut self, to: WorkerId, asking: Box<Asking<P>>) {
        self.give(to, Passed::Ask(asking));
    }

    fn resolve(&mut self, hop: NextHop) {
        // A full queue delays: this next hop is asked for again once what waits has been dropped.
        let _ = self.resolve.push(hop);
    }
}
