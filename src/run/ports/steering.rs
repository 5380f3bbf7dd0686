//! How ports spread what they receive over workers: set once, when all of them are open, so that
//! every worker knows the same as long as it runs.

use spillway_control::manage;
use spillway_dataplane::rss::{Fields, Steering};
use spillway_dpdk::Rss;
use tracing::warn;

use super::{Ports, Slot};

impl Ports {
    /// Gives every port that takes one its table of queues, and tells what workers may rely on.
    pub(in crate::run) fn steering(&mut self) -> Steering {
        let workers = u16::from(self.workers);
        if workers <= 1 {
            return Steering::default();
        }
        let by_source = |slot: &Slot| {
            let all = slot.info.as_ref().is_some_and(|i| i.rx_queues == workers);
            rss(slot).filter(|rss| slot.inside && all && rss.by_source)
        };
        // The same for all ports inside: larger tables repeat the smallest one.
        let period = self
            .slots
            .iter()
            .filter_map(by_source)
            .map(|rss| rss.places);
        let period = period.min();
        let mut clients = None;
        let mut answers = Vec::new();
        for slot in &mut self.slots {
            let common = by_source(slot).and(period);
            let queues = slot.info.as_ref().map_or(0, |info| info.rx_queues);
            let spread = rss(slot).and_then(|rss| {
                let period = common.unwrap_or(rss.places);
                let table = rss.table(queues, period);
                let is_set = queues > 1 && set(slot, &table);
                slot.table = is_set.then_some(table);
                let places = period;
                is_set.then(|| Rss { places, ..rss }.spread(queues, period))?
            });
            match (common, slot.inside) {
                (Some(_), _) => {
                    clients = clients.or(spread);
                    answers.push(None);
                }
                (None, true) => answers.push(None),
                (None, false) => answers.push(spread),
            }
        }
        self.refresh();
        Steering::new(clients, answers)
    }
}

fn rss(slot: &Slot) -> Option<Rss> {
    slot.port.as_ref()?.rss()
}

fn set(slot: &Slot, table: &[u16]) -> bool {
    let set = slot.port.as_ref().map(|port| port.set_rss_table(table));
    if let Some(Err(error)) = &set {
        warn!("interface {}: {error}; packets change workers", slot.name);
    }
    matches!(set, Some(Ok(())))
}

/// Gives a port that was opened anew the table that it had.
pub(super) fn again(slot: &mut Slot) {
    if let Some(table) = slot.table.take() {
        let fits = rss(slot).is_some_and(|rss| rss.places == table.len());
        if fits && set(slot, &table) {
            slot.table = Some(table);
        } else {
            warn!(
                "interface {}: its device spreads packets otherwise than before; they change workers",
                slot.name
            );
        }
    }
}

/// How a port spreads, for `show`.
pub(super) fn spread(slot: &Slot) -> manage::Spread {
    let queues = slot.info.as_ref().map_or(0, |info| info.rx_queues);
    let known = rss(slot).filter(|_| slot.table.is_some());
    match known.map(|rss| rss.fields()) {
        _ if queues <= 1 => manage::Spread::None,
        None => manage::Spread::Unknown,
        Some(Fields::Source) => manage::Spread::SourceAddress,
        Some(Fields::Flow {
            udp: true,
            tcp: true,
        }) => manage::Spread::AddressesAndPorts,
        Some(Fields::Flow { .. }) => manage::Spread::Addresses,
    }
}
