//! `ip nat inside destination`: what does not fit together, and what it compiles to.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use spillway_dataplane::time::Tick;

use super::*;

const BEFORE: &str = "interface In
 port vdev net_ring0
 ip address 10.0.0.1 255.255.255.0
interface Out
 port vdev net_ring1
 ip address 192.0.2.1 255.255.255.0
ip nat pool P 192.0.2.10 192.0.2.20 netmask 255.255.255.0
ip nat pool R 10.0.0.21 10.0.0.23 prefix-length 24 type rotary
ip nat pool G 10.0.0.21 10.0.0.23 prefix-length 24
access-list 1 permit 10.0.0.0 0.0.0.255
access-list 3 permit 192.0.2.100
access-list 4 permit 192.0.2.15
access-list 5 deny 192.0.2.7
access-list 5 permit 192.0.2.0 0.0.0.7
access-list 6 permit 192.0.2.1
access-list 103 permit tcp any host 192.0.2.7 eq www
ip nat inside source list 1 pool P
ip nat inside source static 10.0.0.7 192.0.2.7
ip nat inside source static tcp 10.0.0.8 80 interface Out 80
";

fn compile(text: &str, previous: Option<&Policy>) -> Policy {
    let config = Arc::new(load(&format!("{BEFORE}{text}")).0);
    Policy::compile(config, &HashMap::new(), Tick(1), previous)
}

#[test]
fn a_virtual_address_is_nobody_elses() {
    let wrong = [
        (
            "ip nat inside destination list 4 pool R",
            32,
            "list 4 permits 192.0.2.15, which pool P (line 17) has",
        ),
        (
            "ip nat inside destination list 103 pool R",
            32,
            "list 103 permits 192.0.2.7, which the static translation of 10.0.0.7 (line 18) has",
        ),
        (
            "ip nat inside destination list 6 pool R",
            32,
            "list 6 permits 192.0.2.1, which interface Out",
        ),
        (
            "ip nat inside destination list 3 pool P",
            39,
            "pool P has inside hosts here and addresses to translate to elsewhere",
        ),
        ("ip nat inside destination list 3 pool X", 39, "no pool X"),
        (
            "ip nat inside destination list 3 pool R overload",
            41,
            "end of the line",
        ),
    ];
    for (line, column, part) in wrong {
        let found = errors(&format!("{BEFORE}{line}\n"));
        let all: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{line}: {}", all.join("\n"));
        let at = (found[0].line as usize, found[0].column);
        assert_eq!(at, (BEFORE.lines().count() + 1, column), "{}", all[0]);
        assert!(all[0].contains(part), "`{part}` not in {}", all[0]);
    }
}

#[test]
fn what_fits_is_active() {
    for (line, part) in [
        ("ip nat inside destination list 3 pool R", ""),
        (
            "ip nat inside destination list 3 pool G",
            "not of `type rotary`",
        ),
        (
            "ip nat inside destination list 9 pool R",
            "no access list 9",
        ),
    ] {
        let (_, found) = load(&format!("{BEFORE}{line}\n"));
        let found: Vec<_> = found.into_iter().map(|w| w.message).collect();
        let right = match part {
            "" => found.is_empty(),
            part => found.len() == 1 && found[0].contains(part),
        };
        assert!(right, "{line}: {found:?}");
    }
}

#[test]
fn it_becomes_policy_and_its_turns_go_on_over_a_reload() {
    let line = "ip nat inside destination list 3 pool R\n";
    let before = compile(line, None);
    let shares = &before.nat.destinations;
    assert_eq!(shares.addresses, [Ipv4Addr::new(192, 0, 2, 100)]);
    let rule = &shares.rules[0];
    assert!(rule.is_standard && rule.id == 2);
    assert_eq!(before.rule_text(2).as_deref(), Some("access-list 3 pool R"));
    assert_eq!(rule.servers.take_turn(), Some(Ipv4Addr::new(10, 0, 0, 21)));
    let after = compile(
        &format!("{line}ip nat translation timeout 9\n"),
        Some(&before),
    );
    let servers = &after.nat.destinations.rules[0].servers;
    assert_eq!(servers.take_turn(), Some(Ipv4Addr::new(10, 0, 0, 22)));
    assert!(shares.is_server(Ipv4Addr::new(10, 0, 0, 23).to_bits()));
    assert!(compile("", Some(&after)).nat.destinations.is_empty());
}
