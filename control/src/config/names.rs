//! Ports, protocols and ICMP types by the names that access lists use.

/// A set of names with their values.
pub type Names = &'static [(&'static str, u32)];

/// TCP ports.
pub const TCP_PORTS: Names = &[
    ("bgp", 179),
    ("chargen", 19),
    ("cmd", 514),
    ("daytime", 13),
    ("discard", 9),
    ("domain", 53),
    ("echo", 7),
    ("exec", 512),
    ("finger", 79),
    ("ftp", 21),
    ("ftp-data", 20),
    ("gopher", 70),
    ("hostname", 101),
    ("ident", 113),
    ("irc", 194),
    ("klogin", 543),
    ("kshell", 544),
    ("login", 513),
    ("lpd", 515),
    ("nntp", 119),
    ("pim-auto-rp", 496),
    ("pop2", 109),
    ("pop3", 110),
    ("smtp", 25),
    ("sunrpc", 111),
    ("syslog", 514),
    ("tacacs", 49),
    ("talk", 517),
    ("telnet", 23),
    ("time", 37),
    ("uucp", 540),
    ("whois", 43),
    ("www", 80),
];

/// UDP ports.
pub const UDP_PORTS: Names = &[
    ("biff", 512),
    ("bootpc", 68),
    ("bootps", 67),
    ("discard", 9),
    ("dnsix", 195),
    ("domain", 53),
    ("echo", 7),
    ("isakmp", 500),
    ("mobile-ip", 434),
    ("nameserver", 42),
    ("netbios-dgm", 138),
    ("netbios-ns", 137),
    ("netbios-ss", 139),
    ("non500-isakmp", 4500),
    ("ntp", 123),
    ("pim-auto-rp", 496),
    ("rip", 520),
    ("snmp", 161),
    ("snmptrap", 162),
    ("sunrpc", 111),
    ("syslog", 514),
    ("tacacs", 49),
    ("talk", 517),
    ("tftp", 69),
    ("time", 37),
    ("who", 513),
    ("xdmcp", 177),
];

/// IP protocols other than `ip`, `tcp`, `udp` and `icmp`, which are keywords.
pub const PROTOCOLS: Names = &[
    ("ahp", 51),
    ("eigrp", 88),
    ("esp", 50),
    ("gre", 47),
    ("igmp", 2),
    ("igrp", 9),
    ("ipinip", 4),
    ("nos", 94),
    ("ospf", 89),
    ("pcp", 108),
    ("pim", 103),
];

/// The bit that tells that an ICMP name means one code; the code stands in bits 8 to 15.
pub const WITH_CODE: u32 = 1 << 16;

const fn code(kind: u32, code: u32) -> u32 {
    kind | code << 8 | WITH_CODE
}

/// ICMP types, and codes where a name means one.
pub const ICMP_TYPES: Names = &[
    ("administratively-prohibited", code(3, 13)),
    ("alternate-address", 6),
    ("conversion-error", 31),
    ("dod-host-prohibited", code(3, 10)),
    ("dod-net-prohibited", code(3, 9)),
    ("echo", 8),
    ("echo-reply", 0),
    ("general-parameter-problem", code(12, 0)),
    ("host-isolated", code(3, 8)),
    ("host-precedence-unreachable", code(3, 14)),
    ("host-redirect", code(5, 1)),
    ("host-tos-redirect", code(5, 3)),
    ("host-tos-unreachable", code(3, 12)),
    ("host-unknown", code(3, 7)),
    ("host-unreachable", code(3, 1)),
    ("information-reply", 16),
    ("information-request", 15),
    ("mask-reply", 18),
    ("mask-request", 17),
    ("mobile-redirect", 32),
    ("net-redirect", code(5, 0)),
    ("net-tos-redirect", code(5, 2)),
    ("net-tos-unreachable", code(3, 11)),
    ("net-unreachable", code(3, 0)),
    ("network-unknown", code(3, 6)),
    ("no-room-for-option", code(12, 2)),
    ("option-missing", code(12, 1)),
    ("packet-too-big", code(3, 4)),
    ("parameter-problem", 12),
    ("port-unreachable", code(3, 3)),
    ("precedence-unreachable", code(3, 15)),
    ("protocol-unreachable", code(3, 2)),
    ("reassembly-timeout", code(11, 1)),
    ("redirect", 5),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("source-quench", 4),
    ("source-route-failed", code(3, 5)),
    ("time-exceeded", 11),
    ("timestamp-reply", 14),
    ("timestamp-request", 13),
    ("traceroute", 30),
    ("ttl-exceeded", code(11, 0)),
    ("unreachable", 3),
];

/// The name of a value, if it has one; the first of several.
#[must_use]
pub fn name_of(names: Names, value: u32) -> Option<&'static str> {
    names.iter().find(|(_, v)| *v == value).map(|(n, _)| *n)
}
