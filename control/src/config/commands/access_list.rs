//! `access-list` and `ip access-list`.

use std::net::Ipv4Addr;

use spillway_dataplane::acl::{Action, Entry, Ports, Wildcard};

use super::super::draft::{Context, Draft, Outcome, Problem};
use super::super::model::{AccessList, ListKind, ListLine, ListName};
use super::super::names::WITH_CODE;
use super::super::syntax::Args;
use super::super::text::printable;
use super::Run::Apply;
use super::{Command, Mode, Mode::ExtendedList, Mode::Global, Mode::StandardList};

const fn row(
    mode: Mode,
    pattern: &'static str,
    help: &'static str,
    apply: fn(&mut Draft, &Args<'_>) -> Outcome,
) -> Command {
    Command::new(mode, pattern, help, Apply(apply))
}

pub(super) const COMMANDS: &[Command] = &[
    row(
        Global,
        "access-list $standard {permit|deny} $standard-match",
        "A line of a standard access list",
        numbered,
    ),
    row(
        Global,
        "access-list $extended {permit|deny} {$extended-match}",
        "A line of an extended access list",
        numbered,
    ),
    row(
        Global,
        "access-list {$standard|$extended} remark <text:text>",
        "A note in an access list",
        numbered_remark,
    ),
    row(
        Global,
        "no access-list {$standard|$extended} [{permit|deny|remark} <text:text>]",
        "Remove an access list with all its lines",
        no_numbered,
    ),
    row(
        Global,
        "ip access-list standard {$standard|<name:name>}",
        "A standard access list, its lines below",
        list,
    )
    .entering(StandardList),
    row(
        Global,
        "ip access-list extended {$extended|<name:name>}",
        "An extended access list, its lines below",
        list,
    )
    .entering(ExtendedList),
    row(
        Global,
        "no ip access-list {standard|extended} $list",
        "Remove an access list with all its lines",
        no_numbered,
    ),
    row(
        StandardList,
        "[<sequence:1-2147483647>] {permit|deny} $standard-match",
        "A line of the list",
        below,
    ),
    row(
        ExtendedList,
        "[<sequence:1-2147483647>] {permit|deny} {$extended-match}",
        "A line of the list",
        below,
    ),
    row(
        StandardList,
        "remark <text:text>",
        "A note in the list",
        remark,
    ),
    row(
        ExtendedList,
        "remark <text:text>",
        "A note in the list",
        remark,
    ),
    row(
        StandardList,
        "no {<sequence:1-2147483647>|{permit|deny} $standard-match}",
        "Remove a line",
        no_below,
    ),
    row(
        ExtendedList,
        "no {<sequence:1-2147483647>|{permit|deny} {$extended-match}}",
        "Remove a line",
        no_below,
    ),
    row(
        StandardList,
        "no remark <text:text>",
        "Remove a note",
        no_remark,
    ),
    row(
        ExtendedList,
        "no remark <text:text>",
        "Remove a note",
        no_remark,
    ),
];

const NO_SEQUENCE: &str = "no sequence number is left behind the last line of this list";

/// The list that a line names.
pub(super) fn list_name(args: &Args<'_>) -> ListName {
    match args.port("number") {
        Some(number) => ListName::Number(number),
        None => ListName::Name(args.text("name").to_owned()),
    }
}

fn numbered(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = list_name(args);
    let kind = name.kind().unwrap_or(ListKind::Extended);
    let mut entry = entry(args, kind)?;
    let list = draft
        .config
        .access_lists
        .entry(name)
        .or_insert_with(|| AccessList::new(kind));
    entry.sequence = list
        .next_sequence()
        .ok_or_else(|| Problem::new(args.whole(), NO_SEQUENCE))?;
    list.lines.push(ListLine::Entry(entry));
    Ok(())
}

fn numbered_remark(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = list_name(args);
    let kind = name.kind().unwrap_or(ListKind::Extended);
    let lists = &mut draft.config.access_lists;
    let list = lists.entry(name).or_insert_with(|| AccessList::new(kind));
    list.lines
        .push(ListLine::Remark(printable(args.text("text"))));
    Ok(())
}

fn no_numbered(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    if draft.config.access_lists.remove(&list_name(args)).is_none() {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn list(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = list_name(args);
    let kind = if args.has("standard") {
        ListKind::Standard
    } else {
        ListKind::Extended
    };
    let lists = &mut draft.config.access_lists;
    let list = lists
        .entry(name.clone())
        .or_insert_with(|| AccessList::new(kind));
    if list.kind != kind {
        draft.context = Context::Nothing;
        let is = if kind == ListKind::Standard {
            "extended"
        } else {
            "standard"
        };
        return Err(Problem::new(
            args.span("name"),
            format!("access list {name} is {is} already"),
        ));
    }
    draft.context = Context::List(name);
    Ok(())
}

fn below(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let Some(list) = draft.list() else {
        return Ok(());
    };
    let mut entry = entry(args, list.kind)?;
    entry.sequence = args
        .number("sequence")
        .or_else(|| list.next_sequence())
        .ok_or_else(|| Problem::new(args.whole(), NO_SEQUENCE))?;
    insert(list, entry).map_err(|sequence| {
        let message = format!("line {sequence} is there already");
        Problem::new(args.span("sequence"), message)
    })
}

/// Puts an entry at its sequence number's place.
///
/// # Errors
/// The number, if another entry has it.
fn insert(list: &mut AccessList, entry: Entry) -> Result<(), u32> {
    let sequence = entry.sequence;
    let last = list.lines.iter().rev().find_map(ListLine::entry);
    if last.is_none_or(|e| e.sequence < sequence) {
        list.lines.push(ListLine::Entry(entry));
        return Ok(());
    }
    let behind = |line: &ListLine| line.entry().is_some_and(|e| e.sequence >= sequence);
    let at = list.lines.iter().position(behind);
    let at = at.unwrap_or(list.lines.len());
    let there = list.lines.get(at).and_then(ListLine::entry);
    if there.is_some_and(|e| e.sequence == sequence) {
        return Err(sequence);
    }
    list.lines.insert(at, ListLine::Entry(entry));
    Ok(())
}

fn remark(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let text = printable(args.text("text"));
    if let Some(list) = draft.list() {
        list.lines.push(ListLine::Remark(text));
    }
    Ok(())
}

fn no_below(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let Some(list) = draft.list() else {
        return Ok(());
    };
    let goes: Box<dyn Fn(&Entry) -> bool> = match args.number("sequence") {
        Some(sequence) => Box::new(move |e| e.sequence == sequence),
        None => {
            let gone = entry(args, list.kind)?;
            Box::new(move |e| {
                *e == Entry {
                    sequence: e.sequence,
                    ..gone.clone()
                }
            })
        }
    };
    let before = list.lines.len();
    list.lines.retain(|l| !l.entry().is_some_and(&goes));
    if list.lines.len() == before {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn no_remark(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let gone = ListLine::Remark(printable(args.text("text")));
    let Some(list) = draft.list() else {
        return Ok(());
    };
    let before = list.lines.len();
    list.lines.retain(|l| *l != gone);
    if list.lines.len() == before {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn entry(args: &Args<'_>, kind: ListKind) -> Result<Entry, Problem> {
    let action = if args.has("permit") {
        Action::Permit
    } else {
        Action::Deny
    };
    let source = wildcard(args, "src", "srcw");
    let mut entry = Entry::standard(0, action, source);
    entry.log = args.has("log") || args.has("log-input");
    if kind == ListKind::Standard {
        return Ok(entry);
    }
    entry.protocol = protocol(args);
    entry.destination = wildcard(args, "dst", "dstw");
    entry.source_ports = ports(args, ["sop", "sp", "sp2"])?;
    entry.destination_ports = ports(args, ["dop", "dp", "dp2"])?;
    entry.icmp = icmp(args);
    entry.established = args.has("established");
    entry.fragments = args.has("fragments");
    let with_ports =
        args.has("sop") || args.has("dop") || entry.established || entry.icmp.is_some();
    if entry.fragments && with_ports {
        return Err(Problem::new(
            args.span("fragments"),
            "`fragments` are the later fragments, which show no ports, flags or types",
        ));
    }
    Ok(entry)
}

fn protocol(args: &Args<'_>) -> Option<u8> {
    let named = [("tcp", 6), ("udp", 17), ("icmp", 1)];
    let named = named.iter().find(|(name, _)| args.has(name));
    let number = || args.number("protocol").and_then(|n| u8::try_from(n).ok());
    named.map(|(_, number)| *number).or_else(number)
}

/// `any`, a host, or an address with the bits that matter.
fn wildcard(args: &Args<'_>, address: &str, dont_care: &str) -> Wildcard {
    let Some(at) = args.address(address) else {
        return Wildcard::ANY;
    };
    let dont_care = args.address(dont_care).map_or(0, Ipv4Addr::to_bits);
    Wildcard {
        address: at.to_bits() & !dont_care,
        dont_care,
    }
}

fn ports(args: &Args<'_>, [operator, first, last]: [&str; 3]) -> Result<Ports, Problem> {
    let Some(keyword) = args.keyword(operator) else {
        return Ok(Ports::ANY);
    };
    let port = args.port(first).unwrap_or_default();
    let of = |first, last| Ports {
        first,
        last,
        negated: false,
    };
    let none = |what: &str| Problem::new(args.span(first), format!("no port is {what}"));
    match keyword {
        "neq" => Ok(Ports {
            negated: true,
            ..of(port, port)
        }),
        "gt" => match port.checked_add(1) {
            Some(first) => Ok(of(first, u16::MAX)),
            None => Err(none("greater than 65535").expecting("a number 0-65534")),
        },
        "lt" => match port.checked_sub(1) {
            Some(last) => Ok(of(0, last)),
            None => Err(none("less than 0").expecting("a number 1-65535")),
        },
        "range" => {
            let end = args.port(last).unwrap_or_default();
            if end < port {
                let message = format!("the range ends before it starts at {port}");
                let problem = Problem::new(args.span(last), message);
                return Err(problem.expecting(&format!("a number {port}-65535")));
            }
            Ok(of(port, end))
        }
        _ => Ok(of(port, port)),
    }
}

fn icmp(args: &Args<'_>) -> Option<(u8, Option<u8>)> {
    if let Some(named) = args.number("icmptype") {
        let code = (named & WITH_CODE != 0).then_some((named >> 8) as u8);
        return Some((named as u8, code));
    }
    let kind = args.number("type")? as u8;
    Some((kind, args.number("code").map(|c| c as u8)))
}
