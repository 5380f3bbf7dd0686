//! Routes, time to live, MTU, ports that are down, and errors of our own.

use spillway_dataplane::fib::Route;
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{
    Frame, INSIDE, INSIDE2, Lab, OUTSIDE, PLAIN, Policy, each, error, net_of, ping, tcp, udp,
};

#[test]
fn the_longest_prefix_wins() {
    each(Policy::overload, |lab| {
        lab.routes.extend([
            (
                net_of("203.0.0.0/8"),
                Route::Via {
                    port: PLAIN,
                    via: [192, 0, 2, 7].into(),
                },
            ),
            (net_of("203.0.113.0/24"), Route::Unreachable),
            (
                net_of("203.0.113.5/32"),
                Route::Via {
                    port: OUTSIDE,
                    via: [198, 51, 100, 254].into(),
                },
            ),
        ]);
        lab.publish();
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5", "203.0.113.5:9"),
            "1 udp 198.51.100.1:5 > 203.0.113.5:9",
        );
        let got = lab.run(INSIDE, udp("10.1.0.2:5", "203.0.113.6:9"));
        assert_eq!(
            got,
            [
                "0 icmp 3/0 10.1.0.1 > 10.1.0.2 [udp 10.1.0.2:5 > 203.0.113.6:9]",
                "drop no_route"
            ]
        );
        assert_eq!(lab.entries(), 1);
    });
}

#[test]
fn without_a_route() {
    each(Policy::overload, |lab| {
        lab.routes.retain(|(prefix, _)| prefix.prefix_len() != 0);
        lab.publish();
        for (port, from, ours) in [
            (INSIDE, "10.1.0.2:5", "10.1.0.1"),
            (PLAIN, "192.0.2.2:5", "192.0.2.1"),
            (OUTSIDE, "198.51.100.9:5", "198.51.100.1"),
        ] {
            let got = lab.run(port, udp(from, "8.8.8.8:9"));
            let host = from.split(':').next().expect("an address");
            assert_eq!(
                got,
                [
                    format!(
                        "{} icmp 3/0 {ours} > {host} [udp {from} > 8.8.8.8:9]",
                        port.0
                    ),
                    "drop no_route".into()
                ]
            );
        }
        assert_eq!(lab.entries(), 0);
        assert_eq!(lab.counted(Counter::IcmpUnreachableSent), 3);
    });
}

#[test]
fn time_to_live_ends_here() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        for ttl in [0, 1] {
            let got = lab.run(
                OUTSIDE,
                udp("203.0.113.5:9", "198.51.100.1:5000")
                    .ttl(ttl)
                    .size(1000),
            );
            assert_eq!(
                got,
                [
                    "1 icmp 11/0 198.51.100.1 > 203.0.113.5 [udp 203.0.113.5:9 > 198.51.100.1:5000 cut]",
                    "drop ttl_exceeded"
                ]
            );
            assert_eq!(lab.last[0].1.len(), 14 + 576, "RFC 1812 section 4.3.2.3");
            assert_eq!(lab.last[0].1[14 + 8], 64, "time to live of the error");
        }
        assert_eq!(lab.counted(Counter::IcmpTimeExceededSent), 2);
        // To us it may come with whatever is left.
        lab.expect(
            INSIDE,
            ping("10.1.0.2", "10.1.0.1", 5).ttl(1),
            "punt 0 ping 10.1.0.2 > 10.1.0.1 5",
        );
    });
}

#[test]
fn no_error_about_an_error_nor_about_what_goes_to_many() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            OUTSIDE,
            error("203.0.113.5", "198.51.100.1", (3, 3), 0, &about).ttl(1),
            "drop ttl_exceeded",
        );
        let late = udp("203.0.113.5:9", "10.1.0.2:5000")
            .size(2000)
            .ttl(1)
            .fragments(800);
        assert_eq!(lab.run(OUTSIDE, late[0].clone()).len(), 2);
        lab.expect(OUTSIDE, late[1].clone(), "drop ttl_exceeded");
        lab.expect(
            OUTSIDE,
            udp("10.1.0.255:9", "10.1.0.2:5000").ttl(1),
            "drop ttl_exceeded",
        );
    });
}

#[test]
fn larger_than_the_next_link_with_dont_fragment() {
    each(Policy::overload, |lab| {
        lab.snapshot.interfaces[1].mtu = 1400;
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5000", "203.0.113.5:9")
                .size(1372)
                .dont_fragment(),
            "1 udp 198.51.100.1:5000 > 203.0.113.5:9",
        );
        let got = lab.run(
            INSIDE,
            udp("10.1.0.2:5000", "203.0.113.5:9")
                .size(1373)
                .dont_fragment(),
        );
        assert_eq!(
            got,
            [
                "0 icmp 3/4 mtu 1400 10.1.0.1 > 10.1.0.2 [udp 10.1.0.2:5000 > 203.0.113.5:9 cut]",
                "drop mtu_exceeded"
            ]
        );
        assert_eq!(lab.counted(Counter::IcmpFragmentationNeededSent), 1);
        // A new flow whose first packet is too large gets the same answer.
        let got = lab.run(
            INSIDE,
            tcp("10.1.0.2:5000", "203.0.113.5:9", "A")
                .size(1400)
                .dont_fragment(),
        );
        assert_eq!(
            got,
            [
                "0 icmp 3/4 mtu 1400 10.1.0.1 > 10.1.0.2 [tcp 10.1.0.2:5000 > 203.0.113.5:9 cut]",
                "drop mtu_exceeded"
            ]
        );
    });
}

