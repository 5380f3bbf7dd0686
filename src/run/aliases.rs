//! The addresses beside an interface's own for which its twin answers ARP.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use spillway_control::config::model::{self, StaticGlobal};
use spillway_control::config::{Config, Policy};
use spillway_dataplane::nat::Global;
use spillway_dataplane::snapshot::{PortId, Side};

use super::leases::Leases;
use super::ports::with_port;

/// The addresses of NAT in an interface's subnet, those that interfaces of its VRF have themselves
/// left out. Inside a VRF these are some customer's own: there, only outside interfaces have any.
pub(super) fn aliases(
    config: &Config,
    policy: &Policy,
    leases: &Leases,
    (port, interface): (PortId, &model::Interface),
) -> Vec<Ipv4Net> {
    let Some(subnet) = leases.address(port, interface) else {
        return Vec::new();
    };
    let is_global = interface.vrf.is_none();
    if !is_global && interface.side != Side::Outside {
        return Vec::new();
    }
    let portless = config.interfaces.iter().filter(|i| i.port.is_none());
    let portless = portless.map(|i| (i, i.fixed()));
    let others = with_port(config).map(|(port, i, _)| (i, leases.address(port, i)));
    let own: HashSet<Ipv4Addr> = (portless.chain(others))
        .filter(|(other, _)| other.vrf == interface.vrf)
        .filter_map(|(_, net)| Some(net?.addr()))
        .collect();
    let silent = silent(config);
    let globals = policy.nat.globals.iter();
    let globals = globals.filter(|(address, global)| {
        !(matches!(global, Global::Static) && silent.globals.contains(*address))
    });
    let globals = globals.map(|(address, _)| *address);
    // Those by which inside hosts know outside ones lie in the inside network with `add-route`.
    let locals = policy.nat.outside.locals();
    let locals = locals.filter(|(address, local)| {
        is_global
            && interface.side == Side::Inside
            && local.add_route()
            && !silent.locals.contains(address)
    });
    let locals = locals.map(|(address, _)| address);
    let shared = policy.nat.destinations.addresses.iter().copied();
    let shared = shared.filter(|_| is_global && interface.side == Side::Outside);
    let mut addresses: Vec<Ipv4Net> = globals
        .chain(locals)
        .chain(shared)
        .filter(|address| subnet.contains(address) && !own.contains(address))
        .map(Ipv4Net::from)
        .collect();
    addresses.sort();
    Ipv4Net::aggregate(&addresses)
}

/// Addresses that only statics with `no-alias` have, as far as statics go: nobody answers for them
/// here, because another router does.
struct Silent {
    globals: HashSet<Ipv4Addr>,
    locals: HashSet<Ipv4Addr>,
}

fn silent(config: &Config) -> Silent {
    let statics = config.statics.iter().filter_map(|fixed| {
        let StaticGlobal::Address(first) = fixed.global else {
            return None; // an interface's own
        };
        let last = u64::from(first.to_bits()) + fixed.hosts() - 1;
        let last = u32::try_from(last).unwrap_or(u32::MAX);
        Some((fixed.no_alias, first.to_bits()..=last))
    });
    let outside = config.outside_statics.iter();
    let outside = outside.map(|fixed| (fixed.no_alias, [fixed.local.to_bits()]));
    Silent {
        globals: only(statics),
        locals: only(outside),
    }
}

/// The addresses that come with `true` and never with `false`.
fn only<A: IntoIterator<Item = u32>>(ranges: impl Iterator<Item = (bool, A)>) -> HashSet<Ipv4Addr> {
    let (mut with, mut without) = (HashSet::new(), HashSet::new());
    for (silent, addresses) in ranges {
        let set = if silent { &mut with } else { &mut without };
        set.extend(addresses.into_iter().map(Ipv4Addr::from_bits));
    }
    with.difference(&without).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_control::config;
    use spillway_dataplane::time::Tick;
    use std::collections::HashMap;
    use std::sync::Arc;

    /// The aliases of each interface.
    fn of(text: &str) -> Vec<String> {
        let config = Arc::new(config::parse("test", text).expect("good").0);
        let policy = Policy::compile(Arc::clone(&config), &HashMap::new(), Tick(0), None);
        let leases = Leases::default();
        let show = |(port, interface, _)| {
            let nets = aliases(&config, &policy, &leases, (port, interface));
            let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
            nets.join(" ")
        };
        with_port(&config).map(show).collect()
    }

    #[test]
    fn statics_with_no_alias_are_answered_for_by_others() {
        let text = "interface In\n port vdev net_null0\n ip address 10.0.0.1 255.255.255.0\n ip nat inside\n\
                    interface Out\n port vdev net_null1\n ip address 192.0.2.1 255.255.255.0\n ip nat outside\n\
                    ip nat inside source static 10.0.0.6 192.0.2.6\n\
                    ip nat inside source static 10.0.0.7 192.0.2.7 no-alias\n\
                    ip nat inside source static tcp 10.0.0.8 80 192.0.2.8 80 extendable no-alias\n\
                    ip nat inside source static tcp 10.0.0.8 81 192.0.2.8 81 extendable\n\
                    ip nat inside source static network 10.0.0.16 192.0.2.16 /30 no-alias\n\
                    ip nat outside source static 203.0.113.5 10.0.0.99 add-route\n\
                    ip nat outside source static 203.0.113.6 10.0.0.98 add-route no-alias\n\
                    ip nat outside source static 203.0.113.7 10.0.0.97\n";
        assert_eq!(of(text), ["10.0.0.99/32", "192.0.2.6/32 192.0.2.8/32"]);
    }

    #[test]
    fn what_a_customer_has_inside_is_not_answered_for_in_his_vrf() {
        // Both have inside what the static and the pool have outside.
        let text = "ip vrf RED\nip vrf BLUE\n\
                    interface Out\n port vdev net_null0\n ip address 192.0.2.1 255.255.255.0\n ip nat outside\n\
                    interface Red\n port vdev net_null1\n ip vrf forwarding RED\n ip address 192.0.2.6 255.255.255.0\n ip nat inside\n\
                    interface Blue\n port vdev net_null2\n ip vrf forwarding BLUE\n ip address 192.0.2.2 255.255.255.0\n ip nat outside\n\
                    ip nat inside source static 192.0.2.7 192.0.2.6 vrf RED\n\
                    ip nat inside source static 10.0.0.7 192.0.2.8 vrf BLUE\n";
        let both = "192.0.2.6/32 192.0.2.8/32";
        assert_eq!(of(text), [both, "", both]);
    }
}
