//! IKE through the translation: cookies, and the evidence that ESP needs.

use std::net::Ipv4Addr;

use super::decision::{EspCounter, EspDrop, IkeIn, IkeOut};
use super::engine::Engine;
use super::evidence::Expects;
use super::ike::{IkeHeader, exchange};
use super::ike_entry::{Sa, Step};
use super::policy::{Policy, Ports};
use super::table::Id;
use super::trace::{Basis, Candidates, Event, Verdict, What};
use crate::snapshot::InsideHost;
use crate::time::Millis;

/// An IKE message with its UDP ports, as they are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IkePacket {
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    /// The IKE header.
    pub header: IkeHeader,
}

impl<T> Engine<T> {
    /// Decides about an IKE message from `client` to `peer`.
    pub fn ike_out(
        &mut self,
        now: Millis,
        client: InsideHost,
        peer: Ipv4Addr,
        packet: &IkePacket,
        policy: &impl Policy,
        ports: &impl Ports,
    ) -> IkeOut {
        self.advance(now);
        let answer = self.ike_out_try((client, peer), packet, policy, ports);
        let (answer, verdict, global) = match answer {
            Ok((global, port)) => {
                let sent = IkeOut::Translate { global, port };
                (sent, Verdict::Translate, Some(global))
            }
            Err(reason) => {
                self.refuse(reason);
                (IkeOut::Drop(reason), Verdict::Drop(reason), None)
            }
        };
        let what = What::IkeOut(packet.header.initiator);
        self.tell_out((client, peer), global, what, verdict, Basis::Cookie);
        answer
    }

    fn ike_out_try(
        &mut self,
        key: (InsideHost, Ipv4Addr),
        packet: &IkePacket,
        policy: &impl Policy,
        ports: &impl Ports,
    ) -> Result<(Ipv4Addr, u16), EspDrop> {
        let (client, peer) = key;
        let place = (client, peer, packet.source_port, packet.destination_port);
        if self.flows.find(&place).is_none() && !policy.has_room() {
            return Err(EspDrop::MaxEntries);
        }
        let forced = policy.static_global(client);
        let mut relation = self.relation(client, peer, forced, policy)?;
        if packet.header.opens()
            && self.relations[relation].collided
            && self.rehome(relation, policy)
        {
            relation = self.relation(client, peer, forced, policy)?;
        }
        let global = self.relations[relation].global;
        let flow = match self.flows.find(&place) {
            Some(flow) => flow,
            None => match self.make_flow(relation, packet, policy, ports) {
                Ok(flow) => flow,
                Err(reason) => {
                    self.release_if_empty(relation);
                    return Err(reason);
                }
            },
        };
        self.flows[flow].used = self.now;
        self.relations[relation].last_flow = flow;
        let sa = self.sa_of_client(relation, &packet.header)?;
        if packet.header.responder != 0 {
            self.sas[sa].responder = packet.header.responder;
        }
        self.follow(sa, &packet.header, true);
        Ok((global, self.flows[flow].port))
    }

    /// The SA of a message from inside, made if it is new.
    fn sa_of_client(&mut self, relation: Id, header: &IkeHeader) -> Result<Id, EspDrop> {
        let peer = self.relations.key(relation).1;
        let key = (peer, self.relations[relation].global, header.initiator);
        if let Some(sa) = self.sas.find(&key) {
            if self.sas[sa].relation != relation {
                return Err(EspDrop::IkeCollision);
            }
            return Ok(sa);
        }
        if self.relations[relation].sas.len >= self.limits.relation_cookies {
            let oldest = self
                .sas
                .walk(&self.relations[relation].sas)
                .min_by_key(|&sa| self.sas[sa].used);
            if let Some(oldest) = oldest {
                self.remove_sa(oldest);
                self.count(EspCounter::IkeShareReused);
            }
        }
        let sa = Sa::new(relation, self.now);
        let id = self.sas.insert(key, sa).ok_or(EspDrop::IkeTableFull)?;
        self.sas.push(&mut self.relations[relation].sas, id);
        Ok(id)
    }

    fn follow(&mut self, sa: Id, header: &IkeHeader, from_client: bool) {
        let now = self.now;
        let window = self.limits.evidence_ms;
        self.sas[sa].used = now;
        let step = self.sas[sa].follow(header, from_client);
        let evidence = &mut self.relations[self.sas[sa].relation].evidence;
        match step {
            Step::Nothing => {}
            Step::Begins => evidence.begin(now),
            Step::Again => evidence.end(now, window, true),
            Step::Ends => {
                evidence.end(now, window, false);
                self.count(EspCounter::IkeExchanges);
            }
        }
    }

