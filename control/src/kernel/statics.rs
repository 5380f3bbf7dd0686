//! Static routes of the configuration, in the kernel's tables.
//!
//! They are in the main table with a metric that loses against the host's own routes, so that a
//! management default route stays what it is for the host itself. What the kernel says *from*
//! our addresses has to leave through the twins all the same: static default routes are in a
//! table of their own as well, and for each of our addresses two rules say: first the main table
//! without its default routes, then that table.
//!
//! All of that is so in each VRF's namespace as well, with the twins there. A route of a VRF whose
//! next hop is in the global table can't be in the kernel, which knows no interface of another
//! namespace: it is a [`Leak`], in the data plane's table alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use futures_util::StreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::route::{
    RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};
use spillway_dataplane::snapshot::{PortId, VrfId};

use super::error::KernelError;
use super::netlink;
use super::table::{KernelRoute, Leak, Target};
use super::twins::TwinView;

/// Marks routes and rules as Spillway's (`rtm_protocol`, `FRA_PROTOCOL`).
pub const PROTOCOL: u8 = 83;

/// The table of static default routes.
pub const TABLE: u32 = 83;

/// The metric of the first static route to a prefix; further ones to the same prefix follow.
pub const METRIC: u32 = 4096;

/// Priority of the rules `from ADDRESS lookup main suppress_prefixlength 0`; the rules
/// `from ADDRESS lookup 83` follow behind.
pub const RULE_PRIORITY: u32 = 8300;

const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// `ip route [vrf V] PREFIX MASK TARGET [global]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StaticRoute {
    /// The table that it is in.
    pub vrf: VrfId,
    /// The destinations.
    pub prefix: Ipv4Net,
    /// Where they go.
    pub target: StaticTarget,
    /// `global`: the next hop is in the global table, whatever table the route is in.
    pub global: bool,
}

/// Where a static route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StaticTarget {
    /// To this router, which is in the subnet of one of our interfaces.
    NextHop(Ipv4Addr),
    /// Out of this port, straight to the destination.
    Port(PortId),
    /// `Null0`: nowhere; senders are told that it is unreachable.
    Null,
}

/// A route that shall be in the kernel, or is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    table: u32,
    prefix: Ipv4Net,
    metric: u32,
    /// Interface and router; `None` is unreachable.
    out: Option<(u32, Option<Ipv4Addr>)>,
}

/// A rule that shall be in the kernel, or is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    priority: u32,
    from: Ipv4Addr,
}

/// Routes and rules that shall be in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    entries: BTreeSet<Entry>,
    rules: BTreeSet<Rule>,
}

/// What the configured routes mean.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plans {
    /// For the kernel of each VRF that has a route, and of the global table.
    pub(crate) of: BTreeMap<VrfId, Plan>,
    /// For the data plane alone.
    pub(crate) leaks: Vec<Leak>,
}

impl Plans {
    /// What the configured routes mean with these twins, and the ones that can't be installed.
    /// Routes out of a twin that is down are left out, as the kernel does itself.
    pub(crate) fn new(routes: &[StaticRoute], twins: &[TwinView]) -> (Plans, Vec<KernelError>) {
        let mut plans = Plans::default();
        let mut problems = Vec::new();
        let mut metrics: HashMap<(VrfId, Ipv4Net), u32> = HashMap::new();
        for route in routes {
            let from = match route.global {
                true => VrfId::GLOBAL,
                false => route.vrf,
            };
            let (twin, router) = match route.target {
                StaticTarget::Null => (None, None),
                // An interface is where it is, whether or not `global` says so.
                StaticTarget::Port(port) => (twins.iter().find(|t| t.port == port), None),
                StaticTarget::NextHop(router) => {
                    let ours = |t: &&TwinView| {
                        t.vrf == from && t.address.is_some_and(|a| a.contains(&router))
                    };
                    let twin = twins.iter().find(ours);
                    if twin.is_none() {
                        problems.push(KernelError::NextHop(router));
                    }
                    (twin, Some(router))
                }
            };
            let out = match twin {
                Some(twin) if twin.up => Some((twin, router)),
                None if route.target == StaticTarget::Null => None,
                _ => continue,
            };
            let prefix = route.prefix.trunc();
            let metric = metrics.entry((route.vrf, prefix)).or_insert(METRIC);
            match out {
                Some((twin, router)) if twin.vrf != route.vrf => plans.leaks.push(Leak {
                    vrf: route.vrf,
                    prefix,
                    metric: *metric,
                    port: twin.port,
                    router,
                }),
                _ => {
                    let out = out.map(|(twin, router)| (twin.index, router));
                    let plan = plans.of.entry(route.vrf).or_default();
                    plan.add(prefix, *metric, out);
                }
            }
            *metric += 1;
        }
        for (vrf, plan) in &mut plans.of {
            if plan.entries.iter().any(|e| e.table == TABLE) {
                for twin in twins.iter().filter(|t| t.up && t.vrf == *vrf) {
                    plan.rules
                        .extend(twin.address.iter().flat_map(|a| rules(a.addr())));
                }
            }
        }
        (plans, problems)
    }
}

