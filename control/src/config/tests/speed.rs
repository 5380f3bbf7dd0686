//! Loads a large configuration: run by hand, `cargo test --release -- --ignored --nocapture load_time`.

use std::fmt::Write as _;

use super::*;

#[test]
#[ignore = "a measurement, not a check"]
fn load_time() {
    let mut text = String::from(
        "interface Out\n port vdev net_ring0\n ip address 198.51.100.1 255.255.255.0\n",
    );
    for at in 0..100_000u32 {
        let (a, b, c) = (at >> 16 & 255, at >> 8 & 255, at & 255);
        let _ = writeln!(
            text,
            "access-list 101 permit tcp host 10.{a}.{b}.{c} any eq www"
        );
    }
    for at in 0..10_000u32 {
        let (a, b) = (at >> 8 & 255, at & 255);
        let _ = writeln!(
            text,
            "ip nat inside source static 10.1.{a}.{b} 203.0.{a}.{b}"
        );
    }
    let start = std::time::Instant::now();
    let (config, _) = load(&text);
    let parsed = start.elapsed();
    let policy = Policy::compile(
        std::sync::Arc::new(config),
        &Default::default(),
        Default::default(),
        None,
    );
    println!("parse {parsed:?}, compile {:?}", start.elapsed() - parsed);
    assert_eq!(policy.nat.statics.len(), 10_000);
}
