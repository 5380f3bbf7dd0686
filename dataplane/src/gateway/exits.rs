//! What a worker remembers of a snapshot: the neighbours that it sends to, ready to be written into
//! packets, and where new entries' packets go.

use std::net::Ipv4Addr;

use super::forward::{Hop, leaves_outside, next_hop};
use super::outside_source::outside_local;
use crate::fib::Neighbour;
use crate::snapshot::{PortId, Snapshot, VrfId};
use crate::wire::head::Macs;

/// Places for destinations, as for neighbours.
const DESTINATIONS: usize = 1024;

/// Places for neighbours; of two that share one, the one that was used last has it.
const PLACES: usize = 256;

/// How packets leave to a neighbour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exit {
    /// Destination and source MAC address.
    pub(super) macs: Macs,
    /// The neighbour's place in the forwarding table, or [`NOBODY`].
    neighbour: u32,
    /// Largest IPv4 packet, in octets.
    pub(super) mtu: u16,
    /// The port.
    pub(super) port: PortId,
}

/// The next hop to a host beyond.
#[derive(Debug, Clone, Copy)]
struct Known {
    vrf: VrfId,
    destination: u32,
    hop: Hop,
}

/// [`Exit::neighbour`] of a place that is free.
const NOBODY: u32 = u32::MAX;

const FREE: Exit = Exit {
    macs: Macs::NONE,
    neighbour: NOBODY,
    mtu: 0,
    port: PortId(0),
};

/// The exits of one snapshot.
#[derive(Debug)]
pub(super) struct Exits {
    generation: u32,
    exits: Box<[Exit; PLACES]>,
    /// Where new entries' packets went lately.
    hops: Box<[Option<Known>; DESTINATIONS]>,
}

impl Exits {
    pub(super) fn new() -> Exits {
        Exits {
            generation: 0,
            exits: Box::new([FREE; PLACES]),
            hops: Box::new([None; DESTINATIONS]),
        }
    }

    /// Forgets everything if it is about another snapshot; whether it was.
    #[inline]
    pub(super) fn follow(&mut self, snapshot: &Snapshot) -> bool {
        let is_new = self.generation != snapshot.generation;
        if is_new {
            self.generation = snapshot.generation;
            self.exits.fill(FREE);
            self.hops.fill(None);
        }
        is_new
    }

    /// [`beyond`] with a memory. The snapshot is the one that was followed last.
    #[inline]
    pub(super) fn beyond(
        &mut self,
        snapshot: &Snapshot,
        vrf: VrfId,
        destination: u32,
    ) -> Option<Hop> {
        let spread = destination.wrapping_mul(0x9e37_79b1) >> 16;
        let place = &mut self.hops[spread as usize % DESTINATIONS];
        match place {
            Some(known) if (known.vrf, known.destination) == (vrf, destination) => Some(known.hop),
            _ => {
                let hop = beyond(snapshot, vrf, destination)?;
                *place = Some(Known {
                    vrf,
                    destination,
                    hop,
                });
                Some(hop)
            }
        }
    }

    /// The exit to the neighbour at a place of the forwarding table; `None` where it does not answer
    /// or its port is down.
    #[inline(always)]
    pub(super) fn to(&mut self, snapshot: &Snapshot, neighbour: u16) -> Option<&Exit> {
        let place = usize::from(neighbour) % PLACES;
        if self.exits[place].neighbour != u32::from(neighbour) {
            self.exits[place] = learn(snapshot, neighbour)?;
        }
        Some(&self.exits[place])
    }
}

/// The next hop from a VRF to an outside host that is known by its own address: most packets that want
/// an entry go to one. `None` for whatever else an address may be.
fn beyond(snapshot: &Snapshot, vrf: VrfId, destination: u32) -> Option<Hop> {
    let address = Ipv4Addr::from_bits(destination);
    let is_ours = snapshot.local(vrf, address).is_some()
        || snapshot.is_directed_broadcast(vrf, address)
        || snapshot.nat.global(address).is_some();
    if is_ours || outside_local(snapshot, vrf, destination).is_some() {
        return None;
    }
    next_hop(snapshot, vrf, destination).filter(|hop| leaves_outside(snapshot, hop.to.port))
}

#[cold]
fn learn(snapshot: &Snapshot, neighbour: u16) -> Option<Exit> {
    let known = snapshot.fib.neighbour_at(u32::from(neighbour))?;
    let (to, Neighbour::Reachable(mac)) = known else {
        return None;
    };
    let interface = snapshot.interface(to.port).filter(|i| i.up)?;
    Some(Exit {
        macs: Macs::new(mac, interface.mac),
        neighbour: u32::from(neighbour),
        mtu: interface.mtu,
        port: to.port,
    })
}
