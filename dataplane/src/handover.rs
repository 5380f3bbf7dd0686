//! Packets on their way between workers: a bounded ring for each ordered pair of them, with one
//! writer and one reader, filled and emptied many at a time.
//!
//! What a worker gives others waits in an outbox until there is a burst of it or the round is over,
//! so that both cores touch what they share once a burst and not once a packet. A ring that is full
//! takes no more: the rest is lost, and told.

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::gateway::Item;
use crate::packet::BURST;
use crate::snapshot::{PortId, WorkerId};

/// What one worker gives another.
#[derive(Debug)]
pub enum Passed<P> {
    /// A packet that the other worker owns: it decides about it.
    Process(Item<P>),
    /// A finished packet for a port whose transmit queue the other worker has.
    Transmit(PortId, P),
}

/// One worker's ends of the rings between it and all others.
#[derive(Debug)]
pub struct Peers<P> {
    pub(crate) outboxes: Outboxes<P>,
    pub(crate) inboxes: Vec<Inbox<P>>,
}

/// The ends of all rings between so many workers, by [`WorkerId`]. Each ring has room for `room`
/// packets; there is one for each worker and each of the others.
#[must_use]
pub fn mesh<P>(workers: u8, room: usize) -> Vec<Peers<P>> {
    let mut peers: Vec<Peers<P>> = (0..workers).map(|_| Peers::none()).collect();
    for from in 0..usize::from(workers) {
        for to in 0..usize::from(workers) {
            let outbox = if from == to {
                None
            } else {
                let (ring, inbox) = RingBuffer::new(room);
                peers[to].inboxes.push(Inbox { ring: inbox });
                Some(Outbox {
                    ring,
                    staged: ArrayVec::new(),
                })
            };
            peers[from].outboxes.by_worker.push(outbox);
        }
    }
    peers
}

impl<P> Peers<P> {
    /// Of a worker that is alone.
    #[must_use]
    pub fn none() -> Peers<P> {
        Peers {
            outboxes: Outboxes {
                by_worker: Vec::new(),
            },
            inboxes: Vec::new(),
        }
    }
}

/// What became of packets that were given away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// The other worker has them, to decide about.
    pub(crate) handed: u64,
    /// Its ring was full, or there is no such worker.
    pub(crate) lost: u64,
}

/// What waits to be given to each other worker.
#[derive(Debug)]
pub(crate) struct Outboxes<P> {
    /// None for the worker itself.
    by_worker: Vec<Option<Outbox<P>>>,
}

impl<P> Outboxes<P> {
    /// Lets something wait for another worker; what became of those that waited before, if there
    /// was no room for one more.
    #[inline]
    pub(crate) fn put(&mut self, to: WorkerId, passed: Passed<P>) -> Given {
        let Some(Some(outbox)) = self.by_worker.get_mut(to.index()) else {
            return Given { handed: 0, lost: 1 };
        };
        let mut given = Given::default();
        if outbox.staged.is_full() {
            given = outbox.publish();
        }
        outbox.staged.push(passed);
        given
    }

    /// Gives away all that waits.
    pub(crate) fn publish(&mut self) -> Given {
        let mut all = Given::default();
        for outbox in self.by_worker.iter_mut().flatten() {
            if !outbox.staged.is_empty() {
                let given = outbox.publish();
                all.handed += given.handed;
                all.lost += given.lost;
            }
        }
        all
    }
}

#[derive(Debug)]
struct Outbox<P> {
    ring: Producer<Passed<P>>,
    staged: ArrayVec<Passed<P>, BURST>,
}

