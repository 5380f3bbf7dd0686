//! What the ESP and IKE engine asks: of the rules, of the lists for IPsec, of the port table.

use std::net::Ipv4Addr;

use super::Options;
use super::forward::next_hop;
use super::place::pairing;
use crate::acl::{AccessList, Action, Subject};
use crate::command::Occupancy;
use crate::esp::{EspDrop, EspTimers, Globals, Limits, Policy, Ports, RelationView};
use crate::fib::NextHop;
use crate::nat::{GlobalAddress, Nat, Rule, Static, StaticEsp, Target, Timer};
use crate::session::{Direction, Key, Kind};
use crate::snapshot::{InsideHost, Snapshot, VrfId};
use crate::stats::DropReason;
use crate::table::Table;
use crate::wire::{PROTO_ESP, PROTO_UDP};

/// The policy as one packet meets it.
pub(super) struct Asked<'a> {
    pub(super) nat: &'a Nat,
    pub(super) subject: Subject,
    /// Where the packet goes, if it comes from inside.
    pub(super) exit: Option<NextHop>,
    /// Entries of all workers.
    pub(super) occupancy: &'a Occupancy,
}

impl Asked<'_> {
    fn any(&self, lists: &[std::sync::Arc<AccessList>]) -> bool {
        lists
            .iter()
            .any(|list| list.decide(&self.subject) == Action::Permit)
    }
}

impl Policy for Asked<'_> {
    fn globals(&self, client: InsideHost, _peer: Ipv4Addr, globals: &mut Globals) {
        let rule = self
            .nat
            .rule_for(client.vrf, &self.subject, self.exit, true);
        if let Some(Rule {
            target: Target::Overload(addresses),
            ..
        }) = rule
        {
            let first = pairing(client.address.to_bits(), addresses.len());
            let (before, from) = addresses.split_at(first);
            let all = from.iter().chain(before).map(|global| global.address);
            // What has no room is not considered.
            globals.extend(all.take(globals.remaining_capacity()));
        }
    }

    fn has_room(&self) -> bool {
        let limit = u64::from(self.nat.max_entries);
        limit == 0 || self.occupancy.active() < limit
    }

    fn spi_match(&self, _client: InsideHost, _peer: Ipv4Addr) -> bool {
        self.any(&self.nat.ipsec.spi_match)
    }

    fn preserve_port(&self, _client: InsideHost, _peer: Ipv4Addr) -> bool {
        self.any(&self.nat.ipsec.preserve_port)
    }

    fn static_esp(&self, global: Ipv4Addr) -> Option<InsideHost> {
        let mut fixed = self.nat.ipsec.static_esp.iter();
        fixed.find(|s| s.global == global).map(host)
    }

    fn static_global(&self, client: InsideHost) -> Option<Ipv4Addr> {
        let mut fixed = self.nat.ipsec.static_esp.iter();
        fixed.find(|s| host(s) == client).map(|s| s.global)
    }
}

/// The host of a `static esp`, which is always one of the global table.
fn host(fixed: &StaticEsp) -> InsideHost {
    InsideHost::from(fixed.inside)
}

/// Who else has UDP ports towards one port of a peer.
pub(super) struct Taken<'a> {
    pub(super) nat: &'a Nat,
    pub(super) table: &'a Table,
    /// The client's VRF, and the packet as the client sent it: an entry of the same sockets is no
    /// hindrance.
    pub(super) vrf: VrfId,
    pub(super) key: Key,
}

impl Ports for Taken<'_> {
    fn is_free(&self, global: Ipv4Addr, peer: Ipv4Addr, port: u16) -> bool {
        if self.nat.is_reserved(global, PROTO_UDP, port) {
            return false;
        }
        let answer = Key {
            src: peer.to_bits(),
            dst: global.to_bits(),
            sport: self.key.dport,
            dport: port,
        };
        self.table
            .look_up(Kind::from_outside(PROTO_UDP), answer)
            .is_none_or(|at| {
                let session = self.table.session(at);
                session.vrf == self.vrf && session.keys[Direction::Out as usize] == self.key
            })
    }
}

/// The packet of an ESP or IKE client as lists look at it.
pub(super) fn subject(protocol: u8, key: Key) -> Subject {
    Subject {
        protocol,
        source: key.src,
        destination: key.dst,
        ports: (protocol == PROTO_UDP).then_some((key.sport, key.dport)),
        icmp: None,
        established: false,
        later_fragment: false,
    }
}

