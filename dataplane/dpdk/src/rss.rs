//! How a port spreads over its queues what it receives.

use crate::error::PortError;
use crate::port::Port;
use spillway_dataplane::rss::{Fields, KEY, Spread, by_source_place, source_key};
use spillway_dataplane::snapshot::WorkerId;
use spillway_dpdk_sys as sys;

/// Receive-side scaling as the driver tells it: the Toeplitz hash with [`KEY`] or with
/// [`source_key`], and a table that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rss {
    /// Of every packet only the source address matters, because of the key.
    pub by_source: bool,
    /// Of UDP, ports are hashed beside addresses, unless it goes by source.
    pub udp_ports: bool,
    /// Of TCP too.
    pub tcp_ports: bool,
    /// Places of the table that leads from hashes to queues, a power of two.
    pub places: usize,
}

impl Rss {
    /// What is hashed.
    #[must_use]
    pub fn fields(&self) -> Fields {
        if self.by_source {
            Fields::Source
        } else {
            Fields::Flow {
                udp: self.udp_ports,
                tcp: self.tcp_ports,
            }
        }
    }

    /// Which worker gets what, if the table's places lead to `queues` workers in turn, beginning anew
    /// after each `period` of places.
    #[must_use]
    pub fn spread(&self, queues: u16, period: usize) -> Option<Spread> {
        let worker = |queue: &u16| WorkerId(*queue as u8);
        let table: Vec<WorkerId> = self.table(queues, period).iter().map(worker).collect();
        if self.by_source {
            Spread::new(&source_key(self.places), Fields::Source, &table)
        } else {
            Spread::new(&KEY, self.fields(), &table)
        }
    }

    /// The table: `queues` in turn, beginning anew after each `period` of places. By source, places
    /// are in the order of [`by_source_place`], so that tables of all sizes say the same of a source.
    #[must_use]
    pub fn table(&self, queues: u16, period: usize) -> Vec<u16> {
        let turn = Spread::in_turn(period.max(1), queues);
        let place = |at| {
            if self.by_source {
                by_source_place(at, self.places)
            } else {
                at
            }
        };
        let queue = |at: usize| turn.get(place(at) % turn.len()).copied().unwrap_or(0);
        (0..self.places).map(queue).collect()
    }
}

impl Port {
    /// How the port spreads what it receives; `None` where it has one queue, or its driver does not tell.
    #[must_use]
    pub fn rss(&self) -> Option<Rss> {
        self.rss
    }

    /// Sets which queue each place of the table leads to.
    ///
    /// # Errors
    /// If the driver can't, or has another table afterwards.
    pub fn set_rss_table(&self, queues: &[u16]) -> Result<(), PortError> {
        let places = u16::try_from(queues.len()).unwrap_or(u16::MAX);
        let _one = self.control();
        // SAFETY: the port is open; there are as many places as is said, and the shim refuses more than
        // it has room for before it reads them.
        let code = unsafe { sys::spw_port_set_reta(self.number(), queues.as_ptr(), places) };
        self.check("set its table of queues", code)
    }
}

/// DPDK's own Toeplitz hash of up to three words, to compare with
/// [`Toeplitz`](spillway_dataplane::rss::Toeplitz).
#[must_use]
pub fn toeplitz(words: &[u32], key: &[u8; 52]) -> u32 {
    let mut room = [0; 3];
    let count = words.len().min(room.len());
    room[..count].copy_from_slice(&words[..count]);
    // SAFETY: there are as many words as is said, and the key is longer than them and four octets.
    unsafe { sys::spw_toeplitz(room.as_mut_ptr(), count as u32, key.as_ptr()) }
}
