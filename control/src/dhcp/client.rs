//! The states of a DHCP client (RFC 2131 section 4.4): moments and replies in, messages and leases
//! out. Moments are times since the client's start.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

/// The first wait for an answer, and the longest; each wait is twice the one before (section 4.1).
const FIRST_WAIT: Duration = Duration::from_secs(4);
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// Requests for an offered address before the search begins anew.
const REQUESTS: u32 = 4;
/// Shortest wait between two attempts to keep a lease (section 4.4.5).
const KEEP_TRYING: Duration = Duration::from_secs(60);
/// Shorter leases count as this long.
const SHORTEST_LEASE: u32 = 30;
/// A lease of so many seconds never ends (section 3.3).
const FOR_EVER: u32 = u32::MAX;

/// An address that a server lends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The address with its subnet.
    pub address: Ipv4Net,
    /// The default router.
    pub router: Option<Ipv4Addr>,
    /// The server.
    pub server: Ipv4Addr,
    /// How long the lease is, in seconds; `None` never ends.
    pub seconds: Option<u32>,
}

/// A message to servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    /// It asks for an offer; otherwise for an address.
    pub(super) is_discover: bool,
    pub(super) xid: u32,
    /// Seconds since the search began.
    pub(super) seconds: u16,
    /// The address that we have.
    pub(super) current: Option<Ipv4Addr>,
    /// The address that was offered, and who offered it.
    pub(super) offered: Option<(Ipv4Addr, Ipv4Addr)>,
    /// This server alone; otherwise all.
    pub(super) to: Option<Ipv4Addr>,
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Offer,
    Acknowledged,
    Refused,
}

/// A message of a server to this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) xid: u32,
    pub(super) server: Ipv4Addr,
    /// The address with its mask; `None` where it names none that a host can have.
    pub(super) address: Option<Ipv4Net>,
    pub(super) router: Option<Ipv4Addr>,
    /// Seconds: the lease, and when it is to be renewed and rebound.
    pub(super) lease: Option<u32>,
    pub(super) renew: Option<u32>,
    pub(super) rebind: Option<u32>,
}

/// What becomes of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is ours, or still is.
    Bound(Lease),
    /// It is no longer ours.
    Lost,
}

/// A lease, and the moments that matter to it.
#[derive(Debug, Clone, Copy)]
struct Held {
    lease: Lease,
    renew: Duration,
    rebind: Duration,
    end: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Selecting {
        asked: u32,
    },
    Requesting {
        asked: u32,
        offer: Ipv4Addr,
        server: Ipv4Addr,
    },
    Bound(Held),
    Renewing(Held),
    Rebinding(Held),
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    state: State,
    /// When the search for an address began.
    began: Duration,
    /// When something is to be done.
    next: Duration,
    xid: u32,
    random: u64,
}

impl Client {
    /// A client that begins at once. `seed` makes it unlike others.
    pub(super) fn new(seed: u64) -> Client {
        let mut client = Client {
            state: State::Selecting { asked: 0 },
            began: Duration::ZERO,
            next: Duration::ZERO,
            xid: 0,
            random: seed | 1,
        };
        client.xid = client.random() as u32;
        client
    }

    /// When [`Client::act`] is to be called.
    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// The link is back: whoever still searches need not wait.
    pub(super) fn hurry(&mut self, now: Duration) {
        if let State::Selecting { .. } | State::Requesting { .. } = self.state {
            self.search(now, now);
        }
    }

    /// Does what is due at `now`.
    pub(super) fn act(&mut self, now: Duration) -> (Option<Ask>, Option<Change>) {
        if now < self.next {
            return (None, None);
        }
        match self.state {
            State::Selecting { asked } => {
                self.next = now + self.patience(asked);
                self.state = State::Selecting { asked: asked + 1 };
                let ask = Ask {
                    is_discover: true,
                    ..self.ask(now)
                };
                (Some(ask), None)
            }
            State::Requesting {
                asked,
                offer,
                server,
            } if asked < REQUESTS => {
                self.next = now + self.patience(asked);
                let asked = asked + 1;
                self.state = State::Requesting {
                    asked,
                    offer,
                    server,
                };
                let ask = Ask {
                    offered: Some((offer, server)),
                    ..self.ask(now)
                };
                (Some(ask), None)
            }
            State::Requesting { .. } => {
                self.search(now, now);
                self.act(now)
            }
            State::Bound(held) => {
                self.began = now;
                self.xid = self.random() as u32;
                self.state = State::Renewing(held);
                self.act(now)
            }
            State::Renewing(held) if now < held.rebind => {
                self.next = halfway(now, held.rebind);
                let ask = Ask {
                    current: Some(held.lease.address.addr()),
                    to: Some(held.lease.server),
                    ..self.ask(now)
                };
                (Some(ask), None)
            }
            State::Renewing(held) => {
                self.state = State::Rebinding(held);
                self.act(now)
            }
            State::Rebinding(held) if now < held.end => {
                self.next = halfway(now, held.end);
                let ask = Ask {
                    current: Some(held.lease.address.addr()),
                    ..self.ask(now)
                };
                (Some(ask), None)
            }
            State::Rebinding(_) => {
                self.search(now, now);
                let (ask, _) = self.act(now);
                (ask, Some(Change::Lost))
            }
        }
    }

