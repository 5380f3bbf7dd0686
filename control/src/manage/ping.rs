//! `ping`: echo requests of the appliance itself, by the kernel's stack behind the twins.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdUdpSocket};
use std::time::Duration;

use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use spillway_dataplane::snapshot::{Snapshot, VrfId};
use spillway_dataplane::wire::checksum::checksum;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::appliance::Appliance;
use super::command::{ExitStatus, Failure, Format, number};
use super::output::{Output, Sink};
use super::words::{Invocation, Role, Value};
use crate::kernel::Space;

/// Octets of a whole IPv4 packet, as routers send it.
const PACKET: usize = 100;
const IP_HEADER: usize = 20;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const REPEAT: u16 = 5;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO: u8 = 8;
const TIME_EXCEEDED: u8 = 11;

#[derive(Serialize)]
struct Report {
    destination: Ipv4Addr,
    source: Ipv4Addr,
    sent: u16,
    received: u16,
    min_ms: Option<f64>,
    avg_ms: Option<f64>,
    max_ms: Option<f64>,
}

/// `ping [vrf V] A [source B] [repeat N]`. Exit code 1 when nobody answers.
pub(super) async fn ping<S: Sink>(
    appliance: &Appliance,
    invocation: &Invocation,
    vrf: VrfId,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<ExitStatus, Failure> {
    let Some(destination) = address(invocation, Role::Destination) else {
        return Ok(ExitStatus::failed("% Incomplete command."));
    };
    let wanted = address(invocation, Role::Source);
    let origin = match origin(&appliance.snapshot(), vrf, destination, wanted) {
        Ok(origin) => origin,
        Err(why) => return Ok(ExitStatus::failed(why)),
    };
    let source = origin.address;
    let Some(space) = appliance.parts.spaces.of(origin.vrf) else {
        return Ok(ExitStatus::failed("% the VRF has no network namespace"));
    };
    let count = number(invocation).unwrap_or(REPEAT);
    if count == 0 {
        return Ok(ExitStatus::failed("% expected at least one request"));
    }
    let mut pinger = match Pinger::new(&space, source, destination) {
        Ok(pinger) => pinger,
        Err(error) => {
            return Ok(ExitStatus::failed(format!(
                "% no echo can be sent: {error}"
            )));
        }
    };
    let text = format == Format::Text;
    if text {
        out.line("Type escape sequence to abort.");
        let seconds = PATIENCE.as_secs();
        out.line(format!(
            "Sending {count}, {PACKET}-byte ICMP Echos to {destination}, timeout is {seconds} seconds:"
        ));
        if wanted.is_some() {
            out.line(format!("Packet sent with a source address of {source}"));
        }
        out.flush().await?;
    }
    let mut times = Vec::new();
    for sequence in 0..count {
        let mark = match pinger.ask(sequence).await {
            Ok(Answer::Reply(time)) => {
                times.push(time.as_secs_f64() * 1000.0);
                '!'
            }
            Ok(Answer::Unreachable) => 'U',
            Ok(Answer::TimeExceeded) => '&',
            Ok(Answer::Nothing) => '.',
            Err(error) => {
                return Ok(ExitStatus::failed(format!(
                    "% no echo can be sent: {error}"
                )));
            }
        };
        if text {
            out.text().push(mark);
            if sequence % 70 == 69 {
                out.text().push('\n');
            }
            out.flush().await?;
        }
    }
    let report = Report::new(source, destination, count, &times);
    if text {
        if !count.is_multiple_of(70) {
            out.text().push('\n');
        }
        out.line(report.summary());
    } else {
        out.line(serde_json::to_string(&report).map_err(io::Error::other)?);
    }
    Ok(match report.received {
        0 => ExitStatus {
            code: 1,
            error: None,
        },
        _ => ExitStatus::DONE,
    })
}

impl Report {
    fn new(source: Ipv4Addr, destination: Ipv4Addr, sent: u16, times: &[f64]) -> Report {
        let sum: f64 = times.iter().sum();
        Report {
            destination,
            source,
            sent,
            received: u16::try_from(times.len()).unwrap_or(u16::MAX),
            min_ms: times.iter().copied().reduce(f64::min),
            avg_ms: (!times.is_empty()).then(|| sum / times.len() as f64),
            max_ms: times.iter().copied().reduce(f64::max),
        }
    }

    fn summary(&self) -> String {
        let Report { sent, received, .. } = *self;
        let percent = u32::from(received) * 100 / u32::from(sent.max(1));
        let rate = format!("Success rate is {percent} percent ({received}/{sent})");
        match (self.min_ms, self.avg_ms, self.max_ms) {
            (Some(min), Some(avg), Some(max)) => {
                let (min, avg, max) = (min.ceil(), avg.ceil(), max.ceil());
                format!("{rate}, round-trip min/avg/max = {min}/{avg}/{max} ms")
            }
            _ => rate,
        }
    }
}

fn address(invocation: &Invocation, role: Role) -> Option<Ipv4Addr> {
    let mut arguments = invocation.arguments.iter();
    arguments.find_map(|(r, value)| match value {
        Value::Address(address) if *r == role => Some(*address),
        _ => None,
    })
}

/// Where requests come from.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    /// The address of ours.
    address: Ipv4Addr,
    /// The table of the interface that they leave by: a route may lead out of the VRF.
    vrf: VrfId,
}

