//! Changes to a parsed packet in place, with its checksums by difference.

use super::bytes::{be16, chunk_mut, put16, put32};
use super::checksum::Delta;
use super::ipv4::{IPV4_HEADER, Ipv4, L4};
use super::{ETHERNET_HEADER, PROTO_DCCP, PROTO_ICMP, PROTO_UDP_LITE};

/// Addresses and ports of a packet, in host byte order.
///
/// For ICMP queries `sport` is the identifier, in both directions, and `dport` is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct Endpoints {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Source port, or ICMP identifier.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
}

impl Endpoints {
    /// Addresses and ports as two numbers, the destination's in the upper halves: so they lie in the
    /// memory of most CPUs, and two loads fetch them.
    #[inline(always)]
    #[must_use]
    pub fn words(self) -> (u64, u32) {
        (
            u64::from(self.dst) << 32 | u64::from(self.src),
            u32::from(self.dport) << 16 | u32::from(self.sport),
        )
    }
}

/// A translation worked out once: what to write into every packet of one direction of a session,
/// and the differences that it makes to the checksums. 16 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rewrite {
    to: Endpoints,
    addresses: Delta,
    ports: Delta,
}

impl Rewrite {
    /// The rewrite of packets of `protocol` that arrive with `from` and leave with `to`.
    #[inline]
    #[must_use]
    pub fn new(protocol: u8, from: Endpoints, to: Endpoints) -> Rewrite {
        let mut ports = Delta::of_u16(from.sport, to.sport);
        if protocol != PROTO_ICMP {
            ports += Delta::of_u16(from.dport, to.dport);
        }
        Rewrite {
            to,
            addresses: Delta::of_u32(from.src, to.src) + Delta::of_u32(from.dst, to.dst),
            ports,
        }
    }

    /// A rewrite to `to` whose differences were worked out before: `addresses` that of both
    /// addresses, `ports` that of both ports, or of the ICMP identifier.
    #[inline]
    #[must_use]
    pub fn from_parts(to: Endpoints, addresses: Delta, ports: Delta) -> Rewrite {
        Rewrite {
            to,
            addresses,
            ports,
        }
    }

    /// What packets leave with.
    #[inline]
    #[must_use]
    pub fn to(&self) -> Endpoints {
        self.to
    }

    /// Rewrites a packet that arrived with the endpoints that this was made from.
    ///
    /// Later fragments, ESP, ICMP without identifier and other protocols keep what is after the
    /// IPv4 header, save the checksums of UDP-Lite and DCCP, in which addresses count too.
    #[inline]
    pub fn apply(&self, frame: &mut [u8], ip: &Ipv4) {
        self.write(frame, ip, self.addresses, 0);
    }

    /// [`Rewrite::apply`] and [`decrement_ttl`] in one go. The caller has seen that there is time
    /// left to live.
    #[inline(always)]
    pub fn apply_and_decrement_ttl(&self, frame: &mut [u8], ip: &Ipv4) {
        self.write(frame, ip, self.addresses + Delta::TTL_DECREMENT, 1);
    }

    #[inline(always)]
    fn write(&self, frame: &mut [u8], ip: &Ipv4, header: Delta, hops: u8) {
        if let Some(ttl) = frame.get_mut(ETHERNET_HEADER + 8) {
            *ttl = ttl.wrapping_sub(hops);
        }
        write_addresses(frame, ETHERNET_HEADER, header, self.to.src, self.to.dst);
        self.write_l4(frame, ip);
    }

    #[inline(always)]
    fn write_l4(&self, frame: &mut [u8], ip: &Ipv4) {
        let at = ip.l4_offset();
        match ip.l4 {
            L4::Tcp { .. } => {
                if let Some(tcp) = chunk_mut::<18>(frame, at) {
                    let checksum = (self.addresses + self.ports).apply(be16::<16, 18>(tcp));
                    put16::<0, 18>(tcp, self.to.sport);
                    put16::<2, 18>(tcp, self.to.dport);
                    put16::<16, 18>(tcp, checksum);
                }
            }
            L4::Udp { .. } => {
                if let Some(udp) = chunk_mut::<8>(frame, at) {
                    let checksum = (self.addresses + self.ports).apply_udp(be16::<6, 8>(udp));
                    put16::<0, 8>(udp, self.to.sport);
                    put16::<2, 8>(udp, self.to.dport);
                    put16::<6, 8>(udp, checksum);
                }
            }
            L4::IcmpQuery { .. } => {
                if let Some(icmp) = chunk_mut::<8>(frame, at) {
                    let checksum = self.ports.apply(be16::<2, 8>(icmp));
                    put16::<2, 8>(icmp, checksum);
                    put16::<4, 8>(icmp, self.to.sport);
                }
            }
            L4::Other => self.write_other(frame, ip),
            L4::IcmpError { .. } | L4::IcmpOther { .. } | L4::Esp { .. } | L4::LaterFragment => {}
        }
    }

    /// UDP-Lite (RFC 3828) and DCCP (RFC 4340) have their checksum, with addresses in it, at the
    /// same place as UDP.
    #[cold]
    fn write_other(&self, frame: &mut [u8], ip: &Ipv4) {
        let has_checksum = matches!(ip.protocol, PROTO_UDP_LITE | PROTO_DCCP) && ip.l4_len() >= 8;
        if let Some(header) = chunk_mut::<8>(frame, ip.l4_offset()).filter(|_| has_checksum) {
            let checksum = self.addresses.apply_udp(be16::<6, 8>(header));
            put16::<6, 8>(header, checksum);
        }
    }
}

/// Writes the addresses of the IPv4 header at `at` and its checksum, which all changes of the
/// header together change by `delta`. Returns the difference of the checksum field itself.
#[inline]
pub(super) fn write_addresses(
    frame: &mut [u8],
    at: usize,
    delta: Delta,
    src: u32,
    dst: u32,
) -> Delta {
    let Some(header) = chunk_mut::<IPV4_HEADER>(frame, at) else {
        return Delta::NONE;
    };
    let old = be16::<10, IPV4_HEADER>(header);
    let new = delta.apply(old);
    put16::<10, IPV4_HEADER>(header, new);
    put32::<12, IPV4_HEADER>(header, src);
    put32::<16, IPV4_HEADER>(header, dst);
    Delta::of_u16(old, new)
}

/// Sets the MAC addresses of a frame; a frame without room for them stays as it is.
#[inline]
pub fn set_macs(frame: &mut [u8], dst: [u8; 6], src: [u8; 6]) {
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        let [a, b, c, d, e, f] = dst;
        let [g, h, i, j, k, l] = src;
        *macs = [a, b, c, d, e, f, g, h, i, j, k, l];
    }
}

/// Sets the whole Ethernet header of a frame; a frame without room for it stays as it is.
#[inline]
pub fn set_ethernet(frame: &mut [u8], dst: [u8; 6], src: [u8; 6], ethertype: u16) {
    set_macs(frame, dst, src);
    if let Some(header) = frame.first_chunk_mut::<ETHERNET_HEADER>() {
        put16::<12, ETHERNET_HEADER>(header, ethertype);
    }
}

/// Takes one from the time to live of a frame's IPv4 packet. The caller has seen that there is
/// time left to live.
#[inline]
pub fn decrement_ttl(frame: &mut [u8]) {
    if let Some(header) = chunk_mut::<IPV4_HEADER>(frame, ETHERNET_HEADER) {
        header[8] = header[8].wrapping_sub(1);
        let checksum = Delta::TTL_DECREMENT.apply(be16::<10, IPV4_HEADER>(header));
        put16::<10, IPV4_HEADER>(header, checksum);
    }
}
