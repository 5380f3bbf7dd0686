//! How many entries each inside host has, as far as the policy limits that.
//!
//! Nothing is counted as long as nothing is limited. When limits are new, the entries that are
//! there are counted a slice of the table at a time: an entry counts if its place lies before the
//! end of what was looked at, so every entry is counted once, whatever comes and goes meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use crate::nat::{HostLimits, Nat};
use crate::snapshot::InsideHost;
use crate::table::Table;

/// The counts of one worker.
#[derive(Debug, Default)]
pub(super) struct HostCounts {
    limits: Option<Arc<HostLimits>>,
    /// Entries of hosts that have a limit: at most as many hosts as the table has entries.
    hosts: HashMap<InsideHost, u32>,
    /// Entries at places before this one are counted.
    counted: u32,
}

impl HostCounts {
    /// Begins anew where the limits are others than before. The room for as many hosts as there may be
    /// `sessions` is made when hosts are limited for the first time, and kept: nothing grows later.
    pub(super) fn follow(&mut self, nat: &Nat, sessions: usize) {
        let same = match (&self.limits, &nat.host_limits) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.limits = nat.host_limits.clone();
            self.counted = 0;
            self.hosts.clear();
            if self.limits.as_ref().is_some_and(|l| l.limit_hosts()) {
                self.hosts.reserve(sessions);
            }
        }
    }

    /// Counts the entries at so many places that were there before the limits; whether there were any left.
    pub(super) fn catch_up(&mut self, table: &Table, places: u32) -> bool {
        let capacity = table.capacity() as u32;
        let Some(limits) = self.limits.clone().filter(|_| self.counted < capacity) else {
            return false;
        };
        let end = self.counted.saturating_add(places).min(capacity);
        for at in self.counted..end {
            if let Some(session) = table.at(at).filter(|s| !s.is_outside_entry()) {
                let host = session.inside_host();
                limits.add(host);
                self.add(&limits, host);
            }
        }
        self.counted = end;
        true
    }

    /// Whether a host may have one more entry.
    pub(super) fn allow(&self, host: InsideHost) -> bool {
        self.limits
            .as_ref()
            .is_none_or(|limits| self.is_below(limits, host) && limits.groups_have_room(host))
    }

    /// Whether a host may have two more entries.
    pub(super) fn allow_two(&self, host: InsideHost) -> bool {
        // Nobody sees what is counted and taken back: at worst another worker is refused meanwhile.
        let room = |limits: &Arc<HostLimits>| {
            self.is_below_by(limits, host, 1) && limits.reserve(host) && {
                let room = limits.groups_have_room(host);
                limits.release(host);
                room
            }
        };
        self.limits.as_ref().is_none_or(room)
    }

    /// [`HostCounts::reserve`] for a host that has one reserved already.
    pub(super) fn reserve_second(&self, host: InsideHost) -> bool {
        self.limits
            .as_ref()
            .is_none_or(|limits| self.is_below_by(limits, host, 1) && limits.reserve(host))
    }

    /// Whether a host may have one more entry, which then counts for its groups: see
    /// [`HostCounts::made`] and [`HostCounts::not_made`].
    pub(super) fn reserve(&self, host: InsideHost) -> bool {
        self.limits
            .as_ref()
            .is_none_or(|limits| self.is_below(limits, host) && limits.reserve(host))
    }

    /// The entry that was reserved stands at this place.
    pub(super) fn made(&mut self, at: u32, host: InsideHost) {
        let Some(limits) = self.limits.clone() else {
            return;
        };
        if at < self.counted {
            self.add(&limits, host);
        } else {
            limits.release(host); // it is yet to be counted with those around it
        }
    }

    /// There is no entry after all.
    pub(super) fn not_made(&self, host: InsideHost) {
        if let Some(limits) = &self.limits {
            limits.release(host);
        }
    }

    /// The entry at this place is gone.
    pub(super) fn removed(&mut self, at: u32, host: InsideHost) {
        let Some(limits) = self.limits.as_ref().filter(|_| at < self.counted) else {
            return;
        };
        limits.release(host);
        if let Some(entries) = self.hosts.get_mut(&host) {
            *entries -= 1;
            if *entries == 0 {
                self.hosts.remove(&host);
            }
        }
    }

    fn is_below(&self, limits: &HostLimits, host: InsideHost) -> bool {
        self.is_below_by(limits, host, 0)
    }

    /// Whether a host with so many more entries may have one more.
    fn is_below_by(&self, limits: &HostLimits, host: InsideHost, more: u32) -> bool {
        let entries = || self.hosts.get(&host).copied().unwrap_or(0);
        limits
            .of(host)
            .is_none_or(|most| entries().saturating_add(more) < most)
    }

    fn add(&mut self, limits: &HostLimits, host: InsideHost) {
        if limits.of(host).is_some() {
            *self.hosts.entry(host).or_insert(0) += 1;
        }
    }
}
