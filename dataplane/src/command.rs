//! What control asks of a worker, over a bounded ring. A worker serves one request at a time, a
//! slice of it each poll, so that no request ever holds up packets.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::esp::{Explanation, HalfView, PeerView};
use crate::fib::NextHop;
use crate::session::Key;
use crate::snapshot::{PortId, VrfId, WorkerId};
use crate::stats::DropReason;

/// An address with a port, ICMP identifier, or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub address: Ipv4Addr,
    /// TCP or UDP port, or ICMP query identifier; 0 where there is none.
    pub port: u16,
}

/// Where a TCP connection stands (RFC 7857 section 2, RFC 6146 section 3.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TcpState {
    /// SYN from one side only.
    Syn,
    /// Both sides have sent SYN.
    Established,
    /// FIN from one side.
    FinOneWay,
    /// FIN from both sides: `finrst-timeout` runs and nothing prolongs it.
    Closed,
    /// RST: `finrst-timeout` runs until the inside host shows that the connection lives.
    Reset,
}

/// A dynamic entry as `show ip nat translations` needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionView {
    /// IP protocol; 0 for an address entry (NAT without overload).
    pub protocol: u8,
    /// The VRF of its inside host.
    pub vrf: VrfId,
    /// Of an endpoint-independent mapping, and of an address lent by a route map: how many entries
    /// are under it.
    pub children: Option<u32>,
    /// Inside local: the inside host as it knows itself; 0.0.0.0 for an outside host's entry.
    pub inside_local: Endpoint,
    /// Inside global: the inside host as the outside knows it; 0.0.0.0 for an outside host's entry.
    pub inside_global: Endpoint,
    /// Outside local: the outside host as the inside knows it; `None` for an address entry and
    /// for a mapping.
    pub outside_local: Option<Endpoint>,
    /// Outside global: the outside host as it knows itself; `None` for an address entry and for a
    /// mapping.
    pub outside_global: Option<Endpoint>,
    /// Milliseconds since it was made.
    pub age_ms: u64,
    /// Milliseconds since its last packet; of a mapping, since it last got an entry from inside.
    pub idle_ms: u64,
    /// Its present timer in milliseconds; `None` means never, or, of a mapping, when the last of its
    /// entries goes.
    pub timeout_ms: Option<u64>,
    /// State of its TCP connection.
    pub tcp: Option<TcpState>,
    /// Whether it is of a shared connection (`ip nat inside destination`).
    pub is_shared: bool,
    /// Of ESP: the half-entry, with the SPIs; its endpoints have port 0.
    pub half: Option<HalfView>,
    /// The rule that made it.
    pub rule: u16,
    /// Its number, unique in its worker while it lives.
    pub id: u32,
    /// The worker that owns it.
    pub worker: WorkerId,
}

/// Which dynamic entries a request means. An empty filter means all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Only this protocol.
    pub protocol: Option<u8>,
    /// Only this VRF's.
    pub vrf: Option<VrfId>,
    /// Only this inside local address, and port where given.
    pub inside_local: Option<(Ipv4Addr, Option<u16>)>,
    /// Only this inside global address, and port where given.
    pub inside_global: Option<(Ipv4Addr, Option<u16>)>,
    /// Only this outside local address, and port where given.
    pub outside_local: Option<(Ipv4Addr, Option<u16>)>,
    /// Only this outside global address, and port where given.
    pub outside_global: Option<(Ipv4Addr, Option<u16>)>,
    /// Only tunnels whose packets going out have this SPI.
    pub spi_out: Option<u32>,
    /// Only tunnels whose packets coming in have this SPI.
    pub spi_in: Option<u32>,
    /// Of a request to clear: also entries under a mapping that the filter names.
    pub forced: bool,
}

impl SessionFilter {
    /// Whether it names an inside endpoint, and nothing outside: that may be a mapping.
    #[must_use]
    pub fn names_endpoint(&self) -> bool {
        let port = |side: Option<(Ipv4Addr, Option<u16>)>| side.and_then(|(_, port)| port);
        port(self.inside_local)
            .or(port(self.inside_global))
            .is_some()
            && self.outside_global.is_none()
    }

    /// Whether the entry is meant.
    #[must_use]
    pub fn matches(&self, session: &SessionView) -> bool {
        let side = |wanted: Option<(Ipv4Addr, Option<u16>)>, have: Option<Endpoint>| match wanted {
            None => true,
            Some((address, port)) => {
                have.is_some_and(|h| h.address == address && port.is_none_or(|port| port == h.port))
            }
        };
        let spi = |wanted: Option<u32>, of: fn(&HalfView) -> Option<u32>| {
            wanted.is_none() || session.half.as_ref().and_then(of) == wanted
        };
        self.protocol.is_none_or(|p| p == session.protocol)
            && self.vrf.is_none_or(|vrf| vrf == session.vrf)
            && side(self.inside_local, Some(session.inside_local))
            && side(self.inside_global, Some(session.inside_global))
            && side(self.outside_local, session.outside_local)
            && side(self.outside_global, session.outside_global)
            && spi(self.spi_out, |half| half.spi_out)
            && spi(self.spi_in, |half| half.spi_in)
    }
}

