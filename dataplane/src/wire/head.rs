//! The headers of an ordinary packet, read and changed at fixed places.
//!
//! Ordinary is an IPv4 packet without options that is no fragment and carries UDP, TCP or an ICMP
//! query, or ESP. [`Head::read`] says no more about it than [`parse`](super::parse) does, and [`Change`] does no
//! more to it than [`Rewrite`](super::Rewrite): both only do it in fewer steps. Whatever is not ordinary, or is wrong, is left
//! to the full way, which finds out why.

use super::bytes::{be16, be32, be64, ne16, ne32, put, put_ne16, put16, put32, put64};
use super::checksum::{Delta, Deltas};
use super::ipv4::{IPV4_HEADER, Ipv4, L4, is_icmp_query};
use super::rewrite::Endpoints;
use super::{ETHERNET_HEADER, PROTO_ESP, PROTO_ICMP, PROTO_TCP, PROTO_UDP};
use crate::snapshot::VrfId;

/// Octets that every ordinary packet has: Ethernet, IPv4, and as much as UDP's header.
const HEAD: usize = 42;
/// Octets up to the end of TCP's checksum.
const TCP_HEAD: usize = 54;
/// EtherType, version and header length, type of service of a packet without options, as this CPU reads them.
const IPV4_PLAIN: u32 = u32::from_ne_bytes([0x08, 0x00, 0x45, 0x00]);
const ALL_BUT_TOS: u32 = u32::from_ne_bytes([0xff, 0xff, 0xff, 0x00]);
/// More fragments and the offset, as this CPU reads them.
const FRAGMENT: u16 = u16::from_ne_bytes([0x3f, 0xff]);
/// Octets of an IPv4 header and UDP's.
const SHORTEST: u16 = 28;

/// What an ordinary packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Addresses, as [`Endpoints::words`](super::Endpoints::words) has them.
    pub addresses: u64,
    /// Ports, as [`Endpoints::words`](super::Endpoints::words) has them; of ICMP the identifier twice,
    /// of ESP see [`Head::spi`].
    pub ports: u32,
    /// Octets of the packet, IPv4 header included.
    pub total_len: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP's flags, or the type of an ICMP query; else 0.
    pub detail: u8,
}

/// A MAC address as [`Head::read`] compares it.
#[must_use]
pub fn mac_word(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_le_bytes([0, 0, a, b, c, d, e, f])
}

impl Head {
    /// Nothing is known: of no protocol that an ordinary packet has.
    pub const NONE: Head = Head {
        addresses: 0,
        ports: 0,
        total_len: 0,
        protocol: 0,
        detail: 0,
    };

    /// Addresses and ports.
    #[inline(always)]
    #[must_use]
    pub fn key(&self) -> Endpoints {
        Endpoints {
            src: self.addresses as u32,
            dst: (self.addresses >> 32) as u32,
            sport: self.ports as u16,
            dport: (self.ports >> 16) as u16,
        }
    }

    /// ESP's security parameters index.
    #[inline(always)]
    #[must_use]
    pub fn spi(&self) -> u32 {
        self.ports.rotate_left(16)
    }

    /// All that [`parse`](super::parse) reads of a frame that this was read from.
    #[must_use]
    pub fn ipv4(&self, frame: &[u8]) -> Option<Ipv4> {
        let head: &[u8; HEAD] = frame.first_chunk()?;
        let Endpoints {
            src,
            dst,
            sport,
            dport,
        } = self.key();
        Some(Ipv4 {
            vrf: VrfId::GLOBAL,
            src,
            dst,
            total_len: self.total_len,
            id: be16::<18, HEAD>(head),
            fragment: None,
            protocol: self.protocol,
            ttl: head[22],
            header_len: IPV4_HEADER as u8,
            dont_fragment: head[20] & 0x40 != 0,
            l4: match self.protocol {
                PROTO_TCP => L4::Tcp {
                    sport,
                    dport,
                    flags: self.detail,
                },
                PROTO_UDP => L4::Udp { sport, dport },
                PROTO_ESP => L4::Esp {
                    spi: self.spi(),
                    seq: be32::<38, HEAD>(head),
                },
                _ => L4::IcmpQuery {
                    icmp_type: self.detail,
                    code: head[35],
                    id: sport,
                },
            },
        })
    }

    /// The time to live of a frame that [`Head::read`] has read.
    #[inline(always)]
    #[must_use]
    pub fn ttl(frame: &[u8]) -> u8 {
        frame.first_chunk::<HEAD>().map_or(0, |head| head[22])
    }

    /// Where in the frame the packet ends and padding may start.
    #[inline(always)]
    #[must_use]
    pub fn end(&self) -> usize {
        ETHERNET_HEADER + usize::from(self.total_len)
    }

    /// Reads a frame; `None` where it is not an ordinary packet to the MAC address `mac`
    /// (see [`mac_word`]) or anything about it is wrong. Its addresses are not judged.
    #[inline(always)]
    #[must_use]
    pub fn read(frame: &[u8], mac: u64, verify_ip_checksum: bool) -> Option<Head> {
        let mut head = Head::NONE;
        head.read_again(frame, mac, verify_ip_checksum)
            .then_some(head)
    }

