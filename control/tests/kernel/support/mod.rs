//! What the tests of the kernel side share: a network namespace of one's own, packets of plain
//! vectors, hand-made frames.

#![allow(unreachable_pub, reason = "what the other files use")]

use std::future::Future;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use spillway_control::kernel::{
    Hooks, Kernel, KernelConfig, KernelDevice, KernelError, LinkEvent, Queues, TwinConfig,
};
use spillway_dataplane::command::ResolveQueue;
use spillway_dataplane::fib::{Fib, Neighbour, NextHop, Route};
use spillway_dataplane::packet::{Packet, PacketPool};
use spillway_dataplane::snapshot::{PortId, VrfId};

pub const INSIDE: PortId = PortId(0);
pub const OUTSIDE: PortId = PortId(1);
pub const INSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];
pub const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];

/// Runs the test in a network namespace of its own, on a thread of its own, so that neither the
/// machine nor another test sees it. Says so and does nothing where that needs more rights.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: network namespaces and TAP interfaces need root");
        return;
    }
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may do this");
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip ARGUMENTS` and gives what it printed.
pub fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

/// Runs a program in this thread's namespace.
pub fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .expect("the program is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A packet in a vector, with room around it as a DPDK buffer has.
pub struct VecPacket {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl VecPacket {
    const HEADROOM: usize = 128;
    const SIZE: usize = 2048 + VecPacket::HEADROOM;

    pub fn empty() -> VecPacket {
        VecPacket {
            buffer: vec![0; VecPacket::SIZE],
            start: VecPacket::HEADROOM,
            end: VecPacket::HEADROOM,
        }
    }

    pub fn of(frame: &[u8]) -> VecPacket {
        let mut packet = VecPacket::empty();
        assert!(packet.append(frame.len()));
        packet.data_mut().copy_from_slice(frame);
        packet
    }
}

impl Packet for VecPacket {
    fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    fn prepend(&mut self, len: usize) -> bool {
        let room = self.start >= len;
        self.start -= if room { len } else { 0 };
        room
    }

    fn append(&mut self, len: usize) -> bool {
        let room = self.buffer.len() - self.end >= len;
        self.end += if room { len } else { 0 };
        room
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

/// Gives so many packets and no more.
pub struct VecPool(pub usize);

impl PacketPool for VecPool {
    type Packet = VecPacket;

    fn alloc(&mut self) -> Option<VecPacket> {
        self.0 = self.0.checked_sub(1)?;
        Some(VecPacket::empty())
    }
}

/// A kernel side with everything that a test looks at.
pub struct Rig {
    pub kernel: Kernel,
    pub punt: Arc<ArrayQueue<(PortId, VecPacket)>>,
    pub inject: Arc<ArrayQueue<(PortId, VecPacket)>>,
    pub resolve: ResolveQueue,
    pub fib: Arc<Mutex<Fib>>,
    pub links: Arc<Mutex<Vec<LinkEvent>>>,
}

/// Inside 10.1.0.1/24 and Outside 198.51.100.1/24.
pub fn config() -> KernelConfig {
    KernelConfig {
        vrfs: Vec::new(),
        interfaces: vec![
            interface(INSIDE, "Inside", INSIDE_MAC, "10.1.0.1/24"),
            interface(OUTSIDE, "Outside", OUTSIDE_MAC, "198.51.100.1/24"),
        ],
        routes: Vec::new(),
    }
}

pub fn interface(port: PortId, name: &str, mac: [u8; 6], address: &str) -> TwinConfig {
    TwinConfig {
        port,
        name: name.to_owned(),
        description: None,
        vrf: VrfId::GLOBAL,
        mac,
        mtu: 1500,
        address: Some(address.parse().expect("a prefix")),
        shutdown: false,
        link: true,
        device: None,
        aliases: Vec::new(),
    }
}

/// The kernel interface under an af_packet port.
pub fn af_packet(name: &str) -> Option<KernelDevice> {
    KernelDevice::of_vdev(&format!("net_af_packet0,iface={name}")).expect("a good name")
}

impl Rig {
    pub async fn start(config: &KernelConfig) -> Rig {
        Rig::start_with(config, VecPool(100_000), 256).await
    }

    pub async fn start_with(config: &KernelConfig, pool: VecPool, inject: usize) -> Rig {
        match Rig::try_start(config, pool, inject).await {
            Ok((rig, later)) if later.is_empty() => rig,
            Ok((_, problems)) | Err(problems) => panic!("{problems:?}"),
        }
    }

    pub async fn try_start(
        config: &KernelConfig,
        pool: VecPool,
        inject: usize,
    ) -> Result<(Rig, Vec<KernelError>), Vec<KernelError>> {
        let punt = Arc::new(ArrayQueue::new(256));
        let inject = Arc::new(ArrayQueue::new(inject));
        let resolve: ResolveQueue = Arc::new(ArrayQueue::new(256));
        let fib = Arc::new(Mutex::new(Fib::default()));
        let links = Arc::new(Mutex::new(Vec::new()));
        let queues = Queues {
            punt: Arc::clone(&punt),
            inject: vec![Arc::clone(&inject); 4],
            resolve: Arc::clone(&resolve),
        };
        let (fibs, events) = (Arc::clone(&fib), Arc::clone(&links));
        let hooks = Hooks {
            on_fib: Box::new(move |new| *fibs.lock().expect("no panic") = new),
            on_link: Box::new(move |event| events.lock().expect("no panic").push(event)),
            is_used: None,
        };
        let (kernel, later) = Kernel::start(config, queues, pool, hooks).await?;
        let rig = Rig {
            kernel,
            punt,
            inject,
            resolve,
            fib,
            links,
        };
        Ok((rig, later))
    }

    /// Gives the kernel a frame as a worker does.
    pub fn punt(&self, port: PortId, frame: &[u8]) {
        let pushed = self.punt.push((port, VecPacket::of(frame)));
        assert!(pushed.is_ok(), "the queue has room");
    }

    /// The next frame of the kernel that `wanted` likes.
    pub async fn injected(&self, what: &str, wanted: impl Fn(PortId, &[u8]) -> bool) -> Vec<u8> {
        let take = || {
            std::iter::from_fn(|| self.inject.pop())
                .find(|(port, packet)| wanted(*port, packet.data()))
                .map(|(_, packet)| packet.data().to_vec())
        };
        eventually(what, take).await
    }

    pub fn lookup(&self, destination: [u8; 4]) -> Option<NextHop> {
        self.lookup_in(VrfId::GLOBAL, destination)
    }

    pub fn lookup_in(&self, vrf: VrfId, destination: [u8; 4]) -> Option<NextHop> {
        let fib = self.fib.lock().expect("no panic");
        fib.lookup(vrf, destination.into())
    }

    /// Runs `ip ARGUMENTS` in the kernel of a VRF.
    pub fn ip_in(&self, vrf: VrfId, arguments: &str) -> String {
        let space = self.kernel.spaces().of(vrf).expect("a VRF that is there");
        space.enter(|| ip(arguments)).expect("root may do this")
    }

    pub fn routes(&self) -> Vec<(String, Route)> {
        let fib = self.fib.lock().expect("no panic");
        fib.routes(VrfId::GLOBAL)
            .map(|(p, r)| (p.to_string(), r))
            .collect()
    }

    pub fn neighbour(&self, port: PortId, address: [u8; 4]) -> Option<Neighbour> {
        let address = address.into();
        let fib = self.fib.lock().expect("no panic");
        Some(fib.neighbour(NextHop { port, address })?.1)
    }

    pub fn count(&self, name: &str) -> u64 {
        let stats = self.kernel.stats().each();
        let found = stats.iter().find(|(n, _, _)| *n == name);
        found.expect("a counter of this name").2
    }
}

/// Waits until `ready` gives something; fails the test when it takes too long.
pub async fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    for _ in 0..4000 {
        if let Some(value) = ready() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

/// An ARP request or reply for IPv4 over Ethernet (RFC 826), padded as on the wire.
pub fn arp(
    to: [u8; 6],
    operation: u8,
    sender: ([u8; 6], [u8; 4]),
    target: ([u8; 6], [u8; 4]),
) -> Vec<u8> {
    let mut frame = [
        &to[..],
        &sender.0,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
        &sender.0,
        &sender.1,
        &target.0,
        &target.1,
    ]
    .concat();
    frame.resize(60, 0);
    frame
}

pub fn arp_request(sender: ([u8; 6], [u8; 4]), target: [u8; 4]) -> Vec<u8> {
    arp([0xff; 6], 1, sender, ([0; 6], target))
}

/// Whether the frame is an ARP packet of this operation about this target address.
pub fn is_arp(frame: &[u8], operation: u8, sender: [u8; 4], target: [u8; 4]) -> bool {
    frame.len() >= 42
        && frame[12..14] == [8, 6]
        && frame[21] == operation
        && frame[28..32] == sender
        && frame[38..42] == target
}

/// An ICMP echo request in an Ethernet frame.
pub fn ping(to: [u8; 6], source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    icmp.extend_from_slice(b"spillway");
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = (20 + icmp.len()) as u16;
    let mut header = vec![0x45, 0];
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&[0, 1, 0, 0, 64, 1, 0, 0]);
    header.extend_from_slice(&source);
    header.extend_from_slice(&destination);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&to[..], &HOST_MAC, &[8, 0], &header, &icmp].concat()
}

/// Whether the frame is an ICMP echo reply between these.
pub fn is_echo_reply(frame: &[u8], source: [u8; 4], destination: [u8; 4]) -> bool {
    frame.len() >= 42
        && frame[12..14] == [8, 0]
        && frame[23] == 1
        && frame[26..30] == source
        && frame[30..34] == destination
        && frame[34] == 0
}

/// The Internet checksum (RFC 1071).
fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// The whole address as octets, for messages.
pub fn octets(address: &str) -> [u8; 4] {
    address.parse::<Ipv4Addr>().expect("an address").octets()
}
