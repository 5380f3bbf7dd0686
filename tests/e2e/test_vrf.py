"""Customers with one and the same network behind one appliance, each in a VRF."""

import json
import os
import re
import signal

from case import Case, expect, wait_until
from lab import traffic
from lab.devices import configuration
from lab.topology import IN1, OUT, OUTSIDE_ADDRESS

#: The address of both customers' hosts, and of the appliance towards them.
SAME, GATEWAY = "10.0.0.11", "10.0.0.1"
#: A host that both customers have, with a static; and one that only the second has.
SERVER, ONLY_BLUE = "10.0.0.13", "10.0.0.12"
GLOBALS = {"RED": "198.51.100.21", "BLUE": "198.51.100.22"}
PORTS = {"RED": 8001, "BLUE": 8002}


def interface(number, vrf, name, port, address=f"{GATEWAY} 255.255.255.0", side="inside"):
    """The lines of an interface."""
    forwarding = f" ip vrf forwarding {vrf}\n" if vrf else ""
    return (f"interface {name}\n port vdev net_af_packet{number},iface={port},framecnt=4096\n{forwarding}"
            f" ip address {address}\n ip nat {side}\n!\n")


def of_vrf(vrf):
    """The lines of a VRF."""
    return (f"ip nat inside source list 2 interface Outside vrf {vrf} overload\n"
            f"ip nat inside source static tcp {SAME} 80 {OUTSIDE_ADDRESS} {PORTS[vrf]} vrf {vrf}\n"
            f"ip nat inside source static {SERVER} {GLOBALS[vrf]} vrf {vrf}\n"
            f"ip route vrf {vrf} 0.0.0.0 0.0.0.0 {OUT} global\n")


def customers(first="RED", second="BLUE", vrfs=("RED", "BLUE")):
    """The lab's configuration with two customers, in these VRFs; `None` is the global table."""
    return configuration(extra="".join(f"ip vrf {vrf}\n!\n" for vrf in vrfs) + interface(2, first, "Customer1", "c1") + interface(3, second, "Customer2", "c2")
                         + "access-list 2 permit 10.0.0.0 0.0.0.255\n" + "".join(of_vrf(vrf) for vrf in vrfs))


