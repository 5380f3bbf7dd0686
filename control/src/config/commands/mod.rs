//! The command table: one row for a command or its `no` form.

mod access_list;
mod help;
mod inactive;
mod interface;
mod nat;
mod nat_destination;
mod nat_outside;
mod route_map;
mod system;
mod vrf;

use std::sync::OnceLock;

use super::draft::{Draft, Outcome};
use super::grammar::{Failure, Graph};
use super::syntax::{Args, Statement};
use super::text::Span;

pub use help::Next;
pub(super) use nat::TIMERS;

/// Which commands a line is looked up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Mode {
    /// No sub-mode.
    Global,
    /// Below `interface`.
    Interface,
    /// Below `ip access-list standard`.
    StandardList,
    /// Below `ip access-list extended`.
    ExtendedList,
    /// Below `ip nat pool` without a range.
    Pool,
    /// Below `route-map`.
    RouteMap,
    /// Below `ip vrf`.
    Vrf,
    /// Below `crypto isakmp policy`.
    IsakmpPolicy,
    /// Below `crypto ipsec transform-set`.
    TransformSet,
    /// Below `crypto map` and `crypto dynamic-map`.
    CryptoMap,
    /// Below `line`.
    Line,
}

impl Mode {
    const ALL: [Mode; 11] = [
        Mode::Global,
        Mode::Interface,
        Mode::StandardList,
        Mode::ExtendedList,
        Mode::Pool,
        Mode::RouteMap,
        Mode::Vrf,
        Mode::IsakmpPolicy,
        Mode::TransformSet,
        Mode::CryptoMap,
        Mode::Line,
    ];
}

/// What a command does.
#[derive(Debug, Clone, Copy)]
pub enum Run {
    /// This.
    Apply(fn(&mut Draft, &Args<'_>) -> Outcome),
    /// It is kept, shown, and warned about: not active yet.
    Inactive,
    /// It means nothing here; warned about and forgotten.
    Foreign,
}

/// A row of the command table.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// The mode that it belongs to.
    pub mode: Mode,
    /// Its words; see [`super::grammar`].
    pub pattern: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// What it does.
    pub run: Run,
    /// The mode of the lines below it.
    pub enters: Option<Mode>,
    /// Whether the file ends here.
    pub ends: bool,
}

impl Command {
    const fn new(mode: Mode, pattern: &'static str, help: &'static str, run: Run) -> Command {
        Command {
            mode,
            pattern,
            help,
            run,
            enters: None,
            ends: false,
        }
    }

    const fn entering(self, mode: Mode) -> Command {
        Command {
            enters: Some(mode),
            ..self
        }
    }

