//! The management socket: a command a line in, a stream of JSON lines out.
//!
//! Request: `{"command": "show version", "format": "text"}`. Answer: any number of
//! `{"out": "..."}`, then `{"exit": 0}` or `{"exit": 1, "error": "..."}`. A client may send its
//! next command on the same connection after that.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::appliance::Appliance;
use super::command::{ExitStatus, Format, execute};
use super::output::Sink;

/// Where the socket is unless the operator says otherwise.
pub const DEFAULT_PATH: &str = "/run/spillway/spillway.sock";

/// Longest request line in octets.
pub const MAX_REQUEST: u64 = 4096;

/// A command, as it goes over the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub(super) command: String,
    #[serde(default)]
    pub(super) format: Format,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Answered {
    Piece {
        out: String,
    },
    End {
        exit: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// Why the socket can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon answers there.
    #[error("another spillway answers on {0}; stop it, or give this one another --socket")]
    InUse(PathBuf),
    /// Something that is no socket lies there.
    #[error("{0} is there and is no socket; move it away, or choose another --socket")]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("the management socket {0} can't be made: {1}")]
    Io(PathBuf, io::Error),
}

/// The open socket. Its file goes when it is dropped.
#[derive(Debug)]
pub struct ManagementSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl ManagementSocket {
    /// Opens the socket for its owner only (mode 0600), makes its folder, and replaces the socket
    /// of a daemon that is no more. Needs a tokio runtime.
    ///
    /// # Errors
    /// A daemon that lives, a file in the way, or the system's refusal.
    pub fn open(path: &Path) -> Result<ManagementSocket, OpenError> {
        let refused = |error| OpenError::Io(path.to_owned(), error);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(refused)?;
        }
        refuse_occupied(path)?;
        // Made beside its place and moved there, so that it is never open to others nor missing.
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let _ = fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside).map_err(refused)?;
        let placed = fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&beside, path))
            .and_then(|()| fs::symlink_metadata(path));
        if placed.is_err() {
            let _ = fs::remove_file(&beside);
        }
        Ok(ManagementSocket {
            listener,
            inode: placed.map_err(refused)?.ino(),
            path: path.to_owned(),
        })
    }

    /// Serves clients until the future is dropped; their connections end with it.
    pub async fn serve(self, appliance: Arc<Appliance>) {
        let clients = appliance.parts.limits.clients;
        let places = Arc::new(Semaphore::new(clients));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let accepted = self.listener.accept().await;
            while connections.try_join_next().is_some() {}
            match (accepted, Arc::clone(&places).try_acquire_owned()) {
                (Ok((stream, _)), Ok(place)) => {
                    connections.spawn(serve_client(Arc::clone(&appliance), stream, place));
                }
                (Ok((stream, _)), Err(_)) => turn_away(&stream, clients),
                (Err(error), _) => {
                    tracing::warn!(%error, "management socket: no client taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for ManagementSocket {
    fn drop(&mut self) {
        let still_ours = fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if still_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn refuse_occupied(path: &Path) -> Result<(), OpenError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(there) => there.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenError::Io(path.to_owned(), error)),
    };
    if !kind.is_socket() {
        return Err(OpenError::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(OpenError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OpenError::Io(path.to_owned(), error)),
    }
}

/// Tells a client that there are too many; one line always fits into a new socket's buffer.
fn turn_away(stream: &UnixStream, clients: usize) {
    let answer = Answered::End {
        exit: 1,
        error: Some(format!(
            "% too many management clients ({clients}); try again"
        )),
    };
    if let Ok(line) = serde_json::to_string(&answer) {
        let _ = stream.try_write(format!("{line}\n").as_bytes());
    }
    tracing::warn!(clients, "management socket: client turned away");
}

async fn serve_client(appliance: Arc<Appliance>, stream: UnixStream, _place: OwnedSemaphorePermit) {
    let idle = appliance.parts.limits.idle;
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut client = Client { writer, idle };
    loop {
        let status = match read_request(&mut reader, idle).await {
            Ok(None) => return,
            Ok(Some(asked)) => execute(&appliance, &asked.command, asked.format, &mut client).await,
            Err(reason) => {
                // What follows in the stream can't be told from the rest of a bad request.
                let _ = client.end(ExitStatus::failed(reason)).await;
                return;
            }
        };
        let ended = match status {
            Ok(status) => client.end(status).await,
            Err(gone) => Err(gone),
        };
        if let Err(reason) = ended {
            tracing::debug!(%reason, "management client left in the middle of an answer");
            return;
        }
    }
}

/// The next request; `None` when the client has gone or has been silent for too long.
async fn read_request(
    reader: &mut BufReader<OwnedReadHalf>,
    idle: Duration,
) -> Result<Option<Asked>, String> {
    let mut line = Vec::new();
    let mut bounded = reader.take(MAX_REQUEST);
    match timeout(idle, bounded.read_until(b'\n', &mut line)).await {
        Ok(Ok(0)) | Ok(Err(_)) | Err(_) => return Ok(None),
        Ok(Ok(_)) => {}
    }
    if line.last() != Some(&b'\n') && line.len() as u64 == MAX_REQUEST {
        return Err(format!("% request longer than {MAX_REQUEST} octets"));
    }
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(|error| format!("% request is not {{\"command\": ..., \"format\": ...}}: {error}"))
}

/// The way back to a client. Each line must be taken before the idle time is over.
struct Client {
    writer: OwnedWriteHalf,
    idle: Duration,
}

impl Client {
    async fn end(&mut self, status: ExitStatus) -> io::Result<()> {
        self.send(&Answered::End {
            exit: status.code,
            error: status.error,
        })
        .await
    }

    async fn send(&mut self, answered: &Answered) -> io::Result<()> {
        let mut line = serde_json::to_string(answered).map_err(io::Error::other)?;
        line.push('\n');
        timeout(self.idle, self.writer.write_all(line.as_bytes())).await?
    }
}

impl Sink for Client {
    async fn write(&mut self, piece: &str) -> io::Result<()> {
        let out = piece.to_owned();
        self.send(&Answered::Piece { out }).await
    }
}
