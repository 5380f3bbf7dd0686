//! Fragments learn their ports from the first one of their datagram, in whatever order they come
//! (RFC 4787 REQ-14).

use super::ipsec::mark_of;
use super::{Gateway, Item, Meta, Output, Pass, key_of};
use crate::fragment::{FragmentKey, Later};
use crate::packet::Packet;
use crate::stats::{Counter, DropReason};
use crate::time::Millis;
use crate::wire::Ipv4;

/// Datagrams forgotten in one poll at most.
const EXPIRE_BUDGET: usize = 4;

impl<P: Packet> Gateway<P> {
    /// A fragment whose ports are not known yet: gives it back with its ports, or keeps it.
    pub(super) fn follow_fragment(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
    ) -> Option<Item<P>> {
        let worker = self.owner_of_datagram(ip);
        if self.options.workers > 1 && worker != self.options.me {
            self.hand_off(pass, worker, item);
            return None;
        }
        let datagram = FragmentKey {
            src: ip.src,
            dst: ip.dst,
            id: ip.id,
            protocol: ip.protocol,
            vrf: ip.vrf,
        };
        if ip.is_later_fragment() {
            return self.later_fragment(pass.now, item, datagram);
        }
        let key = key_of(ip, item.meta);
        let known_of_first = ((key.sport, key.dport), mark_of(item.packet.data(), ip));
        let released = &mut self.released;
        let known = self
            .fragments
            .first(pass.now, datagram, known_of_first, |held: Item<P>| {
                released.push(with_first(held, known_of_first));
            });
        if let Err(reason) = known {
            // This one goes on all the same: only those that follow it are lost, each counted then.
            debug_assert_eq!(reason, DropReason::FragmentStoreFull);
        }
        Some(with_first(item, known_of_first))
    }

    fn later_fragment(
        &mut self,
        now: Millis,
        item: Item<P>,
        datagram: FragmentKey,
    ) -> Option<Item<P>> {
        match self.fragments.later(now, datagram, item) {
            Later::Known(first, item) => Some(with_first(item, first)),
            Later::Held => {
                self.stats.count(Counter::FragmentsHeld);
                None
            }
            Later::Refused(reason, item) => {
                self.refused(reason, item.meta);
                None
            }
        }
    }

    /// Goes on with the fragments that waited for one of this burst.
    pub(super) fn release_fragments(&mut self, pass: &mut Pass<'_, impl Output<P>>) {
        if self.released.is_empty() {
            return;
        }
        let mut released = std::mem::take(&mut self.released);
        for item in released.drain(..) {
            self.process_one(pass, item);
        }
        self.released = released; // its memory is used again
    }

    /// Drops fragments that waited in vain. Returns whether there was anything to do.
    pub(super) fn expire_fragments(&mut self, now: Millis) -> bool {
        let stats = &self.stats;
        let forgotten = self.fragments.expire(now, EXPIRE_BUDGET, |item: Item<P>| {
            stats.dropped(DropReason::FragmentTimeout);
            if let Some(port) = stats.port(item.meta.port) {
                port.rx_dropped.add(1);
            }
        });
        forgotten > 0
    }
}

fn with_first<P>(item: Item<P>, (ports, mark): ((u16, u16), u64)) -> Item<P> {
    Item {
        meta: Meta {
            ports: Some(ports),
            mark,
            ..item.meta
        },
        ..item
    }
}
