//! What the tests share. DPDK starts once a process, so each file has one test.
#![allow(dead_code, unreachable_pub)]

use spillway_dataplane::packet::{Burst, Packet, RxQueue, TxQueue};
use spillway_dpdk::{
    DpdkRxQueue, DpdkTxQueue, Eal, EalOptions, Mbuf, Memory, Pool, PoolConfig, Port, PortConfig,
};
use std::time::{Duration, Instant};

/// DPDK on normal pages.
pub fn eal() -> Eal {
    let options = EalOptions {
        memory: Memory::Normal,
        memory_mb: 128,
        ..EalOptions::default()
    };
    Eal::start(options).expect("DPDK starts on normal pages for everybody")
}

pub fn pool(eal: &Eal, count: u32) -> Pool {
    let config = PoolConfig {
        count,
        ..PoolConfig::default()
    };
    Pool::create(eal, &config).expect("128 MB hold a few thousand buffers")
}

pub fn open(eal: &Eal, spec: &str, pool: &Pool) -> Port {
    Port::open(eal, spec, &PortConfig::new(pool.clone())).unwrap_or_else(|error| panic!("{error}"))
}

/// A packet that holds `octets`.
pub fn packet(pool: &Pool, octets: &[u8]) -> Mbuf {
    let mut packet = pool.take().expect("the pool has free buffers");
    assert!(
        packet.append(octets.len()),
        "the buffer holds {} octets",
        octets.len()
    );
    packet.data_mut().copy_from_slice(octets);
    packet
}

/// The port's first queues.
pub fn queues(port: &mut Port) -> (DpdkRxQueue, DpdkTxQueue) {
    let (mut rx, mut tx) = port.take_queues();
    (rx.remove(0), tx.remove(0))
}

pub fn send(tx: &mut DpdkTxQueue, packet: Mbuf) -> usize {
    let mut burst = Burst::new();
    burst.push(packet);
    tx.transmit(&mut burst)
}

/// Polls until a packet fits, for a few seconds at most.
pub fn await_packet(rx: &mut DpdkRxQueue, fits: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut burst = Burst::new();
    while Instant::now() < end {
        if rx.receive(&mut burst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let found = burst
            .iter()
            .map(Packet::data)
            .find(|data| fits(data))
            .map(<[u8]>::to_vec);
        burst.clear();
        if found.is_some() {
            return found;
        }
    }
    None
}
