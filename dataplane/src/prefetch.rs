//! Asks the CPU to bring memory near before it is needed, and the kernel for large pages. The only
//! unsafe code of this crate.
#![allow(unsafe_code)]

/// Octets from which on memory is worth large pages.
const LARGE: usize = 4 << 20;

/// A slice of these elements, in large pages where the kernel has them: a
/// table that is read all over needs its address translated at every step, and with pages of 4 KiB
/// each of these translations is one more read of memory.
///
/// Only time tells whether it is so: where the kernel refuses, pages are as they are.
#[must_use]
pub fn large_slice<T>(
    elements: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
) -> Box<[T]> {
    let elements = elements.into_iter();
    let mut memory = Vec::with_capacity(elements.len());
    let octets = memory.capacity() * size_of::<T>();
    #[cfg(all(target_os = "linux", not(miri)))]
    if octets >= LARGE {
        let begin = (memory.as_mut_ptr() as usize).next_multiple_of(LARGE / 2);
        let end = memory.as_ptr() as usize + octets;
        if let Some(place) = std::ptr::NonNull::new(begin as *mut std::ffi::c_void) {
            // SAFETY: the range lies within an allocation that is ours and that nothing is in yet;
            // the advice changes the size of its pages and nothing of what it holds.
            // A kernel that has none goes on with small pages.
            let _ = unsafe {
                nix::sys::mman::madvise(
                    place,
                    end.saturating_sub(begin),
                    nix::sys::mman::MmapAdvise::MADV_HUGEPAGE,
                )
            };
        }
    }
    memory.extend(elements);
    memory.into_boxed_slice()
}

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

/// Starts fetching the cache line of `value` for writing: another core that has it gives it up. A hint:
/// it changes nothing but time.
///
/// Does nothing on other CPUs than `x86_64`, and under Miri.
#[inline(always)]
pub fn prefetch_write<T: ?Sized>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: `prefetchw` reads and writes nothing that a program can see and never faults; CPUs that
    // do not have it take it for one that does nothing. The address comes from a live reference.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(std::ptr::from_ref(value).cast::<i8>());
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
