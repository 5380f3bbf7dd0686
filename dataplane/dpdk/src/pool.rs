//! Pools of packet buffers.

use crate::eal::{Eal, EalShared, PoolPointer};
use crate::error::{PoolError, reason};
use crate::log;
use crate::mbuf::{HEADROOM, Mbuf};
use spillway_dataplane::packet::PacketPool;
use spillway_dpdk_sys as sys;
use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

/// Ethernet header with two VLAN tags, and the frame check sequence that some drivers deliver.
const LINK_OCTETS: usize = 14 + 8 + 4;
/// Least room of a buffer behind its headroom: what drivers commonly ask for.
const LEAST_ROOM: usize = 2048;
/// What an mbuf and its place in the pool take besides its data, about.
const OVERHEAD_OCTETS: u64 = 256;
/// Largest number of buffers of one pool.
const MOST_BUFFERS: u32 = (1 << 26) - 1;

/// What a pool is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// A name that no other pool has, 1 to 25 letters, digits, - or _.
    pub name: String,
    /// Number of buffers. 2^n - 1 wastes the least memory.
    pub count: u32,
    /// Largest IP packet that a buffer must hold, in octets. A buffer has room for at least 2048
    /// octets of frame, and 128 in front of it.
    pub mtu: u16,
    /// The NUMA node whose memory to use; `None`: any.
    pub socket: Option<u32>,
    /// Buffers that each registered thread may keep for itself, at most 512 and two thirds of
    /// `count`; larger values are cut.
    pub cache: u32,
}

impl Default for PoolConfig {
    fn default() -> PoolConfig {
        PoolConfig {
            name: "packets".to_owned(),
            count: 16_383,
            mtu: 1500,
            socket: None,
            cache: 256,
        }
    }
}

/// A pool of packet buffers. Clones are handles of the same pool, for several threads.
///
/// Its memory lasts as long as the environment: a packet may outlive every handle of its pool.
#[derive(Debug, Clone)]
pub struct Pool {
    pool: PoolPointer,
    data_room: u16,
    _eal: Arc<EalShared>,
}

impl Pool {
    /// Makes a pool.
    ///
    /// # Errors
    /// One sentence each, see [`PoolError`].
    pub fn create(eal: &Eal, config: &PoolConfig) -> Result<Pool, PoolError> {
        let usable = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
        let name = CString::new(config.name.as_str())
            .ok()
            .filter(|name| (1..=25).contains(&name.as_bytes().len()))
            .filter(|name| name.as_bytes().iter().all(|&octet| usable(octet)))
            .ok_or_else(|| PoolError::Name(config.name.escape_default().to_string()))?;
        let room = LEAST_ROOM.max((usize::from(config.mtu) + LINK_OCTETS).next_multiple_of(64));
        let data_room = u16::try_from(room + HEADROOM).map_err(|_| PoolError::Size)?;
        if !(1..=MOST_BUFFERS).contains(&config.count) {
            return Err(PoolError::Size);
        }
        let cache = config.cache.min(512).min(config.count / 3 * 2);
        let socket = config
            .socket
            .and_then(|node| i32::try_from(node).ok())
            .unwrap_or(-1);
        let eal = eal.shared();
        let mut state = eal.state();
        let mut pool = std::ptr::null_mut();
        let made = log::held(|| {
            let mut code = 0;
            // SAFETY: the environment runs; the name is a string that DPDK copies; `code` is
            // writable. The state's lock orders this with other pools.
            pool = unsafe {
                sys::spw_pool_create(
                    name.as_ptr(),
                    config.count,
                    cache,
                    data_room,
                    socket,
                    &mut code,
                )
            };
            if pool.is_null() && code >= 0 {
                -12
            } else {
                code
            }
        });
        if let Err((code, detail)) = made {
            return Err(explain(config, data_room, code, detail));
        }
        let pool = PoolPointer(pool);
        state.pools.push(pool);
        drop(state);
        Ok(Pool {
            pool,
            data_room,
            _eal: eal,
        })
    }

    /// An empty packet, from any thread; `None` where the pool is exhausted.
    #[inline]
    #[must_use]
    pub fn take(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives, because the environment does.
        let mbuf = NonNull::new(unsafe { sys::spw_mbuf_alloc(self.pool.0) })?;
        // SAFETY: freshly allocated: one segment, one owner, no data.
        Some(unsafe { Mbuf::from_raw(mbuf) })
    }

    /// Buffers that are free now, those in threads' caches included.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.pool.available()
    }

    /// Buffers in all.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.pool.size()
    }

    /// Octets of frame that a buffer holds behind its headroom.
    #[must_use]
    pub fn frame_room(&self) -> usize {
        usize::from(self.data_room) - HEADROOM
    }

    /// About what the pool takes of DPDK's memory, in octets.
    #[must_use]
    pub fn memory_octets(&self) -> u64 {
        memory_octets(self.size(), self.data_room)
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.pool.0
    }
}

impl PacketPool for Pool {
    type Packet = Mbuf;

    #[inline]
    fn alloc(&mut self) -> Option<Mbuf> {
        self.take()
    }
}

fn memory_octets(count: u32, data_room: u16) -> u64 {
    u64::from(count) * (u64::from(data_room) + OVERHEAD_OCTETS)
}

/// Puts DPDK's refusal into one sentence.
fn explain(config: &PoolConfig, data_room: u16, code: i32, detail: String) -> PoolError {
    const ENOENT: i32 = -2;
    const ENOMEM: i32 = -12;
    const EEXIST: i32 = -17;
    match code {
        ENOMEM => PoolError::Memory {
            needed_mb: memory_octets(config.count, data_room).div_ceil(1 << 20),
        },
        EEXIST => PoolError::Exists(config.name.clone()),
        ENOENT => PoolError::Driver,
        _ if detail.is_empty() => PoolError::Create(reason(code)),
        _ => PoolError::Create(detail),
    }
}
