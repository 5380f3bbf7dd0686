//! Pools without overload: an address for each inside host.

use spillway_dataplane::command::SessionFilter;
use spillway_dataplane::stats::Counter;

use crate::support::{INSIDE, OUTSIDE, Policy, each, error, permit_all, ping, raw, tcp, udp};

fn pool() -> Policy {
    Policy::default().rule_pool(permit_all(), "203.0.113.200", 4)
}

#[test]
fn a_host_has_an_address_for_all_it_does() {
    each(pool, |lab| {
        lab.expect(
            INSIDE,
            udp("10.1.0.2:5", "198.51.100.5:6"),
            "1 udp 203.0.113.200:5 > 198.51.100.5:6",
        );
        lab.expect(
            INSIDE,
            tcp("10.1.0.2:7", "198.51.100.6:8", "A"),
            "1 tcp 203.0.113.200:7 > 198.51.100.6:8 A",
        );
        lab.expect(
            INSIDE,
            ping("10.1.0.2", "198.51.100.5", 9),
            "1 ping 203.0.113.200 > 198.51.100.5 9",
        );
        lab.expect(
            INSIDE,
            raw("10.1.0.2", "198.51.100.5", 47),
            "1 ip47 203.0.113.200 > 198.51.100.5",
        );
        // Anybody outside reaches it there.
        lab.expect(
            OUTSIDE,
            tcp("198.51.100.7:1", "203.0.113.200:22", "S"),
            "0 tcp 198.51.100.7:1 > 10.1.0.2:22 S",
        );
        lab.expect(
            OUTSIDE,
            raw("198.51.100.7", "203.0.113.200", 47),
            "0 ip47 198.51.100.7 > 10.1.0.2",
        );
        assert_eq!((lab.entries(), lab.counted(Counter::CreatedSimple)), (1, 1));
        let views = lab.sessions(SessionFilter::default());
        assert_eq!((views[0].protocol, views[0].outside_global), (0, None));
        assert_eq!(views[0].inside_global.address.to_string(), "203.0.113.200");
    });
}

#[test]
fn a_lent_address_comes_back() {
    each(pool, |lab| {
        for host in 2..6 {
            lab.pass(INSIDE, udp(&format!("10.1.0.{host}:5"), "198.51.100.5:6"));
        }
        lab.expect(
            INSIDE,
            udp("10.1.0.9:5", "198.51.100.5:6"),
            "drop pool_exhausted",
        );
        lab.expect(
            OUTSIDE,
            udp("198.51.100.5:6", "203.0.113.203:5"),
            "0 udp 198.51.100.5:6 > 10.1.0.5:5",
        );
        lab.advance(80_000_000);
        lab.pass(INSIDE, udp("10.1.0.3:5", "198.51.100.5:6"));
        lab.advance(10_000_000);
        assert_eq!(lab.entries(), 1);
        lab.expect(
            INSIDE,
            udp("10.1.0.9:5", "198.51.100.5:6"),
            "1 udp 203.0.113.200:5 > 198.51.100.5:6",
        );
        lab.expect(
            OUTSIDE,
            udp("198.51.100.5:6", "203.0.113.202:5"),
            "drop no_translation",
        );
    });
}

#[test]
fn a_statics_address_is_not_lent() {
    each(
        || pool().fixed("10.1.0.50", "203.0.113.200"),
        |lab| {
            lab.expect(
                INSIDE,
                udp("10.1.0.2:5", "198.51.100.5:6"),
                "1 udp 203.0.113.201:5 > 198.51.100.5:6",
            );
        },
    );
}

#[test]
fn errors_about_packets_of_address_entries() {
    each(pool, |lab| {
        lab.pass(INSIDE, udp("10.1.0.2:5", "198.51.100.5:6").size(100));
        let about = lab.last[0].1[14..].to_vec();
        for cut in [28, 60, about.len()] {
            let got = lab.run(
                OUTSIDE,
                error("192.0.2.77", "203.0.113.200", (11, 0), 0, &about[..cut]),
            );
            let note = if cut == about.len() { "" } else { " cut" };
            assert_eq!(
                got,
                [format!(
                    "0 icmp 11/0 192.0.2.77 > 10.1.0.2 [udp 10.1.0.2:5 > 198.51.100.5:6{note}]"
                )]
            );
        }
        lab.pass(OUTSIDE, udp("198.51.100.5:6", "203.0.113.200:77"));
        let about = lab.last[0].1[14..].to_vec();
        lab.expect(
            INSIDE,
            error("10.1.0.2", "198.51.100.5", (3, 3), 0, &about),
            "1 icmp 3/3 203.0.113.200 > 198.51.100.5 [udp 198.51.100.5:6 > 203.0.113.200:77]",
        );
    });
}
