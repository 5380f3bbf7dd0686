//! What long lists cost: the load of a configuration, and the lookup of a new flow in its list.
//! `perf/policy` runs it. `--list KIND` measures one kind alone, with `--packets N` so many packets take turns, `--write FOLDER` writes the lists and packets for other programs.

mod export;
mod lists;
mod random;

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lists::Shape;
use random::Random;
use serde_json::{Value, json};
use spillway_control::config::model::ListName;
use spillway_control::config::{Policy, parse};
use spillway_dataplane::acl::{AccessList, Action, Entry, Subject};

/// Lines of the two lists that are compared.
const FEW: usize = 100;
const MANY: usize = 100_000;
/// Static translations of the configuration that is loaded.
const STATICS: usize = 10_000;
/// Packets of a window, each of another flow, unless told otherwise.
const PACKETS: usize = 2048;
/// Windows of each of the two lists, in turn.
const WINDOWS: usize = 200;
/// Packets of a window line by line, for which there is less time.
const LINEAR_PACKETS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs this too.
    if !arguments.iter().any(|a| a == "--bench") {
        return;
    }
    let value = |option: &str| arguments.iter().skip_while(|a| *a != option).nth(1);
    let folder = value("--write").map(Path::new);
    let packets = value("--packets").map_or(PACKETS, |n| n.parse().expect("a number of packets"));
    let asked = |shape: &&Shape| value("--list").is_none_or(|list| list == shape.name());
    let shapes = Shape::ALL.iter().filter(asked);
    let results: Vec<Value> = shapes.map(|s| measure(*s, packets, folder)).collect();
    if arguments.iter().any(|a| a == "--json") {
        let all = json!({ "lines": [FEW, MANY], "statics": STATICS, "lists": results });
        println!("{all:#}");
        return;
    }
    println!("{MANY} lines and {STATICS} statics: read and checked, compiled, in milliseconds");
    println!("lookup of a new flow, nanoseconds, median window: {FEW} lines, {MANY} lines, times");
    for result in results {
        println!(
            "{:10} read {:4} compiled {:3} | found {:5} {:5} {:4} | denied at the end {:5} {:5} {:4} | line by line {:7} | octets a line {}",
            result["list"].as_str().unwrap_or_default(),
            result["read_ms"],
            result["compiled_ms"],
            result["found_ns"][0],
            result["found_ns"][1],
            result["found_ratio"],
            result["denied_ns"][0],
            result["denied_ns"][1],
            result["denied_ratio"],
            result["line_by_line_ns"],
            result["octets_a_line"],
        );
    }
}

/// All figures of one kind of list; what they are about is written to `folder`.
fn measure(shape: Shape, packets: usize, folder: Option<&Path>) -> Value {
    let (few, _) = load(shape, FEW);
    let (many, took) = load(shape, MANY);
    let lists = [list(&few), list(&many)];
    let found = lists.each_ref().map(|l| packets_of(l.entries(), packets));
    let denied = lists.each_ref().map(|l| strangers(l, packets));
    if let Some(folder) = folder {
        for (list, packets) in lists.iter().zip(found.iter().zip(&denied)) {
            export::write(folder, shape, list, packets);
        }
    }
    let found_ns = in_turn(&lists, &found);
    let denied_ns = in_turn(&lists, &denied);
    let ratio = |[few, many]: [f64; 2]| (many / few * 100.0).round() / 100.0;
    json!({
        "list": shape.name(),
        "read_ms": took[0].as_millis(),
        "compiled_ms": took[1].as_millis(),
        "found_ns": found_ns.map(f64::round),
        "found_ratio": ratio(found_ns),
        "denied_ns": denied_ns.map(f64::round),
        "denied_ratio": ratio(denied_ns),
        "octets_a_line": lists[1].octets() / MANY,
        "line_by_line_ns": line_by_line(&many, &found[1]).round(),
    })
}

