"""Twice NAT between two networks with the same addresses, and connections that inside hosts share, by real hosts.

Behind `hop` lies 10.1.0.0/24 once more: `far` is 10.1.0.11 and 10.1.0.12 there, as the two hosts inside are here.
"""

import collections
import contextlib
import select
import threading
import time

from case import Case, expect, wait_until
from lab import traffic
from lab.topology import IN1, IN2, OUT, OUTSIDE_ADDRESS

LOCAL = "172.16.0.11"
IN2_OUTSIDE = "198.51.100.12"
SHARED, THIRD = "198.51.100.100", "10.1.0.13"
_OUTSIDE = f"""ip nat outside source static {IN1} {LOCAL}
ip nat outside source list 2 pool L
"""
_EXTRA = f"""ip nat pool L 172.16.1.1 172.16.1.9 prefix-length 24
access-list 2 permit 10.1.0.0 0.0.0.255
ip nat inside source static {IN2} {IN2_OUTSIDE}
ip route 172.16.0.0 255.255.254.0 198.51.100.3
"""


class Twice(Case):
    """Hosts inside know those outside as 172.16.0.0/23, and are 198.51.100.0/24 to them."""

    kernel = None
    far = True
    extra = _EXTRA + _OUTSIDE

    def prepare(self):
        self.hop.ip("addr add 10.1.0.1/24 dev below")
        self.far_host.ip(f"addr add {IN1}/24 dev eth0", f"addr add {IN2}/24 dev eth0")

    def _echo(self, client, server, address, port, source=""):
        """What a server says of its client, over TCP: the client's address as the server sees it."""
        with server.listen(port) as listener:
            seen = []

            def serve():
                made, peer = listener.accept()
                with made:
                    seen.append(peer[0])
                    made.sendall(made.recv(100)[::-1])
            thread = threading.Thread(target=serve)
            thread.start()
            try:
                with client.socket() as s:
                    if source:
                        s.bind((source, 0))
                    s.connect((address, port))
                    s.sendall(b"spillway")
                    answer = s.recv(100)
            finally:
                thread.join(10)
            expect(answer == b"yawllips", f"the answer was {answer}")
            return seen[0]

    def test_two_hosts_with_one_address_talk(self):
        p = traffic.ping(self.in1, LOCAL, 50, 0.01)
        expect(p.lost == 0, f"{p}")
        seen = self._echo(self.in1, self.far_host, LOCAL, 7001)
        rows = self.device.cli("show", "ip", "nat", "translations", "tcp").splitlines()
        right = [row for row in rows if f"{LOCAL}:7001" in row and f"{IN1}:7001" in row]
        return expect(seen == "198.51.100.1" and len(right) == 1, f"seen as {seen}; {p}; {rows}")

    def test_a_transfer_finds_its_packet_size_over_a_narrow_link(self):
        with self.drops(allowed=("mtu_exceeded",)):
            up = traffic.transfer(self.in1, self.far_host, LOCAL, 4 << 20, True)
            down = traffic.transfer(self.in1, self.far_host, LOCAL, 4 << 20, False, port=5002)
        return f"up {up}, down {down}"

    def test_an_error_names_the_host_by_its_inside_address(self):
        with self.in1.udp(timeout=5) as s:
            s.connect((LOCAL, 9))
            s.send(b"?")
            try:
                s.recv(10)
            except ConnectionRefusedError:
                return "refused"
        raise AssertionError("the error did not reach the socket")

    def test_who_comes_in_gets_an_address_that_leads_back(self):
        # Both are 10.1.0.12 at home.
        seen = self._echo(self.far_host, self.in2, IN2_OUTSIDE, 7002, source=IN2)
        expect(seen.startswith("172.16.1."), f"seen as {seen}")
        back = self._echo(self.in2, self.far_host, seen, 7003)
        rows = self.device.cli("show", "ip", "nat", "translations").splitlines()
        row = [row for row in rows if row.split() == ["---", "---", "---", seen, IN2]]
        text = self.device.cli("show", "ip", "nat", "statistics")
        told = "-- Outside Source" in text and "access-list 2 pool L refcount 1" in text
        return expect(back == IN2_OUTSIDE and len(row) == 1 and told, f"{seen}, back as {back}; {rows}\n{text}")

    def test_a_reload_without_the_lines_ends_it_under_traffic(self):
        stop = threading.Event()
        sent = 0

        def send():
            nonlocal sent
            with self.in1.udp() as s:
                while not stop.is_set():
                    s.sendto(b"?", (LOCAL, 7004))
                    sent += 1
                    time.sleep(0.002)
        with self.far_host.udp(IN1, 7004, timeout=0.3) as server:
            thread = threading.Thread(target=send)
            self._echo(self.in1, self.far_host, LOCAL, 7005)  # an entry besides the one of `send`
            thread.start()
            try:
                expect(server.recvfrom(10)[1][0] == "198.51.100.1", "another sender")
                self.device.configure(self.config().replace(_OUTSIDE, ""))
                report = self.device.cli_json("reload")
                expect(report["withdrawn"] >= 2, f"reload: {report}")

                def silent():
                    try:
                        while True:
                            server.recvfrom(10)
                    except TimeoutError:
                        return True
                wait_until(silent, 10, "nothing arrives any more")
            finally:
                stop.set()
                thread.join(10)
        rows = self.device.cli("show", "ip", "nat", "translations").splitlines()
        left = [row for row in rows if IN1 in row.split()[-1]]
        self.device.configure(self.config())
        self.device.cli("reload")
        p = traffic.ping(self.in1, LOCAL, 10, 0.01)
        return expect(not left and p.lost == 0, f"{sent} sent, {report['withdrawn']} entries withdrawn; then {p}; left: {left}")


