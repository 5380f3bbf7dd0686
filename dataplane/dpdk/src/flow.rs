//! Flow rules (`rte_flow`): a port brings what an outside host sends, or what is sent to it, to one queue.

use crate::error::PortError;
use crate::info::text;
use crate::log;
use crate::port::{Port, PortShared};
use spillway_dpdk_sys as sys;
use std::net::Ipv4Addr;
use std::os::raw::c_char;
use std::ptr::NonNull;
use std::sync::Arc;

/// Octets of what a driver says of a rule.
const WHY_OCTETS: usize = 160;

/// IPv4 packets of one host, by their headers. Of fragments, the later ones of UDP have no ports and
/// match no rule for a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowMatch {
    /// The host.
    pub host: Ipv4Addr,
    /// Which way they go.
    pub way: FlowWay,
    /// What they are.
    pub traffic: FlowTraffic,
}

/// Which way packets go that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowWay {
    /// From the host.
    From,
    /// To the host.
    To,
}

/// What packets are that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowTraffic {
    /// ESP (IP protocol 50, RFC 4303).
    Esp,
    /// UDP with this port of the host; 0 is none.
    Udp(u16),
}

/// A rule that a port has. It is taken away when this value goes; the port stays open until then.
#[derive(Debug)]
pub struct FlowRule {
    port: Arc<PortShared>,
    /// `None` where it is left to the port.
    rule: Option<NonNull<sys::rte_flow>>,
}

// SAFETY: a handle which DPDK reads in `spw_flow_destroy` only, from any thread, under the port's lock.
unsafe impl Send for FlowRule {}

impl FlowMatch {
    fn words(&self, queue: u16) -> sys::spw_flow {
        sys::spw_flow {
            host: self.host.to_bits(),
            from_host: self.way == FlowWay::From,
            udp_port: match self.traffic {
                FlowTraffic::Esp => 0,
                FlowTraffic::Udp(port) => port,
            },
            queue,
        }
    }
}

impl Port {
    /// Whether the port would take such a rule now: most drivers without hardware take none.
    ///
    /// # Errors
    /// The driver's words, or the system's, where it would not.
    pub fn would_bring(&self, packets: &FlowMatch, queue: u16) -> Result<(), PortError> {
        let words = packets.words(queue);
        self.flow("take a flow rule", |number, why| {
            // SAFETY: the port is open; there is as much room for the driver's words as is said.
            unsafe { sys::spw_flow_validate(number, &raw const words, why, WHY_OCTETS) }
        })
    }

    /// Has the port bring these packets to a queue, whatever its spread says.
    ///
    /// # Errors
    /// Where it does not: the driver's words, or the system's.
    pub fn bring(&self, packets: &FlowMatch, queue: u16) -> Result<FlowRule, PortError> {
        let words = packets.words(queue);
        let mut rule = std::ptr::null_mut();
        self.flow("take a flow rule", |number, why| {
            let made = &raw mut rule;
            // SAFETY: as above; `made` is a place for the handle.
            unsafe { sys::spw_flow_create(number, &raw const words, made, why, WHY_OCTETS) }
        })?;
        // The shim says that a rule was made only where there is one.
        let rule = NonNull::new(rule).ok_or_else(|| self.refused("take a flow rule", 0))?;
        Ok(FlowRule {
            port: self.shared(),
            rule: Some(rule),
        })
    }

    fn flow(
        &self,
        action: &'static str,
        call: impl FnOnce(u16, *mut c_char) -> i32,
    ) -> Result<(), PortError> {
        let shared = self.shared();
        told(&shared, call).map_err(|(code, reason)| {
            if reason.is_empty() {
                return self.refused(action, code);
            }
            PortError::Refused {
                device: self.device().to_owned(),
                action,
                reason,
            }
        })
    }
}

/// A call about a rule; where it fails, what the driver says, which may be nothing.
fn told(
    port: &PortShared,
    call: impl FnOnce(u16, *mut c_char) -> i32,
) -> Result<(), (i32, String)> {
    let _one = port.control();
    let mut why = [0; WHY_OCTETS];
    let done = log::held(|| call(port.number(), why.as_mut_ptr()));
    done.map(drop).map_err(|(code, logged)| match text(&why) {
        said if said.is_empty() => (code, logged),
        said => (code, said),
    })
}

impl FlowRule {
    /// Leaves the rule to the port, which takes it away when it closes: for a port whose device has gone, and which
    /// could say no more than that for each of them.
    pub fn leave(mut self) {
        self.rule = None;
    }
}

impl Drop for FlowRule {
    fn drop(&mut self) {
        let Some(rule) = self.rule.map(NonNull::as_ptr) else {
            return;
        };
        let gone = told(&self.port, |number, why| {
            // SAFETY: the port is open as long as `self.port` is; the handle is of one of its rules, and is
            // not used again.
            unsafe { sys::spw_flow_destroy(number, rule, why, WHY_OCTETS) }
        });
        if let Err((code, said)) = gone {
            let device = self.port.device();
            let why = crate::error::bracketed(&said, code);
            tracing::warn!("{device} does not take a flow rule away{why}");
        }
    }
}
