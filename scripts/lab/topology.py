"""The lab's networks:

    in1 10.1.0.11 --+                                           +-- out 198.51.100.2
                    +-- [inside] NAT device [outside] ----------+
    in2 10.1.0.12 --+   10.1.0.1            198.51.100.1        +-- hop 198.51.100.3 -- far 203.0.113.10
                                                                        (link of 1280 octets)
`hop` and `far` are there when asked for, and so are spokes: more hosts, each behind an interface of the
device of its own that has the host's role as name. Each host is a network namespace with one interface
`eth0`; the bridges of both networks are in the namespace `wire`.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

from . import guard
from .namespaces import Namespace

INSIDE_GATEWAY = "10.1.0.1"
OUTSIDE_ADDRESS = "198.51.100.1"
IN1, IN2 = "10.1.0.11", "10.1.0.12"
OUT, HOP, FAR = "198.51.100.2", "198.51.100.3", "203.0.113.10"
FAR_MTU = 1280
_OFFLOADS = "rx off tx off gso off tso off gro off".split()


def mac_of(address):
    """The MAC address that the lab's host at an IPv4 address has, as text."""
    return "02:00:" + ":".join(f"{int(b):02x}" for b in address.split("."))


class Host(Namespace):
    """A kernel host of the lab, or the place where the NAT device lives."""

    def __init__(self, lab, role, address=None):
        super().__init__(f"{lab.name}-{role}")
        self.lab, self.role, self.address = lab, role, address

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0, timeout=10.0):
        """A socket of this host."""
        with self.entered():
            made = socket.socket(family, kind, protocol)
        made.settimeout(timeout)
        return made

    def udp(self, address="", port=0, timeout=5.0):
        """A UDP socket of this host, bound."""
        made = self.socket(kind=socket.SOCK_DGRAM, timeout=timeout)
        made.bind((address, port))
        return made

    def connect(self, address, port, source_port=0, timeout=10.0):
        """A TCP connection from this host."""
        made = self.socket(timeout=timeout)
        try:
            if source_port:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(("", source_port))
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made

    def listen(self, port, address="", backlog=4096):
        """A listening TCP socket of this host."""
        made = self.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(backlog)
        return made

    def raw(self, interface="eth0", timeout=2.0):
        """An AF_PACKET socket that sends and receives whole frames of an interface."""
        made = self.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3), timeout)
        made.bind((interface, 0))
        return made

    def mac(self, interface="eth0"):
        """The MAC address of an interface, as 6 octets."""
        with self.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
            s.bind((interface, 0))
            return s.getsockname()[4]

    def neighbour(self, address, interface="eth0"):
        """The MAC address that a neighbour answers ARP with, as 6 octets."""
        self.call("ping", "-n", "-q", "-c", "1", "-W", "2", address, check=False)
        text = self.call("ip", "neigh", "show", address, "dev", interface)
        if "lladdr " not in text:
            raise RuntimeError(f"{self.role}: {address} does not answer ARP")
        return bytes.fromhex(text.split("lladdr ")[1].split()[0].replace(":", ""))

    def start(self, *words, log):
        """Starts a program on this host; its output goes to `log` in the lab's folder."""
        return self.spawn(*words, log=self.lab.path(log))


