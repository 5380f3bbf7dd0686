//! A hash table of fixed capacity with stable places, and lists threaded through its values.
//!
//! Chains instead of probing: removing leaves no tombstones, so that nothing is ever rehashed and
//! nothing is allocated after construction. A hit reads one bucket word and, as a rule, one entry.

use std::net::Ipv4Addr;
use std::ops::{Index, IndexMut};

use crate::prefetch::{large_slice, prefetch_index, prefetch_read};
use crate::snapshot::InsideHost;

/// The place of an entry in its table, fixed while the entry lives.
pub(super) type Id = u32;
/// No entry.
pub(super) const NIL: Id = u32::MAX;

/// A key: it folds itself into two words, which the table mixes with its secret.
pub(super) trait Key: Copy + Eq {
    fn words(&self) -> (u64, u64);
}

fn bits(address: Ipv4Addr) -> u64 {
    u64::from(u32::from(address))
}

/// A host's VRF, above the 32 bits of SPIs and ports.
fn vrf(host: InsideHost) -> u64 {
    u64::from(host.vrf.0) << 32
}

impl Key for InsideHost {
    fn words(&self) -> (u64, u64) {
        (bits(self.address), vrf(*self))
    }
}

impl Key for (InsideHost, Ipv4Addr) {
    fn words(&self) -> (u64, u64) {
        let (first, _) = (self.0.address, self.1).words();
        (first, vrf(self.0))
    }
}

impl Key for (InsideHost, Ipv4Addr, u32) {
    fn words(&self) -> (u64, u64) {
        let (first, second) = (self.0.address, self.1, self.2).words();
        (first, second | vrf(self.0))
    }
}

impl Key for (InsideHost, Ipv4Addr, u16, u16) {
    fn words(&self) -> (u64, u64) {
        let (first, second) = (self.0.address, self.1, self.2, self.3).words();
        (first, second | vrf(self.0))
    }
}

impl Key for (Ipv4Addr, Ipv4Addr) {
    fn words(&self) -> (u64, u64) {
        (bits(self.0) << 32 | bits(self.1), 1)
    }
}

impl Key for (Ipv4Addr, Ipv4Addr, u32) {
    fn words(&self) -> (u64, u64) {
        (bits(self.0) << 32 | bits(self.1), u64::from(self.2))
    }
}

impl Key for (Ipv4Addr, Ipv4Addr, u64) {
    fn words(&self) -> (u64, u64) {
        (bits(self.0) << 32 | bits(self.1), self.2)
    }
}

impl Key for (Ipv4Addr, Ipv4Addr, u16, u16) {
    fn words(&self) -> (u64, u64) {
        (
            bits(self.0) << 32 | bits(self.1),
            u64::from(self.2) << 16 | u64::from(self.3),
        )
    }
}

/// Two neighbours in a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    prev: Id,
    next: Id,
}

impl Default for Links {
    fn default() -> Links {
        Links {
            prev: NIL,
            next: NIL,
        }
    }
}

/// A list of entries of one table, oldest first.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    pub(super) head: Id,
    tail: Id,
    pub(super) len: u32,
}

impl Default for List {
    fn default() -> List {
        List {
            head: NIL,
            tail: NIL,
            len: 0,
        }
    }
}

/// A value that can be in one list.
pub(super) trait Linked {
    fn links(&self) -> Links;
    fn links_mut(&mut self) -> &mut Links;
}

macro_rules! linked {
    ($type:ty) => {
        impl crate::esp::table::Linked for $type {
            fn links(&self) -> crate::esp::table::Links {
                self.links
            }
            fn links_mut(&mut self) -> &mut crate::esp::table::Links {
                &mut self.links
            }
        }
    };
}
pub(super) use linked;

#[derive(Debug, Clone, Copy)]
struct Entry<K, V> {
    key: K,
    /// Next in the bucket's chain, or in the list of free entries.
    next: Id,
    live: bool,
    value: V,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    buckets: Box<[Id]>,
    entries: Box<[Entry<K, V>]>,
    free: Id,
    len: usize,
    seed: u64,
}

