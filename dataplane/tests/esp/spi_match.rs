//! The published vectors of SPI matching, as they are in docs/ipsec.md.

use spillway_dataplane::esp::spi_match::{Key, answer, is_pair, is_reserved};

/// (SPI, its answer without a key, its answer with the key `spillway`), from a separate
/// implementation.
const VECTORS: &[(u32, u32, u32)] = &[
    (0x0000_0100, 0xFA78_5ED6, 0x2828_99AC),
    (0x1234_5678, 0x12A6_B2E1, 0xD57B_A69C),
    (0x2E59_EEF5, 0xC501_05A5, 0x60B0_E957),
    (0x2872_6CD9, 0x63BA_4FFF, 0x36CD_C342),
    (0xC000_0001, 0x211A_219B, 0xA5EA_B4BC),
    (0xFFFF_FFFF, 0x6A86_B97B, 0x9A17_672A),
];

#[test]
fn the_published_vectors_hold() {
    for &(spi, plain, keyed) in VECTORS {
        assert_eq!(answer(spi, Key::NONE), plain, "{spi:08X}");
        assert_eq!(
            answer(spi, Key::from_octets(b"spillway")),
            keyed,
            "{spi:08X}"
        );
        assert!(is_pair(spi, plain, Key::NONE) && is_pair(plain, spi, Key::NONE));
    }
    assert_eq!(Key::from_octets(b""), Key::NONE);
}

#[test]
fn reserved_results_are_moved_away() {
    assert_eq!(answer(0x811C_9DC5, Key::NONE), 0x8000_0000);
    assert_eq!(answer(0x8C7D_69C9, Key::NONE), 0x8000_0001);
    assert_eq!(answer(0x6183_7DF6, Key::NONE), 0x8000_00FF);
}

#[test]
fn answers_are_never_reserved_and_hardly_ever_equal() {
    let mut answers: Vec<u32> = (0..2_000_000u32)
        .map(|n| answer(n.wrapping_mul(2_147), Key::NONE))
        .collect();
    assert!(answers.iter().all(|&a| !is_reserved(a)));
    let count = answers.len();
    answers.sort_unstable();
    answers.dedup();
    assert!(count - answers.len() <= 256);
}
