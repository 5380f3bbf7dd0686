//! Counters: one padded block a worker, written by that worker alone, read by the control thread.
//!
//! Every packet that ends here ends with exactly one [`DropReason`].

use std::sync::atomic::{AtomicU64, Ordering};

use crate::esp::{EspCounter, EspOccupancy, EspStats};
use crate::journal::Journal;

/// Makes an enum whose variants have a stable snake_case name and one line of help.
macro_rules! named {
    ($(#[$meta:meta])* $type:ident { $($variant:ident = $name:literal, $help:literal;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $type { $(#[doc = $help] $variant,)* }

        impl $type {
            /// Every value, in the order of its number.
            pub const ALL: &[$type] = &[$($type::$variant,)*];

            /// The stable name used in JSON, metrics, `show` and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }

            /// What it means, in one line.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $($type::$variant => $help,)* }
            }
        }
    };
}

pub(crate) use named;

named! {
    /// Why a packet was dropped. Each dropped packet is counted under exactly one.
    DropReason {
        FrameTooShort = "frame_too_short", "frame shorter than its Ethernet or IPv4 header";
        NotOurMac = "not_our_mac", "unicast frame to a MAC address that is not the port's";
        NotLinear = "not_linear", "frame in several buffers, larger than the port's MTU";
        IpVersion = "ip_version", "EtherType says IPv4, the header does not";
        IpHeaderLength = "ip_header_length", "IPv4 header length below 20 or beyond the packet";
        IpTotalLength = "ip_total_length", "IPv4 total length below the header or beyond the frame";
        IpChecksum = "ip_checksum", "IPv4 header checksum wrong";
        IpSource = "ip_source", "source address that no host may have (RFC 1812 5.3.7)";
        IpDestination = "ip_destination", "destination address that may not be forwarded (RFC 1812 5.3.7)";
        L4Truncated = "l4_truncated", "TCP, UDP or ICMP header cut short";
        TtlExceeded = "ttl_exceeded", "time to live ran out here";
        NoRoute = "no_route", "no route to the destination";
        MtuExceeded = "mtu_exceeded", "larger than the next link's MTU with Don't Fragment set";
        PortDown = "port_down", "the outgoing port is shut down or gone";
        NeighbourQueueFull = "neighbour_queue_full", "too many packets wait for this next hop's MAC address";
        NeighbourFailed = "neighbour_failed", "the next hop does not answer ARP";
        NeighbourTimeout = "neighbour_timeout", "waited too long for the next hop's MAC address";
        NoTranslation = "no_translation", "to a global address, but no entry and no static fits";
        Filtered = "filtered", "unasked, to an endpoint-independent mapping whose filtering keeps its sender out";
        NoConnection = "no_connection", "TCP to an address whose load is shared, of no connection and beginning none";
        OutsideHostUnknown = "outside_host_unknown", "to an address of a pool for outside hosts that stands for none";
        ProtocolNotTranslatable = "protocol_not_translatable", "IP protocol without ports under overload";
        IcmpNotTranslatable = "icmp_not_translatable", "ICMP type that can't make an entry";
        PoolExhausted = "pool_exhausted", "no free address in the pool";
        PortsExhausted = "ports_exhausted", "no free outside port to this destination";
        SessionTableFull = "session_table_full", "the worker's session table is full";
        MaxEntries = "max_entries", "ip nat translation max-entries reached";
        FragmentStoreFull = "fragment_store_full", "too many fragments wait for their first one";
        FragmentTimeout = "fragment_timeout", "the first fragment did not come in time";
        FragmentMalformed = "fragment_malformed", "first fragment too short for its ports, or overlapping (RFC 3128)";
        IcmpErrorMalformed = "icmp_error_malformed", "ICMP error whose quoted packet can't be read";
        IcmpErrorChecksum = "icmp_error_checksum", "ICMP error with a wrong checksum";
        IcmpErrorUnmatched = "icmp_error_unmatched", "ICMP error about a packet of no known entry";
        HandoffFull = "handoff_full", "the owning worker's ring is full";
        PuntFull = "punt_full", "the ring to the kernel twin is full";
        TransmitFull = "transmit_full", "the port's transmit queue is full";
        BufferExhausted = "buffer_exhausted", "no free packet buffer";
        AccessListIn = "access_list_in", "denied by an inbound access list";
        AccessListOut = "access_list_out", "denied by an outbound access list";
        Loop = "loop", "handed from worker to worker too often";
        EspAmbiguous = "esp_ambiguous", "several clients may expect this SPI and nothing settled whose it is";
        EspHoldFull = "esp_hold_full", "no room to hold the ESP packet until its turn to be paired";
        EspPendingExpired = "esp_pending_expired", "ESP packet held longer than esp-pending-timeout";
        EspSpiCollision = "esp_spi_collision", "another client of this peer and address has the same SPI";
        EspUnknownSpi = "esp_unknown_spi", "ESP from outside, with an SPI that no client expects";
        EspMalformed = "esp_malformed", "ESP or IKE header cut short or wrong";
        EspReservedSpi = "esp_reserved_spi", "SPI 0 to 255 (RFC 4303 section 2.1)";
        EspHalfTableFull = "esp_half_table_full", "the worker's table of ESP half-entries is full";
        EspRelationTableFull = "esp_relation_table_full", "the worker's table of IPsec clients and peers is full";
        EspClientShare = "esp_client_share", "the client has as many ESP and IKE entries as one client may have";
        EspNoGlobal = "esp_no_global", "no global address for this IPsec client and peer";
        IkeTableFull = "ike_table_full", "the worker's table of IKE entries is full";
        IkePortsExhausted = "ike_ports_exhausted", "no free outside port below 512 for IKE to this peer";
        IkeCollision = "ike_collision", "another client of this peer and address has the same initiator cookie";
        IkeTries = "ike_tries", "too many unknown IKE cookies from this peer in one second";
        AhNotTranslatable = "ah_not_translatable", "AH protects the addresses, so it cannot pass a NAT";
        EspCleared = "esp_cleared", "ESP packet held when its entry was cleared or withdrawn";
        Stopped = "stopped", "held here when the worker stopped or the port left";
    }
}

