//! A device, opened: its queues, what it is, what it counts, and its orderly end.

use crate::attach;
use crate::device::Device;
use crate::eal::{Eal, EalShared};
use crate::error::{PortError, reason};
use crate::info::{Link, PortInfo, PortStats, text};
use crate::log;
use crate::pool::Pool;
use crate::queue::{DpdkRxQueue, DpdkTxQueue};
use crate::rss::Rss;
use spillway_dpdk_sys as sys;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};

/// What a port should be like.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// Receive queues, at least 1; fewer where the device has fewer. All of a device whose queues
    /// all receive whether polled or not (af_packet's `qpairs`).
    pub rx_queues: u16,
    /// Transmit queues, at least 1; fewer where the device has fewer.
    pub tx_queues: u16,
    /// Descriptors of each receive queue; the driver's limits apply.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue; the driver's limits apply.
    pub tx_descriptors: u16,
    /// Largest IP packet, in octets; the device's limits apply. Some software drivers carry what
    /// their arguments say instead (af_packet's `framesz`): [`PortInfo::mtu`] tells.
    pub mtu: u16,
    /// Where received packets go.
    pub pool: Pool,
    /// Whether to receive frames to other MAC addresses too.
    pub promiscuous: bool,
    /// Whether queues are chosen by the source address alone, where the device takes a key for its
    /// hash and a table: [`Port::rss`] tells.
    pub by_source: bool,
}

impl PortConfig {
    /// One queue each way, 1024 descriptors, MTU 1500, frames to its own MAC address only.
    #[must_use]
    pub fn new(pool: Pool) -> PortConfig {
        PortConfig {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            pool,
            promiscuous: false,
            by_source: false,
        }
    }
}

/// An open port. It closes, and its device is detached, when this value and all its queues and flow rules are gone.
#[derive(Debug)]
pub struct Port {
    shared: Arc<PortShared>,
    queues: Option<(u16, u16)>,
    pub(crate) rss: Option<Rss>,
}

/// What the queues of a port keep alive.
#[derive(Debug)]
pub(crate) struct PortShared {
    number: u16,
    device: Device,
    /// Index of the kernel interface that the device stands on, as it was when the port opened.
    interface_index: Option<u32>,
    rx_queues: u16,
    /// With another process, which may go away in the middle of a burst.
    shares_memory: bool,
    /// Orders control calls, which a driver takes one at a time.
    control: Mutex<()>,
    eal: Arc<EalShared>,
    /// Received packets come from it.
    _pool: Pool,
}

impl Port {
    /// Attaches the device that `spec` names, sets it up and starts it.
    ///
    /// `spec` is a PCI address (`0000:03:00.0`, given to [`EalOptions::pci`](crate::EalOptions)) or
    /// a virtual device with its driver's arguments (`net_af_packet0,iface=inside,qpairs=2`).
    ///
    /// # Errors
    /// One sentence each, see [`PortError`]. Nothing stays attached then.
    pub fn open(eal: &Eal, spec: &str, config: &PortConfig) -> Result<Port, PortError> {
        let device = Device::parse(spec)?;
        let eal = eal.shared();
        if device.bus == "pci" && !eal.pci {
            return Err(PortError::PciDisabled(device.name));
        }
        let interface_index = attach::interface_index(&device)?;
        // Held until the port is up: attaching and detaching one device at a time.
        let mut state = eal.state();
        if state.devices.contains(&device.name) {
            return Err(PortError::Open(device.name));
        }
        let number = attach::attach(&device)?;
        let ((rx_queues, tx_queues), rss) = match attach::start(number, &device, config) {
            Ok(queues) => queues,
            Err(error) => {
                attach::detach(number, &device);
                return Err(error);
            }
        };
        state.devices.insert(device.name.clone());
        drop(state);
        let shared = PortShared {
            number,
            device,
            interface_index,
            rx_queues,
            // SAFETY: the port is open.
            shares_memory: unsafe { sys::spw_port_shares_memory(number) },
            control: Mutex::default(),
            eal,
            _pool: config.pool.clone(),
        };
        let port = Port {
            shared: Arc::new(shared),
            queues: Some((rx_queues, tx_queues)),
            rss,
        };
        if config.promiscuous
            && let Err(error) = port.set_promiscuous(true)
        {
            tracing::warn!("{error}");
        }
        Ok(port)
    }

    /// The port's queues, the first time; none after that.
    #[must_use]
    pub fn take_queues(&mut self) -> (Vec<DpdkRxQueue>, Vec<DpdkTxQueue>) {
        let (rx, tx) = self.queues.take().unwrap_or_default();
        (
            (0..rx)
                .map(|queue| DpdkRxQueue::new(Arc::clone(&self.shared), queue))
                .collect(),
            (0..tx)
                .map(|queue| DpdkTxQueue::new(Arc::clone(&self.shared), queue))
                .collect(),
        )
    }

    /// Closes the port now; the caller knows then that its device can be opened again.
    ///
    /// # Errors
    /// The port itself, while some of its queues or flow rules are out.
    pub fn close(self) -> Result<(), Port> {
        let Port {
            shared,
            queues,
            rss,
        } = self;
        Arc::try_unwrap(shared).map(drop).map_err(|shared| Port {
            shared,
            queues,
            rss,
        })
    }

    /// The name of the device, without its arguments.
    #[must_use]
    pub fn device(&self) -> &str {
        self.shared.device()
    }

