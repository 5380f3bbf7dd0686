//! The gateway as a whole, in virtual time: packets in, frames out, with one, two and three workers.

mod access;
mod esp;
mod explain;
mod fragments;
mod garbage;
mod golden;
mod hairpin;
mod host_limits;
mod icmp_errors;
mod journal;
mod local;
mod model;
mod napt;
mod neighbours;
mod pools;
mod requests;
mod routing;
mod statics;
mod steering;
mod support;
mod tcp;
mod timers;
mod worker_loop;
mod workers;
