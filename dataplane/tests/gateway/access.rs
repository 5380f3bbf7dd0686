//! Access groups and route maps.

use std::sync::Arc;

use spillway_dataplane::acl::{AccessList, Action, Entry, Ports, Wildcard};
use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::route_map::{Clause, RouteMap};

use crate::support::{INSIDE, INSIDE2, OUTSIDE, PLAIN, Policy, each, permit_all, ping, tcp, udp};

const SERVER: &str = "203.0.113.5:53";
const PROHIBITED: &str = "icmp 3/13";

fn host(address: &str) -> Wildcard {
    Wildcard::host(address.parse().expect("an address"))
}

/// Lines: deny this UDP destination, permit the rest.
fn deny_to(destination: &str, port: u16) -> AccessList {
    let any = Entry::standard(20, Action::Permit, Wildcard::ANY);
    let deny = Entry {
        sequence: 10,
        action: Action::Deny,
        protocol: Some(17),
        destination: host(destination),
        destination_ports: Ports {
            first: port,
            last: port,
            negated: false,
        },
        ..any.clone()
    };
    AccessList::new(vec![deny, any])
}

fn deny_from(source: &str) -> AccessList {
    AccessList::new(vec![
        Entry::standard(10, Action::Deny, host(source)),
        Entry::standard(20, Action::Permit, Wildcard::ANY),
    ])
}

#[test]
fn what_may_not_come_in_makes_no_entry_and_its_sender_is_told() {
    let policy = || Policy::overload().access_group(0, 0, deny_to("203.0.113.5", 53));
    each(policy, |lab| {
        let lines = lab.run(INSIDE, udp("10.1.0.2:4000", SERVER));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].starts_with("0 icmp 3/13 10.1.0.1 > 10.1.0.2"),
            "{lines:?}"
        );
        assert_eq!(lines[1], "drop access_list_in");
        assert_eq!(lab.entries(), 0);
        lab.pass(INSIDE, udp("10.1.0.2:4000", "203.0.113.5:54"));
        lab.pass(INSIDE2, udp("10.2.0.2:4000", SERVER));
        let list = lab.policy.access_groups[0][0].as_ref().expect("a list");
        assert_eq!([list.hits(0), list.hits(1)], [1, 1]);
    });
}

#[test]
fn inbound_lists_see_packets_as_they_came_and_outbound_ones_as_they_leave() {
    // 198.51.100.1 is whom everybody inside is outside.
    let policy = || Policy::overload().access_group(1, 1, deny_from("198.51.100.1"));
    each(policy, |lab| {
        let lines = lab.run(INSIDE, udp("10.1.0.2:4000", SERVER));
        assert!(lines[0].contains(PROHIBITED), "{lines:?}");
        assert_eq!(lines[1], "drop access_list_out");
        assert_eq!(lab.entries(), 0, "nothing is left of what was tried");
    });
    let inner = || Policy::overload().access_group(1, 1, deny_from("10.1.0.2"));
    each(inner, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", SERVER));
    });
}

#[test]
fn replies_belong_to_the_flow_that_was_judged() {
    let closed = || Policy::overload().access_group(1, 0, AccessList::new(Vec::new()));
    each(closed, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", SERVER));
        lab.expect(
            OUTSIDE,
            udp(SERVER, "198.51.100.1:4000"),
            "0 udp 203.0.113.5:53 > 10.1.0.2:4000",
        );
        let unasked = lab.run(OUTSIDE, udp("203.0.113.6:53", "198.51.100.1:4000"));
        assert_eq!(
            unasked.last().map(String::as_str),
            Some("drop access_list_in")
        );
        // Not even the appliance itself may be asked.
        let ping = lab.run(OUTSIDE, ping("203.0.113.6", "198.51.100.1", 1));
        assert_eq!(ping.last().map(String::as_str), Some("drop access_list_in"));
    });
}

