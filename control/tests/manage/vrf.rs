//! What `show`, `clear`, `explain` and `/translations` say of VRFs.

use std::sync::atomic::Ordering;

use crate::support::{Lab, Setup, pool_rule, serve, session, simple, static_entry};
use spillway_control::manage::{ExitStatus, Format, execute};
use spillway_dataplane::command::SessionView;
use spillway_dataplane::nat::Static;
use spillway_dataplane::snapshot::VrfId;

/// RED is VRF 1, BLUE 2.
const CONFIGURATION: &str = "ip vrf RED
 description the red ones
 rd 65000:1
ip vrf BLUE
interface Inside
 ip vrf forwarding RED
 ip address 10.1.0.1 255.255.255.0
 ip nat inside
interface Another
 ip vrf forwarding RED
interface Outside
 ip address 198.51.100.1 255.255.255.0
 ip nat outside
";

const RED: VrfId = VrfId(1);
const BLUE: VrfId = VrfId(2);

async fn run(lab: &Lab, line: &str, format: Format) -> (String, ExitStatus) {
    let mut out = String::new();
    let status = execute(&lab.appliance, line, format, &mut out).await;
    (out, status.expect("a string takes everything"))
}

async fn text(lab: &Lab, line: &str) -> String {
    let (out, status) = run(lab, line, Format::Text).await;
    assert_eq!(status, ExitStatus::DONE, "{line}");
    out
}

async fn json(lab: &Lab, line: &str) -> serde_json::Value {
    let (out, status) = run(lab, line, Format::Json).await;
    assert_eq!(status, ExitStatus::DONE, "{line}");
    serde_json::from_str(&out).expect("JSON")
}

fn in_vrf(vrf: VrfId, view: SessionView) -> SessionView {
    SessionView { vrf, ..view }
}

/// The same inside host in three tables.
fn lab() -> Lab {
    let http = |port: u16| {
        let outside = "203.0.113.5:80";
        session(
            6,
            &format!("198.51.100.1:{port}"),
            "10.1.0.7:4000",
            outside,
            outside,
        )
    };
    Setup {
        configuration: CONFIGURATION,
        statics: vec![
            Static {
                vrf: RED,
                ..static_entry("10.1.0.9", "198.51.100.9", None)
            },
            static_entry("10.1.0.9", "198.51.100.8", None),
        ],
        rules: vec![
            pool_rule(),
            spillway_dataplane::nat::Rule {
                id: 2,
                vrf: BLUE,
                ..pool_rule()
            },
        ],
        workers: vec![serve(vec![
            http(4000),
            in_vrf(RED, http(4001)),
            in_vrf(BLUE, http(4002)),
            in_vrf(BLUE, simple("198.51.100.20", "10.1.0.8")),
        ])],
        ..Setup::default()
    }
    .start()
}

#[tokio::test]
async fn entries_are_chosen_by_their_vrf_and_say_it() {
    let lab = lab();
    assert_eq!(
        text(&lab, "show ip nat translations").await.lines().count(),
        7
    );
    let red = "\
Pro Inside global      Inside local       Outside local      Outside global
--- 198.51.100.9       10.1.0.9           ---                ---
tcp 198.51.100.1:4001  10.1.0.7:4000      203.0.113.5:80     203.0.113.5:80
";
    assert_eq!(text(&lab, "show ip nat translations vrf RED").await, red);
    let verbose = text(&lab, "show ip nat translations tcp verbose vrf BLUE").await;
    let wanted = "    flags:\nextended, use_count: 0, VRF : BLUE, entry-id: 69, lc_entries: 0\n";
    assert!(verbose.ends_with(wanted), "{verbose}");
    // In either order.
    assert_eq!(
        text(&lab, "show ip nat translations tcp vrf BLUE verbose").await,
        verbose
    );
    // What is in the global table says nothing of VRFs.
    let all = text(&lab, "show ip nat translations verbose").await;
    assert_eq!(all.matches("VRF : ").count(), 4, "{all}");
    assert!(all.contains("static, use_count: 0, VRF : RED, entry-id: 1, lc_entries: 0\n"));
    assert!(all.contains("static, use_count: 0, entry-id: 2, lc_entries: 0\n"));
    let rows = json(&lab, "show ip nat translations").await;
    let vrfs = rows["translations"].as_array().expect("a list").iter();
    let vrfs: Vec<_> = vrfs.map(|row| row["vrf"].as_str()).collect();
    let (red, blue) = (Some("RED"), Some("BLUE"));
    assert_eq!(vrfs, [red, None, None, red, blue, blue]);
}

#[tokio::test]
async fn a_vrf_that_is_not_there_is_named() {
    let lab = lab();
    for line in [
        "show ip nat translations vrf GREEN",
        "show ip nat translations vrf red",
        "show ip route vrf GREEN",
        "show ip vrf GREEN",
        "explain tcp 10.1.0.7 203.0.113.5 vrf GREEN",
        "ping vrf GREEN 10.1.0.7",
    ] {
        for format in [Format::Text, Format::Json] {
            let (out, status) = run(&lab, line, format).await;
            let name = if line.ends_with("red") {
                "red"
            } else {
                "GREEN"
            };
            assert_eq!(
                status,
                ExitStatus::failed(format!("% VRF {name} does not exist")),
                "{line}"
            );
            assert_eq!(out, "");
        }
    }
}

#[tokio::test]
async fn clearing_by_name_reaches_what_is_named_in_whatever_vrf() {
    let lab = lab();
    let clear = "clear ip nat translation tcp inside 198.51.100.1 4001 10.1.0.7 4000";
    assert_eq!(json(&lab, clear).await["cleared"], 1);
    let (_, status) = run(&lab, "clear ip nat translation vrf RED", Format::Text).await;
    assert_eq!(status.code, 2);
}

