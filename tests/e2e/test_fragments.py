"""IP fragments through the translation, in order and out of order."""

import contextlib
import random

from case import Case, expect, spillway_only
from lab import traffic
from lab.frames import Seen, ethernet, fragments, udp
from lab.topology import IN1, INSIDE_GATEWAY, OUT, OUTSIDE_ADDRESS

_PAYLOAD = random.Random(3).randbytes(3000)


class Fragments(Case):
    def prepare(self):
        self.gateway = {"in1": self.in1.neighbour(INSIDE_GATEWAY), "out": self.out.neighbour(OUTSIDE_ADDRESS)}
        for host in (self.in1, self.in2):
            # Next hops are known before: the fragments of one large packet may be more than may wait for one.
            traffic.ping(host, OUT, 2)

    def _send(self, host, pieces):
        with host.raw() as wire:
            for piece in pieces:
                wire.send(ethernet(self.gateway[host.role], host.mac(), piece))

    def test_large_pings(self):
        running = [traffic.start_ping(h, OUT, 200, 0.005, size=s) for h, s in ((self.in1, 4000), (self.in2, 8000))]
        a, b = (traffic.end_ping(p) for p in running)
        return expect(a.lost + b.lost == 0, f"4000 octets: {a}; 8000 octets: {b}")

    def test_large_datagrams_come_back_whole(self):
        with traffic.UdpEcho(self.out, [7]), self.in1.udp(port=46000) as s:
            for n in (1473, 2000, 2960, 2961, 5000, 9000, 16000):
                data = random.Random(n).randbytes(n)
                s.sendto(data, (OUT, 7))
                expect(s.recv(65535) == data, f"{n} octets came back otherwise")
        return "7 lengths from 1473 to 16000 octets"

    def _from_inside(self, order, sizes, port, identification):
        with self.out.udp(port=7, timeout=3) as server:
            pieces = fragments(IN1, OUT, 17, udp(IN1, port, OUT, 7, _PAYLOAD), sizes, identification)
            self._send(self.in1, [pieces[k] for k in order])
            try:
                data, peer = server.recvfrom(65535)
            except TimeoutError:
                return False
            return data == _PAYLOAD and peer[0] == OUTSIDE_ADDRESS

    def test_out_of_order_from_inside(self):
        orders = [(2, 1, 0), (1, 0, 2), (1, 2, 0), (0, 2, 1), (2, 0, 1)]
        right = sum(self._from_inside(order, [1480, 1480, 48], 46100 + k, 100 + k) for k, order in enumerate(orders))
        return expect(right == len(orders), f"{right} of {len(orders)} orders arrived whole")

    def test_many_small_pieces_backwards(self):
        sizes = [1000, 1000, 1008]
        small = [304] * 9 + [272]
        a = self._from_inside((2, 1, 0), sizes, 46200, 200)
        b = self._from_inside(tuple(range(9, -1, -1)), small, 46201, 201)
        return expect(a and b, "3 and 10 pieces, last one first")

    def test_out_of_order_from_outside(self):
        right = 0
        orders = [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)]
        with self.out.udp(port=7, timeout=3) as server, self.in1.udp(port=46300, timeout=3) as s:
            s.sendto(b"open", (OUT, 7))
            _, (_, mapped) = server.recvfrom(100)
            for k, order in enumerate(orders):
                pieces = fragments(OUT, OUTSIDE_ADDRESS, 17, udp(OUT, 7, OUTSIDE_ADDRESS, mapped, _PAYLOAD), [1480, 1480, 48], 300 + k)
                self._send(self.out, [pieces[n] for n in order])
                try:
                    right += s.recv(65535) == _PAYLOAD
                except TimeoutError:
                    pass
        return expect(right == len(orders), f"{right} of {len(orders)} orders arrived whole")

    @spillway_only
    def test_pieces_whose_first_never_comes_are_held_and_counted(self):
        before = self.device.counters()["fragments_held"]
        pieces = fragments(IN1, OUT, 17, udp(IN1, 46400, OUT, 7, _PAYLOAD), [1480, 1480, 48], 400)
        with self.out.raw(timeout=0.5) as wire:
            self._send(self.in1, pieces[1:])
            through = 0
            with contextlib.suppress(TimeoutError):
                while True:
                    seen = Seen(wire.recv(2000))
                    through += seen.is_ipv4 and seen.protocol == 17
        held = self.device.counters()["fragments_held"] - before
        return expect(through == 0 and held == 2, f"{held} pieces held, {through} let through")


class FragmentsOverTwoQueues(Fragments):
    """The same with a queue for each worker."""
    workers, queues, kernel = (2,), 2, None
