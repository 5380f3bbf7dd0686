//! Pools without overload: which address which inside host gets, and which worker's host has it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::snapshot::WorkerId;

/// The owner of an address: 0 nobody, else the worker's number plus one.
type Owner = Arc<AtomicU8>;

/// Who has which address, over all pools: what a new configuration takes from the one before, so
/// that no address is lent twice and none is forgotten however pools are cut anew. An address that
/// leaves the configuration and comes back is nobody's.
#[derive(Debug, Default)]
pub struct Leases {
    owners: HashMap<u32, Owner>,
    /// How often an address was given back, of all pools.
    freed: Arc<AtomicU32>,
}

/// What a worker remembers of its last search that found nothing: as long as no address is given
/// back and the policy stays, it finds nothing again. So a full pool costs no more than an empty one,
/// however large it is and whoever asks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct InVain(Option<(usize, u32)>);

/// Which address of a pool the next host gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lending {
    /// The first that is free.
    FirstFree,
    /// `type rotary`: the first free one behind the last that was lent, and around.
    Rotary,
    /// `type match-host`: the one that has the host's own bits under this mask.
    MatchHost(u32),
}

/// A pool without overload: each address is lent to one inside host.
#[derive(Debug)]
pub struct OneToOnePool {
    ranges: Box<[Range]>,
    /// By index: through all ranges.
    owners: Box<[Owner]>,
    lending: Lending,
    /// Of a rotary pool: where the next search begins.
    next: AtomicU32,
    /// See [`Leases`].
    freed: Arc<AtomicU32>,
}

/// Addresses one after the other.
#[derive(Debug)]
struct Range {
    first: u32,
    last: u32,
    /// The index of the first in its pool.
    index: u32,
}

impl Range {
    fn len(&self) -> u32 {
        self.last - self.first + 1
    }
}

impl OneToOnePool {
    /// A pool of `size` addresses, at least one, from `first` on that are nobody's; each host gets
    /// the first free one.
    #[must_use]
    pub fn new(first: Ipv4Addr, size: u32) -> OneToOnePool {
        let last = first.to_bits().saturating_add(size.saturating_sub(1));
        let ranges = [(first, Ipv4Addr::from_bits(last))];
        OneToOnePool::with_leases(&ranges, Lending::FirstFree, &mut Leases::default())
    }

    /// A pool of ranges, each by its first and last address. What is lent of them stays lent; what
    /// `leases` does not know is free, and known to it from now on.
    #[must_use]
    pub fn with_leases(
        ranges: &[(Ipv4Addr, Ipv4Addr)],
        lending: Lending,
        leases: &mut Leases,
    ) -> OneToOnePool {
        let mut index = 0;
        let range = |(first, last): &(Ipv4Addr, Ipv4Addr)| {
            let (first, last) = (first.to_bits(), last.to_bits().max(first.to_bits()));
            let range = Range { first, last, index };
            index += range.len();
            range
        };
        let ranges: Box<[Range]> = ranges.iter().map(range).collect();
        let addresses = ranges.iter().flat_map(|range| range.first..=range.last);
        OneToOnePool {
            owners: addresses.map(|address| leases.owner(address)).collect(),
            ranges,
            lending,
            next: AtomicU32::new(0),
            freed: Arc::clone(&leases.freed),
        }
    }

