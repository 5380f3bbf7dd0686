//! The IPv4 header and what the translator needs of the header after it (RFC 791, RFC 1812).

use super::bytes::{be16, be32, chunk};
use super::checksum::Sum;
use super::{ETHERNET_HEADER, PROTO_ESP, PROTO_ICMP, PROTO_TCP, PROTO_UDP, icmp_type};
use crate::snapshot::VrfId;
use crate::stats::DropReason;

/// Octets of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;

/// An IPv4 packet in a frame, as [`parse`] found it. Addresses are in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Octets of the packet, header included.
    pub total_len: u16,
    /// Identification: the same in all fragments of a datagram.
    pub id: u16,
    /// What makes it a fragment, if it is one.
    pub fragment: Option<Fragment>,
    /// IP protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Octets of the header, options included: 20 to 60.
    pub header_len: u8,
    /// Whether it may not be cut into fragments.
    pub dont_fragment: bool,
    /// What follows the header.
    pub l4: L4,
    /// The VRF in which it arrived, which no octet of it says: parsers leave it at the global table.
    pub vrf: VrfId,
}

/// Which part of a datagram a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Where in the datagram's data it starts, in octets.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
}

/// What follows the IPv4 header. The fields that are named are in the packet, and so are the
/// checksums of TCP, UDP and ICMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4 {
    /// TCP; `flags` as in [`tcp_flags`](super::tcp_flags).
    Tcp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// Flags.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// An ICMP query or its answer: echo, timestamp, information, address mask.
    IcmpQuery {
        /// ICMP type.
        icmp_type: u8,
        /// ICMP code.
        code: u8,
        /// Identifier.
        id: u16,
    },
    /// An ICMP error (RFC 1122 section 3.2.2): unreachable, source quench, redirect, time exceeded,
    /// parameter problem.
    IcmpError {
        /// ICMP type.
        icmp_type: u8,
        /// ICMP code.
        code: u8,
    },
    /// ICMP of another type.
    IcmpOther {
        /// ICMP type.
        icmp_type: u8,
        /// ICMP code.
        code: u8,
    },
    /// ESP (RFC 4303).
    Esp {
        /// Security parameters index.
        spi: u32,
        /// Sequence number.
        seq: u32,
    },
    /// Another protocol.
    Other,
    /// A fragment that does not begin its datagram: no header follows.
    LaterFragment,
}

impl Ipv4 {
    /// Where in the frame the header after IPv4's starts.
    #[inline]
    #[must_use]
    pub fn l4_offset(&self) -> usize {
        ETHERNET_HEADER + usize::from(self.header_len)
    }

    /// Octets of the packet after the IPv4 header.
    #[inline]
    #[must_use]
    pub fn l4_len(&self) -> usize {
        usize::from(self.total_len).saturating_sub(usize::from(self.header_len))
    }

    /// Where in the frame the packet ends and padding may start.
    #[inline]
    #[must_use]
    pub fn end(&self) -> usize {
        ETHERNET_HEADER + usize::from(self.total_len)
    }

    /// Source and destination port, if it has ports.
    #[inline]
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.l4 {
            L4::Tcp { sport, dport, .. } | L4::Udp { sport, dport } => Some((sport, dport)),
            _ => None,
        }
    }

    /// Whether it is a fragment, but not the first of its datagram.
    #[inline]
    #[must_use]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset != 0)
    }
}

