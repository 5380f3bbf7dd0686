//! Parsing of frames that are whole.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{DST_MAC, Kind, SRC_MAC, Spec, ethernet, icmp, ipv4, spec};
use crate::wire::{Ethernet, Fragment, L4, Parsed, parse};

fn expected_l4(spec: &Spec) -> L4 {
    let (sport, dport) = (spec.ends.sport, spec.ends.dport);
    match spec.kind {
        Kind::Tcp { flags, .. } => L4::Tcp {
            sport,
            dport,
            flags,
        },
        Kind::Udp { .. } => L4::Udp { sport, dport },
        Kind::Query {
            icmp_type, code, ..
        } => L4::IcmpQuery {
            icmp_type,
            code,
            id: sport,
        },
        Kind::Esp { spi, seq } => L4::Esp { spi, seq },
        Kind::Other(_) => L4::Other,
    }
}

proptest! {
    #[test]
    fn reads_what_etherparse_wrote(spec in spec()) {
        let frame = spec.frame();
        let ip = ipv4(&frame).unwrap();
        prop_assert_eq!((ip.src, ip.dst), (spec.ends.src, spec.ends.dst));
        prop_assert_eq!((ip.ttl, ip.id, ip.protocol), (spec.ttl, spec.id, spec.protocol()));
        prop_assert_eq!(ip.dont_fragment, spec.dont_fragment);
        prop_assert_eq!(ip.fragment, None);
        prop_assert_eq!(usize::from(ip.header_len), 20 + spec.options.len());
        prop_assert_eq!(ip.end(), frame.len() - spec.padding.len());
        prop_assert_eq!(ip.l4_len(), spec.l4().len());
        prop_assert_eq!(frame[ip.l4_offset()..ip.end()].to_vec(), spec.l4());
        prop_assert_eq!(ip.l4, expected_l4(&spec));
    }

    /// What is let through agrees with etherparse's reading of it.
    #[test]
    fn random_octets_never_panic(mut octets in vec(any::<u8>(), 0..120), kind in 0u8..4) {
        // Most random frames would end at the first test; help some of them on.
        if kind > 0 && octets.len() > 34 {
            let total = (octets.len() - 14) as u8 - (kind & 1);
            octets[12..14].copy_from_slice(&[8, 0]);
            octets[14] = 0x40 | (octets[14] & 7 | 5);
            octets[16..18].copy_from_slice(&[0, total]);
            octets[23] = [1, 6, 17, 50][usize::from(octets[23] & 3)];
        }
        if let Ok(Parsed::Ipv4(ip)) = parse(&octets, false) {
            let (header, _) = etherparse::Ipv4Header::from_slice(&octets[14..]).unwrap();
            prop_assert_eq!(header.source, ip.src.to_be_bytes());
            prop_assert_eq!(header.destination, ip.dst.to_be_bytes());
            prop_assert_eq!(header.total_len, ip.total_len);
            prop_assert_eq!(header.header_len(), usize::from(ip.header_len));
            prop_assert_eq!(header.dont_fragment, ip.dont_fragment);
            let fragment = ip.fragment.unwrap_or(Fragment { offset: 0, more: false });
            prop_assert_eq!(header.fragment_offset.byte_offset(), fragment.offset);
            prop_assert_eq!(header.more_fragments, fragment.more);
            prop_assert_eq!(header.is_fragmenting_payload(), ip.fragment.is_some());
            prop_assert!(ip.end() <= octets.len());
        }
        if let Ok(Parsed::Ipv4(_)) = parse(&octets, true) {
            let (header, _) = etherparse::Ipv4Header::from_slice(&octets[14..]).unwrap();
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
        }
    }
}

#[test]
fn every_header_length() {
    for words in 0..=10 {
        let spec = Spec {
            options: vec![1; words * 4],
            ..Spec::of(Kind::Udp { checksum: true })
        };
        let ip = ipv4(&spec.frame()).unwrap();
        assert_eq!(usize::from(ip.header_len), 20 + words * 4);
        assert_eq!(ip.ports(), Some((40_000, 443)));
    }
}

#[test]
fn ethernet_header() {
    let frame = Spec::of(Kind::Other(89)).frame();
    let header = Ethernet::new(&frame).unwrap();
    assert_eq!((header.dst(), header.src()), (DST_MAC, SRC_MAC));
    assert_eq!(header.ethertype(), 0x0800);
    assert!(!header.is_group());
    let mut to_all = frame.clone();
    to_all[..6].fill(0xff);
    assert!(Ethernet::new(&to_all).unwrap().is_group());
    assert!(Ethernet::new(&frame[..13]).is_none());
}

#[test]
fn by_ethertype() {
    let of = |ethertype: [u8; 2]| {
        let frame = [&[0; 12][..], &ethertype, &[0; 46]].concat();
        parse(&frame, true).unwrap()
    };
    assert_eq!(of([0x08, 0x06]), Parsed::Arp);
    assert_eq!(of([0x86, 0xdd]), Parsed::Ipv6);
    assert_eq!(of([0x81, 0x00]), Parsed::Other(0x8100));
    assert_eq!(of([0x00, 0x26]), Parsed::Other(0x0026));
}

#[test]
fn icmp_types_are_sorted() {
    for icmp_type in 0..=255 {
        let mut spec = Spec::of(Kind::Other(1));
        spec.payload = icmp(icmp_type, 3, [[0xab, 0xcd], [0, 1]], &[]);
        let found = ipv4(&spec.frame()).unwrap().l4;
        let wanted = match icmp_type {
            0 | 8 | 13..=18 => L4::IcmpQuery {
                icmp_type,
                code: 3,
                id: 0xabcd,
            },
            3 | 4 | 5 | 11 | 12 => L4::IcmpError { icmp_type, code: 3 },
            _ => L4::IcmpOther { icmp_type, code: 3 },
        };
        assert_eq!(found, wanted);
    }
}

#[test]
fn fragments_of_a_datagram() {
    let spec = Spec::of(Kind::Udp { checksum: true });
    let whole = spec.l4().len();
    let read = |range| {
        let ip = ipv4(&ethernet(&spec.fragment(range))).unwrap();
        (ip.fragment.unwrap(), ip.l4)
    };
    let ports = L4::Udp {
        sport: 40_000,
        dport: 443,
    };
    let place = |offset, more| Fragment { offset, more };
    assert_eq!(read(0..8), (place(0, true), ports));
    assert_eq!(read(0..16), (place(0, true), ports));
    assert_eq!(read(8..16), (place(8, true), L4::LaterFragment));
    assert_eq!(read(16..whole), (place(16, false), L4::LaterFragment));
    let later = ipv4(&ethernet(&spec.fragment(16..whole))).unwrap();
    assert!(later.is_later_fragment());
    let first = ipv4(&ethernet(&spec.fragment(0..16))).unwrap();
    assert!(!first.is_later_fragment());
}

#[test]
fn address_request_passes() {
    let mut spec = Spec::of(Kind::Udp { checksum: true });
    (spec.ends.src, spec.ends.dst) = (0, u32::MAX);
    assert_eq!(ipv4(&spec.frame()).unwrap().dst, u32::MAX);
}

#[test]
fn parsed_is_compact() {
    assert!(size_of::<Result<Parsed, crate::stats::DropReason>>() <= 40);
}
