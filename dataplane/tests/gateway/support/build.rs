//! Packets as hosts make them, by etherparse.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options,
    TcpHeader, UdpHeader,
};

/// An IPv4 packet in the making.
#[derive(Debug, Clone)]
pub(crate) struct Packet4 {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    transport: Transport,
    ttl: u8,
    id: u16,
    df: bool,
    options: Vec<u8>,
    payload: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Transport {
    Tcp {
        sport: u16,
        dport: u16,
        flags: String,
    },
    Udp {
        sport: u16,
        dport: u16,
        checksum: bool,
    },
    Icmp {
        kind: [u8; 8],
    },
    Raw(u8),
}

fn packet(src: Ipv4Addr, dst: Ipv4Addr, transport: Transport) -> Packet4 {
    Packet4 {
        src,
        dst,
        transport,
        ttl: 64,
        id: 0x1234,
        df: false,
        options: Vec::new(),
        payload: b"spillway!".to_vec(),
    }
}

fn endpoint(text: &str) -> SocketAddrV4 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no endpoint"))
}

fn address(text: &str) -> Ipv4Addr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no address"))
}

/// A UDP packet between two endpoints.
pub(crate) fn udp(from: &str, to: &str) -> Packet4 {
    let (from, to) = (endpoint(from), endpoint(to));
    let (sport, dport, checksum) = (from.port(), to.port(), true);
    packet(
        *from.ip(),
        *to.ip(),
        Transport::Udp {
            sport,
            dport,
            checksum,
        },
    )
}

/// A TCP packet with flags out of "FSRPA".
pub(crate) fn tcp(from: &str, to: &str, flags: &str) -> Packet4 {
    let (from, to) = (endpoint(from), endpoint(to));
    let (sport, dport, flags) = (from.port(), to.port(), flags.to_owned());
    packet(
        *from.ip(),
        *to.ip(),
        Transport::Tcp {
            sport,
            dport,
            flags,
        },
    )
}

fn icmp(from: &str, to: &str, kind: [u8; 8]) -> Packet4 {
    packet(address(from), address(to), Transport::Icmp { kind })
}

/// An echo request.
pub(crate) fn ping(from: &str, to: &str, id: u16) -> Packet4 {
    let [high, low] = id.to_be_bytes();
    icmp(from, to, [8, 0, 0, 0, high, low, 0, 1])
}

/// An echo reply.
pub(crate) fn pong(from: &str, to: &str, id: u16) -> Packet4 {
    let [high, low] = id.to_be_bytes();
    icmp(from, to, [0, 0, 0, 0, high, low, 0, 1])
}

/// An ICMP error about (the start of) an IPv4 packet; `mtu` in the last word.
pub(crate) fn error(from: &str, to: &str, kind: (u8, u8), mtu: u16, about: &[u8]) -> Packet4 {
    let [high, low] = mtu.to_be_bytes();
    icmp(from, to, [kind.0, kind.1, 0, 0, 0, 0, high, low]).data(about)
}

/// A packet of another protocol.
pub(crate) fn raw(from: &str, to: &str, protocol: u8) -> Packet4 {
    packet(address(from), address(to), Transport::Raw(protocol))
}

impl Packet4 {
    pub(crate) fn ttl(mut self, ttl: u8) -> Packet4 {
        self.ttl = ttl;
        self
    }

    pub(crate) fn id(mut self, id: u16) -> Packet4 {
        self.id = id;
        self
    }

    pub(crate) fn dont_fragment(mut self) -> Packet4 {
        self.df = true;
        self
    }

    /// IP options; a multiple of four octets.
    pub(crate) fn options(mut self, options: &[u8]) -> Packet4 {
        self.options = options.to_vec();
        self
    }

    /// What the packet carries.
    pub(crate) fn data(mut self, payload: &[u8]) -> Packet4 {
        self.payload = payload.to_vec();
        self
    }

    /// So many octets that differ.
    pub(crate) fn size(self, octets: usize) -> Packet4 {
        let payload: Vec<u8> = (0..octets).map(|n| (n * 31 + n / 256) as u8).collect();
        self.data(&payload)
    }

