//! A packet that is its buffer.

use spillway_dataplane::packet::{Burst, Packet};
use spillway_dataplane::prefetch::prefetch_write;
use spillway_dpdk_sys as sys;
use std::fmt;
use std::ptr::NonNull;

/// Octets in front of a packet when it is received or allocated: room for what is prepended.
pub const HEADROOM: usize = sys::SPW_MBUF_HEADROOM as usize;

/// A packet in one mbuf, owned by whoever holds the value. Dropping it gives the buffer back.
///
/// It is as large as a pointer, and a burst of them is what DPDK calls an array of mbufs.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: an mbuf has one owner (reference count 1, one segment); pools take it back from any thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes ownership of an mbuf.
    ///
    /// # Safety
    /// `mbuf` is a live mbuf of a pool of this process, of one segment and reference count 1, that
    /// nothing else uses or frees. Its data lies within its buffer.
    #[inline]
    pub(crate) unsafe fn from_raw(mbuf: NonNull<sys::rte_mbuf>) -> Mbuf {
        Mbuf(mbuf)
    }

    /// Reads a field at the offset that the shim found in DPDK's header.
    ///
    /// # Safety
    /// A field of type `T` lies at `offset`.
    #[inline]
    unsafe fn field<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: the mbuf is live and ours; the caller names a field of it, which is aligned.
        unsafe {
            self.0
                .as_ptr()
                .cast::<u8>()
                .add(offset as usize)
                .cast::<T>()
                .read()
        }
    }

    /// Writes a field.
    ///
    /// # Safety
    /// As [`Mbuf::field`], and the value keeps the data within the buffer.
    #[inline]
    unsafe fn set_field<T: Copy>(&mut self, offset: u32, value: T) {
        // SAFETY: as in `field`, and `&mut self` says that nobody reads it meanwhile.
        unsafe {
            self.0
                .as_ptr()
                .cast::<u8>()
                .add(offset as usize)
                .cast::<T>()
                .write(value)
        }
    }

    /// Octets from the start of the buffer to the packet.
    #[inline]
    fn data_off(&self) -> u16 {
        // SAFETY: a uint16_t since the first release.
        unsafe { self.field(sys::SPW_MBUF_DATA_OFF) }
    }

    #[inline]
    fn data_len(&self) -> u16 {
        // SAFETY: a uint16_t since the first release.
        unsafe { self.field(sys::SPW_MBUF_DATA_LEN) }
    }

    #[inline]
    fn buf_len(&self) -> u16 {
        // SAFETY: a uint16_t since the first release.
        unsafe { self.field(sys::SPW_MBUF_BUF_LEN) }
    }

    #[inline]
    fn buf_addr(&self) -> *mut u8 {
        // SAFETY: a pointer since the first release.
        unsafe { self.field(sys::SPW_MBUF_BUF_ADDR) }
    }

    /// Sets where the packet starts and how long it is, in both places where its length stands.
    ///
    /// # Safety
    /// `off + len` is at most the buffer's length.
    #[inline]
    unsafe fn set_extent(&mut self, off: u16, len: u16) {
        // SAFETY: the fields' types are those of DPDK's header, and the caller keeps the bounds.
        unsafe {
            self.set_field(sys::SPW_MBUF_DATA_OFF, off);
            self.set_field(sys::SPW_MBUF_DATA_LEN, len);
            self.set_field(sys::SPW_MBUF_PKT_LEN, u32::from(len));
        }
    }

    /// Octets that can be prepended.
    #[inline]
    #[must_use]
    pub fn headroom(&self) -> usize {
        usize::from(self.data_off())
    }

    /// Octets that can be appended.
    #[inline]
    #[must_use]
    pub fn tailroom(&self) -> usize {
        usize::from(self.buf_len())
            .saturating_sub(usize::from(self.data_off()) + usize::from(self.data_len()))
    }
}

impl Packet for Mbuf {
    #[inline]
    fn prefetch_first(&self) {
        // SAFETY: the mbuf is live and ours; nothing of it is read.
        prefetch_write(unsafe { self.0.as_ref() });
    }

    #[inline]
    fn data(&self) -> &[u8] {
        let (off, len) = (usize::from(self.data_off()), usize::from(self.data_len()));
        // SAFETY: the packet lies within its buffer, which this value owns while it is borrowed;
        // pool memory is zeroed when it is mapped, so every octet is initialized.
        unsafe { std::slice::from_raw_parts(self.buf_addr().add(off), len) }
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        let (off, len) = (usize::from(self.data_off()), usize::from(self.data_len()));
        // SAFETY: as in `data`, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.buf_addr().add(off), len) }
    }

    #[inline]
    fn prepend(&mut self, len: usize) -> bool {
        let Ok(len) = u16::try_from(len) else {
            return false;
        };
        let Some(off) = self.data_off().checked_sub(len) else {
            return false;
        };
        let len = self.data_len() + len;
        // SAFETY: the end stays, the start moved within the headroom; the sum can't overflow,
        // because it is at most the buffer's length.
        unsafe { self.set_extent(off, len) };
        true
    }

    #[inline]
    fn append(&mut self, len: usize) -> bool {
        if len > self.tailroom() {
            return false;
        }
        // `len` is at most the buffer's length, which is 16 bits wide.
        let len = self.data_len() + len as u16;
        // SAFETY: the new end lies within the tailroom.
        unsafe { self.set_extent(self.data_off(), len) };
        true
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        if len < usize::from(self.data_len()) {
            // SAFETY: shorter than before, so within the buffer.
            unsafe { self.set_extent(self.data_off(), len as u16) };
        }
    }

    #[inline]
    fn ip_checksum_verified(&self) -> bool {
        // SAFETY: a uint64_t since the first release.
        let flags: u64 = unsafe { self.field(sys::SPW_MBUF_OL_FLAGS) };
        flags & u64::from(sys::SPW_IP_CKSUM_MASK) == u64::from(sys::SPW_IP_CKSUM_GOOD)
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this value owns the mbuf, and its pool lives: the environment's memory stays
        // mapped while a buffer is out.
        unsafe { sys::spw_mbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.data_len())
            .field("headroom", &self.headroom())
            .field("tailroom", &self.tailroom())
            .finish()
    }
}

/// Frees the packets of a burst from `first` on at once, and leaves the burst empty.
///
/// # Safety
/// The packets before `first` belong to somebody else already.
#[inline]
pub(crate) unsafe fn free_from(burst: &mut Burst<Mbuf>, first: usize) {
    let count = burst.len();
    let mbufs = burst.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
    // SAFETY: an `Mbuf` is a pointer to an mbuf and nothing else; with length 0 the vector drops
    // none of them; those from `first` on are ours and are freed here once.
    unsafe {
        burst.set_len(0);
        if first < count {
            sys::spw_mbuf_free_bulk(mbufs.add(first), (count - first) as u32);
        }
    }
}
