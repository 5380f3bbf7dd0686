//! `ip address dhcp`: a client (RFC 2131) on the kernel twin of each interface that wants one.

mod client;
mod message;
mod socket;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use spillway_dataplane::snapshot::PortId;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::kernel::Space;
pub use client::Lease;
use client::{Change, Client};
use socket::Link;

/// How long to wait after the kernel refused something.
const RETRY: Duration = Duration::from_secs(1);
/// Longest sleep, so that no moment lies beyond what a timer can hold.
const DOZE: Duration = Duration::from_secs(3600);
/// Changes that may wait for whoever takes them.
const CHANGES: usize = 16;

/// An interface that wants an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its port.
    pub port: PortId,
    /// The kernel's name of its twin.
    pub device: String,
    /// The network namespace of its twin.
    pub space: Space,
    /// The port's MAC address.
    pub mac: [u8; 6],
    /// The host name that servers are told; up to 255 octets.
    pub hostname: String,
}

/// What became of an interface's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its port.
    pub port: PortId,
    /// The lease, or the same one renewed; `None` when it is over.
    pub lease: Option<Lease>,
}

/// The clients that the configuration wants.
#[derive(Debug)]
pub struct Clients {
    running: HashMap<PortId, Running>,
    changes: mpsc::Sender<Told>,
}

#[derive(Debug)]
struct Running {
    wanted: Wanted,
    hurry: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Clients {
    /// No clients yet, and the end at which their changes come out.
    #[must_use]
    pub fn new() -> (Clients, mpsc::Receiver<Told>) {
        let (changes, out) = mpsc::channel(CHANGES);
        let running = HashMap::new();
        (Clients { running, changes }, out)
    }

    /// Starts clients for interfaces that have none and ends those that nobody wants any more, or
    /// wants otherwise. Whoever had a lease of one that ended forgets it: nothing comes of it any more,
    /// except what was on its way.
    pub fn keep(&mut self, wanted: &[Wanted]) {
        self.running
            .retain(|_, running| wanted.contains(&running.wanted));
        for new in wanted {
            if !self.running.contains_key(&new.port) {
                let hurry = Arc::new(Notify::new());
                let task = run(new.clone(), Arc::clone(&hurry), self.changes.clone());
                let running = Running {
                    wanted: new.clone(),
                    hurry,
                    task: tokio::spawn(task),
                };
                self.running.insert(new.port, running);
            }
        }
    }

    /// Whether a client runs for a port.
    #[must_use]
    pub fn has(&self, port: PortId) -> bool {
        self.running.contains_key(&port)
    }

    /// A port's link is back: its client need not wait any longer.
    pub fn hurry(&self, port: PortId) {
        if let Some(running) = self.running.get(&port) {
            running.hurry.notify_one();
        }
    }
}

/// One client, for as long as it is wanted.
async fn run(wanted: Wanted, hurry: Arc<Notify>, changes: mpsc::Sender<Told>) {
    let mut client = Client::new(RandomState::new().hash_one(wanted.mac));
    let start = Instant::now();
    let mut complained = false;
    loop {
        let ended = serve(&wanted, &mut client, start, &hurry, &changes).await;
        if let (Err(error), false) = (ended, complained) {
            warn!("no DHCP on {}: {error}; tried again", wanted.device);
            complained = true;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Until the kernel refuses something.
async fn serve(
    wanted: &Wanted,
    client: &mut Client,
    start: Instant,
    hurry: &Notify,
    changes: &mpsc::Sender<Told>,
) -> io::Result<()> {
    let link = wanted.space.enter(|| Link::open(&wanted.device))??;
    loop {
        let next = client.next().saturating_sub(start.elapsed()).min(DOZE);
        let mut change = None;
        tokio::select! {
            () = sleep_until(Instant::now() + next) => {
                let (ask, lost) = client.act(start.elapsed());
                change = lost;
                if let Some(ask) = ask {
                    let message = message::encode(&ask, wanted.mac, &wanted.hostname);
                    let message = message.ok_or(io::ErrorKind::InvalidInput)?;
                    link.send(&message, ask.to).await?;
                }
            }
            octets = link.receive() => {
                if let Some(reply) = message::decode(&octets?, wanted.mac) {
                    change = client.receive(start.elapsed(), &reply);
                }
            }
            () = hurry.notified() => client.hurry(start.elapsed()),
        }
        let lease = match change {
            None => continue,
            Some(Change::Bound(lease)) => Some(lease),
            Some(Change::Lost) => None,
        };
        let port = wanted.port;
        // Nobody takes it only when the appliance ends.
        let _ = changes.send(Told { port, lease }).await;
    }
}
