//! `hostname`, `ip route`, and what frames a file.

use ipnet::Ipv4Net;

use super::super::draft::{Context, Draft, Outcome, Problem, RoutePlaces};
use super::super::model::{RouteTarget, StaticRoute, prefix_length};
use super::super::syntax::Args;
use super::{Command, Mode::Global, Run::Apply};

pub(super) const COMMANDS: &[Command] = &[
    Command::new(Global, "end", "End of the configuration", Apply(nothing)).ending(),
    Command::new(Global, "exit", "Leave a sub-mode", Apply(nothing)),
    Command::new(
        Global,
        "hostname <name:word>",
        "Name of this appliance",
        Apply(hostname),
    ),
    Command::new(
        Global,
        "no hostname [<name:word>]",
        "Forget the name",
        Apply(no_hostname),
    ),
    Command::new(
        Global,
        "ip route <prefix:address> <mask:mask> {<via:address>|<interface:interface>} [<distance:1-255>]",
        "Static route",
        Apply(route),
    ),
    Command::new(
        Global,
        "ip route vrf <vrf-name:word> <prefix:address> <mask:mask> {<via:address>|<interface:interface>} [global] [<distance:1-255>]",
        "Static route of a VRF",
        Apply(route),
    ),
    Command::new(
        Global,
        "no ip route vrf <vrf-name:word> <prefix:address> <mask:mask> [{<via:address>|<interface:interface>} [global] [<distance:1-255>]]",
        "Remove a static route of a VRF",
        Apply(no_route),
    ),
    Command::new(
        Global,
        "no ip route <prefix:address> <mask:mask> [{<via:address>|<interface:interface>} [<distance:1-255>]]",
        "Remove a static route",
        Apply(no_route),
    ),
];

fn nothing(draft: &mut Draft, _: &Args<'_>) -> Outcome {
    draft.context = Context::Global;
    Ok(())
}

fn hostname(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = args.text("name");
    let good = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !good {
        let problem = Problem::new(args.span("name"), format!("found `{name}`"));
        return Err(problem.expecting("a letter, then letters, digits, `-`, `_`, `.`, 63 at most"));
    }
    draft.config.hostname = Some(name.to_owned());
    Ok(())
}

fn no_hostname(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    if draft.config.hostname.take().is_none() {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn route(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let prefix = prefix(args)?;
    let target = match args.address("via") {
        Some(via) if via.is_unspecified() || via.is_broadcast() || via.is_multicast() => {
            return Err(
                Problem::new(args.span("via"), format!("{via} is no host's address"))
                    .expecting("the address of a router"),
            );
        }
        Some(via) => RouteTarget::NextHop(via),
        None => interface_target(args.text("interface")),
    };
    let route = StaticRoute {
        vrf: vrf(args),
        prefix,
        target,
        global: args.has("global"),
        distance: distance(args).unwrap_or(StaticRoute::DISTANCE),
    };
    let is_new = draft.known.routes.insert(whatever_distance(&route));
    if !is_new {
        let is_it = |r: &&mut StaticRoute| whatever_distance(r) == whatever_distance(&route);
        match draft.config.routes.iter_mut().find(is_it) {
            Some(known) if known.distance != route.distance => known.distance = route.distance,
            _ => draft.given_twice(args),
        }
        return Ok(());
    }
    draft.config.routes.push(route);
    let to = if args.has("via") { "via" } else { "interface" };
    draft.places.routes.push(RoutePlaces {
        to: args.span(to),
        vrf: args.span("vrf-name"),
    });
    Ok(())
}

fn no_route(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let prefix = prefix(args)?;
    let via = args.address("via").map(RouteTarget::NextHop);
    let target = via.or_else(|| {
        args.has("interface")
            .then(|| interface_target(args.text("interface")))
    });
    let vrf = vrf(args);
    let goes = |route: &StaticRoute| {
        route.vrf == vrf
            && route.prefix == prefix
            && (route.global || !args.has("global"))
            && distance(args).is_none_or(|distance| distance == route.distance)
            && match (&target, &route.target) {
                (None, _) => true,
                (Some(RouteTarget::Interface(a)), RouteTarget::Interface(b)) => {
                    a.eq_ignore_ascii_case(b)
                }
                (Some(a), b) => a == b,
            }
    };
    let removed = retain(&mut draft.config.routes, &mut draft.places.routes, |r| {
        !goes(r)
    });
    draft.known.routes = draft.config.routes.iter().map(whatever_distance).collect();
    if removed == 0 {
        draft.nothing_removed(args);
    }
    Ok(())
}

/// A route as others are told from it: the same one with another distance is the same.
fn whatever_distance(route: &StaticRoute) -> StaticRoute {
    StaticRoute {
        distance: StaticRoute::DISTANCE,
        ..route.clone()
    }
}

fn distance(args: &Args<'_>) -> Option<u8> {
    args.number("distance").and_then(|n| u8::try_from(n).ok())
}

/// The VRF that a line names.
pub(super) fn vrf(args: &Args<'_>) -> Option<String> {
    args.has("vrf-name")
        .then(|| args.text("vrf-name").to_owned())
}

fn interface_target(name: &str) -> RouteTarget {
    if name.eq_ignore_ascii_case("null0") {
        RouteTarget::Null
    } else {
        RouteTarget::Interface(name.to_owned())
    }
}

fn prefix(args: &Args<'_>) -> Result<Ipv4Net, Problem> {
    let (address, mask) = (args.address("prefix"), args.address("mask"));
    let (Some(address), Some(mask)) = (address, mask) else {
        return Err(Problem::new(args.whole(), "no prefix"));
    };
    let net = Ipv4Net::new_assert(address, prefix_length(mask));
    if net.network() != address {
        let message = format!("{address} has bits outside the mask {mask}");
        let problem = Problem::new(args.span("prefix"), message);
        return Err(problem.expecting(&format!("`{}`", net.network())));
    }
    Ok(net)
}

/// Keeps what `keep` keeps, and the places beside it; returns how many went.
pub(super) fn retain<T, P>(
    items: &mut Vec<T>,
    places: &mut Vec<P>,
    keep: impl Fn(&T) -> bool,
) -> usize {
    let kept: Vec<bool> = items.iter().map(keep).collect();
    let mut of_items = kept.iter();
    items.retain(|_| *of_items.next().unwrap_or(&true));
    let mut of_places = kept.iter();
    places.retain(|_| *of_places.next().unwrap_or(&true));
    kept.iter().filter(|kept| !**kept).count()
}
