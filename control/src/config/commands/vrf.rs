//! `ip vrf`, the lines below it, and `ip vrf forwarding` of interfaces.

use std::net::Ipv4Addr;

use super::super::draft::{Context, Draft, Outcome, Problem};
use super::super::model::{Config, Vrf};
use super::super::syntax::Args;
use super::super::text::{Span, printable};
use super::Run::Apply;
use super::system::retain;
use super::{Command, Mode};

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
        Mode::Global,
        "ip vrf <vrf-name:word>",
        "A routing table of its own, with interfaces of its own",
        vrf,
    )
    .entering(Mode::Vrf),
    row(
        Mode::Global,
        "no ip vrf <vrf-name:word>",
        "Remove a VRF with its routes and translations",
        no_vrf,
    ),
    row(Mode::Vrf, "description <text:text>", "A note", description),
    row(
        Mode::Vrf,
        "no description [<text:text>]",
        "No note",
        no_description,
    ),
    row(
        Mode::Vrf,
        "rd <distinguisher:word>",
        "Route distinguisher",
        rd,
    ),
    row(
        Mode::Vrf,
        "no rd [<distinguisher:word>]",
        "No route distinguisher",
        no_rd,
    ),
    row(
        Mode::Vrf,
        "route-target [import|export|both] <target:word>",
        "Communities of its routes",
        route_target,
    ),
    row(
        Mode::Vrf,
        "no route-target [import|export|both] <target:word>",
        "Remove a community",
        no_route_target,
    ),
    row(
        Mode::Interface,
        "ip vrf forwarding [<vrf-name:word>]",
        "The VRF that it is in",
        forwarding,
    ),
    row(
        Mode::Interface,
        "no ip vrf forwarding [<vrf-name:word>]",
        "In the global table",
        no_forwarding,
    ),
];

/// Longest name of a VRF, in octets.
const LONGEST_NAME: usize = 32;

fn vrf(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = args.text("vrf-name");
    if name.len() > LONGEST_NAME || !name.chars().all(|c| c.is_ascii_graphic()) {
        let found = printable(name);
        let problem = Problem::new(args.span("vrf-name"), format!("found `{found}`"));
        return Err(problem.expecting("the name of a VRF: at most 32 characters of ASCII"));
    }
    if draft.config.vrf(name).is_none() {
        let most = Config::MOST_VRFS;
        if draft.config.vrfs.len() >= most {
            let message = format!("there can be at most {most} VRFs");
            return Err(Problem::new(args.span("vrf-name"), message));
        }
        draft.config.vrfs.push(Vrf {
            name: name.to_owned(),
            ..Vrf::default()
        });
    }
    draft.context = Context::Vrf(name.to_owned());
    Ok(())
}

/// What is of the VRF goes with it; its interfaces are in the global table then, with their
/// addresses.
fn no_vrf(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = args.text("vrf-name");
    if draft.config.vrf(name).is_none() {
        draft.nothing_removed(args);
        return Ok(());
    }
    let config = &mut draft.config;
    config.vrfs.retain(|vrf| vrf.name != name);
    let in_it = |vrf: &Option<String>| vrf.as_deref() == Some(name);
    let places = &mut draft.places;
    let routes = retain(&mut config.routes, &mut places.routes, |r| !in_it(&r.vrf));
    let rules = retain(&mut config.sources, &mut places.sources, |r| !in_it(&r.vrf));
    let statics = retain(&mut config.statics, &mut places.statics, |r| !in_it(&r.vrf));
    let limits = usize::from(config.host_limits.vrfs.remove(name).is_some());
    draft.known.routes.retain(|r| !in_it(&r.vrf));
    draft.known.sources.retain(|r| !in_it(&r.vrf));
    draft.known.statics.retain(|r| !in_it(&r.vrf));
    let gone = routes + rules + statics + limits;
    let mut out = Vec::new();
    for interface in config.interfaces.iter_mut().filter(|i| in_it(&i.vrf)) {
        interface.vrf = None;
        out.push(interface.name.clone());
    }
    if gone > 0 {
        let lines = if gone == 1 { "line" } else { "lines" };
        let message = format!("{gone} {lines} with `vrf {name}` went with VRF {name}");
        draft.warn(args.whole(), message);
    }
    if !out.is_empty() {
        let message = format!(
            "now in the global table, with their addresses: {}",
            out.join(", ")
        );
        draft.warn(args.whole(), message);
    }
    Ok(())
}

