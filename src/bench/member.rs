//! One worker of a team: its thread's way through set-up and loads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use spillway_dataplane::handover::room_between;
use spillway_dataplane::session::{Direction, Kind};
use spillway_dataplane::snapshot::{PortId, VrfId};
use spillway_dataplane::wire::head::{Head, mac_word};
use spillway_dpdk::cycles;

use super::machine::CoreTime;
use super::measure::room;
use super::rig::{BenchClock, INSIDE, OUTSIDE, Place, Rig, source};
use super::rss::owner_of_tunnel;
use super::slices::Notes;
use super::team::{Load, Scheme, Share, Team, locked};
use super::traffic::{Header, INSIDE_MAC, OUTSIDE_MAC, Templates};
use crate::cli::{BenchDirection, BenchProto};

/// How often each load has its turn.
const TURNS: u64 = 4;
/// Rounds between two notes.
const ROUNDS_A_NOTE: u32 = 64;

/// Packets and the port where they come in.
type Lane = (PortId, Arc<Templates>);

/// A worker's thread.
pub(super) struct Member<'a> {
    team: &'a Team<'a>,
    /// Where it is as long as nobody knows how cards spread, and where everybody does.
    place: &'a Place,
    steering: &'a Place,
    /// How often it has waited for the others.
    arrivals: usize,
}

