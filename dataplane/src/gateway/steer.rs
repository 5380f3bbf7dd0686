//! Which worker decides about a packet.
//!
//! From inside, the worker of the inside host's address. From outside, the worker that owns the
//! port block or pool address which the packet goes to: the one that made the entry. Statics and
//! what is only routed are anybody's.

use std::net::Ipv4Addr;

use super::{Gateway, Item, Lookup};
use crate::nat::Global;
use crate::packet::Packet;
use crate::session::{Direction, port_space};
use crate::snapshot::{Snapshot, WorkerId};
use crate::wire::{Ipv4, icmp_error};

impl<P: Packet> Gateway<P> {
    /// The worker that decides about a packet.
    pub(super) fn owner(
        &self,
        snapshot: &Snapshot,
        item: &Item<P>,
        ip: &Ipv4,
        lookup: Lookup,
    ) -> WorkerId {
        match lookup {
            Lookup::None => self.options.me,
            Lookup::Flow {
                direction: Direction::Out,
                key,
                ..
            } => self.owner_of_client(key.src),
            Lookup::Request(key)
            | Lookup::Flow {
                direction: Direction::In,
                key,
                ..
            } => self.owner_of_global(snapshot, key.dst, ip.protocol, key.dport),
            Lookup::Quoted(direction) => self.owner_of_quoted(snapshot, item, ip, direction),
        }
    }

    /// The worker that follows the fragments of a datagram.
    pub(super) fn owner_of_datagram(&self, ip: &Ipv4) -> WorkerId {
        self.pick(ip.src ^ ip.dst.rotate_left(16) ^ u32::from(ip.id))
    }

    fn owner_of_client(&self, inside: u32) -> WorkerId {
        self.pick(inside)
    }

    fn owner_of_global(
        &self,
        snapshot: &Snapshot,
        address: u32,
        protocol: u8,
        port: u16,
    ) -> WorkerId {
        let owner = match snapshot.nat.globals.get(&Ipv4Addr::from_bits(address)) {
            Some(Global::Overload(global)) => {
                let has_ports = port_space(protocol).is_some();
                has_ports.then(|| global.owner(port)).flatten()
            }
            Some(Global::OneToOne(pool, index)) => pool.owner(*index),
            Some(Global::Static) | None => None,
        };
        owner.unwrap_or(self.options.me)
    }

    /// An ICMP error belongs to the entry of the packet that it quotes, which went the other way.
    fn owner_of_quoted(
        &self,
        snapshot: &Snapshot,
        item: &Item<P>,
        ip: &Ipv4,
        direction: Direction,
    ) -> WorkerId {
        let Ok(quoted) = icmp_error::read(item.packet.data(), ip) else {
            return self.options.me; // whoever has it counts it
        };
        match direction {
            Direction::Out => self.owner_of_client(quoted.dst),
            Direction::In => {
                let (sport, _) = super::icmp::quoted_ports(&quoted);
                self.owner_of_global(snapshot, quoted.src, quoted.protocol, sport)
            }
        }
    }

    fn pick(&self, value: u32) -> WorkerId {
        let mixed = (u64::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 32;
        WorkerId(((mixed * u64::from(self.options.workers)) >> 32) as u8)
    }
}