/// The bounded way back from a worker.
#[derive(Debug)]
pub struct Reply<T> {
    items: ArrayQueue<T>,
    /// Slices of work done so far: whoever waits sees that the worker is at it.
    slices: AtomicU32,
    /// Where the next request goes on; [`NOWHERE`] after the last place.
    resume: AtomicU64,
    done: AtomicBool,
    abandoned: AtomicBool,
}

/// [`Reply::resume`]: nothing is left.
const NOWHERE: u64 = u64::MAX;

impl<T> Reply<T> {
    /// A way back with room for `capacity` items.
    #[must_use]
    pub fn new(capacity: usize) -> Arc<Reply<T>> {
        Arc::new(Reply {
            items: ArrayQueue::new(capacity.max(1)),
            slices: AtomicU32::new(0),
            resume: AtomicU64::new(NOWHERE),
            done: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        })
    }

    /// Worker: whether there is room for one more item.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.items.is_full()
    }

    /// Worker: gives an item; the item comes back where there is no room.
    ///
    /// # Errors
    /// The item, if the queue is full.
    pub fn give(&self, item: T) -> Result<(), T> {
        self.items.push(item)
    }

    /// Worker: a slice is done, more will come.
    pub fn go_on(&self) {
        let slices = self.slices.load(Ordering::Relaxed);
        self.slices.store(slices.wrapping_add(1), Ordering::Relaxed);
    }

    /// Worker: nothing more will come, and nothing is left.
    pub fn finish(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// Worker: nothing more will come for want of room; another request goes on at `place`.
    pub fn finish_at(&self, place: u64) {
        self.resume.store(place, Ordering::Relaxed);
        self.finish();
    }

    /// Worker: whether nobody waits for this any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Control: whether an item is there.
    #[must_use]
    pub fn has_item(&self) -> bool {
        !self.items.is_empty()
    }

    /// Control: the next item, if one is there.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.items.pop()
    }

    /// Control: goes up as long as the worker is at it.
    #[must_use]
    pub fn slices(&self) -> u32 {
        self.slices.load(Ordering::Relaxed)
    }

    /// Control: whether the worker has finished; items may still be there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Control, once the worker has finished: where another request finds what had no room.
    #[must_use]
    pub fn resume(&self) -> Option<u64> {
        Some(self.resume.load(Ordering::Relaxed)).filter(|place| *place != NOWHERE)
    }

    /// Control: whether all has been given and taken.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // In this order: `done` seen set means that every item was pushed before.
        self.is_done() && self.items.is_empty()
    }

    /// Control: stop the worker's work on this.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

/// What a worker measures with histograms. Control sends an empty one, the worker swaps it in and
/// gives the full one back: nothing is allocated or locked on the worker's side.
#[derive(Debug)]
pub struct Histograms {
    /// Nanoseconds from receiving a burst to having sent it.
    pub burst_ns: Histogram<u64>,
    /// Packets a non-empty burst.
    pub burst_packets: Histogram<u64>,
}

impl Histograms {
    /// Longest burst that is told apart, in nanoseconds; longer ones count as this.
    pub const MAX_BURST_NS: u64 = 1_000_000_000;

    /// Empty histograms, all their memory allocated.
    ///
    /// # Errors
    /// Never for these bounds; the histogram's own constructor is fallible.
    pub fn new() -> Result<Histograms, hdrhistogram::CreationError> {
        Ok(Histograms {
            burst_ns: Histogram::new_with_bounds(1, Histograms::MAX_BURST_NS, 2)?,
            burst_packets: Histogram::new_with_bounds(1, 1024, 2)?,
        })
    }
}

/// What `explain` asks: a packet that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// An ESP packet to or from a peer.
    Esp {
        /// The peer.
        peer: Ipv4Addr,
        /// The SPI.
        spi: u32,
    },
    /// A packet of a flow.
    Flow(FlowQuery),
}

/// A packet of a flow as it would arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowQuery {
    /// TCP (6), UDP (17) or ICMP (1).
    pub protocol: u8,
    /// The VRF in which it arrives; from outside, the global table.
    pub vrf: VrfId,
    /// Source address and port; of ICMP the identifier.
    pub source: (Ipv4Addr, u16),
    /// Destination address and port; of ICMP the identifier again.
    pub destination: (Ipv4Addr, u16),
}

impl FlowQuery {
    /// The packet's key.
    #[must_use]
    pub fn key(&self) -> Key {
        Key {
            src: self.source.0.to_bits(),
            dst: self.destination.0.to_bits(),
            sport: self.source.1,
            dport: self.destination.1,
        }
    }
}

