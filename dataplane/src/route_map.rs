//! Route maps: clauses that choose packets by access list, way out and next hop.
//!
//! As access lists, they are consulted when an entry is made, never on a hit.

use std::sync::Arc;

use crate::acl::{AccessList, Action, Subject};
use crate::fib::NextHop;
use crate::snapshot::PortId;

/// Clauses in the order of their sequence numbers: the first that matches decides, none denies.
#[derive(Debug, Clone, Default)]
pub struct RouteMap {
    /// The clauses.
    pub clauses: Vec<Clause>,
}

/// What a clause matches of one kind is any of those named; of several kinds, all must match; of
/// none, everything matches.
#[derive(Debug, Clone)]
pub struct Clause {
    /// What a match means.
    pub action: Action,
    /// `match ip address`: access lists, one of which must permit the packet.
    pub lists: Option<Vec<Arc<AccessList>>>,
    /// `match interface`: the port by which it leaves.
    pub interfaces: Option<Vec<PortId>>,
    /// `match ip next-hop`: access lists, one of which must permit its next hop as a source.
    pub next_hops: Option<Vec<Arc<AccessList>>>,
}

/// What a dynamic rule or a static asks about a packet.
#[derive(Debug, Clone)]
pub enum Selector {
    /// `list`.
    List(Arc<AccessList>),
    /// `route-map`.
    RouteMap(Arc<RouteMap>),
}

impl RouteMap {
    /// What becomes of a packet that leaves by `exit`; `None` where its way is not known, which
    /// matches no interface and no next hop. Counts the matches of access lists if `counts`.
    #[must_use]
    pub fn decide(&self, subject: &Subject, exit: Option<NextHop>, counts: bool) -> Action {
        let clause = self
            .clauses
            .iter()
            .find(|c| c.matches(subject, exit, counts));
        clause.map_or(Action::Deny, |clause| clause.action)
    }
}

impl Clause {
    fn matches(&self, subject: &Subject, exit: Option<NextHop>, counts: bool) -> bool {
        let permitted = |lists: &Vec<Arc<AccessList>>, subject: &Subject| {
            let permits = |list: &Arc<AccessList>| list.look(subject, counts) == Action::Permit;
            lists.iter().any(permits)
        };
        let next_hop = || {
            exit.map(|exit| Subject {
                source: exit.address.to_bits(),
                ..*subject
            })
        };
        self.interfaces
            .as_ref()
            .is_none_or(|ports| exit.is_some_and(|exit| ports.contains(&exit.port)))
            && self
                .lists
                .as_ref()
                .is_none_or(|lists| permitted(lists, subject))
            && self
                .next_hops
                .as_ref()
                .is_none_or(|lists| next_hop().is_some_and(|hop| permitted(lists, &hop)))
    }
}

impl Selector {
    /// Whether a packet is selected, with its match counted in access lists.
    #[must_use]
    pub fn check(&self, subject: &Subject, exit: Option<NextHop>) -> Action {
        match self {
            Selector::List(list) => list.check(subject),
            Selector::RouteMap(map) => map.decide(subject, exit, true),
        }
    }

    /// The same without counting.
    #[must_use]
    pub fn decide(&self, subject: &Subject, exit: Option<NextHop>) -> Action {
        match self {
            Selector::List(list) => list.decide(subject),
            Selector::RouteMap(map) => map.decide(subject, exit, false),
        }
    }
}

impl Selector {
    /// Whether packets of this source are selected, whatever else is asked of them: the first
    /// line of a list about it permits; of a route map, the first clause of which this is true.
    #[must_use]
    pub fn permits_source(&self, source: u32) -> bool {
        match self {
            Selector::List(list) => list.permits_source(source),
            Selector::RouteMap(map) => {
                let about = |clause: &&Clause| match &clause.lists {
                    None => true,
                    Some(lists) => lists.iter().any(|list| list.permits_source(source)),
                };
                let mut clauses = map.clauses.iter().filter(about);
                clauses.any(|clause| clause.action == Action::Permit)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{Entry, Wildcard};

    fn list(action: Action, source: [u8; 4]) -> Arc<AccessList> {
        let source = Wildcard::host(source.into());
        Arc::new(AccessList::new(vec![Entry::standard(10, action, source)]))
    }

    fn from(source: [u8; 4]) -> Subject {
        Subject {
            protocol: 17,
            source: u32::from_be_bytes(source),
            destination: 1,
            ports: Some((1, 2)),
            icmp: None,
            established: false,
            later_fragment: false,
        }
    }

    fn exit(port: u8, address: [u8; 4]) -> Option<NextHop> {
        Some(NextHop {
            port: PortId(port),
            address: address.into(),
        })
    }

    const A: [u8; 4] = [10, 0, 0, 1];
    const B: [u8; 4] = [10, 0, 0, 2];
    const GATE: [u8; 4] = [192, 0, 2, 1];

    #[test]
    fn the_first_clause_that_matches_decides_and_none_denies() {
        let clause = |action, source| Clause {
            action,
            lists: Some(vec![list(Action::Permit, source)]),
            interfaces: None,
            next_hops: None,
        };
        let map = RouteMap {
            clauses: vec![
                clause(Action::Deny, A),
                clause(Action::Permit, B),
                clause(Action::Permit, A),
            ],
        };
        assert_eq!(map.decide(&from(A), None, false), Action::Deny);
        assert_eq!(map.decide(&from(B), None, false), Action::Permit);
        assert_eq!(map.decide(&from([9, 9, 9, 9]), None, false), Action::Deny);
        assert_eq!(
            RouteMap::default().decide(&from(A), None, false),
            Action::Deny
        );
    }

    #[test]
    fn what_a_list_denies_a_clause_does_not_match() {
        let all = Clause {
            action: Action::Permit,
            lists: None,
            interfaces: None,
            next_hops: None,
        };
        let denied = Clause {
            action: Action::Deny,
            lists: Some(vec![list(Action::Deny, A)]),
            ..all.clone()
        };
        let map = RouteMap {
            clauses: vec![denied, all],
        };
        assert_eq!(map.decide(&from(A), None, false), Action::Permit);
    }

    #[test]
    fn all_kinds_must_match_and_one_of_each_kind_is_enough() {
        let map = RouteMap {
            clauses: vec![Clause {
                action: Action::Permit,
                lists: Some(vec![list(Action::Permit, A), list(Action::Permit, B)]),
                interfaces: Some(vec![PortId(1), PortId(2)]),
                next_hops: Some(vec![list(Action::Permit, GATE)]),
            }],
        };
        let decide = |source, exit| map.decide(&from(source), exit, false);
        assert_eq!(decide(B, exit(2, GATE)), Action::Permit);
        assert_eq!(decide([1, 1, 1, 1], exit(2, GATE)), Action::Deny);
        assert_eq!(decide(B, exit(0, GATE)), Action::Deny);
        assert_eq!(decide(B, exit(1, [192, 0, 2, 2])), Action::Deny);
        assert_eq!(decide(B, None), Action::Deny);
    }
}