    /// Takes what a server says.
    pub(super) fn receive(&mut self, now: Duration, reply: &Reply) -> Option<Change> {
        if reply.xid != self.xid {
            return None;
        }
        match (self.state, reply.answer) {
            (State::Selecting { asked: 1.. }, Answer::Offer) => {
                self.state = State::Requesting {
                    asked: 0,
                    offer: reply.address?.addr(),
                    server: reply.server,
                };
                self.next = now;
                None
            }
            (State::Requesting { server, .. }, _) if reply.server != server => None,
            (
                State::Requesting { .. } | State::Renewing(_) | State::Rebinding(_),
                Answer::Acknowledged,
            ) => {
                let held = held(now, reply)?;
                self.state = State::Bound(held);
                self.next = held.renew;
                Some(Change::Bound(held.lease))
            }
            (State::Requesting { .. }, Answer::Refused) => {
                let later = now + self.patience(0);
                self.search(now, later);
                None
            }
            (State::Renewing(_) | State::Rebinding(_), Answer::Refused) => {
                self.search(now, now);
                Some(Change::Lost)
            }
            _ => None,
        }
    }

    /// Begins anew, with the first message at `first`.
    fn search(&mut self, now: Duration, first: Duration) {
        self.state = State::Selecting { asked: 0 };
        self.began = now;
        self.next = first;
        self.xid = self.random() as u32;
    }

    fn ask(&self, now: Duration) -> Ask {
        let seconds = now.saturating_sub(self.began).as_secs();
        Ask {
            is_discover: false,
            xid: self.xid,
            seconds: u16::try_from(seconds).unwrap_or(u16::MAX),
            current: None,
            offered: None,
            to: None,
        }
    }

    /// How long an answer is waited for after so many messages: about a second more or less, so
    /// that clients that lost power together do not ask together.
    fn patience(&mut self, asked: u32) -> Duration {
        let wait = FIRST_WAIT * 2_u32.pow(asked.min(8));
        let spread = Duration::from_millis(self.random() % 2000);
        wait.min(LONGEST_WAIT) + spread - Duration::from_secs(1)
    }

