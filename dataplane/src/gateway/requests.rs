//! What control asks of a worker, done a slice a poll.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;

use super::access::{may_come, may_go};
use super::create::{exit_of, has_address, rule_of, subject};
use super::explain::packet_of;
use super::explain_outside::{Scan, scan_lent};
use super::forward::next_hop;
use super::inside_destination;
use super::ipsec_policy::{rule_for, still_allows};
use super::outside_source::{last_used, still_known, still_lends};
use super::{Gateway, Spare};
use crate::command::{
    Endpoint, Explained, FlowQuery, Query, Reply, Request, SessionFilter, SessionView,
};
use crate::esp::{EspFilter, FlowView, HalfView, PeerView, RelationView};
use crate::nat::{Rule, Static};
use crate::packet::Packet;
use crate::session::{Direction, Key, Session, flag, port_space};
use crate::snapshot::{Snapshot, VrfId, WorkerId};
use crate::stats::Counter;
use crate::time::{Millis, Tick};
use crate::wire::{Ipv4, PROTO_ESP, PROTO_UDP};

/// How many places before its turn comes the memory is asked for what an entry touches: in a busy round, a round before.
const AHEAD: u32 = Spare::Little.places();

/// A request in progress: how far it is, and what it is.
#[derive(Debug)]
pub(super) struct Work {
    cursor: u32,
    /// The same in the ESP engine's tables, whose turn comes after the table of entries.
    esp_cursor: u32,
    count: u64,
    task: Task,
}

#[derive(Debug)]
enum Task {
    Sessions(SessionFilter, Arc<Reply<SessionView>>),
    Peers(Arc<Reply<PeerView>>),
    Clear(SessionFilter, Arc<Reply<u64>>),
    Reconcile(Judged, Arc<Reply<u64>>),
    Explain(Query, Arc<Reply<Explained>>),
}

/// Which entries are held against the present policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    All,
    /// Those whose packets have a way.
    OnAWay,
}

