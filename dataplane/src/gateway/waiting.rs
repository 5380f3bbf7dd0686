//! Packets that wait for a next hop's MAC address: few, and not for long (RFC 1122 2.3.2.2).

use std::collections::VecDeque;

use crate::fib::{Fib, Neighbour, NextHop};
use crate::stats::DropReason;
use crate::time::Millis;

/// Next hops that packets may wait for at once.
const HOPS: usize = 64;
/// Packets that may wait for one next hop: as many as a fast host sends until ARP has answered.
const PACKETS: usize = 512;
/// Packets that may wait in all.
const PACKETS_IN_ALL: usize = 1024;
/// The question for a next hop is put again after this time: it may have got lost on its way to
/// the kernel, which has its own patience with the host.
const ASK_AGAIN_MS: u64 = 100;
/// The kernel asks three times, a second apart, before it gives a neighbour up.
const PATIENCE_MS: u64 = 3500;

#[derive(Debug)]
struct Queue<P> {
    hop: NextHop,
    since: Millis,
    asked: Millis,
    packets: VecDeque<P>,
}

/// What became of a packet that waited.
#[derive(Debug)]
pub(super) enum Outcome<P> {
    /// The MAC address is known now.
    GoOn(P),
    /// The wait was for nothing.
    Drop(DropReason, P),
}

/// The waiting packets, each with whatever the caller wants to know about it again.
#[derive(Debug)]
pub(super) struct Waiting<P> {
    queues: Vec<Queue<P>>,
    held: usize,
    /// Emptied queues, whose memory is used again.
    spare: Vec<VecDeque<P>>,
}

