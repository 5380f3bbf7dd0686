//! What the engine remembers of IKE.

use super::ike::IkeHeader;
use super::table::{Id, Links, NIL, linked};
use crate::time::Millis;

/// A client's and a peer's socket. Key: (C, P, C's port, P's port). In its relation's list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    pub(super) links: Links,
    pub(super) relation: Id,
    /// The outside port.
    pub(super) port: u16,
    pub(super) created: Millis,
    pub(super) used: Millis,
}
linked!(Flow);

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            links: Links::default(),
            relation: NIL,
            port: 0,
            created: Millis(0),
            used: Millis(0),
        }
    }
}

/// An outside port towards a peer's port. Key: (P, G, P's port, outside port).
#[derive(Debug, Clone, Copy)]
pub(super) struct Port {
    /// How many flows share it.
    pub(super) flows: u32,
    /// The flow, while there is one only.
    pub(super) only: Id,
}

impl Default for Port {
    fn default() -> Port {
        Port {
            flows: 0,
            only: NIL,
        }
    }
}

/// One exchange that is followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Exchange {
    kind: u8,
    message: u32,
    /// Version 1: the side that began it. Version 2 keeps the sides apart by the response flag.
    client_began: bool,
    ended: bool,
}

/// An IKE SA. Key: (P, G, initiator's cookie). In its relation's list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sa {
    pub(super) links: Links,
    pub(super) relation: Id,
    /// The responder's cookie, 0 while unknown.
    pub(super) responder: u64,
    pub(super) used: Millis,
    /// The latest exchange begun by the peer, and by the client.
    exchanges: [Option<Exchange>; 2],
    /// Its authentication has been counted: further rounds are the same exchange (RFC 7296 2.16).
    authenticated: bool,
}
linked!(Sa);

impl Default for Sa {
    fn default() -> Sa {
        Sa {
            links: Links::default(),
            relation: NIL,
            responder: 0,
            used: Millis(0),
            exchanges: [None; 2],
            authenticated: false,
        }
    }
}

impl Sa {
    /// An SA of which one message was seen at `now`.
    pub(super) fn new(relation: Id, now: Millis) -> Sa {
        Sa {
            relation,
            used: now,
            ..Sa::default()
        }
    }
}

/// What a message means for the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Begins,
    Ends,
    /// A further round or message of an exchange that has been counted.
    Again,
}

impl Sa {
    /// Follows one message of this SA.
    pub(super) fn follow(&mut self, header: &IkeHeader, from_client: bool) -> Step {
        if !header.makes_sas() {
            return Step::Nothing;
        }
        if header.version == 1 {
            self.follow_quick_mode(header, from_client)
        } else {
            self.follow_v2(header, from_client)
        }
    }

    /// Quick mode (RFC 2409 section 5.5): three messages with one identifier. From the second on,
    /// both sides know both SPIs.
    fn follow_quick_mode(&mut self, header: &IkeHeader, from_client: bool) -> Step {
        let known = self
            .exchanges
            .iter_mut()
            .flatten()
            .find(|e| e.kind == header.exchange && e.message == header.message);
        match known {
            Some(e) if e.client_began == from_client => {
                if e.ended {
                    Step::Again
                } else {
                    Step::Nothing // sent again
                }
            }
            Some(e) => {
                if std::mem::replace(&mut e.ended, true) {
                    Step::Nothing // sent again
                } else {
                    Step::Ends
                }
            }
            None => {
                self.exchanges[usize::from(from_client)] = Some(Exchange {
                    kind: header.exchange,
                    message: header.message,
                    client_began: from_client,
                    ended: false,
                });
                Step::Begins
            }
        }
    }

    /// IKEv2: a request and a response; each side numbers its own requests (RFC 7296 section 2.2).
    fn follow_v2(&mut self, header: &IkeHeader, from_client: bool) -> Step {
        let client_asks = from_client != header.is_response();
        let slot = &mut self.exchanges[usize::from(client_asks)];
        let known = slot
            .as_mut()
            .filter(|e| e.kind == header.exchange && e.message == header.message);
        if !header.is_response() {
            if known.is_some() {
                return Step::Nothing; // sent again
            }
            *slot = Some(Exchange {
                kind: header.exchange,
                message: header.message,
                client_began: client_asks,
                ended: false,
            });
            return if header.exchange == super::ike::exchange::AUTH && self.authenticated {
                Step::Nothing
            } else {
                Step::Begins
            };
        }
        match known {
            Some(e) if !e.ended => {
                e.ended = true;
                let is_auth = header.exchange == super::ike::exchange::AUTH;
                if is_auth && std::mem::replace(&mut self.authenticated, true) {
                    Step::Again
                } else {
                    Step::Ends
                }
            }
            // Sent again, or an answer to nothing that passed here.
            _ => Step::Nothing,
        }
    }
}
