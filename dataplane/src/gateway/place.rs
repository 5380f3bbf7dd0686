//! An outside address and port for a new entry.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Gateway;
use super::in_vain::Free;
use crate::nat::{GlobalAddress, Nat, PortSpace, Target};
use crate::packet::Packet;
use crate::rss::Aim;
use crate::session::{Key, Kind};
use crate::snapshot::{PortId, VrfId, WorkerId};
use crate::stats::DropReason;
use crate::time::Millis;
use crate::wire::{PROTO_ICMP, PROTO_UDP};

/// Ports tried, from a random one on, once every port of an address has an entry: each may still be free for
/// this destination. Of several addresses each has its share of the tries, but some at least.
const SHARED_PORT_TRIES: u32 = 512;
const SHARED_PORT_TRIES_AT_LEAST: u32 = 16;
/// How many of these before a search that found none a moment ago is believed.
const TRIES_BEFORE_BELIEF: u32 = 8;
/// How many of these at least look for one that brings answers to this worker.
const AIMED_SHARED_TRIES: u32 = 64;
/// Blocks looked at again where a free port turns out to be a static's.
const RESERVED_RETRIES: u32 = 64;

/// What an outside port is sought for.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    pub(super) now: Millis,
    pub(super) nat: &'a Nat,
    pub(super) space: PortSpace,
    pub(super) protocol: u8,
    /// The packet, as it comes from inside, with the destination as the outside knows it.
    pub(super) key: Key,
}

/// What a search for a port without any entry lacked.
enum NoPort {
    /// Any that is free.
    Free,
    /// One that is nobody else's.
    Fitting,
}

/// An outside address and port for a new entry.
pub(super) struct Place {
    pub(super) address: u32,
    pub(super) port: u16,
    /// What `GlobalAddress::take` said.
    pub(super) mark: bool,
}

impl<P: Packet> Gateway<P> {
    /// An outside address and port that no other entry with this destination has: the packet's
    /// own port where it is free, else another of the same range.
    pub(super) fn place(
        &mut self,
        sought: &Sought<'_>,
        exit: Option<PortId>,
        addresses: &[Arc<GlobalAddress>],
    ) -> Result<Place, DropReason> {
        let Sought { protocol, key, .. } = *sought;
        // A client keeps its address as long as that has ports (RFC 4787 REQ-2, "paired"): every
        // worker begins its search at the same one for the same client.
        let first = pairing(key.src, addresses.len());
        let (before, from) = addresses.split_at(first);
        let tries = SHARED_PORT_TRIES / addresses.len().max(1) as u32;
        let tries = tries.max(SHARED_PORT_TRIES_AT_LEAST);
        // Not in the way of those that change this worker meanwhile; it is put back below.
        let steering = self.steering.take();
        let mut place = Err(DropReason::PortsExhausted);
        for global in from.iter().chain(before) {
            let to = steering.as_deref();
            let aim = to.and_then(|to| self.aim(to, exit, protocol, key, global));
            if let Some(found) = self.place_at(sought, (global, tries), aim) {
                if let Some(aim) = aim {
                    self.count_aim(aim, found.port);
                }
                place = Ok(found);
                break;
            }
        }
        self.steering = steering;
        place
    }

    /// [`Gateway::place`] at one of its addresses. Of ports that all have entries it tries so many.
    #[inline]
    pub(super) fn place_at(
        &mut self,
        sought: &Sought<'_>,
        (global, tries): (&GlobalAddress, u32),
        aim: Option<Aim<'_>>,
    ) -> Option<Place> {
        let aim = aim.filter(Aim::is_by_port);
        if aim.is_none_or(|aim| aim.hits(sought.key.sport))
            && let Some(own) = self.keep_port(sought, global)
        {
            return Some(own);
        }
        self.another_port(sought, (global, tries), aim)
    }

    /// The packet's own port.
    #[inline]
    fn keep_port(&self, sought: &Sought<'_>, global: &GlobalAddress) -> Option<Place> {
        let me = self.options.me;
        let port = sought.key.sport;
        let may_have =
            global.is_below_share(me, self.options.workers) || global.owner(port) == Some(me);
        if !may_have || !global.claim(me, port) {
            return None;
        }
        if !self.fits(sought.nat, sought.protocol, sought.key, global, port) {
            global.abandon(me, port);
            return None;
        }
        Some(taken(me, sought, global, port))
    }

