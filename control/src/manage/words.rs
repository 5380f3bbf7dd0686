//! The command language as data: a tree of words, each with a line of help.
//!
//! Words may be shortened as long as they stay unambiguous. `?` help and completion can be read
//! from the same tree.

use std::net::Ipv4Addr;

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
    /// Whether the view before `enable` has it: what changes nothing and shows no secret.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(
            self,
            Verb::ShowTranslations
                | Verb::ShowStatistics
                | Verb::ShowInterfaces
                | Verb::ShowRoutes
                | Verb::ShowArp
                | Verb::ShowVersion
                | Verb::ShowAccessLists
                | Verb::ShowBrief
                | Verb::ShowRouteMaps
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

const fn word(
    text: &'static str,
    help: &'static str,
    verb: Option<Verb>,
    next: &'static [Node],
) -> Node {
    Node {
        token: Token::Word(text),
        help,
        role: Role::None,
        verb,
        next,
    }
}

const fn with_role(node: Node, role: Role) -> Node {
    Node { role, ..node }
}

const fn value(
    token: Token,
    help: &'static str,
    role: Role,
    verb: Option<Verb>,
    next: &'static [Node],
) -> Node {
    Node {
        token,
        help,
        role,
        verb,
        next,
    }
}

const SHOW: Option<Verb> = Some(Verb::ShowTranslations);
const CLEAR: Option<Verb> = Some(Verb::ClearTranslations);

