//! Many lines about one pair of networks: told apart by protocol and by ports given exactly.

use super::{Entry, Ports, Subject};

/// The lines of one pair.
#[derive(Debug)]
pub(super) struct Split {
    number: u32,
    /// The first line.
    pub(super) lowest: u32,
    /// What lines ask for, a bit for each [`Asked`].
    asked: u8,
}

/// What is in a key: a protocol, an exact source port, an exact destination port, a bit for each.
type Asked = u8;

const PROTOCOL: Asked = 1;
const FROM: Asked = 1 << 1;
const TO: Asked = 1 << 2;

impl Split {
    /// Most of them: their numbers have 21 bits.
    pub(super) const MOST: u32 = 1 << 21;

    /// The one with this number, below [`Split::MOST`], without lines; `lowest` will be the first.
    pub(super) fn new(number: u32, lowest: u32) -> Split {
        Split {
            number,
            lowest,
            asked: 0,
        }
    }

    /// Notes what a line asks for; returns its key.
    pub(super) fn add(&mut self, entry: &Entry) -> u64 {
        self.asked |= 1 << asked(entry);
        self.key_of(entry)
    }

    /// The key of a line.
    pub(super) fn key_of(&self, entry: &Entry) -> u64 {
        let ports = (entry.source_ports.first, entry.destination_ports.first);
        self.key(asked(entry), entry.protocol.unwrap_or_default(), ports)
    }

    /// The keys of lines that a packet may match.
    #[inline]
    pub(super) fn keys(&self, packet: &Subject) -> impl Iterator<Item = u64> {
        let ports = packet.ports.unwrap_or_default();
        // Lines that ask for a port are not about a packet that shows none.
        let within = if packet.ports.is_some() {
            u8::MAX
        } else {
            0b11
        };
        let protocol = packet.protocol;
        let asked = self.asked & within;
        let asked = (0..8).filter(move |a| asked >> a & 1 != 0);
        asked.map(move |asked| self.key(asked, protocol, ports))
    }

    #[inline]
    fn key(&self, asked: Asked, protocol: u8, (from, to): (u16, u16)) -> u64 {
        let part = |bit: Asked, value: u64| if asked & bit != 0 { value } else { 0 };
        u64::from(self.number) << 43
            | u64::from(asked) << 40
            | part(PROTOCOL, u64::from(protocol)) << 32
            | part(FROM, u64::from(from)) << 16
            | part(TO, u64::from(to))
    }
}

fn asked(entry: &Entry) -> Asked {
    let exact = |ports: Ports| ports.first == ports.last && !ports.negated;
    let bit = |bit: Asked, is_set: bool| if is_set { bit } else { 0 };
    bit(PROTOCOL, entry.protocol.is_some())
        | bit(FROM, exact(entry.source_ports))
        | bit(TO, exact(entry.destination_ports))
}
