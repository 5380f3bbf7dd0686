//! A packet grows and shrinks as a vector of octets between two walls does.
mod common;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use spillway_dataplane::packet::{Packet, PacketPool};
use spillway_dpdk::HEADROOM;

#[derive(Debug, Clone)]
enum Op {
    Prepend(usize),
    Append(usize),
    Truncate(usize),
}

fn op() -> impl Strategy<Value = Op> {
    // Small steps reach the walls exactly, large ones overrun every width of a length.
    let len = || {
        prop_oneof![
            0usize..200,
            0usize..2500,
            Just(65_535),
            Just(65_536),
            Just(usize::MAX)
        ]
    };
    prop_oneof![
        len().prop_map(Op::Prepend),
        len().prop_map(Op::Append),
        len().prop_map(Op::Truncate)
    ]
}

#[test]
fn a_packet_is_octets_between_headroom_and_tailroom() {
    let eal = common::eal();
    let mut pool = common::pool(&eal, 63);
    let room = pool.frame_room();
    assert_eq!(room, 2048);

    let mut runner = TestRunner::new(Config::with_cases(300));
    let checked = runner.run(&proptest::collection::vec(op(), 0..60), |ops| {
        let mut packet = pool
            .clone()
            .alloc()
            .expect("each case gives its buffer back");
        let mut model: Vec<u8> = Vec::new();
        let mut headroom = HEADROOM;
        prop_assert_eq!((packet.headroom(), packet.tailroom()), (headroom, room));
        let mut mark = 0u8;
        for op in ops {
            mark = mark.wrapping_add(1);
            match op {
                Op::Prepend(len) => {
                    let fits = len <= headroom;
                    prop_assert_eq!(packet.prepend(len), fits);
                    if fits {
                        headroom -= len;
                        packet.data_mut()[..len].fill(mark);
                        model.splice(0..0, vec![mark; len]);
                    }
                }
                Op::Append(len) => {
                    let fits = len <= HEADROOM + room - headroom - model.len();
                    prop_assert_eq!(packet.append(len), fits);
                    if fits {
                        let end = model.len();
                        packet.data_mut()[end..].fill(mark);
                        model.resize(end + len, mark);
                    }
                }
                Op::Truncate(len) => {
                    packet.truncate(len);
                    model.truncate(len);
                }
            }
            prop_assert_eq!(packet.data(), &model[..]);
            prop_assert_eq!(packet.headroom(), headroom);
            prop_assert_eq!(
                packet.headroom() + model.len() + packet.tailroom(),
                HEADROOM + room
            );
            prop_assert!(!packet.ip_checksum_verified());
        }
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));

    // The pool has an end, and what is dropped is there again.
    let all: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len(), 63);
    assert_eq!(pool.available(), 0);
    drop(all);
    assert_eq!(pool.available(), 63);
}
