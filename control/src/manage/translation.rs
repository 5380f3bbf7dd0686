//! One entry of the translation table, as text and as JSON.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Serialize, Serializer};
use spillway_dataplane::command::{Endpoint, SessionFilter, SessionView, TcpState};
use spillway_dataplane::esp::{HalfState, HalfView, Method};
use spillway_dataplane::nat::{Nat, OutsideStatic, Static, StaticEsp};
use spillway_dataplane::time::{Millis, Tick};
use spillway_dataplane::wire::PROTO_ESP;

use super::duration::age;
use super::vrf::{Vrf, VrfNames};

/// The first line of `show ip nat translations`.
pub(super) const HEADER: &str =
    "Pro Inside global      Inside local       Outside local      Outside global";

/// Where columns begin; the second one begins behind the protocol.
const COLUMNS: [usize; 3] = [23, 42, 61];

/// An address, and the port or ICMP identifier where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    pub(super) address: Ipv4Addr,
    pub(super) port: Option<u16>,
}

/// An entry, dynamic or static.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Translation {
    /// `None` for an address entry.
    #[serde(serialize_with = "protocol_as_name")]
    pub(super) protocol: Option<u8>,
    #[serde(rename = "static")]
    pub(super) is_static: bool,
    /// Of the inside host.
    pub(super) vrf: Vrf,
    /// `None` for an outside host's entry.
    pub(super) inside_global: Option<Place>,
    pub(super) inside_local: Option<Place>,
    pub(super) outside_local: Option<Place>,
    pub(super) outside_global: Option<Place>,
    pub(super) age_ms: u64,
    pub(super) idle_ms: u64,
    /// `None` means never.
    pub(super) timeout_ms: Option<u64>,
    pub(super) left_ms: Option<u64>,
    pub(super) tcp_state: Option<TcpState>,
    /// Of a connection that inside hosts share.
    pub(super) destination: bool,
    /// The dynamic mapping that made it.
    pub(super) rule: Option<u16>,
    pub(super) id: u32,
    pub(super) worker: Option<u8>,
    /// Of an endpoint-independent mapping, and of an address lent by a route map: the entries under
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) children: Option<u32>,
    /// Of ESP alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) half: Option<Half>,
}

/// What an ESP half-entry knows besides addresses. SPIs and cookies are written in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Half {
    /// `out` or `in`.
    direction: &'static str,
    /// The SPI of packets going out; of an inbound half, its partner's.
    #[serde(serialize_with = "spi_as_hex")]
    spi_out: Option<u32>,
    /// The SPI of packets coming in; of an outbound half, its partner's.
    #[serde(serialize_with = "spi_as_hex")]
    spi_in: Option<u32>,
    /// `paired`, `open` or `queued`.
    state: &'static str,
    /// `static`, `matched`, `learned` or `ike`; `None` before it is paired.
    pairing: Option<&'static str>,
    /// The IKE of the same two hosts, if it was seen.
    ike: Option<Ike>,
}

/// The IKE of a client and its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Ike {
    #[serde(serialize_with = "cookie_as_hex")]
    initiator: u64,
    #[serde(serialize_with = "cookie_as_hex")]
    responder: u64,
    /// Exchanges seen that could make IPsec SAs.
    exchanges: u32,
    /// SAs of these that ESP has not shown yet.
    unpaired: u32,
}

impl From<HalfView> for Half {
    fn from(half: HalfView) -> Half {
        Half {
            direction: if half.is_inbound { "in" } else { "out" },
            spi_out: half.spi_out,
            spi_in: half.spi_in,
            state: match half.state {
                HalfState::Paired => "paired",
                HalfState::Open => "open",
                HalfState::Queued => "queued",
            },
            pairing: half.method.map(Method::name),
            ike: half.ike.map(|ike| Ike {
                initiator: ike.cookies.0,
                responder: ike.cookies.1,
                exchanges: ike.exchanges,
                unpaired: ike.unpaired,
            }),
        }
    }
}

fn spi_as_hex<S: Serializer>(spi: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
    match spi {
        Some(spi) => serializer.collect_str(&format_args!("{spi:X}")),
        None => serializer.serialize_none(),
    }
}

fn cookie_as_hex<S: Serializer>(cookie: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{cookie:016X}"))
}

