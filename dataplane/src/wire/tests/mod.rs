//! Tests of the wire, with etherparse as the oracle: it builds packets from scratch, and what the
//! wire code makes by difference has to be the same to the last bit.

#![allow(clippy::unwrap_used)]

mod checksum;
mod head;
mod icmp_build;
mod icmp_error;
mod parse;
mod parse_refusals;
mod rewrite;
mod split;

use etherparse::{
    Icmpv4Header, Icmpv4Type, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, TcpHeader, UdpHeader,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::rewrite::Endpoints;
use super::{Ipv4, Parsed, parse as parse_frame};
use crate::packet::{Packet, PacketPool};
use crate::stats::DropReason;

pub(super) const DST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const SRC_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A packet to be built from scratch.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) ends: Endpoints,
    pub(super) ttl: u8,
    pub(super) id: u16,
    pub(super) dont_fragment: bool,
    pub(super) options: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) payload: Vec<u8>,
    pub(super) padding: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Tcp { seq: u32, ack: u32, flags: u8 },
    Udp { checksum: bool },
    Query { icmp_type: u8, code: u8, seq: u16 },
    Esp { spi: u32, seq: u32 },
    Other(u8),
}

impl Spec {
    /// A small packet of this kind from 10.1.0.5 port 40000 to 198.51.100.7 port 443.
    pub(super) fn of(kind: Kind) -> Spec {
        Spec {
            ends: Endpoints {
                src: 0x0a01_0005,
                dst: 0xc633_6407,
                sport: 40_000,
                dport: 443,
            },
            ttl: 64,
            id: 0x1234,
            dont_fragment: false,
            options: Vec::new(),
            kind,
            payload: (0..32).collect(),
            padding: Vec::new(),
        }
    }

    pub(super) fn with_ends(&self, ends: Endpoints) -> Spec {
        Spec {
            ends,
            ..self.clone()
        }
    }

    pub(super) fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Tcp { .. } => 6,
            Kind::Udp { .. } => 17,
            Kind::Query { .. } => 1,
            Kind::Esp { .. } => 50,
            Kind::Other(protocol) => protocol,
        }
    }

    /// The IPv4 header of a packet with `len` octets after it.
    fn ip_header(&self, len: usize) -> Ipv4Header {
        let mut header = Ipv4Header::new(
            len as u16,
            self.ttl,
            IpNumber(self.protocol()),
            self.ends.src.to_be_bytes(),
            self.ends.dst.to_be_bytes(),
        )
        .unwrap();
        header.identification = self.id;
        header.dont_fragment = self.dont_fragment;
        header.options = Ipv4Options::try_from(self.options.as_slice()).unwrap();
        header.set_payload_len(len).unwrap();
        header.header_checksum = header.calc_header_checksum();
        header
    }

    /// What follows the IPv4 header.
    pub(super) fn l4(&self) -> Vec<u8> {
        let Endpoints { sport, dport, .. } = self.ends;
        let ip = self.ip_header(0);
        let payload = self.payload.as_slice();
        let mut octets = match self.kind {
            Kind::Tcp { seq, ack, flags } => {
                let mut tcp = TcpHeader::new(sport, dport, seq, 1024);
                tcp.acknowledgment_number = ack;
                tcp.fin = flags & 1 != 0;
                tcp.syn = flags & 2 != 0;
                tcp.rst = flags & 4 != 0;
                tcp.psh = flags & 8 != 0;
                tcp.ack = flags & 16 != 0;
                tcp.urg = flags & 32 != 0;
                tcp.checksum = tcp.calc_checksum_ipv4(&ip, payload).unwrap();
                tcp.to_bytes().to_vec()
            }
            Kind::Udp { checksum: true } => {
                UdpHeader::with_ipv4_checksum(sport, dport, &ip, payload)
                    .unwrap()
                    .to_bytes()
                    .to_vec()
            }
            Kind::Udp { checksum: false } => {
                UdpHeader::without_ipv4_checksum(sport, dport, payload.len())
                    .unwrap()
                    .to_bytes()
                    .to_vec()
            }
            Kind::Query {
                icmp_type,
                code,
                seq,
            } => icmp(
                icmp_type,
                code,
                [sport.to_be_bytes(), seq.to_be_bytes()],
                payload,
            ),
            Kind::Esp { spi, seq } => [spi.to_be_bytes(), seq.to_be_bytes()].concat(),
            Kind::Other(_) => Vec::new(),
        };
        octets.extend(payload);
        octets
    }

    /// The IPv4 packet.
    pub(super) fn packet(&self) -> Vec<u8> {
        let l4 = self.l4();
        [self.ip_header(l4.len()).to_bytes().to_vec(), l4].concat()
    }

    /// The IPv4 packet that holds `range` of what follows the header.
    pub(super) fn fragment(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        let l4 = self.l4();
        let more = range.end < l4.len();
        self.raw_fragment(range.start / 8, more, &l4[range])
    }

    /// A fragment of any data at any place, in units of 8 octets.
    pub(super) fn raw_fragment(&self, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
        let mut header = self.ip_header(data.len());
        header.fragment_offset = IpFragOffset::try_new(offset as u16).unwrap();
        header.more_fragments = more;
        header.header_checksum = header.calc_header_checksum();
        [header.to_bytes().as_slice(), data].concat()
    }

    /// The packet in an Ethernet frame, with padding.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut frame = ethernet(&self.packet());
        frame.extend(&self.padding);
        frame
    }
}

