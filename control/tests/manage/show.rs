//! What `show` and `clear` print, character for character.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::{
    Lab, NOW, Setup, pool_rule, serve, session, simple, static_entry, tick_before_now,
};
use spillway_control::manage::{ExitStatus, Format, ReloadReport, execute};
use spillway_dataplane::command::{Endpoint, Occupancy, SessionView, TcpState};
use spillway_dataplane::esp::{EspOccupancy, EspStats, HalfState, HalfView, Method};
use spillway_dataplane::nat::{
    Lending, OutsideLeases, OutsidePool, OutsideRule, OutsideStatic, StaticPort,
};
use spillway_dataplane::route_map::Selector;
use spillway_dataplane::snapshot::{PortId, WorkerId};
use spillway_dataplane::stats::{Counter, DropReason};

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

/// A half of one tunnel.
fn esp_half(is_inbound: bool) -> SessionView {
    let half = HalfView {
        client: std::net::Ipv4Addr::new(192, 168, 122, 20).into(),
        global: [192, 168, 22, 40].into(),
        peer: [192, 168, 22, 20].into(),
        spi_out: Some(0x2E59_EEF5),
        spi_in: Some(0x2872_6CD9),
        is_inbound,
        state: HalfState::Paired,
        method: Some(Method::Learned),
        age_ms: 1,
        idle_ms: 1,
        timeout_ms: None,
        ike: None,
        id: 1,
    };
    SessionView {
        half: Some(half),
        ..session(
            50,
            "192.168.22.40:0",
            "192.168.122.20:0",
            "192.168.22.20:0",
            "192.168.22.20:0",
        )
    }
}

#[tokio::test]
async fn an_esp_half_tells_its_spis_and_how_it_was_paired() {
    let lab = Setup {
        workers: vec![serve(vec![esp_half(true)])],
        ..Setup::default()
    }
    .start();
    let rows = json(&lab, "show ip nat translations").await;
    let half = &rows["translations"][0]["half"];
    assert_eq!(half["spi_out"], "2E59EEF5");
    assert_eq!(half["spi_in"], "28726CD9");
    assert_eq!(half["direction"], "in");
    assert_eq!(half["pairing"], "learned");
}

#[tokio::test]
async fn translations_stand_in_their_columns_and_realign_after_a_long_cell() {
    let lab = Setup {
        statics: vec![static_entry("192.168.10.10", "209.165.200.228", None)],
        workers: vec![
            serve(vec![session(
                6,
                "155.1.23.2:27098",
                "192.168.1.1:27098",
                "3.3.3.3:12345",
                "3.3.3.3:8080",
            )]),
            serve(vec![
                session(
                    1,
                    "209.165.200.228:52572",
                    "192.168.1.2:52572",
                    "209.165.200.1:52572",
                    "209.165.200.1:52572",
                ),
                esp_half(true),
                esp_half(false),
                session(
                    17,
                    "1.2.3.4:1",
                    "192.168.122.200:65535",
                    "8.8.8.8:53",
                    "8.8.8.8:53",
                ),
                simple("209.165.200.229", "192.168.10.11"),
            ]),
        ],
        ..Setup::default()
    }
    .start();
    let expected = "\
Pro Inside global      Inside local       Outside local      Outside global
--- 209.165.200.228    192.168.10.10      ---                ---
tcp 155.1.23.2:27098   192.168.1.1:27098  3.3.3.3:12345      3.3.3.3:8080
icmp 209.165.200.228:52572 192.168.1.2:52572 209.165.200.1:52572 209.165.200.1:52572
esp 192.168.22.40:0    192.168.122.20:0   192.168.22.20:0    192.168.22.20:28726CD9
esp 192.168.22.40:0    192.168.122.20:2E59EEF5 192.168.22.20:0 192.168.22.20:0
udp 1.2.3.4:1          192.168.122.200:65535 8.8.8.8:53      8.8.8.8:53
--- 209.165.200.229    192.168.10.11      ---                ---
";
    assert_eq!(text(&lab, "show ip nat translations").await, expected);
    let only_tcp = expected
        .lines()
        .filter(|l| l.starts_with("Pro") || l.starts_with("tcp"));
    let only_tcp: String = only_tcp.map(|l| format!("{l}\n")).collect();
    assert_eq!(text(&lab, "sh ip nat tr t").await, only_tcp);
}

