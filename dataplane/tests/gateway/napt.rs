//! Port translation of TCP, UDP and ICMP echo, there and back, and the choice of ports.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use spillway_dataplane::acl::{AccessList, Action, Entry, Ports, Wildcard};
use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::route_map::Selector;
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{
    INSIDE, INSIDE2, Lab, OUTSIDE, PLAIN, Policy, each, each_with, permit, permit_all, ping, pong,
    raw, tcp, udp,
};

const OUT: &str = "203.0.113.5:9";

#[test]
fn udp_goes_out_and_comes_back() {
    each(Policy::overload, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5000", OUT),
            "1 udp 198.51.100.1:5000 > 203.0.113.5:9",
        );
        lab.expect(
            OUTSIDE,
            udp(OUT, "198.51.100.1:5000"),
            "0 udp 203.0.113.5:9 > 10.1.0.2:5000",
        );
        assert_eq!(lab.entries(), 1);
        assert_eq!(
            (lab.counted(Counter::Hits), lab.counted(Counter::Misses)),
            (1, 1)
        );
    });
}

#[test]
fn tcp_goes_out_and_comes_back() {
    each(Policy::overload, |lab| {
        let (client, global, server) = ("10.9.7.7:40000", "198.51.100.1:40000", "203.0.113.5:80");
        lab.expect(
            INSIDE,
            tcp(client, server, "S"),
            "1 tcp 198.51.100.1:40000 > 203.0.113.5:80 S",
        );
        lab.expect(
            OUTSIDE,
            tcp(server, global, "SA"),
            "0 tcp 203.0.113.5:80 > 10.9.7.7:40000 SA",
        );
        lab.expect(
            INSIDE,
            tcp(client, server, "A"),
            "1 tcp 198.51.100.1:40000 > 203.0.113.5:80 A",
        );
        assert_eq!(lab.entries(), 1);
    });
}

#[test]
fn echo_goes_out_and_comes_back() {
    each(Policy::overload, |lab| {
        lab.expect(
            INSIDE,
            ping("10.1.0.2", "203.0.113.5", 77),
            "1 ping 198.51.100.1 > 203.0.113.5 77",
        );
        lab.expect(
            OUTSIDE,
            pong("203.0.113.5", "198.51.100.1", 77),
            "0 pong 203.0.113.5 > 10.1.0.2 77",
        );
        assert_eq!(lab.entries(), 1);
    });
}

#[test]
fn payload_options_and_time_to_live_are_right() {
    each(Policy::overload, |lab| {
        let options = [7, 7, 4, 0, 0, 0, 0, 0]; // record route without room
        let packet = udp("10.1.0.2:5000", OUT).size(777).options(&options).ttl(9);
        let seen = lab.pass(INSIDE, packet.clone());
        assert_eq!(seen.ip.time_to_live, 8);
        assert_eq!(seen.ip.options.as_slice(), options);
        assert_eq!(seen.payload, packet.ip()[36..]);
        let back = tcp(OUT, "198.51.100.1:5000", "A");
        assert_eq!(
            lab.run(OUTSIDE, back),
            ["punt 1 tcp 203.0.113.5:9 > 198.51.100.1:5000 A"],
            "another protocol"
        );
    });
}

#[test]
fn the_same_port_to_the_same_destination_gets_another_one_of_its_range() {
    each(Policy::overload, |lab| {
        for (port, low, high) in [(5000, 1024, 65535), (600, 512, 1023), (80, 1, 511)] {
            let mut seen = HashSet::new();
            for host in 2..20 {
                let from = format!("10.1.0.{host}:{port}");
                let sent = lab.pass(INSIDE, udp(&from, OUT));
                assert!(
                    (low..=high).contains(&sent.sport),
                    "{port} became {}",
                    sent.sport
                );
                assert!(seen.insert(sent.sport), "{} twice", sent.sport);
                let back = lab.pass(OUTSIDE, udp(OUT, &format!("198.51.100.1:{}", sent.sport)));
                assert_eq!(back.line, format!("udp 203.0.113.5:9 > {from}"));
            }
            assert!(seen.contains(&port), "the first one keeps its port");
        }
    });
}

#[test]
fn a_port_is_shared_by_flows_to_different_destinations() {
    // One worker: others may own the block of the port.
    let mut lab = Lab::new(Policy::overload(), 1, 1 << 12);
    for (host, to) in [
        (2, "203.0.113.5:9"),
        (3, "203.0.113.6:9"),
        (4, "203.0.113.5:10"),
    ] {
        let from = format!("10.1.0.{host}:5000");
        lab.expect(
            INSIDE,
            udp(&from, to),
            &format!("1 udp 198.51.100.1:5000 > {to}"),
        );
        lab.expect(
            OUTSIDE,
            udp(to, "198.51.100.1:5000"),
            &format!("0 udp {to} > {from}"),
        );
    }
    lab.assert_nothing_leaks();
}

