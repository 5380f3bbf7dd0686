//! One dynamic entry: 64 octets that say everything about a flow in both directions.

use std::net::Ipv4Addr;

use crate::command::{Endpoint, TcpState};
use crate::nat::{PortSpace, Timer, Timers};
use crate::snapshot::{InsideHost, VrfId};
use crate::time::Tick;
use crate::wire::checksum::Deltas;
use crate::wire::head::{Change, Macs};
use crate::wire::{Delta, Endpoints, PROTO_ICMP, PROTO_TCP, PROTO_UDP, Rewrite};

/// Which way a packet goes through the translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From inside to outside.
    Out = 0,
    /// From outside to inside.
    In = 1,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub fn reverse(self) -> Direction {
        match self {
            Direction::Out => Direction::In,
            Direction::In => Direction::Out,
        }
    }
}

/// What packets of one direction look like: addresses and ports as they arrive. An ICMP query has
/// its identifier in both ports.
pub type Key = Endpoints;

/// The key of packets that answer packets of `key`.
#[must_use]
pub fn reverse(key: Key) -> Key {
    Key {
        src: key.dst,
        dst: key.src,
        sport: key.dport,
        dport: key.sport,
    }
}

/// What a packet's entry must have besides the packet's key. Of what comes from inside, the VRF is a
/// part of it: hosts of two VRFs may have the same address. Global addresses and ports belong to one
/// host alone, so what comes from outside is found without; but a packet from outside in a VRF gets
/// to that VRF's hosts only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub(crate) direction: Direction,
    pub(crate) protocol: u8,
    /// The VRF that the entry must be of; `None` is any.
    pub(crate) vrf: Option<VrfId>,
}

impl Kind {
    /// Of a packet that goes `direction` and arrived in a VRF.
    #[inline(always)]
    #[must_use]
    pub fn new(direction: Direction, vrf: VrfId, protocol: u8) -> Kind {
        let is_of_one = direction == Direction::Out || vrf != VrfId::GLOBAL;
        Kind {
            direction,
            protocol,
            vrf: is_of_one.then_some(vrf),
        }
    }

    /// Of a packet from inside.
    #[inline(always)]
    #[must_use]
    pub fn from_inside(vrf: VrfId, protocol: u8) -> Kind {
        Kind::new(Direction::Out, vrf, protocol)
    }

    /// Of a packet from outside in the global table.
    #[inline(always)]
    #[must_use]
    pub fn from_outside(protocol: u8) -> Kind {
        Kind::new(Direction::In, VrfId::GLOBAL, protocol)
    }

    /// The same of a packet of another protocol.
    #[inline(always)]
    #[must_use]
    pub fn with(self, protocol: u8) -> Kind {
        Kind { protocol, ..self }
    }

    /// The VRF where its packets arrived.
    #[inline(always)]
    pub(crate) fn arrived_in(self) -> VrfId {
        self.vrf.unwrap_or_default()
    }

    /// Whether it is that of an entry.
    #[inline(always)]
    pub(crate) fn is_of(self, session: &Session) -> bool {
        self.protocol == session.protocol && self.vrf.is_none_or(|vrf| vrf == session.vrf)
    }

    /// The VRF that hashes tell apart.
    #[inline(always)]
    pub(crate) fn hashed_vrf(self) -> u8 {
        match self.direction {
            Direction::Out => self.arrived_in().0,
            Direction::In => 0,
        }
    }
}

