//! The management socket, both ends of it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{Behaviour, Lab, Setup, generated, serve};
use spillway_control::manage::client::{NO_ANSWER, run_with};
use spillway_control::manage::socket::{ManagementSocket, OpenError};
use spillway_control::manage::{Format, Limits};

/// A folder of this test's own, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("manage-socket-{}-{number}", std::process::id());
        Folder(std::env::temp_dir().join(name))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("run/spillway.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Limits that a slow machine does not reach.
fn patient() -> Limits {
    Limits {
        answer: Duration::from_secs(30),
        ring: Duration::from_secs(30),
        ..Limits::default()
    }
}

/// The answer of one command: exit code, output, errors.
type Answer = (u8, String, String);

fn ask(socket: &Path, command: &str, format: Format) -> Answer {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let code = run_with(socket, command, format, &mut out, &mut errors);
    let text = |octets| String::from_utf8(octets).expect("UTF-8");
    (code, text(out), text(errors))
}

/// Serves the lab on a socket while `client` runs on a thread of its own.
async fn with_daemon<T: Send + 'static>(
    lab: &Lab,
    socket: &Path,
    client: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> T {
    let open = ManagementSocket::open(socket).expect("a free path");
    let path = socket.to_owned();
    let client = tokio::task::spawn_blocking(move || client(path));
    tokio::select! {
        () = open.serve(lab.appliance.clone()) => unreachable!("serves until dropped"),
        result = client => result.expect("a client that does not panic"),
    }
}

#[tokio::test]
async fn two_clients_are_served_at_once_and_codes_come_through() {
    let folder = Folder::new();
    let lab = Setup {
        workers: vec![serve((0..2000).map(generated).collect())],
        ..Setup::default()
    }
    .start();
    let answers = with_daemon(&lab, &folder.socket(), |path| {
        // The first client asks nothing for as long as the second one is served.
        let idle = UnixStream::connect(&path).expect("a daemon");
        let other = path.clone();
        let table = std::thread::spawn(move || ask(&other, "sh ip nat tr", Format::Text));
        let version = ask(&path, "show version", Format::Json);
        let wrong = ask(&path, "show ip nut", Format::Text);
        let table = table.join().expect("a client that does not panic");
        drop(idle);
        (table, version, wrong)
    })
    .await;
    let ((code, table, _), version, wrong) = answers;
    assert_eq!((code, table.lines().count()), (0, 2001));
    assert!(
        version.1.starts_with("{\"version\":\"0.1.0\""),
        "{version:?}"
    );
    let message = "show ip nut\n        ^\n% Invalid input detected at '^' marker.\n";
    assert_eq!(wrong, (2, String::new(), message.into()));
}

#[tokio::test]
async fn one_connection_carries_several_commands() {
    let folder = Folder::new();
    let lab = Setup::default().start();
    let lines = with_daemon(&lab, &folder.socket(), |path| {
        let mut stream = UnixStream::connect(path).expect("a daemon");
        let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut lines = Vec::new();
        for command in ["reload", "show"] {
            writeln!(stream, "{{\"command\":\"{command}\"}}").expect("a daemon that reads");
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("an answer");
                lines.push(line.trim_end().to_owned());
                if line.starts_with("{\"exit\"") {
                    break;
                }
            }
        }
        lines
    })
    .await;
    assert_eq!(
        lines,
        [
            r#"{"out":" is in force; 0 entries withdrawn, 0 kept\n"}"#,
            r#"{"exit":0}"#,
            r#"{"exit":2,"error":"% Incomplete command."}"#,
        ]
    );
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_frees_the_worker() {
    let folder = Folder::new();
    let lab = Setup {
        workers: vec![Behaviour::Serve(500_000, Box::new(generated))],
        limits: patient(),
        ..Setup::default()
    }
    .start();
    let answer = with_daemon(&lab, &folder.socket(), |path| {
        let mut stream = UnixStream::connect(&path).expect("a daemon");
        writeln!(stream, "{{\"command\":\"show ip nat translations\"}}")
            .expect("a daemon that reads");
        let mut some = [0; 4096];
        stream
            .read_exact(&mut some)
            .expect("the beginning of an answer");
        drop(stream);
        ask(&path, "clear ip nat translation udp", Format::Json)
    })
    .await;
    assert_eq!(answer.0, 1);
    assert_eq!(answer.1, "{\"cleared\":0}\n");
    assert!(lab.seen[0].given.load(Ordering::Relaxed) < 500_000);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let folder = Folder::new();
    let limits = Limits {
        idle: Duration::from_millis(200),
        ..patient()
    };
    let lab = Setup {
        workers: vec![Behaviour::Serve(500_000, Box::new(generated))],
        limits,
        ..Setup::default()
    }
    .start();
    let received = with_daemon(&lab, &folder.socket(), move |path| {
        let mut stream = UnixStream::connect(&path).expect("a daemon");
        writeln!(stream, "{{\"command\":\"show ip nat translations\"}}")
            .expect("a daemon that reads");
        // Others are served while this client does not read.
        assert_eq!(
            ask(&path, "clear ip nat translation udp", Format::Text).0,
            1
        );
        std::thread::sleep(4 * limits.idle);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        all.len()
    })
    .await;
    assert!(
        received < 10_000_000,
        "the whole table came: {received} octets"
    );
}

fn raw(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).expect("a daemon");
    stream.write_all(request).expect("a daemon that reads");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[tokio::test]
async fn bad_requests_get_a_reason_and_silent_clients_are_let_go() {
    let folder = Folder::new();
    let limits = Limits {
        idle: Duration::from_millis(200),
        clients: 2,
        ..Limits::default()
    };
    let lab = Setup {
        limits,
        ..Setup::default()
    }
    .start();
    let (long, junk, unknown, silent, third) = with_daemon(&lab, &folder.socket(), |path| {
        let long = raw(&path, &[b'a'; 5000]);
        let junk = raw(&path, b"\xff\x00\n");
        let unknown = raw(&path, b"{\"command\":\"reload\",\"more\":1}\n");
        let silent = raw(&path, b"{\"command\":");
        let _two = (UnixStream::connect(&path), UnixStream::connect(&path));
        std::thread::sleep(Duration::from_millis(50));
        let third = raw(&path, b"");
        (long, junk, unknown, silent, third)
    })
    .await;
    assert!(long.contains("longer than 4096 octets"), "{long}");
    assert!(junk.contains("request is not"), "{junk}");
    assert!(unknown.contains("unknown field `more`"), "{unknown}");
    assert_eq!(silent, "");
    assert!(third.contains("too many management clients (2)"), "{third}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = Folder::new();
    let path = folder.socket();
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder of our own");
    drop(UnixListener::bind(&path).expect("a free path"));
    assert!(path.exists(), "the stale socket is there");
    let open = ManagementSocket::open(&path).expect("a stale socket is no obstacle");
    let mode = fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = ManagementSocket::open(&path).expect_err("a live socket");
    assert!(matches!(&error, OpenError::InUse(at) if *at == path));
    assert!(error.to_string().contains(path.to_str().expect("UTF-8")));
    drop(open);
    assert!(!path.exists(), "the socket goes with its daemon");
    fs::write(&path, "precious").expect("a folder of our own");
    assert!(matches!(
        ManagementSocket::open(&path),
        Err(OpenError::NotASocket(_))
    ));
    assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    let left: Vec<_> = fs::read_dir(folder.0.join("run"))
        .expect("a folder")
        .collect();
    assert_eq!(left.len(), 1, "nothing is left beside it: {left:?}");
}

#[test]
fn without_a_daemon_one_sentence_says_so() {
    let folder = Folder::new();
    let (code, out, errors) = ask(&folder.socket(), "show version", Format::Text);
    assert_eq!((code, out.as_str()), (NO_ANSWER, ""));
    assert_eq!(errors.lines().count(), 1);
    assert!(
        errors.contains("no daemon answers on") && errors.contains("spillway run"),
        "{errors}"
    );
}

#[test]
fn an_answer_that_breaks_off_is_an_error() {
    let folder = Folder::new();
    fs::create_dir_all(folder.0.join("run")).expect("a folder of our own");
    let listener = UnixListener::bind(folder.socket()).expect("a free path");
    let daemon = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut line = String::new();
        BufReader::new(stream.try_clone().expect("a handle"))
            .read_line(&mut line)
            .expect("a request");
        stream
            .write_all(b"{\"out\":\"half\"}\n")
            .expect("a client that reads");
    });
    let (code, out, errors) = ask(&folder.socket(), "show version", Format::Text);
    daemon.join().expect("a daemon that does not panic");
    assert_eq!((code, out.as_str()), (NO_ANSWER, "half"));
    assert!(errors.contains("broke off"), "{errors}");
}
