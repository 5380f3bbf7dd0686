//! Cutting a packet into fragments that the next link takes (RFC 791 section 3.2).

use super::ETHERNET_HEADER;
use super::bytes::put16;
use super::checksum::checksum;
use super::ipv4::{Fragment, IPV4_HEADER, Ipv4};
use crate::packet::{Packet, PacketPool};
use crate::stats::DropReason;

/// Octets of the longest IPv4 header.
const MAX_HEADER: usize = 60;
/// The bit of an option's type that says that all fragments carry it (RFC 791 section 3.1).
const COPIED: u8 = 0x80;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Cuts the packet of `frame` into fragments of at most `mtu` octets each and gives them to
/// `emit`, the first one first. Returns how many there were. `frame` stays as it is.
///
/// `ip` says where things are; addresses, time to live and the rest are taken from the frame as
/// it is now. A packet that is a fragment already is cut into smaller ones.
///
/// # Errors
/// - `MtuExceeded`: it may not be cut (Don't Fragment), or `mtu` has no room for 8 octets of data.
/// - `BufferExhausted`: the pool has no packet, or none large enough. Fragments that were made
///   before are out; whoever waits for the rest of them will give up.
pub fn split<P: PacketPool>(
    frame: &[u8],
    ip: &Ipv4,
    mtu: u16,
    pool: &mut P,
    mut emit: impl FnMut(P::Packet),
) -> Result<usize, DropReason> {
    if ip.dont_fragment {
        return Err(DropReason::MtuExceeded);
    }
    let (Some(mut headers), Some(mut data)) = (
        frame.get(..ip.l4_offset()),
        frame.get(ip.l4_offset()..ip.end()),
    ) else {
        return Err(DropReason::IpTotalLength);
    };
    let later = LaterHeaders::new(headers);
    let Fragment { mut offset, more } = ip.fragment.unwrap_or(Fragment {
        offset: 0,
        more: false,
    });
    let mut made = 0;
    loop {
        let (piece, rest) = cut(data, ETHERNET_HEADER + usize::from(mtu), headers.len())
            .ok_or(DropReason::MtuExceeded)?;
        let place = Fragment {
            offset,
            more: more || !rest.is_empty(),
        };
        let packet = assemble(pool, headers, place, piece).ok_or(DropReason::BufferExhausted)?;
        emit(packet);
        made += 1;
        if rest.is_empty() {
            return Ok(made);
        }
        headers = later.octets();
        // A piece that has a rest is shorter than the 65,515 octets that a datagram can hold.
        offset = offset.saturating_add(piece.len() as u16);
        data = rest;
    }
}

/// As much of the data as goes behind `headers` octets into a frame of `limit`, and the rest;
/// where there is a rest, the cut is at a multiple of 8. `None` where nothing fits.
fn cut(data: &[u8], limit: usize, headers: usize) -> Option<(&[u8], &[u8])> {
    let room = limit.checked_sub(headers)?;
    if data.len() <= room {
        return Some((data, &[]));
    }
    match room & !7 {
        0 => None,
        at => data.split_at_checked(at),
    }
}

/// A new packet of these headers and this data, the IPv4 header made right for its place.
fn assemble<P: PacketPool>(
    pool: &mut P,
    headers: &[u8],
    place: Fragment,
    data: &[u8],
) -> Option<P::Packet> {
    let mut packet = pool.alloc()?;
    let len = headers.len() + data.len();
    if !packet.append(len) {
        return None;
    }
    let frame = packet.data_mut().get_mut(..len)?;
    let (to_headers, to_data) = frame.split_at_mut_checked(headers.len())?;
    to_headers.copy_from_slice(headers);
    to_data.copy_from_slice(data);

    let ip = to_headers.get_mut(ETHERNET_HEADER..)?;
    let total_len = u16::try_from(len - ETHERNET_HEADER).ok()?;
    let header = ip.first_chunk_mut::<IPV4_HEADER>()?;
    put16::<2, IPV4_HEADER>(header, total_len);
    put16::<6, IPV4_HEADER>(header, u16::from(place.more) << 13 | place.offset >> 3);
    put16::<10, IPV4_HEADER>(header, 0);
    let sum = checksum(ip);
    put16::<10, IPV4_HEADER>(ip.first_chunk_mut()?, sum);
    Some(packet)
}

/// The Ethernet and IPv4 headers of all fragments but the first: only options with the copied
/// bit.
struct LaterHeaders {
    octets: [u8; ETHERNET_HEADER + MAX_HEADER],
    len: usize,
}

impl LaterHeaders {
    /// Made from the headers of the whole packet.
    fn new(headers: &[u8]) -> LaterHeaders {
        const FIXED: usize = ETHERNET_HEADER + IPV4_HEADER;
        let mut later = LaterHeaders {
            octets: [END_OF_OPTIONS; _],
            len: 0,
        };
        let (fixed, options) = headers.split_at_checked(FIXED).unwrap_or((headers, &[]));
        later.push(fixed);
        for option in Options(options) {
            if option.first().is_some_and(|kind| kind & COPIED != 0) {
                later.push(option);
            }
        }
        // The octets up to the next multiple of 4 are 0: the end of options.
        later.len = FIXED + (later.len.saturating_sub(FIXED)).next_multiple_of(4);
        if let Some(version_and_length) = later.octets.get_mut(ETHERNET_HEADER) {
            *version_and_length = 0x40 | ((later.len - ETHERNET_HEADER) / 4) as u8;
        }
        later
    }

    fn push(&mut self, octets: &[u8]) {
        let end = self.len + octets.len();
        if let Some(to) = self.octets.get_mut(self.len..end) {
            to.copy_from_slice(octets);
            self.len = end;
        }
    }

    fn octets(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or(&self.octets)
    }
}

/// The options of a header, one after the other, without padding; ends at the first one that is
/// malformed.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            match self.0 {
                [] | [END_OF_OPTIONS, ..] => return None,
                [NO_OPERATION, rest @ ..] => self.0 = rest,
                [_, len, ..] if *len >= 2 => {
                    let (option, rest) = self.0.split_at_checked(usize::from(*len))?;
                    self.0 = rest;
                    return Some(option);
                }
                _ => return None,
            }
        }
    }
}