impl Translation {
    /// A dynamic entry.
    pub(super) fn new(session: SessionView, vrfs: &VrfNames) -> Translation {
        let extended = session.protocol != 0;
        let place = |endpoint: Endpoint| Place {
            address: endpoint.address,
            port: extended.then_some(endpoint.port),
        };
        let inside = |endpoint: Endpoint| {
            let is_there = !endpoint.address.is_unspecified();
            is_there.then(|| place(endpoint))
        };
        Translation {
            protocol: extended.then_some(session.protocol),
            is_static: false,
            vrf: vrfs.vrf(session.vrf),
            inside_global: inside(session.inside_global),
            inside_local: inside(session.inside_local),
            outside_local: session.outside_local.map(place),
            outside_global: session.outside_global.map(place),
            age_ms: session.age_ms,
            idle_ms: session.idle_ms,
            timeout_ms: session.timeout_ms,
            left_ms: session
                .timeout_ms
                .map(|t| t.saturating_sub(session.idle_ms)),
            tcp_state: session.tcp,
            destination: session.is_shared,
            rule: Some(session.rule),
            id: session.id,
            worker: Some(session.worker.0),
            children: session.children,
            half: session.half.map(Half::from),
        }
    }

    /// A static that translates nothing and was never used; `id` is its place among the statics, from 1.
    fn fixed(id: u32, age_ms: u64) -> Translation {
        Translation {
            protocol: None,
            is_static: true,
            vrf: Vrf::default(),
            inside_global: None,
            inside_local: None,
            outside_local: None,
            outside_global: None,
            age_ms,
            idle_ms: age_ms,
            timeout_ms: None,
            left_ms: None,
            tcp_state: None,
            destination: false,
            rule: None,
            id,
            worker: None,
            children: None,
            half: None,
        }
    }

    /// The entry of a static.
    fn of_static(entry: &Static, vrfs: &VrfNames, id: u32, now: Millis) -> Translation {
        let age_ms = now.since(entry.created.millis());
        Translation {
            protocol: entry.port.map(|p| p.protocol),
            vrf: vrfs.vrf(entry.vrf),
            inside_global: Some(Place {
                address: entry.global,
                port: entry.port.map(|p| p.global),
            }),
            inside_local: Some(Place {
                address: entry.inside,
                port: entry.port.map(|p| p.inside),
            }),
            idle_ms: idle(&entry.last_used, age_ms, now),
            ..Translation::fixed(id, age_ms)
        }
    }

    /// The entries of all statics, with those for ESP behind the others.
    pub(super) fn of_statics(
        nat: &Nat,
        vrfs: &VrfNames,
        now: Millis,
    ) -> impl Iterator<Item = Translation> {
        let plain = nat.statics.iter().zip(1..);
        let plain = plain.map(move |(entry, id)| Translation::of_static(entry, vrfs, id, now));
        let esp = nat
            .ipsec
            .static_esp
            .iter()
            .zip(nat.statics.len() as u32 + 1..);
        let outside = nat.outside.statics.iter();
        let behind = nat.statics.len() + nat.ipsec.static_esp.len();
        let outside = outside.zip(behind as u32 + 1..);
        plain
            .chain(esp.map(move |(entry, id)| Translation::of_static_esp(entry, id, now)))
            .chain(outside.map(move |(entry, id)| Translation::of_outside(entry, id, now)))
    }

    fn of_outside(entry: &OutsideStatic, id: u32, now: Millis) -> Translation {
        let place = |address| Place {
            address,
            port: None,
        };
        let age_ms = now.since(entry.created.millis());
        Translation {
            outside_local: Some(place(entry.local)),
            outside_global: Some(place(entry.global)),
            idle_ms: idle(&entry.last_used, age_ms, now),
            ..Translation::fixed(id, age_ms)
        }
    }

    fn of_static_esp(entry: &StaticEsp, id: u32, now: Millis) -> Translation {
        let place = |address| Place {
            address,
            port: Some(0),
        };
        Translation {
            protocol: Some(PROTO_ESP),
            inside_global: Some(place(entry.global)),
            inside_local: Some(place(entry.inside)),
            ..Translation::fixed(id, now.since(entry.created.millis()))
        }
    }

