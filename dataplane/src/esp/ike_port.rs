//! Outside ports for IKE, and ESP in UDP that shares them.

use std::net::Ipv4Addr;

use super::decision::{EspCounter, EspDrop};
use super::engine::Engine;
use super::ike::{IKE_PORT, NAT_T_PORT};
use super::ike_entry::{Flow, Port};
use super::ike_flow::IkePacket;
use super::policy::{Policy, Ports};
use super::table::{Id, NIL};
use crate::snapshot::InsideHost;
use crate::time::Millis;

/// Last of the low ports to which IKE is translated where its own is taken.
const LOW_PORT_LAST: u16 = 511;

impl<T> Engine<T> {
    pub(super) fn make_flow(
        &mut self,
        relation: Id,
        packet: &IkePacket,
        policy: &impl Policy,
        ports: &impl Ports,
    ) -> Result<Id, EspDrop> {
        let (client, peer) = self.relations.key(relation);
        let owner = self.relations[relation].client;
        if self.clients[owner].flows >= self.limits.client_ike_entries {
            return Err(EspDrop::ClientShare);
        }
        if self.flows.is_full() {
            return Err(EspDrop::IkeTableFull);
        }
        let global = self.relations[relation].global;
        let port = self.choose_port((client, peer, global), packet, policy, ports)?;
        let flow = Flow {
            relation,
            port,
            created: self.now,
            used: self.now,
            ..Flow::default()
        };
        let key = (client, peer, packet.source_port, packet.destination_port);
        let id = self.flows.insert(key, flow).ok_or(EspDrop::IkeTableFull)?;
        let place = (peer, global, packet.destination_port, port);
        let shared = self
            .ports
            .find(&place)
            .or_else(|| self.ports.insert(place, Port::default()));
        if let Some(shared) = shared {
            let shared = &mut self.ports[shared];
            shared.flows += 1;
            shared.only = if shared.flows == 1 { id } else { NIL };
        }
        self.clients[owner].flows += 1;
        self.flows.push(&mut self.relations[relation].flows, id);
        self.count(EspCounter::IkeEntries);
        Ok(id)
    }

    /// The client's own port if it is free, or shared where the client keeps its port; else a
    /// free one below 512.
    fn choose_port(
        &self,
        (client, peer, global): (InsideHost, Ipv4Addr, Ipv4Addr),
        packet: &IkePacket,
        policy: &impl Policy,
        ports: &impl Ports,
    ) -> Result<u16, EspDrop> {
        let own = packet.source_port;
        let theirs = packet.destination_port;
        if self.ports.find(&(peer, global, theirs, own)).is_some() {
            let is_ike = own == IKE_PORT || own == NAT_T_PORT;
            if is_ike && policy.preserve_port(client, peer) {
                return Ok(own);
            }
        } else if ports.is_free(global, peer, own) {
            return Ok(own);
        }
        let start = (u32::from(client.address) % u32::from(LOW_PORT_LAST)) as u16;
        (0..LOW_PORT_LAST)
            .map(|step| 1 + (start + step) % LOW_PORT_LAST)
            .filter(|&port| port != IKE_PORT)
            .find(|&port| {
                self.ports.find(&(peer, global, theirs, port)).is_none()
                    && ports.is_free(global, peer, port)
            })
            .ok_or(EspDrop::IkePortsExhausted)
    }

    /// The translation of ESP in UDP (port 4500) from inside: the IKE entry of the same sockets, if
    /// there is one and nobody shares its port. Else the packet is plain UDP with an entry of its
    /// own.
    pub fn encapsulated_out(
        &mut self,
        now: Millis,
        client: InsideHost,
        peer: Ipv4Addr,
        ports: (u16, u16),
    ) -> Option<(Ipv4Addr, u16)> {
        self.advance(now);
        let flow = self.flows.find(&(client, peer, ports.0, ports.1))?;
        let global = self.relations[self.flows[flow].relation].global;
        let port = self.flows[flow].port;
        let shared = self.ports.find(&(peer, global, ports.1, port))?;
        if self.ports[shared].flows != 1 {
            return None;
        }
        self.flows[flow].used = self.now;
        Some((global, port))
    }

    /// The same from outside: `ports` are the peer's and the outside port. The answer is the inside
    /// host and its port.
    pub fn encapsulated_in(
        &mut self,
        now: Millis,
        peer: Ipv4Addr,
        global: Ipv4Addr,
        ports: (u16, u16),
    ) -> Option<(InsideHost, u16)> {
        self.advance(now);
        let shared = self.ports.find(&(peer, global, ports.0, ports.1))?;
        let Port { flows: 1, only } = self.ports[shared] else {
            return None;
        };
        self.flows[only].used = self.now;
        let (client, _, port, _) = self.flows.key(only);
        Some((client, port))
    }

    /// Whether IKE uses an outside port towards a peer's port, so that nobody else may.
    #[must_use]
    pub fn holds_port(&self, global: Ipv4Addr, peer: Ipv4Addr, peer_port: u16, port: u16) -> bool {
        self.ports.find(&(peer, global, peer_port, port)).is_some()
    }

    /// Removes an IKE entry; its relation stays, perhaps empty.
    pub(super) fn remove_flow(&mut self, id: Id) {
        let flow = self.flows[id];
        let (_, peer, _, theirs) = self.flows.key(id);
        let relation = &mut self.relations[flow.relation];
        let (global, group, client) = (relation.global, relation.group, relation.client);
        self.flows.unlink(&mut relation.flows, id);
        if relation.last_flow == id {
            relation.last_flow = NIL;
        }
        self.flows.remove(id);
        self.clients[client].flows -= 1;
        let Some(port) = self.ports.find(&(peer, global, theirs, flow.port)) else {
            return;
        };
        self.ports[port].flows -= 1;
        match self.ports[port].flows {
            0 => self.ports.remove(port),
            1 => self.ports[port].only = self.flow_left(group, theirs, flow.port),
            _ => {}
        }
    }

    /// The one flow of a group on a port, after the others went.
    fn flow_left(&self, group: Id, theirs: u16, port: u16) -> Id {
        self.relations
            .walk(&self.groups[group].relations)
            .flat_map(|r| self.flows.walk(&self.relations[r].flows))
            .find(|&f| self.flows[f].port == port && self.flows.key(f).3 == theirs)
            .unwrap_or(NIL)
    }
}
