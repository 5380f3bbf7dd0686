//! HTTP through real sockets, and its answers against the shipped schemas.

use std::net::SocketAddr;

use crate::support::{Behaviour, Lab, NOW, Setup, generated, serve, session, simple, static_entry};
use serde_json::Value;
use spillway_control::manage::http::HttpServer;
use spillway_dataplane::command::{SessionView, TcpState};
use spillway_dataplane::nat::StaticPort;
use spillway_dataplane::snapshot::{PortId, VrfId};
use spillway_dataplane::stats::{Counter, DropReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const STATS: &str = include_str!("../../../docs/schema/stats.json");
const TRANSLATIONS: &str = include_str!("../../../docs/schema/translations.json");

/// Status, head and body of an answer.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// A server of the lab, until it is dropped.
struct Served {
    address: SocketAddr,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    async fn new(lab: &Lab) -> Served {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = HttpServer::open(any).await.expect("a free port");
        let address = server.address().expect("an address");
        let task = tokio::spawn(server.serve(lab.appliance.clone()));
        Served { address, task }
    }

    async fn request(&self, method: &str, path: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("a server");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a server that reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        Answer {
            status: head[9..12].parse().expect("a status"),
            head: head.into(),
            body: body.into(),
        }
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.request("GET", path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }
}

/// What is wrong with a value, by the schema.
fn complaints(schema: &str, value: &Value) -> String {
    let schema = serde_json::from_str(schema).expect("a schema in JSON");
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .expect("a valid schema");
    validator
        .iter_errors(value)
        .map(|e| format!("{}: {e}\n", e.instance_path()))
        .collect()
}

fn busy_lab() -> Lab {
    let mut reset = session(6, "1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3", "3.3.3.3:3");
    reset.tcp = Some(TcpState::Reset);
    let forward = StaticPort {
        protocol: 6,
        inside: 80,
        global: 8080,
    };
    let lab = Setup {
        statics: vec![
            static_entry("10.1.0.5", "198.51.100.7", None),
            static_entry("10.1.0.6", "198.51.100.1", Some(forward)),
        ],
        workers: vec![
            serve(vec![reset, simple("198.51.100.9", "10.1.0.9")]),
            serve(vec![session(
                17,
                "1.1.1.1:5",
                "2.2.2.2:5",
                "8.8.8.8:53",
                "8.8.8.8:53",
            )]),
        ],
        ..Setup::default()
    }
    .start();
    let stats = &lab.appliance.workers()[1].stats;
    stats.add(Counter::CreatedTcp, 11);
    stats.add(Counter::BusyCycles, 900);
    stats.add(Counter::BusyPackets, 4);
    stats.dropped_many(DropReason::NoRoute, 6);
    stats.port(PortId(0)).expect("two ports").rx_packets.add(70);
    lab
}

#[tokio::test]
async fn stats_are_what_the_schema_says() {
    let lab = busy_lab();
    let served = Served::new(&lab).await;
    let stats = served.json("/stats").await;
    assert_eq!(complaints(STATS, &stats), "");
    assert_eq!(stats["uptime_seconds"], NOW.0 / 1000);
    assert_eq!(stats["workers"][1]["busy_cycles_per_packet"], 225.0);
    assert_eq!(stats["workers"][0]["busy_cycles_per_packet"], Value::Null);
    assert_eq!(stats["protocols"]["tcp"]["created"], 11);
    assert_eq!(stats["drops"]["total"], 6);
    assert_eq!(stats["drops"]["by_reason"]["no_route"], 6);
    assert_eq!(stats["drops"]["by_reason"]["loop"], 0);
    assert_eq!(stats["ports"][0]["rx_packets"], 70);
    assert_eq!(stats["ports"][0]["device_counters"]["rx_nombuf"], 7);
    assert_eq!(stats["table"]["capacity"], 131_072);
}

#[tokio::test]
async fn histograms_add_up_over_scrapes_and_workers() {
    let lab = busy_lab();
    let served = Served::new(&lab).await;
    for round in 1..=3u64 {
        let stats = served.json("/stats").await;
        assert_eq!(stats["workers"][0]["latency_ns"]["count"], 100 * round);
        assert_eq!(stats["latency_ns"]["count"], 200 * round);
        assert_eq!(stats["burst_packets"]["p50"], 32);
        // Two significant digits: the histogram's own resolution.
        let p50 = stats["latency_ns"]["p50"].as_u64().expect("measured");
        let max = stats["latency_ns"]["max"].as_u64().expect("measured");
        assert!(
            (1000..1010).contains(&p50) && (50_000..50_500).contains(&max),
            "{p50} {max}"
        );
    }
}

#[tokio::test]
async fn a_silent_worker_does_not_hold_up_stats() {
    let lab = Setup {
        workers: vec![Behaviour::Silent, serve(vec![])],
        ..Setup::default()
    }
    .start();
    let served = Served::new(&lab).await;
    let stats = served.json("/stats").await;
    assert_eq!(complaints(STATS, &stats), "");
    assert_eq!(stats["workers"][0]["latency_ns"]["p50"], Value::Null);
    assert_eq!(stats["workers"][1]["latency_ns"]["count"], 100);
}

#[tokio::test]
async fn the_schemas_refuse_missing_and_unknown_fields() {
    let lab = busy_lab();
    let served = Served::new(&lab).await;
    for (schema, path) in [(STATS, "/stats"), (TRANSLATIONS, "/translations")] {
        let good = served.json(path).await;
        let mut paths = Vec::new();
        objects(&good, String::new(), &mut paths);
        assert!(paths.len() > 5, "{paths:?}");
        for at in paths {
            let mut value = good.clone();
            let object = value
                .pointer_mut(&at)
                .and_then(Value::as_object_mut)
                .expect("an object");
            let first = object.keys().next().cloned();
            if !at.ends_with("device_counters") {
                object.insert("unheard_of".into(), 1.into());
                assert!(
                    !complaints(schema, &value).is_empty(),
                    "{path}: unknown field in {at}"
                );
                let object = value
                    .pointer_mut(&at)
                    .and_then(Value::as_object_mut)
                    .expect("an object");
                object.remove("unheard_of");
                object.remove(&first.expect("a field"));
                assert!(
                    !complaints(schema, &value).is_empty(),
                    "{path}: missing field in {at}"
                );
            }
        }
    }
}

/// JSON pointers to all objects in a value.
fn objects(value: &Value, at: String, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            found.push(at.clone());
            fields.iter().map(|(k, v)| (k.clone(), v)).collect()
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(n, v)| (n.to_string(), v))
            .collect(),
        _ => return,
    };
    for (key, child) in children {
        objects(child, format!("{at}/{key}"), found);
    }
}

