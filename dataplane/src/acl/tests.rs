//! Long lists against looking at one line after the other.

use proptest::prelude::*;
use proptest::sample::select;

use super::compiled::Compiled;
use super::*;

/// Few values, so that lines overlap, shadow each other and share keys.
fn address() -> impl Strategy<Value = u32> {
    (select(vec![10u32, 172, 198]), 0u32..3, 0u32..4, 0u32..6)
        .prop_map(|(a, b, c, d)| a << 24 | b << 16 | c << 8 | d)
}

fn wildcard() -> impl Strategy<Value = Wildcard> {
    let prefix = (0u32..=32).prop_map(|length| u32::MAX.checked_shr(length).unwrap_or(0));
    let usual = select(vec![0, 0xff, 0xffff, u32::MAX]);
    // Masks that are no prefixes: even hosts, a third octet, anything.
    let odd = prop_oneof![select(vec![0xfe, 0x0001_0000, 0x00ff_00ff]), any::<u32>()];
    let mask = prop_oneof![4 => usual, 2 => prefix, 1 => odd];
    // Bits that do not matter may be set in the address.
    (address(), mask).prop_map(|(address, dont_care)| Wildcard { address, dont_care })
}

fn port() -> impl Strategy<Value = u16> {
    select(vec![0u16, 1, 53, 80, 443, 1024, 5000, u16::MAX])
}

fn ports() -> impl Strategy<Value = Ports> {
    let exactly = (port(), any::<bool>()).prop_map(|(port, negated)| Ports {
        first: port,
        last: port,
        negated,
    });
    let range = (port(), port(), any::<bool>()).prop_map(|(one, other, negated)| Ports {
        first: one.min(other),
        last: one.max(other),
        negated,
    });
    prop_oneof![3 => Just(Ports::ANY), 2 => exactly, 1 => range]
}

prop_compose! {
    fn entry()(
        permits in any::<bool>(),
        protocol in prop_oneof![Just(None), select(vec![Some(1u8), Some(6), Some(17), Some(50)])],
        source in wildcard(),
        destination in wildcard(),
        source_ports in ports(),
        destination_ports in ports(),
        icmp in prop_oneof![5 => Just(None), 1 => (0u8..3, proptest::option::of(0u8..2)).prop_map(Some)],
        established in proptest::bool::weighted(0.1),
        fragments in proptest::bool::weighted(0.1),
        plain in proptest::bool::weighted(0.5),
    ) -> Entry {
        let action = if permits { Action::Permit } else { Action::Deny };
        let any = Entry::standard(0, action, source);
        if plain {
            return Entry { protocol, destination, ..any };
        }
        Entry {
            protocol,
            destination,
            source_ports,
            destination_ports,
            icmp,
            established,
            fragments,
            ..any
        }
    }
}

prop_compose! {
    fn packet()(
        protocol in select(vec![1u8, 6, 17, 50]),
        source in address(),
        destination in address(),
        ports in proptest::option::of((port(), port())),
        icmp in proptest::option::of((0u8..3, 0u8..2)),
        established in any::<bool>(),
        later_fragment in any::<bool>(),
    ) -> Subject {
        Subject { protocol, source, destination, ports, icmp, established, later_fragment }
    }
}

/// Lines that differ in their addresses and actions alone.
fn alike() -> impl Strategy<Value = Vec<Entry>> {
    let differences = proptest::collection::vec((address(), address(), any::<bool>()), 0..120);
    (entry(), differences).prop_map(|(one, differences)| {
        let line = |(source, destination, permits): (u32, u32, bool)| Entry {
            source: Wildcard {
                address: source,
                ..one.source
            },
            destination: Wildcard {
                address: destination,
                ..one.destination
            },
            action: if permits {
                Action::Permit
            } else {
                Action::Deny
            },
            ..one.clone()
        };
        differences.into_iter().map(line).collect()
    })
}

/// Lines about the same addresses, which protocols, ports and flags alone tell apart: more than are looked at one by one.
fn about_one_pair() -> impl Strategy<Value = Vec<Entry>> {
    let addresses = (wildcard(), wildcard());
    let addresses = prop_oneof![Just((Wildcard::ANY, Wildcard::ANY)), addresses];
    let lines = proptest::collection::vec(entry(), 0..120);
    (addresses, lines).prop_map(|((source, destination), lines)| {
        let about = |line: Entry| Entry {
            source,
            destination,
            ..line
        };
        lines.into_iter().map(about).collect()
    })
}

/// Lines with few masks in many pairs: enough lines for a table, in which a packet is in several networks of each side.
fn of_few_masks() -> impl Strategy<Value = Vec<Entry>> {
    let mask = || select(vec![0, 0xff, 0xffff, 0x00ff_00ff, 0xfe, u32::MAX]);
    let line = (entry(), address(), mask(), address(), mask()).prop_map(
        |(line, source, from, destination, to)| Entry {
            source: Wildcard {
                address: source,
                dont_care: from,
            },
            destination: Wildcard {
                address: destination,
                dont_care: to,
            },
            ..line
        },
    );
    proptest::collection::vec(line, 50..250)
}

