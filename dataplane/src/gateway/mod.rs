//! The decision about each packet: translate, route, punt, hand to another worker, hold or drop.
//!
//! One burst makes one pass: every ordinary packet is parsed and its entry asked of memory before the
//! first one is decided, so that the misses of a burst overlap. The others are taken in their turn.

mod access;
mod aim;
mod borrow;
mod census;
mod create;
mod exits;
mod explain;
mod explain_mapping;
mod explain_outside;
mod forward;
mod fragments;
mod host_counts;
mod icmp;
mod in_vain;
mod inside;
mod inside_destination;
mod ipsec;
mod ipsec_policy;
mod ipsec_quoted;
mod ipsec_trace;
mod lease;
pub(crate) mod limit;
mod mapping;
mod outside;
mod outside_source;
mod place;
mod quick;
mod quick_esp;
mod quick_team;
mod requests;
mod spare;
mod steer;
mod told;
mod unsolicited;
mod waiting;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::command::Occupancy;
use crate::esp::Engine;
use crate::fib::NextHop;
use crate::fragment::{Fragments, Limits};
use crate::journal::Writer;
use crate::nat::{GlobalAddress, InVain, Way};
use crate::packet::{Burst, Packet, PacketPool};
use crate::rss::Steering;
use crate::session::{Direction, Key, Kind};
use crate::snapshot::{PortId, Side, Snapshot, VrfId, WorkerId};
use crate::stats::{Counter, DropReason, WorkerStats};
use crate::table::Table;
use crate::time::{Millis, Tick};
use crate::wire::{self, Ethernet, Ipv4, L4, Parsed};

pub use borrow::{Asking, Borrowing};
use census::Census;
use exits::Exits;
use host_counts::HostCounts;
use limit::Limiter;
use mapping::Mappings;
pub use outside_source::Seen;
use quick::Glances;
use requests::Work;
pub use spare::Spare;
pub use steer::worker_of_peer;
use waiting::Waiting;

/// A packet and what is known of it beyond its octets.
#[derive(Debug)]
pub struct Item<P> {
    /// The packet.
    pub packet: P,
    /// What is known of it.
    pub meta: Meta,
}

/// What a packet carries from stage to stage and from worker to worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The port that it arrived on.
    pub port: PortId,
    /// Of a fragment: the ports of its datagram, once they are known.
    pub ports: Option<(u16, u16)>,
    /// Of a fragment: SPI and sequence number of its ESP packet, or the cookie of its IKE message.
    pub mark: u64,
    /// How many workers have handed it on.
    pub handoffs: u8,
    /// It came from inside, has been translated as if it left, and now comes in again.
    pub hairpin: bool,
    /// The address by which inside hosts know its outside host, where it had to be asked for.
    pub seen: Seen,
    /// It is of no shared connection, as the worker of its outside host has found out.
    pub unshared: bool,
    /// What came of asking other workers for a port for it.
    pub borrowing: Borrowing,
}

impl Meta {
    /// Of a packet that has just arrived on `port`.
    #[inline]
    #[must_use]
    pub fn arrived(port: PortId) -> Meta {
        Meta {
            port,
            ports: None,
            mark: 0,
            handoffs: 0,
            hairpin: false,
            seen: Seen::UNKNOWN,
            unshared: false,
            borrowing: Borrowing::NotTried,
        }
    }

    /// Of a packet that arrived on `port` and that so many workers have handed on.
    #[inline]
    pub(crate) fn handed(port: PortId, handoffs: u8) -> Meta {
        Meta {
            handoffs,
            ..Meta::arrived(port)
        }
    }

    /// Whether something has come of it already that its octets do not say.
    fn is_followed(&self) -> bool {
        *self != Meta::handed(self.port, self.handoffs)
    }
}

/// What stays the same while a burst is decided.
pub struct Pass<'a, O> {
    /// The moment.
    pub now: Millis,
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// Where packets go.
    pub out: &'a mut O,
}

/// Where the gateway's packets go, and where it takes new ones from.
pub trait Output<P: Packet>: PacketPool<Packet = P> {
    /// A finished frame leaves on a port.
    fn transmit(&mut self, port: PortId, packet: P);
    /// Finished frames of so many octets leave on a port, in this order; the burst is empty afterwards.
    fn transmit_burst(&mut self, port: PortId, burst: &mut Burst<P>, octets: u64) {
        let _ = octets;
        burst
            .drain(..)
            .for_each(|packet| self.transmit(port, packet));
    }
    /// A frame goes to the kernel twin of the port it arrived on.
    fn punt(&mut self, port: PortId, packet: P);
    /// Another worker decides about this packet.
    fn hand_off(&mut self, to: WorkerId, item: Item<P>);
    /// Another worker is asked for ports.
    fn ask(&mut self, to: WorkerId, asking: Box<Asking<P>>);
    /// The MAC address of this next hop is wanted.
    fn resolve(&mut self, hop: NextHop);
}

