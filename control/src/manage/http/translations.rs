//! `GET /translations`: a page of the table.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::Serialize;
use spillway_dataplane::command::SessionFilter;

use crate::manage::appliance::Appliance;
use crate::manage::ask::{AskError, SessionStream};
use crate::manage::translation::Translation;
use crate::manage::vrf::{self, VrfNames};

/// Entries on a page unless the reader says otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Most entries on a page: what one answer may take of memory.
const MAX_LIMIT: usize = 10_000;

/// What the reader wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    filter: SessionFilter,
    /// Only of the VRF of this name.
    vrf: Option<String>,
    limit: usize,
    /// Matching entries before this page.
    skip: u64,
}

/// A page, and the cursor of the next one.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    translations: Vec<Translation>,
    next_cursor: Option<String>,
}

impl Wanted {
    /// Reads the query.
    pub(super) fn new(query: &[(String, String)]) -> Result<Wanted, String> {
        let mut wanted = Wanted {
            filter: SessionFilter::default(),
            vrf: None,
            limit: DEFAULT_LIMIT,
            skip: 0,
        };
        let mut names = BTreeSet::new();
        for (name, text) in query {
            if !names.insert(name) {
                return Err(format!("{name} is given twice"));
            }
            let filter = &mut wanted.filter;
            match name.as_str() {
                "proto" => filter.protocol = Some(protocol(text)?),
                "inside_local" => filter.inside_local = Some(place(name, text)?),
                "inside_global" => filter.inside_global = Some(place(name, text)?),
                "outside_local" => filter.outside_local = Some(place(name, text)?),
                "outside_global" => filter.outside_global = Some(place(name, text)?),
                "vrf" => wanted.vrf = Some(text.clone()),
                "limit" => wanted.limit = limit(text)?,
                "cursor" => {
                    wanted.skip = text
                        .parse()
                        .map_err(|_| format!("cursor is not one that was given: {text}"))?;
                }
                _ => {
                    return Err(format!(
                        "no parameter {name}; there are proto, vrf, inside_local, inside_global, outside_local, outside_global, limit and cursor"
                    ));
                }
            }
        }
        Ok(wanted)
    }

    /// Looks up the VRF, if one is wanted.
    pub(super) fn with_vrf(mut self, appliance: &Appliance) -> Result<Wanted, String> {
        if let Some(name) = &self.vrf {
            let found = vrf::find(appliance, name);
            self.filter.vrf = Some(found.ok_or_else(|| format!("there is no VRF {name}"))?);
        }
        Ok(self)
    }
}

fn protocol(text: &str) -> Result<u8, String> {
    match text {
        "icmp" => Ok(1),
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "esp" => Ok(50),
        "none" => Ok(0),
        _ => Err(format!(
            "proto is icmp, tcp, udp, esp, or none for address entries; not {text}"
        )),
    }
}

fn place(name: &str, text: &str) -> Result<(Ipv4Addr, Option<u16>), String> {
    let (address, port) = match text.split_once(':') {
        Some((address, port)) => (address, Some(port)),
        None => (text, None),
    };
    let port = port.map(str::parse).transpose();
    match (address.parse(), port) {
        (Ok(address), Ok(port)) => Ok((address, port)),
        _ => Err(format!("{name} is ADDRESS or ADDRESS:PORT; not {text}")),
    }
}

fn limit(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| format!("limit is 1 to {MAX_LIMIT}; not {text}"))
}

/// Collects the page: statics first, then the workers' entries in their order.
pub(super) async fn page(appliance: &Appliance, wanted: &Wanted) -> Result<Page, AskError> {
    let mut page = Page {
        translations: Vec::new(),
        next_cursor: None,
    };
    let mut seen = 0;
    // Whether the page was full before this entry.
    let mut full = |entry: Translation| {
        seen += 1;
        if seen <= wanted.skip {
            return false;
        }
        if page.translations.len() == wanted.limit {
            page.next_cursor = Some((wanted.skip + wanted.limit as u64).to_string());
            return true;
        }
        page.translations.push(entry);
        false
    };
    let (snapshot, now) = (appliance.snapshot(), appliance.now());
    let vrfs = VrfNames::of(appliance);
    for entry in Translation::of_statics(&snapshot.nat, &vrfs, now) {
        if entry.is_meant_by(&wanted.filter) && full(entry) {
            return Ok(page);
        }
    }
    let mut sessions = SessionStream::new(appliance, wanted.filter);
    while let Some(session) = sessions.next().await? {
        if full(Translation::new(session, &vrfs)) {
            break;
        }
    }
    Ok(page)
}
