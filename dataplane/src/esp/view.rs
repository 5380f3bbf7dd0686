//! What `show ip nat translations esp` shows, and the dry run of `explain`.

use std::net::Ipv4Addr;

use super::decision::{EspDrop, Method};
use super::engine::Engine;
use super::half::HalfState;
use super::policy::Policy;
use super::spi_match;
use super::table::Id;
use super::trace::{Basis, Candidates};
use crate::snapshot::InsideHost;
use crate::time::Millis;

/// A half-entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfView {
    /// The inside client.
    pub client: InsideHost,
    /// Its global address.
    pub global: Ipv4Addr,
    /// The peer.
    pub peer: Ipv4Addr,
    /// The SPI of packets going out; of an inbound half, its partner's if known.
    pub spi_out: Option<u32>,
    /// The SPI of packets coming in; of an outbound half, its partner's if known.
    pub spi_in: Option<u32>,
    /// Which of the two it is.
    pub is_inbound: bool,
    /// Where it stands; an inbound half is open until it is proven.
    pub state: HalfState,
    /// How it was paired, if it was.
    pub method: Option<Method>,
    /// Milliseconds since it was made.
    pub age_ms: u64,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
    /// Its timer; `None` means never.
    pub timeout_ms: Option<u64>,
    /// The client's IKE with the peer, if it was seen.
    pub ike: Option<IkeView>,
    /// Its number, unique among the engine's halves of this kind while it lives.
    pub id: u32,
}

/// The IKE of a client and a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IkeView {
    /// The cookies of the IKE SA that was used last: the initiator's and the responder's, 0 where
    /// unknown.
    pub cookies: (u64, u64),
    /// The client's port, the outside port and the peer's.
    pub ports: Option<(u16, u16, u16)>,
    /// Exchanges seen that could make IPsec SAs.
    pub exchanges: u32,
    /// SAs of these that ESP has not shown yet.
    pub unpaired: u32,
    /// Milliseconds since the last of these exchanges ended.
    pub ended_ms: Option<u64>,
}

/// An IKE entry: a client's socket, a peer's, and the outside one between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowView {
    /// The inside client and its port.
    pub client: (InsideHost, u16),
    /// Its global address and outside port.
    pub global: (Ipv4Addr, u16),
    /// The peer and its port.
    pub peer: (Ipv4Addr, u16),
    /// Milliseconds since it was made.
    pub age_ms: u64,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
    /// Its timer; `None` means never.
    pub timeout_ms: Option<u64>,
    /// Its number, unique among the engine's IKE entries while it lives.
    pub id: u32,
}

/// What would happen to a packet now, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it is about a packet from the peer; else from the client.
    pub is_inbound: bool,
    /// The client to whom it would go, or from whom it would come.
    pub client: Option<InsideHost>,
    /// The global address.
    pub global: Option<Ipv4Addr>,
    /// What would happen.
    pub fate: Fate,
    /// On which evidence; an established half is [`Basis::None`] with [`Fate::Established`].
    pub basis: Basis,
    /// How the established half was paired.
    pub method: Option<Method>,
    /// Who would come into question.
    pub candidates: Candidates,
}

/// What would happen to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It belongs to a half that stands.
    Established,
    /// It would make a half, or be delivered.
    Passes,
    /// It would be held.
    Held,
    /// It would be dropped.
    Dropped(EspDrop),
    /// No client talks to that peer through that address.
    NotOurs,
}

impl<T> Engine<T> {
    /// Places of halves, filled or not: outbound ones first, then inbound ones.
    #[must_use]
    pub fn half_places(&self) -> u32 {
        2 * self.outs.capacity() as u32
    }

    /// The half at a place, for showing a table slice by slice.
    #[must_use]
    pub fn half_at(&self, now: Millis, place: u32) -> Option<HalfView> {
        let outs = self.outs.capacity() as u32;
        if place < outs {
            return self.outs.is_live(place).then(|| self.out_view(now, place));
        }
        let place = place - outs;
        self.ins.is_live(place).then(|| self.in_view(now, place))
    }

    /// Places of IKE entries, filled or not.
    #[must_use]
    pub fn flow_places(&self) -> u32 {
        self.flows.capacity() as u32
    }

    /// The IKE entry at a place.
    #[must_use]
    pub fn flow_at(&self, now: Millis, place: u32) -> Option<FlowView> {
        if !self.flows.is_live(place) {
            return None;
        }
        let flow = &self.flows[place];
        let (client, peer, client_port, peer_port) = self.flows.key(place);
        Some(FlowView {
            client: (client, client_port),
            global: (self.relations[flow.relation].global, flow.port),
            peer: (peer, peer_port),
            age_ms: now.since(flow.created),
            idle_ms: now.since(flow.used),
            timeout_ms: self.timers.ike_ms,
            id: place,
        })
    }

    /// All halves.
    pub fn halves(&self, now: Millis) -> impl Iterator<Item = HalfView> {
        (0..self.half_places()).filter_map(move |place| self.half_at(now, place))
    }

    fn out_view(&self, now: Millis, id: Id) -> HalfView {
        let out = &self.outs[id];
        let (client, peer, spi) = self.outs.key(id);
        HalfView {
            client,
            global: out.global,
            peer,
            spi_out: Some(spi),
            spi_in: (out.partner != 0).then_some(out.partner),
            is_inbound: false,
            state: out.state,
            method: out.method,
            age_ms: now.since(out.created),
            idle_ms: now.since(out.used),
            timeout_ms: self.timers.esp_ms,
            ike: self.ike_view(now, out.relation),
            id,
        }
    }

