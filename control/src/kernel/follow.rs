//! Follows the kernel: links, routes, neighbours; publishes forwarding tables; asks the kernel to
//! resolve what workers need.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::Handle;
use spillway_dataplane::command::ResolveQueue;
use spillway_dataplane::fib::{Fib, Neighbour, NextHop};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{error, warn};

use super::error::KernelError;
use super::ingress::Drops;
use super::netlink::{self, Events, Heard};
use super::resolve::Asker;
use super::statics::{Plan, StaticRoute};
use super::stats::TwinStats;
use super::table::{self, KernelRoute, Known, Ports, Tables};
use super::twins::TwinView;
use super::watch::{LinkEvent, Watch};

/// Shortest time between two published tables.
const PUBLISH_EVERY: Duration = Duration::from_millis(5);

/// A dump of all routes may take this share of the time: one in ten.
const DUMP_SHARE: u32 = 10;

/// How long to wait after the kernel refused something that has to work.
const RETRY: Duration = Duration::from_secs(1);

/// How often the workers' requests are looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Requests that are taken at once, so that events are not kept waiting.
const RESOLVE_ROUND: usize = 64;

/// How often neighbours that were not confirmed lately are checked.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// What the follower tells and asks. All are called on the control thread and must not block.
pub struct Hooks {
    /// Takes a new forwarding table, whenever it differs from the last one.
    pub on_fib: Box<dyn FnMut(Fib) + Send>,
    /// Takes changes of the kernel interfaces under the ports, and once how each is at first.
    pub on_link: Box<dyn FnMut(LinkEvent) + Send>,
    /// Whether the data plane uses a neighbour that was not confirmed lately, so that it shall be
    /// checked; `None` checks all neighbours of the twins.
    pub is_used: Option<Box<dyn Fn(NextHop) -> bool + Send + Sync>>,
}

/// What the follower is told.
pub(crate) enum Command {
    /// These are the twins and static routes now; the answer is what could not be done.
    Configure(
        Vec<TwinView>,
        Vec<StaticRoute>,
        oneshot::Sender<Vec<KernelError>>,
    ),
    /// Remove routes, rules and ingress drops, and end.
    Stop(oneshot::Sender<()>),
}

/// The follower's task.
pub(crate) struct Follower {
    handle: Handle,
    events: Events,
    commands: mpsc::Receiver<Command>,
    resolve: ResolveQueue,
    hooks: Hooks,
    stats: Arc<TwinStats>,

    /// Whether anything in the kernel is ours to remove.
    configured: bool,
    twins: Vec<TwinView>,
    ports: Ports,
    watch: Watch,
    drops: Drops,
    plan: Plan,

    routes: Vec<KernelRoute>,
    neighbours: BTreeMap<(u32, Ipv4Addr), Known>,
    published: Option<Tables>,
    asker: Asker,

    /// What has to be done before the next table is published.
    due: Due,
    /// Not before this moment.
    next_publish: Instant,
}

/// Work that waits for the next publishing, so that a burst of events costs once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Due {
    /// Read links and neighbours anew: messages were lost.
    everything: bool,
    /// Read the routes anew.
    ///
    /// They are read, not followed one by one: the kernel says nothing of IPv4 routes that vanish
    /// with their link or address, and a replaced route is not told apart from an added one.
    routes: bool,
    /// Put the static routes back that a link took with it.
    statics: bool,
    /// Something changed.
    publish: bool,
}

impl Follower {
    pub(crate) fn new(
        handle: Handle,
        commands: mpsc::Receiver<Command>,
        resolve: ResolveQueue,
        hooks: Hooks,
        stats: Arc<TwinStats>,
    ) -> Result<Follower, KernelError> {
        let asker = Asker::new(handle.clone(), Arc::clone(&stats));
        Ok(Follower {
            handle,
            events: Events::subscribe()?,
            commands,
            resolve,
            hooks,
            stats,
            configured: false,
            twins: Vec::new(),
            ports: Ports::new(),
            watch: Watch::default(),
            drops: Drops::default(),
            plan: Plan::default(),
            routes: Vec::new(),
            neighbours: BTreeMap::new(),
            published: None,
            asker,
            due: Due::default(),
            next_publish: Instant::now(),
        })
    }

