"""Endpoint-independent mappings between real hosts (RFC 4787, RFC 5382)."""

import contextlib
import socket
import threading

from case import OVERLOAD, Case, expect
from lab.topology import IN1, OUT, OUTSIDE_ADDRESS

#: Another address of the host outside: a peer that nobody has spoken to.
STRANGER = "198.51.100.77"


class Stun:
    """Tells everybody who asks by which address and port it sees them, on each of several endpoints."""

    def __init__(self, host, endpoints):
        self._sockets = [host.udp(address, port, timeout=0.2) for address, port in endpoints]
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._serve, args=(s,)) for s in self._sockets]

    def _serve(self, s):
        while not self._done.is_set():
            with contextlib.suppress(TimeoutError):
                _, peer = s.recvfrom(100)
                s.sendto(f"{peer[0]}:{peer[1]}".encode(), peer)

    def __enter__(self):
        for t in self._threads:
            t.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        for t in self._threads:
            t.join()
        for s in self._sockets:
            s.close()


def seen(s, server):
    """How a server sees this socket."""
    s.sendto(b"who am I?", server)
    data, peer = s.recvfrom(100)
    expect(peer == server, f"{server} was asked and {peer} answered")
    address, port = data.decode().rsplit(":", 1)
    return address, int(port)


def gets(s, timeout=0.7):
    """What comes next, or `None`."""
    s.settimeout(timeout)
    try:
        return s.recvfrom(100)
    except TimeoutError:
        return None
    finally:
        s.settimeout(5)


class Mapping(Case):
    """Address-dependent filtering, which is what is meant where nothing is said."""
    nat, kernel = OVERLOAD + " endpoint-independent", None
    #: Whether a stranger and another port of a known peer get in.
    stranger, neighbour = False, True

    def prepare(self):
        self.out.call("ip", "address", "add", f"{STRANGER}/24", "dev", "eth0")

    def test_every_peer_sees_the_same_port(self):
        servers = [(a, p) for a in (OUT, STRANGER) for p in (3478, 3479, 3480)]
        views = {}
        with Stun(self.out, servers), self.in1.udp(port=41000) as a, self.in2.udp(port=41000) as b:
            for name, s in (("in1", a), ("in2", b)):
                views[name] = {seen(s, server) for server in servers}
        expect(all(len(v) == 1 for v in views.values()), f"seen as {views}")
        one, two = (v.pop() for v in views.values())
        return expect(one != two and one[0] == two[0] == OUTSIDE_ADDRESS, f"six peers see {one} and {two}")

    def test_who_gets_in_unasked(self):
        with Stun(self.out, [(OUT, 3478)]), self.in1.udp(port=42000) as s, \
                self.out.udp(OUT, 5000) as neighbour, self.out.udp(STRANGER, 5000) as stranger:
            mapped = seen(s, (OUT, 3478))
            got = []
            for sender, wanted in ((neighbour, self.neighbour), (stranger, self.stranger)):
                before = self.device.drops().get("filtered", 0)
                sender.sendto(b"unasked", mapped)
                heard = gets(s)
                filtered = self.device.drops().get("filtered", 0) - before
                expect((heard is not None, filtered) == (wanted, int(not wanted)), f"heard {heard}, {filtered} filtered")
                if heard:
                    s.sendto(b"hello", heard[1])
                    data, peer = sender.recvfrom(100)
                    expect((data, peer) == (b"hello", mapped), f"the answer came from {peer}")
                got.append("in" if heard else "out")
        return f"another port of the peer: {got[0]}, a stranger: {got[1]}"

    def test_two_inside_hosts_by_hairpin(self):
        with Stun(self.out, [(OUT, 3478)]), self.in1.udp(port=43000) as a, self.in2.udp(port=43000) as b:
            one, two = seen(a, (OUT, 3478)), seen(b, (OUT, 3478))
            a.sendto(b"punch", two)  # it may be lost: nothing was sent from there
            gets(b)
            heard = 0
            for k in range(10):
                for s, to, other, source in ((b, one, a, two), (a, two, b, one)):
                    s.sendto(b"%d" % k, to)
                    expect(other.recvfrom(100) == (b"%d" % k, source), "another source, or another datagram")
                    heard += 1
        return f"{one} and {two} heard each other {heard} times"

    def test_tcp_from_one_port_to_several_peers(self):
        seen_as = set()
        with self.out.listen(7001, OUT) as one, self.out.listen(7002, OUT) as two:
            for listener, port in ((one, 7001), (two, 7002)):
                # The other host has the port as well.
                for host in (self.in2, self.in1):
                    with host.connect(OUT, port, source_port=44000), contextlib.closing(listener.accept()[0]) as got:
                        seen_as.add((host.role, got.getpeername()[1]))
        return expect(len(seen_as) == 2 and len({p for _, p in seen_as}) == 2, f"seen as {sorted(seen_as)}")

    def test_a_mapping_is_shown_with_its_entries(self):
        self.device.cli("clear", "ip", "nat", "translation", "*")
        servers = [(OUT, 3478), (OUT, 3479)]
        with Stun(self.out, servers), self.in1.udp(port=45000) as s:
            for server in servers:
                seen(s, server)
        rows = [r for r in self.device.cli("show", "ip", "nat", "translations", "udp").splitlines() if f"{IN1}:45000" in r]
        mappings = [r for r in rows if r.split()[3:] == ["---", "---"]]
        expect(len(rows) == 3 and len(mappings) == 1, f"rows {rows}")
        document = self.device.cli_json("show", "ip", "nat", "translations")
        children = [r["children"] for r in self.device.rows(document) if "children" in r]
        return expect(children == [2], f"one mapping, its entries: {children}")


