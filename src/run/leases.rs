//! The addresses that interfaces have: configured ones, and those that DHCP servers lend.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use spillway_control::config::{Config, VrfIds, model};
use spillway_control::dhcp::{Lease, Told, Wanted};
use spillway_control::kernel::{StaticRoute, StaticTarget, TwinPlace};
use spillway_dataplane::snapshot::PortId;

use super::ports::{Ports, with_port};

/// What servers have lent, by port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Leases(HashMap<PortId, Lease>);

impl Leases {
    /// Notes what a client says. Returns whether an address or a router is another one now.
    pub(super) fn note(&mut self, told: &Told) -> bool {
        let essence = |lease: &Lease| (lease.address, lease.router);
        let before = match told.lease {
            Some(lease) => self.0.insert(told.port, lease),
            None => self.0.remove(&told.port),
        };
        before.as_ref().map(essence) != told.lease.as_ref().map(essence)
    }

    /// Another interface of the same VRF whose subnet overlaps one that a server offers to a port.
    pub(super) fn clash(&self, config: &Config, port: PortId, net: Ipv4Net) -> Option<String> {
        let vrf = |port| {
            with_port(config)
                .find(|(id, ..)| *id == port)
                .map(|(_, i, _)| &i.vrf)
        };
        let own = vrf(port);
        let mut others =
            with_port(config).filter(|(other, i, _)| *other != port && Some(&i.vrf) == own);
        let overlaps = |address: Ipv4Net| address.contains(&net) || net.contains(&address);
        let clash = others
            .find(|(other, interface, _)| self.address(*other, interface).is_some_and(overlaps));
        clash.map(|(_, interface, _)| interface.name.clone())
    }

    /// What is wrong with a configuration whose interfaces overlap an address that a server has lent.
    pub(super) fn refuse(&self, config: &Config) -> Result<(), Vec<String>> {
        let clashes = with_port(config).filter_map(|(port, interface, _)| {
            let net = self.address(port, interface)?;
            let other = self.clash(config, port, net)?;
            let name = &interface.name;
            (interface.fixed().is_none()).then(|| {
                format!("interface {other} overlaps {net}, which a DHCP server has lent interface {name}")
            })
        });
        let sentences: Vec<String> = clashes.collect();
        if sentences.is_empty() {
            return Ok(());
        }
        Err(sentences)
    }

    /// Forgets the leases of ports that want none.
    pub(super) fn keep(&mut self, wanted: &[Wanted]) {
        self.0
            .retain(|port, _| wanted.iter().any(|wanted| wanted.port == *port));
    }

    /// The address of an interface.
    pub(super) fn address(&self, port: PortId, interface: &model::Interface) -> Option<Ipv4Net> {
        let lent = || match interface.address {
            Some(model::Address::Dhcp) => self.0.get(&port).map(|lease| lease.address),
            _ => None,
        };
        interface.fixed().or_else(lent)
    }

    /// The addresses that are lent, by the interface's name in lower case.
    pub(super) fn by_name(&self, config: &Config) -> HashMap<String, Ipv4Addr> {
        let lent = with_port(config).filter_map(|(port, interface, _)| {
            let address = self.address(port, interface)?.addr();
            Some((interface.name.to_ascii_lowercase(), address))
        });
        lent.collect()
    }

    /// The default routes that servers told of. Routers give them distance 254: they yield to a
    /// configured default route of the interface's VRF.
    pub(super) fn default_routes(&self, config: &Config, vrfs: &VrfIds) -> Vec<StaticRoute> {
        let to = |(vrf, router)| StaticRoute {
            vrf: vrfs.id(vrf),
            prefix: Ipv4Net::default(),
            target: StaticTarget::NextHop(router),
            global: false,
        };
        self.routers(config).map(to).collect()
    }

    /// The routers of [`Leases::default_routes`], with their VRFs.
    fn routers<'a>(&self, config: &'a Config) -> impl Iterator<Item = (Option<&'a str>, Ipv4Addr)> {
        let configured = |vrf: &Option<String>| {
            let is_default = |r: &model::StaticRoute| {
                r.prefix == Ipv4Net::default() && r.distance != model::StaticRoute::NEVER
            };
            config.routes.iter().any(|r| r.vrf == *vrf && is_default(r))
        };
        with_port(config).filter_map(move |(port, interface, _)| {
            let address = self.address(port, interface)?;
            let router = self.0.get(&port)?.router?;
            let is_wanted = address.contains(&router) && !configured(&interface.vrf);
            is_wanted.then_some((interface.vrf.as_deref(), router))
        })
    }

    /// Whether a VRF, or the global table, has one of [`Leases::default_routes`].
    pub(super) fn have_default_route(&self, config: &Config, vrf: Option<&str>) -> bool {
        self.routers(config).any(|(other, _)| other == vrf)
    }
}

