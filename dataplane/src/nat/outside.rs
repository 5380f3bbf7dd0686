//! `ip nat outside source`: outside hosts that inside hosts know by another address.
//!
//! The host's own address is its outside global one, the other its outside local one. Statics make
//! no state. Of a pool, the worker of the outside host's address lends, but every worker reads whom
//! an address stands for: so each address has a [`Place`] that all of them share.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{AddressHasher, Leases, Lending, OneToOnePool};
use crate::route_map::Selector;
use crate::snapshot::WorkerId;
use crate::time::Tick;

/// `ip nat outside source static GLOBAL LOCAL`.
#[derive(Debug)]
pub struct OutsideStatic {
    /// The outside host's own address.
    pub global: Ipv4Addr,
    /// The address by which inside hosts know it.
    pub local: Ipv4Addr,
    /// `add-route`: packets to the local address take the way to the global one.
    pub add_route: bool,
    /// When it was made.
    pub created: Tick,
    /// Last use, written by any worker at most once a tick; 0 means never.
    pub last_used: AtomicU32,
}

/// `ip nat outside source list A pool P`.
#[derive(Debug, Clone)]
pub struct OutsideRule {
    /// The mapping's number in `show ip nat statistics`.
    pub id: u16,
    /// The packets from outside whose senders get an address.
    pub selector: Selector,
    /// Where these addresses come from.
    pub pool: Arc<OutsidePool>,
    /// `add-route`: packets to these addresses take the way to the host itself.
    pub add_route: bool,
}

/// What all workers know of an address of a pool for outside hosts.
#[derive(Debug, Default)]
struct Place {
    /// The outside host that it stands for; 0 is none.
    host: AtomicU32,
    /// The tick of the last packet that was translated to or from it without an entry of its flow.
    used: AtomicU32,
    /// Entries of flows that have this address in them.
    flows: AtomicU32,
}

/// The places of a configuration, by address: what the next configuration takes from the one before.
#[derive(Debug, Default)]
pub struct OutsideLeases {
    leases: Leases,
    places: HashMap<u32, Arc<Place>>,
}

/// A pool whose addresses are lent to outside hosts, one to each.
#[derive(Debug)]
pub struct OutsidePool {
    addresses: OneToOnePool,
    /// By the same index.
    places: Box<[Arc<Place>]>,
}

impl OutsidePool {
    /// A pool of ranges, each by its first and last address. What `leases` knows to be lent stays
    /// lent.
    #[must_use]
    pub fn new(
        ranges: &[(Ipv4Addr, Ipv4Addr)],
        lending: Lending,
        leases: &mut OutsideLeases,
    ) -> OutsidePool {
        let addresses = OneToOnePool::with_leases(ranges, lending, &mut leases.leases);
        let places = &mut leases.places;
        let place = |address: Ipv4Addr| Arc::clone(places.entry(address.to_bits()).or_default());
        OutsidePool {
            places: addresses.addresses().map(place).collect(),
            addresses,
        }
    }

    /// Its addresses, and which of them are lent.
    #[must_use]
    pub fn addresses(&self) -> &OneToOnePool {
        &self.addresses
    }

    /// The outside host that the address at `index` stands for.
    #[must_use]
    pub fn host(&self, index: u32) -> Option<Ipv4Addr> {
        let host = self.place(index)?.host.load(Ordering::SeqCst);
        (host != 0).then(|| Ipv4Addr::from_bits(host))
    }

    /// The address that an outside host would get now.
    #[must_use]
    pub fn candidate(&self, host: Ipv4Addr, usable: impl Fn(Ipv4Addr) -> bool) -> Option<u32> {
        let free = |index, address| self.is_quiet(index) && usable(address);
        self.addresses.candidate_at(host, free)
    }