#[tokio::test]
async fn translations_are_filtered_and_paged() {
    let lab = busy_lab();
    let served = Served::new(&lab).await;
    let all = served.json("/translations").await;
    assert_eq!(complaints(TRANSLATIONS, &all), "");
    let rows = all["translations"].as_array().expect("a list").clone();
    assert_eq!(rows.len(), 5);
    assert_eq!(all["next_cursor"], Value::Null);
    assert_eq!(rows.iter().filter(|r| r["static"] == true).count(), 2);
    for (query, expected) in [
        ("proto=tcp", 2),
        ("proto=none", 2),
        ("proto=udp&inside_local=2.2.2.2", 1),
        ("inside_local=2.2.2.2", 2),
        ("inside_local=2.2.2.2:5", 1),
        ("inside_global=198.51.100.1:8080", 1),
        ("outside_global=8.8.8.8%3A53", 1),
        ("outside_global=8.8.8.8:54", 0),
    ] {
        let page = served.json(&format!("/translations?{query}")).await;
        assert_eq!(
            page["translations"].as_array().map(Vec::len),
            Some(expected),
            "{query}"
        );
    }
    let (mut cursor, mut paged) = (Some("0".to_owned()), Vec::new());
    while let Some(at) = cursor {
        let page = served
            .json(&format!("/translations?limit=2&cursor={at}"))
            .await;
        paged.extend(page["translations"].as_array().expect("a list").clone());
        cursor = page["next_cursor"].as_str().map(str::to_owned);
    }
    assert_eq!(paged, rows);
}

