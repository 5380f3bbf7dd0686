//! What lines are told apart by, as numbers of which a line asks for a prefix.

use super::line::shift;
use super::{Entry, Ports, Subject};

/// A field of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension {
    Source,
    Destination,
    /// The destination port.
    To,
    /// The source port.
    From,
    Protocol,
}

/// All numbers with the same high bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    /// The lowest.
    pub(super) first: u32,
    /// Ones for the bits that all have in common: of two with the same lowest number, the larger is first.
    pub(super) mask: u32,
}

impl Dimension {
    /// Those that tell most lines apart, and those that tell apart what is left.
    pub(super) const ALL: [&[Dimension]; 2] = [
        &[Dimension::Source, Dimension::Destination],
        &[Dimension::To, Dimension::From, Dimension::Protocol],
    ];

    /// Most of those that tell lines apart together.
    pub(super) const MOST: usize = 3;

    /// The number of a packet; any number where it shows none, as a line looks at that itself.
    #[inline]
    pub(super) fn number(self, packet: &Subject) -> u32 {
        let (from, to) = packet.ports.unwrap_or_default();
        match self {
            Dimension::Source => packet.source,
            Dimension::Destination => packet.destination,
            Dimension::From => u32::from(from),
            Dimension::To => u32::from(to),
            Dimension::Protocol => u32::from(packet.protocol),
        }
    }

    /// The smallest prefix that has the numbers of all packets that match a line.
    pub(super) fn prefix(self, line: &Entry) -> Prefix {
        match self {
            Dimension::Source => Prefix::new(line.source.address, shift(line.source)),
            Dimension::Destination => {
                Prefix::new(line.destination.address, shift(line.destination))
            }
            Dimension::From => Prefix::of_ports(line.source_ports),
            Dimension::To => Prefix::of_ports(line.destination_ports),
            Dimension::Protocol => line
                .protocol
                .map_or(Prefix::ALL, |protocol| Prefix::new(u32::from(protocol), 0)),
        }
    }
}

impl Prefix {
    /// Every number.
    const ALL: Prefix = Prefix { first: 0, mask: 0 };

    /// All numbers that differ from `one` in the low `free` bits, up to 32, alone.
    fn new(one: u32, free: u32) -> Prefix {
        let mask = u32::MAX.checked_shl(free).unwrap_or(0);
        Prefix {
            first: one & mask,
            mask,
        }
    }

    fn of_ports(ports: Ports) -> Prefix {
        if ports.negated || ports == Ports::ANY {
            return Prefix::ALL;
        }
        let [first, last] = [ports.first, ports.last].map(u32::from);
        Prefix::new(first, 32 - (first ^ last).leading_zeros())
    }

    /// Whether it is a single number.
    pub(super) fn is_one(self) -> bool {
        self.mask == u32::MAX
    }

    /// The highest number.
    pub(super) fn last(self) -> u32 {
        self.first | !self.mask
    }
}
