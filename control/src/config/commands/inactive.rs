//! Lines of the language that do nothing yet, and lines that mean nothing here.

use super::Mode::{CryptoMap, Global, Interface, IsakmpPolicy, Line, TransformSet, Vrf};
use super::{Command, Mode, Run};

const fn later(mode: Mode, pattern: &'static str, help: &'static str) -> Command {
    Command::new(mode, pattern, help, Run::Inactive)
}

const fn foreign(mode: Mode, pattern: &'static str) -> Command {
    Command::new(mode, pattern, "Means nothing here", Run::Foreign)
}

pub(super) const COMMANDS: &[Command] = &[
    // NAT.
    later(
        Global,
        "[no] ip nat service {H225 | ras | sip {tcp|udp} port <port:1-65535> | skinny tcp port <port:1-65535>
         | list $list ftp tcp port <port:1-65535>}",
        "What NAT does for one protocol",
    ),
    // Crypto.
    later(Global, "crypto isakmp policy <policy:1-10000>", "How to agree on keys").entering(IsakmpPolicy),
    later(Global, "no crypto isakmp policy <policy:1-10000>", "Remove a policy"),
    later(
        Global,
        "[no] crypto isakmp key <key:word> address <peer:address> [<mask:mask>]",
        "A key shared with a peer",
    ),
    later(
        Global,
        "crypto ipsec transform-set <set:word> <transform:word> (<transform:word>)*",
        "How to protect packets",
    )
    .entering(TransformSet),
    later(Global, "no crypto ipsec transform-set <set:word> (<transform:word>)*", "Remove a set"),
    later(
        Global,
        "[no] crypto ipsec nat-transparency {udp-encaps|spi-matching}",
        "How to get through a NAT",
    ),
    later(Global, "crypto dynamic-map <map:word> <clause:1-65535>", "A template for peers").entering(CryptoMap),
    later(Global, "no crypto dynamic-map <map:word> [<clause:1-65535>]", "Remove a template"),
    later(
        Global,
        "crypto map <map:word> <clause:1-65535> ipsec-isakmp [dynamic <dynamic:word>]",
        "What to protect, and for whom",
    )
    .entering(CryptoMap),
    later(
        Global,
        "no crypto map <map:word> [<clause:1-65535> [ipsec-isakmp [dynamic <dynamic:word>]]]",
        "Remove a crypto map",
    ),
    later(IsakmpPolicy, "[no] hash {md5|sha}", "Hash"),
    later(IsakmpPolicy, "[no] authentication {pre-share|rsa-sig|rsa-encr}", "Authentication"),
    later(IsakmpPolicy, "[no] encryption {des|3des|aes [128|192|256]}", "Encryption"),
    later(IsakmpPolicy, "[no] group {1|2|5|14}", "Diffie-Hellman group"),
    later(IsakmpPolicy, "[no] lifetime <seconds:60-86400>", "Lifetime in seconds"),
    later(TransformSet, "[no] mode {tunnel|transport}", "Mode"),
    later(CryptoMap, "[no] set peer {<peer:address>|<host:name>}", "The peer"),
    later(CryptoMap, "[no] set transform-set <set:word> (<set:word>)*", "The transform sets"),
    later(CryptoMap, "[no] set pfs [group1|group2|group5|group14]", "Perfect forward secrecy"),
    later(
        CryptoMap,
        "[no] set security-association lifetime {seconds <seconds:120-86400>|kilobytes <kilobytes:2560-536870912>}",
        "Lifetime of the security associations",
    ),
    later(CryptoMap, "[no] match address $list", "What to protect"),
    // Interfaces.
    later(Interface, "[no] crypto map <map:word>", "What to protect"),
    // Lines that mean nothing here.
    foreign(Vrf, "[no] {bgp|context|export|import|maximum|mdt|vpn} [<text:text>]"),
    foreign(Global, "[no] {version|service|enable|username|boot|clock|logging|aaa|scheduler|memory-size
        |dialer-list|cdp|snmp-server|ntp|tftp-server|hw-module|voice|call|gateway|archive|mta
        |Building|Current} [<text:text>]"),
    foreign(Global, "[no] ip {subnet-zero|classless|cef|http|domain-lookup|domain-name|domain|name-server
        |host|finger|source-route|bootp|tcp|ssh|forward-protocol|audit|multicast-routing|flow-export} [<text:text>]"),
    foreign(Global, "line {con|console|aux|vty|tty} [<text:text>]").entering(Line),
    foreign(Line, "[no] {access-class|autoselect|databits|escape-character|exec|exec-timeout|flowcontrol
        |history|length|logging|login|modem|monitor|parity|password|privilege|rxspeed|session-timeout
        |speed|stopbits|transport|txspeed|width} [<text:text>]"),
    foreign(Interface, "[no] ip {directed-broadcast|mroute-cache|route-cache|proxy-arp|redirects
        |unreachables|mask-reply|split-horizon|cef|load-sharing|virtual-reassembly} [<text:text>]"),
    // How often to send one: links are looked at here, and nothing is sent.
    foreign(Interface, "keepalive <text:text>"),
    foreign(Interface, "[no] {mop|encapsulation|duplex|speed|bandwidth|delay|clock|clockrate
        |fair-queue|half-duplex|full-duplex|load-interval|negotiation|media-type|cdp|dialer|dialer-group
        |ppp|peer|arp|hold-queue|tx-ring-limit|snmp|logging|async} [<text:text>]"),
];

#[cfg(test)]
mod tests {
    use super::super::Table;

    #[test]
    fn every_pattern_is_one() {
        assert!(Table::new().is_ok(), "{:?}", Table::new().err());
    }
}
