//! `ip nat outside source`: outside hosts that inside hosts know by another address.

use super::super::draft::{Draft, Outcome, Problem, SourcePlaces};
use super::super::model::{Config, OutsideRule, OutsideStatic, Selector};
use super::super::syntax::Args;
use super::Run::Apply;
use super::access_list::list_name;
use super::interface::is_host;
use super::system::retain;
use super::{Command, Mode};

const fn row(
    pattern: &'static str,
    help: &'static str,
    apply: fn(&mut Draft, &Args<'_>) -> Outcome,
) -> Command {
    Command::new(Mode::Global, pattern, help, Apply(apply))
}

pub(super) const COMMANDS: &[Command] = &[
    row(
        "ip nat outside source {list $list|route-map <map:word>} pool <pool-name:word> [add-route]",
        "Outside hosts that a list permits get an address inside",
        source,
    ),
    row(
        "no ip nat outside source {list $list|route-map <map:word>} pool <pool-name:word> [add-route]",
        "Remove a translation rule",
        no_source,
    ),
    row(
        "ip nat outside source static <global:address> <local:address> (add-route|extendable|no-alias|no-payload)*",
        "One outside host is always this address inside",
        fixed,
    ),
    row(
        "no ip nat outside source static <global:address> <local:address> (add-route|extendable|no-alias|no-payload)*",
        "Remove a static translation",
        no_fixed,
    ),
];

fn rule(args: &Args<'_>) -> OutsideRule {
    OutsideRule {
        selector: if args.has("map") {
            Selector::RouteMap(args.text("map").to_owned())
        } else {
            Selector::List(list_name(args))
        },
        pool: args.text("pool-name").to_owned(),
        add_route: args.has("add-route"),
    }
}

fn source(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let rule = rule(args);
    let rules = &mut draft.config.outside_sources;
    if rules.len() >= Config::MOST_RULES {
        let message = format!("there can be at most {} such rules", Config::MOST_RULES);
        return Err(Problem::new(args.whole(), message));
    }
    let same = |r: &&mut OutsideRule| (&r.selector, &r.pool) == (&rule.selector, &rule.pool);
    if let Some(there) = rules.iter_mut().find(same) {
        if *there == rule {
            draft.given_twice(args);
        } else {
            *there = rule;
        }
        return Ok(());
    }
    rules.push(rule);
    let from = ["number", "name", "map"].into_iter().find(|l| args.has(l));
    draft.places.outside_sources.push(SourcePlaces {
        from: args.span(from.unwrap_or_default()),
        to: args.span("pool-name"),
        ..SourcePlaces::default()
    });
    Ok(())
}

fn no_source(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let gone = rule(args);
    let places = &mut draft.places.outside_sources;
    let removed = retain(&mut draft.config.outside_sources, places, |r| {
        (&r.selector, &r.pool) != (&gone.selector, &gone.pool)
    });
    if removed == 0 {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn static_of(args: &Args<'_>) -> Result<OutsideStatic, Problem> {
    let (Some(global), Some(local)) = (args.address("global"), args.address("local")) else {
        return Err(Problem::new(args.whole(), "no outside address"));
    };
    Ok(OutsideStatic {
        global,
        local,
        add_route: args.has("add-route"),
        extendable: args.has("extendable"),
        no_alias: args.has("no-alias"),
        no_payload: args.has("no-payload"),
    })
}

fn fixed(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let fixed = static_of(args)?;
    for (label, address) in [("global", fixed.global), ("local", fixed.local)] {
        if !is_host(address) {
            let message = format!("{address} is no host's address");
            return Err(Problem::new(args.span(label), message).expecting("the address of a host"));
        }
    }
    if !draft.known.outside_statics.insert(fixed) {
        draft.given_twice(args);
        return Ok(());
    }
    draft.config.outside_statics.push(fixed);
    draft.places.outside_statics.push(SourcePlaces {
        from: args.span("global"),
        to: args.span("local"),
        ..SourcePlaces::default()
    });
    Ok(())
}

fn no_fixed(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let gone = static_of(args)?;
    let same = |r: &OutsideStatic| (r.global, r.local) == (gone.global, gone.local);
    let places = &mut draft.places.outside_statics;
    let removed = retain(&mut draft.config.outside_statics, places, |r| !same(r));
    draft.known.outside_statics.retain(|r| !same(r));
    if removed == 0 {
        draft.nothing_removed(args);
    }
    Ok(())
}