/// Lines with masks that no other line has, as a rule, each of which many packets match.
fn of_odd_masks() -> impl Strategy<Value = Vec<Entry>> {
    let mask = || (0u32..32, 0u32..32).prop_map(|(one, other)| !(1 << one | 1 << other));
    let line = (entry(), mask(), mask()).prop_map(|(line, from, to)| Entry {
        source: Wildcard {
            dont_care: from,
            ..line.source
        },
        destination: Wildcard {
            dont_care: to,
            ..line.destination
        },
        ..line
    });
    proptest::collection::vec(line, 0..20)
}

/// Lists of many shapes, of one shape with many lines, of one pair of networks, of few masks, and of all and odd ones.
fn lines() -> impl Strategy<Value = Vec<Entry>> {
    let mixed = || proptest::collection::vec(entry(), 0..120);
    let pairs = (about_one_pair(), about_one_pair());
    let all = (alike(), of_few_masks(), pairs, of_odd_masks()).prop_map(
        |(one, other, (pair, other_pair), odd)| [one, pair, other, other_pair, odd].concat(),
    );
    let shuffled = all.prop_shuffle();
    prop_oneof![mixed(), alike(), about_one_pair(), of_few_masks(), shuffled]
}

/// Some lines twice, the second with another action.
fn lines_again() -> impl Strategy<Value = Vec<Entry>> {
    lines().prop_map(|lines| {
        let other = |line: &Entry| Entry {
            action: match line.action {
                Action::Permit => Action::Deny,
                Action::Deny => Action::Permit,
            },
            ..line.clone()
        };
        let again: Vec<Entry> = lines.iter().step_by(3).map(other).collect();
        [lines, again].concat()
    })
}

/// The line that looking at one after the other finds.
fn linear(entries: &[Entry], packet: &Subject) -> Option<usize> {
    entries.iter().position(|e| e.matches(packet))
}

/// Looks packets up, and says where the list decides or counts otherwise than its lines in their order do.
fn compare(list: &AccessList, packets: &[(Subject, bool)]) -> Result<(), TestCaseError> {
    let entries = list.entries();
    let mut hits = vec![0; entries.len()];
    for (packet, counts) in packets {
        let found = linear(entries, packet);
        let action = found.map_or(Action::Deny, |at| entries[at].action);
        prop_assert_eq!(list.look(packet, *counts), action, "line {:?}", found);
        if let (Some(at), true) = (found, *counts) {
            hits[at] += 1;
            prop_assert_eq!(list.hits(at), hits[at], "line {}", at);
        }
        let about = entries.iter().find(|e| e.source.matches(packet.source));
        let permits = about.is_some_and(|e| e.action == Action::Permit);
        prop_assert_eq!(list.permits_source(packet.source), permits);
    }
    let counted: Vec<u64> = (0..entries.len()).map(|at| list.hits(at)).collect();
    prop_assert_eq!(counted, hits);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_compiled_list_decides_and_counts_as_its_lines_in_their_order_do(
        entries in lines_again(),
        packets in proptest::collection::vec((packet(), any::<bool>()), 40),
    ) {
        compare(&AccessList::long(entries), &packets)?;
    }

    #[test]
    fn a_list_decides_and_counts_as_its_lines_in_their_order_do(
        entries in lines(),
        packets in proptest::collection::vec((packet(), any::<bool>()), 40),
    ) {
        compare(&AccessList::new(entries), &packets)?;
    }
}

/// A packet that shows nothing but its addresses.
fn plain(source: u32, destination: u32) -> Subject {
    Subject {
        protocol: 17,
        source,
        destination,
        ports: None,
        icmp: None,
        established: false,
        later_fragment: false,
    }
}

/// Numbers without a pattern, the same each time.
fn numbers() -> impl Iterator<Item = u32> {
    (1u32..).map(|at| {
        let mixed = at.wrapping_mul(0x9e37_79b9);
        (mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b)
    })
}

