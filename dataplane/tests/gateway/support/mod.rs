//! What the scenarios need: packets over byte vectors, builders and readers of frames that share
//! no code with the library, and a laboratory of hosts around one appliance in virtual time.

mod build;
mod frame;
mod lab;
mod policy;
mod read;

pub(crate) use build::{Packet4, error, ethernet, ping, pong, raw, tcp, udp};
pub(crate) use frame::{Effects, Frame};
pub(crate) use lab::{INSIDE, INSIDE2, Lab, OUTSIDE, PLAIN, each, each_with, net_of};
pub(crate) use policy::{Policy, permit, permit_all, pool_of};
pub(crate) use read::{Seen, describe, peek};
