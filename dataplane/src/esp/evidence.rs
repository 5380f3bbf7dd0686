//! What the exchanges between a client and a peer say about SAs that ESP has not shown yet.

use crate::time::Millis;

/// The evidence of one client and peer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Evidence {
    /// Exchanges that ended and whose SA has not been paired.
    unpaired: u8,
    /// When the oldest of these began.
    begun: Millis,
    /// When the latest of these ended.
    ended: Millis,
    /// When the latest exchange that ended began.
    latest: Millis,
    /// When the exchange began that has not ended.
    running: Option<Millis>,
    /// Exchanges that ended, ever.
    pub(super) exchanges: u32,
}

/// Most unpaired SAs that are remembered of one client and peer.
const UNPAIRED_MAX: u8 = 8;

/// How strongly a client expects a new SA from its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Expects {
    No,
    /// An exchange has begun, its answer was not seen.
    Running,
    /// An exchange has ended.
    Ended,
}

impl Evidence {
    /// An exchange that can make an SA began.
    pub(super) fn begin(&mut self, now: Millis) {
        self.running = Some(now);
    }

    /// It ended; `again` tells that it is a further round of one that was counted.
    pub(super) fn end(&mut self, now: Millis, window_ms: u64, again: bool) {
        if self.unpaired > 0 && now.since(self.ended) > window_ms {
            self.unpaired = 0;
        }
        let begun = self.running.take().unwrap_or(now);
        if !again {
            self.latest = begun;
        }
        if self.unpaired == 0 {
            if again {
                return; // its SA has shown itself
            }
            self.begun = begun;
        }
        if !again {
            self.unpaired = (self.unpaired + 1).min(UNPAIRED_MAX);
            self.exchanges = self.exchanges.saturating_add(1);
        }
        self.ended = now;
    }

    /// One of its SAs has been paired for certain.
    pub(super) fn paired(&mut self) {
        self.unpaired = self.unpaired.saturating_sub(1);
    }

    /// What it said about a new SPI that came at `at`.
    pub(super) fn expects(&self, at: Millis, window_ms: u64) -> Expects {
        if self.unpaired > 0 && self.begun <= at && at.since(self.ended) <= window_ms {
            return Expects::Ended;
        }
        match self.running {
            Some(begun) if begun <= at && at.since(begun) <= window_ms => Expects::Running,
            _ => Expects::No,
        }
    }

    /// Unpaired SAs that still count at `now`.
    pub(super) fn unpaired(&self, now: Millis, window_ms: u64) -> u32 {
        if now.since(self.ended) <= window_ms {
            u32::from(self.unpaired)
        } else {
            0
        }
    }

    /// When the latest exchange that ended began. A half that is older is not of its SA.
    pub(super) fn latest_began(&self) -> Millis {
        self.latest
    }

    /// When the latest exchange ended, if any did.
    pub(super) fn ended(&self) -> Option<Millis> {
        (self.exchanges > 0).then_some(self.ended)
    }
}
