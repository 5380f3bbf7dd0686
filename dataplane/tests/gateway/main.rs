//! The gateway as a whole, in virtual time: packets in, frames out, with one, two and three workers.

mod hairpin;
mod icmp_errors;
mod local;
mod napt;
mod pools;
mod statics;
mod support;
mod tcp;
mod timers;
