//! Frames that are refused, each with its reason.

use std::net::Ipv4Addr;

use super::{Kind, Spec, ethernet, ipv4};
use crate::stats::DropReason;
use crate::wire::ipv4::{is_martian_destination, is_martian_source};
use crate::wire::parse;

const TCP: Kind = Kind::Tcp {
    seq: 1,
    ack: 2,
    flags: 0x12,
};
const UDP: Kind = Kind::Udp { checksum: true };
const ECHO: Kind = Kind::Query {
    icmp_type: 8,
    code: 0,
    seq: 1,
};
const ESP: Kind = Kind::Esp { spi: 7, seq: 9 };

/// A frame cut anywhere, its header untouched.
#[test]
fn cut_at_every_length() {
    for options in [0, 4, 40] {
        let spec = Spec {
            options: vec![1; options],
            ..Spec::of(TCP)
        };
        let frame = spec.frame();
        for len in 0..frame.len() {
            let wanted = match len {
                0..34 => DropReason::FrameTooShort,
                _ if len < 34 + options => DropReason::IpHeaderLength,
                _ => DropReason::IpTotalLength,
            };
            let found = parse(&frame[..len], true).unwrap_err();
            assert_eq!(found, wanted, "cut at {len} of {}", frame.len());
        }
        assert!(parse(&frame, true).is_ok());
    }
}

/// A packet that says honestly that it is too short for its protocol's header.
#[test]
fn honest_but_short() {
    for (kind, header) in [(TCP, 20), (UDP, 8), (ECHO, 8), (ESP, 8)] {
        let whole = Spec::of(kind);
        for len in 0..=header {
            let mut short = Spec::of(Kind::Other(whole.protocol()));
            short.payload = whole.l4()[..len].to_vec();
            if whole.protocol() == 17 && len == header {
                short.payload[4..6].copy_from_slice(&8u16.to_be_bytes());
            }
            short.padding = vec![0; 26];
            let found = ipv4(&short.frame()).map(|_| ());
            let wanted = if len < header {
                Err(DropReason::L4Truncated)
            } else {
                Ok(())
            };
            assert_eq!(found, wanted, "{kind:?} of {len} octets");
        }
    }
}

/// A header that says that it or its data is longer than the packet, or shorter than itself.
#[test]
fn lengths_that_disagree() {
    for offset in [0, 4, 15] {
        assert_eq!(refused(|f| f[46] = offset << 4), DropReason::L4Truncated);
    }
    let udp = Spec::of(UDP).frame();
    for length in [0u16, 7, udp.len() as u16 - 33] {
        let mut frame = udp.clone();
        frame[38..40].copy_from_slice(&length.to_be_bytes());
        assert_eq!(
            parse(&frame, true),
            Err(DropReason::L4Truncated),
            "{length}"
        );
    }
}

/// The change made to a good frame, its header checksum put right again, and the reason.
fn refused(change: impl Fn(&mut [u8])) -> DropReason {
    let mut frame = Spec::of(TCP).frame();
    change(&mut frame);
    frame[24..26].fill(0);
    let sum = crate::wire::checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    parse(&frame, true).unwrap_err()
}

#[test]
fn wrong_version() {
    for version in (0..16u8).filter(|version| *version != 4) {
        let reason = refused(|frame| frame[14] = version << 4 | 5);
        assert_eq!(reason, DropReason::IpVersion);
    }
}

#[test]
fn header_length_below_20() {
    for words in 0..5 {
        let reason = refused(|frame| frame[14] = 0x40 | words);
        assert_eq!(reason, DropReason::IpHeaderLength);
    }
}

#[test]
fn total_length_below_header_or_beyond_frame() {
    let len = Spec::of(TCP).packet().len() as u16;
    for total in [0, 1, 19, len + 1, 1500, 65_535] {
        let reason = refused(|frame| frame[16..18].copy_from_slice(&total.to_be_bytes()));
        assert_eq!(reason, DropReason::IpTotalLength, "{total}");
    }
}

