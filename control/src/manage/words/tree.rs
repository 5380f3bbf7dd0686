//! Every command, and how a place in the tree is made.

use super::clear::CLEAR_NAT;
use super::{Node, Role, Token, Verb};

pub(super) const fn word(
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

pub(super) const fn with_role(node: Node, role: Role) -> Node {
    Node { role, ..node }
}

pub(super) const fn value(
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

/// The end of a command.
const fn vrf_name(verb: Option<Verb>) -> Node {
    value(Token::Name, "Name of the VRF", Role::Vrf, verb, &[])
}

const SHOW: Option<Verb> = Some(Verb::ShowTranslations);

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
    word("logout", "Leave", Some(Verb::Exit), &[]),
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
        "ping",
        "Send echo requests",
        None,
        &[
            word(
                "vrf",
                "From within a VRF",
                None,
                &[value(
                    Token::Name,
                    "Name of the VRF",
                    Role::Vrf,
                    None,
                    &[PING_TO],
                )],
            ),
            PING_TO,
        ],
    ),
    word("quit", "Leave", Some(Verb::Exit), &[]),
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
                    word(
                        "route",
                        "IP routing table",
                        Some(Verb::ShowRoutes),
                        &[word(
                            "vrf",
                            "That of a VRF",
                            None,
                            &[vrf_name(Some(Verb::ShowRoutes))],
                        )],
                    ),
                    word(
                        "vrf",
                        "VRFs and their interfaces",
                        Some(Verb::ShowVrfs),
                        &[vrf_name(Some(Verb::ShowVrfs))],
                    ),
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
        &[word(
            "vrf",
            "From inside a VRF",
            None,
            &[vrf_name(Some(Verb::ExplainFlow))],
        )],
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

const PING_TO: Node = value(
    Token::Address,
    "Address to ask",
    Role::Destination,
    PING,
    &[PING_REPEAT, PING_SOURCE],
);

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
    &[value(
        Token::Name,
        "Name of the VRF",
        Role::Vrf,
        SHOW,
        &[with_role(
            word("verbose", EXTRA_HELP, SHOW, &[]),
            Role::Verbose,
        )],
    )],
);

const EXTRA_HELP: &str = "Show extra information";

const EXTRA: Node = with_role(word("verbose", EXTRA_HELP, SHOW, &[VRF]), Role::Verbose);

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
