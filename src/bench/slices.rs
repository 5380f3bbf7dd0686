//! What several workers did at the same time, from what each of them noted.

/// How long a slice of time is, in milliseconds: long beside what may wait in a ring (4,096 packets,
/// a quarter of a millisecond's work), short beside how seldom a shared machine is quiet.
const SLICE_MS: u64 = 5;

/// A worker's notes while it is measured: the cycle, and the packets sent up to then.
pub(super) type Notes = Vec<(u64, u64)>;

/// Millions of packets a second: in the best slice of time, and in the median one.
#[derive(Clone, Copy)]
pub(super) struct Rate {
    pub(super) best: f64,
    pub(super) median: f64,
}

/// Packets sent in slices of time.
#[derive(Default)]
pub(super) struct Slices {
    /// By worker, of each slice.
    packets: Vec<Vec<f64>>,
}

impl Slices {
    /// Adds the slices in which all of these workers were measured.
    pub(super) fn add(&mut self, notes: &[Notes], cycles_per_second: u64) {
        let slice = (cycles_per_second / 1000 * SLICE_MS).max(1);
        let begin = notes.iter().filter_map(|n| n.first()).map(|n| n.0).max();
        let end = notes.iter().filter_map(|n| n.last()).map(|n| n.0).min();
        let count = end.unwrap_or(0).saturating_sub(begin.unwrap_or(0)) / slice;
        self.packets.resize(notes.len(), Vec::new());
        for (packets, notes) in self.packets.iter_mut().zip(notes) {
            let sent = |n| sent_at(notes, begin.unwrap_or(0) + n * slice);
            packets.extend((0..count).map(|n| sent(n + 1) - sent(n)));
        }
    }

    /// A worker's rate; zero where it has sent nothing.
    pub(super) fn rate(&self, worker: usize) -> Rate {
        rate(self.packets.get(worker).cloned().unwrap_or_default())
    }

    /// The rate of all workers together.
    pub(super) fn sum(&self) -> Rate {
        let count = self.packets.first().map_or(0, Vec::len);
        let sum = |at: usize| self.packets.iter().filter_map(|p| p.get(at)).sum();
        rate((0..count).map(sum).collect())
    }

    /// Slices in all.
    pub(super) fn count(&self) -> usize {
        self.packets.first().map_or(0, Vec::len)
    }
}

fn rate(mut packets: Vec<f64>) -> Rate {
    packets.sort_by(f64::total_cmp);
    let mpps = |packets: Option<&f64>| packets.map_or(0.0, |n| n / (SLICE_MS * 1000) as f64);
    Rate {
        best: mpps(packets.last()),
        median: mpps(packets.get(packets.len() / 2)),
    }
}

/// Packets sent up to a cycle between two notes, which were in the same pace.
fn sent_at(notes: &Notes, cycle: u64) -> f64 {
    let after = notes.partition_point(|note| note.0 <= cycle);
    match (notes.get(after.wrapping_sub(1)), notes.get(after)) {
        (Some(before), Some(after)) => {
            let share = (cycle - before.0) as f64 / (after.0 - before.0) as f64;
            before.1 as f64 + share * (after.1 - before.1) as f64
        }
        (Some(only), None) | (None, Some(only)) => only.1 as f64,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_at_the_same_time_is_added_up() {
        // At 1 MHz a slice is 5,000 cycles. The second worker begins later and stops in its middle.
        let steady = vec![(0, 0), (20_000, 200_000)];
        let halting = vec![(5_000, 0), (10_000, 50_000), (15_000, 50_000)];
        let mut slices = Slices::default();
        slices.add(&[steady, halting], 1_000_000);
        assert_eq!(slices.count(), 2);
        let sum = slices.sum();
        assert!((sum.best - 20.0).abs() < 1e-9, "{}", sum.best);
        assert!((slices.rate(0).median - 10.0).abs() < 1e-9);
        let halting = slices.rate(1);
        assert!((halting.best - 10.0).abs() < 1e-9 && halting.median > 9.0);
    }
}