#[tokio::test]
async fn a_mapping_of_a_vrf_says_so_at_the_end_of_its_line() {
    let lab = lab();
    let shown = text(&lab, "show ip nat statistics").await;
    assert!(
        shown.contains("\n[Id: 1] access-list 1 pool NAT-POOL1 refcount 1\n"),
        "{shown}"
    );
    let blue = "\n[Id: 2] access-list 1 interface Outside refcount 3 vrf BLUE\n";
    assert!(shown.contains(blue), "{shown}");
    let value = json(&lab, "show ip nat statistics").await;
    assert_eq!(value["mappings"][0]["vrf"], serde_json::Value::Null);
    assert_eq!(value["mappings"][1]["vrf"], "BLUE");
}

#[tokio::test]
async fn vrfs_are_listed_with_their_interfaces() {
    let lab = lab();
    let all = "  Name                             Default RD          Interfaces
  BLUE                             <not set>
  RED                              65000:1             Inside
                                                       Another
";
    assert_eq!(text(&lab, "show ip vrf").await, all);
    let red = text(&lab, "sh ip vrf RED").await;
    assert_eq!(
        red,
        all.lines()
            .filter(|l| !l.contains("BLUE"))
            .fold(String::new(), |t, l| t + l + "\n")
    );
    let value = json(&lab, "show ip vrf").await;
    let red = serde_json::json!({
        "name": "RED", "id": 1, "rd": "65000:1", "description": "the red ones",
        "interfaces": ["Inside", "Another"],
    });
    assert_eq!(value["vrfs"][1], red);
    assert_eq!(value["vrfs"][0]["rd"], serde_json::Value::Null);
    let none = Setup::default().start();
    assert_eq!(text(&none, "show ip vrf").await.lines().count(), 1);
    let value = json(&none, "show ip vrf").await;
    assert_eq!(value, serde_json::json!({ "vrfs": [] }));
}

#[tokio::test]
async fn each_vrf_has_its_routing_table() {
    let lab = lab();
    let red = "\
Routing Table: RED
Codes: C - connected, S - static, R - RIP, B - BGP
       D - EIGRP, O - OSPF, i - IS-IS, K - kernel
       * - candidate default

Gateway of last resort is 198.51.100.254 to network 0.0.0.0

S*    0.0.0.0/0 [1/0] via 198.51.100.254, Outside
C     10.1.0.0/24 is directly connected, Inside
";
    assert_eq!(text(&lab, "show ip route vrf RED").await, red);
    let blue = text(&lab, "show ip route vrf BLUE").await;
    assert!(blue.starts_with("Routing Table: BLUE\nCodes: "), "{blue}");
    assert!(
        blue.ends_with("Gateway of last resort is not set\n\n"),
        "{blue}"
    );
    let global = text(&lab, "show ip route").await;
    assert!(global.starts_with("Codes: ") && global.contains("203.0.113.0/24"));
    let value = json(&lab, "show ip route vrf RED").await;
    assert_eq!(
        (&value["vrf"], value["routes"].as_array().map(Vec::len)),
        (&"RED".into(), Some(2))
    );
    assert_eq!(
        json(&lab, "show ip route").await["vrf"],
        serde_json::Value::Null
    );
}

#[tokio::test]
async fn interfaces_say_their_vrf() {
    let lab = lab();
    let inside = text(&lab, "show interfaces Inside").await;
    let part = "  Internet address is 10.1.0.1/24\n  VPN Routing/Forwarding \"RED\"\n  MTU 1500";
    assert!(inside.contains(part), "{inside}");
    let outside = text(&lab, "show interfaces Outside").await;
    assert!(!outside.contains("VPN"), "{outside}");
    let value = json(&lab, "show interfaces").await;
    assert_eq!(value["interfaces"][0]["vrf"], "RED");
    assert_eq!(value["interfaces"][1]["vrf"], serde_json::Value::Null);
}

#[tokio::test]
async fn explain_asks_within_the_vrf() {
    let lab = lab();
    let line = "explain udp 10.1.0.7:53 203.0.113.5:53 vrf RED";
    assert_eq!(
        text(&lab, line).await,
        "udp 10.1.0.7:53 -> 203.0.113.5:53, VRF RED\n"
    );
    let asked = *lab.seen[0].asked.lock().expect("nobody panicked");
    assert_eq!(asked.map(|flow| (flow.vrf, flow.source.1)), Some((RED, 53)));
    let without = text(&lab, "explain udp 10.1.0.7:53 203.0.113.5:53").await;
    assert_eq!(without, "udp 10.1.0.7:53 -> 203.0.113.5:53\n");
    let asked = *lab.seen[0].asked.lock().expect("nobody panicked");
    assert_eq!(asked.map(|flow| flow.vrf), Some(VrfId::GLOBAL));
    assert!(lab.seen[0].finished.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn ping_looks_for_its_way_in_the_vrf() {
    let lab = lab();
    // Neither address nor route of RED is BLUE's.
    for line in ["ping vrf BLUE 203.0.113.5", "ping vrf BLUE 10.1.0.1"] {
        let (_, status) = run(&lab, line, Format::Text).await;
        let address = line.rsplit(' ').next().unwrap_or_default();
        assert_eq!(
            status,
            ExitStatus::failed(format!("% no route to {address}"))
        );
    }
    let line = "ping vrf BLUE 203.0.113.5 source 10.1.0.1";
    let (_, status) = run(&lab, line, Format::Text).await;
    assert_eq!(
        status,
        ExitStatus::failed("% 10.1.0.1 is no address of an interface")
    );
}
