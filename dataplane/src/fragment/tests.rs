//! The fragment store: named cases, and a slow, obviously right twin.

use proptest::prelude::*;

use super::{FragmentKey, Fragments, LIFETIME_MS, Later, Limits};
use crate::snapshot::VrfId;
use crate::stats::DropReason;
use crate::time::Millis;

const FULL: DropReason = DropReason::FragmentStoreFull;
const SMALL: Limits = Limits {
    known: 3,
    waiting: 3,
    held: 6,
    held_per_datagram: 4,
};

type Store = Fragments<char, u32>;

fn key(id: u16) -> FragmentKey {
    FragmentKey {
        vrf: VrfId::GLOBAL,
        src: 1,
        dst: 2,
        id,
        protocol: 17,
    }
}

/// What [`Fragments::first`] says, and what it releases.
fn first(store: &mut Store, now: u64, id: u16, value: char) -> (Result<(), DropReason>, Vec<u32>) {
    let mut released = Vec::new();
    let said = store.first(Millis(now), key(id), value, |packet| released.push(packet));
    (said, released)
}

fn later(store: &mut Store, now: u64, id: u16, packet: u32) -> Later<char, u32> {
    store.later(Millis(now), key(id), packet)
}

fn expire(store: &mut Store, now: u64, limit: usize) -> (usize, Vec<u32>) {
    let mut expired = Vec::new();
    let forgotten = store.expire(Millis(now), limit, |packet| expired.push(packet));
    (forgotten, expired)
}

#[test]
fn in_order() {
    let mut store = Store::new(SMALL);
    assert_eq!(first(&mut store, 0, 1, 'a'), (Ok(()), vec![]));
    assert_eq!(later(&mut store, 1, 1, 10), Later::Known('a', 10));
    assert_eq!(later(&mut store, 2, 1, 11), Later::Known('a', 11));
    assert_eq!((store.known(), store.waiting(), store.held()), (1, 0, 0));
}

#[test]
fn out_of_order() {
    let mut store = Store::new(SMALL);
    for packet in [12, 10, 11] {
        assert_eq!(later(&mut store, 0, 1, packet), Later::Held);
    }
    assert_eq!((store.known(), store.waiting(), store.held()), (0, 1, 3));
    assert_eq!(first(&mut store, 5, 1, 'a'), (Ok(()), vec![12, 10, 11]));
    assert_eq!((store.known(), store.waiting(), store.held()), (1, 0, 0));
    assert_eq!(later(&mut store, 6, 1, 13), Later::Known('a', 13));
}

#[test]
fn every_field_tells_datagrams_apart() {
    let mut store = Store::new(SMALL);
    assert_eq!(first(&mut store, 0, 1, 'a').0, Ok(()));
    let others = [
        FragmentKey { src: 9, ..key(1) },
        FragmentKey { dst: 9, ..key(1) },
        FragmentKey { id: 9, ..key(1) },
        FragmentKey {
            protocol: 6,
            ..key(1)
        },
    ];
    for other in others {
        let found = store.later(Millis(0), other, 1);
        assert!(!matches!(found, Later::Known(..)), "{other:?}");
    }
}

#[test]
fn first_fragment_again() {
    let mut store = Store::new(SMALL);
    assert_eq!(first(&mut store, 0, 1, 'a').0, Ok(()));
    assert_eq!(first(&mut store, 1500, 1, 'b').0, Ok(()));
    assert_eq!(store.known(), 1);
    // The second one's time counts.
    assert_eq!(later(&mut store, 3000, 1, 10), Later::Known('b', 10));
}

#[test]
fn known_for_its_lifetime() {
    let mut store = Store::new(SMALL);
    assert_eq!(first(&mut store, 100, 1, 'a').0, Ok(()));
    let end = 100 + LIFETIME_MS;
    assert_eq!(expire(&mut store, end - 1, 9), (0, vec![]));
    assert_eq!(later(&mut store, end - 1, 1, 10), Later::Known('a', 10));
    // Over, even if nobody has expired it yet.
    assert_eq!(later(&mut store, end, 1, 11), Later::Held);
    assert_eq!((store.known(), store.waiting()), (0, 1));
}

#[test]
fn held_for_its_lifetime() {
    let mut store = Store::new(SMALL);
    assert_eq!(later(&mut store, 0, 1, 10), Later::Held);
    assert_eq!(later(&mut store, 1999, 1, 11), Later::Held);
    assert_eq!(expire(&mut store, 1999, 9), (0, vec![]));
    assert_eq!(expire(&mut store, 2000, 9), (1, vec![10, 11]));
    assert_eq!((store.known(), store.waiting(), store.held()), (0, 0, 0));
}

