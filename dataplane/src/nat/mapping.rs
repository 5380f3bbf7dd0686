//! `endpoint-independent`: one port of an address for all flows of an inside endpoint.

use std::collections::HashSet;

use super::{Rule, Target};
use crate::route_map::Selector;

/// Whose packets get in unasked through the mapping of an inside endpoint (RFC 4787 section 5,
/// RFC 5382 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u16)]
pub enum Filtering {
    /// Anybody's.
    EndpointIndependent = 0,
    /// Those of any port of an outside host that has an entry under the mapping.
    #[default]
    AddressDependent = 1,
    /// Nobody's: only answers.
    AddressAndPortDependent = 2,
}

impl Filtering {
    /// Every value, in the order of its number.
    pub const ALL: [Filtering; 3] = [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ];

    /// The word in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Filtering::EndpointIndependent => "endpoint-independent",
            Filtering::AddressDependent => "address-dependent",
            Filtering::AddressAndPortDependent => "address-and-port-dependent",
        }
    }
}

impl Rule {
    /// Whether it lends an address to each host, as a pool without overload does, and yet makes an
    /// entry for each flow: its route map looks at more than the host, so another flow of the same
    /// host may be another rule's.
    #[must_use]
    pub fn lends_to_flows(&self) -> bool {
        matches!(self.target, Target::OneToOne(_)) && matches!(self.selector, Selector::RouteMap(_))
    }
}

/// The addresses of rules with `endpoint-independent`.
pub(super) fn addresses(rules: &[Rule]) -> HashSet<u32> {
    let mapped = rules.iter().filter(|rule| rule.mapping.is_some());
    let addresses = mapped.flat_map(|rule| match &rule.target {
        Target::Overload(addresses) => addresses.as_ref(),
        Target::OneToOne(_) => &[],
    });
    addresses.map(|global| global.address.to_bits()).collect()
}
