//! `GET /metrics`: the counters in the text format that Prometheus reads.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use spillway_dataplane::esp::{EspCounter, EspOccupancy};
use spillway_dataplane::stats::{Counter, DropReason};

use super::appliance::{Appliance, FlowRules, WorkerHandle};
use super::stats::{PortStats, Traffic, port_stats};

/// The content type of the answer.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of the appliance.
pub(super) fn encode(appliance: Arc<Appliance>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("spillway");
    registry.register_collector(Box::new(Scrape(appliance)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Arc<Appliance>);

type Labels = Vec<(&'static str, String)>;
type Series = Vec<(Labels, u64)>;

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let appliance = &self.0;
        write_build(appliance, &mut encoder)?;
        write_table(appliance, &mut encoder)?;
        write_workers(appliance, &mut encoder)?;
        write_esp(appliance, &mut encoder)?;
        write_drops(appliance, &mut encoder)?;
        write_ports(appliance, &mut encoder)
    }
}

fn write_build(appliance: &Appliance, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let version = vec![("version", appliance.parts.version.clone())];
    gauges(
        encoder,
        "build",
        "1, with the version as its label",
        vec![(version, 1)],
    )?;
    let metric = ConstGauge::new(appliance.now().0 as f64 / 1000.0);
    let descriptor = encoder.encode_descriptor(
        "uptime",
        "time since the start",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    metric.encode(descriptor)
}

fn write_table(appliance: &Appliance, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let occupancy = &appliance.parts.occupancy;
    let statics = appliance.statics();
    let gauges = [
        (
            "translations_active",
            "dynamic entries now",
            occupancy.active(),
        ),
        ("translations_static", "configured statics", statics),
        (
            "translations_peak",
            "most dynamic entries at once",
            occupancy.peak().0,
        ),
        (
            "translations_capacity",
            "entries that fit",
            appliance.capacity(),
        ),
        (
            "table_memory_bytes",
            "octets that the tables take",
            appliance.memory_bytes(),
        ),
    ];
    for (name, help, value) in gauges {
        let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(descriptor)?;
    }
    Ok(())
}

fn write_workers(appliance: &Appliance, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let label = |id: u8| vec![("worker", id.to_string())];
    for counter in Counter::ALL {
        let series = appliance
            .workers()
            .iter()
            .map(|w| (label(w.id.0), w.stats.counter(*counter)))
            .collect();
        counters(encoder, counter.name(), counter.help(), series)?;
    }
    let sessions = appliance
        .workers()
        .iter()
        .map(|w| (label(w.id.0), w.stats.sessions.value()))
        .collect();
    gauges(
        encoder,
        "worker_sessions",
        "entries in the worker's table",
        sessions,
    )
}

fn write_esp(appliance: &Appliance, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let label = |id: u8| vec![("worker", id.to_string())];
    type Held = fn(&EspOccupancy) -> usize;
    let held: [(&str, &str, Held); 6] = [
        (
            "esp_tunnels",
            "ESP tunnels with both directions known",
            |o| o.tunnels,
        ),
        (
            "esp_half_open",
            "ESP tunnels of which only packets going out are known",
            |o| o.half_open,
        ),
        ("esp_relations", "pairs of IPsec client and peer", |o| {
            o.relations
        }),
        ("ike_entries_active", "IKE entries now", |o| o.ike_entries),
        ("esp_held_packets", "ESP packets that are held now", |o| {
            o.held_packets
        }),
        (
            "esp_held_bytes",
            "octets of the ESP packets that are held now",
            |o| o.held_octets,
        ),
    ];
    for (name, help, of) in held {
        let value = |w: &WorkerHandle| (label(w.id.0), of(&w.stats.esp.occupancy()) as u64);
        let series = appliance.workers().iter().map(value).collect();
        gauges(encoder, name, help, series)?;
    }
    for counter in EspCounter::ALL {
        let value = |w: &WorkerHandle| (label(w.id.0), w.stats.esp.counter(*counter));
        let series = appliance.workers().iter().map(value).collect();
        let name = format!("ipsec_{}", counter.name());
        counters(encoder, &name, counter.help(), series)?;
    }
    Ok(())
}

fn write_drops(appliance: &Appliance, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let mut series = Series::new();
    for worker in appliance.workers() {
        for reason in DropReason::ALL {
            let labels = vec![
                ("worker", worker.id.0.to_string()),
                ("reason", reason.name().to_owned()),
            ];
            series.push((labels, worker.stats.drops(*reason)));
        }
    }
    counters(encoder, "drops", "packets dropped, by reason", series)
}

fn write_ports(appliance: &Appliance, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let ports = port_stats(appliance);
    let series = |value: &dyn Fn(&PortStats) -> u64| {
        ports
            .iter()
            .map(|port| (vec![("port", port.name().to_owned())], value(port)))
            .collect()
    };
    gauges(
        encoder,
        "port_up",
        "1 if packets may come and go",
        series(&|p| p.is_up().into()),
    )?;
    type Rules = fn(FlowRules) -> u32;
    let rules: [(&str, &str, Rules); 2] = [
        (
            "port_flow_rules",
            "flow rules that the port has for VPN servers",
            |r| r.installed,
        ),
        (
            "port_flow_rules_missing",
            "flow rules that the port should have and has not taken",
            |r| r.missing,
        ),
    ];
    for (name, help, field) in rules {
        let value = |port: &PortStats| port.flow_rules().map_or(0, field);
        gauges(encoder, name, help, series(&|p| value(p).into()))?;
    }
    type Field = fn(&Traffic) -> u64;
    let traffic: [(&str, &str, Field); 6] = [
        ("port_rx_packets", "packets received", |t| t.rx_packets),
        ("port_rx_octets", "octets received", |t| t.rx_octets),
        (
            "port_rx_dropped",
            "packets that came in here and were dropped",
            |t| t.rx_dropped,
        ),
        ("port_tx_packets", "packets sent", |t| t.tx_packets),
        ("port_tx_octets", "octets sent", |t| t.tx_octets),
        (
            "port_tx_dropped",
            "packets that the port would not take",
            |t| t.tx_dropped,
        ),
    ];
    for (name, help, field) in traffic {
        counters(encoder, name, help, series(&|p| field(&p.traffic)))?;
    }
    let device = ports
        .iter()
        .flat_map(|port| {
            port.device_counters().map(|(name, value)| {
                let labels = vec![
                    ("port", port.name().to_owned()),
                    ("counter", name.to_owned()),
                ];
                (labels, value)
            })
        })
        .collect();
    counters(
        encoder,
        "port_device_counter",
        "the device's own counters",
        device,
    )
}

fn counters(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    series: Series,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauges(encoder: &mut DescriptorEncoder, name: &str, help: &str, series: Series) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