    fn in_view(&self, now: Millis, id: Id) -> HalfView {
        let inbound = &self.ins[id];
        let (peer, global, spi) = self.ins.key(id);
        HalfView {
            client: inbound.client,
            global,
            peer,
            spi_out: (inbound.partner != 0).then_some(inbound.partner),
            spi_in: Some(spi),
            is_inbound: true,
            state: if inbound.confirmed {
                HalfState::Paired
            } else {
                HalfState::Open
            },
            method: Some(inbound.method),
            age_ms: now.since(inbound.created),
            idle_ms: now.since(inbound.used),
            timeout_ms: self.timers.esp_ms,
            ike: self.ike_view(now, inbound.relation),
            id,
        }
    }

    fn ike_view(&self, now: Millis, relation: Id) -> Option<IkeView> {
        let at = &self.relations[relation];
        let latest = self.sas.walk(&at.sas).max_by_key(|&sa| self.sas[sa].used)?;
        let flow = self.flows.is_live(at.last_flow).then(|| {
            let (_, _, client_port, peer_port) = self.flows.key(at.last_flow);
            (client_port, self.flows[at.last_flow].port, peer_port)
        });
        Some(IkeView {
            cookies: (self.sas.key(latest).2, self.sas[latest].responder),
            ports: flow,
            exchanges: at.evidence.exchanges,
            unpaired: at.evidence.unpaired(now, self.limits.evidence_ms),
            ended_ms: at.evidence.ended().map(|ended| now.since(ended)),
        })
    }

    /// Places that [`Engine::explain`] looks at: outbound halves, then peers with their addresses.
    #[must_use]
    pub fn explain_places(&self) -> u32 {
        (self.outs.capacity() + self.groups.capacity()) as u32
    }

    /// What would happen to an ESP packet of `peer` with this SPI and sequence number, as far as one
    /// place tells: from a client that sends it, or to a global address through which clients talk
    /// to the peer. Changes nothing. `policy` as in [`Engine::inbound_esp`].
    #[must_use]
    pub fn explain(
        &self,
        now: Millis,
        place: u32,
        peer: Ipv4Addr,
        (spi, sequence): (u32, u32),
        policy: &impl Policy,
    ) -> Option<Explanation> {
        let Some(group) = place.checked_sub(self.outs.capacity() as u32) else {
            return self.explain_out(place, peer, spi);
        };
        if !self.groups.is_live(group) {
            return None;
        }
        let (of, global) = self.groups.key(group);
        (of == peer).then(|| self.explain_in(now, group, global, (spi, sequence), policy))
    }

    /// What would happen to a packet from `peer` to a global address that no client of it uses.
    #[must_use]
    pub fn explain_stranger(global: Option<Ipv4Addr>, policy: &impl Policy) -> Explanation {
        match global.and_then(|global| policy.static_esp(global)) {
            Some(host) => plain(Some(host), global, Fate::Passes, Basis::Static),
            None => plain(None, global, Fate::NotOurs, Basis::None),
        }
    }

    fn explain_out(&self, place: Id, peer: Ipv4Addr, spi: u32) -> Option<Explanation> {
        if !self.outs.is_live(place) {
            return None;
        }
        let (client, to, out_spi) = self.outs.key(place);
        let out = &self.outs[place];
        let (fate, basis) = match out.state {
            HalfState::Queued => (Fate::Held, Basis::OtherWaits),
            HalfState::Open | HalfState::Paired => (Fate::Established, Basis::None),
        };
        (to == peer && out_spi == spi).then(|| Explanation {
            is_inbound: false,
            client: Some(client),
            global: Some(out.global),
            fate,
            basis,
            method: out.method,
            candidates: Candidates::default(),
        })
    }

    fn explain_in(
        &self,
        now: Millis,
        group: Id,
        global: Ipv4Addr,
        (spi, sequence): (u32, u32),
        policy: &impl Policy,
    ) -> Explanation {
        let peer = self.groups.key(group).0;
        let at = Some(global);
        if spi_match::is_reserved(spi) {
            let drop = Fate::Dropped(EspDrop::ReservedSpi);
            return plain(None, at, drop, Basis::None);
        }
        if let Some(id) = self.ins.find(&(peer, global, spi)) {
            let client = Some(self.ins[id].client);
            return Explanation {
                method: Some(self.ins[id].method),
                ..plain(client, at, Fate::Established, Basis::None)
            };
        }
        if let Some(host) = policy.static_esp(global) {
            return plain(Some(host), at, Fate::Passes, Basis::Static);
        }
        if let Some(out) = self.predicted_out(peer, global, spi, policy.spi_key()) {
            let client = self.client_of(self.outs[out].relation);
            return plain(Some(client), at, Fate::Passes, Basis::SpiMatch);
        }
        let choice = self.choose(group, sequence, now.max(self.now));
        let only = self.groups[group].relations.len == 1;
        let (client, fate, basis) = match choice.relation {
            Some(relation) => (Some(relation), Fate::Passes, choice.basis),
            None if only => {
                let only = self.groups[group].relations.head;
                (Some(only), Fate::Passes, Basis::OnlyClient)
            }
            None if choice.candidates.count == 0 => {
                (None, Fate::Dropped(EspDrop::UnknownSpi), Basis::None)
            }
            None => (None, Fate::Held, Basis::None),
        };
        Explanation {
            candidates: choice.candidates,
            ..plain(client.map(|c| self.client_of(c)), at, fate, basis)
        }
    }
}

fn plain(
    client: Option<InsideHost>,
    global: Option<Ipv4Addr>,
    fate: Fate,
    basis: Basis,
) -> Explanation {
    Explanation {
        is_inbound: true,
        client,
        global,
        fate,
        basis,
        method: None,
        candidates: Candidates::default(),
    }
}
