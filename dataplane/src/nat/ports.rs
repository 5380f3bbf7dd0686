//! Outside addresses and their ports, and which worker has them.
//!
//! Workers compete here when an entry is made or removed, never on a hit.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::snapshot::WorkerId;

mod aimed;

/// Ports in a block that is owned by one worker.
pub const BLOCK_PORTS: u32 = 64;
/// Port blocks of one address.
pub const BLOCKS: usize = 65536 / BLOCK_PORTS as usize;

/// Blocks of ports from 1024 on, where nearly all flows are: these are what workers share.
const USUAL_BLOCKS: usize = BLOCKS - 1024 / BLOCK_PORTS as usize;

/// The protocols whose ports (or query identifiers) are handed out separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PortSpace {
    /// TCP ports.
    Tcp,
    /// UDP ports.
    Udp,
    /// ICMP query identifiers.
    Icmp,
}

/// One outside address that is shared by port. Its 65,536 ports fall into blocks of 64; a block
/// belongs to one worker as long as it has an entry in it, and only that worker writes its words.
pub struct GlobalAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// Owner of each block: 0 nobody, else the worker's number plus one.
    owner: Box<[AtomicU8; BLOCKS]>,
    /// Blocks of each worker, written by that worker alone.
    owned: Box<[AtomicU16; WorkerId::MAX]>,
    /// Entries in each block, over all protocols.
    entries: Box<[AtomicU32; BLOCKS]>,
    /// How often a port or a block was given back.
    freed: AtomicU32,
    /// Ports with at least one entry, a bit each.
    used: Box<[[AtomicU64; BLOCKS]; 3]>,
}

impl std::fmt::Debug for GlobalAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GlobalAddress({})", self.address)
    }
}

impl GlobalAddress {
    /// An address with all its ports free.
    #[must_use]
    pub fn new(address: Ipv4Addr) -> GlobalAddress {
        GlobalAddress {
            address,
            owner: Box::new(std::array::from_fn(|_| AtomicU8::new(0))),
            owned: Box::new(std::array::from_fn(|_| AtomicU16::new(0))),
            entries: Box::new(std::array::from_fn(|_| AtomicU32::new(0))),
            freed: AtomicU32::new(0),
            used: Box::new(std::array::from_fn(|_| {
                std::array::from_fn(|_| AtomicU64::new(0))
            })),
        }
    }

    /// The worker that owns the block of `port`, if any does.
    #[must_use]
    pub fn owner(&self, port: u16) -> Option<WorkerId> {
        owner_of(&self.owner[block_of(port)])
    }

    /// Whether any entry uses `port`.
    #[must_use]
    pub fn in_use(&self, space: PortSpace, port: u16) -> bool {
        self.used[space as usize][block_of(port)].load(Ordering::Relaxed) & bit_of(port) != 0
    }

    /// Makes `me` the owner of the block of `port`; `false` where another worker has it.
    #[must_use]
    pub fn claim(&self, me: WorkerId, port: u16) -> bool {
        self.claim_block(me, block_of(port))
    }

    /// Whether `me`, one of `workers`, has less than its share of the blocks. Beyond that it should
    /// claim one only where it can't do without: many flows that each keep their port would soon
    /// have an entry in every block, and other workers none at all.
    #[must_use]
    pub fn is_below_share(&self, me: WorkerId, workers: u8) -> bool {
        let owned = self.owned.get(me.index());
        workers <= 1
            || owned.is_some_and(|owned| {
                usize::from(owned.load(Ordering::Relaxed)) < USUAL_BLOCKS / usize::from(workers)
            })
    }