/// Bits of [`Session::flags`].
pub mod flag {
    /// The entry holds the mark of its outside port (see `GlobalAddress::take`).
    pub const PORT_MARK: u8 = 1;
    /// The first packet was in mid-connection: no SYN was seen.
    pub const PICKED_UP: u8 = 2;
    /// The entry goes from inside to inside through a global address.
    pub const HAIRPIN: u8 = 4;
    /// The entry's outside address and port are those of a mapping, which holds the port's mark.
    pub const MAPPED: u8 = 8;
    /// No flow's entry, but the mapping of an inside endpoint.
    pub const MAPPING: u8 = 16;
    /// The entry counts among those for whose sake the mapping lets its outside host in.
    pub const PERMITS: u8 = 32;
    /// The first packet came from outside: to a mapping, or to an address that inside hosts share.
    pub const FROM_OUTSIDE: u8 = 64;
    /// The entry's outside address is lent to its host by a rule that makes entries of flows; of a
    /// mapping: it is that lease.
    pub const LEASED: u8 = 128;
}

/// Bits of [`Session::tcp`].
mod tcp_bit {
    pub(super) const SYN: [u8; 2] = [1, 2];
    pub(super) const FIN: [u8; 2] = [4, 8];
    pub(super) const RST: u8 = 16;
}

/// [`Session::hop`]: not looked up in the present snapshot.
pub const HOP_UNKNOWN: u16 = u16::MAX;
/// No place, in wheel links.
pub const NIL: u32 = u32::MAX;

/// A dynamic entry. Its two keys are what its packets look like as they arrive from either side;
/// a hit in one direction turns the packet into the reverse of the other direction's key.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Session {
    /// By [`Direction`]: `Out` is inside local to outside local, `In` outside global to inside
    /// global. An address entry has zero ports and zero outside addresses; that of an outside host
    /// zero inside addresses.
    pub keys: [Key; 2],
    /// IP protocol; 0 for an address entry.
    pub protocol: u8,
    /// The VRF of the inside host.
    pub vrf: VrfId,
    /// What has been seen of a TCP connection.
    pub tcp: u8,
    /// See [`flag`].
    pub flags: u8,
    /// Last packet.
    pub used: Tick,
    /// When it was made.
    pub created: Tick,
    /// Timer wheel: next and previous entry in the same slot.
    pub next: u32,
    /// See `next`.
    pub previous: u32,
    /// By [`Direction`]: the neighbour's place in the forwarding table of `generation`.
    pub hop: [u16; 2],
    /// The snapshot that `hop` is about.
    pub generation: u32,
    /// The checksum difference that the change of addresses makes outbound; inbound it is the
    /// negative.
    pub addresses: Delta,
    /// The same for ports.
    pub ports: Delta,
    /// Its number.
    pub id: u32,
    /// The rule that made it.
    pub rule: u16,
    /// Timer wheel: the slot that it is in.
    pub wheel_slot: u16,
}

impl Session {
    /// The key of an address entry in a direction: only the inside host's address counts.
    #[must_use]
    pub fn address_key(direction: Direction, address: u32) -> Key {
        let (src, dst) = match direction {
            Direction::Out => (address, 0),
            Direction::In => (0, address),
        };
        Key {
            src,
            dst,
            sport: 0,
            dport: 0,
        }
    }

    /// The key of an outside host's address entry in a direction: only the outside host's address
    /// counts, its outside local one `Out`, its outside global one `In`.
    #[must_use]
    pub fn outside_key(direction: Direction, address: u32) -> Key {
        Session::address_key(direction.reverse(), address)
    }

    /// What a hit makes of a packet that goes `direction`; not for address entries, whose other
    /// addresses and ports stay as they are.
    #[inline]
    #[must_use]
    pub fn rewrite(&self, direction: Direction) -> Rewrite {
        let to = reverse(self.keys[direction.reverse() as usize]);
        match direction {
            Direction::Out => Rewrite::from_parts(to, self.addresses, self.ports),
            Direction::In => Rewrite::from_parts(to, -self.addresses, -self.ports),
        }
    }