impl<P> Outbox<P> {
    fn publish(&mut self) -> Given {
        let wanted = self.staged.len();
        let room = wanted.min(self.ring.slots());
        let handed = self.staged[..room]
            .iter()
            .filter(|passed| matches!(passed, Passed::Process(_)))
            .count();
        let taken = match self.ring.write_chunk_uninit(room) {
            Ok(chunk) => chunk.fill_from_iter(self.staged.drain(..room)),
            Err(_) => 0, // there is less room than it said: that can't be
        };
        debug_assert_eq!(taken, room);
        self.staged.clear();
        Given {
            handed: handed as u64,
            lost: (wanted - room) as u64,
        }
    }
}

/// What one other worker gives.
#[derive(Debug)]
pub(crate) struct Inbox<P> {
    ring: Consumer<Passed<P>>,
}

impl<P> Inbox<P> {
    /// Takes up to `most`, in the order in which they were given; how many there were.
    #[inline]
    pub(crate) fn take(&mut self, most: usize, take: impl FnMut(Passed<P>)) -> usize {
        let count = self.ring.slots().min(most);
        if count == 0 {
            return 0;
        }
        match self.ring.read_chunk(count) {
            Ok(chunk) => {
                chunk.into_iter().for_each(take);
                count
            }
            Err(_) => 0, // there is less than it said: that can't be
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn numbers(peers: &mut Peers<u32>, most: usize) -> Vec<u32> {
        let mut numbers = Vec::new();
        for inbox in &mut peers.inboxes {
            inbox.take(most, |passed| match passed {
                Passed::Transmit(_, number) => numbers.push(number),
                Passed::Process(_) => panic!("nobody gave that"),
            });
        }
        numbers
    }

    #[test]
    fn each_gets_what_is_for_it_and_nobody_has_a_ring_to_itself() {
        let mut peers = mesh::<u32>(3, 8);
        for from in 0..3u8 {
            for to in 0..3u8 {
                let number = u32::from(from * 10 + to);
                let given = peers[usize::from(from)]
                    .outboxes
                    .put(WorkerId(to), Passed::Transmit(PortId(0), number));
                assert_eq!(given.lost, u64::from(from == to));
            }
        }
        assert_eq!(
            numbers(&mut peers[1], 9),
            [0; 0],
            "nothing is given before the end"
        );
        for peers in &mut peers {
            assert_eq!(peers.outboxes.publish(), Given::default());
        }
        assert_eq!(numbers(&mut peers[0], 9), [10, 20]);
        assert_eq!(numbers(&mut peers[1], 9), [1, 21]);
        assert_eq!(numbers(&mut peers[2], 9), [2, 12]);
    }

    proptest! {
        /// Beside a queue: what is put waits, up to a burst; what is published and fits is in the
        /// ring; the rest is lost and told.
        #[test]
        fn agrees_with_a_queue(room in 1usize..80, steps in proptest::collection::vec((0u8..3, 0usize..70), 1..60)) {
            let mut peers = mesh::<u32>(2, room);
            let (mut waits, mut ring) = (VecDeque::new(), VecDeque::new());
            let mut next = 0;
            for (what, count) in steps {
                let mut lost = 0;
                let mut publish = |waits: &mut VecDeque<u32>, ring: &mut VecDeque<u32>| {
                    for number in waits.drain(..) {
                        if ring.len() < room { ring.push_back(number) } else { lost += 1 }
                    }
                };
                let told = match what {
                    0 => {
                        let mut told = 0;
                        for _ in 0..count {
                            if waits.len() == BURST {
                                publish(&mut waits, &mut ring);
                            }
                            waits.push_back(next);
                            told += peers[0].outboxes.put(WorkerId(1), Passed::Transmit(PortId(0), next)).lost;
                            next += 1;
                        }
                        told
                    }
                    1 => {
                        publish(&mut waits, &mut ring);
                        peers[0].outboxes.publish().lost
                    }
                    _ => {
                        let wanted: Vec<u32> = ring.drain(..count.min(ring.len())).collect();
                        prop_assert_eq!(numbers(&mut peers[1], count), wanted);
                        0
                    }
                };
                prop_assert_eq!(told, lost);
            }
        }
    }
}
