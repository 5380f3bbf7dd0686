//! The twin interfaces: made, kept as configured, removed.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use futures_util::StreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkAttribute;
use rtnetlink::{AddressMessageBuilder, Handle, LinkMessageBuilder, LinkUnspec};
use spillway_dataplane::snapshot::{PortId, VrfId};
use tracing::info;

use super::device::KernelDevice;
use super::error::KernelError;
use super::frames::{Face, Faces};
use super::name::kernel_names;
use super::space::{Realm, Realms, Space};
use super::sysctl;
use super::tap::Tap;

/// Longest `ifalias` of the kernel, in octets.
const MAX_ALIAS: usize = 255;

/// What an interface's twin shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwinConfig {
    /// The port that it is the twin of.
    pub port: PortId,
    /// The configured interface name.
    pub name: String,
    /// `description`.
    pub description: Option<String>,
    /// `ip vrf forwarding`: the VRF in whose namespace it lives.
    pub vrf: VrfId,
    /// The port's MAC address.
    pub mac: [u8; 6],
    /// Largest IPv4 packet, in octets.
    pub mtu: u16,
    /// `ip address`; `None` leaves the twin without one (a DHCP client may give it one).
    pub address: Option<Ipv4Net>,
    /// `shutdown`: the twin is there, but down.
    pub shutdown: bool,
    /// Whether the port has a link: static routes out of one without are left out, and a card's twin has no carrier.
    pub link: bool,
    /// The kernel interface under the port.
    pub device: Option<KernelDevice>,
    /// NAT's global addresses in this link's subnet, which ARP is answered for here.
    pub aliases: Vec<Ipv4Net>,
}

/// Where a twin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwinPlace {
    /// The port that it is the twin of.
    pub port: PortId,
    /// Its name in the kernel.
    pub name: String,
    /// The network namespace that it is in.
    pub space: Space,
}

/// What the other parts of this module need to know of a twin.
#[derive(Debug, Clone)]
pub(crate) struct TwinView {
    pub(crate) port: PortId,
    pub(crate) vrf: VrfId,
    /// The kernel's index of it, which another twin may have in another VRF.
    pub(crate) index: u32,
    pub(crate) address: Option<Ipv4Net>,
    /// Whether it is neither shut down nor without a link.
    pub(crate) up: bool,
    pub(crate) device: Option<KernelDevice>,
}

/// A twin as it is now.
struct Twin {
    kernel_name: String,
    index: u32,
    /// Where it lives.
    realm: Realm,
    /// What it was made to be; `None` while it is new.
    applied: Option<TwinConfig>,
    /// What it shall be.
    config: TwinConfig,
}

/// All twins.
pub(crate) struct Twins {
    twins: Vec<Twin>,
    faces: Faces,
}

impl Twins {
    pub(crate) fn new(faces: Faces) -> Twins {
        Twins {
            twins: Vec::new(),
            faces,
        }
    }

    /// Where each twin is.
    pub(crate) fn places(&self) -> Vec<TwinPlace> {
        let place = |twin: &Twin| TwinPlace {
            port: twin.config.port,
            name: twin.kernel_name.clone(),
            space: twin.realm.space.clone(),
        };
        self.twins.iter().map(place).collect()
    }

    pub(crate) fn views(&self) -> Vec<TwinView> {
        let view = |twin: &Twin| TwinView {
            port: twin.config.port,
            vrf: twin.realm.vrf,
            index: twin.index,
            address: twin.config.address,
            up: !twin.config.shutdown && twin.config.link,
            device: twin.config.device.clone(),
        };
        self.twins.iter().map(view).collect()
    }

