//! The kernel twin of each interface, and what it knows: routes and neighbours.
//!
//! The kernel answers ARP and ping for our addresses and owns neighbours and routes. Each port
//! has a TAP interface, its twin; [`Kernel`] makes the twins, carries frames between them and the
//! workers' queues, and follows the kernel by netlink.

mod arp;
mod device;
mod error;
mod follow;
mod followed;
mod frames;
mod ingress;
mod name;
mod netlink;
mod resolve;
mod space;
mod statics;
mod stats;
mod sysctl;
mod table;
mod tap;
mod twins;
mod watch;

pub use device::KernelDevice;
pub use error::KernelError;
pub use follow::Hooks;
pub use frames::{InjectQueue, PuntQueue};
pub use name::{MAX_NAME, PREFIX, kernel_names};
pub use space::{Space, Spaces, VrfConfig};
pub use statics::{METRIC, PROTOCOL, RULE_PRIORITY, StaticRoute, StaticTarget, TABLE};
pub use stats::{Count, TwinStats};
pub use twins::{TwinConfig, TwinPlace};
pub use watch::{LinkEvent, LinkState};

use std::sync::Arc;

use spillway_dataplane::command::ResolveQueue;
use spillway_dataplane::packet::PacketPool;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use follow::{Command, Follower, Wanted};
use frames::{Carrier, Faces};
use space::Realms;
use twins::Twins;

/// Commands that may wait for the follower.
const COMMANDS: usize = 4;

/// What the configuration asks of the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelConfig {
    /// `ip vrf`; without the global table.
    pub vrfs: Vec<VrfConfig>,
    /// The interfaces.
    pub interfaces: Vec<TwinConfig>,
    /// `ip route`.
    pub routes: Vec<StaticRoute>,
}

/// The queues that workers share with the kernel side.
#[derive(Debug)]
pub struct Queues<P> {
    /// From all workers to the twins.
    pub punt: PuntQueue<P>,
    /// From the twins to the worker that transmits on the port, by
    /// [`PortId::index`](spillway_dataplane::snapshot::PortId::index). Ports may share a queue.
    pub inject: Vec<InjectQueue<P>>,
    /// Next hops that workers have packets for and no MAC address.
    pub resolve: ResolveQueue,
}

/// The running kernel side: two tasks on the runtime that it was started on.
pub struct Kernel {
    realms: Realms,
    twins: Twins,
    commands: mpsc::Sender<Command>,
    carrier: JoinHandle<()>,
    follower: JoinHandle<()>,
    stats: Arc<TwinStats>,
}

impl Kernel {
    /// Makes the twins in the network namespace of this thread and starts the tasks. When it
    /// returns, the hooks have been called with the first table and the state of each link.
    ///
    /// # Errors
    /// Everything that could not be made; what had been made is removed again. A static route
    /// whose next hop is on no link is no such error: it is in the second part of the result.
    pub async fn start<A>(
        config: &KernelConfig,
        queues: Queues<A::Packet>,
        pool: A,
        hooks: Hooks,
    ) -> Result<(Kernel, Vec<KernelError>), Vec<KernelError>>
    where
        A: PacketPool + Send + 'static,
        A::Packet: 'static,
    {
        let stats = Arc::new(TwinStats::default());
        let faces = Faces::default();
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let realms = Realms::new().map_err(|e| vec![e])?;
        let follower = Follower::new(receiver, queues.resolve, hooks, Arc::clone(&stats));
        sysctl::make_room_for_neighbours();
        let carrier = Carrier {
            faces: faces.clone(),
            punt: queues.punt,
            inject: queues.inject,
            pool,
            stats: Arc::clone(&stats),
        };
        let mut kernel = Kernel {
            realms,
            twins: Twins::new(faces),
            commands,
            carrier: tokio::spawn(carrier.run()),
            follower: tokio::spawn(follower.run()),
            stats,
        };
        let mut fatal = kernel.make(config).await;
        let mut later = Vec::new();
        // Without all twins nothing else is touched: another Spillway may own what is there.
        if fatal.is_empty() {
            (later, fatal) = kernel
                .configure(config)
                .await
                .into_iter()
                .partition(|p| matches!(p, KernelError::NextHop(_)));
        }
        if fatal.is_empty() {
            return Ok((kernel, later));
        }
        kernel.stop().await;
        Err(fatal)
    }

    /// Makes the kernel side what `config` says, touching only what differs. The answer holds
    /// what could not be done; everything else is done.
    pub async fn apply(&mut self, config: &KernelConfig) -> Vec<KernelError> {
        let mut problems = self.make(config).await;
        problems.extend(self.configure(config).await);
        problems
    }

    /// Makes namespaces and twins.
    async fn make(&mut self, config: &KernelConfig) -> Vec<KernelError> {
        let mut problems = self.realms.apply(&config.vrfs).await;
        let twins = self.twins.apply(&config.interfaces, &self.realms).await;
        problems.extend(twins);
        problems
    }

    /// Tells the follower of the VRFs, twins and static routes.
    async fn configure(&self, config: &KernelConfig) -> Vec<KernelError> {
        let (answer, done) = oneshot::channel();
        let wanted = Wanted {
            realms: self.realms.all().to_vec(),
            twins: self.twins.views(),
            routes: config.routes.clone(),
        };
        let command = Command::Configure(wanted, answer);
        if self.commands.send(command).await.is_err() {
            return vec![KernelError::Stopped];
        }
        done.await.unwrap_or_else(|_| vec![KernelError::Stopped])
    }

    /// Where each twin is.
    #[must_use]
    pub fn twins(&self) -> Vec<TwinPlace> {
        self.twins.places()
    }

    /// The network namespace of each VRF.
    #[must_use]
    pub fn spaces(&self) -> Spaces {
        self.realms.shared()
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Arc<TwinStats> {
        Arc::clone(&self.stats)
    }

    /// Removes static routes, rules, ingress drops and twins. Stop the workers first: what they
    /// still put into the queues stays there.
    pub async fn stop(mut self) {
        let (answer, done) = oneshot::channel();
        if self.commands.send(Command::Stop(answer)).await.is_ok() {
            // A follower that ended by itself has nothing left to remove.
            let _ = done.await;
        }
        self.follower.abort();
        self.carrier.abort();
        self.twins.remove().await;
        // The packet pool lives in the carrier: it has to be back before the caller ends DPDK.
        let _ = self.carrier.await;
    }
}