#[test]
fn each_wrong_bit_of_the_header_checksum() {
    let frame = Spec::of(TCP).frame();
    for bit in 0..16 {
        let mut wrong = frame.clone();
        wrong[24 + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(parse(&wrong, true), Err(DropReason::IpChecksum));
        assert!(parse(&wrong, false).is_ok(), "verified by the port");
    }
}

#[test]
fn wrong_checksum_with_options() {
    let spec = Spec {
        options: vec![1; 8],
        ..Spec::of(TCP)
    };
    let mut frame = spec.frame();
    frame[36] ^= 2;
    assert_eq!(parse(&frame, true), Err(DropReason::IpChecksum));
}

/// Every /8 and the edges of those that are refused, by what the standard library says of them.
#[test]
fn martians() {
    let nets = (0..=255u32).map(|net| net << 24);
    for address in nets.flat_map(|net| [net, net | 1, net | 0x00ff_ffff]) {
        let ip = Ipv4Addr::from_bits(address);
        let [net, ..] = ip.octets();
        let nowhere = net == 0 || ip.is_loopback();
        let source = nowhere || ip.is_multicast() || net >= 240;
        let destination = nowhere || (net >= 240 && !ip.is_broadcast());
        assert_eq!(is_martian_source(address), source, "source {ip}");
        assert_eq!(is_martian_destination(address), destination, "to {ip}");
    }
}

#[test]
fn martians_are_refused() {
    let with = |src, dst| {
        let mut spec = Spec::of(UDP);
        (spec.ends.src, spec.ends.dst) = (src, dst);
        ipv4(&spec.frame()).map(|_| ())
    };
    assert_eq!(with(0x7f00_0001, 0x0808_0808), Err(DropReason::IpSource));
    assert_eq!(with(0xe000_0001, 0x0808_0808), Err(DropReason::IpSource));
    assert_eq!(with(u32::MAX, 0x0808_0808), Err(DropReason::IpSource));
    assert_eq!(with(0, 0x0808_0808), Err(DropReason::IpSource));
    assert_eq!(with(1, u32::MAX), Err(DropReason::IpSource));
    assert_eq!(
        with(0x0a00_0001, 0x7f00_0001),
        Err(DropReason::IpDestination)
    );
    assert_eq!(
        with(0x0a00_0001, 0xf000_0001),
        Err(DropReason::IpDestination)
    );
    assert_eq!(with(0x0a00_0001, 0xe000_0005), Ok(()));
}

fn fragment(kind: Kind, offset: usize, more: bool, len: usize) -> Result<(), DropReason> {
    let spec = Spec::of(kind);
    let data: Vec<u8> = spec.l4().into_iter().cycle().take(len).collect();
    ipv4(&ethernet(&spec.raw_fragment(offset, more, &data))).map(|_| ())
}

const MALFORMED: Result<(), DropReason> = Err(DropReason::FragmentMalformed);

#[test]
fn first_fragment_without_flags_and_checksum() {
    assert_eq!(fragment(TCP, 0, true, 8), MALFORMED);
    assert_eq!(fragment(TCP, 0, true, 16), MALFORMED);
    assert_eq!(fragment(TCP, 0, true, 24), Ok(()));
    assert_eq!(fragment(UDP, 0, true, 8), Ok(()));
    assert_eq!(fragment(ECHO, 0, true, 8), Ok(()));
    assert_eq!(fragment(ESP, 0, true, 8), Ok(()));
}

#[test]
fn fragment_over_the_tcp_flags() {
    assert_eq!(fragment(TCP, 1, true, 24), MALFORMED);
    assert_eq!(fragment(TCP, 1, false, 3), MALFORMED);
    assert_eq!(fragment(TCP, 2, true, 24), Ok(()));
    assert_eq!(fragment(UDP, 1, true, 24), Ok(()));
}

#[test]
fn fragments_that_are_part_of_no_datagram() {
    assert_eq!(fragment(UDP, 0, true, 0), MALFORMED, "empty");
    assert_eq!(fragment(UDP, 3, false, 0), MALFORMED, "empty");
    assert_eq!(fragment(UDP, 0, true, 12), MALFORMED, "half a block");
    assert_eq!(fragment(UDP, 3, true, 12), MALFORMED, "half a block");
    assert_eq!(fragment(UDP, 3, false, 12), Ok(()));
    // 65,535 octets with a header of 20 are the largest datagram.
    assert_eq!(fragment(UDP, 8189, false, 3), Ok(()));
    assert_eq!(fragment(UDP, 8189, false, 4), MALFORMED, "beyond 65,535");
    assert_eq!(fragment(UDP, 8191, false, 8), MALFORMED, "beyond 65,535");
}
