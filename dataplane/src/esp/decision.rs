//! What the engine answers, and the names of its refusals and counters.

use std::net::Ipv4Addr;

use super::held::HoldTicket;
use crate::snapshot::InsideHost;
use crate::stats::named;

named! {
    /// Why an ESP, AH or IKE packet was refused. Each refused packet is counted under exactly one.
    EspDrop {
        Ambiguous = "esp_ambiguous", "several clients may expect this SPI and nothing settled whose it is";
        HoldFull = "esp_hold_full", "no room to hold the packet until its turn to be paired";
        PendingExpired = "esp_pending_expired", "held longer than esp-pending-timeout";
        SpiCollision = "esp_spi_collision", "another client of this peer and address has the same SPI";
        UnknownSpi = "esp_unknown_spi", "from outside, with an SPI that no client expects";
        Malformed = "esp_malformed", "ESP or IKE header cut short or wrong";
        ReservedSpi = "esp_reserved_spi", "SPI 0 to 255 (RFC 4303 section 2.1)";
        HalfTableFull = "esp_half_table_full", "the worker's table of half-entries is full";
        RelationTableFull = "esp_relation_table_full", "the worker's table of clients and peers is full";
        ClientShare = "esp_client_share", "the client has as many entries as one client may have";
        NoGlobal = "esp_no_global", "no global address for this client and peer";
        IkeTableFull = "ike_table_full", "the worker's table of IKE entries is full";
        IkePortsExhausted = "ike_ports_exhausted", "no free outside port below 512 for IKE to this peer";
        IkeCollision = "ike_collision", "another client of this peer and address has the same initiator cookie";
        IkeTries = "ike_tries", "too many unknown IKE cookies from this peer in one second";
        MaxEntries = "max_entries", "ip nat translation max-entries reached";
        AuthenticationHeader = "ah_not_translatable", "AH protects the addresses, so it cannot pass a NAT";
        Cleared = "esp_cleared", "held when its entry was cleared or withdrawn";
    }
}

named! {
    /// What the engine counts besides refusals.
    EspCounter {
        HalvesOut = "halves_out", "outbound half-entries made";
        HalvesIn = "halves_in", "inbound half-entries made";
        PairedStatic = "paired_static", "tunnels paired by a static entry";
        PairedMatched = "paired_matched", "tunnels paired by SPI matching";
        PairedLearned = "paired_learned", "tunnels paired by their first reply";
        PairedIke = "paired_ike", "tunnels paired by IKE evidence";
        Confirmed = "confirmed", "tentative pairings proven by a second packet";
        Withdrawn = "tentative_withdrawn", "tentative pairings that another one outdid";
        TentativeFull = "tentative_full", "delivered without an entry: too many tentative pairings";
        OnlyClient = "only_client", "unknown SPIs delivered without an entry to the only client of the peer";
        StaticDelivered = "static_delivered", "packets from outside delivered by a static entry";
        NotOurs = "not_ours", "packets from outside of no known peer and address";
        HeldOut = "held_out", "packets from inside held until their turn to be paired";
        HeldIn = "held_in", "packets from outside held because several clients may expect them";
        Released = "released", "held packets sent on";
        WaitsExpired = "waits_expired", "waits for a first reply that ran out";
        Serialised = "serialised", "times that unpaired tunnels of a peer were made to take turns again";
        Rehomed = "rehomed", "clients that took another global address after a collision";
        Expired = "expired", "half-entries removed by their timer";
        Cleared = "cleared", "half-entries removed by command";
        Reconciled = "reconciled", "half-entries removed because the configuration changed";
        IkeEntries = "ike_entries", "IKE entries made";
        IkeExpired = "ike_expired", "IKE entries removed by their timer";
        IkeExchanges = "ike_exchanges", "exchanges seen that can make IPsec SAs";
        IkeByCookie = "ike_by_cookie", "IKE messages told apart by cookie on a shared port";
        IkeInTurn = "ike_in_turn", "IKE messages with an unknown cookie given to one candidate after another";
        IkeShareReused = "ike_share_reused", "cookies forgotten because their client had too many";
    }
}

