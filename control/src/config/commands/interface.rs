//! `interface` and the lines below it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use spillway_dataplane::snapshot::Side;

use super::super::draft::{Context, Draft, InterfacePlaces, Outcome, Problem};
use super::super::model::{self, Address, Config, Port, prefix_length};
use super::super::syntax::Args;
use super::Run::Apply;
use super::{Command, Mode};

const fn row(
    pattern: &'static str,
    help: &'static str,
    apply: fn(&mut Draft, &Args<'_>) -> Outcome,
) -> Command {
    Command::new(Mode::Interface, pattern, help, Apply(apply))
}

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        Mode::Global,
        "interface <name:interface> [<unit:word>]",
        "An interface and its settings",
        Apply(interface),
    )
    .entering(Mode::Interface),
    Command::new(
        Mode::Global,
        "no interface <name:interface> [<unit:word>]",
        "Remove an interface",
        Apply(no_interface),
    ),
    row(
        "port {pci <device:pci>|vdev <device:word>}",
        "The DPDK device behind the interface",
        port,
    ),
    row(
        "no port [pci [<device:pci>]|vdev [<device:word>]]",
        "No device",
        no_port,
    ),
    row(
        "ip address {<host:address> <mask:mask>|dhcp|negotiated}",
        "Its address",
        address,
    ),
    row(
        "no ip address [<host:address> <mask:mask>|dhcp|negotiated]",
        "No address",
        no_address,
    ),
    row(
        "ip nat {inside|outside}",
        "Its side of the translation",
        side,
    ),
    row("no ip nat {inside|outside}", "On no side", no_side),
    row(
        "ip access-group $list {in|out}",
        "Which packets may come or go",
        access_group,
    ),
    row(
        "no ip access-group [$list] {in|out}",
        "All packets may come or go",
        no_access_group,
    ),
    row(
        "mtu <octets:68-9216>",
        "Largest IPv4 packet that may leave, in octets",
        mtu,
    ),
    row("no mtu [<octets:68-9216>]", "The device's own MTU", no_mtu),
    row("description <text:text>", "A note", description),
    row("no description [<text:text>]", "No note", no_description),
    row("keepalive", "Down while its device has no link", keepalive),
    row(
        "no keepalive [<text:text>]",
        "Up whatever its device tells of its link",
        no_keepalive,
    ),
    row("shutdown", "No packets come or go", shutdown),
    row("no shutdown", "Packets come and go", no_shutdown),
];

/// `Ethernet0`, or `Ethernet 0` in two words.
fn name(args: &Args<'_>) -> Result<String, Problem> {
    let name = format!("{}{}", args.text("name"), args.text("unit"));
    let place = args
        .span("name")
        .to(args.span(if args.has("unit") { "unit" } else { "name" }));
    let good = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/.:-_".contains(c));
    let unit = !args.has("unit") || args.text("unit").starts_with(|c: char| c.is_ascii_digit());
    if !good || !unit || name.len() > 64 {
        let problem = Problem::new(place, format!("found `{name}`"));
        return Err(problem.expecting(
            "the name of an interface: a letter, then letters, digits and `/.:-_`, 64 at most",
        ));
    }
    if name.eq_ignore_ascii_case("null0") {
        return Err(Problem::new(
            place,
            "`Null0` is where routes end, not an interface",
        ));
    }
    Ok(name)
}

fn interface(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = name(args)?;
    let at = match draft.interface_at(&name) {
        Some(at) => at,
        None if draft.config.interfaces.len() >= Config::MOST_INTERFACES => {
            let most = Config::MOST_INTERFACES;
            let message = format!("there can be at most {most} interfaces");
            return Err(Problem::new(args.span("name"), message));
        }
        None => {
            draft.config.interfaces.push(model::Interface {
                name,
                ..model::Interface::default()
            });
            draft.places.interfaces.push(InterfacePlaces::default());
            draft.config.interfaces.len() - 1
        }
    };
    draft.places.interfaces[at].name = args.span("name");
    draft.context = Context::Interface(at);
    Ok(())
}

fn no_interface(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let name = name(args)?;
    match draft.interface_at(&name) {
        Some(at) => {
            draft.config.interfaces.remove(at);
            draft.places.interfaces.remove(at);
        }
        None => draft.nothing_removed(args),
    }
    Ok(())
}

/// Sets a part of the current interface; a line that removes nothing gets a warning.
fn set(
    draft: &mut Draft,
    args: &Args<'_>,
    change: impl FnOnce(&mut model::Interface) -> bool,
) -> Outcome {
    if draft.interface().is_some_and(|i| !change(i)) {
        draft.nothing_removed(args);
    }
    Ok(())
}

