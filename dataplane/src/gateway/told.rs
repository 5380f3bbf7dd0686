//! What goes into the worker's journal: for `debug ip nat`, and for the log.

use std::net::Ipv4Addr;

use super::{Gateway, Meta, key_of};
use crate::journal::{Expiring, Line, Notice, Refused, Topic, Translated};
use crate::packet::Packet;
use crate::session::{Direction, Session};
use crate::stats::DropReason;
use crate::time::Millis;
use crate::wire::{Ipv4, Rewrite};

impl<P: Packet> Gateway<P> {
    /// A packet was translated; `known` tells that its entry was there already.
    #[inline]
    pub(super) fn told_translated(
        &mut self,
        now: Millis,
        direction: Direction,
        ip: &Ipv4,
        meta: Meta,
        change: &Rewrite,
        known: bool,
    ) {
        if self.stats.journal.wants(Topic::Packets) {
            let line = Line::Translated(Translated {
                direction,
                protocol: ip.protocol,
                id: ip.id,
                from: key_of(ip, meta),
                to: change.to(),
                known,
            });
            self.writer.tell(&self.stats.journal, now, line);
        }
    }

    /// NAT refused a packet that a rule should have translated; `rule` is that rule, where known.
    pub(super) fn told_refused(
        &mut self,
        now: Millis,
        ip: &Ipv4,
        meta: Meta,
        reason: DropReason,
        rule: Option<u16>,
    ) {
        let (source, destination) = (Ipv4Addr::from_bits(ip.src), Ipv4Addr::from_bits(ip.dst));
        let notice = match reason {
            DropReason::AhNotTranslatable => Some(Notice::AuthenticationHeader {
                source,
                destination,
            }),
            DropReason::PoolExhausted | DropReason::PortsExhausted => {
                Some(Notice::AllocationFailed {
                    source,
                    reason,
                    rule: rule.unwrap_or(0),
                })
            }
            _ => None,
        };
        if let Some(notice) = notice {
            self.writer.note(&self.stats.journal, now, notice);
        }
        if self.stats.journal.wants(Topic::Packets) {
            let line = Line::Refused(Refused {
                protocol: ip.protocol,
                key: key_of(ip, meta),
                reason,
                rule,
            });
            self.writer.tell(&self.stats.journal, now, line);
        }
    }

    /// An inbound SPI belongs to two clients.
    pub(super) fn told_collision(&mut self, now: Millis, ip: &Ipv4, spi: u32) {
        let notice = Notice::SpiCollision {
            peer: Ipv4Addr::from_bits(ip.src),
            global: Ipv4Addr::from_bits(ip.dst),
            spi,
        };
        self.writer.note(&self.stats.journal, now, notice);
    }

    /// An entry's timer ran out.
    pub(super) fn told_expiring(&mut self, now: Millis, session: &Session) {
        if self.stats.journal.wants(Topic::Packets) {
            let (global, local) = (session.inside_global(), session.inside_local());
            let line = Line::Expiring(Expiring {
                protocol: session.protocol,
                global: (global.address, global.port),
                local: (local.address, local.port),
            });
            self.writer.tell(&self.stats.journal, now, line);
        }
    }
}
