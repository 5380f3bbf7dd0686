//! ICMP errors: the packet that they quote, and its translation (RFC 792, RFC 4884, RFC 5508).

use super::bytes::{be16, be32, chunk, chunk_mut, put16};
use super::checksum::{Delta, Sum};
use super::ipv4::{self, Fragment, IPV4_HEADER, Ipv4, L4};
use super::rewrite::{Endpoints, write_addresses};
use super::{PROTO_ESP, PROTO_ICMP, PROTO_TCP, PROTO_UDP, icmp_type};
use crate::stats::DropReason;

/// Octets of the ICMP header before the quoted packet.
pub const ICMP_HEADER: usize = 8;

/// The packet that an ICMP error is about, as far as the error quotes it. Addresses are in host
/// byte order, offsets count from the start of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Source address of the quoted packet.
    pub src: u32,
    /// Destination address of the quoted packet.
    pub dst: u32,
    /// Its IP protocol number.
    pub protocol: u8,
    /// Octets of its IPv4 header, options included.
    pub header_len: u8,
    /// Where its IPv4 header starts.
    pub offset: u16,
    /// Where the header after IPv4's starts.
    pub l4_offset: u16,
    /// How many octets of it are quoted from there on: no padding, no RFC 4884 extensions.
    pub l4_quoted: u16,
    /// What made it a fragment, if it was one.
    pub fragment: Option<Fragment>,
    /// What of the header after IPv4's tells sessions apart.
    pub l4: QuotedL4,
}

/// What of the quoted packet's TCP, UDP, ICMP or ESP header tells sessions apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotedL4 {
    /// TCP.
    Tcp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// UDP.
    Udp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// An ICMP query or its answer.
    IcmpQuery {
        /// ICMP type.
        icmp_type: u8,
        /// Identifier.
        id: u16,
    },
    /// ESP.
    Esp {
        /// Security parameters index.
        spi: u32,
    },
    /// Another protocol, or ICMP without identifier.
    Other,
    /// It was a fragment, but not the first one.
    LaterFragment,
}

/// Reads the packet that an ICMP error quotes. `ip` is what [`parse`](super::parse) made of the
/// frame, with [`L4::IcmpError`] in it.
///
/// The quoted packet may say that it is longer than what is quoted; 8 octets after its IPv4
/// header are the custom, and less will do as long as ports, identifier or SPI are there.
/// The checksum of its TCP or UDP header is not looked at (RFC 5508 REQ-3 c).
///
/// # Errors
/// - `IcmpErrorChecksum`: the checksum of the ICMP message or of the quoted IPv4 header is wrong
///   (RFC 5508 REQ-3, REQ-3 a).
/// - `IcmpErrorMalformed`: no IPv4 packet is quoted, or too little of it, or the error came in
///   fragments.
pub fn read(frame: &[u8], ip: &Ipv4) -> Result<Quoted, DropReason> {
    let (L4::IcmpError { icmp_type, .. }, None) = (ip.l4, ip.fragment) else {
        return Err(DropReason::IcmpErrorMalformed);
    };
    let message = frame
        .get(ip.l4_offset()..ip.end())
        .ok_or(DropReason::IcmpErrorMalformed)?;
    if !Sum::default().bytes(message).is_right() {
        return Err(DropReason::IcmpErrorChecksum);
    }
    let quote = quote(icmp_type, message).ok_or(DropReason::IcmpErrorMalformed)?;
    let offset = ip.l4_offset() + ICMP_HEADER;
    read_quote(quote, offset).ok_or(DropReason::IcmpErrorMalformed)?
}

/// The quoted packet in an ICMP message, without the extensions that may follow it.
fn quote(icmp_type: u8, message: &[u8]) -> Option<&[u8]> {
    let (header, quote) = message.split_first_chunk::<ICMP_HEADER>()?;
    let may_be_extended = matches!(
        icmp_type,
        icmp_type::UNREACHABLE | icmp_type::TIME_EXCEEDED | icmp_type::PARAMETER_PROBLEM
    );
    // RFC 4884 section 4: the quote's length in 32-bit words where extensions follow, and then
    // never below 128 octets. Smaller values are leftovers of an unused field.
    let len = usize::from(header[5]) * 4;
    if may_be_extended && len >= 128 {
        return Some(quote.get(..len).unwrap_or(quote));
    }
    Some(quote)
}

/// Reads a quoted packet that lies at `offset` in its frame; `None` where too little is quoted.
fn read_quote(quote: &[u8], offset: usize) -> Option<Result<Quoted, DropReason>> {
    let head: &[u8; IPV4_HEADER] = quote.first_chunk()?;
    let header_len = (head[0] & 0x0f) * 4;
    let header_end = usize::from(header_len);
    let total_len = usize::from(be16::<2, IPV4_HEADER>(head));
    if head[0] >> 4 != 4 || header_end < IPV4_HEADER || total_len < header_end {
        return None;
    }
    let l4 = quote.get(header_end..total_len.min(quote.len()))?;
    if !ipv4::header_checksum_is_right(quote, 0, header_len) {
        return Some(Err(DropReason::IcmpErrorChecksum));
    }
    let protocol = head[9];
    let fragment = ipv4::fragment(be16::<6, IPV4_HEADER>(head));
    let kind = match fragment {
        Some(Fragment { offset: 1.., .. }) => QuotedL4::LaterFragment,
        _ => read_l4(protocol, l4)?,
    };
    Some(Ok(Quoted {
        src: be32::<12, IPV4_HEADER>(head),
        dst: be32::<16, IPV4_HEADER>(head),
        protocol,
        header_len,
        offset: u16::try_from(offset).ok()?,
        l4_offset: u16::try_from(offset + header_end).ok()?,
        l4_quoted: u16::try_from(l4.len()).ok()?,
        fragment,
        l4: kind,
    }))
}

