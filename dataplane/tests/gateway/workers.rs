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
        let WorkerId(worker) = worker_of(lab, &client);
        of_worker[usize::from(worker)].get_or_insert(client);
    }
    of_worker
        .into_iter()
        .map(|client| client.expect("a client of each worker"))
        .collect()
}

/// The worker of a client on the second inside network; there are no entries before and after.
pub(crate) fn worker_of(lab: &mut Lab, client: &str) -> WorkerId {
    lab.pass(INSIDE2, udp(&format!("{client}:1"), OUT));
    let worker = lab.sessions(SessionFilter::default())[0].worker;
    lab.clear(SessionFilter::default());
    worker
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
fn one_worker_alone_may_have_every_port_but_a_block_for_each_other() {
    let mut lab = Lab::new(Policy::overload(), 3, 1 << 17);
    let clients = clients(&mut lab);
    let all = 1024 + 64_512 - 2 * 64;
    for port in 1024..all {
        lab.pass(INSIDE2, udp(&format!("{}:{port}", clients[1]), OUT));
    }
    assert_eq!(lab.dropped(DropReason::PortsExhausted), 0);
    let one_more = udp(&format!("{}:{all}", clients[1]), OUT);
    lab.expect(INSIDE2, one_more, "drop ports_exhausted");
    // The others are not shut out: they have a block each, for as many servers as they like.
    for client in [&clients[0], &clients[2]] {
        for n in 0..640 {
            let server = format!("203.0.113.{}:9", 6 + n % 10);
            lab.pass(INSIDE2, udp(&format!("{client}:{}", 5000 + n), &server));
        }
    }
    assert_eq!(lab.dropped(DropReason::PortsExhausted), 1);
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

/// One worker's clients have a flow in every block that it may own; all others' flows are of another one.
#[test]
fn nobody_is_refused_while_another_worker_has_a_port() {
    for workers in [2, 3] {
        let mut lab = Lab::new(Policy::overload(), workers, 1 << 17);
        let clients = clients(&mut lab);
        let flow = |client: &str, n: u32| {
            let port = 1024 + n * 40_501 % 64_512;
            udp(&format!("{client}:{port}"), OUT)
        };
        let mut made = 0;
        for n in 0..2000 {
            lab.pass(INSIDE2, flow(&clients[0], n));
            made += 1;
        }
        let mut sports = HashSet::new();
        while made < 64_000 {
            let seen = lab.pass(INSIDE2, flow(&clients[1], made));
            assert!(sports.insert(seen.sport), "{} twice", seen.sport);
            made += 1;
            lab.now.0 += u64::from(made % 16 == 0);
            if made % 97 == 0 {
                // Wherever the answer comes in, it finds its way.
                let WorkerId(at) = WorkerId((made % u32::from(workers)) as u8);
                let answer = udp(OUT, &format!("198.51.100.1:{}", seen.sport));
                let back = lab.frame(OUTSIDE, &answer.ip());
                let got = lab.burst_at(usize::from(at), &[(OUTSIDE, Frame::new(&back))]);
                assert!(got[0].starts_with("3 udp"), "{got:?}");
            }
        }
        assert_eq!(lab.dropped(DropReason::PortsExhausted), 0);
        assert!(lab.counted(Counter::PortsLent) > 0);
        assert_eq!(lab.entries(), 64_000);
        // The other way round, once most flows are over: what was lent goes back.
        lab.clear(SessionFilter::default());
        for n in 0..64_000 {
            lab.pass(INSIDE2, flow(&clients[0], n));
            lab.now.0 += u64::from(n % 16 == 0);
        }
        assert_eq!(lab.dropped(DropReason::PortsExhausted), 0);
        // And when there really is none, it is said, and once.
        lab.advance(1000);
        let refused = (64_000..64_600).filter(|n| {
            let frame = lab.frame(INSIDE2, &flow(&clients[1], *n).ip());
            let got = lab.burst_at(0, &[(INSIDE2, Frame::new(&frame))]);
            assert!(
                got == ["drop ports_exhausted"] || got[0].starts_with("1 udp"),
                "{got:?}"
            );
            got == ["drop ports_exhausted"]
        });
        let refused = refused.count() as u64;
        let left = 64_512 - 64_000 - 64 * (u64::from(workers) - 1);
        assert_eq!(refused, 600 - left, "all but a block for each other worker");
        assert_eq!(lab.dropped(DropReason::PortsExhausted), refused);
        assert_eq!(lab.dropped(DropReason::Loop), 0);
        lab.assert_nothing_leaks();
    }
}
