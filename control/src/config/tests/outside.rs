//! `ip nat outside source`: what does not fit together, what it compiles to, what a reload carries
//! over.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use spillway_dataplane::snapshot::WorkerId;
use spillway_dataplane::time::Tick;

use super::*;

const BEFORE: &str = "interface In
 port vdev net_ring0
 ip address 10.0.0.1 255.255.255.0
 ip nat inside
interface Out
 port vdev net_ring1
 ip address 192.0.2.1 255.255.255.0
 ip nat outside
ip nat pool P 192.0.2.10 192.0.2.20 netmask 255.255.255.0
ip nat pool L 172.16.0.1 172.16.0.9 prefix-length 24
access-list 1 permit 10.0.0.0 0.0.0.255
access-list 2 permit 203.0.113.0 0.0.0.255
ip nat inside source list 1 pool P
ip nat inside source static 10.0.0.7 192.0.2.7
";

fn warnings(line: &str) -> Vec<String> {
    let (_, warnings) = load(&format!("{BEFORE}{line}\n"));
    warnings.into_iter().map(|w| w.message).collect()
}

fn compile(text: &str, now: u32, previous: Option<&Policy>) -> Policy {
    let config = Arc::new(load(&format!("{BEFORE}{text}")).0);
    Policy::compile(config, &HashMap::new(), Tick(now), previous)
}

#[test]
fn what_does_not_fit_together_is_an_error_with_its_place() {
    let wrong = [
        (
            "ip nat outside source list 2 pool P",
            35,
            "pool P for outside hosts",
        ),
        ("ip nat outside source list 2 pool X", 35, "no pool X"),
        (
            "ip nat outside source static 203.0.113.8 192.0.2.7",
            42,
            "both have 192.0.2.7",
        ),
        (
            "ip nat outside source static 203.0.113.8 192.0.2.15",
            42,
            "both have 192.0.2.15",
        ),
        (
            "ip nat outside source static 203.0.113.8 10.0.0.1 add-route",
            42,
            "both have 10.0.0.1",
        ),
        (
            "ip nat outside source static 192.0.2.1 172.16.0.8",
            30,
            "the address of interface Out itself",
        ),
        (
            "ip nat outside source static 203.0.113.8 224.0.0.1",
            42,
            "no host's address",
        ),
        (
            "ip nat outside source static 203.0.113.8 172.16.0.77\nip nat outside source static 203.0.113.9 172.16.0.77",
            42,
            "another outside host (line 15)",
        ),
        (
            "ip nat outside source static 203.0.113.8 172.16.0.77\nip nat outside source static 203.0.113.8 172.16.0.78",
            30,
            "several need `extendable`",
        ),
        (
            "ip nat outside source list 2 pool L\nip nat outside source static 203.0.113.8 172.16.0.8",
            42,
            "both have 172.16.0.8",
        ),
        (
            "ip nat outside sorce static 203.0.113.8 172.16.0.8",
            16,
            "`source`",
        ),
        (
            "ip nat outside source static 203.0.113.8 172.16.0.8 overload",
            53,
            "`add-route`",
        ),
    ];
    for (line, column, part) in wrong {
        let found = errors(&format!("{BEFORE}{line}\n"));
        let all: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{line}: {}", all.join("\n"));
        let last = BEFORE.lines().count() + line.lines().count();
        let at = (found[0].line as usize, found[0].column);
        assert_eq!(at, (last, column), "{}", all[0]);
        assert!(all[0].contains(part), "`{part}` not in {}", all[0]);
    }
}

#[test]
fn what_fits_says_nothing_of_not_being_active() {
    let right = [
        "ip nat outside source static 203.0.113.8 172.16.0.8",
        "ip nat outside source static 203.0.113.8 10.0.0.8 add-route",
        "ip nat outside source list 2 pool L",
        "ip nat outside source list 2 pool L add-route",
    ];
    for line in right {
        assert_eq!(warnings(line), Vec::<String>::new(), "{line}");
    }
    let odd = [
        ("ip nat outside source list 9 pool L", "no access list 9"),
        ("ip nat outside source route-map M pool L", "no route map M"),
        (
            "ip nat outside source static 203.0.113.8 10.0.0.8",
            "in the network of inside interface In",
        ),
        (
            "ip nat service list 1 ESP spi-match\nip nat outside source list 2 pool L",
            "ESP with these outside hosts",
        ),
    ];
    for (line, part) in odd {
        let found = warnings(line);
        assert!(
            found.len() == 1 && found[0].contains(part),
            "{line}: {found:?}"
        );
    }
}

#[test]
fn it_becomes_policy() {
    let policy = compile(
        "ip nat outside source list 2 pool L add-route\nip nat outside source static 203.0.113.8 172.16.1.8\n",
        7,
        None,
    );
    let outside = &policy.nat.outside;
    assert_eq!(outside.rules.len(), 1);
    assert_eq!((outside.rules[0].id, outside.rules[0].add_route), (2, true));
    assert_eq!(policy.rule_text(2).as_deref(), Some("access-list 2 pool L"));
    assert_eq!(policy.rule_pool(2).map(|(name, _)| name), Some("L"));
    let host = outside
        .local(Ipv4Addr::new(172, 16, 1, 8).to_bits())
        .and_then(|l| l.host());
    assert_eq!(host, Some(Ipv4Addr::new(203, 0, 113, 8)));
    assert_eq!(outside.statics[0].created, Tick(7));
}

#[test]
fn a_reload_carries_live_state_over() {
    let both = "ip nat outside source list 2 pool L\nip nat outside source static 203.0.113.8 172.16.1.8\n";
    let before = compile(both, 7, None);
    let host = Ipv4Addr::new(203, 0, 113, 77);
    let index = before.nat.outside.rules[0]
        .pool
        .lend(WorkerId(1), host, |_| true);
    assert_eq!(index, Some(0));
    let same = compile(
        &format!("{both}ip nat translation timeout 9\n"),
        9,
        Some(&before),
    );
    assert!(Arc::ptr_eq(
        &same.nat.outside.rules[0].pool,
        &before.nat.outside.rules[0].pool
    ));
    assert!(Arc::ptr_eq(
        &same.nat.outside.statics[0],
        &before.nat.outside.statics[0]
    ));
    // The pool is cut anew, and is another rule's: the address stays lent.
    let other = "no ip nat pool L\nip nat pool L 172.16.0.1 172.16.0.2 prefix-length 24\nip nat outside source list 1 pool L\n";
    let after = compile(other, 9, Some(&before));
    let rule = &after.nat.outside.rules[0];
    assert_eq!(
        (rule.pool.addresses().size(), rule.pool.host(0)),
        (2, Some(host))
    );
    assert_eq!(
        rule.id, 3,
        "the number of the rule that is gone waits a turn"
    );
    assert!(after.nat.outside.statics.is_empty());
}

#[test]
fn the_same_line_again_changes_add_route_and_no_line_minds_it() {
    let config = load(&format!("{BEFORE}ip nat outside source list 2 pool L\nip nat outside source list 2 pool L add-route\n")).0;
    assert_eq!(config.outside_sources.len(), 1);
    assert!(
        config
            .to_string()
            .contains("ip nat outside source list 2 pool L add-route\n")
    );
    let none =
        load(&format!("{config}no ip nat outside source list 2 pool L\n").replace("end\n", "")).0;
    assert!(none.outside_sources.is_empty());
}
