//! The path of an ordinary packet whose entry is there, with nothing on it but that.
//!
//! A burst is looked at in place: no packet moves before it leaves. Whatever is not ordinary goes the
//! full way ([`Gateway::process_one`]), which judges alone what becomes of it: here nothing is refused,
//! and nothing changes before it is sure that the packet can leave.

use super::forward::leaves;
use super::ipsec::is_ipsec;
use super::{Gateway, Item, Lookup, MULTICAST, Output, Pass, inside, key_of};
use crate::packet::Packet;
use crate::session::{Direction, Key, flag};
use crate::snapshot::{Side, Snapshot};
use crate::wire::{self, Ethernet, Ipv4, L4, PROTO_TCP, PROTO_UDP, Parsed, rewrite};

/// What is to be known of an ordinary packet. Flat, and filled in place: a structure that is built
/// narrow field by narrow field and then copied in wide steps makes the CPU wait for its own stores.
#[derive(Clone, Copy)]
pub(super) struct Glance {
    pub(super) hash: u64,
    /// The index's first guess at its entry.
    pub(super) guess: Option<u32>,
    key: Key,
    total_len: u16,
    ttl: u8,
    protocol: u8,
    header_len: u8,
    tcp_flags: u8,
    direction: Direction,
    pub(super) is_ordinary: bool,
}

impl Glance {
    /// Of a packet that nobody has looked at, or that is not ordinary.
    pub(super) const NONE: Glance = Glance {
        hash: 0,
        guess: None,
        key: Key {
            src: 0,
            dst: 0,
            sport: 0,
            dport: 0,
        },
        total_len: 0,
        ttl: 0,
        protocol: 0,
        header_len: 0,
        tcp_flags: 0,
        direction: Direction::Out,
        is_ordinary: false,
    };

    /// The packet's header as far as it was noted: all that an ordinary packet's way asks for.
    #[inline(always)]
    fn ip(&self) -> Ipv4 {
        let Key {
            src,
            dst,
            sport,
            dport,
        } = self.key;
        Ipv4 {
            src,
            dst,
            total_len: self.total_len,
            id: 0,
            fragment: None,
            protocol: self.protocol,
            ttl: self.ttl,
            header_len: self.header_len,
            dont_fragment: false,
            l4: match self.protocol {
                PROTO_TCP => L4::Tcp {
                    sport,
                    dport,
                    flags: self.tcp_flags,
                },
                PROTO_UDP => L4::Udp { sport, dport },
                _ => L4::IcmpQuery {
                    icmp_type: 0,
                    code: 0,
                    id: sport,
                },
            },
        }
    }
}

impl<P: Packet> Gateway<P> {
    /// Reads a packet without touching it. `glance` is [`Glance::NONE`] before, and stays so where
    /// the packet is not ordinary.
    #[inline(always)]
    pub(super) fn glance(
        &self,
        snapshot: &Snapshot,
        item: &Item<P>,
        glance: &mut Glance,
    ) -> Option<()> {
        let interface = snapshot.interface(item.meta.port).filter(|i| i.up)?;
        let direction = match interface.side {
            Side::Inside => Direction::Out,
            Side::Outside => Direction::In,
            Side::None => return None,
        };
        let frame = item.packet.data();
        let is_ours = Ethernet::new(frame)?.dst() == interface.mac;
        if !is_ours || item.meta.hairpin {
            return None;
        }
        let verify = !item.packet.ip_checksum_verified();
        let Ok(Parsed::Ipv4(ip)) = wire::parse(frame, verify) else {
            return None;
        };
        let tcp_flags = match ip.l4 {
            L4::Tcp { flags, .. } => flags,
            L4::Udp { .. } => 0,
            L4::IcmpQuery { .. } if direction == Direction::Out || !inside::is_request(&ip) => 0,
            _ => return None,
        };
        if ip.fragment.is_some() || ip.dst >= MULTICAST || ip.src == 0 {
            return None;
        }
        let key = key_of(&ip, item.meta);
        if is_ipsec(direction, ip.protocol, key) {
            return None; // its entries are the engine's, which follows every message
        }
        let hash = self.table.hash(direction, ip.protocol, key);
        if self.options.workers > 1 {
            let lookup = Lookup::Flow {
                direction,
                key,
                hash,
            };
            if self.owner(snapshot, item, &ip, lookup) != self.options.me {
                return None;
            }
        }
        glance.hash = hash;
        glance.key = key;
        glance.total_len = ip.total_len;
        glance.ttl = ip.ttl;
        glance.protocol = ip.protocol;
        glance.header_len = ip.header_len;
        glance.tcp_flags = tcp_flags;
        glance.direction = direction;
        glance.is_ordinary = true;
        Some(())
    }

    /// Sends a packet whose entry is there and whose way is known, else decides about it in full.
    /// Whether it was the former: the caller counts the hits of a burst together.
    #[inline]
    pub(super) fn decide_quickly(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        glance: &Glance,
    ) -> bool {
        match self.leave_quickly(pass, item, glance) {
            None => true,
            Some(item) => {
                self.process_one(pass, item);
                false
            }
        }
    }

    /// Gives the packet back, untouched, if it must go the full way.
    #[inline(always)]
    fn leave_quickly(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        glance: &Glance,
    ) -> Option<Item<P>> {
        let Glance { key, direction, .. } = *glance;
        let ip = &glance.ip();
        let found = self
            .table
            .find_guessed(glance.guess, glance.hash, direction, ip.protocol, key);
        let Some(at) = found else {
            return Some(item);
        };
        let session = self.table.session(at);
        if session.flags & flag::HAIRPIN != 0 {
            return Some(item);
        }
        let Some((port, mac, egress)) = leaves(pass.snapshot, session, direction, ip) else {
            return Some(item);
        };
        let change = session.rewrite(direction);
        self.touch(pass.now, pass.snapshot, ip, direction, at);
        let Item { mut packet, .. } = item;
        let frame = packet.data_mut();
        change.apply_and_decrement_ttl(frame, ip);
        rewrite::set_macs(frame, mac, egress.mac);
        packet.truncate(ip.end()); // Ethernet padding stays behind
        pass.out.transmit(port, packet);
        None
    }
}