    /// xorshift64.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Half of the time that is left, but not too soon.
fn halfway(now: Duration, end: Duration) -> Duration {
    let left = end.saturating_sub(now);
    now + (left / 2).max(KEEP_TRYING).min(left)
}

/// The lease that begins now.
fn held(now: Duration, reply: &Reply) -> Option<Held> {
    let after = |seconds: u32| match seconds {
        FOR_EVER => Duration::MAX,
        seconds => now + Duration::from_secs(u64::from(seconds)),
    };
    let lease = reply.lease?.max(SHORTEST_LEASE);
    let part = |eighths: u32| (u64::from(lease) * u64::from(eighths) / 8) as u32;
    let (renew, rebind) = match (reply.renew, reply.rebind) {
        _ if lease == FOR_EVER => (FOR_EVER, FOR_EVER),
        (Some(renew), Some(rebind)) if 0 < renew && renew < rebind && rebind < lease => {
            (renew, rebind)
        }
        _ => (part(4), part(7)),
    };
    Some(Held {
        lease: Lease {
            address: reply.address?,
            router: reply.router,
            server: reply.server,
            seconds: Some(lease).filter(|lease| *lease != FOR_EVER),
        },
        renew: after(renew),
        rebind: after(rebind),
        end: after(lease),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn reply(answer: Answer, to: &Ask) -> Reply {
        Reply {
            answer,
            xid: to.xid,
            server: SERVER,
            address: "192.0.2.77/24".parse().ok(),
            router: Some(SERVER),
            lease: Some(3600),
            renew: None,
            rebind: None,
        }
    }

    /// The next message, and when it was sent.
    fn next_ask(client: &mut Client) -> (Duration, Ask) {
        let now = client.next();
        let (ask, change) = client.act(now);
        assert_eq!(change, None);
        (now, ask.expect("a message"))
    }

    /// A client with an address since the returned moment.
    fn bound() -> (Client, Duration) {
        let mut client = Client::new(7);
        let (now, discover) = next_ask(&mut client);
        assert!(discover.is_discover);
        assert_eq!(client.receive(now, &reply(Answer::Offer, &discover)), None);
        let (now, request) = next_ask(&mut client);
        assert_eq!(
            request.offered,
            Some(("192.0.2.77".parse().expect("one"), SERVER))
        );
        assert_eq!(
            (request.current, request.to, request.xid),
            (None, None, discover.xid)
        );
        let change = client.receive(now, &reply(Answer::Acknowledged, &request));
        let Some(Change::Bound(lease)) = change else {
            panic!("no lease: {change:?}")
        };
        assert_eq!(lease.address.to_string(), "192.0.2.77/24");
        assert_eq!((lease.router, lease.seconds), (Some(SERVER), Some(3600)));
        (client, now)
    }

    #[test]
    fn nobody_answers_and_it_asks_ever_more_seldom() {
        let mut client = Client::new(99);
        let times: Vec<_> = (0..8).map(|_| next_ask(&mut client).0).collect();
        let waits: Vec<_> = times.windows(2).map(|w| w[1] - w[0]).collect();
        for (wait, wanted) in waits.iter().zip([4, 8, 16, 32, 64, 64, 64]) {
            assert!(wait.abs_diff(seconds(wanted)) <= seconds(1), "{waits:?}");
        }
        assert_eq!(client.act(times[7]), (None, None), "it is not yet time");
    }

    #[test]
    fn a_lease_is_renewed_with_its_server() {
        let (mut client, since) = bound();
        assert_eq!(client.act(since + seconds(1799)), (None, None));
        assert_eq!(client.next(), since + seconds(1800));
        let (now, renew) = next_ask(&mut client);
        assert_eq!(
            (renew.to, renew.current),
            (Some(SERVER), "192.0.2.77".parse().ok())
        );
        assert_eq!(renew.offered, None);
        let change = client.receive(now, &reply(Answer::Acknowledged, &renew));
        assert!(matches!(change, Some(Change::Bound(_))));
        assert_eq!(client.next(), now + seconds(1800));
    }

    #[test]
    fn a_silent_server_costs_the_address_in_the_end() {
        let (mut client, since) = bound();
        let (mut asked, mut all) = (Vec::new(), Vec::new());
        let lost = loop {
            let now = client.next();
            match client.act(now) {
                (Some(ask), None) => {
                    asked.push(ask.to.is_some());
                    all.push(now - since);
                }
                (Some(ask), Some(Change::Lost)) if ask.is_discover => break now,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(lost, since + seconds(3600));
        let server_alone = asked.iter().take_while(|alone| **alone).count();
        assert!(server_alone > 3 && !asked[server_alone..].iter().any(|alone| *alone));
        assert_eq!(all[server_alone], seconds(3150), "rebinding begins at 7/8");
        let gaps = all.windows(2).map(|w| w[1] - w[0]);
        assert!(
            gaps.clone().min() > Some(seconds(14)),
            "{:?}",
            gaps.collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_refusal_takes_the_address_away() {
        let (mut client, _) = bound();
        let (now, renew) = next_ask(&mut client);
        assert_eq!(
            client.receive(now, &reply(Answer::Refused, &renew)),
            Some(Change::Lost)
        );
        assert!(next_ask(&mut client).1.is_discover);
    }

    #[test]
    fn what_is_not_for_us_changes_nothing() {
        let mut client = Client::new(3);
        let (now, discover) = next_ask(&mut client);
        let offer = reply(Answer::Offer, &discover);
        let other = Reply {
            xid: offer.xid ^ 1,
            ..offer
        };
        assert_eq!(client.receive(now, &other), None);
        let nothing = Reply {
            address: None,
            ..offer
        };
        assert_eq!(client.receive(now, &nothing), None);
        assert!(client.next() > now, "it took an offer of nothing");
        assert_eq!(client.receive(now, &offer), None);
        let (now, request) = next_ask(&mut client);
        let stranger = Reply {
            server: Ipv4Addr::new(192, 0, 2, 9),
            ..reply(Answer::Acknowledged, &request)
        };
        assert_eq!(client.receive(now, &stranger), None);
        let refused = reply(Answer::Refused, &request);
        assert_eq!(client.receive(now, &refused), None);
        assert!(
            client.next() > now + seconds(2),
            "it must not ask at once again"
        );
    }

    #[test]
    fn an_endless_lease_is_never_renewed() {
        let mut client = Client::new(3);
        let (now, discover) = next_ask(&mut client);
        client.receive(now, &reply(Answer::Offer, &discover));
        let (now, request) = next_ask(&mut client);
        let acknowledged = Reply {
            lease: Some(u32::MAX),
            ..reply(Answer::Acknowledged, &request)
        };
        let change = client.receive(now, &acknowledged);
        assert!(matches!(
            change,
            Some(Change::Bound(Lease { seconds: None, .. }))
        ));
        assert_eq!(client.next(), Duration::MAX);
    }

    #[test]
    fn a_link_that_is_back_is_asked_at_once() {
        let mut client = Client::new(3);
        let (now, _) = next_ask(&mut client);
        client.hurry(now);
        assert_eq!(client.next(), now);
        let (mut client, since) = bound();
        client.hurry(since);
        assert_eq!(client.next(), since + seconds(1800), "it has what it wants");
    }
}
