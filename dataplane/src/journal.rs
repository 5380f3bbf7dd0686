//! What a worker tells while somebody debugs (`debug ip nat ...`), and what is worth a log line.
//!
//! The worker writes into bounded queues and never waits: what finds no room, or comes faster than
//! a terminal can be read, is counted as lost. Nothing at all happens while nobody debugs.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;

use crate::acl::{AccessList, Action, Subject};
use crate::esp;
use crate::gateway::limit::Limiter;
use crate::session::{Direction, Key};
use crate::stats::DropReason;
use crate::time::Millis;
use crate::wire::PROTO_ESP;

/// Lines that may wait for control in one worker's journal.
const LINES: usize = 1024;
/// Lines a second that one worker writes, and at once.
const LINES_PER_SECOND: u64 = 1000;
const LINES_AT_ONCE: u64 = 1000;
/// Notices that may wait for control.
const NOTICES: usize = 64;
/// Milliseconds between two notices of one kind.
const NOTICE_EVERY_MS: u64 = 60_000;

/// What somebody wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// `debug ip nat`: one line for each translated packet.
    Packets,
    /// `debug ip nat ipsec`: one line for each decision about ESP and IKE.
    Ipsec,
}

/// One thing told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A packet was translated.
    Translated(Translated),
    /// A packet was dropped by NAT.
    Refused(Refused),
    /// An entry's timer ran out.
    Expiring(Expiring),
    /// A decision about ESP or IKE.
    Ipsec(esp::Event),
}

/// A packet that was translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translated {
    /// From inside or from outside.
    pub direction: Direction,
    /// Its IP protocol.
    pub protocol: u8,
    /// Its IP identification.
    pub id: u16,
    /// As it came.
    pub from: Key,
    /// As it goes on.
    pub to: Key,
    /// Whether its entry was there already.
    pub known: bool,
}

/// A packet that NAT refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Its IP protocol.
    pub protocol: u8,
    /// As it came.
    pub key: Key,
    /// Why.
    pub reason: DropReason,
    /// The dynamic mapping that should have translated it, where one should have.
    pub rule: Option<u16>,
}

/// An entry that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiring {
    /// Its protocol; 0 for an address entry.
    pub protocol: u8,
    /// Inside global address and port.
    pub global: (Ipv4Addr, u16),
    /// Inside local address and port.
    pub local: (Ipv4Addr, u16),
}

impl Line {
    fn topic(&self) -> Topic {
        match self {
            Line::Ipsec(_) => Topic::Ipsec,
            _ => Topic::Packets,
        }
    }

    /// What access lists look at.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let (protocol, key) = match self {
            Line::Translated(line) => (line.protocol, line.from),
            Line::Refused(line) => (line.protocol, line.key),
            Line::Expiring(line) => {
                let key = Key {
                    src: line.local.0.to_bits(),
                    dst: 0,
                    sport: line.local.1,
                    dport: 0,
                };
                (line.protocol, key)
            }
            Line::Ipsec(event) => (PROTO_ESP, key_of(event)),
        };
        let has_ports = matches!(protocol, 6 | 17);
        Subject {
            protocol,
            source: key.src,
            destination: key.dst,
            ports: has_ports.then_some((key.sport, key.dport)),
            icmp: None,
            established: false,
            later_fragment: false,
        }
    }
}

/// Client and peer of a decision, in the direction of its packet.
fn key_of(event: &esp::Event) -> Key {
    let peer = event.peer.to_bits();
    let ours = |address: Option<Ipv4Addr>| address.map_or(0, Ipv4Addr::to_bits);
    let (src, dst) = match event.what {
        esp::What::EspIn(..) | esp::What::IkeIn(_) => (peer, ours(event.global)),
        _ => (ours(event.client.map(|client| client.address)), peer),
    };
    Key {
        src,
        dst,
        sport: 0,
        dport: 0,
    }
}

