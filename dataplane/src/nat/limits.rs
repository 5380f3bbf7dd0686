//! `ip nat translation max-entries` of inside hosts, of access lists and of VRFs.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::acl::AccessList;
use crate::snapshot::{InsideHost, VrfId};

/// How many entries inside hosts may have, one by one and together.
///
/// What counts are the entries of the workers' tables: TCP, UDP, ICMP and those of lent addresses.
/// A host's entries are with one worker, which counts them alone; those of ESP, and of UDP with an
/// outside host's IKE ports, are with the worker of the outside host: of these, ESP and IKE count
/// for `max-entries N` alone, and other UDP of these ports counts apart for each such worker.
#[derive(Debug, Default)]
pub struct HostLimits {
    /// `all-host N`: each host that has no limit of its own.
    pub all_hosts: Option<u32>,
    /// `host A.B.C.D N`: of this one; it beats `all-host`.
    pub hosts: HashMap<Ipv4Addr, u32>,
    /// All hosts of a group together.
    pub groups: Vec<GroupLimit>,
}

/// Hosts that share a limit.
#[derive(Debug, Clone)]
pub enum Group {
    /// `list ACL N`: those that the list permits as sources, whatever else its lines ask for.
    List(Arc<AccessList>),
    /// `vrf V N`: those of a VRF.
    Vrf(VrfId),
}

/// How many entries the hosts of a group may have together.
#[derive(Debug)]
pub struct GroupLimit {
    /// The hosts.
    pub group: Group,
    /// Most entries.
    pub most: u32,
    /// Entries over all workers. Workers meet here when an entry is made or removed.
    entries: AtomicU64,
}

impl Group {
    fn has(&self, host: InsideHost) -> bool {
        match self {
            Group::List(list) => list.permits_source(host.address.to_bits()),
            Group::Vrf(vrf) => *vrf == host.vrf,
        }
    }

    /// Whether this is the same group, not one that is alike.
    #[must_use]
    pub fn is(&self, other: &Group) -> bool {
        match (self, other) {
            (Group::List(one), Group::List(other)) => Arc::ptr_eq(one, other),
            (Group::Vrf(one), Group::Vrf(other)) => one == other,
            _ => false,
        }
    }
}

impl GroupLimit {
    /// A limit that nothing counts for yet.
    #[must_use]
    pub fn new(group: Group, most: u32) -> GroupLimit {
        GroupLimit {
            group,
            most,
            entries: AtomicU64::new(0),
        }
    }

    /// Entries that count for it.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.entries() < u64::from(self.most)
    }

    /// Counts one more entry unless there are as many as there may be.
    fn reserve(&self) -> bool {
        let more = |entries| (entries < u64::from(self.most)).then_some(entries + 1);
        self.entries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }
}

impl HostLimits {
    /// Whether any host has a limit.
    #[must_use]
    pub fn limit_hosts(&self) -> bool {
        self.all_hosts.is_some() || !self.hosts.is_empty()
    }

    /// Most entries of a host, if it has a limit.
    #[must_use]
    pub fn of(&self, host: InsideHost) -> Option<u32> {
        self.hosts.get(&host.address).copied().or(self.all_hosts)
    }

    fn groups_of(&self, host: InsideHost) -> impl Iterator<Item = &GroupLimit> {
        let has = move |limit: &&GroupLimit| limit.group.has(host);
        self.groups.iter().filter(has)
    }

    /// Whether each group of a host has room for one more entry.
    #[must_use]
    pub fn groups_have_room(&self, host: InsideHost) -> bool {
        self.groups_of(host).all(GroupLimit::has_room)
    }

    /// Counts an entry of a host for its groups; `false`, with nothing counted, where one is full.
    #[must_use]
    pub fn reserve(&self, host: InsideHost) -> bool {
        let Some(full) = self.groups_of(host).position(|limit| !limit.reserve()) else {
            return true;
        };
        for limit in self.groups_of(host).take(full) {
            limit.entries.fetch_sub(1, Ordering::Relaxed);
        }
        false
    }

    /// Counts an entry that is there, whether there is room or not.
    pub fn add(&self, host: InsideHost) {
        for limit in self.groups_of(host) {
            limit.entries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes back what [`HostLimits::reserve`] or [`HostLimits::add`] counted.
    pub fn release(&self, host: InsideHost) {
        for limit in self.groups_of(host) {
            limit.entries.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{Action, Entry, Wildcard};

    #[test]
    fn a_full_group_leaves_nothing_counted_for_the_others() {
        let any = || Entry::standard(10, Action::Permit, Wildcard::ANY);
        let list = || Group::List(Arc::new(AccessList::new(vec![any()])));
        let limits = HostLimits {
            groups: vec![GroupLimit::new(list(), 5), GroupLimit::new(list(), 1)],
            ..HostLimits::default()
        };
        let host = InsideHost::from(Ipv4Addr::new(10, 0, 0, 1));
        let entries = || [0, 1].map(|at| limits.groups[at].entries());
        assert!(limits.groups_have_room(host) && limits.reserve(host));
        assert!(!limits.groups_have_room(host) && !limits.reserve(host));
        assert_eq!(entries(), [1, 1]);
        limits.add(host);
        assert_eq!(entries(), [2, 2]);
        limits.release(host);
        limits.release(host);
        assert_eq!(entries(), [0, 0]);
    }
}
