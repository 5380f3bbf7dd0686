//! `ip nat translation max-entries` of inside hosts and of access lists.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::acl::AccessList;

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
    /// `list ACL N`: all hosts together that the list permits.
    pub lists: Vec<ListLimit>,
}

/// How many entries the hosts of a list may have together.
#[derive(Debug)]
pub struct ListLimit {
    /// The hosts: as sources, whatever else its lines ask for.
    pub list: Arc<AccessList>,
    /// Most entries.
    pub most: u32,
    /// Entries over all workers. Workers meet here when an entry is made or removed.
    entries: AtomicU64,
}

impl ListLimit {
    /// A limit that nothing counts for yet.
    #[must_use]
    pub fn new(list: Arc<AccessList>, most: u32) -> ListLimit {
        ListLimit {
            list,
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
    /// Most entries of a host, if it has a limit.
    #[must_use]
    pub fn of(&self, host: Ipv4Addr) -> Option<u32> {
        self.hosts.get(&host).copied().or(self.all_hosts)
    }

    fn lists_of(&self, host: Ipv4Addr) -> impl Iterator<Item = &ListLimit> {
        let permits = move |limit: &&ListLimit| limit.list.permits_source(host.to_bits());
        self.lists.iter().filter(permits)
    }

    /// Whether each list of a host has room for one more entry.
    #[must_use]
    pub fn lists_have_room(&self, host: Ipv4Addr) -> bool {
        self.lists_of(host).all(ListLimit::has_room)
    }

    /// Counts an entry of a host for its lists; `false`, with nothing counted, where one is full.
    #[must_use]
    pub fn reserve(&self, host: Ipv4Addr) -> bool {
        let Some(full) = self.lists_of(host).position(|limit| !limit.reserve()) else {
            return true;
        };
        for limit in self.lists_of(host).take(full) {
            limit.entries.fetch_sub(1, Ordering::Relaxed);
        }
        false
    }

    /// Counts an entry that is there, whether there is room or not.
    pub fn add(&self, host: Ipv4Addr) {
        for limit in self.lists_of(host) {
            limit.entries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes back what [`HostLimits::reserve`] or [`HostLimits::add`] counted.
    pub fn release(&self, host: Ipv4Addr) {
        for limit in self.lists_of(host) {
            limit.entries.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{Action, Entry, Wildcard};

    #[test]
    fn a_full_list_leaves_nothing_counted_for_the_others() {
        let any = || Entry::standard(10, Action::Permit, Wildcard::ANY);
        let list = || Arc::new(AccessList::new(vec![any()]));
        let limits = HostLimits {
            lists: vec![ListLimit::new(list(), 5), ListLimit::new(list(), 1)],
            ..HostLimits::default()
        };
        let host = Ipv4Addr::new(10, 0, 0, 1);
        let entries = || [0, 1].map(|at| limits.lists[at].entries());
        assert!(limits.lists_have_room(host) && limits.reserve(host));
        assert!(!limits.lists_have_room(host) && !limits.reserve(host));
        assert_eq!(entries(), [1, 1]);
        limits.add(host);
        assert_eq!(entries(), [2, 2]);
        limits.release(host);
        limits.release(host);
        assert_eq!(entries(), [0, 0]);
    }
}
