//! The figures of `show ip nat statistics`, and what `clear ip nat statistics` does to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::Serialize;
use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::esp::{EspCounter, EspOccupancy};
use spillway_dataplane::nat::{OneToOnePool, Target};
use spillway_dataplane::snapshot::Side;
use spillway_dataplane::stats::{Counter, DropReason};

use super::appliance::{Appliance, PoolText, WorkerHandle};
use super::ask::{AskError, SessionStream};
use super::vrf::VrfNames;

/// Counters at the last `clear ip nat statistics`. Only workers write their counters, so clearing
/// remembers what they were.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Baseline(Counts);

/// The counters that `show ip nat statistics` prints, over all workers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    hits: u64,
    misses: u64,
    created: u64,
    expired: u64,
    pool_exhausted: u64,
    ports_exhausted: u64,
    esp_held: u64,
    esp_released: u64,
    esp_drops: [u64; ESP_DROPS.len()],
}

/// The drops that `show ip nat statistics` prints in its line about ESP, and their words there.
pub(super) const ESP_DROPS: [(DropReason, &str); 6] = [
    (DropReason::EspAmbiguous, "ambiguous"),
    (DropReason::EspHoldFull, "hold full"),
    (DropReason::EspPendingExpired, "pending expired"),
    (DropReason::EspSpiCollision, "collision"),
    (DropReason::EspUnknownSpi, "unknown SPI"),
    (DropReason::EspMalformed, "malformed"),
];

impl Counts {
    fn read(appliance: &Appliance) -> Counts {
        let counter = |c| appliance.counter(c);
        let esp = |c| appliance.esp_counter(c);
        Counts {
            hits: counter(Counter::Hits),
            misses: counter(Counter::Misses),
            created: [
                Counter::CreatedTcp,
                Counter::CreatedUdp,
                Counter::CreatedIcmp,
                Counter::CreatedSimple,
            ]
            .into_iter()
            .map(counter)
            .sum(),
            expired: counter(Counter::Expired)
                + esp(EspCounter::Expired)
                + esp(EspCounter::IkeExpired),
            esp_held: esp(EspCounter::HeldOut) + esp(EspCounter::HeldIn),
            esp_released: esp(EspCounter::Released),
            esp_drops: ESP_DROPS.map(|(reason, _)| appliance.drops(reason)),
            pool_exhausted: appliance.drops(DropReason::PoolExhausted),
            ports_exhausted: appliance.drops(DropReason::PortsExhausted),
        }
    }

    fn since(self, Baseline(base): Baseline) -> Counts {
        Counts {
            hits: self.hits.saturating_sub(base.hits),
            misses: self.misses.saturating_sub(base.misses),
            created: self.created.saturating_sub(base.created),
            expired: self.expired.saturating_sub(base.expired),
            pool_exhausted: self.pool_exhausted.saturating_sub(base.pool_exhausted),
            ports_exhausted: self.ports_exhausted.saturating_sub(base.ports_exhausted),
            esp_held: self.esp_held.saturating_sub(base.esp_held),
            esp_released: self.esp_released.saturating_sub(base.esp_released),
            esp_drops: std::array::from_fn(|at| {
                self.esp_drops[at].saturating_sub(base.esp_drops[at])
            }),
        }
    }
}

impl Appliance {
    /// A counter, over all workers.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.workers()
            .iter()
            .map(|w| w.stats.counter(counter))
            .sum()
    }

    /// What the workers hold of ESP and IKE.
    #[must_use]
    pub fn esp_occupancy(&self) -> EspOccupancy {
        let mut sum = EspOccupancy::default();
        for worker in self.workers() {
            let one = worker.stats.esp.occupancy();
            sum.tunnels += one.tunnels;
            sum.half_open += one.half_open;
            sum.inbound += one.inbound;
            sum.relations += one.relations;
            sum.ike_entries += one.ike_entries;
            sum.ike_sas += one.ike_sas;
            sum.held_packets += one.held_packets;
            sum.held_octets += one.held_octets;
        }
        sum
    }

    /// A counter of ESP and IKE, over all workers.
    #[must_use]
    pub fn esp_counter(&self, counter: EspCounter) -> u64 {
        let of = |w: &WorkerHandle| w.stats.esp.counter(counter);
        self.workers().iter().map(of).sum()
    }

    /// Packets dropped for a reason, over all workers.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.workers().iter().map(|w| w.stats.drops(reason)).sum()
    }

    /// `clear ip nat statistics`: counts from zero again. Counters in `/stats` and `/metrics` go on.
    pub fn clear_statistics(&self) {
        *self.baseline() = Baseline(Counts::read(self));
    }
}

