//! An outside address and port for a new entry.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Gateway;
use crate::nat::{GlobalAddress, Nat, PortSpace, Target};
use crate::packet::Packet;
use crate::rss::Aim;
use crate::session::{Key, Kind};
use crate::snapshot::{PortId, VrfId};
use crate::stats::DropReason;
use crate::wire::{PROTO_ICMP, PROTO_UDP};

/// Ports tried, from a random one on, once every port of an address has an entry: each may still be free for
/// this destination. Of several addresses each has its share of the tries, but some at least.
const SHARED_PORT_TRIES: u32 = 512;
const SHARED_PORT_TRIES_AT_LEAST: u32 = 16;
/// How many of these at least look for one that brings answers to this worker.
const AIMED_SHARED_TRIES: u32 = 64;
/// Blocks looked at again where a free port turns out to be a static's.
const RESERVED_RETRIES: u32 = 64;

/// A search for a port without any entry, and how often one had been freed before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Search {
    address: Ipv4Addr,
    space: PortSpace,
    /// The lowest port of the range.
    low: u16,
    freed: u32,
}

/// Searches for a port without any entry that found none: as long as nothing is given back, they find none again.
#[derive(Debug)]
pub(super) struct InVain(Box<[Option<Search>]>);

/// Room for 256 neighbouring addresses, which a pool's are.
const SEARCHES: usize = 4 * 256;

impl InVain {
    pub(super) fn new() -> InVain {
        InVain(vec![None; SEARCHES].into())
    }

    /// Begins anew: an address may have gone and come back with other ports.
    pub(super) fn forget(&mut self) {
        self.0.fill(None);
    }

    fn place(search: &Search) -> usize {
        (search.address.to_bits() as usize * 4 + search.space as usize) % SEARCHES
    }

    fn has(&self, search: &Search) -> bool {
        self.0[InVain::place(search)].as_ref() == Some(search)
    }

    fn note(&mut self, search: Search) {
        self.0[InVain::place(&search)] = Some(search);
    }
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
        nat: &Nat,
        space: PortSpace,
        protocol: u8,
        key: Key,
        exit: Option<PortId>,
        addresses: &[Arc<GlobalAddress>],
    ) -> Result<Place, DropReason> {
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
            if let Some(found) = self.place_at(nat, space, protocol, key, (global, tries), aim) {
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
        nat: &Nat,
        space: PortSpace,
        protocol: u8,
        key: Key,
        (global, tries): (&GlobalAddress, u32),
        aim: Option<Aim<'_>>,
    ) -> Option<Place> {
        let me = self.options.me;
        let below_share = global.is_below_share(me, self.options.workers);
        let fits = |gateway: &Self, port| gateway.fits(nat, protocol, key, global, port);
        let taken = |port: u16| Place {
            address: global.address.to_bits(),
            port,
            mark: global.take(me, space, port),
        };
        let aim = aim.filter(Aim::is_by_port);
        let hits = |port: u16| aim.is_none_or(|aim| aim.hits(port));
        let may_have = below_share || global.owner(key.sport) == Some(me);
        let keep = |gateway: &Self| {
            let fitting = may_have && global.claim(me, key.sport);
            if fitting && !fits(gateway, key.sport) {
                global.abandon(me, key.sport);
                return false;
            }
            fitting
        };
        if hits(key.sport) && keep(self) {
            return Some(taken(key.sport));
        }
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
        let search = Search {
            address: global.address,
            space,
            low,
            freed: global.freed(),
        };
        let may_be_free = !below_share || !self.in_vain.has(&search);
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
            if !hits(key.sport) && keep(self) {
                return Some(taken(key.sport));
            }
        }
        if may_be_free {
            match unused(self, below_share) {
                Ok(port) => return Some(taken(port)),
                Err(NoPort::Free) if below_share => self.in_vain.note(search),
                Err(_) => {}
            }
        }
        let mut second = None;
        let start = any(self);
        for (tried, port) in (0..tries).zip(global.ports_of(me, (low, high), start)) {
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
