//! `explain` where a rule is endpoint-independent.

use std::sync::Arc;

use super::Gateway;
use super::create::sender;
use super::explain::{ended, translated};
use super::outside_source::still_known;
use super::place::pairing;
use crate::command::{Because, FlowExplanation};
use crate::nat::{GlobalAddress, Rule};
use crate::packet::Packet;
use crate::session::{Direction, Key, Kind, reverse};
use crate::snapshot::Snapshot;
use crate::stats::DropReason;
use crate::wire::{Ipv4, PROTO_ICMP, Rewrite};

impl<P: Packet> Gateway<P> {
    /// A flow from inside that would get an entry under a mapping, new or there already.
    pub(super) fn explain_mapped(
        &self,
        snapshot: &Snapshot,
        ip: &Ipv4,
        key: Key,
        (rule, addresses): (&Rule, &[Arc<GlobalAddress>]),
        mut about: FlowExplanation,
    ) -> FlowExplanation {
        let nat = &snapshot.nat;
        let (address, port, keeps_port) = if let Some(at) = self.mapping_of(ip.protocol, key, rule)
        {
            if self.is_stale(nat, at, addresses) {
                return ended(about, DropReason::NoTranslation);
            }
            let global = self.table.session(at).inside_global();
            (global.address, Some(global.port), None)
        } else {
            if !self.has_room_for(nat, 2) || !self.host_counts.allow_two(sender(ip)) {
                return ended(about, DropReason::MaxEntries);
            }
            let Some(global) = addresses.get(pairing(key.src, addresses.len())) else {
                return ended(about, DropReason::PortsExhausted);
            };
            let me = self.options.me;
            let may_have = match global.owner(key.sport) {
                Some(owner) => owner == me,
                None => global.is_below_share(me, self.options.workers),
            };
            let keeps =
                may_have && self.fits(nat, ip.protocol, Self::alone(key), global, key.sport);
            (global.address, keeps.then_some(key.sport), Some(keeps))
        };
        about.because = Because::NewEntry {
            rule: rule.id,
            keeps_port,
        };
        let to = Key {
            src: address.to_bits(),
            sport: port.unwrap_or(0),
            ..key
        };
        let mut answer = reverse(to);
        if ip.protocol == PROTO_ICMP {
            answer.sport = answer.dport;
        }
        let is_taken = self.table.look_up(Kind::from_outside(ip.protocol), answer);
        if is_taken.is_some() {
            return ended(about, DropReason::PortsExhausted);
        }
        translated(
            snapshot,
            ip,
            about,
            ip.vrf,
            Rewrite::new(ip.protocol, key, to),
        )
    }

    /// A packet from outside to a mapping that no entry fits; `source` is its sender as the client
    /// would know it.
    pub(super) fn explain_unsolicited(
        &self,
        snapshot: &Snapshot,
        ip: &Ipv4,
        (key, source): (Key, u32),
        mapping: u32,
        mut about: FlowExplanation,
    ) -> FlowExplanation {
        about.because = Because::Mapping(self.table.session(mapping).rule);
        // An address that is yet to be lent stands for nobody so far.
        let is_known = still_known(snapshot, self.table.session(mapping).vrf, source, ip.src);
        let sender = if is_known { source } else { ip.src };
        match self.admission(snapshot, ip, (key, sender), mapping, (false, false)) {
            Ok(admitted) => {
                let to = admitted.session.rewrite(Direction::In).to();
                let to = Key { src: source, ..to };
                translated(
                    snapshot,
                    ip,
                    about,
                    admitted.session.vrf,
                    Rewrite::new(ip.protocol, key, to),
                )
            }
            Err(reason) => ended(about, reason),
        }
    }
}