/// One answer to a [`Query`]; of several workers, only the one that would decide answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explained {
    /// ESP: one for each client that sends this SPI, and for each global address to which the
    /// peer might send it.
    Esp(EspExplanation),
    /// A flow.
    Flow(FlowExplanation),
}

/// What would become of an ESP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspExplanation {
    /// The worker that decides.
    pub worker: WorkerId,
    /// What it would decide, and why.
    pub explanation: Explanation,
}

/// What would become of a packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowExplanation {
    /// The worker that decides.
    pub worker: WorkerId,
    /// The port on which it arrives: the one that leads to its source.
    pub arrives: Option<PortId>,
    /// What decides about it.
    pub because: Because,
    /// As it goes on, where it is translated; a source port of 0 in a new entry that does not
    /// keep its port is chosen at random.
    pub to: Option<Key>,
    /// Where it goes.
    pub hop: Option<NextHop>,
    /// What becomes of it.
    pub ending: Ending,
}

/// What decides about a packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// This entry.
    Entry(SessionView),
    /// A configured static.
    Static,
    /// The address entry of its host (NAT without overload).
    AddressEntry,
    /// An IKE entry.
    Ike,
    /// This dynamic mapping would make an entry; whether with its own port, where that is known.
    NewEntry {
        /// The mapping's number.
        rule: u16,
        /// Whether it keeps its port.
        keeps_port: Option<bool>,
    },
    /// Unasked, it goes to a mapping (the number is that of its rule), whose filtering decides.
    Mapping(u16),
    /// It goes to the appliance itself.
    Ours,
    /// It does not leave by an outside interface.
    StaysInside,
    /// It arrives where there is neither `ip nat inside` nor `ip nat outside`.
    NoNatSide,
    /// No entry, static or mapping wants it.
    NotTranslated,
}

/// What becomes of a packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is sent to its next hop.
    Forwarded,
    /// It waits for its next hop's MAC address first.
    WaitsForNeighbour,
    /// It goes to the kernel twin.
    Punted,
    /// It comes in again through a global address.
    Hairpinned,
    /// It is dropped.
    Dropped(DropReason),
}

/// A request to one worker.
#[derive(Debug)]
pub enum Request {
    /// Copy out the entries that match, from a place on: 0, or what [`Reply::resume`] says of the
    /// request before. Ends when there is no more room, so that no reader keeps a worker busy.
    Sessions(SessionFilter, u64, Arc<Reply<SessionView>>),
    /// Tell the outside hosts with which clients have tunnels, from a place on as above. One may come more than
    /// once: for each of its clients' global addresses.
    Peers(u64, Arc<Reply<PeerView>>),
    /// Remove the entries that match; the reply is how many there were.
    Clear(SessionFilter, Arc<Reply<u64>>),
    /// Remove the entries that the present snapshot would not make; the reply is how many.
    Reconcile(Arc<Reply<u64>>),
    /// The same, but for entries whose packets have no way at present: those are judged when there is one.
    Reroute(Arc<Reply<u64>>),
    /// A dry run; no answer where another worker decides.
    Explain(Query, Arc<Reply<Explained>>),
    /// Swap histograms; the reply is the ones used so far.
    Histograms(Box<Histograms>, Arc<Reply<Box<Histograms>>>),
}

/// A request to find out a neighbour's MAC address, from a worker to control.
pub type ResolveQueue = Arc<ArrayQueue<crate::fib::NextHop>>;

/// What the workers and control share about the number of entries. Written when an entry is made
/// or removed, never on a hit.
#[derive(Debug, Default)]
pub struct Occupancy {
    active: AtomicU64,
    peak: AtomicU64,
    peak_at_ms: AtomicU64,
}

impl Occupancy {
    /// An entry was made at `now_ms`.
    pub fn made(&self, now_ms: u64) {
        self.made_many(1, now_ms);
    }

    /// So many entries were made at `now_ms`.
    pub fn made_many(&self, entries: u64, now_ms: u64) {
        let active = self.active.fetch_add(entries, Ordering::Relaxed) + entries;
        if active > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(active, Ordering::Relaxed);
            self.peak_at_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// An entry was removed.
    pub fn removed(&self) {
        self.removed_many(1);
    }

    /// So many entries were removed.
    pub fn removed_many(&self, entries: u64) {
        self.active.fetch_sub(entries, Ordering::Relaxed);
    }

    /// Dynamic entries now.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// Most dynamic entries at once, and when that was.
    #[must_use]
    pub fn peak(&self) -> (u64, crate::time::Millis) {
        (
            self.peak.load(Ordering::Relaxed),
            crate::time::Millis(self.peak_at_ms.load(Ordering::Relaxed)),
        )
    }
}
