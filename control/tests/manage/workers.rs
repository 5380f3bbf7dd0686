//! Asking workers: bounded memory, and no waiting for ever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{Behaviour, PEERS, Setup, generated, serve};
use spillway_control::manage::ask::{self, AskError, SessionStream};
use spillway_control::manage::{Format, Limits, Sink, execute};
use spillway_dataplane::command::{Request, SessionFilter};
use spillway_dataplane::snapshot::WorkerId;

const MILLION: u64 = 1_000_000;

/// Counts what it is given; sleeps on each piece while `slow`.
#[derive(Default)]
struct Counting {
    lines: u64,
    pieces: u64,
    largest: usize,
    slow: bool,
    breaks_after: Option<u64>,
}

impl Sink for Counting {
    async fn write(&mut self, piece: &str) -> io::Result<()> {
        if self.breaks_after == Some(self.pieces) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.pieces += 1;
        self.largest = self.largest.max(piece.len());
        self.lines += piece.bytes().filter(|b| *b == b'\n').count() as u64;
        if self.slow {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn generator(count: u64) -> Behaviour {
    Behaviour::Serve(count, Box::new(generated))
}

#[tokio::test]
async fn a_million_entries_pass_in_small_pieces() {
    let lab = Setup {
        workers: vec![generator(MILLION / 2), generator(MILLION / 2)],
        limits: Limits {
            reply_capacity: 512,
            ..Limits::default()
        },
        ..Setup::default()
    }
    .start();
    let mut sink = Counting::default();
    let line = "show ip nat translations";
    let status = execute(&lab.appliance, line, Format::Text, &mut sink)
        .await
        .expect("a sink that takes all");
    assert_eq!(status.code, 0);
    assert_eq!(sink.lines, MILLION + 1);
    assert!(
        sink.largest < 17 * 1024,
        "a piece of {} octets",
        sink.largest
    );
}

#[tokio::test]
async fn a_slow_reader_keeps_nobody_waiting_and_loses_nothing() {
    let lab = Setup {
        workers: vec![generator(5_000)],
        limits: Limits {
            reply_capacity: 64,
            answer: Duration::from_secs(2),
            ..Limits::default()
        },
        ..Setup::default()
    }
    .start();
    let mut sink = Counting {
        slow: true,
        ..Counting::default()
    };
    let shown = execute(
        &lab.appliance,
        "show ip nat translations",
        Format::Text,
        &mut sink,
    );
    let reconciled = async {
        // The reader is in the middle of it, and does not read on.
        while lab.seen[0].full.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let one = ask::reconcile(&lab.appliance).await;
        (one, lab.seen[0].given.load(Ordering::Relaxed))
    };
    let (status, (one, given)) = tokio::join!(shown, reconciled);
    assert_eq!(status.expect("a sink that takes all").code, 0);
    assert_eq!(sink.lines, 5_001);
    assert_eq!(one, Ok(1));
    assert!(given < 5_000, "it was answered after the reader");
}

#[tokio::test]
async fn at_most_the_reply_capacity_is_on_its_way() {
    let lab = Setup {
        workers: vec![generator(MILLION)],
        limits: Limits {
            reply_capacity: 100,
            ..Limits::default()
        },
        ..Setup::default()
    }
    .start();
    let mut sessions = SessionStream::new(&lab.appliance, SessionFilter::default());
    for taken in 1..=2_000u64 {
        assert!(
            sessions
                .next()
                .await
                .expect("a worker that serves")
                .is_some()
        );
        let given = lab.seen[0].given.load(Ordering::Relaxed);
        // One more may be counted than taken while the worker is between giving and counting.
        assert!(given <= taken + 100, "{given} given, {taken} taken");
    }
}

#[tokio::test]
async fn a_reader_that_leaves_frees_the_worker() {
    let lab = Setup {
        workers: vec![generator(MILLION)],
        ..Setup::default()
    }
    .start();
    let mut sink = Counting {
        breaks_after: Some(3),
        ..Counting::default()
    };
    let gone = execute(
        &lab.appliance,
        "show ip nat translations",
        Format::Text,
        &mut sink,
    )
    .await;
    assert_eq!(gone.map_err(|e| e.kind()), Err(io::ErrorKind::BrokenPipe));
    // The worker serves the next command, so it has left the first.
    assert_eq!(ask::reconcile(&lab.appliance).await, Ok(1));
    assert!(lab.seen[0].given.load(Ordering::Relaxed) < MILLION);
}

#[tokio::test]
async fn a_silent_worker_is_an_error_that_names_it() {
    let lab = Setup {
        workers: vec![serve(vec![generated(1)]), Behaviour::Silent],
        ..Setup::default()
    }
    .start();
    let mut out = String::new();
    let status = execute(
        &lab.appliance,
        "show ip nat translations",
        Format::Text,
        &mut out,
    )
    .await
    .expect("a string");
    assert_eq!(
        out.lines().count(),
        2,
        "what the other worker said is shown: {out}"
    );
    assert_eq!(status.code, 1);
    assert_eq!(
        status.error.as_deref(),
        Some("% worker 1 did not answer for 300 ms")
    );
    let limit = Duration::from_millis(300);
    assert_eq!(
        ask::clear(&lab.appliance, SessionFilter::default()).await,
        Err(AskError::Silent(WorkerId(1), limit))
    );
}

#[tokio::test]
async fn a_worker_that_is_at_it_is_not_silent() {
    let lab = Setup {
        workers: vec![Behaviour::Thorough(25)],
        ..Setup::default()
    }
    .start();
    // Longer than a worker may be silent, which is 300 ms here.
    assert_eq!(ask::reconcile(&lab.appliance).await, Ok(7));
}

#[tokio::test]
async fn a_full_request_ring_is_an_error_that_says_so() {
    let lab = Setup {
        workers: vec![Behaviour::Deaf],
        ..Setup::default()
    }
    .start();
    let requests = &lab.appliance.workers()[0].requests;
    while requests
        .push(Request::Reconcile(spillway_dataplane::command::Reply::new(
            1,
        )))
        .is_ok()
    {}
    let error = ask::clear(&lab.appliance, SessionFilter::default())
        .await
        .expect_err("a full ring");
    assert_eq!(
        error,
        AskError::RingFull(WorkerId(0), Duration::from_millis(200))
    );
    assert!(error.to_string().contains("request ring is full"));
    // Somebody makes room while the request waits: it goes through and finds a silent worker.
    let queue = Arc::clone(requests);
    let room = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(queue.pop());
    };
    let (error, ()) = tokio::join!(ask::clear(&lab.appliance, SessionFilter::default()), room);
    assert!(matches!(error, Err(AskError::Silent(..))), "{error:?}");
}

#[tokio::test]
async fn a_worker_busy_with_another_command_is_named() {
    let lab = Setup {
        workers: vec![Behaviour::Silent],
        ..Setup::default()
    }
    .start();
    let everything = SessionFilter::default();
    let (first, second) = tokio::join!(
        ask::clear(&lab.appliance, everything),
        ask::reconcile(&lab.appliance)
    );
    assert!(matches!(first, Err(AskError::Silent(WorkerId(0), _))));
    let error = second.expect_err("a worker in use");
    assert!(
        error.to_string().contains("busy with another command"),
        "{error}"
    );
}

#[tokio::test]
async fn the_peers_of_all_workers_come_a_few_at_a_time() {
    let lab = Setup {
        workers: vec![serve(vec![]), serve(vec![])],
        limits: Limits {
            reply_capacity: 2,
            ..Limits::default()
        },
        ..Setup::default()
    }
    .start();
    let told = ask::peers(&lab.appliance).await.expect("both answer");
    let clients = |worker: u8| {
        let of = told.iter().filter(move |(id, _)| *id == WorkerId(worker));
        of.map(|(_, view)| u64::from(view.clients))
            .collect::<Vec<_>>()
    };
    let all: Vec<u64> = (0..PEERS).collect();
    assert_eq!([clients(0), clients(1)], [all.clone(), all]);
}
