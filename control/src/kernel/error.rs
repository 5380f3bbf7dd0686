//! What can go wrong between Spillway and the kernel.

use std::net::Ipv4Addr;

/// Why the kernel side could not do what was asked. Each reads as one sentence with what to do.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// `/dev/net/tun` refused the interface.
    #[error("can't create the TAP interface {name}: {cause}; {advice}")]
    Tap {
        /// The kernel name asked for.
        name: String,
        /// The kernel's answer.
        cause: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// A netlink socket could not be opened.
    #[error("can't open a netlink socket: {0}; run as root or with CAP_NET_ADMIN")]
    Socket(#[from] std::io::Error),
    /// A VRF's network namespace could not be made or entered.
    #[error(
        "can't make the network namespace of VRF {vrf}: {cause}; run as root or with CAP_SYS_ADMIN"
    )]
    Namespace {
        /// The VRF's name.
        vrf: String,
        /// The kernel's answer.
        cause: std::io::Error,
    },
    /// The kernel refused a request.
    #[error("the kernel refused to {what}: {cause}")]
    Netlink {
        /// What was asked.
        what: String,
        /// The kernel's answer.
        cause: String,
    },
    /// The ingress drop could not be installed.
    #[error(
        "can't stop the kernel from handling the frames of {interface} a second time: {cause}; \
         install nftables (apt install nftables), or put {interface} where the kernel has no \
         address of ours: a namespace of its own"
    )]
    IngressDrop {
        /// The kernel interface under the port.
        interface: String,
        /// What nft said.
        cause: String,
    },
    /// A device name that no kernel interface can have.
    #[error("{0:?} is not the name of a kernel interface")]
    DeviceName(String),
    /// More interfaces than an appliance has, or one of them twice.
    #[error("port {0} is listed twice or beyond the largest port number")]
    Port(u8),
    /// A static route's next hop is on no interface of ours.
    #[error(
        "next hop {0} of a static route is in no interface's subnet (in the VRF where it is looked \
         for): the route is not installed"
    )]
    NextHop(Ipv4Addr),
    /// The task that follows the kernel has ended.
    #[error("the task that follows the kernel's routes has ended; restart Spillway")]
    Stopped,
}

impl KernelError {
    /// Whether it is the configuration's, so that the kernel need not be told again.
    #[must_use]
    pub fn is_of_the_configuration(&self) -> bool {
        matches!(
            self,
            KernelError::NextHop(_) | KernelError::DeviceName(_) | KernelError::Port(_)
        )
    }

    /// The kernel refused to do `what`.
    pub(crate) fn netlink(what: impl Into<String>, cause: impl std::fmt::Display) -> KernelError {
        KernelError::Netlink {
            what: what.into(),
            cause: cause.to_string(),
        }
    }
}
