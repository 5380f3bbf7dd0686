//! `route-map`: clauses that choose packets for translation.

use spillway_dataplane::acl::Action;

use super::super::draft::{Context, Draft, Outcome};
use super::super::model::{Clause, ListName};
use super::super::syntax::Args;
use super::Mode::{Global, RouteMap};
use super::Run::Apply;
use super::{Command, Mode};

/// The sequence number of a clause that names none.
const FIRST: u16 = 10;

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
        "route-map <map:word> [{permit|deny} [<clause:0-65535>]]",
        "A clause of a route map",
        clause,
    )
    .entering(RouteMap),
    row(
        Global,
        "no route-map <map:word> [{permit|deny} [<clause:0-65535>]]",
        "Remove a route map, or one clause of it",
        no_clause,
    ),
    row(
        RouteMap,
        "match ip address {$list} ({$list})*",
        "Packets that one of these access lists permits",
        match_lists,
    ),
    row(
        RouteMap,
        "match ip next-hop {$list} ({$list})*",
        "Packets whose next hop one of these access lists permits",
        match_next_hops,
    ),
    row(
        RouteMap,
        "match interface <port:interface> (<port:interface>)*",
        "Packets that leave by one of these interfaces",
        match_interfaces,
    ),
    row(
        RouteMap,
        "no match ip address ({$list})*",
        "No longer match by access list",
        no_match_lists,
    ),
    row(
        RouteMap,
        "no match ip next-hop ({$list})*",
        "No longer match by next hop",
        no_match_next_hops,
    ),
    row(
        RouteMap,
        "no match interface (<port:interface>)*",
        "No longer match by interface",
        no_match_interfaces,
    ),
];

fn action(args: &Args<'_>) -> Action {
    if args.has("deny") {
        Action::Deny
    } else {
        Action::Permit
    }
}

fn clause(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = args.text("map").to_owned();
    let sequence = args.port("clause").unwrap_or(FIRST);
    draft
        .places
        .route_maps
        .insert((name.clone(), sequence), args.span("map"));
    let map = draft.config.route_maps.entry(name.clone()).or_default();
    map.entry(sequence)
        .and_modify(|clause| clause.action = action(args))
        .or_insert_with(|| Clause::new(action(args)));
    draft.context = Context::RouteMap(name, sequence);
    Ok(())
}

fn no_clause(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = args.text("map");
    let maps = &mut draft.config.route_maps;
    let gone = match (args.port("clause"), maps.get_mut(name)) {
        (Some(sequence), Some(map)) => {
            let gone = map.remove(&sequence).is_some();
            if map.is_empty() {
                maps.remove(name);
            }
            gone
        }
        (None, Some(_)) => maps.remove(name).is_some(),
        (_, None) => false,
    };
    if !gone {
        draft.nothing_removed(args);
    }
    Ok(())
}

/// The lists that a line names, in order.
fn lists(args: &Args<'_>) -> Vec<ListName> {
    args.all(&["number", "name"])
        .map(
            |(text, number)| match number.and_then(|n| u16::try_from(n).ok()) {
                Some(number) => ListName::Number(number),
                None => ListName::Name(text.to_owned()),
            },
        )
        .collect()
}

fn interfaces(args: &Args<'_>) -> Vec<String> {
    args.all(&["port"])
        .map(|(text, _)| text.to_owned())
        .collect()
}

fn add<T: PartialEq>(have: &mut Vec<T>, new: Vec<T>) {
    for one in new {
        if !have.contains(&one) {
            have.push(one);
        }
    }
}

/// Removes these, or all where none is named; whether anything went.
fn remove<T: PartialEq>(have: &mut Vec<T>, these: &[T]) -> bool {
    let before = have.len();
    have.retain(|one| !these.is_empty() && !these.contains(one));
    have.len() < before
}

fn change(draft: &mut Draft, args: &Args<'_>, apply: impl FnOnce(&mut Clause) -> bool) -> Outcome {
    let found = draft.clause().is_some_and(apply);
    if !found && args.has("no") {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn match_lists(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    change(draft, args, |clause| {
        add(&mut clause.lists, lists(args));
        true
    })
}

fn match_next_hops(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    change(draft, args, |clause| {
        add(&mut clause.next_hops, lists(args));
        true
    })
}

fn match_interfaces(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    change(draft, args, |clause| {
        add(&mut clause.interfaces, interfaces(args));
        true
    })
}

fn no_match_lists(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    change(draft, args, |clause| {
        remove(&mut clause.lists, &lists(args))
    })
}

fn no_match_next_hops(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    change(draft, args, |clause| {
        remove(&mut clause.next_hops, &lists(args))
    })
}

fn no_match_interfaces(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    change(draft, args, |clause| {
        remove(&mut clause.interfaces, &interfaces(args))
    })
}
