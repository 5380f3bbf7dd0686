//! Whatever comes in: no panic, and each packet is counted exactly once.

use proptest::prelude::*;
use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::snapshot::PortId;
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{Frame, Lab, Policy, error, permit_all, ping, pong, raw, tcp, udp};

fn lab(workers: u8) -> Lab {
    let policy = Policy::overload()
        .rule_pool(permit_all(), "203.0.113.200", 2)
        .forward(6, ("10.1.0.9", 80), ("198.51.100.1", 80))
        .fixed("10.1.0.10", "203.0.113.10");
    Lab::new(policy, workers, 64)
}

/// Good packets, to be spoilt.
fn seeds() -> Vec<Vec<u8>> {
    let about = udp("198.51.100.1:5000", "203.0.113.5:9").ip();
    let mut seeds: Vec<Vec<u8>> = [
        udp("10.1.0.2:5000", "203.0.113.5:9"),
        udp("203.0.113.5:9", "198.51.100.1:5000"),
        udp("10.1.0.2:5000", "203.0.113.5:9")
            .options(&[7, 8, 4, 0, 0, 0, 0, 0])
            .ttl(1),
        udp("10.1.0.2:5000", "198.51.100.99:9"),
        udp("10.1.0.2:5000", "203.0.113.10:9").size(1472),
        tcp("10.1.0.2:5000", "203.0.113.5:80", "S"),
        tcp("203.0.113.5:80", "198.51.100.1:80", "S"),
        tcp("10.1.0.2:5000", "198.51.100.1:80", "S"),
        ping("10.1.0.2", "203.0.113.5", 7),
        ping("10.1.0.2", "10.1.0.1", 7),
        pong("203.0.113.5", "198.51.100.1", 7),
        raw("10.1.0.2", "203.0.113.5", 47),
        error("203.0.113.5", "198.51.100.1", (3, 3), 0, &about),
        error(
            "10.1.0.2",
            "203.0.113.5",
            (3, 3),
            0,
            &udp("203.0.113.5:9", "10.1.0.2:5000").ip(),
        ),
    ]
    .into_iter()
    .map(Vec::from)
    .collect();
    seeds.extend(
        udp("10.1.0.2:5000", "203.0.113.5:9")
            .size(2000)
            .fragments(800),
    );
    seeds.extend(
        udp("203.0.113.5:9", "198.51.100.1:5000")
            .size(2000)
            .fragments(800),
    );
    seeds
}

#[derive(Debug, Clone)]
struct Spoilt {
    port: u8,
    seed: usize,
    changes: Vec<(usize, u8)>,
    len: Option<usize>,
    mend: bool,
}

fn spoilt() -> impl Strategy<Value = Spoilt> {
    let at = prop_oneof![4 => 0usize..64, 1 => 0usize..900];
    (
        0u8..5,
        any::<usize>(),
        prop::collection::vec((at, any::<u8>()), 0..4),
        prop::option::weighted(0.2, 0usize..120),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(port, seed, changes, len, mend)| Spoilt {
            port,
            seed,
            changes,
            len,
            mend,
        })
}

/// The frame; `mend` puts the IPv4 header checksum right again, so that it is not the only error.
fn spoil(lab: &Lab, seeds: &[Vec<u8>], wish: &Spoilt) -> Vec<u8> {
    let port = PortId(wish.port.min(3));
    let mut frame = lab.frame(port, &seeds[wish.seed % seeds.len()]);
    for (at, value) in &wish.changes {
        let len = frame.len();
        frame[at % len] = *value;
    }
    if let Some(len) = wish.len {
        frame.truncate(len);
    }
    if wish.mend && frame.len() >= 34 {
        let end = (14 + usize::from(frame[14] & 15) * 4).min(frame.len());
        frame[24..26].fill(0);
        let mut sum: u32 = frame[14..end]
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
    frame
}

fn check(lab: &mut Lab, frames: Vec<(PortId, Vec<u8>)>) {
    let received = frames.len() as u64;
    for (n, (port, frame)) in frames.into_iter().enumerate() {
        let at = n % lab.workers.len();
        lab.feed(at, port, Frame::new(&frame));
    }
    for _ in 0..100 {
        lab.now.0 += 100;
        lab.poll(); // whatever waits is dropped
    }
    let dropped: u64 = DropReason::ALL
        .iter()
        .map(|reason| lab.dropped(*reason))
        .sum();
    let made = lab.counted(Counter::IcmpTimeExceededSent)
        + lab.counted(Counter::IcmpUnreachableSent)
        + lab.counted(Counter::IcmpFragmentationNeededSent);
    let sent = lab.effects.sent.len() as u64 - made;
    let punted = lab.effects.punted.len() as u64;
    assert_eq!(received, sent + punted + dropped);
    let punts = [
        Counter::PuntedArp,
        Counter::PuntedIpv6,
        Counter::PuntedOther,
        Counter::PuntedLocal,
    ];
    assert_eq!(
        punted,
        punts
            .map(|counter| lab.counted(counter))
            .iter()
            .sum::<u64>()
    );
    // By port too, save for the ports that do not exist.
    let by_port: u64 = lab
        .workers
        .iter()
        .flat_map(|w| (0..4).filter_map(|port| w.stats().port(PortId(port))))
        .map(|port| port.rx_dropped.value())
        .sum();
    assert!(by_port <= dropped);
    lab.effects.sent.clear();
    lab.effects.punted.clear();
    lab.entries();
    lab.clear(SessionFilter::default());
    lab.assert_nothing_leaks();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spoilt_packets_are_counted_once(workers in 1u8..=3, wishes in prop::collection::vec(spoilt(), 1..120)) {
        let mut lab = lab(workers);
        let seeds = seeds();
        let frames = wishes.iter().map(|wish| (PortId(wish.port), spoil(&lab, &seeds, wish))).collect();
        check(&mut lab, frames);
    }

    #[test]
    fn random_octets_are_counted_once(
        workers in 1u8..=3,
        bodies in prop::collection::vec((0u8..4, any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)), 1..60),
    ) {
        let mut lab = lab(workers);
        let frames = bodies
            .into_iter()
            .map(|(port, framed, body)| {
                let frame = if framed { lab.frame(PortId(port), &body) } else { body };
                (PortId(port), frame)
            })
            .collect();
        check(&mut lab, frames);
    }
}
