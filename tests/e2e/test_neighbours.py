"""Next hops: found when needed, followed when they change, told when they are not there."""

import socket

from case import Case, expect, spillway_only
from lab import traffic
from lab.frames import Seen
from lab.topology import OUT

_IP_RECVERR = 11


class Neighbours(Case):
    lane = 2

    def _forget(self):
        for host in (self.dev, self.in1, self.in2, self.out):
            host.call("ip", "neigh", "flush", "all", check=False)

    def test_the_first_packets_to_an_unknown_next_hop_are_not_lost(self):
        rounds, lost = 10, 0
        with traffic.UdpEcho(self.out, [7]), self.in1.udp(port=48000, timeout=3) as s:
            for k in range(rounds):
                self._forget()
                for n in range(3):
                    s.sendto(b"%d %d" % (k, n), (OUT, 7))
                for n in range(3):
                    try:
                        s.recv(100)
                    except TimeoutError:
                        lost += 1
        return expect(lost == 0, f"{lost} of {3 * rounds} lost, {rounds} times with nothing known")

    @spillway_only  # the kernel drops what waits for a neighbour that it forgets
    def test_pings_go_on_while_neighbours_are_forgotten(self):
        running = traffic.start_ping(self.in1, OUT, 500, 0.004)
        for _ in range(5):
            self.dev.call("ip", "neigh", "flush", "all", check=False)
            traffic.ping(self.in2, OUT, 10, 0.02)
        p = traffic.end_ping(running)
        return expect(p.lost == 0, p)

    def test_a_next_hop_that_is_not_there_is_told(self):
        with self.in1.udp(timeout=10) as s:
            s.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            s.connect(("198.51.100.77", 7))
            s.send(b"?")
            try:
                got = repr(s.recv(10))
            except OSError as e:
                got = e.strerror or type(e).__name__
        return expect(got == "No route to host", got)

    def _new_mac(self, host, mac, peer, address):
        traffic.ping(peer, address, 3)
        gateway = host.call("ip", "route", "show", "default").split()
        host.ip("link set eth0 down", f"link set eth0 address {mac}", "link set eth0 up",
                *([f"route add default via {gateway[2]}"] if gateway else []))
        return traffic.ping(host, OUT if host is not self.out else "198.51.100.1", 1), traffic.ping(peer, address, 200)

    def test_an_inside_host_that_changes_its_mac(self):
        _, p = self._new_mac(self.in1, "02:00:00:00:00:a1", self.in1, OUT)
        return expect(p.lost == 0, f"after one packet from the new address {p}")

    def test_an_outside_host_that_changes_its_mac(self):
        _, p = self._new_mac(self.out, "02:00:00:00:00:a2", self.in2, OUT)
        return expect(p.lost == 0, f"after one packet from the new address {p}")

    def test_frames_go_to_the_mac_that_the_host_has_now(self):
        self.out.ip("link set eth0 down", "link set eth0 address 02:00:00:00:00:a3", "link set eth0 up")
        self.out.call("ping", "-c1", "-W2", "198.51.100.1", check=False)
        with self.out.raw() as wire:
            running = traffic.start_ping(self.in1, OUT, 5, 0.01)
            seen = None
            while seen is None or not (seen.is_ipv4 and seen.protocol == 1 and seen.segment[0] == 8):
                seen = Seen(wire.recv(2000))
            traffic.end_ping(running)
        return expect(seen.frame[:6].hex(":") == "02:00:00:00:00:a3", f"sent to {seen.frame[:6].hex(':')}")