/// How a tunnel's two directions were found to belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `ip nat inside source static esp`.
    Static,
    /// SPI matching: one SPI is H of the other.
    Matched,
    /// The first reply while only this client waited.
    Learned,
    /// The IKE exchange that made the SA.
    Ike,
}

impl Method {
    /// The stable name for `show` and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Method::Static => "static",
            Method::Matched => "matched",
            Method::Learned => "learned",
            Method::Ike => "ike",
        }
    }
}

/// What to do with an ESP packet from inside.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Outbound {
    /// Send it with this source address.
    Translate {
        /// The global address.
        global: Ipv4Addr,
    },
    /// Give it to [`super::Engine::keep`]; it comes back from [`super::Engine::next_release`].
    Hold(HoldTicket),
    /// Drop it.
    Drop(EspDrop),
}

/// What to do with an ESP packet from outside.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Inbound {
    /// Send it to this inside host.
    Deliver {
        /// The inside host.
        client: InsideHost,
    },
    /// Give it to [`super::Engine::keep`]; it comes back from [`super::Engine::next_release`].
    Hold(HoldTicket),
    /// Drop it.
    Drop(EspDrop),
    /// No client talks to that peer through that address: perhaps the packet is for the appliance.
    NotOurs,
}

/// What to do with an IKE packet from inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum IkeOut {
    /// Send it with this source address and port.
    Translate {
        /// The global address.
        global: Ipv4Addr,
        /// The outside port.
        port: u16,
    },
    /// Drop it.
    Drop(EspDrop),
}

/// What to do with an IKE packet from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum IkeIn {
    /// Send it to this inside host and port.
    Deliver {
        /// The inside host.
        client: InsideHost,
        /// Its port.
        port: u16,
    },
    /// Drop it.
    Drop(EspDrop),
    /// No IKE entry fits: perhaps the packet is for the appliance, or a static's.
    NotOurs,
}

/// A held packet whose fate is decided.
#[derive(Debug, PartialEq, Eq)]
pub struct Release<T> {
    /// The packet.
    pub packet: T,
    /// What to do with it.
    pub outcome: Outcome,
}

/// The fate of a held packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// From inside: send it with this source address.
    Translate {
        /// The global address.
        global: Ipv4Addr,
    },
    /// From outside: send it to this inside host.
    Deliver {
        /// The inside host.
        client: InsideHost,
    },
    /// Drop it; already counted.
    Drop(EspDrop),
}

/// The engine's counters, readable at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EspStats {
    pub(super) drops: [u64; EspDrop::ALL.len()],
    pub(super) counters: [u64; EspCounter::ALL.len()],
}

impl Default for EspStats {
    fn default() -> EspStats {
        EspStats {
            drops: [0; EspDrop::ALL.len()],
            counters: [0; EspCounter::ALL.len()],
        }
    }
}

impl EspStats {
    /// Packets refused for `reason`.
    #[must_use]
    pub fn drops(&self, reason: EspDrop) -> u64 {
        self.drops[reason as usize]
    }

    /// Packets refused, whatever the reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// The value of a counter.
    #[must_use]
    pub fn counter(&self, counter: EspCounter) -> u64 {
        self.counters[counter as usize]
    }
}

/// How much the engine holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EspOccupancy {
    /// Outbound half-entries with a proven inbound one.
    pub tunnels: usize,
    /// Outbound half-entries without.
    pub half_open: usize,
    /// Inbound half-entries.
    pub inbound: usize,
    /// Pairs of client and peer.
    pub relations: usize,
    /// IKE entries: client's socket and peer's socket.
    pub ike_entries: usize,
    /// IKE SAs known by cookie.
    pub ike_sas: usize,
    /// Packets held.
    pub held_packets: usize,
    /// Octets of the packets held.
    pub held_octets: usize,
}