/// The worker's number and how much it may hold.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// This worker.
    pub me: WorkerId,
    /// Workers in all.
    pub workers: u8,
    /// Most entries in this worker's table.
    pub sessions: u32,
    /// Unpredictable from outside; the same number in all workers.
    pub seed: u64,
}

/// ICMP errors that one worker may send: a second, and at once (RFC 1812 section 4.3.2.8).
const ICMP_ERRORS_PER_SECOND: u64 = 1000;
const ICMP_ERRORS_AT_ONCE: u64 = 200;
/// Requests for the MAC address of a next hop that failed before: a second, and at once.
const RETRIES_PER_SECOND: u64 = 100;
const RETRIES_AT_ONCE: u64 = 10;
/// Entries and wheel slots that [`Gateway::age`] looks at for each entry that was made since the last time.
const AGED_FOR_EACH_MADE: u32 = 2;
/// Fragments of the largest packet that a port takes, over a link of the smallest MTU.
const MAX_PIECES: usize = 256;
/// A packet changes workers at most this often: to the fragment's worker, to the entry's owner,
/// and both again for a hairpin.
const MAX_HANDOFFS: u8 = 5;

/// One worker's share of the translation.
#[derive(Debug)]
pub struct Gateway<P> {
    options: Options,
    table: Table,
    exits: Exits,
    /// Room for what is known of a burst while it is decided.
    glances: Option<Box<Glances>>,
    /// Entries of hosts with an address of their own.
    address_entries: u32,
    /// What is known of endpoint-independent mappings beside their entries.
    mappings: Mappings,
    /// Entries of each host, where these are limited.
    host_counts: HostCounts,
    /// Searches for a port that found none.
    in_vain: in_vain::InVain,
    /// The last search for a free address of a pool that found none.
    pool_in_vain: InVain,
    borrow_limit: Limiter,
    /// Addresses of which other workers have borrowed ports, and when the first of them was looked at.
    lending: VecDeque<Arc<GlobalAddress>>,
    lending_checked: Millis,
    /// How ports spread packets over workers, where that is known.
    steering: Option<Box<Steering>>,
    /// Remembers the ports and mark of first fragments, holds others that came before them.
    fragments: Fragments<((u16, u16), u64), Item<P>>,
    /// Decides about ESP and IKE of the outside hosts that are this worker's.
    esp: Engine<Item<P>>,
    /// Entries of `esp` that are counted in `census`.
    esp_entries: u64,
    /// The snapshot whose timers `esp` has, and the moment that it knows.
    esp_aged: (u32, Millis),
    /// Fragments that wait no longer: they go on after the burst.
    released: Vec<Item<P>>,
    waiting: Waiting<Item<P>>,
    /// The snapshot and moment for which all that could leave `waiting` has left.
    waiting_checked: (u32, Tick),
    /// Where a packet that is cut into fragments puts them.
    pieces: Vec<P>,
    icmp_limit: Limiter,
    retry_limit: Limiter,
    stats: Arc<WorkerStats>,
    census: Census,
    random: u64,
    work: Option<Work>,
    writer: Writer,
    /// Entries that had been made when it aged last.
    made_before: u32,
}

/// A parsed IPv4 packet with the key to look for.
struct Prepared<P> {
    item: Item<P>,
    ip: Ipv4,
    lookup: Lookup,
}

/// What a packet asks of the table.
#[derive(Clone, Copy)]
enum Lookup {
    /// Nothing: it comes from an interface without NAT, or is for all hosts.
    None,
    /// The entry of this key.
    Flow {
        direction: Direction,
        key: Key,
        hash: u64,
    },
    /// An ICMP query from outside. Entries are for answers to those from inside.
    Request(Key),
    /// ESP, or UDP with an outside host's IKE ports.
    Ipsec(Direction, Key),
    /// The entry of the packet that this ICMP error quotes.
    Quoted(Direction),
}

