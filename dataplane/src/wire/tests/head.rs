//! The short way of reading and writing headers, beside the full one.

use super::*;
use crate::wire::checksum::{Delta, Deltas};
use crate::wire::head::{Change, Head, Macs, mac_word};
use crate::wire::ipv4::{is_martian_destination, is_martian_source};
use crate::wire::rewrite::{Rewrite, set_macs};
use crate::wire::{L4, parse};

/// Frames as they are built, with some octets changed or cut off.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let damage = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let cut = prop::option::weighted(0.2, any::<prop::sample::Index>());
    (spec(), damage, cut).prop_map(|(spec, damage, cut)| {
        let mut frame = spec.frame();
        for (at, octet) in damage {
            let at = at.index(frame.len());
            frame[at] = octet;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// It reads what the full parser reads, and leaves nothing to it that it need not.
    #[test]
    fn reads_what_the_parser_reads(frame in frames(), verify in any::<bool>()) {
        let head = Head::read(&frame, mac_word(DST_MAC), verify);
        let full = match parse(&frame, verify) {
            Ok(Parsed::Ipv4(ip)) => Some(ip),
            _ => None,
        };
        let is_ours = frame.get(..6) == Some(&DST_MAC[..]);
        let ordinary = full.filter(|ip| {
            is_ours
                && ip.header_len == 20
                && ip.fragment.is_none()
                && matches!(
                    ip.l4,
                    L4::Tcp { .. } | L4::Udp { .. } | L4::IcmpQuery { .. } | L4::Esp { .. }
                )
        });
        match (head, ordinary) {
            (Some(head), Some(ip)) => prop_assert_eq!(head.ipv4(&frame), Some(ip)),
            // Addresses are not judged here.
            (Some(head), None) => {
                let ip = head.ipv4(&frame).unwrap();
                prop_assert!(is_martian_source(ip.src) || is_martian_destination(ip.dst));
            }
            (None, ordinary) => prop_assert_eq!(ordinary, None),
        }
    }

    /// It writes what the full rewrite writes, in both directions.
    #[test]
    fn writes_what_the_rewrite_writes(
        spec in spec(),
        src in any::<u32>(),
        dst in any::<u32>(),
        (sport, dport) in any::<(u16, u16)>(),
        undo in any::<bool>(),
    ) {
        let mut full = spec.frame();
        let Some(head) = Head::read(&full, mac_word(DST_MAC), true) else { return Ok(()) };
        let ip = head.ipv4(&full).unwrap();
        prop_assume!(ip.ttl > 1);
        let from = head.key();
        // An identifier is in both ports.
        let dport = if ip.protocol == 1 { sport } else { dport };
        let to = Endpoints { src, dst, sport, dport };
        let of_ports = |from: Endpoints, to: Endpoints| {
            let mut ports = Delta::of_u16(from.sport, to.sport);
            if ip.protocol != 1 {
                ports += Delta::of_u16(from.dport, to.dport);
            }
            ports
        };
        let of_addresses = |from: Endpoints, to: Endpoints| {
            Delta::of_u32(from.src, to.src) + Delta::of_u32(from.dst, to.dst)
        };
        // The difference of the way there, or that of the way back undone.
        let (a, b, mask) = if undo { (to, from, u16::MAX) } else { (from, to, 0) };
        let macs = ([2, 1, 2, 3, 4, 5], [2, 6, 7, 8, 9, 10]);
        let change = Change {
            addresses: u64::from(src) << 32 | u64::from(dst),
            ports: u32::from(sport) << 16 | u32::from(dport),
            of_addresses: Deltas::NONE.and(of_addresses(a, b), mask),
            of_ports: Deltas::NONE.and(of_ports(a, b), mask),
            macs: Macs::new(macs.0, macs.1),
        };
        let mut short = full.clone();
        change.apply(&mut short, ip.protocol);
        Rewrite::new(ip.protocol, from, to).apply_and_decrement_ttl(&mut full, &ip);
        set_macs(&mut full, macs.0, macs.1);
        prop_assert_eq!(short, full);
    }
}
