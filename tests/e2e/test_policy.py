"""Route maps and access groups on real traffic, and what `explain` and `debug` say of it."""

import os
import signal
import subprocess
import time

from case import Case, expect, wait_until
from lab import traffic
from lab.topology import IN1, IN2, OUT, OUTSIDE_ADDRESS

_NONAT = f"""access-list 120 deny udp host {IN1} host {OUT} eq 7
access-list 120 permit ip 10.1.0.0 0.0.0.255 any
route-map nonat permit 10
 match ip address 120
 match interface Outside
access-list 130 deny udp any host {OUT} eq 9
access-list 130 permit ip any any
"""


class Policy(Case):
    """The first inside host's UDP to port 7 is left alone, nobody's UDP to port 9 comes in."""

    kernel = None
    nat = "ip nat inside source route-map nonat interface Outside overload"
    extra = _NONAT
    inside = "ip access-group 130 in"

    def prepare(self):
        # What is not translated needs a way back.
        self.out.ip(f"route add 10.1.0.0/24 via {OUTSIDE_ADDRESS}")

    def _sources(self, port, host):
        """Who a host is to the outside host at a port."""
        with self.out.udp(port=port, timeout=5) as server, host.udp(timeout=5) as client:
            client.sendto(b"?", (OUT, port))
            return server.recvfrom(10)[1][0]

    def test_a_route_map_leaves_alone_what_it_denies(self):
        seen = (self._sources(7, self.in1), self._sources(8, self.in1), self._sources(7, self.in2))
        return expect(seen == (IN1, OUTSIDE_ADDRESS, OUTSIDE_ADDRESS), f"seen as {seen}")

    def test_an_access_group_drops_counts_and_tells(self):
        before = self.device.drops().get("access_list_in", 0)
        told = 0
        with self.in1.udp(timeout=3) as s:
            s.connect((OUT, 9))
            for _ in range(5):
                s.send(b"?")
                try:
                    s.recv(10)
                except OSError as e:
                    told += e.errno is not None
                time.sleep(0.05)
        dropped = self.device.drops().get("access_list_in", 0) - before
        lines = [line for line in self.device.cli("show", "access-lists", "130").splitlines() if "eq 9" in line or "discard" in line]
        return expect(dropped >= 5 and told > 0 and "(" in "".join(lines), f"{dropped} dropped, {told} of 5 were told; {lines}")

    def test_explain_says_what_then_happens(self):
        said = {}
        for to in (7, 8, 9):
            answer = self.device.cli_json("explain", "udp", f"{IN1}:40000", f"{OUT}:{to}")["answers"]
            expect(len(answer) == 1, f"answers: {answer}")
            said[to] = (answer[0]["verdict"], answer[0]["reason"], any("translated to" in s for s in answer[0]["steps"]))
        # The outside host has been talked to: its MAC address is known.
        return expect(said == {7: ("forwarded", None, False), 8: ("forwarded", None, True), 9: ("dropped", "access_list_in", False)}, said)

    def test_debug_tells_of_every_packet_while_somebody_listens(self):
        program, socket = self.device.program, self.device.socket
        debug = subprocess.Popen([program, "debug", "ip", "nat", "detailed", "--socket", socket], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, text=True)
        try:
            os.set_blocking(debug.stdout.fileno(), False)
            text = ""

            def pings_told():
                nonlocal text
                traffic.ping(self.in2, OUT, 2, 0.02)
                time.sleep(0.1)
                text += debug.stdout.read() or ""
                return f"s={IN2}->{OUTSIDE_ADDRESS}, d={OUT}" in text and f"s={OUT}, d={OUTSIDE_ADDRESS}->{IN2}" in text
            wait_until(pings_told, 10, "both directions of a ping in the debug output")
            expect(f"NAT: i: icmp ({IN2}" in text, f"no detailed line in {text[:400]}")
            self.device.cli("undebug", "all")
            ended = debug.wait(5)
        finally:
            if debug.poll() is None:
                debug.send_signal(signal.SIGINT)
                debug.wait(5)
        p = traffic.ping(self.in1, OUT, 50, 0.01)
        return expect(ended == 0 and p.lost == 0, f"{len(text.splitlines())} lines, `undebug all` ended it with status {ended}; then {p}")
