//! What the data plane asks of a packet and of the pool it comes from.
//!
//! The core never sees a DPDK type: `spillway-dpdk` implements these traits over mbufs, tests over
//! byte vectors. A value of a [`Packet`] type *is* the packet; dropping it gives the buffer back.

/// One Ethernet frame in one contiguous buffer, owned by whoever holds the value.
///
/// The frame starts at the destination MAC address and ends with the last octet received, padding
/// included, without the frame check sequence.
pub trait Packet: Send + Sized {
    /// The frame's octets.
    fn data(&self) -> &[u8];

    /// The frame's octets, to be rewritten in place.
    fn data_mut(&mut self) -> &mut [u8];

    /// Makes the frame `len` octets longer at its front; `false` (and nothing changed) where the
    /// buffer has no room. The new octets hold whatever was there.
    #[must_use]
    fn prepend(&mut self, len: usize) -> bool;

    /// Makes the frame `len` octets longer at its end; `false` (and nothing changed) where the
    /// buffer has no room. The new octets hold whatever was there.
    #[must_use]
    fn append(&mut self, len: usize) -> bool;

    /// Cuts the frame to its first `len` octets; a longer `len` changes nothing.
    fn truncate(&mut self, len: usize);

    /// Whether the receiving port has verified the IPv4 header checksum and found it right.
    /// `false` means unknown: software verifies.
    fn ip_checksum_verified(&self) -> bool {
        false
    }

    /// Asks the memory for what is needed first of a packet that another core had: where the frame
    /// is, or its start if the value itself knows that. A hint.
    #[inline]
    fn prefetch_first(&self) {}
}

/// Where new packets come from: ICMP errors, fragments, frames of the kernel twin.
pub trait PacketPool {
    /// The packets of this pool.
    type Packet: Packet;

    /// An empty packet (length 0, headroom before it), or `None` where the pool is exhausted.
    fn alloc(&mut self) -> Option<Self::Packet>;
}

/// Largest number of packets that pass through the data plane at once.
pub const BURST: usize = 32;

/// A burst of packets, in order of arrival.
pub type Burst<P> = arrayvec::ArrayVec<P, BURST>;

/// Octets of all packets of a burst.
#[must_use]
pub fn octets_of<P: Packet>(burst: &Burst<P>) -> u64 {
    burst.iter().map(|packet| packet.data().len() as u64).sum()
}

/// A receive queue of a port, polled by one worker.
pub trait RxQueue: Send {
    /// The packets that it receives.
    type Packet: Packet;

    /// Appends what has arrived to `burst`, as far as it has room, and says how many came.
    fn receive(&mut self, burst: &mut Burst<Self::Packet>) -> usize;

    /// How many packets the queue has freed since the last call because they came in several
    /// buffers and did not fit into one. The caller counts them as received and dropped
    /// ([`NotLinear`](crate::stats::DropReason::NotLinear)).
    fn take_not_linear(&mut self) -> u64 {
        0
    }
}

/// A transmit queue of a port, fed by one worker.
pub trait TxQueue: Send {
    /// The packets that it sends.
    type Packet: Packet;

    /// Sends the burst and leaves it empty. Returns how many packets the port took; the others
    /// are freed, and the caller counts them as dropped.
    fn transmit(&mut self, burst: &mut Burst<Self::Packet>) -> usize;
}