    /// What a hit makes of an ordinary packet that goes `direction`.
    #[inline(always)]
    #[must_use]
    pub fn change(&self, direction: Direction, macs: Macs) -> Change {
        // The packet becomes the reverse of this key, so its words have the right halves above.
        let (addresses, ports) = self.keys[direction.reverse() as usize].words();
        let undo = match direction {
            Direction::Out => 0,
            Direction::In => u16::MAX,
        };
        Change {
            addresses,
            ports,
            of_addresses: Deltas::NONE.and(self.addresses, undo),
            of_ports: Deltas::NONE.and(self.ports, undo),
            macs,
        }
    }

    /// Whether a packet with these TCP flags changes nothing but the time of the last use: the
    /// connection is established, and the packet neither begins nor ends it.
    #[inline(always)]
    #[must_use]
    pub fn is_plain_tcp(&self, flags: u8) -> bool {
        use crate::wire::tcp_flags::{FIN, RST, SYN};
        flags & (SYN | FIN | RST) == 0 && self.tcp == tcp_bit::SYN[0] | tcp_bit::SYN[1]
    }

    /// Notes a use at `tick`. A use that is noted already costs no write.
    #[inline(always)]
    pub fn use_at(&mut self, tick: Tick) {
        if self.used != tick {
            self.used = tick;
        }
    }

    /// The inside host.
    #[must_use]
    pub fn inside_host(&self) -> InsideHost {
        InsideHost {
            vrf: self.vrf,
            address: self.inside_local().address,
        }
    }

    /// Inside local.
    #[must_use]
    pub fn inside_local(&self) -> Endpoint {
        source(self.keys[Direction::Out as usize])
    }

    /// Outside local.
    #[must_use]
    pub fn outside_local(&self) -> Endpoint {
        destination(self.keys[Direction::Out as usize])
    }

    /// Inside global.
    #[must_use]
    pub fn inside_global(&self) -> Endpoint {
        destination(self.keys[Direction::In as usize])
    }

    /// Outside global.
    #[must_use]
    pub fn outside_global(&self) -> Endpoint {
        source(self.keys[Direction::In as usize])
    }

    /// Whether this is an address entry (NAT without overload).
    #[must_use]
    pub fn is_address_entry(&self) -> bool {
        self.protocol == 0 && !self.is_mapping()
    }

    /// Whether this is no flow's entry, but the mapping of an inside endpoint.
    #[must_use]
    pub fn is_mapping(&self) -> bool {
        self.flags & flag::MAPPING != 0
    }

    /// Whether this is the address entry of an outside host (`ip nat outside source` with a pool);
    /// it has no inside addresses.
    #[must_use]
    pub fn is_outside_entry(&self) -> bool {
        self.is_address_entry() && self.keys[Direction::Out as usize].src == 0
    }

