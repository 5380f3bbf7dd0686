//! Compiling, and what a reload carries over.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use spillway_dataplane::acl::{AccessList, Action, Subject};
use spillway_dataplane::fib::NextHop;
use spillway_dataplane::nat::{Global, InVain, Lending, PortSpace, Target, Timer, Way};
use spillway_dataplane::route_map::Selector;
use spillway_dataplane::snapshot::{PortId, WorkerId};
use spillway_dataplane::time::Tick;

use super::*;

const TEXT: &str = "interface In
 ip address 10.0.0.1 255.255.255.0
interface Out
 ip address 192.0.2.1 255.255.255.0
ip nat pool P 192.0.2.10 192.0.2.20 netmask 255.255.255.0
access-list 1 permit 10.0.0.0 0.0.0.255
access-list 2 permit 10.9.0.0 0.0.255.255
ip nat inside source list 1 interface Out overload
ip nat inside source list 2 pool P
ip nat inside source static tcp 10.0.0.5 80 interface Out 8080
ip nat inside source static 10.0.0.6 192.0.2.6
ip nat translation udp-timeout 20
";

fn compile(text: &str, now: u32, previous: Option<&Policy>) -> Policy {
    let config = Arc::new(load(text).0);
    Policy::compile(config, &HashMap::new(), Tick(now), previous)
}

fn shared(policy: &Policy, rule: usize) -> Arc<spillway_dataplane::nat::GlobalAddress> {
    match &policy.nat.rules[rule].target {
        Target::Overload(addresses) => Arc::clone(&addresses[0]),
        Target::OneToOne(_) => panic!("one to one"),
    }
}

fn pool(policy: &Policy, rule: usize) -> Arc<spillway_dataplane::nat::OneToOnePool> {
    match &policy.nat.rules[rule].target {
        Target::OneToOne(pool) => Arc::clone(pool),
        Target::Overload(_) => panic!("overload"),
    }
}

fn from(source: [u8; 4]) -> Subject {
    Subject {
        protocol: 17,
        source: u32::from_be_bytes(source),
        destination: 0x0808_0808,
        ports: Some((1, 2)),
        icmp: None,
        established: false,
        later_fragment: false,
    }
}

fn list(policy: &Policy, rule: usize) -> &Arc<AccessList> {
    match &policy.nat.rules[rule].selector {
        Selector::List(list) => list,
        Selector::RouteMap(_) => panic!("rule {rule} has a route map"),
    }
}