    /// Makes the twins what `wanted` says, touching only what differs. One that changes its VRF
    /// is made anew there. One whose VRF has no namespace is left out: that failed before. The
    /// answer holds what failed; everything else is done.
    pub(crate) async fn apply(
        &mut self,
        wanted: &[TwinConfig],
        realms: &Realms,
    ) -> Vec<KernelError> {
        if let Err(e) = check_ports(wanted) {
            return vec![e];
        }
        let names = kernel_names(
            wanted.iter().map(|w| w.name.as_str()),
            wanted
                .iter()
                .filter_map(|w| Some(w.device.as_ref()?.name.as_str())),
        );
        self.twins.retain(Twin::exists);
        // The ones that go, go first: their addresses may move to others.
        self.twins.retain(|twin| {
            let same = |(w, name): (&TwinConfig, &String)| {
                let space = realms.of(w.vrf).map(|realm| &realm.space);
                w.port == twin.config.port
                    && *name == twin.kernel_name
                    && space == Some(&twin.realm.space)
            };
            wanted.iter().zip(&names).any(same)
        });
        self.forget_faces();
        let mut problems = Vec::new();
        for (config, kernel_name) in wanted.iter().zip(names) {
            let kept = self.twins.iter_mut().find(|t| t.kernel_name == kernel_name);
            match kept {
                Some(twin) => twin.config = config.clone(),
                None => {
                    if let Some(realm) = realms.of(config.vrf) {
                        let created = self.create(kernel_name, config.clone(), realm);
                        problems.extend(created.err());
                    }
                }
            }
        }
        self.refresh_faces();
        for twin in &self.twins {
            problems.extend(twin.withdraw_address().await.err());
        }
        for twin in &mut self.twins {
            match twin.adjust().await {
                Ok(()) => twin.applied = Some(twin.config.clone()),
                Err(e) => problems.push(e),
            }
        }
        problems
    }

    /// Removes all twins.
    pub(crate) async fn remove(&mut self) {
        self.faces.lock().clear();
        for twin in self.twins.drain(..) {
            // A TAP that someone made persistent would stay without this.
            if twin.exists() {
                let _ = twin.realm.handle.link().del(twin.index).execute().await;
            }
        }
    }

    /// Makes the kernel interface, down and bare.
    fn create(
        &mut self,
        kernel_name: String,
        config: TwinConfig,
        realm: &Realm,
    ) -> Result<(), KernelError> {
        let make = || {
            let tap = Tap::create(&kernel_name)?;
            sysctl::prepare(&kernel_name);
            Ok::<_, KernelError>(tap)
        };
        let tap = realm.space.enter(make)??;
        info!(
            interface = config.name,
            twin = kernel_name,
            "made the kernel twin"
        );
        let index = tap.index();
        let face = Face {
            tap: Some(tap),
            mac: config.mac,
            aliases: Vec::new(),
        };
        let mut faces = self.faces.lock();
        let at = config.port.index();
        if faces.len() <= at {
            faces.resize_with(at + 1, || None);
        }
        if let Some(place) = faces.get_mut(at) {
            *place = Some(face);
        }
        self.twins.push(Twin {
            kernel_name,
            index,
            realm: realm.clone(),
            applied: None,
            config,
        });
        Ok(())
    }

    /// Closes the ways to twins that are there no more.
    fn forget_faces(&self) {
        for (at, face) in self.faces.lock().iter_mut().enumerate() {
            let index = face.as_ref().and_then(|f| f.tap.as_ref()).map(Tap::index);
            let known = |twin: &Twin| twin.config.port.index() == at && Some(twin.index) == index;
            if !self.twins.iter().any(known) {
                *face = None;
            }
        }
    }

    /// Tells the carrier of frames what has changed.
    fn refresh_faces(&self) {
        let mut faces = self.faces.lock();
        for twin in &self.twins {
            if let Some(Some(face)) = faces.get_mut(twin.config.port.index()) {
                face.mac = twin.config.mac;
                face.aliases.clone_from(&twin.config.aliases);
            }
        }
    }
}

impl Twin {
    /// Whether the kernel still has the interface.
    fn exists(&self) -> bool {
        let index = || nix::net::if_::if_nametoindex(self.kernel_name.as_str());
        matches!(self.realm.space.enter(index), Ok(Ok(index)) if index == self.index)
    }

    /// Takes away the address that is to be another one. Done for all twins before any gets its
    /// new one, so that two can swap.
    async fn withdraw_address(&self) -> Result<(), KernelError> {
        let handle = &self.realm.handle;
        let Some(old) = self.applied.as_ref().and_then(|a| a.address) else {
            return Ok(());
        };
        if self.config.address == Some(old) {
            return Ok(());
        }
        let Some(message) = find_address(handle, self.index, old).await? else {
            return Ok(()); // Someone else took it away.
        };
        let what = format!("take {old} from {}", self.kernel_name);
        let result = handle.address().del(message).execute().await;
        result.map_err(|e| KernelError::netlink(what, e))
    }

