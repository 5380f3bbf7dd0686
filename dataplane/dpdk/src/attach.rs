//! How a device becomes a started port, and how it goes again.
//!
//! The caller holds the environment's state lock: one device comes or goes at a time.

use crate::device::Device;
use crate::error::{PortError, bracketed};
use crate::log;
use crate::port::{self, PortConfig};
use crate::rss::Rss;
use spillway_dataplane::rss::{KEY, source_key};
use spillway_dpdk_sys as sys;
use std::ffi::CString;
use std::mem::MaybeUninit;

/// Places of the largest table that is set.
const MOST_PLACES: usize = sys::SPW_RETA_PLACES as usize;

/// Frees what lies in a ring port: its driver frees the ring and forgets the packets.
pub(crate) fn drain(number: u16, queues: u16) {
    /// A ring holds at most this many bursts (RTE_PMD_RING... rings of 1024 entries).
    const BURSTS: usize = 64;
    let mut mbufs = [std::ptr::null_mut(); 32];
    let mut not_linear = 0;
    for queue in 0..queues {
        for _ in 0..BURSTS {
            // SAFETY: the port is still started and its queues have no other user left; the
            // packets that came are freed once.
            let came = unsafe {
                let came =
                    sys::spw_rx_burst(number, queue, mbufs.as_mut_ptr(), 32, &mut not_linear);
                sys::spw_mbuf_free_bulk(mbufs.as_mut_ptr(), u32::from(came));
                came
            };
            if came == 0 {
                break;
            }
        }
    }
}

/// The index of the kernel interface that the device needs; an error if that does not exist.
pub(crate) fn interface_index(device: &Device) -> Result<Option<u32>, PortError> {
    let Some(name) = device.interface() else {
        return Ok(None);
    };
    match kernel_index(name) {
        0 => Err(PortError::Interface {
            device: device.name.clone(),
            interface: name.to_owned(),
        }),
        index => Ok(Some(index)),
    }
}

/// The kernel's index of an interface, 0 where there is none of that name.
pub(crate) fn kernel_index(name: &str) -> u32 {
    // SAFETY: the argument is a C string.
    CString::new(name).map_or(0, |name| unsafe { sys::spw_interface_index(name.as_ptr()) })
}

/// The port of the device, attached if it is not yet. The state's lock is held.
pub(crate) fn attach(device: &Device) -> Result<u16, PortError> {
    let spec = || PortError::Spec(device.name.escape_default().to_string());
    let bus = CString::new(device.bus).map_err(|_| spec())?;
    let name = CString::new(device.name.as_str()).map_err(|_| spec())?;
    let args = CString::new(device.args.as_str()).map_err(|_| spec())?;
    let attached = log::held(|| {
        // SAFETY: the environment runs; the arguments are C strings, which DPDK copies.
        unsafe {
            match sys::spw_port_find(name.as_ptr()) {
                code if code < 0 => {
                    sys::spw_port_attach(bus.as_ptr(), name.as_ptr(), args.as_ptr())
                }
                number => number,
            }
        }
    });
    let number = attached.map_err(|(code, said)| refused_attach(device, code, &said))?;
    u16::try_from(number).map_err(|_| refused_attach(device, -19, ""))
}

/// Puts a refusal to attach into one sentence.
fn refused_attach(device: &Device, code: i32, said: &str) -> PortError {
    const EPERM: i32 = -1;
    const EACCES: i32 = -13;
    let detail = bracketed(said, code);
    let device = device.name.clone();
    // What drivers say when the kernel refuses them; the last one leaves out why.
    let refusals = ["not permitted", "denied", "Could not open AF_PACKET socket"];
    if matches!(code, EPERM | EACCES) || refusals.iter().any(|words| said.contains(words)) {
        PortError::Permission { device, detail }
    } else if said.contains("no driver") || said.contains("failed to parse device") {
        PortError::Driver { device, detail }
    } else {
        PortError::Attach { device, detail }
    }
}