    /// UDP without checksum.
    pub(crate) fn without_checksum(mut self) -> Packet4 {
        if let Transport::Udp { checksum, .. } = &mut self.transport {
            *checksum = false;
        }
        self
    }

    fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => 6,
            Transport::Udp { .. } => 17,
            Transport::Icmp { .. } => 1,
            Transport::Raw(protocol) => protocol,
        }
    }

    /// The header after IPv4's and what it carries.
    fn datagram(&self) -> Vec<u8> {
        let (src, dst) = (self.src.octets(), self.dst.octets());
        let mut octets = match &self.transport {
            Transport::Tcp {
                sport,
                dport,
                flags,
            } => {
                let mut header = TcpHeader::new(*sport, *dport, 1, 1000);
                (header.syn, header.ack) = (flags.contains('S'), flags.contains('A'));
                (header.fin, header.rst) = (flags.contains('F'), flags.contains('R'));
                header.psh = flags.contains('P');
                header.checksum = header
                    .calc_checksum_ipv4_raw(src, dst, &self.payload)
                    .expect("short enough");
                header.to_bytes().to_vec()
            }
            Transport::Udp {
                sport,
                dport,
                checksum,
            } => {
                let mut header =
                    UdpHeader::without_ipv4_checksum(*sport, *dport, self.payload.len())
                        .expect("short enough");
                if *checksum {
                    header.checksum = header
                        .calc_checksum_ipv4_raw(src, dst, &self.payload)
                        .expect("short enough");
                }
                header.to_bytes().to_vec()
            }
            Transport::Icmp { kind } => {
                let [icmp_type, code, .., a, b, c, d] = *kind;
                let kind = match icmp_type {
                    8 => Icmpv4Type::EchoRequest(IcmpEchoHeader::from_bytes([a, b, c, d])),
                    0 => Icmpv4Type::EchoReply(IcmpEchoHeader::from_bytes([a, b, c, d])),
                    _ => Icmpv4Type::Unknown {
                        type_u8: icmp_type,
                        code_u8: code,
                        bytes5to8: [a, b, c, d],
                    },
                };
                Icmpv4Header::with_checksum(kind, &self.payload)
                    .to_bytes()
                    .to_vec()
            }
            Transport::Raw(_) => Vec::new(),
        };
        octets.extend_from_slice(&self.payload);
        octets
    }

    fn header(&self, payload: usize) -> Ipv4Header {
        let mut header = Ipv4Header::new(
            payload as u16,
            self.ttl,
            IpNumber(self.protocol()),
            self.src.octets(),
            self.dst.octets(),
        )
        .expect("short enough");
        header.identification = self.id;
        header.dont_fragment = self.df;
        header.options = Ipv4Options::try_from(&*self.options).expect("a multiple of four");
        header.total_len = (header.header_len() + payload) as u16;
        header
    }

    /// The packet's octets, from the IPv4 header on.
    pub(crate) fn ip(&self) -> Vec<u8> {
        let datagram = self.datagram();
        whole(self.header(datagram.len()), &datagram)
    }

    /// The packet in fragments of so many octets of data each.
    pub(crate) fn fragments(&self, octets: usize) -> Vec<Vec<u8>> {
        assert_eq!(octets % 8, 0);
        let datagram = self.datagram();
        let last = datagram.len().div_ceil(octets) - 1;
        datagram
            .chunks(octets)
            .enumerate()
            .map(|(at, piece)| {
                let mut header = self.header(piece.len());
                header.more_fragments = at != last;
                header.fragment_offset =
                    IpFragOffset::try_new((at * octets / 8) as u16).expect("short enough");
                whole(header, piece)
            })
            .collect()
    }
}

fn whole(mut header: Ipv4Header, payload: &[u8]) -> Vec<u8> {
    header.header_checksum = header.calc_header_checksum();
    let mut octets = header.to_bytes().to_vec();
    octets.extend_from_slice(payload);
    octets
}

impl From<Packet4> for Vec<u8> {
    fn from(packet: Packet4) -> Vec<u8> {
        packet.ip()
    }
}

/// An Ethernet frame.
pub(crate) fn ethernet(dst: [u8; 6], src: [u8; 6], ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = [dst, src].concat();
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(body);
    frame
}