    /// [`Head::read`] in place; where that is `None`, this is `false` and there is nothing to be known
    /// here.
    #[inline(always)]
    #[must_use]
    pub fn read_again(&mut self, frame: &[u8], mac: u64, verify_ip_checksum: bool) -> bool {
        let Some(head) = frame.first_chunk::<HEAD>() else {
            return false;
        };
        let to = be64::<0, HEAD>(head).swap_bytes() << 16;
        // EtherType, version and header length: 0x0800, 4, 5 words.
        let kind = (ne32::<12, HEAD>(head) ^ IPV4_PLAIN) & ALL_BUT_TOS;
        let fragment = ne16::<20, HEAD>(head) & FRAGMENT;
        let total_len = be16::<16, HEAD>(head);
        let odd = (to ^ mac) | u64::from(kind) | u64::from(fragment);
        let is_whole = usize::from(total_len) + ETHERNET_HEADER <= frame.len();
        if odd != 0 || !is_whole || total_len < SHORTEST {
            return false;
        }
        if verify_ip_checksum && !checksum_is_right(head) {
            return false;
        }
        self.addresses = be64::<26, HEAD>(head).rotate_left(32);
        self.ports = be32::<34, HEAD>(head).rotate_left(16);
        self.total_len = total_len;
        self.protocol = head[23];
        self.detail = 0;
        match self.protocol {
            PROTO_UDP => {
                let length = be16::<38, HEAD>(head);
                length.wrapping_sub(8) <= total_len - SHORTEST
            }
            PROTO_TCP => {
                let Some(tcp) = frame.first_chunk::<TCP_HEAD>() else {
                    return false;
                };
                let offset = u16::from(tcp[46] >> 4) * 4;
                self.detail = tcp[47];
                offset >= 20 && offset <= total_len - 20
            }
            PROTO_ICMP => {
                let id = u32::from(be16::<38, HEAD>(head));
                self.ports = id << 16 | id;
                self.detail = head[34];
                is_icmp_query(self.detail)
            }
            PROTO_ESP => true,
            _ => false,
        }
    }
}

/// Whether the sum over the IPv4 header comes out right (RFC 1071). A number is a multiple of
/// 0xffff if the ones-complement sum of its 16-bit words is; this one is never zero.
#[inline(always)]
fn checksum_is_right(head: &[u8; HEAD]) -> bool {
    let sum = u64::from(ne32::<14, HEAD>(head))
        + u64::from(ne32::<18, HEAD>(head))
        + u64::from(ne32::<22, HEAD>(head))
        + u64::from(ne32::<26, HEAD>(head))
        + u64::from(ne32::<30, HEAD>(head));
    sum.is_multiple_of(0xffff)
}

/// What becomes of an ordinary packet: addresses, ports and their checksums, MAC addresses, and one
/// place less to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Source and destination address, the source's in the upper half.
    pub addresses: u64,
    /// Source and destination port, the source's in the upper half; of ICMP the identifier.
    pub ports: u32,
    /// What the addresses change about a checksum.
    pub of_addresses: Deltas,
    /// What the ports or the identifier change about a checksum.
    pub of_ports: Deltas,
    /// The MAC addresses.
    pub macs: Macs,
}

/// Destination and source MAC address, as they are written: 8 octets and 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(8))]
pub struct Macs([u8; 8], [u8; 4]);

impl Macs {
    /// No addresses.
    pub const NONE: Macs = Macs([0; 8], [0; 4]);

    /// A frame's MAC addresses.
    #[must_use]
    pub fn new(dst: [u8; 6], src: [u8; 6]) -> Macs {
        let [a, b, c, d, e, f] = dst;
        let [g, h, i, j, k, l] = src;
        Macs([a, b, c, d, e, f, g, h], [i, j, k, l])
    }
}

impl Change {
    /// Changes a packet of `protocol` that [`Head::read`] has read.
    #[inline(always)]
    pub fn apply(&self, frame: &mut [u8], protocol: u8) {
        // ICMP's checksum is without addresses.
        let payload = self.of_addresses.and_all(self.of_ports);
        let Some(head) = frame.first_chunk_mut::<HEAD>() else {
            return;
        };
        put::<0, 8, HEAD>(head, self.macs.0);
        put::<8, 4, HEAD>(head, self.macs.1);
        head[22] = head[22].wrapping_sub(1);
        let header = self.of_addresses.and(Delta::TTL_DECREMENT, 0);
        put_ne16::<24, HEAD>(head, header.apply_ne(ne16::<24, HEAD>(head)));
        put64::<26, HEAD>(head, self.addresses);
        if protocol == PROTO_UDP {
            put32::<34, HEAD>(head, self.ports);
            put_ne16::<40, HEAD>(head, payload.apply_udp_ne(ne16::<40, HEAD>(head)));
        } else if protocol == PROTO_TCP {
            put32::<34, HEAD>(head, self.ports);
            if let Some(tcp) = frame.first_chunk_mut::<TCP_HEAD>() {
                put_ne16::<50, TCP_HEAD>(tcp, payload.apply_ne(ne16::<50, TCP_HEAD>(tcp)));
            }
        } else if protocol != PROTO_ESP {
            let checksum = self.of_ports.apply_ne(ne16::<36, HEAD>(head));
            put_ne16::<36, HEAD>(head, checksum);
            put16::<38, HEAD>(head, (self.ports >> 16) as u16);
        }
    }
}
