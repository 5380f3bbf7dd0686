//! The two ends of a port that a worker polls.

use crate::mbuf::{Mbuf, free_from};
use crate::port::PortShared;
use spillway_dataplane::packet::{BURST, Burst, RxQueue, TxQueue};
use spillway_dpdk_sys as sys;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

/// A receive queue. It has one owner, and keeps its port open.
#[derive(Debug)]
pub struct DpdkRxQueue {
    port: Arc<PortShared>,
    number: u16,
    queue: u16,
    /// With another process, which may go away in the middle of a burst.
    shares_memory: bool,
    not_linear: u64,
    /// Queues may move to another thread but not be shared between two.
    _not_sync: PhantomData<Cell<()>>,
}

/// A transmit queue. It has one owner, and keeps its port open.
#[derive(Debug)]
pub struct DpdkTxQueue {
    port: Arc<PortShared>,
    number: u16,
    queue: u16,
    /// With another process, which may go away in the middle of a burst.
    shares_memory: bool,
    _not_sync: PhantomData<Cell<()>>,
}

impl DpdkRxQueue {
    /// The `queue`th receive queue. The caller hands out each one once.
    pub(crate) fn new(port: Arc<PortShared>, queue: u16) -> DpdkRxQueue {
        let (number, shares_memory) = (port.number(), port.shares_memory());
        DpdkRxQueue {
            port,
            number,
            queue,
            shares_memory,
            not_linear: 0,
            _not_sync: PhantomData,
        }
    }

    /// The queue's number within its port.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// The name of the port's device.
    #[must_use]
    pub fn device(&self) -> &str {
        self.port.device()
    }
}

impl DpdkTxQueue {
    /// The `queue`th transmit queue. The caller hands out each one once.
    pub(crate) fn new(port: Arc<PortShared>, queue: u16) -> DpdkTxQueue {
        let (number, shares_memory) = (port.number(), port.shares_memory());
        DpdkTxQueue {
            port,
            number,
            queue,
            shares_memory,
            _not_sync: PhantomData,
        }
    }

    /// The queue's number within its port.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// The name of the port's device.
    #[must_use]
    pub fn device(&self) -> &str {
        self.port.device()
    }
}

impl RxQueue for DpdkRxQueue {
    type Packet = Mbuf;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let have = burst.len();
        let room = BURST - have;
        if room == 0 {
            return 0;
        }
        // SAFETY: the port is started and this value is the queue's only user. The vector's
        // storage has `room` free places of pointer size; the shim fills as many as it says with
        // mbufs of one segment that are ours from then on.
        unsafe {
            let free = burst.as_mut_ptr().add(have).cast::<*mut sys::rte_mbuf>();
            let receive = if self.shares_memory {
                sys::spw_shared_rx_burst
            } else {
                sys::spw_rx_burst
            };
            let came = receive(
                self.number,
                self.queue,
                free,
                room as u16,
                &mut self.not_linear,
            );
            let came = usize::from(came);
            burst.set_len(have + came);
            came
        }
    }

    fn take_not_linear(&mut self) -> u64 {
        std::mem::take(&mut self.not_linear)
    }
}

impl TxQueue for DpdkTxQueue {
    type Packet = Mbuf;

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        if burst.is_empty() {
            return 0;
        }
        // SAFETY: the port is started and this value is the queue's only user. The burst is an
        // array of pointers to mbufs that are ours; the first `sent` become the port's, and the
        // rest is freed here.
        unsafe {
            let mbufs = burst.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            let transmit = if self.shares_memory {
                sys::spw_shared_tx_burst
            } else {
                sys::spw_tx_burst
            };
            let sent = transmit(self.number, self.queue, mbufs, burst.len() as u16);
            let sent = usize::from(sent);
            free_from(burst, sent);
            sent
        }
    }
}
