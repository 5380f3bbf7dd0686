//! The poll loop, over queues in memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use spillway_dataplane::command::{Histograms, Occupancy, Reply, Request, SessionFilter};
use spillway_dataplane::gateway::{Gateway, Options};
use spillway_dataplane::handover::mesh;
use spillway_dataplane::packet::{Burst, Packet, PacketPool, RxQueue, TxQueue};
use spillway_dataplane::snapshot::{PortId, Snapshot, WorkerId};
use spillway_dataplane::stats::{Counter, DropReason, WorkerStats};
use spillway_dataplane::worker::{Clock, Idle, Links, PortChange, Queues, Worker};

use crate::support::{Effects, Frame, INSIDE, Lab, OUTSIDE, Policy, describe, ethernet, udp};

const OUT: &str = "203.0.113.5:9";

/// Both ends of a wire: what arrives and what was sent.
#[derive(Clone, Default)]
struct Wire {
    arriving: Arc<Mutex<VecDeque<Frame>>>,
    sent: Arc<Mutex<Vec<Frame>>>,
    not_linear: Arc<AtomicU64>,
    /// Most that one transmit takes.
    room: Option<usize>,
}

impl Wire {
    fn arrives(&self, frame: &[u8]) {
        self.arriving
            .lock()
            .expect("not poisoned")
            .push_back(Frame::new(frame));
    }

    fn sent(&self) -> Vec<String> {
        let frames = std::mem::take(&mut *self.sent.lock().expect("not poisoned"));
        frames.iter().map(|frame| describe(frame.data())).collect()
    }
}

impl RxQueue for Wire {
    type Packet = Frame;

    fn receive(&mut self, burst: &mut Burst<Frame>) -> usize {
        let mut arriving = self.arriving.lock().expect("not poisoned");
        let before = burst.len();
        while !burst.is_full()
            && let Some(frame) = arriving.pop_front()
        {
            burst.push(frame);
        }
        burst.len() - before
    }

    fn take_not_linear(&mut self) -> u64 {
        self.not_linear.swap(0, Ordering::Relaxed)
    }
}

impl TxQueue for Wire {
    type Packet = Frame;

    fn transmit(&mut self, burst: &mut Burst<Frame>) -> usize {
        let taken = burst.len().min(self.room.unwrap_or(usize::MAX));
        self.sent
            .lock()
            .expect("not poisoned")
            .extend(burst.drain(..).take(taken));
        taken
    }
}

struct Pool(Effects);

impl PacketPool for Pool {
    type Packet = Frame;

    fn alloc(&mut self) -> Option<Frame> {
        self.0.alloc()
    }
}

/// A thousand cycles a second: a cycle is a millisecond.
#[derive(Clone)]
struct Cycles(Arc<AtomicU64>);