impl<P: Packet> Gateway<P> {
    /// A gateway without entries. All its memory is allocated here.
    #[must_use]
    pub fn new(options: Options, stats: Arc<WorkerStats>, occupancy: Arc<Occupancy>) -> Gateway<P> {
        let limits = Limits::default();
        Gateway {
            options,
            table: Table::new(options.sessions, options.seed),
            exits: Exits::new(),
            glances: Some(Glances::new()),
            address_entries: 0,
            mappings: Mappings::new(options.sessions),
            host_counts: HostCounts::default(),
            in_vain: in_vain::InVain::new(),
            pool_in_vain: InVain::default(),
            borrow_limit: Limiter::new(
                borrow::ROUNDS_PER_SECOND,
                borrow::rounds_at_once(options.workers),
            ),
            lending: VecDeque::new(),
            lending_checked: Millis(0),
            steering: None,
            fragments: Fragments::new(limits),
            esp: ipsec_trace::engine(&options, &stats),
            esp_entries: 0,
            esp_aged: (u32::MAX, Millis(0)),
            released: Vec::with_capacity(limits.held as usize),
            waiting: Waiting::new(),
            waiting_checked: (0, Tick(0)),
            pieces: Vec::with_capacity(MAX_PIECES),
            icmp_limit: Limiter::new(ICMP_ERRORS_PER_SECOND, ICMP_ERRORS_AT_ONCE),
            retry_limit: Limiter::new(RETRIES_PER_SECOND, RETRIES_AT_ONCE),
            stats,
            census: Census::new(occupancy),
            random: (options.seed ^ (u64::from(options.me.0) << 56)) | 1,
            work: None,
            writer: Writer::new(),
            made_before: 0,
        }
    }

    /// The same gateway, which knows how ports spread packets over workers: what all of them know.
    #[must_use]
    pub fn with_steering(self, steering: &Steering) -> Gateway<P> {
        let steering = (self.options.workers > 1).then(|| Box::new(steering.clone()));
        Gateway { steering, ..self }
    }

