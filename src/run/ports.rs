//! The ports: opened, handed to the workers queue by queue, closed when their interface goes and
//! opened again when it is back.

use std::sync::{Arc, Mutex, PoisonError};

use spillway_control::config::{Config, VrfIds, model};
use spillway_control::manage;
use spillway_dataplane::esp::PeerView;
use spillway_dataplane::snapshot::{Interface, PortId, Side, WorkerId};
use spillway_dataplane::worker::{PortChange, Queues};
use spillway_dpdk::{DpdkRxQueue, DpdkTxQueue, Eal, FlowRule, Pool, Port, PortConfig, PortInfo};
use tracing::{debug, info, warn};

use super::leases::Leases;
use super::workers::Workers;
use rules::Rules;

mod rules;
mod steering;

/// The MTU of an interface that does not say.
const DEFAULT_MTU: u16 = 1500;

/// A configured port and, while it is there, its device.
struct Slot {
    /// The configured interface name.
    name: String,
    /// The device's arguments.
    spec: String,
    mtu: u16,
    port: Option<Port>,
    /// As it was when it was opened last.
    info: Option<PortInfo>,
    /// Whether it is inside: then clients' addresses decide where packets come in, where they can.
    inside: bool,
    /// The table of queues that it was given, if it takes one.
    table: Option<Vec<u16>>,
    /// Its flow rules, if it takes some.
    rules: Option<Rules<FlowRule>>,
    /// Whether it has been said that it refuses some.
    is_refusal_told: bool,
    /// Transmit queues when it was opened first: workers are wired for that number.
    tx_queues: u16,
}

/// All ports; [`PortId`] is the place in the list.
pub(super) struct Ports {
    slots: Vec<Slot>,
    workers: u8,
    pool: Pool,
    view: Arc<View>,
}

/// What `show interfaces` tells about ports. Followed by [`Ports::refresh`].
#[derive(Default)]
pub(super) struct View(Mutex<Vec<manage::PortInfo>>);

