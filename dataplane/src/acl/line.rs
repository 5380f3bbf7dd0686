//! A line as it lies in a table: what it asks for besides addresses, whether it permits, and the
//! count of who asked, in 24 octets.

use std::sync::atomic::AtomicU64;

use super::{Action, Entry, Ports, Subject};

/// A line whose addresses a packet has.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) hits: AtomicU64,
    /// First and last source port, first and last destination port.
    ports: [u16; 4],
    pub(super) line: u32,
    protocol: u8,
    asks: u8,
    pub(super) action: Action,
}

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
const ICMP: u8 = 1 << 6;

impl Line {
    /// Line `line` of a list, which is `entry`.
    pub(super) fn new(line: u32, entry: &Entry) -> Line {
        let (from, to) = (entry.source_ports, entry.destination_ports);
        let bit = |bit: u8, is_set: bool| if is_set { bit } else { 0 };
        let asks = bit(PROTOCOL, entry.protocol.is_some())
            | bit(PORTS, from != Ports::ANY || to != Ports::ANY)
            | bit(NOT_FROM, from.negated)
            | bit(NOT_TO, to.negated)
            | bit(ESTABLISHED, entry.established)
            | bit(FRAGMENTS, entry.fragments)
            | bit(ICMP, entry.icmp.is_some());
        Line {
            hits: AtomicU64::new(0),
            ports: [from.first, from.last, to.first, to.last],
            line,
            protocol: entry.protocol.unwrap_or_default(),
            asks,
            action: entry.action,
        }
    }

    /// Whether a packet with these addresses matches this line of `entries`.
    #[inline]
    pub(super) fn matches(&self, entries: &[Entry], packet: &Subject) -> bool {
        let asks = |bit: u8| self.asks & bit != 0;
        (!asks(PROTOCOL) || self.protocol == packet.protocol)
            && (!asks(PORTS) || self.has_ports(packet))
            && (!asks(ESTABLISHED | FRAGMENTS | ICMP) || self.has_more(entries, packet))
    }

    #[inline]
    fn has_ports(&self, packet: &Subject) -> bool {
        let [first_from, last_from, first_to, last_to] = self.ports;
        packet.ports.is_some_and(|(from, to)| {
            let is_from = (first_from <= from) & (from <= last_from);
            let is_to = (first_to <= to) & (to <= last_to);
            (is_from != (self.asks & NOT_FROM != 0)) & (is_to != (self.asks & NOT_TO != 0))
        })
    }

    #[inline]
    fn has_more(&self, entries: &[Entry], packet: &Subject) -> bool {
        let asks = |bit: u8| self.asks & bit != 0;
        (!asks(ESTABLISHED) || packet.established)
            && (!asks(FRAGMENTS) || packet.later_fragment)
            && (!asks(ICMP) || entries[self.line as usize].matches(packet))
    }
}
