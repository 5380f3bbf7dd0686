//! The pure core of Spillway: a burst of packets and a moment come in, verdicts go out.
//!
//! No DPDK, no clock, no I/O, no thread in here, so that a test can run hours in a millisecond.
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod acl;
pub mod command;
pub mod esp;
pub mod fib;
pub mod fragment;
pub mod gateway;
pub mod handover;
mod index;
pub mod journal;
pub mod nat;
pub mod packet;
pub mod prefetch;
pub mod route_map;
pub mod rss;
pub mod session;
pub mod snapshot;
pub mod stats;
pub mod table;
pub mod time;
pub mod wire;
pub mod worker;
