//! `ip nat inside destination` compiled, with the turns of the configuration before.

use std::sync::Arc;

use spillway_dataplane::nat::{DestinationRule as Rule, Destinations, Servers};

use super::check_destination::named_addresses;
use super::model::{Config, ListKind};
use super::policy::{Ids, Lists, Mapping};

/// The load sharing that a configuration wants.
pub(super) fn destinations(
    config: &Config,
    (lists, ids): (&Lists, &Ids),
    previous: Option<&Destinations>,
) -> Destinations {
    let mut rules: Vec<Rule> = Vec::new();
    let mut addresses = Vec::new();
    for rule in &config.destinations {
        let pool = config.pools.get(&rule.pool);
        let id = ids.get(&Mapping::Destination(rule.clone()));
        let (Some(pool), Some(id)) = (pool, id) else {
            continue; // the check has said so
        };
        let list = config.access_lists.get(&rule.list);
        addresses.extend(list.into_iter().flat_map(named_addresses));
        let before = previous.into_iter().flat_map(|previous| &previous.rules);
        // Two rules with one pool share its turns.
        let mut before = rules.iter().chain(before);
        let same = before.find(|r| r.servers.ranges() == pool.ranges);
        let servers = same.map(|rule| Arc::clone(&rule.servers));
        rules.push(Rule {
            id: *id,
            list: lists.get(&rule.list).cloned().unwrap_or_default(),
            is_standard: list.is_some_and(|list| list.kind == ListKind::Standard),
            servers: servers.unwrap_or_else(|| Arc::new(Servers::new(&pool.ranges))),
        });
    }
    addresses.sort_unstable();
    addresses.dedup();
    Destinations::new(rules, addresses)
}
