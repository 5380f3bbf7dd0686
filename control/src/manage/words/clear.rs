//! `clear ip nat`: which entries are meant.

use super::tree::{value, with_role, word};
use super::{Node, Role, Token, Verb};

const CLEAR: Option<Verb> = Some(Verb::ClearTranslations);

pub(super) const CLEAR_NAT: &[Node] = &[
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
                    AFTER_INSIDE_PORT,
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

const AFTER_INSIDE_PORT: &[Node] = &[
    with_role(
        word("forced", "With the entries below it", CLEAR, &[]),
        Role::Forced,
    ),
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
