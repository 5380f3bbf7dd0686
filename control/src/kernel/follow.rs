//! Follows the kernel: links, routes, neighbours; publishes forwarding tables; asks the kernel to
//! resolve what workers need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use spillway_dataplane::command::ResolveQueue;
use spillway_dataplane::fib::{Fib, NextHop};
use spillway_dataplane::snapshot::VrfId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{error, warn};

use super::error::KernelError;
use super::followed::{Due, Followed, RETRY, Said};
use super::ingress::Drops;
use super::netlink::{self, Heard};
use super::resolve::Asker;
use super::space::Realm;
use super::statics::{Plan, Plans, StaticRoute};
use super::stats::TwinStats;
use super::table::{Leak, Source, Tables};
use super::twins::TwinView;
use super::watch::{LinkEvent, Watch};

/// Shortest time between two published tables.
const PUBLISH_EVERY: Duration = Duration::from_millis(5);

/// A dump of all routes may take this share of the time: one in ten.
const DUMP_SHARE: u32 = 10;

/// How often the workers' requests are looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Requests that are taken at once, so that events are not kept waiting.
const RESOLVE_ROUND: usize = 64;

/// How often neighbours that were not confirmed lately are checked.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Batches of the kernels' messages that may wait; more wait in the kernels.
const BATCHES: usize = 16;

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
    /// This is how it is now; the answer is what could not be done.
    Configure(Wanted, oneshot::Sender<Vec<KernelError>>),
    /// Remove routes, rules and ingress drops, and end.
    Stop(oneshot::Sender<()>),
}

/// What is followed.
#[derive(Default)]
pub(crate) struct Wanted {
    /// The kernels of the VRFs and of the global table.
    pub(crate) realms: Vec<Realm>,
    /// The twins in all of them.
    pub(crate) twins: Vec<TwinView>,
    /// The static routes.
    pub(crate) routes: Vec<StaticRoute>,
}

/// The follower's task.
pub(crate) struct Follower {
    commands: mpsc::Receiver<Command>,
    resolve: ResolveQueue,
    hooks: Hooks,
    stats: Arc<TwinStats>,

    /// Each kernel; empty while nothing in them is ours to remove.
    followed: Vec<Followed>,
    leaks: Vec<Leak>,
    heard: mpsc::Receiver<Said>,
    hears: mpsc::Sender<Said>,
    watch: Watch,
    drops: Drops,

    published: Option<Tables>,
    asker: Asker,
    /// Not before this moment.
    next_publish: Instant,
}

impl Follower {
    pub(crate) fn new(
        commands: mpsc::Receiver<Command>,
        resolve: ResolveQueue,
        hooks: Hooks,
        stats: Arc<TwinStats>,
    ) -> Follower {
        let (hears, heard) = mpsc::channel(BATCHES);
        Follower {
            commands,
            resolve,
            hooks,
            asker: Asker::new(Arc::clone(&stats)),
            stats,
            followed: Vec::new(),
            leaks: Vec::new(),
            heard,
            hears,
            watch: Watch::default(),
            drops: Drops::default(),
            published: None,
            next_publish: Instant::now(),
        }
    }

