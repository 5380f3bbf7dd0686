//! Snapshots: built here, swapped in with one pointer, freed here once no worker holds them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use spillway_dataplane::fib::Fib;
use spillway_dataplane::nat::Nat;
use spillway_dataplane::snapshot::{Interface, Snapshot};

/// The published snapshot and those that it replaced but some worker may still read.
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
    retired: Vec<Arc<Snapshot>>,
}

impl Publisher {
    /// Publishes a first snapshot with these interfaces and nothing else.
    #[must_use]
    pub fn new(interfaces: Vec<Interface>) -> Publisher {
        let first = Snapshot {
            generation: 1,
            interfaces,
            fib: Arc::new(Fib::default()),
            nat: Arc::new(Nat::default()),
        };
        Publisher {
            current: Arc::new(ArcSwap::from_pointee(first)),
            retired: Vec::new(),
        }
    }

    /// What workers read from.
    #[must_use]
    pub fn shared(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.current)
    }

    /// The published snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Publishes a changed copy of the present snapshot.
    pub fn publish(&mut self, change: impl FnOnce(&mut Snapshot)) {
        let mut next = Snapshot::clone(&self.snapshot());
        next.generation = next.generation.wrapping_add(1);
        change(&mut next);
        self.retired.push(self.current.swap(Arc::new(next)));
        self.reclaim();
    }

    /// Frees the retired snapshots that nobody reads any more. A worker never frees one: it drops
    /// its hold in its next round, while this list still has its own.
    pub fn reclaim(&mut self) {
        self.retired.retain(|old| Arc::strong_count(old) > 1);
    }

    /// Retired snapshots that some worker still holds.
    #[must_use]
    pub fn retired(&self) -> usize {
        self.retired.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_snapshot_lives_as_long_as_a_reader_holds_it() {
        let mut publisher = Publisher::new(Vec::new());
        let reader = publisher.snapshot();
        publisher.publish(|_| {});
        assert_eq!((reader.generation, publisher.snapshot().generation), (1, 2));
        assert_eq!(publisher.retired(), 1);
        drop(reader);
        publisher.reclaim();
        assert_eq!(publisher.retired(), 0);
    }
}
