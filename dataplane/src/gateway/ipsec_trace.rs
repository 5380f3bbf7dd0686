//! The engine's decisions, as they go into the worker's journal.

use std::sync::Arc;

use super::{Options, ipsec_policy};
use crate::esp::{Engine, Event, Trace};
use crate::journal::{Line, Topic, Writer};
use crate::stats::WorkerStats;

/// The worker's engine, its decisions told to its journal.
pub(super) fn engine<T>(options: &Options, stats: &Arc<WorkerStats>) -> Engine<T> {
    let mut engine = Engine::new(ipsec_policy::limits(options), options.seed);
    engine.set_trace(Some(Box::new(ToJournal {
        stats: Arc::clone(stats),
        writer: Writer::new(),
    })));
    engine
}

struct ToJournal {
    stats: Arc<WorkerStats>,
    writer: Writer,
}

impl Trace for ToJournal {
    fn is_on(&self) -> bool {
        self.stats.journal.wants(Topic::Ipsec)
    }

    fn event(&mut self, event: &Event) {
        let journal = &self.stats.journal;
        self.writer
            .tell(journal, event.at, Line::Ipsec(event.clone()));
    }
}
