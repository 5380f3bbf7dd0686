//! What the ESP tests share: a policy to set by hand, and short names for what is done often.
#![allow(unreachable_pub, reason = "what the other files use")]

use std::net::Ipv4Addr;

use spillway_dataplane::esp::ike::{FLAG_RESPONSE, IkeHeader, exchange};
use spillway_dataplane::esp::spi_match::Key;
use spillway_dataplane::esp::{
    Engine, EspPacket, Globals, IkeIn, IkeOut, IkePacket, Inbound, Limits, Outbound, Outcome,
    Policy,
};
use spillway_dataplane::snapshot::{InsideHost, VrfId};
use spillway_dataplane::time::Millis;

pub const PEER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
pub const G1: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const G2: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const A: InsideHost = host(0, [10, 1, 0, 1]);
pub const B: InsideHost = host(0, [10, 1, 0, 2]);
pub const C: InsideHost = host(0, [10, 1, 0, 3]);

/// A host of a VRF; 0 is the global table.
pub const fn host(vrf: u8, [a, b, c, d]: [u8; 4]) -> InsideHost {
    InsideHost {
        vrf: VrfId(vrf),
        address: Ipv4Addr::new(a, b, c, d),
    }
}

/// A policy set by hand.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub globals: Vec<Ipv4Addr>,
    pub spi_match: bool,
    pub key: Key,
    pub preserve: bool,
    pub fixed: Option<(InsideHost, Ipv4Addr)>,
}

impl Config {
    pub fn overload(globals: &[Ipv4Addr]) -> Config {
        Config {
            globals: globals.to_vec(),
            ..Config::default()
        }
    }
}

impl Policy for Config {
    fn globals(&self, _: InsideHost, _: Ipv4Addr, globals: &mut Globals) {
        globals.extend(self.globals.iter().copied());
    }
    fn spi_match(&self, _: InsideHost, _: Ipv4Addr) -> bool {
        self.spi_match
    }
    fn spi_key(&self) -> Key {
        self.key
    }
    fn preserve_port(&self, _: InsideHost, _: Ipv4Addr) -> bool {
        self.preserve
    }
    fn static_esp(&self, global: Ipv4Addr) -> Option<InsideHost> {
        self.fixed.filter(|f| f.1 == global).map(|f| f.0)
    }
    fn static_global(&self, client: InsideHost) -> Option<Ipv4Addr> {
        self.fixed.filter(|f| f.0 == client).map(|f| f.1)
    }
}

/// A packet as the tests name it: of a client or of a peer, with SPI and sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Out(InsideHost, u32, u32),
    In(Ipv4Addr, u32, u32),
}

pub fn small() -> Limits {
    Limits {
        clients: 256,
        relations: 256,
        halves: 1024,
        ike_entries: 256,
        held_packets: 256,
        held_octets: 256 * 1500,
        ..Limits::default()
    }
}

pub fn esp(spi: u32, sequence: u32) -> EspPacket {
    EspPacket {
        spi,
        sequence,
        octets: 100,
    }
}

/// An engine with its clock, its policy, and everything that came out of it.
pub struct Nat {
    pub engine: Engine<Name>,
    pub now: u64,
    pub config: Config,
}

/// What became of a packet at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Sent with this global address.
    To(Ipv4Addr),
    /// Delivered to this client.
    For(InsideHost),
    Held,
    Lost(&'static str),
    NotOurs,
}

impl Nat {
    pub fn new(config: Config) -> Nat {
        Nat::with(config, small())
    }

    pub fn with(config: Config, limits: Limits) -> Nat {
        Nat {
            engine: Engine::new(limits, 42),
            now: 1000,
            config,
        }
    }

    pub fn out(&mut self, client: InsideHost, spi: u32, seq: u32) -> Fate {
        self.out_to(client, PEER, spi, seq)
    }

    pub fn out_to(&mut self, client: InsideHost, peer: Ipv4Addr, spi: u32, seq: u32) -> Fate {
        let now = Millis(self.now);
        match self
            .engine
            .outbound_esp(now, client, peer, &esp(spi, seq), &self.config)
        {
            Outbound::Translate { global } => Fate::To(global),
            Outbound::Hold(ticket) => {
                assert_eq!(
                    self.engine.keep(ticket, Name::Out(client, spi, seq)),
                    Ok(())
                );
                Fate::Held
            }
            Outbound::Drop(reason) => Fate::Lost(reason.name()),
        }
    }

