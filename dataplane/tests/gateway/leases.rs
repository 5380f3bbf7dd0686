//! Rules by route map without overload: an address for each host, and an entry for each flow.

use std::sync::Arc;

use spillway_dataplane::acl::{AccessList, Action, Entry, Wildcard};
use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::route_map::{Clause, RouteMap};
use spillway_dataplane::stats::{Counter, DropReason};

use crate::support::{
    INSIDE, INSIDE2, Lab, OUTSIDE, Policy, each, error, permit_all, ping, pong, raw, tcp, udp,
};

/// What goes to this host.
fn to(host: &str) -> RouteMap {
    let entry = Entry {
        destination: Wildcard::host(host.parse().expect("an address")),
        ..Entry::standard(10, Action::Permit, Wildcard::ANY)
    };
    RouteMap {
        clauses: vec![Clause {
            action: Action::Permit,
            lists: Some(vec![Arc::new(AccessList::new(vec![entry]))]),
            interfaces: None,
            next_hops: None,
        }],
    }
}

/// Two addresses for what goes to 203.0.113.5, two for 203.0.113.6, and overload for the rest.
fn policy() -> Policy {
    Policy::default()
        .rule_map_pool(to("203.0.113.5"), "203.0.113.64", 2)
        .rule_map_pool(to("203.0.113.6"), "203.0.113.80", 2)
        .rule_overload(permit_all(), &["198.51.100.1"])
}

#[test]
fn a_hosts_address_is_that_of_the_map_which_the_flow_is_of() {
    each(policy, |lab| {
        for _ in 0..2 {
            lab.expect(
                INSIDE,
                udp("10.1.0.2:4000", "203.0.113.5:9"),
                "1 udp 203.0.113.64:4000 > 203.0.113.5:9",
            );
            lab.expect(
                INSIDE,
                udp("10.1.0.2:4000", "203.0.113.6:9"),
                "1 udp 203.0.113.80:4000 > 203.0.113.6:9",
            );
            lab.expect(
                INSIDE,
                udp("10.1.0.2:4000", "203.0.113.7:9"),
                "1 udp 198.51.100.1:4000 > 203.0.113.7:9",
            );
        }
        lab.expect(
            INSIDE,
            tcp("10.1.0.2:4000", "203.0.113.5:9", "S"),
            "1 tcp 203.0.113.64:4000 > 203.0.113.5:9 S",
        );
        assert_eq!(lab.entries(), 2 + 3 + 1, "two leases, and an entry a flow");
        let views = lab.sessions(SessionFilter::default());
        let leases = views.iter().filter(|v| v.children.is_some());
        let shapes: Vec<_> = leases.map(|v| (v.protocol, v.outside_local)).collect();
        assert_eq!(shapes, [(0, None); 2]);
        let flows = views.iter().filter(|v| v.children.is_none());
        assert!(
            flows
                .clone()
                .all(|v| v.protocol != 0 && v.outside_global.is_some())
        );
        assert_eq!(flows.count(), 4);
    });
}

#[test]
fn answers_get_in_and_nobody_else() {
    each(policy, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", "203.0.113.5:9"));
        lab.expect(
            OUTSIDE,
            udp("203.0.113.5:9", "203.0.113.64:4000"),
            "0 udp 203.0.113.5:9 > 10.1.0.2:4000",
        );
        for from in ["203.0.113.5:10", "203.0.113.7:9"] {
            lab.expect(
                OUTSIDE,
                udp(from, "203.0.113.64:4000"),
                "drop no_translation",
            );
        }
        let about = udp("203.0.113.64:4000", "203.0.113.5:9").ip();
        lab.expect(
            OUTSIDE,
            error("203.0.113.7", "203.0.113.64", (3, 1), 0, &about),
            "0 icmp 3/1 203.0.113.7 > 10.1.0.2 [udp 10.1.0.2:4000 > 203.0.113.5:9]",
        );
    });
}

#[test]
fn every_protocol_has_entries() {
    each(policy, |lab| {
        lab.expect(
            INSIDE,
            ping("10.1.0.2", "203.0.113.5", 7),
            "1 ping 203.0.113.64 > 203.0.113.5 7",
        );
        lab.expect(
            OUTSIDE,
            pong("203.0.113.5", "203.0.113.64", 7),
            "0 pong 203.0.113.5 > 10.1.0.2 7",
        );
        lab.expect(
            INSIDE,
            raw("10.1.0.2", "203.0.113.5", 47),
            "1 ip47 203.0.113.64 > 203.0.113.5",
        );
        lab.expect(
            OUTSIDE,
            raw("203.0.113.5", "203.0.113.64", 47),
            "0 ip47 203.0.113.5 > 10.1.0.2",
        );
        assert_eq!(lab.counted(Counter::CreatedOther), 1);
        let esp = |from: &str, to: &str, spi: u32| {
            let mut octets = [spi.to_be_bytes(), 1_u32.to_be_bytes()].concat();
            octets.resize(64, 1);
            raw(from, to, 50).data(&octets)
        };
        lab.expect(
            INSIDE,
            esp("10.1.0.2", "203.0.113.5", 0x1000),
            "1 ip50 203.0.113.64 > 203.0.113.5",
        );
        lab.expect(
            OUTSIDE,
            esp("203.0.113.5", "203.0.113.64", 0xa000),
            "0 ip50 203.0.113.5 > 10.1.0.2",
        );
        lab.expect(
            INSIDE,
            raw("10.1.0.2", "203.0.113.5", 51),
            "drop ah_not_translatable",
        );
    });
}

