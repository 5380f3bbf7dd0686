//! What the user may choose about DPDK's environment, and the argument list that says it.

use crate::error::EalError;
use std::fs;
use std::path::Path;

/// Where the kernel tells of its huge pages.
pub(crate) const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

/// Which pages DPDK's memory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Memory {
    /// Huge pages if enough of them are reserved and free, else normal ones with one warning.
    #[default]
    Auto,
    /// Huge pages or an error.
    Huge,
    /// Normal pages, without a warning.
    Normal,
}

/// The least severe lines of DPDK's log that are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what may fail.
    #[default]
    Warning,
    /// And what is worth a line.
    Notice,
    /// And what happens.
    Info,
    /// Everything.
    Debug,
}

impl LogLevel {
    /// DPDK's number (rte_log.h).
    fn number(self) -> u32 {
        match self {
            LogLevel::Error => 4,
            LogLevel::Warning => 5,
            LogLevel::Notice => 6,
            LogLevel::Info => 7,
            LogLevel::Debug => 8,
        }
    }
}

/// How to start DPDK's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalOptions {
    /// Which pages to use.
    pub memory: Memory,
    /// How much memory, in MB. Packet pools, rings and DPDK's own tables live in it.
    pub memory_mb: u32,
    /// The PCI devices that DPDK may take, by address; the bus is left alone if there are none.
    pub pci: Vec<String>,
    /// The name under which other DPDK tools (telemetry, proc-info) find this process. `None` keeps
    /// everything private, and leaves no file behind. Needs huge pages to have an effect.
    pub file_prefix: Option<String>,
    /// The processors for DPDK's own, sleeping threads; empty: those that the caller may run on.
    /// Workers are threads of the caller and are pinned by it.
    pub cores: Vec<u32>,
    /// The least severe lines of DPDK's log that are passed on.
    pub log_level: LogLevel,
    /// More arguments in DPDK's own words, for what is not named above.
    pub extra: Vec<String>,
}

impl Default for EalOptions {
    fn default() -> EalOptions {
        EalOptions {
            memory: Memory::Auto,
            memory_mb: 512,
            pci: Vec::new(),
            file_prefix: None,
            cores: Vec::new(),
            log_level: LogLevel::Warning,
            extra: Vec::new(),
        }
    }
}

/// What was decided about pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) huge: bool,
    /// The one warning, if normal pages are second best.
    pub(crate) warning: Option<String>,
}

/// Chooses pages by the user's wish and by what `folder` says is free.
pub(crate) fn choose_pages(options: &EalOptions, folder: &Path) -> Result<Pages, EalError> {
    let free_mb = free_huge_mb(folder);
    let enough = free_mb >= u64::from(options.memory_mb.max(1));
    match options.memory {
        Memory::Normal => Ok(Pages {
            huge: false,
            warning: None,
        }),
        _ if enough => Ok(Pages {
            huge: true,
            warning: None,
        }),
        Memory::Huge => Err(EalError::HugePages {
            wanted_mb: options.memory_mb,
            free_mb,
        }),
        Memory::Auto => Ok(Pages {
            huge: false,
            warning: Some(format!(
                "{} MB of huge pages are wanted and {free_mb} MB are free: using normal pages, \
                 which are slower; reserve huge pages with `sysctl vm.nr_hugepages={}`",
                options.memory_mb,
                options.memory_mb.div_ceil(2)
            )),
        }),
    }
}

