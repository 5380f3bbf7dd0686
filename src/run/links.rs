//! How the kernel interfaces under the ports are, as netlink tells it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spillway_control::kernel::{LinkEvent, LinkState};
use spillway_dataplane::snapshot::PortId;
use tokio::sync::Notify;

/// The state of one port's kernel interface.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Link {
    /// How it is; `None` where the port stands on no kernel interface.
    pub(super) state: Option<LinkState>,
    /// It was away since it was last looked at: even if it is back, it is another one.
    pub(super) was_absent: bool,
}

/// All of them, the latest state of each: bounded whatever happens.
#[derive(Debug, Clone)]
pub(super) struct Links {
    links: Arc<Mutex<[Link; PortId::MAX]>>,
    changed: Arc<Notify>,
}

impl Links {
    /// Nothing is known of any port.
    pub(super) fn new() -> Links {
        Links {
            links: Arc::new(Mutex::new([Link::default(); PortId::MAX])),
            changed: Arc::default(),
        }
    }

    /// Notes a change.
    pub(super) fn note(&self, event: &LinkEvent) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get_mut(event.port.index()) {
            link.state = Some(event.state);
            link.was_absent |= event.state == LinkState::Absent;
            self.changed.notify_one();
        }
    }

    /// Waits for a change.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How a port's interface is.
    pub(super) fn peek(&self, port: PortId) -> Option<LinkState> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.get(port.index())?.state
    }

    /// How a port's interface is, and whether it was away since the last call.
    pub(super) fn look(&self, port: PortId) -> Link {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(link) = links.get_mut(port.index()) else {
            return Link::default();
        };
        let seen = *link;
        link.was_absent = link.state == Some(LinkState::Absent);
        seen
    }
}

/// Whether somebody has still to be told of a change, because it failed: tried again after a second, then ever more
/// rarely, so that what fails for good costs and says little.
#[derive(Debug, Default)]
pub(super) struct Owed(Option<(Instant, Duration)>);

impl Owed {
    const FIRST_AFTER: Duration = Duration::from_secs(1);
    const AT_MOST_AFTER: Duration = Duration::from_secs(60);

    /// All were told of a change, or not. The next failure after success is a first one again.
    pub(super) fn note(&mut self, was_told: bool, now: Instant) {
        self.0 = (!was_told).then(|| match self.0 {
            Some((_, after)) => (now, (2 * after).min(Owed::AT_MOST_AFTER)),
            None => (now, Owed::FIRST_AFTER),
        });
    }

    /// Whether it is time to try again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.0.is_some_and(|(at, after)| now >= at + after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_tried_again_ever_more_rarely_until_it_works() {
        let began = Instant::now();
        let mut owed = Owed::default();
        let day = Duration::from_secs(86_400);
        assert!(!owed.is_due(began + day), "nothing was tried");
        let mut now = began;
        for after in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
            owed.note(false, now);
            now += after;
            assert!(!owed.is_due(now - Duration::from_millis(1)), "{after:?}");
            assert!(owed.is_due(now), "{after:?}");
        }
        owed.note(true, now);
        assert!(!owed.is_due(now + day));
        owed.note(false, now);
        assert!(owed.is_due(now + Duration::from_secs(1)));
    }
}