named! {
    /// What a worker counts besides drops.
    Counter {
        Hits = "hits", "packets that found their entry or static";
        Misses = "misses", "packets that found none and tried to make one";
        CreatedTcp = "created_tcp", "TCP entries made";
        CreatedUdp = "created_udp", "UDP entries made";
        CreatedIcmp = "created_icmp", "ICMP entries made";
        CreatedSimple = "created_simple", "address entries made (NAT without overload)";
        CreatedOther = "created_other", "entries of other protocols made (route map without overload)";
        CreatedMapping = "created_mapping", "endpoint-independent mappings made";
        CreatedInbound = "created_inbound", "TCP and UDP entries made by packets from outside, through a mapping";
        Expired = "expired", "entries removed by their timer";
        Cleared = "cleared", "entries removed by command";
        Withdrawn = "withdrawn", "entries removed because a new configuration would not make them";
        Routed = "routed", "packets forwarded untranslated";
        Hairpinned = "hairpinned", "packets from inside to inside through a global address";
        PuntedArp = "punted_arp", "ARP frames given to the kernel twin";
        PuntedIpv6 = "punted_ipv6", "IPv6 frames given to the kernel twin";
        PuntedOther = "punted_other", "frames of other EtherTypes given to the kernel twin";
        PuntedLocal = "punted_local", "IPv4 packets to our own addresses given to the kernel twin";
        Injected = "injected", "frames of the kernel twin sent";
        HandoffOut = "handoff_out", "packets given to another worker";
        HandoffIn = "handoff_in", "packets taken over from another worker";
        AnswersSteered = "answers_steered", "entries made whose answers the port brings to their worker";
        AnswersNotSteered = "answers_not_steered", "entries made whose answers come to another worker: no port that steers them was free";
        PortsAsked = "ports_asked", "times that other workers were asked for ports for a packet, because its own had none";
        PortsLent = "ports_lent", "times that the worker lent another the free ports of a block";
        FragmentsTranslated = "fragments_translated", "fragments forwarded";
        FragmentsHeld = "fragments_held", "fragments that waited for their first one";
        Fragmented = "fragmented", "packets cut into fragments for the next link";
        NeighbourHeld = "neighbour_held", "packets that waited for a MAC address";
        IcmpErrorsTranslated = "icmp_errors_translated", "ICMP errors translated with their quoted packet";
        IcmpTimeExceededSent = "icmp_time_exceeded_sent", "ICMP time exceeded made here";
        IcmpUnreachableSent = "icmp_unreachable_sent", "ICMP destination unreachable made here";
        IcmpFragmentationNeededSent = "icmp_fragmentation_needed_sent", "ICMP fragmentation needed made here";
        IcmpRateLimited = "icmp_rate_limited", "ICMP errors not sent because of the rate limit";
        Polls = "polls", "rounds of the poll loop";
        BusyPolls = "busy_polls", "rounds that moved at least one packet";
        BusyCycles = "busy_cycles", "CPU cycles spent in busy rounds";
        BusyPackets = "busy_packets", "packets moved in busy rounds";
        Naps = "naps", "times the worker slept because nothing came";
    }
}

