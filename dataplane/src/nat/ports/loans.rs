//! Ports that one worker lends another.
//!
//! Where a worker finds no port, others may have some in their blocks that no entry has. One of them
//! lends all of these in one of its blocks at once, and they are the borrower's as if it owned them. When
//! its last entry in the block goes, or when it is asked for ports itself, it gives back what it does not use.
//!
//! A bit for each port and borrower says what is lent. The owner of the block sets it, the borrower
//! clears it, and neither has anything to do with a port that is the other's: so each writes only what
//! is its own, as ever.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{BLOCKS, GlobalAddress, LENDS, PORT_0, Words, block_of, owner_of};
use crate::snapshot::WorkerId;

/// Ports of a block that are enough: no better one is looked for.
const ENOUGH: u32 = 32;

/// What one worker has borrowed.
pub(super) struct Loan {
    /// The ports that it has, a bit each: set by the owners of the blocks, cleared by the borrower.
    lent: [AtomicU64; BLOCKS],
    /// The borrower's entries on these ports, and their marks: written by it alone.
    pub(super) entries: [AtomicU32; BLOCKS],
    pub(super) used: Words,
}

/// What of a block is a worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Nobody has the block.
    Nobodys,
    /// It owns the block, without the ports that are lent.
    Own { lent: u64 },
    /// It has borrowed these ports.
    Borrowed { lent: u64 },
}

/// What became of the wish for ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lending {
    /// The worker that wants some finds some.
    Lent,
    /// Ports that were borrowed in vain are this worker's again: it may lend them.
    GivenBack(WorkerId),
    /// There are none to spare here.
    Nothing,
}

impl Loan {
    fn none() -> Box<Loan> {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Box::new(Loan {
            lent: zeros(),
            entries: std::array::from_fn(|_| AtomicU32::new(0)),
            used: std::array::from_fn(|_| zeros()),
        })
    }
}

impl GlobalAddress {
    pub(super) fn loan(&self, of: WorkerId) -> Option<&Loan> {
        self.loans.get(of.index())?.get().map(AsRef::as_ref)
    }

    pub(super) fn all_loans(&self) -> impl Iterator<Item = &Loan> {
        let all = self.loans.iter();
        all.filter_map(|loan| loan.get().map(AsRef::as_ref))
    }

    /// The ports of a block that a worker has borrowed.
    pub(super) fn lent_to(&self, worker: WorkerId, block: usize) -> u64 {
        self.loan(worker)
            .map_or(0, |loan| loan.lent[block].load(Ordering::Acquire))
    }

    /// The worker that has borrowed a port of a block that lends some.
    #[cold]
    pub(super) fn borrower(&self, block: usize, port: u64) -> Option<WorkerId> {
        let all = (0..WorkerId::MAX as u8).map(WorkerId);
        let mut borrowers = all.filter(|worker| self.lent_to(*worker, block) & port != 0);
        borrowers.next()
    }

    /// What of a block is `me`'s or may become so; `None` if nothing.
    #[inline]
    pub(super) fn part(&self, me: WorkerId, block: usize) -> Option<Part> {
        let owner = self.owner[block].load(Ordering::Acquire);
        if owner == 0 {
            Some(Part::Nobodys)
        } else if owner == me.0 + 1 {
            Some(Part::Own { lent: 0 })
        } else if owner & LENDS != 0 {
            self.part_of_lending(owner == (me.0 + 1) | LENDS, me, block)
        } else {
            None
        }
    }

    #[cold]
    fn part_of_lending(&self, is_own: bool, me: WorkerId, block: usize) -> Option<Part> {
        if !is_own {
            let lent = self.lent_to(me, block);
            return (lent != 0).then_some(Part::Borrowed { lent });
        }
        let each = self.all_loans();
        let lent = each.fold(0, |lent, loan| {
            lent | loan.lent[block].load(Ordering::Acquire)
        });
        if lent != 0 {
            return Some(Part::Own { lent });
        }
        // All of it is the owner's again; or nobody's, if it has no entry there either.
        self.owner[block].store(me.0 + 1, Ordering::Release);
        if self.entries[block].load(Ordering::Relaxed) > 0 {
            return Some(Part::Own { lent });
        }
        self.disown(me, block);
        Some(Part::Nobodys)
    }

