//! ICMP errors about ESP and IKE: the quoted packet as it looked on the other side.

use std::net::Ipv4Addr;

use super::Gateway;
use super::ipsec::{is_ipsec, may_reach};
use crate::packet::Packet;
use crate::session::{Direction, Key};
use crate::snapshot::{InsideHost, VrfId};
use crate::wire::PROTO_ESP;

impl<P: Packet> Gateway<P> {
    /// What the engine makes of the packet that an ICMP error quotes: its key as `key` (the
    /// reverse of the quoted packet), and the result as the quoted packet looked on the other side, with
    /// the client's VRF. The error arrived in `vrf`.
    pub(super) fn quoted_ipsec(
        &self,
        (direction, vrf): (Direction, VrfId),
        protocol: u8,
        spi: Option<u32>,
        key: Key,
    ) -> Option<(Key, VrfId)> {
        if !is_ipsec(direction, protocol, key) {
            return None;
        }
        let ours = Ipv4Addr::from_bits(match direction {
            Direction::In => key.dst,
            Direction::Out => key.src,
        });
        let went = Key {
            src: key.dst,
            dst: key.src,
            sport: key.dport,
            dport: key.sport,
        };
        match direction {
            Direction::In => {
                let peer = Ipv4Addr::from_bits(key.src);
                let (client, sport) = if protocol == PROTO_ESP {
                    (self.esp.sender_of(peer, ours, spi?)?, went.sport)
                } else {
                    let ports = (key.sport, key.dport);
                    self.esp.ike_sender_of(peer, ours, ports)?
                };
                let src = client.address.to_bits();
                may_reach(vrf, client).then_some((Key { src, sport, ..went }, client.vrf))
            }
            Direction::Out => {
                let peer = Ipv4Addr::from_bits(key.dst);
                let client = InsideHost { vrf, address: ours };
                let (global, dport) = if protocol == PROTO_ESP {
                    (self.esp.global_of(client, peer)?, went.dport)
                } else {
                    let ports = (key.sport, key.dport);
                    self.esp.ike_global_of(client, peer, ports)?
                };
                let dst = global.to_bits();
                Some((Key { dst, dport, ..went }, vrf))
            }
        }
    }
}
