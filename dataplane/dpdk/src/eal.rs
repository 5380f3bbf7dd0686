//! DPDK's environment: started once, ended after everything that lives in it.

use crate::args::{self, EalOptions};
use crate::error::{EalError, reason};
use crate::log;
use spillway_dpdk_sys as sys;
use std::collections::HashSet;
use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

static STARTED: AtomicBool = AtomicBool::new(false);

/// Most processors that are looked at for DPDK's own threads.
const CPUS: usize = 1024;

/// DPDK's environment.
///
/// It ends when this value and everything made with it is gone: ports, queues, pools, thread
/// guards. DPDK's main thread is one of its own that sleeps; the caller's threads and their
/// processors are left as they are.
#[derive(Debug)]
pub struct Eal {
    shared: Arc<EalShared>,
    warning: Option<String>,
}

/// What pools, ports and registered threads hold to keep the environment alive.
#[derive(Debug)]
pub(crate) struct EalShared {
    pub(crate) huge_pages: bool,
    pub(crate) pci: bool,
    state: Mutex<State>,
    main: Mutex<Option<Main>>,
}

/// DPDK's main thread.
#[derive(Debug)]
struct Main {
    end: mpsc::Sender<End>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Give everything back.
    CleanUp,
    /// Buffers are still out: leave DPDK's memory where it is.
    Leave,
}

/// What exists, under one lock that also orders attaching and detaching of devices.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Devices that are open.
    pub(crate) devices: HashSet<String>,
    /// Pools made so far; they last as long as the environment.
    pub(crate) pools: Vec<PoolPointer>,
}

/// A pool of DPDK's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolPointer(pub(crate) *mut sys::rte_mempool);

// SAFETY: a mempool may be used from every thread at once (DPDK programmer's guide, "Mempool
// Library"), and this one is freed only with the environment.
unsafe impl Send for PoolPointer {}
// SAFETY: as above.
unsafe impl Sync for PoolPointer {}

impl PoolPointer {
    /// Buffers that are not in use.
    pub(crate) fn available(self) -> u32 {
        // SAFETY: the pool lives as long as the environment, whose holders alone call this.
        unsafe { sys::spw_pool_available(self.0) }
    }

    /// Buffers in all.
    pub(crate) fn size(self) -> u32 {
        // SAFETY: as above.
        unsafe { sys::spw_pool_size(self.0) }
    }
}

impl Eal {
    /// Starts DPDK. That works once a process.
    ///
    /// # Errors
    /// One sentence each, see [`EalError`].
    pub fn start(options: EalOptions) -> Result<Eal, EalError> {
        let pages = args::choose_pages(&options, Path::new(args::HUGE_PAGES))?;
        let args = args::arguments(&options, pages.huge, &allowed_cpus())?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyStarted);
        }
        let main = start_main(args).map_err(|(code, detail)| explain(&options, code, detail))?;
        if let Some(warning) = &pages.warning {
            tracing::warn!("{warning}");
        }
        let shared = EalShared {
            huge_pages: pages.huge,
            pci: !options.pci.is_empty(),
            state: Mutex::default(),
            main: Mutex::new(Some(main)),
        };
        Ok(Eal {
            shared: Arc::new(shared),
            warning: pages.warning,
        })
    }

    /// The warning that [`Eal::start`] has logged, if any: normal pages instead of huge ones.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Whether DPDK's memory is made of huge pages.
    #[must_use]
    pub fn huge_pages(&self) -> bool {
        self.shared.huge_pages
    }

    /// DPDK's name and version, such as `DPDK 22.11.4`.
    #[must_use]
    pub fn version() -> String {
        // SAFETY: the shim returns text that is never changed or freed.
        unsafe { CStr::from_ptr(sys::spw_version()) }
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn shared(&self) -> Arc<EalShared> {
        Arc::clone(&self.shared)
    }
}

impl EalShared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves a list of names, which is still one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for EalShared {
    /// Ports and registered threads are gone, they hold this value. Buffers do not: one that is
    /// still out would be freed into memory that is gone, so then the memory stays.
    fn drop(&mut self) {
        let missing: u32 = self
            .state()
            .pools
            .iter()
            .map(|pool| pool.size().saturating_sub(pool.available()))
            .sum();
        let end = if missing == 0 {
            End::CleanUp
        } else {
            End::Leave
        };
        if end == End::Leave {
            tracing::warn!(
                "{missing} packet buffers are still in use: DPDK's memory is left to the kernel"
            );
        }
        let main = self
            .main
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(main) = main {
            // If the thread is gone there is nobody left to end.
            let _ = main.end.send(end);
            let _ = main.thread.join();
        }
    }
}

/// Starts DPDK in a thread of its own, which then sleeps until the end.
fn start_main(args: Vec<String>) -> Result<Main, (i32, String)> {
    let (end, ended) = mpsc::channel();
    let (start, started) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("dpdk-main".to_owned())
        .spawn(move || {
            let result = log::held(|| init(args));
            let up = result.is_ok();
            if start.send(result).is_ok() && up && ended.recv() == Ok(End::CleanUp) {
                // SAFETY: this is the thread that started the environment, it did so once, and
                // whoever asks for the end has seen that nothing of DPDK's is in use.
                let code = unsafe { sys::spw_eal_cleanup() };
                if code < 0 {
                    tracing::warn!("DPDK did not end cleanly: {}", reason(code));
                }
            }
        })
        .map_err(|error| (-error.raw_os_error().unwrap_or(0), error.to_string()))?;
    match started.recv() {
        Ok(Ok(_)) => Ok(Main { end, thread }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err((0, "its main thread ended".to_owned())),
    }
}

/// Calls rte_eal_init.
fn init(args: Vec<String>) -> i32 {
    let code = log::open();
    if code < 0 {
        return code;
    }
    // DPDK keeps pointers into its argument list, so it is never freed; there is one a process.
    let args: Vec<*mut c_char> = args
        .into_iter()
        .filter_map(|arg| CString::new(arg).ok())
        .map(CString::into_raw)
        .collect();
    let count = i32::try_from(args.len()).unwrap_or(i32::MAX);
    let args = args
        .into_iter()
        .chain([std::ptr::null_mut()])
        .collect::<Vec<_>>()
        .leak();
    // SAFETY: `count` strings that live for ever, then a null pointer, as C's main gets them. The
    // caller has made sure that this runs once a process.
    unsafe { sys::spw_eal_init(count, args.as_mut_ptr()) }
}

/// The processors that the caller may run on.
fn allowed_cpus() -> Vec<u32> {
    let mut cpus = vec![0u32; CPUS];
    // SAFETY: room for as many numbers as is said.
    let count = unsafe { sys::spw_allowed_cpus(cpus.as_mut_ptr(), CPUS as u32) };
    cpus.truncate(usize::try_from(count).unwrap_or(0));
    cpus
}

/// Puts DPDK's refusal into one sentence.
fn explain(options: &EalOptions, code: i32, detail: String) -> EalError {
    const EPERM: i32 = -1;
    const ENOMEM: i32 = -12;
    const EACCES: i32 = -13;
    let said = if detail.is_empty() {
        reason(code)
    } else {
        detail
    };
    let about_memory = ["Cannot init memory", "hugepage"]
        .iter()
        .any(|words| said.contains(words));
    match code {
        EPERM | EACCES => EalError::Permission(said),
        ENOMEM => EalError::Memory {
            memory_mb: options.memory_mb,
            detail: said,
        },
        _ if about_memory => EalError::Memory {
            memory_mb: options.memory_mb,
            detail: said,
        },
        _ => EalError::Start(said),
    }
}
