//! Asks the CPU to bring memory near before it is needed. The only unsafe code of this crate.
#![allow(unsafe_code)]

/// Starts fetching the cache line of `value` for reading. A hint: it changes nothing but time.
///
/// Does nothing on other CPUs than `x86_64`, and under Miri.
#[inline(always)]
pub fn prefetch_read<T: ?Sized>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: `prefetcht0` reads and writes nothing that a program can see and never faults, and
    // SSE, which it needs, is part of every x86_64. The address comes from a live reference.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast::<i8>());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = value;
}

/// Starts fetching the cache line of `slice[at]` for reading; nothing where there is no such
/// element.
#[inline(always)]
pub fn prefetch_index<T>(slice: &[T], at: usize) {
    if let Some(value) = slice.get(at) {
        prefetch_read(value);
    }
}
