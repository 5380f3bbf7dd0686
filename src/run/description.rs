//! The words of the running configuration, for `show`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::leases::Leases;
use arc_swap::ArcSwap;
use ipnet::Ipv4Net;
use spillway_control::config::Policy;
use spillway_control::config::model::{self, RouteTarget, StaticRoute};
use spillway_control::manage::{
    Description, InterfaceText, PoolKind, PoolText, RouteOrigin, RouteText, RuleText,
};
use spillway_dataplane::snapshot::VrfId;

/// The policy in force, as the operator's side sees it.
pub(super) struct Running {
    policy: ArcSwap<Policy>,
    leases: ArcSwap<Leases>,
}

impl Running {
    pub(super) fn new(policy: Arc<Policy>) -> Arc<Running> {
        Arc::new(Running {
            policy: ArcSwap::new(policy),
            leases: ArcSwap::default(),
        })
    }

    /// Another policy is in force, or other addresses are.
    pub(super) fn store(&self, policy: Arc<Policy>, leases: &Leases) {
        self.policy.store(policy);
        self.leases.store(Arc::new(leases.clone()));
    }
}

impl Description for Running {
    fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    fn rule(&self, id: u16) -> Option<RuleText> {
        let policy = self.policy.load();
        let text = policy.rule_text(id)?;
        let pool = policy.rule_pool(id).map(|(name, pool)| PoolText {
            name: name.to_owned(),
            netmask: pool.netmask(),
            ranges: pool.ranges.clone(),
            kind: match pool.kind {
                model::PoolKind::Generic => PoolKind::Generic,
                model::PoolKind::Rotary => PoolKind::Rotary,
                model::PoolKind::MatchHost => PoolKind::MatchHost,
            },
        });
        Some(RuleText { text, pool })
    }

    fn interface(&self, name: &str) -> Option<InterfaceText> {
        let policy = self.policy.load();
        let interface = policy.config.interface(name)?;
        Some(InterfaceText {
            description: interface.description.clone(),
            shutdown: interface.shutdown,
        })
    }

    fn route(&self, vrf: VrfId, prefix: Ipv4Net, via: Option<Ipv4Addr>) -> Option<RouteText> {
        let policy = self.policy.load();
        let name = policy.vrfs.name(vrf);
        let router = |r: &StaticRoute| match r.target {
            RouteTarget::NextHop(router) => Some(router),
            RouteTarget::Interface(_) | RouteTarget::Null => None,
        };
        let is_it = |r: &&StaticRoute| {
            let is_used = r.distance != StaticRoute::NEVER;
            is_used && r.vrf.as_deref() == name && r.prefix == prefix && router(r) == via
        };
        let routes = policy.config.routes.iter().filter(is_it);
        let configured = routes.map(|r| r.distance).min();
        let leases = self.leases.load();
        let from_server =
            prefix == Ipv4Net::default() && leases.have_default_route(&policy.config, name);
        let (origin, distance) = match (configured, from_server) {
            (Some(distance), _) => (RouteOrigin::Static, Some((distance, 0))),
            (_, true) => (RouteOrigin::Dhcp, Some((254, 0))),
            _ => (RouteOrigin::Kernel, None),
        };
        Some(RouteText { origin, distance })
    }
}
