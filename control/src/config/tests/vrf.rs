//! VRFs as a whole: what belongs together, what must not, and the policy that comes of it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use spillway_dataplane::nat::Group;
use spillway_dataplane::snapshot::{InsideHost, VrfId};
use spillway_dataplane::time::Tick;

use super::*;

const BASE: &str = "ip vrf RED
ip vrf BLUE
interface Customer1
 port vdev net_ring0
 ip vrf forwarding RED
 ip address 10.0.0.1 255.255.255.0
 ip nat inside
interface Customer2
 port vdev net_ring1
 ip vrf forwarding BLUE
 ip address 10.0.0.1 255.255.255.0
 ip nat inside
interface Out
 port vdev net_ring2
 ip address 192.0.2.1 255.255.255.0
 ip nat outside
access-list 1 permit 10.0.0.0 0.0.0.255
ip nat pool P 198.51.100.10 198.51.100.20 prefix-length 24
";

#[track_caller]
fn one_error(more: &str, line: u32, column: u32, part: &str) {
    let found = errors(&format!("{BASE}{more}"));
    let all: Vec<String> = found.iter().map(ToString::to_string).collect();
    let all = all.join("\n");
    assert_eq!(found.len(), 1, "{all}");
    let base = BASE.lines().count() as u32;
    assert_eq!(
        (found[0].line, found[0].column),
        (base + line, column),
        "{all}"
    );
    assert!(all.contains(part), "{all}");
}

#[test]
fn customers_with_one_network_load_without_a_word() {
    let text = format!(
        "{BASE}ip nat inside source list 1 interface Out vrf RED overload
ip nat inside source list 1 interface Out vrf BLUE overload
ip nat inside source static 10.0.0.9 198.51.100.8 vrf RED
ip nat inside source static 10.0.0.9 198.51.100.9 vrf BLUE
ip nat inside source static tcp 10.0.0.5 80 192.0.2.1 80 vrf RED
ip nat inside source static tcp 10.0.0.5 80 192.0.2.1 81 vrf BLUE
ip route vrf RED 0.0.0.0 0.0.0.0 192.0.2.254 global
ip route vrf BLUE 0.0.0.0 0.0.0.0 192.0.2.254 global
ip route 0.0.0.0 0.0.0.0 192.0.2.254
"
    );
    let (config, warnings) = load(&text);
    assert_eq!(warnings, []);
    assert_eq!(load(&config.to_string()).0, config);
    let shown = config.to_string();
    let order = ["ip vrf RED\n!\nip vrf BLUE\n!\ninterface Customer1\n"];
    assert!(order.iter().all(|part| shown.contains(part)), "{shown}");
}

#[test]
fn the_example_of_the_documentation_loads() {
    const PAGE: &str = include_str!("../../../../docs/vrf.md");
    let example = PAGE.split("```").nth(1).expect("an example");
    let (config, warnings) = load(example);
    assert_eq!((config.vrfs.len(), config.routes.len()), (2, 3));
    assert_eq!(load(&config.to_string()).0, config);
    for warning in warnings {
        let is_usual = ["`port` line", "`rd 65000:1` is kept"];
        let is_usual = is_usual.iter().any(|part| warning.message.contains(part));
        assert!(is_usual, "{warning}");
    }
}

#[test]
fn what_is_not_apart_is_an_error() {
    one_error(
        "interface More\n port vdev net_ring3\n ip vrf forwarding RED\n ip address 10.0.0.129 255.255.255.128\n",
        4,
        13,
        "overlaps the network of interface Customer1 (line 6)",
    );
    one_error(
        "ip nat inside source static 10.0.0.9 198.51.100.9 vrf RED\nip nat inside source static 10.0.0.8 198.51.100.9 vrf BLUE\n",
        2,
        38,
        "another static's global address",
    );
    one_error(
        "ip nat inside source static tcp 10.0.0.9 80 192.0.2.1 80 vrf RED\nip nat inside source static tcp 10.0.0.9 80 interface Out 80\n",
        2,
        55,
        "192.0.2.1 port 80 is another static's",
    );
    // The whole address is one VRF's, a port of it another's; either may stand first.
    let whole = "ip nat inside source static 10.0.0.9 198.51.100.9 vrf RED\n";
    let port = "ip nat inside source static tcp 10.0.0.9 80 198.51.100.9 80 vrf BLUE\n";
    let belongs = "198.51.100.9 belongs to VRF RED";
    one_error(&format!("{whole}{port}"), 2, 45, belongs);
    one_error(
        &format!("{port}{whole}"),
        2,
        38,
        "198.51.100.9 belongs to VRF BLUE",
    );
    // Of two that have ports of it, the other one is meant.
    let own = port.replace("BLUE", "RED").replace(" 80", " 81");
    one_error(
        &format!("{own}{port}{whole}"),
        3,
        38,
        "198.51.100.9 belongs to VRF BLUE (line 20)",
    );
    one_error(
        "ip nat inside source static network 10.0.0.0 198.51.100.0 /28 vrf RED\nip nat inside source static 10.0.0.9 198.51.100.9\n",
        2,
        38,
        "so nothing of it to the global table",
    );
    let longer = "ip nat inside source static network 10.0.0.0 198.51.100.0 /28 vrf RED\nip nat inside source static network 10.8.0.0 198.51.100.0 /30 vrf RED\n";
    one_error(
        &format!("{longer}ip nat inside source static udp 10.0.0.9 9 198.51.100.15 9 vrf BLUE\n"),
        3,
        44,
        "198.51.100.15 belongs to VRF RED",
    );
    // Within one VRF that was always so.
    load(&format!("{BASE}{whole}{}", port.replace("BLUE", "RED")));
}

