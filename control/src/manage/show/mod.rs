//! What each `show` prints, as text and as JSON.

mod arp;
mod configuration;
mod interfaces;
mod route;
mod statistics;
mod translations;
mod version;
mod vrf;

pub(super) use arp::arp;
pub(super) use configuration::{access_lists, brief, difference, route_maps, running, startup};
pub(super) use interfaces::{NoSuchInterface, interfaces};
pub(super) use route::routes;
pub(super) use statistics::statistics;
pub(super) use translations::translations;
pub(super) use version::version;
pub(super) use vrf::vrfs;

/// A MAC address as routers write it: `0200.0a01.0001`.
fn dotted(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}{b:02x}.{c:02x}{d:02x}.{e:02x}{f:02x}")
}

/// A MAC address as JSON has it: `02:00:0a:01:00:01`.
pub(super) fn colons(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// JSON on one line.
fn json(value: &impl serde::Serialize) -> Result<String, std::io::Error> {
    serde_json::to_string(value).map_err(std::io::Error::other)
}
