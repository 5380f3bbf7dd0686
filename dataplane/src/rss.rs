//! Receive-side scaling: to which queue a network card takes a packet, and so to which worker.
//!
//! Cards hash addresses and ports with the Toeplitz hash ("Receive Side Scaling", Microsoft's specification
//! of NDIS) and take the queue from a table by the hash's lowest bits. The hash is linear: what each octet
//! adds to it depends on no other one. So the hash of an answer is known before the outside port is
//! chosen, but for what that port adds.

use crate::session::Key;
use crate::snapshot::{PortId, WorkerId};
use crate::wire::{PROTO_TCP, PROTO_UDP};

/// The key that ports are given: that of the specification, with which most drivers start, and its
/// beginning again for cards whose keys are longer.
pub const KEY: [u8; 52] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa, 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2,
    0x41, 0x67, 0x25, 0x3d,
];

/// What the source address adds to a hash with [`source_key`], from its highest bit on. The last bit
/// is set: then as many neighbouring addresses as the table has places all have places of their own.
const SOURCE: u32 = 0x6d5a_56db;

/// A key with which only the source address decides about the place in a table of `places` (a power of two
/// up to 2^31), whatever else a card hashes after it: bits of the key that destination and ports would bring to the
/// hash's lowest bits are zero. So every card that takes a key spreads by clients.
///
/// The place's bits are in the reverse order of what matters: see [`by_source_place`].
#[must_use]
pub fn source_key(places: usize) -> [u8; 52] {
    // Bit i of the address brings the key's bits i to i + 31 to the hash, so the place's highest bit is
    // the sum of bits from here on, and each lower one of bits one further on.
    let first = 32 - places.max(1).ilog2().min(31);
    let mut key = [0; 52];
    let bits = u64::from(SOURCE) << (32 - first);
    key[..8].copy_from_slice(&bits.to_be_bytes());
    key
}

/// The number that sources have by which a card with [`source_key`] gives them the place `at` of `places`: the
/// place's bits in reverse. In a smaller table the same sources have the same number's lowest bits.
#[must_use]
pub fn by_source_place(at: usize, places: usize) -> usize {
    match places.max(1).ilog2() {
        0 => 0,
        bits => at.reverse_bits() >> (usize::BITS - bits),
    }
}

/// Places of the usual table.
pub const PLACES: usize = 128;

/// Halves of octets that are hashed at most: two addresses and two ports.
const NIBBLES: usize = 24;

/// The Toeplitz hash with one key: what each value of each half octet adds.
#[derive(Debug, Clone)]
pub struct Toeplitz {
    adds: Box<[[u32; 16]; NIBBLES]>,
}

impl Toeplitz {
    /// The hash with a key, of which it needs 16 octets; those that are not there count as zeros.
    #[must_use]
    pub fn new(key: &[u8]) -> Toeplitz {
        let bit = |at: usize| key.get(at / 8).map_or(0, |octet| octet >> (7 - at % 8) & 1);
        let window = |at: usize| (at..at + 32).fold(0, |word, at| word << 1 | u32::from(bit(at)));
        let adds = std::array::from_fn(|nibble| {
            std::array::from_fn(|value: usize| {
                let bits = (0..4).filter(|bit| value >> (3 - bit) & 1 == 1);
                bits.fold(0, |sum, bit| sum ^ window(nibble * 4 + bit))
            })
        });
        Toeplitz {
            adds: Box::new(adds),
        }
    }

    /// What the octets of a word add, the first, second or third one of what is hashed.
    #[inline]
    fn word(&self, at: usize, value: u32) -> u32 {
        let nibbles = self.adds[at % 3 * 8..].iter().take(8).enumerate();
        nibbles.fold(0, |sum, (n, adds)| {
            sum ^ adds[(value >> (28 - 4 * n)) as usize & 15]
        })
    }

    /// What the last two octets add: the destination port.
    #[inline]
    fn last(&self, value: u16) -> u32 {
        let nibbles = self.adds[NIBBLES - 4..].iter().enumerate();
        nibbles.fold(0, |sum, (n, adds)| {
            sum ^ adds[usize::from(value >> (12 - 4 * n)) & 15]
        })
    }

    /// The hash of a packet's source address alone.
    #[inline]
    #[must_use]
    pub fn of_source(&self, source: u32) -> u32 {
        self.word(0, source)
    }

    /// The hash of a packet's addresses.
    #[inline]
    #[must_use]
    pub fn of_addresses(&self, source: u32, destination: u32) -> u32 {
        self.word(0, source) ^ self.word(1, destination)
    }

    /// The hash of a packet's addresses and ports.
    #[inline]
    #[must_use]
    pub fn of_flow(&self, key: Key) -> u32 {
        let ports = u32::from(key.sport) << 16 | u32::from(key.dport);
        self.of_addresses(key.src, key.dst) ^ self.word(2, ports)
    }
}

