//! How much a round does besides its packets.

/// The time that a round has for ageing and for what control asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spare {
    /// Packets came, and more may be waiting: a microsecond.
    Little,
    /// None came.
    Much,
}

impl Spare {
    /// Places of a table to look at.
    pub(super) const fn places(self) -> u32 {
        match self {
            Spare::Little => 2,
            Spare::Much => 64,
        }
    }

    /// Timers, and slots of the wheel that they are in, to look at.
    pub(super) const fn timers(self) -> u32 {
        match self {
            Spare::Little => 4,
            Spare::Much => 32,
        }
    }
}
