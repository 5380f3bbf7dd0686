//! Packets of halves that stand, on their quick way: found, and noted, and nothing else.
//!
//! The full way ([`Engine::outbound_esp`], [`Engine::inbound_esp`]) decides about a half first. Then its
//! caller may [approve](Engine::approve_out) it for one snapshot of the configuration, with the
//! neighbour that its packets go to; what is found here has been approved so.

use std::net::Ipv4Addr;

use super::engine::Engine;
use super::half::HalfState;
use super::inbound::REPLAY_WINDOW;
use crate::session::{Direction, HOP_UNKNOWN};
use crate::snapshot::{InsideHost, VrfId};
use crate::time::Millis;

/// A half that stands, and what its packets need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Established {
    /// Its place, for [`Engine::used_out`] and [`Engine::used_in`].
    pub place: u32,
    /// The address that takes the place of the client's, or of the global one. Where packets go is the
    /// neighbour's affair: here a client's VRF no longer matters.
    pub address: Ipv4Addr,
    /// The neighbour's place in the forwarding table.
    pub neighbour: u16,
}

/// For which snapshot a half was approved, for packets that arrive in which VRF, and where they go: in
/// one word, so that a packet compares it at once. From the top: generation, VRF, neighbour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Approval(u64);

impl Default for Approval {
    fn default() -> Approval {
        Approval::new(0, VrfId::GLOBAL, HOP_UNKNOWN)
    }
}

impl Approval {
    fn new(generation: u32, vrf: VrfId, neighbour: u16) -> Approval {
        Approval(u64::from(generation) << 32 | u64::from(vrf.0) << 16 | u64::from(neighbour))
    }

    #[inline(always)]
    fn neighbour(self, generation: u32, vrf: VrfId) -> Option<u16> {
        let neighbour = self.0 as u16;
        let holds = (self.0 ^ Approval::new(generation, vrf, 0).0) >> 16 == 0;
        (holds && neighbour != HOP_UNKNOWN).then_some(neighbour)
    }
}

impl<T> Engine<T> {
    /// The hash of a packet's half, whose place in memory is asked for. `addresses` are the packet's
    /// destination, in the upper half, and source; `vrf` is that of its port, if it is from inside.
    #[inline(always)]
    #[must_use]
    pub fn prefetch(&self, direction: Direction, vrf: VrfId, addresses: u64, spi: u32) -> u64 {
        let (source, destination) = (addresses as u32, (addresses >> 32) as u32);
        let address = Ipv4Addr::from_bits(source);
        let destination = Ipv4Addr::from_bits(destination);
        match direction {
            Direction::Out => {
                let client = InsideHost { vrf, address };
                let hash = self.outs.hash(&(client, destination, spi));
                self.outs.prefetch(hash);
                hash
            }
            Direction::In => {
                let hash = self.ins.hash(&(address, destination, spi));
                self.ins.prefetch(hash);
                hash
            }
        }
    }

    /// Where the half with this hash may be; the memory is asked for it.
    #[inline(always)]
    #[must_use]
    pub fn guess(&self, direction: Direction, hash: u64) -> u32 {
        match direction {
            Direction::Out => self.outs.guess(hash),
            Direction::In => self.ins.guess(hash),
        }
    }

    /// The outbound half of a packet, if its packets are sent and nothing about it is in question.
    #[inline]
    #[must_use]
    pub fn established_out(
        &self,
        guess: u32,
        (client, peer, spi): (InsideHost, Ipv4Addr, u32),
        generation: u32,
    ) -> Option<Established> {
        let place = self.outs.find_guessed(guess, &(client, peer, spi))?;
        let out = &self.outs[place];
        let neighbour = out.approval.neighbour(generation, client.vrf)?;
        let is_old = self.is_old(out.used);
        (out.state != HalfState::Queued && !is_old).then_some(Established {
            place,
            address: out.global,
            neighbour,
        })
    }

    /// The inbound half of a packet, if it is proven and the sequence number is no surprise.
    /// `vrf` is that of the port where the packet arrived.
    #[inline]
    #[must_use]
    pub fn established_in(
        &self,
        guess: u32,
        vrf: VrfId,
        (peer, global, spi): (Ipv4Addr, Ipv4Addr, u32),
        sequence: u32,
        generation: u32,
    ) -> Option<Established> {
        let place = self.ins.find_guessed(guess, &(peer, global, spi))?;
        let inbound = &self.ins[place];
        let neighbour = inbound.approval.neighbour(generation, vrf)?;
        let late = sequence.saturating_add(REPLAY_WINDOW) < inbound.last_sequence;
        let is_old = self.is_old(inbound.used);
        (inbound.confirmed && !late && !is_old).then_some(Established {
            place,
            address: inbound.client.address,
            neighbour,
        })
    }

    /// Whether `esp-timeout` may be over.
    #[inline]
    fn is_old(&self, used: Millis) -> bool {
        let since = self.now.since(used);
        self.timers.esp_ms.is_some_and(|timeout| since >= timeout)
    }

    /// A packet of an established outbound half was sent.
    #[inline(always)]
    pub fn used_out(&mut self, now: Millis, place: u32, sequence: u32) {
        self.advance(now);
        let now = self.now;
        let out = &mut self.outs[place];
        out.used = now;
        out.last_sequence = out.last_sequence.max(sequence);
    }

    /// A packet of an established inbound half was delivered.
    #[inline(always)]
    pub fn used_in(&mut self, now: Millis, place: u32, sequence: u32) {
        self.advance(now);
        let now = self.now;
        let inbound = &mut self.ins[place];
        inbound.used = now;
        inbound.last_sequence = inbound.last_sequence.max(sequence);
    }

    /// As long as the snapshot of this generation is in force, packets of an outbound half need not
    /// be judged, and go to this neighbour.
    pub fn approve_out(
        &mut self,
        (client, peer, spi): (InsideHost, Ipv4Addr, u32),
        generation: u32,
        neighbour: u16,
    ) {
        if let Some(place) = self.outs.find(&(client, peer, spi)) {
            self.outs[place].approval = Approval::new(generation, client.vrf, neighbour);
        }
    }

    /// [`Engine::approve_out`] for an inbound half, whose packets arrive in this VRF.
    pub fn approve_in(
        &mut self,
        vrf: VrfId,
        (peer, global, spi): (Ipv4Addr, Ipv4Addr, u32),
        generation: u32,
        neighbour: u16,
    ) {
        if let Some(place) = self.ins.find(&(peer, global, spi)) {
            self.ins[place].approval = Approval::new(generation, vrf, neighbour);
        }
    }
}
