"""UDP through the translation."""

import socket

from case import Case, expect
from lab import traffic
from lab.frames import Seen
from lab.topology import OUT, OUTSIDE_ADDRESS

_SO_NO_CHECK = 11


class Flows(Case):
    def test_ten_thousand_flows_get_their_own_replies(self):
        ports = [7000, 7001, 7002, 7003, 7004]
        # Next hops are known before: nearly a hundred first packets at once are more than may wait for one.
        for host in (self.in1, self.in2):
            traffic.ping(host, OUT, 2)
        with traffic.UdpEcho(self.out, ports) as echo, self.drops():
            sockets = [h.udp(port=20000 + k) for h in (self.in1, self.in2) for k in range(1000)]
            try:
                made = traffic.udp_flows(sockets, [(OUT, p) for p in ports], seed=1)
                again = traffic.udp_flows(sockets, [(OUT, p) for p in ports], seed=2)
            finally:
                for s in sockets:
                    s.close()
        expect(again.right == again.flows, f"on the second round {again}")
        expect({a for a, _ in echo.peers} == {OUTSIDE_ADDRESS}, "the server saw an inside address")
        return expect(made.right == made.flows, f"{made}; and once more {again.seconds:.1f} s")


class Datagrams(Case):
    def test_one_source_port_on_both_hosts(self):
        with self.out.udp(port=7) as server, self.in1.udp(port=41000) as a, self.in2.udp(port=41000) as b:
            seen = []
            for k in range(20):
                for s, name in ((a, b"in1"), (b, b"in2")):
                    s.sendto(name, (OUT, 7))
                    data, peer = server.recvfrom(100)
                    expect(data == name, f"sent {name}, got {data}")
                    server.sendto(b"to " + name, peer)
                    expect(s.recv(100) == b"to " + name, "a reply went to the other host")
                    seen.append(peer)
        return expect(len(set(seen)) == 2, f"seen as {sorted(set(p for _, p in seen))}")

    def test_a_socket_keeps_its_outside_port_to_other_destinations(self):
        with traffic.UdpEcho(self.out, [7, 8, 9]) as echo, self.in1.udp(port=42000) as s:
            for port in (7, 8, 9):
                s.sendto(b"?", (OUT, port))
                s.recv(10)
        return expect(echo.peers == {(OUTSIDE_ADDRESS, 42000)}, f"seen as {sorted(echo.peers)}")

    def test_no_checksum_stays_no_checksum(self):
        # Only seen on the wire: a kernel that gets a datagram with a wrong checksum drops it, without one it takes it.
        with self.out.raw() as wire, self.out.udp(port=7) as server, self.in1.udp(port=43000) as client:
            sums = []
            for s in (client, server):
                s.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
            for _ in range(10):
                client.sendto(b"no sum", (OUT, 7))
                _, peer = server.recvfrom(100)
                server.sendto(b"none back", peer)
                client.recv(100)
            while len(sums) < 20:
                seen = Seen(wire.recv(2000))
                if seen.is_ipv4 and seen.protocol == 17:
                    sums.append(seen.udp_checksum())
        return expect(set(sums) == {0}, f"checksum field 0 in {sums.count(0)} of {len(sums)}")

    def test_every_small_length_arrives(self):
        with traffic.UdpEcho(self.out, [7]), self.in1.udp(port=44000) as client:
            for n in [*range(0, 70), 1471, 1472]:
                client.sendto(b"a" * n, (OUT, 7))
                expect(len(client.recv(2000)) == n, f"{n} octets came back as another length")
        return "72 lengths from 0 to 1472"

    def test_port_unreachable_reaches_the_socket(self):
        refused = 0
        for k in range(20):
            with self.in1.udp(port=45000 + k, timeout=2) as s:
                s.connect((OUT, 9999))
                s.send(b"anybody?")
                try:
                    s.recv(10)
                except ConnectionRefusedError:
                    refused += 1
                except TimeoutError:
                    pass
        return expect(refused == 20, f"{refused} of 20 sockets were told")


class FlowsOverTwoQueues(Flows):
    """The same with a queue for each worker."""
    workers, queues, kernel = (2,), 2, None
