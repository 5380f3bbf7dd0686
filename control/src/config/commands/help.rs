//! One line of help for every word that may stand next in a line.

use super::super::grammar::{Choice, Kind, Symbol};
use super::super::names::{ICMP_TYPES, Names, PROTOCOLS, TCP_PORTS, WITH_CODE};
use super::super::text::Span;
use super::{Mode, Run, Table};

/// What may stand next in a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Next {
    /// The word, or the kind of value as `A.B.C.D`, `<1-99>`, `WORD`, `LINE`; `<cr>` where the line
    /// may end.
    pub text: String,
    /// One line about it.
    pub help: String,
    /// Whether the text is typed as it stands.
    pub is_word: bool,
}

impl Table {
    /// What may follow these words in a mode; nothing where the words fit nothing. Lines that mean
    /// nothing here are not offered.
    #[must_use]
    pub fn next(&self, mode: Mode, line: &str, words: &[Span]) -> Vec<Next> {
        let (graph, commands) = &self.modes[mode as usize];
        let Some((choices, end)) = graph.choices_after(line, words) else {
            return Vec::new();
        };
        let foreign = |pattern: &usize| matches!(commands[*pattern].run, Run::Foreign);
        let mut found = Vec::new();
        for choice in choices {
            if choice.patterns.iter().all(foreign) {
                continue;
            }
            let own = choice.patterns.iter().filter(|p| !foreign(p));
            let mut helps: Vec<&'static str> = own.map(|p| commands[*p].help).collect();
            helps.sort_unstable();
            helps.dedup();
            let only = match helps[..] {
                [only] => Some(only),
                _ => None,
            };
            describe(&choice, only, &mut found);
        }
        if let Some(end) = end.filter(|end| !foreign(end)) {
            found.push(Next {
                text: "<cr>".to_owned(),
                help: commands[end].help.to_owned(),
                is_word: false,
            });
        }
        found.sort();
        found.dedup();
        found
    }
}

/// The words of a choice. `only` is the help of the one command that it leads to.
fn describe(choice: &Choice, only: Option<&'static str>, found: &mut Vec<Next>) {
    let value = |text: String| Next {
        text,
        help: of_value(choice.label).or(only).unwrap_or("").to_owned(),
        is_word: false,
    };
    found.push(match choice.symbol {
        Symbol::Keyword(word) => Next {
            text: word.to_owned(),
            help: of_word(word).or(only).unwrap_or("").to_owned(),
            is_word: true,
        },
        Symbol::Names(names, _) => {
            found.extend(names.iter().map(|(name, value)| Next {
                text: (*name).to_owned(),
                help: named(names, *value),
                is_word: true,
            }));
            return;
        }
        Symbol::Value(Kind::Word | Kind::Name | Kind::Interface | Kind::Pci) => {
            value("WORD".to_owned())
        }
        Symbol::Value(Kind::Text) => value("LINE".to_owned()),
        Symbol::Value(Kind::Address | Kind::Mask | Kind::Wildcard) => value("A.B.C.D".to_owned()),
        Symbol::Value(Kind::Slash) => value("/nn".to_owned()),
        Symbol::Value(Kind::Number(low, high)) => value(format!("<{low}-{high}>")),
    });
}

fn named(names: Names, value: u32) -> String {
    if names == ICMP_TYPES {
        let kind = value & 0xff;
        return match value & WITH_CODE {
            0 => format!("ICMP type {kind}"),
            _ => format!("ICMP type {kind} code {}", value >> 8 & 0xff),
        };
    }
    if names == PROTOCOLS {
        return format!("IP protocol {value}");
    }
    let protocol = if names == TCP_PORTS { "TCP" } else { "UDP" };
    format!("{protocol} port {value}")
}

fn of_word(word: &str) -> Option<&'static str> {
    find(WORDS, word)
}

fn of_value(label: &str) -> Option<&'static str> {
    find(VALUES, label)
}

