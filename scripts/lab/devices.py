"""The NAT devices that a lab can put between its networks: Spillway, or the Linux kernel."""

import http.client
import json
import os
import signal
import subprocess

from .namespaces import run
from .topology import INSIDE_GATEWAY, OUTSIDE_ADDRESS, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HTTP_PORT = 9187


def binary():
    """The `spillway` program: $SPILLWAY, or the newest one that cargo built."""
    if os.environ.get("SPILLWAY"):
        return os.path.abspath(os.environ["SPILLWAY"])
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    built = [p for p in (f"{target}/{kind}/spillway" for kind in ("release", "debug")) if os.path.exists(p)]
    if not built:
        raise FileNotFoundError("no spillway program: run `cargo build --release` first, or set SPILLWAY")
    return max(built, key=os.path.getmtime)


def configuration(extra="", inside="", outside="", nat="ip nat inside source list 1 interface Outside overload", queues=1):
    """A configuration for the lab; `inside` and `outside` are more lines of these interfaces, `queues` how many each port has.
    The ports' rings hold 4096 frames: on a busy machine a worker may be off its core for some milliseconds."""
    def lines(text):
        return "".join(f" {line.strip()}\n" for line in text.splitlines() if line.strip())
    ring = ",framecnt=4096" + (f",qpairs={queues}" if queues > 1 else "")
    return (f"hostname lab\n!\n"
            f"interface Inside\n port vdev net_af_packet0,iface=inside{ring}\n ip address {INSIDE_GATEWAY} 255.255.255.0\n"
            f" ip nat inside\n{lines(inside)}!\n"
            f"interface Outside\n port vdev net_af_packet1,iface=outside{ring}\n ip address {OUTSIDE_ADDRESS} 255.255.255.0\n"
            f" ip nat outside\n{lines(outside)}!\n"
            f"ip route 203.0.113.0 255.255.255.0 198.51.100.3\n"
            f"access-list 1 permit 10.1.0.0 0.0.0.255\n"
            f"{nat}\n{extra.strip()}\n")


