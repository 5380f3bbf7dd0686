//! What the engine asks of the configuration, only when it meets something new.

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;

use super::spi_match::Key;
use crate::snapshot::InsideHost;

/// Most global addresses that are considered for one client and peer.
pub const GLOBALS_MAX: usize = 16;

/// Global addresses, in order of preference.
pub type Globals = ArrayVec<Ipv4Addr, GLOBALS_MAX>;

/// The configuration, as far as it concerns ESP and IKE. Nothing here is asked for an established
/// tunnel.
pub trait Policy {
    /// Appends the overload addresses that `client` may use towards `peer`, in order of preference;
    /// none where the packet is not to be translated. A full list ends the search.
    fn globals(&self, client: InsideHost, peer: Ipv4Addr, globals: &mut Globals);

    /// Whether one more entry may be made (`ip nat translation max-entries`).
    fn has_room(&self) -> bool {
        true
    }

    /// Whether `ip nat service list L ESP spi-match` names this client.
    fn spi_match(&self, client: InsideHost, peer: Ipv4Addr) -> bool;

    /// The group key of SPI matching.
    fn spi_key(&self) -> Key {
        Key::NONE
    }

    /// Whether `ip nat service list L IKE preserve-port` names this client.
    fn preserve_port(&self, client: InsideHost, peer: Ipv4Addr) -> bool;

    /// The host of `ip nat inside source static esp HOST interface NAME` for this address.
    fn static_esp(&self, global: Ipv4Addr) -> Option<InsideHost>;

    /// The address for which `client` is the static ESP host.
    fn static_global(&self, client: InsideHost) -> Option<Ipv4Addr>;
}

/// Who else uses outside UDP ports: the table of plain UDP entries, and static port forwards.
pub trait Ports {
    /// Whether IKE may use `port` of `global` towards `peer`.
    fn is_free(&self, global: Ipv4Addr, peer: Ipv4Addr, port: u16) -> bool;
}

impl<F: Fn(Ipv4Addr, Ipv4Addr, u16) -> bool> Ports for F {
    fn is_free(&self, global: Ipv4Addr, peer: Ipv4Addr, port: u16) -> bool {
        self(global, peer, port)
    }
}
