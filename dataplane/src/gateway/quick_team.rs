//! What several workers add to the path of an ordinary packet: those of others leave a burst before
//! it is decided, and come to their owner as a burst.

use arrayvec::ArrayVec;

use super::quick::{Glance, NOT_ORDINARY};
use super::{Gateway, Item, MAX_HANDOFFS, Meta, Output, Pass};
use crate::packet::{BURST, Burst, Packet};
use crate::session::{Direction, Kind, NIL};
use crate::snapshot::{Snapshot, WorkerId};
use crate::wire::PROTO_ESP;

impl<P: Packet> Gateway<P> {
    /// Decides about packets from anywhere, other workers included. Those in a row of which the same
    /// is known are decided as a burst.
    pub fn process(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        items: ArrayVec<Item<P>, BURST>,
    ) {
        let mut items = items.into_iter().peekable();
        let mut burst = Burst::new();
        while let Some(Item { packet, meta }) = items.next() {
            burst.push(packet);
            while let Some(alike) = items.next_if(|item| item.meta == meta) {
                burst.push(alike.packet);
            }
            self.process_alike(pass, meta, &mut burst);
            burst.clear(); // it is empty
        }
    }

    /// Hands ordinary packets without an entry here to the workers that they belong to, up to the first
    /// packet that is not ordinary, and moves the others to `kept`, in their order.
    #[inline(never)]
    pub(super) fn give_away(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        direction: Direction,
        meta: Meta,
        burst: &mut Burst<P>,
        glances: &mut [Glance; BURST],
        kept: &mut Burst<P>,
    ) {
        if meta.handoffs >= MAX_HANDOFFS {
            return std::mem::swap(burst, kept); // each is refused, or decided here, in its turn
        }
        let given = Meta {
            handoffs: meta.handoffs + 1,
            ..meta
        };
        let mut in_turn = false;
        for (at, packet) in burst.drain(..).enumerate() {
            // One that is not ordinary may be of the same flow as those behind it: none overtakes it.
            in_turn |= glances[at].head.protocol == NOT_ORDINARY;
            if !in_turn
                && let Some(owner) = self.other_owner(pass.snapshot, direction, meta, &glances[at])
            {
                let meta = given;
                pass.out.hand_off(owner, Item { packet, meta });
                continue;
            }
            if at != kept.len() {
                glances[kept.len()] = glances[at];
            }
            kept.push(packet);
        }
    }

    /// The worker that an ordinary packet without an entry here belongs to, if that is another one.
    #[inline]
    fn other_owner(
        &self,
        snapshot: &Snapshot,
        direction: Direction,
        meta: Meta,
        glance: &Glance,
    ) -> Option<WorkerId> {
        let head = &glance.head;
        if glance.guess != NIL || matches!(head.protocol, NOT_ORDINARY | PROTO_ESP) {
            return None;
        }
        let key = head.key();
        let shared = self.owner_of_shared(snapshot, meta, (direction, head.protocol, key));
        let owner =
            shared.unwrap_or_else(|| self.owner_of_entry(snapshot, direction, head.protocol, key));
        // The first guess may be wrong. A client's entries are all its worker's; whose a port is can
        // change, once it has no entry.
        let is_here = || {
            let kind = Kind::new(direction, snapshot.vrf(meta.port), head.protocol);
            let found = self.table.find(glance.hash, kind, key);
            found.is_some()
        };
        let is_other = owner != self.options.me && (direction == Direction::Out || !is_here());
        is_other.then_some(owner)
    }
}
