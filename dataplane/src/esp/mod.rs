//! ESP (RFC 4303) and IKE (RFC 2408, RFC 7296) of many clients through one address.
//!
//! ESP has no ports, and its SPI is another one in each direction. [`Engine`] finds out which two
//! SPIs belong together: by configuration, by SPI matching ([`spi_match`]), by letting one client
//! at a time wait for its first reply, and by following IKE. `docs/ipsec.md` tells the whole story.
//!
//! The engine is pure: facts of headers and the time come in, decisions go out. It has one writer,
//! the worker that owns the peer's address, and allocates nothing after construction.

mod clear;
mod decision;
mod engine;
mod established;
mod evidence;
mod half;
mod held;
pub mod ike;
mod ike_entry;
mod ike_flow;
mod ike_port;
mod inbound;
mod limits;
mod outbound;
mod pairing;
mod peers;
mod policy;
mod quoted;
mod relation;
pub mod spi_match;
mod table;
mod timers;
mod trace;
mod turns;
mod view;

pub use clear::{EspFilter, RelationView};
pub use decision::{
    EspCounter, EspDrop, EspOccupancy, EspStats, IkeIn, IkeOut, Inbound, Method, Outbound, Outcome,
    Release,
};
pub use engine::Engine;
pub use established::Established;
pub use half::HalfState;
pub use held::HoldTicket;
pub use ike_flow::IkePacket;
pub use limits::{EspTimers, Limits};
pub use outbound::EspPacket;
pub use peers::PeerView;
pub use policy::{GLOBALS_MAX, Globals, Policy, Ports};
pub use trace::{Basis, CANDIDATES_NAMED, Candidates, Event, Trace, Verdict, What};
pub use view::{Explanation, Fate, FlowView, HalfView, IkeView};
