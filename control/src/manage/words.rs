//! The command language as data: a tree of words, each with a line of help.
//!
//! Words may be shortened as long as they stay unambiguous. `?` help and completion can be read
//! from the same tree.

use std::net::Ipv4Addr;

mod clear;
mod read;
#[cfg(test)]
mod tests;
mod tree;

pub use read::{Reached, parse, walk};
pub use tree::COMMANDS;

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `show ip nat translations`
    ShowTranslations,
    /// `show ip nat statistics`
    ShowStatistics,
    /// `show interfaces`
    ShowInterfaces,
    /// `show ip route`
    ShowRoutes,
    /// `show ip vrf`
    ShowVrfs,
    /// `show arp`
    ShowArp,
    /// `show version`
    ShowVersion,
    /// `clear ip nat translation`
    ClearTranslations,
    /// `clear ip nat statistics`
    ClearStatistics,
    /// `debug ip nat`
    Debug,
    /// `undebug all`
    DebugOff,
    /// `explain esp`
    ExplainEsp,
    /// `explain {tcp|udp|icmp}`
    ExplainFlow,
    /// `reload`
    Reload,
    /// `show running-config`
    ShowRunning,
    /// `show access-lists`
    ShowAccessLists,
    /// `show ip interface brief`
    ShowBrief,
    /// `show route-map`
    ShowRouteMaps,
    /// `show config diff`
    ShowDiff,
    /// `configure terminal`
    Configure,
    /// `configure replace`
    Replace,
    /// `configure confirmed`
    Confirmed,
    /// `configure confirm`
    Confirm,
    /// `write memory`
    Write,
    /// `terminal length`
    TerminalLength,
    /// `terminal width`
    TerminalWidth,
    /// `show startup-config`
    ShowStartup,
    /// `enable`
    Enable,
    /// `disable`
    Disable,
    /// `ping`
    Ping,
    /// `exit`
    Exit,
}

impl Verb {
    /// Whether the view before `enable` has it: what changes nothing and shows no secret. As on
    /// routers, `debug` is not there: it shows packets as they pass, and `undebug all` ends what
    /// others asked for.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(
            self,
            Verb::ShowTranslations
                | Verb::ShowStatistics
                | Verb::ShowInterfaces
                | Verb::ShowRoutes
                | Verb::ShowVrfs
                | Verb::ShowArp
                | Verb::ShowVersion
                | Verb::ShowAccessLists
                | Verb::ShowBrief
                | Verb::ShowRouteMaps
                | Verb::ExplainEsp
                | Verb::ExplainFlow
                | Verb::TerminalLength
                | Verb::TerminalWidth
                | Verb::Enable
                | Verb::Disable
                | Verb::Ping
                | Verb::Exit
        )
    }
}

/// What stands at one place of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// This word, or a beginning of it.
    Word(&'static str),
    /// This word and no shorter one.
    Whole(&'static str),
    /// An IPv4 address.
    Address,
    /// A number from 0 to 65535.
    Port,
    /// An IPv4 address, or one with a port: `A.B.C.D:PORT`.
    Endpoint,
    /// An SPI in hexadecimal.
    Spi,
    /// Any word.
    Name,
}

impl Node {
    /// Whether a command that `is_wanted` ends here or further on.
    #[must_use]
    pub fn leads_to(&self, is_wanted: fn(Verb) -> bool) -> bool {
        self.verb.is_some_and(is_wanted) || self.next.iter().any(|node| node.leads_to(is_wanted))
    }
}

/// What a word tells the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing besides being there.
    None,
    /// Only this IP protocol.
    Protocol(u8),
    /// All details.
    Verbose,
    /// An interface.
    Interface,
    /// The name of a list, a map or a file.
    Named,
    /// How many.
    Number,
    /// Packets also as they came.
    Detailed,
    /// Decisions about ESP and IKE.
    Ipsec,
    /// Where a packet or a ping comes from.
    Source,
    /// Where it goes.
    Destination,
    /// The host outside.
    Peer,
    /// An SPI.
    Spi,
    /// A VRF.
    Vrf,
    /// With what is below it.
    Forced,
    /// The inside global address or port.
    InsideGlobal,
    /// The inside local address or port.
    InsideLocal,
    /// The outside local address or port.
    OutsideLocal,
    /// The outside global address or port.
    OutsideGlobal,
}

/// One place in the tree.
#[derive(Debug)]
pub struct Node {
    /// What stands here.
    pub token: Token,
    /// One line of help.
    pub help: &'static str,
    /// What it tells the command.
    pub role: Role,
    /// The command that may end here.
    pub verb: Option<Verb>,
    /// What may follow.
    pub next: &'static [Node],
}

/// A value given in a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The word itself is all.
    Present,
    /// An address.
    Address(Ipv4Addr),
    /// A port or ICMP identifier.
    Port(u16),
    /// An address, and a port where there was one.
    Endpoint(Ipv4Addr, Option<u16>),
    /// An SPI.
    Spi(u32),
    /// A name.
    Name(String),
}

/// A command line that has been understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub verb: Verb,
    /// What the words tell, in their order.
    pub arguments: Vec<(Role, Value)>,
    /// Where each argument begins in the line, in characters.
    pub positions: Vec<usize>,
}

/// Why a command line was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyntaxError {
    /// A word that fits nowhere, beginning at this character of the line.
    Invalid(usize),
    /// Words are missing at the end.
    Incomplete,
    /// A shortened word that could be several.
    Ambiguous,
}

impl SyntaxError {
    /// The message; `line` is shown above the caret.
    #[must_use]
    pub fn render(&self, line: &str) -> String {
        match self {
            SyntaxError::Invalid(at) => {
                let line = printable(line);
                let caret = " ".repeat(*at);
                format!("{line}\n{caret}^\n% Invalid input detected at '^' marker.")
            }
            SyntaxError::Incomplete => "% Incomplete command.".into(),
            SyntaxError::Ambiguous => {
                format!("% Ambiguous command: \"{}\"", printable(line).trim())
            }
        }
    }
}

/// One column for one character, whatever an operator (or a program) has sent.
fn printable(line: &str) -> String {
    line.trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