impl<P: Packet> Gateway<P> {
    /// Whether a request is in progress: the next one must wait.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.work.is_some()
    }

    /// Begins a request. Histograms are the worker's own; such a request changes nothing here.
    pub fn begin(&mut self, request: Request) {
        let entries = self.table.capacity() as u64;
        let mut from = 0;
        let task = match request {
            Request::Sessions(filter, place, reply) => {
                from = place;
                Task::Sessions(filter, reply)
            }
            // After the places of the table of entries, which has none.
            Request::Peers(place, reply) => {
                from = entries.saturating_add(place);
                Task::Peers(reply)
            }
            Request::Clear(filter, reply) => Task::Clear(filter, reply),
            Request::Reconcile(reply) => Task::Reconcile(Judged::All, reply),
            Request::Reroute(reply) => Task::Reconcile(Judged::OnAWay, reply),
            Request::Explain(query, reply) => Task::Explain(query, reply),
            Request::Histograms(..) => return,
        };
        self.work = Some(Work {
            cursor: from.min(entries) as u32,
            esp_cursor: from.saturating_sub(entries).min(u64::from(u32::MAX)) as u32,
            count: 0,
            task,
        });
    }

    /// Goes on with the request in progress, if there is one.
    pub fn serve(&mut self, now: Millis, snapshot: &Snapshot, spare: Spare) {
        if let Some(work) = self.work.take() {
            self.go_on(now, snapshot, spare, work);
            self.census.tell(now);
        }
    }

    fn go_on(&mut self, now: Millis, snapshot: &Snapshot, spare: Spare, mut work: Work) {
        if let Task::Explain(query, reply) = &work.task {
            let progress = (&mut work.esp_cursor, &mut work.count);
            if self.explain(now, snapshot, query, progress, reply) {
                reply.go_on();
                self.work = Some(work);
            } else {
                reply.finish();
            }
            return;
        }
        if let Task::Peers(reply) = &work.task {
            if self.peers(&mut work.esp_cursor, spare.places(), reply) {
                reply.go_on();
                self.work = Some(work);
            }
            return;
        }
        let end = work
            .cursor
            .saturating_add(spare.places())
            .min(self.table.capacity() as u32);
        while work.cursor < end {
            let at = work.cursor;
            match &work.task {
                Task::Sessions(_, reply) if reply.is_abandoned() => return,
                Task::Sessions(filter, reply) => {
                    if !reply.has_room() {
                        break;
                    }
                    self.copy_out(now, snapshot, at, filter, reply);
                }
                Task::Clear(filter, _) => {
                    self.table.prefetch_around(at + AHEAD);
                    work.count += u64::from(self.clear(now, snapshot, at, filter));
                }
                Task::Reconcile(judged, _) => {
                    self.table.prefetch_around(at + AHEAD);
                    let is_gone = self.reconcile(now, snapshot, at, *judged);
                    work.count += u64::from(is_gone);
                }
                Task::Explain(..) | Task::Peers(_) => return, // answered above
            }
            work.cursor += 1;
        }
        let more = (work.cursor as usize) < self.table.capacity()
            || self.serve_esp(now, snapshot, &mut work, spare.places());
        match &work.task {
            Task::Sessions(_, reply) if more && !reply.has_room() => {
                reply.finish_at(u64::from(work.cursor) + u64::from(work.esp_cursor));
                return;
            }
            Task::Sessions(_, reply) if more => reply.go_on(),
            Task::Sessions(_, reply) => reply.finish(),
            Task::Clear(_, reply) | Task::Reconcile(_, reply) if more => reply.go_on(),
            Task::Clear(_, reply) | Task::Reconcile(_, reply) => {
                // The requester made room for this one answer.
                let _ = reply.give(work.count);
                reply.finish();
            }
            Task::Explain(..) | Task::Peers(_) => {}
        }
        self.work = Some(work).filter(|_| more);
    }

    /// A slice of a dry run; whether there is more. That of a flow looks at few entries.
    fn explain(
        &self,
        now: Millis,
        snapshot: &Snapshot,
        query: &Query,
        progress: (&mut u32, &mut u64),
        reply: &Reply<Explained>,
    ) -> bool {
        match query {
            Query::Esp { peer, spi } => {
                self.explain_esp(now, snapshot, (*peer, *spi), progress, reply)
            }
            Query::Flow(query) => {
                let host = query.source.0.to_bits();
                let lent = match scan_lent(snapshot, host, progress.0) {
                    Scan::More => return !reply.is_abandoned(),
                    Scan::Done(lent) => lent,
                };
                if let Some(explained) = self.explain_flow(now, snapshot, query, lent) {
                    let _ = reply.give(Explained::Flow(explained));
                }
                false
            }
        }
    }

    /// A slice of the peers; whether there is more. The reply is finished where not.
    fn peers(&self, at: &mut u32, slice: u32, reply: &Reply<PeerView>) -> bool {
        let places = self.esp.peer_places();
        let end = at.saturating_add(slice).min(places);
        while *at < end {
            if !reply.has_room() {
                reply.finish_at(u64::from(*at));
                return false;
            }
            if let Some(peer) = self.esp.peer_at(*at) {
                // There is room: this worker alone fills the queue, and it was asked before.
                let _ = reply.give(peer);
            }
            *at += 1;
        }
        if *at >= places {
            reply.finish();
        }
        *at < places && !reply.is_abandoned()
    }

    /// A slice of the request in the ESP engine's tables; whether there is more.
    fn serve_esp(&mut self, now: Millis, snapshot: &Snapshot, work: &mut Work, slice: u32) -> bool {
        let at = &mut work.esp_cursor;
        match &work.task {
            Task::Sessions(filter, reply) => {
                let places = self.esp.half_places() + self.esp.flow_places();
                let end = at.saturating_add(slice).min(places);
                while *at < end && reply.has_room() {
                    let view = self.ipsec_view(now, snapshot, *at);
                    if let Some(view) = view.filter(|view| filter.matches(view)) {
                        // There is room: this worker alone fills the queue, and it was asked before.
                        let _ = reply.give(view);
                    }
                    *at += 1;
                }
                return *at < places;
            }
            Task::Clear(filter, _) => {
                let relations = self.esp.relation_places();
                let gone = match esp_filter(filter) {
                    Some(filter) if *at < relations => self.esp.clear(&filter, at, slice as usize),
                    _ => {
                        *at = (*at).max(relations);
                        let place = *at - relations;
                        *at += slice;
                        self.clear_flows(now, filter, place..place + slice)
                    }
                };
                self.stats.add(Counter::Cleared, gone);
                self.count_ipsec(now);
                work.count += gone;
                return *at < relations + self.esp.flow_places();
            }
            Task::Reconcile(judged, _) => {
                let has_way = |view: &RelationView| {
                    next_hop(snapshot, view.client.vrf, view.peer.to_bits()).is_some()
                };
                let is_judged = |view: &_| *judged == Judged::All || has_way(view);
                let allowed = |view: &_| !is_judged(view) || still_allows(snapshot, view);
                let gone = self.esp.reconcile(allowed, at, slice as usize);
                self.stats.add(Counter::Withdrawn, gone);
                self.count_ipsec(now);
                work.count += gone;
            }
            Task::Explain(..) | Task::Peers(_) => return false,
        }
        *at < self.esp.relation_places()
    }

    /// The engine's entry at a place: halves first, then IKE entries.
    fn ipsec_view(&self, now: Millis, snapshot: &Snapshot, place: u32) -> Option<SessionView> {
        let me = self.options.me;
        let halves = self.esp.half_places();
        let view = match place.checked_sub(halves) {
            None => half_view(self.esp.half_at(now, place)?, me),
            Some(place) => flow_view(self.esp.flow_at(now, place)?, me),
        };
        Some(SessionView {
            rule: ipsec_rule(snapshot, &view),
            ..view
        })
    }

    fn clear_flows(&mut self, now: Millis, filter: &SessionFilter, places: Range<u32>) -> u64 {
        let mut gone = 0;
        for place in places.start..places.end.min(self.esp.flow_places()) {
            let view = self.esp.flow_at(now, place);
            let view = view.map(|flow| flow_view(flow, self.options.me));
            if view.is_some_and(|view| filter.matches(&view)) {
                self.esp.clear_flow(place);
                gone += 1;
            }
        }
        gone
    }

    fn copy_out(
        &self,
        now: Millis,
        snapshot: &Snapshot,
        at: u32,
        filter: &SessionFilter,
        reply: &Reply<SessionView>,
    ) {
        if let Some(session) = self.table.at(at) {
            let view = view(session, now, snapshot, self.options.me);
            if filter.matches(&view) {
                // There is room: this worker alone fills the queue, and it was asked before.
                let _ = reply.give(view);
            }
        }
    }

    fn clear(&mut self, now: Millis, snapshot: &Snapshot, at: u32, filter: &SessionFilter) -> bool {
        let Some(session) = self.table.at(at) else {
            return false;
        };
        if session.is_mapping() {
            return false; // it goes with the last of its entries
        }
        // What names a mapping means that alone, not what is under it.
        let is_child = session.flags & flag::MAPPED != 0;
        let is_kept = is_child && filter.names_endpoint() && !filter.forced;
        let meant = !is_kept && filter.matches(&view(session, now, snapshot, self.options.me));
        if meant {
            self.remove_entry(snapshot, at);
            self.stats.count(Counter::Cleared);
        }
        meant
    }

    /// Removes an entry that the present policy would not make; otherwise sets its timer anew,
    /// since timers may have changed too.
    fn reconcile(&mut self, now: Millis, snapshot: &Snapshot, at: u32, judged: Judged) -> bool {
        let Some(session) = self.table.at(at) else {
            return false;
        };
        let nat = &snapshot.nat;
        if session.is_mapping() {
            return false; // it goes with the last of its entries
        }
        if judged == Judged::OnAWay && !has_way(snapshot, session) {
            return false;
        }
        let keeps = if session.is_outside_entry() {
            let (local, host) = (session.outside_local(), session.outside_global());
            let (local, host) = (local.address.to_bits(), host.address.to_bits());
            still_lends(snapshot, local, host).map(|rule| rule.id)
        } else if session.is_shared() {
            inside_destination::keeps(snapshot, session)
        } else {
            let keeps = rule_that_keeps(snapshot, self.options.me, session);
            let keeps = keeps.filter(|rule| self.keeps_mapping(nat, at, rule));
            keeps.map(|rule| rule.id)
        };
        let Some(rule) = keeps else {
            self.remove_entry(snapshot, at);
            self.stats.count(Counter::Withdrawn);
            return true;
        };
        let session = self.table.session_mut(at);
        session.rule = rule;
        self.table.rearm(at, now.tick(), &nat.timers);
        false
    }
}

