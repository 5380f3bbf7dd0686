//! Workers, their entries and their loans, beside a slow list of who has what.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const RANGE: (u16, u16) = (1024, 1024 + 4 * 64 - 1);
const WORKERS: u8 = 3;

#[derive(Debug, Clone, Copy)]
struct Entry {
    worker: WorkerId,
    space: PortSpace,
    port: u16,
    mark: bool,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A worker wants this port, if it may have it, for one more server.
    Keep(WorkerId, PortSpace, u16),
    /// A worker wants so many ports that nobody has, and asks others if it has none.
    Find(WorkerId, PortSpace, u8, u16),
    /// An entry goes.
    End(usize),
    /// The first entry of a port goes that has another one.
    EndMarked,
    /// All entries of a worker go.
    Clear(WorkerId),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = || (0..WORKERS).prop_map(WorkerId);
    let space = || select(vec![PortSpace::Tcp, PortSpace::Udp, PortSpace::Icmp]);
    let port = || RANGE.0..=RANGE.1;
    // Few, so that several entries are on one.
    let kept = (0u16..4, 0u16..4).prop_map(|(block, at)| RANGE.0 + block * 64 + at);
    let step = prop_oneof![
        3 => (worker(), space(), kept).prop_map(|(w, s, p)| Step::Keep(w, s, p)),
        4 => (worker(), space(), 1u8..40, port()).prop_map(|(w, s, n, p)| Step::Find(w, s, n, p)),
        5 => any::<usize>().prop_map(Step::End),
        1 => Just(Step::EndMarked),
        1 => worker().prop_map(Step::Clear),
    ];
    proptest::collection::vec(step, 1..60)
}

struct World {
    global: GlobalAddress,
    entries: Vec<Entry>,
}

impl World {
    fn new() -> World {
        World {
            global: GlobalAddress::new([198, 51, 100, 1].into()),
            entries: Vec::new(),
        }
    }

    fn at(&self, port: u16) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |e| e.port == port)
    }

    fn take(&mut self, worker: WorkerId, space: PortSpace, port: u16) {
        let mark = self.global.take(worker, space, port);
        self.entries.push(Entry {
            worker,
            space,
            port,
            mark,
        });
    }

    fn end(&mut self, at: usize) {
        let entry = self.entries.swap_remove(at);
        let Entry {
            worker,
            space,
            port,
            mark,
        } = entry;
        self.global.release(worker, space, port, mark);
    }

    /// As a gateway does it: its own ports, nobody's, and then the other workers' in turn.
    fn find(&mut self, me: WorkerId, space: PortSpace, start: u16) -> Option<u16> {
        let free = |global: &GlobalAddress| global.free_port(me, true, space, RANGE, start);
        if let Some(port) = free(&self.global) {
            return Some(port);
        }
        let mut asked = WorkerId((me.0 + 1) % WORKERS);
        for _ in 0..2 * WORKERS {
            if asked == me {
                break;
            }
            asked = match self.global.lend(asked, me, RANGE) {
                Lending::Lent => return free(&self.global),
                Lending::GivenBack(owner) => owner,
                Lending::Nothing => WorkerId((asked.0 + 1) % WORKERS),
            };
        }
        None
    }

    /// Whether some port has no entry, and its block none whose mark may have gone.
    fn has_free(&self) -> bool {
        let is_exact = |block: u16| {
            let entries = || self.entries.iter().filter(move |e| e.port / 64 == block);
            entries().all(|e| e.mark)
        };
        let free = |port: &u16| self.at(*port).next().is_none() && is_exact(*port / 64);
        (RANGE.0..=RANGE.1).any(|port| free(&port))
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for entry in &self.entries {
            let owner = self.global.owner(entry.port);
            prop_assert_eq!(owner, Some(entry.worker), "{:?}", entry);
            let others = self.at(entry.port).any(|e| e.worker != entry.worker);
            prop_assert!(!others, "two workers on a port: {:?}", entry);
            prop_assert!(!entry.mark || self.global.in_use(entry.space, entry.port));
        }
        let marks = self.entries.iter().filter(|e| e.mark).count();
        prop_assert_eq!(self.global.ports_in_use() as usize, marks);
        Ok(())
    }
}

