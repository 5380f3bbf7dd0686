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
        ("explain tcp 10.1.0.2:4000 203.0.113.5:80", true),
        ("explain esp 203.0.113.5 1a2b", true),
        ("explain icmp 10.1.0.2 203.0.113.5 vrf RED", true),
        ("show ip vrf", true),
        ("show ip vrf RED", true),
        ("show ip route vrf RED", true),
        ("ping vrf RED 10.0.0.1 source 10.0.0.2 repeat 3", true),
        ("debug ip nat", false),
        ("undebug all", false),
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
        ("show ip nat translations vrf RED tcp", 33),
        ("clear ip nat translation vrf RED", 25),
        ("ping RED 10.0.0.1", 5),
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
        "ping vrf RED",
        "show ip route vrf",
        "show ip nat translations vrf",
        "explain tcp 10.1.0.2 203.0.113.5 vrf",
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
