//! Time as the core knows it: a number that comes in with each burst, never a clock.

/// A moment, in milliseconds since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// Milliseconds from `earlier` to `self`, 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The tick that this moment falls into.
    #[must_use]
    pub fn tick(self) -> Tick {
        Tick((self.0 >> Tick::SHIFT) as u32)
    }
}

/// A moment as sessions store it: units of 64 ms since the process started, which last 8.7 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Tick(pub u32);

impl Tick {
    /// A tick lasts `1 << SHIFT` milliseconds.
    pub const SHIFT: u32 = 6;

    /// Ticks from `earlier` to `self`, 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Tick) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// The start of this tick.
    #[must_use]
    pub fn millis(self) -> Millis {
        Millis(u64::from(self.0) << Tick::SHIFT)
    }

    /// The number of ticks that `seconds` last, rounded up, so that a timer never fires early.
    #[must_use]
    pub fn from_seconds(seconds: u32) -> u32 {
        u32::try_from((u64::from(seconds) * 1000).div_ceil(1 << Tick::SHIFT)).unwrap_or(u32::MAX)
    }
}
