//! The kernel's settings for a twin.

use std::path::Path;

use tracing::{info, warn};

/// What each twin is set to under `/proc/sys/net/ipv4/conf/NAME`.
const IPV4: &[(&str, &str)] = &[
    // Answer ARP only for the addresses of this very interface: other addresses of the host are
    // not to be reached through Spillway's links.
    ("arp_ignore", "1"),
    // Ask with an address of this link as the sender.
    ("arp_announce", "2"),
    // Loose: the host's default route may be elsewhere, and frames from far away must still
    // reach our addresses here. The larger of this and `all` counts, so 0 would not undo `all`.
    ("rp_filter", "2"),
    // Tell the link when our MAC address changes, as it does when a port's interface is made anew.
    ("arp_notify", "1"),
    // Spillway routes; a redirect from the kernel would tell hosts about a path it has not.
    ("send_redirects", "0"),
    ("accept_redirects", "0"),
];

/// What each twin is set to under `/proc/sys/net/ipv4/neigh/NAME`.
const NEIGH: &[(&str, &str)] = &[
    // Believe the newest ARP packet at once: for a second after each change the kernel would not, and
    // a host that moves meanwhile (a failover) would get nothing until its entry is probed again.
    ("locktime", "0"),
];

/// What each twin is set to under `/proc/sys/net/ipv6/conf/NAME`. IPv6 stays enabled, so that
/// frames reach the kernel; it only says nothing by itself.
const IPV6: &[(&str, &str)] = &[
    ("accept_ra", "0"),
    ("autoconf", "0"),
    ("addr_gen_mode", "1"),
    ("accept_dad", "0"),
    ("router_solicitations", "0"),
];

/// Neighbours that the kernel shall be able to hold: its own default of 1024 is less than the
/// hosts of one well filled private network.
const NEIGHBOURS: &[(&str, u32)] = &[
    ("gc_thresh3", 65_536),
    ("gc_thresh2", 32_768),
    ("gc_thresh1", 16_384),
];

/// Applies the settings of a twin. A setting that can't be made is a warning: traffic flows
/// without it.
pub(crate) fn prepare(name: &str) {
    let all = [
        ("ipv4/conf", IPV4),
        ("ipv4/neigh", NEIGH),
        ("ipv6/conf", IPV6),
    ];
    for (place, settings) in all {
        let folder = format!("/proc/sys/net/{place}/{name}");
        if !Path::new(&folder).is_dir() {
            continue; // A kernel without this family.
        }
        for (key, value) in settings {
            if let Err(e) = std::fs::write(format!("{folder}/{key}"), value) {
                warn!(interface = name, "can't set {folder}/{key} to {value}: {e}");
            }
        }
    }
}

/// Raises the size of the kernel's neighbour table where it is smaller than Spillway needs.
/// Namespaces other than the host's have no such setting: nothing happens there.
pub(crate) fn make_room_for_neighbours() {
    for (key, wanted) in NEIGHBOURS {
        let path = format!("/proc/sys/net/ipv4/neigh/default/{key}");
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        if text.trim().parse().is_ok_and(|have: u32| have >= *wanted) {
            continue;
        }
        match std::fs::write(&path, wanted.to_string()) {
            Ok(()) => info!(
                "raised net.ipv4.neigh.default.{key} from {} to {wanted}",
                text.trim()
            ),
            Err(e) => warn!("can't raise net.ipv4.neigh.default.{key} to {wanted}: {e}"),
        }
    }
}