/// The first and the last address of a network, and the ones beside them.
fn ends(of: Wildcard) -> [u32; 4] {
    let (first, last) = (of.address, of.address | of.dont_care);
    [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
}

/// Networks without repetition, in some order that is always the same.
fn distinct(of: impl Iterator<Item = Wildcard>) -> Vec<[u32; 2]> {
    let mut all: Vec<[u32; 2]> = of.map(|w| [w.address, w.dont_care]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Networks inside each other, enough for trees of several levels; the packets are at the ends of networks and beside them.
#[test]
fn the_ends_of_many_networks_are_found() {
    let mut random = numbers();
    let mut wildcard = |at: usize| {
        let address = random.next().unwrap_or_default();
        let dont_care = match at {
            0 => u32::MAX,
            // From the first and up to the last address there is, and few hosts or many.
            1 => {
                return Wildcard {
                    address: 0,
                    dont_care: 0xff,
                };
            }
            2 => {
                return Wildcard {
                    address: u32::MAX,
                    dont_care: 0xff,
                };
            }
            _ => u32::MAX >> (8 + at % 25).min(31) >> u32::from(at % 25 == 24),
        };
        Wildcard {
            address: address & !dont_care,
            dont_care,
        }
    };
    let networks: Vec<Wildcard> = (0..3000).map(&mut wildcard).collect();
    let others: Vec<Wildcard> = (0..3000).map(&mut wildcard).collect();
    for both in [false, true] {
        let line = |(at, (source, other)): (usize, (&Wildcard, &Wildcard))| {
            let action = if at % 3 == 0 {
                Action::Deny
            } else {
                Action::Permit
            };
            let destination = if both { *other } else { Wildcard::ANY };
            Entry {
                destination,
                ..Entry::standard(at as u32, action, *source)
            }
        };
        // The widest last, or nothing else would be found.
        let lines = networks.iter().zip(&others).enumerate().map(line);
        let mut entries: Vec<Entry> = lines.collect();
        entries.reverse();
        let packets = entries.iter().step_by(7).flat_map(|entry| {
            let to = ends(entry.destination);
            ends(entry.source)
                .into_iter()
                .zip(to)
                .map(|(from, to)| (plain(from, to), true))
        });
        let packets: Vec<(Subject, bool)> = packets.collect();
        compare(&AccessList::new(entries), &packets).expect("the same lines are found");
    }
}

/// Where a number is in a tree: what is looked at is what it is in, or lookups would be right and slow.
#[test]
fn only_the_networks_of_a_source_are_looked_at() {
    let mut random = numbers();
    let mut wildcard = |at: u32| {
        let address = random.next().unwrap_or_default();
        let dont_care = u32::MAX >> (4 + at % 28);
        Wildcard {
            address: address & !dont_care,
            dont_care,
        }
    };
    // Of other networks, and of hosts, which a hash table has.
    let networks: Vec<Wildcard> = (0..3000).map(&mut wildcard).collect();
    let host = |address| Wildcard {
        address,
        dont_care: 0,
    };
    let hosts = networks.iter().flat_map(|network| ends(*network).map(host));
    let both: Vec<Wildcard> = networks.iter().copied().chain(hosts).collect();
    for sources in [networks, both] {
        let numbered = (0..).zip(&sources);
        let lines = numbered.map(|(at, source)| Entry::standard(at, Action::Permit, *source));
        let compiled = Compiled::new(&lines.collect::<Vec<_>>());
        let [sorted] = *compiled.trees else {
            panic!("sources alone tell the lines apart")
        };
        for source in sources.iter().step_by(7) {
            for number in ends(*source) {
                let first = compiled.longest(&sorted, number);
                let groups = std::iter::successors(compiled.groups.get(first as usize), |group| {
                    compiled.groups.get(group.up as usize)
                });
                let seen = groups.map(|group| sources[group.first.line as usize]);
                let within = sources.iter().filter(|source| source.matches(number));
                assert_eq!(distinct(seen), distinct(within.copied()), "{number:#x}");
            }
        }
    }
}

/// Hosts, of which most are found by a hash table, with some networks around them.
#[test]
fn hosts_and_the_networks_around_them_are_found() {
    let host = |at: u32| Wildcard {
        address: at.wrapping_mul(0x0100_0193),
        dont_care: 0,
    };
    let around = |at: u32| Wildcard {
        dont_care: 0xffff >> (at % 5),
        ..host(at)
    };
    let hosts = (0..2000).map(|at| Entry::standard(at, Action::Permit, host(at)));
    let around = (0..100).map(|at| Entry::standard(at, Action::Deny, around(at * 20)));
    // Some networks before the hosts in them, and some after.
    let (before, after) = around.partition::<Vec<_>, _>(|line| line.sequence % 2 == 0);
    let lines = before.into_iter().chain(hosts).chain(after);
    let list = AccessList::new(lines.collect());
    let packets = (0..2000)
        .flat_map(|at| [0, 1, 0x0101].map(|more| (plain(host(at).address ^ more, 1), true)));
    let packets: Vec<(Subject, bool)> = packets.collect();
    compare(&list, &packets).expect("the same lines are found");
}

/// Masks that are no prefixes, with five lines for each.
#[test]
fn masks_that_are_no_prefixes_are_searched_as_well() {
    let entries: Vec<Entry> = (0u32..2000)
        .map(|at| {
            let dont_care = (at / 5).wrapping_mul(0x9e37_79b9) | 0xff;
            let address = at.wrapping_mul(0x85eb_ca6b) & !dont_care;
            Entry::standard(at, Action::Permit, Wildcard { address, dont_care })
        })
        .collect();
    let list = AccessList::new(entries.clone());
    let packets: Vec<(Subject, bool)> = (0u32..4000)
        .map(|at| (plain(at.wrapping_mul(0x85eb_ca6b), 1), true))
        .collect();
    compare(&list, &packets).expect("the same lines are found");
    let found = packets
        .iter()
        .filter(|(p, _)| linear(&entries, p).is_some());
    assert!(found.count() >= 2000, "each line has a packet");
}