proptest! {
    #[test]
    fn each_port_is_one_workers_and_none_is_refused_while_one_is_free(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Keep(worker, space, port) => {
                    if world.global.claim(worker, port) {
                        world.take(worker, space, port);
                    }
                }
                Step::Find(worker, space, count, start) => {
                    for _ in 0..count {
                        let may = world.has_free();
                        let Some(port) = world.find(worker, space, start) else {
                            prop_assert!(!may, "refused in spite of a free port");
                            break;
                        };
                        prop_assert!(!world.global.in_use(space, port));
                        world.take(worker, space, port);
                    }
                }
                Step::End(at) if !world.entries.is_empty() => {
                    world.end(at % world.entries.len());
                }
                Step::EndMarked => {
                    let goes_before = |e: &Entry| e.mark && world.at(e.port).any(|of| !of.mark);
                    if let Some(at) = world.entries.iter().position(goes_before) {
                        world.end(at);
                    }
                }
                Step::Clear(worker) => {
                    while let Some(at) = world.entries.iter().position(|e| e.worker == worker) {
                        world.end(at);
                    }
                }
                Step::End(_) => {}
            }
            world.check()?;
        }
        while !world.entries.is_empty() {
            world.end(0);
        }
        // Nothing is lost to anybody.
        for worker in (0..WORKERS).map(WorkerId) {
            for _ in RANGE.0..=RANGE.1 {
                let port = world.find(worker, PortSpace::Tcp, RANGE.0);
                prop_assert!(port.is_some());
                world.take(worker, PortSpace::Tcp, port.unwrap_or(0));
            }
            prop_assert_eq!(world.find(worker, PortSpace::Tcp, RANGE.0), None);
            while !world.entries.is_empty() {
                world.end(0);
            }
        }
    }
}

/// Several workers at once, each with a thread of its own, in so few ports that they lend all the time.
#[test]
fn threads_never_have_the_same_port() {
    let global = GlobalAddress::new([198, 51, 100, 1].into());
    let holders: Vec<AtomicU8> = (0..=u16::MAX).map(|_| AtomicU8::new(0)).collect();
    let (asked, lent) = (AtomicU32::new(0), AtomicU32::new(0));
    // What whoever wants ports has asked of each worker: 0 nobody, else the number of who asks plus one.
    let wishes: Vec<AtomicU8> = (0..WORKERS).map(|_| AtomicU8::new(0)).collect();
    let work = |me: WorkerId| {
        let (mut mine, mut random) = (Vec::new(), u64::from(me.0) + 1);
        let is_enough = |round| round > 50_000 && lent.load(Ordering::Relaxed) > 100;
        for round in (0..50_000_000_u32).take_while(|round| !is_enough(*round)) {
            let wish = wishes[me.index()].swap(0, Ordering::AcqRel);
            if wish > 0 && global.lend(me, WorkerId(wish - 1), RANGE) == Lending::Lent {
                lent.fetch_add(1, Ordering::Relaxed);
            }
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            // It takes ports for a while, then gives most of them back.
            if (round / 500) % 2 == u32::from(me.0) % 2 && mine.len() < 200 {
                let start = RANGE.0 + (random >> 40) as u16 % 256;
                if let Some(port) = global.free_port(me, true, PortSpace::Udp, RANGE, start) {
                    let before = holders[usize::from(port)].swap(me.0 + 1, Ordering::AcqRel);
                    assert_eq!(before, 0, "{port} is another worker's");
                    assert!(global.take(me, PortSpace::Udp, port));
                    mine.push(port);
                } else {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let other = WorkerId((me.0 + 1 + (random >> 50) as u8 % 2) % WORKERS);
                    wishes[other.index()].store(me.0 + 1, Ordering::Release);
                }
            } else if !mine.is_empty() {
                let port: u16 = mine.swap_remove((random >> 33) as usize % mine.len());
                assert_eq!(global.owner(port), Some(me));
                holders[usize::from(port)].store(0, Ordering::Release);
                global.release(me, PortSpace::Udp, port, true);
            }
        }
    };
    std::thread::scope(|scope| {
        for me in (0..WORKERS).map(WorkerId) {
            scope.spawn(move || work(me));
        }
    });
    assert!(
        asked.into_inner() > 0 && lent.into_inner() > 0,
        "nothing was lent"
    );
}