/// Sets the port up and starts it; the numbers of its queues, and how it spreads over them.
pub(crate) fn start(
    number: u16,
    device: &Device,
    config: &PortConfig,
) -> Result<((u16, u16), Option<Rss>), PortError> {
    let failed = |code: i32, said: &str| PortError::Setup {
        device: device.name.clone(),
        detail: bracketed(said, code),
    };
    let info = port::info(number).map_err(|code| failed(code, ""))?;
    let (rx_queues, tx_queues) = queue_numbers(device, config, &info);
    let mut set = sys::spw_port_config {
        rx_queues,
        tx_queues,
        rx_descriptors: config.rx_descriptors,
        tx_descriptors: config.tx_descriptors,
        mtu: config.mtu.min(info.max_mtu.max(1)).max(info.min_mtu),
        rx_ip_checksum: false,
        rss: false,
        rss_key: match usize::from(info.reta_places) {
            // By more places than anybody has seen a table have, the source has no room in a hash.
            places @ 1..=MOST_PLACES if config.by_source => source_key(places),
            _ => KEY,
        },
    };
    // SAFETY: the port exists and is stopped, nobody else knows of it; the pool lives as long as
    // the environment.
    let started =
        log::held(|| unsafe { sys::spw_port_start(number, &mut set, config.pool.as_ptr()) });
    started.map_err(|(code, said)| failed(code, &said))?;
    if set.mtu < config.mtu {
        tracing::warn!(
            "{}: its driver is set for an MTU of {}, not {}; larger packets pass only if the \
             device's arguments provide for them",
            device.name,
            set.mtu,
            config.mtu
        );
    }
    Ok(((set.rx_queues, set.tx_queues), rss(number, &set)))
}

/// How a started port spreads what it receives; `None` where it does not, or nobody knows how.
fn rss(number: u16, set: &sys::spw_port_config) -> Option<Rss> {
    let mut found = MaybeUninit::zeroed();
    // SAFETY: the port is started; the shim fills the structure, for which all zeroes are a value too.
    let (code, found) = unsafe {
        let code = sys::spw_port_rss(number, set, found.as_mut_ptr());
        (code, found.assume_init())
    };
    let places = usize::from(found.places);
    let key = found.key.get(..usize::from(found.key_octets))?;
    let has = |wanted: &[u8; 52]| !key.is_empty() && wanted.starts_with(key);
    // A driver that has kept its own key may have the usual one.
    let by_source = found.ipv4 && has(&source_key(places));
    let is_known = code == 0 && (by_source || has(&KEY)) && places.is_power_of_two();
    is_known.then_some(Rss {
        by_source,
        udp_ports: found.udp_ports,
        tcp_ports: found.tcp_ports,
        places,
    })
}

/// How many queues to set up, receive and transmit: what is wished, within what the device has.
fn queue_numbers(device: &Device, config: &PortConfig, info: &sys::spw_port_info) -> (u16, u16) {
    let (max_rx, max_tx) = (info.max_rx_queues.max(1), info.max_tx_queues.max(1));
    let (rx, tx) = (
        config.rx_queues.clamp(1, max_rx),
        config.tx_queues.clamp(1, max_tx),
    );
    if device.name.contains("af_packet") {
        // Its kernel sockets share the traffic out among themselves, polled or not.
        (max_rx, tx)
    } else if device.name.starts_with("net_memif") {
        // Its peer may have one only. The driver takes queues that the peer has not for the first
        // one, so that what lies there comes in once by each of them.
        (1, 1)
    } else if device.name.starts_with("net_tap") {
        // Its driver wants as many the one way as the other.
        let both = rx.max(tx).min(max_rx).min(max_tx);
        (both, both)
    } else {
        (rx, tx)
    }
}

/// Stops and closes the port, and gives its device back. The state's lock is held.
pub(crate) fn detach(number: u16, device: &Device) {
    let (Ok(bus), Ok(name)) = (CString::new(device.bus), CString::new(device.name.as_str())) else {
        return;
    };
    // SAFETY: the port is attached and has no user left; the arguments are C strings.
    let gone = log::held(|| unsafe { sys::spw_port_detach(number, bus.as_ptr(), name.as_ptr()) });
    if let Err((code, said)) = gone {
        tracing::warn!(
            "{} did not close cleanly{}",
            device.name,
            bracketed(&said, code)
        );
    }
}