/// Every command.
pub static COMMANDS: &[Node] = &[
    word(
        "clear",
        "Reset functions",
        None,
        &[word(
            "ip",
            "IP",
            None,
            &[word("nat", "Clear NAT", None, CLEAR_NAT)],
        )],
    ),
    word(
        "configure",
        "Change the running configuration",
        None,
        &[
            word(
                "confirm",
                "Keep the changes that wait for it",
                Some(Verb::Confirm),
                &[],
            ),
            word(
                "confirmed",
                "As terminal, and go back unless it is confirmed in time",
                None,
                &[value(
                    Token::Port,
                    "Minutes",
                    Role::Number,
                    Some(Verb::Confirmed),
                    &[],
                )],
            ),
            word(
                "replace",
                "The configuration of a file instead",
                None,
                &[value(
                    Token::Name,
                    "File, from the root: /...",
                    Role::Named,
                    Some(Verb::Replace),
                    &[],
                )],
            ),
            word("terminal", "From the terminal", Some(Verb::Configure), &[]),
        ],
    ),
    word(
        "copy",
        "Copy the running configuration",
        None,
        &[word(
            "running-config",
            "The configuration in force",
            None,
            &[word(
                "startup-config",
                "To the configuration file",
                Some(Verb::Write),
                &[],
            )],
        )],
    ),
    word(
        "debug",
        "Tell of decisions as they are made",
        None,
        &[word(
            "ip",
            "IP",
            None,
            &[word(
                "nat",
                "Translated packets",
                Some(Verb::Debug),
                DEBUG_NAT,
            )],
        )],
    ),
    word(
        "disable",
        "Back to the view before enable",
        Some(Verb::Disable),
        &[],
    ),
    word(
        "enable",
        "The view that can change things",
        Some(Verb::Enable),
        &[],
    ),
    word("exit", "Leave", Some(Verb::Exit), &[]),
    word("logout", "Leave", Some(Verb::Exit), &[]),
    word(
        "ping",
        "Send echo requests",
        None,
        &[value(
            Token::Address,
            "Address to ask",
            Role::Destination,
            PING,
            &[PING_REPEAT, PING_SOURCE],
        )],
    ),
    word("quit", "Leave", Some(Verb::Exit), &[]),
    word(
        "explain",
        "What would become of a packet now, and why",
        None,
        &[
            word(
                "esp",
                "An ESP packet",
                None,
                &[value(
                    Token::Address,
                    "The peer outside",
                    Role::Peer,
                    None,
                    &[value(
                        Token::Spi,
                        "Its SPI, in hexadecimal",
                        Role::Spi,
                        Some(Verb::ExplainEsp),
                        &[],
                    )],
                )],
            ),
            with_role(
                word("icmp", "An echo request", None, EXPLAIN_FLOW),
                Role::Protocol(1),
            ),
            with_role(
                word("tcp", "A TCP segment", None, EXPLAIN_FLOW),
                Role::Protocol(6),
            ),
            with_role(
                word("udp", "A UDP datagram", None, EXPLAIN_FLOW),
                Role::Protocol(17),
            ),
        ],
    ),
    word(
        "no",
        "Turn something off",
        None,
        &[word(
            "debug",
            "Debugging",
            None,
            &[word("all", "All of it", Some(Verb::DebugOff), &[])],
        )],
    ),
    word(
        "reload",
        "Read the configuration file again and swap it in",
        Some(Verb::Reload),
        &[],
    ),
    word(
        "show",
        "Show running system information",
        None,
        &[
            SHOW_ACCESS_LISTS,
            word(
                "arp",
                "Hardware addresses of hosts on the links",
                Some(Verb::ShowArp),
                &[],
            ),
            word(
                "config",
                "The running configuration against the file",
                None,
                &[word("diff", "What differs", Some(Verb::ShowDiff), &[])],
            ),
            word(
                "interfaces",
                "Interface status and counters",
                Some(Verb::ShowInterfaces),
                &[value(
                    Token::Name,
                    "Name of one interface",
                    Role::Interface,
                    Some(Verb::ShowInterfaces),
                    &[],
                )],
            ),
            word(
                "ip",
                "IP information",
                None,
                &[
                    SHOW_ACCESS_LISTS,
                    word(
                        "interface",
                        "Interfaces",
                        None,
                        &[word("brief", "One line each", Some(Verb::ShowBrief), &[])],
                    ),
                    word(
                        "nat",
                        "IP NAT information",
                        None,
                        &[
                            word(
                                "statistics",
                                "Translation statistics",
                                Some(Verb::ShowStatistics),
                                &[],
                            ),
                            word(
                                "translations",
                                "Translation entries",
                                SHOW,
                                SHOW_TRANSLATIONS,
                            ),
                        ],
                    ),
                    word("route", "IP routing table", Some(Verb::ShowRoutes), &[]),
                ],
            ),
            word(
                "route-map",
                "Route maps",
                Some(Verb::ShowRouteMaps),
                &[value(
                    Token::Name,
                    "Name of one map",
                    Role::Named,
                    Some(Verb::ShowRouteMaps),
                    &[],
                )],
            ),
            word(
                "running-config",
                "The configuration in force",
                Some(Verb::ShowRunning),
                &[],
            ),
            word(
                "startup-config",
                "The configuration of the next start",
                Some(Verb::ShowStartup),
                &[],
            ),
            word(
                "version",
                "Software version and what it drives",
                Some(Verb::ShowVersion),
                &[],
            ),
        ],
    ),
    word(
        "terminal",
        "This terminal",
        None,
        &[
            word(
                "length",
                "Lines of a page",
                None,
                &[value(
                    Token::Port,
                    "Lines; 0 never stops",
                    Role::Number,
                    Some(Verb::TerminalLength),
                    &[],
                )],
            ),
            word(
                "width",
                "Taken and not needed: lines are never cut",
                None,
                &[value(
                    Token::Port,
                    "Columns",
                    Role::Number,
                    Some(Verb::TerminalWidth),
                    &[],
                )],
            ),
        ],
    ),
    word(
        "undebug",
        "Turn debugging off",
        None,
        &[word("all", "All of it", Some(Verb::DebugOff), &[])],
    ),
    word(
        "write",
        "Keep the running configuration",
        Some(Verb::Write),
        &[word(
            "memory",
            "In the configuration file",
            Some(Verb::Write),
            &[],
        )],
    ),
];