    pub fn come(&mut self, spi: u32, seq: u32) -> Fate {
        self.come_to(PEER, G1, spi, seq)
    }

    pub fn come_to(&mut self, peer: Ipv4Addr, global: Ipv4Addr, spi: u32, seq: u32) -> Fate {
        let now = Millis(self.now);
        match self
            .engine
            .inbound_esp(now, peer, global, &esp(spi, seq), &self.config)
        {
            Inbound::Deliver { client } => Fate::For(client),
            Inbound::Hold(ticket) => {
                assert_eq!(self.engine.keep(ticket, Name::In(peer, spi, seq)), Ok(()));
                Fate::Held
            }
            Inbound::Drop(reason) => Fate::Lost(reason.name()),
            Inbound::NotOurs => Fate::NotOurs,
        }
    }

    /// All that has been released by now.
    pub fn released(&mut self) -> Vec<(Name, Fate)> {
        std::iter::from_fn(|| self.engine.next_release())
            .map(|r| {
                let fate = match r.outcome {
                    Outcome::Translate { global } => Fate::To(global),
                    Outcome::Deliver { client } => Fate::For(client),
                    Outcome::Drop(reason) => Fate::Lost(reason.name()),
                };
                (r.packet, fate)
            })
            .collect()
    }

    /// Lets time pass, in steps of 100 ms (long times in longer ones) with a full sweep each.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        let step = (ms / 300).max(100);
        while self.now < until {
            self.now = (self.now + step).min(until);
            self.engine.tick(Millis(self.now), 1 << 20);
        }
    }

    /// One IKEv2 message from the client.
    pub fn ike_out(&mut self, client: InsideHost, port: u16, header: IkeHeader) -> IkeOut {
        let packet = IkePacket {
            source_port: port,
            destination_port: port,
            header,
        };
        let free = |_: Ipv4Addr, _: Ipv4Addr, _: u16| true;
        let now = Millis(self.now);
        self.engine
            .ike_out(now, client, PEER, &packet, &self.config, &free)
    }

    /// One IKE message from the peer to an outside port.
    pub fn ike_in(&mut self, global: Ipv4Addr, ports: (u16, u16), header: IkeHeader) -> IkeIn {
        let packet = IkePacket {
            source_port: ports.0,
            destination_port: ports.1,
            header,
        };
        self.engine.ike_in(Millis(self.now), PEER, global, &packet)
    }

    /// A whole IKEv2 exchange of `client`, begun by it or by the peer; `cookie` names the IKE SA.
    pub fn exchange(
        &mut self,
        client: InsideHost,
        cookie: u64,
        kind: u8,
        message: u32,
        mine: bool,
    ) {
        let ask = v2(cookie, kind, message, false);
        let answer = v2(cookie, kind, message, true);
        let (first, second) = if mine { (ask, answer) } else { (answer, ask) };
        // What goes out tells the outside port; a request of the peer goes in before it.
        if mine {
            let port = self.ike_port(client, first);
            let to = self.ike_in(G1, (500, port), second);
            assert_eq!(to, IkeIn::Deliver { client, port: 500 });
        } else {
            let port = self.ike_port(client, v2(cookie, exchange::INFORMATIONAL, message, true));
            let to = self.ike_in(G1, (500, port), second);
            assert_eq!(to, IkeIn::Deliver { client, port: 500 });
            self.ike_port(client, first);
        }
    }

    fn ike_port(&mut self, client: InsideHost, header: IkeHeader) -> u16 {
        match self.ike_out(client, 500, header) {
            IkeOut::Translate { port, .. } => port,
            IkeOut::Drop(reason) => panic!("IKE refused: {}", reason.name()),
        }
    }

    pub fn drops(&self) -> u64 {
        self.engine.stats().dropped()
    }
}

/// An IKEv2 header.
pub fn v2(cookie: u64, kind: u8, message: u32, response: bool) -> IkeHeader {
    IkeHeader {
        initiator: cookie,
        responder: cookie ^ 0xFFFF,
        version: 2,
        exchange: kind,
        flags: if response { FLAG_RESPONSE } else { 0x08 },
        message,
        length: 200,
    }
}

/// The first message of a new IKE SA.
pub fn opening(cookie: u64) -> IkeHeader {
    IkeHeader {
        responder: 0,
        ..v2(cookie, exchange::SA_INIT, 0, false)
    }
}
