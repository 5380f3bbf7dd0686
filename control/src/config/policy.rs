//! A configuration compiled into what workers read, with the live state of the one before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use spillway_dataplane::acl::{AccessList, Entry};
use spillway_dataplane::nat::{
    Global, GlobalAddress, Group, GroupLimit, HostLimits, Ipsec, Leases, Lending, Nat,
    OneToOnePool, Rule, Static, StaticEsp, StaticPort, Target,
};
use spillway_dataplane::route_map::{Clause, RouteMap, Selector as Selects};
use spillway_dataplane::snapshot::VrfId;
use spillway_dataplane::time::Tick;

use super::model::{
    Config, DestinationRule, ListName, OutsideRule, Pool, PoolKind, RuleTarget, Selector,
    SourceRule, StaticGlobal, StaticRule, StaticScope,
};
use super::policy_destination::destinations;
use super::policy_outside::LiveOutside;
use super::vrf_ids::VrfIds;

/// A compiled configuration. Keep it: the next one takes its live state from it.
#[derive(Debug)]
pub struct Policy {
    /// What it was compiled from.
    pub config: Arc<Config>,
    /// What workers read.
    pub nat: Arc<Nat>,
    /// All access lists, with their hit counts.
    pub access_lists: BTreeMap<ListName, Arc<AccessList>>,
    /// The number of each VRF.
    pub vrfs: VrfIds,
    /// The number of each dynamic rule, by its [`SourceRule::identity`].
    ids: Ids,
}

/// A dynamic rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Mapping {
    /// `ip nat inside source`.
    Inside(SourceRule),
    /// `ip nat outside source`.
    Outside(OutsideRule),
    /// `ip nat inside destination`.
    Destination(DestinationRule),
}

pub(super) type Ids = HashMap<Mapping, u16>;

impl Policy {
    /// Compiles a configuration.
    ///
    /// `addresses` are interface addresses that are not in the configuration (DHCP), by the
    /// interface's name in lower case. `previous` is the policy in use: addresses, pools and
    /// statics that stay keep their live state, unchanged access lists their hit counts, and rules
    /// their numbers.
    #[must_use]
    pub fn compile(
        config: Arc<Config>,
        addresses: &HashMap<String, Ipv4Addr>,
        now: Tick,
        previous: Option<&Policy>,
    ) -> Policy {
        let live_outside = previous.map(|previous| LiveOutside::of(&previous.nat.outside));
        let live_outside = live_outside.unwrap_or_default();
        let mut compiler = Compiler {
            config: &config,
            addresses,
            now,
            live: previous.map(Live::of).unwrap_or_default(),
            vrfs: VrfIds::new(&config, previous.map(|previous| &previous.vrfs)),
            globals: HashMap::new(),
        };
        let access_lists = access_lists(&config, previous);
        let ids = number(&config, previous);
        let route_maps = route_maps(&config, &access_lists);
        let rules = compiler.rules((&access_lists, &route_maps), &ids);
        let statics = compiler.statics(&route_maps);
        let ipsec = compiler.ipsec(&access_lists);
        let context = (&access_lists, &route_maps, &ids);
        let outside = live_outside.compile(&config, context, now);
        let before = previous.map(|previous| &previous.nat.destinations);
        let destinations = destinations(&config, (&access_lists, &ids), before);
        let (globals, vrfs) = (compiler.globals, compiler.vrfs);
        let (timers, max_entries) = (config.timers.clone(), config.max_entries);
        Policy {
            nat: Arc::new(
                Nat::new(rules, statics, globals, timers, max_entries)
                    .with_host_limits(host_limits(&config, (&access_lists, &vrfs), previous))
                    .with_ipsec(ipsec)
                    .with_outside(outside)
                    .with_destinations(destinations)
                    .with_access_groups(access_groups(&config, &access_lists)),
            ),
            config,
            access_lists,
            vrfs,
            ids,
        }
    }

    /// A dynamic rule by its number, with the usual filtering.
    fn rule(&self, id: u16) -> Option<&Mapping> {
        let mut ids = self.ids.iter();
        ids.find(|(_, number)| **number == id).map(|(rule, _)| rule)
    }

    /// The text of a rule in `show ip nat statistics`: `access-list 1 pool NAT-POOL1`.
    #[must_use]
    pub fn rule_text(&self, id: u16) -> Option<String> {
        let selector = |selector: &Selector| match selector {
            Selector::List(name) => format!("access-list {name}"),
            Selector::RouteMap(name) => format!("route-map {name}"),
        };
        Some(match self.rule(id)? {
            Mapping::Inside(rule) => format!("{} {}", selector(&rule.selector), rule.target),
            Mapping::Outside(rule) => format!("{} pool {}", selector(&rule.selector), rule.pool),
            Mapping::Destination(rule) => format!("access-list {} pool {}", rule.list, rule.pool),
        })
    }

