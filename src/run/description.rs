//! The words of the running configuration, for `show`.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::Ipv4Net;
use spillway_control::config::Policy;
use spillway_control::config::model;
use spillway_control::manage::{
    Description, InterfaceText, PoolKind, PoolText, RouteOrigin, RouteText, RuleText,
};

/// The policy in force, as the operator's side sees it.
pub(super) struct Running(pub(super) ArcSwap<Policy>);

impl Running {
    pub(super) fn new(policy: Arc<Policy>) -> Arc<Running> {
        Arc::new(Running(ArcSwap::new(policy)))
    }
}

impl Description for Running {
    fn policy(&self) -> Arc<Policy> {
        self.0.load_full()
    }

    fn rule(&self, id: u16) -> Option<RuleText> {
        let policy = self.0.load();
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
        let policy = self.0.load();
        let interface = policy.config.interface(name)?;
        Some(InterfaceText {
            description: interface.description.clone(),
            shutdown: interface.shutdown,
        })
    }

    fn route(&self, prefix: Ipv4Net) -> Option<RouteText> {
        let configured = self
            .0
            .load()
            .config
            .routes
            .iter()
            .any(|route| route.prefix == prefix);
        let origin = if configured {
            RouteOrigin::Static
        } else {
            RouteOrigin::Kernel
        };
        Some(RouteText {
            origin,
            distance: configured.then_some((1, 0)),
        })
    }
}