class Lab:
    """The networks of one run, and what runs in them. Use it in a `with` block."""

    def __init__(self, far=False, spokes=None):
        """`spokes` is role: (address with prefix length, default gateway or `None`)."""
        self.collected = guard.collect()
        self._guard = subprocess.Popen(
            [sys.executable, os.path.abspath(guard.__file__), str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.name = f"{guard.PREFIX}{self._guard.pid}"
        self.folder = f"{guard.FOLDER}/{self.name}"
        self.device = None
        self._kept = False
        self.far_side = far
        self.spokes = {role: (Host(self, role, address.split("/")[0]), address, gateway) for role, (address, gateway) in (spokes or {}).items()}
        try:
            os.makedirs(self.folder)
            os.chmod(self.folder, 0o755)
            with open(self.path("guard"), "w") as f:
                f.write(guard.start_time(self._guard.pid) or "")
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def path(self, name):
        """A file of this lab."""
        return f"{self.folder}/{name}"

    def close(self):
        """Takes everything away and waits until it is gone; a lab that is kept stays."""
        if self._kept:
            return
        if self.device is not None:
            self.device.stop(check=False)
            self.device = None
        if self._guard.stdin and not self._guard.stdin.closed:
            self._guard.stdin.close()
        try:
            self._guard.wait(30)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
            guard.take_away(self.name)

    def keep(self):
        """Leaves the lab running after this process ends; `demo end` ends it."""
        self._guard.stdin.write(b"keep\n")
        self._guard.stdin.close()
        self._kept = True

    @property
    def hosts(self):
        """The hosts with addresses, by role."""
        found = {"in1": self.in1, "in2": self.in2, "out": self.out}
        if self.far_side:
            found |= {"hop": self.hop, "far": self.far}
        return found | {role: host for role, (host, _, _) in self.spokes.items()}

    def _build(self):
        self.in1, self.in2 = Host(self, "in1", IN1), Host(self, "in2", IN2)
        self.out = Host(self, "out", OUT)
        spaces = [self.in1, self.in2, self.out]
        if self.far_side:
            self.hop, self.far = Host(self, "hop", HOP), Host(self, "far", FAR)
            spaces += [self.hop, self.far]
        self._build_networks(spaces + [host for host, _, _ in self.spokes.values()])
        for host, bridge, mask, gateway in ((self.in1, "brin", 24, INSIDE_GATEWAY), (self.in2, "brin", 24, INSIDE_GATEWAY),
                                            (self.out, "brout", 24, None)):
            self._connect(host, bridge)
            host.ip(f"addr add {host.address}/{mask} dev eth0", *([f"route add default via {gateway}"] if gateway else []))
        if self.far_side:
            self._build_far()
        for role, (host, address, gateway) in self.spokes.items():
            self._cable(host, "eth0", self.dev, role, mac=mac_of(host.address))
            host.ip(f"addr add {address} dev eth0", *([f"route add default via {gateway}"] if gateway else []))

    def _build_networks(self, hosts):
        """Makes the hosts' namespaces, the device's, and both networks with the device between them."""
        self.wire, self.dev = Host(self, "wire"), Host(self, "dev")
        for space in [self.wire, self.dev, *hosts]:
            space.create()
            # A test may cause errors faster than a host would report them by default.
            space.sysctl("net.ipv4.icmp_ratelimit", 0)
            # Echo replies go to the socket that asked; a raw socket gets everybody's, and its buffer overflows.
            space.sysctl("net.ipv4.ping_group_range", "0 2147483647")
        for name in ("iptables", "ip6tables", "arptables"):
            # A kernel with bridge netfilter would reassemble fragments and drop malformed packets on the way.
            with contextlib.suppress(FileNotFoundError):
                self.wire.sysctl(f"net.bridge.bridge-nf-call-{name}", 0)
        self.wire.ip("link add brin type bridge mcast_snooping 0", "link set brin up",
                     "link add brout type bridge mcast_snooping 0", "link set brout up")
        self.plug("inside")
        self.plug("outside")

    def _connect(self, host, bridge):
        """Gives a host its interface on one of the networks."""
        self._cable(host, "eth0", self.wire, host.role, mac=mac_of(host.address))
        self.wire.ip(f"link set {host.role} master {bridge}")

    def _build_far(self):
        self._cable(self.hop, "eth0", self.wire, "hop")
        self.wire.ip("link set hop master brout")
        self._cable(self.hop, "below", self.far, "eth0")
        self.hop.ip(f"addr add {HOP}/24 dev eth0", "addr add 203.0.113.1/24 dev below", f"link set below mtu {FAR_MTU}")
        self.hop.sysctl("net.ipv4.ip_forward", 1)
        self.far.ip(f"addr add {FAR}/24 dev eth0", "route add default via 203.0.113.1")

    def plug(self, name):
        """Connects the device's interface `inside` or `outside` to its network (again)."""
        self._cable(self.dev, name, self.wire, f"n{name}")
        self.wire.ip(f"link set n{name} master {'brin' if name == 'inside' else 'brout'}")

    def unplug(self, name):
        """Deletes the device's interface."""
        self.dev.ip(f"link del {name}")

    def _cable(self, a, a_name, b, b_name, mac=None):
        a.ip(f"link add {a_name} {f'address {mac}' if mac else ''} type veth peer name {b_name} netns {b.name}")
        for end, name in ((a, a_name), (b, b_name)):
            # Checksums must be finished on the wire, and a frame be no larger than the MTU says.
            end.call("ethtool", "-K", name, *_OFFLOADS, check=False)
            end.ip(f"link set {name} up")


def end_on_signals():
    """SIGTERM and SIGHUP end this process as Ctrl-C does: with everything taken away."""
    def told(number, _):
        raise KeyboardInterrupt(signal.Signals(number).name)
    signal.signal(signal.SIGTERM, told)
    signal.signal(signal.SIGHUP, told)


def wait_until(condition, timeout_s, what, every_s=0.02):
    """Waits until `condition()` is true and returns what it returned."""
    end = time.monotonic() + timeout_s
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)