/// A configuration with a list of `lines` lines, loaded; and how long reading it and making a
/// policy of it took.
fn load(shape: Shape, lines: usize) -> (Policy, [Duration; 2]) {
    let text = shape.configuration(lines, STATICS);
    let began = Instant::now();
    let config = match parse("router.conf", &text) {
        Ok((config, _)) => config,
        Err(errors) => panic!("the configuration does not load: {errors:?}"),
    };
    let read = began.elapsed();
    let began = Instant::now();
    let addresses = std::collections::HashMap::new();
    let policy = Policy::compile(Arc::new(config), &addresses, Default::default(), None);
    assert_eq!(policy.nat.statics.len(), STATICS);
    (policy, [read, began.elapsed()])
}

fn list(policy: &Policy) -> Arc<AccessList> {
    let list = policy.access_lists.get(&ListName::Number(lists::NUMBER));
    Arc::clone(list.expect("every configuration has the list"))
}

/// Packets that lines chosen at random are about, though an earlier line may have them first.
fn packets_of(entries: &[Entry], packets: usize) -> Vec<Subject> {
    let mut random = Random::new(2);
    let packet = |_| {
        let line = &entries[random.below(entries.len())];
        let mut address = |of: spillway_dataplane::acl::Wildcard| {
            of.address | (random.number() as u32 & of.dont_care)
        };
        Subject {
            protocol: line.protocol.unwrap_or(6),
            source: address(line.source),
            destination: address(line.destination),
            ports: Some((line.source_ports.first, line.destination_ports.first)),
            icmp: None,
            established: line.established,
            later_fragment: false,
        }
    };
    (0..packets).map(packet).collect()
}

/// Packets that no line matches.
fn strangers(list: &AccessList, many: usize) -> Vec<Subject> {
    let mut random = Random::new(3);
    let mut packets = Vec::new();
    while packets.len() < many {
        let address = |first: u8, random: &mut Random| {
            u32::from(first) << 24 | random.number() as u32 & 0x00ff_ffff
        };
        let packet = Subject {
            protocol: 17,
            source: address(11, &mut random),
            destination: address(12, &mut random),
            ports: Some((4000, 4000)),
            icmp: None,
            established: false,
            later_fragment: false,
        };
        if !list.entries().iter().any(|e| e.matches(&packet)) {
            packets.push(packet);
        }
    }
    packets
}

/// The median windows of both lists, measured in turn: nanoseconds a lookup.
fn in_turn(lists: &[Arc<AccessList>; 2], packets: &[Vec<Subject>; 2]) -> [f64; 2] {
    let mut windows = [Vec::new(), Vec::new()];
    for _ in 0..WINDOWS {
        for at in [0, 1] {
            windows[at].push(window(&lists[at], &packets[at]));
        }
    }
    windows.map(median)
}

/// Nanoseconds a lookup, each begun when the one before has ended.
fn window(list: &AccessList, packets: &[Subject]) -> f64 {
    let began = Instant::now();
    let mut before = 0;
    for packet in packets {
        let after = Subject {
            source: packet.source ^ before,
            ..*packet
        };
        // Zero, which the compiler does not know.
        before = black_box(u32::from(list.check(&after) == Action::Permit)) & black_box(0);
    }
    began.elapsed().as_nanos() as f64 / packets.len() as f64
}

/// What looking at one line after the other takes: nanoseconds a lookup.
fn line_by_line(policy: &Policy, packets: &[Subject]) -> f64 {
    let list = list(policy);
    let packets = &packets[..packets.len().min(LINEAR_PACKETS)];
    let began = Instant::now();
    for packet in packets {
        black_box(list.entries().iter().position(|e| e.matches(packet)));
    }
    began.elapsed().as_nanos() as f64 / packets.len() as f64
}

fn median(mut windows: Vec<f64>) -> f64 {
    windows.sort_by(f64::total_cmp);
    windows[windows.len() / 2]
}

/// An address as a configuration writes it.
fn text(address: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(address)
}
