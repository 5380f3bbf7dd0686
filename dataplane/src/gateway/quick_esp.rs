//! The path of an ESP packet whose half stands: as short as that of any other known flow.

use std::net::Ipv4Addr;

use super::Gateway;
use super::quick::{Glance, Obstacle};
use crate::packet::Packet;
use crate::session::Direction;
use crate::snapshot::{InsideHost, PortId, Snapshot, VrfId};
use crate::time::Tick;
use crate::wire::PROTO_ESP;
use crate::wire::checksum::{Delta, Deltas};
use crate::wire::head::Change;

impl<P: Packet> Gateway<P> {
    /// Translates a packet of a half that was approved for this snapshot. Else nothing has changed,
    /// and the full way decides.
    #[inline(never)]
    pub(super) fn translate_esp(
        &mut self,
        snapshot: &Snapshot,
        tick: Tick,
        (direction, vrf): (Direction, VrfId),
        packet: &mut P,
        glance: &Glance,
    ) -> Result<PortId, Obstacle> {
        const NO: Obstacle = Obstacle::NotOrdinary;
        let Glance { head, guess, .. } = glance;
        let frame = packet.data_mut();
        let Some(&[ttl, ..]) = frame.get(22..) else {
            return Err(NO);
        };
        let Some(&[a, b, c, d, ..]) = frame.get(38..) else {
            return Err(NO);
        };
        let sequence = u32::from_be_bytes([a, b, c, d]);
        let key = head.key();
        let (source, destination) = (Ipv4Addr::from_bits(key.src), Ipv4Addr::from_bits(key.dst));
        let generation = snapshot.generation;
        let spi = head.spi();
        let half = match direction {
            Direction::Out => {
                let client = InsideHost {
                    vrf,
                    address: source,
                };
                let at = (client, destination, spi);
                self.esp.established_out(*guess, at, generation)
            }
            Direction::In => {
                let at = (source, destination, spi);
                self.esp
                    .established_in(*guess, vrf, at, sequence, generation)
            }
        };
        let half = half.ok_or(NO)?;
        let exit = self.exits.to(snapshot, half.neighbour).ok_or(NO)?;
        if ttl <= 1 || head.total_len > exit.mtu {
            return Err(NO);
        }
        let (port, macs) = (exit.port, exit.macs);
        let new = half.address.to_bits();
        let (src, dst, delta) = match direction {
            Direction::Out => (new, key.dst, Delta::of_u32(key.src, new)),
            Direction::In => (key.src, new, Delta::of_u32(key.dst, new)),
        };
        let change = Change {
            addresses: u64::from(src) << 32 | u64::from(dst),
            ports: 0,
            of_addresses: Deltas::NONE.and(delta, 0),
            of_ports: Deltas::NONE,
            macs,
        };
        change.apply(frame, PROTO_ESP);
        packet.truncate(head.end()); // Ethernet padding stays behind
        let now = tick.millis();
        match direction {
            Direction::Out => self.esp.used_out(now, half.place, sequence),
            Direction::In => self.esp.used_in(now, half.place, sequence),
        }
        Ok(port)
    }
}
