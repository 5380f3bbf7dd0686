//! How a port spreads what it receives: set, read back, and DPDK's own hash beside ours.
mod common;

use spillway_dataplane::rss::{Fields, KEY, Toeplitz};
use spillway_dataplane::session::Key;
use spillway_dpdk::{Port, PortConfig, Rss};

#[test]
fn a_port_takes_a_key_and_a_table() {
    let eal = common::eal();
    let pool = common::pool(&eal, 4095);
    let open = |spec: &str, rx_queues: u16, by_source: bool| {
        let config = PortConfig {
            rx_queues,
            tx_queues: rx_queues,
            by_source,
            ..PortConfig::new(pool.clone())
        };
        Port::open(&eal, spec, &config).unwrap_or_else(|error| panic!("{error}"))
    };

    // The null device has a key and a table, but nothing to hash.
    let null = open("net_null0", 2, false);
    let rss = null.rss().expect("its driver tells");
    let flow = Fields::Flow {
        udp: true,
        tcp: true,
    };
    assert_eq!((rss.places, rss.fields()), (128, flow));
    let table = rss.table(2, 128);
    assert_eq!((table.len(), &table[..4]), (128, &[0, 1, 0, 1][..]));
    null.set_rss_table(&table).expect("its driver takes one");
    // More places than there are, and a queue that there is not.
    assert!(null.set_rss_table(&vec![0; 1024]).is_err());
    assert!(null.set_rss_table(&vec![7; 128]).is_err());
    drop(null);

    // One queue spreads nothing; what a device can't do it is not asked for.
    assert_eq!(open("net_null1", 1, false).rss(), None);
    let wished = open("net_null2", 2, true);
    assert!(
        wished
            .rss()
            .is_none_or(|rss| !rss.by_source || rss.fields() == Fields::Source)
    );
    drop(wished);

    // By source, tables of all sizes lead a source to the same queue.
    let by_source = |places| Rss {
        by_source: true,
        places,
        ..rss
    };
    let key = |src| Key {
        src,
        dst: 1,
        sport: 2,
        dport: 3,
    };
    let spreads =
        [128, 512].map(|places| by_source(places).spread(3, 128).expect("a power of two"));
    for src in 0x0a01_0000..0x0a01_0400 {
        let [small, large] = [&spreads[0], &spreads[1]].map(|spread| spread.worker(17, key(src)));
        assert_eq!(small, large);
    }
    let first = by_source(128).table(2, 128);
    assert_eq!((first[0], first[64], first[32]), (0, 1, 0));
    assert_eq!(open("net_ring0", 1, false).rss(), None);

    // DPDK's own Toeplitz hash, word by word as it wants them.
    let hash = Toeplitz::new(&KEY);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..1000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let key = Key {
            src: random as u32,
            dst: (random >> 32) as u32,
            sport: (random >> 11) as u16,
            dport: (random >> 43) as u16,
        };
        let ports = u32::from(key.sport) << 16 | u32::from(key.dport);
        let theirs = spillway_dpdk::toeplitz(&[key.src, key.dst, ports], &KEY);
        assert_eq!(hash.of_flow(key), theirs);
        let theirs = spillway_dpdk::toeplitz(&[key.src], &KEY);
        assert_eq!(hash.of_source(key.src), theirs);
    }
}