#[tokio::test]
async fn a_mapping_has_a_row_and_goes_with_its_entries() {
    let mapping = SessionView {
        children: Some(2),
        outside_local: None,
        outside_global: None,
        timeout_ms: None,
        ..session(17, "1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3", "3.3.3.3:3")
    };
    let lab = Setup {
        workers: vec![serve(vec![mapping])],
        ..Setup::default()
    }
    .start();
    let shown = text(&lab, "show ip nat translations").await;
    assert_eq!(
        shown.lines().last(),
        Some("udp 1.1.1.1:1          2.2.2.2:2          ---                ---")
    );
    let verbose = text(&lab, "show ip nat translations verbose").await;
    assert!(verbose.contains("\nextended, use_count: 2,"), "{verbose}");
    let all = json(&lab, "show ip nat translations").await;
    assert_eq!(all["translations"][0]["children"], 2);
    let line = "clear ip nat translation udp inside 1.1.1.1 1 2.2.2.2 2";
    let (_, status) = run(&lab, line, Format::Text).await;
    let told = "% Translation has entries below it: clear these, or say `forced`";
    assert_eq!(status, ExitStatus::failed(told));
    let (_, status) = run(&lab, &format!("{line} forced"), Format::Text).await;
    assert_eq!(status, ExitStatus::failed("% Translation not found"));
}

#[tokio::test]
async fn verbose_adds_three_lines_to_each_row() {
    let mut closed = session(6, "1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3", "3.3.3.3:3");
    (closed.tcp, closed.timeout_ms) = (Some(TcpState::Closed), None);
    let mut forward = static_entry(
        "10.1.0.5",
        "198.51.100.1",
        Some(StaticPort {
            protocol: 6,
            inside: 80,
            global: 8080,
        }),
    );
    forward.last_used = tick_before_now(64).0.into();
    let lab = Setup {
        statics: vec![
            static_entry("192.168.10.10", "209.165.200.228", None),
            forward,
        ],
        workers: vec![serve(vec![
            session(
                1,
                "209.165.200.228:52572",
                "192.168.1.2:52572",
                "209.165.200.1:52572",
                "209.165.200.1:52572",
            ),
            simple("209.165.200.229", "192.168.10.11"),
            closed,
        ])],
        ..Setup::default()
    }
    .start();
    let expected = "\
Pro Inside global      Inside local       Outside local      Outside global
--- 209.165.200.228    192.168.10.10      ---                ---
    create 00:10:40, use 00:10:40 timeout:0,
    flags:
static, use_count: 0, entry-id: 1, lc_entries: 0
tcp 198.51.100.1:8080  10.1.0.5:80        ---                ---
    create 00:10:40, use 00:01:04 timeout:0,
    flags:
extended, static, use_count: 0, entry-id: 2, lc_entries: 0
icmp 209.165.200.228:52572 192.168.1.2:52572 209.165.200.1:52572 209.165.200.1:52572
    create 00:00:33, use 00:00:33 timeout:60000, left 00:00:26, Map-Id(In): 2,
    flags:
extended, use_count: 0, entry-id: 69, lc_entries: 0
--- 209.165.200.229    192.168.10.11      ---                ---
    create 00:00:33, use 00:00:33 timeout:60000, left 00:00:26, Map-Id(In): 1,
    flags:
none, use_count: 0, entry-id: 69, lc_entries: 0
tcp 1.1.1.1:1          2.2.2.2:2          3.3.3.3:3          3.3.3.3:3
    create 00:00:33, use 00:00:33 timeout:0, Map-Id(In): 2,
    flags:
extended, timing-out, use_count: 0, entry-id: 69, lc_entries: 0
";
    assert_eq!(
        text(&lab, "show ip nat translations verbose").await,
        expected
    );
    let value = json(&lab, "show ip nat translations").await;
    let rows = value["translations"].as_array().expect("a list");
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[0]["protocol"], serde_json::Value::Null);
    assert_eq!(
        (&rows[1]["static"], &rows[1]["idle_ms"]),
        (&true.into(), &64_000.into())
    );
    assert_eq!(rows[2]["inside_global"]["port"], 52572);
    assert_eq!(rows[2]["left_ms"], 26_500);
    assert_eq!(rows[4]["tcp_state"], "closed");
}