    /// The pool of a rule with its name, if it has one.
    #[must_use]
    pub fn rule_pool(&self, id: u16) -> Option<(&str, &Pool)> {
        let name = match self.rule(id)? {
            Mapping::Inside(rule) => match &rule.target {
                RuleTarget::Pool(name) => name,
                RuleTarget::Interface(_) => return None,
            },
            Mapping::Outside(rule) => &rule.pool,
            Mapping::Destination(rule) => &rule.pool,
        };
        let (name, pool) = self.config.pools.get_key_value(name)?;
        Some((name, pool))
    }
}

/// The live state of a policy, by what identifies it.
#[derive(Default)]
struct Live {
    shared: HashMap<Ipv4Addr, Arc<GlobalAddress>>,
    pools: Vec<Arc<OneToOnePool>>,
    leases: Leases,
    statics: HashMap<StaticKey, Arc<Static>>,
    static_esp: Vec<StaticEsp>,
}

type StaticKey = (VrfId, Ipv4Addr, Ipv4Addr, Option<StaticPort>);

impl Live {
    fn of(previous: &Policy) -> Live {
        let mut live = Live::default();
        for rule in &previous.nat.rules {
            match &rule.target {
                Target::Overload(shared) => {
                    let shared = shared.iter().map(|a| (a.address, Arc::clone(a)));
                    live.shared.extend(shared);
                }
                Target::OneToOne(pool) => {
                    live.leases.learn(pool);
                    live.pools.push(Arc::clone(pool));
                }
            }
        }
        live.static_esp.clone_from(&previous.nat.ipsec.static_esp);
        let statics = previous.nat.statics.iter();
        live.statics = statics
            .map(|s| ((s.vrf, s.inside, s.global, s.port), Arc::clone(s)))
            .collect();
        live
    }
}

struct Compiler<'a> {
    config: &'a Config,
    addresses: &'a HashMap<String, Ipv4Addr>,
    vrfs: VrfIds,
    now: Tick,
    live: Live,
    globals: HashMap<Ipv4Addr, Global>,
}

