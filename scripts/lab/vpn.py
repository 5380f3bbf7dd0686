"""The VPN lab: clients behind the NAT device, all of one server, each a whole Linux kernel with ESP.

    c1 10.1.0.11 --+
    c2 10.1.0.12 --+-- [inside] NAT device [outside] -- server 198.51.100.2
    c3 10.1.0.13 --+   10.1.0.1            198.51.100.1

Client K has 172.16.K.1 inside its tunnel, the server 172.16.0.1. UDP encapsulation is off: what crosses the device is
IKE on UDP and native ESP, IP protocol 50.
"""

import contextlib
import os

from .topology import INSIDE_GATEWAY, OUT, OUTSIDE_ADDRESS, Host, Lab
from .vpn_endpoint import Client, Server
from .vpn_guest import root_folder
from .vpn_tap import Tap


class VpnLab(Lab):
    """A lab with VPN endpoints for hosts. The guests run when it is there."""

    def __init__(self, clients=3):
        root_folder()
        self._number = clients
        self.clients, self.server, self.taps = [], None, {}
        super().__init__()

    @property
    def hosts(self):
        """The namespaces of the guests, by role."""
        return {e.guest.name: e.guest.host for e in self.endpoints}

    @property
    def endpoints(self):
        """The server and the clients."""
        return ([self.server] if self.server else []) + self.clients

    def _build(self):
        hosts = [Host(self, f"c{k}", f"10.1.0.{10 + k}") for k in range(1, self._number + 1)]
        out = Host(self, "server", OUT)
        self._build_networks([*hosts, out])
        for host in hosts:
            self._connect(host, "brin")
        self._connect(out, "brout")
        self.server = Server(out, OUTSIDE_ADDRESS, self._number)
        self.clients = [Client(host, k, INSIDE_GATEWAY) for k, host in enumerate(hosts, 1)]
        for endpoint in self.endpoints:
            endpoint.guest.start()
        for endpoint in self.endpoints:
            endpoint.guest.wait_ready(90)

    def watch(self):
        """Begins to record what is on the wire on both sides of the device, `taps["inside"]` and `taps["outside"]`."""
        self.unwatch()
        self.taps = {side: Tap(self.wire, f"n{side}") for side in ("inside", "outside")}

    def unwatch(self):
        """Ends the recording; what was recorded stays until the next one."""
        for tap in self.taps.values():
            tap.stop()

    def quiet(self):
        """All endpoints forget their tunnels and stop IKE."""
        jobs = [e.begin_reset() for e in self.endpoints if e.guest.alive()]
        for job in jobs:
            job.end()

    def evidence(self, folder):
        """Puts into `folder` what is needed to find out why a tunnel did not work; returns the names of the files."""
        os.makedirs(folder, exist_ok=True)
        written = []

        def put(name, make):
            try:
                text = make()
            except Exception as e:  # evidence of a failure that is told already: what can't be had is said
                text = f"not to be had: {type(e).__name__}: {e}\n"
            with open(os.path.join(folder, name), "w") as f:
                f.write(text)
            written.append(name)
        for endpoint in self.endpoints:
            put(f"{endpoint.guest.name}.txt", endpoint.report)
        if self.device is not None and self.device.kind == "spillway":
            put("translations.txt", lambda: self.device.cli("show", "ip", "nat", "translations", "verbose"))
            put("statistics.txt", lambda: self.device.cli("show", "ip", "nat", "statistics"))
            put("stats.json", lambda: self.device.get("/stats")[2])
            put("spillway.log", self.device.log)
        for side, tap in self.taps.items():
            with contextlib.suppress(OSError):
                tap.save(os.path.join(folder, f"{side}.pcap"))
                written.append(f"{side}.pcap")
        return written

    def close(self):
        """Ends the recording, then as any lab."""
        if not self._kept:
            self.unwatch()
        super().close()