class Vrf(Case):
    lane = 2
    kernel = None
    spokes = {"c1": (f"{SAME}/24", GATEWAY), "c2": (f"{SAME}/24", GATEWAY)}

    def config(self):
        return customers()

    def prepare(self):
        for host in (self.c1, self.c2):
            host.ip(f"addr add {SERVER}/24 dev eth0")
        self.c2.ip(f"addr add {ONLY_BLUE}/24 dev eth0")

    def _customers(self):
        return (("RED", self.c1), ("BLUE", self.c2))

    def _reload(self, text):
        self.device.configure(text)
        done = self.device.try_cli("reload")
        expect(done.returncode == 0, f"reload: {done.stderr or done.stdout}")
        return done.stdout + done.stderr

    def _reach(self, hosts):
        """Whether every host reaches the outside host."""
        lost = {h.role: traffic.ping(h, OUT, 20, 0.01).lost for h in hosts}
        expect(not any(lost.values()), f"pings lost of 20: {lost}")

    def test_pings_of_both_at_once(self):
        running = [traffic.start_ping(host, OUT, 300) for _, host in self._customers()] + [traffic.start_ping(self.in1, OUT, 300)]
        lost = [traffic.end_ping(p).lost for p in running]
        return expect(not any(lost), f"{lost} of 300 each lost, the third in the global table")

    def test_the_same_address_and_port_to_the_same_server_at_once(self):
        with self.out.listen(7777) as listener:
            listener.settimeout(5)
            open_ones, peers = [], set()
            try:
                for vrf, host in self._customers():
                    a = host.connect(OUT, 7777, source_port=41000, timeout=5)
                    b, peer = listener.accept()
                    b.settimeout(5)
                    open_ones.append((vrf.encode(), a, b))
                    peers.add(peer)
                expect(len(peers) == 2 and {p[0] for p in peers} == {OUTSIDE_ADDRESS}, f"the server saw {peers}")
                for _ in range(20):
                    for name, a, _ in open_ones:
                        a.sendall(name)
                    for name, _, b in open_ones:
                        got = b.recv(100)
                        expect(got == name, f"{got} came where {name} is")
                        b.sendall(b"for " + name)
                    for name, a, _ in open_ones:
                        got = a.recv(100)
                        expect(got == b"for " + name, f"{name} got {got}")
            finally:
                for _, a, b in open_ones:
                    a.close()
                    b.close()
        return f"both are {SAME}:41000, the server saw {' and '.join(f'{a}:{p}' for a, p in sorted(peers))}, 20 answers each"

    def test_udp_of_both(self):
        with traffic.UdpEcho(self.out, [7]):
            sockets = [host.udp(port=30000 + k) for k in range(200) for _, host in self._customers()]
            try:
                f = traffic.udp_flows(sockets, [(OUT, 7)])
            finally:
                for s in sockets:
                    s.close()
        return expect(f.right == f.flows, f)

    def test_tcp_carries_much_of_both(self):
        octets = (4 if self.options.quick else 32) << 20
        moved = [traffic.transfer(host, self.out, OUT, octets, upload) for _, host in self._customers() for upload in (True, False)]
        return expect(all(t.identical for t in moved), "; ".join(str(t) for t in moved))

    def test_statics_from_outside(self):
        seen = []
        for vrf, host in self._customers():
            for address, port, at in ((OUTSIDE_ADDRESS, PORTS[vrf], (SAME, 80)), (GLOBALS[vrf], 8443, (SERVER, 8443))):
                with host.listen(at[1], at[0]) as listener, self.out.connect(address, port, timeout=5) as a:
                    listener.settimeout(5)
                    b, peer = listener.accept()
                    with b:
                        b.settimeout(5)
                        b.sendall(vrf.encode())
                        expect(a.recv(10) == vrf.encode() and peer[0] == OUT, f"{address}:{port} answered otherwise, to {peer}")
                seen.append(f"{address}:{port}")
            p = traffic.ping(self.out, GLOBALS[vrf], 20)
            expect(p.lost == 0, f"ping of {GLOBALS[vrf]}: {p}")
        return f"{' '.join(seen)} answered in their VRFs"

    def test_the_appliance_answers_each_customer_on_its_address(self):
        running = {host.role: traffic.start_ping(host, GATEWAY, 100) for _, host in self._customers()}
        lost = {role: traffic.end_ping(p).lost for role, p in running.items()}
        return expect(not any(lost.values()), f"lost of 100: {lost}")

    def test_the_appliance_pings_hosts_in_a_vrf(self):
        def answers(vrf, to):
            return json.loads(self.device.try_cli("exec", f"ping vrf {vrf} {to}", json_output=True).stdout)["received"]
        only = {vrf: answers(vrf, ONLY_BLUE) for vrf in ("RED", "BLUE")}
        both = [answers(vrf, to) for vrf in ("RED", "BLUE") for to in (SAME, OUT, GATEWAY)]
        return expect(only == {"RED": 0, "BLUE": 5} and both == [5] * 6, f"{ONLY_BLUE} is in BLUE alone: {only}; others answered {both} of 5")

    def test_customers_do_not_reach_each_other_or_the_global_table(self):
        with self.c2.udp(address=ONLY_BLUE, port=9, timeout=1) as secret, self.in1.udp(port=9, timeout=1) as inside:
            for to in (ONLY_BLUE, IN1):
                expect(traffic.ping(self.c1, to, 3, 0.1).received == 0, f"c1 reached {to}")
                with self.c1.udp() as s:
                    s.sendto(b"?", (to, 9))
            expect(traffic.ping(self.in1, ONLY_BLUE, 3, 0.1).received == 0, f"in1 reached {ONLY_BLUE}")
            for socket in (secret, inside):
                try:
                    got = socket.recvfrom(10)
                except TimeoutError:
                    continue
                expect(False, f"{got} came from another table")
        return f"no packet of c1 came to {ONLY_BLUE} in BLUE or {IN1} in the global table"

    def test_show_and_explain_tell_the_vrf(self):
        self._reach((self.c1, self.c2))
        with traffic.UdpEcho(self.out, [7]):
            for port, (_, host) in zip((42001, 42002), self._customers()):
                with host.udp(port=port) as s:
                    s.sendto(b"?", (OUT, 7))
                    s.recv(10)
        red = self.device.cli("show", "ip", "nat", "translations", "udp", "verbose", "vrf", "RED")
        rows = self.device.rows(self.device.cli_json("show", "ip", "nat", "translations", "udp", "vrf", "RED"))
        text = f"{SAME}:42001" in red and "42002" not in red and "VRF : RED" in red and "BLUE" not in red
        expect(text and rows and {r["vrf"] for r in rows} == {"RED"}, f"{red}{rows}")
        said = {}
        for vrf in ("RED", "BLUE"):
            answers = self.device.cli_json("explain", "udp", f"{SAME}:42001", f"{OUT}:7", "vrf", vrf)["answers"]
            expect(answers and {a["verdict"] for a in answers} == {"forwarded"}, f"explain: {answers}")
            said[vrf] = any("no entry yet" not in " ".join(a["steps"]) for a in answers)
        # 42001 is the port of the first customer's host alone.
        expect(said == {"RED": True, "BLUE": False}, f"explain finds an entry: {said}")
        route = self.device.cli("show", "ip", "route", "vrf", "RED")
        expect(re.search(rf"0\.0\.0\.0/0.* via {re.escape(OUT)}, Outside", route) and "Customer1" in route and "Customer2" not in route, route)
        return f"{len(rows)} rows of RED, none of BLUE; explain forwards in both"

    def test_an_interface_moves_to_another_vrf_and_back(self):
        # The second customer leaves BLUE: both can't be there.
        self._reload(customers(first="BLUE", second=None))
        self._reach([self.c1, self.in1])
        lost = [traffic.ping(host, GATEWAY, 20).lost for _, host in self._customers()]
        expect(not any(lost), f"the appliance does not answer where they are now: {lost}")
        expect(traffic.ping(self.in1, ONLY_BLUE, 20).lost == 0, "the second one is in the global table, but not reached there")
        with self.c1.udp(port=43001) as s, traffic.UdpEcho(self.out, [7]):
            s.sendto(b"?", (OUT, 7))
            s.recv(10)
        seen = {vrf: "43001" in self.device.cli("show", "ip", "nat", "translations", "udp", "vrf", vrf) for vrf in ("RED", "BLUE")}
        expect(seen == {"RED": False, "BLUE": True}, f"c1's entry is in {seen}")
        self._reload(customers())
        self._reach([self.c1, self.c2])
        lost = [traffic.ping(host, GATEWAY, 20).lost for _, host in self._customers()]
        return expect(not any(lost), f"RED to BLUE and back: translated, answered on {GATEWAY}, {lost} of 20 lost")

    def test_a_removed_vrf_takes_its_entries_and_comes_back(self):
        self._reach([self.c1, self.c2])
        running = traffic.start_ping(self.c1, OUT, 400, 0.01)
        self._reload(customers(second=None, vrfs=("RED",)))
        gone = traffic.ping(self.c2, OUT, 3, 0.1).received
        rows = self.device.rows(self.device.cli_json("show", "ip", "nat", "translations"))
        left = [r for r in rows if r["vrf"] not in (None, "RED")]
        self._reload(customers())
        p = traffic.end_ping(running)
        self._reach([self.c1, self.c2])
        return expect(gone == 0 and not left and p.lost == 0, f"BLUE went with its entries and came back; RED meanwhile: {p}")

    def _namespaces(self):
        """The network namespaces that the device holds open, as inode numbers."""
        found, folder = set(), f"/proc/{self.device.process.pid}/fd"
        for name in os.listdir(folder):
            try:
                target = os.readlink(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            found |= {target} if target.startswith("net:") else set()
        return found

    def test_a_killed_one_leaves_nothing_and_starts_again(self):
        before = self._namespaces()
        self.device.signal(signal.SIGKILL)
        self.device.process.wait(15)
        links = [line for line in self.dev.call("ip", "-o", "link").splitlines() if "sw-" in line]
        self.device.start()
        self._reach([self.c1, self.c2, self.in1])
        lost = [traffic.ping(host, GATEWAY, 20).lost for _, host in self._customers()]
        after = self._namespaces()
        return expect(not links and not any(lost) and len(before) == len(after) == 2, f"{len(before)} namespaces went, {len(after)} are new")


class OutsideInVrf(Case):
    """A customer with a provider of its own, who gives addresses by DHCP: all of it in the customer's VRF."""

    lane = 2
    kernel = None
    workers = (1,)
    far_address = "203.0.113.77"
    spokes = {"c1": (f"{SAME}/24", GATEWAY), "p1": ("192.0.2.2/24", None)}

    def config(self):
        return configuration(extra="ip vrf RED\n!\n" + interface(2, "RED", "Customer1", "c1") + interface(3, "RED", "Provider1", "p1", "dhcp", "outside")
                             + "access-list 2 permit 10.0.0.0 0.0.0.255\nip nat inside source list 2 interface Provider1 vrf RED overload\n")

    def prepare(self):
        self.p1.ip(f"addr add {self.far_address}/32 dev lo")
        self.p1.start("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=",
                      f"--dhcp-leasefile={self.lab.path('leases')}", "--dhcp-authoritative", "--dhcp-range=192.0.2.50,192.0.2.59,255.255.255.0,5m",
                      "--dhcp-option=3,192.0.2.2", log="dhcp.log")

    def test_the_router_of_the_lease_is_the_default_route_of_the_vrf(self):
        def address():
            brief = self.device.cli_json("show", "ip", "interface", "brief")["interfaces"]
            return next(i["address"] for i in brief if i["name"] == "Provider1")
        wait_until(address, 40, "an address from the server")
        p = traffic.ping(self.c1, self.far_address, 50)
        elsewhere = traffic.ping(self.in1, self.far_address, 3, 0.1).received
        with self.p1.udp(port=7) as server, self.c1.udp() as s:
            s.sendto(b"?", (self.far_address, 7))
            seen = server.recvfrom(10)[1][0]
        return expect(p.lost == 0 and seen == address() and not elsewhere, f"{p}, seen as {seen}, the global table has no such route")