#[tokio::test]
async fn translations_of_one_vrf_are_asked_for_by_its_name() {
    let of = |vrf, at: u16| SessionView {
        vrf: VrfId(vrf),
        ..session(
            17,
            &format!("1.2.3.4:{at}"),
            "2.2.2.2:5",
            "8.8.8.8:53",
            "8.8.8.8:53",
        )
    };
    let lab = Setup {
        configuration: "ip vrf RED\nip vrf BLUE\n",
        workers: vec![serve(vec![of(0, 1), of(1, 2), of(2, 3)])],
        statics: vec![static_entry("10.0.0.1", "1.2.3.5", None)],
        ..Setup::default()
    }
    .start();
    let served = Served::new(&lab).await;
    let page = served.json("/translations?vrf=RED").await;
    assert_eq!(complaints(TRANSLATIONS, &page), "");
    let rows = page["translations"].as_array().expect("a list");
    assert_eq!((rows.len(), &rows[0]["vrf"]), (1, &"RED".into()));
    assert_eq!(rows[0]["inside_global"]["port"], 2);
    let all = served.json("/translations").await;
    assert_eq!(all["translations"].as_array().map(Vec::len), Some(4));
    let refused = served.request("GET", "/translations?vrf=red").await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.contains("there is no VRF red"),
        "{}",
        refused.body
    );
}

#[tokio::test]
async fn a_page_far_into_a_large_table_is_found() {
    let workers = vec![Behaviour::Serve(200_000, Box::new(generated))];
    let lab = Setup {
        workers,
        ..Setup::default()
    }
    .start();
    let served = Served::new(&lab).await;
    let page = served.json("/translations?limit=3&cursor=150000").await;
    assert_eq!(page["translations"][0]["id"], 150_000);
    assert_eq!(page["next_cursor"], "150003");
}

#[tokio::test]
async fn refusals_are_json_with_a_reason() {
    let lab = Setup {
        workers: vec![Behaviour::Silent],
        ..Setup::default()
    }
    .start();
    let served = Served::new(&lab).await;
    for (method, path, status, reason) in [
        ("GET", "/", 404, "/ is not here"),
        ("GET", "/stats/", 404, "/stats/ is not here"),
        ("POST", "/stats", 405, "only GET"),
        ("GET", "/translations?limit=0", 400, "limit is 1 to 10000"),
        ("GET", "/translations?limit=-1", 400, "limit is 1 to 10000"),
        (
            "GET",
            "/translations?limit=99999999999999999999",
            400,
            "limit is",
        ),
        (
            "GET",
            "/translations?cursor=x",
            400,
            "cursor is not one that was given",
        ),
        ("GET", "/translations?proto=sctp", 400, "proto is"),
        (
            "GET",
            "/translations?inside_local=1.2.3",
            400,
            "inside_local is ADDRESS",
        ),
        (
            "GET",
            "/translations?inside_local=1.2.3.4:70000",
            400,
            "inside_local is ADDRESS",
        ),
        (
            "GET",
            "/translations?colour=red",
            400,
            "no parameter colour",
        ),
        (
            "GET",
            "/translations?limit=1&limit=2",
            400,
            "limit is given twice",
        ),
        ("GET", "/translations", 503, "worker 0 did not answer"),
    ] {
        let answer = served.request(method, path).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        let error = answer.json()["error"]
            .as_str()
            .expect("a reason")
            .to_owned();
        assert!(
            error.contains(reason) && !error.is_empty(),
            "{method} {path}: {error}"
        );
    }
}

#[tokio::test]
async fn metrics_carry_every_counter_and_reason() {
    let lab = busy_lab();
    let served = Served::new(&lab).await;
    let answer = served.request("GET", "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("application/openmetrics-text"),
        "{}",
        answer.head
    );
    let lines: Vec<&str> = answer.body.lines().collect();
    for line in [
        "spillway_drops_total{worker=\"1\",reason=\"no_route\"} 6",
        "spillway_created_tcp_total{worker=\"1\"} 11",
        "spillway_port_rx_packets_total{port=\"Inside\"} 70",
        "spillway_port_device_counter_total{port=\"Outside\",counter=\"rx_nombuf\"} 7",
        "spillway_port_flow_rules{port=\"Inside\"} 0",
        "spillway_port_flow_rules{port=\"Outside\"} 6",
        "spillway_port_flow_rules_missing{port=\"Outside\"} 3",
        "spillway_translations_capacity 131072",
        "spillway_uptime_seconds 3600.0",
        "# EOF",
    ] {
        assert!(lines.contains(&line), "{line} is not in\n{}", answer.body);
    }
    for counter in Counter::ALL {
        let start = format!("spillway_{}_total{{", counter.name());
        assert_eq!(
            lines.iter().filter(|l| l.starts_with(&start)).count(),
            2,
            "{start}"
        );
    }
    let drops = lines
        .iter()
        .filter(|l| l.starts_with("spillway_drops_total{"));
    assert_eq!(drops.count(), 2 * DropReason::ALL.len());
}
