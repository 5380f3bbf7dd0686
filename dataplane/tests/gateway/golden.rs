//! Whole frames, octet by octet, worked out by a program that shares nothing with this one.

use crate::support::{INSIDE, Lab, OUTSIDE, Policy};

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |d: u8| char::from(d).to_digit(16).expect("a digit") as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

#[test]
fn a_client_that_asks_connects_and_pings() {
    let mut lab = Lab::new(Policy::overload(), 1, 100);
    for (what, from, frame, to, wanted) in GOLDEN {
        lab.run_frame(from, &octets(frame));
        assert_eq!(lab.last, [(to, octets(wanted))], "{what}");
    }
}

type Golden = (
    &'static str,
    spillway_dataplane::snapshot::PortId,
    &'static str,
    spillway_dataplane::snapshot::PortId,
    &'static str,
);

/// What it is, where it arrives, the frame, where it leaves, the frame.
const GOLDEN: [Golden; 5] = [
    (
        "a DNS query",
        INSIDE,
        "02ff0000000102000a0100020800 \
         450000391c4640004011d8650a010002cb007105 \
         9c4100350025a1e9abcd01000001000000000000076578616d706c6503636f6d \
         0000010001",
        OUTSIDE,
        "0201c63364fe02ff010000010800 \
         450000391c4640003f11b933c6336401cb007105 \
         9c410035002581b7abcd01000001000000000000076578616d706c6503636f6d \
         0000010001",
    ),
    (
        "a SYN with options",
        INSIDE,
        "02ff0000000102000a0100020800 \
         4500003c1c4640004006d86d0a010002cb007105 \
         c73801bb1122334400000000a002faf0f9ab0000020405b40402080a00000001 \
         0000000001030307",
        OUTSIDE,
        "0201c63364fe02ff010000010800 \
         4500003c1c4640003f06b93bc6336401cb007105 \
         c73801bb1122334400000000a002faf0d9790000020405b40402080a00000001 \
         0000000001030307",
    ),
    (
        "its SYN ACK",
        OUTSIDE,
        "02ff010000010201c63364fe0800 \
         4500003c000040003906db81cb007105c6336401 \
         01bbc7385566778811223345a012faf00c7a0000020405b40402080a00000001 \
         0000000001030307",
        INSIDE,
        "02000a01000202ff000000010800 \
         4500003c000040003806fcb3cb0071050a010002 \
         01bbc7385566778811223345a012faf02cac0000020405b40402080a00000001 \
         0000000001030307",
    ),
    (
        "a ping",
        INSIDE,
        "02ff0000000102000a0100020800 \
         4500003c1c4640004001d8720a010002cb007105 \
         080043500a0b00016162636465666768696a6b6c6d6e6f707172737475767761 \
         6263646566676869",
        OUTSIDE,
        "0201c63364fe02ff010000010800 \
         4500003c1c4640003f01b940c6336401cb007105 \
         080043500a0b00016162636465666768696a6b6c6d6e6f707172737475767761 \
         6263646566676869",
    ),
    (
        "time exceeded about the SYN",
        OUTSIDE,
        "02ff010000010201c63364fe0800 \
         450000381c460000fa01b828c0000221c6336401 \
         0b00e7a5000000004500003c1c4640000106f73bc6336401cb007105c73801bb \
         11223344",
        INSIDE,
        "02000a01000202ff000000010800 \
         450000381c460000f901d95ac00002210a010002 \
         0b00e7a5000000004500003c1c4640000106176e0a010002cb007105c73801bb \
         11223344",
    ),
];
