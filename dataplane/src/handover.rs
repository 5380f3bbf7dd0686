//! Packets on their way between workers: a bounded ring for each ordered pair of them, with one
//! writer and one reader, filled and emptied many at a time.
//!
//! What a worker gives others waits in an outbox until there is a burst of it or the round is over,
//! so that both cores touch what they share once a burst and not once a packet. A ring that is full
//! takes no more: the rest is lost, and told.

use arrayvec::ArrayVec;
use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::gateway::{Asking, Item, Meta};
use crate::packet::BURST;
use crate::snapshot::{PortId, WorkerId};

/// What one worker gives another.
#[derive(Debug)]
pub enum Passed<P> {
    /// A packet that the other worker owns: it decides about it. By far most are such: only the port
    /// that they arrived on is known of them, and how many workers have handed them on.
    Plain(PortId, u8, P),
    /// One of which more is known.
    Process(Item<P>),
    /// One for which its worker needs ports.
    Ask(Box<Asking<P>>),
    /// A finished packet for a port whose transmit queue the other worker has.
    Transmit(PortId, P),
}

impl<P> From<Item<P>> for Passed<P> {
    #[inline]
    fn from(item: Item<P>) -> Passed<P> {
        let Item { packet, meta } = item;
        if meta == Meta::handed(meta.port, meta.handoffs) {
            Passed::Plain(meta.port, meta.handoffs, packet)
        } else {
            Passed::Process(Item { packet, meta })
        }
    }
}

impl<P> Passed<P> {
    fn is_to_process(&self) -> bool {
        !matches!(self, Passed::Transmit(..))
    }
}

/// Packets that may wait for one worker from all others, and at least from each of them.
const PASSED: usize = 4096;
const PASSED_FROM_EACH: usize = 256;

/// How many packets fit into the ring from one of so many workers to another.
#[must_use]
pub fn room_between(workers: u8) -> usize {
    let others = usize::from(workers).saturating_sub(1).max(1);
    (PASSED / others).max(PASSED_FROM_EACH)
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
                peers[to].inboxes.push(Inbox {
                    ring: inbox,
                    seen: 0,
                });
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
        // Asking how much room there is would read what the other core writes: it is enough to hear
        // where there is too little.
        let chunk = match self.ring.write_chunk_uninit(wanted) {
            Err(ChunkError::TooFewSlots(room)) => self.ring.write_chunk_uninit(room),
            chunk => chunk,
        };
        let mut handed = 0;
        let staged = self.staged.drain(..);
        let staged = staged.inspect(|passed| handed += u64::from(passed.is_to_process()));
        let taken = chunk.map_or(0, |chunk| {
            let room = chunk.len();
            chunk.fill_from_iter(staged.take(room))
        });
        self.staged.clear(); // those for which there was no room
        Given {
            handed,
            lost: (wanted - taken) as u64,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Inbox<P> {
    ring: Consumer<Passed<P>>,
    /// How much of it was seen and not taken yet.
    seen: usize,
}

impl<P> Inbox<P> {
    /// Sees how much there is, up to a burst: it is what the next [`Inbox::take`] takes.
    #[inline]
    pub(crate) fn look(&mut self) {
        self.seen = self.ring.slots().min(BURST);
    }

    /// Shows what was seen.
    #[inline]
    pub(crate) fn show(&mut self, show: impl Fn(&P)) {
        if self.seen == 0 {
            return;
        }
        if let Ok(chunk) = self.ring.read_chunk(self.seen) {
            let (first, rest) = chunk.as_slices();
            for passed in first.iter().chain(rest) {
                match passed {
                    Passed::Plain(_, _, packet)
                    | Passed::Process(Item { packet, .. })
                    | Passed::Transmit(_, packet) => show(packet),
                    Passed::Ask(_) => {}
                }
            }
        }
    }

    /// Takes what was seen, in the order in which it was given; how much it was.
    #[inline]
    pub(crate) fn take(&mut self, take: impl FnMut(Passed<P>)) -> usize {
        let count = std::mem::take(&mut self.seen);
        if count > 0
            && let Ok(chunk) = self.ring.read_chunk(count)
        {
            chunk.into_iter().for_each(take);
        }
        count
    }

    /// Takes all that there is; how much it was.
    pub(crate) fn empty(&mut self) -> usize {
        std::iter::from_fn(|| self.ring.pop().ok()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn numbers(peers: &mut Peers<u32>) -> Vec<u32> {
        let mut numbers = Vec::new();
        for inbox in &mut peers.inboxes {
            inbox.look();
            let seen = std::cell::Cell::new(0);
            inbox.show(|_| seen.set(seen.get() + 1));
            let taken = inbox.take(|passed| match passed {
                Passed::Transmit(_, number) => numbers.push(number),
                _ => panic!("nobody gave that"),
            });
            assert_eq!(taken, seen.get());
            assert_eq!(inbox.take(|_| panic!("not seen yet")), 0);
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
            numbers(&mut peers[1]),
            [0; 0],
            "nothing is given before the end"
        );
        for peers in &mut peers {
            assert_eq!(peers.outboxes.publish(), Given::default());
        }
        assert_eq!(numbers(&mut peers[0]), [10, 20]);
        assert_eq!(numbers(&mut peers[1]), [1, 21]);
        assert_eq!(numbers(&mut peers[2]), [2, 12]);
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
                        let wanted: Vec<u32> = ring.drain(..ring.len().min(BURST)).collect();
                        prop_assert_eq!(numbers(&mut peers[1]), wanted);
                        0
                    }
                };
                prop_assert_eq!(told, lost);
            }
        }
    }
}
