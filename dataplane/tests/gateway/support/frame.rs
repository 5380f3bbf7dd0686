//! Frames over byte vectors, and a place where everything that leaves a gateway is collected.

use std::collections::VecDeque;

use spillway_dataplane::fib::NextHop;
use spillway_dataplane::gateway::{Asking, Item, Output};
use spillway_dataplane::packet::{Packet, PacketPool};
use spillway_dataplane::snapshot::{PortId, WorkerId};

const HEADROOM: usize = 128;
const CAPACITY: usize = HEADROOM + 66_000;

/// A frame in a buffer with headroom and a limit.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    buffer: Vec<u8>,
    start: usize,
    capacity: usize,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({:02x?})", self.data())
    }
}

impl Frame {
    pub(crate) fn new(octets: &[u8]) -> Frame {
        let mut frame = Frame::empty();
        frame.buffer.extend_from_slice(octets);
        frame
    }

    fn empty() -> Frame {
        Frame {
            buffer: vec![0xee; HEADROOM],
            start: HEADROOM,
            capacity: CAPACITY,
        }
    }

    /// The same frame in a buffer that has no room for anything more.
    pub(crate) fn tight(octets: &[u8]) -> Frame {
        Frame {
            buffer: octets.to_vec(),
            start: 0,
            capacity: octets.len(),
        }
    }
}

impl Packet for Frame {
    fn data(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..]
    }

    fn prepend(&mut self, len: usize) -> bool {
        let fits = len <= self.start;
        if fits {
            self.start -= len;
        }
        fits
    }

    fn append(&mut self, len: usize) -> bool {
        let fits = self.buffer.len() + len <= self.capacity;
        if fits {
            self.buffer.resize(self.buffer.len() + len, 0xee);
        }
        fits
    }

    fn truncate(&mut self, len: usize) {
        self.buffer.truncate(self.start + len);
    }
}

/// Everything that left a gateway.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) sent: Vec<(PortId, Frame)>,
    pub(crate) punted: Vec<(PortId, Frame)>,
    pub(crate) handed: VecDeque<(WorkerId, Item<Frame>)>,
    pub(crate) asked: VecDeque<(WorkerId, Box<Asking<Frame>>)>,
    pub(crate) resolved: Vec<NextHop>,
    /// Frames that the pool has left; `None` means more than enough.
    pub(crate) pool: Option<usize>,
}

impl PacketPool for Effects {
    type Packet = Frame;

    fn alloc(&mut self) -> Option<Frame> {
        if let Some(left) = &mut self.pool {
            *left = left.checked_sub(1)?;
        }
        Some(Frame::empty())
    }
}

impl Output<Frame> for Effects {
    fn transmit(&mut self, port: PortId, packet: Frame) {
        self.sent.push((port, packet));
    }

    fn punt(&mut self, port: PortId, packet: Frame) {
        self.punted.push((port, packet));
    }

    fn hand_off(&mut self, to: WorkerId, item: Item<Frame>) {
        self.handed.push_back((to, item));
    }

    fn ask(&mut self, to: WorkerId, asking: Box<Asking<Frame>>) {
        self.asked.push_back((to, asking));
    }

    fn resolve(&mut self, hop: NextHop) {
        self.resolved.push(hop);
    }
}