    /// Number of addresses.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.owners.len() as u32
    }

    /// Which address the next host gets.
    #[must_use]
    pub fn lending(&self) -> Lending {
        self.lending
    }

    /// First and last address of each range.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (Ipv4Addr, Ipv4Addr)> {
        let ends = |range: &Range| [range.first, range.last].map(Ipv4Addr::from_bits);
        self.ranges
            .iter()
            .map(ends)
            .map(|[first, last]| (first, last))
    }

    /// All addresses in the order of their indices.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let all = self.ranges.iter().flat_map(|r| r.first..=r.last);
        all.map(Ipv4Addr::from_bits)
    }

    /// The address at `index`, which is less than [`OneToOnePool::size`].
    #[must_use]
    pub fn address(&self, index: u32) -> Ipv4Addr {
        let first = |range: &Range| range.first + (index - range.index);
        Ipv4Addr::from_bits(self.range_of(index).map_or(0, first))
    }

    /// The worker whose host has the address at `index`, if any.
    #[must_use]
    pub fn owner(&self, index: u32) -> Option<WorkerId> {
        self.cell(index).and_then(owner_of)
    }

    /// The address that an inside host would get now: one that is free and `usable`.
    #[must_use]
    pub fn candidate(&self, host: Ipv4Addr, usable: impl Fn(Ipv4Addr) -> bool) -> Option<u32> {
        self.candidate_at(host, |_, address| usable(address))
    }

    /// [`OneToOnePool::candidate`], with the index of each address too.
    pub(super) fn candidate_at(
        &self,
        host: Ipv4Addr,
        usable: impl Fn(u32, Ipv4Addr) -> bool,
    ) -> Option<u32> {
        self.search(host, |index, cell| {
            cell.load(Ordering::Relaxed) == 0 && usable(index, self.address(index))
        })
    }

    /// Takes the address for an inside host of worker `me`: one that is free and `usable`. The worker
    /// forgets `in_vain` when what is usable changes.
    #[must_use]
    pub fn take(
        &self,
        me: WorkerId,
        host: Ipv4Addr,
        usable: impl Fn(Ipv4Addr) -> bool,
        in_vain: &mut InVain,
    ) -> Option<u32> {
        // Read before the search: what is given back meanwhile is looked for again.
        let search = (
            std::ptr::from_ref(self).addr(),
            self.freed.load(Ordering::Acquire),
        );
        if *in_vain == InVain(Some(search)) {
            return None;
        }
        let taken = self.take_at(me, host, |_, address| usable(address));
        // By the host's own bits there is one address, which says nothing of others.
        let says_all = !matches!(self.lending, Lending::MatchHost(_));
        if taken.is_none() && says_all {
            *in_vain = InVain(Some(search));
        }
        taken
    }

    /// [`OneToOnePool::take`], with the index of each address too.
    pub(super) fn take_at(
        &self,
        me: WorkerId,
        host: Ipv4Addr,
        usable: impl Fn(u32, Ipv4Addr) -> bool,
    ) -> Option<u32> {
        let index = self.search(host, |index, cell| {
            cell.load(Ordering::Relaxed) == 0
                && usable(index, self.address(index))
                && cell
                    .compare_exchange(0, me.0 + 1, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        })?;
        if self.lending == Lending::Rotary {
            // Of two workers at the same moment one may not be heard: the order is a courtesy.
            self.next.store(index + 1, Ordering::Relaxed);
        }
        Some(index)
    }

    /// The first address in this pool's order that passes `test`.
    fn search(&self, host: Ipv4Addr, test: impl Fn(u32, &AtomicU8) -> bool) -> Option<u32> {
        let passes = |index: &u32| self.cell(*index).is_some_and(|cell| test(*index, cell));
        let start = match self.lending {
            Lending::FirstFree => 0,
            Lending::Rotary => self.next.load(Ordering::Relaxed) % self.size().max(1),
            Lending::MatchHost(mask) => {
                let like = |range: &Range| {
                    let wanted = range.first & !mask | host.to_bits() & mask;
                    let inside = range.first <= wanted && wanted <= range.last;
                    inside.then(|| range.index + (wanted - range.first))
                };
                return self.ranges.iter().filter_map(like).find(passes);
            }
        };
        (start..self.size()).chain(0..start).find(passes)
    }

    /// Gives an address back.
    pub fn release(&self, me: WorkerId, index: u32) {
        if let Some(cell) = self.cell(index) {
            let freed = cell.compare_exchange(me.0 + 1, 0, Ordering::AcqRel, Ordering::Relaxed);
            if freed.is_ok() {
                self.freed.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// How many addresses are lent.
    #[must_use]
    pub fn lent(&self) -> u32 {
        let lent = |owner: &&Owner| owner_of(owner).is_some();
        self.owners.iter().filter(lent).count() as u32
    }

    fn cell(&self, index: u32) -> Option<&AtomicU8> {
        self.owners.get(index as usize).map(Arc::as_ref)
    }

    fn range_of(&self, index: u32) -> Option<&Range> {
        let behind = self.ranges.partition_point(|range| range.index <= index);
        let range = self.ranges.get(behind.checked_sub(1)?)?;
        (index - range.index < range.len()).then_some(range)
    }
}

impl Leases {
    /// Adds what is lent of a pool.
    pub fn learn(&mut self, pool: &OneToOnePool) {
        let owners = pool.addresses().zip(&pool.owners);
        let owners = owners.map(|(address, owner)| (address.to_bits(), Arc::clone(owner)));
        self.owners.extend(owners);
        self.freed = Arc::clone(&pool.freed);
    }

    fn owner(&mut self, address: u32) -> Owner {
        Arc::clone(self.owners.entry(address).or_default())
    }
}

fn owner_of(cell: &AtomicU8) -> Option<WorkerId> {
    cell.load(Ordering::Acquire).checked_sub(1).map(WorkerId)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: WorkerId = WorkerId(0);

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    fn pool(ranges: &[(&str, &str)], lending: Lending, leases: &mut Leases) -> OneToOnePool {
        let ranges: Vec<_> = ranges.iter().map(|(a, b)| (ip(a), ip(b))).collect();
        OneToOnePool::with_leases(&ranges, lending, leases)
    }

    fn lend(pool: &OneToOnePool, host: &str) -> Option<String> {
        let index = pool.take(ME, ip(host), |_| true, &mut InVain::default())?;
        Some(pool.address(index).to_string())
    }

    #[test]
    fn indices_run_through_the_ranges() {
        let ranges = [("192.0.2.60", "192.0.2.70"), ("192.0.2.200", "192.0.2.201")];
        let pool = pool(&ranges, Lending::FirstFree, &mut Leases::default());
        assert_eq!(pool.size(), 13);
        let all: Vec<_> = (0..13).map(|index| pool.address(index)).collect();
        assert_eq!(all, pool.addresses().collect::<Vec<_>>());
        assert_eq!(all[12], ip("192.0.2.201"));
        assert_eq!(pool.owner(13), None);
        for _ in 0..13 {
            assert!(lend(&pool, "10.0.0.1").is_some());
        }
        assert_eq!((lend(&pool, "10.0.0.1"), pool.lent()), (None, 13));
        pool.release(ME, 11);
        assert_eq!(lend(&pool, "10.0.0.1").as_deref(), Some("192.0.2.200"));
    }

    #[test]
    fn a_rotary_pool_goes_on_behind_the_last() {
        let ranges = [("192.0.2.1", "192.0.2.3")];
        let pool = pool(&ranges, Lending::Rotary, &mut Leases::default());
        assert_eq!(lend(&pool, "10.0.0.1").as_deref(), Some("192.0.2.1"));
        pool.release(ME, 0);
        assert_eq!(pool.candidate(ip("10.0.0.1"), |_| true), Some(1));
        assert_eq!(lend(&pool, "10.0.0.1").as_deref(), Some("192.0.2.2"));
        assert_eq!(lend(&pool, "10.0.0.2").as_deref(), Some("192.0.2.3"));
        assert_eq!(lend(&pool, "10.0.0.3").as_deref(), Some("192.0.2.1"));
        assert_eq!(lend(&pool, "10.0.0.4"), None);
    }

    #[test]
    fn match_host_keeps_the_hosts_part() {
        let ranges = [
            ("192.0.2.5", "192.0.2.9"),
            ("198.51.100.1", "198.51.100.254"),
        ];
        let lending = Lending::MatchHost(0xff);
        let pool = pool(&ranges, lending, &mut Leases::default());
        assert_eq!(lend(&pool, "10.0.0.7").as_deref(), Some("192.0.2.7"));
        assert_eq!(lend(&pool, "10.0.1.7").as_deref(), Some("198.51.100.7"));
        assert_eq!(lend(&pool, "10.0.2.7"), None);
        assert_eq!(lend(&pool, "10.0.0.77").as_deref(), Some("198.51.100.77"));
        assert_eq!(lend(&pool, "10.0.0.255"), None);
    }

    #[test]
    fn a_full_pool_is_searched_once_until_an_address_is_given_back() {
        let mut leases = Leases::default();
        let ranges = [("192.0.2.1", "192.0.2.9")];
        let pools = [0, 1].map(|_| pool(&ranges, Lending::FirstFree, &mut leases));
        let looked = std::cell::Cell::new(0);
        let mut in_vain = InVain::default();
        let mut take = |pool: &OneToOnePool| {
            let usable = |_| {
                looked.set(looked.get() + 1);
                true
            };
            let taken = pool.take(ME, ip("10.0.0.1"), usable, &mut in_vain);
            (taken, looked.take())
        };
        for index in 0..9 {
            assert_eq!(take(&pools[0]), (Some(index), 1));
        }
        assert_eq!(take(&pools[0]), (None, 0), "none is free to be asked about");
        // Another pool has the same addresses: what it gives back is free here too.
        pools[1].release(ME, 4);
        assert_eq!(take(&pools[0]), (Some(4), 1));
        // One that is free and not usable is looked at once.
        pools[0].release(ME, 7);
        let no = |_| {
            looked.set(looked.get() + 1);
            false
        };
        let mut in_vain = InVain::default();
        for wanted in [1, 0, 0] {
            assert_eq!(pools[0].take(ME, ip("10.0.0.1"), no, &mut in_vain), None);
            assert_eq!(looked.take(), wanted);
        }
        assert_eq!(pools[1].take(ME, ip("10.0.0.1"), no, &mut in_vain), None);
        assert_eq!(looked.take(), 1, "another pool");
    }

    #[test]
    fn what_is_lent_stays_lent_in_the_next_configuration() {
        let before = pool(
            &[("192.0.2.60", "192.0.2.70")],
            Lending::FirstFree,
            &mut Leases::default(),
        );
        let usable = |a| a == ip("192.0.2.66");
        let index = before.take(ME, ip("10.0.0.1"), usable, &mut InVain::default());
        let mut leases = Leases::default();
        leases.learn(&before);
        let after = pool(
            &[("192.0.2.65", "192.0.2.66")],
            Lending::FirstFree,
            &mut leases,
        );
        assert_eq!(after.owner(1), Some(ME));
        before.release(ME, index.expect("it is free"));
        assert_eq!((after.owner(1), after.lent()), (None, 0));
    }
}
