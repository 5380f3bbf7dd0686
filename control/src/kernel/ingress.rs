//! Drops what the kernel receives a second time on an interface whose port copies frames.
//!
//! Such a port (af_packet, pcap) takes its copy before the ingress hook; the original is dropped
//! in the hook, so that the kernel doesn't answer or forward what Spillway has in hand. What the
//! kernel sends there, and everything on other interfaces, stays as it was.

use std::collections::HashSet;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tracing::warn;

use super::error::KernelError;
use super::watch::{LinkEvent, LinkState, Watch};

/// The ingress drops that are installed.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    interfaces: HashSet<String>,
}

impl Drops {
    /// Makes the interface of an event ready for its port, before anyone is told of the event.
    pub(crate) async fn prepare(
        &mut self,
        event: &LinkEvent,
        watch: &Watch,
    ) -> Result<(), KernelError> {
        let interface = &event.device;
        if event.state == LinkState::Absent {
            // The kernel took the hook away with the interface, but not the table.
            if self.interfaces.remove(interface) {
                remove(interface).await;
            }
        } else if watch.copies(interface) && !self.interfaces.contains(interface) {
            install(interface).await?;
            self.interfaces.insert(interface.clone());
        }
        Ok(())
    }

    /// Gives the kernel back the interfaces that are under no port any more.
    pub(crate) async fn undo(&mut self, watch: &Watch) {
        let unwanted = self.interfaces.extract_if(|device| !watch.copies(device));
        for interface in unwanted.collect::<Vec<_>>() {
            remove(&interface).await;
        }
    }
}

/// Drops everything that the kernel receives on `interface`. Doing it twice changes nothing, so
/// that leftovers of a killed process do no harm.
async fn install(interface: &str) -> Result<(), KernelError> {
    nft(&install_script(interface))
        .await
        .map_err(|cause| KernelError::IngressDrop {
            interface: interface.to_owned(),
            cause,
        })
}

/// Takes the drop away again.
async fn remove(interface: &str) {
    if let Err(cause) = nft(&remove_script(interface)).await {
        let table = table(interface);
        warn!(
            interface,
            "can't remove the ingress drop: {cause}; nft delete table netdev {table}"
        );
    }
}

/// The name of the table for an interface: what an nft identifier may not hold is written in
/// hexadecimal.
fn table(interface: &str) -> String {
    let mut name = String::from("spillway_");
    for octet in interface.bytes() {
        if octet.is_ascii_alphanumeric() {
            name.push(char::from(octet));
        } else {
            name.push_str(&format!("_{octet:02x}"));
        }
    }
    name
}

fn install_script(interface: &str) -> String {
    let table = table(interface);
    // One transaction: add (so that delete finds it), delete, add anew.
    format!(
        "add table netdev {table}\n\
         delete table netdev {table}\n\
         table netdev {table} {{\n\
           chain ingress {{\n\
             type filter hook ingress device \"{interface}\" priority -500; policy accept;\n\
             counter drop\n\
           }}\n\
         }}\n"
    )
}

fn remove_script(interface: &str) -> String {
    let table = table(interface);
    format!("add table netdev {table}\ndelete table netdev {table}\n")
}

/// Runs a script; the error is what nft said, in one line.
async fn nft(script: &str) -> Result<(), String> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("nft did not start: {e}"))?;
    if let Some(mut input) = child.stdin.take() {
        // nft that has already ended says why below.
        let _ = input.write_all(script.as_bytes()).await;
    }
    let output = child
        .wait_with_output()
        .await
        .map_err(|e| format!("nft did not end: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("no reason given");
    Err(format!("nft said: {first}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn tables_of_different_interfaces_differ() {
        let names = ["eth0.5", "eth0_5", "eth0-5", "eth0_2e5", "eth02e5"];
        let tables: std::collections::HashSet<_> = names.map(table).into();
        assert_eq!(tables.len(), names.len());
        assert_eq!(table("eth0.5"), "spillway_eth0_2e5");
    }

    #[test]
    fn a_refusal_says_what_to_do_in_one_line() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        // No interface can have this name: refused with any rights, also where nft is missing.
        let refused = runtime.block_on(install("not an interface name"));
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("nft ") && text.contains("apt install nftables"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
    }
}
