//! Removing entries by command, and those that a new configuration would not make.

use std::net::Ipv4Addr;

use super::decision::EspCounter;
use super::engine::Engine;
use super::table::Id;
use crate::snapshot::{InsideHost, VrfId};

/// Which entries a command means. An empty filter means all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EspFilter {
    /// Only of inside clients with this address.
    pub client: Option<Ipv4Addr>,
    /// Only of inside clients of this VRF.
    pub vrf: Option<VrfId>,
    /// Only of this global address.
    pub global: Option<Ipv4Addr>,
    /// Only of this peer.
    pub peer: Option<Ipv4Addr>,
    /// Only the tunnel with this outbound SPI.
    pub spi_out: Option<u32>,
    /// Only the tunnel with this inbound SPI.
    pub spi_in: Option<u32>,
}

/// A client, its peer and its global address: what a configuration allows or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationView {
    /// The inside client.
    pub client: InsideHost,
    /// The peer.
    pub peer: Ipv4Addr,
    /// The global address.
    pub global: Ipv4Addr,
}

impl EspFilter {
    fn takes(&self, view: &RelationView) -> bool {
        self.client.is_none_or(|a| a == view.client.address)
            && self.vrf.is_none_or(|vrf| vrf == view.client.vrf)
            && self.global.is_none_or(|a| a == view.global)
            && self.peer.is_none_or(|a| a == view.peer)
    }

    fn is_by_spi(&self) -> bool {
        self.spi_out.is_some() || self.spi_in.is_some()
    }
}

impl<T> Engine<T> {
    /// Removes the entries that `filter` means, with both halves of a tunnel; without SPIs also
    /// IKE entries. Looks at `work` places from `*cursor` on and moves it; returns how many
    /// entries went. Done when `*cursor` is [`Engine::relation_places`].
    pub fn clear(&mut self, filter: &EspFilter, cursor: &mut u32, work: usize) -> u64 {
        let mut gone = 0;
        for id in self.slice(cursor, work) {
            let Some(view) = self.relation_view(id).filter(|v| filter.takes(v)) else {
                continue;
            };
            if filter.is_by_spi() {
                gone += self.clear_by_spi(id, view.peer, filter);
            } else {
                gone += self.entries_of(id);
                self.remove_relation(id, EspCounter::Cleared);
            }
        }
        gone
    }

    /// Removes everything of clients and peers that `allowed` no longer allows, as
    /// [`Engine::clear`] does.
    pub fn reconcile(
        &mut self,
        allowed: impl Fn(&RelationView) -> bool,
        cursor: &mut u32,
        work: usize,
    ) -> u64 {
        let mut gone = 0;
        for id in self.slice(cursor, work) {
            if let Some(view) = self.relation_view(id)
                && !allowed(&view)
            {
                gone += self.entries_of(id);
                self.remove_relation(id, EspCounter::Reconciled);
            }
        }
        gone
    }

    /// Removes the IKE entry at a place; the tunnels of its client and peer stay.
    pub fn clear_flow(&mut self, place: u32) {
        if self.flows.is_live(place) {
            let relation = self.flows[place].relation;
            self.remove_flow(place);
            self.release_if_empty(relation);
        }
    }

    fn entries_of(&self, id: Id) -> u64 {
        let at = &self.relations[id];
        u64::from(at.outs.len + at.ins.len + at.flows.len)
    }

    /// Places of relations, filled or not: where the cursor of [`Engine::clear`] ends.
    #[must_use]
    pub fn relation_places(&self) -> u32 {
        self.relations.capacity() as u32
    }

    fn slice(&self, cursor: &mut u32, work: usize) -> std::ops::Range<Id> {
        let from = (*cursor).min(self.relation_places());
        let work = u32::try_from(work).unwrap_or(u32::MAX);
        let to = from.saturating_add(work).min(self.relation_places());
        *cursor = to;
        from..to
    }

    fn relation_view(&self, id: Id) -> Option<RelationView> {
        self.relations.is_live(id).then(|| {
            let (client, peer) = self.relations.key(id);
            RelationView {
                client,
                peer,
                global: self.relations[id].global,
            }
        })
    }

    fn clear_by_spi(&mut self, relation: Id, peer: Ipv4Addr, filter: &EspFilter) -> u64 {
        let (client, global) = (self.client_of(relation), self.relations[relation].global);
        let mut outs = [None; 2];
        let mut ins = [None; 2];
        if let Some(spi) = filter.spi_out {
            outs[0] = self.outs.find(&(client, peer, spi));
            ins[0] = outs[0].and_then(|o| self.partner_in(peer, &self.outs[o]));
        }
        if let Some(spi) = filter.spi_in {
            ins[1] = self
                .ins
                .find(&(peer, global, spi))
                .filter(|&i| self.ins[i].relation == relation);
            outs[1] = ins[1].and_then(|i| self.partner_out(peer, &self.ins[i]));
        }
        if outs[0] == outs[1] {
            outs[1] = None;
        }
        if ins[0] == ins[1] {
            ins[1] = None;
        }
        let mut gone = 0;
        for id in ins.into_iter().flatten() {
            self.remove_in(id);
            self.count(EspCounter::Cleared);
            gone += 1;
        }
        for id in outs.into_iter().flatten() {
            self.remove_out(id);
            self.count(EspCounter::Cleared);
            gone += 1;
        }
        if gone > 0 {
            self.release_if_empty(relation);
        }
        gone
    }
}
