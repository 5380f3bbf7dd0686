//! `show ip route [vrf V]`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;
use spillway_dataplane::fib::Route;
use spillway_dataplane::snapshot::{Snapshot, VrfId};

use super::json;
use crate::manage::appliance::Appliance;
use crate::manage::command::{Failure, Format};
use crate::manage::output::{Output, Sink};
use crate::manage::vrf::VrfNames;

const CODES: &str = "\
Codes: C - connected, S - static, R - RIP, B - BGP
       D - EIGRP, O - OSPF, i - IS-IS, K - kernel
       * - candidate default
";

#[derive(Serialize)]
struct Row {
    prefix: Ipv4Net,
    origin: &'static str,
    #[serde(skip)]
    code: char,
    via: Option<Ipv4Addr>,
    interface: Option<String>,
    unreachable: bool,
    distance: Option<u8>,
    metric: Option<u32>,
}

#[derive(Serialize)]
struct Routes {
    vrf: Option<String>,
    routes: Vec<Row>,
}

pub(in crate::manage) async fn routes<S: Sink>(
    appliance: &Appliance,
    vrf: VrfId,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let snapshot = appliance.snapshot();
    let all = || snapshot.fib.routes(vrf);
    let rows = all().map(|(prefix, route)| row(appliance, &snapshot, (vrf, prefix), route));
    let name = VrfNames::of(appliance).name(vrf);
    if format == Format::Json {
        let routes = rows.collect();
        out.line(json(&Routes { vrf: name, routes })?);
        return Ok(());
    }
    if let Some(name) = name {
        out.line(format!("Routing Table: {name}"));
    }
    out.text().push_str(CODES);
    let default = all().find(|(prefix, _)| prefix.prefix_len() == 0);
    out.line(match default {
        Some((_, Route::Via { via, .. })) => {
            format!("\nGateway of last resort is {via} to network 0.0.0.0\n")
        }
        _ => "\nGateway of last resort is not set\n".into(),
    });
    for row in rows {
        out.line(text(&row));
        out.flush_piece().await?;
    }
    Ok(())
}

fn row(
    appliance: &Appliance,
    snapshot: &Snapshot,
    (vrf, prefix): (VrfId, Ipv4Net),
    route: Route,
) -> Row {
    let (port, via) = match route {
        Route::Connected { port } => (Some(port), None),
        Route::Via { port, via } => (Some(port), Some(via)),
        Route::Unreachable => (None, None),
    };
    let connected = matches!(route, Route::Connected { .. });
    let known = appliance
        .parts
        .description
        .route(vrf, prefix, via)
        .filter(|_| !connected);
    let (origin, code) = match known {
        _ if connected => ("connected", 'C'),
        Some(route) => (route.origin.name(), route.origin.code()),
        None => ("kernel", 'K'),
    };
    let distance = known.and_then(|route| route.distance);
    Row {
        prefix,
        origin,
        code,
        via,
        interface: port
            .and_then(|port| snapshot.interface(port))
            .map(|i| i.name.clone()),
        unreachable: route == Route::Unreachable,
        distance: distance.map(|d| d.0),
        metric: distance.map(|d| d.1),
    }
}

fn text(row: &Row) -> String {
    let default = if row.prefix.prefix_len() == 0 {
        '*'
    } else {
        ' '
    };
    let preference = match (row.distance, row.metric) {
        (Some(distance), Some(metric)) => format!(" [{distance}/{metric}]"),
        _ => String::new(),
    };
    let interface = row.interface.as_deref().unwrap_or("Null0");
    let head = format!("{}{default}    {}", row.code, row.prefix);
    match row.via {
        Some(via) => format!("{head}{preference} via {via}, {interface}"),
        None => format!("{head} is directly connected, {interface}"),
    }
}
