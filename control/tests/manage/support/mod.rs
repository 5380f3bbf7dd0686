//! An appliance with made-up workers, ports and words, for the tests of what operators ask.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test files"
)]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use ipnet::Ipv4Net;
use spillway_control::config::Policy;
use spillway_control::kernel::Spaces;
use spillway_control::manage::{
    Appliance, Description, FlowRules, InterfaceText, Limits, Parts, PoolKind, PoolText, PortInfo,
    Ports, ReloadReport, Reloader, RouteOrigin, RouteText, RuleText, Saved, Spread, WorkerHandle,
};
use spillway_dataplane::acl::Subject;
use spillway_dataplane::command::{Endpoint, FlowQuery, Occupancy, Query, Request, SessionView};
use spillway_dataplane::esp::PeerView;
use spillway_dataplane::fib::{Fib, Neighbour, NextHop, Route};
use spillway_dataplane::nat::{
    InVain, Nat, OneToOnePool, Outside, OutsideRule, OutsideStatic, Rule, Static, StaticPort,
    Target, Timers,
};
use spillway_dataplane::route_map::Selector;
use spillway_dataplane::snapshot::{Interface, PortId, Side, Snapshot, VrfId, WorkerId};
use spillway_dataplane::stats::WorkerStats;
use spillway_dataplane::time::{Millis, Tick};

/// When all tests take place: one hour after the start.
pub const NOW: Millis = Millis(3_600_000);

pub fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub fn endpoint(text: &str) -> Endpoint {
    let (address, port) = text.split_once(':').unwrap();
    Endpoint {
        address: ip(address),
        port: port.parse().unwrap(),
    }
}

/// An entry with ports, written as in the table: inside global, inside local, outside local,
/// outside global.
pub fn session(protocol: u8, ig: &str, il: &str, ol: &str, og: &str) -> SessionView {
    SessionView {
        vrf: VrfId::GLOBAL,
        protocol,
        children: None,
        inside_local: endpoint(il),
        inside_global: endpoint(ig),
        outside_local: Some(endpoint(ol)),
        outside_global: Some(endpoint(og)),
        age_ms: 33_500,
        idle_ms: 33_500,
        timeout_ms: Some(60_000),
        tcp: None,
        is_shared: false,
        half: None,
        rule: 2,
        id: 69,
        worker: WorkerId(0),
    }
}

/// An address entry.
pub fn simple(ig: &str, il: &str) -> SessionView {
    SessionView {
        vrf: VrfId::GLOBAL,
        protocol: 0,
        inside_local: endpoint(&format!("{il}:0")),
        inside_global: endpoint(&format!("{ig}:0")),
        outside_local: None,
        outside_global: None,
        rule: 1,
        ..session(6, "0.0.0.0:0", "0.0.0.0:0", "0.0.0.0:0", "0.0.0.0:0")
    }
}

/// The `n`th of many entries that differ.
pub fn generated(n: u64) -> SessionView {
    let n = n as u32;
    let mut view = session(
        6,
        "198.51.100.1:1",
        "10.0.0.0:2",
        "203.0.113.9:443",
        "203.0.113.9:443",
    );
    view.inside_local.address = Ipv4Addr::from_bits(0x0a00_0000 + n / 1000);
    view.inside_local.port = (1024 + n % 1000) as u16;
    view.id = n;
    view
}

type Source = Box<dyn Fn(u64) -> SessionView + Send>;

/// How a made-up worker behaves.
pub enum Behaviour {
    /// Serves requests from this many generated entries.
    Serve(u64, Source),
    /// Takes requests and never answers.
    Silent,
    /// Takes so many slices of 20 ms for a reconciliation, and serves nothing else.
    Thorough(u32),
    /// Takes nothing from its ring.
    Deaf,
}

pub fn serve(sessions: Vec<SessionView>) -> Behaviour {
    Behaviour::Serve(
        sessions.len() as u64,
        Box::new(move |n| sessions[n as usize]),
    )
}

/// What a made-up worker has seen.
#[derive(Default)]
pub struct Seen {
    /// Entries given in all.
    pub given: AtomicU64,
    /// Requests that ended for want of room.
    pub full: AtomicU64,
    /// Requests finished.
    pub finished: AtomicU64,
    /// The flow that was asked about last.
    pub asked: Mutex<Option<FlowQuery>>,
    stop: AtomicBool,
}

