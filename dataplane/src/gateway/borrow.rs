//! Ports of other workers, for a packet whose own worker has none left.
//!
//! The packet goes round: to each other worker in turn, until one lends the free ports of a block, and
//! back to its own worker, which tries once more. Nobody is refused as long as another worker has a
//! port to spare; and nobody waits for anybody.

use std::sync::Arc;

use super::place::port_range;
use super::{Gateway, Item, Meta, Output, Pass};
use crate::nat::{PortLending, PortSpace, Target};
use crate::packet::Packet;
use crate::session::port_space;
use crate::snapshot::WorkerId;
use crate::stats::{Counter, DropReason};
use crate::time::Millis;
use crate::wire::Ipv4;

/// Packets that one worker may send round: a second, and at once. Each may bring 64 ports, and costs
/// each other worker a look at all of its blocks.
pub(super) const ASKS_PER_SECOND: u64 = 10_000;
pub(super) const ASKS_AT_ONCE: u64 = 128;

/// Whether other workers were asked for a port for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Borrowing {
    /// Not yet.
    NotAsked,
    /// They are being asked.
    Asking(Asking),
    /// They were asked: its own worker tries once more.
    Asked,
}

/// What a worker asks others for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asking {
    by: WorkerId,
    /// The rule whose addresses have no port left.
    rule: u16,
    space: PortSpace,
    /// The inside host's port, which tells in which range it must be.
    port: u16,
    /// How many workers more may be asked: where one gives ports back to their owner, that is asked again.
    left: u8,
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
        let may_ask = self.options.workers > 1 && item.meta.borrowing == Borrowing::NotAsked;
        if !may_ask || !self.borrow_limit.pass(pass.now) {
            return Some(item);
        }
        self.stats.count(Counter::PortsAsked);
        let asking = Asking {
            by: self.options.me,
            rule,
            space,
            port,
            left: 2 * self.options.workers,
        };
        self.pass_on(pass, item, asking);
        None
    }

    /// Lends another worker ports, if this one has any to spare, and lets the packet go on.
    pub(super) fn lend(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        asking: Asking,
    ) {
        let rules = &pass.snapshot.nat.rules;
        let rule = rules.iter().find(|rule| rule.id == asking.rule);
        let Some(Target::Overload(addresses)) = rule.map(|rule| &rule.target) else {
            return self.pass_on(pass, item, asking); // the policy has just changed
        };
        let range = port_range(asking.space, asking.port);
        let me = self.options.me;
        for global in addresses.iter() {
            match global.lend(me, asking.by, range) {
                PortLending::Lent => {
                    self.stats.count(Counter::PortsLent);
                    if !self.lending.iter().any(|of| Arc::ptr_eq(of, global)) {
                        self.lending.push_back(Arc::clone(global));
                    }
                    return send(pass, asking.by, item, Borrowing::Asked);
                }
                PortLending::GivenBack(owner) => return give(pass, owner, item, asking),
                PortLending::Nothing => {}
            }
        }
        self.pass_on(pass, item, asking);
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

    fn pass_on(&self, pass: &mut Pass<'_, impl Output<P>>, item: Item<P>, asking: Asking) {
        let next = WorkerId((self.options.me.0 + 1) % self.options.workers);
        give(pass, next, item, asking);
    }
}

/// To the worker that is to be asked next; the one that wants the ports is the last.
fn give<P: Packet>(
    pass: &mut Pass<'_, impl Output<P>>,
    next: WorkerId,
    item: Item<P>,
    asking: Asking,
) {
    match asking.left.checked_sub(1) {
        Some(left) if next != asking.by => {
            send(
                pass,
                next,
                item,
                Borrowing::Asking(Asking { left, ..asking }),
            );
        }
        _ => send(pass, asking.by, item, Borrowing::Asked),
    }
}

fn send<P: Packet>(
    pass: &mut Pass<'_, impl Output<P>>,
    to: WorkerId,
    item: Item<P>,
    borrowing: Borrowing,
) {
    let Item { packet, meta } = item;
    let meta = Meta { borrowing, ..meta };
    pass.out.hand_off(to, Item { packet, meta });
}