/// Whether what an entry's inside host sends has a way at present. An entry of a host as a whole has none of its
/// own, nor has one whose packets come in again.
fn has_way(snapshot: &Snapshot, session: &Session) -> bool {
    session.is_address_entry()
        || session.is_outside_entry()
        || session.flags & flag::HAIRPIN != 0
        || exit_of(snapshot, session).is_some()
}

/// The rule for inside hosts under which an entry may stay.
pub(super) fn rule_that_keeps<'a>(
    snapshot: &'a Snapshot,
    me: WorkerId,
    session: &Session,
) -> Option<&'a Rule> {
    let nat = &snapshot.nat;
    let (inside, host) = (session.outside_local(), session.outside_global());
    let (inside, host) = (inside.address.to_bits(), host.address.to_bits());
    let has_host = !session.is_address_entry() && session.flags & flag::HAIRPIN == 0;
    if has_host && !still_known(snapshot, session.vrf, inside, host) {
        return None;
    }
    let (local, global) = (session.inside_local(), session.inside_global());
    let port = |port: u16| port_space(session.protocol).map(|_| port);
    let takes = |fixed: &Static| {
        // One with a route map leaves to others what the map denies.
        let Some((ip, key)) = first_packet(session) else {
            return fixed.only.is_none();
        };
        let exit = exit_of(snapshot, session).map(|hop| hop.to);
        fixed.applies(|| subject(&ip, key), exit)
    };
    let outranked = nat
        .static_from_inside(
            session.inside_host(),
            session.protocol,
            port(local.port),
            takes,
        )
        .is_some()
        || nat
            .static_to_global(global.address, session.protocol, port(global.port))
            .is_some();
    if outranked {
        return None;
    }
    rule_of(snapshot, session)
        .filter(|_| is_permitted(snapshot, session))
        .filter(|rule| has_address(nat, me, rule, session))
}