    /// This worker's counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.stats
    }

    /// Entries of ESP and IKE that this worker has, besides those of its table.
    #[must_use]
    pub fn ipsec_entries(&self) -> usize {
        self.esp.entries()
    }

    /// This worker's table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Forgets what it knows of an older snapshot.
    #[inline]
    fn follow(&mut self, snapshot: &Snapshot) {
        if self.exits.follow(snapshot) {
            self.in_vain.forget();
            self.pool_in_vain = InVain::default();
            self.host_counts
                .follow(&snapshot.nat, self.table.capacity());
        }
    }

    /// One packet that is not ordinary, a released fragment, or one that comes in again.
    fn process_one(&mut self, pass: &mut Pass<'_, impl Output<P>>, item: Item<P>) {
        if let Some(ready) = self.prepare(pass, item) {
            self.decide(pass, ready);
        }
    }

    /// Parses a packet and finds out what to look up for it; `None` where it is already disposed of.
    fn prepare(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
    ) -> Option<Prepared<P>> {
        let Some(interface) = pass.snapshot.interface(item.meta.port).filter(|i| i.up) else {
            self.refused(DropReason::PortDown, item.meta);
            return None;
        };
        let frame = item.packet.data();
        let parsed = match wire::parse(frame, !item.packet.ip_checksum_verified()) {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.refused(reason, item.meta);
                return None;
            }
        };
        let is_group = Ethernet::new(frame).is_some_and(Ethernet::is_group);
        let is_ours = is_group || Ethernet::new(frame).is_some_and(|e| e.dst() == interface.mac);
        if !is_ours && item.meta.handoffs == 0 && !item.meta.hairpin {
            self.refused(DropReason::NotOurMac, item.meta);
            return None;
        }
        let punt = match parsed {
            Parsed::Ipv4(_) if is_group => Counter::PuntedLocal,
            Parsed::Ipv4(ip) if ip.dst >= MULTICAST || ip.src == 0 => Counter::PuntedLocal,
            Parsed::Ipv4(ip) => {
                let ip = arrived(pass.snapshot, item.meta, ip);
                return self.prepare_ipv4(pass, interface.side, item, ip);
            }
            Parsed::Arp => Counter::PuntedArp,
            Parsed::Ipv6 => Counter::PuntedIpv6,
            Parsed::Other(_) => Counter::PuntedOther,
        };
        self.punt(pass, punt, item);
        None
    }

    fn prepare_ipv4(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        side: Side,
        item: Item<P>,
        ip: Ipv4,
    ) -> Option<Prepared<P>> {
        let direction = match side {
            Side::None => {
                return Some(Prepared {
                    item,
                    ip,
                    lookup: Lookup::None,
                });
            }
            _ if item.meta.hairpin => Direction::In,
            Side::Inside => Direction::Out,
            Side::Outside => Direction::In,
        };
        let item = if ip.fragment.is_some() && item.meta.ports.is_none() {
            self.follow_fragment(pass, item, &ip)?
        } else {
            item
        };
        let item = if item.meta.seen == Seen::ASKED {
            self.answer_asked(pass, item, &ip)?
        } else {
            item
        };
        let lookup = match ip.l4 {
            L4::IcmpError { .. } => Lookup::Quoted(direction),
            L4::IcmpQuery { .. } if direction == Direction::In && inside::is_request(&ip) => {
                Lookup::Request(key_of(&ip, item.meta))
            }
            _ => {
                let key = key_of(&ip, item.meta);
                if ipsec::is_ipsec(direction, ip.protocol, key)
                    && !outside_source::is_translated(pass.snapshot, direction, ip.protocol, key)
                {
                    Lookup::Ipsec(direction, key)
                } else {
                    Lookup::Flow {
                        direction,
                        key,
                        hash: self
                            .table
                            .hash(Kind::new(direction, ip.vrf, ip.protocol), key),
                    }
                }
            }
        };
        let item = self.keep_if_mine(pass, item, &ip, lookup)?;
        Some(Prepared { item, ip, lookup })
    }

    /// The worker that decides about a packet, if that is another one.
    #[inline(always)]
    fn other_worker(
        &self,
        snapshot: &Snapshot,
        item: &Item<P>,
        ip: &Ipv4,
        lookup: Lookup,
    ) -> Option<WorkerId> {
        if self.options.workers == 1 {
            return None;
        }
        let owner = self.owner(snapshot, item, ip, lookup);
        (owner != self.options.me).then_some(owner)
    }

    /// Hands a packet to the worker that decides about it, if that is another one.
    #[inline(always)]
    fn keep_if_mine(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        lookup: Lookup,
    ) -> Option<Item<P>> {
        match self.other_worker(pass.snapshot, &item, ip, lookup) {
            Some(owner) => {
                self.hand_off(pass, owner, item);
                None
            }
            None => Some(item),
        }
    }

    fn decide(&mut self, pass: &mut Pass<'_, impl Output<P>>, ready: Prepared<P>) {
        let Prepared { item, ip, lookup } = ready;
        if let Lookup::Flow {
            direction,
            key,
            hash,
        } = lookup
            && let Some(at) = self
                .table
                .find(hash, Kind::new(direction, ip.vrf, ip.protocol), key)
        {
            return self.hit(pass, item, &ip, direction, at);
        }
        self.decide_anew(pass, item, &ip, lookup);
    }

    /// Decides about a packet that has no entry.
    fn decide_anew(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        lookup: Lookup,
    ) {
        let item = if self.has_own_worker(pass.snapshot, item.meta) {
            match self.leave_to_own_worker(pass, item, ip, lookup) {
                Some(item) => item,
                None => return,
            }
        } else {
            item
        };
        let beyond = match lookup {
            Lookup::Flow {
                direction: Direction::Out,
                ..
            } => self.exits.beyond(pass.snapshot, ip.vrf, ip.dst),
            _ => None,
        };
        let reason = match beyond {
            Some(_) => unfit_source(pass.snapshot, ip),
            None => unfit(pass.snapshot, item.meta, ip),
        };
        if let Some(reason) = reason {
            return self.refused(reason, item.meta);
        }
        let is_judged = item.meta.hairpin
            || item.meta.seen != Seen::UNKNOWN
            || item.meta.borrowing != Borrowing::NotTried;
        if !is_judged
            && pass
                .snapshot
                .nat
                .access_group(item.meta.port, Way::In)
                .is_some()
            && !matches!(lookup, Lookup::Quoted(_))
            && !access::may_come(
                pass.snapshot,
                item.meta.port,
                ip,
                key_of(ip, item.meta),
                true,
            )
        {
            return self.denied(pass, item, ip, DropReason::AccessListIn);
        }
        match lookup {
            Lookup::None => self.route(pass, item, ip),
            Lookup::Request(key) => self.outside(pass, item, ip, key),
            Lookup::Ipsec(direction, key) => self.ipsec(pass, item, ip, direction, key),
            Lookup::Quoted(direction) => self.translate_error(pass, item, ip, direction),
            Lookup::Flow { direction, key, .. } => match direction {
                Direction::Out => self.inside(pass, item, ip, key, beyond),
                Direction::In => self.outside(pass, item, ip, key),
            },
        }
    }

    /// Removes what is over, sends what no longer waits: a bounded step. Returns whether there
    /// was anything to do.
    pub fn age(&mut self, pass: &mut Pass<'_, impl Output<P>>, spare: Spare) -> bool {
        self.follow(pass.snapshot);
        let released = self.release_waiting(pass);
        let fragments = self.expire_fragments(pass.now);
        let held = self.age_ipsec(pass);
        self.take_back(pass.now);
        let counted = self.host_counts.catch_up(&self.table, spare.places());
        let timers = &pass.snapshot.nat.timers;
        // No fewer than are made, or what is over would fill the table.
        let made = self.table.made().wrapping_sub(self.made_before);
        self.made_before = self.table.made();
        let mut budget = spare.timers().max(AGED_FOR_EACH_MADE * made);
        let mut expired = false;
        while let Some(at) = self
            .table
            .next_expired(pass.now.tick(), timers, &mut budget)
        {
            if self.is_used_elsewhere(pass.now, pass.snapshot, at) {
                continue;
            }
            let session = *self.table.session(at);
            self.told_expiring(pass.now, &session);
            self.remove_entry(pass.snapshot, at);
            self.stats.count(Counter::Expired);
            expired = true;
        }
        self.census.tell(pass.now);
        // A budget that is used up means that the wheel lags: there is more to do.
        released || fragments || held || counted || expired || budget == 0
    }

    /// Drops what is held, because the worker ends.
    pub fn let_go(&mut self) {
        let stats = Arc::clone(&self.stats);
        let stopped = |port: PortId| {
            stats.dropped(DropReason::Stopped);
            if let Some(port) = stats.port(port) {
                port.rx_dropped.add(1);
            }
        };
        self.fragments
            .clear(|item: Item<P>| stopped(item.meta.port));
        self.waiting.clear(|item| stopped(item.meta.port));
        self.let_go_held(stopped);
    }

    fn punt(&mut self, pass: &mut Pass<'_, impl Output<P>>, counter: Counter, item: Item<P>) {
        self.stats.count(counter);
        pass.out.punt(item.meta.port, item.packet);
    }

    fn hand_off(&mut self, pass: &mut Pass<'_, impl Output<P>>, to: WorkerId, mut item: Item<P>) {
        item.meta.handoffs += 1;
        if item.meta.handoffs > MAX_HANDOFFS {
            self.refused(DropReason::Loop, item.meta);
        } else {
            pass.out.hand_off(to, item);
        }
    }

    /// Counts a dropped packet; the caller lets it go.
    fn refused(&self, reason: DropReason, meta: Meta) {
        self.stats.dropped(reason);
        if let Some(port) = self.stats.port(meta.port) {
            port.rx_dropped.add(1);
        }
    }

    /// A pseudo-random number (xorshift64*), for choices that outsiders should not foresee.
    fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// A packet that was parsed, in the VRF where it arrived.