/// Reads the IPv4 packet of a frame whose EtherType says that it has one.
///
/// # Errors
/// The reason to drop the packet:
/// - `FrameTooShort`, `IpVersion`, `IpHeaderLength`, `IpTotalLength`, `IpChecksum`: not an IPv4
///   packet that is whole (RFC 1812 section 5.2.2).
/// - `IpSource`, `IpDestination`: see [`is_martian_source`] and [`is_martian_destination`].
/// - `L4Truncated`: shorter than the header of its protocol, or than that header says.
/// - `FragmentMalformed`: a fragment that can't be part of a datagram, a first one without its
///   ports, flags and checksum, or one that would overwrite them (RFC 1858, RFC 3128).
// Inlined, so that the result is built where the caller wants it: copying it costs more than
// reading the headers.
#[inline(always)]
pub fn parse(frame: &[u8], verify_checksum: bool) -> Result<Ipv4, DropReason> {
    const HEADERS: usize = ETHERNET_HEADER + IPV4_HEADER;
    let head: &[u8; HEADERS] = frame.first_chunk().ok_or(DropReason::FrameTooShort)?;
    let version_and_length = head[14];
    if version_and_length >> 4 != 4 {
        return Err(DropReason::IpVersion);
    }
    let header_len = (version_and_length & 0x0f) * 4;
    let total_len = be16::<16, HEADERS>(head);
    let l4_start = ETHERNET_HEADER + usize::from(header_len);
    if usize::from(header_len) < IPV4_HEADER || l4_start > frame.len() {
        return Err(DropReason::IpHeaderLength);
    }
    // Fails where the packet ends before its header does or beyond the frame.
    let l4 = frame
        .get(l4_start..ETHERNET_HEADER + usize::from(total_len))
        .ok_or(DropReason::IpTotalLength)?;
    if verify_checksum && !header_checksum_is_right(frame, ETHERNET_HEADER, header_len) {
        return Err(DropReason::IpChecksum);
    }
    let (src, dst) = (be32::<26, HEADERS>(head), be32::<30, HEADERS>(head));
    if is_martian_source(src) | is_martian_destination(dst) {
        martian(src, dst)?;
    }
    let protocol = head[23];
    let flags_and_offset = be16::<20, HEADERS>(head);
    let fragment = fragment(flags_and_offset);
    let l4 = match fragment {
        None if lengths_agree(protocol, l4) => {
            read_l4(protocol, l4).ok_or(DropReason::L4Truncated)?
        }
        None => return Err(DropReason::L4Truncated),
        Some(fragment) => read_fragment(header_len, protocol, fragment, l4)?,
    };
    Ok(Ipv4 {
        vrf: VrfId::GLOBAL,
        src,
        dst,
        total_len,
        id: be16::<18, HEADERS>(head),
        fragment,
        protocol,
        ttl: head[22],
        header_len,
        dont_fragment: flags_and_offset & 0x4000 != 0,
        l4,
    })
}

/// Which of two addresses is refused, if it is not the one case that is right.
#[cold]
fn martian(src: u32, dst: u32) -> Result<(), DropReason> {
    let address_request = src == 0 && dst == u32::MAX;
    if is_martian_source(src) && !address_request {
        return Err(DropReason::IpSource);
    }
    if is_martian_destination(dst) {
        return Err(DropReason::IpDestination);
    }
    Ok(())
}

/// Whether no host may have this address as its own (RFC 1812 section 5.3.7, RFC 1122 section
/// 3.2.1.3): 0/8, 127/8, and from 224/4 up multicast, class E and broadcast.
///
/// [`parse`] lets 0.0.0.0 to 255.255.255.255 pass, which is how a host asks for its address
/// (RFC 2131); it is never forwarded.
#[inline]
#[must_use]
pub fn is_martian_source(address: u32) -> bool {
    let net = address >> 24;
    (net.wrapping_sub(1) >= 223) | (net == 127)
}

/// Whether no packet may go to this address (RFC 1812 section 5.3.7): 0/8, 127/8, and class E but
/// for 255.255.255.255. Multicast is not among them: it can be for us.
#[inline]
#[must_use]
pub fn is_martian_destination(address: u32) -> bool {
    let net = address >> 24;
    ((net.wrapping_sub(1) >= 239) | (net == 127)) & (address != u32::MAX)
}

/// Whether the IPv4 header of `header_len` octets at `at` has the right checksum.
#[inline(always)]
pub(super) fn header_checksum_is_right(bytes: &[u8], at: usize, header_len: u8) -> bool {
    if usize::from(header_len) == IPV4_HEADER {
        // The usual length, known to the compiler.
        chunk::<IPV4_HEADER>(bytes, at)
            .is_some_and(|header| Sum::default().bytes(header).is_right())
    } else {
        long_header_checksum_is_right(bytes, at, header_len)
    }
}

#[cold]
fn long_header_checksum_is_right(bytes: &[u8], at: usize, header_len: u8) -> bool {
    bytes
        .get(at..at + usize::from(header_len))
        .is_some_and(|header| Sum::default().bytes(header).is_right())
}

