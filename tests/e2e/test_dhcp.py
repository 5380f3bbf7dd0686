"""An outside address from a real DHCP server: given, renewed, and taken away."""

import re
import time

from case import Case, expect, wait_until
from lab import traffic
from lab.topology import OUT, OUTSIDE_ADDRESS


class Dhcp(Case):
    """The outside interface asks a dnsmasq on the outside host, which renews every few seconds."""

    lane = 2
    kernel = None

    def config(self):
        return super().config().replace(f"ip address {OUTSIDE_ADDRESS} 255.255.255.0", "ip address dhcp")

    def _serve(self, first, last):
        """Starts the server, in the place of the one before."""
        self._end_server()
        self.server = self.out.start(
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=", "--log-dhcp", "--dhcp-reply-delay=2",
            "--log-facility=-", f"--dhcp-leasefile={self.lab.path('leases')}", "--dhcp-authoritative", f"--dhcp-range={first},{last},255.255.255.0,5m",
            f"--dhcp-option=3,{OUT}", "--dhcp-option=58,5", "--dhcp-option=59,8", log="dhcp.log")

    def _end_server(self):
        if getattr(self, "server", None) is not None:
            self.server.kill()
            self.server.wait()
            self.server = None

    def _address(self):
        brief = self.device.cli_json("show", "ip", "interface", "brief")["interfaces"]
        return next((i["address"], i["method"]) for i in brief if i["name"] == "Outside")

    def _bound(self):
        """The address, which a server has given."""
        if getattr(self, "server", None) is None:
            self._serve("198.51.100.50", "198.51.100.59")
        wait_until(lambda: self._address()[0], 30, "an address from the server")
        return self._address()[0]

    def _seen_as(self):
        """Who the first inside host is to the outside host; `None` where nothing comes through."""
        with self.out.udp(port=7, timeout=2) as server, self.in1.udp(timeout=2) as client:
            client.sendto(b"?", (OUT, 7))
            try:
                return server.recvfrom(10)[1][0]
            except TimeoutError:
                return None

    def test_without_a_lease_nothing_passes_untranslated(self):
        return expect(self._address() == (None, "DHCP") and self._seen_as() is None, self._address())

    def test_a_server_gives_address_and_default_route(self):
        began = time.monotonic()
        address = self._bound()
        took = time.monotonic() - began
        expect(address.startswith("198.51.100.5") and self._seen_as() == address, f"{address}, seen as {self._seen_as()}")
        routes = self.device.cli_json("show", "ip", "route")["routes"]
        default = [r for r in routes if r["prefix"] == "0.0.0.0/0"]
        pings = traffic.ping(self.in1, OUT, 20, 0.02)
        ours = self.device.try_cli("exec", f"ping {OUT} repeat 3").returncode
        good = [(r["origin"], r["via"]) for r in default] == [("dhcp", OUT)] and pings.lost == 0 and ours == 0
        return expect(good, f"{address} after {took:.1f} s; default {default}; {pings.lost} of 20 pings lost; our own ping {ours}")

    def test_a_lease_is_renewed_and_nothing_notices(self):
        def acknowledged():
            with open(self.lab.path("dhcp.log")) as f:
                return len(re.findall(r"DHCPACK\(", f.read()))
        self._bound()
        before, running = acknowledged(), traffic.start_ping(self.in1, OUT, 150)
        wait_until(lambda: acknowledged() >= before + 2, 30, "two renewals")
        told = self.device.cli("reload")
        pings = traffic.end_ping(running)
        return expect(pings.lost == 0 and "0 entries withdrawn" in told, f"{acknowledged() - before} renewals, {pings.lost} pings lost; {told.strip()}")

    def test_another_address_takes_the_place_of_the_first(self):
        before = self._bound()
        expect(self._seen_as() == before, before)
        self._serve("198.51.100.70", "198.51.100.79")
        wait_until(lambda: (self._address()[0] or before) != before, 60, "another address")
        after = self._address()[0]
        wait_until(lambda: self._seen_as() == after, 10, "translation to the new address")
        rows = [r["inside_global"] for r in self.device.rows(self.device.cli_json("show", "ip", "nat", "translations"))]
        old = [r for r in rows if before in str(r)]
        log = [line for line in self.device.log().splitlines() if "DHCP" in line]
        return expect(after.startswith("198.51.100.7") and not old and len(log) >= 3, f"{before}, then {after}; entries of the first: {old}; log: {log}")

    def end(self, check=True):
        self._end_server()
        super().end(check)