#[test]
fn statics_and_routed_packets_are_judged_one_by_one() {
    let policy = || {
        Policy::default()
            .fixed("10.1.0.10", "203.0.113.10")
            .access_group(0, 1, deny_from("203.0.113.66"))
            .access_group(2, 1, deny_from("10.1.0.3"))
    };
    each(policy, |lab| {
        lab.pass(OUTSIDE, tcp("203.0.113.5:1", "203.0.113.10:22", "S"));
        let refused = lab.run(OUTSIDE, tcp("203.0.113.66:1", "203.0.113.10:22", "S"));
        assert_eq!(
            refused.last().map(String::as_str),
            Some("drop access_list_out")
        );
        lab.pass(INSIDE, udp("10.1.0.2:1", "192.0.2.5:2"));
        let refused = lab.run(INSIDE, udp("10.1.0.3:1", "192.0.2.5:2"));
        assert_eq!(
            refused.last().map(String::as_str),
            Some("drop access_list_out")
        );
        lab.pass(PLAIN, udp("192.0.2.5:2", "10.1.0.3:1"));
    });
}

#[test]
fn a_new_access_group_removes_what_it_denies_and_nothing_else() {
    each(Policy::overload, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", SERVER));
        lab.pass(INSIDE, udp("10.1.0.2:4000", "203.0.113.5:54"));
        let list = Arc::new(deny_to("203.0.113.5", 53));
        lab.policy.access_groups[0][0] = Some(list);
        lab.publish();
        assert_eq!(lab.reconcile(), 1);
        let left = lab.sessions(SessionFilter::default());
        let ports: Vec<_> = left
            .iter()
            .filter_map(|s| s.outside_global.map(|o| o.port))
            .collect();
        assert_eq!(ports, [54]);
    });
}

/// The route map of a router that keeps VPN traffic from translation.
fn nonat() -> RouteMap {
    let private = Wildcard {
        address: 0x0a09_0000,
        dont_care: 0xffff,
    };
    let any = Entry::standard(20, Action::Permit, Wildcard::ANY);
    let exempt = Entry {
        sequence: 10,
        action: Action::Deny,
        destination: private,
        ..any.clone()
    };
    RouteMap {
        clauses: vec![Clause {
            action: Action::Permit,
            lists: Some(vec![Arc::new(AccessList::new(vec![exempt, any]))]),
            interfaces: Some(vec![OUTSIDE]),
            next_hops: None,
        }],
    }
}

#[test]
fn private_to_private_is_not_translated_and_all_else_is() {
    let policy = || Policy::default().rule_map(nonat(), "198.51.100.1");
    each(policy, |lab| {
        // 10.9.0.0/16 lies outside here: behind the tunnel.
        let far: Vec<_> = lab.routes.iter().copied().collect();
        lab.routes = far
            .into_iter()
            .filter(|(net, _)| net.to_string() != "10.9.0.0/16")
            .collect();
        lab.publish();
        lab.expect(
            INSIDE,
            udp("10.1.0.2:4000", "10.9.0.5:7"),
            "1 udp 10.1.0.2:4000 > 10.9.0.5:7",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.2:4000", SERVER),
            "1 udp 198.51.100.1:4000 > 203.0.113.5:53",
        );
        assert_eq!(lab.entries(), 1);
    });
}

#[test]
fn what_leaves_by_another_interface_is_not_selected() {
    let policy = || {
        let mut map = nonat();
        map.clauses[0].interfaces = Some(vec![PLAIN]);
        Policy::default()
            .rule_map(map, "198.51.100.1")
            .rule_overload(permit_all(), &["203.0.113.77"])
    };
    each(policy, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.2:4000", SERVER),
            "1 udp 203.0.113.77:4000 > 203.0.113.5:53",
        );
    });
}

#[test]
fn esp_follows_the_route_map_too() {
    let policy = || Policy::default().rule_map(nonat(), "198.51.100.1");
    each(policy, |lab| {
        let mut octets = [0x1000_u32.to_be_bytes(), 1_u32.to_be_bytes()].concat();
        octets.resize(64, 1);
        let esp = crate::support::raw("10.1.0.2", "203.0.113.5", 50).data(&octets);
        lab.expect(INSIDE, esp, "1 ip50 198.51.100.1 > 203.0.113.5");
        assert_eq!(lab.reconcile(), 0);
        assert_eq!(lab.entries(), 1);
    });
}
