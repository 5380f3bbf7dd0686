//! Asking the kernel and listening to it, over rtnetlink.

use std::io;

use futures_util::StreamExt;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::{RouteHeader, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rtnetlink::{Handle, MulticastGroup};

use super::error::KernelError;

/// What the kernel tells by itself.
const GROUPS: &[MulticastGroup] = &[
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
];

/// Octets of messages that may wait for us before the kernel drops some and says so.
const RECEIVE_BUFFER: u32 = 1 << 20;

/// `ENOBUFS`: the kernel had to drop messages.
const OVERFLOW: i32 = 105;

/// A connection for requests. Its task ends when the last handle is dropped.
pub(crate) fn connect() -> Result<Handle, KernelError> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

/// All links.
pub(crate) async fn links(handle: &Handle) -> Result<Dump<LinkMessage>, KernelError> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    dump(handle, "list its interfaces", request, |m| match m {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    })
    .await
}

/// All IPv4 neighbours.
pub(crate) async fn neighbours(handle: &Handle) -> Result<Dump<NeighbourMessage>, KernelError> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    let request = RouteNetlinkMessage::GetNeighbour(message);
    dump(handle, "list its neighbours", request, |m| match m {
        RouteNetlinkMessage::NewNeighbour(neighbour) => Some(neighbour),
        _ => None,
    })
    .await
}

/// All IPv4 routes of all tables.
pub(crate) async fn routes(handle: &Handle) -> Result<Dump<RouteMessage>, KernelError> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_UNSPEC;
    let request = RouteNetlinkMessage::GetRoute(message);
    dump(handle, "list its routes", request, |m| match m {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    })
    .await
}

/// A list of all objects of a kind.
pub(crate) struct Dump<T> {
    /// The objects.
    pub(crate) items: Vec<T>,
    /// Whether the list changed while it was read: some may be missing or old.
    pub(crate) inconsistent: bool,
}

async fn dump<T>(
    handle: &Handle,
    what: &str,
    request: RouteNetlinkMessage,
    pick: impl Fn(RouteNetlinkMessage) -> Option<T>,
) -> Result<Dump<T>, KernelError> {
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut answers = handle
        .clone()
        .request(message)
        .map_err(|e| KernelError::netlink(what, e))?;
    let mut dump = Dump {
        items: Vec::new(),
        inconsistent: false,
    };
    while let Some(answer) = answers.next().await {
        dump.inconsistent |= answer.header.flags & NLM_F_DUMP_INTR != 0;
        match answer.payload {
            NetlinkPayload::InnerMessage(inner) => dump.items.extend(pick(inner)),
            NetlinkPayload::Error(e) if e.code.is_some() => {
                return Err(KernelError::netlink(what, e));
            }
            NetlinkPayload::Overrun(_) => dump.inconsistent = true,
            _ => {}
        }
    }
    Ok(dump)
}

/// The kernel's own messages, from a socket whose buffer is the only queue.
pub(crate) struct Events {
    socket: TokioSocket,
}

/// What came in at once.
pub(crate) enum Heard {
    /// These messages, and how many besides could not be parsed.
    Messages(Vec<RouteNetlinkMessage>, u64),
    /// Some were lost: read everything anew.
    Overflow,
}

impl Events {
    /// Subscribes. Subscribe before the first dump, so that no change falls between.
    pub(crate) fn subscribe() -> Result<Events, KernelError> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_ref().set_rx_buf_sz(RECEIVE_BUFFER)?;
        for group in GROUPS {
            socket.socket_ref().add_membership(*group as u32)?;
        }
        Ok(Events { socket })
    }

    /// Waits for messages. Nothing is lost if this is cancelled.
    pub(crate) async fn next(&self) -> io::Result<Heard> {
        loop {
            match self.socket.recv_from_full().await {
                // Other processes can send here too; only the kernel is believed.
                Ok((octets, from)) if from.port_number() == 0 => {
                    let (messages, unreadable) = parse(&octets);
                    return Ok(Heard::Messages(messages, unreadable));
                }
                Ok(_) => {}
                Err(e) if e.raw_os_error() == Some(OVERFLOW) => return Ok(Heard::Overflow),
                Err(e) => return Err(e),
            }
        }
    }
}

/// The messages of a datagram, and how many could not be parsed.
fn parse(octets: &[u8]) -> (Vec<RouteNetlinkMessage>, u64) {
    let mut messages = Vec::new();
    let mut unreadable = 0;
    let mut rest = octets;
    while let Some(length) = rest
        .first_chunk::<4>()
        .map(|l| u32::from_ne_bytes(*l) as usize)
    {
        let Some(one) = rest.get(..length).filter(|one| !one.is_empty()) else {
            return (messages, unreadable + 1);
        };
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) {
            Ok(message) => {
                if let NetlinkPayload::InnerMessage(inner) = message.payload {
                    messages.push(inner);
                }
            }
            Err(_) => unreadable += 1,
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    (messages, unreadable)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(index: u32) -> Vec<u8> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewLink(link));
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        octets
    }

    #[test]
    fn all_messages_of_a_datagram_are_read() {
        let (messages, unreadable) = parse(&[link(1), link(2)].concat());
        assert_eq!((messages.len(), unreadable), (2, 0));
    }

    #[test]
    fn a_bad_message_does_not_hide_the_next() {
        let mut bad = link(1);
        bad.truncate(20);
        bad[0] = 20; // Length without the link header.
        let (messages, unreadable) = parse(&[bad, link(2)].concat());
        assert_eq!((messages.len(), unreadable), (1, 1));
    }

    proptest! {
        #[test]
        fn garbage_ends(octets in proptest::collection::vec(any::<u8>(), 0..256)) {
            let (messages, unreadable) = parse(&octets);
            prop_assert!(messages.len() as u64 + unreadable <= octets.len() as u64);
        }
    }
}
