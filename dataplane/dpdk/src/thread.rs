//! Threads that DPDK knows, and the processor's cycle counter.

use crate::eal::{Eal, EalShared};
use crate::error::{ThreadError, reason};
use spillway_dpdk_sys as sys;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

thread_local! {
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the thread that made it registered with DPDK. It can't leave that thread.
///
/// A registered thread has a cache of its own in every [`Pool`](crate::Pool). Threads that are not
/// registered may do everything too, only more slowly.
#[derive(Debug)]
pub struct ThreadGuard {
    _eal: Arc<EalShared>,
    _not_send: PhantomData<*const ()>,
}

/// Registers the calling thread until the guard is dropped. Pin the thread before, not after.
///
/// # Errors
/// If it is registered already, or DPDK knows as many threads as it can.
pub fn thread_register(eal: &Eal) -> Result<ThreadGuard, ThreadError> {
    if REGISTERED.get() {
        return Err(ThreadError::Registered);
    }
    // SAFETY: the environment runs, because `eal` exists; the thread is not registered.
    let code = unsafe { sys::spw_thread_register() };
    if code < 0 {
        return Err(ThreadError::Register(reason(code)));
    }
    REGISTERED.set(true);
    Ok(ThreadGuard {
        _eal: eal.shared(),
        _not_send: PhantomData,
    })
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        // SAFETY: the guard is not `Send`, so this is the thread that was registered; the
        // environment still runs, because the guard holds it.
        unsafe { sys::spw_thread_unregister() };
        REGISTERED.set(false);
    }
}

/// The processor's cycle counter. Differences between readings on one core are a duration.
#[inline]
#[must_use]
pub fn cycles() -> u64 {
    // SAFETY: the shim reads a counter and nothing else.
    #[cfg(not(target_arch = "x86_64"))]
    return unsafe { sys::spw_cycles() };
    // SAFETY: every x86-64 processor has the instruction.
    #[cfg(target_arch = "x86_64")]
    return unsafe { core::arch::x86_64::_rdtsc() };
}

/// How often a second [`cycles`] counts, as DPDK measured at its start.
#[must_use]
pub fn cycles_hz(_eal: &Eal) -> u64 {
    // SAFETY: the environment has been started, so the value is known and constant.
    unsafe { sys::spw_cycles_hz() }
}
