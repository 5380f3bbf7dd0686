//! DHCP messages as octets (RFC 2131 section 2, RFC 2132), in `smoltcp`'s reading of the format.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use super::client::{Answer, Ask, Reply};

/// Option numbers of RFC 2132.
const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const HOST_NAME: u8 = 12;
const LEASE_TIME: u8 = 51;
const RENEWAL_TIME: u8 = 58;
const REBINDING_TIME: u8 = 59;
/// Relays drop shorter messages (RFC 1542 section 2.1).
const SHORTEST: usize = 300;
/// Longest message that we take.
const LONGEST: u16 = 1472;

/// A message of the client with this MAC address and host name. `None` where the host name has more
/// octets than an option can have.
pub(super) fn encode(ask: &Ask, mac: [u8; 6], hostname: &str) -> Option<Vec<u8>> {
    let name = [DhcpOption {
        kind: HOST_NAME,
        data: hostname.as_bytes(),
    }];
    let message = DhcpRepr {
        message_type: if ask.is_discover {
            DhcpMessageType::Discover
        } else {
            DhcpMessageType::Request
        },
        transaction_id: ask.xid,
        secs: ask.seconds,
        client_hardware_address: EthernetAddress(mac),
        client_ip: ask.current.unwrap_or(Ipv4Addr::UNSPECIFIED),
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        // Without an address we can't get what is sent to one.
        broadcast: ask.current.is_none(),
        requested_ip: ask.offered.map(|(address, _)| address),
        client_identifier: Some(EthernetAddress(mac)),
        server_identifier: ask.offered.map(|(_, server)| server),
        parameter_request_list: Some(&[
            SUBNET_MASK,
            ROUTER,
            LEASE_TIME,
            RENEWAL_TIME,
            REBINDING_TIME,
        ]),
        dns_servers: None,
        max_size: Some(LONGEST),
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: if hostname.is_empty() { &[] } else { &name },
    };
    let mut octets = vec![0; message.buffer_len().max(SHORTEST)];
    let mut packet = DhcpPacket::new_unchecked(&mut octets[..]);
    message.emit(&mut packet).ok()?;
    Some(octets)
}

/// A server's message to the client with this MAC address; `None` for anything else.
pub(super) fn decode(octets: &[u8], mac: [u8; 6]) -> Option<Reply> {
    let packet = DhcpPacket::new_checked(octets).ok()?;
    let message = DhcpRepr::parse(&packet).ok()?;
    let answer = match message.message_type {
        DhcpMessageType::Offer => Answer::Offer,
        DhcpMessageType::Ack => Answer::Acknowledged,
        DhcpMessageType::Nak => Answer::Refused,
        _ => return None,
    };
    if message.client_hardware_address.0 != mac {
        return None;
    }
    let mask = message.subnet_mask;
    let address = mask.and_then(|mask| Ipv4Net::with_netmask(message.your_ip, mask).ok());
    // There may be several routers; the first is the preferred one.
    let routers = packet.options().find(|option| option.kind == ROUTER);
    let router = routers.and_then(|option| option.data.first_chunk::<4>().copied());
    Some(Reply {
        answer,
        xid: message.transaction_id,
        server: message.server_identifier?,
        address: address.filter(is_for_a_host),
        router: router.map(Ipv4Addr::from),
        lease: message.lease_duration,
        renew: message.renew_duration,
        rebind: message.rebind_duration,
    })
}

fn is_for_a_host(net: &Ipv4Net) -> bool {
    let address = net.addr();
    let ends = net.prefix_len() < 31 && (address == net.network() || address == net.broadcast());
    !(ends
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn offer(mask: [u8; 4], routers: &[u8]) -> Vec<u8> {
        let mut octets = vec![0; 240];
        (octets[0], octets[1], octets[2]) = (2, 1, 6);
        octets[4..8].copy_from_slice(&7_u32.to_be_bytes());
        octets[16..20].copy_from_slice(&[192, 0, 2, 77]);
        octets[28..34].copy_from_slice(&MAC);
        octets[236..240].copy_from_slice(&[99, 130, 83, 99]);
        octets.extend([
            53,
            1,
            2,
            54,
            4,
            192,
            0,
            2,
            1,
            51,
            4,
            0,
            0,
            14,
            16,
            SUBNET_MASK,
            4,
        ]);
        octets.extend(mask);
        octets.extend([ROUTER, routers.len() as u8]);
        octets.extend(routers);
        octets.push(255);
        octets
    }

    #[test]
    fn an_offer_is_read() {
        let reply = decode(
            &offer([255, 255, 255, 0], &[192, 0, 2, 1, 192, 0, 2, 2]),
            MAC,
        );
        let reply = reply.expect("an offer");
        assert_eq!(
            (reply.answer, reply.xid, reply.lease),
            (Answer::Offer, 7, Some(3600))
        );
        assert_eq!(reply.address, "192.0.2.77/24".parse().ok());
        assert_eq!(reply.router, Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(
            decode(&offer([255, 255, 255, 0], &[]), [0; 6]),
            None,
            "somebody else's"
        );
        let crooked = decode(&offer([255, 0, 255, 0], &[]), MAC).expect("an offer");
        assert_eq!(crooked.address, None);
    }

    #[test]
    fn requests_say_what_they_must() {
        let ask = Ask {
            is_discover: false,
            xid: 9,
            seconds: 3,
            current: None,
            offered: Some((Ipv4Addr::new(192, 0, 2, 77), Ipv4Addr::new(192, 0, 2, 1))),
            to: None,
        };
        let octets = encode(&ask, MAC, "site").expect("it fits");
        assert_eq!(octets.len(), SHORTEST);
        assert_eq!(octets[10], 0x80, "broadcast");
        let has = |option: &[u8]| octets.windows(option.len()).any(|w| w == option);
        assert!(has(&[53, 1, 3]) && has(&[50, 4, 192, 0, 2, 77]) && has(&[54, 4, 192, 0, 2, 1]));
        assert!(has(&[12, 4, b's', b'i', b't', b'e']));
        let renew = Ask {
            current: Some(Ipv4Addr::new(192, 0, 2, 77)),
            offered: None,
            ..ask
        };
        let octets = encode(&renew, MAC, "").expect("it fits");
        assert_eq!((octets[10], &octets[12..16]), (0, &[192, 0, 2, 77][..]));
        assert!(!octets.windows(2).any(|w| w == [54, 4]));
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(mut octets in proptest::collection::vec(any::<u8>(), 0..400), at in 0_usize..300, value: u8) {
            let _ = decode(&octets, MAC);
            octets = offer([255, 255, 255, 0], &[192, 0, 2, 1]);
            let at = at.min(octets.len() - 1);
            octets[at] = value;
            let _ = decode(&octets, MAC);
            let _ = decode(&octets[..at], MAC);
        }
    }
}