    /// Decides about an IKE message from `peer` to the global address `global`.
    pub fn ike_in(
        &mut self,
        now: Millis,
        peer: Ipv4Addr,
        global: Ipv4Addr,
        packet: &IkePacket,
    ) -> IkeIn {
        self.advance(now);
        let place = (peer, global, packet.source_port, packet.destination_port);
        let Some(port) = self.ports.find(&place) else {
            self.count(EspCounter::NotOurs);
            return IkeIn::NotOurs;
        };
        let (answer, basis) = match self.flow_of(peer, global, packet, port) {
            Ok((flow, basis)) => {
                let (client, _, client_port, _) = self.flows.key(flow);
                let port = client_port;
                (IkeIn::Deliver { client, port }, basis)
            }
            Err(reason) => {
                self.refuse(reason);
                (IkeIn::Drop(reason), Basis::None)
            }
        };
        self.tell(|engine| Event {
            at: engine.now,
            what: What::IkeIn(packet.header.initiator),
            client: match answer {
                IkeIn::Deliver { client, .. } => Some(client),
                _ => None,
            },
            peer,
            global: Some(global),
            candidates: Candidates::default(),
            verdict: match answer {
                IkeIn::Drop(reason) => Verdict::Drop(reason),
                _ => Verdict::Deliver,
            },
            basis,
        });
        answer
    }

    /// The flow of a message from outside: by cookie, else the only one, else by evidence, else
    /// one after the other. Only a known pair of cookies moves anything but the turn.
    fn flow_of(
        &mut self,
        peer: Ipv4Addr,
        global: Ipv4Addr,
        packet: &IkePacket,
        port: Id,
    ) -> Result<(Id, Basis), EspDrop> {
        let header = &packet.header;
        let shared = self.ports[port];
        let sa = self.sas.find(&(peer, global, header.initiator));
        if let Some(sa) = sa.filter(|&sa| self.accepts(sa, header))
            && let Some(flow) = self.flow_on(self.sas[sa].relation, packet)
        {
            if header.responder != 0 {
                self.sas[sa].responder = header.responder;
            }
            self.follow(sa, header, false);
            self.flows[flow].used = self.now;
            if shared.flows > 1 {
                self.count(EspCounter::IkeByCookie);
            }
            return Ok((flow, Basis::Cookie));
        }
        if shared.flows == 1 {
            return Ok((shared.only, Basis::OnlyClient));
        }
        let Some(group) = self.groups.find(&(peer, global)) else {
            return Err(EspDrop::IkeTries);
        };
        if !header.opens()
            && let Some(flow) = self.flow_by_evidence(group, packet)
        {
            return Ok((flow, Basis::IkeEnded));
        }
        self.flow_in_turn(group, packet, shared.flows)
            .map(|flow| (flow, Basis::InTurn))
    }

    /// Whether a message from outside fits what is known of the responder's cookie.
    fn accepts(&self, sa: Id, header: &IkeHeader) -> bool {
        let known = self.sas[sa].responder;
        let first = matches!(
            header.exchange,
            exchange::MAIN | exchange::AGGRESSIVE | exchange::SA_INIT
        );
        known == 0 || header.responder == known || first
    }

    fn flow_on(&self, relation: Id, packet: &IkePacket) -> Option<Id> {
        self.flows.walk(&self.relations[relation].flows).find(|&f| {
            self.flows[f].port == packet.destination_port
                && self.flows.key(f).3 == packet.source_port
        })
    }

    fn candidates_of(&self, group: Id) -> impl Iterator<Item = Id> {
        let relations = &self.groups[group].relations;
        self.relations
            .walk(relations)
            .take(self.limits.candidates as usize)
    }

    fn flow_by_evidence(&self, group: Id, packet: &IkePacket) -> Option<Id> {
        let window = self.limits.evidence_ms;
        let mut ended = self
            .candidates_of(group)
            .filter(|&r| self.relations[r].evidence.expects(self.now, window) == Expects::Ended);
        let only = ended.next()?;
        if ended.next().is_some() {
            return None;
        }
        self.flow_on(only, packet)
    }

    fn flow_in_turn(&mut self, group: Id, packet: &IkePacket, flows: u32) -> Result<Id, EspDrop> {
        let now = self.now;
        let limit = self.limits.ike_tries;
        let at = &mut self.groups[group];
        if now.since(at.tries_since) >= 1000 {
            at.tries_since = now;
            at.tries = 0;
        }
        if at.tries >= limit {
            return Err(EspDrop::IkeTries);
        }
        at.tries += 1;
        let turn = at.turn;
        at.turn = at.turn.wrapping_add(1);
        let nth = (turn % flows) as usize;
        let flow = self
            .candidates_of(group)
            .filter_map(|r| self.flow_on(r, packet))
            .nth(nth);
        self.count(EspCounter::IkeInTurn);
        flow.ok_or(EspDrop::IkeTries)
    }

    pub(super) fn remove_sa(&mut self, id: Id) {
        let relation = self.sas[id].relation;
        self.sas.unlink(&mut self.relations[relation].sas, id);
        self.sas.remove(id);
    }
}