#[test]
fn protocols_have_ports_of_their_own() {
    each(Policy::overload, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5000", OUT),
            "1 udp 198.51.100.1:5000 > 203.0.113.5:9",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.2:5000", OUT, "S"),
            "1 tcp 198.51.100.1:5000 > 203.0.113.5:9 S",
        );
        lab.expect(
            INSIDE,
            ping("10.1.0.2", "203.0.113.5", 5000),
            "1 ping 198.51.100.1 > 203.0.113.5 5000",
        );
        assert_eq!(lab.entries(), 3);
        assert_eq!(lab.counted(Counter::CreatedTcp), 1);
        assert_eq!(lab.counted(Counter::CreatedUdp), 1);
        assert_eq!(lab.counted(Counter::CreatedIcmp), 1);
    });
}

#[test]
fn what_no_rule_permits_is_routed_as_it_is() {
    each(
        || Policy::default().rule_overload(permit("10.1.0.0", "0.0.0.255"), &["198.51.100.1"]),
        |lab| {
            lab.expect(
                INSIDE2,
                udp("10.2.0.9:5000", OUT),
                "1 udp 10.2.0.9:5000 > 203.0.113.5:9",
            );
            lab.expect(
                OUTSIDE,
                udp(OUT, "10.2.0.9:5000"),
                "3 udp 203.0.113.5:9 > 10.2.0.9:5000",
            );
            lab.expect(
                INSIDE,
                udp("10.1.0.2:5", "10.2.0.9:6"),
                "3 udp 10.1.0.2:5 > 10.2.0.9:6",
            );
            lab.expect(
                INSIDE,
                udp("10.1.0.2:5", "192.0.2.9:6"),
                "2 udp 10.1.0.2:5 > 192.0.2.9:6",
            );
            lab.expect(
                PLAIN,
                udp("192.0.2.9:6", "10.1.0.2:5"),
                "0 udp 192.0.2.9:6 > 10.1.0.2:5",
            );
            lab.expect(
                PLAIN,
                udp("192.0.2.9:6", OUT),
                "1 udp 192.0.2.9:6 > 203.0.113.5:9",
            );
            assert_eq!(lab.entries(), 0);
            assert_eq!(lab.counted(Counter::Routed), 6);
        },
    );
}

#[test]
fn an_extended_list_looks_at_ports_and_destinations() {
    let list = || {
        let line = |action, protocol, port| Entry {
            protocol: Some(protocol),
            destination_ports: Ports {
                first: port,
                last: port,
                negated: false,
            },
            ..Entry::standard(10, action, Wildcard::ANY)
        };
        let lines = vec![
            line(Action::Deny, 6, 25),
            line(Action::Permit, 6, 80),
            line(Action::Deny, 6, 80),
        ];
        std::sync::Arc::new(AccessList::new(lines))
    };
    each(
        || Policy::default().rule_overload(list(), &["198.51.100.1"]),
        |lab| {
            lab.expect(
                INSIDE,
                tcp("10.1.0.2:5", "203.0.113.5:80", "S"),
                "1 tcp 198.51.100.1:5 > 203.0.113.5:80 S",
            );
            lab.expect(
                INSIDE,
                tcp("10.1.0.2:6", "203.0.113.5:25", "S"),
                "1 tcp 10.1.0.2:6 > 203.0.113.5:25 S",
            );
            lab.expect(
                INSIDE,
                udp("10.1.0.2:7", "203.0.113.5:80"),
                "1 udp 10.1.0.2:7 > 203.0.113.5:80",
            );
            let Selector::List(list) = &lab.policy.rules[0].selector else {
                panic!("a list");
            };
            assert_eq!([0, 1, 2].map(|line| list.hits(line)), [1, 1, 0]);
        },
    );
}

#[test]
fn nothing_from_outside_makes_an_entry() {
    each(Policy::overload, |lab| {
        lab.expect(
            OUTSIDE,
            udp(OUT, "198.51.100.1:5000"),
            "punt 1 udp 203.0.113.5:9 > 198.51.100.1:5000",
        );
        for flags in ["S", "A", "SA", "FA", "RA"] {
            let wanted = format!("punt 1 tcp 203.0.113.5:9 > 198.51.100.1:5000 {flags}");
            let got = lab.run(OUTSIDE, tcp(OUT, "198.51.100.1:5000", flags));
            assert_eq!(got, [wanted]);
        }
        assert_eq!(lab.entries(), 0);
    });
    let pool = || Policy::default().rule_overload(permit_all(), &["203.0.113.200"]);
    each(pool, |lab| {
        lab.expect(
            OUTSIDE,
            udp("192.0.2.77:9", "203.0.113.200:5000"),
            "drop no_translation",
        );
        lab.expect(
            OUTSIDE,
            tcp("192.0.2.77:9", "203.0.113.200:5000", "S"),
            "drop no_translation",
        );
        lab.expect(
            OUTSIDE,
            ping("192.0.2.77", "203.0.113.200", 5),
            "drop no_translation",
        );
        lab.expect(
            OUTSIDE,
            raw("192.0.2.77", "203.0.113.200", 47),
            "drop no_translation",
        );
        assert_eq!(lab.entries(), 0);
        assert_eq!(lab.counted(Counter::Misses), 0, "nothing was tried");
    });
}

