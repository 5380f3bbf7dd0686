//! Flow rules: a port that takes them brings ESP and IKE of each VPN server to the worker which has its tunnels.
//!
//! A worker has a server's tunnels in both directions (`gateway::steer`), and no hash leads there: ESP has no ports, and
//! what clients send goes by their own addresses. Rules only save the hand-over between workers: whatever packets
//! they miss is translated all the same.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Bound::{Excluded, Unbounded};

use spillway_control::manage::FlowRules;
use spillway_dataplane::esp::PeerView;
use spillway_dataplane::snapshot::{Side, WorkerId};
use spillway_dpdk::{FlowMatch, FlowRule, FlowTraffic, FlowWay, Port, PortError};

/// Servers that rules are for at most, those with the most clients first: cards have room for some thousand rules.
const SERVERS: usize = 256;

/// Changes of one port's rules at a time: a card may take some hundred microseconds for each, and control has other work.
const CHANGES: usize = 64;

/// Of these, so many that the port refuses: it may do the same with the others, and each takes its time.
const REFUSALS: usize = 4;

/// What servers send and get: ESP, IKE, and both in UDP (RFC 7296 section 2.23, RFC 3948).
const TRAFFIC: [FlowTraffic; 3] = [
    FlowTraffic::Esp,
    FlowTraffic::Udp(500),
    FlowTraffic::Udp(4500),
];

/// What takes flow rules. A rule ends when its value goes.
pub(super) trait TakesRules {
    type Rule;
    fn bring(&self, packets: &FlowMatch, queue: u16) -> Result<Self::Rule, PortError>;
}

impl TakesRules for Port {
    type Rule = FlowRule;

    fn bring(&self, packets: &FlowMatch, queue: u16) -> Result<FlowRule, PortError> {
        Port::bring(self, packets, queue)
    }
}

/// The rules of one port: which packets, to which queue.
pub(super) struct Rules<R> {
    installed: BTreeMap<FlowMatch, (u16, R)>,
    missing: u32,
    /// The last one that was tried. The next time begins behind it: one that is always refused keeps nobody waiting.
    tried: Option<FlowMatch>,
}

impl<R> Default for Rules<R> {
    fn default() -> Rules<R> {
        Rules {
            installed: BTreeMap::new(),
            missing: 0,
            tried: None,
        }
    }
}

impl<R> Rules<R> {
    /// Takes away what is not wanted any more, and adds what is missing, some changes at a time. What the port says
    /// of one that it refuses is the answer.
    pub(super) fn follow(
        &mut self,
        port: &impl TakesRules<Rule = R>,
        wanted: &BTreeMap<FlowMatch, u16>,
    ) -> Option<PortError> {
        let before = self.installed.len();
        let mut removals = CHANGES;
        self.installed.retain(|packets, (queue, _)| {
            let stays = wanted.get(packets) == Some(queue) || removals == 0;
            removals -= usize::from(!stays);
            stays
        });
        let removed = before - self.installed.len();
        let refused = self.add(port, wanted, CHANGES - removed);
        let has = |packets: &&FlowMatch| self.installed.contains_key(*packets);
        self.missing = (wanted.len() - wanted.keys().filter(has).count()) as u32;
        refused
    }

    /// Adds at most so many of those that are missing, in turn.
    fn add(
        &mut self,
        port: &impl TakesRules<Rule = R>,
        wanted: &BTreeMap<FlowMatch, u16>,
        most: usize,
    ) -> Option<PortError> {
        let turn = self.tried.map_or(Unbounded, Excluded);
        let behind = wanted.range((turn, Unbounded));
        let before = self.tried.map(|tried| wanted.range(..=tried));
        let in_turn = behind.chain(before.into_iter().flatten());
        let is_missing = |packets: &FlowMatch| !self.installed.contains_key(packets);
        let missing: Vec<_> = in_turn
            .filter(|(packets, _)| is_missing(packets))
            .take(most)
            .map(|(packets, queue)| (*packets, *queue))
            .collect();
        let mut refused = Vec::new();
        for (packets, queue) in missing {
            self.tried = Some(packets);
            match port.bring(&packets, queue) {
                Ok(rule) => drop(self.installed.insert(packets, (queue, rule))),
                Err(error) => refused.push(error),
            }
            if refused.len() == REFUSALS {
                break;
            }
        }
        refused.pop()
    }

    /// For `show`.
    pub(super) fn view(&self) -> FlowRules {
        FlowRules {
            installed: self.installed.len() as u32,
            missing: self.missing,
        }
    }
}

impl Rules<FlowRule> {
    /// Leaves them to a port that closes because its device has gone.
    pub(super) fn leave(self) {
        let rules = self.installed.into_values();
        rules.for_each(|(_, rule)| rule.leave());
    }
}

/// The worker of each server that rules are for. Of one whose clients several workers have (some have addresses lent
/// to them), the one with most of them.
pub(super) fn servers(peers: &[(WorkerId, PeerView)]) -> BTreeMap<Ipv4Addr, WorkerId> {
    let mut clients: BTreeMap<(Ipv4Addr, WorkerId), u64> = BTreeMap::new();
    for (worker, view) in peers {
        *clients.entry((view.peer, *worker)).or_default() += u64::from(view.clients);
    }
    let mut order: Vec<_> = clients.into_iter().collect();
    order.sort_by_key(|((peer, worker), clients)| (u64::MAX - clients, *peer, *worker));
    let mut servers = BTreeMap::new();
    for ((peer, worker), _) in order {
        if servers.len() < SERVERS {
            servers.entry(peer).or_insert(worker);
        }
    }
    servers
}

/// The rules that a port should have: inside, for what goes to the servers; outside, for what comes from them.
/// So many workers have a queue there, each the one with its number.
pub(super) fn wanted(
    servers: &BTreeMap<Ipv4Addr, WorkerId>,
    side: Side,
    queues: u16,
) -> BTreeMap<FlowMatch, u16> {
    let way = match side {
        Side::Inside => FlowWay::To,
        Side::Outside => FlowWay::From,
        Side::None => return BTreeMap::new(),
    };
    let of = |(host, worker): (&Ipv4Addr, &WorkerId)| {
        let (host, queue) = (*host, u16::from(worker.0));
        TRAFFIC.map(|traffic| (FlowMatch { host, way, traffic }, queue))
    };
    let all = servers.iter().flat_map(of);
    all.filter(|(_, queue)| *queue < queues).collect()
}

/// What a port is asked at its start, to see whether it takes rules: of a network for documentation (RFC 5737).
pub(super) const FOR_EXAMPLE: FlowMatch = FlowMatch {
    host: Ipv4Addr::new(192, 0, 2, 1),
    way: FlowWay::From,
    traffic: FlowTraffic::Esp,
};

#[cfg(test)]
mod tests;
