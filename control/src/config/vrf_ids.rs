//! The numbers of VRFs: what workers and the kernel know them by.

use std::collections::{BTreeMap, BTreeSet};

use spillway_dataplane::snapshot::VrfId;

use super::model::{Config, Vrf};

/// The number of each VRF of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VrfIds(BTreeMap<String, VrfId>);

impl VrfIds {
    /// Numbers the VRFs of a configuration: those that stay keep theirs, new ones take the lowest
    /// that neither this configuration nor the one before uses, so that no number changes its
    /// meaning in one step. Where none of these is left, one that this step frees is taken.
    #[must_use]
    pub fn new(config: &Config, previous: Option<&VrfIds>) -> VrfIds {
        let none = VrfIds::default();
        let before = &previous.unwrap_or(&none).0;
        let used: BTreeSet<VrfId> = before.values().copied().collect();
        let kept: BTreeSet<VrfId> = (config.vrfs.iter())
            .filter_map(|vrf| before.get(&vrf.name).copied())
            .collect();
        let unused = (1..=u8::MAX).map(VrfId).filter(|id| !used.contains(id));
        let freed = used.iter().copied().filter(|id| !kept.contains(id));
        let mut free = unused.chain(freed);
        let number = |vrf: &Vrf| {
            let id = before.get(&vrf.name).copied().or_else(|| free.next());
            id.map(|id| (vrf.name.clone(), id))
        };
        VrfIds(config.vrfs.iter().filter_map(number).collect())
    }

    /// The number of the VRF of this name; `None` is the global table, and so is, for a caller that
    /// has not checked its configuration, a VRF that does not exist: see [`VrfIds::find`].
    #[must_use]
    pub fn id(&self, name: Option<&str>) -> VrfId {
        self.find(name).unwrap_or(VrfId::GLOBAL)
    }

    /// The number of the VRF of this name, where there is one; `None` is the global table.
    #[must_use]
    pub fn find(&self, name: Option<&str>) -> Option<VrfId> {
        match name {
            Some(name) => self.0.get(name).copied(),
            None => Some(VrfId::GLOBAL),
        }
    }

    /// The name of a VRF; the global table has none.
    #[must_use]
    pub fn name(&self, id: VrfId) -> Option<&str> {
        let named = self.iter().find(|(_, other)| *other == id);
        named.map(|(name, _)| name)
    }

    /// All VRFs with their numbers, in the order of their names; without the global table.
    pub fn iter(&self) -> impl Iterator<Item = (&str, VrfId)> {
        self.0.iter().map(|(name, id)| (name.as_str(), *id))
    }
}
