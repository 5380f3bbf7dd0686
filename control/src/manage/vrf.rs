//! VRFs by name, in what operators ask and in what they read.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use spillway_dataplane::snapshot::VrfId;

use super::appliance::Appliance;
use super::command::ExitStatus;
use super::words::{Invocation, Role, Value};

/// The names of all VRFs, looked up once for a whole answer.
pub(super) struct VrfNames(Vec<Option<Arc<str>>>);

impl VrfNames {
    /// Those of the configuration in force.
    pub(super) fn of(appliance: &Appliance) -> VrfNames {
        let mut names = vec![None; VrfId::MAX + 1];
        for (name, id) in appliance.parts.description.policy().vrfs.iter() {
            names[id.index()] = Some(Arc::from(name));
        }
        VrfNames(names)
    }

    /// The VRF of this number, or the global table.
    pub(super) fn vrf(&self, id: VrfId) -> Vrf {
        let name = || {
            let known = self.0.get(id.index()).cloned().flatten();
            known.unwrap_or_else(|| Arc::from("?")) // it went while this answer was made
        };
        Vrf {
            id,
            name: (id != VrfId::GLOBAL).then(name),
        }
    }

    /// The name of a VRF; the global table has none.
    pub(super) fn name(&self, id: VrfId) -> Option<String> {
        self.vrf(id).name.map(|name| name.to_string())
    }
}

/// A VRF or the global table; in JSON its name or `null`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Vrf {
    pub(super) id: VrfId,
    pub(super) name: Option<Arc<str>>,
}

impl Serialize for Vrf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name.as_deref().serialize(serializer)
    }
}

/// The VRF of this name.
pub(super) fn find(appliance: &Appliance, name: &str) -> Option<VrfId> {
    appliance.parts.description.policy().vrfs.find(Some(name))
}

/// The VRF that a command names, if it names one.
///
/// # Errors
/// It names one that does not exist.
pub(super) fn named(
    appliance: &Appliance,
    invocation: &Invocation,
) -> Result<Option<VrfId>, ExitStatus> {
    let mut arguments = invocation.arguments.iter();
    let name = arguments.find_map(|argument| match argument {
        (Role::Vrf, Value::Name(name)) => Some(name),
        _ => None,
    });
    let Some(name) = name else { return Ok(None) };
    match find(appliance, name) {
        Some(vrf) => Ok(Some(vrf)),
        None => Err(ExitStatus::failed(format!("% VRF {name} does not exist"))),
    }
}
