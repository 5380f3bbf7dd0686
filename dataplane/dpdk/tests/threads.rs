//! Workers of the caller's own register with DPDK, share a pool and own their queues.
mod common;

use spillway_dataplane::packet::{BURST, Burst, Packet, PacketPool, RxQueue, TxQueue};
use spillway_dpdk::{PortConfig, ThreadError, cycles, cycles_hz, thread_register};

const ROUNDS: usize = 200;

#[test]
fn registered_threads_poll_their_own_queues_and_give_every_buffer_back() {
    let eal = common::eal();
    let pool = common::pool(&eal, 4095);
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 2,
        ..PortConfig::new(pool.clone())
    };
    let mut ring = spillway_dpdk::Port::open(&eal, "net_ring0", &config)
        .expect("the ring driver is installed");
    let (rx, tx) = ring.take_queues();
    assert_eq!((rx.len(), tx.len()), (2, 2));

    let started = cycles();
    std::thread::scope(|scope| {
        for (mut rx, mut tx) in rx.into_iter().zip(tx) {
            let (eal, mut pool) = (&eal, pool.clone());
            scope.spawn(move || {
                let guard = thread_register(eal).expect("there are few threads");
                assert_eq!(thread_register(eal).err(), Some(ThreadError::Registered));
                let mark = rx.index() as u8;
                let mut burst = Burst::new();
                for _ in 0..ROUNDS {
                    while burst.len() < BURST {
                        let mut packet = pool.alloc().expect("the pool is large enough for both");
                        assert!(packet.append(60));
                        packet.data_mut().fill(mark);
                        burst.push(packet);
                    }
                    assert_eq!(tx.transmit(&mut burst), BURST);
                    assert_eq!(rx.receive(&mut burst), BURST, "queue n sends to queue n");
                    assert!(burst.iter().all(|packet| packet.data() == [mark; 60]));
                    burst.clear();
                }
                drop(guard);
                drop(thread_register(eal).expect("the guard was dropped"));
            });
        }
        // Attaching a device does not mind registered threads.
        let null = common::open(&eal, "net_null0", &pool);
        assert!(null.stats().is_ok());
    });
    assert!(cycles() > started && cycles_hz(&eal) > 1_000_000);
    let stats = ring.stats().expect("the port is open");
    assert_eq!(stats.tx_packets, (2 * ROUNDS * BURST) as u64);
    assert_eq!(
        pool.available(),
        pool.size(),
        "threads' caches are emptied with them"
    );
}
