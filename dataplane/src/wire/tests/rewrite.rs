//! A packet rewritten by difference is the packet that etherparse builds with the new endpoints.

use proptest::prelude::*;

use super::{Kind, Spec, ends, ethernet, ipv4, spec};
use crate::wire::rewrite::{Endpoints, Rewrite, decrement_ttl, set_ethernet, set_macs};

/// What a rewrite can make of this packet: ports change only where there are some.
fn reachable(spec: &Spec, to: Endpoints) -> Endpoints {
    match spec.kind {
        Kind::Tcp { .. } | Kind::Udp { .. } => to,
        Kind::Query { .. } => Endpoints { dport: 0, ..to },
        Kind::Esp { .. } | Kind::Other(_) => Endpoints {
            sport: 0,
            dport: 0,
            ..to
        },
    }
}

fn rewrite(spec: &Spec, to: Endpoints) -> Rewrite {
    Rewrite::new(spec.protocol(), spec.ends, to)
}

/// An ICMP message of zeros has two right checksums.
fn is_all_zero(spec: &Spec) -> bool {
    spec.protocol() == 1 && spec.l4().iter().all(|octet| *octet == 0 || *octet == 0xff)
}

proptest! {
    #[test]
    fn rewritten_is_built_anew(spec in spec(), to in ends()) {
        prop_assume!(!is_all_zero(&spec));
        let mut frame = spec.frame();
        let ip = ipv4(&frame).unwrap();
        rewrite(&spec, to).apply(&mut frame, &ip);
        prop_assert_eq!(&frame, &spec.with_ends(reachable(&spec, to)).frame());
        // And back again.
        let ip = ipv4(&frame).unwrap();
        Rewrite::new(spec.protocol(), to, spec.ends).apply(&mut frame, &ip);
        prop_assert_eq!(frame, spec.frame());
    }

    #[test]
    fn rewritten_and_one_hop_further(mut spec in spec(), to in ends()) {
        prop_assume!(!is_all_zero(&spec));
        spec.ttl = spec.ttl.max(1);
        let mut frame = spec.frame();
        let ip = ipv4(&frame).unwrap();
        rewrite(&spec, to).apply_and_decrement_ttl(&mut frame, &ip);
        let mut wanted = spec.with_ends(reachable(&spec, to));
        wanted.ttl -= 1;
        prop_assert_eq!(frame, wanted.frame());
    }

    #[test]
    fn one_hop_further(mut spec in spec()) {
        spec.ttl = spec.ttl.max(1);
        let mut frame = spec.frame();
        decrement_ttl(&mut frame);
        spec.ttl -= 1;
        prop_assert_eq!(frame, spec.frame());
    }

    /// A datagram is the same, whether it is rewritten whole or in fragments.
    #[test]
    fn fragments_are_rewritten_as_the_whole(mut spec in spec(), to in ends(), at in 0usize..40) {
        prop_assume!(!is_all_zero(&spec));
        spec.payload.resize(spec.payload.len().max(16), 7);
        spec.dont_fragment = false;
        let first = if spec.protocol() == 6 { 24 } else { 8 };
        let len = spec.l4().len();
        let cut = (first + at * 8).min((len - 1) & !7);
        let wanted = spec.with_ends(reachable(&spec, to));
        for range in [0..cut, cut..len] {
            let mut frame = ethernet(&spec.fragment(range.clone()));
            let ip = ipv4(&frame).unwrap();
            rewrite(&spec, to).apply(&mut frame, &ip);
            prop_assert_eq!(frame, ethernet(&wanted.fragment(range)));
        }
    }

    /// A packet that arrives with a wrong checksum leaves with a wrong one, by the same amount.
    #[test]
    fn wrong_checksums_stay_wrong(spec in spec(), to in ends(), error in 1u16..0xffff) {
        let at = match spec.kind {
            Kind::Tcp { .. } => 16,
            Kind::Udp { checksum: true } => 6,
            _ => return Ok(()),
        };
        let mut frame = spec.frame();
        let ip = ipv4(&frame).unwrap();
        let at = ip.l4_offset() + at;
        let field = u16::from_be_bytes([frame[at], frame[at + 1]]).wrapping_add(error);
        prop_assume!(field != 0 && field != 0xffff);
        frame[at..at + 2].copy_from_slice(&field.to_be_bytes());
        let wrong = frame.clone();
        rewrite(&spec, to).apply(&mut frame, &ip);
        prop_assert_ne!(&frame, &spec.with_ends(to).frame());
        let ip = ipv4(&frame).unwrap();
        Rewrite::new(spec.protocol(), to, spec.ends).apply(&mut frame, &ip);
        prop_assert_eq!(frame, wrong);
    }

    /// UDP-Lite and DCCP count addresses in their checksum at the place of UDP's.
    #[test]
    fn checksums_of_udp_lite_and_dccp(from in ends(), to in ends(), payload: [u8; 16]) {
        for protocol in [136, 33] {
            let build = |ends: Endpoints| {
                let mut spec = Spec::of(Kind::Other(protocol)).with_ends(ends);
                spec.payload = payload.to_vec();
                spec.payload[6..8].fill(0);
                let sum = crate::wire::checksum::Sum::pseudo_header(ends.src, ends.dst, protocol, 16);
                let sum = sum.bytes(&spec.payload).udp_checksum();
                spec.payload[6..8].copy_from_slice(&sum.to_be_bytes());
                spec.frame()
            };
            let mut frame = build(from);
            let ip = ipv4(&frame).unwrap();
            Rewrite::new(protocol, from, to).apply(&mut frame, &ip);
            prop_assert_eq!(frame, build(to));
        }
    }
}