struct FakeWorker {
    thread: Option<JoinHandle<()>>,
    seen: Arc<Seen>,
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(requests: &ArrayQueue<Request>, behaviour: &Behaviour, seen: &Seen) {
    let mut kept = Vec::new();
    while !seen.stop.load(Ordering::Relaxed) {
        let (count, source) = match behaviour {
            Behaviour::Deaf => {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            Behaviour::Silent => {
                kept.extend(requests.pop());
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            Behaviour::Thorough(slices) => {
                if let Some(Request::Reconcile(reply)) = requests.pop() {
                    for _ in 0..*slices {
                        std::thread::sleep(Duration::from_millis(20));
                        reply.go_on();
                    }
                    reply.give(7).unwrap();
                    reply.finish();
                }
                continue;
            }
            Behaviour::Serve(count, source) => (*count, source),
        };
        let Some(request) = requests.pop() else {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        };
        match request {
            Request::Sessions(filter, mut at, reply) => {
                while at < count {
                    if !reply.has_room() {
                        break;
                    }
                    let session = source(at);
                    at += 1;
                    if filter.matches(&session) {
                        reply.give(session).unwrap();
                        seen.given.fetch_add(1, Ordering::Relaxed);
                    }
                }
                if at < count {
                    seen.full.fetch_add(1, Ordering::Relaxed);
                    reply.finish_at(at);
                } else {
                    reply.finish();
                }
            }
            Request::Clear(filter, reply) => {
                // A mapping goes with its entries only.
                let meant = |s: &SessionView| s.children.is_none() && filter.matches(s);
                let n = (0..count).filter(|n| meant(&source(*n))).count();
                reply.give(n as u64).unwrap();
                reply.finish();
            }
            Request::Peers(mut at, reply) => {
                while at < PEERS && reply.has_room() {
                    let peer = std::net::Ipv4Addr::from_bits(0xcb00_7100 + at as u32);
                    let clients = at as u32;
                    reply.give(PeerView { peer, clients }).unwrap();
                    at += 1;
                }
                if at < PEERS {
                    reply.finish_at(at);
                } else {
                    reply.finish();
                }
            }
            Request::Reconcile(reply) | Request::Reroute(reply) => {
                reply.give(1).unwrap();
                reply.finish();
            }
            Request::Explain(query, reply) => {
                if let Query::Flow(flow) = query {
                    *seen.asked.lock().unwrap() = Some(flow);
                }
                reply.finish();
            }
            Request::Histograms(mut full, reply) => {
                full.burst_ns.record_n(1000, 99).unwrap();
                full.burst_ns.record(50_000).unwrap();
                full.burst_packets.record_n(32, 100).unwrap();
                reply.give(full).unwrap();
                reply.finish();
            }
        }
        seen.finished.fetch_add(1, Ordering::Relaxed);
    }
}

/// Outside hosts of each made-up worker.
pub const PEERS: u64 = 5;

/// What the made-up appliance is made of.
pub struct Setup {
    pub workers: Vec<Behaviour>,
    pub statics: Vec<Static>,
    pub rules: Vec<Rule>,
    pub outside_statics: Vec<OutsideStatic>,
    pub outside_rules: Vec<OutsideRule>,
    pub limits: Limits,
    pub occupancy: Arc<Occupancy>,
    pub reloader: Reloader,
    pub inside: String,
    pub outside: String,
    /// Whether the outside port's cable is plugged in.
    pub outside_link: bool,
    /// Without VRFs, unless told otherwise.
    pub configuration: &'static str,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            workers: vec![serve(Vec::new())],
            statics: Vec::new(),
            rules: Vec::new(),
            outside_statics: Vec::new(),
            outside_rules: Vec::new(),
            limits: Limits {
                answer: Duration::from_millis(300),
                ring: Duration::from_millis(200),
                ..Limits::default()
            },
            occupancy: Arc::default(),
            reloader: Box::new(|_| Box::pin(async { Ok(ReloadReport::default()) })),
            inside: "Inside".into(),
            outside: "Outside".into(),
            outside_link: true,
            configuration: CONFIGURATION,
        }
    }
}

/// The appliance and its made-up workers, which end with it.
pub struct Lab {
    pub appliance: Arc<Appliance>,
    pub seen: Vec<Arc<Seen>>,
    _workers: Vec<FakeWorker>,
}

impl Setup {
    pub fn start(self) -> Lab {
        let mut workers = Vec::new();
        let mut handles = Vec::new();
        for (n, behaviour) in self.workers.into_iter().enumerate() {
            let requests = Arc::new(ArrayQueue::new(4));
            let seen: Arc<Seen> = Arc::default();
            let (queue, eyes) = (Arc::clone(&requests), Arc::clone(&seen));
            let thread = std::thread::spawn(move || work(&queue, &behaviour, &eyes));
            workers.push(FakeWorker {
                thread: Some(thread),
                seen,
            });
            handles.push(WorkerHandle {
                id: WorkerId(n as u8),
                core: Some(n + 1),
                numa_node: Some(0),
                requests,
                stats: Arc::new(WorkerStats::new(2)),
                capacity: 65_536,
                memory_bytes: 8_388_608,
            });
        }
        let of_outside = self.outside_statics.into_iter().map(Arc::new).collect();
        let of_outside = Outside::new(self.outside_rules, of_outside);
        let nat = Translations {
            rules: self.rules,
            statics: self.statics,
            outside: of_outside,
        };
        let words = Words(self.configuration);
        let mut snapshot = snapshot(&self.inside, &self.outside, nat, &words.policy());
        snapshot.interfaces[1].up = self.outside_link;
        let appliance = Appliance::new(Parts {
            version: "0.1.0".into(),
            hostname: Arc::new(ArcSwap::from_pointee("gateway".into())),
            clock: Box::new(|| NOW),
            workers: handles,
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            occupancy: self.occupancy,
            ports: Arc::new(TwoPorts(self.inside, self.outside, self.outside_link)),
            saved: Saved {
                file: "edge.conf".into(),
                load: Arc::new(|| {
                    let text = CONFIGURATION.replace(" shutdown\n", "");
                    let loaded = spillway_control::config::parse("edge.conf", &text);
                    loaded.map(|l| l.0).map_err(|e| vec![e[0].to_string()])
                }),
            },
            description: Arc::new(words),
            spaces: Spaces::default(),
            reloader: self.reloader,
            limits: self.limits,
        });
        Lab {
            appliance,
            seen: workers.iter().map(|w| Arc::clone(&w.seen)).collect(),
            _workers: workers,
        }
    }
}

struct Translations {
    rules: Vec<Rule>,
    statics: Vec<Static>,
    outside: Outside,
}

fn snapshot(inside: &str, outside: &str, nat: Translations, policy: &Policy) -> Snapshot {
    let interface = |name: &str, side, address: &str, last| Interface {
        name: name.into(),
        side,
        vrf: (policy.config.interface(name))
            .map_or(VrfId::GLOBAL, |i| policy.vrfs.id(i.vrf.as_deref())),
        address: Some(address.parse().unwrap()),
        mac: [2, 0, 0, 0, 0, last],
        mtu: 1500,
        up: true,
    };
    let (a, b) = (PortId(0), PortId(1));
    let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
    let via = ip("198.51.100.254");
    let hop = |port, address| NextHop {
        port,
        address: ip(address),
    };
    let global = [
        (net("0.0.0.0/0"), Route::Via { port: b, via }),
        (net("10.1.0.0/24"), Route::Connected { port: a }),
        (net("192.0.2.0/24"), Route::Unreachable),
        (net("198.51.100.0/24"), Route::Connected { port: b }),
        (net("203.0.113.0/24"), Route::Via { port: b, via }),
    ];
    let red = policy.vrfs.find(Some("RED")).into_iter().flat_map(|vrf| {
        [
            (vrf, net("0.0.0.0/0"), Route::Via { port: b, via }),
            (vrf, net("10.1.0.0/24"), Route::Connected { port: a }),
        ]
    });
    let global = global.map(|(prefix, route)| (VrfId::GLOBAL, prefix, route));
    let fib = Fib::of_vrfs(
        global.into_iter().chain(red),
        [
            (
                hop(b, "198.51.100.254"),
                Neighbour::Reachable([0xaa, 0xbb, 0xcc, 0, 1, 0xfe]),
            ),
            (hop(a, "10.1.0.99"), Neighbour::Failed),
        ],
    );
    let statics = nat.statics.into_iter().map(Arc::new).collect();
    Snapshot {
        generation: 1,
        interfaces: vec![
            interface(inside, Side::Inside, "10.1.0.1/24", 1),
            interface(outside, Side::Outside, "198.51.100.1/24", 2),
        ],
        fib: Arc::new(fib),
        nat: Arc::new(
            Nat::new(nat.rules, statics, HashMap::new(), Timers::default(), 0)
                .with_outside(nat.outside),
        ),
    }
}

pub fn static_entry(inside: &str, global: &str, port: Option<StaticPort>) -> Static {
    Static {
        vrf: VrfId::GLOBAL,
        port,
        inside: ip(inside),
        global: ip(global),
        only: None,
        created: Millis(NOW.0 - 640_000).tick(),
        last_used: 0.into(),
    }
}

pub fn tick_before_now(seconds: u64) -> Tick {
    Millis(NOW.0 - seconds * 1000).tick()
}

/// The pool rule of the language's description: fifteen addresses, two of them lent.
pub fn pool_rule() -> Rule {
    let pool = OneToOnePool::new(ip("209.165.200.226"), 15);
    let _ = (
        pool.take(
            WorkerId(0),
            ip("10.1.0.2"),
            |_| true,
            &mut InVain::default(),
        ),
        pool.take(
            WorkerId(0),
            ip("10.1.0.2"),
            |_| true,
            &mut InVain::default(),
        ),
    );
    Rule {
        id: 1,
        vrf: VrfId::GLOBAL,
        selector: Selector::List(Arc::default()),
        target: Target::OneToOne(Arc::new(pool)),
        mapping: None,
    }
}

/// What a configuration says.
struct Words(&'static str);

/// The usual one.
pub const CONFIGURATION: &str = "hostname gateway
!
interface Inside
 ip address 10.1.0.1 255.255.255.0
 ip nat inside
!
interface Outside
 description to the provider
 ip address 198.51.100.1 255.255.255.0
 ip nat outside
!
interface Spare
 shutdown
!
access-list 1 remark who may
access-list 1 permit 10.1.0.0 0.0.0.255
access-list 1 deny any log
access-list 101 deny tcp any host 192.0.2.1 eq www
access-list 101 permit ip any any
route-map NAT permit 10
 match ip address 101
end
";

fn policy(text: &str) -> Arc<Policy> {
    let (config, _) = spillway_control::config::parse("test", text).unwrap();
    let none = HashMap::new();
    let policy = Policy::compile(Arc::new(config), &none, NOW.tick(), None);
    for name in policy.access_lists.keys() {
        for _ in 0..name.to_string().len() {
            let _ = policy.access_lists[name].check(&Subject {
                protocol: 17,
                source: ip("10.1.0.5").to_bits(),
                destination: ip("192.0.2.9").to_bits(),
                ports: None,
                icmp: None,
                established: false,
                later_fragment: false,
            });
        }
    }
    Arc::new(policy)
}

impl Description for Words {
    fn policy(&self) -> Arc<Policy> {
        policy(self.0)
    }

    fn rule(&self, id: u16) -> Option<RuleText> {
        match id {
            1 => Some(RuleText {
                text: "access-list 1 pool NAT-POOL1".into(),
                pool: Some(PoolText {
                    name: "NAT-POOL1".into(),
                    netmask: ip("255.255.255.224"),
                    ranges: vec![(ip("209.165.200.226"), ip("209.165.200.240"))],
                    kind: PoolKind::Generic,
                }),
            }),
            2 => Some(RuleText {
                text: "access-list 1 interface Outside".into(),
                pool: None,
            }),
            _ => None,
        }
    }

    fn interface(&self, name: &str) -> Option<InterfaceText> {
        (name == "Outside").then(|| InterfaceText {
            description: Some("to the provider".into()),
            shutdown: false,
        })
    }

    fn route(&self, vrf: VrfId, prefix: Ipv4Net, _: Option<Ipv4Addr>) -> Option<RouteText> {
        let (origin, distance) = match prefix.prefix_len() {
            0 => (RouteOrigin::Static, Some((1, 0))),
            _ if vrf != VrfId::GLOBAL => return None,
            _ if prefix.addr() == ip("203.0.113.0") => (RouteOrigin::Bgp, None),
            _ => return None,
        };
        Some(RouteText { origin, distance })
    }
}

struct TwoPorts(String, String, bool);

impl Ports for TwoPorts {
    fn ports(&self) -> Vec<PortInfo> {
        let port = |n: usize, name: &str, link_up| PortInfo {
            name: name.into(),
            device: format!("net_af_packet{n},iface={}", name.to_lowercase()),
            driver: "net_af_packet".into(),
            mac: [2, 0, 0, 0, 0, n as u8 + 1],
            link_up,
            speed_mbps: Some(10_000),
            mtu: 1500,
            rx_queues: 1,
            tx_queues: 1,
            spread: Spread::None,
            flow_rules: (n == 1).then_some(FlowRules {
                installed: 6,
                missing: 3,
            }),
            numa_node: None,
            counters: vec![("rx_nombuf".into(), 7)],
        };
        vec![port(0, &self.0, true), port(1, &self.1, self.2)]
    }
}