    /// Follows until it is told to stop.
    pub(crate) async fn run(mut self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut check = interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.followed.iter().any(|f| f.due != Due::default());
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Configure(wanted, answer)) => {
                        let problems = self.configure(wanted).await;
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
                // One sender is here: it never ends.
                Some(said) = self.heard.recv() => self.hear(said).await,
                () = sleep_until(self.next_publish.into()), if due => self.publish().await,
                _ = look.tick() => self.resolve_requested().await,
                _ = check.tick() => self.check_stale().await,
            }
        }
    }

    /// Takes over new VRFs, twins and static routes.
    async fn configure(&mut self, wanted: Wanted) -> Vec<KernelError> {
        let Wanted {
            realms,
            twins,
            routes,
        } = wanted;
        let devices = twins
            .iter()
            .filter_map(|t| Some((t.port, t.device.clone()?)));
        self.watch.set(devices);
        let is_wanted = |f: &Followed| realms.iter().any(|r| r.space == f.realm.space);
        self.followed.retain(is_wanted);
        let (mut plans, mut problems) = Plans::new(&routes, &twins);
        self.leaks = std::mem::take(&mut plans.leaks);
        for realm in realms {
            let known = (self.followed.iter()).position(|f| f.realm.space == realm.space);
            let at = match known {
                Some(at) => at,
                None => match Followed::new(realm.clone(), self.hears.clone()) {
                    Ok(new) => {
                        self.followed.push(new);
                        self.followed.len() - 1
                    }
                    Err(e) => {
                        problems.push(e);
                        continue;
                    }
                },
            };
            let plan = plans.of.remove(&realm.vrf).unwrap_or_default();
            let here = twins.iter().filter(|t| t.vrf == realm.vrf).cloned();
            if let Some(followed) = self.followed.get_mut(at) {
                problems.extend(followed.configure(here.collect(), plan).await);
            }
        }
        if let Some(handle) = self.global().map(|f| f.realm.handle.clone()) {
            match netlink::links(&handle).await {
                Ok(links) => {
                    let events = self.watch.resync(&links.items);
                    problems.extend(self.tell(events).await);
                }
                Err(e) => problems.push(e),
            }
        }
        self.drops.undo(&self.watch).await;
        self.publish().await;
        problems
    }

    /// The kernel of the global table, under whose interfaces the ports are too.
    fn global(&self) -> Option<&Followed> {
        let mut followed = self.followed.iter();
        followed.find(|f| f.realm.vrf == VrfId::GLOBAL)
    }

    /// Takes what a kernel says.
    async fn hear(&mut self, (space, heard): Said) {
        let at = (self.followed.iter()).position(|f| f.realm.space == space);
        // A VRF that is gone may have said something before.
        let Some(at) = at else { return };
        match heard {
            Heard::Messages(messages, unreadable) => {
                for _ in 0..unreadable {
                    self.stats.netlink_unreadable.one();
                }
                for message in messages {
                    self.stats.netlink_events.one();
                    self.take(at, message).await;
                }
            }
            Heard::Overflow => {
                if let Some(followed) = self.followed.get_mut(at) {
                    followed.due.everything = true;
                }
            }
        }
    }

    async fn take(&mut self, at: usize, message: RouteNetlinkMessage) {
        let Some(followed) = self.followed.get_mut(at) else {
            return;
        };
        let is_global = followed.realm.vrf == VrfId::GLOBAL;
        match message {
            RouteNetlinkMessage::NewLink(link) if of_link(&link) => {
                followed.link(link.header.index);
                if is_global {
                    let events = self.watch.seen(&link);
                    self.report(events).await;
                }
            }
            RouteNetlinkMessage::DelLink(link) if of_link(&link) => {
                let index = link.header.index;
                followed.link_gone(index);
                if is_global {
                    let events = self.watch.gone(index);
                    self.report(events).await;
                }
            }
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                followed.address(address.header.index);
            }
            RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => {
                followed.due.routes = true;
            }
            RouteNetlinkMessage::NewNeighbour(neighbour) => followed.neighbour(&neighbour, false),
            RouteNetlinkMessage::DelNeighbour(neighbour) => followed.neighbour(&neighbour, true),
            _ => {}
        }
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
        let started = Instant::now();
        for at in 0..self.followed.len() {
            if let Err(e) = self.read_due(at).await {
                error!("{e}; trying again");
                self.next_publish = Instant::now() + RETRY;
                return;
            }
        }
        let reading = started.elapsed() * DUMP_SHARE;
        self.next_publish = Instant::now() + reading.max(PUBLISH_EVERY);
        let sources: Vec<Source<'_>> = self.followed.iter().map(Followed::source).collect();
        let tables = Tables::build(&sources, &self.leaks);
        if self.published.as_ref() != Some(&tables) {
            self.stats.fib_published.one();
            (self.hooks.on_fib)(tables.fib());
            self.published = Some(tables);
        }
    }

    async fn read_due(&mut self, at: usize) -> Result<(), KernelError> {
        let Some(followed) = self.followed.get_mut(at) else {
            return Ok(());
        };
        if let Some(links) = followed.read_due().await? {
            self.stats.resyncs.one();
            if followed.realm.vrf == VrfId::GLOBAL {
                let events = self.watch.resync(&links);
                self.report(events).await;
            }
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
        let stale = self.followed.iter().flat_map(Followed::stale);
        let stale: Vec<_> = stale.filter(|hop| is_used(*hop)).collect();
        for hop in stale {
            self.resolve_one(hop).await;
        }
    }

    async fn resolve_one(&mut self, hop: NextHop) {
        let twin = self.followed.iter().find_map(|followed| {
            let twin = followed.twins.iter().find(|t| t.port == hop.port)?;
            Some((&followed.realm.handle, twin.index))
        });
        self.asker.ask(hop, twin).await;
    }

    /// Leaves the kernel as it was found.
    async fn clean_up(mut self) {
        if self.followed.is_empty() {
            return;
        }
        for followed in &self.followed {
            let Followed { realm, twins, .. } = followed;
            for problem in Plan::default().install(&realm.handle, twins).await {
                warn!("{problem}");
            }
        }
        self.watch.set([]);
        self.drops.undo(&self.watch).await;
    }
}

/// Whether the message is about the link itself, not about its place in a bridge.
fn of_link(link: &LinkMessage) -> bool {
    link.header.interface_family == AddressFamily::Unspec
}
