//! A capture file goes in, the same packets come out, and a packet too large for a buffer is counted.
mod common;

use spillway_dataplane::packet::{Burst, RxQueue, TxQueue};
use std::path::Path;

/// A capture file (little endian, microseconds, Ethernet) of these frames.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        let len = u32::try_from(frame.len()).expect("test frames are short");
        for word in [0, 0, len, len] {
            file.extend(u32::to_le_bytes(word));
        }
        file.extend(frame);
    }
    file
}

/// The frames of a capture file.
fn frames(file: &Path) -> Vec<Vec<u8>> {
    let octets = std::fs::read(file).expect("the port has written it");
    let mut rest = &octets[24..];
    let mut frames = Vec::new();
    while let Some((head, body)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        frames.push(body[..len].to_vec());
        rest = &body[len..];
    }
    frames
}

#[test]
fn captured_frames_come_out_as_they_went_in() {
    let folder = std::env::temp_dir().join(format!("spillway-pcap-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let (input, output) = (folder.join("in.pcap"), folder.join("out.pcap"));
    let mut offered: Vec<Vec<u8>> = (0u8..100)
        .map(|i| vec![i; 60 + usize::from(i) * 14])
        .collect();
    let expected = offered.clone();
    offered.insert(50, vec![0xee; 3000]);
    std::fs::write(&input, pcap(&offered)).expect("the temporary folder is writable");

    let eal = common::eal();
    let pool = common::pool(&eal, 1023);
    let spec = format!(
        "net_pcap0,rx_pcap={},tx_pcap={}",
        input.display(),
        output.display()
    );
    let mut port = common::open(&eal, &spec, &pool);
    let (mut rx, mut tx) = common::queues(&mut port);
    let (mut burst, mut received, mut not_linear) = (Burst::new(), 0, 0);
    for _ in 0..20 {
        received += rx.receive(&mut burst);
        not_linear += rx.take_not_linear();
        let have = burst.len();
        assert_eq!(tx.transmit(&mut burst), have);
    }
    assert_eq!((received, not_linear), (100, 1));
    assert_eq!(rx.take_not_linear(), 0, "told once");
    drop((rx, tx));
    port.close().expect("its queues are back");
    assert_eq!(frames(&output), expected);
    assert_eq!(pool.available(), pool.size());

    // A looping source gives more than its file has.
    let spec = format!("net_pcap1,rx_pcap={},infinite_rx=1", output.display());
    let mut port = common::open(&eal, &spec, &pool);
    let (mut rx, tx) = common::queues(&mut port);
    let mut received = 0;
    for _ in 0..20 {
        received += rx.receive(&mut burst);
        burst.clear();
    }
    assert!(received > 100, "{received}");
    drop((rx, tx, port));
    assert_eq!(
        pool.available(),
        pool.size(),
        "the port's own copies are free again"
    );
    std::fs::remove_dir_all(folder).expect("it was made above");
}
