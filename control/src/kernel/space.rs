//! Network namespaces: the kernel of each VRF.
//!
//! Each VRF has a network namespace of its own, in which the twins of its interfaces live. So two
//! VRFs may have the same addresses: the kernel keeps addresses, routes, neighbours and sockets of
//! namespaces apart, and what it says leaves through the twins of the VRF that it was asked in. A
//! Linux VRF device would give less (its sockets and its local addresses are the host's) and is not
//! in every kernel; policy rules can't tell equal addresses of two twins apart.
//!
//! A namespace has no name: it goes with the process, also when that is killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::{Handle, LinkUnspec};
use spillway_dataplane::snapshot::VrfId;
use tracing::{info, warn};

use super::error::KernelError;
use super::netlink;

/// The calling thread's namespace, as a file.
const MINE: &str = "/proc/thread-self/ns/net";

/// The loopback interface: the first of each namespace.
const LOOPBACK: u32 = 1;

/// Spillway forwards; the kernel gets frames for itself alone. New namespaces inherit the host's.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// A network namespace. Copies are the same one; it exists as long as one of them, or something in it.
#[derive(Debug, Clone)]
pub struct Space(Option<Arc<File>>);

impl PartialEq for Space {
    fn eq(&self, other: &Space) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for Space {}

impl Space {
    /// The namespace that Spillway runs in: that of the global table.
    pub const HERE: Space = Space(None);

    /// A new one, empty but for its loopback interface.
    fn create() -> io::Result<Space> {
        let made = aside(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            if let Err(e) = std::fs::write(FORWARDING, "0") {
                warn!("can't set {FORWARDING} to 0 in a new network namespace: {e}");
            }
            File::open(MINE)
        });
        Ok(Space(Some(Arc::new(made??))))
    }

    /// Does something in this namespace: sockets and interfaces made meanwhile belong to it, and
    /// `/proc/sys/net` shows it. It is waited for, so it must not take long.
    ///
    /// # Errors
    /// When the namespace can't be entered.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> io::Result<T> {
        let Some(file) = &self.0 else {
            return Ok(act());
        };
        aside(|| {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            Ok(act())
        })?
    }

    /// Where others find it, as `nsenter --net=` takes it; `None` for the one that Spillway runs in.
    #[must_use]
    pub fn path(&self) -> Option<String> {
        use std::os::fd::AsRawFd;
        let descriptor = self.0.as_ref()?.as_raw_fd();
        Some(format!("/proc/{}/fd/{descriptor}", std::process::id()))
    }
}

/// Does something on a thread of its own, whose namespace nobody else has, but with this thread's
/// runtime.
fn aside<T: Send>(act: impl FnOnce() -> T + Send) -> io::Result<T> {
    let runtime = tokio::runtime::Handle::try_current();
    thread::scope(|scope| {
        let work = move || {
            let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
            act()
        };
        let thread = thread::Builder::new().name("vrf".to_owned());
        let thread = thread.spawn_scoped(scope, work)?;
        thread.join().map_err(|_| io::ErrorKind::Other.into())
    })
}

/// `ip vrf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VrfConfig {
    /// Its number.
    pub id: VrfId,
    /// Its name.
    pub name: String,
}

/// The kernel of one VRF, or of the global table.
#[derive(Clone)]
pub(crate) struct Realm {
    pub(crate) vrf: VrfId,
    /// The VRF's name; the global table's is empty.
    name: String,
    pub(crate) space: Space,
    /// A netlink connection to it.
    pub(crate) handle: Handle,
}

impl Realm {
    fn global() -> Result<Realm, KernelError> {
        Ok(Realm {
            vrf: VrfId::GLOBAL,
            name: String::new(),
            space: Space::HERE,
            handle: netlink::connect()?,
        })
    }

