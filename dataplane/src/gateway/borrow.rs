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
        let may_ask = self.options.workers > 1 && !item.meta.asked;
        if !may_ask || !self.borrow_limit.pass(pass.now) {
            return Some(item);
        }
        self.stats.count(Counter::PortsAsked);
        let asking = Asking {
            item,
            by: self.options.me,
            rule,
            space,
            port,
            left: 2 * self.options.workers,
        };
        self.ask_next(pass, Box::new(asking));
        None
    }

    /// Lends another worker ports, if this one has any to spare, and lets its packet go on.
    pub fn lend(&mut self, pass: &mut Pass<'_, impl Output<P>>, asking: Box<Asking<P>>) {
        let rules = &pass.snapshot.nat.rules;
        let rule = rules.iter().find(|rule| rule.id == asking.rule);
        let Some(Target::Overload(addresses)) = rule.map(|rule| &rule.target) else {
            return self.ask_next(pass, asking); // the policy has just changed
        };
        let range = port_range(asking.space, asking.port);
        for global in addresses.iter() {
            match global.lend(self.options.me, asking.by, range) {
                PortLending::Lent => {
                    self.stats.count(Counter::PortsLent);
                    if !self.lending.iter().any(|of| Arc::ptr_eq(of, global)) {
                        self.lending.push_back(Arc::clone(global));
                    }
                    return give_back(pass, *asking);
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

/// To the worker that is to be asked next; the one that wants the ports is the last.
fn ask<P: Packet>(pass: &mut Pass<'_, impl Output<P>>, next: WorkerId, mut asking: Box<Asking<P>>) {
    match asking.left.checked_sub(1) {
        Some(left) if next != asking.by => {
            asking.left = left;
            pass.out.ask(next, asking);
        }
        _ => give_back(pass, *asking),
    }
}

/// Its own worker tries once more.
fn give_back<P: Packet>(pass: &mut Pass<'_, impl Output<P>>, asking: Asking<P>) {
    let Item { packet, meta } = asking.item;
    let meta = Meta {
        asked: true,
        ..meta
    };
    pass.out.hand_off(asking.by, Item { packet, meta });
}
