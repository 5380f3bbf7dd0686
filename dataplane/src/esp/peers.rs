//! The outside hosts with which clients have tunnels, for whoever brings their packets here.

use std::net::Ipv4Addr;

use super::engine::Engine;
use super::half::Relation;

/// Clients of one peer and global address that are looked at to see whether the peer answers.
const LOOKED_AT: usize = 8;

/// An outside host that has answered clients behind one global address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerView {
    /// The outside host.
    pub peer: Ipv4Addr,
    /// How many clients talk to it.
    pub clients: u32,
}

impl<T> Engine<T> {
    /// Places of peers, filled or not; a peer has one for each global address.
    #[must_use]
    pub fn peer_places(&self) -> u32 {
        self.groups.capacity() as u32
    }

    /// The peer at a place, if one of the first of its clients has had ESP or a reply to IKE from it: what a client
    /// sends to somebody who never answers makes none.
    #[must_use]
    pub fn peer_at(&self, place: u32) -> Option<PeerView> {
        if !self.groups.is_live(place) {
            return None;
        }
        let relations = &self.groups[place].relations;
        let mut first = self.relations.walk(relations).take(LOOKED_AT);
        let answers = first.any(|id| self.is_answered(&self.relations[id]));
        answers.then(|| PeerView {
            peer: self.groups.key(place).0,
            clients: relations.len,
        })
    }

    fn is_answered(&self, relation: &Relation) -> bool {
        let mut sas = self.sas.walk(&relation.sas);
        relation.ins.len > 0 || sas.any(|id| self.sas[id].responder != 0)
    }
}