impl<'a> Member<'a> {
    /// The worker at its places; its thread is pinned when it works.
    pub(super) fn new(team: &'a Team<'a>, place: &'a Place, steering: &'a Place) -> Member<'a> {
        Member {
            team,
            place,
            steering,
            arrivals: 0,
        }
    }

    /// Its whole way. All threads take the same steps, whatever goes wrong in one of them. `alone`
    /// is there for one of them: the place of a worker that is measured alone.
    pub(super) fn work(mut self, alone: Option<&Place>, core: usize) {
        // An error is everybody's, and told where the threads are joined.
        let _ = self.all_steps(alone, core);
    }

    fn all_steps(&mut self, alone: Option<&Place>, core: usize) -> Option<()> {
        let team = self.team;
        team.agree(pin(core))?;
        let mut rig = team.agree(self.rig(self.place))?;
        let made = self.set_up(&mut rig, self.place, &team.usual);
        team.agree(made)?;
        let owned = self.lanes(&team.usual, |port, packets| {
            packets.only(|header| self.owns(&rig, port, &packets.frame(header)))
        });
        let by_rss = self.lanes(&team.usual, |port, packets| {
            self.brought(&team.usual, port, packets)
        });
        let mut steering = team.agree(self.rig(self.steering))?;
        let made = self.set_up(&mut steering, self.steering, &team.steering);
        team.agree(made)?;
        self.note_steered(&steering);
        let steered = self.lanes(&team.steering, |port, packets| {
            self.brought(&team.steering, port, packets)
        });
        let single = alone.map(|place| self.single(place)).transpose();
        let mut single = team.agree(single)?;
        for _ in 0..TURNS {
            for (at, load) in Load::ALL.into_iter().enumerate() {
                let measured = match (load, &mut single) {
                    (Load::One, Some((rig, lanes))) => self.measure(rig, lanes, load),
                    (Load::One, None) => Ok(()),
                    (Load::Owned, _) => self.measure(&mut rig, &owned, load),
                    (Load::Rss, _) => self.measure(&mut rig, &by_rss, load),
                    (Load::Steered, _) => self.measure(&mut steering, &steered, load),
                };
                team.agree(measured)?;
                if self.me() == 0 {
                    team.add_up(at, load);
                }
                team.barrier.wait();
            }
        }
        Some(())
    }

    /// Whether a packet's entry, or tunnel, is this worker's.
    fn owns(&self, rig: &Rig, port: PortId, frame: &[u8; 64]) -> bool {
        if !self.is_esp() {
            return entry(rig, port, frame).is_some();
        }
        let head = Head::read(frame, mac_word(mac_of(port)), true);
        let owner = |head: Head| owner_of_tunnel(port, &head, self.place.workers);
        head.map(owner) == Some(self.place.me)
    }

    fn is_esp(&self) -> bool {
        self.team.options.proto == BenchProto::Esp
    }

    fn me(&self) -> usize {
        self.place.me.index()
    }

    fn workers(&self) -> usize {
        usize::from(self.place.workers)
    }

    fn rig(&self, place: &Place) -> Result<Rig, String> {
        let team = self.team;
        let clock = BenchClock::new(team.calibration.cycles_per_second, false);
        let rig = Rig::at(place, room(team.options, team.flows), clock)?;
        rig.port
            .with(|port| port.depot = Some(Arc::clone(&team.depot)));
        *locked(&team.session_octets) = rig.octets as f64 / rig.capacity as f64;
        Ok(rig)
    }

    /// All packets of a direction, whoever gets them.
    fn packets(&self, scheme: &Scheme, port: PortId) -> Templates {
        let proto = self.team.options.proto;
        if port == INSIDE {
            Templates::out(self.team.flows, proto)
        } else {
            Templates::answers(&locked(&scheme.ports), proto)
        }
    }

    /// The packets of a port that its card brings to this worker.
    fn brought(&self, scheme: &Scheme, port: PortId, packets: &Templates) -> Templates {
        let mac = mac_of(port);
        packets.only(|header| {
            let worker = scheme.cards.worker(port, mac, &packets.frame(header));
            worker == Some(self.place.me)
        })
    }

    /// All packets of a port that its card brings to this worker, one of each flow.
    fn arriving(&self, scheme: &Scheme, port: PortId) -> Arc<Templates> {
        Arc::new(self.brought(scheme, port, &self.packets(scheme, port)))
    }

    /// Those of the run's packets that `pick` picks, in the order asked for.
    fn lanes(&self, scheme: &Scheme, pick: impl Fn(PortId, &Templates) -> Templates) -> Vec<Lane> {
        let options = self.team.options;
        let ports = match options.direction {
            BenchDirection::Out => &[INSIDE][..],
            BenchDirection::In => &[OUTSIDE],
            BenchDirection::Both => &[INSIDE, OUTSIDE],
        };
        let lane = |port: &PortId| {
            let packets = self.packets(scheme, *port);
            let packets = if options.skew {
                packets.skewed()
            } else {
                packets
            };
            let mine = pick(*port, &packets).in_order(options.order);
            (*port, Arc::new(mine))
        };
        ports.iter().map(lane).collect()
    }

    /// Makes all flows, each with the worker that receive-side scaling or a ring leads it to, and
    /// passes an answer of each.
    fn set_up(&mut self, rig: &mut Rig, place: &Place, scheme: &Scheme) -> Result<(), String> {
        // A tunnel has an entry for each direction.
        let each = if self.is_esp() { 2 } else { 1 };
        let wanted = u64::from(self.team.flows) * each;
        let out = self.arriving(scheme, INSIDE);
        self.pass_together(rig, INSIDE, &out);
        self.note_ports(rig, scheme);
        self.gather(rig);
        let answers = self.arriving(scheme, OUTSIDE);
        self.pass_together(rig, OUTSIDE, &answers);
        let entries = place.occupancy.active();
        let drops = || rig.drops().join(", ");
        (entries == wanted)
            .then_some(())
            .ok_or_else(|| format!("{entries} entries were made: {}", drops()))
    }

    /// Each of these packets once, and so few at a time that all of them would have room in one ring.
    fn pass_together(&mut self, rig: &mut Rig, port: PortId, packets: &Arc<Templates>) {
        let at_once = room_between(self.place.workers) / 2;
        for first in (0..self.team.flows as usize).step_by(at_once) {
            let count = packets.headers.len().saturating_sub(first).min(at_once);
            self.pass(rig, port, packets, first, count);
            self.rest(rig);
        }
    }

    /// So many of these packets; then nothing comes in any more.
    fn pass(
        &self,
        rig: &mut Rig,
        port: PortId,
        packets: &Arc<Templates>,
        first: usize,
        count: usize,
    ) {
        let burst = usize::from(self.team.options.burst);
        let source = source(rig, packets, burst).starting_at(first);
        rig.attach(vec![(port, source)]);
        (0..count.div_ceil(burst)).for_each(|_| rig.round());
        rig.attach(Vec::new());
        rig.round();
    }

    /// Rounds until all workers are here.
    fn gather(&mut self, rig: &mut Rig) {
        self.arrivals += self.workers();
        self.team.arrivals.fetch_add(1, Ordering::AcqRel);
        while self.team.arrivals.load(Ordering::Acquire) < self.arrivals {
            rig.round();
        }
    }

    /// Rounds until no worker has anything left that another gave it.
    fn rest(&mut self, rig: &mut Rig) {
        self.gather(rig); // nobody gives anything any more
        rig.rounds_until_quiet();
        self.gather(rig);
    }

    /// Tells the others with which outside ports this worker's flows leave.
    fn note_ports(&self, rig: &Rig, scheme: &Scheme) {
        let mine = self.packets(scheme, INSIDE);
        let entries = mine.headers.iter().map(|h| outside_port(rig, &mine, h));
        let mut ports = locked(&scheme.ports);
        for (port, found) in ports.iter_mut().zip(entries) {
            *port = found.unwrap_or(*port);
        }
    }

    /// Adds this worker's entries to those that are steered and those that are not.
    fn note_steered(&self, rig: &Rig) {
        let mine = rig.steered();
        let mut all = locked(&self.team.steered);
        *all = (all.0 + mine.0, all.1 + mine.1);
    }

    /// One worker alone with all flows, whose outside ports are others than the team's.
    fn single(&self, place: &Place) -> Result<(Rig, Vec<Lane>), String> {
        let options = self.team.options;
        let mut rig = self.rig(place)?;
        let usual = &self.team.usual;
        let out = Arc::new(self.packets(usual, INSIDE));
        self.pass(&mut rig, INSIDE, &out, 0, out.headers.len());
        let ports = out.headers.iter().map(|h| outside_port(&rig, &out, h));
        // Answers to ESP go by their SPI.
        let ports: Vec<u16> = ports
            .map(|port| port.or(self.is_esp().then_some(0)))
            .collect::<Option<_>>()
            .ok_or_else(|| format!("one worker: {}", rig.drops().join(", ")))?;
        let answers = || Templates::answers(&ports, options.proto);
        self.pass(
            &mut rig,
            OUTSIDE,
            &Arc::new(answers()),
            0,
            out.headers.len(),
        );
        let lanes = self.lanes(usual, |port, packets| match port {
            INSIDE => packets.only(|_| true),
            _ if options.skew => answers().skewed(),
            _ => answers(),
        });
        Ok((rig, lanes))
    }

    /// Notes how many packets go out while all workers of the load are at it.
    fn measure(&mut self, rig: &mut Rig, lanes: &[Lane], load: Load) -> Result<(), String> {
        let team = self.team;
        let together = load != Load::One;
        let burst = usize::from(team.options.burst);
        let sources = lanes
            .iter()
            .map(|(port, of)| (*port, source(rig, of, burst)))
            .collect();
        rig.attach(sources);
        (0..ROUNDS_A_NOTE).for_each(|_| rig.round());
        if together {
            self.gather(rig);
        }
        let started = rig.histograms();
        let (traffic, core_time) = (rig.traffic(), CoreTime::now());
        let cycles_a_ms = team.calibration.cycles_per_second / 1000;
        let end = cycles() + cycles_a_ms * team.options.duration / TURNS;
        let mut notes = Notes::with_capacity(1 << 16);
        while notes.last().is_none_or(|note| note.0 < end) {
            (0..ROUNDS_A_NOTE).for_each(|_| rig.round());
            notes.push((cycles(), rig.sent()));
        }
        let share = Share {
            traffic: rig.traffic().since(traffic),
            core_time: CoreTime::now().since(core_time),
        };
        let rounds = rig.histograms();
        if together {
            self.gather(rig); // all have noted enough
        }
        rig.attach(Vec::new());
        rig.round();
        if together {
            self.rest(rig);
        }
        locked(&team.noted)[self.me()] = notes;
        let _ = started?;
        let workers = load.workers(self.workers());
        locked(&team.loads)[load as usize].add(workers, self.me(), &share, &rounds?.burst_ns)
    }
}

fn pin(core: usize) -> Result<(), String> {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
        .then_some(())
        .ok_or_else(|| format!("a worker can't be pinned to core {core}"))
}

fn mac_of(port: PortId) -> [u8; 6] {
    if port == INSIDE {
        INSIDE_MAC
    } else {
        OUTSIDE_MAC
    }
}

/// Where in the worker's table the entry of a packet is.
pub(super) fn entry(rig: &Rig, port: PortId, frame: &[u8; 64]) -> Option<u32> {
    let direction = if port == INSIDE {
        Direction::Out
    } else {
        Direction::In
    };
    let head = Head::read(frame, mac_word(mac_of(port)), true)?;
    let kind = Kind::new(direction, VrfId::GLOBAL, head.protocol);
    rig.table().look_up(kind, head.key())
}

/// With which outside port the flow of a packet from inside leaves, if it is this worker's.
fn outside_port(rig: &Rig, of: &Templates, header: &Header) -> Option<u16> {
    let at = entry(rig, INSIDE, &of.frame(header))?;
    Some(rig.table().session(at).inside_global().port)
}
