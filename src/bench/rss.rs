//! The queue to which a network card takes a packet: receive-side scaling as Microsoft specified it
//! and cards do it, the Toeplitz hash of addresses and, of UDP and TCP, ports, by a table of 128.

use spillway_dataplane::wire::{PROTO_TCP, PROTO_UDP};

/// Places of the table that leads from hashes to queues, in turn.
const TABLE: u32 = 128;

/// The key of Microsoft's specification, with which most drivers start.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// The queue, one of `queues`, for a frame without VLAN tag that begins with an IPv4 header without
/// options after its 14 octets of Ethernet.
pub(super) fn queue(frame: &[u8; 64], queues: u8) -> u8 {
    let hashed = match frame[23] {
        PROTO_UDP | PROTO_TCP => &frame[26..38],
        _ => &frame[26..34],
    };
    (toeplitz(hashed) % TABLE % u32::from(queues.max(1))) as u8
}

fn toeplitz(input: &[u8]) -> u32 {
    let (mut hash, mut window) = (0, u32::from_be_bytes([KEY[0], KEY[1], KEY[2], KEY[3]]));
    for (octet, next) in input.iter().zip(&KEY[4..]) {
        for bit in (0..8).rev() {
            if octet >> bit & 1 == 1 {
                hash ^= window;
            }
            window = window << 1 | u32::from(next >> bit & 1);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own examples: 66.9.149.187:2794 to 161.142.100.80:1766, and without ports.
    #[test]
    fn hashes_what_the_specification_hashes() {
        let packet = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(toeplitz(&packet), 0x51cc_c178);
        assert_eq!(toeplitz(&packet[..8]), 0x323e_8fc2);
    }
}