/// Takes the header's field apart that holds flags and fragment offset.
#[inline]
pub(super) fn fragment(flags_and_offset: u16) -> Option<Fragment> {
    if flags_and_offset & 0x3fff == 0 {
        return None;
    }
    Some(Fragment {
        offset: flags_and_offset << 3,
        more: flags_and_offset & 0x2000 != 0,
    })
}

/// Whether the header after IPv4's keeps to the packet by its own account: TCP's data offset
/// (RFC 9293 section 3.1), UDP's length (RFC 768). Not for fragments, which don't show the whole.
#[inline(always)]
fn lengths_agree(protocol: u8, l4: &[u8]) -> bool {
    match protocol {
        PROTO_TCP => {
            let offset = l4.get(12).map_or(0, |octet| usize::from(octet >> 4) * 4);
            (20..=l4.len()).contains(&offset)
        }
        PROTO_UDP => {
            let length = l4.first_chunk().map_or(0, be16::<4, 8>);
            (8..=l4.len()).contains(&usize::from(length))
        }
        _ => true,
    }
}

/// Reads the header after IPv4's; `None` where it is cut short.
#[inline(always)]
fn read_l4(protocol: u8, l4: &[u8]) -> Option<L4> {
    match protocol {
        PROTO_TCP => {
            let tcp: &[u8; 20] = l4.first_chunk()?;
            Some(L4::Tcp {
                sport: be16::<0, 20>(tcp),
                dport: be16::<2, 20>(tcp),
                flags: tcp[13],
            })
        }
        PROTO_UDP => {
            let udp: &[u8; 8] = l4.first_chunk()?;
            Some(L4::Udp {
                sport: be16::<0, 8>(udp),
                dport: be16::<2, 8>(udp),
            })
        }
        PROTO_ICMP => {
            let icmp: &[u8; 8] = l4.first_chunk()?;
            Some(icmp_kind(icmp))
        }
        PROTO_ESP => {
            let esp: &[u8; 8] = l4.first_chunk()?;
            Some(L4::Esp {
                spi: be32::<0, 8>(esp),
                seq: be32::<4, 8>(esp),
            })
        }
        _ => Some(L4::Other),
    }
}

/// Reads the header of a first fragment, and refuses fragments that are no part of any datagram or
/// that could carry another header past a filter.
#[cold]
fn read_fragment(
    header_len: u8,
    protocol: u8,
    fragment: Fragment,
    l4: &[u8],
) -> Result<L4, DropReason> {
    let whole_blocks = !fragment.more || l4.len().is_multiple_of(8);
    let datagram = usize::from(header_len) + usize::from(fragment.offset) + l4.len();
    if l4.is_empty() || !whole_blocks || datagram > usize::from(u16::MAX) {
        return Err(DropReason::FragmentMalformed);
    }
    match fragment.offset {
        0 => read_l4(protocol, l4).ok_or(DropReason::FragmentMalformed),
        // A TCP fragment at 8 overwrites flags and checksum (RFC 3128 section 4).
        8 if protocol == PROTO_TCP => Err(DropReason::FragmentMalformed),
        _ => Ok(L4::LaterFragment),
    }
}

/// Sorts ICMP types into queries, errors and others. All have the same first 8 octets.
#[cold]
fn icmp_kind(icmp: &[u8; 8]) -> L4 {
    let (icmp_type, code) = (icmp[0], icmp[1]);
    match icmp_type {
        _ if is_icmp_query(icmp_type) => L4::IcmpQuery {
            icmp_type,
            code,
            id: be16::<4, 8>(icmp),
        },
        icmp_type::UNREACHABLE
        | icmp_type::SOURCE_QUENCH
        | icmp_type::REDIRECT
        | icmp_type::TIME_EXCEEDED
        | icmp_type::PARAMETER_PROBLEM => L4::IcmpError { icmp_type, code },
        _ => L4::IcmpOther { icmp_type, code },
    }
}

/// Whether this ICMP type has an identifier that tells sessions apart.
#[inline]
#[must_use]
pub fn is_icmp_query(icmp_type: u8) -> bool {
    matches!(icmp_type, 0 | 8 | 13..=18)
}