impl<P> Waiting<P> {
    pub(super) fn new() -> Waiting<P> {
        Waiting {
            queues: Vec::with_capacity(HOPS),
            held: 0,
            spare: (0..HOPS)
                .map(|_| VecDeque::with_capacity(PACKETS))
                .collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Lets a packet wait. `Ok(true)`: it is the first for this next hop, which must be asked for.
    /// The packet comes back where there is no room.
    pub(super) fn hold(&mut self, now: Millis, hop: NextHop, packet: P) -> Result<bool, P> {
        if self.held == PACKETS_IN_ALL {
            return Err(packet);
        }
        if let Some(queue) = self.queues.iter_mut().find(|q| q.hop == hop) {
            if queue.packets.len() == PACKETS {
                return Err(packet);
            }
            queue.packets.push_back(packet);
            self.held += 1;
            return Ok(false);
        }
        let Some(mut packets) = self.spare.pop() else {
            return Err(packet);
        };
        packets.push_back(packet);
        self.held += 1;
        self.queues.push(Queue {
            hop,
            since: now,
            asked: now,
            packets,
        });
        Ok(true)
    }

    /// The next hops that have to be asked for again.
    pub(super) fn questions(&mut self, now: Millis) -> impl Iterator<Item = NextHop> + '_ {
        let due = move |queue: &mut Queue<P>| {
            let due = now.since(queue.asked) >= ASK_AGAIN_MS;
            if due {
                queue.asked = now;
            }
            due.then_some(queue.hop)
        };
        self.queues.iter_mut().filter_map(due)
    }

    /// Gives all packets to `release`.
    pub(super) fn clear(&mut self, mut release: impl FnMut(P)) {
        for Queue { mut packets, .. } in self.queues.drain(..) {
            packets.drain(..).for_each(&mut release);
            self.spare.push(packets);
        }
        self.held = 0;
    }

    /// One packet whose wait is over, in order of arrival for each next hop; `None` when there is
    /// none left.
    pub(super) fn next(&mut self, now: Millis, fib: &Fib) -> Option<Outcome<P>> {
        let mut at = 0;
        while let Some(queue) = self.queues.get_mut(at) {
            let fate = match fib.neighbour(queue.hop) {
                Some((_, Neighbour::Reachable(_))) => None,
                Some((_, Neighbour::Failed)) => Some(DropReason::NeighbourFailed),
                None if now.since(queue.since) >= PATIENCE_MS => Some(DropReason::NeighbourTimeout),
                None => {
                    at += 1;
                    continue;
                }
            };
            match queue.packets.pop_front() {
                Some(packet) => {
                    self.held -= 1;
                    return Some(match fate {
                        None => Outcome::GoOn(packet),
                        Some(reason) => Outcome::Drop(reason, packet),
                    });
                }
                None => {
                    let queue = self.queues.swap_remove(at);
                    self.spare.push(queue.packets);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::PortId;

    fn hop(last: u8) -> NextHop {
        NextHop {
            port: PortId(0),
            address: [10, 0, 0, last].into(),
        }
    }

    fn fib(known: &[(NextHop, Neighbour)]) -> Fib {
        Fib::new([], known.iter().copied())
    }

    #[test]
    fn packets_leave_in_order_once_the_address_is_known() {
        let mut waiting = Waiting::new();
        assert_eq!(waiting.hold(Millis(0), hop(1), 1), Ok(true));
        assert_eq!(waiting.hold(Millis(1), hop(1), 2), Ok(false));
        assert_eq!(waiting.hold(Millis(1), hop(2), 3), Ok(true));
        assert!(waiting.next(Millis(5), &fib(&[])).is_none());
        let known = fib(&[(hop(1), Neighbour::Reachable([7; 6]))]);
        for wanted in [1, 2] {
            let Some(Outcome::GoOn(packet)) = waiting.next(Millis(5), &known) else {
                panic!("held")
            };
            assert_eq!(packet, wanted);
        }
        assert!(waiting.next(Millis(5), &known).is_none());
        assert!(!waiting.is_empty(), "the other next hop is still unknown");
    }

    #[test]
    fn gives_up_after_its_patience_or_a_failure() {
        let mut waiting = Waiting::new();
        let _ = waiting.hold(Millis(0), hop(1), 1);
        let _ = waiting.hold(Millis(0), hop(2), 2);
        let failed = fib(&[(hop(2), Neighbour::Failed)]);
        let Some(Outcome::Drop(reason, 2)) = waiting.next(Millis(1), &failed) else {
            panic!("kept")
        };
        assert_eq!(reason, DropReason::NeighbourFailed);
        assert!(waiting.next(Millis(PATIENCE_MS - 1), &failed).is_none());
        let Some(Outcome::Drop(reason, 1)) = waiting.next(Millis(PATIENCE_MS), &failed) else {
            panic!("kept")
        };
        assert_eq!(reason, DropReason::NeighbourTimeout);
    }

    #[test]
    fn is_bounded() {
        let mut waiting = Waiting::new();
        let held = (0..1000)
            .filter(|_| waiting.hold(Millis(0), hop(1), 0).is_ok())
            .count();
        assert_eq!(held, PACKETS);
        let hops = (2..=255)
            .filter(|n| waiting.hold(Millis(0), hop(*n), 0).is_ok())
            .count();
        assert_eq!(hops, HOPS - 1);
        let mut more = 0;
        for last in 2..=HOPS as u8 {
            more += (0..PACKETS)
                .filter(|_| waiting.hold(Millis(0), hop(last), 0).is_ok())
                .count();
        }
        assert_eq!(held + hops + more, PACKETS_IN_ALL);
    }

    #[test]
    fn asks_again_until_it_knows() {
        let mut waiting = Waiting::new();
        let _ = waiting.hold(Millis(0), hop(1), 0);
        assert_eq!(waiting.questions(Millis(ASK_AGAIN_MS - 1)).count(), 0);
        assert_eq!(waiting.questions(Millis(ASK_AGAIN_MS)).next(), Some(hop(1)));
        assert_eq!(waiting.questions(Millis(ASK_AGAIN_MS + 1)).count(), 0);
        assert_eq!(waiting.questions(Millis(2 * ASK_AGAIN_MS)).count(), 1);
    }
}