#[test]
fn expires_the_oldest_and_no_more_than_asked() {
    let mut store = Store::new(SMALL);
    for (now, id) in [(0, 1), (1, 2), (2, 3)] {
        assert_eq!(later(&mut store, now, id, u32::from(id)), Later::Held);
        assert_eq!(first(&mut store, now, id + 10, 'a').0, Ok(()));
    }
    assert_eq!(expire(&mut store, 2001, 1), (1, vec![1]));
    assert_eq!(expire(&mut store, 2001, 9), (3, vec![2]));
    assert_eq!((store.known(), store.waiting(), store.held()), (1, 1, 1));
}

#[test]
fn endless_first_fragments_are_refused() {
    let mut store = Store::new(SMALL);
    for id in 0..3 {
        assert_eq!(first(&mut store, 0, id, 'a').0, Ok(()));
    }
    for id in 3..1000 {
        assert_eq!(first(&mut store, 1999, id, 'b').0, Err(FULL));
    }
    for id in 0..3 {
        let found = later(&mut store, 1999, id, 1);
        assert_eq!(found, Later::Known('a', 1), "nothing in use gave way");
    }
    // The oldest gives way once its time is over.
    assert_eq!(first(&mut store, 2000, 9, 'c').0, Ok(()));
    assert_eq!(store.known(), 3);
    assert_eq!(later(&mut store, 2000, 9, 1), Later::Known('c', 1));
}

#[test]
fn endless_later_fragments_are_refused() {
    let mut store = Store::new(SMALL);
    for id in 0..3 {
        assert_eq!(later(&mut store, 0, id, 1), Later::Held);
    }
    for id in 3..1000 {
        assert_eq!(later(&mut store, 0, id, 7), Later::Refused(FULL, 7));
    }
    // Datagrams in order are none the worse for it.
    assert_eq!(first(&mut store, 0, 2000, 'a').0, Ok(()));
    assert_eq!(later(&mut store, 0, 2000, 8), Later::Known('a', 8));
    assert_eq!(first(&mut store, 0, 1, 'b'), (Ok(()), vec![1]));
}

#[test]
fn packets_of_one_datagram_are_limited() {
    let mut store = Store::new(SMALL);
    for packet in 0..4 {
        assert_eq!(later(&mut store, 0, 1, packet), Later::Held);
    }
    assert_eq!(later(&mut store, 0, 1, 4), Later::Refused(FULL, 4));
    assert_eq!(later(&mut store, 0, 2, 5), Later::Held);
}

#[test]
fn packets_in_all_are_limited() {
    let mut store = Store::new(SMALL);
    for packet in 0..6 {
        assert_eq!(
            later(&mut store, 0, 1 + (packet / 4) as u16, packet),
            Later::Held
        );
    }
    assert_eq!(later(&mut store, 0, 2, 6), Later::Refused(FULL, 6));
    assert_eq!(later(&mut store, 0, 3, 7), Later::Refused(FULL, 7));
    assert_eq!((store.waiting(), store.held()), (2, 6));
}

#[test]
fn waiting_packets_are_released_even_if_the_rest_can_not_be_known() {
    let mut store = Store::new(SMALL);
    for id in 0..3 {
        assert_eq!(first(&mut store, 0, id, 'a').0, Ok(()));
    }
    assert_eq!(later(&mut store, 0, 9, 1), Later::Held);
    assert_eq!(first(&mut store, 0, 9, 'b'), (Err(FULL), vec![1]));
    assert_eq!((store.known(), store.waiting(), store.held()), (3, 0, 0));
}

#[test]
fn clear_gives_every_packet_back() {
    let mut store = Store::new(SMALL);
    assert_eq!(first(&mut store, 0, 1, 'a').0, Ok(()));
    for (id, packet) in [(2, 20), (3, 30), (2, 21)] {
        assert_eq!(later(&mut store, 0, id, packet), Later::Held);
    }
    let mut released = Vec::new();
    store.clear(|packet| released.push(packet));
    assert_eq!(released, [20, 21, 30]);
    assert_eq!((store.known(), store.waiting(), store.held()), (0, 0, 0));
    assert_eq!(later(&mut store, 0, 1, 1), Later::Held);
}

/// Places that memory was taken for: entries, held packets, and index. The index may come out
/// smaller, since it counts traces of removed keys until it clears them away.
fn room(store: &Store) -> ([usize; 4], usize) {
    let vectors = [
        store.entries.capacity(),
        store.free_entries.capacity(),
        store.held.capacity(),
        store.free_held.capacity(),
    ];
    (vectors, store.index.capacity())
}

