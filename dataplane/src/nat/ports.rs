//! Outside addresses and their ports, and which worker has them.
//!
//! Workers compete here when an entry is made or removed, never on a hit.

use std::net::Ipv4Addr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::snapshot::WorkerId;
pub use loans::Lending;
use loans::{Loan, Part};

mod aimed;
mod loans;
#[cfg(test)]
mod tests;

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
/// Some of its ports may be lent to another worker, which has words of its own for them: see `loans`.
pub struct GlobalAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// Owner of each block: 0 nobody, else the worker's number plus one, and [`LENDS`] where ports of it are lent.
    owner: Box<[AtomicU8; BLOCKS]>,
    /// Blocks of each worker, written by that worker alone.
    owned: Box<[AtomicU16; WorkerId::MAX]>,
    /// Blocks of all workers.
    all_owned: AtomicU16,
    /// Entries in each block, over all protocols.
    entries: Box<[AtomicU32; BLOCKS]>,
    /// How often a port or a block was given back.
    freed: AtomicU32,
    /// Ports with at least one entry, a bit each.
    used: Box<Words>,
    /// What each worker has borrowed, once it has.
    loans: Box<[OnceLock<Box<Loan>>; WorkerId::MAX]>,
}

/// A bit for each port, of each [`PortSpace`].
type Words = [[AtomicU64; BLOCKS]; 3];

