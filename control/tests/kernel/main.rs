//! The kernel side against a real kernel, in network namespaces of the tests' own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod follow;
mod frames;
mod links;
mod statics;
mod support;
mod vrf;
