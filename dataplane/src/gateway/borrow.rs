//! Ports of other workers, for a packet whose own worker has none left.
//!
//! The packet goes round: to each other worker in turn, until one lends the free ports of a block, and
//! back to its own worker, which tries once more. Nobody is refused as long as another worker has a
//! port to spare; and nobody waits for anybody.
//!
//! What is lent is not kept for the packet: packets that arrive before it is back may take all of it. Then it
//! goes round again.

use std::sync::Arc;

use super::place::port_range;
use super::{Gateway, Item, Meta, Output, Pass};
use crate::handover::room_between;
use crate::nat::{GlobalAddress, PortLending, PortSpace, Target};
use crate::packet::Packet;
use crate::session::port_space;
use crate::snapshot::{Snapshot, WorkerId};
use crate::stats::{Counter, DropReason};
use crate::time::Millis;
use crate::wire::Ipv4;

/// Rounds on which one worker may send packets in a second. Each may bring 64 ports, and costs each other worker a
/// look at all blocks of some addresses.
pub(super) const ROUNDS_PER_SECOND: u64 = 10_000;

/// So many of them at once. All that comes in until the first is answered goes round too: as many as some
/// milliseconds bring, but no more than half of what fits into the ring to the next worker.
pub(super) fn rounds_at_once(workers: u8) -> u64 {
    room_between(workers) as u64 / 2
}

/// Addresses of a rule that are looked at in one round.
const ADDRESSES_A_ROUND: usize = 4;

/// How often a packet goes round at most, as long as ports are lent each time. Each block lent serves some tens of
/// the packets before it, so that the first way round nearly always does.
const ROUNDS_A_PACKET: u8 = 16;

/// What came of asking other workers for a port for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Borrowing {
    /// They were not asked.
    NotTried,
    /// One of them lent some. If others have taken these meanwhile, they may be asked so many times more.
    Lent(u8),
    /// None had any to spare.
    InVain,
}

impl Borrowing {
    /// How often they may still be asked.
    fn left(self) -> u8 {
        match self {
            Borrowing::NotTried => ROUNDS_A_PACKET,
            Borrowing::Lent(left) => left,
            Borrowing::InVain => 0,
        }
    }
}

/// A packet on its way round, and what its worker asks the others for.
#[derive(Debug)]
pub struct Asking<P> {
    pub(crate) item: Item<P>,
    by: WorkerId,
    /// The rule whose addresses have no port left.
    rule: u16,
    space: PortSpace,
    /// The inside host's port, which tells in which range it must be.
    port: u16,
    /// The first address of those that this round is about, and how many the rule has.
    address: usize,
    addresses: usize,
    /// How many workers more may be asked in this round, and at most in each: where one gives ports back to
    /// their owner, that is asked again.
    left: u8,
    at_most: u8,
}

impl<P: Packet> Gateway<P> {
    /// Sends a packet round that is refused because a rule has no port left here. It comes back here where
    /// that is not the reason, or can't be.
    pub(super) fn borrow(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        port: u16,
        (reason, rule): (DropReason, u16),
    ) -> Option<Item<P>> {
        let space = port_space(ip.protocol).filter(|_| reason == DropReason::PortsExhausted);
        let Some(space) = space else {
            return Some(item);
        };
        let addresses = overloaded(pass.snapshot, rule).map_or(0, <[_]>::len);
        let rounds = addresses.div_ceil(ADDRESSES_A_ROUND) as u64;
        let may_ask = self.options.workers > 1 && item.meta.borrowing.left() > 0;
        if !may_ask || !self.borrow_limit.pass_several(pass.now, rounds) {
            return Some(item);
        }
        self.stats.count(Counter::PortsAsked);
        let at_most = 2 * self.options.workers;
        let asking = Asking {
            item,
            by: self.options.me,
            rule,
            space,
            port,
            address: 0,
            addresses,
            left: at_most,
            at_most,
        };
        self.ask_next(pass, Box::new(asking));
        None
    }

    /// Lends another worker ports, if this one has any to spare, and lets its packet go on.
    pub fn lend(&mut self, pass: &mut Pass<'_, impl Output<P>>, asking: Box<Asking<P>>) {
        if asking.by == self.options.me {
            return self.ask_next(pass, asking); // the next round begins
        }
        // None, or others, if the policy has just changed.
        let addresses = overloaded(pass.snapshot, asking.rule).unwrap_or_default();
        let range = port_range(asking.space, asking.port);
        let looked_at = addresses.iter().skip(asking.address);
        for global in looked_at.take(ADDRESSES_A_ROUND) {
            match global.lend(self.options.me, asking.by, range) {
                PortLending::Lent => {
                    self.stats.count(Counter::PortsLent);
                    if !self.lending.iter().any(|of| Arc::ptr_eq(of, global)) {
                        self.lending.push_back(Arc::clone(global));
                    }
                    let left = asking.item.meta.borrowing.left().saturating_sub(1);
                    return give_back(pass, *asking, Borrowing::Lent(left));
                }
                PortLending::GivenBack(owner) => return ask(pass, owner, asking),
                PortLending::Nothing => {}
            }
        }
        self.ask_next(pass, asking);
    }

    fn ask_next(&self, pass: &mut Pass<'_, impl Output<P>>, asking: Box<Asking<P>>) {
        let next = WorkerId((self.options.me.0 + 1) % self.options.workers);
        ask(pass, next, asking);
    }

    /// Takes back what others borrowed of an address and gave back: once a millisecond, of one address.
    pub(super) fn take_back(&mut self, now: Millis) {
        if self.lending.is_empty() || self.lending_checked == now {
            return;
        }
        self.lending_checked = now;
        if let Some(global) = self.lending.pop_front()
            && global.take_back(self.options.me)
        {
            self.lending.push_back(global);
        }
    }
}

/// To the worker that is to be asked next. Where that is the one which wants the ports, a round is over; the
/// next one is about other addresses, if there are any.
fn ask<P: Packet>(
    pass: &mut Pass<'_, impl Output<P>>,
    mut next: WorkerId,
    mut asking: Box<Asking<P>>,
) {
    match asking.left.checked_sub(1) {
        Some(left) if next != asking.by => asking.left = left,
        _ => {
            asking.address += ADDRESSES_A_ROUND;
            if asking.address >= asking.addresses {
                return give_back(pass, *asking, Borrowing::InVain);
            }
            asking.left = asking.at_most;
            next = asking.by;
        }
    }
    pass.out.ask(next, asking);
}

/// The addresses that a rule shares by port.
fn overloaded(snapshot: &Snapshot, rule: u16) -> Option<&[Arc<GlobalAddress>]> {
    let rule = snapshot.nat.rules.iter().find(|r| r.id == rule)?;
    match &rule.target {
        Target::Overload(addresses) => Some(addresses),
        Target::OneToOne(_) => None,
    }
}

/// Its own worker tries once more.
fn give_back<P: Packet>(
    pass: &mut Pass<'_, impl Output<P>>,
    asking: Asking<P>,
    borrowing: Borrowing,
) {
    let Item { packet, meta } = asking.item;
    let meta = Meta { borrowing, ..meta };
    pass.out.hand_off(asking.by, Item { packet, meta });
}
