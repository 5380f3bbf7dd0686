//! ICMP errors made here, out of the packet that they are about (RFC 792, RFC 1812 section 4.3).

use super::checksum::checksum;
use super::icmp_error::ICMP_HEADER;
use super::ipv4::{self, IPV4_HEADER, Ipv4, L4};
use super::{ETHERNET_HEADER, ETHERTYPE_IPV4, Ethernet, PROTO_ICMP, icmp_type};
use crate::packet::Packet;
use crate::stats::DropReason;

/// Most octets of an ICMP error, its IPv4 header included (RFC 1812 section 4.3.2.3).
pub const MAX_ERROR: usize = 576;

/// What goes before the quoted packet.
const HEADERS: usize = IPV4_HEADER + ICMP_HEADER;

/// An ICMP error that a router sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The time to live ran out on the way.
    TimeExceeded,
    /// The destination can't be reached, with a code of [`mod@unreachable`].
    Unreachable(u8),
    /// Larger than the next link takes, with Don't Fragment set; the largest size in octets
    /// that it takes (RFC 1191 section 4).
    FragmentationNeeded {
        /// Next-hop MTU.
        mtu: u16,
    },
}

/// Codes of destination unreachable (RFC 792, RFC 1812 section 5.2.7.1).
pub mod unreachable {
    /// No route.
    pub const NETWORK: u8 = 0;
    /// The last router can't deliver.
    pub const HOST: u8 = 1;
    /// The protocol is not spoken there.
    pub const PROTOCOL: u8 = 2;
    /// Nobody listens on the port.
    pub const PORT: u8 = 3;
    /// Fragmentation needed and Don't Fragment set.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Filtered.
    pub const ADMINISTRATIVELY_PROHIBITED: u8 = 13;
}

/// Whether a packet may be answered with an ICMP error (RFC 1812 section 4.3.2.7): never an ICMP
/// message that is no query, a later fragment, a packet to many (by its MAC or IP address) or
/// one from an address that stands for no single host.
///
/// Broadcast addresses of single networks are for the caller to know.
#[must_use]
pub fn may_answer(frame: &[u8], ip: &Ipv4) -> bool {
    let icmp_without_query = matches!(ip.l4, L4::IcmpError { .. } | L4::IcmpOther { .. });
    let to_group = Ethernet::new(frame).is_none_or(Ethernet::is_group) || ip.dst >= 0xe000_0000;
    !icmp_without_query && !to_group && !ip.is_later_fragment() && !ipv4::is_martian_source(ip.src)
}

/// Turns a packet into the ICMP error about it, from `source` to the packet's source.
///
/// The packet must be as it arrived: untranslated. `ip` is what [`parse`](super::parse) made of
/// it, `id` the identification of the new packet, which goes out with time to live 64,
/// precedence 6 (RFC 1812 section 4.3.2.5) and without Don't Fragment. The EtherType is set, the
/// MAC addresses are the caller's. As much is quoted as fits in [`MAX_ERROR`] octets.
///
/// # Errors
/// `BufferExhausted` where the buffer has no room for the headers. What is left of the packet is
/// then only good for dropping. The caller asks [`may_answer`] first.
pub fn build<P: Packet>(
    packet: &mut P,
    ip: &Ipv4,
    kind: ErrorKind,
    source: u32,
    id: u16,
) -> Result<(), DropReason> {
    let quoted = usize::from(ip.total_len).min(MAX_ERROR - HEADERS);
    packet.truncate(ETHERNET_HEADER + quoted);
    make_room(packet)?;
    let frame = packet.data_mut();
    let message = frame
        .get_mut(ETHERNET_HEADER + IPV4_HEADER..)
        .ok_or(DropReason::BufferExhausted)?;
    write_icmp(message, kind);
    if let Some(ethertype) = frame.get_mut(12..14) {
        ethertype.copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
    }
    if let Some(header) = frame.get_mut(ETHERNET_HEADER..ETHERNET_HEADER + IPV4_HEADER) {
        header.copy_from_slice(&ipv4_header(HEADERS + quoted, id, source, ip.src));
    }
    Ok(())
}

/// Makes room for the new headers between the Ethernet header and the old IPv4 header: at the
/// front, or at the end where the front has none.
fn make_room<P: Packet>(packet: &mut P) -> Result<(), DropReason> {
    if packet.prepend(HEADERS) {
        return Ok(());
    }
    let len = packet.data().len();
    if !packet.append(HEADERS) {
        return Err(DropReason::BufferExhausted);
    }
    let frame = packet.data_mut();
    if frame.len() == len + HEADERS && len >= ETHERNET_HEADER {
        frame.copy_within(ETHERNET_HEADER..len, ETHERNET_HEADER + HEADERS);
    }
    Ok(())
}

/// Writes the ICMP header in front of the quoted packet.
fn write_icmp(message: &mut [u8], kind: ErrorKind) {
    let (icmp_type, code, mtu) = match kind {
        ErrorKind::TimeExceeded => (icmp_type::TIME_EXCEEDED, 0, 0),
        ErrorKind::Unreachable(code) => (icmp_type::UNREACHABLE, code, 0),
        ErrorKind::FragmentationNeeded { mtu } => (
            icmp_type::UNREACHABLE,
            unreachable::FRAGMENTATION_NEEDED,
            mtu,
        ),
    };
    let [mtu_high, mtu_low] = mtu.to_be_bytes();
    if let Some(header) = message.first_chunk_mut::<ICMP_HEADER>() {
        *header = [icmp_type, code, 0, 0, 0, 0, mtu_high, mtu_low];
    }
    let [high, low] = checksum(message).to_be_bytes();
    if let Some([_, _, a, b]) = message.first_chunk_mut() {
        (*a, *b) = (high, low);
    }
}

/// The IPv4 header of an ICMP error of `total_len` octets.
fn ipv4_header(total_len: usize, id: u16, src: u32, dst: u32) -> [u8; IPV4_HEADER] {
    const TOS_INTERNETWORK_CONTROL: u8 = 0xc0;
    const TTL: u8 = 64;
    let [len_high, len_low] = u16::try_from(total_len).unwrap_or(u16::MAX).to_be_bytes();
    let [id_high, id_low] = id.to_be_bytes();
    let [s0, s1, s2, s3] = src.to_be_bytes();
    let [d0, d1, d2, d3] = dst.to_be_bytes();
    #[rustfmt::skip]
    let mut header = [
        0x45, TOS_INTERNETWORK_CONTROL, len_high, len_low, // version, TOS, total length
        id_high, id_low, 0, 0, // identification, flags and offset
        TTL, PROTO_ICMP, 0, 0, // time to live, protocol, checksum
        s0, s1, s2, s3, d0, d1, d2, d3,
    ];
    let [high, low] = checksum(&header).to_be_bytes();
    (header[10], header[11]) = (high, low);
    header
}