const DEBUG_NAT: &[Node] = &[
    with_role(
        word(
            "detailed",
            "Packets also as they came",
            Some(Verb::Debug),
            DEBUG_LIST,
        ),
        Role::Detailed,
    ),
    with_role(
        word(
            "ipsec",
            "Decisions about ESP and IKE",
            Some(Verb::Debug),
            DEBUG_LIST,
        ),
        Role::Ipsec,
    ),
    DEBUG_ONLY,
];

const DEBUG_LIST: &[Node] = &[DEBUG_ONLY];

const DEBUG_ONLY: Node = value(
    Token::Name,
    "Only what this access list permits",
    Role::Named,
    Some(Verb::Debug),
    &[],
);

const EXPLAIN_FLOW: &[Node] = &[value(
    Token::Endpoint,
    "Source: A.B.C.D or A.B.C.D:PORT",
    Role::Source,
    None,
    &[value(
        Token::Endpoint,
        "Destination: A.B.C.D or A.B.C.D:PORT",
        Role::Destination,
        Some(Verb::ExplainFlow),
        &[],
    )],
)];

const SHOW_ACCESS_LISTS: Node = word(
    "access-lists",
    "Access lists and how often their lines matched",
    Some(Verb::ShowAccessLists),
    &[value(
        Token::Name,
        "Number or name of one list",
        Role::Named,
        Some(Verb::ShowAccessLists),
        &[],
    )],
);

const PING: Option<Verb> = Some(Verb::Ping);

const PING_REPEAT: Node = word(
    "repeat",
    "How many requests",
    None,
    &[value(
        Token::Port,
        "Requests",
        Role::Number,
        PING,
        &[word(
            "source",
            "From one of our addresses",
            None,
            &[value(
                Token::Address,
                "Source address",
                Role::Source,
                PING,
                &[],
            )],
        )],
    )],
);

const PING_SOURCE: Node = word(
    "source",
    "From one of our addresses",
    None,
    &[value(
        Token::Address,
        "Source address",
        Role::Source,
        PING,
        &[word(
            "repeat",
            "How many requests",
            None,
            &[value(Token::Port, "Requests", Role::Number, PING, &[])],
        )],
    )],
);

/// `v` stays `verbose`.
const VRF: Node = value(
    Token::Whole("vrf"),
    "Entries of a VRF",
    Role::None,
    None,
    &[value(Token::Name, "Name of the VRF", Role::Vrf, SHOW, &[])],
);

const EXTRA: Node = with_role(
    word("verbose", "Show extra information", SHOW, &[VRF]),
    Role::Verbose,
);

const VERBOSE: &[Node] = &[EXTRA, VRF];

const SHOW_TRANSLATIONS: &[Node] = &[
    with_role(
        word("esp", "ESP entries", SHOW, VERBOSE),
        Role::Protocol(50),
    ),
    with_role(
        word("icmp", "ICMP entries", SHOW, VERBOSE),
        Role::Protocol(1),
    ),
    with_role(
        word("pptp", "PPTP entries", SHOW, VERBOSE),
        Role::Protocol(47),
    ),
    with_role(word("tcp", "TCP entries", SHOW, VERBOSE), Role::Protocol(6)),
    with_role(
        word("udp", "UDP entries", SHOW, VERBOSE),
        Role::Protocol(17),
    ),
    EXTRA,
    VRF,
];

const CLEAR_NAT: &[Node] = &[
    word(
        "statistics",
        "Count from zero again",
        Some(Verb::ClearStatistics),
        &[],
    ),
    word(
        "translation",
        "Remove dynamic entries",
        None,
        &[
            word("*", "All dynamic entries", CLEAR, &[]),
            with_role(
                word("esp", "ESP entries", CLEAR, ESP_SIDES),
                Role::Protocol(50),
            ),
            word("forced", "All dynamic entries, in use or not", CLEAR, &[]),
            word("inside", "Inside addresses and ports", None, INSIDE),
            word("outside", "Outside addresses and ports", None, OUTSIDE),
            with_role(word("tcp", "TCP entries", CLEAR, SIDES), Role::Protocol(6)),
            with_role(word("udp", "UDP entries", CLEAR, SIDES), Role::Protocol(17)),
        ],
    ),
];

