//! Rules of a card that takes so many, and refuses some, beside what it should have.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// What a card has, how much room, and the hosts whose rules it refuses.
#[derive(Clone, Default)]
struct Card {
    has: Rc<RefCell<BTreeSet<(FlowMatch, u16)>>>,
    room: usize,
    dislikes: BTreeSet<Ipv4Addr>,
    asked: Rc<Cell<usize>>,
}

/// A rule of it, which goes with its value.
struct Held(Card, (FlowMatch, u16));

impl Drop for Held {
    fn drop(&mut self) {
        assert!(self.0.has.borrow_mut().remove(&self.1), "gone before");
    }
}

impl TakesRules for Card {
    type Rule = Held;

    fn bring(&self, packets: &FlowMatch, queue: u16) -> Result<Held, PortError> {
        self.asked.set(self.asked.get() + 1);
        if self.has.borrow().len() == self.room || self.dislikes.contains(&packets.host) {
            return Err(PortError::Open("no".into()));
        }
        let rule = (*packets, queue);
        assert!(self.has.borrow_mut().insert(rule), "twice");
        Ok(Held(self.clone(), rule))
    }
}

fn peer(worker: u8, host: u8, clients: u32) -> (WorkerId, PeerView) {
    let peer = Ipv4Addr::new(203, 0, 113, host);
    (WorkerId(worker), PeerView { peer, clients })
}

#[test]
fn a_server_has_three_rules_a_port_at_its_worker() {
    let servers = servers(&[peer(1, 5, 7), peer(0, 6, 1)]);
    let outside = wanted(&servers, Side::Outside, 2);
    assert_eq!(outside.len(), 6);
    let of = |host: u8, way, traffic| {
        let host = Ipv4Addr::new(203, 0, 113, host);
        FlowMatch { host, way, traffic }
    };
    for traffic in [
        FlowTraffic::Esp,
        FlowTraffic::Udp(500),
        FlowTraffic::Udp(4500),
    ] {
        assert_eq!(outside[&of(5, FlowWay::From, traffic)], 1);
        assert_eq!(outside[&of(6, FlowWay::From, traffic)], 0);
        assert_eq!(
            wanted(&servers, Side::Inside, 2)[&of(5, FlowWay::To, traffic)],
            1
        );
    }
    // A worker without a queue there gets its packets from others.
    assert_eq!(wanted(&servers, Side::Outside, 1).len(), 3);
    assert!(wanted(&servers, Side::None, 2).is_empty());
}

#[test]
fn a_server_goes_where_most_of_its_clients_are() {
    let several = [peer(0, 5, 3), peer(1, 5, 2), peer(1, 5, 2)];
    let host = Ipv4Addr::new(203, 0, 113, 5);
    assert_eq!(servers(&several), BTreeMap::from([(host, WorkerId(1))]));
}

#[test]
fn servers_with_most_clients_go_first() {
    let many: Vec<_> = (0..300u32)
        .map(|n| {
            let peer = Ipv4Addr::from_bits(0xcb00_7100 + n);
            let clients = n;
            (WorkerId(0), PeerView { peer, clients })
        })
        .collect();
    let servers = servers(&many);
    assert_eq!(servers.len(), SERVERS);
    assert_eq!(servers.keys().next(), Some(&many[300 - SERVERS].1.peer));
}

proptest! {
    /// Whatever comes and goes, a card ends with what it should have, as far as it has room and likes it.
    #[test]
    fn a_card_follows(
        steps in proptest::collection::vec((any::<[(u8, u8); 40]>(), 0..=40usize), 1..8),
        room in 0..160usize,
        dislikes in proptest::collection::btree_set(0..64u8, 0..32),
    ) {
        let dislikes = dislikes.into_iter().map(|host| peer(0, host, 1).1.peer).collect();
        let card = Card { room, dislikes, ..Card::default() };
        let mut rules = Rules::default();
        for (peers, count) in steps {
            let peers: Vec<_> = peers[..count].iter().map(|(host, worker)| peer(worker % 3, host % 64, 1)).collect();
            let wanted = wanted(&servers(&peers), Side::Outside, 3);
            // As often as it takes; each time does a bounded piece.
            for _ in 0..(2 * wanted.len()).div_ceil(CHANGES) + 1 + (3 * 64usize).div_ceil(REFUSALS) {
                let before = card.has.borrow().clone();
                card.asked.set(0);
                let refused = rules.follow(&card, &wanted);
                let after = card.has.borrow();
                let added = after.difference(&before).count();
                let refusals = card.asked.get() - added;
                prop_assert!(refusals <= REFUSALS);
                prop_assert_eq!(refused.is_some(), refusals > 0);
                prop_assert!(before.symmetric_difference(&after).count() + refusals <= CHANGES);
            }
            let likes = |packets: &FlowMatch| !card.dislikes.contains(&packets.host);
            let may: BTreeSet<_> = wanted.iter().filter(|(packets, _)| likes(packets)).map(|(packets, queue)| (*packets, *queue)).collect();
            let has = card.has.borrow().clone();
            prop_assert!(has.is_subset(&may));
            prop_assert_eq!(has.len(), may.len().min(room));
            let view = rules.view();
            prop_assert_eq!((view.installed as usize, view.missing as usize), (has.len(), wanted.len() - has.len()));
        }
        drop(rules);
        prop_assert!(card.has.borrow().is_empty());
    }
}