    async fn of(vrf: &VrfConfig) -> Result<Realm, KernelError> {
        let refused = |cause: io::Error| KernelError::Namespace {
            vrf: vrf.name.clone(),
            cause,
        };
        let space = Space::create().map_err(refused)?;
        let handle = space.enter(netlink::connect).map_err(refused)??;
        let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
        let raised = handle.link().set(up).execute().await;
        raised.map_err(|e| KernelError::netlink("bring up a VRF's loopback interface", e))?;
        if let Some(path) = space.path() {
            info!(
                vrf = vrf.name,
                "made the VRF's network namespace; enter it with nsenter --net={path}"
            );
        }
        Ok(Realm {
            vrf: vrf.id,
            name: vrf.name.clone(),
            space,
            handle,
        })
    }
}

/// The kernels of all VRFs, the global table's first.
pub(crate) struct Realms {
    all: Vec<Realm>,
    shared: Spaces,
}

impl Realms {
    /// Of the global table alone.
    pub(crate) fn new() -> Result<Realms, KernelError> {
        Ok(Realms {
            all: vec![Realm::global()?],
            shared: Spaces::default(),
        })
    }

    /// Makes those of VRFs that are new and forgets those of VRFs that are gone, which vanish with
    /// the last twin in them. The answer holds what failed.
    pub(crate) async fn apply(&mut self, wanted: &[VrfConfig]) -> Vec<KernelError> {
        let mut problems = Vec::new();
        self.all.retain(|realm| {
            let same = |w: &VrfConfig| w.id == realm.vrf && w.name == realm.name;
            realm.vrf == VrfId::GLOBAL || wanted.iter().any(same)
        });
        for vrf in wanted {
            if self.of(vrf.id).is_none() {
                match Realm::of(vrf).await {
                    Ok(realm) => self.all.push(realm),
                    Err(e) => problems.push(e),
                }
            }
        }
        self.share();
        problems
    }

    pub(crate) fn of(&self, vrf: VrfId) -> Option<&Realm> {
        self.all.iter().find(|realm| realm.vrf == vrf)
    }

    pub(crate) fn all(&self) -> &[Realm] {
        &self.all
    }

    pub(crate) fn shared(&self) -> Spaces {
        self.shared.clone()
    }

    fn share(&mut self) {
        let spaces = self.all.iter().map(|r| (r.vrf, r.space.clone())).collect();
        *(self.shared.0.lock()).unwrap_or_else(PoisonError::into_inner) = spaces;
    }
}

/// The namespace of each VRF as it is now, for whoever opens sockets there.
#[derive(Debug, Clone, Default)]
pub struct Spaces(Arc<Mutex<BTreeMap<VrfId, Space>>>);

impl Spaces {
    /// That of one VRF; `None` if it has none, as a VRF that is gone.
    #[must_use]
    pub fn of(&self, vrf: VrfId) -> Option<Space> {
        if vrf == VrfId::GLOBAL {
            return Some(Space::HERE);
        }
        let spaces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spaces.get(&vrf).cloned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn mine() -> std::path::PathBuf {
        std::fs::read_link(MINE).unwrap()
    }

    #[test]
    fn what_is_done_in_a_namespace_is_done_there_and_nowhere_else() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return;
        }
        let before = mine();
        let (one, two) = (Space::create().unwrap(), Space::create().unwrap());
        assert_eq!(Space::HERE.enter(mine).unwrap(), before);
        let there = [&one, &two, &one.clone()].map(|space| space.enter(mine).unwrap());
        assert!(there[0] != before && there[1] != before && there[0] != there[1]);
        assert_eq!(there[0], there[2]);
        assert_eq!(mine(), before);
        assert!(one == one.clone() && one != two && one != Space::HERE);
        let forwards = one.enter(|| std::fs::read_to_string(FORWARDING).unwrap());
        assert_eq!(forwards.unwrap().trim(), "0");
        let seen = std::fs::metadata(one.path().unwrap()).is_ok();
        assert!(seen, "others can enter it");
    }

    #[test]
    fn a_panic_inside_is_an_error_outside() {
        if nix::unistd::geteuid().is_root() {
            let space = Space::create().unwrap();
            assert!(space.enter(|| panic!("expected")).is_err());
        }
    }
}