/// Free huge pages of all sizes, in MB; none where the kernel has no such folder.
fn free_huge_mb(folder: &Path) -> u64 {
    let Ok(sizes) = fs::read_dir(folder) else {
        return 0;
    };
    let mut free_kb = 0u64;
    for size in sizes.flatten() {
        let name = size.file_name();
        let page_kb = name
            .to_str()
            .and_then(|name| {
                name.strip_prefix("hugepages-")?
                    .strip_suffix("kB")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0u64);
        let pages = fs::read_to_string(size.path().join("free_hugepages"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0u64);
        free_kb = free_kb.saturating_add(page_kb.saturating_mul(pages));
    }
    free_kb / 1024
}

/// DPDK's argument list. There is one lcore, the thread that starts the environment: DPDK spawns
/// no polling threads of its own.
pub(crate) fn arguments(
    options: &EalOptions,
    huge: bool,
    allowed_cpus: &[u32],
) -> Result<Vec<String>, EalError> {
    let cores = if options.cores.is_empty() {
        allowed_cpus
    } else {
        &options.cores
    };
    let mut args = vec!["spillway".to_owned(), "--lcores".to_owned(), lcores(cores)];
    args.push("-m".to_owned());
    args.push(options.memory_mb.max(1).to_string());
    if !huge {
        args.extend(["--no-huge", "--no-shconf"].map(str::to_owned));
    }
    match &options.file_prefix {
        Some(prefix) => {
            check(prefix)?;
            args.push(format!("--file-prefix={prefix}"));
        }
        None => {
            if huge {
                args.push("--in-memory".to_owned());
            }
            args.push("--no-telemetry".to_owned());
        }
    }
    if options.pci.is_empty() {
        args.push("--no-pci".to_owned());
    }
    for address in &options.pci {
        check(address)?;
        args.extend(["-a".to_owned(), address.clone()]);
    }
    let level = options.log_level.number();
    args.push(format!("--log-level={level}"));
    if level > LogLevel::Notice.number() {
        args.push(format!("--log-level=*:{level}"));
    }
    for extra in &options.extra {
        if extra.contains('\0') {
            return Err(EalError::Option(extra.escape_default().to_string()));
        }
        args.push(extra.clone());
    }
    Ok(args)
}

/// Lcore 0 on any of these processors.
fn lcores(cpus: &[u32]) -> String {
    if cpus.is_empty() {
        return "0".to_owned();
    }
    let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
    format!("0@({})", cpus.join(","))
}

/// Whether an option may stand in DPDK's argument list.
fn check(text: &str) -> Result<(), EalError> {
    let usable = |c: char| c.is_ascii_alphanumeric() || ".:_-=,/".contains(c);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(usable) {
        return Err(EalError::Option(format!("'{}'", text.escape_default())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn kernel_with(name: &str, pages: &[(&str, &str)]) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("spillway-args-{}-{name}", std::process::id()));
        for (size, free) in pages {
            let size = folder.join(size);
            fs::create_dir_all(&size).expect("the temporary folder is writable");
            fs::write(size.join("free_hugepages"), free).expect("the temporary folder is writable");
        }
        folder
    }

    #[test]
    fn huge_pages_are_used_if_enough_are_free() {
        let folder = kernel_with(
            "enough",
            &[
                ("hugepages-2048kB", "256\n"),
                ("hugepages-1048576kB", "0\n"),
            ],
        );
        let pages = choose_pages(&EalOptions::default(), &folder);
        assert_eq!(
            pages,
            Ok(Pages {
                huge: true,
                warning: None
            })
        );
        fs::remove_dir_all(folder).expect("it was made above");
    }

    #[test]
    fn too_few_huge_pages_are_one_warning_or_an_error() {
        let folder = kernel_with("few", &[("hugepages-2048kB", "255\n")]);
        let pages = choose_pages(&EalOptions::default(), &folder).expect("auto never fails");
        assert!(!pages.huge);
        let warning = pages.warning.expect("normal pages are second best");
        assert!(
            warning.contains("510 MB are free") && warning.contains("vm.nr_hugepages=256"),
            "{warning}"
        );
        let strict = EalOptions {
            memory: Memory::Huge,
            ..EalOptions::default()
        };
        assert_eq!(
            choose_pages(&strict, &folder),
            Err(EalError::HugePages {
                wanted_mb: 512,
                free_mb: 510
            })
        );
        fs::remove_dir_all(folder).expect("it was made above");
    }

    #[test]
    fn a_kernel_without_huge_pages_has_none_free() {
        assert_eq!(free_huge_mb(Path::new("/nonexistent")), 0);
    }

    #[test]
    fn normal_pages_are_never_in_memory() {
        let args =
            arguments(&EalOptions::default(), false, &[0, 1]).expect("the defaults are usable");
        assert_eq!(
            args.join(" "),
            "spillway --lcores 0@(0,1) -m 512 --no-huge --no-shconf --no-telemetry --no-pci --log-level=5"
        );
    }

    #[test]
    fn named_devices_and_prefix_are_passed_on() {
        let options = EalOptions {
            pci: vec!["0000:03:00.0".to_owned()],
            file_prefix: Some("edge".to_owned()),
            cores: vec![3],
            ..EalOptions::default()
        };
        let args = arguments(&options, true, &[0, 1]).expect("the options are usable");
        assert_eq!(
            args.join(" "),
            "spillway --lcores 0@(3) -m 512 --file-prefix=edge -a 0000:03:00.0 --log-level=5"
        );
    }

    #[test]
    fn an_option_never_becomes_another_one() {
        for bad in ["", "--no-huge", "a b", "x\0y"] {
            let options = EalOptions {
                pci: vec![bad.to_owned()],
                ..EalOptions::default()
            };
            assert!(
                matches!(arguments(&options, true, &[0]), Err(EalError::Option(_))),
                "{bad:?}"
            );
        }
    }
}
