//! One appliance between its networks, in virtual time.
//!
//! Port 0 is inside (10.1.0.1/24, and 10.9.0.0/16 behind the router 10.1.0.254), port 1 outside
//! (198.51.100.1/24, the world behind 198.51.100.254), port 2 without NAT (192.0.2.1/24), port 3
//! inside too (10.2.0.1/24). Workers hand packets to each other in this one thread.

use std::net::Ipv4Addr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use ipnet::Ipv4Net;
use spillway_dataplane::command::{Occupancy, Reply, Request, SessionFilter, SessionView};
use spillway_dataplane::fib::{Fib, Neighbour, NextHop, Route};
use spillway_dataplane::gateway::{Gateway, Item, Meta, Options, Pass, Spare};
use spillway_dataplane::nat::Global;
use spillway_dataplane::packet::{BURST, Packet};
use spillway_dataplane::rss::Steering;
use spillway_dataplane::snapshot::{Interface, PortId, Side, Snapshot, VrfId, WorkerId};
use spillway_dataplane::stats::{Counter, DropReason, WorkerStats};
use spillway_dataplane::time::Millis;

use super::read::{describe, read_ip};
use super::{Effects, Frame, Policy, Seen, ethernet};

pub(crate) const INSIDE: PortId = PortId(0);
pub(crate) const OUTSIDE: PortId = PortId(1);
pub(crate) const PLAIN: PortId = PortId(2);
pub(crate) const INSIDE2: PortId = PortId(3);

/// The appliance and what has left it.
pub(crate) struct Lab {
    pub(crate) now: Millis,
    pub(crate) policy: Policy,
    pub(crate) snapshot: Snapshot,
    pub(crate) routes: Vec<(Ipv4Net, Route)>,
    /// Of VRFs.
    pub(crate) vrf_routes: Vec<(VrfId, Ipv4Net, Route)>,
    pub(crate) neighbours: Vec<(NextHop, Neighbour)>,
    pub(crate) workers: Vec<Gateway<Frame>>,
    pub(crate) occupancy: Arc<Occupancy>,
    pub(crate) effects: Effects,
    /// What the last step sent, in order.
    pub(crate) last: Vec<(PortId, Vec<u8>)>,
    arrivals: usize,
    /// Packets that one worker gave another.
    pub(crate) handovers: usize,
    /// Questions for ports that one worker sent another.
    pub(crate) questions: usize,
}

/// Runs a scenario with one, two and three workers, and then checks that nothing is left over.
pub(crate) fn each(policy: impl Fn() -> Policy, scenario: impl Fn(&mut Lab)) {
    each_with(1 << 14, policy, scenario);
}

/// [`each`], with room for so many entries a worker.
pub(crate) fn each_with(sessions: u32, policy: impl Fn() -> Policy, scenario: impl Fn(&mut Lab)) {
    for workers in 1..=3 {
        let mut lab = Lab::new(policy(), workers, sessions);
        scenario(&mut lab);
        lab.assert_nothing_leaks();
    }
}

fn mac_of(port: PortId, host: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = host.octets();
    [2, port.0, a, b, c, d]
}

fn interface(name: &str, port: u8, side: Side, address: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        side,
        vrf: VrfId::GLOBAL,
        address: Some(address.parse().expect("an address")),
        mac: [2, 0xff, port, 0, 0, 1],
        mtu: 1500,
        up: true,
    }
}

impl Lab {
    pub(crate) fn new(policy: Policy, workers: u8, sessions: u32) -> Lab {
        Lab::steered(policy, workers, sessions, &Steering::default())
    }

