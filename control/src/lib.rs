//! The control plane: configuration in, snapshots out; the kernel's twin interfaces; the management
//! socket; HTTP for scraping.

pub mod config;
pub mod dhcp;
pub mod kernel;
pub mod manage;
pub mod publish;
