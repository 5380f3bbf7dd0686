//! A packet may outlive everything else of DPDK's, and is still whole.
mod common;

use spillway_dataplane::packet::Packet;

#[test]
fn a_packet_outlives_its_pool_and_the_environment() {
    let eal = common::eal();
    let pool = common::pool(&eal, 63);
    let mut packet = common::packet(&pool, b"still here");
    drop((pool, eal));
    assert_eq!(packet.data(), b"still here");
    assert!(packet.prepend(14));
    packet.data_mut().fill(7);
    std::thread::spawn(move || drop(packet))
        .join()
        .expect("dropping it elsewhere is fine too");
}
