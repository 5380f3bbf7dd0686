//! Asks the kernel to resolve or check neighbours, but not too often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::Handle;
use spillway_dataplane::fib::NextHop;

use super::stats::TwinStats;

/// A question for the same neighbour within this time is one too many. The kernel asks a silent
/// host a second apart by itself; but a neighbour may be forgotten at any time, and then nobody
/// asks until we do.
const AGAIN: Duration = Duration::from_millis(50);

/// Requests a second, over all neighbours.
const PER_SECOND: u32 = 1000;

/// Next hops that are remembered as asked for.
const REMEMBERED: usize = 16_384;

/// Asks the kernel for neighbours.
pub(crate) struct Asker {
    limiter: Limiter,
    stats: Arc<TwinStats>,
}

impl Asker {
    pub(crate) fn new(stats: Arc<TwinStats>) -> Asker {
        Asker {
            limiter: Limiter::new(Instant::now()),
            stats,
        }
    }

    /// Has the kernel find out or confirm the MAC address; `twin` is that of the next hop's port:
    /// the kernel that it is in and its index there. What comes of it is told by the kernel's
    /// messages.
    pub(crate) async fn ask(&mut self, hop: NextHop, twin: Option<(&Handle, u32)>) {
        let Some((handle, index)) = twin else {
            return self.stats.resolve_failed.one();
        };
        match self.limiter.decide(hop, Instant::now()) {
            Decision::Ask => {}
            Decision::Repeated => return self.stats.resolve_repeated.one(),
            Decision::Limited => return self.stats.resolve_limited.one(),
        }
        // NTF_USE: as if the kernel itself had a packet for the neighbour.
        let request = handle
            .neighbours()
            .add(index, IpAddr::V4(hop.address))
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        match request.execute().await {
            Ok(()) => self.stats.resolve_asked.one(),
            Err(_) => self.stats.resolve_failed.one(),
        }
    }
}

/// Whether a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Ask the kernel.
    Ask,
    /// The same was asked a moment ago.
    Repeated,
    /// Too many in this second.
    Limited,
}

/// Remembers what was asked. Its clock is the caller's.
#[derive(Debug)]
struct Limiter {
    asked: HashMap<NextHop, Instant>,
    second: Instant,
    left: u32,
}

impl Limiter {
    fn new(now: Instant) -> Limiter {
        Limiter {
            asked: HashMap::new(),
            second: now,
            left: PER_SECOND,
        }
    }

    /// Whether the kernel is asked for this one now.
    fn decide(&mut self, hop: NextHop, now: Instant) -> Decision {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < AGAIN;
        if self.asked.get(&hop).is_some_and(recent) {
            return Decision::Repeated;
        }
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.left = PER_SECOND;
        }
        if self.asked.len() >= REMEMBERED {
            self.asked.retain(|_, at| recent(at));
        }
        if self.left == 0 || self.asked.len() >= REMEMBERED {
            return Decision::Limited;
        }
        self.left -= 1;
        self.asked.insert(hop, now);
        Decision::Ask
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use spillway_dataplane::snapshot::PortId;

    fn hop(n: u32) -> NextHop {
        NextHop {
            port: PortId(0),
            address: (0x0a00_0000 + n).into(),
        }
    }

    #[test]
    fn the_same_is_asked_once_a_second() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start);
        assert_eq!(limiter.decide(hop(1), start), Decision::Ask);
        assert_eq!(
            limiter.decide(hop(1), start + AGAIN / 2),
            Decision::Repeated
        );
        assert_eq!(limiter.decide(hop(2), start + AGAIN / 2), Decision::Ask);
        assert_eq!(limiter.decide(hop(1), start + AGAIN), Decision::Ask);
    }

    #[test]
    fn a_scan_of_a_network_is_limited_and_the_next_second_is_free() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start);
        let asked = (0..5000).filter(|n| limiter.decide(hop(*n), start) == Decision::Ask);
        assert_eq!(asked.count(), PER_SECOND as usize);
        assert_eq!(limiter.decide(hop(9999), start), Decision::Limited);
        assert_eq!(
            limiter.decide(hop(9999), start + Duration::from_secs(1)),
            Decision::Ask
        );
    }

    #[test]
    fn memory_is_bounded() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start);
        for n in 0..100_000u32 {
            limiter.decide(hop(n), start + Duration::from_millis(u64::from(n)));
            assert!(limiter.asked.len() <= REMEMBERED);
        }
    }
}