class Shared(Case):
    """TCP connections to 198.51.100.100 are shared by three hosts inside: the third is another address of `in2`."""

    kernel = None
    extra = f"""ip nat pool SERVERS {IN1} 10.1.0.13 prefix-length 24 type rotary
access-list 3 permit {SHARED}
ip nat inside destination list 3 pool SERVERS
"""

    def prepare(self):
        self.in2.ip(f"addr add {THIRD}/24 dev eth0")
        self.servers = {IN1: self.in1, IN2: self.in2, THIRD: self.in2}

    def test_each_server_gets_its_share_and_keeps_its_connections(self):
        count = 30
        listeners = [host.listen(80, address) for address, host in self.servers.items()]
        clients, made, served = [], [], collections.Counter()
        try:
            for _ in range(count):
                clients.append(self.out.connect(SHARED, 80))
            for listener in listeners:
                listener.settimeout(1)
                with contextlib.suppress(TimeoutError):
                    while True:
                        connection, _ = listener.accept()
                        made.append(connection)
            for connection in made:
                connection.sendall(connection.getsockname()[0].encode())
            # All at once, then each again: the answers come over the connection that was asked for.
            for client in clients:
                client.settimeout(5)
                served[client.recv(100).decode()] += 1
                client.sendall(b"x" * 5000)
            got = 0
            for connection in made:
                connection.settimeout(5)
                while (part := len(connection.recv(5000))):
                    got += part
                    if got % 5000 == 0:
                        break
        finally:
            for s in (*listeners, *clients, *made):
                s.close()
        wanted = dict.fromkeys(self.servers, count // 3)
        return expect(served == wanted and got == count * 5000, f"{dict(served)}, {got} octets")

    def test_a_transfer_through_a_shared_address(self):
        with self.drops():
            listeners = [host.listen(5001, address) for address, host in self.servers.items()]
            octets = bytes(range(256)) * 8192
            got = bytearray()

            def serve():
                ready, _, _ = select.select(listeners, [], [], 10)
                connection, _ = ready[0].accept()
                with connection:
                    while part := connection.recv(1 << 16):
                        got.extend(part)
            thread = threading.Thread(target=serve)
            thread.start()
            try:
                with self.out.connect(SHARED, 5001) as client:
                    client.sendall(octets)
                thread.join(30)
            finally:
                for listener in listeners:
                    listener.close()
        return expect(bytes(got) == octets, f"{len(got)} of {len(octets)} octets")

    def test_the_entries_say_what_they_are(self):
        with self.in1.listen(81), self.in2.listen(81), self.out.connect(SHARED, 81):
            rows = self.device.cli("show", "ip", "nat", "translations", "tcp", "verbose")
            text = self.device.cli("show", "ip", "nat", "statistics")
        right = f"tcp {SHARED}:81" in rows and "extended, destination" in rows
        return expect(right and "-- Inside Destination" in text and "access-list 3 pool SERVERS refcount" in text, f"{rows}\n{text}")

    def test_a_servers_own_connections_and_other_protocols_are_like_any(self):
        with self.out.listen(7005) as listener, self.in1.connect(OUT, 7005) as client:
            made, peer = listener.accept()
            with made:
                client.sendall(b"own")
                expect(made.recv(10) == b"own" and peer[0] == OUTSIDE_ADDRESS, f"seen as {peer}")
        with self.in1.udp(timeout=0.5, port=80) as server, self.out.udp() as client:
            client.sendto(b"?", (SHARED, 80))
            try:
                got = server.recvfrom(10)
            except TimeoutError:
                got = None
        p = traffic.ping(self.in2, OUT, 20, 0.01)
        return expect(got is None and p.lost == 0, f"UDP: {got}; {p}")

    def test_a_reload_without_the_line_ends_the_connections(self):
        with self.in1.listen(82), self.in2.listen(82):
            clients = [self.out.connect(SHARED, 82) for _ in range(6)]
            try:
                self.device.configure(self.config().replace("ip nat inside destination list 3 pool SERVERS\n", ""))
                report = self.device.cli_json("reload")
            finally:
                for client in clients:
                    client.close()
        self.device.configure(self.config())
        self.device.cli("reload")
        with self.in1.listen(83), self.in2.listen(83), self.out.connect(SHARED, 83):
            return expect(report["withdrawn"] >= 6, f"{report['withdrawn']} withdrawn, and shared again after the next reload")
