//! On huge pages, where the machine has some free: the same calls, and a choice without a warning.
mod common;

use spillway_dataplane::packet::{BURST, Burst, RxQueue, TxQueue};
use spillway_dpdk::{Eal, EalError, EalOptions, Memory, thread_register};

#[test]
fn huge_pages_serve_where_they_are_free() {
    let options = EalOptions {
        memory: Memory::Huge,
        memory_mb: 64,
        ..EalOptions::default()
    };
    let eal = match Eal::start(options) {
        Err(error @ EalError::HugePages { .. }) => {
            println!("skipped: {error}");
            return;
        }
        started => started.expect("64 MB of huge pages are free"),
    };
    assert!(eal.huge_pages() && eal.warning().is_none());
    let pool = common::pool(&eal, 4095);
    let guard = thread_register(&eal).expect("there are few threads");
    let mut ring = common::open(&eal, "net_ring0", &pool);
    let mut null = common::open(&eal, "net_null0", &pool);
    let (mut source, _) = common::queues(&mut null);
    let (mut rx, mut tx) = common::queues(&mut ring);
    let mut burst = Burst::new();
    assert_eq!(source.receive(&mut burst), BURST);
    assert_eq!(tx.transmit(&mut burst), BURST);
    assert_eq!(rx.receive(&mut burst), BURST);
    burst.clear();
    drop((source, rx, tx, ring, null, guard));
    assert_eq!(pool.available(), pool.size());
}
