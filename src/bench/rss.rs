//! The queue to which a network card takes a packet, and what workers are told of it.

use std::net::Ipv4Addr;

use spillway_dataplane::gateway::worker_of_peer;
use spillway_dataplane::rss::{Fields, KEY, PLACES, Spread, Steering};
use spillway_dataplane::snapshot::{PortId, WorkerId};
use spillway_dataplane::wire::PROTO_ESP;
use spillway_dataplane::wire::head::{Head, mac_word};

use super::rig::{INSIDE, OUTSIDE};

/// A card that spreads over so many workers by `fields`. The error is one sentence.
fn card(fields: Fields, workers: u8) -> Result<Spread, String> {
    let table: Vec<WorkerId> = Spread::in_turn(PLACES, u16::from(workers))
        .iter()
        .map(|queue| WorkerId(*queue as u8))
        .collect();
    Spread::new(&KEY, fields, &table)
        .ok_or_else(|| "the table's size is no power of two".to_owned())
}

/// The cards of a run, on both sides.
#[derive(Clone)]
pub(super) struct Cards {
    inside: Spread,
    outside: Spread,
    /// Whether flow rules bring ESP to its worker, and of how many.
    rules: Option<u8>,
}

const FLOW: Fields = Fields::Flow {
    udp: true,
    tcp: true,
};

impl Cards {
    /// Cards as they start: addresses and, of UDP and TCP, ports.
    pub(super) fn usual(workers: u8) -> Result<Cards, String> {
        let usual = card(FLOW, workers)?;
        Ok(Cards {
            inside: usual.clone(),
            outside: usual,
            rules: None,
        })
    }

    /// Cards of which the one inside spreads by the client's address alone, and what workers know of
    /// them; both have flow rules for ESP, as `run::ports::rules` gives them.
    pub(super) fn steering(workers: u8) -> Result<(Cards, Steering), String> {
        let (inside, outside) = (card(Fields::Source, workers)?, card(FLOW, workers)?);
        let answers = vec![None, Some(outside.clone())];
        debug_assert_eq!(OUTSIDE, PortId(1));
        let steering = Steering::new(Some(inside.clone()), answers);
        let cards = Cards {
            inside,
            outside,
            rules: Some(workers),
        };
        Ok((cards, steering))
    }

    /// The worker to which the card of a port takes a frame to the MAC address `mac`.
    pub(super) fn worker(&self, port: PortId, mac: [u8; 6], frame: &[u8; 64]) -> Option<WorkerId> {
        let head = Head::read(frame, mac_word(mac), true)?;
        if let Some(workers) = self.rules.filter(|_| head.protocol == PROTO_ESP) {
            return Some(owner_of_tunnel(port, &head, workers));
        }
        let card = if port == INSIDE {
            &self.inside
        } else {
            &self.outside
        };
        Some(card.worker(head.protocol, head.key()))
    }
}

/// The worker, of so many, that has the tunnel of an ESP packet which arrives on a port.
pub(super) fn owner_of_tunnel(port: PortId, head: &Head, workers: u8) -> WorkerId {
    let key = head.key();
    let peer = if port == INSIDE { key.dst } else { key.src };
    worker_of_peer(Ipv4Addr::from_bits(peer), workers)
}
