//! Any text is taken without a panic, and what loads prints as text that loads to the same.

use proptest::prelude::*;

use super::*;

/// Words that the grammar knows, so that random lines get far.
const WORDS: &[&str] = &[
    "ip",
    "nat",
    "inside",
    "outside",
    "source",
    "static",
    "list",
    "pool",
    "interface",
    "overload",
    "endpoint-independent",
    "filtering",
    "no",
    "tcp",
    "udp",
    "icmp",
    "any",
    "host",
    "permit",
    "deny",
    "access-list",
    "extended",
    "standard",
    "1",
    "101",
    "10.0.0.1",
    "10.0.0.0",
    "192.0.2.9",
    "192.0.2.77",
    "255.255.255.0",
    "0.0.0.255",
    "eq",
    "range",
    "www",
    "80",
    "echo",
    "log",
    "remark",
    "P",
    "E0",
    "E1",
    "netmask",
    "prefix-length",
    "24",
    "address",
    "route",
    "mtu",
    "port",
    "vdev",
    "net_ring0",
    "description",
    "shutdown",
    "translation",
    "timeout",
    "tcp-timeout",
    "never",
    "max-entries",
    "port-timeout",
    "hostname",
    "route-map",
    "match",
    "crypto",
    "map",
    "!",
    "end",
    "exit",
    "network",
    "/24",
    "extendable",
    "vrf",
    "forwarding",
    "V1",
    "global",
    "rd",
    "65000:1",
    "route-target",
    "type",
    "rotary",
    "dhcp",
    "\u{b}",
    "é",
    "fragments",
    "add-route",
    "destination",
    "10.77.0.1",
];

fn soup() -> impl Strategy<Value = String> {
    let line = prop::collection::vec(prop::sample::select(WORDS), 0..9);
    let lines = prop::collection::vec((line, any::<bool>()), 0..30);
    lines.prop_map(|lines| {
        let line = |(words, indented): (Vec<&str>, bool)| {
            format!("{}{}\n", if indented { " " } else { "" }, words.join(" "))
        };
        lines.into_iter().map(line).collect()
    })
}

fn address() -> impl Strategy<Value = String> {
    (0u8..4, 1u8..255).prop_map(|(net, host)| format!("10.0.{net}.{host}"))
}

fn matcher() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("any".to_owned()),
        address().prop_map(|a| format!("host {a}")),
        (address(), any::<u32>())
            .prop_map(|(a, w)| format!("{a} {}", std::net::Ipv4Addr::from_bits(w))),
    ]
}

fn ports() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(String::new()),
        1 => any::<u16>().prop_map(|p| format!(" eq {p}")),
        1 => any::<u16>().prop_map(|p| format!(" neq {p}")),
        1 => (0u16..65535).prop_map(|p| format!(" gt {p}")),
        1 => (1u16..).prop_map(|p| format!(" lt {p}")),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(a, b)| format!(" range {} {}", a.min(b), a.max(b))),
    ]
}

fn entry() -> impl Strategy<Value = String> {
    let action = prop_oneof![Just("permit"), Just("deny")];
    let log = prop_oneof![Just(""), Just(" log")];
    let middle = prop_oneof![
        (
            prop_oneof![Just("tcp"), Just("udp")],
            matcher(),
            ports(),
            matcher(),
            ports()
        )
            .prop_map(|(p, s, sp, d, dp)| format!("{p} {s}{sp} {d}{dp}")),
        (matcher(), matcher(), any::<u8>(), any::<u8>())
            .prop_map(|(s, d, t, c)| format!("icmp {s} {d} {t} {c}")),
        (matcher(), matcher(), any::<u8>()).prop_map(|(s, d, t)| format!("icmp {s} {d} {t}")),
        (any::<u8>(), matcher(), matcher()).prop_map(|(p, s, d)| format!("{p} {s} {d}")),
        (matcher(), matcher()).prop_map(|(s, d)| format!("ip {s} {d} fragments")),
    ];
    (action, middle, log).prop_map(|(a, m, l)| format!("{a} {m}{l}"))
}