fn read_l4(protocol: u8, l4: &[u8]) -> Option<QuotedL4> {
    match protocol {
        PROTO_TCP | PROTO_UDP => {
            let ports: &[u8; 4] = l4.first_chunk()?;
            let (sport, dport) = (be16::<0, 4>(ports), be16::<2, 4>(ports));
            if protocol == PROTO_TCP {
                Some(QuotedL4::Tcp { sport, dport })
            } else {
                Some(QuotedL4::Udp { sport, dport })
            }
        }
        PROTO_ICMP if ipv4::is_icmp_query(*l4.first()?) => {
            let icmp: &[u8; 6] = l4.first_chunk()?;
            Some(QuotedL4::IcmpQuery {
                icmp_type: icmp[0],
                id: be16::<4, 6>(icmp),
            })
        }
        PROTO_ESP => {
            let spi: &[u8; 4] = l4.first_chunk()?;
            Some(QuotedL4::Esp {
                spi: be32::<0, 4>(spi),
            })
        }
        _ => Some(QuotedL4::Other),
    }
}

/// Translates an ICMP error: `src` and `dst` become the addresses of its own IPv4 header, `inner`
/// the endpoints of the packet that it quotes. All checksums that are there are put right by
/// difference: a quoted packet that was wrong stays as wrong as it was.
///
/// `ip` and `quoted` are what [`parse`](super::parse) and [`read`] made of this frame.
pub fn rewrite(frame: &mut [u8], ip: &Ipv4, quoted: &Quoted, src: u32, dst: u32, inner: Endpoints) {
    let outer = Delta::of_u32(ip.src, src) + Delta::of_u32(ip.dst, dst);
    write_addresses(frame, super::ETHERNET_HEADER, outer, src, dst);

    let addresses = Delta::of_u32(quoted.src, inner.src) + Delta::of_u32(quoted.dst, inner.dst);
    let at = usize::from(quoted.offset);
    // What changes in the message, word by word: the addresses, and every field below.
    let mut message = addresses;
    message += write_addresses(frame, at, addresses, inner.src, inner.dst);
    message += rewrite_quoted_l4(frame, quoted, addresses, inner);

    if let Some(icmp) = chunk_mut::<ICMP_HEADER>(frame, ip.l4_offset()) {
        let checksum = message.apply(be16::<2, ICMP_HEADER>(icmp));
        put16::<2, ICMP_HEADER>(icmp, checksum);
    }
}

/// Writes ports or identifier, and the checksum as far as it is quoted. Returns the difference
/// that this makes to the message.
fn rewrite_quoted_l4(
    frame: &mut [u8],
    quoted: &Quoted,
    addresses: Delta,
    inner: Endpoints,
) -> Delta {
    let at = usize::from(quoted.l4_offset);
    let end = at + usize::from(quoted.l4_quoted);
    let Some(l4) = frame.get_mut(at..end) else {
        return Delta::NONE;
    };
    match quoted.l4 {
        QuotedL4::Tcp { sport, dport } => {
            let ports = Delta::of_u16(sport, inner.sport) + Delta::of_u16(dport, inner.dport);
            write_word(l4, 0, inner.sport);
            write_word(l4, 2, inner.dport);
            ports + change_word(l4, 16, |checksum| (addresses + ports).apply(checksum))
        }
        QuotedL4::Udp { sport, dport } => {
            let ports = Delta::of_u16(sport, inner.sport) + Delta::of_u16(dport, inner.dport);
            write_word(l4, 0, inner.sport);
            write_word(l4, 2, inner.dport);
            ports + change_word(l4, 6, |checksum| (addresses + ports).apply_udp(checksum))
        }
        QuotedL4::IcmpQuery { id, .. } => {
            let id_delta = Delta::of_u16(id, inner.sport);
            write_word(l4, 4, inner.sport);
            id_delta + change_word(l4, 2, |checksum| id_delta.apply(checksum))
        }
        QuotedL4::Esp { .. } | QuotedL4::Other | QuotedL4::LaterFragment => Delta::NONE,
    }
}

fn write_word(l4: &mut [u8], at: usize, value: u16) {
    if let Some(word) = chunk_mut::<2>(l4, at) {
        *word = value.to_be_bytes();
    }
}

/// Changes the word at `at`, if it is there, and returns the difference.
fn change_word(l4: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) -> Delta {
    let Some(old) = chunk::<2>(l4, at).copied().map(u16::from_be_bytes) else {
        return Delta::NONE;
    };
    let new = change(old);
    write_word(l4, at, new);
    Delta::of_u16(old, new)
}
