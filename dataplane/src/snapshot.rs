//! The immutable configuration that workers read: interfaces, routes and NAT policy.
//!
//! Control builds a [`Snapshot`], publishes it by swapping one pointer, and frees the old one when
//! no worker holds it any more.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;

use crate::fib::Fib;
use crate::nat::Nat;

/// A port of the appliance: its place in [`Snapshot::interfaces`], fixed while the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u8);

impl PortId {
    /// Most ports that one appliance can have.
    pub const MAX: usize = 64;

    /// The port's place in a list of all ports.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A worker: its place in the list of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u8);

impl WorkerId {
    /// Most workers that one appliance can have.
    pub const MAX: usize = 64;

    /// The worker's place in a list of all workers.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A VRF: a routing table of its own, with interfaces of its own. Its number stays the same over
/// reloads as long as the VRF stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct VrfId(pub u8);

impl VrfId {
    /// The global routing table: no VRF.
    pub const GLOBAL: VrfId = VrfId(0);
    /// Most VRFs that one appliance can have, besides the global table.
    pub const MAX: usize = 255;

    /// The VRF's place in a list of all tables.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// An inside host. Hosts of different VRFs may have the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InsideHost {
    /// The VRF of its interface.
    pub vrf: VrfId,
    /// Its address as it knows itself.
    pub address: Ipv4Addr,
}

impl From<Ipv4Addr> for InsideHost {
    /// The host of the global table.
    fn from(address: Ipv4Addr) -> InsideHost {
        InsideHost {
            vrf: VrfId::GLOBAL,
            address,
        }
    }
}

/// Which side of the translation an interface is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Side {
    /// Neither `ip nat inside` nor `ip nat outside`: routed only.
    #[default]
    None,
    /// `ip nat inside`.
    Inside,
    /// `ip nat outside`.
    Outside,
}

/// An interface as the data plane sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The configured name.
    pub name: String,
    /// Its side.
    pub side: Side,
    /// `ip vrf forwarding`: the table in which its packets are routed, unless they are translated.
    pub vrf: VrfId,
    /// Its address and prefix, if it has one.
    pub address: Option<Ipv4Net>,
    /// The port's MAC address.
    pub mac: [u8; 6],
    /// Largest IPv4 packet that may leave here, in octets.
    pub mtu: u16,
    /// Whether packets may come and go: not `shutdown`, and the port is there.
    pub up: bool,
}

/// Everything that a worker needs to know to decide about a packet.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Goes up by one with every published snapshot; sessions use it to know stale routes.
    pub generation: u32,
    /// The interfaces; a [`PortId`] is the place in this list.
    pub interfaces: Vec<Interface>,
    /// Routes and neighbours.
    pub fib: Arc<Fib>,
    /// What is translated, and how.
    pub nat: Arc<Nat>,
}

impl Snapshot {
    /// The interface of a port.
    #[must_use]
    pub fn interface(&self, port: PortId) -> Option<&Interface> {
        self.interfaces.get(port.index())
    }

    /// The VRF of a port.
    #[inline]
    #[must_use]
    pub fn vrf(&self, port: PortId) -> VrfId {
        self.interface(port).map_or(VrfId::GLOBAL, |i| i.vrf)
    }

    /// The port of a VRF whose own address is `address`.
    #[must_use]
    pub fn local(&self, vrf: VrfId, address: Ipv4Addr) -> Option<PortId> {
        self.interfaces
            .iter()
            .position(|i| i.vrf == vrf && i.address.is_some_and(|a| a.addr() == address))
            .map(|at| PortId(at as u8))
    }

    /// Whether `address` stands for all hosts of a connected network of a VRF, or for the network: no host
    /// has it, and nothing is forwarded to it (RFC 1812 section 5.3.5, RFC 2644).
    #[must_use]
    pub fn is_directed_broadcast(&self, vrf: VrfId, address: Ipv4Addr) -> bool {
        let of_vrf = self.interfaces.iter().filter(|i| i.vrf == vrf);
        of_vrf.filter_map(|i| i.address).any(|net| {
            net.prefix_len() < 31 && (net.broadcast() == address || net.network() == address)
        })
    }
}
