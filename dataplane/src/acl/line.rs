//! A line as it lies in memory: all that it asks for, whether it permits, and the count of who asked,
//! in half a line of the cache.

use std::sync::atomic::AtomicU64;

use super::{Action, Entry, Ports, Subject, Wildcard};

/// A line of a list.
#[derive(Debug)]
#[repr(align(32))]
pub(super) struct Line {
    pub(super) hits: AtomicU64,
    addresses: [u32; 2],
    /// First and last source port, first and last destination port.
    ports: [u16; 4],
    /// Its place in the list.
    pub(super) line: u32,
    /// Low bits of each address that do not matter, up to 32.
    shifts: [u8; 2],
    protocol: u8,
    asks: u8,
}

const _: () = assert!(size_of::<Line>() == 32, "half a line of the cache");

/// Bits of [`Line::asks`].
const PROTOCOL: u8 = 1;
/// Some ports only; the packet must show its own.
const PORTS: u8 = 1 << 1;
/// All source ports but these.
const NOT_FROM: u8 = 1 << 2;
/// All destination ports but these.
const NOT_TO: u8 = 1 << 3;
const ESTABLISHED: u8 = 1 << 4;
const FRAGMENTS: u8 = 1 << 5;
/// What only the list's own line tells.
const MORE: u8 = 1 << 6;
/// What a match means; the one bit that asks for nothing.
const PERMITS: u8 = 1 << 7;

impl Line {
    /// Line `line` of a list, which is `entry`.
    pub(super) fn new(line: u32, entry: &Entry) -> Line {
        let (from, to) = (entry.source_ports, entry.destination_ports);
        let sides = [entry.source, entry.destination];
        let is_prefix = |side: &Wildcard| shift(*side) == side.dont_care.trailing_ones();
        let more = entry.icmp.is_some() || !sides.iter().all(is_prefix);
        let bit = |bit: u8, is_set: bool| if is_set { bit } else { 0 };
        let asks = bit(PROTOCOL, entry.protocol.is_some())
            | bit(PORTS, from != Ports::ANY || to != Ports::ANY)
            | bit(NOT_FROM, from.negated)
            | bit(NOT_TO, to.negated)
            | bit(ESTABLISHED, entry.established)
            | bit(FRAGMENTS, entry.fragments)
            | bit(MORE, more)
            | bit(PERMITS, entry.action == Action::Permit);
        Line {
            hits: AtomicU64::new(0),
            addresses: sides.map(|side| side.address),
            ports: [from.first, from.last, to.first, to.last],
            line,
            shifts: sides.map(|side| shift(side) as u8),
            protocol: entry.protocol.unwrap_or_default(),
            asks,
        }
    }

    /// What a match means.
    #[inline]
    pub(super) fn action(&self) -> Action {
        if self.asks & PERMITS != 0 {
            Action::Permit
        } else {
            Action::Deny
        }
    }

    /// Whether a packet matches. `more` tells it of a line of which not all is here.
    #[inline]
    pub(super) fn matches(&self, packet: &Subject, more: impl Fn(usize) -> bool) -> bool {
        let asks = |bits: u8| self.asks & bits != 0;
        // One branch for all that most lines ask for: nobody can guess which of it a packet does not have.
        let is_usual = self.has_addresses(packet)
            & (!asks(PROTOCOL) | (self.protocol == packet.protocol))
            & (!asks(PORTS) | self.has_ports(packet));
        is_usual && (!asks(ESTABLISHED | FRAGMENTS | MORE) || self.has_more(packet, more))
    }

    #[inline]
    fn has_addresses(&self, packet: &Subject) -> bool {
        let differs = |side: usize, address: u32| {
            u64::from(self.addresses[side] ^ address) >> self.shifts[side]
        };
        differs(0, packet.source) | differs(1, packet.destination) == 0
    }

    #[inline]
    fn has_ports(&self, packet: &Subject) -> bool {
        let [first_from, last_from, first_to, last_to] = self.ports;
        let (from, to) = packet.ports.unwrap_or_default();
        let is_from = (first_from <= from) & (from <= last_from);
        let is_to = (first_to <= to) & (to <= last_to);
        let asks = |bit: u8| self.asks & bit != 0;
        packet.ports.is_some() & (is_from != asks(NOT_FROM)) & (is_to != asks(NOT_TO))
    }

    #[inline]
    fn has_more(&self, packet: &Subject, more: impl Fn(usize) -> bool) -> bool {
        let asks = |bit: u8| self.asks & bit != 0;
        (!asks(ESTABLISHED) || packet.established)
            && (!asks(FRAGMENTS) || packet.later_fragment)
            && (!asks(MORE) || more(self.line as usize))
    }
}

/// How many low bits hold all that do not matter; all but these matter only if the mask is a prefix's.
pub(super) fn shift(side: Wildcard) -> u32 {
    32 - side.dont_care.leading_zeros()
}