fn port(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let port = if args.has("pci") {
        let pci = args.text("device").to_ascii_lowercase();
        Port::Pci(if pci.len() == 7 {
            format!("0000:{pci}")
        } else {
            pci
        })
    } else {
        let arguments = args.text("device").to_owned();
        let driver = arguments.split(',').next().unwrap_or("");
        let good = driver.starts_with(|c: char| c.is_ascii_alphabetic())
            && driver
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if !good || driver.len() > 63 {
            let problem = Problem::new(args.span("device"), format!("found `{arguments}`"));
            return Err(problem.expecting("device arguments such as net_af_packet0,iface=NAME"));
        }
        Port::Vdev(arguments)
    };
    if let Some(places) = draft.interface_places() {
        places.port = args.span("device");
    }
    set(draft, args, |i| {
        i.port = Some(port);
        true
    })
}

fn no_port(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    set(draft, args, |i| i.port.take().is_some())
}

fn address(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let address = if args.has("dhcp") {
        Address::Dhcp
    } else if args.has("negotiated") {
        Address::Negotiated
    } else {
        Address::Fixed(host_address(args)?)
    };
    if address == Address::Negotiated {
        let line = args.canonical(0);
        draft.warn(args.whole(), format!("`{line}` is not active yet"));
    }
    if let Some(places) = draft.interface_places() {
        places.address = if args.has("host") {
            args.span("host")
        } else {
            args.whole()
        };
    }
    set(draft, args, |i| {
        i.address = Some(address);
        true
    })
}

/// An address that a host can have, with its prefix.
fn host_address(args: &Args<'_>) -> Result<Ipv4Net, Problem> {
    let place = args.span("host");
    let (Some(address), Some(mask)) = (args.address("host"), args.address("mask")) else {
        return Err(Problem::new(args.whole(), "no address"));
    };
    let net = Ipv4Net::new_assert(address, prefix_length(mask));
    if !is_host(address) || net.prefix_len() == 0 {
        let problem = Problem::new(place, format!("{address} is no host's address"));
        return Err(problem.expecting("the address of a host"));
    }
    if net.prefix_len() < 31 && (net.network() == address || net.broadcast() == address) {
        let what = if net.network() == address {
            "network"
        } else {
            "broadcast"
        };
        let message = format!("{address} is the {what} address of {}", net.trunc());
        return Err(Problem::new(place, message).expecting("the address of a host"));
    }
    Ok(net)
}

/// Whether a host can have this address.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    !(address.octets()[0] == 0
        || address.is_loopback()
        || address.is_multicast()
        || address.octets()[0] >= 240)
}

fn no_address(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    set(draft, args, |i| i.address.take().is_some())
}

fn named_side(args: &Args<'_>) -> Side {
    if args.has("inside") {
        Side::Inside
    } else {
        Side::Outside
    }
}

fn side(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let side = named_side(args);
    set(draft, args, |i| {
        i.side = side;
        true
    })
}

fn no_side(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let side = named_side(args);
    set(draft, args, |i| {
        let was = i.side == side;
        if was {
            i.side = Side::None;
        }
        was
    })
}

fn access_group(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let list = super::access_list::list_name(args);
    set(draft, args, |i| {
        i.access_groups[way(args)] = Some(list);
        true
    })
}

fn no_access_group(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let named = args.has("number") || args.has("name");
    let list = super::access_list::list_name(args);
    set(draft, args, |i| {
        let group = &mut i.access_groups[way(args)];
        let is_meant = !named || group.as_ref() == Some(&list);
        is_meant && group.take().is_some()
    })
}

/// The place of an access group: 0 is `in`, 1 `out`.
fn way(args: &Args<'_>) -> usize {
    usize::from(args.has("out"))
}

fn mtu(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let mtu = args.port("octets");
    set(draft, args, |i| {
        i.mtu = mtu;
        true
    })
}

fn no_mtu(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    set(draft, args, |i| i.mtu.take().is_some())
}

fn description(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    let text = super::super::text::printable(args.text("text"));
    set(draft, args, |i| {
        i.description = Some(text);
        true
    })
}

fn no_description(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    set(draft, args, |i| i.description.take().is_some())
}

fn keepalive(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    set(draft, args, |i| {
        i.ignores_link = false;
        true
    })
}

fn no_keepalive(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    set(draft, args, |i| {
        i.ignores_link = true;
        true
    })
}

fn shutdown(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    set(draft, args, |i| {
        i.shutdown = true;
        true
    })
}

fn no_shutdown(draft: &mut Draft, args: &Args<'_>) -> Outcome {
    set(draft, args, |i| {
        i.shutdown = false;
        true
    })
}
