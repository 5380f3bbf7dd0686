//! What is wrong only as a whole, how diagnostics look, and how fast it is.

use std::fmt::Write as _;

use super::*;

const BASE: &str = "interface In
 port vdev net_ring0
 ip address 10.0.0.1 255.255.255.0
interface Out
 port vdev net_ring1
 ip address 192.0.2.1 255.255.255.0
interface Bare
 port vdev net_ring2
access-list 1 permit any
ip nat pool P 192.0.2.10 192.0.2.20 netmask 255.255.255.0
";

#[track_caller]
fn one_error(more: &str, line: u32, column: u32, part: &str) {
    let found = errors(&format!("{BASE}{more}"));
    let all: Vec<String> = found.iter().map(ToString::to_string).collect();
    let all = all.join("\n");
    assert_eq!(found.len(), 1, "{all}");
    assert_eq!((found[0].line, found[0].column), (line, column), "{all}");
    assert!(all.contains(part), "{all}");
}

#[test]
fn parts_that_do_not_fit_together_are_errors() {
    one_error(
        "interface In2\n port vdev net_ring1,x=1\n",
        12,
        12,
        "behind interface Out already (line 5)",
    );
    one_error(
        "interface In2\n port vdev n\n ip address 10.0.0.129 255.255.255.128\n",
        13,
        13,
        "overlaps the network of interface In (line 3)",
    );
    one_error(
        "ip nat inside source list 1 interface Bare overload\n",
        11,
        39,
        "no address to translate to",
    );
    one_error(
        "ip nat inside source list 1 pool P\nip nat inside source list 2 pool P overload\n",
        12,
        34,
        "without it before (line 11)",
    );
    one_error(
        "ip nat inside source list 1 interface Out\nip nat inside source list 2 interface out overload\n",
        12,
        39,
        "without it before (line 11)",
    );
    one_error(
        "ip nat inside source static tcp 10.0.0.2 80 192.0.2.1 80\nip nat inside source static tcp 10.0.0.3 80 interface Out 80\n",
        12,
        55,
        "192.0.2.1 port 80 is another static's",
    );
    one_error(
        "ip nat inside source static 10.0.0.2 192.0.2.2\nip nat inside source static 10.0.0.2 192.0.2.3\n",
        12,
        29,
        "need `extendable`",
    );
    one_error(
        "route-map R permit 10\nip nat inside source static 10.0.0.2 192.0.2.2 route-map R\nip nat inside source static 10.0.0.2 192.0.2.3\n",
        13,
        29,
        "or a `route-map` each",
    );
    one_error(
        "route-map R permit 10\nip nat inside source static 10.0.0.2 192.0.2.2 route-map R\nip nat inside source static 10.0.0.3 192.0.2.2 route-map R\n",
        13,
        38,
        "is another static's global address",
    );
    one_error(
        "ip nat inside source static 10.0.0.2 192.0.2.12\nip nat inside source list 1 pool P\n",
        12,
        34,
        "both have 192.0.2.12",
    );
    one_error(
        "ip nat pool Q 192.0.2.20 192.0.2.30 prefix-length 24\nip nat inside source list 1 pool P\nip nat inside source list 2 pool Q overload\n",
        13,
        34,
        "both have 192.0.2.20",
    );
    one_error(
        "ip nat pool Q 172.16.0.0 172.16.255.255 prefix-length 16\nip nat inside source list 1 pool Q overload\n",
        12,
        34,
        "4096 is the most",
    );
    one_error(
        "ip access-list standard A\nip access-list extended A\n permit ip any any\n",
        12,
        25,
        "is standard already",
    );
    one_error(
        "ip access-list standard A\n 5 permit any\n 5 deny any\n",
        13,
        2,
        "line 5 is there already",
    );
}

#[test]
fn ports_of_one_address_may_go_to_several_hosts() {
    load(&format!(
        "{BASE}ip nat inside source static tcp 10.0.0.2 80 192.0.2.5 80\nip nat inside source static tcp 10.0.0.3 80 192.0.2.5 81\nip nat inside source static udp 10.0.0.3 80 192.0.2.5 80\nip nat inside source static tcp 10.0.0.3 80 192.0.2.5 82 extendable\n"
    ));
}

#[test]
fn there_are_at_most_64_interfaces() {
    let mut text = String::new();
    for at in 0..65 {
        let _ = writeln!(text, "interface E{at}\n port vdev net_ring{at}");
    }
    let found = errors(&text);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].line, found[0].column), (129, 11));
}

#[test]
fn a_missing_list_is_a_warning() {
    let (_, warnings) = load(&format!("{BASE}ip nat inside source list 9 pool P\n"));
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].message.contains("no access list 9"),
        "{}",
        warnings[0]
    );
}

#[test]
fn lines_behind_end_are_named() {
    let (config, warnings) = load("hostname a\nend\nhostname b\n");
    assert_eq!(config.hostname.as_deref(), Some("a"));
    assert_eq!(warnings[0].line, 3);
}