impl<K: Key, V: Copy + Default> Table<K, V> {
    /// A table for `capacity` entries. `key` fills the unused places and means nothing.
    pub(super) fn new(capacity: usize, key: K, seed: u64) -> Table<K, V> {
        let capacity = capacity.clamp(1, NIL as usize - 1);
        let unused = |at| Entry {
            key,
            next: if at + 1 == capacity {
                NIL
            } else {
                at as Id + 1
            },
            live: false,
            value: V::default(),
        };
        Table {
            buckets: large_slice(std::iter::repeat_n(NIL, capacity.next_power_of_two())),
            entries: large_slice((0..capacity).map(unused)),
            free: 0,
            len: 0,
            seed,
        }
    }

    /// Octets that a table of `capacity` entries takes.
    pub(super) fn memory(capacity: usize) -> usize {
        capacity * size_of::<Entry<K, V>>() + capacity.next_power_of_two() * size_of::<Id>()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn capacity(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.free == NIL
    }

    fn bucket(&self, key: &K) -> usize {
        self.bucket_of(self.hash(key))
    }

    #[inline(always)]
    fn bucket_of(&self, hash: u64) -> usize {
        (hash as usize) & (self.buckets.len() - 1)
    }

    /// The hash of a key, for [`Table::prefetch`] and [`Table::guess`].
    #[inline(always)]
    pub(super) fn hash(&self, key: &K) -> u64 {
        // Two folded multiplications; the secret keeps outsiders from choosing a bucket.
        let (a, b) = key.words();
        let first = fold(a ^ self.seed, 0x9E37_79B9_7F4A_7C15);
        fold(
            first ^ b,
            0xD6E8_FEB8_6659_FD93 ^ self.seed.rotate_left(32) | 1,
        )
    }

    /// Asks the memory for the bucket of a hash.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch_index(&self.buckets, self.bucket_of(hash));
    }

    /// The first entry in the bucket of a hash, which the memory is asked for.
    #[inline(always)]
    pub(super) fn guess(&self, hash: u64) -> Id {
        let first = self.buckets[self.bucket_of(hash)];
        if let Some(entry) = self.entries.get(first as usize) {
            prefetch_read(&entry.key);
            prefetch_read(&entry.value);
        }
        first
    }

    /// [`Table::find`] with a guess at the place.
    #[inline(always)]
    pub(super) fn find_guessed(&self, guess: Id, key: &K) -> Option<Id> {
        match self.entries.get(guess as usize) {
            Some(entry) if entry.live && entry.key == *key => Some(guess),
            _ => self.find(key),
        }
    }