#[test]
fn full_store_in_motion_never_allocates() {
    let mut store = Store::new(Limits {
        known: 700,
        waiting: 300,
        ..Limits::default()
    });
    let before = room(&store);
    for round in 0..200_000u64 {
        // An odd multiplier, so that identifications come in no order.
        let id = (round.wrapping_mul(40_503) >> 3) as u16;
        if round % 3 == 0 {
            let _ = later(&mut store, round, id, 0);
        } else {
            let _ = first(&mut store, round, id, 'a');
        }
        expire(&mut store, round, 1);
        let now = room(&store);
        assert!(now.0 == before.0 && now.1 <= before.1, "round {round}");
    }
    assert_eq!((store.known(), store.waiting()), (700, 300));
}

#[test]
fn no_room_at_all() {
    let mut store = Store::new(Limits {
        known: 0,
        waiting: 0,
        held: 0,
        held_per_datagram: 0,
    });
    assert_eq!(first(&mut store, 0, 1, 'a'), (Err(FULL), vec![]));
    assert_eq!(later(&mut store, 0, 1, 1), Later::Refused(FULL, 1));
    assert_eq!(expire(&mut store, 9999, 9), (0, vec![]));
}

/// The same in vectors, searched from end to end; the oldest is in front.
#[derive(Default)]
struct Model {
    known: Vec<(u64, u16, char)>,
    waiting: Vec<(u64, u16, Vec<u32>)>,
}

impl Model {
    fn first(&mut self, now: u64, id: u16, value: char) -> (Result<(), DropReason>, Vec<u32>) {
        let waiting = self.waiting.iter().position(|entry| entry.1 == id);
        let released = waiting.map_or(vec![], |at| self.waiting.remove(at).2);
        self.known.retain(|entry| entry.1 != id);
        if self.known.len() == 3 && now - self.known[0].0 >= LIFETIME_MS {
            self.known.remove(0);
        }
        if self.known.len() == 3 {
            return (Err(FULL), released);
        }
        self.known.push((now, id, value));
        (Ok(()), released)
    }

    fn later(&mut self, now: u64, id: u16, packet: u32) -> Later<char, u32> {
        self.known
            .retain(|entry| entry.1 != id || now - entry.0 < LIFETIME_MS);
        if let Some(entry) = self.known.iter().find(|entry| entry.1 == id) {
            return Later::Known(entry.2, packet);
        }
        let held: usize = self.waiting.iter().map(|entry| entry.2.len()).sum();
        let datagrams = self.waiting.len();
        match self.waiting.iter_mut().find(|entry| entry.1 == id) {
            Some(entry) if held < 6 && entry.2.len() < 4 => entry.2.push(packet),
            None if held < 6 && datagrams < 3 => self.waiting.push((now, id, vec![packet])),
            _ => return Later::Refused(FULL, packet),
        }
        Later::Held
    }

    fn expire(&mut self, now: u64, limit: usize) -> (usize, Vec<u32>) {
        let over = |since: u64| now - since >= LIFETIME_MS;
        let (mut forgotten, mut expired) = (0, Vec::new());
        while forgotten < limit && self.waiting.first().is_some_and(|entry| over(entry.0)) {
            expired.extend(self.waiting.remove(0).2);
            forgotten += 1;
        }
        while forgotten < limit && self.known.first().is_some_and(|entry| over(entry.0)) {
            self.known.remove(0);
            forgotten += 1;
        }
        (forgotten, expired)
    }
}

#[derive(Debug, Clone)]
enum Event {
    First(u16, char),
    Later(u16),
    Expire(usize),
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        3 => (0u16..8, any::<char>()).prop_map(|(id, value)| Event::First(id, value)),
        6 => (0u16..8).prop_map(Event::Later),
        1 => (0usize..4).prop_map(Event::Expire),
    ];
    proptest::collection::vec((0u64..500, event), 0..300)
}

proptest! {
    #[test]
    fn does_what_the_model_does_and_never_allocates(events in events()) {
        let (mut store, mut model) = (Store::new(SMALL), Model::default());
        let before = room(&store);
        let mut now = 0;
        for (packet, (passed, event)) in events.into_iter().enumerate() {
            now += passed;
            let packet = packet as u32;
            match event {
                Event::First(id, value) => prop_assert_eq!(
                    first(&mut store, now, id, value),
                    model.first(now, id, value)
                ),
                Event::Later(id) => prop_assert_eq!(
                    later(&mut store, now, id, packet),
                    model.later(now, id, packet)
                ),
                Event::Expire(limit) => prop_assert_eq!(
                    expire(&mut store, now, limit),
                    model.expire(now, limit)
                ),
            }
            prop_assert_eq!(store.known(), model.known.len());
            prop_assert_eq!(store.waiting(), model.waiting.len());
            let held: usize = model.waiting.iter().map(|entry| entry.2.len()).sum();
            prop_assert_eq!(store.held(), held);
        }
        prop_assert_eq!(room(&store), before);
    }
}
