//! Carries frames between the workers' queues and the twins.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use ipnet::Ipv4Net;
use spillway_dataplane::packet::{Packet, PacketPool};
use spillway_dataplane::snapshot::PortId;
use tracing::error;

use super::arp;
use super::stats::TwinStats;
use super::tap::Tap;

/// Frames of the workers for the kernel: the port that each came in on, and the frame.
pub type PuntQueue<P> = Arc<ArrayQueue<(PortId, P)>>;

/// Frames of the kernel for a worker: the port that each leaves from, and the frame.
pub type InjectQueue<P> = Arc<ArrayQueue<(PortId, P)>>;

/// Octets of an Ethernet header.
const ETHERNET: usize = 14;

/// Room for the largest frame of a twin: 65,535 octets of IPv4, Ethernet header, a tag.
const LARGEST_FRAME: usize = 65_535 + ETHERNET + 4;

/// Frames of workers that are carried before other tasks get their turn.
const PUNT_ROUND: usize = 256;

/// Frames of one twin that are carried before the next twin gets its turn.
const INJECT_ROUND: usize = 32;

/// How often the workers' queue is looked into while it is quiet: workers make no system calls,
/// so that nothing wakes this task.
const LOOK: Duration = Duration::from_millis(1);

/// `EIO`: what a TAP that is down answers to a frame.
const DOWN: i32 = 5;

/// A twin as the frames see it.
pub(crate) struct Face {
    /// The way to the kernel; `None` once its interface was found deleted.
    pub(crate) tap: Option<Tap>,
    /// The port's MAC address.
    pub(crate) mac: [u8; 6],
    /// NAT's global addresses on this link.
    pub(crate) aliases: Vec<Ipv4Net>,
}

/// The twins, by port. The carrier and the configuration are tasks of one thread and never hold
/// this over a wait, so that the lock is always free.
#[derive(Clone, Default)]
pub(crate) struct Faces(Arc<Mutex<Vec<Option<Face>>>>);

impl Faces {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Option<Face>>> {
        // Nothing in here is left half done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that carries frames.
pub(crate) struct Carrier<A: PacketPool> {
    pub(crate) faces: Faces,
    pub(crate) punt: PuntQueue<A::Packet>,
    pub(crate) inject: Vec<InjectQueue<A::Packet>>,
    pub(crate) pool: A,
    pub(crate) stats: Arc<TwinStats>,
}

impl<A: PacketPool> Carrier<A> {
    /// Carries frames until it is aborted.
    pub(crate) async fn run(mut self) {
        let mut buffer = vec![0; LARGEST_FRAME];
        loop {
            let round = poll_fn(|cx| self.round(cx, &mut buffer));
            // After `LOOK` the next round looks at everything once more.
            if tokio::time::timeout(LOOK, round).await.is_ok() {
                // At once again, but netlink and HTTP live on this thread too.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Carries a bounded number of frames each way; pending if there were none.
    fn round(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<()> {
        let faces = self.faces.clone();
        let mut faces = faces.lock();
        let punted = self.punt_round(&faces);
        let mut injected = false;
        for (port, face) in (0u8..).map(PortId).zip(faces.iter_mut()) {
            if let Some(face) = face {
                injected |= self.inject_round(port, face, cx, buffer);
            }
        }
        if punted || injected {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// From the workers to the kernel; whether there was anything.
    fn punt_round(&mut self, faces: &[Option<Face>]) -> bool {
        for carried in 0..PUNT_ROUND {
            let Some((port, packet)) = self.punt.pop() else {
                return carried > 0;
            };
            self.punt_one(faces, port, packet.data());
        }
        true
    }

    fn punt_one(&mut self, faces: &[Option<Face>], port: PortId, frame: &[u8]) {
        let face = faces.get(port.index()).and_then(Option::as_ref);
        let Some((face, tap)) = face.and_then(|f| Some((f, f.tap.as_ref()?))) else {
            return self.stats.drop_no_twin.one();
        };
        if frame.len() < ETHERNET {
            return self.stats.drop_short.one();
        }
        if let Some(reply) = arp::answer(frame, face.mac, &face.aliases) {
            if self.inject_one(port, &reply) {
                self.stats.arp_answered.one();
            }
            return;
        }
        match tap.send(frame) {
            Ok(()) => self.stats.written.one(),
            Err(e) if e.raw_os_error() == Some(DOWN) => self.stats.drop_tap_down.one(),
            Err(_) => self.stats.drop_tap_write.one(),
        }
    }

    /// From one twin to its worker; whether there was anything.
    fn inject_round(
        &mut self,
        port: PortId,
        face: &mut Face,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> bool {
        let Some(tap) = face.tap.as_mut() else {
            return false;
        };
        for carried in 0..INJECT_ROUND {
            match tap.poll_receive(cx, buffer) {
                Poll::Ready(Ok(length)) => {
                    let frame = buffer.get(..length).unwrap_or_default();
                    if self.inject_one(port, frame) {
                        self.stats.injected.one();
                    }
                }
                Poll::Ready(Err(e)) => {
                    // A TAP fails in no other way.
                    error!(
                        "port {}: the twin interface was deleted ({e}); reload to make it anew",
                        port.0
                    );
                    self.stats.tap_read_failed.one();
                    face.tap = None;
                    return true;
                }
                Poll::Pending => return carried > 0,
            }
        }
        true
    }

    /// Puts a frame into a packet and on its way to the worker; whether that went well.
    fn inject_one(&mut self, port: PortId, frame: &[u8]) -> bool {
        let lost = match self.try_inject(port, frame) {
            Ok(()) => return true,
            Err(counter) => counter,
        };
        lost(&self.stats).one();
        false
    }

    fn try_inject(&mut self, port: PortId, frame: &[u8]) -> Result<(), Lost> {
        let queue = self
            .inject
            .get(port.index())
            .ok_or::<Lost>(|s| &s.drop_no_queue)?;
        if queue.is_full() {
            return Err(|s| &s.drop_inject_full);
        }
        let mut packet = self.pool.alloc().ok_or::<Lost>(|s| &s.drop_pool_empty)?;
        if !packet.append(frame.len()) {
            return Err(|s| &s.drop_too_long);
        }
        packet.data_mut().copy_from_slice(frame);
        queue
            .push((port, packet))
            .map_err(|_| -> Lost { |s| &s.drop_inject_full })
    }
}

/// The counter of a lost frame.
type Lost = fn(&TwinStats) -> &super::stats::Count;
