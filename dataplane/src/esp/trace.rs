//! `debug ip nat ipsec`: one event for each decision about something new, with its reasons.
//! Packets of established tunnels make no event.

use std::fmt;
use std::net::Ipv4Addr;

use arrayvec::ArrayVec;

use super::decision::EspDrop;
use crate::snapshot::{InsideHost, VrfId};
use crate::time::Millis;

/// Most candidates that one event names.
pub const CANDIDATES_NAMED: usize = 8;

/// Where events go.
pub trait Trace: Send {
    /// Whether it takes events now. While it does not, none is made.
    fn is_on(&self) -> bool {
        true
    }

    /// Takes one event.
    fn event(&mut self, event: &Event);
}

/// What was decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An ESP packet from inside: SPI and sequence number.
    EspOut(u32, u32),
    /// An ESP packet from outside: SPI and sequence number.
    EspIn(u32, u32),
    /// An IKE message from inside: the initiator's cookie.
    IkeOut(u64),
    /// An IKE message from outside: the initiator's cookie.
    IkeIn(u64),
    /// A timer.
    Timer,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Sent to the outside.
    Translate,
    /// Sent to the inside host.
    Deliver,
    /// Held.
    Hold,
    /// Refused.
    Drop(EspDrop),
    /// A tentative pairing was proven.
    Confirm,
    /// A wait for a first reply ran out.
    WaitOver,
    /// Unpaired tunnels of this peer take turns from now on.
    TakeTurns,
}

/// On which evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// A static entry.
    Static,
    /// One SPI is H of the other.
    SpiMatch,
    /// It was the client whose first reply was awaited.
    Waiting,
    /// It was the only client whose exchange with the peer has just ended.
    IkeEnded,
    /// It was the only client with an exchange under way.
    IkeRunning,
    /// It was the only client with an unpaired outbound half.
    OpenHalf,
    /// It was the only client of this peer and address.
    OnlyClient,
    /// An inbound half came first.
    EarlyInbound,
    /// A second packet with a higher sequence number.
    SecondPacket,
    /// The client's own new tunnel; nobody waited.
    NobodyWaits,
    /// Another client waits for its first reply.
    OtherWaits,
    /// The initiator's cookie.
    Cookie,
    /// The candidates are tried in turn.
    InTurn,
    /// It had been held until now.
    WasHeld,
    /// Nothing spoke for anybody, or several things for several.
    None,
}

impl Basis {
    /// What it means, for the log line.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Basis::Static => "static entry",
            Basis::SpiMatch => "SPI match",
            Basis::Waiting => "its reply was awaited",
            Basis::IkeEnded => "only exchange that just ended",
            Basis::IkeRunning => "only exchange under way",
            Basis::OpenHalf => "only unpaired outbound half",
            Basis::OnlyClient => "only client of this peer",
            Basis::EarlyInbound => "inbound half came first",
            Basis::SecondPacket => "second packet, higher sequence number",
            Basis::NobodyWaits => "nobody else waits",
            Basis::OtherWaits => "another client waits for its first reply",
            Basis::Cookie => "cookie",
            Basis::InTurn => "candidates in turn",
            Basis::WasHeld => "was held",
            Basis::None => "no evidence",
        }
    }
}

/// The clients that came into question: the first few, and how many there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// The first few.
    pub named: ArrayVec<InsideHost, CANDIDATES_NAMED>,
    /// How many there were.
    pub count: u32,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Millis,
    /// What came.
    pub what: What,
    /// The inside client, if known.
    pub client: Option<InsideHost>,
    /// The peer.
    pub peer: Ipv4Addr,
    /// The global address, if known.
    pub global: Option<Ipv4Addr>,
    /// Who came into question.
    pub candidates: Candidates,
    /// What was decided.
    pub verdict: Verdict,
    /// On which evidence.
    pub basis: Basis,
}

/// As `debug` prints it: `i:` came in on the inside, `o:` on the outside. VRFs by their numbers.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, &|vrf| vrf.0.to_string())
    }
}

/// An event and the names of VRFs: see [`Event::with_names`].
struct WithNames<'a>(&'a Event, &'a dyn Fn(VrfId) -> String);

impl fmt::Display for WithNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, self.1)
    }
}

impl Event {
    /// The event as it is printed, with the names of VRFs where it speaks of their hosts.
    pub fn with_names<'a>(&'a self, name: &'a dyn Fn(VrfId) -> String) -> impl fmt::Display + 'a {
        WithNames(self, name)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, name: &dyn Fn(VrfId) -> String) -> fmt::Result {
        let host = |host: InsideHost| match host.vrf {
            VrfId::GLOBAL => host.address.to_string(),
            vrf => format!("{} vrf {}", host.address, name(vrf)),
        };
        let client = self.client.map_or("?".to_owned(), host);
        let global = self.global.map_or("?".to_owned(), |a| a.to_string());
        let peer = self.peer;
        f.write_str("NAT: ")?;
        match self.what {
            What::EspOut(spi, seq) => {
                write!(f, "i: esp {client} -> {peer} spi {spi:X} seq {seq}")?;
            }
            What::EspIn(spi, seq) => write!(f, "o: esp {peer} -> {global} spi {spi:X} seq {seq}")?,
            What::IkeOut(cookie) => write!(f, "i: ike {client} -> {peer} cookie {cookie:016X}")?,
            What::IkeIn(cookie) => write!(f, "o: ike {peer} -> {global} cookie {cookie:016X}")?,
            What::Timer => write!(f, "timer: esp peer {peer} via {global}")?,
        }
        match self.verdict {
            Verdict::Translate => write!(f, ": sent as {global}")?,
            Verdict::Deliver => write!(f, ": delivered to {client}")?,
            Verdict::Hold => f.write_str(": held")?,
            Verdict::Drop(reason) => write!(f, ": dropped, {}", reason.name())?,
            Verdict::Confirm => write!(f, ": proven for {client}")?,
            Verdict::WaitOver => write!(f, ": {client} got no reply in time")?,
            Verdict::TakeTurns => f.write_str(": unpaired tunnels take turns")?,
        }
        write!(f, " ({})", self.basis.text())?;
        if self.candidates.count > 0 {
            f.write_str(", candidates:")?;
            for candidate in &self.candidates.named {
                write!(f, " {}", host(*candidate))?;
            }
            let more = self.candidates.count as usize - self.candidates.named.len();
            if more > 0 {
                write!(f, " and {more} more")?;
            }
        }
        Ok(())
    }
}
