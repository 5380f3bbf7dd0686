//! How the kernel interfaces under the ports are, as netlink tells it.

use std::sync::{Arc, Mutex, PoisonError};

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
