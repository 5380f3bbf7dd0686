//! Checksums against etherparse, and the examples of the RFCs.

use etherparse::checksum::Sum16BitWords;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::wire::checksum::{Delta, Sum, checksum};

/// What etherparse makes of octets.
fn oracle(octets: &[u8]) -> u16 {
    Sum16BitWords::new()
        .add_slice(octets)
        .ones_complement()
        .to_be()
}

#[test]
fn example_of_rfc_1071_section_3() {
    let octets = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(Sum::default().bytes(&octets).fold(), 0xddf2);
    assert_eq!(checksum(&octets), !0xddf2);
}

#[test]
fn example_of_rfc_1624_section_4() {
    // Equation 2 of RFC 1141 would make this 0xffff.
    assert_eq!(Delta::of_u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
}

#[test]
fn largest_sum_folds() {
    let octets = vec![0xff; 65_535];
    assert_eq!(checksum(&octets), oracle(&octets));
    assert_eq!(Sum::default().bytes(&octets[..65_534]).fold(), 0xffff);
}

#[test]
fn udp_without_checksum_stays_without() {
    assert_eq!(Delta::of_u32(1, 2).apply_udp(0), 0);
    assert_ne!(Delta::of_u32(1, 2).apply(0), 0);
}

#[test]
fn udp_checksum_of_zero_is_sent_as_ffff() {
    // 0xdd2f by the example above comes out as 0.
    assert_eq!(Delta::of_u16(0x5555, 0x3285).apply_udp(0xdd2f), 0xffff);
    assert_eq!(Sum::default().u16(0xffff).udp_checksum(), 0xffff);
}

#[test]
fn no_difference_leaves_both_spellings_of_zero() {
    for field in [0, 1, 0x8000, 0xfffe, 0xffff] {
        assert_eq!(Delta::NONE.apply(field), field);
        assert_eq!(Delta::of_u32(0xc0a8_0001, 0xc0a8_0001).apply(field), field);
        assert_eq!((-Delta::NONE).apply(field), field);
    }
}

proptest! {
    #[test]
    fn same_as_etherparse(octets in vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(checksum(&octets), oracle(&octets));
    }

    #[test]
    fn sum_of_parts(octets in vec(any::<u8>(), 0..200), at in 0usize..100, a: u16, b: u32) {
        let (left, right) = octets.split_at((at * 2).min(octets.len() & !1));
        let sum = Sum::default().bytes(left).u16(a).u32(b).bytes(right);
        let whole = [left, &a.to_be_bytes(), &b.to_be_bytes(), right].concat();
        prop_assert_eq!(sum.checksum(), oracle(&whole));
    }

    #[test]
    fn pseudo_header_is_its_octets(src: u32, dst: u32, protocol: u8, len: u16) {
        let [high, low] = len.to_be_bytes();
        let octets = [&src.to_be_bytes()[..], &dst.to_be_bytes(), &[0, protocol, high, low]].concat();
        prop_assert_eq!(Sum::pseudo_header(src, dst, protocol, len).checksum(), oracle(&octets));
    }

    /// The first word is not 0, as in any header: then the result is exact, not only equivalent.
    #[test]
    fn difference_is_a_new_computation(
        mut octets in vec(any::<u8>(), 10..100),
        (old, new) in any::<(u32, u32)>(),
        (old_port, new_port) in any::<(u16, u16)>(),
    ) {
        octets[0] = 0x45;
        octets[2..6].copy_from_slice(&old.to_be_bytes());
        octets[6..8].copy_from_slice(&old_port.to_be_bytes());
        let before = oracle(&octets);
        octets[2..6].copy_from_slice(&new.to_be_bytes());
        octets[6..8].copy_from_slice(&new_port.to_be_bytes());
        let delta = Delta::of_u32(old, new) + Delta::of_u16(old_port, new_port);
        prop_assert_eq!(delta.apply(before), oracle(&octets));
        prop_assert_eq!((-delta).apply(oracle(&octets)), before);
    }

    #[test]
    fn negative_undoes(old: u32, new: u32) {
        let delta = Delta::of_u32(old, new);
        prop_assert_eq!(delta + -delta, Delta::NONE);
        prop_assert_eq!(-delta, Delta::of_u32(new, old));
    }

    #[test]
    fn words_of_an_address_add_up(old: u32, new: u32) {
        let halves = Delta::of_u16((old >> 16) as u16, (new >> 16) as u16)
            + Delta::of_u16(old as u16, new as u16);
        prop_assert_eq!(halves, Delta::of_u32(old, new));
    }

    #[test]
    fn ttl_decrement_is_its_word(ttl in 1u8.., protocol: u8) {
        let word = |ttl| u16::from_be_bytes([ttl, protocol]);
        prop_assert_eq!(Delta::of_u16(word(ttl), word(ttl - 1)), Delta::TTL_DECREMENT);
    }
}