impl Plan {
    fn add(&mut self, prefix: Ipv4Net, metric: u32, out: Option<(u32, Option<Ipv4Addr>)>) {
        let entry = |table| Entry {
            table,
            prefix,
            metric,
            out,
        };
        self.entries.insert(entry(MAIN));
        if prefix.prefix_len() == 0 && out.is_some() {
            self.entries.insert(entry(TABLE));
        }
    }

    /// Makes the kernel's routes and rules of our protocol equal to the plan. The answer holds
    /// what failed; everything else is done. Routes of our protocol out of interfaces that are
    /// not among `twins` are left alone.
    pub(crate) async fn install(&self, handle: &Handle, twins: &[TwinView]) -> Vec<KernelError> {
        let mut problems = Vec::new();
        match installed_entries(handle, twins).await {
            Ok(have) => {
                for entry in have.difference(&self.entries) {
                    let result = handle.route().del(entry.message()).execute().await;
                    problems.extend(refused("remove", entry, result));
                }
                for entry in self.entries.difference(&have) {
                    let result = handle.route().add(entry.message()).execute().await;
                    problems.extend(refused("add", entry, result));
                }
            }
            Err(e) => problems.push(e),
        }
        match installed_rules(handle).await {
            Ok(have) => {
                for (_, message) in have.iter().filter(|(r, _)| !self.rules.contains(r)) {
                    let result = handle.rule().del(message.clone()).execute().await;
                    problems.extend(
                        result
                            .err()
                            .map(|e| KernelError::netlink("remove a rule", e)),
                    );
                }
                for rule in &self.rules {
                    if have.iter().any(|(r, _)| r == rule) {
                        continue;
                    }
                    let mut request = handle.rule().add();
                    *request.message_mut() = rule.message();
                    let result = request.execute().await;
                    problems.extend(result.err().map(|e| KernelError::netlink("add a rule", e)));
                }
            }
            Err(e) => problems.push(e),
        }
        problems
    }
}

/// The two rules of an address.
fn rules(from: Ipv4Addr) -> [Rule; 2] {
    [RULE_PRIORITY, RULE_PRIORITY + 1].map(|priority| Rule { priority, from })
}

fn refused(verb: &str, entry: &Entry, result: Result<(), rtnetlink::Error>) -> Option<KernelError> {
    let what = || format!("{verb} the static route to {}", entry.prefix);
    result.err().map(|e| KernelError::netlink(what(), e))
}

impl Entry {
    /// Reads a route of our protocol.
    fn read(message: &RouteMessage) -> Option<Entry> {
        if message.header.protocol != RouteProtocol::Other(PROTOCOL) {
            return None;
        }
        let route = KernelRoute::read_unused(message)?;
        let out = match route.target {
            Target::Nowhere => None,
            Target::Out(hops) => Some(*hops.first()?),
        };
        Some(Entry {
            table: route.table,
            prefix: route.prefix,
            metric: route.metric,
            out,
        })
    }

    fn message(&self) -> RouteMessage {
        let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(self.prefix.addr(), self.prefix.prefix_len())
            .table_id(self.table)
            .protocol(RouteProtocol::Other(PROTOCOL))
            .priority(self.metric);
        match self.out {
            Some((index, Some(router))) => {
                builder = builder.output_interface(index).gateway(router)
            }
            Some((index, None)) => {
                builder = builder.output_interface(index).scope(RouteScope::Link);
            }
            None => builder = builder.kind(RouteType::Unreachable),
        }
        builder.build()
    }
}

impl Rule {
    fn message(self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = netlink_packet_route::AddressFamily::Inet;
        message.header.src_len = 32;
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Source(IpAddr::V4(self.from)),
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
        ];
        if self.priority == RULE_PRIORITY {
            message.attributes.push(RuleAttribute::Table(MAIN));
            message.attributes.push(RuleAttribute::SuppressPrefixLen(0));
        } else {
            message.attributes.push(RuleAttribute::Table(TABLE));
        }
        message
    }

    /// Reads a rule of our protocol.
    fn read(message: &RuleMessage) -> Option<Rule> {
        let mut ours = false;
        let mut priority = 0;
        let mut from = Ipv4Addr::UNSPECIFIED;
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Protocol(p) => ours = *p == RouteProtocol::Other(PROTOCOL),
                RuleAttribute::Priority(p) => priority = *p,
                RuleAttribute::Source(IpAddr::V4(address)) => from = *address,
                _ => {}
            }
        }
        ours.then_some(Rule { priority, from })
    }
}

async fn installed_entries(
    handle: &Handle,
    twins: &[TwinView],
) -> Result<BTreeSet<Entry>, KernelError> {
    let ours = |entry: &Entry| match entry.out {
        Some((index, _)) => twins.iter().any(|t| t.index == index),
        None => true,
    };
    let routes = netlink::routes(handle).await?;
    let entries = routes.items.iter().filter_map(Entry::read);
    Ok(entries.filter(ours).collect())
}

async fn installed_rules(handle: &Handle) -> Result<Vec<(Rule, RuleMessage)>, KernelError> {
    let mut found = std::pin::pin!(handle.rule().get(IpVersion::V4).execute());
    let mut rules = Vec::new();
    while let Some(message) = found.next().await {
        let message = message.map_err(|e| KernelError::netlink("list its rules", e))?;
        rules.extend(Rule::read(&message).map(|rule| (rule, message)));
    }
    Ok(rules)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "statics_tests.rs"]
mod tests;