impl manage::Ports for View {
    fn ports(&self) -> Vec<manage::PortInfo> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The arguments of the device behind an interface.
pub(super) fn spec(port: &model::Port) -> &str {
    match port {
        model::Port::Pci(address) => address,
        model::Port::Vdev(arguments) => arguments,
    }
}

/// Whether the cards on PCI are ready for DPDK. The errors are a sentence each.
pub(super) fn check_cards(config: &Config) -> Result<(), Vec<String>> {
    let error = |(_, interface, port): (PortId, &model::Interface, &model::Port)| {
        let model::Port::Pci(address) = port else {
            return None;
        };
        let error = spillway_dpdk::check_card(address).err()?;
        Some(format!("interface {}: {error}", interface.name))
    };
    let errors: Vec<String> = with_port(config).filter_map(error).collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// A device's arguments with what its driver's own defaults leave weak.
///
/// af_packet keeps 512 frames: a pause of the worker of some milliseconds, as another process on
/// its core makes, loses packets. 4096 frames take 16 MiB a queue.
fn tuned(spec: &str) -> String {
    if spec.starts_with("net_af_packet")
        && !spec.contains("framecnt=")
        && !spec.contains("framesz=")
    {
        format!("{spec},framecnt=4096")
    } else {
        spec.to_owned()
    }
}

/// The interfaces that have a port, in the order of their [`PortId`].
pub(super) fn with_port(
    config: &Config,
) -> impl Iterator<Item = (PortId, &model::Interface, &model::Port)> {
    let ports = config
        .interfaces
        .iter()
        .filter_map(|i| i.port.as_ref().map(|p| (i, p)));
    ports
        .enumerate()
        .map(|(at, (interface, port))| (PortId(at as u8), interface, port))
}

impl Ports {
    /// The ports of a configuration, none open yet, for this number of workers.
    pub(super) fn new(config: &Config, workers: u8, pool: Pool) -> Ports {
        let slot = |(_, interface, port): (PortId, &model::Interface, &model::Port)| Slot {
            name: interface.name.clone(),
            spec: tuned(spec(port)),
            mtu: interface.mtu.unwrap_or(DEFAULT_MTU),
            port: None,
            info: None,
            inside: interface.side == Side::Inside,
            table: None,
            rules: None,
            is_refusal_told: false,
            tx_queues: 0,
        };
        Ports {
            slots: with_port(config).map(slot).collect(),
            workers,
            pool,
            view: Arc::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// What `show interfaces` reads.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// Opens every port. The errors are a sentence each.
    pub(super) fn open_all(&mut self, eal: &Eal) -> Result<(), Vec<String>> {
        let ids = (0..self.slots.len()).map(|at| PortId(at as u8));
        let errors: Vec<String> = ids.filter_map(|id| self.open(eal, id).err()).collect();
        self.refresh();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    fn open(&mut self, eal: &Eal, id: PortId) -> Result<(), String> {
        let slot = &mut self.slots[id.index()];
        let config = PortConfig {
            rx_queues: u16::from(self.workers),
            tx_queues: u16::from(self.workers),
            mtu: slot.mtu,
            by_source: slot.inside,
            ..PortConfig::new(self.pool.clone())
        };
        let port = Port::open(eal, &slot.spec, &config)
            .map_err(|e| format!("interface {}: {e}", slot.name))?;
        let info = port
            .info()
            .map_err(|e| format!("interface {}: {e}", slot.name))?;
        if slot.tx_queues == 0 {
            slot.tx_queues = info.tx_queues;
        }
        let queues = info.rx_queues;
        if self.workers > 1 && queues > 1 {
            let takes = port.would_bring(&rules::FOR_EXAMPLE, queues - 1);
            let takes = takes.inspect_err(|error| debug!("interface {}: {error}", slot.name));
            slot.rules = takes.is_ok().then(Rules::default);
        }
        slot.info = Some(info);
        slot.port = Some(port);
        Ok(())
    }

    /// Whether any port takes flow rules.
    pub(super) fn take_rules(&self) -> bool {
        self.slots.iter().any(|slot| slot.rules.is_some())
    }

    /// Has ports that take flow rules bring the packets of these VPN servers to their workers.
    pub(super) fn follow_servers(&mut self, config: &Config, peers: &[(WorkerId, PeerView)]) {
        let servers = rules::servers(peers);
        for ((_, interface, _), slot) in with_port(config).zip(&mut self.slots) {
            let (Some(port), Some(rules)) = (&slot.port, &mut slot.rules) else {
                continue;
            };
            let queues = slot.info.as_ref().map_or(0, |info| info.rx_queues);
            let refused = rules.follow(port, &rules::wanted(&servers, interface.side, queues));
            if let Some(error) = refused.filter(|_| !slot.is_refusal_told) {
                slot.is_refusal_told = true;
                warn!(
                    "interface {}: {error}; ESP and IKE for which it takes none change workers",
                    slot.name
                );
            }
        }
    }

    /// The worker whose transmit queue each worker uses, by port: itself where the port has a
    /// queue for it.
    pub(super) fn transmitters(&self, worker: WorkerId) -> Vec<WorkerId> {
        let via = |slot: &Slot| match slot.tx_queues {
            0 => worker,
            queues => WorkerId((u16::from(worker.0) % queues) as u8),
        };
        self.slots.iter().map(via).collect()
    }

    /// Gives every port's queues to the workers.
    pub(super) fn attach_all(&mut self, workers: &Workers) {
        for at in 0..self.slots.len() {
            self.attach(PortId(at as u8), workers);
        }
    }

    fn attach(&mut self, id: PortId, workers: &Workers) {
        let Some(port) = self.slots[id.index()].port.as_mut() else {
            return;
        };
        let (rx, tx) = port.take_queues();
        let count = usize::from(self.workers);
        let mut parts: Vec<(Vec<DpdkRxQueue>, Option<DpdkTxQueue>)> =
            (0..count).map(|_| (Vec::new(), None)).collect();
        for (at, queue) in rx.into_iter().enumerate() {
            parts[at % count].0.push(queue);
        }
        for (part, queue) in parts.iter_mut().zip(tx) {
            part.1 = Some(queue);
        }
        for (worker, (rx, tx)) in parts.into_iter().enumerate() {
            let mut rx = rx.into_iter();
            let first = Queues {
                port: id,
                rx: rx.next(),
                tx,
            };
            workers.change_port(worker, PortChange::Attach(first));
            for queue in rx {
                workers.change_port(worker, PortChange::AttachRx(id, queue));
            }
        }
    }

    /// Takes a port from the workers and closes it once they have let it go.
    pub(super) async fn detach(&mut self, id: PortId, workers: &Workers) {
        for worker in 0..usize::from(self.workers) {
            workers.change_port(worker, PortChange::Detach(id));
        }
        let slot = &mut self.slots[id.index()];
        // They keep the port open.
        slot.rules.take().into_iter().for_each(Rules::leave);
        let mut open = slot.port.take();
        while let Some(port) = open {
            open = port.close().err();
            if open.is_some() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
        warn!(
            "interface {}: the device {} is gone; it is taken up again when it is back",
            slot.name, slot.spec
        );
    }

    /// Opens a port again and gives it to the workers.
    pub(super) fn reopen(
        &mut self,
        eal: &Eal,
        id: PortId,
        workers: &Workers,
    ) -> Result<(), String> {
        self.open(eal, id)?;
        steering::again(&mut self.slots[id.index()]);
        self.attach(id, workers);
        let slot = &self.slots[id.index()];
        info!("interface {}: the device {} is back", slot.name, slot.spec);
        Ok(())
    }

    /// Whether the port's device is there.
    pub(super) fn is_open(&self, id: PortId) -> bool {
        self.slots
            .get(id.index())
            .is_some_and(|slot| slot.port.is_some())
    }

    /// The port's MAC address, as it was last.
    pub(super) fn mac(&self, id: PortId) -> [u8; 6] {
        let info = self
            .slots
            .get(id.index())
            .and_then(|slot| slot.info.as_ref());
        info.map_or([0; 6], |info| info.mac)
    }

    /// The MTU that the port carries for an interface that wants `wanted`.
    pub(super) fn mtu(&self, id: PortId, wanted: Option<u16>) -> u16 {
        let info = self
            .slots
            .get(id.index())
            .and_then(|slot| slot.info.as_ref());
        let wanted = wanted.unwrap_or(DEFAULT_MTU);
        info.map_or(wanted, |info| wanted.min(info.mtu))
    }

    /// What workers shall know of the interfaces; the state of their links is for the caller to add.
    pub(super) fn interfaces(
        &self,
        config: &Config,
        vrfs: &VrfIds,
        leases: &Leases,
    ) -> Vec<Interface> {
        with_port(config)
            .map(|(id, interface, _)| Interface {
                name: interface.name.clone(),
                side: match interface.side {
                    Side::Inside => Side::Inside,
                    Side::Outside => Side::Outside,
                    Side::None => Side::None,
                },
                vrf: vrfs.id(interface.vrf.as_deref()),
                address: leases.address(id, interface),
                mac: self.mac(id),
                mtu: self.mtu(id, interface.mtu),
                up: !interface.shutdown && self.is_open(id),
            })
            .collect()
    }

    /// A sentence about each port.
    pub(super) fn describe(&self) -> Vec<String> {
        let line = |slot: &Slot| match &slot.info {
            Some(info) => format!(
                "port {}: {} ({}), {} receive and {} transmit queues, NUMA node {}, MTU {}, checksums of received headers {}",
                slot.name,
                info.driver,
                slot.spec,
                info.rx_queues,
                info.tx_queues,
                info.socket
                    .map_or("unknown".to_owned(), |node| node.to_string()),
                info.mtu,
                if info.rx_ip_checksum {
                    "verified by the port"
                } else {
                    "verified here"
                },
            ),
            None => format!("port {}: {} is not there", slot.name, slot.spec),
        };
        self.slots.iter().map(line).collect()
    }

    /// Whether a port's device had a link when [`Ports::refresh`] looked.
    pub(super) fn has_link(&self, id: PortId) -> bool {
        let view = self.view.0.lock().unwrap_or_else(PoisonError::into_inner);
        view.get(id.index()).is_some_and(|info| info.link_up)
    }

    /// Whether a device's link is another one than [`Ports::refresh`] saw.
    pub(super) fn have_other_links(&self) -> bool {
        let before = self.view.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = self.slots.iter().zip(before.iter());
        slots.any(|(slot, before)| slot.port.is_some() && is_linked(slot) != before.link_up)
    }

    /// Reads links and device counters anew for `show`. The ports whose devices have got a link
    /// since they were read last.
    pub(super) fn refresh(&self) -> Vec<PortId> {
        let infos: Vec<manage::PortInfo> = self.slots.iter().map(view_of).collect();
        let mut view = self.view.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *view, infos.clone());
        drop(view);
        let changed = before.iter().zip(&infos).enumerate();
        let changed = changed
            .filter(|(at, (was, is))| self.slots[*at].port.is_some() && was.link_up != is.link_up);
        let mut came = Vec::new();
        for (at, (_, is)) in changed {
            if is.link_up {
                info!("interface {}: the link of {} is up", is.name, is.device);
                came.push(PortId(at as u8));
            } else {
                warn!("interface {}: the link of {} is down", is.name, is.device);
            }
        }
        came
    }
}

/// Whether a device has a link; one that can't tell has.
fn is_linked(slot: &Slot) -> bool {
    let has_link = |port: &Port| port.link().map_or(true, |link| link.up);
    slot.port.as_ref().is_some_and(has_link)
}

fn view_of(slot: &Slot) -> manage::PortInfo {
    let link = slot.port.as_ref().and_then(|port| port.link().ok());
    let counters = slot
        .port
        .as_ref()
        .and_then(|port| port.xstats().ok())
        .unwrap_or_default();
    let info = slot.info.as_ref();
    manage::PortInfo {
        name: slot.name.clone(),
        device: slot.spec.clone(),
        driver: info.map_or_else(String::new, |i| i.driver.clone()),
        mac: info.map_or([0; 6], |i| i.mac),
        link_up: is_linked(slot),
        speed_mbps: link.and_then(|l| l.speed_mbit),
        mtu: slot.mtu,
        rx_queues: info.map_or(0, |i| i.rx_queues),
        tx_queues: info.map_or(0, |i| i.tx_queues),
        spread: steering::spread(slot),
        flow_rules: slot.rules.as_ref().map(Rules::view),
        numa_node: info.and_then(|i| i.socket),
        counters,
    }
}
