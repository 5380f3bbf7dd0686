//! The lists that are measured: what an operator's long lists look like.

use std::fmt::Write as _;

use crate::random::Random;
use crate::text;

/// The number of the list.
pub(crate) const NUMBER: u16 = 101;

/// A kind of list.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// `permit ip host A any`.
    Hosts,
    /// `permit ip NETWORK any`, lengths as in the Internet's table, one in ten denied.
    Networks,
    /// `permit tcp host A host B eq PORT`.
    Pairs,
    /// As a firewall's: hosts and networks on both sides, protocols, ports and ranges, denies.
    Mixed,
    /// The same with prefixes of all lengths from 16 on both sides.
    Scattered,
}

impl Shape {
    pub(crate) const ALL: [Shape; 5] = [
        Shape::Hosts,
        Shape::Networks,
        Shape::Pairs,
        Shape::Mixed,
        Shape::Scattered,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Shape::Hosts => "hosts",
            Shape::Networks => "networks",
            Shape::Pairs => "pairs",
            Shape::Mixed => "mixed",
            Shape::Scattered => "scattered",
        }
    }

    /// A configuration with a list of this kind and static translations.
    pub(crate) fn configuration(self, lines: usize, statics: usize) -> String {
        let mut config = String::from(
            "interface Out\n port vdev net_ring0\n ip address 198.51.100.1 255.255.255.0\n ip nat outside\n\
             ip nat inside source list 101 interface Out overload\n",
        );
        let mut random = Random::new(1);
        for _ in 0..lines {
            let _ = writeln!(config, "access-list {NUMBER} {}", self.line(&mut random));
        }
        for at in 0..statics as u32 {
            let (inside, global) = (text(0x0a01_0000 + at), text(0xcb00_0000 + at));
            let _ = writeln!(config, "ip nat inside source static {inside} {global}");
        }
        config
    }

    fn line(self, random: &mut Random) -> String {
        let host = |random: &mut Random| text(0x0a00_0000 | random.number() as u32 & 0x00ff_ffff);
        match self {
            Shape::Hosts => format!("permit ip host {} any", host(random)),
            Shape::Networks => {
                let action = action(random);
                let length = random.of(&INTERNET);
                let dont_care = u32::MAX >> length;
                let address = random.number() as u32 & !dont_care;
                format!("{action} ip {} {} any", text(address), text(dont_care))
            }
            Shape::Pairs => {
                let (from, to) = (host(random), host(random));
                let port = 1 + random.below(65_535);
                format!("permit tcp host {from} host {to} eq {port}")
            }
            Shape::Mixed => mixed(random, &[32, 32, 32, 32, 24, 24, 24, 24, 28, 22, 16]),
            Shape::Scattered => mixed(random, &SCATTERED),
        }
    }
}

fn action(random: &mut Random) -> &'static str {
    random.of(&[
        "permit", "permit", "permit", "permit", "permit", "permit", "permit", "permit", "permit",
        "deny",
    ])
}

/// Lengths of prefixes as frequent as in the Internet's table, roughly.
const INTERNET: [u32; 25] = [
    24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 23, 23, 22, 22, 22, 21, 20, 19, 18,
    16,
];

/// Every length from 16, longer ones more often.
const SCATTERED: [u32; 30] = [
    16, 17, 18, 19, 20, 21, 21, 22, 22, 23, 23, 24, 24, 24, 25, 25, 26, 26, 27, 27, 28, 28, 29, 29,
    30, 30, 31, 31, 32, 32,
];

/// A network or host as a line says it.
fn network(random: &mut Random, length: u32) -> String {
    let dont_care = u32::MAX.checked_shr(length).unwrap_or(0);
    let address = (0x0a00_0000 | random.number() as u32 & 0x00ff_ffff) & !dont_care;
    match dont_care {
        0 => format!("host {}", text(address)),
        _ => format!("{} {}", text(address), text(dont_care)),
    }
}

fn mixed(random: &mut Random, lengths: &[u32]) -> String {
    let side = |random: &mut Random| match random.below(4) {
        0 => "any".to_owned(),
        _ => {
            let length = random.of(lengths);
            network(random, length)
        }
    };
    let (mut from, to) = (side(random), side(random));
    if from == "any" && to == "any" {
        from = network(random, 32); // a line that has everything would end the list
    }
    let (low, port) = (random.below(30_000), random.below(60_000));
    let protocol = random.of(&["ip", "tcp", "tcp", "udp"]);
    let ports = match (protocol, random.below(10)) {
        ("ip", _) | (_, 0) => String::new(),
        (_, 1) => format!(" range {low} {}", low + 1000),
        (_, 2) => " gt 1023".to_owned(),
        ("tcp", 3) => " established".to_owned(),
        _ => format!(" eq {port}"),
    };
    format!("{} {protocol} {from} {to}{ports}", action(random))
}
