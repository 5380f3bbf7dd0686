//! ICMP errors: reading what they quote and translating both headers.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Kind, Spec, ends, ethernet, host, icmp, ipv4, spec};
use crate::stats::DropReason;
use crate::wire::checksum::checksum;
use crate::wire::icmp_error::{self, Quoted, QuotedL4};
use crate::wire::{Endpoints, Fragment};

/// An ICMP error from `src` to `dst` that quotes these octets.
fn error(icmp_type: u8, rest: [[u8; 2]; 2], quote: &[u8], src: u32, dst: u32) -> Spec {
    let mut outer = Spec::of(Kind::Other(1));
    (outer.ends.src, outer.ends.dst) = (src, dst);
    outer.payload = [&icmp(icmp_type, 1, rest, quote), quote].concat();
    outer
}

/// A time exceeded from 203.0.113.1 to 192.0.2.1.
fn time_exceeded(quote: &[u8]) -> Spec {
    error(11, [[0, 0]; 2], quote, 0xcb00_7101, 0xc000_0201)
}

fn read(frame: &[u8]) -> Result<Quoted, DropReason> {
    icmp_error::read(frame, &ipv4(frame).unwrap())
}

/// Octets after the IPv4 header without which the packet can't be told from others.
fn needed(kind: Kind) -> usize {
    match kind {
        Kind::Tcp { .. } | Kind::Udp { .. } | Kind::Esp { .. } => 4,
        Kind::Query { .. } => 6,
        Kind::Other(_) => 0,
    }
}

/// Whether only the upper half of the checksum is quoted.
fn halves_checksum(kind: Kind, cut: usize) -> bool {
    matches!(
        (kind, cut),
        (Kind::Tcp { .. }, 17) | (Kind::Udp { checksum: true }, 7)
    )
}

fn expected_l4(spec: &Spec) -> QuotedL4 {
    let (sport, dport) = (spec.ends.sport, spec.ends.dport);
    match spec.kind {
        Kind::Tcp { .. } => QuotedL4::Tcp { sport, dport },
        Kind::Udp { .. } => QuotedL4::Udp { sport, dport },
        Kind::Query { icmp_type, .. } => QuotedL4::IcmpQuery {
            icmp_type,
            id: sport,
        },
        Kind::Esp { spi, .. } => QuotedL4::Esp { spi },
        Kind::Other(_) => QuotedL4::Other,
    }
}

/// The quoted packet with other endpoints, as a translator would have seen it: ICMP has no second
/// port, ESP and others have none.
fn translated(spec: &Spec, to: Endpoints) -> Spec {
    let mut new = spec.with_ends(to);
    match spec.kind {
        Kind::Tcp { .. } | Kind::Udp { .. } | Kind::Query { .. } => {}
        Kind::Esp { .. } | Kind::Other(_) => (new.ends.sport, new.ends.dport) = (0, 0),
    }
    new
}

fn error_type() -> impl Strategy<Value = u8> {
    proptest::sample::select(vec![3u8, 4, 5, 11, 12])
}

