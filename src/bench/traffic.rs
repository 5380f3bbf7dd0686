//! What the packets of a run look like, and in which order they come.

use spillway_dataplane::esp::spi_match::{self, Key};
use spillway_dataplane::packet::Packet;
use spillway_dataplane::wire::{PROTO_ESP, PROTO_ICMP, PROTO_TCP, PROTO_UDP, checksum::checksum};

use super::memory::MemoryPacket;
use crate::cli::{BenchOrder, BenchProto};

/// The port's own MAC addresses, and the neighbours'.
pub(super) const INSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(super) const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
/// The one overload address.
pub(super) const GLOBAL: u32 = 0xc633_6401;
/// The first of the destinations, 203.0.113.1, and how many there are.
const DESTINATION: u32 = 0xcb00_7101;
const DESTINATIONS: u32 = 64;
/// Flows that share a destination's port before the next port is used.
const FLOWS_A_PORT: u32 = 1 << 20;
/// The first inside host, 10.0.1.0, and how many flows each has.
const HOST: u32 = 0x0a00_0100;
pub(super) const FLOWS_A_HOST: u32 = 256;
/// The SPI of the first tunnel.
const FIRST_SPI: u32 = 0x1000;
/// Fewest templates of a run.
const FEWEST: usize = 1024;
/// Octets of the smallest frame, 64 with the frame check sequence, and of the others of IMIX.
const SMALL: u16 = 60;
const IMIX: [u16; 12] = [
    SMALL, SMALL, SMALL, SMALL, SMALL, SMALL, SMALL, 590, 590, 590, 590, 1514,
];

/// Addresses and ports of a flow, as its packets leave the inside host.
#[derive(Clone, Copy)]
struct Flow {
    src: u32,
    dst: u32,
    sport: u16,
    dport: u16,
}

impl Flow {
    fn number(n: u32) -> Flow {
        let (host, within) = (n / FLOWS_A_HOST, n % FLOWS_A_HOST);
        // Hosts choose their ports as they like; of one host all differ.
        let port = (host.wrapping_mul(40_503) + within * 251) % 64_512;
        Flow {
            src: HOST + host,
            dst: DESTINATION + n.wrapping_mul(0x9e37_79b1) % DESTINATIONS,
            sport: 1024 + port as u16,
            dport: 443 + (n / FLOWS_A_PORT) as u16,
        }
    }
}

impl Flow {
    /// A tunnel of a client of its own; the ports are its SPI.
    fn tunnel(n: u32) -> Flow {
        let spi = FIRST_SPI + n;
        Flow {
            src: HOST + n,
            dst: DESTINATION + n % DESTINATIONS,
            sport: (spi >> 16) as u16,
            dport: spi as u16,
        }
    }

    /// The answer to a tunnel's packet, with the SPI that matches.
    fn answered(self) -> Flow {
        let spi = u32::from(self.sport) << 16 | u32::from(self.dport);
        let matching = spi_match::answer(spi, Key::NONE);
        Flow {
            src: self.dst,
            dst: GLOBAL,
            sport: (matching >> 16) as u16,
            dport: matching as u16,
        }
    }
}

/// What differs between the packets of a run: octets 24 to 40 of the frame, and its length.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) octets: [u8; 16],
    pub(super) len: u16,
}

/// The packets of a run in the order in which they come.
pub(super) struct Templates {
    pub(super) headers: Vec<Header>,
    pub(super) base: [u8; 64],
}

impl Templates {
    /// One packet of each flow from inside, in the order in which the flows are made.
    pub(super) fn out(flows: u32, proto: BenchProto) -> Templates {
        let base = base(proto, INSIDE_MAC);
        let headers = (0..flows)
            .map(|n| {
                let flow = match proto {
                    BenchProto::Esp => Flow::tunnel(n),
                    _ => Flow::number(n),
                };
                header(&base, proto, n, flow, 8)
            })
            .collect();
        Templates { headers, base }
    }

    /// Packets of `flows` flows in an order unrelated to that in which they were made, and in every
    /// hundred of them `share` that each begin one of `new` further flows.
    pub(super) fn mixed(flows: u32, new: u32, share: u8, proto: BenchProto) -> Templates {
        let base = base(proto, INSIDE_MAC);
        let (mut random, mut made) = (0x9e37_79b9_7f4a_7c15_u64, 0);
        let mut headers = Vec::new();
        while made < new {
            let at = headers.len() as u32;
            let is_new = at.wrapping_mul(u32::from(share)) % 100 < u32::from(share);
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let n = if is_new {
                made += 1;
                flows + made - 1
            } else {
                (random % u64::from(flows)) as u32
            };
            headers.push(header(&base, proto, n, Flow::number(n), 8));
        }
        Templates { headers, base }
    }

    /// One answer of each flow: its packets left from `ports`.
    pub(super) fn answers(ports: &[u16], proto: BenchProto) -> Templates {
        let base = base(proto, OUTSIDE_MAC);
        let answer = |(n, port): (u32, &u16)| {
            if proto == BenchProto::Esp {
                return header(&base, proto, n, Flow::tunnel(n).answered(), 0);
            }
            let flow = Flow::number(n);
            let back = Flow {
                src: flow.dst,
                dst: GLOBAL,
                sport: if proto == BenchProto::Icmp {
                    *port
                } else {
                    flow.dport
                },
                dport: *port,
            };
            header(&base, proto, n, back, 0)
        };
        let headers = (0..).zip(ports).map(answer).collect();
        Templates { headers, base }
    }