/// The sweep that finds these overlaps against a look at every pair.
mod pairs {
    use super::*;
    use proptest::prelude::*;

    fn one() -> impl Strategy<Value = (u8, u8, u8)> {
        (0u8..3, 1u8..5, prop_oneof![3 => Just(0u8), 4 => 1u8..4])
    }

    fn line((vrf, at, kind): (u8, u8, u8), local: usize) -> (String, u32, u32, bool) {
        let vrf = ["", " vrf RED", " vrf BLUE"][usize::from(vrf)];
        let (local, at) = (local * 64, u32::from(at));
        let bits = match kind {
            0 | 1 => 0,
            n => u32::from(n),
        };
        let start = at >> bits << bits;
        let global = format!("198.51.100.{start}");
        let text = match kind {
            0 => format!(
                "tcp 10.7.{}.{} 80 {global} {}",
                local / 256,
                local % 256,
                1000 + local
            ),
            1 => format!("10.7.{}.{} {global}", local / 256, local % 256),
            n => format!(
                "network 10.7.{}.{} {global} /{}",
                local / 256,
                local % 256,
                32 - n
            ),
        };
        let text = format!("ip nat inside source static {text}{vrf}\n");
        (text, start, start + (1 << bits) - 1, kind != 0)
    }

    proptest! {
        #[test]
        fn an_address_of_two_vrfs_is_found(all in prop::collection::vec(one(), 0..7)) {
            let mut text = "ip vrf RED\nip vrf BLUE\n".to_owned();
            let lines: Vec<_> = all.iter().zip(1..).map(|(one, at)| (one.0, line(*one, at))).collect();
            // No host has address 0 of its network.
            let lines: Vec<_> = lines.into_iter().filter(|(_, l)| l.1 > 0).collect();
            text.extend(lines.iter().map(|(_, line)| line.0.as_str()));
            let clash = |(a, (_, start, end, whole)): &(u8, (String, u32, u32, bool))| {
                lines.iter().any(|(b, (_, s, e, w))| a != b && (*whole || *w) && start <= e && s <= end)
            };
            let wanted = lines.iter().any(clash);
            let found = match parse("x", &text) {
                Ok(_) => false,
                Err(errors) => errors.iter().any(|e| {
                    e.message.contains("belongs to") || e.message.contains("another static")
                }),
            };
            if wanted {
                prop_assert!(found, "{text}");
            }
            let belongs = parse("x", &text).err().into_iter().flatten();
            let belongs = belongs.filter(|e| e.message.contains("belongs to")).count();
            prop_assert!(wanted || belongs == 0, "{text}");
        }
    }
}

#[test]
fn a_vrf_goes_with_all_that_names_it() {
    let lines = "ip nat inside source list 1 interface Out vrf RED overload
ip nat inside source static 10.0.0.9 198.51.100.8 vrf RED
ip nat translation max-entries vrf RED 50
ip route vrf RED 0.0.0.0 0.0.0.0 192.0.2.254 global
ip route vrf RED 10.9.0.0 255.255.0.0 10.0.0.254
";
    let (before, _) = load(&format!("{BASE}{lines}"));
    let (after, warnings) = amend(before, "terminal", "no ip vrf RED\n").expect("good");
    let said: Vec<&str> = warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "5 lines with `vrf RED` went with VRF RED",
            "now in the global table, with their addresses: Customer1"
        ]
    );
    let wanted = BASE
        .replace("ip vrf RED\n", "")
        .replace(" ip vrf forwarding RED\n", "");
    assert_eq!(after, load(&wanted).0);
    // Both customers have the same network: they can't both be in the global table.
    let errors = amend(after, "terminal", "no ip vrf BLUE\n").expect_err("overlap");
    assert!(errors[0].message.contains("overlaps"), "{}", errors[0]);
}