    /// The same, where workers know how ports spread packets.
    pub(crate) fn steered(policy: Policy, workers: u8, sessions: u32, steering: &Steering) -> Lab {
        let interfaces = vec![
            interface("Inside", 0, Side::Inside, "10.1.0.1/24"),
            interface("Outside", 1, Side::Outside, "198.51.100.1/24"),
            interface("Plain", 2, Side::None, "192.0.2.1/24"),
            interface("Inside2", 3, Side::Inside, "10.2.0.1/24"),
        ];
        let routes = vec![
            (net_of("10.1.0.0/24"), Route::Connected { port: INSIDE }),
            (
                net_of("198.51.100.0/24"),
                Route::Connected { port: OUTSIDE },
            ),
            (net_of("192.0.2.0/24"), Route::Connected { port: PLAIN }),
            (net_of("10.2.0.0/24"), Route::Connected { port: INSIDE2 }),
            (
                net_of("10.9.0.0/16"),
                Route::Via {
                    port: INSIDE,
                    via: [10, 1, 0, 254].into(),
                },
            ),
            (
                net_of("0.0.0.0/0"),
                Route::Via {
                    port: OUTSIDE,
                    via: [198, 51, 100, 254].into(),
                },
            ),
        ];
        let hosts = |port: PortId, a: u8, b: u8, c: u8| {
            (2..=60).chain([254]).map(move |d| {
                let address = Ipv4Addr::new(a, b, c, d);
                (
                    NextHop { port, address },
                    Neighbour::Reachable(mac_of(port, address)),
                )
            })
        };
        let neighbours = hosts(INSIDE, 10, 1, 0)
            .chain(hosts(OUTSIDE, 198, 51, 100))
            .chain(hosts(PLAIN, 192, 0, 2))
            .chain(hosts(INSIDE2, 10, 2, 0))
            .collect();
        let occupancy = Arc::new(Occupancy::default());
        let gateway = |me: u8| {
            let options = Options {
                me: WorkerId(me),
                workers,
                sessions,
                seed: 0x5eed_0001,
            };
            Gateway::new(
                options,
                Arc::new(WorkerStats::new(4)),
                Arc::clone(&occupancy),
            )
            .with_steering(steering)
        };
        let mut lab = Lab {
            now: Millis(1_000),
            policy,
            snapshot: Snapshot {
                generation: 0,
                interfaces,
                fib: Arc::new(Fib::default()),
                nat: Arc::default(),
            },
            routes,
            vrf_routes: Vec::new(),
            neighbours,
            workers: (0..workers).map(gateway).collect(),
            occupancy,
            effects: Effects::default(),
            last: Vec::new(),
            arrivals: 0,
            handovers: 0,
            questions: 0,
        };
        lab.publish();
        lab
    }

    /// Makes a new snapshot of policy, routes and neighbours.
    pub(crate) fn publish(&mut self) {
        self.snapshot.generation += 1;
        let global = self
            .routes
            .iter()
            .map(|(net, to)| (VrfId::GLOBAL, *net, *to));
        let routes = global.chain(self.vrf_routes.iter().copied());
        let fib = Fib::of_vrfs(routes, self.neighbours.iter().copied());
        self.snapshot.fib = Arc::new(fib);
        self.snapshot.nat = Arc::new(self.policy.nat());
    }

    /// The inside network 10.1.0.0/24 is behind this port, which is in a VRF: the world is reached by
    /// the outside interface.
    pub(crate) fn join_vrf(&mut self, port: PortId, vrf: VrfId) {
        let inside = net_of("10.1.0.0/24");
        let interface = &mut self.snapshot.interfaces[port.index()];
        (interface.vrf, interface.address) = (vrf, Some(net_of("10.1.0.1/24")));
        self.routes
            .retain(|(_, route)| *route != Route::Connected { port });
        let via = Route::Via {
            port: OUTSIDE,
            via: [198, 51, 100, 254].into(),
        };
        self.vrf_routes.extend(
            [
                (inside, Route::Connected { port }),
                (net_of("0.0.0.0/0"), via),
            ]
            .map(|(net, to)| (vrf, net, to)),
        );
        self.neighbours.extend((2..=60).map(|host| {
            let address = Ipv4Addr::new(10, 1, 0, host);
            let neighbour = Neighbour::Reachable(mac_of(port, address));
            (NextHop { port, address }, neighbour)
        }));
        self.publish();
    }

