//! Which outside hosts clients have tunnels with, as control asks for it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use spillway_dataplane::command::{Reply, Request, SessionFilter};
use spillway_dataplane::snapshot::WorkerId;

use crate::esp::{OURS, esp, ike};
use crate::support::{INSIDE, Lab, OUTSIDE, Policy, each, udp};

/// The peers of all workers, asked for with room for a few at a time.
fn peers(lab: &mut Lab) -> Vec<(Ipv4Addr, u32, WorkerId)> {
    let mut all = Vec::new();
    for at in 0..lab.workers.len() {
        let mut from = Some(0);
        while let Some(place) = from {
            let reply = Reply::new(3);
            lab.serve(at, Request::Peers(place, Arc::clone(&reply)));
            assert!(reply.is_done() && !lab.workers[at].is_serving());
            from = reply.resume();
            let told = std::iter::from_fn(|| reply.take());
            all.extend(told.map(|view| (view.peer, view.clients, WorkerId(at as u8))));
        }
    }
    all.sort();
    all
}

fn server(n: u8) -> String {
    format!("203.0.113.{n}")
}

#[test]
fn who_has_answered_is_told_by_the_worker_that_has_its_tunnels() {
    each(Policy::overload, |lab| {
        for n in 1..=10 {
            for client in 1..=n {
                let (client, spi) = (format!("10.1.0.{}", 1 + client), u32::from(client) << 8);
                lab.run(INSIDE, esp(&client, &server(n), spi, 1));
                lab.run(OUTSIDE, esp(&server(n), OURS, spi + 1, 1));
            }
        }
        let told = peers(lab);
        let wanted = (1..=10).map(|n| (Ipv4Addr::new(203, 0, 113, n), u32::from(n)));
        let seen = told.iter().map(|(peer, clients, _)| (*peer, *clients));
        assert!(seen.eq(wanted), "{told:?}");
        for (peer, _, worker) in told {
            let filter = SessionFilter {
                outside_global: Some((peer, None)),
                ..SessionFilter::default()
            };
            let entries = lab.sessions(filter);
            assert!(entries.iter().all(|entry| entry.worker == worker), "{peer}");
        }
        lab.clear(SessionFilter::default());
        assert_eq!(peers(lab), []);
    });
}

#[test]
fn who_never_answers_is_not_told() {
    each(Policy::overload, |lab| {
        lab.run(INSIDE, esp("10.1.0.2", &server(1), 0x1000, 1));
        let asked = ike("10.1.0.2:500", &format!("{}:500", server(2)), 7, 200);
        lab.run(INSIDE, asked);
        assert_eq!(peers(lab), []);
        // An answer to IKE is one, before there is any ESP.
        let mut message = [7_u64.to_be_bytes(), 9_u64.to_be_bytes()].concat();
        message.extend([0x21, 0x20, 34, 0x20, 0, 0, 0, 0, 0, 0, 0, 200]);
        message.resize(200, 0);
        let answer = udp(&format!("{}:500", server(2)), &format!("{OURS}:500")).data(&message);
        lab.expect(OUTSIDE, answer, "0 udp 203.0.113.2:500 > 10.1.0.2:500");
        let told = peers(lab);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].0, told[0].1), (Ipv4Addr::new(203, 0, 113, 2), 1));
    });
}
