//! NAT policy as workers read it: dynamic rules, pools, statics, global addresses, timers.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::acl::AccessList;
use crate::snapshot::WorkerId;
use crate::time::Tick;

/// `ip nat inside source list A ...`: which packets it translates, and to what.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The mapping's number in `show ip nat statistics`, the same over reloads as long as the
    /// line stays.
    pub id: u16,
    /// The packets that it translates; a list that does not exist matches nothing.
    pub list: Arc<AccessList>,
    /// To what.
    pub target: Target,
}

/// What a dynamic rule translates to.
#[derive(Debug, Clone)]
pub enum Target {
    /// `overload`: these addresses, shared by port, in this order of preference.
    Overload(Arc<[Arc<GlobalAddress>]>),
    /// A pool without overload: one address for each inside host.
    OneToOne(Arc<OneToOnePool>),
}

/// Ports in a block that is owned by one worker.
pub const BLOCK_PORTS: u32 = 64;
/// Port blocks of one address.
pub const BLOCKS: usize = 65536 / BLOCK_PORTS as usize;

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
    /// Ports with at least one entry, a bit each.
    used: Box<[[AtomicU64; BLOCKS]; 3]>,
}

impl std::fmt::Debug for GlobalAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GlobalAddress({})", self.address)
    }
}

/// A pool without overload: `size` addresses from `first`, each lent to one inside host.
#[derive(Debug)]
pub struct OneToOnePool {
    /// First address.
    pub first: Ipv4Addr,
    /// Owner of each address: 0 nobody, else the worker's number plus one.
    owner: Box<[AtomicU8]>,
}

/// A configured static translation. It makes no state and belongs to no worker.
#[derive(Debug)]
pub struct Static {
    /// Protocol and ports `(inside, global)`, or `None` for the whole address.
    pub port: Option<StaticPort>,
    /// The inside host.
    pub inside: Ipv4Addr,
    /// The address it has outside.
    pub global: Ipv4Addr,
    /// When it was made.
    pub created: Tick,
    /// Last use, written by any worker at most once a tick; 0 means never.
    pub last_used: AtomicU32,
}

/// The port part of a static translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StaticPort {
    /// TCP (6) or UDP (17).
    pub protocol: u8,
    /// The inside host's port.
    pub inside: u16,
    /// The port that it has outside.
    pub global: u16,
}

/// What an address is to NAT.
#[derive(Debug, Clone)]
pub enum Global {
    /// Shared by port.
    Overload(Arc<GlobalAddress>),
    /// Address `.1` of a pool without overload.
    OneToOne(Arc<OneToOnePool>, u32),
    /// Only statics use it.
    Static,
}

/// The timers of `ip nat translation`, in ticks; `u32::MAX` means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Timer {
    /// `timeout`: dynamic entries without overload.
    Simple,
    /// `tcp-timeout`: established TCP.
    Tcp,
    /// `udp-timeout`.
    Udp,
    /// `icmp-timeout`.
    Icmp,
    /// `dns-timeout`: UDP to or from port 53.
    Dns,
    /// `finrst-timeout`: TCP after FIN both ways or RST.
    FinRst,
    /// `syn-timeout`: TCP before it is established.
    Syn,
    /// `pptp-timeout`.
    Pptp,
    /// `esp-timeout`.
    Esp,
    /// `esp-pending-timeout`.
    EspPending,
}

impl Timer {
    /// How many there are.
    pub const COUNT: usize = 10;
}

/// All timers. `port_timers` are `port-timeout` lines: (protocol, port, seconds).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timers {
    /// Seconds by [`Timer`]; `None` means never.
    pub seconds: [Option<u32>; Timer::COUNT],
    /// `port-timeout {tcp|udp} PORT SECONDS`: beats the protocol's timer.
    pub ports: Vec<PortTimer>,
}

/// A `port-timeout` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortTimer {
    /// TCP (6) or UDP (17).
    pub protocol: u8,
    /// The port.
    pub port: u16,
    /// Seconds; `None` means never.
    pub seconds: Option<u32>,
}

impl Default for Timers {
    fn default() -> Timers {
        // shared/spec order: simple, tcp, udp, icmp, dns, finrst, syn, pptp, esp, esp-pending.
        let seconds = [86400, 86400, 300, 60, 60, 60, 60, 86400, 300, 30].map(Some);
        Timers {
            seconds,
            ports: Vec::new(),
        }
    }
}

/// The whole policy.
#[derive(Debug, Default)]
pub struct Nat {
    /// Dynamic rules, in order of configuration.
    pub rules: Vec<Rule>,
    /// Statics, in order of configuration.
    pub statics: Vec<Arc<Static>>,
    /// What each global address is; an interface's address is here if a rule or static uses it.
    pub globals: HashMap<Ipv4Addr, Global>,
    /// Timers.
    pub timers: Timers,
    /// `max-entries N`: entries in all; 0 means no limit.
    pub max_entries: u32,
    static_by_inside: StaticMap,
    static_by_global: StaticMap,
}

