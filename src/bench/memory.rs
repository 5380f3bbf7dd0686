//! A port in memory: packets come from header templates and go back to where their buffers are.

use std::cell::RefCell;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use spillway_dataplane::packet::{Burst, Packet, PacketPool, RxQueue, TxQueue};
use spillway_dataplane::prefetch::prefetch_write;

use super::traffic::{Header, Templates};

/// Octets of a buffer: the headers of any packet, and the octets that nobody reads after them.
const BUFFER: usize = 1600;

/// One packet buffer, on cache lines of its own.
#[repr(align(64))]
pub(super) struct Buffer([u8; BUFFER]);

/// A packet: a buffer and how much of it is used.
pub(super) struct MemoryPacket {
    buffer: Box<Buffer>,
    len: u16,
}

impl Packet for MemoryPacket {
    #[inline]
    fn prefetch_first(&self) {
        prefetch_write(&*self.buffer);
    }

    #[inline]
    fn data(&self) -> &[u8] {
        &self.buffer.0[..usize::from(self.len)]
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.buffer.0[..usize::from(self.len)]
    }

    fn prepend(&mut self, _len: usize) -> bool {
        false
    }

    fn append(&mut self, _len: usize) -> bool {
        false
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len as u16);
    }
}

/// Where workers of a team leave buffers of which they have too many, for those that have too few:
/// packets that are handed over take their buffers along.
pub(super) type Depot = Arc<ArrayQueue<Vec<Box<Buffer>>>>;

/// Free buffers of a worker above which some go to the depot, and how many go at once.
const KEEP: usize = 2048;
const DEPOSIT: usize = 512;

/// What the two ends of the memory port share.
pub(super) struct Shared {
    /// Buffers that no packet uses. Boxed, because packets take them away and bring them back.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Buffer>>,
    /// Where others' buffers are, in a team.
    pub(super) depot: Option<Depot>,
    /// Outside ports of what was sent, while somebody wants to know them.
    pub(super) noted: Option<Vec<u16>>,
    /// Packets sent.
    pub(super) sent: u64,
}

thread_local! {
    static SHARED: RefCell<Shared> = const {
        RefCell::new(Shared {
            free: Vec::new(),
            depot: None,
            noted: None,
            sent: 0,
        })
    };
}

impl Shared {
    #[cold]
    fn fill_up(&mut self, wanted: usize) {
        if let Some(buffers) = self.depot.as_ref().and_then(|depot| depot.pop()) {
            self.free.extend(buffers);
        }
        while self.free.len() < wanted {
            self.free.push(Box::new(Buffer([0; BUFFER])));
        }
    }

    #[cold]
    fn deposit(&mut self) {
        if let Some(depot) = &self.depot {
            let _ = depot.push(self.free.split_off(self.free.len() - DEPOSIT));
        }
    }
}

/// Both ends of the memory port hold this. A worker's ports are its thread's: nothing of them is
/// locked, as nothing of a network card's queues would be.
#[derive(Clone, Copy)]
pub(super) struct Port;

impl Port {
    /// A port that has sent nothing yet.
    pub(super) fn new() -> Port {
        Port.with(|shared| {
            shared.noted = None;
            shared.sent = 0;
        });
        Port
    }

    /// Works with what both ends share.
    #[inline]
    pub(super) fn with<R>(self, work: impl FnOnce(&mut Shared) -> R) -> R {
        SHARED.with_borrow_mut(work)
    }
}

/// The receiving end.
pub(super) struct Source {
    port: Port,
    templates: Arc<Templates>,
    next: usize,
    burst: usize,
}

impl Source {
    pub(super) fn new(port: Port, templates: Arc<Templates>, burst: usize) -> Source {
        Source {
            port,
            templates,
            next: 0,
            burst,
        }
    }

    /// The same, beginning with another packet; with the first one where there are not so many.
    pub(super) fn starting_at(mut self, first: usize) -> Source {
        self.next = if first < self.templates.headers.len() {
            first
        } else {
            0
        };
        self
    }
}

impl RxQueue for Source {
    type Packet = MemoryPacket;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<MemoryPacket>) -> usize {
        let (headers, base) = (&self.templates.headers, &self.templates.base);
        self.port.with(|port| {
            if headers.is_empty() {
                return 0;
            }
            if port.free.len() < self.burst {
                port.fill_up(self.burst);
            }
            // Up to the end of the templates, and from their start again as often as it takes.
            while burst.len() < self.burst {
                let left = &headers[self.next..];
                let count = left.len().min(self.burst - burst.len());
                let first = port.free.len() - count;
                let packets = port.free.drain(first..).zip(left);
                burst.extend(packets.map(|(mut buffer, header)| {
                    let len = fill(&mut buffer.0, base, header);
                    MemoryPacket { buffer, len }
                }));
                self.next += count;
                if self.next == headers.len() {
                    self.next = 0;
                }
            }
            self.burst
        })
    }
}

#[inline]
fn fill(buffer: &mut [u8; BUFFER], base: &[u8; 64], header: &Header) -> u16 {
    buffer[..64].copy_from_slice(base);
    buffer[16..18].copy_from_slice(&(header.len - 14).to_be_bytes());
    buffer[24..40].copy_from_slice(&header.octets);
    header.len
}

/// The sending end.
pub(super) struct Sink(pub(super) Port);

impl TxQueue for Sink {
    type Packet = MemoryPacket;

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<MemoryPacket>) -> usize {
        let sent = burst.len();
        self.0.with(|port| {
            port.sent += sent as u64;
            if let Some(noted) = &mut port.noted {
                noted.extend(burst.iter().map(Templates::outside_port));
            }
            port.free
                .extend(burst.drain(..).map(|packet| packet.buffer));
            if port.free.len() > KEEP {
                port.deposit();
            }
        });
        sent
    }
}

/// Packets that the gateway would make itself: there are none here.
pub(super) struct NoPool;

impl PacketPool for NoPool {
    type Packet = MemoryPacket;

    fn alloc(&mut self) -> Option<MemoryPacket> {
        None
    }
}
