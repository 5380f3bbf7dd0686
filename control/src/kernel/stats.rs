//! What happens between the workers and the kernel, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that any thread may read and the control thread raises.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts one.
    pub(crate) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($name:ident: $help:literal,)*) => {
        /// The counters of the kernel twins. Their names are stable: JSON and metrics use them.
        #[derive(Debug, Default)]
        pub struct TwinStats { $(#[doc = $help] pub $name: Count,)* }

        impl TwinStats {
            /// Every counter: name, what it means, present value.
            #[must_use]
            pub fn each(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), $help, self.$name.value()),)*]
            }
        }
    };
}

counters! {
    written: "frames of workers given to the kernel",
    injected: "frames of the kernel given to workers",
    arp_answered: "ARP requests for NAT's global addresses answered here",
    drop_short: "frames of workers shorter than an Ethernet header",
    drop_no_twin: "frames of workers for a port without a twin",
    drop_tap_down: "frames of workers for a twin that is shut down",
    drop_tap_write: "frames of workers that the kernel refused",
    drop_no_queue: "frames of the kernel for a port without a queue to a worker",
    drop_inject_full: "frames of the kernel lost because the queue to the worker was full",
    drop_pool_empty: "frames of the kernel lost because no packet buffer was free",
    drop_too_long: "frames of the kernel longer than a packet buffer",
    tap_read_failed: "reads from a twin that failed",
    netlink_events: "messages of the kernel about links, addresses, routes and neighbours",
    netlink_unreadable: "messages of the kernel that could not be parsed",
    resyncs: "times everything was read anew because messages were lost or a dump was inconsistent",
    fib_published: "forwarding tables published",
    resolve_asked: "neighbours that the kernel was asked to resolve or to check",
    resolve_repeated: "resolve requests dropped because the same one was just made",
    resolve_limited: "resolve requests dropped because there were too many",
    resolve_failed: "resolve requests that the kernel refused or whose port has no twin",
}