impl Compiler<'_> {
    fn rules(&mut self, (lists, maps): (&Lists, &Maps<'_>), ids: &Ids) -> Vec<Rule> {
        let config = self.config;
        let mut rules = Vec::new();
        for rule in &config.sources {
            let Some(vrf) = self.vrfs.find(rule.vrf.as_deref()) else {
                continue; // the check has said so
            };
            let id = ids.get(&Mapping::Inside(rule.identity()));
            let (Some(id), Some(target)) = (id, self.target(rule)) else {
                continue; // no address to translate to, which was warned of
            };
            rules.push(Rule {
                id: *id,
                vrf,
                selector: selects(&rule.selector, lists, maps),
                target,
                mapping: rule.mapping,
            });
        }
        rules
    }

    fn target(&mut self, rule: &SourceRule) -> Option<Target> {
        let (ranges, lending) = match &rule.target {
            RuleTarget::Interface(name) => {
                // Without an address nothing can be translated: packets are refused, and never leave
                // as they are.
                let address = self.interface_address(name);
                let ranges = address.map(|address| (address, address));
                (ranges.into_iter().collect(), Lending::FirstFree)
            }
            RuleTarget::Pool(name) => {
                let pool = self.config.pools.get(name)?;
                (pool.ranges.clone(), lending(pool))
            }
        };
        if rule.overload {
            let bits = |(first, last): (Ipv4Addr, Ipv4Addr)| first.to_bits()..=last.to_bits();
            let addresses = ranges.into_iter().flat_map(bits).map(Ipv4Addr::from_bits);
            let shared: Vec<_> = addresses.map(|a| self.shared(a)).collect();
            return Some(Target::Overload(shared.into()));
        }
        Some(Target::OneToOne(self.one_to_one(&ranges, lending)))
    }

    /// The configured address of an interface, else the one that it was given.
    fn interface_address(&self, name: &str) -> Option<Ipv4Addr> {
        let fixed = self.config.interface(name).and_then(|i| i.fixed());
        let given = || self.addresses.get(&name.to_ascii_lowercase()).copied();
        fixed.map(|net| net.addr()).or_else(given)
    }

    fn shared(&mut self, address: Ipv4Addr) -> Arc<GlobalAddress> {
        let live = self.live.shared.entry(address);
        let shared = live.or_insert_with(|| Arc::new(GlobalAddress::new(address)));
        let global = Global::Overload(Arc::clone(shared));
        self.globals.insert(address, global);
        Arc::clone(shared)
    }

    /// The pool as it is, or another that knows what is lent of the same addresses.
    fn one_to_one(
        &mut self,
        ranges: &[(Ipv4Addr, Ipv4Addr)],
        lending: Lending,
    ) -> Arc<OneToOnePool> {
        let same = |pool: &&Arc<OneToOnePool>| {
            pool.lending() == lending && pool.ranges().eq(ranges.iter().copied())
        };
        let pool = match self.live.pools.iter().find(same) {
            Some(pool) => Arc::clone(pool),
            None => {
                let leases = &mut self.live.leases;
                let pool = Arc::new(OneToOnePool::with_leases(ranges, lending, leases));
                self.live.pools.push(Arc::clone(&pool));
                pool
            }
        };
        for (index, address) in (0..).zip(pool.addresses()) {
            let global = Global::OneToOne(Arc::clone(&pool), index);
            self.globals.entry(address).or_insert(global);
        }
        pool
    }

    fn statics(&mut self, maps: &Maps<'_>) -> Vec<Arc<Static>> {
        let config = self.config;
        let mut statics = Vec::new();
        for rule in &config.statics {
            let Some(vrf) = self.vrfs.find(rule.vrf.as_deref()) else {
                continue; // the check has said so
            };
            let global = match &rule.global {
                StaticGlobal::Address(address) => Some(*address),
                StaticGlobal::Interface(name) => self.interface_address(name),
            };
            if let Some(global) = global {
                self.push_static(rule, (vrf, global), maps, &mut statics);
            }
        }
        statics
    }

    fn ipsec(&self, lists: &BTreeMap<ListName, Arc<AccessList>>) -> Ipsec {
        let named = |names: &BTreeSet<ListName>| {
            let there = names.iter().filter_map(|name| lists.get(name));
            there.map(Arc::clone).collect()
        };
        let fixed = self.config.static_esp.iter();
        Ipsec {
            spi_match: named(&self.config.spi_match),
            preserve_port: named(&self.config.preserve_port),
            static_esp: fixed
                .filter_map(|(inside, port)| {
                    let global = self.interface_address(port)?;
                    let new = StaticEsp {
                        inside: *inside,
                        global,
                        created: self.now,
                    };
                    let same = |old: &&StaticEsp| (old.inside, old.global) == (*inside, global);
                    Some(*self.live.static_esp.iter().find(same).unwrap_or(&new))
                })
                .collect(),
        }
    }

    fn push_static(
        &mut self,
        rule: &StaticRule,
        (vrf, global): (VrfId, Ipv4Addr),
        maps: &Maps<'_>,
        statics: &mut Vec<Arc<Static>>,
    ) {
        // A map that does not exist permits nothing.
        let only = rule.route_map.as_ref().map(|name| {
            let map = maps.get(name.as_str()).cloned();
            map.unwrap_or_default()
        });
        let port = match rule.scope {
            StaticScope::Port {
                protocol,
                local,
                global,
            } => Some(StaticPort {
                protocol,
                inside: local,
                global,
            }),
            _ => None,
        };
        for host in 0..u32::try_from(rule.hosts()).unwrap_or(u32::MAX) {
            let at = |first: Ipv4Addr| Ipv4Addr::from_bits(first.to_bits().wrapping_add(host));
            let (inside, global) = (at(rule.local), at(global));
            let key = (vrf, inside, global, port);
            let live = self.live.statics.get(&key);
            let live = live.filter(|live| live.only.is_none() && only.is_none());
            let fresh = || {
                let before = self.live.statics.get(&key);
                let used = before.map_or(0, |before| before.last_used.load(Ordering::Relaxed));
                Arc::new(Static {
                    vrf,
                    port,
                    inside,
                    global,
                    only: only.clone(),
                    created: before.map_or(self.now, |before| before.created),
                    last_used: AtomicU32::new(used),
                })
            };
            statics.push(live.cloned().unwrap_or_else(fresh));
            self.globals.entry(global).or_insert(Global::Static);
        }
    }
}

/// What a rule asks about packets. What does not exist selects nothing.
pub(super) fn selects(selector: &Selector, lists: &Lists, maps: &Maps<'_>) -> Selects {
    match selector {
        Selector::List(name) => Selects::List(lists.get(name).cloned().unwrap_or_default()),
        Selector::RouteMap(name) => {
            Selects::RouteMap(maps.get(name.as_str()).cloned().unwrap_or_default())
        }
    }
}

/// Which address of a pool the next host gets.
pub(super) fn lending(pool: &Pool) -> Lending {
    match pool.kind {
        PoolKind::Generic => Lending::FirstFree,
        PoolKind::Rotary => Lending::Rotary,
        PoolKind::MatchHost => Lending::MatchHost(!pool.netmask().to_bits()),
    }
}

pub(super) type Maps<'a> = HashMap<&'a str, Arc<RouteMap>>;
pub(super) type Lists = BTreeMap<ListName, Arc<AccessList>>;

