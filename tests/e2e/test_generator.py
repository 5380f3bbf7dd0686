"""Packets of a generator: testpmd, with the scripts of `perf/pktgen`, over memif ports."""

import contextlib
import os
import re
import signal

from case import ROOT, Case, expect, wait_until

PKTGEN = os.path.join(ROOT, "perf", "pktgen")
#: Flows of `testpmd-source`.
FLOWS = 256
#: Packets in a ring of memif.
RING = 1024
INSIDE_MAC, OUTSIDE_MAC, ROUTER_MAC = (f"02:00:00:00:00:0{n}" for n in (1, 2, 3))


class Generator(Case):
    kernel = None

    def config(self):
        def port(n, name, mac):
            return f"net_memif{n},role=server,id={n},socket={self.lab.path(name)},socket-abstract=no,mac={mac}"
        return (f"hostname lab\n"
                f"interface Inside\n port vdev {port(0, 'in.sock', INSIDE_MAC)}\n ip address 10.0.0.1 255.0.0.0\n ip nat inside\n"
                f"interface Outside\n port vdev {port(1, 'out.sock', OUTSIDE_MAC)}\n ip address 198.51.100.1 255.255.255.0\n ip nat outside\n"
                f"access-list 1 permit 10.0.0.0 0.255.255.255\nip nat inside source list 1 interface Outside overload\n"
                f"ip route 0.0.0.0 0.0.0.0 198.51.100.2\nip route 10.99.0.1 255.255.255.255 198.51.100.2\n")

    def _ports(self):
        return self.device.cli_json("show", "interfaces")["interfaces"]

    @contextlib.contextmanager
    def _testpmd(self, host, script, *words):
        """Runs a script of `perf/pktgen`; yields a function that ends it and returns what it counted last."""
        log = self.lab.path(f"{script}.log")
        # Without large pages, which the machine need not have.
        environment = {**os.environ, "EAL": "--no-huge -m 64 --no-shconf --no-telemetry", "TESTPMD": "--total-num-mbufs=8192", "SECONDS_LONG": "60"}
        host.spawn(os.path.join(PKTGEN, script), *words, log=log, env=environment)

        def generators():
            """The script's testpmd; the shell in front of it may take longer to go (the kernel's /proc keeps it now and then)."""
            found = []
            for pid in host.processes():
                with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as name:
                    if name.read().strip() == "dpdk-testpmd":
                        found.append(pid)
            return found

        def end():
            for number in (signal.SIGINT, signal.SIGKILL):
                for pid in host.processes():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                # Its memif driver sometimes waits for itself at the end.
                with contextlib.suppress(TimeoutError):
                    wait_until(lambda: not generators(), 5, f"{script} ends", every_s=0.05)
                    break
            expect(not generators(), f"{script} does not end")
            with open(log, errors="replace") as file:
                text = file.read()
            counted = {way: re.findall(rf"{way}-packets: *(\d+)", text) for way in ("RX", "TX")}
            expect(counted["RX"], f"{script} counted nothing: {text[-600:]}")
            return {way: int(numbers[-1]) for way, numbers in counted.items()}
        try:
            yield end
        finally:
            if generators():
                end()

    def test_flows_of_testpmd_are_translated(self):
        def client(name, n):
            return f"net_memif0,role=client,id={n},socket={self.lab.path(name)},socket-abstract=no"

        def links(*expected):
            wait_until(lambda: [p["link_up"] for p in self._ports()] == list(expected), 20, f"links are {expected}", every_s=0.2)
        links(False, False)
        with self._testpmd(self.out, "testpmd-sink", client("out.sock", 1)) as end_sink:
            links(False, True)
            # A generator answers no ARP.
            self.dev.ip(f"neigh replace 198.51.100.2 lladdr {ROUTER_MAC} dev sw-Outside nud permanent")
            wait_until(lambda: "10.99.0.1/32" in self.device.cli("show", "ip", "route"), 10, "the route is there", every_s=0.2)
            with self._testpmd(self.in1, "testpmd-source", client("in.sock", 0), INSIDE_MAC) as end_source:
                links(True, True)
                wait_until(lambda: self.device.counters()["hits"] > 20_000, 30, "packets are translated", every_s=0.3)
                sent = end_source()["TX"]
            links(False, True)
            seen = []

            def quiet():
                seen.append([(p["rx_packets"], p["tx_packets"]) for p in self._ports()])
                return len(seen) > 1 and seen[-1] == seen[-2]
            wait_until(quiet, 10, "counters stand", every_s=1.2)
            got = end_sink()["RX"]
        (came, _), (_, left) = seen[-1]
        entries = len(self.device.rows(self.device.cli_json("show", "ip", "nat", "translations")))
        dropped = {reason: n for reason, n in self.device.drops().items() if n}
        expect(entries == FLOWS, f"{entries} entries, {dropped}")
        # Testpmd sends as fast as it can, and from before its link is seen on.
        lost = sum(dropped.values())
        expect(set(dropped) <= {"transmit_full", "handoff_full", "port_down"}, f"{dropped}")
        expect(came == left + lost, f"{came} came, {left} left, {dropped} were dropped")
        # What lies in the ring when the generator ends goes with it.
        expect(came <= sent <= came + RING, f"{sent} sent, {came} came")
        expect(got == left, f"{left} left, {got} arrived")
        return f"{entries} flows, {came} packets came, {left} left, dropped: {dropped or 'none'}"
