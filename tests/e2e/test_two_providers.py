"""Two providers, told apart by route maps with `match interface`: `docs/two-providers.md`."""

import contextlib
import select
import time

from case import Case, expect, wait_until
from lab import traffic
from lab.devices import configuration
from lab.topology import IN1, IN2, OUT, OUTSIDE_ADDRESS

#: The second provider's host and our address there.
P2, ADDRESS2 = "192.0.2.2", "192.0.2.1"
GLOBAL1, GLOBAL2 = "198.51.100.9", "192.0.2.9"
#: A server that both lead to, preferably the second.
FAR = "172.16.7.7"


class TwoProviders(Case):
    kernel = None
    spokes = {"p2": (f"{P2}/24", None)}

    def config(self):
        return configuration(nat="ip nat inside source route-map ONE interface Outside overload", extra=(
            "interface Two\n port vdev net_af_packet2,iface=p2,framecnt=4096\n"
            f" ip address {ADDRESS2} 255.255.255.0\n ip nat outside\n!\n"
            "route-map ONE permit 10\n match ip address 1\n match interface Outside\n"
            "route-map TWO permit 10\n match ip address 1\n match interface Two\n"
            "ip nat inside source route-map TWO interface Two overload\n"
            f"ip nat inside source static {IN2} {GLOBAL1} route-map ONE\n"
            f"ip nat inside source static {IN2} {GLOBAL2} route-map TWO\n"
            f"ip route 172.16.7.0 255.255.255.0 {OUT} 200\nip route 172.16.7.0 255.255.255.0 {P2}\n"
            f"ip route 172.16.8.0 255.255.255.0 {OUT} 255\nip route 172.16.9.0 255.255.255.0 9.9.9.9\n"))

    def _seen(self, host, server, address):
        with server.udp(port=7, timeout=5) as s, host.udp(port=40000, timeout=5) as c:
            c.sendto(b"?", (address, 7))
            data, peer = s.recvfrom(10)
            s.sendto(data, peer)
            expect(c.recvfrom(10) == (b"?", (address, 7)), "the answer did not come back")
            return peer[0]

    def test_what_leaves_by_a_provider_has_an_address_of_that_provider(self):
        seen = [self._seen(self.in1, server, address) for server, address in ((self.out, OUT), (self.p2, P2)) * 2]
        return expect(seen == [OUTSIDE_ADDRESS, ADDRESS2] * 2, f"one socket of {IN1} is seen as {' and '.join(seen[:2])}")

    def test_a_host_has_a_static_with_each(self):
        seen = [self._seen(self.in2, server, address) for server, address in ((self.out, OUT), (self.p2, P2))]
        lost = [traffic.ping(server, to, 50).lost for server, to in ((self.out, GLOBAL1), (self.p2, GLOBAL2))]
        return expect(seen == [GLOBAL1, GLOBAL2] and not any(lost), f"seen as {' and '.join(seen)}; asked there from outside, {lost} of 50 lost")

    def test_tcp_of_one_host_by_both_at_once(self):
        with traffic.TcpEcho(self.out, 7), traffic.TcpEcho(self.p2, 7), \
                self.in1.connect(OUT, 7, source_port=42000) as a, self.in1.connect(P2, 7, source_port=42000) as b:
            for k in range(50):
                for name, c in ((b"one", a), (b"two", b)):
                    c.sendall(name + b" %d" % k)
                    expect(c.recv(100) == name + b" %d" % k, "another answer")
        return "50 answers by each, from one port of one host"

    def test_a_route_with_distance_255_is_never_used(self):
        def shown():
            return [(r["via"], r["origin"]) for r in self.device.cli_json("show", "ip", "route")["routes"] if r["prefix"] == "172.16.8.0/24"]
        expect(not shown(), f"{shown()}")
        # The kernel's own one by the same router is not the configuration's.
        self.dev.ip(f"route add 172.16.8.0/24 via {OUT}")
        wait_until(shown, 5, "the kernel's route is there")
        expect(shown() == [(OUT, "kernel")], f"{shown()}")
        self.dev.ip(f"route del 172.16.8.0/24 via {OUT}")
        return "neither taken nor shown as the one of the kernel's by the same router"

    def test_a_router_that_is_nowhere_is_told_of_and_not_tried_again(self):
        def told():
            with open(self.device.log_file) as log:
                return sum("next hop 9.9.9.9" in line for line in log)
        wait_until(told, 5, "it is told of")
        # Each change of a link tells the kernel anew.
        for change in ("down", "up"):
            before = told()
            self.p2.ip(f"link set eth0 {change}")
            wait_until(lambda before=before: told() > before, 5, f"it is told of again, link {change}")
        before = told()
        time.sleep(3)
        expect(told() == before, f"told {told()} times, {before} of them 3 s ago, and nothing has changed")
        return f"told {before} times, none of them in 3 s without a change"

    def test_no_keepalive_keeps_an_interface_up_without_a_link(self):
        def two():
            """Whether it is up, and the router of the route that both have."""
            port, = [p for p in self.device.cli_json("show", "interfaces")["interfaces"] if p["name"] == "Two"]
            via, = [r["via"] for r in self.device.cli_json("show", "ip", "route")["routes"] if r["prefix"] == "172.16.7.0/24"]
            return port["up"], via

        def becomes(*expected):
            wait_until(lambda: two() == expected, 5, f"up and router are {expected}", every_s=0.1)
        becomes(True, P2)
        self.device.cli("exec", "configure terminal", "interface Two", "no keepalive")
        try:
            self.p2.ip("link set eth0 down")
            wait_until(lambda: "NO-CARRIER" in self.dev.ip("link show dev p2"), 5, "the link is gone")
            # It is looked at once a second, whatever netlink tells.
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                expect(two() == (True, P2), f"up and router are {two()} without a link")
                time.sleep(0.1)
            self.device.cli("exec", "configure terminal", "interface Two", "keepalive")
            becomes(False, OUT)
        finally:
            self.p2.ip("link set eth0 up")
        becomes(True, P2)
        return "up without a link, down once it counts again"

    def test_the_other_takes_over_while_a_link_is_gone(self):
        servers = []
        for host in (self.out, self.p2):
            host.ip(f"addr add {FAR}/32 dev lo")
            servers.append(host.udp(FAR, 7))
        client = self.in1.udp(port=43000)

        def seen():
            """The address from which the server sees one and the same socket of the client."""
            client.sendto(b"?", (FAR, 7))
            ready, _, _ = select.select(servers, [], [], 0.2)
            return {server.recvfrom(10)[1][0] for server in ready} or None

        def route():
            routes = self.device.cli_json("show", "ip", "route")["routes"]
            return next((r["via"], r["distance"]) for r in routes if r["prefix"] == "172.16.7.0/24")

        with contextlib.ExitStack() as stack:
            for s in (*servers, client):
                stack.enter_context(s)
            took = []
            for change, address, way in ((None, ADDRESS2, (P2, 1)), ("down", OUTSIDE_ADDRESS, (OUT, 200)), ("up", ADDRESS2, (P2, 1))):
                if change:
                    self.p2.ip(f"link set eth0 {change}")
                began = time.monotonic()
                wait_until(lambda address=address: seen() == {address}, 10, f"seen as {address}, link {change}")
                took.append(time.monotonic() - began)
                expect(route() == way, f"the route is {route()}, not {way}")
        return f"one socket is seen as {ADDRESS2}, without that link as {OUTSIDE_ADDRESS} after {took[1] * 1000:.0f} ms, with it again as before after {took[2] * 1000:.0f} ms"