#[test]
fn only_the_peer_of_a_flow_comes_in() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5000", OUT));
        for stranger in ["203.0.113.5:10", "203.0.113.6:9"] {
            let got = lab.run(OUTSIDE, udp(stranger, "198.51.100.1:5000"));
            assert_eq!(got, [format!("punt 1 udp {stranger} > 198.51.100.1:5000")]);
        }
    });
}

#[test]
fn protocols_without_ports_are_refused_under_overload() {
    each(Policy::overload, |lab| {
        for protocol in [47, 132, 0] {
            lab.expect(
                INSIDE,
                raw("10.1.0.2", "203.0.113.5", protocol),
                "drop protocol_not_translatable",
            );
        }
        lab.expect(
            INSIDE,
            pong("10.1.0.2", "203.0.113.5", 5),
            "drop icmp_not_translatable",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.2:5000", OUT, "R"),
            "drop no_translation",
        );
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn the_next_address_of_a_pool_serves_when_one_is_full() {
    let policy =
        || Policy::default().rule_overload(permit_all(), &["203.0.113.200", "203.0.113.201"]);
    let mut lab = Lab::new(policy(), 1, 1 << 12);
    let mut used = HashSet::new();
    // 511 low ports each: the second address serves once the first has none left.
    for n in 0..2 * 511 {
        let from = format!("10.1.{}.{}:80", n / 200, 2 + n % 200);
        let seen = lab.pass(INSIDE2, udp(&from, OUT));
        assert!(seen.sport < 512);
        assert!(
            used.insert((seen.src(), seen.sport)),
            "twice: {}",
            seen.line
        );
    }
    lab.expect(INSIDE2, udp("10.9.9.9:80", OUT), "drop ports_exhausted");
    lab.assert_nothing_leaks();
}

#[test]
fn a_client_keeps_its_address() {
    let addresses = [
        "203.0.113.200",
        "203.0.113.201",
        "203.0.113.202",
        "203.0.113.203",
    ];
    each(
        || Policy::default().rule_overload(permit_all(), &addresses),
        |lab| {
            let mut all = HashSet::new();
            for host in 2..40 {
                let mine: HashSet<_> = (0..20)
                    .map(|n| {
                        lab.pass(INSIDE, udp(&format!("10.1.0.{host}:{}", 4000 + n), OUT))
                            .src()
                    })
                    .collect();
                assert_eq!(mine.len(), 1, "paired (RFC 4787 REQ-2)");
                all.extend(mine);
            }
            assert_eq!(all.len(), addresses.len(), "all addresses are used");
        },
    );
}

#[test]
fn one_address_serves_64000_flows_to_one_destination() {
    let mut lab = Lab::new(Policy::overload(), 1, 1 << 17);
    let mut used = HashSet::new();
    // Clients of few ports: almost none can keep its own.
    for n in 0..64_000u32 {
        let from = format!(
            "10.1.{}.{}:{}",
            n / 250 % 250,
            2 + n % 250,
            1024 + n / 62_500
        );
        let seen = lab.pass(INSIDE2, udp(&from, OUT));
        assert!(used.insert(seen.sport), "port {} twice", seen.sport);
    }
    for n in 0..512u32 {
        let from = format!("10.2.{}.{}:7777", n / 250, 2 + n % 250);
        assert!(used.insert(lab.pass(INSIDE2, udp(&from, OUT)).sport));
    }
    lab.expect(INSIDE2, udp("10.3.0.2:7777", OUT), "drop ports_exhausted");
    // Another destination shares all of them.
    lab.pass(INSIDE2, udp("10.3.0.2:7777", "203.0.113.6:9"));
    assert_eq!(lab.entries(), 64_513);
    lab.assert_nothing_leaks();
}

/// To look for a port that a destination leaves is dear where there is none: it is not done for each packet.
#[test]
fn a_port_that_a_destination_gives_back_serves_it_a_moment_later() {
    let (out, other) = ("203.0.113.5:9", "203.0.113.6:9");
    let near = "203.0.113.5:10";
    let mut lab = Lab::new(Policy::overload(), 1, 1 << 12);
    for port in 1..=510 {
        lab.pass(INSIDE, udp(&format!("10.1.0.2:{port}"), near));
    }
    for to in [other, out] {
        for port in 1..=511 {
            lab.pass(INSIDE, udp(&format!("10.1.0.2:{port}"), to));
        }
    }
    lab.expect(INSIDE, udp("10.1.0.3:5", out), "drop ports_exhausted");
    // Another port of the same host is another destination, whose last free port is looked for.
    assert_eq!(lab.pass(INSIDE, udp("10.1.0.3:5", near)).sport, 511);
    // The flow to the other destination keeps the port in use.
    let filter = SessionFilter {
        inside_global: Some((Ipv4Addr::new(198, 51, 100, 1), Some(77))),
        outside_global: Some((Ipv4Addr::new(203, 0, 113, 5), Some(9))),
        ..SessionFilter::default()
    };
    assert_eq!(lab.clear(filter), 1);
    let mut refused = 0;
    while lab.run(INSIDE, udp("10.1.0.3:5", out)) == ["drop ports_exhausted"] {
        lab.now.0 += 1;
        refused += 1;
    }
    assert_eq!(refused, 20, "milliseconds");
    assert_eq!(lab.pass(INSIDE, udp("10.1.0.3:5", out)).sport, 77);
    // Others have never been refused.
    lab.pass(INSIDE, udp("10.1.0.3:5", "203.0.113.7:9"));
    assert_eq!(lab.dropped(DropReason::PortsExhausted), 21);
    lab.assert_nothing_leaks();
}

#[test]
fn a_full_table_refuses_and_goes_on() {
    each_with(100, Policy::overload, |lab| {
        let tries = 100 * lab.workers.len() + 200;
        for n in 0..tries {
            lab.run(
                INSIDE,
                udp(&format!("10.1.0.{}:{}", 2 + n % 50, 2000 + n), OUT),
            );
        }
        assert_eq!(lab.entries(), 100 * lab.workers.len());
        assert_eq!(lab.dropped(DropReason::SessionTableFull), 200);
        lab.advance(310_000);
        assert_eq!(lab.entries(), 0);
        lab.pass(INSIDE, udp("10.1.0.2:2000", OUT));
    });
}

#[test]
fn max_entries_counts_all_workers() {
    each(
        || Policy::overload().max_entries(30),
        |lab| {
            for n in 0..100 {
                lab.run(
                    INSIDE,
                    udp(&format!("10.1.0.{}:{}", 2 + n % 50, 2000 + n), OUT),
                );
            }
            assert_eq!(lab.entries(), 30);
            assert_eq!(lab.dropped(DropReason::MaxEntries), 70);
            assert_eq!(lab.occupancy.peak().0, 30);
        },
    );
}

#[test]
fn udp_without_checksum_stays_so() {
    each(Policy::overload, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5000", OUT).without_checksum(),
            "1 udp 198.51.100.1:5000 > 203.0.113.5:9 unchecked",
        );
    });
}

#[test]
fn ethernet_padding_stays_behind() {
    each(Policy::overload, |lab| {
        let mut frame = lab.frame(INSIDE, &udp("10.1.0.2:5000", OUT).data(b"").ip());
        frame.resize(60, 0xaa);
        assert_eq!(
            lab.run_frame(INSIDE, &frame),
            ["1 udp 198.51.100.1:5000 > 203.0.113.5:9"]
        );
        assert_eq!(lab.last[0].1.len(), 14 + 28);
    });
}

#[test]
fn a_burst_of_new_flows_in_turn_makes_one_entry_each() {
    each(Policy::overload, |lab| {
        let from = ["10.1.0.2:5000", "10.1.0.3:6000", "10.1.0.4:7000"];
        let burst: Vec<_> = (0..32)
            .map(|at| lab.frame(INSIDE, &udp(from[at % 3], OUT).ip()))
            .map(|frame| (INSIDE, crate::support::Frame::new(&frame)))
            .collect();
        let mut wanted: Vec<_> = (0..32)
            .map(|at| {
                format!(
                    "1 udp 198.51.100.1:{} > 203.0.113.5:9",
                    5000 + at % 3 * 1000
                )
            })
            .collect();
        let mut seen = lab.burst(&burst); // those of several workers come out in any order
        seen.sort();
        wanted.sort();
        assert_eq!(seen, wanted);
        assert_eq!(lab.entries(), 3);
    });
}

#[test]
fn a_burst_of_one_new_flow_makes_one_entry() {
    each(Policy::overload, |lab| {
        let frame = lab.frame(INSIDE, &udp("10.1.0.2:5000", OUT).ip());
        let burst: Vec<_> = (0..32)
            .map(|_| (INSIDE, crate::support::Frame::new(&frame)))
            .collect();
        assert_eq!(
            lab.burst(&burst),
            vec!["1 udp 198.51.100.1:5000 > 203.0.113.5:9"; 32]
        );
        assert_eq!(lab.entries(), 1);
    });
}