    /// One packet arrives, at any worker. What happens, a line each: frames sent (with their
    /// port) and punted, drops, next hops asked for.
    pub(crate) fn run(&mut self, port: PortId, packet: impl Into<Vec<u8>>) -> Vec<String> {
        let frame = self.frame(port, &packet.into());
        self.run_frame(port, &frame)
    }

    /// [`Lab::run`] that must give exactly one line.
    #[track_caller]
    pub(crate) fn expect(&mut self, port: PortId, packet: impl Into<Vec<u8>>, wanted: &str) {
        let got = self.run(port, packet);
        assert_eq!(got, [wanted], "with {} workers", self.workers.len());
    }

    /// [`Lab::run`] for a packet that must leave as one frame: the frame, read.
    #[track_caller]
    pub(crate) fn pass(&mut self, port: PortId, packet: impl Into<Vec<u8>>) -> Seen {
        let got = self.run(port, packet);
        assert_eq!((got.len(), self.last.len()), (1, 1), "{got:?}");
        read_ip(&self.last[0].1[14..], true)
    }

    /// An Ethernet frame around a packet, as a host or router on the port would send it.
    pub(crate) fn frame(&self, port: PortId, ip: &[u8]) -> Vec<u8> {
        let src = match ip {
            [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..] => Ipv4Addr::new(*a, *b, *c, *d),
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let sender = mac_of(port, link_neighbour(port, src));
        ethernet(
            self.snapshot.interfaces[port.index()].mac,
            sender,
            0x0800,
            ip,
        )
    }

    /// A frame arrives, at any worker.
    pub(crate) fn run_frame(&mut self, port: PortId, frame: &[u8]) -> Vec<String> {
        self.burst(&[(port, Frame::new(frame))])
    }

    /// A burst arrives at one worker.
    pub(crate) fn burst(&mut self, frames: &[(PortId, Frame)]) -> Vec<String> {
        self.arrivals += 1;
        let at = (self.arrivals * 7 / 3) % self.workers.len();
        self.burst_at(at, frames)
    }

    /// A burst arrives at this worker.
    pub(crate) fn burst_at(&mut self, at: usize, frames: &[(PortId, Frame)]) -> Vec<String> {
        self.burst_and(at, frames, |_| ())
    }

    /// A burst arrives at this worker, and something happens before others get what it gives them.
    pub(crate) fn burst_and(
        &mut self,
        at: usize,
        frames: &[(PortId, Frame)],
        meanwhile: impl FnOnce(&mut Lab),
    ) -> Vec<String> {
        let before = self.drops();
        let items = frames.iter().map(|(port, packet)| Item {
            packet: packet.clone(),
            meta: Meta::arrived(*port),
        });
        self.process(at, items.collect());
        meanwhile(self);
        self.settle();
        self.report(before)
    }

    fn process(&mut self, at: usize, items: ArrayVec<Item<Frame>, BURST>) {
        let Lab {
            workers,
            effects,
            snapshot,
            now,
            ..
        } = self;
        workers[at].process(
            &mut Pass {
                now: *now,
                snapshot,
                out: effects,
            },
            items,
        );
    }

    /// A frame arrives at this worker; what happens stays in `effects`, unchecked.
    pub(crate) fn feed(&mut self, at: usize, port: PortId, packet: Frame) {
        self.feed_early(at, port, packet);
        self.settle();
    }

    /// A frame arrives at this worker before what others hand to it.
    pub(crate) fn feed_early(&mut self, at: usize, port: PortId, packet: Frame) {
        let meta = Meta::arrived(port);
        self.process(at, [Item { packet, meta }].into_iter().collect());
    }

    /// Workers take over what they hand to each other until nothing is left.
    fn settle(&mut self) {
        while self.take_over() || self.answer() {}
    }

    /// A worker takes over what was handed to it first. Whether anything was.
    pub(crate) fn take_over(&mut self) -> bool {
        let Some((to, item)) = self.effects.handed.pop_front() else {
            return false;
        };
        self.handovers += 1;
        self.process(to.index(), [item].into_iter().collect());
        true
    }

    /// A worker that was asked for ports answers; what it gives back stays on its way. Whether one was.
    pub(crate) fn answer(&mut self) -> bool {
        let Some((to, asking)) = self.effects.asked.pop_front() else {
            return false;
        };
        self.questions += 1;
        let pass = &mut Pass {
            now: self.now,
            snapshot: &self.snapshot,
            out: &mut self.effects,
        };
        self.workers[to.index()].lend(pass, asking);
        true
    }

    fn drops(&self) -> Vec<u64> {
        let of = |reason: &DropReason| self.dropped(*reason);
        DropReason::ALL.iter().map(of).collect()
    }

    fn report(&mut self, before: Vec<u64>) -> Vec<String> {
        let mut lines = Vec::new();
        self.last.clear();
        for (port, frame) in std::mem::take(&mut self.effects.sent) {
            lines.push(format!("{} {}", port.0, self.check(port, frame.data())));
            self.last.push((port, frame.data().to_vec()));
        }
        for (port, frame) in std::mem::take(&mut self.effects.punted) {
            lines.push(format!("punt {} {}", port.0, describe(frame.data())));
        }
        for ((reason, old), new) in DropReason::ALL.iter().zip(before).zip(self.drops()) {
            lines.extend((old..new).map(|_| format!("drop {}", reason.name())));
        }
        for hop in std::mem::take(&mut self.effects.resolved) {
            lines.push(format!("resolve {} {}", hop.port.0, hop.address));
        }
        lines
    }

    /// Checks a frame that left, MAC addresses included.
    fn check(&self, port: PortId, frame: &[u8]) -> String {
        let seen = read_ip(&frame[14..], true);
        assert_eq!(frame[12..14], [8, 0], "EtherType of {}", seen.line);
        let ours = self.snapshot.interfaces[port.index()].mac;
        assert_eq!(frame[6..12], ours, "source MAC address of {}", seen.line);
        let hop = mac_of(port, link_neighbour(port, seen.dst()));
        assert_eq!(frame[..6], hop, "destination MAC address of {}", seen.line);
        seen.line
    }

    /// Time passes, with a poll each 16 ms near its end and each second before. What happens
    /// meanwhile, as in [`Lab::run`].
    pub(crate) fn advance(&mut self, ms: u64) -> Vec<String> {
        let before = self.drops();
        let end = self.now.0 + ms;
        while self.now.0 < end {
            let left = end - self.now.0;
            self.now.0 += if left > 2_000 { 1_000 } else { left.min(16) };
            self.poll();
        }
        self.poll();
        self.report(before)
    }

    /// Every worker ages until it has nothing more to do now.
    pub(crate) fn poll(&mut self) {
        for at in 0..self.workers.len() {
            let Lab {
                workers,
                effects,
                snapshot,
                now,
                ..
            } = self;
            let pass = &mut Pass {
                now: *now,
                snapshot,
                out: effects,
            };
            while workers[at].age(pass, Spare::Much) {}
        }
        self.settle();
    }

    /// Every worker ages a step.
    pub(crate) fn age_once(&mut self) {
        for worker in &mut self.workers {
            let pass = &mut Pass {
                now: self.now,
                snapshot: &self.snapshot,
                out: &mut self.effects,
            };
            worker.age(pass, Spare::Much);
        }
        self.settle();
    }

    /// Dynamic entries of all workers.
    pub(crate) fn entries(&self) -> usize {
        let entries: usize = self.workers.iter().map(|w| w.table().len()).sum();
        let ipsec: usize = self.workers.iter().map(Gateway::ipsec_entries).sum();
        let counted: u64 = self
            .workers
            .iter()
            .map(|w| w.stats().sessions.value())
            .sum();
        assert_eq!(self.occupancy.active(), (entries + ipsec) as u64);
        assert_eq!(counted, entries as u64);
        entries + ipsec
    }

    /// A counter over all workers.
    pub(crate) fn counted(&self, counter: Counter) -> u64 {
        self.workers
            .iter()
            .map(|w| w.stats().counter(counter))
            .sum()
    }

    /// Drops for a reason over all workers.
    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.workers.iter().map(|w| w.stats().drops(reason)).sum()
    }

