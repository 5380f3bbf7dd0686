//! `show arp`: our own addresses and the neighbours that the data plane knows.

use std::net::Ipv4Addr;

use serde::Serialize;
use spillway_dataplane::fib::Neighbour;

use super::{colons, dotted, json};
use crate::manage::appliance::Appliance;
use crate::manage::command::{Failure, Format};
use crate::manage::output::{Output, Sink};

const HEADER: &str = "Protocol  Address          Age (min)  Hardware Addr   Type   Interface";

struct Row {
    address: Ipv4Addr,
    mac: Option<[u8; 6]>,
    interface: String,
    own: bool,
}

#[derive(Serialize)]
struct Arp {
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    address: Ipv4Addr,
    mac: Option<String>,
    interface: String,
    own: bool,
    state: &'static str,
}

pub(in crate::manage) async fn arp<S: Sink>(
    appliance: &Appliance,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let rows = rows(appliance);
    if format == Format::Json {
        let entries = rows.into_iter().map(entry).collect();
        out.line(json(&Arp { entries })?);
        return Ok(());
    }
    out.line(HEADER);
    for row in rows {
        // The kernel's neighbour table keeps the age; the data plane has none to show.
        let mac = row.mac.map_or("Incomplete".into(), dotted);
        out.line(format!(
            "Internet  {:<15}  {:>9}  {mac:<14}  ARPA   {}",
            row.address.to_string(),
            "-",
            row.interface
        ));
        out.flush_piece().await?;
    }
    Ok(())
}

fn rows(appliance: &Appliance) -> Vec<Row> {
    let snapshot = appliance.snapshot();
    let own = snapshot.interfaces.iter().filter_map(|i| {
        Some(Row {
            address: i.address?.addr(),
            mac: Some(i.mac),
            interface: i.name.clone(),
            own: true,
        })
    });
    let learnt = snapshot.fib.neighbours().map(|(hop, neighbour)| Row {
        address: hop.address,
        mac: match neighbour {
            Neighbour::Reachable(mac) => Some(mac),
            Neighbour::Failed => None,
        },
        interface: snapshot
            .interface(hop.port)
            .map_or_else(String::new, |i| i.name.clone()),
        own: false,
    });
    let mut rows: Vec<Row> = own.chain(learnt).collect();
    rows.sort_by_key(|row| row.address);
    rows
}

fn entry(row: Row) -> Entry {
    Entry {
        address: row.address,
        mac: row.mac.map(colons),
        interface: row.interface,
        own: row.own,
        state: match (row.own, row.mac) {
            (true, _) => "own",
            (false, Some(_)) => "reachable",
            (false, None) => "failed",
        },
    }
}