/// `show ip nat statistics`, in the shape of its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Statistics {
    pub(super) translations: Totals,
    pub(super) peak: Peak,
    pub(super) outside_interfaces: Vec<String>,
    pub(super) inside_interfaces: Vec<String>,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) translated_packets: u64,
    pub(super) expired: u64,
    pub(super) esp: Esp,
    pub(super) mappings: Vec<Mapping>,
}

/// ESP and IKE: what is there now, and what was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Esp {
    pub(super) tunnels: u64,
    pub(super) half_open: u64,
    pub(super) ike_entries: u64,
    /// Packets.
    pub(super) held: u64,
    pub(super) held_total: u64,
    pub(super) released_total: u64,
    pub(super) drops: BTreeMap<&'static str, u64>,
}

impl Esp {
    /// Whether there is or was any ESP or IKE.
    pub(super) fn is_in_use(&self) -> bool {
        let now = self.tunnels + self.half_open + self.ike_entries + self.held;
        now + self.held_total + self.drops.values().sum::<u64>() > 0
    }

    fn new(occupancy: &EspOccupancy, counts: &Counts) -> Esp {
        let drops = ESP_DROPS.iter().zip(counts.esp_drops);
        Esp {
            tunnels: occupancy.tunnels as u64,
            half_open: occupancy.half_open as u64,
            ike_entries: occupancy.ike_entries as u64,
            held: occupancy.held_packets as u64,
            held_total: counts.esp_held,
            released_total: counts.esp_released,
            drops: drops.map(|((reason, _), n)| (reason.name(), n)).collect(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    pub(super) active: u64,
    #[serde(rename = "static")]
    pub(super) statics: u64,
    pub(super) dynamic: u64,
    pub(super) extended: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Peak {
    pub(super) translations: u64,
    /// `None` if there was never an entry.
    pub(super) age_ms: Option<u64>,
}

/// What a mapping translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// `ip nat inside source`.
    InsideSource,
    /// `ip nat outside source`.
    OutsideSource,
    /// `ip nat inside destination`.
    InsideDestination,
}

impl Kind {
    /// All of them in the order and with the headings of the text.
    pub(super) const HEADINGS: [(Kind, &str); 3] = [
        (Kind::InsideSource, "-- Inside Source"),
        (Kind::InsideDestination, "-- Inside Destination"),
        (Kind::OutsideSource, "-- Outside Source"),
    ];
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Mapping {
    pub(super) kind: Kind,
    pub(super) id: u16,
    pub(super) text: String,
    /// `None` is the global table.
    pub(super) vrf: Option<String>,
    pub(super) refcount: u64,
    pub(super) pool: Option<Pool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) netmask: Ipv4Addr,
    pub(super) ranges: Vec<Range>,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) total_addresses: u64,
    pub(super) allocated_addresses: u64,
    pub(super) misses: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Range {
    pub(super) start: Ipv4Addr,
    pub(super) end: Ipv4Addr,
}

/// Reads the counters and walks all entries once, for the counts by mapping.
pub(super) async fn gather(appliance: &Appliance) -> Result<Statistics, AskError> {
    let (mut dynamic, mut extended) = (0, 0);
    let mut by_rule: BTreeMap<u16, u64> = BTreeMap::new();
    // Hosts that have connections; there are at most as many as a configuration may name.
    let mut servers: BTreeMap<u16, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    let mut sessions = SessionStream::new(appliance, SessionFilter::default());
    while let Some(session) = sessions.next().await? {
        dynamic += 1;
        extended += u64::from(session.protocol != 0);
        *by_rule.entry(session.rule).or_default() += 1;
        if session.is_shared {
            let host = session.inside_local.address;
            servers.entry(session.rule).or_default().insert(host);
        }
    }
    let snapshot = appliance.snapshot();
    let static_esp = snapshot.nat.ipsec.static_esp.len() as u64;
    let outside = snapshot.nat.outside.statics.len() as u64;
    let statics = snapshot.nat.statics.len() as u64 + outside + static_esp;
    extended += static_esp;
    extended += snapshot
        .nat
        .statics
        .iter()
        .filter(|s| s.port.is_some())
        .count() as u64;
    let on = |side| {
        let there = snapshot.interfaces.iter().filter(|i| i.side == side);
        there.map(|i| i.name.clone()).collect()
    };
    let counts = Counts::read(appliance).since(*appliance.baseline());
    let (peak, peak_at) = appliance.parts.occupancy.peak();
    let refcount = |id: u16| by_rule.get(&id).copied().unwrap_or(0);
    let vrfs = VrfNames::of(appliance);
    let inside = snapshot.nat.rules.iter().map(|rule| {
        let in_use = in_use(&rule.target, counts);
        let what = (Kind::InsideSource, rule.id);
        Mapping {
            vrf: vrfs.name(rule.vrf),
            ..mapping(appliance, what, refcount(rule.id), in_use)
        }
    });
    let shared = snapshot.nat.destinations.rules.iter().map(|rule| {
        // Its hosts are not lent: each may have any number of connections.
        let in_use = Use {
            total: u64::from(rule.servers.count()),
            allocated: servers.get(&rule.id).map_or(0, |hosts| hosts.len() as u64),
            misses: counts.pool_exhausted,
        };
        let what = (Kind::InsideDestination, rule.id);
        mapping(appliance, what, refcount(rule.id), in_use)
    });
    let outside = snapshot.nat.outside.rules.iter().map(|rule| {
        let in_use = lent(rule.pool.addresses(), counts);
        let what = (Kind::OutsideSource, rule.id);
        mapping(appliance, what, refcount(rule.id), in_use)
    });
    Ok(Statistics {
        translations: Totals {
            active: statics + dynamic,
            statics,
            dynamic,
            extended,
        },
        peak: Peak {
            translations: peak,
            age_ms: (peak > 0).then(|| appliance.now().since(peak_at)),
        },
        outside_interfaces: on(Side::Outside),
        inside_interfaces: on(Side::Inside),
        hits: counts.hits,
        misses: counts.misses,
        translated_packets: counts.hits + counts.created,
        expired: counts.expired,
        esp: Esp::new(&appliance.esp_occupancy(), &counts),
        mappings: inside.chain(shared).chain(outside).collect(),
    })
}

fn mapping(appliance: &Appliance, (kind, id): (Kind, u16), refcount: u64, in_use: Use) -> Mapping {
    let text = appliance.parts.description.rule(id);
    let (text, pool) = text.map_or((String::new(), None), |t| (t.text, t.pool));
    Mapping {
        kind,
        id,
        text,
        vrf: None,
        refcount,
        pool: pool.map(|pool| describe_pool(pool, in_use)),
    }
}

/// How much of a pool is in use.
struct Use {
    total: u64,
    allocated: u64,
    misses: u64,
}

fn in_use(target: &Target, counts: Counts) -> Use {
    match target {
        Target::Overload(addresses) => {
            let lent = addresses.iter().filter(|a| a.ports_in_use() > 0).count();
            Use {
                total: addresses.len() as u64,
                allocated: lent as u64,
                misses: counts.ports_exhausted,
            }
        }
        Target::OneToOne(pool) => lent(pool, counts),
    }
}

fn lent(pool: &OneToOnePool, counts: Counts) -> Use {
    Use {
        total: u64::from(pool.size()),
        allocated: u64::from(pool.lent()),
        misses: counts.pool_exhausted,
    }
}

fn describe_pool(text: PoolText, in_use: Use) -> Pool {
    Pool {
        name: text.name,
        netmask: text.netmask,
        ranges: text
            .ranges
            .into_iter()
            .map(|(start, end)| Range { start, end })
            .collect(),
        kind: text.kind.name(),
        total_addresses: in_use.total,
        allocated_addresses: in_use.allocated,
        misses: in_use.misses,
    }
}