/// The rule that an ESP or IKE client's packet falls under.
pub(super) fn rule_for(snapshot: &Snapshot, vrf: VrfId, protocol: u8, key: Key) -> Option<&Rule> {
    let subject = subject(protocol, key);
    let exit = next_hop(snapshot, vrf, key.dst).map(|hop| hop.to);
    snapshot.nat.rule_for(vrf, &subject, exit, false)
}

/// Whether the present policy would still give a client this address towards this peer.
pub(super) fn still_allows(snapshot: &Snapshot, view: &RelationView) -> bool {
    let nat = &snapshot.nat;
    let fixed = nat.ipsec.static_esp.iter();
    let mut fixed = fixed.filter(|s| host(s) == view.client || s.global == view.global);
    if let Some(fixed) = fixed.next() {
        return host(fixed) == view.client && fixed.global == view.global;
    }
    let InsideHost { vrf, address } = view.client;
    let exit = next_hop(snapshot, vrf, view.peer.to_bits()).map(|hop| hop.to);
    let packet = Key {
        src: address.to_bits(),
        dst: view.peer.to_bits(),
        sport: 0,
        dport: 0,
    };
    let applies = |fixed: &Static| fixed.applies(|| subject(PROTO_ESP, packet), exit);
    if nat
        .static_from_inside(view.client, PROTO_ESP, None, applies)
        .is_some()
    {
        return false;
    }
    let at = |port| Key {
        src: address.to_bits(),
        dst: view.peer.to_bits(),
        sport: port,
        dport: port,
    };
    [(PROTO_ESP, 0), (PROTO_UDP, 500), (PROTO_UDP, 4500)]
        .into_iter()
        .filter_map(|(protocol, port)| rule_for(snapshot, vrf, protocol, at(port)))
        .any(|rule| match &rule.target {
            Target::Overload(addresses) => addresses
                .iter()
                .any(|global: &std::sync::Arc<GlobalAddress>| global.address == view.global),
            Target::OneToOne(_) => false,
        })
}

/// The timers of ESP and IKE.
pub(super) fn timers(nat: &Nat) -> EspTimers {
    let ms = |timer: Timer| nat.timers.seconds[timer as usize].map(|s| u64::from(s) * 1000);
    EspTimers {
        esp_ms: ms(Timer::Esp),
        pending_ms: ms(Timer::EspPending),
        ..EspTimers::default()
    }
}

/// Sizes that go with a worker's session table: a small table has small ones.
pub(super) fn limits(options: &Options) -> Limits {
    let most = Limits::default();
    let sessions = options.sessions.max(64) as usize;
    Limits {
        clients: most.clients.min(sessions / 4),
        relations: most.relations.min(sessions / 4),
        halves: most.halves.min(sessions),
        ike_entries: most.ike_entries.min(sessions / 2),
        held_packets: most.held_packets.min(sessions),
        ..most
    }
}

/// The gateway's name for the engine's reason.
pub(super) fn reason(of: EspDrop) -> DropReason {
    match of {
        EspDrop::Ambiguous => DropReason::EspAmbiguous,
        EspDrop::HoldFull => DropReason::EspHoldFull,
        EspDrop::PendingExpired => DropReason::EspPendingExpired,
        EspDrop::SpiCollision => DropReason::EspSpiCollision,
        EspDrop::UnknownSpi => DropReason::EspUnknownSpi,
        EspDrop::Malformed => DropReason::EspMalformed,
        EspDrop::ReservedSpi => DropReason::EspReservedSpi,
        EspDrop::HalfTableFull => DropReason::EspHalfTableFull,
        EspDrop::RelationTableFull => DropReason::EspRelationTableFull,
        EspDrop::ClientShare => DropReason::EspClientShare,
        EspDrop::NoGlobal => DropReason::EspNoGlobal,
        EspDrop::IkeTableFull => DropReason::IkeTableFull,
        EspDrop::IkePortsExhausted => DropReason::IkePortsExhausted,
        EspDrop::IkeCollision => DropReason::IkeCollision,
        EspDrop::IkeTries => DropReason::IkeTries,
        EspDrop::MaxEntries => DropReason::MaxEntries,
        EspDrop::AuthenticationHeader => DropReason::AhNotTranslatable,
        EspDrop::Cleared => DropReason::EspCleared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_keep_their_names() {
        for of in EspDrop::ALL {
            assert_eq!(reason(*of).name(), of.name());
        }
    }
}
