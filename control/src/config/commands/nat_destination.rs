//! `ip nat inside destination`: connections that inside hosts share.

use super::super::draft::{Draft, Outcome, Problem, SourcePlaces};
use super::super::model::{Config, DestinationRule};
use super::super::syntax::Args;
use super::Run::Apply;
use super::access_list::list_name;
use super::system::retain;
use super::{Command, Mode};

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        Mode::Global,
        "ip nat inside destination list $list pool <pool-name:word>",
        "Share TCP connections among hosts",
        Apply(share),
    ),
    Command::new(
        Mode::Global,
        "no ip nat inside destination list $list pool <pool-name:word>",
        "Share connections no more",
        Apply(no_share),
    ),
];

fn rule(args: &Args<'_>) -> DestinationRule {
    DestinationRule {
        list: list_name(args),
        pool: args.text("pool-name").to_owned(),
    }
}

fn share(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let rule = rule(args);
    if draft.config.destinations.contains(&rule) {
        draft.given_twice(args);
        return Ok(());
    }
    let most = Config::MOST_DESTINATIONS;
    if draft.config.destinations.len() >= most {
        let message = format!("there can be at most {most} such rules");
        return Err(Problem::new(args.whole(), message));
    }
    draft.config.destinations.push(rule);
    let from = ["number", "name"].into_iter().find(|l| args.has(l));
    draft.places.destinations.push(SourcePlaces {
        from: args.span(from.unwrap_or_default()),
        to: args.span("pool-name"),
        ..SourcePlaces::default()
    });
    Ok(())
}

fn no_share(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let gone = rule(args);
    let places = &mut draft.places.destinations;
    let removed = retain(&mut draft.config.destinations, places, |r| *r != gone);
    if removed == 0 {
        draft.nothing_removed(args);
    }
    Ok(())
}
