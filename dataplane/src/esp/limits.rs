//! How much an engine may hold, and how long.

use super::half::{Client, Group, In, Out, Relation};
use super::held::Pool;
use super::ike_entry::{Flow, Port, Sa};
use super::table::Table;

/// Sizes, fixed when the engine is made. All memory is taken then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Inside clients.
    pub clients: usize,
    /// Pairs of client and peer.
    pub relations: usize,
    /// Outbound half-entries; as many inbound ones.
    pub halves: usize,
    /// IKE entries (sockets); as many cookies.
    pub ike_entries: usize,
    /// Packets from inside held at once; half as many from outside.
    pub held_packets: usize,
    /// Octets of packets from inside held at once; half as many from outside.
    pub held_octets: usize,
    /// Relations of one client.
    pub client_relations: u32,
    /// Outbound half-entries of one client; as many inbound ones.
    pub client_halves: u32,
    /// IKE entries of one client.
    pub client_ike_entries: u32,
    /// Packets of one waiting client.
    pub client_held_packets: u32,
    /// Octets of packets of one waiting client.
    pub client_held_octets: u32,
    /// Ambiguous packets from outside held for one peer and global address.
    pub group_held_packets: u32,
    /// Tentative inbound half-entries of one client and peer.
    pub tentative: u32,
    /// Cookies remembered for one client and peer.
    pub relation_cookies: u32,
    /// Clients of one peer and address that are looked at to place an unknown SPI or cookie; with
    /// more, it is ambiguous.
    pub candidates: u32,
    /// Unknown cookies of one peer and address that are tried a second.
    pub ike_tries: u32,
    /// Largest first sequence number of a new SA, allowing for packets lost or held before.
    pub fresh_sequence: u32,
    /// How long an exchange speaks for its client, in milliseconds.
    pub evidence_ms: u64,
    /// How long an ambiguous packet from outside is held, in milliseconds.
    pub ambiguous_ms: u64,
    /// How long each client waits when unpaired tunnels take turns again, in milliseconds.
    pub turn_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            clients: 16_384,
            relations: 16_384,
            halves: 65_536,
            ike_entries: 32_768,
            held_packets: 1_024,
            held_octets: 1_024 * 1_500,
            client_relations: 64,
            client_halves: 128,
            client_ike_entries: 64,
            client_held_packets: 16,
            client_held_octets: 16 * 1_500,
            group_held_packets: 32,
            tentative: 4,
            relation_cookies: 8,
            candidates: 1_024,
            ike_tries: 64,
            fresh_sequence: 1_024,
            evidence_ms: 30_000,
            ambiguous_ms: 1_000,
            turn_ms: 3_000,
        }
    }
}

impl Limits {
    /// Octets that an engine with these limits takes, without the held packets' own buffers; `T`
    /// is the packet type.
    #[must_use]
    pub fn memory<T>(&self) -> usize {
        use crate::snapshot::InsideHost as C;
        use std::net::Ipv4Addr as A;
        Table::<C, Client>::memory(self.clients)
            + Table::<(C, A), Relation>::memory(self.relations)
            + Table::<(A, A), Group>::memory(self.relations)
            + Table::<(C, A, u32), Out>::memory(self.halves)
            + Table::<(A, A, u32), In>::memory(self.halves)
            + 2 * Table::<(A, A, u64), u32>::memory(self.halves)
            + Table::<(C, A, u16, u16), Flow>::memory(self.ike_entries)
            + Table::<(A, A, u16, u16), Port>::memory(self.ike_entries)
            + Table::<(A, A, u64), Sa>::memory(self.ike_entries)
            + Pool::<T>::memory(self.held_slots())
    }

    pub(super) fn held_slots(&self) -> usize {
        self.held_packets + self.held_packets / 2
    }
}

/// Timers, in milliseconds; `None` means never. They may change at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EspTimers {
    /// `esp-timeout`: a tunnel without packets either way.
    pub esp_ms: Option<u64>,
    /// `esp-pending-timeout`: the wait for a first reply.
    pub pending_ms: Option<u64>,
    /// IKE entries, past their last message.
    pub ike_ms: Option<u64>,
}

impl Default for EspTimers {
    fn default() -> EspTimers {
        EspTimers {
            esp_ms: Some(300_000),
            pending_ms: Some(30_000),
            ike_ms: Some(300_000),
        }
    }
}