#[tokio::test]
async fn outside_hosts_stand_in_the_right_half() {
    let of_static = OutsideStatic {
        global: [203, 0, 113, 8].into(),
        local: [172, 16, 0, 8].into(),
        add_route: false,
        created: tick_before_now(64),
        last_used: 0.into(),
    };
    let mut of_pool = simple("0.0.0.0", "0.0.0.0");
    let at = |text: &str| {
        let address = text.parse().expect("an address");
        Some(Endpoint { address, port: 0 })
    };
    of_pool.outside_local = at("172.16.1.1");
    of_pool.outside_global = at("203.0.113.9");
    of_pool.rule = 3;
    let pool = OutsidePool::new(
        &[([172, 16, 1, 1].into(), [172, 16, 1, 4].into())],
        Lending::FirstFree,
        &mut OutsideLeases::default(),
    );
    assert_eq!(
        pool.lend(WorkerId(0), [203, 0, 113, 9].into(), |_| true),
        Some(0)
    );
    let rule = OutsideRule {
        id: 3,
        selector: Selector::List(Arc::default()),
        pool: Arc::new(pool),
        add_route: false,
    };
    let both = session(
        6,
        "198.51.100.1:5000",
        "10.1.0.2:5000",
        "172.16.0.8:80",
        "203.0.113.8:80",
    );
    let lab = Setup {
        outside_statics: vec![of_static],
        outside_rules: vec![rule],
        workers: vec![serve(vec![of_pool, both])],
        ..Setup::default()
    }
    .start();
    let expected = "\
Pro Inside global      Inside local       Outside local      Outside global
--- ---                ---                172.16.0.8         203.0.113.8
    create 00:01:04, use 00:01:04 timeout:0,
    flags:
static, outside, use_count: 0, entry-id: 1, lc_entries: 0
--- ---                ---                172.16.1.1         203.0.113.9
    create 00:00:33, use 00:00:33 timeout:60000, left 00:00:26, Map-Id(Out): 3,
    flags:
outside, use_count: 0, entry-id: 69, lc_entries: 0
tcp 198.51.100.1:5000  10.1.0.2:5000      172.16.0.8:80      203.0.113.8:80
    create 00:00:33, use 00:00:33 timeout:60000, left 00:00:26, Map-Id(In): 2,
    flags:
extended, use_count: 0, entry-id: 69, lc_entries: 0
";
    assert_eq!(
        text(&lab, "show ip nat translations verbose").await,
        expected
    );
    let value = json(&lab, "show ip nat translations").await;
    let first = &value["translations"][0];
    assert_eq!(first["inside_local"], serde_json::Value::Null);
    assert_eq!(first["outside_local"]["address"], "172.16.0.8");
    let out = text(&lab, "show ip nat statistics").await;
    let part = "\n-- Outside Source\n[Id: 3] ";
    assert!(
        out.contains(part) && !out.contains("Inside Source"),
        "{out}"
    );
    assert!(
        out.starts_with("Total active translations: 3 (1 static, 2 dynamic; 1 extended)\n"),
        "{out}"
    );
    let value = json(&lab, "show ip nat statistics").await;
    let mapping = &value["mappings"][0];
    assert_eq!(mapping["kind"], "outside_source");
    assert_eq!(mapping["refcount"], 1);
}

/// Four address entries, as in the language's description.
fn statistics_lab() -> Lab {
    let occupancy = Arc::new(Occupancy::default());
    for _ in 0..4 {
        occupancy.made(NOW.0 - 1_903_000);
    }
    let lab = Setup {
        workers: vec![
            serve(vec![simple("209.165.200.226", "10.0.0.1"); 3]),
            serve(vec![simple("209.165.200.227", "10.0.0.2")]),
        ],
        rules: vec![pool_rule()],
        occupancy,
        inside: "Serial0/1/0".into(),
        outside: "Serial0/1/1".into(),
        ..Setup::default()
    }
    .start();
    for (worker, hits) in lab.appliance.workers().iter().zip([40, 7]) {
        worker.stats.add(Counter::Hits, hits);
    }
    lab.appliance.workers()[1].stats.add(Counter::Expired, 5);
    lab
}

