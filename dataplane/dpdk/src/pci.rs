//! Whether network cards on PCI are ready for DPDK, asked of the kernel before DPDK is: what DPDK itself says of
//! one that is not is many lines without the cause.

use crate::device::Device;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

/// Drivers of the kernel through which DPDK reaches a card.
const USABLE: &[&str] = &[
    "vfio-pci",
    "uio_pci_generic",
    "igb_uio",
    // These drive the card together with DPDK.
    "mlx4_core",
    "mlx5_core",
    "mana",
];
/// PCI's class of network controllers, and of processing accelerators.
const CLASSES: &[&str] = &["0x02", "0x12"];

/// Why a card can't be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PciError {
    /// The bus has no such address.
    #[error("there is no PCI device at {0}: `scripts/bind status` lists the network cards")]
    Absent(String),
    /// It is something else, such as a disk.
    #[error(
        "the PCI device at {0} is no network card: `scripts/bind status` lists the network cards"
    )]
    NoCard(String),
    /// The kernel uses it.
    #[error(
        "the card {address} is with the kernel's driver {driver}{interfaces}: give it to DPDK with `scripts/bind nic {address}`"
    )]
    Kernel {
        /// Its address.
        address: String,
        /// The kernel's driver.
        driver: String,
        /// The kernel's interfaces on it, in brackets, or nothing.
        interfaces: String,
    },
    /// It has no driver at all.
    #[error(
        "the card {0} has no driver in the kernel: give it to DPDK with `scripts/bind nic {0}`"
    )]
    NoDriver(String),
    /// The device file of its IOMMU group does not open.
    #[error("the card {address} can't be used: {file}: {reason}: {advice}")]
    Group {
        /// Its address.
        address: String,
        /// `/dev/vfio/GROUP`.
        file: String,
        /// The operating system's words.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// It is with vfio-pci, but in no IOMMU group.
    #[error(
        "the card {0} is with vfio-pci, but there is no IOMMU: switch it on in the firmware and with intel_iommu=on \
         (or amd_iommu=on) on the kernel command line"
    )]
    NoIommu(String),
}

/// Asks the kernel about the card that the text names; nothing where it names none on PCI.
///
/// # Errors
/// A sentence with what to do, see [`PciError`].
pub fn check_card(spec: &str) -> Result<(), PciError> {
    match Device::parse(spec) {
        Ok(device) if device.bus == "pci" => {
            check(&device.name, Path::new("/sys"), Path::new("/dev/vfio"))
        }
        _ => Ok(()),
    }
}

fn check(address: &str, sysfs: &Path, vfio: &Path) -> Result<(), PciError> {
    let address = address.to_owned();
    let folder = sysfs.join("bus/pci/devices").join(&address);
    if !folder.exists() {
        return Err(PciError::Absent(address));
    }
    let class = fs::read_to_string(folder.join("class")).unwrap_or_default();
    if !CLASSES.iter().any(|known| class.starts_with(known)) {
        return Err(PciError::NoCard(address));
    }
    let Some(driver) = target(&folder.join("driver")) else {
        return Err(PciError::NoDriver(address));
    };
    if !USABLE.contains(&driver.as_str()) {
        return Err(PciError::Kernel {
            address,
            driver,
            interfaces: interfaces(&folder),
        });
    }
    if driver == "vfio-pci" {
        group(address, &folder, vfio)
    } else {
        Ok(())
    }
}

/// Opens the card's IOMMU group for a moment: only one program can have it.
fn group(address: String, folder: &Path, vfio: &Path) -> Result<(), PciError> {
    let Some(number) = target(&folder.join("iommu_group")) else {
        return Err(PciError::NoIommu(address));
    };
    // Without an IOMMU its file has another name; DPDK says what it thinks of that.
    let file = vfio.join(number);
    let Err(error) = OpenOptions::new().read(true).write(true).open(&file) else {
        return Ok(());
    };
    let advice = match error.kind() {
        ErrorKind::NotFound => return Ok(()),
        ErrorKind::PermissionDenied => {
            "run as root, or give your user this file and enough locked memory (ulimit -l)"
        }
        ErrorKind::ResourceBusy => {
            "another program has it, or has another card of the same IOMMU group: end that program"
        }
        _ => "look into the kernel's log (dmesg)",
    };
    Err(PciError::Group {
        address,
        file: file.display().to_string(),
        reason: error.to_string(),
        advice,
    })
}

