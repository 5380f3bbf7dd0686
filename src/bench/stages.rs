//! What the stages of a packet's way cost: the pipeline cut off after each of them.
//!
//! Each cut is measured in windows of its own, in turn with the others and with the worker's whole
//! round, and a stage is the difference between the minima of two cuts; what sending takes is measured
//! by itself, and is the rest of what the ports take. The stages that are the
//! worker's own business, next hop, counters and loop, are what is left of the whole.

use std::hint::black_box;

use spillway_dataplane::packet::{BURST, Burst, Packet, RxQueue, TxQueue};
use spillway_dataplane::session::{Direction, Kind, NIL};
use spillway_dataplane::snapshot::{PortId, VrfId};
use spillway_dataplane::table::Table;
use spillway_dataplane::wire::head::{Head, Macs, mac_word};
use spillway_dpdk::cycles;

use super::memory::{MemoryPacket, Sink, Source};
use super::rig::INSIDE;
use super::traffic::{INSIDE_MAC, OUTSIDE_MAC, ROUTER_MAC};

/// Where the pipeline is cut off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    /// Packets made, and their buffers taken back.
    Ports,
    /// And their headers read.
    Parse,
    /// And their entries looked up.
    LookUp,
    /// And their headers written.
    Rewrite,
}

impl Cut {
    pub(super) const ALL: [Cut; 4] = [Cut::Ports, Cut::Parse, Cut::LookUp, Cut::Rewrite];
}

/// A direction's packets and where they come from.
pub(super) struct Lane {
    pub(super) source: Source,
    pub(super) port: PortId,
}

#[derive(Clone, Copy)]
struct Looked {
    head: Head,
    hash: u64,
    at: u32,
}

const NOTHING: Looked = Looked {
    head: Head {
        addresses: 0,
        ports: 0,
        total_len: 0,
        protocol: 0,
        detail: 0,
    },
    hash: 0,
    at: NIL,
};

/// A burst from each lane through the pipeline up to the cut. Returns the cycles between its
/// packets' arrival and their leaving, two readings of the counter included.
pub(super) fn pass(cut: Cut, table: &Table, lanes: &mut [Lane], sink: &mut Sink) -> u64 {
    let mut between = 0;
    for Lane { source, port } in lanes {
        let mut burst = Burst::new();
        source.receive(&mut burst);
        let begin = cycles();
        if cut >= Cut::Parse {
            work(cut, table, *port, &mut burst);
        }
        between += cycles().saturating_sub(begin);
        sink.transmit(&mut burst);
    }
    between
}

/// A burst from each lane, sent as it came. Returns the cycles that sending takes, one reading of the
/// counter included.
pub(super) fn emit(lanes: &mut [Lane], sink: &mut Sink) -> u64 {
    let mut sending = 0;
    for Lane { source, .. } in lanes {
        let mut burst = Burst::new();
        source.receive(&mut burst);
        let begin = cycles();
        sink.transmit(&mut burst);
        sending += cycles().saturating_sub(begin);
    }
    sending
}

#[inline(never)]
fn work(cut: Cut, table: &Table, port: PortId, burst: &mut Burst<MemoryPacket>) {
    let (direction, mac) = if port == INSIDE {
        (Direction::Out, mac_word(INSIDE_MAC))
    } else {
        (Direction::In, mac_word(OUTSIDE_MAC))
    };
    let kind = |head: Head| Kind::new(direction, VrfId::GLOBAL, head.protocol);
    let hasher = table.hasher(Kind::new(direction, VrfId::GLOBAL, 0));
    let mut looked = [NOTHING; BURST];
    for (packet, looked) in burst.iter().zip(&mut looked) {
        let Some(head) = Head::read(packet.data(), mac, true) else {
            continue;
        };
        looked.head = head;
        if cut >= Cut::LookUp {
            looked.hash = hasher.hash(head.protocol, head.addresses, head.ports);
            table.prefetch_index(looked.hash);
        }
    }
    if cut >= Cut::LookUp {
        for looked in looked.iter_mut().take(burst.len()) {
            looked.at = table.prefetch_entry(looked.hash);
        }
        let macs = Macs::new(ROUTER_MAC, INSIDE_MAC);
        for (packet, looked) in burst.iter_mut().zip(&looked) {
            let Looked { head, hash, .. } = *looked;
            let is_it = |at: &u32| {
                (*at as usize) < table.capacity() && {
                    let session = table.session(*at);
                    session.keys[direction as usize] == head.key()
                        && session.protocol == head.protocol
                }
            };
            let at = Some(looked.at)
                .filter(is_it)
                .or_else(|| table.find(hash, kind(head), head.key()));
            let Some(at) = at else { continue };
            if cut >= Cut::Rewrite {
                let change = table.session(at).change(direction, macs);
                change.apply(packet.data_mut(), head.protocol);
            } else {
                black_box(at);
            }
        }
    }
    black_box(&looked);
}
