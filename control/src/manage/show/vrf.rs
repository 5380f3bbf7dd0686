//! `show ip vrf`.

use std::collections::BTreeMap;

use serde::Serialize;
use spillway_dataplane::snapshot::VrfId;

use super::json;
use crate::manage::appliance::Appliance;
use crate::manage::command::{Failure, Format};
use crate::manage::output::{Output, Sink};

const HEADER: &str = "  Name                             Default RD          Interfaces";

#[derive(Serialize)]
struct Row {
    name: String,
    /// The number by which the data plane and the kernel know it.
    id: u8,
    rd: Option<String>,
    description: Option<String>,
    interfaces: Vec<String>,
}

/// All VRFs in the order of their names, or `only` this one.
pub(in crate::manage) async fn vrfs<S: Sink>(
    appliance: &Appliance,
    only: Option<VrfId>,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let policy = appliance.parts.description.policy();
    let wanted = policy.vrfs.iter();
    let wanted = wanted.filter(|(_, id)| only.is_none_or(|only| only == *id));
    let row = |(name, id): (&str, VrfId)| {
        let vrf = policy.config.vrf(name);
        let interfaces = policy.config.interfaces.iter();
        let interfaces = interfaces.filter(|i| i.vrf.as_deref() == Some(name));
        Row {
            name: name.to_owned(),
            id: id.0,
            rd: vrf.and_then(|vrf| vrf.rd.clone()),
            description: vrf.and_then(|vrf| vrf.description.clone()),
            interfaces: interfaces.map(|i| i.name.clone()).collect(),
        }
    };
    let rows: Vec<Row> = wanted.map(row).collect();
    if format == Format::Json {
        out.line(json(&BTreeMap::from([("vrfs", rows)]))?);
        return Ok(());
    }
    out.line(HEADER);
    for row in rows {
        let rd = row.rd.as_deref().unwrap_or("<not set>");
        let (first, more) = match row.interfaces.split_first() {
            Some((first, more)) => (first.as_str(), more),
            None => ("", &[][..]),
        };
        out.line(format!("  {:<32} {rd:<19} {first}", row.name).trim_end());
        for interface in more {
            out.line(format!("{:55}{interface}", ""));
        }
        out.flush_piece().await?;
    }
    Ok(())
}