    /// Whether the filter means this entry: [`SessionFilter::matches`] for statics.
    pub(super) fn is_meant_by(&self, filter: &SessionFilter) -> bool {
        let side = |wanted: Option<(Ipv4Addr, Option<u16>)>, have: Option<Place>| match wanted {
            None => true,
            Some((address, port)) => have.is_some_and(|have| {
                have.address == address && port.is_none_or(|port| have.port == Some(port))
            }),
        };
        filter
            .protocol
            .is_none_or(|p| p == self.protocol.unwrap_or(0))
            && filter.vrf.is_none_or(|vrf| vrf == self.vrf.id)
            && side(filter.inside_local, self.inside_local)
            && side(filter.inside_global, self.inside_global)
            && side(filter.outside_local, self.outside_local)
            && side(filter.outside_global, self.outside_global)
    }

    /// Whether the entry has ports.
    pub(super) fn is_extended(&self) -> bool {
        self.protocol.is_some()
    }

    /// The SPI that a half shows instead of port 0: inside local of an outbound one, outside global
    /// of an inbound one.
    fn spi_at(&self, column: usize) -> Option<u32> {
        let half = self.half?;
        match (column, half.direction) {
            (0, "out") => half.spi_out,
            (2, "in") => half.spi_in,
            _ => None,
        }
    }

    /// Appends the entry's row.
    pub(super) fn write_row(&self, text: &mut String) {
        let protocol = self.protocol.map_or("---".into(), protocol_name);
        let start = text.len();
        text.push_str(&protocol);
        text.push(' ');
        write_place(text, self.inside_global);
        let places = [self.inside_local, self.outside_local, self.outside_global];
        for (at, (column, place)) in COLUMNS.into_iter().zip(places).enumerate() {
            let gap = column.saturating_sub(text.len() - start).max(1);
            text.extend(std::iter::repeat_n(' ', gap));
            match (self.spi_at(at), place) {
                (Some(spi), Some(place)) => {
                    let _ = write!(text, "{}:{spi:X}", place.address);
                }
                _ => write_place(text, place),
            }
        }
        text.push('\n');
    }

    /// Appends the three lines that `verbose` adds.
    pub(super) fn write_details(&self, text: &mut String) {
        let _ = write!(
            text,
            "    create {}, use {} timeout:{},",
            age(self.age_ms),
            age(self.idle_ms),
            self.timeout_ms.unwrap_or(0),
        );
        if let Some(left) = self.left_ms {
            let _ = write!(text, " left {},", age(left));
        }
        if let Some(rule) = self.rule {
            let way = if self.inside_local.is_some() {
                "In"
            } else {
                "Out"
            };
            let _ = write!(text, " Map-Id({way}): {rule},");
        }
        let count = self.children.unwrap_or(0);
        let _ = write!(text, "\n    flags:\n{}, use_count: {count}, ", self.flags());
        if let Some(name) = &self.vrf.name {
            let _ = write!(text, "VRF : {name}, ");
        }
        let _ = writeln!(text, "entry-id: {}, lc_entries: 0", self.id);
    }

    fn flags(&self) -> String {
        let timing_out = matches!(self.tcp_state, Some(TcpState::Closed | TcpState::Reset));
        let flags: Vec<&str> = [
            (self.is_extended(), "extended"),
            (self.is_static, "static"),
            (self.inside_local.is_none(), "outside"),
            (self.destination, "destination"),
            (timing_out, "timing-out"),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect();
        if flags.is_empty() {
            "none".into()
        } else {
            flags.join(", ")
        }
    }
}

/// Milliseconds since the tick of the last use, or since it was made where there was none.
fn idle(last_used: &AtomicU32, age_ms: u64, now: Millis) -> u64 {
    match last_used.load(Ordering::Relaxed) {
        0 => age_ms,
        tick => now.since(Tick(tick).millis()).min(age_ms),
    }
}

/// The protocol's name in tables and JSON; its number where it has none here.
pub(super) fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        47 => "gre".into(),
        50 => "esp".into(),
        other => other.to_string(),
    }
}

fn protocol_as_name<S: serde::Serializer>(
    protocol: &Option<u8>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    protocol.map(protocol_name).serialize(serializer)
}

fn write_place(text: &mut String, place: Option<Place>) {
    let _ = match place {
        None => write!(text, "---"),
        Some(Place {
            address,
            port: None,
        }) => write!(text, "{address}"),
        Some(Place {
            address,
            port: Some(port),
        }) => write!(text, "{address}:{port}"),
    };
}