#[test]
fn a_line_is_taken_back_in_its_own_vrf_only() {
    let lines = "ip nat inside source static 10.0.0.9 198.51.100.8 vrf RED
ip nat inside source list 1 interface Out vrf RED overload
ip route vrf RED 10.9.0.0 255.255.0.0 10.0.0.254
ip route vrf RED 0.0.0.0 0.0.0.0 192.0.2.254 global
";
    let (config, _) = load(&format!("{BASE}{lines}"));
    for others in [
        "no ip nat inside source static 10.0.0.9 198.51.100.8",
        "no ip nat inside source static 10.0.0.9 198.51.100.8 vrf BLUE",
        "no ip nat inside source list 1 interface Out overload",
        "no ip nat inside source list 1 interface Out overload vrf BLUE",
        "no ip route 10.9.0.0 255.255.0.0",
        "no ip route vrf BLUE 10.9.0.0 255.255.0.0",
        "no ip route vrf RED 10.9.0.0 255.255.0.0 10.0.0.254 global",
        "no ip nat translation max-entries vrf RED",
        "interface Customer1\n no ip vrf forwarding BLUE",
        "no ip vrf red",
    ] {
        let (same, warnings) = amend(config.clone(), "terminal", others).expect("good");
        assert_eq!(same, config, "{others}");
        let nothing = |w: &Diagnostic| w.message.contains("nothing that this line removes");
        assert!(warnings.iter().any(nothing), "{others}");
    }
    let own: String = lines.lines().map(|l| format!("no {l}\n")).collect();
    assert_eq!(
        amend(config, "terminal", &own).expect("good").0,
        load(BASE).0
    );
}

#[test]
fn rd_and_targets_are_kept_and_said_to_mean_nothing() {
    let text = "ip vrf RED
 description the red ones
 rd 65000:1
 route-target export 65000:1
 route-target import 65000:1
 route-target import 65000:2
";
    let again = text.replace(
        "export 65000:1\n route-target import 65000:1",
        "both 65000:1",
    );
    let (config, warnings) = load(&again);
    assert_eq!(config, load(text).0);
    assert_eq!(
        warnings.iter().map(|w| w.line).collect::<Vec<_>>(),
        [3, 4, 5]
    );
    assert!(config.to_string().starts_with(text), "{config}");
    let one = "ip vrf RED\n no route-target 65000:1\n maximum routes 100 80\n";
    let (config, warnings) = amend(config, "terminal", one).expect("good");
    let vrf = config.vrf("RED").expect("it is there");
    assert_eq!((vrf.exports.len(), vrf.imports.len()), (0, 1));
    assert!(warnings[0].message.contains("means nothing here"));
}

#[test]
fn a_wrong_vrf_makes_no_other_errors() {
    let text = BASE.replace("ip vrf RED\n", "ip vrf RED too\n");
    let found = errors(&format!(
        "{text}ip nat inside source list 1 interface Out vrf RED overload\n"
    ));
    assert_eq!(found.len(), 1, "{}", found[1]);
    assert_eq!((found[0].line, found[0].column), (1, 12));
}

#[test]
fn there_are_at_most_255_vrfs() {
    let mut text = String::new();
    for at in 0..255 {
        let _ = writeln!(text, "ip vrf V{at}");
    }
    assert_eq!(load(&text).0.vrfs.len(), 255);
    let found = errors(&format!("{text}ip vrf V7\nip vrf W\n"));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].line, found[0].column), (257, 8));
    assert!(found[0].message.contains("at most 255"), "{}", found[0]);
}

fn compile(text: &str, previous: Option<&Policy>) -> Policy {
    Policy::compile(
        Arc::new(load(text).0),
        &HashMap::new(),
        Tick(previous.map_or(1, |_| 2)),
        previous,
    )
}

const RULES: &str = "ip nat inside source list 1 interface Out overload
ip nat inside source list 1 interface Out vrf BLUE overload
ip nat inside source static 10.0.0.9 198.51.100.9 vrf RED
ip nat inside source static 10.0.0.9 198.51.100.8
ip nat translation max-entries list 1 70
ip nat translation max-entries vrf BLUE 60
ip nat translation max-entries vrf RED 50
";

