//! The control thread: follows the kernel, answers operators, reloads, and ends it all.

mod change;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use spillway_control::config::{Config, Policy, model};
use spillway_control::dhcp::{Clients, Lease, Told};
use spillway_control::kernel::{
    Hooks, Kernel, KernelConfig, KernelDevice, KernelError, LinkState, Queues, StaticRoute,
    StaticTarget, TwinConfig, TwinPlace, VrfConfig,
};
use spillway_control::manage::http::HttpServer;
use spillway_control::manage::socket::ManagementSocket;
use spillway_control::manage::{
    Appliance, Limits, Parts as ApplianceParts, Saved, ask, log_notices,
};
use spillway_control::publish::Publisher;
use spillway_dataplane::snapshot::{PortId, VrfId};
use spillway_dpdk::{Eal, Pool};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::aliases::aliases;
use super::description::Running;
use super::leases::{self, Leases};
use super::links::{Links, Owed};
use super::ports::{Ports, with_port};
use super::servers::Servers;
use super::workers::Workers;
use crate::check;
use crate::cli::Run;
use change::{ReloadRequest, Unconfirmed};

/// How often devices and retired snapshots are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How often devices are asked whether they have a link.
const CHECK_LINKS_EVERY: Duration = Duration::from_millis(100);
/// The host name until one is configured.
const HOSTNAME: &str = "Spillway";

/// What the control thread gets from the start.
pub(super) struct Parts<'a> {
    pub(super) options: &'a Run,
    pub(super) config: Config,
    pub(super) eal: &'a Eal,
    pub(super) pool: &'a Pool,
    pub(super) ports: Ports,
    pub(super) workers: &'a mut Workers,
    pub(super) publisher: Arc<Mutex<Publisher>>,
}

/// The signals that mean something to the appliance.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> Result<Signals, Vec<String>> {
        let listen = |kind| signal(kind).map_err(|e| vec![format!("signals can't be caught: {e}")]);
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

/// The control thread's own state.
struct Control<'a> {
    options: &'a Run,
    eal: &'a Eal,
    ports: Ports,
    workers: &'a mut Workers,
    publisher: Arc<Mutex<Publisher>>,
    links: Links,
    kernel: Kernel,
    policy: Arc<Policy>,
    running: Arc<Running>,
    hostname: Arc<ArcSwap<String>>,
    appliance: Arc<Appliance>,
    unconfirmed: Option<Unconfirmed>,
    dhcp: Clients,
    leases: Leases,
    /// Ports whose links were up when they were last looked at.
    up: HashSet<PortId>,
    /// The kernel or the workers do not know yet what became of a link.
    owed: Owed,
}