    /// Sets what differs from what was applied last.
    async fn adjust(&self) -> Result<(), KernelError> {
        let handle = &self.realm.handle;
        let new = &self.config;
        let old = self.applied.as_ref();
        if let Some(message) = self.link_changes(old) {
            let what = format!("configure {}", self.kernel_name);
            let result = handle.link().set(message).execute().await;
            result.map_err(|e| KernelError::netlink(what, e))?;
        }
        if let Some(address) = new
            .address
            .filter(|_| old.map(|o| o.address) != Some(new.address))
        {
            let what = format!("give {address} to {}", self.kernel_name);
            let mut request =
                handle
                    .address()
                    .add(self.index, address.addr().into(), address.prefix_len());
            *request.message_mut() = AddressMessageBuilder::<Ipv4Addr>::new()
                .index(self.index)
                .address(address.addr(), address.prefix_len())
                .build();
            let result = request.replace().execute().await;
            result.map_err(|e| KernelError::netlink(what, e))?;
        }
        Ok(())
    }

    /// The message that sets the link's properties that differ; `None` where none does.
    fn link_changes(
        &self,
        old: Option<&TwinConfig>,
    ) -> Option<netlink_packet_route::link::LinkMessage> {
        let new = &self.config;
        let mut link: LinkMessageBuilder<LinkUnspec> = LinkUnspec::new_with_index(self.index);
        let mut changed = false;
        if old.map(|o| o.mac) != Some(new.mac) {
            link = link.address(new.mac.to_vec());
            changed = true;
        }
        if old.map(|o| o.mtu) != Some(new.mtu) {
            link = link.mtu(new.mtu.into());
            changed = true;
        }
        if old.map(|o| &o.description) != Some(&new.description) {
            link = link.alias(alias(new));
            changed = true;
        }
        if old.map(|o| o.shutdown) != Some(new.shutdown) {
            link = if new.shutdown { link.down() } else { link.up() };
            changed = true;
        }
        // A new one has it.
        if old.is_none_or(has_carrier) != has_carrier(new) {
            let carrier = LinkAttribute::Carrier(has_carrier(new).into());
            link = link.append_extra_attribute(carrier);
            changed = true;
        }
        changed.then(|| link.build())
    }
}

/// A twin's carrier is its port's link. One with a kernel interface under its port has it always: such an interface may
/// come back with another MAC address, which the kernel tells the neighbours (`arp_notify`) only where there is a carrier.
fn has_carrier(config: &TwinConfig) -> bool {
    config.link || config.device.is_some()
}

/// The kernel's note about the interface: never empty, so that a removed description is replaced.
fn alias(config: &TwinConfig) -> String {
    let text = match &config.description {
        Some(description) => format!("Spillway {}: {description}", config.name),
        None => format!("Spillway {}", config.name),
    };
    let fits = |end: &usize| *end < MAX_ALIAS && text.is_char_boundary(*end);
    let end = (0..=text.len()).rev().find(fits).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

/// The kernel's own message about an address of an interface, if it has it.
async fn find_address(
    handle: &Handle,
    index: u32,
    address: Ipv4Net,
) -> Result<Option<AddressMessage>, KernelError> {
    let request = handle
        .address()
        .get()
        .set_link_index_filter(index)
        .set_address_filter(address.addr().into());
    let mut found = std::pin::pin!(request.execute());
    let mut first = None;
    while let Some(message) = found.next().await {
        let message = message.map_err(|e| KernelError::netlink("list its addresses", e))?;
        if message.header.prefix_len == address.prefix_len() {
            first.get_or_insert(message);
        }
    }
    Ok(first)
}

/// Each port once, and none beyond what the data plane can have.
fn check_ports(wanted: &[TwinConfig]) -> Result<(), KernelError> {
    let mut seen = HashSet::new();
    for config in wanted {
        if config.port.index() >= PortId::MAX || !seen.insert(config.port) {
            return Err(KernelError::Port(config.port.0));
        }
    }
    Ok(())
}
