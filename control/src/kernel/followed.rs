//! What one kernel said last: that of a VRF, or of the global table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use spillway_dataplane::fib::{Neighbour, NextHop};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{error, warn};

use super::error::KernelError;
use super::netlink::{self, Events, Heard};
use super::space::{Realm, Space};
use super::statics::Plan;
use super::table::{self, KernelRoute, Known, Ports, Source};
use super::twins::TwinView;

/// How long to wait after the kernel refused something that has to work.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// What a kernel said, and which.
pub(crate) type Said = (Space, Heard);

/// One kernel that is followed.
pub(crate) struct Followed {
    pub(crate) realm: Realm,
    pub(crate) twins: Vec<TwinView>,
    pub(crate) plan: Plan,
    /// What has to be done before the next table is published.
    pub(crate) due: Due,
    ports: Ports,
    routes: Vec<KernelRoute>,
    neighbours: BTreeMap<(u32, Ipv4Addr), Known>,
    listener: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Work that waits for the next publishing, so that a burst of events costs once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Read links and neighbours anew: messages were lost.
    pub(crate) everything: bool,
    /// Read the routes anew.
    ///
    /// They are read, not followed one by one: the kernel says nothing of IPv4 routes that vanish
    /// with their link or address, and a replaced route is not told apart from an added one.
    pub(crate) routes: bool,
    /// Put the static routes back that a link took with it.
    pub(crate) statics: bool,
    /// Something changed.
    pub(crate) publish: bool,
}

impl Followed {
    /// Listens from now on; what is heard goes to `hears`, whose bound makes the kernel wait.
    pub(crate) fn new(realm: Realm, hears: mpsc::Sender<Said>) -> Result<Followed, KernelError> {
        let events = subscribe(&realm.space)?;
        let listener = tokio::spawn(listen(realm.space.clone(), events, hears));
        Ok(Followed {
            realm,
            twins: Vec::new(),
            plan: Plan::default(),
            due: Due::default(),
            ports: Ports::new(),
            routes: Vec::new(),
            neighbours: BTreeMap::new(),
            listener,
        })
    }

    /// Takes over new twins and static routes: what could not be installed.
    pub(crate) async fn configure(&mut self, twins: Vec<TwinView>, plan: Plan) -> Vec<KernelError> {
        self.ports = twins.iter().map(|t| (t.index, t.port)).collect();
        self.twins = twins;
        self.plan = plan;
        self.due.everything = true;
        self.plan.install(&self.realm.handle, &self.twins).await
    }

    /// What the tables are built of.
    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            vrf: self.realm.vrf,
            ports: &self.ports,
            routes: &self.routes,
            neighbours: &self.neighbours,
        }
    }

    /// An interface has changed.
    pub(crate) fn link(&mut self, index: u32) {
        if self.ports.contains_key(&index) {
            self.due.routes = true;
            self.due.statics = true;
        }
    }

    /// An interface is gone.
    pub(crate) fn link_gone(&mut self, index: u32) {
        self.due.routes |= self.ports.contains_key(&index);
        self.neighbours.retain(|(on, _), _| *on != index);
        self.due.publish = true;
    }

    /// An interface got or lost an address.
    pub(crate) fn address(&mut self, index: u32) {
        self.due.routes |= self.ports.contains_key(&index);
    }

    /// Takes what the kernel says of a neighbour.
    pub(crate) fn neighbour(&mut self, message: &NeighbourMessage, removed: bool) {
        let Some(heard) = table::read_neighbour(message, removed) else {
            return;
        };
        if !self.ports.contains_key(&heard.key.0) {
            return;
        }
        match heard.state {
            // Whoever deletes a neighbour makes it fail first: it was not asked and may be there.
            Some(known) if known.neighbour == Neighbour::Failed && self.is_sure(&heard.key) => {
                self.neighbours.remove(&heard.key);
            }
            Some(known) => {
                self.neighbours.insert(heard.key, known);
            }
            // A host that did not answer stays failed while it is asked for again: packets for
            // it would only wait for another failure.
            None if !removed && self.is_failed(&heard.key) => {}
            None => {
                self.neighbours.remove(&heard.key);
            }
        }
        self.due.publish = true;
    }

    /// Whether a neighbour has a MAC address that the kernel does not doubt.
    fn is_sure(&self, key: &(u32, Ipv4Addr)) -> bool {
        let sure = |k: &Known| k.neighbour != Neighbour::Failed && !k.probed;
        self.neighbours.get(key).is_some_and(sure)
    }

    fn is_failed(&self, key: &(u32, Ipv4Addr)) -> bool {
        let failed = |known: &Known| known.neighbour == Neighbour::Failed;
        self.neighbours.get(key).is_some_and(failed)
    }

    /// Does what is due. The answer is the kernel's links, if they were read anew. What failed is
    /// still due.
    pub(crate) async fn read_due(&mut self) -> Result<Option<Vec<LinkMessage>>, KernelError> {
        let due = std::mem::take(&mut self.due);
        let read = self.read(due).await;
        if read.is_err() {
            self.due = due;
        }
        read
    }

    async fn read(&mut self, due: Due) -> Result<Option<Vec<LinkMessage>>, KernelError> {
        let mut links = None;
        if due.everything {
            links = Some(self.read_links_and_neighbours().await?);
        }
        if due.everything || due.statics {
            for problem in self.plan.install(&self.realm.handle, &self.twins).await {
                warn!("{problem}");
            }
        }
        if due.everything || due.routes || due.statics {
            let routes = netlink::routes(&self.realm.handle).await?;
            self.due.routes |= routes.inconsistent;
            self.routes = routes.items.iter().filter_map(KernelRoute::read).collect();
        }
        Ok(links)
    }

    async fn read_links_and_neighbours(&mut self) -> Result<Vec<LinkMessage>, KernelError> {
        let links = netlink::links(&self.realm.handle).await?;
        let neighbours = netlink::neighbours(&self.realm.handle).await?;
        self.due.everything |= links.inconsistent || neighbours.inconsistent;
        let heard = |m| table::read_neighbour(m, false).map(|heard| heard.key);
        let listed: BTreeSet<_> = neighbours.items.iter().filter_map(heard).collect();
        // As in `neighbour`: what had failed and is being asked for again has still failed.
        self.neighbours
            .retain(|key, known| known.neighbour == Neighbour::Failed && listed.contains(key));
        for message in &neighbours.items {
            self.neighbour(message, false);
        }
        Ok(links.items)
    }

    /// The neighbours that the kernel has not heard of lately.
    pub(crate) fn stale(&self) -> impl Iterator<Item = NextHop> {
        let stale = self.neighbours.iter().filter(|(_, known)| known.stale);
        stale.filter_map(|((index, address), _)| {
            let port = *self.ports.get(index)?;
            let address = *address;
            Some(NextHop { port, address })
        })
    }
}

fn subscribe(space: &Space) -> Result<Events, KernelError> {
    space.enter(Events::subscribe)?
}

/// Hands on what a kernel says until nobody wants it.
async fn listen(space: Space, mut events: Events, hears: mpsc::Sender<Said>) {
    loop {
        let heard = match events.next().await {
            Ok(heard) => heard,
            Err(e) => {
                error!("lost the netlink socket: {e}; opening it again");
                tokio::time::sleep(RETRY).await;
                match subscribe(&space) {
                    Ok(new) => events = new,
                    Err(e) => error!("{e}"),
                }
                Heard::Overflow
            }
        };
        if hears.send((space.clone(), heard)).await.is_err() {
            return;
        }
    }
}
