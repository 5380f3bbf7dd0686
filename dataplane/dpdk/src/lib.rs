//! The safe side of DPDK.
//!
//! [`Eal::start`] once a process, a [`Pool`] of packet buffers, a [`Port`] per device, and from each
//! port its queues, which a worker owns and polls. An [`Mbuf`] *is* the packet: dropping it frees it.
//!
//! The order of the end is kept by ownership: queues keep their port alive, ports their pool and the
//! environment, registered threads the environment. Nothing can poll a closed port or free a
//! buffer into memory that is gone.

mod args;
mod attach;
mod device;
mod eal;
mod error;
mod flow;
mod info;
mod log;
mod mbuf;
mod pci;
mod pool;
mod port;
mod queue;
mod rss;
mod thread;

pub use args::{EalOptions, LogLevel, Memory};
pub use eal::Eal;
pub use error::{EalError, PoolError, PortError, ThreadError};
pub use flow::{FlowMatch, FlowRule, FlowTraffic, FlowWay};
pub use info::{Link, PortInfo, PortStats};
pub use mbuf::{HEADROOM, Mbuf};
pub use pci::{PciError, check_card};
pub use pool::{Pool, PoolConfig};
pub use port::{Port, PortConfig};
pub use queue::{DpdkRxQueue, DpdkTxQueue};
pub use rss::{Rss, toeplitz};
pub use thread::{ThreadGuard, cycles, cycles_hz, thread_register};
