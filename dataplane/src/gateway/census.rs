//! How many entries there are, as one worker counts them.
//!
//! All workers share one number. What a worker makes and removes in a burst, it adds to that at the
//! burst's end: one write to shared memory instead of one for each entry. Where entries are limited,
//! others must know at once.

use std::sync::Arc;

use crate::command::Occupancy;
use crate::nat::Nat;
use crate::time::Millis;

/// One worker's share of the count.
#[derive(Debug)]
pub(super) struct Census {
    all: Arc<Occupancy>,
    /// Made, less those removed, since it was told last.
    untold: i64,
}

impl Census {
    pub(super) fn new(all: Arc<Occupancy>) -> Census {
        Census { all, untold: 0 }
    }

    /// What all workers have told.
    pub(super) fn all(&self) -> &Occupancy {
        &self.all
    }

    /// Entries of all workers, as far as this one knows.
    pub(super) fn active(&self) -> u64 {
        self.all.active().saturating_add_signed(self.untold)
    }

    /// An entry was made.
    #[inline]
    pub(super) fn made(&mut self, nat: &Nat, now: Millis) {
        self.untold += 1;
        if nat.max_entries != 0 {
            self.tell(now);
        }
    }

    /// An entry was removed.
    #[inline]
    pub(super) fn removed(&mut self) {
        self.untold -= 1;
    }

    /// Tells the others.
    #[inline]
    pub(super) fn tell(&mut self, now: Millis) {
        match std::mem::take(&mut self.untold) {
            0 => {}
            made @ 1.. => self.all.made_many(made.unsigned_abs(), now.0),
            removed => self.all.removed_many(removed.unsigned_abs()),
        }
    }
}