    /// Another port of the same range; or its own one after all, where the one that would be better is not free.
    #[inline(never)]
    fn another_port(
        &mut self,
        sought: &Sought<'_>,
        (global, tries): (&GlobalAddress, u32),
        aim: Option<Aim<'_>>,
    ) -> Option<Place> {
        let Sought {
            nat,
            space,
            protocol,
            key,
            ..
        } = *sought;
        let me = self.options.me;
        let below_share = global.is_below_share(me, self.options.workers);
        let fits = |gateway: &Self, port| gateway.fits(nat, protocol, key, global, port);
        let taken = |port: u16| taken(me, sought, global, port);
        let hits = |port: u16| aim.is_none_or(|aim| aim.hits(port));
        let (low, high) = port_range(space, key.sport);
        let width = u32::from(high - low) + 1;
        let any = |gateway: &mut Self| low + (gateway.random() as u32 % width) as u16;
        let unused = |gateway: &mut Self, may_claim: bool| {
            for _ in 0..RESERVED_RETRIES {
                let start = any(gateway);
                let port = global
                    .free_port(me, may_claim, space, (low, high), start)
                    .ok_or(NoPort::Free)?;
                if fits(gateway, port) {
                    return Ok(port);
                }
                global.abandon(me, port);
            }
            Err(NoPort::Fitting)
        };
        let search = Free::new(sought, global);
        let may_be_free = !below_share || !self.in_vain.was_free(&search);
        if aim.is_some() {
            // Rather than the client's own port one that brings answers here, and rather that than any.
            let start = any(self);
            let port = may_be_free
                .then(|| global.free_port_that(me, below_share, space, (low, high), start, hits))
                .flatten();
            if let Some(port) = port {
                if fits(self, port) {
                    return Some(taken(port));
                }
                global.abandon(me, port);
            }
            if !hits(key.sport)
                && let Some(own) = self.keep_port(sought, global)
            {
                return Some(own);
            }
        }
        if may_be_free {
            match unused(self, below_share) {
                Ok(port) => return Some(taken(port)),
                Err(NoPort::Free) if below_share => self.in_vain.note_free(search),
                Err(_) => {}
            }
        }
        let mut second = None;
        let start = any(self);
        for (tried, port) in (0..tries).zip(global.ports_of(me, (low, high), start)) {
            if tried == TRIES_BEFORE_BELIEF && self.in_vain.was_shared(sought, global) {
                break;
            }
            if fits(self, port) {
                if hits(port) {
                    return Some(taken(port));
                }
                second.get_or_insert(port);
            }
            if second.is_some() && tried >= AIMED_SHARED_TRIES {
                break;
            }
        }
        if let Some(port) = second {
            return Some(taken(port));
        }
        if tries > TRIES_BEFORE_BELIEF {
            self.in_vain.note_shared(sought, global);
        }
        // Rather what is another worker's share than nothing.
        if below_share || !global.may_claim(me, self.options.workers) {
            return None;
        }
        unused(self, true).ok().map(taken)
    }

    /// Asks the memory for what [`Gateway::create`] will read of the table if the first rule applies
    /// and the packet keeps its port. A wrong guess costs nothing but the asking.
    #[inline]
    pub(super) fn expect(&self, nat: &Nat, vrf: VrfId, protocol: u8, key: Key) {
        let rule = nat.rules.iter().find(|rule| rule.vrf == vrf);
        let Some(Target::Overload(addresses)) = rule.map(|rule| &rule.target) else {
            return;
        };
        if let Some(global) = addresses.get(pairing(key.src, addresses.len())) {
            let answer = answer(global, protocol, key, key.sport);
            let hash = self.table.hash(Kind::from_outside(protocol), answer);
            self.table.prefetch_index(hash);
        }
    }

    /// Whether neither a static nor another flow with this destination has a port.
    pub(super) fn fits(
        &self,
        nat: &Nat,
        protocol: u8,
        key: Key,
        global: &GlobalAddress,
        port: u16,
    ) -> bool {
        let peer = Ipv4Addr::from_bits(key.dst);
        let is_ike = protocol == PROTO_UDP
            && !self.esp.is_empty()
            && self.esp.holds_port(global.address, peer, key.dport, port);
        !nat.is_reserved(global.address, protocol, port)
            && !is_ike
            && self
                .table
                .look_up(
                    Kind::from_outside(protocol),
                    answer(global, protocol, key, port),
                )
                .is_none()
            && self.is_left_by_mappings(nat, protocol, key, global, port)
    }
}

fn taken(me: WorkerId, sought: &Sought<'_>, global: &GlobalAddress, port: u16) -> Place {
    Place {
        address: global.address.to_bits(),
        port,
        mark: global.take(me, sought.space, port),
    }
}

/// What the answer to a packet looks like if the packet leaves from `port` of `global`.
pub(super) fn answer(global: &GlobalAddress, protocol: u8, key: Key, port: u16) -> Key {
    let sport = if protocol == PROTO_ICMP {
        port
    } else {
        key.dport
    };
    Key {
        src: key.dst,
        dst: global.address.to_bits(),
        sport,
        dport: port,
    }
}

/// The ports among which a substitute is chosen: a well-known port is never replaced by an
/// unprivileged one and the other way round, and the lowest keep among themselves as in IOS.
pub(super) fn port_range(space: PortSpace, port: u16) -> (u16, u16) {
    match (space, port) {
        (PortSpace::Icmp, _) => (0, u16::MAX),
        (_, 0..=511) => (1, 511),
        (_, 512..=1023) => (512, 1023),
        (_, 1024..) => (1024, u16::MAX),
    }
}

/// Where in a list of `count` addresses a client's search begins.
pub(super) fn pairing(client: u32, count: usize) -> usize {
    if count <= 1 {
        return 0;
    }
    (u64::from(client).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % count
}
