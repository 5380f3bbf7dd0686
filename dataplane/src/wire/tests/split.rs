//! Packets cut into fragments, put together again.

use etherparse::Ipv4Header;
use proptest::prelude::*;

use super::{Buffer, Kind, Pool, Spec, ethernet, ipv4, spec};
use crate::packet::Packet;
use crate::stats::DropReason;
use crate::wire::split::split;

fn cut(frame: &[u8], mtu: u16, pool: &mut Pool) -> (Result<usize, DropReason>, Vec<Buffer>) {
    let mut made = Vec::new();
    let ip = ipv4(frame).unwrap();
    let found = split(frame, &ip, mtu, pool, |packet| made.push(packet));
    (found, made)
}

fn large_pool() -> Pool {
    Pool {
        left: 2000,
        size: 2048,
    }
}

/// A good packet that is not too small to be cut.
fn cuttable() -> impl Strategy<Value = Spec> {
    (spec(), 0usize..3000).prop_map(|(mut spec, more)| {
        let more = (0..more).map(|at| at as u8);
        spec.payload.extend(more);
        spec.dont_fragment = false;
        spec.options.clear();
        spec
    })
}

proptest! {
    #[test]
    fn together_they_are_the_packet(spec in cuttable(), mtu in 68u16..1600) {
        let (frame, l4) = (spec.frame(), spec.l4());
        let (found, made) = cut(&frame, mtu, &mut large_pool());
        prop_assert_eq!(found, Ok(made.len()));
        let mut together: Vec<u8> = Vec::new();
        for (at, packet) in made.iter().enumerate() {
            let (header, data) = Ipv4Header::from_slice(&packet.data()[14..]).unwrap();
            prop_assert_eq!(&packet.data()[..14], &frame[..14]);
            prop_assert!(packet.data().len() <= 14 + usize::from(mtu));
            prop_assert_eq!(usize::from(header.total_len), packet.data().len() - 14);
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
            prop_assert_eq!(header.identification, spec.id);
            prop_assert_eq!(header.time_to_live, spec.ttl);
            prop_assert_eq!(usize::from(header.fragment_offset.byte_offset()), together.len());
            prop_assert_eq!(header.more_fragments, at + 1 < made.len());
            together.extend(data);
        }
        prop_assert_eq!(together, l4);
        // As few as can be.
        let room = usize::from(mtu - 20) & !7;
        prop_assert!(made.len() <= spec.l4().len().div_ceil(room).max(1));
    }

    /// Cut again, the pieces are the same as those of the whole.
    #[test]
    fn fragments_can_be_cut(spec in cuttable(), mtu in 68u16..600) {
        let l4 = spec.l4();
        prop_assume!(l4.len() > 64);
        let half = (l4.len() / 2) & !7;
        let mut together: Vec<u8> = Vec::new();
        for range in [0..half, half..l4.len()] {
            let last = range.end == l4.len();
            let frame = ethernet(&spec.fragment(range));
            let (found, made) = cut(&frame, mtu, &mut large_pool());
            prop_assert_eq!(found, Ok(made.len()));
            for (at, packet) in made.iter().enumerate() {
                let (header, data) = Ipv4Header::from_slice(&packet.data()[14..]).unwrap();
                prop_assert_eq!(usize::from(header.fragment_offset.byte_offset()), together.len());
                prop_assert_eq!(header.more_fragments, !(last && at + 1 == made.len()));
                together.extend(data);
            }
        }
        prop_assert_eq!(together, l4);
    }

    /// Any options, also malformed ones.
    #[test]
    fn any_options(spec in spec(), mtu in 68u16..200) {
        let mut spec = spec;
        spec.dont_fragment = false;
        let l4 = spec.l4();
        let (found, made) = cut(&spec.frame(), mtu, &mut large_pool());
        prop_assert_eq!(found, Ok(made.len()));
        let mut together: Vec<u8> = Vec::new();
        for packet in &made {
            let (header, data) = Ipv4Header::from_slice(&packet.data()[14..]).unwrap();
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
            together.extend(data);
        }
        prop_assert_eq!(together, l4);
    }
}

/// Security (130) and loose source route (131) go into every fragment, record route (7) and
/// timestamp (68) only into the first (RFC 791 section 3.1).
#[test]
fn options_with_the_copied_bit() {
    let mut spec = Spec::of(Kind::Udp { checksum: true });
    #[rustfmt::skip]
    let options = [
        7, 7, 4, 0, 0, 0, 0, // record route
        1, // no operation
        131, 7, 4, 1, 2, 3, 4, // loose source route
        68, 4, 5, 0, // timestamp
        130, 3, 9, // security
        0, 0, // end, and padding
    ];
    spec.options = options.to_vec();
    spec.payload = vec![9; 150];
    let (_, made) = cut(&spec.frame(), 100, &mut large_pool());
    let options: Vec<_> = made
        .iter()
        .map(|packet| ipv4(packet.data()).unwrap())
        .zip(&made)
        .map(|(ip, packet)| packet.data()[34..ip.l4_offset()].to_vec())
        .collect();
    let later = vec![131, 7, 4, 1, 2, 3, 4, 130, 3, 9, 0, 0];
    assert_eq!(options, [spec.options, later.clone(), later]);
}

#[test]
fn changes_since_parsing_are_kept() {
    let mut spec = Spec::of(Kind::Udp { checksum: true });
    spec.payload = vec![9; 100];
    let mut frame = spec.frame();
    let ip = ipv4(&frame).unwrap();
    crate::wire::rewrite::decrement_ttl(&mut frame);
    let mut ttls = Vec::new();
    let found = split(&frame, &ip, 68, &mut large_pool(), |packet| {
        ttls.push(ipv4(packet.data()).unwrap().ttl);
    });
    assert_eq!((found, ttls), (Ok(3), vec![63; 3]));
}

#[test]
fn dont_fragment() {
    let mut spec = Spec::of(Kind::Udp { checksum: true });
    spec.dont_fragment = true;
    let (found, made) = cut(&spec.frame(), 40, &mut large_pool());
    assert_eq!((found, made.len()), (Err(DropReason::MtuExceeded), 0));
}

#[test]
fn no_room_for_a_block() {
    let frame = Spec::of(Kind::Udp { checksum: true }).frame();
    for mtu in [0, 19, 20, 27] {
        let (found, made) = cut(&frame, mtu, &mut large_pool());
        assert_eq!((found, made.len()), (Err(DropReason::MtuExceeded), 0));
    }
    let (found, made) = cut(&frame, 28, &mut large_pool());
    assert_eq!((found, made.len()), (Ok(5), 5));
}

#[test]
fn empty_pool() {
    let frame = Spec::of(Kind::Udp { checksum: true }).frame();
    let mut pool = Pool {
        left: 2,
        size: 2048,
    };
    let (found, made) = cut(&frame, 28, &mut pool);
    assert_eq!((found, made.len()), (Err(DropReason::BufferExhausted), 2));
}

#[test]
fn small_buffers() {
    let frame = Spec::of(Kind::Udp { checksum: true }).frame();
    let mut pool = Pool { left: 9, size: 41 };
    let (found, _) = cut(&frame, 28, &mut pool);
    assert_eq!(found, Err(DropReason::BufferExhausted));
}