    /// Serves a request until it is done, on every worker.
    pub(crate) fn serve(&mut self, at: usize, request: Request) {
        self.workers[at].begin(request);
        while self.workers[at].is_serving() {
            self.workers[at].serve(self.now, &self.snapshot, Spare::Much);
        }
    }

    /// All entries that match.
    pub(crate) fn sessions(&mut self, filter: SessionFilter) -> Vec<SessionView> {
        let mut views = Vec::new();
        for at in 0..self.workers.len() {
            let reply = Reply::new(1 << 17);
            self.serve(at, Request::Sessions(filter, 0, Arc::clone(&reply)));
            views.extend(std::iter::from_fn(|| reply.take()));
            assert!(reply.is_finished());
        }
        views
    }

    /// Removes entries that match; how many there were.
    pub(crate) fn clear(&mut self, filter: SessionFilter) -> u64 {
        self.count(|reply| Request::Clear(filter, reply))
    }

    /// Removes entries that the policy would not make; how many there were.
    pub(crate) fn reconcile(&mut self) -> u64 {
        self.count(Request::Reconcile)
    }

    /// The same of entries whose packets have a way.
    pub(crate) fn reroute(&mut self) -> u64 {
        self.count(Request::Reroute)
    }

    fn count(&mut self, request: impl Fn(Arc<Reply<u64>>) -> Request) -> u64 {
        let mut sum = 0;
        for at in 0..self.workers.len() {
            let reply = Reply::new(1);
            self.serve(at, request(Arc::clone(&reply)));
            sum += reply.take().expect("an answer");
            assert!(reply.is_finished());
        }
        sum
    }

