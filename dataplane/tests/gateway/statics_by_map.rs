//! One inside host with several statics, told apart by route maps: an address of each provider.

use std::net::Ipv4Addr;

use spillway_dataplane::acl::Action;
use spillway_dataplane::fib::Route;
use spillway_dataplane::route_map::{Clause, RouteMap};
use spillway_dataplane::snapshot::{PortId, Side};

use crate::support::{INSIDE, Lab, OUTSIDE, PLAIN, Policy, each, error, tcp, udp};

const ONE: &str = "203.0.113.9";
const TWO: &str = "192.0.2.9";

/// What leaves by this port.
fn by(port: PortId) -> RouteMap {
    RouteMap {
        clauses: vec![Clause {
            action: Action::Permit,
            lists: None,
            interfaces: Some(vec![port]),
            next_hops: None,
        }],
    }
}

fn policies() -> [fn() -> Policy; 2] {
    [
        || {
            Policy::overload()
                .fixed("10.1.0.9", ONE)
                .only(by(OUTSIDE))
                .fixed("10.1.0.9", TWO)
                .only(by(PLAIN))
        },
        || {
            Policy::overload()
                .fixed("10.1.0.9", TWO)
                .only(by(PLAIN))
                .fixed("10.1.0.9", ONE)
                .only(by(OUTSIDE))
        },
    ]
}

/// The port without NAT is the second provider's.
fn two_providers(lab: &mut Lab) {
    lab.snapshot.interfaces[PLAIN.index()].side = Side::Outside;
    lab.publish();
}

#[test]
fn each_provider_sees_its_own_address() {
    for policy in policies() {
        each(policy, |lab| {
            two_providers(lab);
            lab.expect(
                INSIDE,
                udp("10.1.0.9:5", "203.0.113.5:6"),
                "1 udp 203.0.113.9:5 > 203.0.113.5:6",
            );
            lab.expect(
                INSIDE,
                udp("10.1.0.9:5", "192.0.2.5:6"),
                "2 udp 192.0.2.9:5 > 192.0.2.5:6",
            );
            lab.expect(
                OUTSIDE,
                tcp("203.0.113.5:6", "203.0.113.9:80", "S"),
                "0 tcp 203.0.113.5:6 > 10.1.0.9:80 S",
            );
            lab.expect(
                PLAIN,
                tcp("192.0.2.5:6", "192.0.2.9:80", "S"),
                "0 tcp 192.0.2.5:6 > 10.1.0.9:80 S",
            );
            // Its answer would leave by the other provider, as somebody else.
            lab.expect(
                PLAIN,
                tcp("203.0.113.5:6", "192.0.2.9:80", "S"),
                "drop no_translation",
            );
            assert_eq!(lab.entries(), 0, "statics make none");
        });
    }
}

#[test]
fn an_error_about_what_came_in_leaves_as_that_came() {
    for policy in policies() {
        each(policy, |lab| {
            two_providers(lab);
            let about = udp("192.0.2.5:6", "10.1.0.9:7").ip();
            lab.expect(
                INSIDE,
                error("10.1.0.9", "192.0.2.5", (3, 3), 0, &about),
                "2 icmp 3/3 192.0.2.9 > 192.0.2.5 [udp 192.0.2.5:6 > 192.0.2.9:7]",
            );
        });
    }
}

#[test]
fn one_without_a_map_takes_what_the_maps_leave() {
    // In whatever order they stand.
    let policy = || {
        let policy = Policy::overload().fixed("10.1.0.9", ONE);
        policy.fixed("10.1.0.9", TWO).only(by(PLAIN))
    };
    each(policy, |lab| {
        two_providers(lab);
        lab.expect(
            INSIDE,
            udp("10.1.0.9:5", "203.0.113.5:6"),
            "1 udp 203.0.113.9:5 > 203.0.113.5:6",
        );
        lab.expect(
            INSIDE,
            udp("10.1.0.9:5", "192.0.2.5:6"),
            "2 udp 192.0.2.9:5 > 192.0.2.5:6",
        );
    });
}

#[test]
fn ports_have_theirs_and_leave_the_rest_to_the_rules() {
    let policy = || {
        Policy::overload()
            .forward(6, ("10.1.0.9", 80), (ONE, 8080))
            .only(by(OUTSIDE))
            .forward(6, ("10.1.0.9", 80), (TWO, 8081))
            .only(by(PLAIN))
    };
    each(policy, |lab| {
        two_providers(lab);
        lab.expect(
            INSIDE,
            tcp("10.1.0.9:80", "192.0.2.5:6", "SA"),
            "2 tcp 192.0.2.9:8081 > 192.0.2.5:6 SA",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.9:80", "203.0.113.5:6", "SA"),
            "1 tcp 203.0.113.9:8080 > 203.0.113.5:6 SA",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.9:81", "203.0.113.5:6", "S"),
            "1 tcp 198.51.100.1:81 > 203.0.113.5:6 S",
        );
    });
}

#[test]
fn a_new_static_takes_the_entries_that_its_map_permits() {
    each(Policy::overload, |lab| {
        two_providers(lab);
        for to in ["203.0.113.5:6", "192.0.2.5:6"] {
            lab.pass(INSIDE, udp("10.1.0.9:5", to));
        }
        let policy = std::mem::take(&mut lab.policy);
        lab.policy = policy.fixed("10.1.0.9", TWO).only(by(PLAIN));
        lab.publish();
        assert_eq!(lab.reconcile(), 1);
        let policy = std::mem::take(&mut lab.policy);
        lab.policy = policy.fixed("10.1.0.9", ONE).only(by(OUTSIDE));
        lab.publish();
        assert_eq!(lab.reconcile(), 1, "the second static is asked as well");
    });
}

/// A flow of a provider whose link goes waits for it, unless the other provider has a way to where it goes.
#[test]
fn flows_are_withdrawn_where_another_provider_takes_them() {
    let policy = || {
        Policy::default()
            .rule_map(by(OUTSIDE), ONE)
            .rule_map(by(PLAIN), TWO)
    };
    each(policy, |lab| {
        two_providers(lab);
        let flow = || udp("10.1.0.2:5", "203.0.113.5:6");
        lab.expect(INSIDE, flow(), "1 udp 203.0.113.9:5 > 203.0.113.5:6");
        let routes = lab.routes.clone();
        let is_outside = |to: &Route| match to {
            Route::Connected { port } | Route::Via { port, .. } => *port == OUTSIDE,
            Route::Unreachable => false,
        };
        lab.routes.retain(|(_, to)| !is_outside(to));
        lab.publish();
        assert_eq!((lab.reroute(), lab.entries()), (0, 1), "no way");
        lab.routes.clone_from(&routes);
        lab.publish();
        assert_eq!((lab.reroute(), lab.entries()), (0, 1), "its own way again");
        lab.expect(INSIDE, flow(), "1 udp 203.0.113.9:5 > 203.0.113.5:6");
        lab.routes.retain(|(_, to)| !is_outside(to));
        let other = Route::Via {
            port: PLAIN,
            via: Ipv4Addr::new(192, 0, 2, 5),
        };
        lab.routes
            .push(("203.0.113.0/24".parse().expect("a network"), other));
        lab.publish();
        assert_eq!((lab.reroute(), lab.entries()), (1, 0), "another way");
        // A reload asks of all.
        lab.routes = routes;
        lab.publish();
        lab.expect(INSIDE, flow(), "1 udp 203.0.113.9:5 > 203.0.113.5:6");
        lab.routes.retain(|(_, to)| !is_outside(to));
        lab.publish();
        assert_eq!((lab.reconcile(), lab.entries()), (1, 0));
    });
}
