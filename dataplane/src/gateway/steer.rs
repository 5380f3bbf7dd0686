//! Which worker decides about a packet.
//!
//! From inside, the worker of the inside host's address. From outside, the worker that owns the
//! port block or pool address which the packet goes to: the one that made the entry. Statics and
//! what is only routed are anybody's.
//!
//! ESP, and UDP with an outside host's IKE ports, belong in both directions to the worker of the
//! outside host's address: only one of an ESP packet's two SPIs is known. So do shared connections:
//! see `inside_destination`.

use std::net::Ipv4Addr;

use super::ipsec::{is_ipsec, is_lent};
use super::outside_source::is_translated;
use super::{Gateway, Item, Lookup};
use crate::nat::Global;
use crate::packet::Packet;
use crate::session::{Direction, Key, port_space};
use crate::snapshot::{Snapshot, VrfId, WorkerId};
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
            Lookup::Quoted(direction) => self.owner_of_quoted(snapshot, item, ip, direction),
            lookup => {
                let shared = match lookup {
                    Lookup::Flow { direction, key, .. } => {
                        self.owner_of_shared(snapshot, item.meta, (direction, ip.protocol, key))
                    }
                    _ => None,
                };
                shared.unwrap_or_else(|| self.owner_by_lookup(snapshot, ip, lookup))
            }
        }
    }

    /// The worker that decides about a packet which quotes no other.
    pub(super) fn owner_by_lookup(
        &self,
        snapshot: &Snapshot,
        ip: &Ipv4,
        lookup: Lookup,
    ) -> WorkerId {
        match lookup {
            Lookup::None | Lookup::Quoted(_) => self.options.me,
            Lookup::Flow { direction, key, .. } => {
                self.owner_of_entry(snapshot, direction, ip.protocol, key)
            }
            Lookup::Request(key) => self.owner_of_entry(snapshot, Direction::In, ip.protocol, key),
            Lookup::Ipsec(direction, key) => {
                self.owner_of_ipsec(snapshot, direction, (ip.vrf, ip.protocol), key)
            }
        }
    }

    /// The worker that has a flow's entry, or makes it.
    #[inline]
    pub(super) fn owner_of_entry(
        &self,
        snapshot: &Snapshot,
        direction: Direction,
        protocol: u8,
        key: Key,
    ) -> WorkerId {
        match direction {
            Direction::Out => self.owner_of_client(key.src),
            Direction::In => self.owner_of_global(snapshot, key.dst, protocol, key.dport),
        }
    }

    /// The worker that follows the fragments of a datagram.
    pub(super) fn owner_of_datagram(&self, ip: &Ipv4) -> WorkerId {
        self.pick(ip.src ^ ip.dst.rotate_left(16) ^ u32::from(ip.id))
    }

    /// Where ports inside spread by the client's address alone, the worker to which they bring it.
    #[inline]
    fn owner_of_client(&self, inside: u32) -> WorkerId {
        let brought = self.steering.as_ref().and_then(|to| to.client(inside));
        brought.unwrap_or_else(|| self.pick(inside))
    }

    fn owner_of_global(
        &self,
        snapshot: &Snapshot,
        address: u32,
        protocol: u8,
        port: u16,
    ) -> WorkerId {
        let owner = match snapshot.nat.global(Ipv4Addr::from_bits(address)) {
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
        let (sport, dport) = super::icmp::quoted_ports(&quoted);
        let key = Key {
            src: quoted.dst,
            dst: quoted.src,
            sport: dport,
            dport: sport,
        };
        let flow = (direction, quoted.protocol, key);
        if let Some(worker) = self.owner_of_shared(snapshot, item.meta, flow) {
            return worker;
        }
        if is_ipsec(direction, quoted.protocol, key)
            && !is_translated(snapshot, direction, quoted.protocol, key)
        {
            let kind = (ip.vrf, quoted.protocol);
            return self.owner_of_ipsec(snapshot, direction, kind, key);
        }
        match direction {
            Direction::Out => self.owner_of_client(quoted.dst),
            Direction::In => self.owner_of_global(snapshot, quoted.src, quoted.protocol, sport),
        }
    }

    /// The worker of the outside host, unless the inside host has or gets a lent address.
    fn owner_of_ipsec(
        &self,
        snapshot: &Snapshot,
        direction: Direction,
        (vrf, protocol): (VrfId, u8),
        key: Key,
    ) -> WorkerId {
        let nat = &snapshot.nat;
        match direction {
            Direction::Out if is_lent(snapshot, vrf, protocol, key) => {
                self.owner_of_client(key.src)
            }
            Direction::Out => self.pick(key.dst),
            Direction::In => match nat.global(Ipv4Addr::from_bits(key.dst)) {
                Some(Global::OneToOne(..)) => {
                    self.owner_of_global(snapshot, key.dst, protocol, key.dport)
                }
                _ => self.pick(key.src),
            },
        }
    }

    pub(super) fn pick(&self, value: u32) -> WorkerId {
        pick(value, self.options.workers)
    }
}

fn pick(value: u32, workers: u8) -> WorkerId {
    let mixed = (u64::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 32;
    WorkerId(((mixed * u64::from(workers)) >> 32) as u8)
}

/// Which of so many workers decides about ESP and IKE of an outside host, where clients have no addresses of their own.
#[must_use]
pub fn worker_of_peer(peer: Ipv4Addr, workers: u8) -> WorkerId {
    pick(peer.to_bits(), workers)
}