    #[inline]
    pub(super) fn find(&self, key: &K) -> Option<Id> {
        let mut at = self.buckets[self.bucket(key)];
        while at != NIL {
            let entry = &self.entries[at as usize];
            if entry.key == *key {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    /// Puts a value in; `None` where the table is full. The key must not be there yet.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<Id> {
        debug_assert!(self.find(&key).is_none(), "a key is inserted once");
        let id = self.free;
        if id == NIL {
            return None;
        }
        let bucket = self.bucket(&key);
        let entry = &mut self.entries[id as usize];
        self.free = entry.next;
        *entry = Entry {
            key,
            next: self.buckets[bucket],
            live: true,
            value,
        };
        self.buckets[bucket] = id;
        self.len += 1;
        Some(id)
    }

    pub(super) fn remove(&mut self, id: Id) {
        debug_assert!(self.entries[id as usize].live, "an entry is removed once");
        let bucket = self.bucket(&self.entries[id as usize].key);
        let next = self.entries[id as usize].next;
        if self.buckets[bucket] == id {
            self.buckets[bucket] = next;
        } else {
            let mut at = self.buckets[bucket];
            while self.entries[at as usize].next != id {
                at = self.entries[at as usize].next;
            }
            self.entries[at as usize].next = next;
        }
        let entry = &mut self.entries[id as usize];
        entry.live = false;
        entry.next = self.free;
        self.free = id;
        self.len -= 1;
    }

    pub(super) fn key(&self, id: Id) -> K {
        self.entries[id as usize].key
    }

    /// Whether place `id` holds an entry; for sweeps.
    pub(super) fn is_live(&self, id: Id) -> bool {
        self.entries.get(id as usize).is_some_and(|e| e.live)
    }
}

impl<K: Key, V: Copy + Default + Linked> Table<K, V> {
    pub(super) fn push(&mut self, list: &mut List, id: Id) {
        *self[id].links_mut() = Links {
            prev: list.tail,
            next: NIL,
        };
        if list.tail == NIL {
            list.head = id;
        } else {
            let tail = list.tail;
            self[tail].links_mut().next = id;
        }
        list.tail = id;
        list.len += 1;
    }

    pub(super) fn unlink(&mut self, list: &mut List, id: Id) {
        let Links { prev, next } = self[id].links();
        if prev == NIL {
            list.head = next;
        } else {
            self[prev].links_mut().next = next;
        }
        if next == NIL {
            list.tail = prev;
        } else {
            self[next].links_mut().prev = prev;
        }
        *self[id].links_mut() = Links::default();
        list.len -= 1;
    }

    /// The entry after `id` in its list, or [`NIL`].
    pub(super) fn after(&self, id: Id) -> Id {
        self[id].links().next
    }

    /// The entries of a list, oldest first.
    pub(super) fn walk(&self, list: &List) -> impl Iterator<Item = Id> {
        let mut at = list.head;
        std::iter::from_fn(move || {
            let here = at;
            if here == NIL {
                return None;
            }
            at = self.after(here);
            Some(here)
        })
    }
}

impl<K, V> Index<Id> for Table<K, V> {
    type Output = V;
    #[inline]
    fn index(&self, id: Id) -> &V {
        &self.entries[id as usize].value
    }
}

impl<K, V> IndexMut<Id> for Table<K, V> {
    #[inline]
    fn index_mut(&mut self, id: Id) -> &mut V {
        &mut self.entries[id as usize].value
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::VrfId;
    use std::collections::HashMap;

    #[derive(Debug, Clone, Copy, Default)]
    struct Item {
        value: u32,
        links: Links,
    }
    linked!(Item);

    #[test]
    fn a_table_agrees_with_a_hash_map_until_it_is_full() {
        let key = |n: u32| {
            let host = InsideHost {
                vrf: VrfId((n % 3) as u8),
                address: Ipv4Addr::from(n % 7),
            };
            (host, Ipv4Addr::from(n / 7), n / 3)
        };
        let mut table: Table<_, Item> = Table::new(100, key(0), 7);
        let mut model = HashMap::new();
        let mut word = 1u32;
        for step in 0..20_000 {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let k = key(word >> 24);
            match table.find(&k) {
                Some(id) => {
                    assert_eq!(model.remove(&k), Some(table[id].value));
                    table.remove(id);
                }
                None => {
                    let item = Item {
                        value: step,
                        ..Item::default()
                    };
                    assert!(!model.contains_key(&k));
                    assert_eq!(table.insert(k, item).is_some(), model.len() < 100);
                    if model.len() < 100 {
                        model.insert(k, step);
                    }
                }
            }
            assert_eq!(table.len(), model.len());
        }
        let live = (0..table.capacity() as Id).filter(|id| table.is_live(*id));
        assert_eq!(live.count(), model.len());
    }

    #[test]
    fn a_list_keeps_its_order_when_entries_leave_anywhere() {
        let host = |n: u32| InsideHost::from(Ipv4Addr::from(n));
        let mut table: Table<InsideHost, Item> = Table::new(8, host(0), 0);
        let mut list = List::default();
        let ids: Vec<Id> = (0..5)
            .filter_map(|n| table.insert(host(n), Item::default()))
            .collect();
        for &id in &ids {
            table.push(&mut list, id);
        }
        for gone in [2, 0, 4] {
            table.unlink(&mut list, ids[gone]);
        }
        assert_eq!(table.walk(&list).collect::<Vec<_>>(), [ids[1], ids[3]]);
        table.push(&mut list, ids[0]);
        assert_eq!(
            table.walk(&list).collect::<Vec<_>>(),
            [ids[1], ids[3], ids[0]]
        );
        assert_eq!(list.len, 3);
    }
}
