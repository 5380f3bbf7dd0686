//! The kernel interface under a port, if there is one.

use super::error::KernelError;
use super::name::MAX_NAME;

/// A kernel interface that a DPDK port works on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KernelDevice {
    /// Its name.
    pub name: String,
    /// Whether the driver leaves every frame to the kernel as well.
    pub copies: bool,
}

impl KernelDevice {
    /// The kernel interface that the arguments of a virtual device name, as in
    /// `net_af_packet0,iface=inside`; `None` for drivers that work on none.
    ///
    /// # Errors
    /// [`KernelError::DeviceName`] for a name that the kernel can't have.
    pub fn of_vdev(arguments: &str) -> Result<Option<KernelDevice>, KernelError> {
        let mut parts = arguments.split(',').map(str::trim);
        let driver = parts.next().unwrap_or_default();
        let driver = driver.trim_end_matches(|c: char| c.is_ascii_digit());
        let (keys, copies): (&[&str], bool) = match driver {
            "net_af_packet" | "eth_af_packet" => (&["iface"], true),
            "net_pcap" | "eth_pcap" => (&["iface", "rx_iface"], true),
            "net_af_xdp" => (&["iface"], false),
            _ => return Ok(None),
        };
        let named = parts.find_map(|part| {
            let (key, value) = part.split_once('=')?;
            keys.contains(&key.trim()).then(|| value.trim().to_owned())
        });
        match named {
            Some(name) if valid(&name) => Ok(Some(KernelDevice { name, copies })),
            Some(name) => Err(KernelError::DeviceName(name)),
            None => Ok(None),
        }
    }
}

/// Whether the kernel takes the name (`dev_valid_name`), and it needs no quoting anywhere.
fn valid(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '"' | '\\' | '\'');
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(allowed) && name != "." && name != ".."
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn of(arguments: &str) -> Option<(String, bool)> {
        let device = KernelDevice::of_vdev(arguments).unwrap();
        device.map(|d| (d.name, d.copies))
    }

    #[test]
    fn drivers_on_kernel_interfaces_are_known() {
        assert_eq!(
            of("net_af_packet0,iface=inside,qpairs=2"),
            Some(("inside".into(), true))
        );
        assert_eq!(
            of("net_af_packet12,qpairs=2,iface=eth0.5"),
            Some(("eth0.5".into(), true))
        );
        assert_eq!(
            of("net_af_xdp0,iface=veth1,start_queue=0"),
            Some(("veth1".into(), false))
        );
        assert_eq!(
            of("net_pcap0,rx_iface=a,tx_iface=b"),
            Some(("a".into(), true))
        );
    }

    #[test]
    fn other_drivers_have_none() {
        // The interface of net_tap is made by the driver: it is the far end, not what lies under it.
        for arguments in [
            "net_tap0,iface=x",
            "net_ring0",
            "net_pcap0,rx_pcap=in.pcap",
            "",
        ] {
            assert_eq!(of(arguments), None, "{arguments}");
        }
    }

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for name in ["", "../etc", "a b", "a\"b", "sixteen-octets-x", "a:b", ".."] {
            let arguments = format!("net_af_packet0,iface={name}");
            assert!(KernelDevice::of_vdev(&arguments).is_err(), "{name}");
        }
    }
}