impl Clock for Cycles {
    fn cycles(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn cycles_per_second(&self) -> u64 {
        1000
    }
}

type TestWorker = Worker<Frame, Wire, Wire, Pool, Cycles>;

struct Bench {
    lab: Lab,
    workers: Vec<TestWorker>,
    stats: Vec<Arc<WorkerStats>>,
    requests: Vec<Arc<ArrayQueue<Request>>>,
    ports: Vec<Arc<ArrayQueue<PortChange<Wire, Wire>>>>,
    inject: Vec<Arc<ArrayQueue<(PortId, Frame)>>>,
    punt: Arc<ArrayQueue<(PortId, Frame)>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    cycles: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Bench {
    /// Workers without ports; worker 0 has all transmit queues.
    fn new(count: u8) -> Bench {
        let lab = Lab::new(Policy::overload(), 1, 100);
        let snapshot = Arc::new(ArcSwap::from_pointee(lab.snapshot.clone()));
        let peers = mesh(count, 64);
        let punt = Arc::new(ArrayQueue::new(4));
        let cycles = Arc::new(AtomicU64::new(1000));
        let stop = Arc::new(AtomicBool::new(false));
        let occupancy = Arc::new(Occupancy::default());
        let mut bench = Bench {
            lab,
            workers: Vec::new(),
            stats: Vec::new(),
            requests: Vec::new(),
            ports: Vec::new(),
            inject: Vec::new(),
            punt,
            snapshot,
            cycles,
            stop,
        };
        for (me, peers) in (0..count).zip(peers) {
            let stats = Arc::new(WorkerStats::new(4));
            let options = Options {
                me: WorkerId(me),
                workers: count,
                sessions: 1000,
                seed: 7,
            };
            let gateway = Gateway::new(options, Arc::clone(&stats), Arc::clone(&occupancy));
            let requests = Arc::new(ArrayQueue::new(4));
            let ports = Arc::new(ArrayQueue::new(8));
            let inject = Arc::new(ArrayQueue::new(8));
            let links = Links {
                snapshot: Arc::clone(&bench.snapshot),
                requests: Arc::clone(&requests),
                ports: Arc::clone(&ports),
                inject: Arc::clone(&inject),
                punt: Arc::clone(&bench.punt),
                resolve: Arc::new(ArrayQueue::new(4)),
                peers,
                transmitter: vec![WorkerId(0); 4],
                stop: Arc::clone(&bench.stop),
            };
            let clock = Cycles(Arc::clone(&bench.cycles));
            let histograms = Box::new(Histograms::new().expect("good bounds"));
            let pool = Pool(Effects::default());
            bench.workers.push(Worker::new(
                WorkerId(me),
                gateway,
                pool,
                links,
                clock,
                histograms,
                Idle::Spin,
            ));
            bench.stats.push(stats);
            bench.requests.push(requests);
            bench.ports.push(ports);
            bench.inject.push(inject);
        }
        bench
    }

    fn attach(&self, worker: usize, port: PortId, rx: Option<&Wire>, tx: Option<&Wire>) {
        let queues = Queues {
            port,
            rx: rx.cloned(),
            tx: tx.cloned(),
        };
        assert!(self.ports[worker].push(PortChange::Attach(queues)).is_ok());
    }

    /// Rounds of all workers until none of them has anything to do.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let busy: Vec<_> = self.workers.iter_mut().map(Worker::round).collect();
            if !busy.contains(&true) {
                return;
            }
        }
        panic!("never quiet");
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.stats.iter().map(|s| s.drops(reason)).sum()
    }

    fn client(&self, host: u16) -> Vec<u8> {
        self.lab
            .frame(INSIDE, &udp(&format!("10.1.0.{host}:5000"), OUT).ip())
    }
}

#[test]
fn packets_pass_while_ports_come_and_go() {
    let mut bench = Bench::new(1);
    let (inside, outside) = (Wire::default(), Wire::default());
    inside.arrives(&bench.client(2));
    bench.settle();
    assert!(outside.sent().is_empty(), "no port yet");
    bench.attach(0, INSIDE, Some(&inside), Some(&inside));
    bench.attach(0, OUTSIDE, Some(&outside), Some(&outside));
    bench.settle();
    assert_eq!(outside.sent(), ["udp 198.51.100.1:5000 > 203.0.113.5:9"]);
    let stats = Arc::clone(&bench.stats[0]);
    let port = |port| stats.port(port).expect("a port");
    let len = bench.client(2).len() as u64;
    assert_eq!(
        (
            port(INSIDE).rx_packets.value(),
            port(INSIDE).rx_octets.value()
        ),
        (1, len)
    );
    assert_eq!(
        (
            port(OUTSIDE).tx_packets.value(),
            port(OUTSIDE).tx_octets.value()
        ),
        (1, len)
    );
    // The outside port leaves.
    assert!(bench.ports[0].push(PortChange::Detach(OUTSIDE)).is_ok());
    inside.arrives(&bench.client(2));
    outside.arrives(&bench.client(2));
    bench.settle();
    assert!(outside.sent().is_empty());
    assert_eq!(
        (
            bench.dropped(DropReason::PortDown),
            port(OUTSIDE).tx_dropped.value()
        ),
        (1, 1)
    );
    assert_eq!(
        outside.arriving.lock().expect("not poisoned").len(),
        1,
        "nobody reads it"
    );
    // And comes back.
    bench.attach(0, OUTSIDE, Some(&outside), Some(&outside));
    inside.arrives(&bench.client(2));
    bench.settle();
    assert_eq!(outside.sent().len(), 1);
    assert_eq!(bench.dropped(DropReason::NotOurMac), 1);
}