/// The address that requests to a host come from: the one given, else that of the interface towards
/// the destination. The kernel's own routes may lead elsewhere.
fn origin(
    snapshot: &Snapshot,
    vrf: VrfId,
    destination: Ipv4Addr,
    wanted: Option<Ipv4Addr>,
) -> Result<Origin, String> {
    let is_ours = |vrf: VrfId, address: Ipv4Addr| {
        let mut in_it = snapshot.interfaces.iter().filter(|i| i.vrf == vrf);
        in_it.any(|i| i.address.is_some_and(|net| net.addr() == address))
    };
    let to_us = is_ours(vrf, destination);
    let hop = snapshot.fib.lookup(vrf, destination).filter(|_| !to_us);
    let way = hop.map_or(vrf, |hop| snapshot.vrf(hop.port));
    if let Some(address) = wanted {
        return match is_ours(way, address) {
            true => Ok(Origin { address, vrf: way }),
            false if is_ours(vrf, address) => Err(format!(
                "% the way to {destination} leaves the VRF of {address}, and nothing could come back to it"
            )),
            false => Err(format!("% {address} is no address of an interface")),
        };
    }
    if to_us {
        let address = destination;
        return Ok(Origin { address, vrf });
    }
    let hop = hop.ok_or_else(|| format!("% no route to {destination}"))?;
    let interface = snapshot.interface(hop.port);
    let address = interface.and_then(|i| i.address).map(|net| net.addr());
    let address =
        address.ok_or_else(|| format!("% the interface towards {destination} has no address"))?;
    Ok(Origin { address, vrf: way })
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Reply(Duration),
    Unreachable,
    TimeExceeded,
    Nothing,
}

struct Pinger {
    socket: UdpSocket,
    to: SocketAddr,
    identifier: u16,
}

impl Pinger {
    fn new(space: &Space, source: Ipv4Addr, destination: Ipv4Addr) -> io::Result<Pinger> {
        // A socket stays in the namespace where it was made.
        let make = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
        let socket = space.enter(make)??;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
        Ok(Pinger {
            // It sends and receives datagrams, whatever their protocol.
            socket: UdpSocket::from_std(StdUdpSocket::from(socket))?,
            to: SocketAddrV4::new(destination, 0).into(),
            identifier: (RandomState::new().hash_one(destination) & 0xffff) as u16,
        })
    }

    async fn ask(&mut self, sequence: u16) -> io::Result<Answer> {
        let start = Instant::now();
        let request = echo(self.identifier, sequence);
        if let Err(error) = self.socket.send_to(&request, self.to).await {
            return match error.kind() {
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    Ok(Answer::Unreachable)
                }
                _ => Err(error),
            };
        }
        let mut packet = [0; 1500];
        loop {
            let read = timeout_at(start + PATIENCE, self.socket.recv_from(&mut packet)).await;
            let length = match read {
                Err(_) => return Ok(Answer::Nothing),
                Ok(Ok((length, _))) => length,
                // An ICMP error that the kernel tells of; the packet itself comes as well.
                Ok(Err(error)) if error.kind() == io::ErrorKind::HostUnreachable => {
                    return Ok(Answer::Unreachable);
                }
                Ok(Err(error)) => return Err(error),
            };
            match read_answer(&packet[..length], self.identifier, sequence) {
                Some(ECHO_REPLY) => return Ok(Answer::Reply(start.elapsed())),
                Some(UNREACHABLE) => return Ok(Answer::Unreachable),
                Some(TIME_EXCEEDED) => return Ok(Answer::TimeExceeded),
                _ => {} // somebody else's
            }
        }
    }
}

