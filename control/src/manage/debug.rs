//! `debug ip nat [detailed|ipsec]`: lines of the workers' journals, streamed to who asked.
//!
//! Workers write only while somebody listens. Whoever listens empties all journals for all
//! listeners, each of which takes what it asked for.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use spillway_dataplane::acl::{AccessList, Action};
use spillway_dataplane::journal::{Line, Refused, Topic, Translated};
use spillway_dataplane::session::Direction;
use spillway_dataplane::stats::DropReason;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::{MissedTickBehavior, interval};

use super::appliance::Appliance;
use super::command::Format;
use super::output::{Output, Sink};
use super::translation::protocol_name;
use super::vrf::VrfNames;

/// How often the journals are emptied.
const EVERY: Duration = Duration::from_millis(20);
/// Rounds without a line after which an empty piece finds out whether the listener is still there.
const QUIET_ROUNDS: u32 = 50;
/// Lines that may wait for one slow listener.
const WAITING: usize = 8192;

/// What a listener wants.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Which lines.
    pub(super) topic: Topic,
    /// Of packets also how they came.
    pub(super) detailed: bool,
    /// Only of packets that this list permits.
    pub(super) only: Option<Arc<AccessList>>,
}

#[derive(Debug, Clone)]
enum Told {
    Line(Line),
    /// So many lines found no room in a worker's journal, or came too fast.
    Lost(u64),
}

/// All who listen.
pub(super) struct Listeners {
    wanted: Mutex<Vec<(u64, Wanted)>>,
    /// The number of the next listener: no two ever have the same, or `undebug all` and a new
    /// listener just after it would leave the old one listening.
    next: AtomicU64,
    lines: broadcast::Sender<Arc<Told>>,
}

impl Default for Listeners {
    fn default() -> Listeners {
        Listeners {
            wanted: Mutex::default(),
            next: AtomicU64::new(0),
            lines: broadcast::Sender::new(WAITING),
        }
    }
}

/// One listener; gone, its wishes go with it.
struct Listener<'a> {
    appliance: &'a Appliance,
    number: u64,
    lines: broadcast::Receiver<Arc<Told>>,
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let mut wanted = self.appliance.listeners.lock();
        wanted.retain(|(number, _)| *number != self.number);
        tell_workers(self.appliance, &wanted);
    }
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Wanted)>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The workers write what anybody wants.
fn tell_workers(appliance: &Appliance, wanted: &[(u64, Wanted)]) {
    let topics: Vec<Topic> = wanted.iter().map(|(_, wanted)| wanted.topic).collect();
    let lists: Option<Vec<_>> = wanted
        .iter()
        .map(|(_, wanted)| wanted.only.clone())
        .collect();
    for worker in appliance.workers() {
        let only = lists.clone().unwrap_or_default();
        worker.stats.journal.want(&topics, only);
    }
}

fn listen<'a>(appliance: &'a Appliance, new: &Wanted) -> Listener<'a> {
    let listeners = &appliance.listeners;
    let mut wanted = listeners.lock();
    if wanted.is_empty() {
        // What is left from before is nobody's.
        for worker in appliance.workers() {
            while worker.stats.journal.take().is_some() {}
            let _ = worker.stats.journal.take_lost();
        }
    }
    let number = listeners.next.fetch_add(1, Ordering::Relaxed);
    wanted.push((number, new.clone()));
    tell_workers(appliance, &wanted);
    Listener {
        appliance,
        number,
        lines: listeners.lines.subscribe(),
    }
}

/// `undebug all`: everybody's debugging ends.
pub(super) fn stop_all(appliance: &Appliance) {
    let mut wanted = appliance.listeners.lock();
    wanted.clear();
    tell_workers(appliance, &wanted);
}

/// Gives what is in the journals to all listeners.
fn empty_journals(appliance: &Appliance) {
    // One at a time, so that lines of a worker stay in their order.
    let _wanted = appliance.listeners.lock();
    for worker in appliance.workers() {
        let journal = &worker.stats.journal;
        while let Some(line) = journal.take() {
            // Nobody may be listening any more.
            let _ = appliance.listeners.lines.send(Arc::new(Told::Line(line)));
        }
        match journal.take_lost() {
            0 => {}
            lost => {
                let _ = appliance.listeners.lines.send(Arc::new(Told::Lost(lost)));
            }
        }
    }
}