#[test]
fn a_full_transmit_queue_is_counted() {
    let mut bench = Bench::new(1);
    let inside = Wire::default();
    let outside = Wire {
        room: Some(10),
        ..Wire::default()
    };
    bench.attach(0, INSIDE, Some(&inside), None);
    bench.attach(0, OUTSIDE, None, Some(&outside));
    for _ in 0..40 {
        inside.arrives(&bench.client(2));
    }
    bench.settle();
    assert_eq!(outside.sent().len(), 10 + 8, "of rounds of 32 and 8");
    assert_eq!(bench.dropped(DropReason::TransmitFull), 22);
    let port = bench.stats[0].port(OUTSIDE).expect("a port");
    assert_eq!((port.tx_packets.value(), port.tx_dropped.value()), (18, 22));
}

#[test]
fn frames_in_several_buffers_are_counted_also_when_nothing_else_came() {
    let mut bench = Bench::new(1);
    let inside = Wire::default();
    bench.attach(0, INSIDE, Some(&inside), None);
    inside.not_linear.store(3, Ordering::Relaxed);
    bench.settle();
    let port = bench.stats[0].port(INSIDE).expect("a port");
    assert_eq!(bench.dropped(DropReason::NotLinear), 3);
    assert_eq!((port.rx_packets.value(), port.rx_dropped.value()), (3, 3));
}

#[test]
fn frames_to_and_from_the_kernel() {
    let mut bench = Bench::new(1);
    let (inside, outside) = (Wire::default(), Wire::default());
    bench.attach(0, INSIDE, Some(&inside), Some(&inside));
    bench.attach(0, OUTSIDE, Some(&outside), Some(&outside));
    let arp = ethernet([0xff; 6], [2; 6], 0x0806, &[0; 28]);
    for _ in 0..6 {
        inside.arrives(&arp);
    }
    assert!(bench.inject[0].push((OUTSIDE, Frame::new(&arp))).is_ok());
    bench.settle();
    assert_eq!(outside.sent(), ["arp"]);
    assert_eq!(bench.stats[0].counter(Counter::Injected), 1);
    assert_eq!(bench.punt.len(), 4);
    assert_eq!(bench.dropped(DropReason::PuntFull), 2);
    let (port, frame) = bench.punt.pop().expect("punted");
    assert_eq!((port, frame.data()), (INSIDE, &arp[..]));
}

#[test]
fn workers_hand_packets_to_the_owner_and_back_to_the_one_with_the_queue() {
    let mut bench = Bench::new(2);
    let (inside, outside) = (Wire::default(), Wire::default());
    bench.attach(0, INSIDE, Some(&inside), Some(&inside));
    bench.attach(0, OUTSIDE, Some(&outside), Some(&outside));
    for host in 2..34 {
        inside.arrives(&bench.client(host));
    }
    bench.settle();
    assert_eq!(outside.sent().len(), 32);
    let entries = [0, 1].map(|at: usize| bench.stats[at].sessions.value());
    assert_eq!(entries.iter().sum::<u64>(), 32);
    assert!(entries.iter().all(|n| *n > 0), "{entries:?}");
    assert_eq!(bench.stats[0].counter(Counter::HandoffOut), entries[1]);
    assert_eq!(bench.stats[1].counter(Counter::HandoffIn), entries[1]);
    assert_eq!(
        DropReason::ALL
            .iter()
            .map(|r| bench.dropped(*r))
            .sum::<u64>(),
        0
    );
}