#[test]
fn a_configuration_becomes_policy() {
    let policy = compile(TEXT, 7, None);
    let nat = &policy.nat;
    assert_eq!(nat.rules.iter().map(|r| r.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(list(&policy, 0).check(&from([10, 0, 0, 9])), Action::Permit);
    assert_eq!(list(&policy, 0).check(&from([10, 0, 1, 9])), Action::Deny);
    assert_eq!(shared(&policy, 0).address, Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(
        (pool(&policy, 1).address(0), pool(&policy, 1).size()),
        (Ipv4Addr::new(192, 0, 2, 10), 11)
    );
    let at = |last| nat.globals.get(&Ipv4Addr::new(192, 0, 2, last));
    assert!(matches!(at(1), Some(Global::Overload(_))));
    assert!(matches!(at(6), Some(Global::Static)));
    assert!(matches!(at(20), Some(Global::OneToOne(_, 10))));
    assert_eq!(nat.globals.len(), 13);
    let to = nat.static_to_global(Ipv4Addr::new(192, 0, 2, 1), 6, Some(8080));
    assert_eq!(
        to.map(|s| (s.inside, s.created)),
        Some((Ipv4Addr::new(10, 0, 0, 5), Tick(7)))
    );
    assert_eq!(nat.timers.seconds[Timer::Udp as usize], Some(20));
    assert_eq!(
        policy.rule_text(1).as_deref(),
        Some("access-list 1 interface Out")
    );
    assert_eq!(policy.rule_text(2).as_deref(), Some("access-list 2 pool P"));
    assert_eq!(
        policy.rule_pool(2).map(|(name, pool)| (name, pool.size())),
        Some(("P", 11))
    );
}

#[test]
fn a_reload_carries_live_state_over() {
    let before = compile(TEXT, 7, None);
    let _ = list(&before, 0).check(&from([10, 0, 0, 9]));
    assert!(shared(&before, 0).claim(WorkerId(1), 1024));
    shared(&before, 0).take(WorkerId(1), PortSpace::Udp, 1024);
    // List 2 changes, a rule comes first, the pool and a static go.
    let text = TEXT
        .replace("access-list 2 permit", "access-list 2 deny")
        .replace(
            "ip nat inside source list 1",
            "ip nat inside source list 3 interface Out overload\nip nat inside source list 1",
        )
        .replace("ip nat inside source static 10.0.0.6 192.0.2.6\n", "")
        .replace("192.0.2.20", "192.0.2.21");
    let after = compile(&text, 99, Some(&before));
    let ids: Vec<u16> = after.nat.rules.iter().map(|r| r.id).collect();
    assert_eq!(ids, [3, 1, 2]);
    assert!(Arc::ptr_eq(&shared(&before, 0), &shared(&after, 1)));
    assert!(Arc::ptr_eq(&shared(&after, 0), &shared(&after, 1)));
    assert!(shared(&after, 0).in_use(PortSpace::Udp, 1024));
    assert!(Arc::ptr_eq(list(&before, 0), list(&after, 1)));
    assert_eq!(list(&after, 1).hits(0), 1);
    assert!(!Arc::ptr_eq(list(&before, 1), list(&after, 2)));
    assert!(
        !Arc::ptr_eq(&pool(&before, 1), &pool(&after, 2)),
        "another size is another pool"
    );
    assert_eq!(after.nat.statics.len(), 1);
    assert!(Arc::ptr_eq(&before.nat.statics[0], &after.nat.statics[0]));
    assert_eq!(after.nat.statics[0].created, Tick(7));
    // The same again: the pool stays as well.
    let again = compile(&text, 100, Some(&after));
    assert!(Arc::ptr_eq(&pool(&after, 2), &pool(&again, 2)));
}

#[test]
fn a_pool_that_is_cut_anew_keeps_what_is_lent() {
    let text = TEXT.replace(
        "ip nat pool P 192.0.2.10 192.0.2.20 netmask 255.255.255.0",
        "ip nat pool P prefix-length 24\n range 192.0.2.10 192.0.2.20",
    );
    let before = compile(&text, 0, None);
    let host = Ipv4Addr::new(10, 9, 0, 7);
    let take = |pool: &spillway_dataplane::nat::OneToOnePool| {
        pool.take(WorkerId(1), host, |_| true, &mut InVain::default())
            .map(|index| pool.address(index))
    };
    assert_eq!(take(&pool(&before, 1)), Some(Ipv4Addr::new(192, 0, 2, 10)));
    // One range becomes two of another kind: both agree on what is lent.
    let text = text
        .replace("prefix-length 24", "prefix-length 24 type rotary")
        .replace(
            "192.0.2.10 192.0.2.20",
            "192.0.2.9 192.0.2.10\n range 192.0.2.30 192.0.2.31",
        );
    let after = compile(&text, 0, Some(&before));
    assert_eq!(pool(&after, 1).lending(), Lending::Rotary);
    assert_eq!(pool(&after, 1).owner(1), Some(WorkerId(1)));
    let rest: Vec<_> = std::iter::from_fn(|| take(&pool(&after, 1)))
        .map(|address| address.octets()[3])
        .collect();
    assert_eq!(rest, [9, 30, 31]);
    let text = text.replace("rotary", "match-host").replace("2.9 ", "2.7 ");
    let last = compile(&text, 0, Some(&after));
    assert_eq!(pool(&last, 1).lending(), Lending::MatchHost(0xff));
    assert_eq!(take(&pool(&last, 1)), Some(Ipv4Addr::new(192, 0, 2, 7)));
    assert_eq!(take(&pool(&last, 1)), None);
}

#[test]
fn limits_of_hosts_go_on_counting_until_they_change() {
    const LIMITS: &str = "ip nat translation max-entries all-host 30
ip nat translation max-entries host 10.0.0.9 40
ip nat translation max-entries list 1 50
ip nat translation max-entries list 99 60
";
    let limits = |policy: &Policy| policy.nat.host_limits.clone().expect("there are some");
    assert!(compile(TEXT, 0, None).nat.host_limits.is_none());
    let text = [TEXT, LIMITS].concat();
    let before = compile(&text, 0, None);
    let host = |last| Ipv4Addr::new(10, 0, 0, last);
    assert_eq!(limits(&before).of(host(9).into()), Some(40));
    assert_eq!(limits(&before).of(host(8).into()), Some(30));
    // List 99 is not there and limits nobody.
    assert_eq!(limits(&before).groups.len(), 1);
    assert!(limits(&before).reserve(host(8).into()));
    let elsewhere = text.replace("192.0.2.20", "192.0.2.21");
    let after = compile(&elsewhere, 0, Some(&before));
    assert!(Arc::ptr_eq(&limits(&before), &limits(&after)));
    assert_eq!(limits(&after).groups[0].entries(), 1);
    for (old, new) in [
        ("all-host 30", "all-host 31"),
        ("host 10.0.0.9", "host 10.0.0.7"),
        ("list 1 50", "list 1 51"),
        ("list 99 60", "list 2 60"),
        ("list 1 permit 10.0.0.0", "list 1 permit 10.8.0.0"),
    ] {
        let text = text.replace(old, new);
        let after = compile(&text, 0, Some(&before));
        assert!(!Arc::ptr_eq(&limits(&before), &limits(&after)), "{new}");
        assert_eq!(limits(&after).groups[0].entries(), 0);
    }
}

#[test]
fn a_number_is_not_given_to_another_rule_in_the_reload_that_frees_it() {
    let before = compile(TEXT, 0, None);
    let text = TEXT.replace("source list 1 interface", "source list 3 interface");
    let after = compile(&text, 0, Some(&before));
    assert_eq!(
        after.nat.rules.iter().map(|r| r.id).collect::<Vec<_>>(),
        [3, 2]
    );
}

#[test]
fn a_learnt_address_is_used_where_none_is_configured() {
    let text = TEXT.replace("ip address 192.0.2.1 255.255.255.0", "ip address dhcp");
    let config = Arc::new(load(&text).0);
    let none = Policy::compile(Arc::clone(&config), &HashMap::new(), Tick(0), None);
    let Target::Overload(addresses) = &none.nat.rules[0].target else {
        panic!("one to one")
    };
    assert!(
        addresses.is_empty(),
        "what it selects is refused, not left alone"
    );
    let learnt = HashMap::from([("out".to_owned(), Ipv4Addr::new(198, 51, 100, 7))]);
    let policy = Policy::compile(config, &learnt, Tick(0), Some(&none));
    assert_eq!(shared(&policy, 0).address, Ipv4Addr::new(198, 51, 100, 7));
    assert_eq!(policy.nat.statics.len(), 2);
}

#[test]
fn a_static_network_is_translated_host_by_host() {
    let policy = compile(
        "ip nat inside source static network 10.0.0.0 192.0.2.0 /28\n",
        0,
        None,
    );
    assert_eq!(policy.nat.statics.len(), 16);
    let third =
        policy
            .nat
            .static_from_inside(Ipv4Addr::new(10, 0, 0, 3).into(), 6, Some(80), |_| true);
    assert_eq!(third.map(|s| s.global), Some(Ipv4Addr::new(192, 0, 2, 3)));
}

/// [`TEXT`] with a port behind each interface.
fn with_ports() -> String {
    TEXT.replace("interface In\n", "interface In\n port vdev net_null0\n")
        .replace("interface Out\n", "interface Out\n port vdev net_null1\n")
}

#[test]
fn a_route_map_exempts_and_looks_at_the_way_out() {
    let ports = with_ports();
    let text = format!(
        "{ports}access-list 120 deny ip 10.0.0.0 0.0.0.255 10.5.0.0 0.0.255.255
access-list 120 permit ip 10.0.0.0 0.0.0.255 any
route-map nonat permit 10
 match ip address 120
 match interface Out
route-map nonat deny 5
 match ip next-hop 77
ip nat inside source route-map nonat interface Out overload
"
    );
    let policy = compile(&text, 0, None);
    let Selector::RouteMap(map) = &policy.nat.rules[2].selector else {
        panic!("a route map");
    };
    let subject = |destination: [u8; 4]| Subject {
        destination: u32::from_be_bytes(destination),
        ..from([10, 0, 0, 9])
    };
    let exit = |port: u8| {
        Some(NextHop {
            port: PortId(port),
            address: Ipv4Addr::new(192, 0, 2, 99),
        })
    };
    let out = policy.config.port_of("out").map(|port| port.0);
    let out = out.expect("interface Out has a port");
    let decide = |to, port| map.decide(&subject(to), exit(port), false);
    assert_eq!(decide([8, 8, 8, 8], out), Action::Permit);
    assert_eq!(decide([10, 5, 0, 1], out), Action::Deny);
    assert_eq!(decide([8, 8, 8, 8], out ^ 1), Action::Deny);
}

#[test]
fn access_groups_are_by_port_and_a_missing_list_permits() {
    let text = with_ports().replace(
        "interface Out\n",
        "interface Out\n ip access-group 1 in\n ip access-group 77 out\n",
    );
    let policy = compile(&text, 0, None);
    let out = policy
        .config
        .port_of("Out")
        .expect("interface Out has a port");
    assert!(policy.nat.access_group(out, Way::In).is_some());
    assert!(policy.nat.access_group(out, Way::Out).is_none());
    assert!(
        policy
            .nat
            .access_group(PortId(out.0 ^ 1), Way::In)
            .is_none()
    );
}

#[test]
fn only_another_filtering_is_the_same_rule() {
    use spillway_dataplane::nat::Filtering;
    let line = "ip nat inside source list 1 interface Out overload";
    let with = |more: &str| TEXT.replace(line, &format!("{line}{more}"));
    let plain = compile(TEXT, 0, None);
    assert_eq!(plain.nat.rules[0].mapping, None);
    let mapped = compile(&with(" endpoint-independent"), 0, Some(&plain));
    let first = &mapped.nat.rules[0];
    assert_eq!(first.mapping, Some(Filtering::AddressDependent));
    assert_ne!(first.id, plain.nat.rules[0].id, "it makes other entries");
    let open = with(" endpoint-independent filtering endpoint-independent");
    let open = compile(&open, 0, Some(&mapped));
    let second = &open.nat.rules[0];
    assert_eq!(second.mapping, Some(Filtering::EndpointIndependent));
    assert_eq!(second.id, first.id);
    let address = shared(&open, 0).address;
    assert!(open.nat.is_mapped(address) && !plain.nat.is_mapped(address));
    let text = open.rule_text(second.id);
    assert_eq!(text.as_deref(), Some("access-list 1 interface Out"));
    // Said again in one configuration, the later line holds.
    let again = with(&format!(
        " endpoint-independent filtering endpoint-independent\n{line} endpoint-independent filtering address-and-port-dependent"
    ));
    let again = compile(&again, 0, Some(&open));
    assert_eq!(again.nat.rules.len(), 2);
    let third = &again.nat.rules[0];
    assert_eq!(third.mapping, Some(Filtering::AddressAndPortDependent));
    assert_eq!(third.id, first.id);
}

#[test]
fn one_host_has_a_static_for_each_route_map() {
    let text = with_ports()
        + "route-map IN permit 10
 match interface In
route-map OUT permit 10
 match interface Out
ip nat inside source static 10.0.0.9 192.0.2.9 route-map OUT
ip nat inside source static 10.0.0.9 198.51.100.9 route-map IN
";
    let policy = compile(&text, 0, None);
    let inside = Ipv4Addr::new(10, 0, 0, 9);
    let by = |port: u8| {
        let address = Ipv4Addr::new(192, 0, 2, 254);
        let port = PortId(port);
        let exit = Some(NextHop { port, address });
        let subject = || Subject {
            protocol: 17,
            source: inside.to_bits(),
            destination: 0,
            ports: Some((1, 1)),
            icmp: None,
            established: false,
            later_fragment: false,
        };
        let found = policy
            .nat
            .static_from_inside(inside.into(), 17, Some(1), |s| s.applies(subject, exit));
        found.map(|fixed| fixed.global)
    };
    assert_eq!(by(0), Some(Ipv4Addr::new(198, 51, 100, 9)));
    assert_eq!(by(1), Some(Ipv4Addr::new(192, 0, 2, 9)));
    assert_eq!(by(2), None);
}
