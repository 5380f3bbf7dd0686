//! What the engine remembers of clients, peers and tunnels.

use std::net::Ipv4Addr;

use super::decision::Method;
use super::established::Approval;
use super::evidence::Evidence;
use super::held::Queue;
use super::table::{Id, Links, List, NIL, linked};
use crate::snapshot::InsideHost;
use crate::time::Millis;

/// An inside client's share. Key: the client.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Client {
    pub(super) relations: u32,
    pub(super) outs: u32,
    pub(super) ins: u32,
    pub(super) flows: u32,
    pub(super) held_packets: u32,
    pub(super) held_octets: u32,
    /// The global address that it took last (RFC 4787 REQ-2).
    pub(super) global: Option<Ipv4Addr>,
}

/// A client and a peer. Key: (C, P). In its group's list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relation {
    pub(super) links: Links,
    pub(super) client: Id,
    pub(super) group: Id,
    pub(super) global: Ipv4Addr,
    pub(super) outs: List,
    pub(super) ins: List,
    pub(super) flows: List,
    pub(super) sas: List,
    /// The IKE entry that was used last; it lives as long as ESP does.
    pub(super) last_flow: Id,
    /// Outbound halves that are sent and not surely paired, and since when there is one.
    pub(super) open: u32,
    pub(super) open_since: Millis,
    /// One of these began with a large sequence number: it is no new SA, nor is its partner.
    pub(super) open_midway: bool,
    /// Outbound halves among the open ones for whose reply the others wait.
    pub(super) waiting: u32,
    /// Inbound halves without proof.
    pub(super) tentative: u32,
    pub(super) evidence: Evidence,
    pub(super) held: Queue,
    pub(super) queued: bool,
    pub(super) next_queued: Id,
    /// A wait ran out: its new tunnels make nobody wait until one is answered.
    pub(super) unanswered: bool,
    /// It is in the spi-match list, but its peer does not answer that way.
    pub(super) unmatched: bool,
    /// SPI matching has worked with its peer: SPIs that don't match are not its own.
    pub(super) matched: bool,
    /// Its SPI met another client's: its next tunnel should take another address.
    pub(super) collided: bool,
}
linked!(Relation);

impl Default for Relation {
    fn default() -> Relation {
        Relation {
            links: Links::default(),
            client: NIL,
            group: NIL,
            global: Ipv4Addr::UNSPECIFIED,
            outs: List::default(),
            ins: List::default(),
            flows: List::default(),
            sas: List::default(),
            last_flow: NIL,
            open: 0,
            open_since: Millis(0),
            open_midway: false,
            waiting: 0,
            tentative: 0,
            evidence: Evidence::default(),
            held: Queue::default(),
            queued: false,
            next_queued: NIL,
            unanswered: false,
            unmatched: false,
            matched: false,
            collided: false,
        }
    }
}

/// The clients of one peer behind one global address. Key: (P, G). In the list of waits while one
/// of its clients waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) links: Links,
    pub(super) relations: List,
    /// The client whose first reply all others wait for.
    pub(super) waiting: Id,
    pub(super) since: Millis,
    /// Clients whose first packets are held, in order.
    pub(super) queue_head: Id,
    pub(super) queue_tail: Id,
    /// Packets from outside that nobody can be given yet.
    pub(super) held: Queue,
    /// Turns are being taken again: a wait ends with proof only.
    pub(super) strict: bool,
    pub(super) next_turns: Millis,
    pub(super) backoff_ms: u64,
    /// Whose turn it is to be tried with an unknown cookie.
    pub(super) turn: u32,
    pub(super) tries_since: Millis,
    pub(super) tries: u32,
}
linked!(Group);

impl Default for Group {
    fn default() -> Group {
        Group {
            links: Links::default(),
            relations: List::default(),
            waiting: NIL,
            since: Millis(0),
            queue_head: NIL,
            queue_tail: NIL,
            held: Queue::default(),
            strict: false,
            next_turns: Millis(0),
            backoff_ms: 0,
            turn: 0,
            tries_since: Millis(0),
            tries: 0,
        }
    }
}

/// Where an outbound half stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HalfState {
    /// Its packets are held until its client's turn to be paired.
    #[default]
    Queued,
    /// Its packets are sent; no partner is proven.
    Open,
    /// Its partner is proven.
    Paired,
}

/// An outbound half. Key: (C, P, SPIo). In its relation's list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out {
    pub(super) links: Links,
    pub(super) relation: Id,
    pub(super) global: Ipv4Addr,
    pub(super) state: HalfState,
    pub(super) waiting: bool,
    pub(super) method: Option<Method>,
    /// The inbound SPI of the tunnel, 0 while none is known.
    pub(super) partner: u32,
    pub(super) first_sequence: u32,
    pub(super) last_sequence: u32,
    pub(super) created: Millis,
    pub(super) used: Millis,
    /// Its places in the index of predicted SPIs.
    pub(super) predicted: [Id; 2],
    pub(super) approval: Approval,
}
linked!(Out);

impl Default for Out {
    fn default() -> Out {
        Out {
            links: Links::default(),
            relation: NIL,
            global: Ipv4Addr::UNSPECIFIED,
            state: HalfState::Queued,
            waiting: false,
            method: None,
            partner: 0,
            first_sequence: 0,
            last_sequence: 0,
            created: Millis(0),
            used: Millis(0),
            predicted: [NIL; 2],
            approval: Approval::default(),
        }
    }
}

/// An inbound half. Key: (P, G, SPIi). In its relation's list.
#[derive(Debug, Clone, Copy)]
pub(super) struct In {
    pub(super) links: Links,
    pub(super) relation: Id,
    pub(super) client: InsideHost,
    pub(super) confirmed: bool,
    pub(super) method: Method,
    /// The outbound SPI of the tunnel, 0 while none is known.
    pub(super) partner: u32,
    /// It came before any packet of its tunnel went out.
    pub(super) early: bool,
    pub(super) first_sequence: u32,
    pub(super) last_sequence: u32,
    pub(super) created: Millis,
    pub(super) used: Millis,
    pub(super) approval: Approval,
}
linked!(In);

impl Default for In {
    fn default() -> In {
        In {
            links: Links::default(),
            relation: NIL,
            client: InsideHost::from(Ipv4Addr::UNSPECIFIED),
            confirmed: false,
            method: Method::Learned,
            partner: 0,
            early: false,
            first_sequence: 0,
            last_sequence: 0,
            created: Millis(0),
            used: Millis(0),
            approval: Approval::default(),
        }
    }
}