/// Serves until told to stop. The errors are a sentence each.
pub(super) async fn serve(parts: Parts<'_>) -> Result<(), Vec<String>> {
    let Parts {
        options,
        config,
        eal,
        pool,
        ports,
        workers,
        publisher,
    } = parts;
    let one = |error: &dyn std::fmt::Display| vec![error.to_string()];
    // From here on a signal ends it in order, also while it still starts.
    let mut signals = Signals::catch()?;
    let socket = ManagementSocket::open(&options.socket).map_err(|e| one(&e))?;
    let http = HttpServer::open(options.http).await.map_err(|e| {
        one(&format!(
            "http://{} can't be served: {e}; choose another --http",
            options.http
        ))
    })?;

    let config = Arc::new(config);
    let now = workers.clock.millis().tick();
    let policy = Arc::new(Policy::compile(
        Arc::clone(&config),
        &HashMap::new(),
        now,
        None,
    ));
    let links = Links::new();
    publish(&publisher, |p| {
        p.publish(|snapshot| snapshot.nat = Arc::clone(&policy.nat))
    });
    let queues = Queues {
        punt: Arc::clone(&workers.punt),
        inject: workers.injectors(&ports),
        resolve: Arc::clone(&workers.resolve),
    };
    let leases = Leases::default();
    let wanted = kernel_config(&config, &policy, (&ports, &links), &leases).map_err(|e| one(&e))?;
    let hooks = hooks(&publisher, &links);
    let (kernel, later) = match Kernel::start(&wanted, queues, pool.clone(), hooks).await {
        Ok(started) => started,
        Err(errors) => return Err(errors.iter().map(ToString::to_string).collect()),
    };
    for warning in later {
        warn!("{warning}");
    }
    for TwinPlace { port, name, .. } in kernel.twins() {
        info!(
            "interface {}: its kernel twin is {name}",
            config_name(&config, port)
        );
    }

    let running = Running::new(Arc::clone(&policy));
    let hostname = Arc::new(ArcSwap::from_pointee(hostname(&config)));
    let (reloads, mut reload_requests) = mpsc::channel::<ReloadRequest>(1);
    let (dhcp, mut leased) = Clients::new();
    let clock = workers.clock;
    let appliance = Appliance::new(ApplianceParts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: Arc::clone(&hostname),
        clock: Box::new(move || clock.millis()),
        workers: workers.handles(),
        snapshot: publish(&publisher, |p| p.shared()),
        occupancy: Arc::clone(&workers.occupancy),
        ports: ports.view(),
        description: Arc::clone(&running) as Arc<_>,
        spaces: kernel.spaces(),
        saved: saved(options),
        reloader: Box::new(move |change| {
            let reloads = reloads.clone();
            Box::pin(async move {
                let stopping = || vec!["the appliance is stopping".to_owned()];
                let (answer, done) = oneshot::channel();
                reloads
                    .send((change, answer))
                    .await
                    .map_err(|_| stopping())?;
                done.await.map_err(|_| stopping())?
            })
        }),
        limits: Limits::default(),
    });
    let answering = tokio::spawn(socket.serve(Arc::clone(&appliance)));
    let scraping = tokio::spawn(http.serve(Arc::clone(&appliance)));

    let mut control = Control {
        options,
        eal,
        ports,
        workers,
        publisher,
        links,
        kernel,
        policy,
        running,
        hostname,
        appliance,
        unconfirmed: None,
        dhcp,
        leases,
        up: HashSet::new(),
        owed: Owed::default(),
    };
    let mut servers = Servers::watch(&control.appliance, control.ports.take_rules());
    let ended = control
        .run(
            &mut signals,
            &mut reload_requests,
            &mut leased,
            &mut servers,
        )
        .await;
    servers.end().await;
    answering.abort();
    scraping.abort();
    // Both hold what they answer from; it has to be gone before DPDK ends.
    let _ = (answering.await, scraping.await);
    control.workers.stop();
    control.kernel.stop().await;
    ended
}

/// Reads what the next start would run with.
fn saved(options: &Run) -> Saved {
    let files = super::files(options);
    Saved {
        file: files.config.clone(),
        load: Arc::new(move || match check::load(&files) {
            Ok((config, _)) => Ok(config),
            Err(refused) => Err(refused.texts()),
        }),
    }
}

fn publish<T>(publisher: &Mutex<Publisher>, act: impl FnOnce(&mut Publisher) -> T) -> T {
    act(&mut publisher.lock().unwrap_or_else(PoisonError::into_inner))
}

/// New forwarding tables are published as they come; links are noted and looked at in the loop.
fn hooks(publisher: &Arc<Mutex<Publisher>>, links: &Links) -> Hooks {
    let (publisher, links) = (Arc::clone(publisher), links.clone());
    Hooks {
        on_fib: Box::new(move |fib| {
            publish(&publisher, |p| {
                p.publish(|snapshot| snapshot.fib = Arc::new(fib))
            })
        }),
        on_link: Box::new(move |event| links.note(&event)),
        is_used: None,
    }
}