const SIDES: &[Node] = &[
    word("inside", "Inside addresses and ports", None, INSIDE),
    word("outside", "Outside addresses and ports", None, OUTSIDE),
];

/// As for TCP and UDP, with SPIs where these have ports; 0 or nothing means any.
const ESP_SIDES: &[Node] = &[
    word("inside", "Inside addresses and SPIs", None, ESP_INSIDE),
    word("outside", "Outside addresses and SPIs", None, ESP_OUTSIDE),
];

const ESP_INSIDE: &[Node] = &[value(
    Token::Address,
    "Inside global address",
    Role::InsideGlobal,
    None,
    &[
        ESP_INSIDE_LOCAL,
        value(
            Token::Spi,
            "0: an inside global address has no SPI",
            Role::InsideGlobal,
            None,
            &[ESP_INSIDE_LOCAL],
        ),
    ],
)];

const ESP_INSIDE_LOCAL: Node = value(
    Token::Address,
    "Inside local address",
    Role::InsideLocal,
    CLEAR,
    &[
        word("outside", "Outside addresses and SPIs", None, ESP_OUTSIDE),
        ESP_OUTSIDE_LOCAL,
        value(
            Token::Spi,
            "SPI of packets going out",
            Role::InsideLocal,
            CLEAR,
            &[
                word("outside", "Outside addresses and SPIs", None, ESP_OUTSIDE),
                ESP_OUTSIDE_LOCAL,
            ],
        ),
    ],
);

const ESP_OUTSIDE: &[Node] = &[ESP_OUTSIDE_LOCAL];

const ESP_OUTSIDE_LOCAL: Node = value(
    Token::Address,
    "Outside local address",
    Role::OutsideLocal,
    None,
    &[
        ESP_OUTSIDE_GLOBAL,
        value(
            Token::Spi,
            "0: an outside local address has no SPI",
            Role::OutsideLocal,
            None,
            &[ESP_OUTSIDE_GLOBAL],
        ),
    ],
);

const ESP_OUTSIDE_GLOBAL: Node = value(
    Token::Address,
    "Outside global address",
    Role::OutsideGlobal,
    CLEAR,
    &[value(
        Token::Spi,
        "SPI of packets coming in",
        Role::OutsideGlobal,
        CLEAR,
        &[],
    )],
);

const INSIDE: &[Node] = &[value(
    Token::Address,
    "Inside global address",
    Role::InsideGlobal,
    None,
    &[
        value(
            Token::Port,
            "Inside global port",
            Role::InsideGlobal,
            None,
            &[value(
                Token::Address,
                "Inside local address",
                Role::InsideLocal,
                None,
                &[value(
                    Token::Port,
                    "Inside local port",
                    Role::InsideLocal,
                    CLEAR,
                    AFTER_INSIDE,
                )],
            )],
        ),
        value(
            Token::Address,
            "Inside local address",
            Role::InsideLocal,
            CLEAR,
            AFTER_INSIDE,
        ),
    ],
)];

const AFTER_INSIDE: &[Node] = &[
    word("outside", "Outside addresses and ports", None, OUTSIDE),
    OUTSIDE_LOCAL,
];

const OUTSIDE: &[Node] = &[OUTSIDE_LOCAL];

const OUTSIDE_LOCAL: Node = value(
    Token::Address,
    "Outside local address",
    Role::OutsideLocal,
    None,
    &[
        value(
            Token::Port,
            "Outside local port",
            Role::OutsideLocal,
            None,
            &[value(
                Token::Address,
                "Outside global address",
                Role::OutsideGlobal,
                None,
                &[value(
                    Token::Port,
                    "Outside global port",
                    Role::OutsideGlobal,
                    CLEAR,
                    &[],
                )],
            )],
        ),
        value(
            Token::Address,
            "Outside global address",
            Role::OutsideGlobal,
            CLEAR,
            &[],
        ),
    ],
);

