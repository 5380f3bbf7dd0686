//! The lists and packets as numbers, for another program that looks up the same.
//!
//! `KIND-LINES.txt` holds `LINES FOUND DENIED` (how many lines, packets that lines are about, and packets that none matches),
//! then a line for each of them, in decimal:
//!
//! - line: protocol (0 for `ip`), source, its wildcard mask, destination, its wildcard mask, first and last source port, first and
//!   last destination port, whether `established`;
//! - packet: protocol, source, destination, source port, destination port, whether it has ACK or RST, and the first line that
//!   matches, counted from 1 (0 for none).

use std::fmt::Write as _;
use std::path::Path;

use spillway_dataplane::acl::{AccessList, Action, Entry, Subject};

use crate::lists::Shape;

/// Writes one list and its packets: those that lines are about, and those that none matches.
pub(crate) fn write(
    folder: &Path,
    shape: Shape,
    list: &AccessList,
    (found, denied): (&Vec<Subject>, &Vec<Subject>),
) {
    let entries = list.entries();
    let mut text = format!("{} {} {}\n", entries.len(), found.len(), denied.len());
    for entry in entries {
        line(&mut text, entry);
    }
    for packet in found.iter().chain(denied) {
        let at = entries.iter().position(|e| e.matches(packet));
        let action = at.map_or(Action::Deny, |at| entries[at].action);
        assert_eq!(list.decide(packet), action, "{packet:?}");
        let (from, to) = packet.ports.expect("every packet has ports");
        let _ = writeln!(
            text,
            "{} {} {} {from} {to} {} {}",
            packet.protocol,
            packet.source,
            packet.destination,
            u8::from(packet.established),
            at.map_or(0, |at| at + 1),
        );
    }
    let file = folder.join(format!("{}-{}.txt", shape.name(), entries.len()));
    std::fs::write(&file, text).expect("the folder can be written to");
}

fn line(text: &mut String, entry: &Entry) {
    let ports = [entry.source_ports, entry.destination_ports];
    let more = ports.iter().any(|p| p.negated) || entry.icmp.is_some() || entry.fragments;
    assert!(!more, "a line asks for what is not written: {entry:?}");
    let _ = writeln!(
        text,
        "{} {} {} {} {} {} {} {} {} {}",
        entry.protocol.unwrap_or_default(),
        entry.source.address,
        entry.source.dont_care,
        entry.destination.address,
        entry.destination.dont_care,
        ports[0].first,
        ports[0].last,
        ports[1].first,
        ports[1].last,
        u8::from(entry.established),
    );
}