impl Control<'_> {
    /// Until a signal ends it, or a worker falls.
    async fn run(
        &mut self,
        signals: &mut Signals,
        reloads: &mut mpsc::Receiver<ReloadRequest>,
        leased: &mut mpsc::Receiver<Told>,
        servers: &mut Servers,
    ) -> Result<(), Vec<String>> {
        let mut check = tokio::time::interval(CHECK_EVERY);
        let mut check_links = tokio::time::interval(CHECK_LINKS_EVERY);
        check_links.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.look_at_links().await;
        self.keep_dhcp();
        info!("ready");
        loop {
            let links = self.links.clone();
            let until = self.unconfirmed.as_ref().map(|u| u.until);
            tokio::select! {
                _ = signals.terminate.recv() => { info!("stopping: SIGTERM"); return Ok(()) }
                _ = signals.interrupt.recv() => { info!("stopping: SIGINT"); return Ok(()) }
                _ = signals.hang_up.recv() => self.reload_for_signal().await,
                Some((change, answer)) = reloads.recv() => {
                    // Whoever asked may have gone away meanwhile; the change stands.
                    let _ = answer.send(self.change(change).await);
                }
                () = change::over(until), if until.is_some() => {
                    self.go_back().await;
                }
                Some(told) = leased.recv() => self.leased(&told).await,
                Some(peers) = servers.told() => {
                    self.ports.follow_servers(&self.policy.config, &peers);
                }
                () = links.changed() => self.look_at_links().await,
                _ = check_links.tick() => {
                    if self.ports.have_other_links() {
                        self.refresh_ports().await;
                    }
                }
                _ = check.tick() => {
                    publish(&self.publisher, Publisher::reclaim);
                    log_notices(&self.appliance);
                    self.refresh_ports().await;
                    if let Some(worker) = self.workers.fallen() {
                        return Err(vec![format!("worker {worker} has ended; the appliance stops")]);
                    }
                }
            }
        }
    }

    async fn reload_for_signal(&mut self) {
        match self.reload().await {
            Ok(report) => {
                for warning in report.warnings {
                    warn!("{warning}");
                }
                info!(
                    "reloaded {}: {} entries withdrawn, {} kept",
                    report.file, report.withdrawn, report.kept
                );
            }
            Err(errors) => {
                for text in errors {
                    error!("{text}");
                }
                error!("not reloaded: the running configuration stays");
            }
        }
    }

    /// Looks at the devices' links and counters.
    async fn refresh_ports(&mut self) {
        for port in self.ports.refresh() {
            self.dhcp.hurry(port);
        }
        self.look_at_links().await;
    }

    /// The interfaces with their links as they are now.
    fn interfaces(&self) -> Vec<spillway_dataplane::snapshot::Interface> {
        let policy = &self.policy;
        let mut interfaces = (self.ports).interfaces(&policy.config, &policy.vrfs, &self.leases);
        let links = (&self.ports, &self.links);
        for (interface, (port, configured, _)) in
            interfaces.iter_mut().zip(with_port(&policy.config))
        {
            interface.up &= has_link(links, port, configured);
        }
        interfaces
    }

    /// Closes ports whose interface has gone, opens those whose interface is back, and tells the
    /// workers and the kernel what has changed.
    async fn look_at_links(&mut self) {
        let mut is_told = true;
        for at in 0..self.ports.len() {
            let id = PortId(at as u8);
            let link = self.links.look(id);
            if link.was_absent && self.ports.is_open(id) {
                self.ports.detach(id, self.workers).await;
            }
            let is_there = !matches!(link.state, None | Some(LinkState::Absent));
            // Only what has just come up: to begin anew again and again would let no server answer.
            let is_up = link.state == Some(LinkState::Up);
            if is_up && !self.up.contains(&id) {
                self.dhcp.hurry(id);
            }
            if is_up {
                self.up.insert(id);
            } else {
                self.up.remove(&id);
            }
            if is_there && !self.ports.is_open(id) {
                if let Err(sentence) = self.ports.reopen(self.eal, id, self.workers) {
                    warn!("{sentence}; tried again in a second");
                    continue;
                }
                is_told &= self.tell_kernel().await;
                self.keep_dhcp();
            }
        }
        let interfaces = self.interfaces();
        let changed = publish(&self.publisher, |p| {
            let changed = p.snapshot().interfaces != interfaces;
            if changed {
                p.publish(|snapshot| snapshot.interfaces = interfaces);
            }
            changed
        });
        let now = Instant::now();
        if changed || !is_told || self.owed.is_due(now) {
            // Routes come and go with links.
            is_told = self.tell_kernel().await;
            is_told &= self.reroute().await;
            self.owed.note(is_told, now);
        }
    }

    /// Withdraws entries whose packets go another way now, on which the policy gives them other addresses: the new
    /// provider would not take the old one's. Whether all workers did.
    async fn reroute(&self) -> bool {
        match ask::reroute(&self.appliance).await {
            Ok(0) => {}
            Ok(withdrawn) => {
                info!("{withdrawn} entries withdrawn: their packets go another way now");
            }
            Err(error) => {
                warn!("entries of other ways may still be there, tried again later: {error}");
                return false;
            }
        }
        true
    }

    /// Starts and ends DHCP clients as the configuration and the ports want.
    fn keep_dhcp(&mut self) {
        let twins = self.kernel.twins();
        let config = &self.policy.config;
        let wanted = leases::wanted(config, &self.ports, &twins, &hostname(config));
        self.leases.keep(&wanted);
        self.dhcp.keep(&wanted);
    }

    /// A DHCP server gave, renewed or took an address.
    async fn leased(&mut self, told: &Told) {
        let config = Arc::clone(&self.policy.config);
        // A client that is no more may have left a word behind.
        if !self.dhcp.has(told.port) {
            return;
        }
        let name = config_name(&config, told.port);
        let mut told = told.clone();
        let clash = |lease: &Lease| self.leases.clash(&config, told.port, lease.address);
        if let Some((lease, other)) = told.lease.and_then(|lease| Some((lease, clash(&lease)?))) {
            warn!(
                "interface {name}: {} from the DHCP server {} overlaps interface {other}: it is not used",
                lease.address, lease.server
            );
            told.lease = None;
        }
        if !self.leases.note(&told) {
            return;
        }
        match &told.lease {
            Some(lease) => info!(
                "interface {name}: address {} from the DHCP server {}, {}, router {}",
                lease.address,
                lease.server,
                lease
                    .seconds
                    .map_or("for ever".to_owned(), |s| format!("for {s} seconds")),
                lease.router.map_or("none".to_owned(), |r| r.to_string()),
            ),
            None => warn!("interface {name}: its DHCP lease is over, it has no address"),
        }
        match self.put(config, "DHCP", Vec::new()).await {
            Ok(report) => {
                for warning in report.warnings {
                    warn!("{warning}");
                }
                if report.withdrawn > 0 {
                    info!(
                        "{} entries withdrawn, {} kept",
                        report.withdrawn, report.kept
                    );
                }
            }
            Err(errors) => {
                for text in errors {
                    error!("{text}");
                }
            }
        }
    }

    /// Twins and routes as the links and ports are now: one that was opened again may have another MAC address. Whether
    /// the kernel took all that it can take.
    async fn tell_kernel(&mut self) -> bool {
        let links = (&self.ports, &self.links);
        let problems = match kernel_config(&self.policy.config, &self.policy, links, &self.leases) {
            Ok(config) => self.kernel.apply(&config).await,
            Err(problem) => vec![problem],
        };
        for problem in &problems {
            warn!("{problem}");
        }
        problems.iter().all(KernelError::is_of_the_configuration)
    }
}

