//! What operators ask and read, with made-up workers behind it.

mod debug;
mod http;
mod show;
mod socket;
mod support;
mod vrf;
mod workers;
