//! Any ICMP error: 4 octets of its header, then what it quotes; checksums are made right first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spillway_dataplane::stats::DropReason;
use spillway_dataplane::wire::checksum::checksum;
use spillway_dataplane::wire::icmp_error::{self, Quoted, QuotedL4};
use spillway_dataplane::wire::{Endpoints, Ipv4, Parsed, parse};

fuzz_target!(|data: &[u8]| {
    let Some(before) = frame(data) else {
        return;
    };
    let (ip, Ok(quoted)) = read(&before) else {
        return;
    };
    assert!(usize::from(quoted.l4_offset + quoted.l4_quoted) <= ip.end());
    let original = ends(&quoted);
    let to = Endpoints {
        src: 0x0a01_0005,
        dst: 0xcb00_7107,
        sport: 40_000,
        dport: 443,
    };

    let mut after = before.clone();
    icmp_error::rewrite(&mut after, &ip, &quoted, 0x0202_0202, 0x0a01_0005, to);
    let (new_ip, new_quoted) = read(&after);
    let new_quoted = new_quoted.expect("translated and refused");
    assert_eq!((new_ip.src, new_ip.dst), (0x0202_0202, 0x0a01_0005));
    assert_eq!((new_quoted.src, new_quoted.dst), (to.src, to.dst));

    icmp_error::rewrite(&mut after, &new_ip, &new_quoted, ip.src, ip.dst, original);
    let (old_ip, old_quoted) = read(&after);
    assert_eq!((old_ip, old_quoted), (ip, Ok(quoted)));
    assert!(same(&before, &after), "{before:02x?}\n{after:02x?}");
});

/// A frame with this ICMP error, all checksums right; `None` where it would be too long.
fn frame(data: &[u8]) -> Option<Vec<u8>> {
    let (head, quote) = data.split_first_chunk::<4>()?;
    let total = u16::try_from(28 + quote.len()).ok()?;
    let [high, low] = total.to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([
        0x45, 0, high, low, 0, 0, 0, 0, 64, 1, 0, 0, 1, 1, 1, 1, 3, 3, 3, 3,
    ]);
    repair(&mut frame, 14, 34, 10);
    let icmp_type = [3, 4, 5, 11, 12][usize::from(head[0]) % 5];
    frame.extend([icmp_type, 1, 0, 0, 0, head[1], head[2], head[3]]);
    frame.extend(quote);
    if let Some(first) = quote.first() {
        let header_end = 42 + usize::from(first & 15) * 4;
        if header_end >= 62 && header_end <= frame.len() {
            repair(&mut frame, 42, header_end, 10);
        }
    }
    let end = frame.len();
    repair(&mut frame, 34, end, 2);
    Some(frame)
}

/// Makes the checksum at `field` of these octets right.
fn repair(frame: &mut [u8], from: usize, to: usize, field: usize) {
    frame[from + field..from + field + 2].fill(0);
    let sum = checksum(&frame[from..to]);
    frame[from + field..from + field + 2].copy_from_slice(&sum.to_be_bytes());
}

fn read(frame: &[u8]) -> (Ipv4, Result<Quoted, DropReason>) {
    let Ok(Parsed::Ipv4(ip)) = parse(frame, true) else {
        panic!("outer packet refused");
    };
    (ip, icmp_error::read(frame, &ip))
}

fn ends(quoted: &Quoted) -> Endpoints {
    let (sport, dport) = match quoted.l4 {
        QuotedL4::Tcp { sport, dport } | QuotedL4::Udp { sport, dport } => (sport, dport),
        QuotedL4::IcmpQuery { id, .. } => (id, 0),
        QuotedL4::Esp { .. } | QuotedL4::Other | QuotedL4::LaterFragment => (0, 0),
    };
    Endpoints {
        src: quoted.src,
        dst: quoted.dst,
        sport,
        dport,
    }
}

/// Equal, but for checksums that were wrong before: 0 and 0xffff are the same number to them.
fn same(before: &[u8], after: &[u8]) -> bool {
    let word = |octets: &[u8]| match octets {
        [0xff, 0xff] | [0, 0] => [0, 0],
        [a, b] => [*a, *b],
        _ => [octets[0], 0],
    };
    before.len() == after.len() && before.chunks(2).map(word).eq(after.chunks(2).map(word))
}
