//! The gateway as a whole, in virtual time: packets in, frames out, with one, two and three workers.

mod napt;
mod support;
mod tcp;
mod timers;