#[test]
fn all_errors_are_reported_and_a_wrong_line_makes_no_others() {
    let found = errors(
        "interface 0\n ip address 10.0.0.1 255.0.0.0\nip nat pool P 1.2.3.4 1.2.3.5\n\nbogus\naccess-list 1 permit any\nip nat inside source list 1 pool P\ninterface E\n mtux 5\n port vdev a\n",
    );
    let places: Vec<_> = found.iter().map(|d| (d.line, d.column)).collect();
    assert_eq!(places, [(1, 11), (3, 30), (5, 1), (9, 2)]);
}

#[test]
fn a_route_said_again_with_another_distance_is_the_same() {
    let routes = "interface E\n port vdev a\nip route 10.0.0.0 255.0.0.0 Null0 7\nip route 10.0.0.0 255.0.0.0 E\nip route 10.0.0.0 255.0.0.0 Null0\n";
    let (config, warnings) = load(routes);
    let distances: Vec<u8> = config.routes.iter().map(|r| r.distance).collect();
    assert_eq!((distances, warnings.len()), (vec![1, 1], 0));
    let (config, _) = load(&format!("{routes}no ip route 10.0.0.0 255.0.0.0 Null0 7\n"));
    assert_eq!(config.routes.len(), 2);
    let (config, _) = load(&format!(
        "{routes}no ip route 10.0.0.0 255.0.0.0\nip route 10.0.0.0 255.0.0.0 Null0 9\n"
    ));
    assert_eq!(config.routes.len(), 1);
}

#[test]
fn a_global_line_is_no_short_form_of_a_meaningless_one_of_the_interface() {
    // `ip route-cache` means nothing here; `ip route` below an interface is still a route.
    let (config, warnings) = load("interface E\n port vdev a\nip route 10.0.0.0 255.0.0.0 Null0\n");
    assert_eq!((config.routes.len(), warnings.len()), (1, 0));
}

#[test]
fn a_diagnostic_prints_its_line_and_a_caret() {
    let found = errors("!\n\tip nat inside source list 1 pol Päö\n");
    let text = "router.conf:2:30: expected `pool` or `interface`, found `pol`
 2 | \tip nat inside source list 1 pol Päö
   | \t                            ^^^";
    assert_eq!(found[0].to_string(), text);
    let json = serde_json::to_value(&found[0]).expect("a plain struct");
    assert_eq!(json["severity"], "error");
    assert_eq!(json["line"], 2);
    assert_eq!(json["column"], 30);
    assert_eq!(json["expected"][1], "`interface`");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let found = errors("hostname \u{1b}[31m\n");
    assert!(!found[0].to_string().contains('\u{1b}'));
}

#[test]
fn errors_are_bounded() {
    let found = errors(&"bogus\n".repeat(3000));
    assert_eq!(found.len(), Diagnostic::MOST + 1);
    assert!(found[Diagnostic::MOST].message.contains("2000 more"));
}

#[test]
fn a_second_file_amends_the_first() {
    let (first, _) = load("interface Serial0\n ip address 10.0.0.1 255.0.0.0\n");
    let (both, warnings) = amend(
        first,
        "ports.conf",
        "interface serial 0\n port vdev net_ring0\n",
    )
    .expect("good");
    assert_eq!(warnings, []);
    assert_eq!(both.interfaces.len(), 1);
    assert_eq!(
        both.interfaces[0].port,
        Some(model::Port::Vdev("net_ring0".to_owned()))
    );
    let wrong =
        amend(both, "more.conf", "interface E\n port vdev net_ring0\n").expect_err("device twice");
    assert!(
        wrong[0].to_string().starts_with("more.conf:2:12: "),
        "{}",
        wrong[0]
    );
}

#[test]
fn ports_in_a_second_file_leave_no_warning_and_keep_the_others() {
    let router = "interface E0\n ip address 10.0.0.1 255.0.0.0\ninterface E1\nip nat service ras\nip nat service list 9 ESP spi-match\n";
    let ports = "interface e0\n port vdev net_ring0\n";
    let (config, warnings) =
        parse_both(("router.conf", router), ("ports.conf", ports)).expect("good");
    let said: Vec<_> = warnings.iter().map(|w| (w.file.as_str(), w.line)).collect();
    // E1 has no port, `ras` is not active, list 9 is not there; E0 has its port.
    assert_eq!(
        said,
        [("router.conf", 0), ("router.conf", 3), ("router.conf", 4)]
    );
    assert_eq!(config.interfaces[0].name, "E0");
    let wrong = [
        (
            ("router.conf", "bogus\n"),
            ("ports.conf", ports),
            "router.conf:1:1: ",
        ),
        (
            ("router.conf", router),
            ("ports.conf", " port vdev x\n"),
            "ports.conf:1:2: ",
        ),
    ];
    for (router, ports, place) in wrong {
        let errors = parse_both(router, ports).expect_err(place);
        assert!(errors[0].to_string().starts_with(place), "{}", errors[0]);
    }
}