fn arrived(snapshot: &Snapshot, meta: Meta, ip: Ipv4) -> Ipv4 {
    // What comes in again does so from the world outside, wherever it was before.
    let vrf = if meta.hairpin {
        VrfId::GLOBAL
    } else {
        snapshot.vrf(meta.port)
    };
    Ipv4 { vrf, ..ip }
}

/// Why a packet without entry may not be forwarded, if it may not: nobody else has our addresses
/// (RFC 1812 section 5.3.8), nobody is a network.
fn unfit(snapshot: &Snapshot, meta: Meta, ip: &Ipv4) -> Option<DropReason> {
    if meta.hairpin {
        return None;
    }
    let destination = Ipv4Addr::from_bits(ip.dst);
    unfit_source(snapshot, ip).or_else(|| {
        let is_group = snapshot.is_directed_broadcast(ip.vrf, destination);
        is_group.then_some(DropReason::IpDestination)
    })
}

/// [`unfit`] of a packet that has just arrived, for a destination that is fit.
fn unfit_source(snapshot: &Snapshot, ip: &Ipv4) -> Option<DropReason> {
    let source = Ipv4Addr::from_bits(ip.src);
    let is_ours = snapshot.local(ip.vrf, source).is_some();
    is_ours.then_some(DropReason::IpSource)
}

/// The first multicast address; everything from here on is for the kernel twin.
const MULTICAST: u32 = 0xe000_0000;

/// The key of a packet. What has no ports has zeros there.
#[inline(always)]
fn key_of(ip: &Ipv4, meta: Meta) -> Key {
    let (sport, dport) = match ip.l4 {
        L4::IcmpQuery { id, .. } => (id, id),
        L4::LaterFragment => meta.ports.unwrap_or((0, 0)),
        _ => ip.ports().unwrap_or((0, 0)),
    };
    Key {
        src: ip.src,
        dst: ip.dst,
        sport,
        dport,
    }
}
