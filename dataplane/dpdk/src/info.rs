//! What a port tells of itself.

use spillway_dpdk_sys as sys;
use std::ffi::c_char;
use std::fmt;

/// What a device is and has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// The driver, such as `net_af_packet` or `net_ixgbe`.
    pub driver: String,
    /// The device on its bus.
    pub device: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Receive queues that the device can have.
    pub max_rx_queues: u16,
    /// Transmit queues that the device can have.
    pub max_tx_queues: u16,
    /// Receive queues in use.
    pub rx_queues: u16,
    /// Transmit queues in use.
    pub tx_queues: u16,
    /// Largest IP packet now, in octets.
    pub mtu: u16,
    /// Largest IP packet that the device can be set to, in octets; 65535 where it does not say.
    pub max_mtu: u16,
    /// Its NUMA node, where it has one.
    pub socket: Option<u32>,
    /// Whether it receives frames to other MAC addresses too.
    pub promiscuous: bool,
    /// Whether it can verify IPv4 header checksums; it does then.
    pub rx_ip_checksum: bool,
    /// Whether it can verify TCP and UDP checksums.
    pub rx_l4_checksum: bool,
    /// Whether it can fill in IPv4 header checksums.
    pub tx_ip_checksum: bool,
    /// Whether it can fill in TCP and UDP checksums.
    pub tx_l4_checksum: bool,
    /// The packet types that it can spread over queues by a hash, DPDK's `RTE_ETH_RSS_*` bits.
    pub rss_types: u64,
    /// Its link.
    pub link: Link,
}

/// A port's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// Whether both sides may send at once.
    pub full_duplex: bool,
    /// Its speed in Mbit/s, where there is one.
    pub speed_mbit: Option<u32>,
}

/// What a device counts since it was opened. Drivers leave at 0 what they do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Octets received.
    pub rx_octets: u64,
    /// Octets sent.
    pub tx_octets: u64,
    /// Packets that the device dropped because its queue was full (`imissed`).
    pub rx_missed: u64,
    /// Broken packets received (`ierrors`).
    pub rx_errors: u64,
    /// Packets that could not be sent (`oerrors`).
    pub tx_errors: u64,
    /// Times that there was no buffer for a received packet (`rx_nombuf`).
    pub rx_no_buffer: u64,
}

impl PortInfo {
    pub(crate) fn new(info: &sys::spw_port_info, link: Link) -> PortInfo {
        PortInfo {
            driver: text(&info.driver),
            device: text(&info.device),
            mac: info.mac,
            max_rx_queues: info.max_rx_queues,
            max_tx_queues: info.max_tx_queues,
            rx_queues: info.rx_queues,
            tx_queues: info.tx_queues,
            mtu: info.mtu,
            max_mtu: info.max_mtu,
            socket: u32::try_from(info.socket).ok(),
            promiscuous: info.promiscuous,
            rx_ip_checksum: info.rx_ip_checksum,
            rx_l4_checksum: info.rx_l4_checksum,
            tx_ip_checksum: info.tx_ip_checksum,
            tx_l4_checksum: info.tx_l4_checksum,
            rss_types: info.rss_types,
            link,
        }
    }
}

impl Link {
    pub(crate) fn new(link: &sys::spw_port_link) -> Link {
        Link {
            up: link.up,
            full_duplex: link.full_duplex,
            speed_mbit: Some(link.speed).filter(|&speed| speed != 0 && speed != u32::MAX),
        }
    }
}

impl PortStats {
    pub(crate) fn new(stats: &sys::spw_port_stats) -> PortStats {
        PortStats {
            rx_packets: stats.rx_packets,
            tx_packets: stats.tx_packets,
            rx_octets: stats.rx_octets,
            tx_octets: stats.tx_octets,
            rx_missed: stats.rx_missed,
            rx_errors: stats.rx_errors,
            tx_errors: stats.tx_errors,
            rx_no_buffer: stats.rx_no_buffer,
        }
    }
}

/// One line for the log at start.
impl fmt::Display for PortInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac;
        write!(
            f,
            "{} ({}), MAC {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}, {} rx and {} tx queues, MTU {}, ",
            self.device, self.driver, self.rx_queues, self.tx_queues, self.mtu
        )?;
        match self.socket {
            Some(node) => write!(f, "NUMA node {node}, ")?,
            None => write!(f, "no NUMA node, ")?,
        }
        write!(f, "link {}", self.link)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.up, self.speed_mbit) {
            (false, _) => write!(f, "down"),
            (true, None) => write!(f, "up"),
            (true, Some(speed)) => write!(f, "up at {speed} Mbit/s"),
        }
    }
}

/// C text up to its end mark.
pub(crate) fn text(octets: &[c_char]) -> String {
    let octets: Vec<u8> = octets
        .iter()
        .map(|&octet| octet as u8)
        .take_while(|&octet| octet != 0)
        .collect();
    String::from_utf8_lossy(&octets).into_owned()
}