#[test]
fn larger_than_the_next_link_is_cut() {
    each(Policy::overload, |lab| {
        lab.snapshot.interfaces[1].mtu = 600;
        let packet = udp("10.1.0.2:5000", "203.0.113.5:9").size(1400);
        let got = lab.run(INSIDE, packet.clone());
        assert_eq!(
            got,
            [
                "1 frag 17 0-576+ 198.51.100.1:5000 > 203.0.113.5:9",
                "1 frag 17 576-1152+ 198.51.100.1:0 > 203.0.113.5:0",
                "1 frag 17 1152-1408 198.51.100.1:0 > 203.0.113.5:0",
            ]
        );
        let data: Vec<u8> = lab
            .last
            .iter()
            .flat_map(|(_, frame)| frame[34..].to_vec())
            .collect();
        assert_eq!(data[8..], packet.ip()[28..]);
        assert_eq!(lab.counted(Counter::Fragmented), 1);
    });
}

#[test]
fn without_buffers_nothing_of_a_cut_packet_leaves() {
    let mut lab = Lab::new(Policy::overload(), 1, 100);
    lab.snapshot.interfaces[1].mtu = 600;
    lab.effects.pool = Some(2);
    let got = lab.run(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9").size(1400));
    assert_eq!(got, ["drop buffer_exhausted"]);
}

#[test]
fn an_error_without_room_is_counted() {
    let mut lab = Lab::new(Policy::overload(), 1, 100);
    let frame = lab.frame(INSIDE, &udp("10.1.0.2:5000", "203.0.113.5:9").ttl(1).ip());
    let got = lab.burst(&[(INSIDE, Frame::tight(&frame))]);
    assert_eq!(got, ["drop ttl_exceeded", "drop buffer_exhausted"]);
}

#[test]
fn errors_of_our_own_are_limited() {
    let mut lab = Lab::new(Policy::overload(), 1, 100);
    let frame = lab.frame(INSIDE, &udp("10.1.0.2:5000", "203.0.113.5:9").ttl(1).ip());
    let flood = |lab: &mut Lab| {
        let before = lab.counted(Counter::IcmpTimeExceededSent);
        for _ in 0..1000 {
            lab.run_frame(INSIDE, &frame);
        }
        lab.counted(Counter::IcmpTimeExceededSent) - before
    };
    assert_eq!(flood(&mut lab), 200);
    lab.advance(100);
    assert_eq!(flood(&mut lab), 100);
    assert_eq!(lab.counted(Counter::IcmpRateLimited), 1700);
    assert_eq!(lab.dropped(DropReason::TtlExceeded), 2000);
}

#[test]
fn ports_that_are_down() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        lab.snapshot.interfaces[1].up = false;
        lab.publish();
        for from in ["10.1.0.2:5000", "10.1.0.2:5001"] {
            let got = lab.run(INSIDE, udp(from, "203.0.113.5:9"));
            assert_eq!(
                got,
                [
                    format!("0 icmp 3/0 10.1.0.1 > 10.1.0.2 [udp {from} > 203.0.113.5:9]"),
                    "drop port_down".into()
                ]
            );
        }
        lab.expect(
            OUTSIDE,
            udp("203.0.113.5:9", "198.51.100.1:5000"),
            "drop port_down",
        );
        lab.snapshot.interfaces[1].up = true;
        lab.publish();
        lab.expect(
            OUTSIDE,
            udp("203.0.113.5:9", "198.51.100.1:5000"),
            "0 udp 203.0.113.5:9 > 10.1.0.2:5000",
        );
    });
}

#[test]
fn back_out_of_the_port_it_came_from() {
    each(Policy::overload, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5", "10.9.0.7:6"),
            "0 udp 10.1.0.2:5 > 10.9.0.7:6",
        );
        lab.expect(
            OUTSIDE,
            udp("198.51.100.7:5", "203.0.113.6:6"),
            "1 udp 198.51.100.7:5 > 203.0.113.6:6",
        );
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn a_new_route_counts_for_flows_that_exist() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        let before = lab.last[0].1[..6].to_vec();
        lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        // The neighbour moves to another card; its place in the table changes too.
        let hop = lab
            .neighbours
            .iter()
            .position(|(hop, _)| hop.address.octets() == [198, 51, 100, 254]);
        let moved = lab.neighbours.remove(hop.expect("the router"));
        lab.publish();
        let got = lab.run(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        assert_eq!(got, ["resolve 1 198.51.100.254"]);
        lab.neighbours.insert(0, moved);
        lab.publish();
        assert_eq!(
            lab.run(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9")).len(),
            2,
            "and the one that waited"
        );
        assert_eq!(lab.last[1].1[..6], before);
    });
}

#[test]
fn a_flow_whose_way_out_becomes_an_inside_one() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"));
        lab.routes.push((
            net_of("203.0.113.0/24"),
            Route::Via {
                port: INSIDE2,
                via: [10, 2, 0, 9].into(),
            },
        ));
        lab.publish();
        let frame = lab.frame(INSIDE, &udp("10.1.0.2:5000", "203.0.113.5:9").ip());
        for _ in 0..2 {
            lab.effects.sent.clear();
            let before = lab.counted(Counter::Routed);
            lab.feed(0, INSIDE, Frame::new(&frame));
            let (port, sent) = lab.effects.sent.pop().expect("routed");
            assert_eq!(port, INSIDE2);
            assert_eq!(
                crate::support::describe(spillway_dataplane::packet::Packet::data(&sent)),
                "udp 10.1.0.2:5000 > 203.0.113.5:9"
            );
            assert_eq!(lab.counted(Counter::Routed), before + 1);
        }
        lab.routes.pop();
        lab.publish();
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5000", "203.0.113.5:9"),
            "1 udp 198.51.100.1:5000 > 203.0.113.5:9",
        );
    });
}
