//! The kernel's name of an interface's twin.

use std::collections::HashSet;

/// Longest name that the kernel gives an interface, in octets (`IFNAMSIZ` less its final zero).
pub const MAX_NAME: usize = 15;

/// Every twin's name starts so.
pub const PREFIX: &str = "sw-";

/// Octets of a configured name that fit behind the prefix.
const ROOM: usize = MAX_NAME - PREFIX.len();

/// Octets that stay of a name that is cut, before `~` and four digits that tell it apart.
const STEM: usize = ROOM - 5;

/// The kernel name of each configured interface, in the same order: `sw-` and the name, cut and
/// marked with a digest where it is too long or holds what a kernel name may not.
///
/// A name depends on the configured name alone, so that it survives a reload, except where two
/// would be equal or one is in `taken` (the kernel interfaces under the ports): there the later
/// one is marked.
#[must_use]
pub fn kernel_names<'a>(
    configured: impl IntoIterator<Item = &'a str>,
    taken: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let mut used: HashSet<String> = taken.into_iter().map(str::to_owned).collect();
    let mut names = Vec::new();
    for name in configured {
        let mut candidate = plain(name).unwrap_or_else(|| marked(name, 0));
        let mut salt = 0;
        while used.contains(&candidate) {
            salt += 1;
            candidate = marked(name, salt);
        }
        used.insert(candidate.clone());
        names.push(candidate);
    }
    names
}

/// The name as it is behind the prefix, if it fits there.
fn plain(name: &str) -> Option<String> {
    let fits = !name.is_empty() && name.len() <= ROOM && name.chars().all(allowed);
    fits.then(|| format!("{PREFIX}{name}"))
}

/// The start of the name and a digest of all of it.
fn marked(name: &str, salt: u32) -> String {
    let stem: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .take(STEM)
        .collect();
    let digest = fnv1a(name, salt);
    format!("{PREFIX}{stem}~{:04x}", (digest ^ (digest >> 16)) & 0xffff)
}

/// Whether a kernel name may hold it and every tool and `/proc/sys` path takes it as it is.
fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// 32-bit FNV-1a: stable over versions and machines, which the standard hasher does not promise.
fn fnv1a(name: &str, salt: u32) -> u32 {
    let step = |hash: u32, octet: u8| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193);
    let hash = name.bytes().fold(0x811c_9dc5, step);
    salt.to_be_bytes().into_iter().fold(hash, step)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_names_stay_readable() {
        assert_eq!(
            kernel_names(["Inside", "Outside"], []),
            ["sw-Inside", "sw-Outside"]
        );
    }

    #[test]
    fn long_and_odd_names_are_cut_and_told_apart() {
        let names = kernel_names(
            ["GigabitEthernet0/0", "GigabitEthernet0/1", "a/b", "Fünf"],
            [],
        );
        assert!(names[0].starts_with("sw-Gigabit~"), "{names:?}");
        assert_ne!(names[0], names[1]);
        assert!(names[2].starts_with("sw-a-b~"), "{names:?}");
        assert!(names.iter().all(|n| n.is_ascii()));
    }

    #[test]
    fn the_device_under_a_port_keeps_its_name() {
        let names = kernel_names(["Inside"], ["sw-Inside"]);
        assert!(names[0].starts_with("sw-Inside~"), "{names:?}");
    }

    #[test]
    fn a_name_does_not_depend_on_its_neighbours() {
        let alone = kernel_names(["TenGigabitEthernet1/0/1"], []);
        let among = kernel_names(["Inside", "TenGigabitEthernet1/0/1"], ["eth0"]);
        assert_eq!(alone[0], among[1]);
    }

    proptest! {
        #[test]
        fn names_are_unique_short_and_fit_for_the_kernel(
            configured in proptest::collection::hash_set(".{0,24}", 0..64),
        ) {
            let names = kernel_names(configured.iter().map(String::as_str), []);
            prop_assert_eq!(names.len(), configured.len());
            let distinct: HashSet<_> = names.iter().collect();
            prop_assert_eq!(distinct.len(), names.len());
            for name in &names {
                prop_assert!(name.len() <= MAX_NAME && name.len() > PREFIX.len());
                prop_assert!(name.chars().all(|c| allowed(c) || c == '~'));
            }
        }
    }
}
