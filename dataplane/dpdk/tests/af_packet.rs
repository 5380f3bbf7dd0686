//! Frames cross a veth pair between two ports, flows spread over two queues, and a port comes back
//! after its interface went away. Needs root: it works in a network namespace of its own.
mod common;

use nix::sched::{CloneFlags, unshare};
use spillway_dataplane::packet::{Burst, Packet, RxQueue};
use spillway_dpdk::{Port, PortConfig, PortError};
use std::process::Command;
use std::time::{Duration, Instant};

fn ip(args: &str) {
    let status = Command::new("ip")
        .args(args.split(' '))
        .status()
        .expect("iproute2 is installed");
    assert!(status.success(), "ip {args}");
}

fn make_pair() {
    ip("link add dpdk-a type veth peer name dpdk-b");
    for name in ["dpdk-a", "dpdk-b"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").ok();
        ip(&format!("link set {name} up"));
    }
}

/// A UDP datagram from 10.0.0.1 to 10.0.0.2, source port `port`.
fn datagram(port: u16) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 8, 0]);
    frame.extend([
        0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0x66, 0xbd, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 53, 0, 26, 0, 0]);
    frame.extend([0x5a; 18]);
    frame
}

#[test]
fn frames_cross_and_ports_come_back() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("skipped: a network namespace of its own needs root");
        return;
    }
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        println!("skipped: no network namespace of its own: {error}");
        return;
    }
    let eal = common::eal();
    let pool = common::pool(&eal, 8191);
    let config = PortConfig::new(pool.clone());
    let none = Port::open(&eal, "net_af_packet0,iface=dpdk-a", &config).expect_err("not made yet");
    assert!(matches!(none, PortError::Interface { .. }), "{none}");
    make_pair();

    let mut a = common::open(&eal, "net_af_packet0,iface=dpdk-a", &pool);
    // One queue is asked for, but both sockets receive, so both are there to be polled.
    let mut b = common::open(&eal, "net_af_packet1,iface=dpdk-b,qpairs=2", &pool);
    assert_eq!((a.interface(), a.present()), (Some("dpdk-a"), true));
    let info = b.info().expect("the port is open");
    assert_eq!(
        (info.rx_queues, info.mtu, info.link.up),
        (2, 1500, true),
        "{info}"
    );
    b.set_promiscuous(true).expect("af_packet can");
    assert!(b.info().expect("the port is open").promiscuous);

    let (a_rx, mut a_tx) = common::queues(&mut a);
    let (mut b_rx, b_tx) = b.take_queues();
    for port in 0..64 {
        assert_eq!(
            common::send(&mut a_tx, common::packet(&pool, &datagram(port))),
            1
        );
    }
    let counts = collect(&mut b_rx, 64);
    assert_eq!(counts.iter().sum::<usize>(), 64, "{counts:?}");
    assert!(
        counts.iter().all(|&count| count > 0),
        "flows spread over both queues: {counts:?}"
    );

    // The interface goes: the other end keeps running, and this one says so.
    ip("link del dpdk-a");
    assert!(!a.present() && !b.present());
    let mut burst = Burst::new();
    assert_eq!(
        b_rx.iter_mut()
            .map(|rx| rx.receive(&mut burst))
            .sum::<usize>(),
        0
    );
    common::send(&mut a_tx, common::packet(&pool, &datagram(1)));
    assert_eq!(b_tx.len(), 1);
    drop((a_rx, a_tx, b_rx, b_tx));
    a.close().expect("its queues are back");
    b.close().expect("its queues are back");
    assert_eq!(pool.available(), pool.size());

    // It comes back under its old name, and the ports with it.
    make_pair();
    let mut a = common::open(&eal, "net_af_packet0,iface=dpdk-a", &pool);
    let mut b = common::open(&eal, "net_af_packet1,iface=dpdk-b", &pool);
    assert!(a.present() && b.present());
    let (_, mut a_tx) = common::queues(&mut a);
    let (mut b_rx, _) = common::queues(&mut b);
    let frame = datagram(4711);
    common::send(&mut a_tx, common::packet(&pool, &frame));
    let came = common::await_packet(&mut b_rx, |data| data == frame);
    assert_eq!(came, Some(frame));
    drop((a_tx, b_rx, a, b));
    assert_eq!(pool.available(), pool.size());
}

/// How many of our frames each queue got, until `expected` came or ten seconds are over.
fn collect(queues: &mut [impl RxQueue], expected: usize) -> Vec<usize> {
    let mut counts = vec![0; queues.len()];
    let end = Instant::now() + Duration::from_secs(10);
    while counts.iter().sum::<usize>() < expected && Instant::now() < end {
        for (rx, count) in queues.iter_mut().zip(&mut counts) {
            let mut burst = Burst::new();
            rx.receive(&mut burst);
            *count += burst
                .iter()
                .filter(|packet| packet.data().ends_with(&[0x5a; 18]))
                .count();
        }
    }
    counts
}