/// Something that the log should say, at most once a minute for each kind and worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// An AH packet came, which cannot pass a NAT (RFC 3715 section 2.1).
    AuthenticationHeader {
        /// Its source.
        source: Ipv4Addr,
        /// Its destination.
        destination: Ipv4Addr,
    },
    /// Two clients of one peer and address have the same inbound SPI.
    SpiCollision {
        /// The peer.
        peer: Ipv4Addr,
        /// The address.
        global: Ipv4Addr,
        /// The SPI.
        spi: u32,
    },
    /// No outside address or port was left for a new entry.
    AllocationFailed {
        /// The inside host.
        source: Ipv4Addr,
        /// Why.
        reason: DropReason,
        /// The dynamic mapping that should have made it.
        rule: u16,
    },
}

impl Notice {
    /// Kinds of notices.
    const KINDS: usize = 3;

    fn kind(&self) -> usize {
        match self {
            Notice::AuthenticationHeader { .. } => 0,
            Notice::SpiCollision { .. } => 1,
            Notice::AllocationFailed { .. } => 2,
        }
    }
}

/// One worker's lines and notices, on their way to control.
#[derive(Debug)]
pub struct Journal {
    packets: AtomicBool,
    ipsec: AtomicBool,
    /// Only what one of these permits; none means everything.
    only: ArcSwap<Vec<Arc<AccessList>>>,
    lines: ArrayQueue<Line>,
    notices: ArrayQueue<Notice>,
    lost: AtomicU64,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            packets: AtomicBool::new(false),
            ipsec: AtomicBool::new(false),
            only: ArcSwap::default(),
            lines: ArrayQueue::new(LINES),
            notices: ArrayQueue::new(NOTICES),
            lost: AtomicU64::new(0),
        }
    }
}

impl Journal {
    /// Control: what is wanted from now on, and only of packets that one of `only` permits; no
    /// list means all packets.
    pub fn want(&self, topics: &[Topic], only: Vec<Arc<AccessList>>) {
        self.only.store(Arc::new(only));
        let has = |topic| topics.contains(&topic);
        self.packets.store(has(Topic::Packets), Ordering::Relaxed);
        self.ipsec.store(has(Topic::Ipsec), Ordering::Relaxed);
    }

    /// Whether anybody wants this topic.
    #[inline]
    #[must_use]
    pub fn wants(&self, topic: Topic) -> bool {
        match topic {
            Topic::Packets => self.packets.load(Ordering::Relaxed),
            Topic::Ipsec => self.ipsec.load(Ordering::Relaxed),
        }
    }

    /// Control: the next line.
    #[must_use]
    pub fn take(&self) -> Option<Line> {
        self.lines.pop()
    }

    /// Control: the next notice.
    #[must_use]
    pub fn take_notice(&self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Control: how many lines were wanted and lost since it last asked.
    #[must_use]
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    fn is_wanted(&self, line: &Line) -> bool {
        if !self.wants(line.topic()) {
            return false;
        }
        let only = self.only.load();
        let subject = line.subject();
        only.is_empty() || only.iter().any(|l| l.decide(&subject) == Action::Permit)
    }
}

/// The pen of the one worker that writes a journal.
#[derive(Debug)]
pub struct Writer {
    limit: Limiter,
    noted: [Option<Millis>; Notice::KINDS],
}

impl Default for Writer {
    fn default() -> Writer {
        Writer::new()
    }
}

impl Writer {
    /// A pen that has not written yet.
    #[must_use]
    pub fn new() -> Writer {
        Writer {
            limit: Limiter::new(LINES_PER_SECOND, LINES_AT_ONCE),
            noted: [None; Notice::KINDS],
        }
    }

    /// Writes a line, if it is wanted.
    #[cold]
    pub fn tell(&mut self, journal: &Journal, now: Millis, line: Line) {
        if journal.is_wanted(&line) && (!self.limit.pass(now) || journal.lines.push(line).is_err())
        {
            journal.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a notice, unless there was one of its kind a moment ago.
    #[cold]
    pub fn note(&mut self, journal: &Journal, now: Millis, notice: Notice) {
        let last = &mut self.noted[notice.kind()];
        if last.is_none_or(|last| now.since(last) >= NOTICE_EVERY_MS) {
            *last = Some(now);
            // A full queue has notices of this minute for the operator already.
            let _ = journal.notices.push(notice);
        }
    }
}
