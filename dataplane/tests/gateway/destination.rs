//! TCP connections to a virtual address, shared among inside hosts (`ip nat inside destination`).

use std::collections::BTreeMap;

use spillway_dataplane::command::{Because, FlowQuery, SessionFilter};
use spillway_dataplane::snapshot::VrfId;
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{INSIDE, Lab, OUTSIDE, Policy, each, error, permit, ping, pong, tcp, udp};

const SERVERS: [&str; 3] = ["10.1.0.21", "10.1.0.22", "10.1.0.23"];

/// 203.0.113.100 is three hosts inside.
fn farm() -> Policy {
    let virtual_address = permit("203.0.113.100", "0.0.0.0");
    Policy::overload().share(virtual_address, &[(SERVERS[0], SERVERS[2])])
}

/// Begins a connection to port 80 and says who got it.
fn connect(lab: &mut Lab, client: &str) -> String {
    let seen = lab.pass(OUTSIDE, tcp(client, "203.0.113.100:80", "S"));
    assert_eq!(
        (seen.dport, format!("{}:{}", seen.src(), seen.sport)),
        (80, client.to_owned())
    );
    seen.dst().to_string()
}

#[test]
fn each_host_has_its_turn_and_keeps_its_connections() {
    each(farm, |lab| {
        let mut given = BTreeMap::new();
        let clients: Vec<_> = (1..=30).map(|n| format!("192.0.3.{n}:4000")).collect();
        for client in &clients {
            given.insert(client, connect(lab, client));
        }
        for server in SERVERS {
            assert_eq!(
                given.values().filter(|s| *s == server).count(),
                10,
                "{given:?}"
            );
        }
        for (client, server) in &given {
            lab.expect(
                INSIDE,
                tcp(&format!("{server}:80"), client, "SA"),
                &format!("1 tcp 203.0.113.100:80 > {client} SA"),
            );
            for _ in 0..2 {
                lab.expect(
                    OUTSIDE,
                    tcp(client, "203.0.113.100:80", "A"),
                    &format!("0 tcp {client} > {server}:80 A"),
                );
                lab.expect(
                    INSIDE,
                    tcp(&format!("{server}:80"), client, "PA"),
                    &format!("1 tcp 203.0.113.100:80 > {client} PA"),
                );
            }
        }
        assert_eq!(lab.entries(), 30);
        assert_eq!(lab.counted(Counter::CreatedTcp), 30);
        let all = lab.sessions(SessionFilter::default());
        assert!(all.iter().all(|view| view.is_shared && view.rule == 201));
    });
}

