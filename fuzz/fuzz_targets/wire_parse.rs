//! Any frame: parsed, and if it is let through, rewritten, cut into fragments and answered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spillway_dataplane::packet::{Packet, PacketPool};
use spillway_dataplane::wire::checksum::checksum;
use spillway_dataplane::wire::icmp_build::{self, ErrorKind};
use spillway_dataplane::wire::rewrite::decrement_ttl;
use spillway_dataplane::wire::split::split;
use spillway_dataplane::wire::{Endpoints, Ipv4, L4, Parsed, Rewrite, icmp_error, parse};

/// A packet in a vector, which grows at both ends.
struct Buffer(Vec<u8>);

impl Packet for Buffer {
    fn data(&self) -> &[u8] {
        &self.0
    }
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
    fn prepend(&mut self, len: usize) -> bool {
        self.0.splice(..0, std::iter::repeat_n(0xa5, len));
        true
    }
    fn append(&mut self, len: usize) -> bool {
        self.0.resize(self.0.len() + len, 0xa5);
        true
    }
    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

struct Pool;

impl PacketPool for Pool {
    type Packet = Buffer;
    fn alloc(&mut self) -> Option<Buffer> {
        Some(Buffer(Vec::new()))
    }
}

fuzz_target!(|frame: &[u8]| {
    let unverified = parse(frame, false);
    match parse(frame, true) {
        Ok(verified) => assert_eq!(unverified, Ok(verified)),
        // Checksums hide what lies behind them: make this one right and go on.
        Err(_) => {
            if let Ok(Parsed::Ipv4(ip)) = unverified {
                let mut repaired = frame.to_vec();
                repaired[24..26].fill(0);
                let sum = checksum(&repaired[14..ip.l4_offset()]);
                repaired[24..26].copy_from_slice(&sum.to_be_bytes());
                assert_eq!(parse(&repaired, true), Ok(Parsed::Ipv4(ip)));
                changed(&repaired, ip);
            }
            return;
        }
    }
    if let Ok(Parsed::Ipv4(ip)) = unverified {
        changed(frame, ip);
    }
});

/// What is let through, changed in every way that there is.
fn changed(frame: &[u8], ip: Ipv4) {
    rewritten(frame, ip);
    cut(frame, ip);
    if icmp_build::may_answer(frame, &ip) {
        answered(frame, ip);
    }
}

fn rewritten(frame: &[u8], ip: Ipv4) {
    let mut copy = frame.to_vec();
    let (sport, dport) = match ip.l4 {
        L4::IcmpQuery { id, .. } => (id, 0),
        _ => ip.ports().unwrap_or_default(),
    };
    let from = Endpoints {
        src: ip.src,
        dst: ip.dst,
        sport,
        dport,
    };
    let to = Endpoints {
        src: 0xc000_0201,
        dst: 0xc633_6407,
        sport: 1024,
        dport: 53,
    };
    Rewrite::new(ip.protocol, from, to).apply(&mut copy, &ip);
    let Ok(Parsed::Ipv4(new)) = parse(&copy, true) else {
        panic!("rewritten and refused");
    };
    assert_eq!((new.src, new.dst), (to.src, to.dst));
    let wanted_l4 = match ip.l4 {
        L4::Tcp { flags, .. } => L4::Tcp {
            sport: 1024,
            dport: 53,
            flags,
        },
        L4::Udp { .. } => L4::Udp {
            sport: 1024,
            dport: 53,
        },
        L4::IcmpQuery {
            icmp_type, code, ..
        } => L4::IcmpQuery {
            icmp_type,
            code,
            id: 1024,
        },
        other => other,
    };
    assert_eq!(
        new,
        Ipv4 {
            src: to.src,
            dst: to.dst,
            l4: wanted_l4,
            ..ip
        }
    );
    if ip.ttl > 0 {
        decrement_ttl(&mut copy);
        assert_eq!(
            parse(&copy, true),
            Ok(Parsed::Ipv4(Ipv4 {
                ttl: ip.ttl - 1,
                ..new
            }))
        );
    }
}

fn cut(frame: &[u8], ip: Ipv4) {
    let mut together = Vec::new();
    let done = split(frame, &ip, 100, &mut Pool, |packet| {
        let header = usize::from(packet.data()[14] & 15) * 4;
        assert!(packet.data().len() <= 114);
        assert_eq!(checksum(&packet.data()[14..14 + header]), 0);
        together.extend_from_slice(&packet.data()[14 + header..]);
    });
    if done.is_ok() {
        assert_eq!(together, frame[ip.l4_offset()..ip.end()]);
    }
}

fn answered(frame: &[u8], ip: Ipv4) {
    let mut packet = Buffer(frame.to_vec());
    let kind = ErrorKind::FragmentationNeeded { mtu: 1280 };
    icmp_build::build(&mut packet, &ip, kind, 0xc000_0201, 7).expect("room enough");
    let Ok(Parsed::Ipv4(outer)) = parse(packet.data(), true) else {
        panic!("answer refused");
    };
    let quoted = icmp_error::read(packet.data(), &outer).expect("answer can be read");
    assert_eq!(
        (quoted.src, quoted.dst, quoted.fragment),
        (ip.src, ip.dst, ip.fragment)
    );
}