class Spillway:
    """`spillway run` in the lab's device namespace."""

    kind = "spillway"

    def __init__(self, lab, config=None, workers=1, options=()):
        self.lab, self.workers, self.options = lab, workers, list(options)
        self.program = binary()
        self.config_file = lab.path("spillway.conf")
        self.socket = lab.path("spillway.sock")
        self.log_file = lab.path("spillway.log")
        self.process = None
        self.configure(configuration() if config is None else config)
        lab.device = self

    def configure(self, text):
        """Writes the configuration file; a running Spillway does not read it before `reload`."""
        with open(self.config_file, "w") as f:
            f.write(text)

    def command_line(self):
        """The command that `start` runs."""
        return ["ip", "netns", "exec", self.lab.dev.name, self.program, "run", "--config", self.config_file,
                "--socket", self.socket, "--http", f"127.0.0.1:{HTTP_PORT}", "--workers", str(self.workers),
                "--idle", "sleep", *self.options]

    def start(self, timeout_s=60):
        """Starts it and waits until it answers and both interfaces are up."""
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(self.command_line(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"spillway ended with status {self.process.returncode} at start:\n{self.log()[-3000:]}")
            return self.try_cli("show", "version").returncode == 0
        wait_until(ready, timeout_s, "spillway answers `show version`", every_s=0.1)
        return self

    def try_cli(self, *words, json_output=False, timeout=30):
        """Runs a client command; returns the finished process."""
        return subprocess.run([self.program, *words, *(["--json"] if json_output else []), "--socket", self.socket],
                              capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)

    def alone(self, *words):
        """Runs a command that needs no running appliance (`spi match`); returns what it prints."""
        return run(self.program, *words)

    def cli(self, *words):
        """Runs a client command (`show`, `arp`) and returns its text."""
        done = self.try_cli(*words)
        if done.returncode != 0:
            raise RuntimeError(f"spillway {' '.join(words)}: status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def cli_json(self, *words):
        """Runs a client command with `--json` and returns the parsed answer."""
        done = self.try_cli(*words, json_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"spillway {' '.join(words)} --json: status {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def get(self, path):
        """HTTP GET from the device's loopback; returns status, content type and text."""
        connection = http.client.HTTPConnection("127.0.0.1", HTTP_PORT, timeout=15)
        connection.sock = self.lab.dev.socket(timeout=15)
        connection.sock.connect(("127.0.0.1", HTTP_PORT))
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("content-type", ""), answer.read().decode()
        finally:
            connection.close()

    def stats(self):
        """The document that GET /stats gives."""
        status, _, text = self.get("/stats")
        if status != 200:
            raise RuntimeError(f"GET /stats: {status} {text[:200]}")
        return json.loads(text)

    def drops(self):
        """Dropped packets so far, by reason."""
        return self.stats()["drops"]["by_reason"]

    def counters(self):
        """What it counts besides drops, by name, all workers together."""
        workers = [w["counters"] for w in self.stats()["workers"]]
        return {name: sum(w[name] for w in workers) for name in workers[0]}

    @staticmethod
    def rows(document):
        """The entries in an answer of `show ip nat translations --json`."""
        return document["translations"]

    def cycles_per_packet(self):
        """A worker at a time: CPU cycles a packet in busy rounds, and how many packets these were."""
        return [(w["busy_cycles_per_packet"] or 0, w["counters"]["busy_packets"]) for w in self.stats()["workers"]]

    def log(self):
        """All that it has logged so far."""
        try:
            with open(self.log_file, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def alive(self):
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        """Sends it a signal."""
        self.process.send_signal(number)

    def stop(self, check=True, timeout_s=15):
        """SIGTERM, then waits; returns its status. With `check`, anything but a clean end is an error."""
        if self.process is None:
            return None
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
            if check:
                raise TimeoutError(f"spillway did not stop within {timeout_s} s of SIGTERM\n{self.log()[-2000:]}") from None
        self.process = None
        if check and status != 0:
            raise RuntimeError(f"spillway ended with status {status}\n{self.log()[-2000:]}")
        return status


class KernelNat:
    """The Linux kernel's masquerade, as a comparison and as a check on the tests themselves.

    `addresses` are more addresses of the outside interface, `rules` more nftables rules as pairs of
    chain (`dnat` before routing, `snat` after) and rule, `routes` more lines of `ip route add`.
    """

    kind = "kernel"

    def __init__(self, lab, addresses=(), rules=(), routes=(), masquerade=True):
        self.lab, self.workers = lab, 0
        self.addresses, self.rules, self.routes, self.masquerade = addresses, rules, routes, masquerade
        lab.device = self

    def start(self):
        dev = self.lab.dev
        dev.ip(f"addr add {INSIDE_GATEWAY}/24 dev inside", f"addr add {OUTSIDE_ADDRESS}/24 dev outside",
               *[f"addr add {a}/32 dev outside" for a in self.addresses],
               *(["route add 203.0.113.0/24 via 198.51.100.3"] if self.lab.far_side else []), *self.routes)
        dev.sysctl("net.ipv4.ip_forward", 1)
        chains = {"dnat": "type nat hook prerouting priority dstnat;", "snat": "type nat hook postrouting priority srcnat;"}
        rules = [*self.rules, *([("snat", 'oifname "outside" masquerade')] if self.masquerade else [])]
        dev.nft("table ip lab {\n" + "".join(
            f" chain at_{name} {{ {hook}\n" + "".join(f"  {rule}\n" for chain, rule in rules if chain == name) + " }\n"
            for name, hook in chains.items()) + "}\n")
        return self

    def alive(self):
        """Always."""
        return True

    def log(self):
        """Nothing."""
        return ""

    def stop(self, check=True):
        """Takes the rules and addresses away."""
        dev = self.lab.dev
        dev.call("nft", "flush", "ruleset", check=False)
        dev.sysctl("net.ipv4.ip_forward", 0)
        for name in ("inside", "outside"):
            dev.call("ip", "addr", "flush", "dev", name, check=False)
        return 0


def translations_in_kernel(lab):
    """How many connections the kernel tracks in the device's namespace."""
    with lab.dev.entered(), open("/proc/sys/net/netfilter/nf_conntrack_count") as f:
        return int(f.read())