/// Streams lines until the listener goes, or somebody says `undebug all`.
pub(super) async fn stream<S: Sink>(
    appliance: &Appliance,
    wanted: &Wanted,
    format: Format,
    out: &mut Output<'_, S>,
) -> io::Result<()> {
    let mut listener = listen(appliance, wanted);
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut quiet = 0;
    loop {
        every.tick().await;
        empty_journals(appliance);
        let mut lost = 0;
        loop {
            match listener.lines.try_recv() {
                Ok(told) => match &*told {
                    Told::Line(line) if wanted.wants(line) => {
                        for text in wanted.write(appliance, line) {
                            put(out, format, &text)?;
                        }
                        out.flush_piece().await?;
                    }
                    Told::Line(_) => {}
                    Told::Lost(lines) => lost += lines,
                },
                Err(TryRecvError::Lagged(lines)) => lost += lines,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if lost > 0 {
            put(out, format, &format!("NAT: {lost} debug lines lost"))?;
        }
        quiet = if out.text().is_empty() { quiet + 1 } else { 0 };
        if quiet >= QUIET_ROUNDS {
            quiet = 0;
            out.touch().await?;
        }
        out.flush().await?;
        let goes_on = |(number, _): &(u64, Wanted)| *number == listener.number;
        if !appliance.listeners.lock().iter().any(goes_on) {
            return Ok(());
        }
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    debug: &'a str,
}

fn put<S: Sink>(out: &mut Output<'_, S>, format: Format, text: &str) -> io::Result<()> {
    match format {
        Format::Text => out.line(text),
        Format::Json => {
            let line = serde_json::to_string(&JsonLine { debug: text });
            out.line(line.map_err(io::Error::other)?);
        }
    }
    Ok(())
}

impl Wanted {
    fn wants(&self, line: &Line) -> bool {
        let topic = match line {
            Line::Ipsec(_) => Topic::Ipsec,
            _ => Topic::Packets,
        };
        let permits = |list: &Arc<AccessList>| list.decide(&line.subject()) == Action::Permit;
        topic == self.topic && self.only.as_ref().is_none_or(permits)
    }

    fn write(&self, appliance: &Appliance, line: &Line) -> Vec<String> {
        match line {
            Line::Ipsec(event) => {
                let vrfs = VrfNames::of(appliance);
                let name = |vrf| vrfs.name(vrf).unwrap_or_default();
                vec![event.with_names(&name).to_string()]
            }
            Line::Translated(packet) => {
                let mut lines = Vec::new();
                if self.detailed {
                    lines.push(detailed(packet));
                }
                lines.push(brief(packet));
                lines
            }
            Line::Refused(packet) => refused(appliance, packet),
            Line::Expiring(entry) => {
                let (global, local) = (entry.global, entry.local);
                let protocol = match entry.protocol {
                    0 => "ip".to_owned(),
                    protocol => protocol_name(protocol),
                };
                vec![format!(
                    "NAT: expiring {} ({}) {protocol} {} ({})",
                    global.0, local.0, global.1, local.1
                )]
            }
        }
    }
}

fn address(bits: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(bits)
}

/// `NAT*` is a packet whose entry was there.
fn brief(packet: &Translated) -> String {
    let star = if packet.known { "*" } else { "" };
    let one = |from: u32, to: u32| {
        if from == to {
            address(from).to_string()
        } else {
            format!("{}->{}", address(from), address(to))
        }
    };
    let source = one(packet.from.src, packet.to.src);
    let destination = one(packet.from.dst, packet.to.dst);
    format!("NAT{star}: s={source}, d={destination} [{}]", packet.id)
}

fn detailed(packet: &Translated) -> String {
    let side = match packet.direction {
        Direction::Out => 'i',
        Direction::In => 'o',
    };
    let (protocol, key) = (protocol_name(packet.protocol), packet.from);
    format!(
        "NAT: {side}: {protocol} ({}, {}) -> ({}, {}) [{}]",
        address(key.src),
        key.sport,
        address(key.dst),
        key.dport,
        packet.id
    )
}

fn refused(appliance: &Appliance, packet: &Refused) -> Vec<String> {
    let (source, destination) = (address(packet.key.src), address(packet.key.dst));
    let dropping = |why: &str| {
        format!("NAT: translation failed ({why}), dropping packet s={source} d={destination}")
    };
    match packet.reason {
        DropReason::PoolExhausted | DropReason::PortsExhausted => {
            let rule = packet
                .rule
                .and_then(|id| appliance.parts.description.rule(id));
            // "access-list 1 pool P": the second word is the list's name.
            let text = rule.map(|rule| rule.text).unwrap_or_default();
            let list = text.split_whitespace().nth(1).unwrap_or("?");
            vec![
                format!("NAT: failed to allocate address for {source}, list/map {list}"),
                dropping("A"),
            ]
        }
        reason => vec![dropping(reason.name())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_dataplane::session::Key;

    fn packet(direction: Direction, from: [u8; 4], to: [u8; 4]) -> Translated {
        let far: Ipv4Addr = [203, 0, 112, 254].into();
        let key = |address: [u8; 4]| {
            let near = Ipv4Addr::from(address).to_bits();
            match direction {
                Direction::Out => (near, far.to_bits()),
                Direction::In => (far.to_bits(), near),
            }
        };
        let of = |(src, dst): (u32, u32)| Key {
            src,
            dst,
            sport: 1493,
            dport: 53,
        };
        Translated {
            direction,
            protocol: 17,
            id: 6825,
            from: of(key(from)),
            to: of(key(to)),
            known: false,
        }
    }

    #[test]
    fn lines_are_as_routers_print_them() {
        let out = packet(Direction::Out, [192, 0, 2, 1], [203, 0, 112, 1]);
        assert_eq!(
            brief(&out),
            "NAT: s=192.0.2.1->203.0.112.1, d=203.0.112.254 [6825]"
        );
        let back = Translated {
            known: true,
            ..packet(Direction::In, [203, 0, 112, 1], [192, 0, 2, 1])
        };
        assert_eq!(
            brief(&back),
            "NAT*: s=203.0.112.254, d=203.0.112.1->192.0.2.1 [6825]"
        );
        assert_eq!(
            detailed(&out),
            "NAT: i: udp (192.0.2.1, 1493) -> (203.0.112.254, 53) [6825]"
        );
    }
}