#[test]
fn a_full_ring_is_counted() {
    let mut bench = Bench::new(2);
    let inside = Wire::default();
    bench.attach(0, INSIDE, Some(&inside), None);
    let mut ours = 0;
    for round in 0..10 {
        for host in 2..34 {
            inside.arrives(&bench.client(host));
        }
        bench.workers[0].round(); // the other one sleeps
        ours = bench.stats[0].counter(Counter::Misses) + bench.stats[0].counter(Counter::Hits);
        assert!(ours > round);
    }
    assert_eq!(bench.stats[0].counter(Counter::HandoffOut), 64);
    assert_eq!(bench.dropped(DropReason::HandoffFull), 320 - 64 - ours);
}

#[test]
fn control_is_answered() {
    let mut bench = Bench::new(1);
    let (inside, outside) = (Wire::default(), Wire::default());
    bench.attach(0, INSIDE, Some(&inside), None);
    bench.attach(0, OUTSIDE, None, Some(&outside));
    for _ in 0..40 {
        inside.arrives(&bench.client(2));
    }
    bench.settle();
    let (sessions, histograms, cleared) = (Reply::new(10), Reply::new(1), Reply::new(1));
    let empty = Box::new(Histograms::new().expect("good bounds"));
    let queue = &bench.requests[0];
    for request in [
        Request::Sessions(SessionFilter::default(), 0, Arc::clone(&sessions)),
        Request::Histograms(empty, Arc::clone(&histograms)),
        Request::Clear(SessionFilter::default(), Arc::clone(&cleared)),
    ] {
        assert!(queue.push(request).is_ok());
    }
    bench.settle();
    assert!(sessions.take().is_some() && sessions.is_finished());
    let full = histograms.take().expect("the used ones");
    assert_eq!(
        (full.burst_packets.len(), full.burst_packets.max()),
        (2, 32)
    );
    assert_eq!(cleared.take(), Some(1));
    assert_eq!(bench.stats[0].sessions.value(), 0);
    // The clock counts: entries are gone after five minutes.
    inside.arrives(&bench.client(2));
    bench.settle();
    assert_eq!(bench.stats[0].sessions.value(), 1);
    bench.cycles.fetch_add(301_000, Ordering::Relaxed);
    bench.settle();
    assert_eq!(bench.stats[0].sessions.value(), 0);
}

#[test]
fn a_new_snapshot_counts_from_the_next_round() {
    let mut bench = Bench::new(1);
    let (inside, outside) = (Wire::default(), Wire::default());
    bench.attach(0, INSIDE, Some(&inside), None);
    bench.attach(0, OUTSIDE, None, Some(&outside));
    inside.arrives(&bench.client(2));
    bench.settle();
    bench.lab.snapshot.interfaces[1].up = false;
    bench.lab.publish();
    bench.snapshot.store(Arc::new(bench.lab.snapshot.clone()));
    inside.arrives(&bench.client(2));
    bench.settle();
    assert_eq!(
        (outside.sent().len(), bench.dropped(DropReason::PortDown)),
        (1, 1 + 1)
    );
}

#[test]
fn what_is_held_when_the_worker_stops_is_counted() {
    let mut bench = Bench::new(1);
    let inside = Wire::default();
    bench.attach(0, INSIDE, Some(&inside), None);
    let waits = udp("10.1.0.2:5000", "198.51.100.99:9").ip();
    inside.arrives(&bench.lab.frame(INSIDE, &waits));
    let pieces = udp("10.1.0.2:5000", OUT).size(2000).fragments(1480);
    inside.arrives(&bench.lab.frame(INSIDE, &pieces[1]));
    bench.settle();
    assert!(
        bench.inject[0]
            .push((OUTSIDE, Frame::new(&bench.client(2))))
            .is_ok()
    );
    bench.stop.store(true, Ordering::Relaxed);
    bench.workers[0].run(); // ends at once
    assert_eq!(bench.dropped(DropReason::Stopped), 3);
}