/// The interfaces whose address comes from a server.
pub(super) fn wanted(
    config: &Config,
    ports: &Ports,
    twins: &[TwinPlace],
    hostname: &str,
) -> Vec<Wanted> {
    let wants = |(port, interface, _): (PortId, &model::Interface, &model::Port)| {
        let is_wanted = interface.address == Some(model::Address::Dhcp) && !interface.shutdown;
        let twin = twins.iter().find(|twin| twin.port == port)?;
        is_wanted.then(|| Wanted {
            port,
            device: twin.name.clone(),
            space: twin.space.clone(),
            mac: ports.mac(port),
            hostname: hostname.to_owned(),
        })
    };
    with_port(config).filter_map(wants).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_control::config;

    fn lease(address: &str, router: &str) -> Option<Lease> {
        Some(Lease {
            address: address.parse().expect("an address"),
            router: router.parse().ok(),
            server: Ipv4Addr::LOCALHOST,
            seconds: None,
        })
    }

    fn parsed(text: &str) -> Config {
        config::parse("test", text).expect("good").0
    }

    #[test]
    fn a_lease_gives_address_and_default_route_unless_these_are_configured() {
        let outside = "interface Outside\n port vdev net_null0\n ip address dhcp\n";
        let (dhcp, fixed) = (parsed(outside), "ip route 0.0.0.0 0.0.0.0 192.0.2.9\n");
        let told = Told {
            port: PortId(0),
            lease: lease("192.0.2.77/24", "192.0.2.1"),
        };
        let mut leases = Leases::default();
        assert!(leases.by_name(&dhcp).is_empty() && leases.note(&told));
        assert!(!leases.note(&told), "renewed");
        assert_eq!(
            leases.by_name(&dhcp)["outside"],
            Ipv4Addr::new(192, 0, 2, 77)
        );
        let routes = leases.default_routes(&dhcp, &VrfIds::default());
        assert_eq!(
            routes[0].target,
            StaticTarget::NextHop(Ipv4Addr::new(192, 0, 2, 1))
        );
        let configured = parsed(&format!("{outside}{fixed}"));
        assert!(!leases.have_default_route(&configured, None));
        let elsewhere = Told {
            lease: lease("192.0.2.77/24", "198.51.100.1"),
            ..told
        };
        assert!(leases.note(&elsewhere));
        assert!(!leases.have_default_route(&dhcp, None), "no such neighbour");
        let text = "interface Outside\n port vdev net_null0\n ip address 10.0.0.1 255.0.0.0\n";
        assert_eq!(
            leases.by_name(&parsed(text))["outside"],
            Ipv4Addr::new(10, 0, 0, 1)
        );
        let inside = "interface In\n port vdev net_null1\n ip address 10.1.0.1 255.255.255.0\n";
        let both = parsed(&format!("{outside}{inside}"));
        let clash = |net: &str| leases.clash(&both, PortId(0), net.parse().expect("a network"));
        assert_eq!(clash("10.1.0.77/8").as_deref(), Some("In"));
        assert_eq!(clash("10.1.0.1/32").as_deref(), Some("In"));
        assert_eq!(clash("192.0.2.77/24"), None, "its own");
        assert!(leases.refuse(&both).is_ok());
        let overlapping = parsed(&format!(
            "{outside}interface In\n port vdev net_null1\n ip address 192.0.2.1 255.255.255.0\n"
        ));
        let sentence =
            "interface In overlaps 192.0.2.77/24, which a DHCP server has lent interface Outside";
        assert_eq!(leases.refuse(&overlapping), Err(vec![sentence.to_owned()]));
        leases.keep(&[]);
        assert!(leases.by_name(&dhcp).is_empty());
    }

    #[test]
    fn a_lease_concerns_its_vrf_alone() {
        let text = "ip vrf RED\ninterface Outside\n port vdev net_null0\n ip vrf forwarding RED\n ip address dhcp\n\
                    interface Mine\n port vdev net_null1\n ip vrf forwarding RED\n ip address 10.1.0.1 255.255.255.0\n\
                    interface Other\n port vdev net_null2\n ip address 10.2.0.1 255.255.255.0\n\
                    ip route 0.0.0.0 0.0.0.0 10.2.0.9\n";
        let config = parsed(text);
        let vrfs = VrfIds::new(&config, None);
        let mut leases = Leases::default();
        let port = PortId(0);
        let lease = lease("192.0.2.77/24", "192.0.2.1");
        assert!(leases.note(&Told { port, lease }));
        let clash = |net: &str| leases.clash(&config, port, net.parse().expect("a network"));
        assert_eq!(clash("10.1.0.77/16").as_deref(), Some("Mine"));
        assert_eq!(clash("10.2.0.77/16"), None);
        let routes = leases.default_routes(&config, &vrfs);
        let wanted = StaticRoute {
            vrf: vrfs.id(Some("RED")),
            prefix: Ipv4Net::default(),
            target: StaticTarget::NextHop(Ipv4Addr::new(192, 0, 2, 1)),
            global: false,
        };
        assert_eq!(routes, [wanted]);
        assert!(leases.have_default_route(&config, Some("RED")));
        assert!(!leases.have_default_route(&config, None));
        let configured = parsed(&format!(
            "{text}ip route vrf RED 0.0.0.0 0.0.0.0 10.1.0.9\n"
        ));
        assert!(leases.default_routes(&configured, &vrfs).is_empty());
    }
}