    /// Whether this is of a connection that inside hosts share (`ip nat inside destination`).
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.flags & (flag::FROM_OUTSIDE | flag::MAPPED) == flag::FROM_OUTSIDE
    }

    /// Whether the inside host knows the outside host by another address than its own.
    #[must_use]
    pub fn changes_outside(&self) -> bool {
        self.keys[Direction::Out as usize].dst != self.keys[Direction::In as usize].src
    }

    /// Where its ports come from.
    #[must_use]
    pub fn port_space(&self) -> Option<PortSpace> {
        port_space(self.protocol)
    }

    /// Follows the TCP flags of a packet that goes `direction`. Returns whether the entry's timer
    /// became shorter, so that it must be set anew.
    ///
    /// RFC 6146 section 3.5.2 without its sequence numbers: a connection is established when both
    /// sides have sent SYN, closing when both have sent FIN. After RST it counts as closing until
    /// the inside host sends anything but RST: an outsider's forged RST can't end it.
    pub fn follow_tcp(&mut self, direction: Direction, flags: u8) -> bool {
        use crate::wire::tcp_flags::{FIN, RST, SYN};
        let way = direction as usize;
        let before = self.tcp_state();
        if flags & RST != 0 {
            self.tcp |= tcp_bit::RST;
        } else if flags & SYN != 0 {
            let finished = matches!(before, Some(TcpState::Closed | TcpState::Reset));
            let beginner = if !self.is_shared() {
                Direction::Out
            } else {
                Direction::In
            };
            if finished && direction == beginner {
                self.tcp = 0; // the same ports again: a new connection
                self.flags &= !flag::PICKED_UP;
            }
            self.tcp |= tcp_bit::SYN[way];
        } else {
            if self.flags & flag::PICKED_UP != 0 {
                self.tcp |= tcp_bit::SYN[way];
            }
            if direction == Direction::Out {
                self.tcp &= !tcp_bit::RST;
            }
        }
        if flags & FIN != 0 {
            self.tcp |= tcp_bit::FIN[way];
        }
        let was_over = matches!(before, Some(TcpState::Closed | TcpState::Reset));
        match self.tcp_state() {
            // The timer that runs already is not begun again, whatever else ends the connection.
            Some(TcpState::Closed | TcpState::Reset) => !was_over,
            after => after == Some(TcpState::Syn) && before != after,
        }
    }

    /// Where its TCP connection stands; `None` for other protocols.
    #[must_use]
    pub fn tcp_state(&self) -> Option<TcpState> {
        if self.protocol != PROTO_TCP || self.is_mapping() {
            return None;
        }
        let both = |bits: [u8; 2]| self.tcp & (bits[0] | bits[1]) == bits[0] | bits[1];
        Some(if self.tcp & tcp_bit::RST != 0 {
            TcpState::Reset
        } else if both(tcp_bit::FIN) {
            TcpState::Closed
        } else if !both(tcp_bit::SYN) {
            TcpState::Syn
        } else if self.tcp & (tcp_bit::FIN[0] | tcp_bit::FIN[1]) != 0 {
            TcpState::FinOneWay
        } else {
            TcpState::Established
        })
    }

    /// Whether packets keep the entry alive: not once its connection is over.
    #[must_use]
    pub fn is_prolonged_by_packets(&self) -> bool {
        !matches!(self.tcp_state(), Some(TcpState::Closed | TcpState::Reset))
    }

    /// Ticks without a packet after which the entry goes; `u32::MAX` means never.
    #[must_use]
    pub fn timeout(&self, timers: &Timers) -> u32 {
        if self.is_mapping() {
            return u32::MAX; // it goes with the last of its entries
        }
        let Key { sport, dport, .. } = self.keys[Direction::Out as usize];
        let by_port = timers.of_ports(self.protocol, [sport, dport]);
        let long = by_port.unwrap_or_else(|| timers.ticks(self.timer()));
        match self.tcp_state() {
            None | Some(TcpState::Established | TcpState::FinOneWay) => long,
            Some(TcpState::Syn) => long.min(timers.ticks(Timer::Syn)),
            Some(TcpState::Closed | TcpState::Reset) => long.min(timers.ticks(Timer::FinRst)),
        }
    }

    fn timer(&self) -> Timer {
        const DNS: u16 = 53;
        match self.protocol {
            PROTO_TCP => Timer::Tcp,
            PROTO_UDP if self.outside_global().port == DNS => Timer::Dns,
            PROTO_UDP => Timer::Udp,
            PROTO_ICMP => Timer::Icmp,
            _ => Timer::Simple,
        }
    }
}

/// Where the ports of a protocol come from; `None` for protocols without ports.
#[must_use]
pub fn port_space(protocol: u8) -> Option<PortSpace> {
    match protocol {
        PROTO_TCP => Some(PortSpace::Tcp),
        PROTO_UDP => Some(PortSpace::Udp),
        PROTO_ICMP => Some(PortSpace::Icmp),
        _ => None,
    }
}

fn source(key: Key) -> Endpoint {
    Endpoint {
        address: Ipv4Addr::from_bits(key.src),
        port: key.sport,
    }
}

fn destination(key: Key) -> Endpoint {
    Endpoint {
        address: Ipv4Addr::from_bits(key.dst),
        port: key.dport,
    }
}