/// The octets of an ICMP header in front of `payload`.
pub(super) fn icmp(icmp_type: u8, code: u8, rest: [[u8; 2]; 2], payload: &[u8]) -> Vec<u8> {
    let kind = Icmpv4Type::Unknown {
        type_u8: icmp_type,
        code_u8: code,
        bytes5to8: [rest[0][0], rest[0][1], rest[1][0], rest[1][1]],
    };
    Icmpv4Header::with_checksum(kind, payload)
        .to_bytes()
        .to_vec()
}

/// An IPv4 packet in a frame.
pub(super) fn ethernet(packet: &[u8]) -> Vec<u8> {
    [&DST_MAC[..], &SRC_MAC, &[8, 0], packet].concat()
}

/// What the wire makes of an IPv4 frame.
pub(super) fn ipv4(frame: &[u8]) -> Result<Ipv4, DropReason> {
    match parse_frame(frame, true)? {
        Parsed::Ipv4(ip) => Ok(ip),
        other => panic!("no IPv4: {other:?}"),
    }
}

/// Addresses that a host may have.
pub(super) fn host() -> impl Strategy<Value = u32> {
    any::<u32>().prop_filter("martian", |address| {
        let net = address >> 24;
        (1..224).contains(&net) && net != 127
    })
}

pub(super) fn ends() -> impl Strategy<Value = Endpoints> {
    (host(), host(), any::<u16>(), any::<u16>()).prop_map(|(src, dst, sport, dport)| Endpoints {
        src,
        dst,
        sport,
        dport,
    })
}

pub(super) fn kind() -> impl Strategy<Value = Kind> {
    let query = proptest::sample::select(vec![0u8, 8, 13, 14, 15, 16, 17, 18]);
    prop_oneof![
        (any::<u32>(), any::<u32>(), 0u8..64).prop_map(|(seq, ack, flags)| Kind::Tcp {
            seq,
            ack,
            flags
        }),
        any::<bool>().prop_map(|checksum| Kind::Udp { checksum }),
        (query, any::<u8>(), any::<u16>()).prop_map(|(icmp_type, code, seq)| Kind::Query {
            icmp_type,
            code,
            seq
        }),
        (any::<u32>(), any::<u32>()).prop_map(|(spi, seq)| Kind::Esp { spi, seq }),
        proptest::sample::select(vec![2u8, 47, 51, 89, 132]).prop_map(Kind::Other),
    ]
}

/// Any packet that is whole.
pub(super) fn spec() -> impl Strategy<Value = Spec> {
    let octets = |max| vec(any::<u8>(), 0..=max);
    let options = (0usize..=10).prop_flat_map(|words| vec(any::<u8>(), words * 4));
    (
        (ends(), kind(), options),
        (any::<u8>(), any::<u16>(), any::<bool>()),
        (octets(300), octets(40)),
    )
        .prop_map(
            |((ends, kind, options), (ttl, id, dont_fragment), (payload, padding))| Spec {
                ends,
                ttl,
                id,
                dont_fragment,
                options,
                kind,
                payload,
                padding,
            },
        )
}

/// A packet in a vector, with a little room before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Buffer {
    octets: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn new(frame: &[u8], headroom: usize, tailroom: usize) -> Buffer {
        let mut octets = vec![0xa5; headroom];
        octets.extend(frame);
        octets.resize(headroom + frame.len() + tailroom, 0xa5);
        Buffer {
            octets,
            start: headroom,
            end: headroom + frame.len(),
        }
    }
}

impl Packet for Buffer {
    fn data(&self) -> &[u8] {
        &self.octets[self.start..self.end]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.octets[self.start..self.end]
    }

    fn prepend(&mut self, len: usize) -> bool {
        let enough = self.start >= len;
        self.start -= if enough { len } else { 0 };
        enough
    }

    fn append(&mut self, len: usize) -> bool {
        let enough = self.octets.len() - self.end >= len;
        self.end += if enough { len } else { 0 };
        enough
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

/// A pool of `left` packets of `size` octets.
pub(super) struct Pool {
    pub(super) left: usize,
    pub(super) size: usize,
}

impl PacketPool for Pool {
    type Packet = Buffer;

    fn alloc(&mut self) -> Option<Buffer> {
        self.left = self.left.checked_sub(1)?;
        Some(Buffer::new(&[], 0, self.size))
    }
}