#[tokio::test]
async fn statistics_are_those_of_the_language() {
    let lab = statistics_lab();
    let expected = "\
Total active translations: 4 (0 static, 4 dynamic; 0 extended)
Peak translations: 4, occurred 00:31:43 ago
Outside interfaces:
  Serial0/1/1
Inside interfaces:
  Serial0/1/0
Hits: 47  Misses: 0
CEF Translated packets: 47, CEF Punted packets: 0
Expired translations: 5
Dynamic mappings:
-- Inside Source
[Id: 1] access-list 1 pool NAT-POOL1 refcount 4
 pool NAT-POOL1: netmask 255.255.255.224
\tstart 209.165.200.226 end 209.165.200.240
\ttype generic, total addresses 15, allocated 2 (13%), misses 0
";
    assert_eq!(text(&lab, "show ip nat statistics").await, expected);
    let value = json(&lab, "show ip nat statistics | json").await;
    assert_eq!(value["mappings"][0]["pool"]["allocated_addresses"], 2);
    assert_eq!(value["peak"]["age_ms"], 1_903_000);
}

#[tokio::test]
async fn clearing_statistics_counts_from_zero_and_leaves_the_counters_alone() {
    let lab = statistics_lab();
    lab.appliance.workers()[0]
        .stats
        .dropped_many(DropReason::PoolExhausted, 9);
    assert!(
        text(&lab, "show ip nat statistics")
            .await
            .contains("(13%), misses 9")
    );
    assert_eq!(text(&lab, "clear ip nat statistics").await, "");
    lab.appliance.workers()[0].stats.add(Counter::Hits, 2);
    lab.appliance.workers()[0].stats.add(Counter::Misses, 3);
    lab.appliance.workers()[0]
        .stats
        .add(Counter::CreatedSimple, 1);
    let out = text(&lab, "show ip nat statistics").await;
    for line in [
        "Hits: 2  Misses: 3\n",
        "CEF Translated packets: 3,",
        "Expired translations: 0\n",
        "(13%), misses 0\n",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert_eq!(lab.appliance.counter(Counter::Hits), 49);
}

#[tokio::test]
async fn interfaces_show_what_they_are_and_what_went_through() {
    let lab = Setup {
        workers: vec![serve(vec![]), serve(vec![])],
        ..Setup::default()
    }
    .start();
    for worker in lab.appliance.workers() {
        let port = worker.stats.port(PortId(1)).expect("two ports");
        port.rx_packets.add(5);
        port.rx_octets.add(640);
        port.rx_dropped.add(1);
        port.tx_packets.add(3);
        port.tx_octets.add(200);
        worker.stats.dropped_many(DropReason::NoTranslation, 1);
    }
    let outside = "\
Outside is up, line protocol is up
  Hardware is net_af_packet, address is 0200.0000.0002 (bia 0200.0000.0002)
  Description: to the provider
  Internet address is 198.51.100.1/24
  MTU 1500 bytes, BW 10000000 Kbit/sec
  Device net_af_packet1,iface=outside, 1 receive and 1 transmit queues
  6 of 9 flow rules bring ESP and IKE to the workers of their servers
  IP NAT outside
     10 packets input, 1280 bytes, 2 dropped
     6 packets output, 400 bytes, 0 dropped
     7 rx_nombuf
";
    assert_eq!(text(&lab, "show interfaces outside").await, outside);
    let all = text(&lab, "show interfaces").await;
    assert!(all.starts_with("Inside is up, line protocol is up\n"));
    assert!(all.contains(outside));
    let drops = "2 packets dropped on all interfaces\n     2 no_translation: to a global address, but no entry and no static fits\n";
    assert!(all.ends_with(drops), "{all}");
    let value = json(&lab, "show interfaces Outside").await;
    assert_eq!(value["interfaces"][0]["rx_packets"], 10);
    let rules = serde_json::json!({"installed": 6, "missing": 3});
    assert_eq!(value["interfaces"][0]["flow_rules"], rules);
    assert_eq!(value["interfaces"].as_array().map(Vec::len), Some(1));
    let (_, status) = run(&lab, "show interfaces Middle", Format::Text).await;
    assert_eq!(status.code, 2);
    assert_eq!(
        status.error.as_deref(),
        Some("show interfaces Middle\n                ^\n% Invalid input detected at '^' marker.")
    );
}

#[tokio::test]
async fn routes_and_neighbours_are_listed() {
    let lab = Setup::default().start();
    let routes = "\
Codes: C - connected, S - static, R - RIP, B - BGP
       D - EIGRP, O - OSPF, i - IS-IS, K - kernel
       * - candidate default

Gateway of last resort is 198.51.100.254 to network 0.0.0.0

S*    0.0.0.0/0 [1/0] via 198.51.100.254, Outside
C     10.1.0.0/24 is directly connected, Inside
K     192.0.2.0/24 is directly connected, Null0
C     198.51.100.0/24 is directly connected, Outside
B     203.0.113.0/24 via 198.51.100.254, Outside
";
    assert_eq!(text(&lab, "show ip route").await, routes);
    let value = json(&lab, "show ip route").await;
    assert_eq!(value["routes"][4]["origin"], "bgp");
    let arp = "\
Protocol  Address          Age (min)  Hardware Addr   Type   Interface
Internet  10.1.0.1                 -  0200.0000.0001  ARPA   Inside
Internet  10.1.0.99                -  Incomplete      ARPA   Inside
Internet  198.51.100.1             -  0200.0000.0002  ARPA   Outside
Internet  198.51.100.254           -  aabb.cc00.01fe  ARPA   Outside
";
    assert_eq!(text(&lab, "show arp").await, arp);
    let value = json(&lab, "show arp").await;
    assert_eq!(value["entries"][1]["state"], "failed");
    assert_eq!(value["entries"][3]["mac"], "aa:bb:cc:00:01:fe");
}

#[tokio::test]
async fn version_says_what_runs_and_what_it_drives() {
    let lab = Setup::default().start();
    let expected = "\
Spillway, Version 0.1.0
gateway uptime is 1 hour, 0 minutes
65536 entries fit into the session tables, which take 8192 KiB
Worker 0: core 1, NUMA node 0
Inside: net_af_packet0,iface=inside (net_af_packet), address 0200.0000.0001, 1 receive and 1 transmit queues
Outside: net_af_packet1,iface=outside (net_af_packet), address 0200.0000.0002, 1 receive and 1 transmit queues
";
    assert_eq!(text(&lab, "show version").await, expected);
    assert_eq!(json(&lab, "show version").await["uptime_seconds"], 3600);
}

#[tokio::test]
async fn clear_removes_what_its_words_mean() {
    let sessions = || {
        serve(vec![
            session(6, "1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3", "3.3.3.3:3"),
            session(17, "1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3", "3.3.3.3:3"),
            session(6, "1.1.1.1:9", "2.2.2.9:2", "3.3.3.3:4", "3.3.3.3:4"),
        ])
    };
    let lab = Setup {
        workers: vec![sessions(), sessions()],
        ..Setup::default()
    }
    .start();
    for (line, cleared) in [
        ("clear ip nat translation *", 6),
        ("clear ip nat translation forced", 6),
        ("clear ip nat translation tcp", 4),
        ("clear ip nat translation inside 1.1.1.1 2.2.2.2", 4),
        ("clear ip nat translation tcp inside 1.1.1.1 1 2.2.2.2 2", 2),
        (
            "clear ip nat translation tcp inside 1.1.1.1 1 2.2.2.2 2 outside 3.3.3.3 3 3.3.3.3 3",
            2,
        ),
        (
            "clear ip nat translation tcp inside 1.1.1.1 1 2.2.2.2 2 3.3.3.3 3 3.3.3.3 3",
            2,
        ),
        ("clear ip nat translation outside 3.3.3.3 4 3.3.3.3 4", 2),
    ] {
        assert_eq!(json(&lab, line).await["cleared"], cleared, "{line}");
        assert_eq!(text(&lab, line).await, "", "{line}");
    }
    for line in [
        "clear ip nat translation udp inside 1.1.1.1 1 2.2.2.2 7",
        "clear ip nat translation outside 9.9.9.9 3.3.3.3",
    ] {
        let (_, status) = run(&lab, line, Format::Text).await;
        assert_eq!(
            status,
            ExitStatus::failed("% Translation not found"),
            "{line}"
        );
    }
    assert!(lab.seen[1].finished.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn reload_reports_or_says_why_not() {
    let report = ReloadReport {
        file: "gateway.conf".into(),
        warnings: vec!["line 3: means nothing here".into()],
        withdrawn: 2,
        kept: 5,
    };
    let good = Setup {
        reloader: Box::new(move |_| {
            let report = report.clone();
            Box::pin(async { Ok(report) })
        }),
        ..Setup::default()
    }
    .start();
    assert_eq!(
        text(&good, "reload").await,
        "line 3: means nothing here\ngateway.conf is in force; 2 entries withdrawn, 5 kept\n"
    );
    assert_eq!(json(&good, "reload").await["withdrawn"], 2);
    let bad = Setup {
        reloader: Box::new(|_| Box::pin(async { Err(vec!["one".into(), "two".into()]) })),
        ..Setup::default()
    }
    .start();
    let (out, status) = run(&bad, "reload", Format::Text).await;
    assert_eq!((out.as_str(), status), ("", ExitStatus::failed("one\ntwo")));
}

#[tokio::test]
async fn the_running_configuration_loads_back() {
    let lab = Setup::default().start();
    let shown = text(&lab, "show running-config").await;
    assert_eq!(shown, crate::support::CONFIGURATION);
    let value = json(&lab, "sh run").await;
    assert_eq!(value["configuration"], shown);
}

#[tokio::test]
async fn access_lists_show_their_matches() {
    let lab = Setup::default().start();
    let first = "\
Standard IP access list 1
    10 permit 10.1.0.0, wildcard bits 0.0.0.255 (1 match)
    20 deny any log
";
    let second = "\
Extended IP access list 101
    10 deny tcp any host 192.0.2.1 eq www
    20 permit ip any any (3 matches)
";
    assert_eq!(
        text(&lab, "show access-lists").await,
        format!("{first}{second}")
    );
    assert_eq!(text(&lab, "sh acc 101").await, second);
    assert_eq!(text(&lab, "sh acc 7").await, "");
    let value = json(&lab, "show access-lists 101").await;
    let list = &value["access_lists"][0];
    assert_eq!(list["kind"], "extended");
    assert_eq!(list["entries"][1]["matches"], 3);
    assert_eq!(list["entries"][1]["text"], "permit ip any any");
    assert_eq!(list["entries"][1]["sequence"], 20);
}

#[tokio::test]
async fn interfaces_have_a_line_each() {
    let lab = Setup::default().start();
    let wanted = "\
Interface              IP-Address      OK? Method Status                Protocol
Inside                 10.1.0.1        YES manual up                    up
Outside                198.51.100.1    YES manual up                    up
Spare                  unassigned      YES unset  administratively down down
";
    assert_eq!(text(&lab, "show ip interface brief").await, wanted);
    let value = json(&lab, "sh ip int b").await;
    assert_eq!(value["interfaces"][2]["address"], serde_json::Value::Null);
    assert_eq!(value["interfaces"][0]["protocol"], "up");
}

#[tokio::test]
async fn an_interface_without_a_link_is_down() {
    let lab = Setup {
        outside_link: false,
        ..Setup::default()
    }
    .start();
    let brief = text(&lab, "show ip interface brief").await;
    let line = "Outside                198.51.100.1    YES manual down                  down\n";
    assert!(brief.contains(line), "{brief}");
    let value = json(&lab, "sh ip int b").await;
    assert_eq!(value["interfaces"][1]["status"], "down");
    assert_eq!(value["interfaces"][0]["status"], "up");
    let all = text(&lab, "show interfaces").await;
    assert!(
        all.contains("Outside is down, line protocol is down"),
        "{all}"
    );
}

#[tokio::test]
async fn route_maps_show_their_clauses() {
    let lab = Setup::default().start();
    let wanted = "\
route-map NAT, permit, sequence 10
  Match clauses:
    ip address (access-lists): 101 
  Set clauses:
  Policy routing matches: 0 packets, 0 bytes
";
    assert_eq!(text(&lab, "show route-map").await, wanted);
    assert_eq!(text(&lab, "show route-map OTHER").await, "");
    let value = json(&lab, "show route-map NAT").await;
    assert_eq!(value["route_maps"][0]["matches"][0], "ip address 101");
}

#[tokio::test]
async fn lines_below_configure_terminal_are_one_change() {
    let lab = Setup {
        reloader: Box::new(|change| {
            Box::pin(async move {
                let lines = "interface Inside\nmtu 1400".to_owned();
                assert_eq!(change, spillway_control::manage::Change::Amend(lines));
                Err(vec!["refused".to_owned()])
            })
        }),
        ..Setup::default()
    }
    .start();
    let line = "configure terminal\ninterface Inside\nmtu 1400";
    let (out, status) = run(&lab, line, Format::Text).await;
    assert_eq!((out.as_str(), status.code), ("", 2));
    assert_eq!(status.error.as_deref(), Some("refused"));
}

#[tokio::test]
async fn esp_has_its_lines_in_statistics_once_there_is_any() {
    let lab = statistics_lab();
    assert!(!text(&lab, "show ip nat statistics").await.contains("ESP"));
    let occupancy = EspOccupancy {
        tunnels: 3,
        half_open: 1,
        ike_entries: 4,
        held_packets: 2,
        ..EspOccupancy::default()
    };
    let stats = &lab.appliance.workers()[0].stats;
    stats.esp.publish(&occupancy, &EspStats::default());
    stats.dropped_many(DropReason::EspUnknownSpi, 5);
    let shown = text(&lab, "show ip nat statistics").await;
    let lines: Vec<&str> = shown.lines().rev().take(3).collect();
    assert_eq!(
        lines,
        [
            "ESP packets dropped: ambiguous 0, hold full 0, pending expired 0, collision 0, unknown SPI 5, malformed 0",
            "ESP packets waiting: 2, held: 0, released: 0",
            "ESP tunnels: 3, half-open: 1, IKE entries: 4",
        ]
    );
    let value = json(&lab, "show ip nat statistics").await;
    assert_eq!(value["esp"]["tunnels"], 3);
    assert_eq!(value["esp"]["drops"]["esp_unknown_spi"], 5);
}

#[tokio::test]
async fn esp_is_cleared_by_its_spis() {
    let lab = Setup {
        workers: vec![serve(vec![esp_half(true), esp_half(false)])],
        ..Setup::default()
    }
    .start();
    let both = [
        "clear ip nat translation esp",
        "clear ip nat translation esp inside 192.168.22.40 192.168.122.20",
        "clear ip nat translation esp inside 192.168.22.40 0 192.168.122.20 2E59EEF5",
        "clear ip nat translation esp inside 192.168.22.40 0 192.168.122.20 0 outside 192.168.22.20 0 192.168.22.20 28726cd9",
        "clear ip nat translation esp outside 192.168.22.20 192.168.22.20 28726CD9",
    ];
    for line in both {
        assert_eq!(json(&lab, line).await["cleared"], 2, "{line}");
    }
    let line = "clear ip nat translation esp inside 192.168.22.40 0 192.168.122.20 2E59EEF6";
    let (_, status) = run(&lab, line, Format::Text).await;
    assert_eq!(status.error.as_deref(), Some("% Translation not found"));
}

#[tokio::test]
async fn what_differs_from_the_file_is_shown_as_lines() {
    let lab = Setup::default().start();
    let out = text(&lab, "show config diff").await;
    assert!(out.starts_with("--- edge.conf\n+++ running\n"), "{out}");
    assert!(out.contains("\n+ shutdown\n"), "{out}");
    assert_eq!(out.lines().filter(|l| l.starts_with(['+', '-'])).count(), 3);
    assert_eq!(json(&lab, "show config diff").await["same"], false);
    let startup = text(&lab, "show startup-config").await;
    assert_eq!(
        startup,
        crate::support::CONFIGURATION.replace(" shutdown\n", "")
    );
}

#[tokio::test]
async fn a_ping_needs_an_address_of_ours_and_a_way() {
    let lab = Setup::default().start();
    for (line, why) in [
        (
            "ping 10.1.0.5 source 10.1.0.2",
            "% 10.1.0.2 is no address of an interface",
        ),
        ("ping 192.0.2.1", "% no route to 192.0.2.1"),
        ("ping 10.1.0.5 repeat 0", "% expected at least one request"),
    ] {
        let (out, status) = run(&lab, line, Format::Text).await;
        assert_eq!(
            (out.as_str(), status),
            ("", ExitStatus::failed(why)),
            "{line}"
        );
    }
}