fn find(table: &[(&str, &'static str)], key: &str) -> Option<&'static str> {
    let found = table.iter().find(|(name, _)| *name == key);
    found.map(|(_, help)| *help)
}

/// Keywords that lead to several commands, or that a command's own help says too little about.
const WORDS: &[(&str, &str)] = &[
    ("3des", "Triple DES"),
    ("ESP", "Native IPsec ESP"),
    ("H225", "H.323 call signalling"),
    ("IKE", "Internet key exchange"),
    ("access-list", "Access lists"),
    ("add-route", "Also a route to the outside local address"),
    ("address", "An address"),
    ("aes", "AES"),
    ("all-host", "Each host"),
    ("any", "Every address"),
    ("address-and-port-dependent", "Only answers get in"),
    (
        "address-dependent",
        "Hosts that were sent something get in, from any port",
    ),
    ("authentication", "How peers prove who they are"),
    ("both", "Of routes that come or go"),
    ("crypto", "IPsec"),
    ("deny", "What matches is denied"),
    ("des", "DES"),
    ("destination", "Translate destinations"),
    ("dhcp", "From a DHCP server"),
    ("dns-timeout", "Entries of DNS"),
    ("dynamic", "With a template for peers"),
    ("dynamic-map", "A template for peers"),
    (
        "endpoint-independent",
        "The same outside port, or access, for every peer",
    ),
    ("eq", "This port"),
    ("esp", "IPsec ESP"),
    ("esp-pending-timeout", "ESP that waits for its pair"),
    ("esp-timeout", "Entries of ESP"),
    ("established", "TCP with ACK or RST"),
    ("export", "Of routes that go"),
    ("extendable", "Among several translations of this address"),
    ("extended", "By everything in the headers"),
    ("filtering", "Who gets in unasked"),
    ("finrst-timeout", "TCP entries after FIN or RST"),
    ("forwarding", "The VRF of an interface"),
    ("fragments", "Later fragments only"),
    ("ftp", "FTP"),
    ("generic", "The first free address"),
    ("global", "By way of the global table"),
    ("group", "Diffie-Hellman group"),
    ("group1", "768 bits"),
    ("group14", "2048 bits"),
    ("group2", "1024 bits"),
    ("group5", "1536 bits"),
    ("gt", "Greater ports"),
    ("hash", "Hash"),
    ("host", "One host"),
    ("icmp", "ICMP"),
    ("icmp-timeout", "Entries of ICMP"),
    ("import", "Of routes that come"),
    ("in", "Packets that come"),
    ("inside", "The private side"),
    ("interface", "An interface"),
    ("ip", "IP"),
    ("ipsec", "Transform sets and NAT traversal"),
    ("ipsec-isakmp", "Keys by IKE"),
    ("isakmp", "Key exchange"),
    ("key", "A key shared with a peer"),
    ("kilobytes", "By traffic"),
    ("lifetime", "How long it is good"),
    ("list", "By access list"),
    ("log", "Log matches"),
    ("log-input", "Log matches with their interface"),
    ("lt", "Lower ports"),
    ("map", "A crypto map"),
    ("match", "What is meant"),
    ("match-host", "Keep the host part of the address"),
    ("max-entries", "Most entries"),
    ("md5", "MD5"),
    ("mode", "Tunnel or transport"),
    ("nat", "Network address translation"),
    ("nat-transparency", "How to get through a NAT"),
    ("negotiated", "By PPP"),
    ("neq", "Every other port"),
    ("netmask", "The netmask of the pool"),
    ("network", "A whole network, host by host"),
    ("never", "No end"),
    ("next-hop", "By the next hop"),
    ("no", "Take a line back"),
    ("no-alias", "No answer to ARP for the global address"),
    ("no-payload", "Headers only"),
    ("out", "Packets that go"),
    ("outside", "The public side"),
    ("overload", "Many hosts share an address by port"),
    ("pci", "A network card by its PCI address"),
    ("peer", "The other end"),
    ("permit", "What matches is permitted"),
    ("pfs", "Perfect forward secrecy"),
    ("policy", "How to agree on keys"),
    ("pool", "A pool of addresses"),
    ("port", "The device behind the interface"),
    ("port-timeout", "Entries of one port"),
    ("pptp-timeout", "Entries of PPTP"),
    ("pre-share", "A shared key"),
    ("prefix-length", "The prefix length of the pool"),
    ("preserve-port", "IKE keeps port 500"),
    ("range", "From a first to a last"),
    ("ras", "H.323 registration"),
    ("rd", "Route distinguisher"),
    ("remark", "A note"),
    ("rotary", "Each in turn"),
    ("route", "Static routes"),
    ("route-map", "By route map"),
    ("route-target", "Communities of its routes"),
    ("rsa-encr", "RSA encryption"),
    ("rsa-sig", "RSA signatures"),
    ("seconds", "By time"),
    ("security-association", "Security associations"),
    ("service", "What NAT does for one protocol"),
    ("set", "What is done"),
    ("sha", "SHA-1"),
    ("sip", "SIP"),
    ("skinny", "Skinny"),
    ("source", "Translate sources"),
    ("spi-match", "By SPIs that match"),
    ("spi-matching", "SPIs that match"),
    ("standard", "By source address alone"),
    ("static", "Always the same translation"),
    ("syn-timeout", "TCP entries of which only SYN was seen"),
    ("tcp", "TCP"),
    ("tcp-timeout", "Entries of TCP"),
    ("timeout", "Entries without overload"),
    ("transform-set", "How to protect packets"),
    ("translation", "Limits of entries"),
    ("transport", "From host to host"),
    ("tunnel", "From network to network"),
    ("type", "How addresses are handed out"),
    ("udp", "UDP"),
    ("udp-encaps", "ESP in UDP"),
    ("udp-timeout", "Entries of UDP"),
    ("vdev", "Any DPDK device by its arguments"),
    ("vrf", "In a VRF"),
];

/// Values by their labels.
const VALUES: &[(&str, &str)] = &[
    ("clause", "Sequence number"),
    ("code", "ICMP code"),
    ("device", "The device"),
    ("distinguisher", "AS number or address, colon, number"),
    ("dp", "Destination port"),
    ("dp2", "Last destination port"),
    ("dst", "Destination address"),
    ("dstw", "Wildcard bits of the destination"),
    ("dynamic", "Name of the template"),
    ("end", "Last address"),
    ("entries", "How many"),
    ("global", "Global address: as the outside knows the host"),
    ("gport", "Global port"),
    ("host", "A host"),
    ("interface", "Name of an interface"),
    ("key", "The key"),
    ("kilobytes", "Kilobytes"),
    ("length", "Prefix length"),
    ("local", "Local address: as the inside knows the host"),
    ("lport", "Local port"),
    ("map", "Name of the map"),
    ("mask", "Netmask"),
    ("name", "A name"),
    ("number", "Number of an access list"),
    ("octets", "Octets"),
    ("peer", "Address of the peer"),
    ("policy", "Priority; the lowest first"),
    ("pool-name", "Name of the pool"),
    ("prefix", "Destination network"),
    ("protocol", "IP protocol"),
    ("seconds", "Seconds"),
    ("sequence", "Sequence number of the line"),
    ("set", "Name of the transform set"),
    ("sp", "Source port"),
    ("sp2", "Last source port"),
    ("src", "Source address"),
    ("srcw", "Wildcard bits of the source"),
    ("start", "First address"),
    ("target", "AS number or address, colon, number"),
    ("text", "Text to the end of the line"),
    ("transform", "A transform"),
    ("type", "ICMP type"),
    ("unit", "Number of the interface"),
    ("via", "Address of the next router"),
    ("vrf-name", "Name of the VRF"),
    ("port", "A port, or the name of an interface"),
];

#[cfg(test)]
mod tests {
    use super::super::super::text::words;
    use super::*;

    fn next(mode: Mode, line: &str) -> Vec<Next> {
        Table::shared().next(mode, line, &words(1, line))
    }

    #[test]
    fn every_word_that_may_ever_stand_next_has_its_help() {
        for mode in Mode::ALL {
            let (graph, commands) = &Table::shared().modes[mode as usize];
            for choice in graph.all_choices() {
                if matches!(commands[choice.patterns[0]].run, Run::Foreign) {
                    continue;
                }
                let mut found = Vec::new();
                let only =
                    Some(commands[choice.patterns[0]].help).filter(|_| choice.patterns.len() == 1);
                describe(&choice, only, &mut found);
                for next in found {
                    assert!(
                        !next.help.is_empty(),
                        "{mode:?}: {} in `{}`",
                        next.text,
                        commands[choice.patterns[0]].pattern
                    );
                }
            }
        }
    }

    #[test]
    fn what_has_come_once_is_no_choice_any_more() {
        let has = |line: &str, word: &str| next(Mode::Global, line).iter().any(|n| n.text == word);
        let line = "ip nat inside source list 1 interface Out";
        assert!(has(line, "overload") && has(line, "<cr>"));
        let line = "ip nat inside source list 1 interface Out overload";
        assert!(!has(line, "overload") && has(line, "<cr>"));
        assert!(has(line, "endpoint-independent") && has(line, "filtering"));
        let line =
            "ip nat inside source list 1 interface Out overload endpoint-independent filtering";
        assert!(has(line, "address-and-port-dependent") && !has(line, "<cr>"));
    }

    #[test]
    fn lines_that_mean_nothing_here_are_not_offered() {
        let words: Vec<String> = next(Mode::Global, "").into_iter().map(|n| n.text).collect();
        assert!(words.contains(&"access-list".to_owned()), "{words:?}");
        assert!(!words.contains(&"snmp-server".to_owned()), "{words:?}");
    }
}
