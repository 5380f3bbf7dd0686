//! The text by which a user names a device, taken apart.

use crate::error::PortError;

/// Longest device name that DPDK takes (RTE_DEV_NAME_MAX_LEN), its end mark included.
const NAME_OCTETS: usize = 64;

/// A device by its bus, its name there, and the arguments for its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) bus: &'static str,
    pub(crate) name: String,
    pub(crate) args: String,
}

impl Device {
    /// Reads `03:00.0`, `0000:03:00.0,args` or `net_xyz0,args`.
    pub(crate) fn parse(spec: &str) -> Result<Device, PortError> {
        let bad = || PortError::Spec(spec.escape_default().to_string());
        let spec_trimmed = spec.trim();
        let (name, args) = spec_trimmed.split_once(',').unwrap_or((spec_trimmed, ""));
        if spec.contains('\0') {
            return Err(bad());
        }
        if let Some(address) = pci_address(name) {
            return Ok(Device {
                bus: "pci",
                name: address,
                args: args.to_owned(),
            });
        }
        let usable = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphabetic())
            || name.len() >= NAME_OCTETS
            || !name.chars().all(usable)
        {
            return Err(bad());
        }
        Ok(Device {
            bus: "vdev",
            name: name.to_owned(),
            args: args.to_owned(),
        })
    }

    /// The kernel interface that the device stands on and that must exist before it.
    pub(crate) fn interface(&self) -> Option<&str> {
        let stands_on_interface = ["net_af_packet", "eth_af_packet", "net_af_xdp"]
            .iter()
            .any(|driver| self.name.starts_with(driver));
        if !stands_on_interface {
            return None;
        }
        self.argument("iface")
    }

    /// The value of one of the driver's arguments.
    pub(crate) fn argument(&self, key: &str) -> Option<&str> {
        self.args.split(',').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            (name.trim() == key).then_some(value.trim())
        })
    }
}

/// A PCI address in DPDK's long form, `dddd:bb:dd.f` in lower case.
fn pci_address(text: &str) -> Option<String> {
    let (rest, function) = text.split_once('.')?;
    let mut parts = rest.split(':').rev();
    let (slot, bus) = (parts.next()?, parts.next()?);
    let domain = parts.next().unwrap_or("0000");
    let hex = |part: &str, digits: std::ops::RangeInclusive<usize>| {
        digits.contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_hexdigit())
    };
    let whole = parts.next().is_none()
        && hex(domain, 1..=8)
        && hex(bus, 1..=2)
        && hex(slot, 1..=2)
        && matches!(function.as_bytes(), [b'0'..=b'7']);
    whole.then(|| format!("{domain:0>4}:{bus:0>2}:{slot:0>2}.{function}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_get_their_long_form() {
        for (text, long) in [
            ("0000:03:00.0", "0000:03:00.0"),
            ("3:0.1", "0000:03:00.1"),
            ("0000:AF:1f.7", "0000:af:1f.7"),
        ] {
            let device = Device::parse(text).expect("it is an address");
            assert_eq!((device.bus, device.name.as_str()), ("pci", long));
        }
    }

    #[test]
    fn virtual_devices_keep_their_arguments() {
        let device = Device::parse("net_af_packet0,iface=inside,qpairs=2").expect("it is a device");
        assert_eq!(
            (device.bus, device.name.as_str()),
            ("vdev", "net_af_packet0")
        );
        assert_eq!(device.args, "iface=inside,qpairs=2");
        assert_eq!(device.interface(), Some("inside"));
        assert_eq!(device.argument("qpairs"), Some("2"));
    }

    #[test]
    fn a_tap_makes_its_interface_itself() {
        let device = Device::parse("net_tap0,iface=x").expect("it is a device");
        assert_eq!(device.interface(), None);
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for bad in [
            "",
            " ",
            ",iface=x",
            "0000:03:00.8",
            "00:zz:00.0",
            "net af",
            "net_x\0",
            "9lives",
        ] {
            assert!(
                matches!(Device::parse(bad), Err(PortError::Spec(_))),
                "{bad:?}"
            );
        }
    }
}
