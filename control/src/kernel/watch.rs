//! Watches the kernel interfaces under the ports come and go.

use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use spillway_dataplane::snapshot::PortId;

use super::device::KernelDevice;

/// How the kernel interface under a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It does not exist: the port can't work and has to be closed.
    Absent,
    /// It exists, but is down or has no carrier.
    Down,
    /// It works.
    Up,
}

/// The kernel interface under a port has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEvent {
    /// The port.
    pub port: PortId,
    /// The kernel interface under it.
    pub device: String,
    /// How it is now. `Absent` comes between two interfaces of the same name.
    pub state: LinkState,
}

/// One watched interface.
#[derive(Debug)]
struct Watched {
    port: PortId,
    device: KernelDevice,
    index: Option<u32>,
    /// What was told last; `None` while nothing was.
    state: Option<LinkState>,
}

/// All watched interfaces.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    all: Vec<Watched>,
}

impl Watch {
    /// Watches these instead; the state of the ones that were watched before is kept.
    pub(crate) fn set(&mut self, wanted: impl IntoIterator<Item = (PortId, KernelDevice)>) {
        let mut old = std::mem::take(&mut self.all);
        for (port, device) in wanted {
            let at = old
                .iter()
                .position(|w| w.port == port && w.device == device);
            let watched = at.map(|at| old.swap_remove(at));
            self.all.push(watched.unwrap_or(Watched {
                port,
                device,
                index: None,
                state: None,
            }));
        }
    }

    /// Whether this is an interface whose frames the kernel gets a copy of.
    pub(crate) fn copies(&self, device: &str) -> bool {
        self.all
            .iter()
            .any(|w| w.device.copies && w.device.name == device)
    }

    /// The kernel has told of a link.
    pub(crate) fn seen(&mut self, message: &LinkMessage) -> Vec<LinkEvent> {
        let name = message.attributes.iter().find_map(|a| match a {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        });
        let running = LinkFlags::Up | LinkFlags::LowerUp;
        let state = if message.header.flags.contains(running) {
            LinkState::Up
        } else {
            LinkState::Down
        };
        let index = message.header.index;
        let mut events = Vec::new();
        for watched in &mut self.all {
            if name == Some(watched.device.name.as_str()) {
                if watched.index.is_some_and(|before| before != index) {
                    events.extend(watched.become_(LinkState::Absent));
                }
                watched.index = Some(index);
                events.extend(watched.become_(state));
            } else if watched.index == Some(index) {
                // Renamed: ours is not there any more.
                events.extend(watched.become_(LinkState::Absent));
            }
        }
        events
    }

    /// The kernel has removed a link.
    pub(crate) fn gone(&mut self, index: u32) -> Vec<LinkEvent> {
        let gone = self.all.iter_mut().filter(|w| w.index == Some(index));
        gone.filter_map(|w| w.become_(LinkState::Absent)).collect()
    }

    /// These are all links there are. Afterwards each watched interface was told of at least once.
    pub(crate) fn resync(&mut self, links: &[LinkMessage]) -> Vec<LinkEvent> {
        let there = |index| links.iter().any(|link| Some(link.header.index) == index);
        let mut events: Vec<_> = self
            .all
            .iter_mut()
            .filter(|w| w.index.is_some() && !there(w.index))
            .filter_map(|w| w.become_(LinkState::Absent))
            .collect();
        events.extend(links.iter().flat_map(|link| self.seen(link)));
        let untold = self.all.iter_mut().filter(|w| w.state.is_none());
        events.extend(untold.filter_map(|w| w.become_(LinkState::Absent)));
        events
    }
}

impl Watched {
    fn become_(&mut self, state: LinkState) -> Option<LinkEvent> {
        if state == LinkState::Absent {
            self.index = None;
        }
        let changed = self.state.replace(state) != Some(state);
        changed.then(|| LinkEvent {
            port: self.port,
            device: self.device.name.clone(),
            state,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use LinkState::{Absent, Down, Up};

    fn link(index: u32, name: &str, up: bool) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if up {
            message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        }
        message.attributes = vec![LinkAttribute::IfName(name.into())];
        message
    }

    fn watch() -> Watch {
        let mut watch = Watch::default();
        let device = KernelDevice {
            name: "inside".into(),
            copies: true,
        };
        watch.set([(PortId(0), device)]);
        watch
    }

    fn states(events: Vec<LinkEvent>) -> Vec<LinkState> {
        events.into_iter().map(|e| e.state).collect()
    }

    #[test]
    fn changes_are_told_once() {
        let mut watch = watch();
        assert_eq!(states(watch.seen(&link(7, "inside", true))), [Up]);
        assert_eq!(states(watch.seen(&link(7, "inside", true))), []);
        assert_eq!(states(watch.seen(&link(7, "inside", false))), [Down]);
        assert_eq!(states(watch.gone(7)), [Absent]);
        assert_eq!(states(watch.gone(7)), []);
    }

    #[test]
    fn another_interface_of_the_same_name_is_another() {
        let mut watch = watch();
        watch.seen(&link(7, "inside", true));
        assert_eq!(states(watch.seen(&link(8, "inside", true))), [Absent, Up]);
        assert_eq!(states(watch.gone(7)), []);
    }

    #[test]
    fn what_is_absent_at_first_is_told_once() {
        let mut watch = watch();
        assert_eq!(states(watch.resync(&[])), [Absent]);
        assert_eq!(states(watch.resync(&[])), []);
        assert_eq!(states(watch.resync(&[link(3, "inside", true)])), [Up]);
    }

    #[test]
    fn a_renamed_interface_is_gone() {
        let mut watch = watch();
        watch.seen(&link(7, "inside", true));
        assert_eq!(states(watch.seen(&link(7, "away", true))), [Absent]);
    }

    #[test]
    fn after_lost_messages_the_whole_list_tells() {
        let mut watch = watch();
        watch.seen(&link(7, "inside", true));
        assert_eq!(states(watch.resync(&[link(9, "other", true)])), [Absent]);
        assert_eq!(states(watch.resync(&[link(8, "inside", false)])), [Down]);
    }

    #[test]
    fn a_reload_keeps_what_is_known() {
        let mut watch = watch();
        watch.seen(&link(7, "inside", true));
        let device = KernelDevice {
            name: "inside".into(),
            copies: true,
        };
        watch.set([(PortId(0), device)]);
        assert_eq!(states(watch.seen(&link(7, "inside", true))), []);
    }
}