    /// Borrower: gives back these ports of a block, on which it has no entry.
    pub(super) fn return_loan(&self, me: WorkerId, block: usize, ports: u64) {
        if let Some(loan) = self.loan(me) {
            loan.lent[block].fetch_and(!ports, Ordering::AcqRel);
            self.freed.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Lends another worker the free ports of one of `me`'s blocks within `range`; or else gives
    /// back to their owner what `me` has borrowed and does not use.
    pub fn lend(&self, me: WorkerId, to: WorkerId, range: (u16, u16)) -> Lending {
        let mut given_back = Lending::Nothing;
        let mut best = (0, 0_u64);
        for block in block_of(range.0)..=block_of(range.1) {
            let was_own = owner_of(&self.owner[block]) == Some(me);
            match self.part(me, block) {
                Some(Part::Own { lent }) => {
                    let ports = without_entry(&self.entries[block], &self.used, block) & !lent;
                    if ports.count_ones() > best.1.count_ones() {
                        best = (block, ports);
                    }
                }
                Some(Part::Borrowed { lent }) => {
                    if let Some(owner) = self.return_unused(me, block, lent)
                        && given_back != Lending::Lent
                    {
                        given_back = match owner == to {
                            true => Lending::Lent,
                            false => Lending::GivenBack(owner),
                        };
                    }
                }
                // It has just been given up: anybody may claim it.
                Some(Part::Nobodys) if was_own => given_back = Lending::Lent,
                Some(Part::Nobodys) | None => {}
            }
            if best.1.count_ones() >= ENOUGH {
                break;
            }
        }
        let (block, ports) = best;
        let Some(loan) = self.loans.get(to.index()).filter(|_| ports != 0) else {
            return given_back;
        };
        let loan = loan.get_or_init(Loan::none);
        loan.lent[block].fetch_or(ports, Ordering::AcqRel);
        self.owner[block].store((me.0 + 1) | LENDS, Ordering::Release);
        self.freed.fetch_add(1, Ordering::AcqRel);
        Lending::Lent
    }

    /// Takes back what `me` had lent and others gave back. Whether it still lends any.
    pub fn take_back(&self, me: WorkerId) -> bool {
        let lends = |block: usize| {
            let is_lending = self.owner[block].load(Ordering::Acquire) == (me.0 + 1) | LENDS;
            is_lending && matches!(self.part(me, block), Some(Part::Own { lent: 1.. }))
        };
        // All of them, since to look at one is what takes it back.
        (0..BLOCKS).filter(|block| lends(*block)).count() > 0
    }

    /// Gives back what `me` has borrowed of a block and does not use, to the worker that is told; `None`
    /// where all is in use.
    fn return_unused(&self, me: WorkerId, block: usize, lent: u64) -> Option<WorkerId> {
        let loan = self.loan(me)?;
        let unused = without_entry(&loan.entries[block], &loan.used, block) & lent;
        if unused == 0 {
            return None;
        }
        self.return_loan(me, block, unused);
        owner_of(&self.owner[block])
    }
}

/// Ports of a block that no entry of those counted has, in any protocol.
fn without_entry(entries: &AtomicU32, words: &Words, block: usize) -> u64 {
    let [a, b, c] = words.each_ref().map(|of| of[block].load(Ordering::Relaxed));
    // Each entry has a mark of its own. Otherwise the mark of one may have gone before another of its port.
    if entries.load(Ordering::Relaxed) != a.count_ones() + b.count_ones() + c.count_ones() {
        return 0;
    }
    let free = !(a | b | c);
    if block == 0 { free & !PORT_0 } else { free }
}
