//! Fragments: in order, out of order, too late, too many.

use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{INSIDE, INSIDE2, OUTSIDE, Policy, each, ping, tcp, udp};

const OUT: &str = "203.0.113.5:9";

#[test]
fn in_order_both_ways() {
    each(Policy::overload, |lab| {
        let pieces = udp("10.1.0.2:5000", OUT).size(3000).fragments(1480);
        lab.expect(
            INSIDE,
            pieces[0].clone(),
            "1 frag 17 0-1480+ 198.51.100.1:5000 > 203.0.113.5:9",
        );
        lab.expect(
            INSIDE,
            pieces[1].clone(),
            "1 frag 17 1480-2960+ 198.51.100.1:0 > 203.0.113.5:0",
        );
        lab.expect(
            INSIDE,
            pieces[2].clone(),
            "1 frag 17 2960-3008 198.51.100.1:0 > 203.0.113.5:0",
        );
        let pieces = udp(OUT, "198.51.100.1:5000").size(3000).fragments(1480);
        lab.expect(
            OUTSIDE,
            pieces[0].clone(),
            "0 frag 17 0-1480+ 203.0.113.5:9 > 10.1.0.2:5000",
        );
        lab.expect(
            OUTSIDE,
            pieces[1].clone(),
            "0 frag 17 1480-2960+ 203.0.113.5:0 > 10.1.0.2:0",
        );
        lab.expect(
            OUTSIDE,
            pieces[2].clone(),
            "0 frag 17 2960-3008 203.0.113.5:0 > 10.1.0.2:0",
        );
        assert_eq!(lab.counted(Counter::FragmentsTranslated), 6);
        assert_eq!(lab.entries(), 1);
    });
}

/// Puts what was sent together again and checks it as one packet.
fn reassembled(sent: &[(spillway_dataplane::snapshot::PortId, Vec<u8>)]) -> String {
    let mut pieces: Vec<&[u8]> = sent.iter().map(|(_, frame)| &frame[14..]).collect();
    pieces.sort_by_key(|piece| u16::from_be_bytes([piece[6], piece[7]]) & 0x1fff);
    let mut header = etherparse::Ipv4Header::from_slice(pieces[0])
        .expect("a header")
        .0;
    let data: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| piece[20..].to_vec())
        .collect();
    header.more_fragments = false;
    header.total_len = 20 + data.len() as u16;
    header.header_checksum = header.calc_header_checksum();
    let whole = [header.to_bytes().to_vec(), data].concat();
    crate::support::describe(&[&[0; 12][..], &[8, 0], &whole].concat())
}

#[test]
fn in_any_order() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE2, udp("10.2.0.7:5000", OUT)); // so that the port must change
        let orders = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        for (packet, line) in [
            (
                udp("10.1.0.2:5000", OUT).size(3000),
                "udp 198.51.100.1:P > 203.0.113.5:9",
            ),
            (
                tcp("10.1.0.2:5000", OUT, "A").size(3000),
                "tcp 198.51.100.1:P > 203.0.113.5:9 A",
            ),
            (
                ping("10.1.0.2", "203.0.113.5", 5000).size(3000),
                "ping 198.51.100.1 > 203.0.113.5 P",
            ),
        ] {
            let mut port = None;
            for (id, order) in orders.iter().enumerate() {
                let pieces = packet.clone().id(id as u16).fragments(1480);
                let mut sent = Vec::new();
                for at in order {
                    lab.run(INSIDE, pieces[*at].clone());
                    sent.append(&mut lab.last);
                }
                assert_eq!(sent.len(), 3, "{order:?}");
                let got = reassembled(&sent);
                let port = port.get_or_insert_with(|| {
                    got.split([':', ' '])
                        .filter_map(|word| word.parse::<u16>().ok())
                        .find(|p| *p > 9)
                        .expect("a port")
                });
                assert_eq!(got, line.replace('P', &port.to_string()));
            }
        }
        assert_eq!(lab.dropped(DropReason::FragmentTimeout), 0);
    });
}

#[test]
fn a_first_fragment_that_never_comes() {
    each(Policy::overload, |lab| {
        let pieces = udp("10.1.0.2:5000", OUT).size(3000).fragments(1480);
        assert!(lab.run(INSIDE, pieces[2].clone()).is_empty());
        assert!(lab.run(INSIDE, pieces[1].clone()).is_empty());
        assert!(lab.advance(1_990).is_empty());
        assert_eq!(lab.advance(20), ["drop fragment_timeout"; 2]);
        // The datagram is forgotten: a later first one goes alone.
        assert_eq!(lab.run(INSIDE, pieces[0].clone()).len(), 1);
        assert_eq!(lab.entries(), 1);
    });
}