impl Nat {
    /// The policy of these rules and statics, with `globals` telling what each global address is.
    #[must_use]
    pub fn new(
        rules: Vec<Rule>,
        statics: Vec<Arc<Static>>,
        globals: HashMap<Ipv4Addr, Global>,
        timers: Timers,
        max_entries: u32,
    ) -> Nat {
        let static_by_inside = statics
            .iter()
            .map(|s| {
                (
                    (s.inside, s.port.map(|p| (p.protocol, p.inside))),
                    Arc::clone(s),
                )
            })
            .collect();
        let static_by_global = statics
            .iter()
            .map(|s| {
                (
                    (s.global, s.port.map(|p| (p.protocol, p.global))),
                    Arc::clone(s),
                )
            })
            .collect();
        Nat {
            rules,
            statics,
            globals,
            timers,
            max_entries,
            static_by_inside,
            static_by_global,
        }
    }

    /// The static for packets from an inside host: by port if one fits, else by address.
    #[must_use]
    pub fn static_from_inside(
        &self,
        inside: Ipv4Addr,
        protocol: u8,
        port: Option<u16>,
    ) -> Option<&Arc<Static>> {
        find_static(&self.static_by_inside, inside, protocol, port)
    }

    /// The static for packets to a global address: by port if one fits, else by address.
    #[must_use]
    pub fn static_to_global(
        &self,
        global: Ipv4Addr,
        protocol: u8,
        port: Option<u16>,
    ) -> Option<&Arc<Static>> {
        find_static(&self.static_by_global, global, protocol, port)
    }

    /// Whether a static has an address for itself, whatever the port.
    #[must_use]
    pub fn has_static_address(&self, global: Ipv4Addr) -> bool {
        self.static_by_global.contains_key(&(global, None))
    }

    /// Whether a port of a global address belongs to a static, so that no entry may take it.
    #[must_use]
    pub fn is_reserved(&self, global: Ipv4Addr, protocol: u8, port: u16) -> bool {
        self.static_to_global(global, protocol, Some(port))
            .is_some()
    }
}

type StaticMap = HashMap<(Ipv4Addr, Option<(u8, u16)>), Arc<Static>>;

fn find_static(
    map: &StaticMap,
    address: Ipv4Addr,
    protocol: u8,
    port: Option<u16>,
) -> Option<&Arc<Static>> {
    if map.is_empty() {
        return None;
    }
    port.and_then(|port| map.get(&(address, Some((protocol, port)))))
        .or_else(|| map.get(&(address, None)))
}

impl Static {
    /// Notes a use at `now`. Any worker may call this: the last one wins, and a use that is
    /// noted already costs no write.
    pub fn used(&self, now: Tick) {
        if self.last_used.load(Ordering::Relaxed) != now.0 {
            self.last_used.store(now.0, Ordering::Relaxed);
        }
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
                usize::from(owned.load(Ordering::Relaxed)) < BLOCKS / usize::from(workers)
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

    /// Gives up a block that `me` owns.
    fn disown(&self, me: WorkerId, block: usize) {
        if let Some(owned) = self.owned.get(me.index()) {
            owned.fetch_sub(1, Ordering::Relaxed);
        }
        self.owner[block].store(0, Ordering::Release);
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

impl OneToOnePool {
    /// A pool of `size` free addresses from `first` on.
    #[must_use]
    pub fn new(first: Ipv4Addr, size: u32) -> OneToOnePool {
        OneToOnePool {
            first,
            owner: (0..size).map(|_| AtomicU8::new(0)).collect(),
        }
    }

    /// Number of addresses.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.owner.len() as u32
    }

    /// The address at `index`.
    #[must_use]
    pub fn address(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits().wrapping_add(index))
    }

    /// The worker whose host has the address at `index`, if any.
    #[must_use]
    pub fn owner(&self, index: u32) -> Option<WorkerId> {
        self.owner.get(index as usize).and_then(owner_of)
    }

    /// Takes the first free address that is `usable` for `me`.
    #[must_use]
    pub fn take(&self, me: WorkerId, usable: impl Fn(Ipv4Addr) -> bool) -> Option<u32> {
        let free = |(at, cell): (usize, &AtomicU8)| {
            let taken = cell.load(Ordering::Relaxed) == 0
                && usable(self.address(at as u32))
                && cell
                    .compare_exchange(0, me.0 + 1, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok();
            taken.then_some(at as u32)
        };
        self.owner.iter().enumerate().find_map(free)
    }

    /// Gives an address back.
    pub fn release(&self, me: WorkerId, index: u32) {
        if let Some(cell) = self.owner.get(index as usize) {
            let _ = cell.compare_exchange(me.0 + 1, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// How many addresses are lent.
    #[must_use]
    pub fn lent(&self) -> u32 {
        self.owner
            .iter()
            .filter(|cell| cell.load(Ordering::Relaxed) != 0)
            .count() as u32
    }
}

impl Timers {
    /// The timer's length in ticks; `u32::MAX` means never.
    #[must_use]
    pub fn ticks(&self, timer: Timer) -> u32 {
        self.seconds[timer as usize].map_or(u32::MAX, Tick::from_seconds)
    }
}

fn block_of(port: u16) -> usize {
    usize::from(port) / BLOCK_PORTS as usize
}

fn bit_of(port: u16) -> u64 {
    1 << (u32::from(port) % BLOCK_PORTS)
}

fn owner_of(cell: &AtomicU8) -> Option<WorkerId> {
    cell.load(Ordering::Acquire).checked_sub(1).map(WorkerId)
}
