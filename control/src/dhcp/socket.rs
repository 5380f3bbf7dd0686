//! The sockets of a client on its twin.
//!
//! It speaks through a UDP socket, and listens to all IPv4 packets of the twin: before it has an
//! address, the kernel drops what a UDP socket should get (its source is unreachable from there).

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket as StdUdpSocket};
use std::os::fd::AsRawFd;

use etherparse::{SlicedPacket, TransportSlice};
use nix::ifaddrs::getifaddrs;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// `ETH_P_IP`.
const IPV4: u16 = 0x0800;
/// Longest packet that is taken.
const LONGEST: usize = 2048;

pub(super) struct Link {
    speaks: UdpSocket,
    /// It receives packets, whatever their kind.
    hears: UdpSocket,
}

impl Link {
    /// Opens the sockets on an interface of the kernel.
    pub(super) fn open(device: &str) -> io::Result<Link> {
        let speaks = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        speaks.set_nonblocking(true)?;
        speaks.set_reuse_address(true)?;
        speaks.set_broadcast(true)?;
        speaks.bind_device(Some(device.as_bytes()))?;
        speaks.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT).into())?;

        let ipv4 = Protocol::from(i32::from(IPV4.to_be()));
        let hears = Socket::new(Domain::PACKET, Type::DGRAM, Some(ipv4))?;
        hears.set_nonblocking(true)?;
        let addresses = getifaddrs()?.filter(|i| i.interface_name == device);
        let link = addresses
            .filter_map(|i| i.address?.as_link_addr().copied())
            .next();
        let link = link.ok_or(io::ErrorKind::NotFound)?;
        nix::sys::socket::bind(hears.as_raw_fd(), &link)?;
        Ok(Link {
            speaks: UdpSocket::from_std(StdUdpSocket::from(speaks))?,
            hears: UdpSocket::from_std(StdUdpSocket::from(hears))?,
        })
    }

    /// Sends a message to a server, or to all.
    pub(super) async fn send(&self, message: &[u8], to: Option<Ipv4Addr>) -> io::Result<()> {
        let to = SocketAddrV4::new(to.unwrap_or(Ipv4Addr::BROADCAST), SERVER_PORT);
        self.speaks.send_to(message, to).await.map(|_| ())
    }

    /// The next message of a server to any client.
    pub(super) async fn receive(&self) -> io::Result<Vec<u8>> {
        let mut packet = vec![0; LONGEST];
        loop {
            let length = self.hears.recv(&mut packet).await?;
            if let Some(message) = message(&packet[..length]) {
                return Ok(message.to_vec());
            }
        }
    }
}

/// What an IPv4 packet from a server's port to a client's carries.
fn message(packet: &[u8]) -> Option<&[u8]> {
    let sliced = SlicedPacket::from_ip(packet).ok()?;
    match sliced.transport? {
        TransportSlice::Udp(udp)
            if (udp.source_port(), udp.destination_port()) == (SERVER_PORT, CLIENT_PORT) =>
        {
            Some(udp.payload())
        }
        _ => None,
    }
}