fn hostname(config: &Config) -> String {
    config
        .hostname
        .clone()
        .unwrap_or_else(|| HOSTNAME.to_owned())
}

fn config_name(config: &Config, port: PortId) -> &str {
    let mut interfaces = with_port(config);
    interfaces
        .find(|(id, ..)| *id == port)
        .map_or("?", |(_, interface, _)| &interface.name)
}

/// Whether packets can leave by a port: as the kernel says of the interface under it, or else the device, unless
/// neither is to be asked.
fn has_link((ports, links): (&Ports, &Links), port: PortId, interface: &model::Interface) -> bool {
    interface.ignores_link
        || match links.peek(port) {
            Some(state) => state == LinkState::Up,
            None => ports.has_link(port),
        }
}

/// What the kernel shall have: VRFs, twins and static routes.
fn kernel_config(
    config: &Config,
    policy: &Policy,
    (ports, links): (&Ports, &Links),
    leases: &Leases,
) -> Result<KernelConfig, KernelError> {
    let mut interfaces = Vec::new();
    for (port, interface, device) in with_port(config) {
        let device = match device {
            model::Port::Pci(_) => None,
            model::Port::Vdev(arguments) => KernelDevice::of_vdev(arguments)?,
        };
        interfaces.push(TwinConfig {
            port,
            name: interface.name.clone(),
            description: interface.description.clone(),
            vrf: policy.vrfs.id(interface.vrf.as_deref()),
            mac: ports.mac(port),
            mtu: ports.mtu(port, interface.mtu),
            address: leases.address(port, interface),
            shutdown: interface.shutdown,
            link: has_link((ports, links), port, interface),
            device,
            aliases: aliases(config, policy, leases, (port, interface)),
        });
    }
    let by_name = |name: &str| {
        with_port(config)
            .find(|(_, i, _)| i.name.eq_ignore_ascii_case(name))
            .map(|(port, ..)| port)
    };
    let route = |route: &model::StaticRoute| {
        let target = match &route.target {
            model::RouteTarget::NextHop(via) => StaticTarget::NextHop(*via),
            model::RouteTarget::Interface(name) => StaticTarget::Port(by_name(name)?),
            model::RouteTarget::Null => StaticTarget::Null,
        };
        Some(StaticRoute {
            vrf: policy.vrfs.find(route.vrf.as_deref())?,
            prefix: route.prefix,
            target,
            global: route.global,
        })
    };
    let vrf = |(name, id): (&str, VrfId)| VrfConfig {
        id,
        name: name.to_owned(),
    };
    let mut routes: Vec<&model::StaticRoute> = (config.routes.iter())
        .filter(|route| route.distance != model::StaticRoute::NEVER)
        .collect();
    // The kernel's side takes the first of several to one prefix.
    routes.sort_by_key(|route| route.distance);
    Ok(KernelConfig {
        vrfs: policy.vrfs.iter().map(vrf).collect(),
        interfaces,
        routes: (routes.into_iter().filter_map(route))
            .chain(leases.default_routes(config, &policy.vrfs))
            .collect(),
    })
}
