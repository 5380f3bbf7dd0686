//! Reads frames, checks all that can be wrong in them, and says in one line what they are.

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Header, Ipv4Header, TcpHeader, UdpHeader};

/// What a frame turned out to be.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) ip: Ipv4Header,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    /// One line about it.
    pub(crate) line: String,
    /// Behind the header after IPv4's.
    pub(crate) payload: Vec<u8>,
}

impl Seen {
    pub(crate) fn src(&self) -> Ipv4Addr {
        self.ip.source.into()
    }

    pub(crate) fn dst(&self) -> Ipv4Addr {
        self.ip.destination.into()
    }
}

/// The packet in a frame; `None` where it is no IPv4.
pub(crate) fn peek(frame: &[u8]) -> Option<Seen> {
    (frame.get(12..14)? == [8, 0]).then(|| read_ip(&frame[14..], true))
}

/// Checks an IPv4 packet and reads it. `exact`: nothing may follow it.
pub(crate) fn read_ip(octets: &[u8], exact: bool) -> Seen {
    let (ip, rest) = Ipv4Header::from_slice(octets).expect("an IPv4 header");
    assert_eq!(
        ip.header_checksum,
        ip.calc_header_checksum(),
        "IPv4 header checksum of {octets:02x?}"
    );
    let len = usize::from(ip.total_len) - ip.header_len();
    if exact {
        assert_eq!(rest.len(), len, "total length and frame length");
    }
    let body = &rest[..len];
    let (src, dst) = (Ipv4Addr::from(ip.source), Ipv4Addr::from(ip.destination));
    let mut seen = Seen {
        sport: 0,
        dport: 0,
        line: String::new(),
        payload: body.to_vec(),
        ip,
    };
    let ip = &seen.ip;
    if ip.more_fragments || ip.fragment_offset.value() != 0 {
        let at = ip.fragment_offset.byte_offset();
        let more = if ip.more_fragments { "+" } else { "" };
        if at == 0 && matches!(ip.protocol.0, 6 | 17) {
            seen.sport = u16::from_be_bytes([body[0], body[1]]);
            seen.dport = u16::from_be_bytes([body[2], body[3]]);
        }
        let ports = format!("{src}:{} > {dst}:{}", seen.sport, seen.dport);
        seen.line = format!(
            "frag {} {at}-{}{more} {ports}",
            ip.protocol.0,
            at as usize + len
        );
        return seen;
    }
    match ip.protocol.0 {
        6 => {
            let (tcp, payload) = TcpHeader::from_slice(body).expect("a TCP header");
            let sum = tcp.calc_checksum_ipv4(ip, payload).expect("short");
            assert_eq!(tcp.checksum, sum, "TCP checksum");
            let flags: String = [
                (tcp.fin, 'F'),
                (tcp.syn, 'S'),
                (tcp.rst, 'R'),
                (tcp.psh, 'P'),
                (tcp.ack, 'A'),
            ]
            .iter()
            .filter_map(|(set, name)| set.then_some(*name))
            .collect();
            (seen.sport, seen.dport) = (tcp.source_port, tcp.destination_port);
            seen.line = format!(
                "tcp {src}:{} > {dst}:{} {flags}",
                tcp.source_port, tcp.destination_port
            );
            seen.payload = payload.to_vec();
        }
        17 => {
            let (udp, payload) = UdpHeader::from_slice(body).expect("a UDP header");
            assert_eq!(usize::from(udp.length), body.len(), "UDP length");
            let mut note = "";
            if udp.checksum == 0 {
                note = " unchecked";
            } else {
                let sum = udp.calc_checksum_ipv4(ip, payload).expect("short");
                assert_eq!(udp.checksum, sum, "UDP checksum");
            }
            (seen.sport, seen.dport) = (udp.source_port, udp.destination_port);
            seen.line = format!(
                "udp {src}:{} > {dst}:{}{note}",
                udp.source_port, udp.destination_port
            );
            seen.payload = payload.to_vec();
        }
        1 => read_icmp(&mut seen, body),
        protocol => seen.line = format!("ip{protocol} {src} > {dst}"),
    }
    seen
}

fn read_icmp(seen: &mut Seen, body: &[u8]) {
    let (src, dst) = (seen.src(), seen.dst());
    let (icmp, payload) = Icmpv4Header::from_slice(body).expect("an ICMP header");
    let sum = icmp.icmp_type.calc_checksum(payload);
    assert_eq!(icmp.checksum, sum, "ICMP checksum");
    seen.payload = payload.to_vec();
    let id = u16::from_be_bytes([body[4], body[5]]);
    seen.line = match (body[0], body[1]) {
        (kind @ (0 | 8), _) => {
            (seen.sport, seen.dport) = (id, id);
            let name = if kind == 8 { "ping" } else { "pong" };
            format!("{name} {src} > {dst} {id}")
        }
        (kind @ (3 | 4 | 5 | 11 | 12), code) => {
            let mtu = match u16::from_be_bytes([body[6], body[7]]) {
                mtu if (kind, code) == (3, 4) => format!(" mtu {mtu}"),
                _ => String::new(),
            };
            format!(
                "icmp {kind}/{code}{mtu} {src} > {dst} [{}]",
                read_quoted(payload)
            )
        }
        (kind, code) => format!("icmp {kind}/{code} {src} > {dst}"),
    };
}

/// What an ICMP error quotes, checked as far as it is there.
fn read_quoted(quoted: &[u8]) -> String {
    let (ip, rest) = Ipv4Header::from_slice(quoted).expect("a quoted IPv4 header");
    assert_eq!(
        ip.header_checksum,
        ip.calc_header_checksum(),
        "quoted IPv4 header checksum"
    );
    let (src, dst) = (Ipv4Addr::from(ip.source), Ipv4Addr::from(ip.destination));
    let is_first = ip.fragment_offset.value() == 0;
    if rest.len() >= usize::from(ip.total_len) - ip.header_len() {
        return read_ip(quoted, false).line;
    }
    let word = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    match ip.protocol.0 {
        6 | 17 if is_first => {
            let name = if ip.protocol.0 == 6 { "tcp" } else { "udp" };
            format!("{name} {src}:{} > {dst}:{} cut", word(0), word(2))
        }
        1 if is_first => format!("icmp{} {src} > {dst} {} cut", rest[0], word(4)),
        protocol => format!("ip{protocol} {src} > {dst} cut"),
    }
}

/// What a frame is, whatever it is, in one line.
pub(crate) fn describe(frame: &[u8]) -> String {
    match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0800 => read_ip(&frame[14..], false).line,
        0x0806 => "arp".to_owned(),
        0x86dd => "ipv6".to_owned(),
        other => format!("ethertype {other:04x}"),
    }
}