/// Which parts of a packet a port hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fields {
    /// The source address alone.
    Source,
    /// Both addresses, and both ports of the protocols that it says.
    Flow {
        /// Of UDP that is not fragmented.
        udp: bool,
        /// Of TCP that is not fragmented.
        tcp: bool,
    },
}

/// How a port spreads over workers what it receives.
#[derive(Debug, Clone)]
pub struct Spread {
    hash: Toeplitz,
    fields: Fields,
    /// The worker of each place; as many as a power of two.
    table: Box<[WorkerId]>,
}

impl Spread {
    /// A port that hashes `fields` with `key`, and whose table leads to these workers. `None` where
    /// the table's size is no power of two.
    #[must_use]
    pub fn new(key: &[u8], fields: Fields, table: &[WorkerId]) -> Option<Spread> {
        table.len().is_power_of_two().then(|| Spread {
            hash: Toeplitz::new(key),
            fields,
            table: table.into(),
        })
    }

    /// A table of so many places that leads to so many queues in turn.
    #[must_use]
    pub fn in_turn(places: usize, queues: u16) -> Vec<u16> {
        (0..places)
            .map(|at| (at % usize::from(queues.max(1))) as u16)
            .collect()
    }

    /// The worker to which the port takes a packet that is no fragment.
    #[must_use]
    pub fn worker(&self, protocol: u8, key: Key) -> WorkerId {
        self.of_hash(match self.fields {
            Fields::Source => self.hash.of_source(key.src),
            _ if self.has_ports(protocol) => self.hash.of_flow(key),
            Fields::Flow { .. } => self.hash.of_addresses(key.src, key.dst),
        })
    }

    fn has_ports(&self, protocol: u8) -> bool {
        match self.fields {
            Fields::Source => false,
            Fields::Flow { udp, tcp } => {
                udp && protocol == PROTO_UDP || tcp && protocol == PROTO_TCP
            }
        }
    }

    #[inline]
    fn of_hash(&self, hash: u32) -> WorkerId {
        self.table[hash as usize & (self.table.len() - 1)]
    }
}

/// How the ports of an appliance spread what they receive, as far as that is known. The same in all
/// workers, and for as long as they run: else two of them would think that a client is theirs.
#[derive(Debug, Clone, Default)]
pub struct Steering {
    clients: Option<Spread>,
    /// By [`PortId`].
    answers: Vec<Option<Spread>>,
}

impl Steering {
    /// `clients`: to which worker ports inside take a client's packets, where they go by its address
    /// alone. `answers`: how each port spreads, in the order of ports; `None` where nobody knows.
    #[must_use]
    pub fn new(clients: Option<Spread>, answers: Vec<Option<Spread>>) -> Steering {
        Steering { clients, answers }
    }

    /// The worker of a client, if its address alone decides where its packets come in.
    #[inline]
    pub(crate) fn client(&self, address: u32) -> Option<WorkerId> {
        let spread = self.clients.as_ref()?;
        Some(spread.of_hash(spread.hash.of_source(address)))
    }

    /// What leads the answers to a new flow of worker `me`: they come in at `exit` and look like `answer`,
    /// whose destination port is still to be chosen. `None` where nobody knows how that port spreads.
    pub(crate) fn aim(
        &self,
        exit: PortId,
        me: WorkerId,
        protocol: u8,
        answer: Key,
    ) -> Option<Aim<'_>> {
        let spread = self.answers.get(exit.index())?.as_ref()?;
        let answer = Key { dport: 0, ..answer };
        let by_port = spread.has_ports(protocol);
        let rest = match spread.fields {
            Fields::Source => spread.hash.of_source(answer.src),
            Fields::Flow { .. } if by_port => spread.hash.of_flow(answer),
            Fields::Flow { .. } => spread.hash.of_addresses(answer.src, answer.dst),
        };
        Some(Aim {
            spread,
            me,
            rest,
            by_port,
        })
    }
}

/// What is known of the answers to a flow before its outside port is chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim<'a> {
    spread: &'a Spread,
    me: WorkerId,
    /// The hash, but for the port.
    rest: u32,
    by_port: bool,
}