#[test]
fn those_that_come_much_later_are_strangers() {
    each(Policy::overload, |lab| {
        let pieces = udp("10.1.0.2:5000", OUT).size(3000).fragments(1480);
        lab.run(INSIDE, pieces[0].clone());
        lab.advance(2_010);
        assert!(lab.run(INSIDE, pieces[1].clone()).is_empty());
        assert_eq!(lab.advance(2_100), ["drop fragment_timeout"]);
    });
}

#[test]
fn what_waits_is_bounded() {
    each(Policy::overload, |lab| {
        for id in 0..1000 {
            let pieces = udp("10.1.0.2:5000", OUT).id(id).size(3000).fragments(1480);
            lab.run(INSIDE, pieces[1].clone());
        }
        let held = lab.counted(Counter::FragmentsHeld);
        let refused = lab.dropped(DropReason::FragmentStoreFull);
        assert_eq!(held + refused, 1000);
        assert!(held <= 256 * lab.workers.len() as u64, "{held} held");
        // Datagrams in order still pass.
        let pieces = udp("10.1.0.2:5000", OUT)
            .id(5000)
            .size(3000)
            .fragments(1480);
        for piece in pieces {
            assert_eq!(lab.run(INSIDE, piece).len(), 1);
        }
        lab.advance(2_500);
        assert_eq!(lab.dropped(DropReason::FragmentTimeout), held);
    });
}

#[test]
fn of_statics_and_hairpins() {
    let policy = || {
        Policy::overload()
            .forward(17, ("10.1.0.9", 5300), ("198.51.100.1", 53))
            .fixed("10.1.0.10", "203.0.113.10")
    };
    each(policy, |lab| {
        for order in [[0, 1], [1, 0]] {
            for (port, packet, line) in [
                (
                    OUTSIDE,
                    udp("203.0.113.5:9", "198.51.100.1:53"),
                    "udp 203.0.113.5:9 > 10.1.0.9:5300",
                ),
                (
                    INSIDE,
                    udp("10.1.0.9:5300", "203.0.113.5:9"),
                    "udp 198.51.100.1:53 > 203.0.113.5:9",
                ),
                (
                    OUTSIDE,
                    ping("203.0.113.5", "203.0.113.10", 5),
                    "ping 203.0.113.5 > 10.1.0.10 5",
                ),
                (
                    INSIDE2,
                    udp("10.2.0.2:5000", "198.51.100.1:53"),
                    "udp 198.51.100.1:5000 > 10.1.0.9:5300",
                ),
                (
                    INSIDE2,
                    udp("10.2.0.2:5000", "203.0.113.10:53"),
                    "udp 198.51.100.1:5000 > 10.1.0.10:53",
                ),
            ] {
                let pieces = packet.size(2000).fragments(1480);
                let mut sent = Vec::new();
                for at in order {
                    lab.run(port, pieces[at].clone());
                    sent.append(&mut lab.last);
                }
                assert_eq!(reassembled(&sent), line);
                lab.advance(2_500);
            }
        }
        // And back through the hairpin.
        let pieces = udp("10.1.0.9:5300", "198.51.100.1:5000")
            .size(2000)
            .fragments(1480);
        let mut sent = Vec::new();
        for piece in pieces {
            lab.run(INSIDE, piece);
            sent.append(&mut lab.last);
        }
        assert_eq!(reassembled(&sent), "udp 198.51.100.1:53 > 10.2.0.2:5000");
    });
}

#[test]
fn to_ourselves_go_to_the_kernel() {
    each(Policy::overload, |lab| {
        let pieces = ping("203.0.113.5", "198.51.100.1", 5)
            .size(2000)
            .fragments(1480);
        assert!(lab.run(OUTSIDE, pieces[1].clone()).is_empty());
        assert_eq!(lab.run(OUTSIDE, pieces[0].clone()).len(), 2);
        assert_eq!(lab.counted(Counter::PuntedLocal), 2);
    });
}

#[test]
fn a_fragment_is_cut_again_for_a_smaller_link() {
    each(Policy::overload, |lab| {
        lab.snapshot.interfaces[1].mtu = 1000;
        let pieces = udp("10.1.0.2:5000", OUT).size(2000).fragments(1480);
        assert_eq!(
            lab.run(INSIDE, pieces[0].clone()),
            [
                "1 frag 17 0-976+ 198.51.100.1:5000 > 203.0.113.5:9",
                "1 frag 17 976-1480+ 198.51.100.1:0 > 203.0.113.5:0"
            ]
        );
        lab.expect(
            INSIDE,
            pieces[1].clone(),
            "1 frag 17 1480-2008 198.51.100.1:0 > 203.0.113.5:0",
        );
    });
}

#[test]
fn those_that_could_carry_a_header_past_a_filter() {
    each(Policy::overload, |lab| {
        let pieces = tcp("10.1.0.2:5000", OUT, "S").size(2000).fragments(8);
        lab.expect(INSIDE, pieces[0].clone(), "drop fragment_malformed");
        lab.expect(INSIDE, pieces[1].clone(), "drop fragment_malformed");
        assert_eq!(lab.entries(), 0);
    });
}
