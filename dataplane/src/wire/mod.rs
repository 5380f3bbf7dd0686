//! Views over headers: bounds checked once, offsets kept.
//!
//! [`parse`] reads a frame into a few numbers and refuses what no host may send, each time with
//! the reason. What it lets through, [`rewrite`], [`icmp_error`] and [`split`] change in place.
//! Nothing in here allocates, and no octets from outside make it panic.

mod bytes;
pub mod checksum;
pub mod head;
pub mod icmp_build;
pub mod icmp_error;
pub mod ipv4;
pub mod rewrite;
pub mod split;

pub use checksum::Delta;
pub use head::Head;
pub use ipv4::{Fragment, Ipv4, L4};
pub use rewrite::{Endpoints, Rewrite};

use crate::stats::DropReason;

/// Octets of an Ethernet header: two MAC addresses and the EtherType.
pub const ETHERNET_HEADER: usize = 14;

/// EtherType of IPv4 (RFC 894).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP (RFC 826).
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of a VLAN tag (IEEE 802.1Q).
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of IPv6 (RFC 2464).
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// IP protocol number of ICMP (RFC 792).
pub const PROTO_ICMP: u8 = 1;
/// IP protocol number of TCP (RFC 9293).
pub const PROTO_TCP: u8 = 6;
/// IP protocol number of UDP (RFC 768).
pub const PROTO_UDP: u8 = 17;
/// IP protocol number of DCCP (RFC 4340).
pub const PROTO_DCCP: u8 = 33;
/// IP protocol number of GRE (RFC 2784).
pub const PROTO_GRE: u8 = 47;
/// IP protocol number of ESP (RFC 4303).
pub const PROTO_ESP: u8 = 50;
/// IP protocol number of AH (RFC 4302).
pub const PROTO_AH: u8 = 51;
/// IP protocol number of UDP-Lite (RFC 3828).
pub const PROTO_UDP_LITE: u8 = 136;

/// Flags in octet 13 of a TCP header (RFC 9293 section 3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number is significant.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is significant.
    pub const URG: u8 = 0x20;
}

/// ICMP message types (RFC 792, RFC 950).
pub mod icmp_type {
    /// Answer to an echo.
    pub const ECHO_REPLY: u8 = 0;
    /// Error: destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Error: source quench (deprecated, RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Error: redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo.
    pub const ECHO: u8 = 8;
    /// Error: time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Error: parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Timestamp.
    pub const TIMESTAMP: u8 = 13;
    /// Answer to a timestamp.
    pub const TIMESTAMP_REPLY: u8 = 14;
    /// Information request.
    pub const INFORMATION: u8 = 15;
    /// Answer to an information request.
    pub const INFORMATION_REPLY: u8 = 16;
    /// Address mask request.
    pub const MASK: u8 = 17;
    /// Answer to an address mask request.
    pub const MASK_REPLY: u8 = 18;
}

/// What a frame carries, by its EtherType.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// An IPv4 packet that is fit to be forwarded.
    Ipv4(Ipv4),
    /// ARP.
    Arp,
    /// IPv6.
    Ipv6,
    /// Any other EtherType, VLAN tags and IEEE 802.3 lengths included.
    Other(u16),
}

/// A view of a frame's Ethernet header.
#[derive(Debug, Clone, Copy)]
pub struct Ethernet<'a>(&'a [u8; ETHERNET_HEADER]);

impl<'a> Ethernet<'a> {
    /// The header of a frame; `None` where the frame is shorter.
    #[inline]
    #[must_use]
    pub fn new(frame: &'a [u8]) -> Option<Ethernet<'a>> {
        frame.first_chunk().map(Ethernet)
    }

    /// The MAC address that the frame goes to.
    #[inline]
    #[must_use]
    pub fn dst(self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = *self.0;
        [a, b, c, d, e, f]
    }

    /// The MAC address that the frame comes from.
    #[inline]
    #[must_use]
    pub fn src(self) -> [u8; 6] {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *self.0;
        [a, b, c, d, e, f]
    }

    /// The EtherType; below 0x600 it is an IEEE 802.3 length.
    #[inline]
    #[must_use]
    pub fn ethertype(self) -> u16 {
        bytes::be16::<12, ETHERNET_HEADER>(self.0)
    }

    /// Whether the frame goes to a group of stations, all of them included.
    #[inline]
    #[must_use]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

/// Reads a frame that starts at its destination MAC address.
///
/// Octets beyond the IPv4 total length are Ethernet padding and legal. `verify_ip_checksum` is
/// `false` where the port has verified the IPv4 header checksum already.
///
/// # Errors
/// The reason to drop the packet: `FrameTooShort`, and those of [`ipv4::parse`].
#[inline(always)]
pub fn parse(frame: &[u8], verify_ip_checksum: bool) -> Result<Parsed, DropReason> {
    let ethernet = Ethernet::new(frame).ok_or(DropReason::FrameTooShort)?;
    match ethernet.ethertype() {
        ETHERTYPE_IPV4 => ipv4::parse(frame, verify_ip_checksum).map(Parsed::Ipv4),
        ETHERTYPE_ARP => Ok(Parsed::Arp),
        ETHERTYPE_IPV6 => Ok(Parsed::Ipv6),
        other => Ok(Parsed::Other(other)),
    }
}

#[cfg(test)]
mod tests;