/// Of a block's owner: another worker has some of its ports.
const LENDS: u8 = 0x80;

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
            all_owned: AtomicU16::new(0),
            entries: Box::new(std::array::from_fn(|_| AtomicU32::new(0))),
            freed: AtomicU32::new(0),
            used: no_ports(),
            loans: Box::new(std::array::from_fn(|_| OnceLock::new())),
        }
    }

    /// The worker that has `port`, if any does: the one to which it is lent, or the owner of its block.
    #[inline]
    #[must_use]
    pub fn owner(&self, port: u16) -> Option<WorkerId> {
        let block = block_of(port);
        let owner = self.owner[block].load(Ordering::Acquire);
        if owner & LENDS != 0
            && let Some(borrower) = self.borrower(block, bit_of(port))
        {
            return Some(borrower);
        }
        (owner & !LENDS).checked_sub(1).map(WorkerId)
    }

    fn words_in_use(&self, space: PortSpace, block: usize) -> u64 {
        let mut word = self.used[space as usize][block].load(Ordering::Relaxed);
        if self.owner[block].load(Ordering::Acquire) & LENDS != 0 {
            for loan in self.all_loans() {
                word |= loan.used[space as usize][block].load(Ordering::Relaxed);
            }
        }
        word
    }

    /// Whether any entry uses `port`.
    #[must_use]
    pub fn in_use(&self, space: PortSpace, port: u16) -> bool {
        self.words_in_use(space, block_of(port)) & bit_of(port) != 0
    }

    /// Makes `me` the owner of the block of `port`; `false` where another worker has the port.
    #[must_use]
    pub fn claim(&self, me: WorkerId, port: u16) -> bool {
        self.claim_block(me, block_of(port)) || self.owner(port) == Some(me)
    }

    /// Whether `me`, one of `workers`, may claim blocks freely: it has less than its share of them. Beyond
    /// that it should claim one only where it can't do without: many flows that each keep their port would soon
    /// have an entry in every block, and other workers none at all.
    #[must_use]
    pub fn is_below_share(&self, me: WorkerId, workers: u8) -> bool {
        workers <= 1
            || self.owned_by(me) < USUAL_BLOCKS / usize::from(workers)
                && self.may_claim(me, workers)
    }

    /// Whether `me`, one of `workers`, may claim a block at all. The last ones are left to workers that have
    /// none: each gets some ports, however many flows the others have.
    #[must_use]
    pub fn may_claim(&self, me: WorkerId, workers: u8) -> bool {
        let all = usize::from(self.all_owned.load(Ordering::Relaxed));
        all + usize::from(workers) <= USUAL_BLOCKS || self.owned_by(me) == 0
    }

    fn owned_by(&self, worker: WorkerId) -> usize {
        let owned = self.owned.get(worker.index());
        owned.map_or(BLOCKS, |owned| usize::from(owned.load(Ordering::Relaxed)))
    }

    fn claim_block(&self, me: WorkerId, block: usize) -> bool {
        // Claims happen when an entry is made, never on a hit: here alone workers compete.
        let mine = me.0 + 1;
        let owner = &self.owner[block];
        match owner.load(Ordering::Acquire) {
            0 => {}
            owner => return owner == mine, // of one that lends, not each port is the owner's
        }
        let claimed = owner
            .compare_exchange(0, mine, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if claimed && let Some(owned) = self.owned.get(me.index()) {
            owned.fetch_add(1, Ordering::Relaxed);
            self.all_owned.fetch_add(1, Ordering::Relaxed);
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
            self.all_owned.fetch_sub(1, Ordering::Relaxed);
        }
        self.owner[block].store(0, Ordering::Release);
        self.freed.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts an entry on `port`, which `me` has, and marks the port used. Returns
    /// whether the port was free: then the entry owns the mark and gives it back on
    /// [`GlobalAddress::release`].
    pub fn take(&self, me: WorkerId, space: PortSpace, port: u16) -> bool {
        let block = block_of(port);
        let (entries, words) = self.ledger(me, block);
        entries.store(entries.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let word = &words[space as usize][block];
        let bits = word.load(Ordering::Relaxed);
        word.store(bits | bit_of(port), Ordering::Relaxed);
        bits & bit_of(port) == 0
    }

    /// The count of entries in a block and the marks of its ports that `me` writes: the owner's, or the borrower's.
    #[inline]
    fn ledger(&self, me: WorkerId, block: usize) -> (&AtomicU32, &Words) {
        if owner_of(&self.owner[block]) != Some(me)
            && let Some(loan) = self.loan(me)
        {
            return (&loan.entries[block], &loan.used);
        }
        (&self.entries[block], &self.used)
    }

    /// Gives up a block that was claimed for a port which then was not taken.
    pub fn abandon(&self, me: WorkerId, port: u16) {
        let block = block_of(port);
        // One that lends stays its owner's until it is given back.
        if self.owner[block].load(Ordering::Acquire) == me.0 + 1
            && self.entries[block].load(Ordering::Relaxed) == 0
        {
            self.disown(me, block);
        }
    }

    /// Takes back what [`GlobalAddress::take`] gave; `owns_mark` is what it returned. A block
    /// without entries is free for any worker again.
    pub fn release(&self, me: WorkerId, space: PortSpace, port: u16, owns_mark: bool) {
        let block = block_of(port);
        let owner = self.owner[block].load(Ordering::Acquire);
        let is_mine = owner & !LENDS == me.0 + 1;
        if !is_mine && self.lent_to(me, block) == 0 {
            return; // this address left the configuration and came back: nothing is ours
        }
        let (entries, words) = self.ledger(me, block);
        if owns_mark {
            let word = &words[space as usize][block];
            word.store(
                word.load(Ordering::Relaxed) & !bit_of(port),
                Ordering::Relaxed,
            );
            self.freed.fetch_add(1, Ordering::AcqRel);
        }
        let left = entries.load(Ordering::Relaxed).saturating_sub(1);
        entries.store(left, Ordering::Relaxed);
        if left > 0 {
            return;
        }
        for space in words {
            space[block].store(0, Ordering::Relaxed);
        }
        if !is_mine {
            self.return_loan(me, block, u64::MAX);
        } else if owner & LENDS == 0 {
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
            .find_map(|block| self.free_in_block(me, may_claim, space, block))
    }

    fn free_in_block(
        &self,
        me: WorkerId,
        may_claim: bool,
        space: PortSpace,
        block: usize,
    ) -> Option<u16> {
        let (part, free) = self.free_ports(me, space, block)?;
        let is_nobodys = part == Part::Nobodys;
        if free == 0 || is_nobodys && !(may_claim && self.claim_block(me, block)) {
            return None;
        }
        Some(port_in(block, free))
    }

    /// Which ports of a block without entries are `me`'s or nobody's; `None` where it is another worker's.
    #[inline]
    fn free_ports(&self, me: WorkerId, space: PortSpace, block: usize) -> Option<(Part, u64)> {
        let part = self.part(me, block)?;
        let (_, words) = self.ledger(me, block);
        let used = words[space as usize][block].load(Ordering::Relaxed);
        let free = match part {
            Part::Nobodys => u64::MAX,
            Part::Own { lent } => !used & !lent,
            Part::Borrowed { lent } => !used & lent,
        };
        Some((part, if block == 0 { free & !PORT_0 } else { free }))
    }

    /// Ports in `range` (its ends included) that `me` has, in use or not, from the block of `start` on and around.
    pub fn ports_of(
        &self,
        me: WorkerId,
        range: (u16, u16),
        start: u16,
    ) -> impl Iterator<Item = u16> {
        let (low, high) = (block_of(range.0), block_of(range.1));
        let begin = block_of(start).clamp(low, high);
        let turn = u32::from(start) % BLOCK_PORTS;
        (begin..=high).chain(low..begin).flat_map(move |block| {
            let ports = match self.part(me, block) {
                Some(Part::Own { lent }) => !lent,
                Some(Part::Borrowed { lent }) => lent,
                Some(Part::Nobodys) | None => 0,
            };
            let first = block as u32 * BLOCK_PORTS;
            let turned = (0..BLOCK_PORTS).map(move |n| (n + turn) % BLOCK_PORTS);
            let has = move |n: &u32| ports & 1 << n != 0 && first + n != 0;
            turned.filter(has).map(move |n| (first + n) as u16)
        })
    }

    /// Ports with at least one entry, of all protocols together.
    #[must_use]
    pub fn ports_in_use(&self) -> u32 {
        [PortSpace::Tcp, PortSpace::Udp, PortSpace::Icmp]
            .into_iter()
            .flat_map(|space| (0..BLOCKS).map(move |block| (space, block)))
            .map(|(space, block)| self.words_in_use(space, block).count_ones())
            .sum()
    }
}

fn block_of(port: u16) -> usize {
    usize::from(port) / BLOCK_PORTS as usize
}

fn bit_of(port: u16) -> u64 {
    1 << (u32::from(port) % BLOCK_PORTS)
}

/// The first port of a block that has a bit in `ports`.
fn port_in(block: usize, ports: u64) -> u16 {
    (block as u32 * BLOCK_PORTS + ports.trailing_zeros()) as u16
}

/// Port 0, which is nobody's, in its block.
const PORT_0: u64 = 1;

fn no_ports() -> Box<Words> {
    Box::new(std::array::from_fn(|_| {
        std::array::from_fn(|_| AtomicU64::new(0))
    }))
}

/// The owner of a block.
fn owner_of(cell: &AtomicU8) -> Option<WorkerId> {
    let owner = cell.load(Ordering::Acquire) & !LENDS;
    owner.checked_sub(1).map(WorkerId)
}
