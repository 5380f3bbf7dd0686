//! `show ip nat statistics`.

use super::json;
use crate::manage::appliance::Appliance;
use crate::manage::command::{Failure, Format};
use crate::manage::duration::age;
use crate::manage::output::{Output, Sink};
use crate::manage::statistics::{ESP_DROPS, Esp, Kind, Mapping, Pool, Statistics, gather};

pub(in crate::manage) async fn statistics<S: Sink>(
    appliance: &Appliance,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let statistics = gather(appliance).await?;
    match format {
        Format::Json => out.line(json(&statistics)?),
        Format::Text => write(&statistics, out),
    }
    Ok(())
}

fn write<S: Sink>(statistics: &Statistics, out: &mut Output<'_, S>) {
    let total = &statistics.translations;
    out.line(format!(
        "Total active translations: {} ({} static, {} dynamic; {} extended)",
        total.active, total.statics, total.dynamic, total.extended
    ));
    let peak = &statistics.peak;
    out.line(match peak.age_ms {
        None => format!("Peak translations: {}", peak.translations),
        Some(ago) => format!(
            "Peak translations: {}, occurred {} ago",
            peak.translations,
            age(ago)
        ),
    });
    for (title, names) in [
        ("Outside interfaces:", &statistics.outside_interfaces),
        ("Inside interfaces:", &statistics.inside_interfaces),
    ] {
        out.line(title);
        out.line(format!("  {}", names.join(", ")).trim_end());
    }
    out.line(format!(
        "Hits: {}  Misses: {}",
        statistics.hits, statistics.misses
    ));
    // There is no slower path that a packet could be given to for translation.
    out.line(format!(
        "CEF Translated packets: {}, CEF Punted packets: 0",
        statistics.translated_packets
    ));
    out.line(format!("Expired translations: {}", statistics.expired));
    out.line("Dynamic mappings:");
    for (kind, heading) in Kind::HEADINGS {
        let mut mappings = statistics.mappings.iter().filter(|m| m.kind == kind);
        let Some(first) = mappings.next() else {
            continue;
        };
        out.line(heading);
        for mapping in std::iter::once(first).chain(mappings) {
            write_mapping(mapping, out);
        }
    }
    if statistics.esp.is_in_use() {
        write_esp(&statistics.esp, out);
    }
}

fn write_esp<S: Sink>(esp: &Esp, out: &mut Output<'_, S>) {
    out.line(format!(
        "ESP tunnels: {}, half-open: {}, IKE entries: {}",
        esp.tunnels, esp.half_open, esp.ike_entries
    ));
    out.line(format!(
        "ESP packets waiting: {}, held: {}, released: {}",
        esp.held, esp.held_total, esp.released_total
    ));
    let drops: Vec<String> = ESP_DROPS
        .iter()
        .map(|(reason, words)| format!("{words} {}", esp.drops[reason.name()]))
        .collect();
    out.line(format!("ESP packets dropped: {}", drops.join(", ")));
}

fn write_mapping<S: Sink>(mapping: &Mapping, out: &mut Output<'_, S>) {
    let vrf = mapping.vrf.as_ref();
    let vrf = vrf.map_or(String::new(), |name| format!(" vrf {name}"));
    out.line(format!(
        "[Id: {}] {} refcount {}{vrf}",
        mapping.id, mapping.text, mapping.refcount
    ));
    let Some(pool) = &mapping.pool else { return };
    out.line(format!(" pool {}: netmask {}", pool.name, pool.netmask));
    for range in &pool.ranges {
        out.line(format!("\tstart {} end {}", range.start, range.end));
    }
    out.line(format!(
        "\ttype {}, total addresses {}, allocated {} ({}%), misses {}",
        pool.kind,
        pool.total_addresses,
        pool.allocated_addresses,
        percent(pool),
        pool.misses
    ));
}

fn percent(pool: &Pool) -> u64 {
    (pool.allocated_addresses * 100)
        .checked_div(pool.total_addresses)
        .unwrap_or(0)
}
