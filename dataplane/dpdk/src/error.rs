//! What can go wrong outside the path of a packet: one sentence each, with what to do.

use std::io;

/// Why the environment did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EalError {
    /// DPDK starts once a process, also after it was ended.
    #[error("DPDK was already started in this process, and can be started only once")]
    AlreadyStarted,
    /// An option holds what DPDK's argument list can't carry.
    #[error("{0} is not a usable DPDK option: use letters, digits and .:_-=,/ only")]
    Option(String),
    /// Huge pages were asked for by name and there are not enough.
    #[error(
        "{wanted_mb} MB of huge pages are needed and {free_mb} MB are free: reserve more with \
         `sysctl vm.nr_hugepages=N` (2 MB each), or allow normal pages"
    )]
    HugePages {
        /// What was asked for, in MB.
        wanted_mb: u32,
        /// What the kernel has free, in MB.
        free_mb: u64,
    },
    /// The user may not do what DPDK needs.
    #[error(
        "no permission to start DPDK ({0}): run as root, or grant access to huge pages and devices"
    )]
    Permission(String),
    /// Not enough memory.
    #[error(
        "DPDK could not get {memory_mb} MB of memory ({detail}): reserve huge pages with `sysctl \
         vm.nr_hugepages=N`, or ask for less"
    )]
    Memory {
        /// What was asked for, in MB.
        memory_mb: u32,
        /// What DPDK said.
        detail: String,
    },
    /// Anything else that DPDK refused.
    #[error("DPDK did not start: {0}")]
    Start(String),
}

/// Why there is no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The name is empty, longer than 25 octets, or has other octets than letters, digits, - and _.
    #[error("'{0}' can't name a pool: 1 to 25 letters, digits, - or _")]
    Name(String),
    /// A pool of that name exists.
    #[error("a pool named '{0}' exists already: give each pool a name of its own")]
    Exists(String),
    /// No buffers, or buffers larger than DPDK can describe.
    #[error("a pool needs 1 to 67108863 buffers for an MTU of at most 65000 octets")]
    Size,
    /// Not enough memory.
    #[error(
        "no memory for a pool of {needed_mb} MB: give DPDK more memory (huge pages, or the memory \
         option), or make the pool smaller"
    )]
    Memory {
        /// About what the pool takes, in MB.
        needed_mb: u64,
    },
    /// DPDK's mempool driver is not installed.
    #[error(
        "DPDK's mempool driver was not found in its plugin folder: install it with `apt-get \
         install librte-mempool-ring23` (the number is DPDK's ABI version)"
    )]
    Driver,
    /// Anything else that DPDK refused.
    #[error("DPDK made no pool: {0}")]
    Create(String),
}

/// Why a port did not open or did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The text names no device.
    #[error(
        "'{0}' names no device: write a PCI address such as 0000:03:00.0, or a virtual device such \
         as net_af_packet0,iface=NAME"
    )]
    Spec(String),
    /// The device is in use by a port that is still open, or whose queues are.
    #[error("{0} is open already: close its port and give back its queues first")]
    Open(String),
    /// The environment was started without PCI.
    #[error("{0} is a PCI device, but DPDK was started without PCI: restart with a PCI port")]
    PciDisabled(String),
    /// No driver takes the device.
    #[error(
        "no DPDK driver takes {device}{detail}: check the name, and install the drivers with \
         `apt-get install dpdk-dev` or the one package librte-net-NAME"
    )]
    Driver {
        /// The device.
        device: String,
        /// What DPDK said, in brackets, or nothing.
        detail: String,
    },
    /// The user may not use the device.
    #[error(
        "no permission to use {device}{detail}: run as root or with CAP_NET_RAW and CAP_NET_ADMIN"
    )]
    Permission {
        /// The device.
        device: String,
        /// What DPDK said, in brackets, or nothing.
        detail: String,
    },
    /// The kernel interface of a virtual device does not exist (any more).
    #[error("{device} needs the interface {interface}, which does not exist: create it first")]
    Interface {
        /// The device.
        device: String,
        /// The kernel's name of the interface.
        interface: String,
    },
    /// The pool's buffers are too small for the device, or there is no memory for its queues.
    #[error(
        "{device} can't be set up{detail}: check its MTU, its descriptors and the pool's buffer size"
    )]
    Setup {
        /// The device.
        device: String,
        /// What DPDK said, in brackets.
        detail: String,
    },
    /// The device could not be attached.
    #[error(
        "{device} can't be attached{detail}: check that it exists and that no other program holds it"
    )]
    Attach {
        /// The device.
        device: String,
        /// What DPDK said, in brackets.
        detail: String,
    },
    /// The driver refused a change or a question.
    #[error("{device} refused to {action}: {reason}")]
    Refused {
        /// The device.
        device: String,
        /// What it was told.
        action: &'static str,
        /// The operating system's words.
        reason: String,
    },
}

/// Why a thread could not be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ThreadError {
    /// DPDK knows this thread already.
    #[error("this thread is registered with DPDK already")]
    Registered,
    /// DPDK refused, most often because it knows as many threads as it can (128).
    #[error("DPDK could not register this thread: {0}")]
    Register(String),
}

/// The operating system's words for a negative error number.
pub(crate) fn reason(code: i32) -> String {
    io::Error::from_raw_os_error(code.saturating_neg()).to_string()
}

/// `detail` in brackets, or the error number's words where DPDK logged nothing.
pub(crate) fn bracketed(detail: &str, code: i32) -> String {
    if detail.is_empty() {
        format!(" ({})", reason(code))
    } else {
        format!(" ({detail})")
    }
}