#[test]
fn rules_statics_and_limits_are_of_their_vrf() {
    let policy = compile(&format!("{BASE}{RULES}"), None);
    let [blue, red] = ["BLUE", "RED"].map(|name| policy.vrfs.id(Some(name)));
    // By the order of the file.
    assert_eq!((red, blue), (VrfId(1), VrfId(2)));
    let rules = policy.nat.rules.iter().map(|r| (r.id, r.vrf));
    let wanted = [(1, VrfId::GLOBAL), (2, blue)];
    assert_eq!(rules.collect::<Vec<_>>(), wanted);
    let statics = policy.nat.statics.iter().map(|s| s.vrf);
    assert_eq!(statics.collect::<Vec<_>>(), [red, VrfId::GLOBAL]);
    let limits = policy.nat.host_limits.as_ref().expect("there are some");
    let of = limits.groups.iter().map(|limit| match limit.group {
        Group::Vrf(vrf) => (Some(vrf), limit.most),
        Group::List(_) => (None, limit.most),
    });
    let wanted = [(None, 70), (Some(blue), 60), (Some(red), 50)];
    assert_eq!(of.collect::<Vec<_>>(), wanted);
}

#[test]
fn a_reload_keeps_what_is_of_a_vrf_that_stays() {
    let before = compile(&format!("{BASE}{RULES}"), None);
    let limits = |policy: &Policy| policy.nat.host_limits.clone().expect("there are some");
    let host = InsideHost {
        vrf: before.vrfs.id(Some("RED")),
        address: Ipv4Addr::new(10, 9, 9, 9),
    };
    assert!(limits(&before).reserve(host));
    // Another VRF comes first.
    let text = format!("ip vrf FIRST\n{BASE}{RULES}");
    let after = compile(&text, Some(&before));
    assert!(Arc::ptr_eq(&limits(&before), &limits(&after)));
    assert_eq!(limits(&after).groups[2].entries(), 1);
    for at in 0..2 {
        assert!(Arc::ptr_eq(&before.nat.statics[at], &after.nat.statics[at]));
        assert_eq!(before.nat.rules[at].id, after.nat.rules[at].id);
    }
    assert_eq!(after.vrfs.id(Some("FIRST")), VrfId(3));
    // In another VRF it is another static and another rule.
    let text = text
        .replace("198.51.100.9 vrf RED", "198.51.100.9 vrf BLUE")
        .replace("Out vrf BLUE", "Out vrf RED");
    let moved = compile(&text, Some(&after));
    assert_eq!(moved.nat.statics[0].created, Tick(2));
    assert_eq!(moved.nat.rules[1].id, 3);
    let text = text.replace("vrf RED 50", "vrf RED 51");
    let other = compile(&text, Some(&moved));
    assert!(!Arc::ptr_eq(&limits(&moved), &limits(&other)));
}

#[test]
fn a_number_is_not_given_to_another_vrf_in_the_reload_that_frees_it() {
    let ids = |names: &[&str], previous: Option<&VrfIds>| {
        let text: String = names
            .iter()
            .map(|name| format!("ip vrf {name}\n"))
            .collect();
        VrfIds::new(&load(&text).0, previous)
    };
    let all = |ids: &VrfIds| {
        let all = ids.iter().map(|(name, id)| format!("{name}{}", id.0));
        all.collect::<Vec<_>>().join(" ")
    };
    let first = ids(&["C", "A", "B"], None);
    assert_eq!(all(&first), "A2 B3 C1");
    let second = ids(&["D", "B", "C"], Some(&first));
    assert_eq!(all(&second), "B3 C1 D4");
    // One reload later it may be used.
    let third = ids(&["E", "D", "B", "C"], Some(&second));
    assert_eq!(all(&third), "B3 C1 D4 E2");
    assert_eq!(third.name(VrfId(2)), Some("E"));
    assert_eq!(third.name(VrfId::GLOBAL), None);
    assert_eq!(third.id(None), VrfId::GLOBAL);
    assert_eq!(
        (third.find(Some("e")), third.find(None)),
        (None, Some(VrfId::GLOBAL))
    );
    // As many others as there can be: all get a number, each its own, first those not in use.
    let many: Vec<String> = (0..255).map(|at| format!("M{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let full = ids(&many, Some(&third));
    let mut numbers: Vec<u8> = full.iter().map(|(_, id)| id.0).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=255).collect::<Vec<u8>>());
    assert_eq!(full.id(Some("M0")), VrfId(5));
}
