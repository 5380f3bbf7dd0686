//! ARP for NAT's global addresses. The kernel answers for the addresses that it has itself; the
//! addresses of pools and statics are Spillway's alone and are answered for here (RFC 826).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Octets of an Ethernet frame with an ARP packet for IPv4, without padding.
pub(crate) const LENGTH: usize = 42;

/// Ethernet, IPv4, six octets, four octets, request.
const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];

/// The answer to `frame` if it asks for one of the addresses; `mac` is the port's own.
pub(crate) fn answer(frame: &[u8], mac: [u8; 6], addresses: &[Ipv4Net]) -> Option<[u8; LENGTH]> {
    if addresses.is_empty() || frame.get(12..22)? != [&[8, 6], &REQUEST[..]].concat() {
        return None;
    }
    let sender: &[u8] = frame.get(22..32)?;
    let target: [u8; 4] = frame.get(38..LENGTH)?.try_into().ok()?;
    let wanted = Ipv4Addr::from(target);
    let own = sender.starts_with(&mac) || sender.ends_with(&target);
    if own || !addresses.iter().any(|net| net.contains(&wanted)) {
        return None;
    }
    let mut reply = [0; LENGTH];
    reply[..6].copy_from_slice(sender.get(..6)?);
    reply[6..12].copy_from_slice(&mac);
    reply[12..14].copy_from_slice(&[8, 6]);
    reply[14..22].copy_from_slice(&REQUEST);
    reply[21] = 2;
    reply[22..28].copy_from_slice(&mac);
    reply[28..32].copy_from_slice(&target);
    reply[32..LENGTH].copy_from_slice(sender);
    Some(reply)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn request(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        [
            &[0xff; 6][..],
            &THEIRS,
            &[8, 6],
            &REQUEST,
            &THEIRS,
            &sender,
            &[0; 6],
            &target,
            &[0; 18],
        ]
        .concat()
    }

    fn pool() -> Vec<Ipv4Net> {
        vec!["198.51.100.8/29".parse().unwrap()]
    }

    #[test]
    fn pool_addresses_are_ours() {
        let asked = request([198, 51, 100, 254], [198, 51, 100, 9]);
        let reply = answer(&asked, OURS, &pool()).unwrap();
        let expected = [
            &THEIRS[..],
            &OURS,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
            &OURS,
            &[198, 51, 100, 9],
            &THEIRS,
            &[198, 51, 100, 254],
        ]
        .concat();
        assert_eq!(reply.as_slice(), expected);
    }

    #[test]
    fn others_are_not() {
        let others = request([198, 51, 100, 254], [198, 51, 100, 16]);
        assert_eq!(answer(&others, OURS, &pool()), None);
        let announced = request([198, 51, 100, 9], [198, 51, 100, 9]);
        assert_eq!(answer(&announced, OURS, &pool()), None);
        let mut reply = request([198, 51, 100, 254], [198, 51, 100, 9]);
        reply[21] = 2;
        assert_eq!(answer(&reply, OURS, &pool()), None);
    }

    proptest! {
        #[test]
        fn any_frame_is_survived(
            cut in 0usize..64,
            noise in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut frame = request([198, 51, 100, 254], [198, 51, 100, 9]);
            frame.truncate(cut);
            prop_assert_eq!(answer(&frame, OURS, &pool()).is_some(), cut >= LENGTH);
            answer(&noise, OURS, &pool());
        }
    }
}