    fn claim_block(&self, me: WorkerId, block: usize) -> bool {
        // Claims happen when an entry is made, never on a hit: here alone workers compete.
        let mine = me.0 + 1;
        let owner = &self.owner[block];
        match owner.load(Ordering::Acquire) {
            0 => {}
            owner => return owner == mine,
        }
        let claimed = owner
            .compare_exchange(0, mine, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if claimed && let Some(owned) = self.owned.get(me.index()) {
            owned.fetch_add(1, Ordering::Relaxed);
        }
        claimed
    }

    /// Goes up whenever a port or a block is given back: until then, a search that found no free
    /// port would find none again.
    #[must_use]
    pub fn freed(&self) -> u32 {
        self.freed.load(Ordering::Acquire)
    }

    /// Gives up a block that `me` owns.
    fn disown(&self, me: WorkerId, block: usize) {
        if let Some(owned) = self.owned.get(me.index()) {
            owned.fetch_sub(1, Ordering::Relaxed);
        }
        self.owner[block].store(0, Ordering::Release);
        self.freed.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts an entry on `port`, whose block the caller owns, and marks the port used. Returns
    /// whether the port was free: then the entry owns the mark and gives it back on
    /// [`GlobalAddress::release`].
    pub fn take(&self, space: PortSpace, port: u16) -> bool {
        let block = block_of(port);
        let entries = &self.entries[block];
        entries.store(entries.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let word = &self.used[space as usize][block];
        let bits = word.load(Ordering::Relaxed);
        word.store(bits | bit_of(port), Ordering::Relaxed);
        bits & bit_of(port) == 0
    }

    /// Gives up a block that was claimed for a port which then was not taken.
    pub fn abandon(&self, me: WorkerId, port: u16) {
        let block = block_of(port);
        if owner_of(&self.owner[block]) == Some(me)
            && self.entries[block].load(Ordering::Relaxed) == 0
        {
            self.disown(me, block);
        }
    }

    /// Takes back what [`GlobalAddress::take`] gave; `owns_mark` is what it returned. A block
    /// without entries is free for any worker again.
    pub fn release(&self, me: WorkerId, space: PortSpace, port: u16, owns_mark: bool) {
        let block = block_of(port);
        if owner_of(&self.owner[block]) != Some(me) {
            return; // this address left the configuration and came back: nothing is ours
        }
        if owns_mark {
            let word = &self.used[space as usize][block];
            word.store(
                word.load(Ordering::Relaxed) & !bit_of(port),
                Ordering::Relaxed,
            );
            self.freed.fetch_add(1, Ordering::AcqRel);
        }
        let left = self.entries[block]
            .load(Ordering::Relaxed)
            .saturating_sub(1);
        self.entries[block].store(left, Ordering::Relaxed);
        if left == 0 {
            for space in self.used.iter() {
                space[block].store(0, Ordering::Relaxed);
            }
            self.disown(me, block);
        }
    }

    /// A free port in `range` (its ends included) of a block that `me` owns or, if it `may_claim`,
    /// can claim, searched from the block of `start` on and around.
    #[must_use]
    pub fn free_port(
        &self,
        me: WorkerId,
        may_claim: bool,
        space: PortSpace,
        range: (u16, u16),
        start: u16,
    ) -> Option<u16> {
        let (low, high) = (block_of(range.0), block_of(range.1));
        let begin = block_of(start).clamp(low, high);
        (begin..=high)
            .chain(low..begin)
            .filter(|block| may_claim || owner_of(&self.owner[*block]) == Some(me))
            .find_map(|block| self.free_in_block(me, space, block))
    }

    fn free_in_block(&self, me: WorkerId, space: PortSpace, block: usize) -> Option<u16> {
        let free = !self.used[space as usize][block].load(Ordering::Relaxed);
        // Port 0 is nobody's port.
        let free = if block == 0 { free & !1 } else { free };
        if free == 0 || !self.claim_block(me, block) {
            return None;
        }
        Some((block as u32 * BLOCK_PORTS + free.trailing_zeros()) as u16)
    }

    /// Ports with at least one entry, of all protocols together.
    #[must_use]
    pub fn ports_in_use(&self) -> u32 {
        self.used
            .iter()
            .flat_map(|words| words.iter())
            .map(|w| w.load(Ordering::Relaxed).count_ones())
            .sum()
    }
}

fn block_of(port: u16) -> usize {
    usize::from(port) / BLOCK_PORTS as usize
}

fn bit_of(port: u16) -> u64 {
    1 << (u32::from(port) % BLOCK_PORTS)
}

pub(super) fn owner_of(cell: &AtomicU8) -> Option<WorkerId> {
    cell.load(Ordering::Acquire).checked_sub(1).map(WorkerId)
}
