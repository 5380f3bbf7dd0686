//! What an operator asks: commands, the management socket, HTTP for scraping.
//!
//! Everything here runs on the control thread. [`Appliance`] is the one handle on the running
//! appliance; [`execute`] runs one command line against it; [`socket`] carries command lines
//! between processes, [`client`] is its other end; [`http`] answers scrapers.

mod appliance;
mod arguments;
pub mod ask;
pub mod client;
mod command;
mod debug;
mod duration;
mod explain;
pub mod http;
mod latency;
mod metrics;
mod notices;
mod output;
mod ping;
mod show;
pub mod socket;
mod statistics;
mod stats;
mod translation;
mod vrf;
pub mod words;

pub use appliance::{
    Appliance, Change, Description, FlowRules, InterfaceText, Limits, Loader, Parts, PoolKind,
    PoolText, PortInfo, Ports, ReloadFuture, ReloadReport, Reloader, RouteOrigin, RouteText,
    RuleText, Saved, Spread, WorkerHandle,
};
pub use command::{ExitStatus, Format, TERMINAL, execute};
pub use notices::log_notices;
pub use output::{Output, Sink};
