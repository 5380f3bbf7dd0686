//! `debug`: who asks gets lines, nobody else does, and `undebug all` ends it.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Lab, NOW, Setup, serve};
use spillway_control::manage::{ExitStatus, Format, Sink, execute};
use spillway_dataplane::journal::{Line, Refused, Topic, Translated, Writer};
use spillway_dataplane::session::{Direction, Key};
use spillway_dataplane::stats::DropReason;

/// What a listener has got; at `full` it leaves.
#[derive(Clone, Default)]
struct Got(Arc<Mutex<String>>, Option<usize>);

impl Sink for Got {
    async fn write(&mut self, piece: &str) -> io::Result<()> {
        let mut text = self.0.lock().expect("no panic");
        text.push_str(piece);
        match self.1 {
            Some(full) if text.lines().count() >= full => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        }
    }
}

impl Got {
    fn text(&self) -> String {
        self.0.lock().expect("no panic").clone()
    }
}

fn lab() -> Lab {
    Setup {
        workers: vec![serve(vec![]), serve(vec![])],
        ..Setup::default()
    }
    .start()
}

fn debug(
    lab: &Lab,
    line: &'static str,
    got: &Got,
) -> tokio::task::JoinHandle<io::Result<ExitStatus>> {
    let (appliance, mut got) = (Arc::clone(&lab.appliance), got.clone());
    tokio::spawn(async move { execute(&appliance, line, Format::Text, &mut got).await })
}

fn packet(source: [u8; 4]) -> Line {
    let key = |src: [u8; 4]| Key {
        src: u32::from_be_bytes(src),
        dst: 0xcb00_7105,
        sport: 4000,
        dport: 53,
    };
    Line::Translated(Translated {
        direction: Direction::Out,
        protocol: 17,
        id: 7,
        from: key(source),
        to: key([198, 51, 100, 1]),
        known: false,
    })
}

async fn until(mut met: impl FnMut() -> bool) {
    for _ in 0..500 {
        if met() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not met in five seconds");
}

#[tokio::test]
async fn lines_reach_who_asked_and_stop_with_undebug() {
    let lab = lab();
    let worker = |at: usize| &lab.appliance.workers()[at].stats.journal;
    let mut pen = Writer::new();
    pen.tell(worker(0), NOW, packet([10, 1, 0, 9]));
    let (brief, detailed) = (Got::default(), Got::default());
    let first = debug(&lab, "debug ip nat", &brief);
    let second = debug(&lab, "debug ip nat detailed 1", &detailed);
    until(|| worker(1).wants(Topic::Packets)).await;
    // The second one's list permits 10.1.0.0/24 alone.
    tokio::time::sleep(Duration::from_millis(50)).await;
    pen.tell(worker(1), NOW, packet([10, 1, 0, 2]));
    pen.tell(worker(0), NOW, packet([10, 2, 0, 2]));
    pen.tell(
        worker(0),
        NOW,
        Line::Refused(Refused {
            protocol: 17,
            key: Key {
                src: 0x0a02_0003,
                dst: 0xcb00_7105,
                sport: 1,
                dport: 2,
            },
            reason: DropReason::PoolExhausted,
            rule: None,
        }),
    );
    until(|| brief.text().lines().count() == 4 && detailed.text().lines().count() == 2).await;
    let mut lines: Vec<String> = brief.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "NAT: failed to allocate address for 10.2.0.3, list/map ?",
            "NAT: s=10.1.0.2->198.51.100.1, d=203.0.113.5 [7]",
            "NAT: s=10.2.0.2->198.51.100.1, d=203.0.113.5 [7]",
            "NAT: translation failed (A), dropping packet s=10.2.0.3 d=203.0.113.5",
        ]
    );
    assert_eq!(
        detailed.text(),
        "NAT: i: udp (10.1.0.2, 4000) -> (203.0.113.5, 53) [7]\n\
         NAT: s=10.1.0.2->198.51.100.1, d=203.0.113.5 [7]\n"
    );
    assert!(!worker(0).wants(Topic::Ipsec));
    let mut out = String::new();
    let off = execute(&lab.appliance, "undebug all", Format::Text, &mut out).await;
    assert_eq!(off.expect("a string"), ExitStatus::DONE);
    for listener in [first, second] {
        let ended = listener.await.expect("no panic");
        assert_eq!(ended.expect("a listener"), ExitStatus::DONE);
    }
    assert!(!worker(0).wants(Topic::Packets));
}

#[tokio::test]
async fn a_listener_that_leaves_turns_its_debugging_off() {
    let lab = lab();
    let journal = &lab.appliance.workers()[0].stats.journal;
    let got = Got(Arc::default(), Some(1));
    let listener = debug(&lab, "debug ip nat", &got);
    until(|| journal.wants(Topic::Packets)).await;
    Writer::new().tell(journal, NOW, packet([10, 1, 0, 2]));
    assert!(listener.await.expect("no panic").is_err());
    assert!(!journal.wants(Topic::Packets));
}

#[tokio::test]
async fn undebug_ends_the_old_listeners_and_not_one_that_comes_just_after() {
    let lab = lab();
    let journal = &lab.appliance.workers()[0].stats.journal;
    let (old, new) = (Got::default(), Got::default());
    let first = debug(&lab, "debug ip nat", &old);
    until(|| journal.wants(Topic::Packets)).await;
    // All in one go on this thread: the old listener has not looked yet when the new one begins.
    let mut out = String::new();
    let off = execute(&lab.appliance, "undebug all", Format::Text, &mut out);
    assert_eq!(off.await.expect("a string"), ExitStatus::DONE);
    let second = debug(&lab, "debug ip nat", &new);
    let ended = tokio::time::timeout(Duration::from_secs(5), first).await;
    let ended = ended.expect("the old listener ends").expect("no panic");
    assert_eq!(ended.expect("a listener"), ExitStatus::DONE);
    until(|| journal.wants(Topic::Packets)).await;
    Writer::new().tell(journal, NOW, packet([10, 1, 0, 2]));
    until(|| new.text().lines().count() == 1).await;
    second.abort();
}

#[tokio::test]
async fn a_list_that_is_not_there_is_refused_where_it_stands() {
    let mut out = String::new();
    let lab = lab();
    let line = "debug ip nat ipsec 77";
    let refused = execute(&lab.appliance, line, Format::Text, &mut out).await;
    let status = refused.expect("a string");
    assert_eq!(status.code, 2);
    let error = status.error.expect("a reason");
    assert_eq!(error.lines().nth(1), Some("                   ^"));
}

#[tokio::test]
async fn what_was_lost_is_said() {
    let lab = lab();
    let journal = &lab.appliance.workers()[0].stats.journal;
    let got = Got::default();
    let listener = debug(&lab, "debug ip nat", &got);
    until(|| journal.wants(Topic::Packets)).await;
    let mut pen = Writer::new();
    for _ in 0..1500 {
        pen.tell(journal, NOW, packet([10, 1, 0, 2]));
    }
    until(|| got.text().contains("lost")).await;
    let text = got.text();
    let lost = text.lines().find(|line| line.contains("lost"));
    let told = text.lines().filter(|line| line.contains("s=")).count();
    assert_eq!(
        lost,
        Some(&*format!("NAT: {} debug lines lost", 1500 - told))
    );
    listener.abort();
}
