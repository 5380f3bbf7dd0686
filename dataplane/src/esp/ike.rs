//! The header that IKEv1 (RFC 2408 section 3.1) and IKEv2 (RFC 7296 section 3.1) share, and what
//! runs over UDP ports 500 and 4500 (RFC 3948 section 2).

/// The UDP port of IKE.
pub const IKE_PORT: u16 = 500;
/// The UDP port of IKE behind four zero octets, and of ESP in UDP.
pub const NAT_T_PORT: u16 = 4500;
/// Octets of an IKE header.
pub const HEADER_OCTETS: usize = 28;

/// What an IKE header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IkeHeader {
    /// The initiator's cookie (IKEv1) or SPI (IKEv2): the same in both directions.
    pub initiator: u64,
    /// The responder's; 0 until the initiator knows it.
    pub responder: u64,
    /// Major version, 1 or 2.
    pub version: u8,
    /// The exchange type.
    pub exchange: u8,
    /// The flags.
    pub flags: u8,
    /// The message identifier.
    pub message: u32,
    /// Octets of the whole message, header included.
    pub length: u32,
}

/// Exchange types that matter to a NAT.
pub mod exchange {
    /// IKEv1 main mode (identity protection), RFC 2408 section 3.1.
    pub const MAIN: u8 = 2;
    /// IKEv1 aggressive mode.
    pub const AGGRESSIVE: u8 = 4;
    /// IKEv1 quick mode, which makes IPsec SAs (RFC 2409 section 5.5).
    pub const QUICK: u8 = 32;
    /// IKEv2: the first exchange.
    pub const SA_INIT: u8 = 34;
    /// IKEv2: authentication, which makes the first IPsec SAs.
    pub const AUTH: u8 = 35;
    /// IKEv2: new IPsec SAs, or a new IKE SA.
    pub const CREATE_CHILD_SA: u8 = 36;
    /// IKEv2: deletes, liveness.
    pub const INFORMATIONAL: u8 = 37;
}

/// IKEv2 flag: this message is a response.
pub const FLAG_RESPONSE: u8 = 0x20;

/// What a UDP payload on port 500 or 4500 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IkePayload {
    /// IKE.
    Ike(IkeHeader),
    /// ESP in UDP: plain UDP to a NAT.
    Encapsulated,
    /// A NAT keepalive, the one octet 0xFF (RFC 3948 section 2.3): plain UDP to a NAT.
    Keepalive,
}

/// Why a UDP payload is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IkeMalformed {
    /// Shorter than the header.
    Short,
    /// Neither version 1 nor 2.
    Version,
    /// The header's length field is below the header's own length.
    Length,
    /// The initiator's cookie is zero.
    Initiator,
}

impl IkeHeader {
    /// Reads a UDP payload. `marked` tells whether four zero octets precede IKE there: so it is if
    /// either port is 4500 (RFC 3948 section 2.2). Never looks past the payload's end; the message
    /// may be longer than the payload (IP fragments).
    ///
    /// # Errors
    /// What is wrong with the header.
    pub fn parse(payload: &[u8], marked: bool) -> Result<IkePayload, IkeMalformed> {
        if !marked {
            return IkeHeader::read(payload).map(IkePayload::Ike);
        }
        if payload == [0xFF] {
            return Ok(IkePayload::Keepalive);
        }
        match payload.split_first_chunk::<4>() {
            None => Err(IkeMalformed::Short),
            Some(([0, 0, 0, 0], rest)) => IkeHeader::read(rest).map(IkePayload::Ike),
            Some(_) => Ok(IkePayload::Encapsulated),
        }
    }

    fn read(octets: &[u8]) -> Result<IkeHeader, IkeMalformed> {
        let header: &[u8; HEADER_OCTETS] = octets.first_chunk().ok_or(IkeMalformed::Short)?;
        let word = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        let read = IkeHeader {
            initiator: long(0),
            responder: long(8),
            version: header[17] >> 4,
            exchange: header[18],
            flags: header[19],
            message: word(20),
            length: word(24),
        };
        if !(1..=2).contains(&read.version) {
            return Err(IkeMalformed::Version);
        }
        if (read.length as usize) < HEADER_OCTETS {
            return Err(IkeMalformed::Length);
        }
        if read.initiator == 0 {
            return Err(IkeMalformed::Initiator);
        }
        Ok(read)
    }

    /// Whether this message answers another (IKEv2 only: IKEv1 does not say).
    #[must_use]
    pub fn is_response(&self) -> bool {
        self.version == 2 && self.flags & FLAG_RESPONSE != 0
    }

    /// Whether the exchange can make IPsec SAs.
    #[must_use]
    pub fn makes_sas(&self) -> bool {
        match self.version {
            1 => self.exchange == exchange::QUICK,
            _ => matches!(self.exchange, exchange::AUTH | exchange::CREATE_CHILD_SA),
        }
    }

    /// Whether this is the very first message of a new IKE SA.
    #[must_use]
    pub fn opens(&self) -> bool {
        self.responder == 0
            && match self.version {
                1 => matches!(self.exchange, exchange::MAIN | exchange::AGGRESSIVE),
                _ => self.exchange == exchange::SA_INIT && !self.is_response(),
            }
    }
}

/// Reads the SPI and the sequence number of an ESP packet (RFC 4303 section 2) from the octets
/// after the IP header; `None` where they are cut short.
#[must_use]
pub fn esp_header(octets: &[u8]) -> Option<(u32, u32)> {
    let (&spi, rest) = octets.split_first_chunk::<4>()?;
    let (&sequence, _) = rest.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(spi), u32::from_be_bytes(sequence)))
}