/// An echo request (RFC 792), checksum and all.
fn echo(identifier: u16, sequence: u16) -> [u8; PACKET - IP_HEADER] {
    let mut message = [0; PACKET - IP_HEADER];
    message[0] = ECHO;
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    for (octet, at) in message[8..].iter_mut().zip(0u8..) {
        *octet = at;
    }
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The ICMP type of a packet that answers this request: a reply, or an error about it.
fn read_answer(packet: &[u8], identifier: u16, sequence: u16) -> Option<u8> {
    let message = payload(packet)?;
    let kind = *message.first()?;
    let about = match kind {
        ECHO_REPLY => message,
        UNREACHABLE | TIME_EXCEEDED => {
            let quoted = payload(message.get(8..)?)?;
            (*quoted.first()? == ECHO).then_some(quoted)?
        }
        _ => return None,
    };
    let wanted = [identifier.to_be_bytes(), sequence.to_be_bytes()].concat();
    (about.get(4..8)? == wanted).then_some(kind)
}

/// What an IPv4 packet carries.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    let length = usize::from(packet.first()? & 0x0f) * 4;
    packet.get(length..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_dataplane::fib::{Fib, Route};
    use spillway_dataplane::snapshot::{Interface, PortId, Side};
    use std::sync::Arc;

    fn packet(message: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45];
        packet.resize(IP_HEADER, 0);
        packet.extend(message);
        packet
    }

    #[test]
    fn answers_are_told_from_other_packets() {
        let request = echo(7, 1);
        assert_eq!(checksum(&request), 0);
        let mut reply = request;
        reply[0] = ECHO_REPLY;
        assert_eq!(read_answer(&packet(&reply), 7, 1), Some(ECHO_REPLY));
        assert_eq!(read_answer(&packet(&reply), 7, 2), None);
        assert_eq!(read_answer(&packet(&reply), 8, 1), None);
        assert_eq!(read_answer(&packet(&request), 7, 1), None);
        let quote = packet(&request);
        let error = [&[UNREACHABLE, 1, 0, 0, 0, 0, 0, 0], &quote[..]].concat();
        assert_eq!(read_answer(&packet(&error), 7, 1), Some(UNREACHABLE));
        for short in 0..error.len() - 72 {
            assert_eq!(read_answer(&packet(&error)[..short], 7, 1), None);
        }
        assert_eq!(read_answer(&[], 7, 1), None);
    }

    #[test]
    fn requests_come_from_the_table_of_the_interface_that_they_leave_by() {
        let red = VrfId(1);
        let interface = |vrf, address: &str| Interface {
            name: "one".to_owned(),
            side: Side::None,
            vrf,
            address: address.parse().ok(),
            mac: [2; 6],
            mtu: 1500,
            up: true,
        };
        let to = |vrf, prefix: &str, port| {
            let prefix = prefix.parse().expect("a prefix");
            (vrf, prefix, Route::Connected { port: PortId(port) })
        };
        let routes = [to(red, "10.0.0.0/24", 1), to(red, "0.0.0.0/0", 0)];
        let snapshot = Snapshot {
            generation: 1,
            interfaces: vec![
                interface(VrfId::GLOBAL, "198.51.100.1/24"),
                interface(red, "10.0.0.1/24"),
            ],
            fib: Arc::new(Fib::of_vrfs(routes, [])),
            nat: Arc::default(),
        };
        let ask = |vrf, destination: [u8; 4], wanted: Option<[u8; 4]>| {
            let wanted = wanted.map(Ipv4Addr::from);
            let origin = origin(&snapshot, vrf, destination.into(), wanted);
            origin.ok().map(|o| (o.address.octets(), o.vrf))
        };
        let (ours, outside) = ([10, 0, 0, 1], [198, 51, 100, 1]);
        let (host, far) = ([10, 0, 0, 7], [8, 8, 8, 8]);
        assert_eq!(ask(red, host, None), Some((ours, red)));
        assert_eq!(ask(red, ours, None), Some((ours, red)));
        assert_eq!(ask(red, host, Some(ours)), Some((ours, red)));
        assert_eq!(ask(red, host, Some(outside)), None);
        assert_eq!(ask(red, far, None), Some((outside, VrfId::GLOBAL)));
        assert_eq!(ask(red, far, Some(ours)), None, "it would not come back");
        assert_eq!(ask(VrfId::GLOBAL, host, None), None, "no route");
        assert_eq!(ask(VrfId::GLOBAL, host, Some(ours)), None);
        let from_outside = Some((outside, VrfId::GLOBAL));
        assert_eq!(ask(VrfId::GLOBAL, host, Some(outside)), from_outside);
    }

    #[test]
    fn the_summary_is_that_of_routers() {
        let (a, b) = (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        let some = Report::new(a, b, 5, &[0.4, 1.2, 3.5]).summary();
        let wanted = "Success rate is 60 percent (3/5), round-trip min/avg/max = 1/2/4 ms";
        assert_eq!(some, wanted);
        let none = Report::new(a, b, 5, &[]).summary();
        assert_eq!(none, "Success rate is 0 percent (0/5)");
    }
}
