//! Packets go from one port to another and none is lost from the pool.
mod common;

use spillway_dataplane::packet::{BURST, Burst, Packet, RxQueue, TxQueue};
use spillway_dpdk::{Port, PortConfig, PortError};

#[test]
fn packets_pass_from_port_to_port_and_every_buffer_comes_back() {
    let eal = common::eal();
    let pool = common::pool(&eal, 4095);
    let free_at_first = pool.available();
    assert_eq!(free_at_first, pool.size());

    let mut null = common::open(&eal, "net_null0,size=64", &pool);
    let mut ring = common::open(&eal, "net_ring0", &pool);
    let info = null.info().expect("the port is open");
    assert_eq!(
        (info.driver.as_str(), info.rx_queues, info.tx_queues),
        ("net_null", 1, 1)
    );
    assert_eq!(info.device, "net_null0");
    assert!(info.link.up, "{info}");

    // The same device twice is refused, and so is one that no driver takes.
    let config = PortConfig::new(pool.clone());
    let again = Port::open(&eal, "net_null0", &config);
    assert_eq!(again.err(), Some(PortError::Open("net_null0".to_owned())));
    let unknown = Port::open(&eal, "net_nosuchdriver0", &config).expect_err("no driver takes it");
    assert!(matches!(unknown, PortError::Driver { .. }), "{unknown}");
    let pci = Port::open(&eal, "0000:03:00.0", &config).expect_err("there is no PCI here");
    assert_eq!(pci, PortError::PciDisabled("0000:03:00.0".to_owned()));

    let (mut source, mut sink) = common::queues(&mut null);
    assert!(
        null.take_queues().0.is_empty(),
        "queues are handed out once"
    );
    let (mut ring_rx, mut ring_tx) = common::queues(&mut ring);

    // null -> ring -> null, with a mark on each packet so that they are seen to be the same.
    let mut burst = Burst::new();
    assert_eq!(source.receive(&mut burst), BURST);
    assert_eq!(source.receive(&mut burst), 0, "a full burst takes no more");
    for (mark, packet) in (0u8..).zip(&mut burst) {
        assert_eq!(packet.data().len(), 64);
        packet.data_mut()[0] = mark;
    }
    assert_eq!(ring_tx.transmit(&mut burst), BURST);
    assert!(burst.is_empty());
    assert_eq!(pool.available(), free_at_first - BURST as u32);
    assert_eq!(ring_rx.receive(&mut burst), BURST);
    for (mark, packet) in (0u8..).zip(&burst) {
        assert_eq!(packet.data()[0], mark, "in order");
    }
    assert_eq!(sink.transmit(&mut burst), BURST);
    assert_eq!(pool.available(), free_at_first);
    let stats = null.stats().expect("the port is open");
    assert_eq!((stats.rx_packets, stats.tx_packets), (32, 32));
    let xstats = null.xstats().expect("the port is open");
    assert!(
        xstats.contains(&("tx_good_packets".to_owned(), 32)),
        "{xstats:?}"
    );

    // A ring that is full takes no more: the rest is freed and told.
    let (mut sent, mut offered) = (0, 0);
    while offered == sent {
        source.receive(&mut burst);
        offered += burst.len();
        sent += ring_tx.transmit(&mut burst);
    }
    assert!(sent < offered && burst.is_empty());
    assert_eq!(pool.available() as usize, free_at_first as usize - sent);

    // While a queue is out the port stays open; then it closes, and opens again.
    let null = null.close().expect_err("its queues are out");
    drop((source, sink));
    null.close().expect("its queues are back");
    let null = common::open(&eal, "net_null0,size=128", &pool);
    drop((null, ring_rx, ring_tx, ring));
    assert_eq!(
        pool.available(),
        free_at_first,
        "what lay in the ring is free too"
    );
}