    /// Once all entries are gone, nothing is held or owned any more.
    pub(crate) fn assert_nothing_leaks(&mut self) {
        self.clear(SessionFilter::default());
        self.advance(10_000);
        assert_eq!(self.entries(), 0, "entries");
        for rule in &self.policy.outside_rules {
            assert_eq!(rule.pool.addresses().lent(), 0, "lent to outside hosts");
            let hosts = (0..rule.pool.addresses().size()).find_map(|at| rule.pool.host(at));
            assert_eq!(hosts, None, "an address that stands for somebody");
        }
        for (address, global) in &self.policy.globals {
            match global {
                Global::Overload(global) => {
                    assert_eq!(global.ports_in_use(), 0, "ports of {address}");
                    let owned = (0..=u16::MAX).find_map(|port| global.owner(port).map(|_| port));
                    assert_eq!(owned, None, "an owned block of {address}");
                }
                Global::OneToOne(pool, _) => assert_eq!(pool.lent(), 0, "lent addresses"),
                Global::Static => {}
            }
        }
    }
}

/// A prefix.
pub(crate) fn net_of(text: &str) -> Ipv4Net {
    text.parse().expect("a prefix")
}

/// Who on the link sends what comes from `host`, and gets what goes there.
fn link_neighbour(port: PortId, host: Ipv4Addr) -> Ipv4Addr {
    match (port, host.octets()) {
        (INSIDE, [10, 9, ..]) => [10, 1, 0, 254].into(),
        (OUTSIDE, [198, 51, 100, _]) => host,
        (OUTSIDE, _) => [198, 51, 100, 254].into(),
        _ => host,
    }
}
