//! ICMP errors made here, read back by etherparse and by our own reader.

use etherparse::{Ipv4Header, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::{Buffer, Kind, Spec, ethernet, icmp, ipv4, spec};
use crate::packet::Packet;
use crate::stats::DropReason;
use crate::wire::icmp_build::{ErrorKind, MAX_ERROR, build, may_answer, unreachable};
use crate::wire::icmp_error;

const ROUTER: u32 = 0xc000_0201;

fn answer(frame: &[u8], kind: ErrorKind, headroom: usize, tailroom: usize) -> Buffer {
    let mut packet = Buffer::new(frame, headroom, tailroom);
    build(&mut packet, &ipv4(frame).unwrap(), kind, ROUTER, 0xbeef).unwrap();
    packet
}

fn kinds() -> impl Strategy<Value = (ErrorKind, [u8; 2], [u8; 4])> {
    prop_oneof![
        Just((ErrorKind::TimeExceeded, [11, 0], [0; 4])),
        (0u8..16).prop_map(|code| (ErrorKind::Unreachable(code), [3, code], [0; 4])),
        any::<u16>().prop_map(|mtu| {
            let [high, low] = mtu.to_be_bytes();
            let rest = [0, 0, high, low];
            (ErrorKind::FragmentationNeeded { mtu }, [3, 4], rest)
        }),
    ]
}

proptest! {
    #[test]
    fn is_right_and_quotes_what_fits(
        mut spec in spec(),
        (kind, type_and_code, rest) in kinds(),
        long in 0usize..1400,
        at_front: bool,
    ) {
        spec.payload.resize(spec.payload.len() + long, 0x5a);
        let original = spec.packet();
        let (headroom, tailroom) = if at_front { (28, 0) } else { (27, 28) };
        let packet = answer(&spec.frame(), kind, headroom, tailroom);
        let frame = packet.data();

        let total = (original.len() + 28).min(MAX_ERROR);
        prop_assert_eq!(frame.len(), 14 + total);
        prop_assert_eq!(&frame[12..14], &[8, 0]);
        prop_assert_eq!(&frame[42..], &original[..total - 28]);

        let (header, _) = Ipv4Header::from_slice(&frame[14..]).unwrap();
        prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
        prop_assert_eq!(header.source, ROUTER.to_be_bytes());
        prop_assert_eq!(header.destination, spec.ends.src.to_be_bytes());
        prop_assert_eq!(usize::from(header.total_len), total);
        prop_assert_eq!((header.time_to_live, header.identification), (64, 0xbeef));
        prop_assert!(!header.dont_fragment && !header.is_fragmenting_payload());
        prop_assert_eq!(frame[15], 0xc0);

        prop_assert_eq!(&frame[34..36], &type_and_code);
        prop_assert_eq!(&frame[38..42], &rest);
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Icmpv4(icmp)) = sliced.transport else {
            panic!("no ICMP: {sliced:?}");
        };
        prop_assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()));
        let ip = ipv4(frame).unwrap();
        let quoted = icmp_error::read(frame, &ip).unwrap();
        prop_assert_eq!((quoted.src, quoted.dst), (spec.ends.src, spec.ends.dst));
    }
}

#[test]
fn no_room_for_the_headers() {
    let frame = Spec::of(Kind::Udp { checksum: true }).frame();
    let mut packet = Buffer::new(&frame, 27, 27);
    let ip = ipv4(&frame).unwrap();
    let found = build(&mut packet, &ip, ErrorKind::TimeExceeded, ROUTER, 0);
    assert_eq!(found, Err(DropReason::BufferExhausted));
}

#[test]
fn long_packet_makes_its_own_room_at_the_end() {
    let mut spec = Spec::of(Kind::Udp { checksum: true });
    spec.payload = vec![7; 1400];
    let packet = answer(&spec.frame(), ErrorKind::TimeExceeded, 0, 0);
    assert_eq!(packet.data().len(), 14 + MAX_ERROR);
    assert_eq!(&packet.data()[42..], &spec.packet()[..548]);
}

fn answered(frame: &[u8]) -> bool {
    may_answer(frame, &ipv4(frame).unwrap())
}

#[test]
fn what_is_answered() {
    for kind in [
        Kind::Udp { checksum: true },
        Kind::Esp { spi: 1, seq: 1 },
        Kind::Other(47),
        Kind::Query {
            icmp_type: 8,
            code: 0,
            seq: 0,
        },
    ] {
        assert!(answered(&Spec::of(kind).frame()), "{kind:?}");
    }
    let first = Spec::of(Kind::Udp { checksum: true }).fragment(0..16);
    assert!(answered(&ethernet(&first)));
}

#[test]
fn errors_and_unknown_icmp_are_not_answered() {
    for icmp_type in [1, 3, 4, 5, 9, 11, 12, 40, 255] {
        let mut spec = Spec::of(Kind::Other(1));
        spec.payload = icmp(icmp_type, 0, [[0, 0]; 2], &[]);
        assert!(!answered(&spec.frame()), "type {icmp_type}");
    }
}

#[test]
fn later_fragments_are_not_answered() {
    let later = Spec::of(Kind::Udp { checksum: true }).fragment(16..40);
    assert!(!answered(&ethernet(&later)));
}

#[test]
fn groups_are_not_answered() {
    let spec = Spec::of(Kind::Udp { checksum: true });
    let mut to_all = spec.frame();
    to_all[..6].fill(0xff);
    assert!(!answered(&to_all));
    for dst in [0xe000_0001, 0xefff_ffff, u32::MAX] {
        let mut spec = spec.clone();
        spec.ends.dst = dst;
        assert!(!answered(&spec.frame()), "{dst:x}");
    }
}

#[test]
fn nobody_is_not_answered() {
    let mut frame = Spec::of(Kind::Udp { checksum: true }).frame();
    let mut ip = ipv4(&frame).unwrap();
    ip.src = 0;
    assert!(!may_answer(&frame, &ip));
    ip.src = 0x0a00_0001;
    assert!(may_answer(&frame, &ip));
    frame.clear();
    assert!(!may_answer(&frame, &ip));
}

#[test]
fn codes_by_their_numbers() {
    let codes = [
        unreachable::NETWORK,
        unreachable::HOST,
        unreachable::PROTOCOL,
        unreachable::PORT,
        unreachable::FRAGMENTATION_NEEDED,
        unreachable::ADMINISTRATIVELY_PROHIBITED,
    ];
    assert_eq!(codes, [0, 1, 2, 3, 4, 13]);
}