/// The words of a line with the character that each begins at.
fn split(line: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    for (column, (at, c)) in line.char_indices().enumerate() {
        match (c.is_whitespace(), start) {
            (false, None) => start = Some((column, at)),
            (true, Some((begin, from))) => {
                words.push((begin, &line[from..at]));
                start = None;
            }
            _ => {}
        }
    }
    if let Some((begin, from)) = start {
        words.push((begin, &line[from..]));
    }
    words
}

/// Where a command line leads.
#[derive(Debug, Clone)]
pub struct Reached {
    /// What may follow.
    pub next: &'static [Node],
    /// The command that may end here.
    pub verb: Option<Verb>,
    arguments: Vec<(Role, Value)>,
    positions: Vec<usize>,
}

/// Understands a command line.
///
/// # Errors
/// What is wrong with it, and where.
pub fn parse(line: &str) -> Result<Invocation, SyntaxError> {
    let reached = walk(line)?;
    Ok(Invocation {
        verb: reached.verb.ok_or(SyntaxError::Incomplete)?,
        arguments: reached.arguments,
        positions: reached.positions,
    })
}

/// Follows the words of a line that may not be finished.
///
/// # Errors
/// What is wrong with it, and where.
pub fn walk(line: &str) -> Result<Reached, SyntaxError> {
    let mut reached = Reached {
        next: COMMANDS,
        verb: None,
        arguments: Vec::new(),
        positions: Vec::new(),
    };
    for (at, word) in split(line) {
        let (node, value) = choose(reached.next, word, at)?;
        if node.role != Role::None {
            reached.arguments.push((node.role, value));
            reached.positions.push(at);
        }
        reached.verb = node.verb;
        reached.next = node.next;
    }
    Ok(reached)
}

fn choose(
    nodes: &'static [Node],
    word: &str,
    at: usize,
) -> Result<(&'static Node, Value), SyntaxError> {
    let begins = |node: &&Node| match node.token {
        Token::Word(text) => text
            .get(..word.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(word)),
        _ => false,
    };
    let whole = |node: &&Node| match node.token {
        Token::Word(text) | Token::Whole(text) => text.eq_ignore_ascii_case(word),
        _ => false,
    };
    if let Some(node) = nodes.iter().find(whole) {
        return Ok((node, Value::Present));
    }
    let mut candidates = nodes.iter().filter(begins);
    match (candidates.next(), candidates.next()) {
        (Some(_), Some(_)) => return Err(SyntaxError::Ambiguous),
        (Some(node), None) => return Ok((node, Value::Present)),
        (None, _) => {}
    }
    nodes
        .iter()
        .find_map(|node| Some((node, read(node.token, word)?)))
        .ok_or(SyntaxError::Invalid(at))
}

