//! A memif port gets what its peer sends, once, and outlives peers that go away in the middle of it.
mod common;

use spillway_dataplane::packet::{BURST, Burst, Packet, PacketPool, RxQueue, TxQueue};
use spillway_dpdk::{Eal, Pool, Port, PortConfig, thread_register};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// More than most machines have processors, so that some workers wait for one with a burst half received.
const PORTS: usize = 8;
/// Of each port.
const PEERS: usize = 15;

/// More queues are asked for than there are.
fn open(eal: &Eal, pool: &Pool, role: &str, port: usize, name: usize) -> Port {
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 2,
        ..PortConfig::new(pool.clone())
    };
    // An abstract socket: no file is left behind.
    let process = std::process::id();
    let spec = format!("net_memif{name},role={role},id={port},socket=spillway-test-{process}");
    Port::open(eal, &spec, &config).unwrap_or_else(|error| panic!("{error}"))
}

fn await_that(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not in 20 s");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn await_link(port: &Port, up: bool) {
    let what = format!("link of {} is {up}", port.device());
    await_that(&what, || port.link().expect("the port is open").up == up);
}

/// Sends bursts of the largest packets; how many the peer took.
fn send(tx: &mut impl TxQueue<Packet = spillway_dpdk::Mbuf>, pool: &Pool, bursts: usize) -> u64 {
    let (mut burst, mut pool, mut sent) = (Burst::new(), pool.clone(), 0);
    for _ in 0..bursts {
        while burst.len() < BURST
            && let Some(mut packet) = pool.alloc()
        {
            assert!(packet.append(1500));
            packet.data_mut()[..12].fill(2);
            burst.push(packet);
        }
        sent += tx.transmit(&mut burst) as u64;
    }
    sent
}

#[test]
fn peers_are_heard_once_and_may_go_away_in_the_middle_of_bursts() {
    let eal = common::eal();
    let pool = common::pool(&eal, 8191);
    let mut servers: Vec<Port> = (0..PORTS)
        .map(|port| open(&eal, &pool, "server", port, port))
        .collect();
    let received: Vec<AtomicU64> = (0..PORTS).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    let mut queues = Vec::new();
    for server in &mut servers {
        let (rx, tx) = server.take_queues();
        assert_eq!((rx.len(), tx.len()), (1, 1), "as many as any peer has");
        queues.extend(rx.into_iter().zip(tx));
    }
    std::thread::scope(|scope| {
        for ((mut rx, mut tx), received) in queues.into_iter().zip(&received) {
            let (eal, stop) = (&eal, &stop);
            scope.spawn(move || {
                let _registered = thread_register(eal).expect("there are few threads");
                let mut burst = Burst::new();
                while !stop.load(Ordering::Relaxed) {
                    received.fetch_add(rx.receive(&mut burst) as u64, Ordering::Relaxed);
                    // And back to the peer, which does not look at it.
                    tx.transmit(&mut burst);
                }
            });
        }
        for peer in 1..=PEERS {
            for (port, (server, received)) in servers.iter().zip(&received).enumerate() {
                let mut client = open(&eal, &pool, "client", port, peer * PORTS + port);
                await_link(&client, true);
                await_link(server, true);
                let (_, mut tx) = client.take_queues();
                let before = received.load(Ordering::Relaxed);
                let sent = send(&mut tx[0], &pool, 8);
                let came = || received.load(Ordering::Relaxed) - before;
                await_that("all arrive", || came() >= sent);
                assert_eq!(came(), sent, "each once");
                // What follows is still being received when the peer goes.
                assert!(send(&mut tx[0], &pool, 64) > 0);
                drop((tx, client));
                // The last ones go while everything ends.
                if peer < PEERS {
                    await_link(server, false);
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(pool.available(), pool.size(), "every buffer came back");
}