/// The last name of what a symbolic link leads to.
fn target(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// The kernel's interfaces on a card, in brackets; a virtio card's are one level further down.
fn interfaces(folder: &Path) -> String {
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    let deeper = below.filter(|f| f.file_name().to_string_lossy().starts_with("virtio"));
    let folders = deeper.map(|f| f.path()).chain([folder.to_owned()]);
    let names = folders.flat_map(|f| fs::read_dir(f.join("net")).into_iter().flatten().flatten());
    let mut names: Vec<String> = names
        .map(|f| f.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    if names.is_empty() {
        String::new()
    } else {
        format!(" ({})", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    const CARD: &str = "0000:03:00.0";

    /// A sysfs and a /dev/vfio with one card: its class, driver, interface and IOMMU group.
    fn machine(
        name: &str,
        class: &str,
        driver: Option<&str>,
        net: &str,
        group: Option<&str>,
    ) -> PathBuf {
        let root = std::env::temp_dir().join(format!("spillway-pci-{}-{name}", std::process::id()));
        let card = root.join("bus/pci/devices").join(CARD);
        let made = fs::create_dir_all(card.join(net))
            .and_then(|()| fs::create_dir_all(root.join("vfio")))
            .and_then(|()| fs::write(card.join("class"), class));
        made.expect("the temporary folder is writable");
        for (link, to) in [("driver", driver), ("iommu_group", group)] {
            if let Some(to) = to {
                symlink(root.join("somewhere").join(to), card.join(link))
                    .expect("the temporary folder is writable");
            }
        }
        root
    }

    fn verdict(root: &Path) -> Result<(), PciError> {
        let verdict = check(CARD, root, &root.join("vfio"));
        fs::remove_dir_all(root).expect("it was made");
        verdict
    }

    #[test]
    fn a_card_with_vfio_is_ready() {
        let root = machine("ready", "0x020000", Some("vfio-pci"), "", Some("7"));
        fs::write(root.join("vfio/7"), "").expect("the temporary folder is writable");
        assert_eq!(verdict(&root), Ok(()));
    }

    #[test]
    fn what_is_not_ready_is_told_with_what_to_do() {
        let kernel = machine("kernel", "0x020000", Some("ixgbe"), "net/enp3s0", None);
        assert_eq!(
            verdict(&kernel).expect_err("the kernel has it").to_string(),
            "the card 0000:03:00.0 is with the kernel's driver ixgbe (enp3s0): give it to DPDK with `scripts/bind nic 0000:03:00.0`"
        );
        let virtio = machine(
            "virtio",
            "0x020000",
            Some("virtio-pci"),
            "virtio3/net/eth0",
            None,
        );
        let said = verdict(&virtio).expect_err("the kernel has it").to_string();
        assert!(said.contains("virtio-pci (eth0)"), "{said}");
        let none = machine("none", "0x020000", None, "", None);
        assert_eq!(verdict(&none), Err(PciError::NoDriver(CARD.to_owned())));
        let disk = machine("disk", "0x010802", Some("nvme"), "", None);
        assert_eq!(verdict(&disk), Err(PciError::NoCard(CARD.to_owned())));
        let bare = machine("bare", "0x020000", Some("vfio-pci"), "", None);
        assert_eq!(verdict(&bare), Err(PciError::NoIommu(CARD.to_owned())));
        let absent = machine("absent", "0x020000", None, "", None);
        assert_eq!(
            check("0000:04:00.0", &absent, &absent),
            Err(PciError::Absent("0000:04:00.0".to_owned()))
        );
        fs::remove_dir_all(absent).expect("it was made");
    }

    #[test]
    fn a_group_that_does_not_open_is_told() {
        let root = machine("group", "0x020000", Some("vfio-pci"), "", Some("9"));
        // A folder opens for nobody to write.
        fs::create_dir(root.join("vfio/9")).expect("the temporary folder is writable");
        let said = verdict(&root).expect_err("it does not open").to_string();
        assert!(
            said.contains("vfio/9: ") && said.contains("dmesg"),
            "{said}"
        );
    }

    #[test]
    fn virtual_devices_are_not_asked_about() {
        assert_eq!(check_card("net_null0"), Ok(()));
    }
}