fn read(token: Token, word: &str) -> Option<Value> {
    match token {
        Token::Word(_) | Token::Whole(_) => None,
        Token::Address => word.parse().ok().map(Value::Address),
        // `parse` alone would take `+5`.
        Token::Port if word.bytes().all(|b| b.is_ascii_digit()) => {
            word.parse().ok().map(Value::Port)
        }
        Token::Port => None,
        Token::Endpoint => match word.split_once(':') {
            None => Some(Value::Endpoint(word.parse().ok()?, None)),
            Some((address, port)) => {
                let Value::Port(port) = read(Token::Port, port)? else {
                    return None;
                };
                Some(Value::Endpoint(address.parse().ok()?, Some(port)))
            }
        },
        Token::Spi => {
            let digits = word.strip_prefix("0x").unwrap_or(word);
            let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
            let spi = u32::from_str_radix(digits, 16).ok();
            spi.filter(|_| is_hex).map(Value::Spi)
        }
        Token::Name => Some(Value::Name(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, Node, Role, SyntaxError, Token, Value, Verb, parse};

    #[test]
    fn words_may_be_shortened_and_written_in_any_case() {
        for line in [
            "show ip nat translations verbose",
            "sh ip nat tr v",
            "SHOW IP NaT t v",
            " sho\tip nat trans  verb ",
        ] {
            let found = parse(line).expect(line);
            assert_eq!(found.verb, Verb::ShowTranslations, "{line}");
            assert_eq!(found.arguments, [(Role::Verbose, Value::Present)], "{line}");
        }
    }

    #[test]
    fn what_is_open_changes_nothing_and_shows_no_configuration() {
        for (line, is_open) in [
            ("show ip nat translations", true),
            ("ping 10.0.0.1 repeat 3 source 10.0.0.2", true),
            ("terminal length 0", true),
            ("enable", true),
            ("show running-config", false),
            ("show startup-config", false),
            ("show config diff", false),
            ("clear ip nat translation esp", false),
            ("configure terminal", false),
            ("copy run start", false),
            ("write", false),
            ("reload", false),
        ] {
            assert_eq!(parse(line).map(|i| i.verb.is_open()), Ok(is_open), "{line}");
        }
    }

    #[test]
    fn a_beginning_of_several_words_is_ambiguous() {
        let line = "sh i nat t";
        let error = parse(line).expect_err(line);
        assert_eq!(error, SyntaxError::Ambiguous);
        assert_eq!(error.render(line), "% Ambiguous command: \"sh i nat t\"");
    }

    #[test]
    fn the_caret_stands_under_the_wrong_word() {
        for (line, caret) in [
            ("show ip nut", 8),
            ("  shox ip nat", 2),
            ("show version now", 13),
            (
                "clear ip nat translation tcp inside 1.2.3.4 99999 10.0.0.1 1",
                44,
            ),
            ("zeige \u{fc}\u{fc} nat", 0),
            ("show \u{fc}\u{fc} nat", 5),
            ("show ip nat translations gre", 25),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error, SyntaxError::Invalid(caret), "{line}");
            let text = error.render(line);
            let mut lines = text.lines();
            assert_eq!(lines.next(), Some(line));
            assert_eq!(lines.next().and_then(|l| l.find('^')), Some(caret));
            assert_eq!(
                lines.next(),
                Some("% Invalid input detected at '^' marker.")
            );
        }
    }

    #[test]
    fn missing_words_are_incomplete() {
        for line in [
            "",
            "   ",
            "sh",
            "show ip",
            "show ip nat",
            "clear ip nat translation",
            "clear ip nat translation inside 1.2.3.4",
            "clear ip nat translation tcp inside 1.2.3.4 5 10.0.0.1",
        ] {
            assert_eq!(parse(line), Err(SyntaxError::Incomplete), "{line}");
        }
    }

    #[test]
    fn both_sides_may_be_named_and_outside_may_be_missing() {
        let with = parse(
            "clear ip nat translation udp inside 1.2.3.4 5 10.0.0.1 6 outside 8.8.8.8 53 8.8.8.8 53",
        );
        let without = parse("clear ip nat tr udp ins 1.2.3.4 5 10.0.0.1 6 8.8.8.8 53 8.8.8.8 53");
        let arguments = |r: Result<super::Invocation, _>| r.map(|i| i.arguments);
        assert_eq!(arguments(with.clone()), arguments(without));
        assert_eq!(arguments(with).map(|a| a.len()), Ok(9));
    }

    #[test]
    fn every_word_has_help_and_every_branch_ends_in_a_command() {
        fn walk(nodes: &[Node]) {
            let mut texts = Vec::new();
            for node in nodes {
                assert!(!node.help.is_empty());
                assert!(node.verb.is_some() || !node.next.is_empty(), "{node:?}");
                if let Token::Word(text) | Token::Whole(text) = node.token {
                    texts.push(text);
                }
                walk(node.next);
            }
            assert!(
                texts.is_sorted(),
                "words in the order that help prints them: {texts:?}"
            );
        }
        walk(COMMANDS);
    }
}