/// Whether access groups would let the first packet of an entry pass, as far as the entry shows it.
fn is_permitted(snapshot: &Snapshot, session: &Session) -> bool {
    if session.flags & flag::FROM_OUTSIDE != 0 {
        return may_come_in(snapshot, session);
    }
    let Some(came) = first_packet(session) else {
        return true;
    };
    let (ip, key) = came;
    let port_to = |address| next_hop(snapshot, session.vrf, address).map(|hop| hop.to.port);
    let comes = port_to(key.src).is_none_or(|port| may_come(snapshot, port, &ip, key, false));
    let to = session.rewrite(Direction::Out).to();
    let is_hairpin = session.flags & flag::HAIRPIN != 0;
    let exit = || exit_of(snapshot, session).map(|hop| hop.to.port);
    let goes = || exit().is_none_or(|port| may_go(snapshot, port, &ip, to, false));
    comes && (is_hairpin || goes())
}

/// The packet that made an entry, as it came; `None` for an address entry, whose packets are all
/// judged one by one.
fn first_packet(session: &Session) -> Option<(Ipv4, Key)> {
    if session.is_address_entry() {
        return None;
    }
    let key = session.keys[Direction::Out as usize];
    Some((packet_like(session.vrf, session.protocol, key), key))
}

/// A small packet with these ends.
pub(super) fn packet_like(vrf: VrfId, protocol: u8, key: Key) -> Ipv4 {
    packet_of(&FlowQuery {
        vrf,
        protocol,
        source: (Ipv4Addr::from_bits(key.src), key.sport),
        destination: (Ipv4Addr::from_bits(key.dst), key.dport),
    })
}

/// [`is_permitted`] for an entry that a packet from outside made.
fn may_come_in(snapshot: &Snapshot, session: &Session) -> bool {
    let key = session.keys[Direction::In as usize];
    let ip = packet_like(VrfId::GLOBAL, session.protocol, key);
    let port_to = |address| next_hop(snapshot, session.vrf, address).map(|hop| hop.to.port);
    let comes = || port_to(key.src).is_none_or(|port| may_come(snapshot, port, &ip, key, false));
    let to = session.rewrite(Direction::In).to();
    let goes = || port_to(to.dst).is_none_or(|port| may_go(snapshot, port, &ip, to, false));
    (session.flags & flag::HAIRPIN != 0 || comes()) && goes()
}