#[test]
fn each_host_has_its_own_address_until_there_is_none() {
    each(policy, |lab| {
        let first = lab.pass(INSIDE, udp("10.1.0.2:4000", "203.0.113.5:9"));
        let second = lab.pass(INSIDE2, udp("10.2.0.2:4000", "203.0.113.5:9"));
        assert_ne!(first.src(), second.src());
        assert_eq!((first.sport, second.sport), (4000, 4000));
        let third = udp("10.1.0.3:4000", "203.0.113.5:9");
        lab.expect(INSIDE, third.clone(), "drop pool_exhausted");
        // The address is free again behind the last flow.
        lab.pass(INSIDE, udp("10.1.0.2:4001", "203.0.113.5:9"));
        lab.advance(200_000);
        lab.pass(INSIDE2, udp("10.2.0.2:4000", "203.0.113.5:9"));
        lab.pass(INSIDE, udp("10.1.0.2:4001", "203.0.113.5:9"));
        lab.advance(200_000);
        lab.expect(INSIDE, third.clone(), "drop pool_exhausted");
        lab.pass(INSIDE2, udp("10.2.0.2:4000", "203.0.113.5:9"));
        lab.advance(150_000);
        let third = lab.pass(INSIDE, third);
        assert_eq!(third.src(), first.src());
    });
}

#[test]
fn a_list_without_overload_makes_simple_entries_as_ever() {
    let policy = || Policy::default().rule_pool(permit_all(), "203.0.113.64", 2);
    each(policy, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", "203.0.113.5:9"));
        lab.pass(INSIDE, udp("10.1.0.2:4001", "203.0.113.6:9"));
        assert_eq!(lab.entries(), 1);
        assert_eq!(lab.sessions(SessionFilter::default())[0].children, None);
        lab.pass(OUTSIDE, udp("203.0.113.9:1", "203.0.113.64:1"));
    });
}

#[test]
fn reloads_keep_what_the_maps_still_want() {
    each(policy, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:4000", "203.0.113.5:9"));
        lab.pass(INSIDE, udp("10.1.0.2:4001", "203.0.113.5:9"));
        lab.pass(INSIDE, udp("10.1.0.2:4000", "203.0.113.6:9"));
        assert_eq!(lab.reconcile(), 0);
        // Another number is no other rule.
        lab.policy.rules[0].id = 9;
        lab.publish();
        assert_eq!(lab.reconcile(), 0);
        lab.expect(
            INSIDE,
            udp("10.1.0.2:4002", "203.0.113.5:9"),
            "1 udp 203.0.113.64:4002 > 203.0.113.5:9",
        );
        assert_eq!(lab.entries(), 2 + 4);
        lab.policy.rules.remove(0);
        lab.publish();
        assert_eq!(lab.reconcile(), 3, "and the lease");
        assert_eq!(lab.entries(), 2);
        // A list in place of the map makes entries of another kind.
        lab.policy.rules[0].selector = spillway_dataplane::route_map::Selector::List(permit_all());
        lab.publish();
        assert_eq!(lab.reconcile(), 1);
        assert_eq!(lab.entries(), 0);
    });
}

#[test]
fn limits_count_leases_too() {
    each(
        || policy().max_entries(3),
        |lab: &mut Lab| {
            lab.pass(INSIDE, udp("10.1.0.2:4000", "203.0.113.5:9"));
            let second = udp("10.1.0.3:4000", "203.0.113.5:9");
            lab.expect(INSIDE, second, "drop max_entries");
            lab.pass(INSIDE, udp("10.1.0.2:4001", "203.0.113.5:9"));
            let third = udp("10.1.0.2:4002", "203.0.113.5:9");
            lab.expect(INSIDE, third, "drop max_entries");
            assert_eq!(lab.dropped(DropReason::MaxEntries), 2);
        },
    );
}

#[test]
fn two_such_hosts_meet_by_hairpin_once_both_have_sent() {
    let policy = || {
        Policy::default()
            .rule_map_pool(to("203.0.113.65"), "203.0.113.64", 1)
            .rule_map_pool(to("203.0.113.64"), "203.0.113.65", 1)
    };
    each(policy, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.2:4000", "203.0.113.65:4000"),
            "drop no_translation",
        );
        lab.expect(
            INSIDE2,
            udp("10.2.0.2:4000", "203.0.113.64:4000"),
            "0 udp 203.0.113.65:4000 > 10.1.0.2:4000",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.2:4000", "203.0.113.65:4000"),
            "3 udp 203.0.113.64:4000 > 10.2.0.2:4000",
        );
    });
}
