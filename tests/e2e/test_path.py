"""The appliance as a router: hops, time to live, path MTU."""

import errno
import socket
import time

from case import GIBIBYTE, Case, expect
from lab import traffic
from lab.frames import Seen
from lab.topology import FAR, FAR_MTU, HOP, INSIDE_GATEWAY, OUT, OUTSIDE_ADDRESS

_IP_MTU_DISCOVER, _IP_PMTUDISC_DO, _IP_MTU, _IP_RECVERR = 10, 2, 14, 11


def path_mtu(host, address, port, size=1472, tries=5):
    """Sends datagrams that must not be fragmented until the kernel refuses them; what it then believes the path takes."""
    with host.udp(timeout=0.3) as s:
        s.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        s.connect((address, port))
        for _ in range(tries):
            try:
                s.send(b"m" * size)
                s.recv(2000)
            except TimeoutError:
                pass
            except OSError as e:
                if e.errno != errno.EMSGSIZE:
                    raise
                break
            time.sleep(0.05)
        return s.getsockopt(socket.IPPROTO_IP, _IP_MTU)


class Route(Case):
    far = True

    def test_traceroute_shows_the_appliance(self):
        ways = [traffic.hops(h, FAR, icmp) for h in (self.in1, self.in2) for icmp in (False, True)]
        return expect(all(w == [INSIDE_GATEWAY, HOP, FAR] for w in ways), " > ".join(ways[0]) if len({*map(tuple, ways)}) == 1 else ways)

    def test_traceroute_by_tcp(self):
        with self.far_host.listen(80):
            way = traffic.hops(self.in1, FAR, options=["-T", "-p", "80"])
        return expect(way == [INSIDE_GATEWAY, HOP, FAR], " > ".join(way))

    def test_time_to_live_goes_down_by_one(self):
        with self.out.raw() as wire, self.out.udp(port=7), self.in1.udp() as s:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 37)
            s.sendto(b"ttl", (OUT, 7))
            while True:
                seen = Seen(wire.recv(2000))
                if seen.is_ipv4 and seen.protocol == 17:
                    break
        return expect(seen.ttl == 36 and seen.header_is_right, f"37 became {seen.ttl}, header checksum {'right' if seen.header_is_right else 'WRONG'}")

    def test_path_mtu_behind_another_router_is_found(self):
        found = [path_mtu(h, FAR, 9000 + k) for k, h in enumerate((self.in1, self.in2))]
        return expect(found == [FAR_MTU] * 2, f"hosts found {found[0]} and {found[1]} octets")

    def test_tcp_through_a_smaller_link(self):
        t = traffic.transfer(self.in1, self.far_host, FAR, GIBIBYTE // 64, upload=True)
        return expect(t.identical, t)

    def test_no_route_is_told(self):
        with self.in1.udp(timeout=0.7) as s:
            s.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            s.connect(("192.0.2.1", 7))
            got = "nothing came back"
            # Errors are rate-limited: an earlier test may have used them up for a moment.
            for _ in range(4):
                try:
                    s.send(b"?")
                    got = repr(s.recv(10))
                except TimeoutError:
                    continue
                except OSError as e:
                    got = errno.errorcode.get(e.errno, type(e).__name__)
                break
        return expect(got in ("ENETUNREACH", "EHOSTUNREACH"), got)


class SmallOutside(Case):
    outside = "mtu 1400"
    kernel = {"routes": ["route change 198.51.100.0/24 dev outside mtu lock 1400"]}

    def test_path_mtu_of_our_own_link_is_told_to_the_inside(self):
        found = path_mtu(self.in1, OUT, 9000)
        return expect(found == 1400, f"the host found {found} octets")

    def test_tcp_up(self):
        t = traffic.transfer(self.in2, self.out, OUT, GIBIBYTE // 64, upload=True)
        return expect(t.identical, t)

    def test_larger_datagrams_without_df_are_fragmented(self):
        with traffic.UdpEcho(self.out, [7]) as echo, self.in1.udp(port=40100) as s, self.out.raw() as wire:
            s.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, 0)
            s.sendto(bytes(range(200)) * 7, (OUT, 7))
            pieces = []
            while len(pieces) < 2:
                seen = Seen(wire.recv(2000))
                if seen.is_ipv4 and seen.protocol == 17 and seen.source == OUTSIDE_ADDRESS:
                    pieces.append(seen.total)
            end = time.monotonic() + 3
            while not echo.peers and time.monotonic() < end:
                time.sleep(0.01)
        return expect(len(echo.peers) == 1 and max(pieces) <= 1400, f"1428 octets arrived in pieces of {pieces}")


class SmallInside(Case):
    inside = "mtu 1400"
    kernel = {"routes": ["route change 10.1.0.0/24 dev inside mtu lock 1400"]}

    def test_path_mtu_is_told_to_the_outside(self):
        # The error quotes the packet as the outside host sent it, or that host would not take it.
        with self.in1.udp(port=40200) as s, self.out.udp(port=7) as server:
            s.sendto(b"open", (OUT, 7))
            _, peer = server.recvfrom(10)
            server.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
            server.connect(peer)
            server.settimeout(1)
            try:
                for _ in range(5):
                    server.send(b"m" * 1472)
                    time.sleep(0.1)
            except OSError as e:
                expect(e.errno == errno.EMSGSIZE, e)
            found = server.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        return expect(found == 1400, f"the outside host found {found} octets")

    def test_tcp_down(self):
        t = traffic.transfer(self.in2, self.out, OUT, GIBIBYTE // 64, upload=False)
        return expect(t.identical, t)
