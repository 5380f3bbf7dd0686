//! Access groups: which packets may come in and go out at an interface.
//!
//! They judge the packets of new flows, and those that have no entry: what has one was judged when
//! it was made, and is removed when a new configuration would no longer make it. Inbound lists see
//! packets as they came, outbound ones as they leave.

use super::create::subject;
use super::{Gateway, Item, Output, Pass, key_of};
use crate::acl::Action;
use crate::nat::Way;
use crate::packet::Packet;
use crate::session::Key;
use crate::snapshot::{PortId, Snapshot};
use crate::stats::DropReason;
use crate::wire::icmp_build::{ErrorKind, unreachable};
use crate::wire::{Ipv4, Rewrite};

/// Whether a packet without entry may come in; counts the match if `counts`.
pub(super) fn may_come(
    snapshot: &Snapshot,
    port: PortId,
    ip: &Ipv4,
    key: Key,
    counts: bool,
) -> bool {
    let list = snapshot.nat.access_group(port, Way::In);
    list.is_none_or(|list| list.look(&subject(ip, key), counts) == Action::Permit)
}

/// Whether a packet may leave with `key`; counts the match if `counts`.
pub(super) fn may_go(snapshot: &Snapshot, port: PortId, ip: &Ipv4, key: Key, counts: bool) -> bool {
    let Some(list) = snapshot.nat.access_group(port, Way::Out) else {
        return true;
    };
    let leaves = Ipv4 {
        src: key.src,
        dst: key.dst,
        ..*ip
    };
    list.look(&subject(&leaves, key), counts) == Action::Permit
}

impl<P: Packet> Gateway<P> {
    /// Whether a packet that is changed so may leave by this port.
    pub(super) fn may_leave_as(
        snapshot: &Snapshot,
        port: PortId,
        item: &Item<P>,
        ip: &Ipv4,
        change: Option<&Rewrite>,
    ) -> bool {
        let key = || change.map_or_else(|| key_of(ip, item.meta), Rewrite::to);
        snapshot.nat.access_group(port, Way::Out).is_none()
            || may_go(snapshot, port, ip, key(), true)
    }

    /// Drops a packet that an access group denies and tells its sender (RFC 1812 section 5.3.9).
    pub(super) fn denied(
        &mut self,
        pass: &mut Pass<'_, impl Output<P>>,
        item: Item<P>,
        ip: &Ipv4,
        reason: DropReason,
    ) {
        let kind = ErrorKind::Unreachable(unreachable::ADMINISTRATIVELY_PROHIBITED);
        self.refuse(pass, item, ip, reason, kind);
    }
}