#[test]
fn what_begins_no_connection_is_dropped_and_other_protocols_pass_by() {
    each(farm, |lab| {
        for flags in ["A", "SA", "R", "FA"] {
            lab.expect(
                OUTSIDE,
                tcp("192.0.3.1:4000", "203.0.113.100:80", flags),
                "drop no_connection",
            );
        }
        // As the way to that address leads: out again.
        lab.expect(
            OUTSIDE,
            udp("192.0.3.1:4000", "203.0.113.100:80"),
            "1 udp 192.0.3.1:4000 > 203.0.113.100:80",
        );
        lab.expect(
            OUTSIDE,
            ping("192.0.3.1", "203.0.113.100", 1),
            "1 ping 192.0.3.1 > 203.0.113.100 1",
        );
        lab.expect(
            OUTSIDE,
            tcp("192.0.3.1:4000", "203.0.113.101:80", "S"),
            "1 tcp 192.0.3.1:4000 > 203.0.113.101:80 S",
        );
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn the_hosts_own_connections_are_like_any() {
    each(farm, |lab| {
        for n in 1..20 {
            connect(lab, &format!("192.0.3.{n}:4000"));
        }
        for n in 1..20 {
            for server in SERVERS {
                let from = format!("{server}:5000");
                let to = format!("192.0.3.{n}:443");
                let seen = lab.pass(INSIDE, tcp(&from, &to, "S"));
                assert_eq!(seen.src().octets(), [198, 51, 100, 1]);
                let ours = format!("198.51.100.1:{}", seen.sport);
                lab.expect(
                    OUTSIDE,
                    tcp(&to, &ours, "SA"),
                    &format!("0 tcp {to} > {from} SA"),
                );
                lab.expect(
                    INSIDE,
                    tcp(&from, &to, "A"),
                    &format!("1 tcp {ours} > {to} A"),
                );
                // Between inside networks, and other protocols.
                lab.expect(
                    INSIDE,
                    tcp(&from, "10.2.0.5:80", "S"),
                    &format!("3 tcp {from} > 10.2.0.5:80 S"),
                );
            }
        }
        let seen = lab.pass(INSIDE, ping(SERVERS[0], "192.0.3.1", 7));
        lab.expect(
            OUTSIDE,
            pong("192.0.3.1", "198.51.100.1", seen.sport),
            &format!("0 pong 192.0.3.1 > {} 7", SERVERS[0]),
        );
        assert_eq!(lab.dropped(DropReason::Loop), 0);
    });
}

#[test]
fn errors_find_the_connection_from_both_sides() {
    each(farm, |lab| {
        for n in 1..8 {
            let client = format!("192.0.3.{n}:4000");
            let server = connect(lab, &client);
            let about = lab.last[0].1[14..].to_vec();
            let wanted = format!(
                "1 icmp 3/3 203.0.113.100 > 192.0.3.{n} [tcp {client} > 203.0.113.100:80 S]"
            );
            lab.expect(
                INSIDE,
                error(&server, &format!("192.0.3.{n}"), (3, 3), 0, &about),
                &wanted,
            );
            lab.pass(INSIDE, tcp(&format!("{server}:80"), &client, "SA"));
            let about = lab.last[0].1[14..].to_vec();
            let wanted = format!(
                "0 icmp 3/4 mtu 1400 192.0.3.200 > {server} [tcp {server}:80 > {client} SA]"
            );
            lab.expect(
                OUTSIDE,
                error("192.0.3.200", "203.0.113.100", (3, 4), 1400, &about),
                &wanted,
            );
        }
        // About a host's own flow.
        let seen = lab.pass(INSIDE, tcp("10.1.0.22:5000", "192.0.3.3:443", "S"));
        lab.pass(
            OUTSIDE,
            tcp(
                "192.0.3.3:443",
                &format!("198.51.100.1:{}", seen.sport),
                "SA",
            ),
        );
        let about = lab.last[0].1[14..].to_vec();
        let wanted = format!(
            "1 icmp 3/3 198.51.100.1 > 192.0.3.3 [tcp 192.0.3.3:443 > 198.51.100.1:{} SA]",
            seen.sport
        );
        lab.expect(
            INSIDE,
            error("10.1.0.22", "192.0.3.3", (3, 3), 0, &about),
            &wanted,
        );
    });
}

#[test]
fn timers_are_those_of_tcp_and_a_new_connection_takes_the_same_ports() {
    each(farm, |lab| {
        let client = "192.0.3.1:4000";
        connect(lab, client);
        lab.advance(61_000);
        assert_eq!(lab.entries(), 0, "nobody answered");
        let server = connect(lab, client);
        let server = format!("{server}:80");
        for (port, from, to, flags) in [
            (INSIDE, server.as_str(), client, "SA"),
            (OUTSIDE, client, "203.0.113.100:80", "A"),
            (OUTSIDE, client, "203.0.113.100:80", "FA"),
            (INSIDE, server.as_str(), client, "FA"),
        ] {
            lab.pass(port, tcp(from, to, flags));
        }
        lab.advance(30_000);
        // The same sockets again, before the old entry is gone: it lives on.
        lab.pass(OUTSIDE, tcp(client, "203.0.113.100:80", "S"));
        lab.pass(INSIDE, tcp(&server, client, "SA"));
        lab.pass(OUTSIDE, tcp(client, "203.0.113.100:80", "A"));
        lab.advance(3_600_000);
        assert_eq!(lab.entries(), 1);
        lab.expect(
            INSIDE,
            tcp(&server, client, "PA"),
            &format!("1 tcp 203.0.113.100:80 > {client} PA"),
        );
    });
}

#[test]
fn two_virtual_addresses_do_not_mix_up_one_clients_connections() {
    let policy = || {
        Policy::overload().share(
            permit("203.0.113.100", "0.0.0.1"),
            &[(SERVERS[0], SERVERS[1])],
        )
    };
    each(policy, |lab| {
        let client = "192.0.3.1:4000";
        let first = lab
            .pass(OUTSIDE, tcp(client, "203.0.113.100:80", "S"))
            .dst();
        lab.pass(OUTSIDE, tcp("192.0.3.2:1", "203.0.113.100:80", "S"));
        // It would be the first one's turn, but that has a connection of the same socket.
        let second = lab
            .pass(OUTSIDE, tcp(client, "203.0.113.101:80", "S"))
            .dst();
        assert_ne!(first, second);
        lab.expect(
            INSIDE,
            tcp(&format!("{second}:80"), client, "SA"),
            &format!("1 tcp 203.0.113.101:80 > {client} SA"),
        );
    });
}

#[test]
fn no_host_is_a_reason_of_its_own() {
    let policy = || Policy::overload().share(permit("203.0.113.100", "0.0.0.0"), &[]);
    each(policy, |lab| {
        lab.expect(
            OUTSIDE,
            tcp("192.0.3.1:4000", "203.0.113.100:80", "S"),
            "drop pool_exhausted",
        );
    });
}

#[test]
fn a_reload_keeps_the_connections_it_would_make() {
    each(farm, |lab| {
        for n in 1..=9 {
            connect(lab, &format!("192.0.3.{n}:4000"));
        }
        lab.publish();
        assert_eq!((lab.reconcile(), lab.entries()), (0, 9));
        lab.policy.shares.clear();
        lab.policy = std::mem::take(&mut lab.policy).share(
            permit("203.0.113.100", "0.0.0.0"),
            &[(SERVERS[0], SERVERS[1])],
        );
        lab.publish();
        assert_eq!(
            (lab.reconcile(), lab.entries()),
            (3, 6),
            "one host has left"
        );
        lab.policy.shares.clear();
        lab.publish();
        // Under traffic, before the entries are looked at: the worker that has one may not be asked any more.
        lab.run(OUTSIDE, tcp("192.0.3.1:4000", "203.0.113.100:80", "A"));
        assert_eq!((lab.reconcile(), lab.entries()), (6, 0));
    });
}

#[test]
fn outside_hosts_may_have_another_address_too() {
    let policy = || {
        farm()
            .outside_fixed("192.0.3.8", "172.16.0.8", false)
            .outside_pool(
                permit("192.0.3.0", "0.0.0.255"),
                "172.16.0.100",
                "172.16.0.120",
            )
    };
    each(policy, |lab| {
        for (client, known) in [
            ("192.0.3.8", "172.16.0.8"),
            ("192.0.3.9", "172.16.0.100"),
            ("192.0.3.10", "172.16.0.101"),
        ] {
            let seen = lab.pass(
                OUTSIDE,
                tcp(&format!("{client}:4000"), "203.0.113.100:80", "S"),
            );
            assert_eq!(seen.src().to_string(), known);
            let server = format!("{}:80", seen.dst());
            lab.expect(
                INSIDE,
                tcp(&server, &format!("{known}:4000"), "SA"),
                &format!("1 tcp 203.0.113.100:80 > {client}:4000 SA"),
            );
        }
        assert_eq!(lab.entries(), 5);
    });
}

#[test]
fn explain_prefers_the_entry() {
    each(farm, |lab| {
        for n in 1..6 {
            let client = format!("192.0.3.{n}");
            let server = connect(lab, &format!("{client}:4000"));
            let query = FlowQuery {
                vrf: VrfId::GLOBAL,
                protocol: 6,
                source: (server.parse().expect("an address"), 80),
                destination: (client.parse().expect("an address"), 4000),
            };
            let said = lab.explain_flow(query);
            assert!(
                matches!(said.because, Because::Entry(view) if view.is_shared),
                "{said:?}"
            );
        }
    });
}
