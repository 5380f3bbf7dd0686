//! `ip nat outside source` compiled, with the live state of the configuration before.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use spillway_dataplane::nat::{
    Outside, OutsideLeases, OutsidePool, OutsideRule as Rule, OutsideStatic as Static,
};
use spillway_dataplane::time::Tick;

use super::model::Config;
use super::policy::{Ids, Lists, Mapping, Maps, lending, selects};

/// What the next configuration takes from this one.
#[derive(Default)]
pub(super) struct LiveOutside {
    pools: Vec<Arc<OutsidePool>>,
    leases: OutsideLeases,
    statics: HashMap<(Ipv4Addr, Ipv4Addr), Arc<Static>>,
}

impl LiveOutside {
    pub(super) fn of(previous: &Outside) -> LiveOutside {
        let mut live = LiveOutside::default();
        for rule in &previous.rules {
            live.leases.learn(&rule.pool);
            live.pools.push(Arc::clone(&rule.pool));
        }
        let statics = previous.statics.iter();
        live.statics = statics
            .map(|fixed| ((fixed.global, fixed.local), Arc::clone(fixed)))
            .collect();
        live
    }

    /// The translations of outside hosts that a configuration wants.
    pub(super) fn compile(
        mut self,
        config: &Config,
        (lists, maps, ids): (&Lists, &Maps<'_>, &Ids),
        now: Tick,
    ) -> Outside {
        let mut rules = Vec::new();
        for rule in &config.outside_sources {
            let pool = config.pools.get(&rule.pool);
            let Some(pool) = pool.filter(|pool| !pool.ranges.is_empty()) else {
                continue; // no address to translate to, which was warned of
            };
            let Some(id) = ids.get(&Mapping::Outside(rule.clone())) else {
                continue; // more rules than numbers, which the grammar excludes
            };
            rules.push(Rule {
                id: *id,
                selector: selects(&rule.selector, lists, maps),
                pool: self.pool(pool),
                add_route: rule.add_route,
            });
        }
        let statics = config.outside_statics.iter();
        let statics = statics.map(|fixed| self.fixed(fixed, now)).collect();
        Outside::new(rules, statics)
    }

    /// The pool as it is, or another that knows what is lent of the same addresses.
    fn pool(&mut self, pool: &super::model::Pool) -> Arc<OutsidePool> {
        let lending = lending(pool);
        let same = |live: &&Arc<OutsidePool>| {
            let addresses = live.addresses();
            addresses.lending() == lending && addresses.ranges().eq(pool.ranges.iter().copied())
        };
        if let Some(pool) = self.pools.iter().find(same) {
            return Arc::clone(pool);
        }
        let fresh = OutsidePool::new(&pool.ranges, lending, &mut self.leases);
        let fresh = Arc::new(fresh);
        self.pools.push(Arc::clone(&fresh));
        fresh
    }

    fn fixed(&self, fixed: &super::model::OutsideStatic, now: Tick) -> Arc<Static> {
        let live = self.statics.get(&(fixed.global, fixed.local));
        if let Some(live) = live.filter(|live| live.add_route == fixed.add_route) {
            return Arc::clone(live);
        }
        let used = live.map_or(0, |live| live.last_used.load(Ordering::Relaxed));
        Arc::new(Static {
            global: fixed.global,
            local: fixed.local,
            add_route: fixed.add_route,
            created: live.map_or(now, |live| live.created),
            last_used: AtomicU32::new(used),
        })
    }
}