#[test]
fn message_of_zeros() {
    let mut spec = Spec::of(Kind::Query {
        icmp_type: 0,
        code: 0,
        seq: 0,
    });
    spec.payload = vec![0; 8];
    spec.ends.sport = 9;
    let to = Endpoints {
        sport: 0,
        ..spec.ends
    };
    let mut frame = spec.frame();
    let ip = ipv4(&frame).unwrap();
    rewrite(&spec, to).apply(&mut frame, &ip);
    // 0xffff when computed anew: the other spelling.
    assert_eq!(frame[36..38], [0, 0]);
    assert_eq!(spec.with_ends(to).frame()[36..38], [0xff, 0xff]);
}

#[test]
fn rewrite_is_small_enough_for_a_session() {
    assert_eq!(size_of::<Rewrite>(), 16);
    let spec = Spec::of(Kind::Esp { spi: 1, seq: 1 });
    assert_eq!(rewrite(&spec, spec.ends).to(), spec.ends);
}

#[test]
fn ethernet_addresses() {
    let mut frame = Spec::of(Kind::Other(89)).frame();
    let before = frame.clone();
    set_macs(&mut frame, [1; 6], [2; 6]);
    assert_eq!(frame[..12], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    assert_eq!(frame[12..], before[12..]);
    set_ethernet(&mut frame, [3; 6], [4; 6], 0x0806);
    assert_eq!(frame[..14], [3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 8, 6]);
}

/// What was parsed of one frame does no harm to a shorter one.
#[test]
fn frames_cut_short_meanwhile() {
    for kind in [
        Kind::Tcp {
            seq: 0,
            ack: 0,
            flags: 2,
        },
        Kind::Udp { checksum: true },
        Kind::Query {
            icmp_type: 8,
            code: 0,
            seq: 0,
        },
        Kind::Other(136),
    ] {
        let spec = Spec::of(kind);
        let frame = spec.frame();
        let ip = ipv4(&frame).unwrap();
        let to = Endpoints::default();
        for len in 0..frame.len() {
            let mut short = frame[..len].to_vec();
            rewrite(&spec, to).apply_and_decrement_ttl(&mut short, &ip);
            set_ethernet(&mut short, [0; 6], [0; 6], 0);
            assert_eq!(short.len(), len);
        }
    }
}