/// A line that is good wherever it stands, with the lines below it.
fn block() -> impl Strategy<Value = String> {
    let seconds = prop_oneof![
        Just("never".to_owned()),
        (1u32..1 << 31).prop_map(|s| s.to_string())
    ];
    prop_oneof![
        (100u16..200, entry()).prop_map(|(n, e)| format!("access-list {n} {e}")),
        (1u16..100, matcher()).prop_map(|(n, m)| format!("access-list {n} permit {m}")),
        (1u16..200, "[ -~]{0,20}[a-z]").prop_map(|(n, t)| format!("access-list {n} remark {t}")),
        ("[A-D]", 1u32..99, entry(), entry()).prop_map(|(n, s, e, f)| {
            format!("ip access-list extended {n}\n no {s}\n {s} {e}\n remark x\n {f}")
        }),
        ("[A-D]", address()).prop_map(|(n, a)| format!("ip nat pool {n} {a} {a} netmask 255.255.255.0")),
        ("[E-H]", 1u8..100, 100u8..255).prop_map(|(n, a, b)| {
            format!("no ip nat pool {n}\nip nat pool {n} prefix-length 24\n no range 10.5.5.{a} 10.5.5.{b}\n range 10.6.{a}.{a} 10.6.{a}.{b}\n no range 10.6.{a}.{a} 10.6.{a}.{b}\n range 10.7.{a}.1 10.7.{a}.2\n exit\nno ip nat pool {n}\nip nat pool {n} prefix-length 24\n range 10.7.{a}.1 10.7.{a}.2")
        }),
        (address(), address(), 1u16.., 1u16..).prop_map(|(a, b, p, q)| {
            format!("no ip nat inside source static tcp {a} {p} {b} {q}\nip nat inside source static tcp {a} {p} {b} {q} extendable")
        }),
        (1u16..200).prop_map(|n| format!("ip nat inside source list {n} interface E0 overload")),
        (1u16..200, prop::sample::select(&["endpoint-independent", "address-dependent", "address-and-port-dependent"])).prop_map(|(n, f)| {
            format!("ip nat inside source list {n} interface E0 overload endpoint-independent filtering {f}")
        }),
        (address(), 1u8..200, any::<bool>()).prop_map(|(a, n, add)| {
            let add = if add { " add-route" } else { "" };
            format!("no ip nat outside source static {a} 10.8.0.{n}\nip nat pool O{n} 10.11.{n}.1 10.11.{n}.2 prefix-length 24\nip nat outside source list {n} pool O{n}{add}\nip nat pool S{n} 10.12.{n}.1 10.12.{n}.2 prefix-length 24 type rotary\nip nat inside destination list W pool S1\nno ip nat inside destination list W pool S1")
        }),
        (0u8..4, address()).prop_map(|(n, a)| format!("ip route 172.16.{n}.0 255.255.255.0 {a}")),
        (0u8..4, address(), 1u8..).prop_map(|(n, a, d)| format!("ip route 172.16.{n}.0 255.255.255.0 {a} {d}")),
        (0u8..9, "[ -~]{0,20}[a-z]", 68u16..9217).prop_map(|(n, t, m)| {
            format!("interface F{n}\n description {t}\n mtu {m}\n ip nat inside\n shutdown\n ip access-group {n}0 in\n no ip access-group 00 in")
                .replace(" no ip access-group 00 in", " no description\n description x")
                .replace("ip access-group 00 in", "ip access-group 1 in")
        }),
        seconds.clone().prop_map(|s| format!("ip nat translation syn-timeout {s}")),
        (1u16.., seconds).prop_map(|(p, s)| format!("ip nat translation port-timeout udp {p} {s}")),
        (1u32..1 << 31).prop_map(|n| format!("ip nat translation max-entries {n}")),
        (1u32..1 << 31, 1u8..200).prop_map(|(n, h)| {
            format!("ip nat translation max-entries all-host {n}\nip nat translation max-entries host 10.0.0.{h} {n}\nip nat translation max-entries list {h} {n}")
        }),
        (1u32..9).prop_map(|n| format!("crypto map M {n} ipsec-isakmp\n set peer 192.0.2.{n}\n match address 10{n}")),
        (0u8..4, 0u8..5, 1u8..200, 1u32..1 << 31).prop_map(|(n, m, h, most)| {
            let gone = if m == 4 { "\nno ip vrf V4" } else { "" };
            format!("ip vrf V{n}\n rd 65000:{h}\n description x\n route-target both 1:{h}\nip vrf V{m}\n no route-target import 1:{h}\n no rd\n\
                interface G{n}/{h}\n ip vrf forwarding V{n}\n ip address 10.98.{h}.1 255.255.255.0\n ip nat inside\n\
                ip route vrf V{n} 10.97.{h}.0 255.255.255.0 10.98.{h}.2\nip route vrf V{n} 10.96.{h}.0 255.255.255.0 G{n}/{h}\n\
                ip route vrf V{n} 0.0.0.0 0.0.0.0 10.99.1.{h} global\nip nat translation max-entries vrf V{m} {most}\n\
                ip nat inside source list {h} interface E0 vrf V{n} overload\n\
                no ip nat inside source static 10.0.0.{h} 10.95.{n}.{h} vrf V{n}\n\
                ip nat inside source static 10.0.0.{h} 10.95.{n}.{h} vrf V{n} extendable{gone}")
        }),
        (1u32..9).prop_map(|n| format!("route-map M permit {n}\n match ip address 10{n} A")),
    ]
}

proptest! {
    #[test]
    fn any_text_is_taken_without_a_panic(text in any::<String>()) {
        let _ = parse("x", &text);
    }

    #[test]
    fn what_loads_loads_again_to_the_same(text in soup()) {
        if let Ok((config, _)) = parse("x", &text) {
            prop_assert_eq!(load(&config.to_string()).0, config);
        }
    }

    #[test]
    fn good_configurations_load_and_go_round(blocks in prop::collection::vec(block(), 0..25)) {
        let text = format!("interface E0\n ip address 10.99.0.1 255.255.0.0\n{}\n", blocks.join("\n"));
        let result = parse("x", &text);
        if let Err(errors) = &result {
            // Random statics may well claim one port twice; nothing else may be wrong.
            let other = errors.iter().find(|e| !e.message.contains("another static"));
            prop_assert!(other.is_none(), "{}\nin\n{text}", other.expect("just seen"));
        }
        if let Ok((config, _)) = result {
            let shown = config.to_string();
            prop_assert_eq!(load(&shown).0, config, "{}", shown);
        }
    }
}