/// Sets a part of the current VRF; a line that removes nothing gets a warning.
fn set(draft: &mut Draft, args: &Args<'_>, change: impl FnOnce(&mut Vrf) -> bool) -> Outcome {
    if draft.vrf().is_some_and(|vrf| !change(vrf)) {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn description(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let text = printable(args.text("text"));
    set(draft, args, |vrf| {
        vrf.description = Some(text);
        true
    })
}

fn no_description(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    set(draft, args, |vrf| vrf.description.take().is_some())
}

/// `65000:1` or `192.0.2.1:1`, as it stands: an AS number or an address, and a number, of six
/// octets together.
fn community(args: &Args<'_>, label: &str) -> Result<String, Problem> {
    let text = args.text(label);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_one = text.split_once(':').is_some_and(|(first, second)| {
        let is_as = digits(first) && first.parse::<u16>().is_ok();
        let is_address = first.parse::<Ipv4Addr>().is_ok();
        digits(second)
            && (is_as && second.parse::<u32>().is_ok()
                || is_address && second.parse::<u16>().is_ok())
    });
    if !is_one {
        let found = format!("found `{}`", printable(text));
        return Err(Problem::new(args.span(label), found)
            .expecting("an AS number or an address, a colon and a number, such as 65000:1"));
    }
    Ok(text.to_owned())
}

fn kept_only(draft: &mut Draft, args: &Args<'_>) {
    let line = args.canonical(0);
    let message = format!("`{line}` is kept and means nothing here: no routes are exchanged");
    draft.warn(args.whole(), message);
}

fn rd(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let rd = community(args, "distinguisher")?;
    kept_only(draft, args);
    set(draft, args, |vrf| {
        vrf.rd = Some(rd);
        true
    })
}

fn no_rd(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    set(draft, args, |vrf| vrf.rd.take().is_some())
}

/// Whether a line is about export, and about import.
fn ways(args: &Args<'_>) -> (bool, bool) {
    (!args.has("import"), !args.has("export"))
}

fn route_target(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let target = community(args, "target")?;
    kept_only(draft, args);
    set(draft, args, |vrf| {
        let (exports, imports) = ways(args);
        if exports {
            vrf.exports.insert(target.clone());
        }
        if imports {
            vrf.imports.insert(target);
        }
        true
    })
}

fn no_route_target(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let target = community(args, "target")?;
    set(draft, args, |vrf| {
        let (exports, imports) = ways(args);
        let exported = exports && vrf.exports.remove(&target);
        let imported = imports && vrf.imports.remove(&target);
        exported || imported
    })
}

fn forwarding(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    if !args.has("vrf-name") {
        // Not left to the grammar: the global `ip vrf NAME` would take the line.
        let end = args.whole().end;
        let behind = Span {
            start: end,
            end: end + 1,
            ..args.whole()
        };
        return Err(
            Problem::new(behind, "found the end of the line").expecting("the name of a VRF")
        );
    }
    let name = args.text("vrf-name").to_owned();
    if let Some(places) = draft.interface_places() {
        places.vrf = args.span("vrf-name");
    }
    if let Some(interface) = draft.interface() {
        interface.vrf = Some(name);
    }
    Ok(())
}

fn no_forwarding(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = args.has("vrf-name").then(|| args.text("vrf-name"));
    let is_meant = |vrf: &Option<String>| name.is_none() || vrf.as_deref() == name;
    let gone = draft
        .interface()
        .is_none_or(|i| is_meant(&i.vrf) && i.vrf.take().is_some());
    if !gone {
        draft.nothing_removed(args);
    }
    Ok(())
}