#[test]
fn what_another_worker_gave_is_counted_when_the_worker_stops() {
    let mut bench = Bench::new(2);
    let inside = Wire::default();
    bench.attach(0, INSIDE, Some(&inside), None);
    for host in 2..34 {
        inside.arrives(&bench.client(host));
    }
    bench.workers[0].round(); // the other one sleeps
    let given = bench.stats[0].counter(Counter::HandoffOut);
    assert!(given > 0);
    bench.stop.store(true, Ordering::Relaxed);
    bench.workers[1].run(); // ends at once
    assert_eq!(bench.stats[1].drops(DropReason::Stopped), given);
}

#[test]
fn a_flow_keeps_its_order_from_worker_to_worker() {
    let mut bench = Bench::new(2);
    let (inside, outside) = (Wire::default(), Wire::default());
    bench.attach(0, INSIDE, Some(&inside), Some(&inside));
    bench.attach(0, OUTSIDE, Some(&outside), Some(&outside));
    // Packets of sizes that grow, of clients of both workers; now and then one that is not ordinary.
    let mut sizes = 0..;
    for _ in 0..7 {
        for _ in 0..20 {
            let size = 1 + sizes.next().unwrap_or(0);
            for host in 2..8 {
                let packet = udp(&format!("10.1.0.{host}:5000"), OUT).size(size);
                let packet = if (size + host) % 5 == 0 {
                    packet.options(&[1, 1, 1, 1])
                } else {
                    packet
                };
                inside.arrives(&bench.lab.frame(INSIDE, &packet.ip()));
            }
        }
        bench.settle();
    }
    assert!(bench.stats[1].counter(Counter::HandoffIn) >= 140);
    let mut last = std::collections::HashMap::new();
    let sent = std::mem::take(&mut *outside.sent.lock().expect("not poisoned"));
    assert_eq!(sent.len(), 7 * 20 * 6);
    for frame in &sent {
        let ip = &frame.data()[14..];
        let header = usize::from(ip[0] & 15) * 4;
        let port = [ip[header], ip[header + 1]];
        let octets = usize::from(u16::from_be_bytes([ip[2], ip[3]])) - header;
        let before = last.insert(port, octets).unwrap_or(0);
        assert!(octets > before, "port {port:?}: {octets} after {before}");
    }
    assert_eq!(last.len(), 6);
}

#[test]
fn a_round_that_brings_packets_leaves_other_work_for_later() {
    let clear_takes = |busy: bool| {
        let mut bench = Bench::new(1);
        let (inside, outside) = (Wire::default(), Wire::default());
        bench.attach(0, INSIDE, Some(&inside), Some(&inside));
        bench.attach(0, OUTSIDE, Some(&outside), Some(&outside));
        bench.settle();
        let reply = Reply::new(1);
        let request = Request::Clear(SessionFilter::default(), Arc::clone(&reply));
        assert!(bench.requests[0].push(request).is_ok());
        let mut rounds = 0;
        while reply.take().is_none() {
            if busy {
                inside.arrives(&bench.client(2));
            }
            bench.workers[0].round();
            rounds += 1;
        }
        rounds
    };
    let (quiet, busy) = (clear_takes(false), clear_takes(true));
    assert!(quiet < 100 && busy > 10 * quiet, "{quiet}, {busy}");
}

#[test]
fn entries_that_are_over_go_as_fast_as_others_are_made() {
    let mut bench = Bench::new(1);
    let (inside, outside) = (Wire::default(), Wire::default());
    bench.attach(0, INSIDE, Some(&inside), Some(&inside));
    bench.attach(0, OUTSIDE, Some(&outside), Some(&outside));
    // DNS entries live for a minute, which is 24 rounds: 480 entries of the 1000 for which there is room.
    for round in 0..500_u16 {
        for flow in 0..20 {
            let port = 1024 + round * 20 + flow;
            let query = udp(&format!("10.1.0.2:{port}"), "203.0.113.5:53");
            inside.arrives(&bench.lab.frame(INSIDE, &query.ip()));
        }
        assert!(bench.workers[0].round());
        bench.cycles.fetch_add(2560, Ordering::Relaxed);
    }
    assert_eq!(bench.dropped(DropReason::SessionTableFull), 0);
    assert_eq!(outside.sent().len(), 500 * 20);
}