/// The engine's filter for the same entries; `None` where no ESP is meant.
fn esp_filter(filter: &SessionFilter) -> Option<EspFilter> {
    let sides = [
        filter.inside_local,
        filter.inside_global,
        filter.outside_global.or(filter.outside_local),
    ];
    if filter
        .outside_local
        .is_some_and(|local| Some(local) != sides[2])
    {
        return None; // nobody's ESP is known by two addresses
    }
    let has_ports = sides.iter().flatten().any(|side| side.1.is_some());
    let is_esp = filter.protocol.is_none_or(|p| p == PROTO_ESP);
    let [client, global, peer] = sides.map(|side| side.map(|(address, _)| address));
    (is_esp && !has_ports).then_some(EspFilter {
        client,
        global,
        peer,
        spi_out: filter.spi_out,
        spi_in: filter.spi_in,
        vrf: filter.vrf,
    })
}

/// The dynamic mapping that a client of ESP or IKE falls under now; 0 where it has a static.
fn ipsec_rule(snapshot: &Snapshot, view: &SessionView) -> u16 {
    let (from, to) = (view.inside_local, view.outside_global);
    let key = Key {
        src: from.address.to_bits(),
        dst: to.map_or(0, |to| to.address.to_bits()),
        sport: from.port,
        dport: to.map_or(0, |to| to.port),
    };
    rule_for(snapshot, view.vrf, view.protocol, key).map_or(0, |rule| rule.id)
}

fn half_view(half: HalfView, worker: WorkerId) -> SessionView {
    let at = |address| Endpoint { address, port: 0 };
    SessionView {
        vrf: half.client.vrf,
        protocol: PROTO_ESP,
        children: None,
        inside_local: at(half.client.address),
        inside_global: at(half.global),
        outside_local: Some(at(half.peer)),
        outside_global: Some(at(half.peer)),
        age_ms: half.age_ms,
        idle_ms: half.idle_ms,
        timeout_ms: half.timeout_ms,
        tcp: None,
        is_shared: false,
        half: Some(half),
        rule: 0,
        id: half.id,
        worker,
    }
}

fn flow_view(flow: FlowView, worker: WorkerId) -> SessionView {
    let at = |(address, port)| Endpoint { address, port };
    SessionView {
        vrf: flow.client.0.vrf,
        protocol: PROTO_UDP,
        children: None,
        inside_local: at((flow.client.0.address, flow.client.1)),
        inside_global: at(flow.global),
        outside_local: Some(at(flow.peer)),
        outside_global: Some(at(flow.peer)),
        age_ms: flow.age_ms,
        idle_ms: flow.idle_ms,
        timeout_ms: flow.timeout_ms,
        tcp: None,
        is_shared: false,
        half: None,
        rule: 0,
        id: flow.id,
        worker,
    }
}

pub(super) fn view(
    session: &Session,
    now: Millis,
    snapshot: &Snapshot,
    worker: WorkerId,
) -> SessionView {
    let ms = |ticks: u32| u64::from(ticks) << Tick::SHIFT;
    let has_outside =
        (!session.is_address_entry() || session.is_outside_entry()) && !session.is_mapping();
    let timeout = session.timeout(&snapshot.nat.timers);
    SessionView {
        vrf: session.vrf,
        protocol: session.protocol,
        children: session.children(),
        inside_local: session.inside_local(),
        inside_global: session.inside_global(),
        outside_local: has_outside.then(|| session.outside_local()),
        outside_global: has_outside.then(|| session.outside_global()),
        age_ms: ms(now.tick().since(session.created)),
        idle_ms: ms(now.tick().since(last_used(snapshot, session, now.tick()))),
        timeout_ms: (timeout != u32::MAX).then(|| ms(timeout)),
        tcp: session.tcp_state(),
        is_shared: session.is_shared(),
        half: None,
        rule: session.rule,
        id: session.id,
        worker,
    }
}
