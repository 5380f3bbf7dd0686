//! Whose packet an ICMP error quotes. Nothing changes here: errors are easily forged.

use std::net::Ipv4Addr;

use super::engine::Engine;
use crate::snapshot::InsideHost;

impl<T> Engine<T> {
    /// The client whose ESP packet with this SPI went from `global` to `peer`.
    #[must_use]
    pub fn sender_of(&self, peer: Ipv4Addr, global: Ipv4Addr, spi: u32) -> Option<InsideHost> {
        let group = self.groups.find(&(peer, global))?;
        self.relations
            .walk(&self.groups[group].relations)
            .take(self.limits.candidates as usize)
            .map(|relation| self.client_of(relation))
            .find(|client| {
                let half = self.outs.find(&(*client, peer, spi));
                half.is_some_and(|half| self.outs[half].global == global)
            })
    }

    /// The address by which `peer` knows `client`.
    #[must_use]
    pub fn global_of(&self, client: InsideHost, peer: Ipv4Addr) -> Option<Ipv4Addr> {
        let relation = self.relations.find(&(client, peer))?;
        Some(self.relations[relation].global)
    }

    /// The client and its port whose IKE went from `port` of `global` to the peer's port; `None`
    /// where several clients share that port.
    #[must_use]
    pub fn ike_sender_of(
        &self,
        peer: Ipv4Addr,
        global: Ipv4Addr,
        ports: (u16, u16),
    ) -> Option<(InsideHost, u16)> {
        let (peer_port, port) = ports;
        let shared = self.ports[self.ports.find(&(peer, global, peer_port, port))?];
        if shared.flows != 1 {
            return None;
        }
        let (client, _, client_port, _) = self.flows.key(shared.only);
        Some((client, client_port))
    }

    /// The outside address and port of a client's IKE: `ports` are the client's and the peer's.
    #[must_use]
    pub fn ike_global_of(
        &self,
        client: InsideHost,
        peer: Ipv4Addr,
        ports: (u16, u16),
    ) -> Option<(Ipv4Addr, u16)> {
        let flow = self.flows.find(&(client, peer, ports.0, ports.1))?;
        let global = self.relations[self.flows[flow].relation].global;
        Some((global, self.flows[flow].port))
    }
}