    /// The kernel interface that the device stands on, if it is of that kind.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        self.shared.device.interface()
    }

    /// Whether the kernel interface that the port was opened on still exists, in the calling
    /// thread's network namespace; always `true` for a port that stands on none. A port that has
    /// lost its interface stays silent for ever, also when one of that name comes back: close it
    /// and open it again.
    #[must_use]
    pub fn present(&self) -> bool {
        let shared = &self.shared;
        match (shared.device.interface(), shared.interface_index) {
            (Some(name), Some(index)) => attach::kernel_index(name) == index,
            _ => true,
        }
    }

    /// What the device is and has.
    ///
    /// # Errors
    /// If the driver does not answer.
    pub fn info(&self) -> Result<PortInfo, PortError> {
        let (info, link) = {
            let _one = self.shared.control();
            (info(self.shared.number), link(self.shared.number))
        };
        let info = info.map_err(|code| self.refused("tell what it is", code))?;
        Ok(PortInfo::new(&info, link.unwrap_or_default()))
    }

    /// Whether there is a link, and how fast it is; without waiting for it.
    ///
    /// # Errors
    /// If the driver does not answer.
    pub fn link(&self) -> Result<Link, PortError> {
        let _one = self.shared.control();
        link(self.shared.number).map_err(|code| self.refused("tell its link", code))
    }

    /// What the device counts.
    ///
    /// # Errors
    /// If the driver does not answer.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        let _one = self.shared.control();
        let mut stats = MaybeUninit::zeroed();
        // SAFETY: the port is open; the shim fills the structure, which is numbers only.
        let (code, stats) = unsafe {
            let code = sys::spw_port_stats(self.shared.number, stats.as_mut_ptr());
            (code, stats.assume_init())
        };
        self.check("tell its counters", code)?;
        Ok(PortStats::new(&stats))
    }

    /// Every counter that the driver has, by its own name.
    ///
    /// # Errors
    /// If the driver does not answer.
    pub fn xstats(&self) -> Result<Vec<(String, u64)>, PortError> {
        let _one = self.shared.control();
        let empty = sys::spw_xstat {
            name: [0; sys::SPW_XSTAT_NAME_OCTETS as usize],
            value: 0,
        };
        let mut stats: Vec<sys::spw_xstat> = Vec::new();
        // The set may grow between asking how many there are and asking for them.
        for _ in 0..3 {
            let room = u32::try_from(stats.len()).unwrap_or(u32::MAX);
            // SAFETY: the port is open; there is room for as many as is said.
            let count =
                unsafe { sys::spw_port_xstats(self.shared.number, stats.as_mut_ptr(), room) };
            self.check("tell its counters", count)?;
            let count = usize::try_from(count).unwrap_or(0);
            let fits = count <= stats.len();
            stats.resize(count, empty);
            if fits {
                break;
            }
        }
        Ok(stats
            .iter()
            .map(|stat| (text(&stat.name), stat.value))
            .collect())
    }

    /// Receives frames to other MAC addresses too, or no longer.
    ///
    /// # Errors
    /// If the driver can't.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), PortError> {
        let _one = self.shared.control();
        // SAFETY: the port is open.
        let code = unsafe { sys::spw_port_set_promiscuous(self.shared.number, on) };
        self.check("change promiscuous mode", code)
    }

    /// Changes the largest IP packet, in octets. Some drivers do so only before they start, and
    /// refuse; some change the kernel interface they stand on.
    ///
    /// # Errors
    /// If the driver can't, or not to this.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), PortError> {
        let _one = self.shared.control();
        // SAFETY: the port is open.
        let changed = log::held(|| unsafe { sys::spw_port_set_mtu(self.shared.number, mtu) });
        changed
            .map(drop)
            .map_err(|(code, _)| self.refused("change its MTU", code))
    }

    pub(crate) fn number(&self) -> u16 {
        self.shared.number()
    }

    pub(crate) fn shared(&self) -> Arc<PortShared> {
        Arc::clone(&self.shared)
    }

    pub(crate) fn control(&self) -> std::sync::MutexGuard<'_, ()> {
        self.shared.control()
    }

    pub(crate) fn check(&self, action: &'static str, code: i32) -> Result<(), PortError> {
        if code < 0 {
            Err(self.refused(action, code))
        } else {
            Ok(())
        }
    }

    pub(crate) fn refused(&self, action: &'static str, code: i32) -> PortError {
        PortError::Refused {
            device: self.device().to_owned(),
            action,
            reason: reason(code),
        }
    }
}

impl PortShared {
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn shares_memory(&self) -> bool {
        self.shares_memory
    }

    pub(crate) fn device(&self) -> &str {
        &self.device.name
    }

    pub(crate) fn control(&self) -> std::sync::MutexGuard<'_, ()> {
        // There is nothing behind the lock that a panic could have left half done.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PortShared {
    fn drop(&mut self) {
        let mut state = self.eal.state();
        if self.device.name.starts_with("net_ring") {
            attach::drain(self.number, self.rx_queues);
        }
        attach::detach(self.number, &self.device);
        state.devices.remove(&self.device.name);
    }
}

pub(crate) fn info(number: u16) -> Result<sys::spw_port_info, i32> {
    let mut info = MaybeUninit::zeroed();
    // SAFETY: the shim fills the structure, for which all zeroes are a value too.
    let (code, info) = unsafe {
        let code = sys::spw_port_info(number, info.as_mut_ptr());
        (code, info.assume_init())
    };
    if code < 0 { Err(code) } else { Ok(info) }
}

fn link(number: u16) -> Result<Link, i32> {
    let mut link = MaybeUninit::zeroed();
    // SAFETY: the shim fills the structure, for which all zeroes are a value too.
    let (code, link) = unsafe {
        let code = sys::spw_port_link(number, link.as_mut_ptr());
        (code, link.assume_init())
    };
    if code < 0 {
        Err(code)
    } else {
        Ok(Link::new(&link))
    }
}
