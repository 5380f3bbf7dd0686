"""`spillway run` in the guest, on cards with vfio-pci; asked from the host through the guest's agent."""

import json
import time

from lab.devices import binary
from lab.report import Wrong, expect
from lab.topology import INSIDE_GATEWAY, OUTSIDE_ADDRESS, wait_until

LOG, CONFIG = "/run/metal/spillway.log", "/run/metal/spillway.conf"


def configuration(inside, outside, bus="pci"):
    """NAT overload between two cards, or devices of another bus."""
    return (f"hostname metal\n!\n"
            f"interface Inside\n port {bus} {inside}\n ip address {INSIDE_GATEWAY} 255.255.255.0\n ip nat inside\n!\n"
            f"interface Outside\n port {bus} {outside}\n ip address {OUTSIDE_ADDRESS} 255.255.255.0\n ip nat outside\n!\n"
            f"ip route 0.0.0.0 0.0.0.0 198.51.100.2\naccess-list 1 permit 10.1.0.0 0.0.0.255\n"
            f"ip nat inside source list 1 interface Outside overload\n")


class Appliance:
    """One Spillway after the other in a guest."""

    def __init__(self, guest):
        self.guest, self.program, self.pid = guest, binary(), None

    def command(self, workers, *options):
        """What a user types."""
        return [self.program, "run", "--config", CONFIG, "--workers", str(workers), "--idle", "sleep", "--sessions", "65536", *options]

    def start(self, config, workers, *options, timeout_s=60):
        """Starts it and waits until it is ready."""
        self.guest.write(CONFIG, config)
        self.guest.write(LOG, "")
        self.pid = self.guest.ask("start", words=self.command(workers, *options), log=LOG)["pid"]

        def ready():
            status = self.guest.ask("wait", pid=self.pid, timeout=0)["status"]
            if status is not None:
                self.pid = None
                raise Wrong(f"spillway ended with status {status} at start:\n{self.log()[-2000:]}")
            return " ready\n" in self.log()
        wait_until(ready, timeout_s, "spillway is ready", every_s=0.3)

    def refused(self, config, *options, workers=1):
        """Starts it where it must not start; what it says."""
        self.guest.write(CONFIG, config)
        done = self.guest.try_run("timeout", "40", *self.command(workers, *options))
        expect(done["status"] in (1, 2), f"status {done['status']}: {done['out']}{done['err']}")
        return done["out"] + done["err"]

    def stop(self, check=True):
        """SIGTERM; it must end by itself, cleanly."""
        if self.pid is None:
            return
        pid, self.pid = self.pid, None
        started = time.monotonic()
        self.guest.ask("signal", pid=pid, number=15)
        status = self.guest.ask("wait", pid=pid, timeout=20)["status"]
        if status is None:
            self.guest.ask("signal", pid=pid, number=9)
        if check:
            expect(status == 0, f"after SIGTERM: status {status}\n{self.log()[-1000:]}")
        return time.monotonic() - started

    def log(self):
        """All that it has logged since its start."""
        return self.guest.ask("read", path=LOG)["text"]

    def exec(self, *lines):
        """What `spillway exec` prints."""
        return self.guest.run(self.program, "exec", *lines)

    def ports(self):
        """The inside and the outside interface in `show interfaces --json`."""
        return json.loads(self.guest.run(self.program, "show", "interfaces", "--json"))["interfaces"]

    def stats(self):
        """GET /stats: drops by reason that are not 0, and counters of all workers, a dictionary each."""
        document = json.loads(self.guest.run("curl", "-s", "--max-time", "15", "http://127.0.0.1:9187/stats"))
        drops = {k: v for k, v in document["drops"]["by_reason"].items() if v}
        return drops, [w["counters"] for w in document["workers"]]