/// The route maps of a configuration. A list that does not exist matches nothing.
fn route_maps<'a>(config: &'a Config, lists: &Lists) -> Maps<'a> {
    let named = |names: &Vec<ListName>| {
        let lists = names.iter().filter_map(|name| lists.get(name)).cloned();
        (!names.is_empty()).then(|| lists.collect())
    };
    let clause = |clause: &super::model::Clause| Clause {
        action: clause.action,
        lists: named(&clause.lists),
        interfaces: (!clause.interfaces.is_empty()).then(|| {
            let names = clause.interfaces.iter();
            names.filter_map(|name| config.port_of(name)).collect()
        }),
        next_hops: named(&clause.next_hops),
    };
    let map = |clauses: &BTreeMap<u16, super::model::Clause>| {
        Arc::new(RouteMap {
            clauses: clauses.values().map(clause).collect(),
        })
    };
    let maps = config.route_maps.iter();
    maps.map(|(name, clauses)| (name.as_str(), map(clauses)))
        .collect()
}

/// The limits of hosts, lists and VRFs, if there are any: those of the policy before, with what they
/// have counted, if nothing about them has changed.
fn host_limits(
    config: &Config,
    (lists, vrfs): (&Lists, &VrfIds),
    previous: Option<&Policy>,
) -> Option<Arc<HostLimits>> {
    let limits = &config.host_limits;
    if *limits == super::model::HostLimits::default() {
        return None;
    }
    // A list that does not exist permits nobody.
    let there = || {
        let named = limits.lists.iter();
        let of_lists = named
            .filter_map(|(name, most)| Some((Group::List(Arc::clone(lists.get(name)?)), *most)));
        let named = limits.vrfs.iter();
        let of_vrfs =
            named.filter_map(|(name, most)| Some((Group::Vrf(vrfs.find(Some(name))?), *most)));
        of_lists.chain(of_vrfs)
    };
    let same = |before: &&Arc<HostLimits>| {
        let known = before.groups.iter().map(|l| (&l.group, l.most));
        before.all_hosts == limits.all_hosts
            && before.hosts.len() == limits.hosts.len()
            && limits
                .hosts
                .iter()
                .all(|(host, most)| before.hosts.get(host) == Some(most))
            && known.len() == there().count()
            && known
                .zip(there())
                .all(|(old, new)| old.0.is(&new.0) && old.1 == new.1)
    };
    let before = previous.and_then(|p| p.nat.host_limits.as_ref());
    let fresh = || {
        Arc::new(HostLimits {
            all_hosts: limits.all_hosts,
            hosts: limits
                .hosts
                .iter()
                .map(|(host, most)| (*host, *most))
                .collect(),
            groups: there()
                .map(|(group, most)| GroupLimit::new(group, most))
                .collect(),
        })
    };
    Some(before.filter(same).cloned().unwrap_or_else(fresh))
}

/// The access groups of each port. A list that does not exist permits everything.
fn access_groups(config: &Config, lists: &Lists) -> Vec<[Option<Arc<AccessList>>; 2]> {
    let of = |name: &Option<ListName>| name.as_ref().and_then(|name| lists.get(name)).cloned();
    let ports = config.interfaces.iter().filter(|i| i.port.is_some());
    ports.map(|i| i.access_groups.each_ref().map(of)).collect()
}

/// The lists of a configuration; those that did not change are the ones before.
fn access_lists(config: &Config, previous: Option<&Policy>) -> Lists {
    let before = |name| previous.and_then(|p| p.access_lists.get(name));
    let lists = config.access_lists.iter().map(|(name, list)| {
        let same = before(name).filter(|b| list.entries().eq(b.entries()));
        let fresh = || {
            Arc::new(AccessList::new(
                list.entries().cloned().collect::<Vec<Entry>>(),
            ))
        };
        (name.clone(), same.cloned().unwrap_or_else(fresh))
    });
    lists.collect()
}

/// Numbers the rules: those that stay keep theirs, new ones take the lowest that neither this
/// configuration nor the one before uses, so that no number changes its meaning in one step.
fn number(config: &Config, previous: Option<&Policy>) -> Ids {
    let none = HashMap::new();
    let before = previous.map_or(&none, |p| &p.ids);
    let used: HashSet<u16> = before.values().copied().collect();
    let mut free = (1..=u16::MAX).filter(|id| !used.contains(id));
    let mut ids = HashMap::new();
    let inside = config.sources.iter().map(SourceRule::identity);
    let outside = config.outside_sources.iter().cloned();
    let destinations = config.destinations.iter().cloned();
    let others = outside.map(Mapping::Outside);
    let others = others.chain(destinations.map(Mapping::Destination));
    for rule in inside.map(Mapping::Inside).chain(others) {
        if let Some(id) = before.get(&rule).copied().or_else(|| free.next()) {
            ids.insert(rule, id);
        }
    }
    ids
}
