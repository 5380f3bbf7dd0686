//! `ip nat translation max-entries` of hosts and of access lists.

use std::sync::Arc;

use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::nat::{Group, GroupLimit, HostLimits, Timer};

use crate::support::{INSIDE, Lab, Policy, each, permit, permit_all, ping, udp};

const FULL: &str = "drop max_entries";

/// So many of `tries` new flows of a host get an entry; the others are refused for this reason.
fn made(lab: &mut Lab, host: &str, first: u16, tries: u16) -> u16 {
    let mut made = 0;
    for port in first..first + tries {
        let lines = lab.run(INSIDE, udp(&format!("{host}:{port}"), "203.0.113.5:53"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        if lines[0] != FULL {
            assert!(lines[0].starts_with("1 udp"), "{lines:?}");
            made += 1;
        }
    }
    made
}

fn all_hosts(most: u32) -> HostLimits {
    HostLimits {
        all_hosts: Some(most),
        ..HostLimits::default()
    }
}

fn list(source: &str, wildcard: &str, most: u32) -> HostLimits {
    HostLimits {
        groups: vec![GroupLimit::new(Group::List(permit(source, wildcard)), most)],
        ..HostLimits::default()
    }
}

fn limit(lab: &mut Lab, limits: Option<HostLimits>) {
    lab.policy.host_limits = limits.map(Arc::new);
    lab.publish();
    lab.poll();
}

#[test]
fn each_host_has_so_many_and_one_has_its_own_limit() {
    let policy = || {
        Policy::overload()
            .timer(Timer::Dns, Some(600))
            .timer(Timer::Icmp, Some(60))
            .host_limits(HostLimits {
                hosts: [([10, 1, 0, 3].into(), 5)].into(),
                ..all_hosts(3)
            })
    };
    each(policy, |lab| {
        lab.poll();
        assert_eq!(made(lab, "10.1.0.2", 4000, 6), 3);
        assert_eq!(made(lab, "10.1.0.3", 4000, 6), 5);
        assert_eq!(made(lab, "10.2.0.2", 4000, 6), 3);
        lab.expect(INSIDE, ping("10.1.0.2", "203.0.113.5", 7), FULL);
        // What is there goes on, and what goes makes room.
        lab.pass(INSIDE, udp("10.1.0.2:4001", "203.0.113.5:53"));
        let one = SessionFilter {
            inside_local: Some(([10, 1, 0, 2].into(), Some(4001))),
            ..SessionFilter::default()
        };
        assert_eq!(lab.clear(one), 1);
        lab.pass(INSIDE, ping("10.1.0.2", "203.0.113.5", 7));
        assert_eq!(made(lab, "10.1.0.2", 5000, 2), 0);
        lab.advance(62_000);
        assert_eq!(made(lab, "10.1.0.2", 5000, 2), 1);
    });
}

#[test]
fn the_hosts_of_a_list_have_so_many_together_over_all_workers() {
    let policy = || Policy::overload().host_limits(list("10.1.0.0", "0.0.0.255", 7));
    each(policy, |lab| {
        lab.poll();
        let hosts = (2..10).map(|host| made(lab, &format!("10.1.0.{host}"), 4000, 3));
        assert_eq!(hosts.sum::<u16>(), 7);
        assert_eq!(made(lab, "10.2.0.2", 4000, 9), 9);
        lab.clear(SessionFilter::default());
        assert_eq!(made(lab, "10.1.0.9", 4000, 9), 7);
    });
}

#[test]
fn entries_that_are_there_count_when_limits_are_new() {
    each(Policy::overload, |lab| {
        assert_eq!(made(lab, "10.1.0.2", 4000, 5), 5);
        limit(lab, Some(all_hosts(3)));
        assert_eq!(lab.reconcile(), 0, "a limit removes nothing");
        assert_eq!(made(lab, "10.1.0.2", 5000, 1), 0);
        assert_eq!(made(lab, "10.1.0.3", 5000, 4), 3);
        limit(lab, Some(list("10.1.0.0", "0.0.0.255", 10)));
        assert_eq!(made(lab, "10.1.0.4", 5000, 4), 2);
        limit(lab, None);
        assert_eq!(made(lab, "10.1.0.2", 6000, 4), 4);
        limit(lab, Some(all_hosts(10)));
        assert_eq!(made(lab, "10.1.0.2", 7000, 4), 1);
    });
}

#[test]
fn entries_that_come_and_go_while_others_are_counted_are_counted_once() {
    each(Policy::overload, |lab| {
        for port in 4000..4200 {
            lab.pass(INSIDE, udp(&format!("10.1.0.2:{port}"), "203.0.113.5:53"));
        }
        lab.policy.host_limits = Some(Arc::new(list("10.0.0.0", "0.255.255.255", 1000)));
        lab.publish();
        // A poll counts a part of the table; between two of them entries come and go.
        for step in 0..10 {
            lab.age_once();
            assert_eq!(made(lab, "10.1.0.2", 6000 + step * 10, 10), 10);
            let gone = SessionFilter {
                inside_local: Some(([10, 1, 0, 2].into(), Some(4199 - step * 19))),
                ..SessionFilter::default()
            };
            assert_eq!(lab.clear(gone), 1);
        }
        lab.poll();
        let limits = lab.policy.host_limits.clone().expect("they are set");
        assert_eq!(limits.groups[0].entries(), lab.entries() as u64);
        lab.clear(SessionFilter::default());
        assert_eq!(limits.groups[0].entries(), 0);
    });
}

#[test]
fn what_is_refused_for_another_reason_does_not_count() {
    let limits = || list("10.1.0.0", "0.0.0.255", 2);
    let policy = || {
        Policy::default()
            .rule_pool(permit_all(), "203.0.113.200", 1)
            .host_limits(limits())
    };
    each(policy, |lab| {
        lab.poll();
        lab.pass(INSIDE, udp("10.1.0.2:5", "198.51.100.5:6"));
        for _ in 0..3 {
            lab.expect(
                INSIDE,
                udp("10.1.0.3:5", "198.51.100.5:6"),
                "drop pool_exhausted",
            );
        }
        let limits = lab.policy.host_limits.clone().expect("they are set");
        assert_eq!(limits.groups[0].entries(), 1);
    });
}
