//! The queue to which a network card takes a packet, and what workers are told of it.

use spillway_dataplane::rss::{Fields, KEY, PLACES, Spread, Steering};
use spillway_dataplane::snapshot::{PortId, WorkerId};
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
        })
    }

    /// Cards of which the one inside spreads by the client's address alone, and what workers know of
    /// them.
    pub(super) fn steering(workers: u8) -> Result<(Cards, Steering), String> {
        let (inside, outside) = (card(Fields::Source, workers)?, card(FLOW, workers)?);
        let answers = vec![None, Some(outside.clone())];
        debug_assert_eq!(OUTSIDE, PortId(1));
        let steering = Steering::new(Some(inside.clone()), answers);
        Ok((Cards { inside, outside }, steering))
    }

    /// The worker to which the card of a port takes a frame to the MAC address `mac`.
    pub(super) fn worker(&self, port: PortId, mac: [u8; 6], frame: &[u8; 64]) -> Option<WorkerId> {
        let head = Head::read(frame, mac_word(mac), true)?;
        let card = if port == INSIDE {
            &self.inside
        } else {
            &self.outside
        };
        Some(card.worker(head.protocol, head.key()))
    }
}