proptest! {
    /// However much is quoted, the error is read, or refused where too little is there, and it
    /// comes out as etherparse builds it about the other packet.
    #[test]
    fn rewritten_is_built_anew(
        inner in spec(),
        icmp_type in error_type(),
        cut in 0usize..120,
        (src, dst, new_src, new_dst) in (host(), host(), host(), host()),
        to in ends(),
        next_hop_mtu: [u8; 2],
    ) {
        prop_assume!(!halves_checksum(inner.kind, cut));
        let header = 20 + inner.options.len();
        let build = |inner: &Spec, src, dst| {
            let packet = inner.packet();
            let quote = &packet[..packet.len().min(header + cut)];
            error(icmp_type, [[0, 0], next_hop_mtu], quote, src, dst).frame()
        };
        let mut frame = build(&inner, src, dst);
        let found = read(&frame);
        if cut < needed(inner.kind) {
            prop_assert_eq!(found, Err(DropReason::IcmpErrorMalformed));
            return Ok(());
        }
        let quoted = found.unwrap();
        let offset = 14 + 20 + 8;
        prop_assert_eq!(quoted, Quoted {
            src: inner.ends.src,
            dst: inner.ends.dst,
            protocol: inner.protocol(),
            header_len: header as u8,
            offset: offset as u16,
            l4_offset: (offset + header) as u16,
            l4_quoted: inner.l4().len().min(cut) as u16,
            fragment: None,
            l4: expected_l4(&inner),
        });
        let ip = ipv4(&frame).unwrap();
        icmp_error::rewrite(&mut frame, &ip, &quoted, new_src, new_dst, to);
        prop_assert_eq!(frame, build(&translated(&inner, to), new_src, new_dst));
    }

    /// Extensions and the zeros before them are no part of the quoted packet (RFC 4884).
    #[test]
    fn extensions_are_kept(
        mut inner in spec(),
        to in ends(),
        words in 32usize..40,
        extensions in vec(any::<u8>(), 4..60),
        icmp_type in proptest::sample::select(vec![3u8, 11, 12]),
    ) {
        inner.payload.truncate(90);
        let build = |inner: &Spec| {
            let mut quote = inner.packet();
            quote.resize(words * 4, 0);
            quote.extend(&extensions);
            error(icmp_type, [[0, words as u8], [0, 0]], &quote, 0x0101_0101, 0x0202_0202).frame()
        };
        let quoted_len = |inner: &Spec| inner.packet().len().min(words * 4);
        let mut frame = build(&inner);
        let quoted = read(&frame).unwrap();
        let header = usize::from(quoted.header_len);
        prop_assert_eq!(usize::from(quoted.l4_quoted), quoted_len(&inner) - header);
        let ip = ipv4(&frame).unwrap();
        icmp_error::rewrite(&mut frame, &ip, &quoted, ip.src, ip.dst, to);
        prop_assert_eq!(frame, build(&translated(&inner, to)));
    }

    /// The quoted packet's own TCP or UDP checksum is nobody's business here, but translated
    /// there and back it is what it was.
    #[test]
    fn wrong_inner_checksum_comes_back(inner in spec(), to in ends(), wrong in 1u16..0xffff) {
        let mut quote = inner.packet();
        let l4 = 20 + inner.options.len();
        let at = match inner.kind {
            Kind::Tcp { .. } => l4 + 16,
            Kind::Udp { checksum: true } => l4 + 6,
            _ => return Ok(()),
        };
        quote[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
        let before = time_exceeded(&quote).frame();
        let mut frame = before.clone();
        let (ip, quoted) = (ipv4(&frame).unwrap(), read(&frame).unwrap());
        icmp_error::rewrite(&mut frame, &ip, &quoted, 0x0101_0101, 0x0202_0202, to);
        let (ip, quoted) = (ipv4(&frame).unwrap(), read(&frame).unwrap());
        icmp_error::rewrite(&mut frame, &ip, &quoted, 0xcb00_7101, 0xc000_0201, inner.ends);
        prop_assert_eq!(frame, before);
    }

    /// Any octets in a message whose checksum is right: no panic, nothing beyond the packet.
    #[test]
    fn random_quotes_never_panic(mut quote in vec(any::<u8>(), 0..100), icmp_type in error_type(),
                                 rest: [[u8; 2]; 2], to in ends(), help: bool) {
        if help && quote.len() >= 20 {
            quote[0] = 0x45;
            quote[9] = [1, 6, 17, 50][usize::from(quote[9] & 3)];
            quote[10..12].fill(0);
            let sum = checksum(&quote[..20]);
            quote[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let mut outer = error(icmp_type, rest, &quote, 0x0101_0101, 0x0202_0202);
        outer.padding = vec![0xee; 20];
        let mut frame = outer.frame();
        let ip = ipv4(&frame).unwrap();
        if let Ok(quoted) = icmp_error::read(&frame, &ip) {
            prop_assert!(usize::from(quoted.l4_offset + quoted.l4_quoted) <= ip.end());
            icmp_error::rewrite(&mut frame, &ip, &quoted, ip.dst, ip.src, to);
            prop_assert_eq!(ipv4(&frame).unwrap().src, ip.dst);
            prop_assert!(read(&frame).is_ok());
            prop_assert!(frame[ip.end()..].iter().all(|octet| *octet == 0xee));
        }
    }
}

#[test]
fn wrong_checksum_of_the_message() {
    let mut frame = time_exceeded(&Spec::of(Kind::Udp { checksum: true }).packet()).frame();
    *frame.last_mut().unwrap() ^= 1;
    assert_eq!(read(&frame), Err(DropReason::IcmpErrorChecksum));
}

#[test]
fn wrong_checksum_of_the_quoted_header() {
    let mut quote = Spec::of(Kind::Udp { checksum: true }).packet();
    quote[8] -= 1;
    let frame = time_exceeded(&quote).frame();
    assert_eq!(read(&frame), Err(DropReason::IcmpErrorChecksum));
}

#[test]
fn padding_is_no_part_of_the_quote() {
    let packet = Spec::of(Kind::Udp { checksum: true }).packet();
    let mut outer = time_exceeded(&packet[..28]);
    outer.padding = vec![0; 8];
    assert_eq!(read(&outer.frame()).unwrap().l4_quoted, 8);
}

#[test]
fn quotes_that_are_no_packet() {
    let good = Spec::of(Kind::Udp { checksum: true }).packet();
    let with = |change: fn(&mut Vec<u8>)| {
        let mut quote = good.clone();
        change(&mut quote);
        quote[10..12].fill(0);
        let sum = checksum(quote.get(..20).unwrap_or(&quote));
        quote[10..12].copy_from_slice(&sum.to_be_bytes());
        read(&time_exceeded(&quote).frame()).map(|_| ())
    };
    let malformed = Err(DropReason::IcmpErrorMalformed);
    assert_eq!(with(|_| ()), Ok(()));
    assert_eq!(with(|quote| quote[0] = 0x65), malformed, "version");
    assert_eq!(with(|quote| quote[0] = 0x44), malformed, "short header");
    assert_eq!(with(|quote| quote.truncate(19)), malformed, "cut header");
    assert_eq!(with(|quote| quote[3] = 19), malformed, "total length");
    assert_eq!(
        with(|quote| {
            quote.truncate(22);
            quote[0] = 0x46;
        }),
        malformed,
        "cut options"
    );
    assert_eq!(with(|quote| quote.truncate(24)), Ok(()), "ports are enough");
    assert_eq!(with(|quote| quote.truncate(23)), malformed, "no ports");
    assert_eq!(
        with(|quote| quote[2..4].copy_from_slice(&[0xff, 0xff])),
        Ok(()),
        "longer than quoted"
    );
}

#[test]
fn quoted_icmp_error_has_no_identifier() {
    let quote = time_exceeded(&[0; 28]).packet();
    let quoted = read(&time_exceeded(&quote).frame()).unwrap();
    assert_eq!(quoted.l4, QuotedL4::Other);
}

/// Half a checksum can't be put right: it stays, and the message's checksum is right all the same.
#[test]
fn half_a_quoted_checksum() {
    let inner = Spec::of(Kind::Udp { checksum: true });
    let quote = &inner.packet()[..27];
    let mut frame = time_exceeded(quote).frame();
    let (ip, quoted) = (ipv4(&frame).unwrap(), read(&frame).unwrap());
    let to = Endpoints {
        sport: 99,
        ..inner.ends
    };
    icmp_error::rewrite(&mut frame, &ip, &quoted, ip.src, ip.dst, to);
    let mut wanted = inner.with_ends(to).packet()[..27].to_vec();
    wanted[26] = quote[26];
    assert_eq!(frame, time_exceeded(&wanted).frame());
}

#[test]
fn quoted_fragments() {
    let inner = Spec::of(Kind::Udp { checksum: true });
    let to = Endpoints {
        src: 0x0101_0101,
        dst: 0x0202_0202,
        sport: 7,
        dport: 9,
    };
    for (range, l4) in [
        (
            0..16,
            QuotedL4::Udp {
                sport: 40_000,
                dport: 443,
            },
        ),
        (16..40, QuotedL4::LaterFragment),
    ] {
        let mut frame = time_exceeded(&inner.fragment(range.clone())).frame();
        let (ip, quoted) = (ipv4(&frame).unwrap(), read(&frame).unwrap());
        let (offset, more) = (range.start as u16, range.start == 0);
        assert_eq!(quoted.fragment, Some(Fragment { offset, more }));
        assert_eq!(quoted.l4, l4);
        icmp_error::rewrite(&mut frame, &ip, &quoted, ip.src, ip.dst, to);
        let wanted = time_exceeded(&inner.with_ends(to).fragment(range)).frame();
        assert_eq!(frame, wanted);
    }
}

#[test]
fn error_in_fragments() {
    let outer = time_exceeded(&Spec::of(Kind::Udp { checksum: true }).packet());
    let frame = ethernet(&outer.fragment(0..48));
    assert_eq!(read(&frame), Err(DropReason::IcmpErrorMalformed));
}

#[test]
fn query_is_no_error() {
    let echo = Kind::Query {
        icmp_type: 8,
        code: 0,
        seq: 0,
    };
    let frame = Spec::of(echo).frame();
    assert_eq!(read(&frame), Err(DropReason::IcmpErrorMalformed));
}