/// A counter with one writer: adding is a load and a store, never a locked instruction.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds `n`. Only the owning worker may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Takes `n` off. Only the owning worker may call this.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_sub(n),
            Ordering::Relaxed,
        );
    }

    /// Replaces the value. Only the owning worker may call this.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counts for one port.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct PortCounters {
    /// Packets received.
    pub rx_packets: Cell,
    /// Octets received, Ethernet header included, frame check sequence not.
    pub rx_octets: Cell,
    /// Packets that the port took for sending.
    pub tx_packets: Cell,
    /// Octets that the port took for sending.
    pub tx_octets: Cell,
    /// Packets that came in on this port and were dropped, whatever the reason.
    pub rx_dropped: Cell,
    /// Packets that were meant for this port and were dropped because it would not take them.
    pub tx_dropped: Cell,
}

/// What one worker's ESP and IKE engine holds and has counted, as it was at most a millisecond ago.
#[derive(Debug)]
pub struct EspFigures {
    tunnels: Cell,
    half_open: Cell,
    inbound: Cell,
    relations: Cell,
    ike_entries: Cell,
    ike_sas: Cell,
    held_packets: Cell,
    held_octets: Cell,
    counters: [Cell; EspCounter::ALL.len()],
}

impl Default for EspFigures {
    fn default() -> EspFigures {
        EspFigures {
            tunnels: Cell::default(),
            half_open: Cell::default(),
            inbound: Cell::default(),
            relations: Cell::default(),
            ike_entries: Cell::default(),
            ike_sas: Cell::default(),
            held_packets: Cell::default(),
            held_octets: Cell::default(),
            counters: std::array::from_fn(|_| Cell::default()),
        }
    }
}

impl EspFigures {
    /// Copies the engine's figures. Only the owning worker may call this.
    pub fn publish(&self, occupancy: &EspOccupancy, stats: &EspStats) {
        let pairs = [
            (&self.tunnels, occupancy.tunnels),
            (&self.half_open, occupancy.half_open),
            (&self.inbound, occupancy.inbound),
            (&self.relations, occupancy.relations),
            (&self.ike_entries, occupancy.ike_entries),
            (&self.ike_sas, occupancy.ike_sas),
            (&self.held_packets, occupancy.held_packets),
            (&self.held_octets, occupancy.held_octets),
        ];
        for (cell, value) in pairs {
            cell.set(value as u64);
        }
        for counter in EspCounter::ALL {
            self.counters[*counter as usize].set(stats.counter(*counter));
        }
    }

    /// How much the engine holds.
    #[must_use]
    pub fn occupancy(&self) -> EspOccupancy {
        let of = |cell: &Cell| cell.value() as usize;
        EspOccupancy {
            tunnels: of(&self.tunnels),
            half_open: of(&self.half_open),
            inbound: of(&self.inbound),
            relations: of(&self.relations),
            ike_entries: of(&self.ike_entries),
            ike_sas: of(&self.ike_sas),
            held_packets: of(&self.held_packets),
            held_octets: of(&self.held_octets),
        }
    }

    /// What the engine has counted.
    #[must_use]
    pub fn counter(&self, counter: EspCounter) -> u64 {
        self.counters[counter as usize].value()
    }
}

/// Everything one worker counts and tells.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerStats {
    counters: [Cell; Counter::ALL.len()],
    drops: [Cell; DropReason::ALL.len()],
    ports: Box<[PortCounters]>,
    /// Entries now in this worker's table.
    pub sessions: Cell,
    /// ESP and IKE.
    pub esp: EspFigures,
    /// What it tells while somebody debugs, and for the log.
    pub journal: Journal,
}

impl WorkerStats {
    /// Counters at zero, for `ports` ports.
    #[must_use]
    pub fn new(ports: usize) -> WorkerStats {
        WorkerStats {
            counters: std::array::from_fn(|_| Cell::default()),
            drops: std::array::from_fn(|_| Cell::default()),
            ports: (0..ports).map(|_| PortCounters::default()).collect(),
            sessions: Cell::default(),
            esp: EspFigures::default(),
            journal: Journal::default(),
        }
    }

    /// Counts one event.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `n` events.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        self.counters[counter as usize].add(n);
    }

    /// Counts one dropped packet.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    /// Counts `n` dropped packets.
    #[inline]
    pub fn dropped_many(&self, reason: DropReason, n: u64) {
        self.drops[reason as usize].add(n);
    }

    /// The present value of a counter.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].value()
    }

    /// How many packets were dropped for `reason`.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].value()
    }

    /// The counters of a port; `None` for a port that does not exist.
    #[must_use]
    pub fn port(&self, port: crate::snapshot::PortId) -> Option<&PortCounters> {
        self.ports.get(port.index())
    }
}
