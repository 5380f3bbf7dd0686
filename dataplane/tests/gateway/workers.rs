//! Several workers: whose is what, and nobody starves.

use std::collections::HashSet;

use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::snapshot::WorkerId;
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{Frame, INSIDE, INSIDE2, Lab, OUTSIDE, Policy, permit_all, udp};

const OUT: &str = "203.0.113.5:9";

/// A client for each worker, on the second inside network.
fn clients(lab: &mut Lab) -> Vec<String> {
    let mut of_worker = vec![None; lab.workers.len()];
    for host in 2..60 {
        let client = format!("10.2.0.{host}");
        lab.pass(INSIDE2, udp(&format!("{client}:1"), OUT));
        let WorkerId(worker) = lab.sessions(SessionFilter::default())[0].worker;
        of_worker[usize::from(worker)].get_or_insert(client);
        lab.clear(SessionFilter::default());
    }
    of_worker
        .into_iter()
        .map(|client| client.expect("a client of each worker"))
        .collect()
}

#[test]
fn both_directions_are_the_owners() {
    for workers in 2..=8 {
        let mut lab = Lab::new(Policy::overload(), workers, 1 << 10);
        for client in clients(&mut lab) {
            let from = format!("{client}:5000");
            for at in 0..usize::from(workers) {
                let out = lab.frame(INSIDE2, &udp(&from, OUT).ip());
                let got = lab.burst_at(at, &[(INSIDE2, Frame::new(&out))]);
                assert_eq!(got.len(), 1);
                let sport = u16::from_be_bytes([lab.last[0].1[34], lab.last[0].1[35]]);
                let back = lab.frame(OUTSIDE, &udp(OUT, &format!("198.51.100.1:{sport}")).ip());
                let got = lab.burst_at(at, &[(OUTSIDE, Frame::new(&back))]);
                assert_eq!(got, [format!("3 udp {OUT} > {from}")]);
            }
        }
        assert_eq!(lab.entries(), usize::from(workers));
        assert_eq!(lab.dropped(DropReason::Loop), 0);
        lab.assert_nothing_leaks();
    }
}

#[test]
fn a_block_serves_another_worker_once_it_is_empty() {
    let mut lab = Lab::new(Policy::overload(), 2, 1 << 10);
    let clients = clients(&mut lab);
    let first = lab.pass(INSIDE2, udp(&format!("{}:5000", clients[0]), OUT));
    assert_eq!(first.sport, 5000);
    let second = lab.pass(INSIDE2, udp(&format!("{}:5001", clients[1]), OUT));
    assert_ne!(
        second.sport / 64,
        5000 / 64,
        "the block is the first worker's"
    );
    lab.advance(301_000);
    assert_eq!(lab.entries(), 0);
    let second = lab.pass(INSIDE2, udp(&format!("{}:5001", clients[1]), OUT));
    assert_eq!(second.sport, 5001);
    lab.assert_nothing_leaks();
}

#[test]
fn one_workers_client_does_not_starve_the_others() {
    for workers in [2, 3] {
        let mut lab = Lab::new(Policy::overload(), workers, 1 << 17);
        let clients = clients(&mut lab);
        let mut used = HashSet::new();
        // Ports all over the range, each in the block that it would like to keep.
        for n in 0..10_000u32 {
            let port = 1024 + n * 40_503 % 64_512;
            assert!(
                used.insert(
                    lab.pass(INSIDE2, udp(&format!("{}:{port}", clients[0]), OUT))
                        .sport
                )
            );
        }
        for client in &clients[1..] {
            for n in 0..5_000u32 {
                let port = 1024 + n * 40_503 % 64_512;
                assert!(
                    used.insert(
                        lab.pass(INSIDE2, udp(&format!("{client}:{port}"), OUT))
                            .sport
                    )
                );
            }
        }
        lab.assert_nothing_leaks();
    }
}

#[test]
fn one_worker_alone_may_have_every_port() {
    let mut lab = Lab::new(Policy::overload(), 3, 1 << 17);
    let clients = clients(&mut lab);
    for port in 1024..=u16::MAX {
        lab.pass(INSIDE2, udp(&format!("{}:{port}", clients[1]), OUT));
    }
    assert_eq!(lab.dropped(DropReason::PortsExhausted), 0);
    lab.expect(
        INSIDE2,
        udp(&format!("{}:7777", clients[2]), OUT),
        "drop ports_exhausted",
    );
    lab.assert_nothing_leaks();
}

#[test]
fn addresses_of_a_pool_belong_to_the_worker_of_their_host() {
    let policy = Policy::default().rule_pool(permit_all(), "203.0.113.200", 20);
    let mut lab = Lab::new(policy, 3, 100);
    for host in 2..22 {
        let sent = lab.pass(INSIDE, udp(&format!("10.1.0.{host}:5"), "198.51.100.9:9"));
        let back = udp("198.51.100.9:9", &format!("{}:5", sent.src()));
        for at in 0..3 {
            let frame = lab.frame(OUTSIDE, &back.ip());
            let got = lab.burst_at(at, &[(OUTSIDE, Frame::new(&frame))]);
            assert_eq!(got, [format!("0 udp 198.51.100.9:9 > 10.1.0.{host}:5")]);
        }
    }
    let of = |lab: &Lab, at: usize| lab.workers[at].table().len();
    assert!((0..3).all(|at| of(&lab, at) > 0), "all of them have some");
    assert_eq!(lab.counted(Counter::CreatedSimple), 20);
    lab.assert_nothing_leaks();
}