    const fn ending(self) -> Command {
        Command { ends: true, ..self }
    }
}

/// All rows.
pub static COMMANDS: &[&[Command]] = &[
    system::COMMANDS,
    interface::COMMANDS,
    access_list::COMMANDS,
    nat::COMMANDS,
    nat_outside::COMMANDS,
    nat_destination::COMMANDS,
    route_map::COMMANDS,
    vrf::COMMANDS,
    inactive::COMMANDS,
];

/// Pieces of patterns that several rows share.
const PIECES: &[(&str, &str)] = &[
    ("list", "<number:1-199> | <number:1300-2699> | <name:name>"),
    ("standard", "<number:1-99> | <number:1300-1999>"),
    ("extended", "<number:100-199> | <number:2000-2699>"),
    (
        "standard-match",
        "{src=any | host <src:address> | <src:address> [<srcw:wildcard>]} [log]",
    ),
    (
        "source",
        "src=any | host <src:address> | <src:address> <srcw:wildcard>",
    ),
    (
        "destination",
        "dst=any | host <dst:address> | <dst:address> <dstw:wildcard>",
    ),
    (
        "tcp-source",
        "{sop=eq|sop=neq|sop=gt|sop=lt} {<sp:0-65535>|<sp:tcp-port>}
         | sop=range {<sp:0-65535>|<sp:tcp-port>} {<sp2:0-65535>|<sp2:tcp-port>}",
    ),
    (
        "tcp-destination",
        "{dop=eq|dop=neq|dop=gt|dop=lt} {<dp:0-65535>|<dp:tcp-port>}
         | dop=range {<dp:0-65535>|<dp:tcp-port>} {<dp2:0-65535>|<dp2:tcp-port>}",
    ),
    (
        "udp-source",
        "{sop=eq|sop=neq|sop=gt|sop=lt} {<sp:0-65535>|<sp:udp-port>}
         | sop=range {<sp:0-65535>|<sp:udp-port>} {<sp2:0-65535>|<sp2:udp-port>}",
    ),
    (
        "udp-destination",
        "{dop=eq|dop=neq|dop=gt|dop=lt} {<dp:0-65535>|<dp:udp-port>}
         | dop=range {<dp:0-65535>|<dp:udp-port>} {<dp2:0-65535>|<dp2:udp-port>}",
    ),
    (
        "extended-match",
        "tcp $source [$tcp-source] $destination [$tcp-destination] (established|fragments|log|log-input)*
         | udp $source [$udp-source] $destination [$udp-destination] (fragments|log|log-input)*
         | icmp $source $destination [<icmptype:icmp-type> | <type:0-255> [<code:0-255>]] (fragments|log|log-input)*
         | {ip|<protocol:protocol>|<protocol:0-255>} $source $destination (fragments|log|log-input)*",
    ),
    ("pool-mask", "netmask <mask:mask> | prefix-length <length:1-32>"),
    ("pool-type", "type {generic|rotary|match-host}"),
    ("pool-options", "$pool-mask [$pool-type] | $pool-type $pool-mask"),
    (
        "dynamic",
        "{list $list | route-map <map:word>} {pool <pool-name:word> | interface <port:interface>}
         (overload | endpoint-independent | filtering {$filtering} | vrf <vrf-name:word>)*",
    ),
    (
        "filtering",
        "eif=endpoint-independent|adf=address-dependent|apdf=address-and-port-dependent",
    ),
    (
        "static",
        "{<local:address> <global:address>
         | network <local:address> <global:address> {<mask:mask>|<length:slash>}
         | tcp <local:address> {<lport:1-65535>|<lport:tcp-port>}
           {<global:address>|interface <port:interface>} {<gport:1-65535>|<gport:tcp-port>}
         | udp <local:address> {<lport:1-65535>|<lport:udp-port>}
           {<global:address>|interface <port:interface>} {<gport:1-65535>|<gport:udp-port>}}
         (extendable | no-alias | no-payload | vrf <vrf-name:word> | route-map <map:word>)*",
    ),
    (
        "timer",
        "timeout|tcp-timeout|udp-timeout|icmp-timeout|finrst-timeout|syn-timeout|dns-timeout
         |pptp-timeout|esp-timeout|esp-pending-timeout",
    ),
    ("seconds", "<seconds:1-2147483647> | never"),
];

/// The commands of each mode as a graph.
#[derive(Debug)]
pub struct Table {
    modes: Vec<(Graph, Vec<&'static Command>)>,
}

impl Table {
    /// The one table.
    #[must_use]
    pub fn shared() -> &'static Table {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| Table::new().expect("the rows are constants that a test reads"))
    }

    /// The table of all rows.
    ///
    /// # Errors
    /// A sentence about the first row whose pattern is no pattern.
    pub fn new() -> Result<Table, String> {
        let of = |mode| {
            let rows = COMMANDS.iter().copied().flatten();
            let commands: Vec<_> = rows.filter(|c| c.mode == mode).collect();
            let graph = Graph::new(
                // A short form must not turn a line that counts into one that means nothing.
                commands
                    .iter()
                    .map(|c| (c.pattern, matches!(c.run, Run::Foreign))),
                PIECES,
            )?;
            Ok((graph, commands))
        };
        let modes = Mode::ALL
            .into_iter()
            .map(of)
            .collect::<Result<_, String>>()?;
        Ok(Table { modes })
    }

    /// Reads a line as a command of one mode.
    ///
    /// # Errors
    /// The first word that fits none.
    pub fn read(&self, mode: Mode, line: &str, words: &[Span]) -> Result<Statement, Failure> {
        let (graph, commands) = &self.modes[mode as usize];
        let found = graph.read(line, words)?;
        Ok(Statement {
            command: commands[found.pattern],
            words: found.words,
        })
    }

    /// What may follow these words in a mode: for help and completion.
    #[must_use]
    pub fn expected_after(&self, mode: Mode, line: &str, words: &[Span]) -> Vec<String> {
        self.modes[mode as usize].0.expected_after(line, words)
    }

    /// The command at a place that a [`Failure`] names.
    #[must_use]
    pub fn command(&self, mode: Mode, pattern: usize) -> Option<&'static Command> {
        self.modes[mode as usize].1.get(pattern).copied()
    }
}