    /// Follows until it is told to stop.
    pub(crate) async fn run(mut self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut check = interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.due != Due::default();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Configure(twins, routes, answer)) => {
                        let problems = self.configure(twins, &routes).await;
                        // Whoever asked may have given up waiting.
                        let _ = answer.send(problems);
                    }
                    Some(Command::Stop(answer)) => {
                        self.clean_up().await;
                        let _ = answer.send(());
                        return;
                    }
                    None => return self.clean_up().await,
                },
                heard = self.events.next() => self.hear(heard).await,
                () = sleep_until(self.next_publish.into()), if due => self.publish().await,
                _ = look.tick() => self.resolve_requested().await,
                _ = check.tick() => self.check_stale().await,
            }
        }
    }

    /// Takes over new twins and static routes.
    async fn configure(
        &mut self,
        twins: Vec<TwinView>,
        routes: &[StaticRoute],
    ) -> Vec<KernelError> {
        let devices = twins
            .iter()
            .filter_map(|t| Some((t.port, t.device.clone()?)));
        self.watch.set(devices);
        self.configured = true;
        self.ports = twins.iter().map(|t| (t.index, t.port)).collect();
        self.twins = twins;

        let (plan, mut problems) = Plan::new(routes, &self.twins);
        problems.extend(plan.install(&self.handle, &self.twins).await);
        self.plan = plan;

        match netlink::links(&self.handle).await {
            Ok(links) => {
                let events = self.watch.resync(&links.items);
                problems.extend(self.tell(events).await);
            }
            Err(e) => problems.push(e),
        }
        self.drops.undo(&self.watch).await;
        self.due.everything = true;
        self.publish().await;
        problems
    }

    /// Takes what the kernel says.
    async fn hear(&mut self, heard: std::io::Result<Heard>) {
        match heard {
            Ok(Heard::Messages(messages, unreadable)) => {
                for _ in 0..unreadable {
                    self.stats.netlink_unreadable.one();
                }
                for message in messages {
                    self.stats.netlink_events.one();
                    self.take(message).await;
                }
            }
            Ok(Heard::Overflow) => self.due.everything = true,
            Err(e) => {
                error!("lost the netlink socket: {e}; opening it again");
                tokio::time::sleep(RETRY).await;
                match Events::subscribe() {
                    Ok(events) => self.events = events,
                    Err(e) => error!("{e}"),
                }
                self.due.everything = true;
            }
        }
    }

    async fn take(&mut self, message: RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewLink(link) if of_link(&link) => {
                if self.ports.contains_key(&link.header.index) {
                    self.due.routes = true;
                    self.due.statics = true;
                }
                let events = self.watch.seen(&link);
                self.report(events).await;
            }
            RouteNetlinkMessage::DelLink(link) if of_link(&link) => {
                let index = link.header.index;
                self.due.routes |= self.ports.contains_key(&index);
                self.neighbours.retain(|(on, _), _| *on != index);
                self.due.publish = true;
                let events = self.watch.gone(index);
                self.report(events).await;
            }
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                self.due.routes |= self.ports.contains_key(&address.header.index);
            }
            RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => {
                self.due.routes = true;
            }
            RouteNetlinkMessage::NewNeighbour(neighbour) => self.neighbour(&neighbour, false),
            RouteNetlinkMessage::DelNeighbour(neighbour) => self.neighbour(&neighbour, true),
            _ => {}
        }
    }

    /// Takes what the kernel says of a neighbour.
    fn neighbour(&mut self, message: &NeighbourMessage, removed: bool) {
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

    /// A change of links while running: what can't be done is logged.
    async fn report(&mut self, events: Vec<LinkEvent>) {
        for problem in self.tell(events).await {
            error!("{problem}");
        }
    }

    /// Tells of changed links. Before that, what the kernel would handle twice is dropped: the
    /// port opens on an interface that is ready for it.
    async fn tell(&mut self, events: Vec<LinkEvent>) -> Vec<KernelError> {
        let mut problems = Vec::new();
        for event in events {
            problems.extend(self.drops.prepare(&event, &self.watch).await.err());
            (self.hooks.on_link)(event);
        }
        problems
    }

    /// Does what is due and publishes the table if it differs from the last one.
    async fn publish(&mut self) {
        let due = std::mem::take(&mut self.due);
        let started = Instant::now();
        if let Err(e) = self.read_due(due).await {
            error!("{e}; trying again");
            self.due = due;
            self.next_publish = Instant::now() + RETRY;
            return;
        }
        let reading = started.elapsed() * DUMP_SHARE;
        self.next_publish = Instant::now() + reading.max(PUBLISH_EVERY);
        let tables = Tables::build(&self.routes, &self.neighbours, &self.ports);
        if self.published.as_ref() != Some(&tables) {
            self.stats.fib_published.one();
            (self.hooks.on_fib)(tables.fib());
            self.published = Some(tables);
        }
    }

    async fn read_due(&mut self, due: Due) -> Result<(), KernelError> {
        if due.everything {
            self.read_links_and_neighbours().await?;
        }
        if due.everything || due.statics {
            for problem in self.plan.install(&self.handle, &self.twins).await {
                warn!("{problem}");
            }
        }
        if due.everything || due.routes || due.statics {
            let routes = netlink::routes(&self.handle).await?;
            self.due.routes |= routes.inconsistent;
            self.routes = routes.items.iter().filter_map(KernelRoute::read).collect();
        }
        Ok(())
    }

    async fn read_links_and_neighbours(&mut self) -> Result<(), KernelError> {
        self.stats.resyncs.one();
        let links = netlink::links(&self.handle).await?;
        let events = self.watch.resync(&links.items);
        self.report(events).await;
        let neighbours = netlink::neighbours(&self.handle).await?;
        self.due.everything |= links.inconsistent || neighbours.inconsistent;
        let heard = |m| table::read_neighbour(m, false).map(|heard| heard.key);
        let listed: BTreeSet<_> = neighbours.items.iter().filter_map(heard).collect();
        // As in `neighbour`: what had failed and is being asked for again has still failed.
        self.neighbours
            .retain(|key, known| known.neighbour == Neighbour::Failed && listed.contains(key));
        for message in &neighbours.items {
            self.neighbour(message, false);
        }
        Ok(())
    }

    /// Asks the kernel for what workers need.
    async fn resolve_requested(&mut self) {
        for _ in 0..RESOLVE_ROUND {
            let Some(hop) = self.resolve.pop() else {
                return;
            };
            self.resolve_one(hop).await;
        }
    }

    /// Has the kernel check the neighbours that it has not heard of lately, so that one that
    /// died or changed its MAC address is noticed.
    async fn check_stale(&mut self) {
        let is_used = |hop| self.hooks.is_used.as_ref().is_none_or(|used| used(hop));
        let stale: Vec<_> = self
            .neighbours
            .iter()
            .filter(|(_, known)| known.stale)
            .filter_map(|((index, address), _)| {
                let port = *self.ports.get(index)?;
                let address = *address;
                Some(NextHop { port, address })
            })
            .filter(|hop| is_used(*hop))
            .collect();
        for hop in stale {
            self.resolve_one(hop).await;
        }
    }

    async fn resolve_one(&mut self, hop: NextHop) {
        let twin = self.twins.iter().find(|t| t.port == hop.port);
        self.asker.ask(hop, twin.map(|t| t.index)).await;
    }

    /// Leaves the kernel as it was found.
    async fn clean_up(mut self) {
        if !self.configured {
            return;
        }
        for problem in Plan::default().install(&self.handle, &self.twins).await {
            warn!("{problem}");
        }
        self.watch.set([]);
        self.drops.undo(&self.watch).await;
    }
}

/// Whether the message is about the link itself, not about its place in a bridge.
fn of_link(link: &LinkMessage) -> bool {
    link.header.interface_family == AddressFamily::Unspec
}