impl Aim<'_> {
    /// Whether the outside port makes a difference.
    pub(crate) fn is_by_port(&self) -> bool {
        self.by_port
    }

    /// Whether answers to this outside port come to their worker.
    #[inline]
    pub(crate) fn hits(&self, port: u16) -> bool {
        let adds = if self.by_port {
            self.spread.hash.last(port)
        } else {
            0
        };
        self.spread.of_hash(self.rest ^ adds) == self.me
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The hash as the specification tells it, a bit at a time.
    fn slow(key: &[u8], input: &[u8]) -> u32 {
        let (mut hash, mut window) = (0, u32::from_be_bytes([key[0], key[1], key[2], key[3]]));
        for (octet, next) in input.iter().zip(&key[4..]) {
            for bit in (0..8).rev() {
                if octet >> bit & 1 == 1 {
                    hash ^= window;
                }
                window = window << 1 | u32::from(next >> bit & 1);
            }
        }
        hash
    }

    fn key(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> Key {
        Key {
            src: u32::from_be_bytes(src),
            dst: u32::from_be_bytes(dst),
            sport,
            dport,
        }
    }

    /// All the specification's examples for IPv4, with ports and without.
    #[test]
    fn hashes_what_the_specification_hashes() {
        let hash = Toeplitz::new(&KEY[..40]);
        let examples = [
            (
                [66, 9, 149, 187],
                2794,
                [161, 142, 100, 80],
                1766,
                0x51cc_c178,
                0x323e_8fc2,
            ),
            (
                [199, 92, 111, 2],
                14230,
                [65, 69, 140, 83],
                4739,
                0xc626_b0ea,
                0xd718_262a,
            ),
            (
                [24, 19, 198, 95],
                12898,
                [12, 22, 207, 184],
                38024,
                0x5c2b_394a,
                0xd2d0_a5de,
            ),
            (
                [38, 27, 205, 30],
                48228,
                [209, 142, 163, 6],
                2217,
                0xafc7_327f,
                0x8298_9176,
            ),
            (
                [153, 39, 163, 191],
                44251,
                [202, 188, 127, 2],
                1303,
                0x10e8_28a2,
                0x5d18_09c5,
            ),
        ];
        for (src, sport, dst, dport, with_ports, without) in examples {
            let key = key(src, sport, dst, dport);
            assert_eq!(hash.of_flow(key), with_ports);
            assert_eq!(hash.of_addresses(key.src, key.dst), without);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_one(octets: [u8; 12], secret: [u8; 16]) {
            let hash = Toeplitz::new(&secret);
            let [a, b, c, d, e, f, g, h, i, j, k, l] = octets;
            let key = key([a, b, c, d], u16::from_be_bytes([i, j]), [e, f, g, h], u16::from_be_bytes([k, l]));
            prop_assert_eq!(hash.of_flow(key), slow(&secret, &octets));
            prop_assert_eq!(hash.of_addresses(key.src, key.dst), slow(&secret, &octets[..8]));
            prop_assert_eq!(hash.of_source(key.src), slow(&secret, &octets[..4]));
        }

        /// With a source's key, nothing but the source matters for the place, in tables of any size, and they agree.
        #[test]
        fn a_sources_key_leads_by_the_source_alone(source: u32, rest: [u8; 8], other: [u8; 8], bits in 0u32..10, more in 0u32..3) {
            let place = |bits: u32, rest: [u8; 8]| {
                let octets = [&source.to_be_bytes()[..], &rest].concat();
                (slow(&source_key(1 << bits), &octets) & ((1 << bits) - 1)) as usize
            };
            prop_assert_eq!(place(bits, rest), place(bits, other));
            let alone = Toeplitz::new(&source_key(1 << bits)).of_source(source) & ((1 << bits) - 1);
            prop_assert_eq!(place(bits, rest), alone as usize);
            let number = |bits: u32| by_source_place(place(bits, rest), 1 << bits);
            prop_assert_eq!(number(bits + more) % (1 << bits), number(bits));
        }

        /// Neighbours that fill a table have a place each.
        #[test]
        fn a_sources_key_spreads_neighbours_evenly(network: u32, bits in 0u32..10) {
            let hash = Toeplitz::new(&source_key(1 << bits));
            let mask = (1u32 << bits) - 1;
            let mut places: Vec<u32> = (0..=mask).map(|host| hash.of_source(network & !mask | host) & mask).collect();
            places.sort_unstable();
            prop_assert_eq!(places, (0..=mask).collect::<Vec<u32>>());
        }

        /// What an aim says of a port is what the port does with the answer, whatever it hashes.
        #[test]
        fn an_aim_foretells_the_worker(
            octets: [u8; 8], peer_port: u16, port: u16, workers in 1u16..7, protocol in 0usize..3, fields in 0usize..5,
        ) {
            let fields = [
                Fields::Source,
                Fields::Flow { udp: true, tcp: true },
                Fields::Flow { udp: false, tcp: true },
                Fields::Flow { udp: true, tcp: false },
                Fields::Flow { udp: false, tcp: false },
            ][fields];
            let protocol = [PROTO_UDP, PROTO_TCP, 1][protocol];
            let table: Vec<WorkerId> = Spread::in_turn(PLACES, workers).iter().map(|q| WorkerId(*q as u8)).collect();
            let spread = Spread::new(&KEY, fields, &table).expect("a power of two");
            let steering = Steering::new(None, vec![None, Some(spread.clone())]);
            let [a, b, c, d, e, f, g, h] = octets;
            let answer = key([a, b, c, d], peer_port, [e, f, g, h], port);
            let worker = spread.worker(protocol, answer);
            for me in (0..workers).map(|me| WorkerId(me as u8)) {
                prop_assert!(steering.aim(PortId(0), me, protocol, answer).is_none());
                let aim = steering.aim(PortId(1), me, protocol, answer).expect("known");
                prop_assert_eq!(aim.hits(port), worker == me);
            }
        }
    }
}