    /// The same packets in the order asked for.
    pub(super) fn in_order(mut self, order: BenchOrder) -> Templates {
        if order == BenchOrder::Unrelated {
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            for at in (1..self.headers.len()).rev() {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                self.headers.swap(at, (random % (at as u64 + 1)) as usize);
            }
        }
        self.repeated()
    }

    /// The same packets, and as many again of the first client's flows between them.
    pub(super) fn skewed(self) -> Templates {
        let clients = self.headers.len().min(FLOWS_A_HOST as usize);
        let of_client = self.headers[..clients].iter().cycle();
        let headers = self.headers.iter().zip(of_client);
        let headers = headers
            .flat_map(|(one, of_client)| [*one, *of_client])
            .collect();
        Templates { headers, ..self }
    }

    /// Only the packets that `keep` wants.
    pub(super) fn only(&self, keep: impl FnMut(&&Header) -> bool) -> Templates {
        Templates {
            headers: self.headers.iter().filter(keep).copied().collect(),
            base: self.base,
        }
    }

    /// The first octets of a packet.
    pub(super) fn frame(&self, header: &Header) -> [u8; 64] {
        let mut frame = self.base;
        frame[16..18].copy_from_slice(&(header.len - 14).to_be_bytes());
        frame[24..40].copy_from_slice(&header.octets);
        frame
    }

    /// Few packets again and again, so that a port that hands them out seldom reaches their end.
    pub(super) fn repeated(mut self) -> Templates {
        let flows = self.headers.len();
        while flows > 0 && self.headers.len() < FEWEST {
            self.headers.extend_from_within(..flows);
        }
        self
    }

    /// The port or identifier with which a packet left.
    pub(super) fn outside_port(packet: &MemoryPacket) -> u16 {
        let frame = packet.data();
        let at = if frame[23] == PROTO_ICMP { 38 } else { 34 };
        u16::from_be_bytes([frame[at], frame[at + 1]])
    }
}

fn base(proto: BenchProto, to: [u8; 6]) -> [u8; 64] {
    let mut base = [0; 64];
    base[..6].copy_from_slice(&to);
    base[6..12].copy_from_slice(&ROUTER_MAC);
    base[12..15].copy_from_slice(&[8, 0, 0x45]);
    base[22] = 64;
    base[23] = match proto {
        BenchProto::Tcp => PROTO_TCP,
        BenchProto::Icmp => PROTO_ICMP,
        BenchProto::Esp => PROTO_ESP,
        BenchProto::Udp | BenchProto::Imix => PROTO_UDP,
    };
    if proto == BenchProto::Esp {
        base[41] = 1; // the first packet of a tunnel, again and again
        return base;
    }
    // UDP's checksum, then of TCP: data offset 5, ACK. Nobody verifies either checksum on the way.
    base[40..42].copy_from_slice(&[0x12, 0x34]);
    if proto == BenchProto::Tcp {
        base[46..48].copy_from_slice(&[0x50, 0x10]);
    }
    base
}

fn header(base: &[u8; 64], proto: BenchProto, n: u32, flow: Flow, icmp_type: u8) -> Header {
    let len = match proto {
        BenchProto::Imix => IMIX[n as usize % IMIX.len()],
        _ => SMALL,
    };
    let mut frame = *base;
    frame[16..18].copy_from_slice(&(len - 14).to_be_bytes());
    frame[26..30].copy_from_slice(&flow.src.to_be_bytes());
    frame[30..34].copy_from_slice(&flow.dst.to_be_bytes());
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    if proto == BenchProto::Icmp {
        frame[34..38].copy_from_slice(&[icmp_type, 0, 0x12, 0x34]);
        frame[38..40].copy_from_slice(&flow.sport.to_be_bytes());
    } else {
        frame[34..36].copy_from_slice(&flow.sport.to_be_bytes());
        frame[36..38].copy_from_slice(&flow.dport.to_be_bytes());
        if proto == BenchProto::Esp {
            // The upper half of the sequence number; the lower one is `base`'s.
            frame[38..40].copy_from_slice(&[0, 0]);
        } else if proto != BenchProto::Tcp {
            frame[38..40].copy_from_slice(&(len - 34).to_be_bytes());
        }
    }
    let mut octets = [0; 16];
    octets.copy_from_slice(&frame[24..40]);
    Header { octets, len }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn flows_differ_and_each_destination_port_has_few_enough() {
        let flows = 3 << 20;
        let mut seen = HashSet::new();
        let mut to_one = 0;
        for n in 0..flows {
            let Flow {
                src,
                dst,
                sport,
                dport,
            } = Flow::number(n);
            assert!(
                seen.insert((src, dst, sport, dport)),
                "flow {n} is there twice"
            );
            to_one += u32::from((dst, dport) == (DESTINATION, 443));
        }
        assert!((16_000..17_000).contains(&to_one), "{to_one}");
    }
}