    /// Lends an address to an outside host of worker `me`; the index of one that is free and
    /// `usable`.
    #[must_use]
    pub fn lend(
        &self,
        me: WorkerId,
        host: Ipv4Addr,
        usable: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<u32> {
        let free = |index, address| self.is_quiet(index) && usable(address);
        let index = self.addresses.take_at(me, host, free)?;
        if let Some(place) = self.place(index) {
            place.host.store(host.to_bits(), Ordering::SeqCst);
        }
        Some(index)
    }

    /// An outside host of worker `me` gives its address back.
    pub fn release(&self, me: WorkerId, index: u32, host: Ipv4Addr) {
        let Some(place) = self.place(index) else {
            return;
        };
        let host = host.to_bits();
        if place
            .host
            .compare_exchange(host, 0, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
        {
            self.addresses.release(me, index);
        }
    }

    /// The tick of the last use that only the place knows of; `now` as long as flows have entries
    /// with the address.
    #[must_use]
    pub fn last_used(&self, index: u32, now: Tick) -> Option<Tick> {
        let place = self.place(index)?;
        if place.flows.load(Ordering::SeqCst) > 0 {
            return Some(now);
        }
        match place.used.load(Ordering::Relaxed) {
            0 => None,
            used => Some(Tick(used)),
        }
    }

    /// Whether no flow has an entry with the address: one that was taken away from its host while
    /// such entries live must not stand for another.
    fn is_quiet(&self, index: u32) -> bool {
        self.place(index)
            .is_some_and(|place| place.flows.load(Ordering::SeqCst) == 0)
    }

    fn place(&self, index: u32) -> Option<&Place> {
        self.places.get(index as usize).map(Arc::as_ref)
    }
}

impl OutsideLeases {
    /// Adds what is lent of a pool.
    pub fn learn(&mut self, pool: &OutsidePool) {
        self.leases.learn(&pool.addresses);
        let places = pool.addresses.addresses().zip(&pool.places);
        let places = places.map(|(address, place)| (address.to_bits(), Arc::clone(place)));
        self.places.extend(places);
    }
}

/// What an outside local address is.
#[derive(Debug, Clone)]
pub enum OutsideLocal {
    /// A static's.
    Static(Arc<OutsideStatic>),
    /// One of a pool.
    Pool {
        /// The pool.
        pool: Arc<OutsidePool>,
        /// Its place there.
        index: u32,
        /// Whether packets to it take the way to the host itself.
        add_route: bool,
    },
}

impl OutsideLocal {
    /// The outside host that it stands for, if it does.
    #[must_use]
    pub fn host(&self) -> Option<Ipv4Addr> {
        match self {
            OutsideLocal::Static(fixed) => Some(fixed.global),
            OutsideLocal::Pool { pool, index, .. } => pool.host(*index),
        }
    }

    /// Whether packets to it take the way to the host itself.
    #[must_use]
    pub fn add_route(&self) -> bool {
        match self {
            OutsideLocal::Static(fixed) => fixed.add_route,
            OutsideLocal::Pool { add_route, .. } => *add_route,
        }
    }

    /// Notes a use at `now`. Any worker may call this; a use that is noted already costs no write.
    pub fn used(&self, now: Tick) {
        let used = match self {
            OutsideLocal::Static(fixed) => &fixed.last_used,
            OutsideLocal::Pool { pool, index, .. } => match pool.place(*index) {
                Some(place) => &place.used,
                None => return,
            },
        };
        if used.load(Ordering::Relaxed) != now.0 {
            used.store(now.0, Ordering::Relaxed);
        }
    }
}

/// All translations of outside hosts.
#[derive(Debug, Default)]
pub struct Outside {
    /// Dynamic rules, in order of configuration.
    pub rules: Vec<OutsideRule>,
    /// Statics, in order of configuration.
    pub statics: Vec<Arc<OutsideStatic>>,
    by_local: HashMap<u32, OutsideLocal, BuildHasherDefault<AddressHasher>>,
    by_global: HashMap<u32, Arc<OutsideStatic>, BuildHasherDefault<AddressHasher>>,
}

impl Outside {
    /// The translations of these rules and statics. Where two have the same address, the first one
    /// has it, and statics go before rules.
    #[must_use]
    pub fn new(rules: Vec<OutsideRule>, statics: Vec<Arc<OutsideStatic>>) -> Outside {
        let mut outside = Outside::default();
        for fixed in &statics {
            let (local, global) = (fixed.local.to_bits(), fixed.global.to_bits());
            let here = || OutsideLocal::Static(Arc::clone(fixed));
            outside.by_local.entry(local).or_insert_with(here);
            let here = outside.by_global.entry(global);
            here.or_insert_with(|| Arc::clone(fixed));
        }
        for rule in &rules {
            for (index, address) in (0..).zip(rule.pool.addresses.addresses()) {
                let here = OutsideLocal::Pool {
                    pool: Arc::clone(&rule.pool),
                    index,
                    add_route: rule.add_route,
                };
                outside.by_local.entry(address.to_bits()).or_insert(here);
            }
        }
        Outside {
            rules,
            statics,
            ..outside
        }
    }

    /// Whether no outside host is translated.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_local.is_empty()
    }

    /// What an address is by which inside hosts know an outside host, if it is one.
    #[inline]
    #[must_use]
    pub fn local(&self, address: u32) -> Option<&OutsideLocal> {
        if self.by_local.is_empty() {
            return None;
        }
        self.by_local.get(&address)
    }

    /// The static of an outside host.
    #[must_use]
    pub fn static_of(&self, global: u32) -> Option<&Arc<OutsideStatic>> {
        if self.by_global.is_empty() {
            return None;
        }
        self.by_global.get(&global)
    }

    /// All outside local addresses and what they are.
    pub fn locals(&self) -> impl Iterator<Item = (Ipv4Addr, &OutsideLocal)> {
        let all = self.by_local.iter();
        all.map(|(address, local)| (Ipv4Addr::from_bits(*address), local))
    }

    /// Whether a pool may lend an address: not one that a static has.
    #[must_use]
    pub fn is_lendable(&self, address: Ipv4Addr) -> bool {
        matches!(
            self.local(address.to_bits()),
            Some(OutsideLocal::Pool { .. })
        )
    }

    /// A flow gets an entry with `local` for `host` in it. Whether it may: the address may have been
    /// taken from the host meanwhile. Each such entry is to [`Outside::leave`].
    #[must_use]
    pub fn join(&self, local: u32, host: u32) -> bool {
        let Some(OutsideLocal::Pool { pool, index, .. }) = self.local(local) else {
            return true;
        };
        let Some(place) = pool.place(*index) else {
            return false;
        };
        // First counted, then looked at: whoever lends looks the other way round.
        place.flows.fetch_add(1, Ordering::SeqCst);
        let stands = place.host.load(Ordering::SeqCst) == host;
        if !stands {
            self.leave(local);
        }
        stands
    }

    /// The entry of a flow with `local` in it is gone.
    pub fn leave(&self, local: u32) {
        if let Some(OutsideLocal::Pool { pool, index, .. }) = self.local(local)
            && let Some(place) = pool.place(*index)
        {
            // An address that left the configuration and came back has forgotten its flows.
            let less = |flows: u32| flows.checked_sub(1);
            let _ = place
                .flows
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: WorkerId = WorkerId(0);

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    fn outside(leases: &mut OutsideLeases) -> Outside {
        let pool = OutsidePool::new(&[(ip(1), ip(2))], Lending::FirstFree, leases);
        let rule = OutsideRule {
            id: 1,
            selector: Selector::List(Arc::default()),
            pool: Arc::new(pool),
            add_route: false,
        };
        Outside::new(vec![rule], Vec::new())
    }

    #[test]
    fn an_address_with_flows_is_lent_to_nobody_else() {
        let outside = outside(&mut OutsideLeases::default());
        let pool = &outside.rules[0].pool;
        let index = pool.lend(ME, ip(77), |_| true).expect("a free address");
        assert_eq!((index, pool.host(0)), (0, Some(ip(77))));
        assert!(outside.join(ip(1).to_bits(), ip(77).to_bits()));
        assert!(!outside.join(ip(1).to_bits(), ip(78).to_bits()));
        pool.release(ME, 0, ip(78));
        assert_eq!(pool.host(0), Some(ip(77)), "that was not its host");
        pool.release(ME, 0, ip(77));
        assert_eq!((pool.host(0), pool.addresses().lent()), (None, 0));
        assert_eq!(pool.lend(ME, ip(78), |_| true), Some(1));
        outside.leave(ip(1).to_bits());
        assert_eq!(pool.candidate(ip(79), |_| true), Some(0));
        outside.leave(ip(1).to_bits()); // once too often
        assert_eq!(pool.lend(ME, ip(79), |_| true), Some(0));
    }

    #[test]
    fn what_is_lent_stays_lent_in_the_next_configuration() {
        let before = outside(&mut OutsideLeases::default());
        let host = before.rules[0].pool.lend(ME, ip(77), |_| true);
        assert!(before.join(ip(1).to_bits(), ip(77).to_bits()));
        let mut leases = OutsideLeases::default();
        leases.learn(&before.rules[0].pool);
        let after = outside(&mut leases);
        assert_eq!((host, after.rules[0].pool.host(0)), (Some(0), Some(ip(77))));
        after.rules[0].pool.release(ME, 0, ip(77));
        assert_eq!(before.rules[0].pool.host(0), None);
        assert_eq!(after.rules[0].pool.candidate(ip(9), |_| true), Some(1));
    }
}
