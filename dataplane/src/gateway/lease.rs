//! Rules by route map without overload: an address is lent to the host, as by a list, but each flow
//! has an entry of its own, so another map may send another flow of the host to another pool.
//!
//! A lease is a mapping without protocol and port: it holds the address, counts the entries under it
//! and goes with the last of them. Nothing gets in through it unasked.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Gateway;
use super::create::{blank, is_lendable, refused_by, sender};
use super::explain::{ended, translated};
use super::forward::rewrite_addresses;
use super::inside::may_begin;
use super::mapping::keys;
use super::place::Place;
use crate::command::{Because, FlowExplanation};
use crate::nat::{Global, Nat, OneToOnePool, Rule};
use crate::packet::Packet;
use crate::session::{Key, Session, flag};
use crate::snapshot::{InsideHost, Snapshot};
use crate::stats::{Counter, DropReason};
use crate::time::Millis;
use crate::wire::Ipv4;

impl<P: Packet> Gateway<P> {
    /// The address that a rule lends to a host, for one more entry of it, whose flags come with it.
    pub(super) fn place_leased(
        &mut self,
        now: Millis,
        snapshot: &Snapshot,
        key: Key,
        (rule, pool): (&Rule, &Arc<OneToOnePool>),
    ) -> Result<(Place, u8), DropReason> {
        let nat = &snapshot.nat;
        let at = match self.lease_of(key, rule) {
            Some(at) if self.is_lease_over(nat, at, pool) => {
                return Err(DropReason::NoTranslation);
            }
            Some(at) => at,
            None => self.new_lease(now, nat, key, (rule, pool))?,
        };
        let lease = self.table.session_mut(at);
        lease.used = now.tick();
        let address = lease.inside_global().address.to_bits();
        self.add_child(at);
        let place = Place {
            address,
            port: key.sport,
            mark: false,
        };
        Ok((place, flag::MAPPED | flag::LEASED))
    }

    fn lease_of(&self, key: Key, rule: &Rule) -> Option<u32> {
        self.mapping_of(0, Key { sport: 0, ..key }, rule)
    }

    /// Whether the present policy would not lend the address so: its entries go before long, and it
    /// with them.
    fn is_lease_over(&self, nat: &Nat, at: u32, pool: &Arc<OneToOnePool>) -> bool {
        let address = self.table.session(at).inside_global().address;
        let lent = match nat.global(address) {
            Some(Global::OneToOne(of, index)) if Arc::ptr_eq(of, pool) => pool.owner(*index),
            _ => None,
        };
        lent != Some(self.options.me) || !is_lendable(nat, address)
    }

    fn new_lease(
        &mut self,
        now: Millis,
        nat: &Nat,
        key: Key,
        (rule, pool): (&Rule, &Arc<OneToOnePool>),
    ) -> Result<u32, DropReason> {
        let me = self.options.me;
        let host = InsideHost {
            vrf: rule.vrf,
            address: Ipv4Addr::from_bits(key.src),
        };
        if !self.has_room_for(nat, 2) || !self.host_counts.reserve_second(host) {
            return Err(DropReason::MaxEntries);
        }
        let usable = |address| is_lendable(nat, address);
        let Some(index) = pool.take(me, host.address, usable, &mut self.pool_in_vain) else {
            self.host_counts.not_made(host);
            return Err(DropReason::PoolExhausted);
        };
        let global = pool.address(index).to_bits();
        let [outbound, inbound] = keys((key.src, 0), (global, 0), rule.id);
        let lease = Session {
            vrf: rule.vrf,
            flags: flag::MAPPING | flag::LEASED,
            ..blank(now, rule.id, 0, outbound, inbound)
        };
        let Some(at) = self.table.insert(lease, now.tick(), &nat.timers) else {
            pool.release(me, index);
            self.host_counts.not_made(host);
            return Err(DropReason::SessionTableFull);
        };
        self.mappings.count += 1;
        self.host_counts.made(at, host);
        self.census.made(nat, now);
        self.stats.sessions.add(1);
        self.stats.count(Counter::CreatedSimple);
        Ok(at)
    }

    /// What would become of a flow from inside that such a rule takes.
    pub(super) fn explain_leased(
        &self,
        snapshot: &Snapshot,
        ip: &Ipv4,
        key: Key,
        (rule, pool): (&Rule, &Arc<OneToOnePool>),
        mut about: FlowExplanation,
    ) -> FlowExplanation {
        let nat = &snapshot.nat;
        about.because = Because::NewEntry {
            rule: rule.id,
            keeps_port: None,
        };
        if let Some(reason) = refused_by(rule, ip) {
            return ended(about, reason);
        }
        if !may_begin(ip) {
            return ended(about, DropReason::NoTranslation);
        }
        let global = match self.lease_of(key, rule) {
            Some(at) if self.is_lease_over(nat, at, pool) => {
                return ended(about, DropReason::NoTranslation);
            }
            Some(at) => self.table.session(at).inside_global().address,
            None => {
                let host = sender(ip);
                if !self.has_room_for(nat, 2) || !self.host_counts.allow_two(host) {
                    return ended(about, DropReason::MaxEntries);
                }
                match pool.candidate(host.address, |address| is_lendable(nat, address)) {
                    Some(index) => pool.address(index),
                    None => return ended(about, DropReason::PoolExhausted),
                }
            }
        };
        let change = rewrite_addresses(ip, global.to_bits(), key.dst);
        translated(snapshot, ip, about, ip.vrf, change)
    }
}
