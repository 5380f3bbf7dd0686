//! What `explain` says of outside hosts with another address inside.

use std::net::Ipv4Addr;

use super::Gateway;
use super::create::subject;
use crate::acl::Action;
use crate::command::Because;
use crate::nat::OutsideLocal;
use crate::packet::Packet;
use crate::session::Key;
use crate::snapshot::Snapshot;
use crate::stats::DropReason;
use crate::wire::Ipv4;

/// Addresses of pools looked at in one poll.
const SLICE: u32 = 1024;

/// How far a search through the pools for outside hosts is.
pub(super) enum Scan {
    /// There is more to look at.
    More,
    /// This address is lent to the host, or none.
    Done(Option<u32>),
}

/// A slice of the search for the address that a host has of a pool: only the host's own worker has
/// an entry that says so, but everybody may look whom an address stands for.
pub(super) fn scan_lent(snapshot: &Snapshot, host: u32, cursor: &mut u32) -> Scan {
    let outside = &snapshot.nat.outside;
    let mut first = 0;
    let mut left = SLICE;
    for rule in &outside.rules {
        let size = rule.pool.addresses().size();
        let begin = cursor.saturating_sub(first).min(size);
        for index in begin..size {
            if left == 0 {
                return Scan::More;
            }
            (left, *cursor) = (left - 1, *cursor + 1);
            if rule.pool.host(index) == Some(Ipv4Addr::from_bits(host)) {
                return Scan::Done(Some(rule.pool.addresses().address(index).to_bits()));
            }
        }
        first = first.saturating_add(size);
    }
    Scan::Done(None)
}

/// What translates packets to an outside local address.
pub(super) fn because(snapshot: &Snapshot, local: u32) -> Because {
    match snapshot.nat.outside.local(local) {
        Some(OutsideLocal::Pool { .. }) => Because::AddressEntry,
        Some(OutsideLocal::Static(_)) | None => Because::Static,
    }
}

impl<P: Packet> Gateway<P> {
    /// The address that the source of a packet from outside would have inside, and why.
    pub(super) fn explain_seen(
        &self,
        snapshot: &Snapshot,
        ip: &Ipv4,
        key: Key,
        lent: Option<u32>,
    ) -> Result<(u32, Because), DropReason> {
        let outside = &snapshot.nat.outside;
        if let Some(fixed) = outside.static_of(ip.src) {
            return Ok((fixed.local.to_bits(), Because::Static));
        }
        if let Some(lent) = lent {
            return Ok((lent, Because::AddressEntry));
        }
        let asked = subject(ip, key);
        let mut rules = outside.rules.iter();
        let rule = rules.find(|r| r.selector.decide(&asked, None) == Action::Permit);
        let Some(rule) = rule else {
            return match outside.local(ip.src) {
                Some(_) => Err(DropReason::IpSource),
                None => Ok((ip.src, Because::NotTranslated)),
            };
        };
        let limit = u64::from(snapshot.nat.max_entries);
        if limit != 0 && self.census.active() >= limit {
            return Err(DropReason::MaxEntries);
        }
        let usable = |address| outside.is_lendable(address);
        let host = Ipv4Addr::from_bits(ip.src);
        let index = rule.pool.candidate(host, usable);
        let index = index.ok_or(DropReason::PoolExhausted)?;
        let because = Because::NewEntry {
            rule: rule.id,
            keeps_port: None,
        };
        Ok((rule.pool.addresses().address(index).to_bits(), because))
    }
}
