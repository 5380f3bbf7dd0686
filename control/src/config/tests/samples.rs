//! The sample files load, and say which lines do nothing.

use super::*;

const LAB: &str = include_str!("../../../../tests/configs/lab.conf");
const HEAD_OFFICE: &str = include_str!("../../../../tests/configs/head-office.conf");
const BRANCH: &str = include_str!("../../../../tests/configs/branch.conf");
const PORTS: &str =
    "interface FastEthernet0/0\n port vdev net_ring0\ninterface Serial0/1\n port vdev net_ring1\n";

#[test]
fn the_lab_loads_without_a_word() {
    let (config, warnings) = load(LAB);
    assert_eq!(warnings, []);
    assert_eq!(config.interfaces.len(), 2);
    assert_eq!(config.sources.len(), 1);
    assert_eq!(load(&config.to_string()).0, config);
}

#[test]
fn the_samples_load_and_every_line_without_effect_is_named() {
    for (text, lists) in [(HEAD_OFFICE, [140, 141]), (BRANCH, [140, 141])] {
        let (config, warnings) = load(text);
        assert_eq!(config.interfaces.len(), 2);
        let numbers: Vec<_> = lists.map(model::ListName::Number).to_vec();
        assert_eq!(
            config.access_lists.keys().cloned().collect::<Vec<_>>(),
            numbers
        );
        assert_eq!(load(&config.to_string()).0, config);
        for (number, line) in (1..).zip(text.lines()) {
            let counts = [
                "hostname",
                "description",
                "interface",
                "ip address",
                "ip nat",
                "ip route ",
                "access-list",
                "route-map",
                "match",
                "end",
            ];
            let word = line.trim();
            let active =
                word.is_empty() || word == "!" || counts.iter().any(|c| word.starts_with(c));
            let named = warnings.iter().any(|w| w.line == number);
            assert!(active || named, "line {number} `{line}` is silent");
        }
    }
}

#[test]
fn a_routers_file_stays_as_it_is_and_its_ports_are_apart() {
    let (config, warnings) = parse_both(("r.conf", HEAD_OFFICE), ("p.conf", PORTS)).expect("good");
    assert!(config.interfaces.iter().all(|i| i.port.is_some()));
    assert!(!warnings.iter().any(|w| w.message.contains("`port` line")));
    assert_eq!(load(&config.to_string()).0, config);
}

#[test]
fn the_service_lines_of_the_samples_load() {
    let text = "ip nat service list 10 ftp tcp port 2021
ip nat service list 10 ftp tcp port 21
access-list 10 permit 10.1.1.1
ip nat service skinny tcp port 20002
ip nat service list 10 IKE preserve-port
ip nat service list 10 ESP spi-match
";
    let (config, warnings) = load(text);
    assert_eq!(config.inactive.len(), 3);
    assert_eq!((config.spi_match.len(), config.preserve_port.len()), (1, 1));
    assert_eq!(
        warnings.iter().map(|w| w.line).collect::<Vec<_>>(),
        [1, 2, 4]
    );
    assert_eq!(load(&config.to_string()).0, config);
}