class Open(Mapping):
    """Endpoint-independent filtering."""
    nat = OVERLOAD + " endpoint-independent filtering endpoint-independent"
    stranger = True

    def test_a_connection_from_outside(self):
        with self.in1.listen(46000) as listener, self.out.listen(7003, OUT):
            # The listener's port gets its mapping by a connection that leaves from it.
            out = self.in1.socket()
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                out.setsockopt(socket.SOL_SOCKET, option, 1)
                listener.setsockopt(socket.SOL_SOCKET, option, 1)
            out.bind((IN1, 46000))
            out.connect((OUT, 7003))
            mapped = self._mapped("tcp", IN1, 46000)
            with self.out.connect(OUTSIDE_ADDRESS, mapped) as stranger:
                got, _ = listener.accept()
                with got:
                    got.sendall(b"come in")
                    data = stranger.recv(100)
            out.close()
        return expect(data == b"come in", f"port {mapped} of the appliance is {IN1}:46000, which says {data}")

    def _mapped(self, protocol, address, port):
        rows = self.device.rows(self.device.cli_json("show", "ip", "nat", "translations"))
        local = {"address": address, "port": port}
        return next(r["inside_global"]["port"] for r in rows if r["protocol"] == protocol and r["inside_local"] == local)

    def test_a_reload_of_the_filtering_keeps_the_mapping(self):
        with Stun(self.out, [(OUT, 3478)]), self.in1.udp(port=47000) as s, self.out.udp(STRANGER, 5001) as stranger:
            mapped = seen(s, (OUT, 3478))
            line = self.nat.replace("filtering endpoint-independent", "filtering address-and-port-dependent")
            self.device.configure(self.config().replace(self.nat, line))
            said = self.device.cli("reload")
            try:
                stranger.sendto(b"unasked", mapped)
                expect(gets(s) is None, "the stranger got in")
                expect(seen(s, (OUT, 3478)) == mapped, "another mapping")
            finally:
                self.device.configure(self.config())
                self.device.cli("reload")
            stranger.sendto(b"unasked", mapped)
            heard = gets(s)
        return expect(heard is not None, f"kept {mapped}: {said.strip().splitlines()[-1]}")


class Closed(Mapping):
    """Address-and-port-dependent filtering."""
    nat = OVERLOAD + " endpoint-independent filtering address-and-port-dependent"
    neighbour = False


class MappingOverTwoQueues(Mapping):
    """The same with a queue for each worker."""
    workers, queues = (2,), 2
