"""Frames that no honest kernel sends: each is counted by its reason, and traffic beside them goes on."""

import random
import struct
import threading
import time

from case import Case, expect, spillway_only
from lab import traffic
from lab.frames import ethernet, icmp, ipv4, tcp, udp
from lab.topology import IN2, INSIDE_GATEWAY, OUT


def malformed():
    """Name, reason of the drop, and the octets after the Ethernet header."""
    good_udp = udp(IN2, 1000, OUT, 7, b"payload")
    good_tcp = tcp(IN2, 1000, OUT, 7, 2)

    def packet(payload=good_udp, protocol=17, **how):
        return ipv4(how.pop("source", IN2), how.pop("to", OUT), protocol, payload, **how)
    whole = packet()
    yield "TCP data offset below 5", "l4_truncated", packet(good_tcp[:12] + b"\x10" + good_tcp[13:], 6)
    yield "TCP data offset beyond the packet", "l4_truncated", packet(good_tcp[:12] + b"\xf0" + good_tcp[13:], 6)
    yield "UDP length beyond the packet", "l4_truncated", packet(good_udp[:4] + struct.pack("!H", 500) + good_udp[6:])
    yield "UDP length below 8", "l4_truncated", packet(good_udp[:4] + struct.pack("!H", 7) + good_udp[6:])
    yield "IPv4 header cut after 10 octets", "frame_too_short", whole[:10]
    yield "no IPv4 header at all", "frame_too_short", b""
    yield "version 6 in an IPv4 frame", "ip_version", packet(version=6)
    yield "version 0", "ip_version", packet(version=0)
    yield "header length 16", "ip_header_length", packet(header_words=4)
    yield "header length 0", "ip_header_length", packet(header_words=0)
    yield "header length beyond the packet", "ip_header_length", ipv4(IN2, OUT, 17, b"", header_words=15)
    yield "total length beyond the frame", "ip_total_length", packet(total=1400)
    yield "total length below the header", "ip_total_length", packet(total=19)
    yield "total length 0", "ip_total_length", packet(total=0)
    yield "header checksum wrong", "ip_checksum", packet(header_checksum=0x1234)
    yield "UDP header cut short", "l4_truncated", packet(good_udp[:7])
    yield "UDP without a header", "l4_truncated", packet(b"")
    yield "TCP header cut short", "l4_truncated", packet(good_tcp[:19], 6)
    yield "ICMP header cut short", "l4_truncated", packet(icmp(8, 0, 1)[:7], 1)
    yield "source 127.0.0.1", "ip_source", packet(source="127.0.0.1")
    yield "source is multicast", "ip_source", packet(source="224.0.0.5")
    yield "source is broadcast", "ip_source", packet(source="255.255.255.255")
    yield "destination 127.0.0.1", "ip_destination", packet(to="127.0.0.1")
    yield "destination 0.0.0.0", "ip_destination", packet(to="0.0.0.0")
    yield "destination of class E", "ip_destination", packet(to="250.1.2.3")
    yield "time to live 0", "ttl_exceeded", packet(ttl=0)
    yield "ICMP error quoting nothing", "icmp_error_malformed", packet(icmp(3, 3, 0), 1)
    yield "ICMP error quoting rubbish", "icmp_error_malformed", packet(icmp(3, 3, 0, b"\xff" * 28), 1)
    yield "ICMP error with a wrong checksum", "icmp_error_checksum", packet(icmp(3, 3, 0, ipv4(OUT, IN2, 17, good_udp), sum=0x1111), 1)
    yield "ICMP error about no known packet", "icmp_error_unmatched", packet(icmp(3, 3, 0, ipv4(OUT, IN2, 17, udp(OUT, 9, IN2, 9, b"x" * 20))), 1)
    yield "ICMP type that makes no entry", "icmp_not_translatable", packet(icmp(42, 0, 0), 1)
    yield "GRE under overload", "protocol_not_translatable", packet(b"\0" * 20, 47)


class Malformed(Case):
    def prepare(self):
        self.gateway = self.in2.neighbour(INSIDE_GATEWAY)
        self.own = self.in2.mac()

    def _settled(self, of):
        """Waits until the sum of what `of` says has been still for 0.3 s."""
        last, still = None, 0
        while still < 3:
            now = of()
            still = still + 1 if now == last else 0
            last = now
            time.sleep(0.1)
        return last

    @spillway_only
    def test_each_kind_is_counted_by_its_reason(self):
        wrong, kinds = [], 0
        with self.in2.raw() as wire:
            for name, reason, payload in malformed():
                before = self.device.drops()
                for _ in range(10):
                    wire.send(ethernet(self.gateway, self.own, payload))
                try:
                    self._wait_for(before, 10)
                except TimeoutError:
                    pass
                after = self.device.drops()
                new = {k: v - before.get(k, 0) for k, v in after.items() if v - before.get(k, 0)}
                kinds += 1
                if new != {reason: 10}:
                    wrong.append(f"{name}: {new or 'not counted'}, not {reason} 10")
        expect(not wrong, "\n".join(wrong))
        return f"{kinds} kinds, 10 frames each, counted by {len({r for _, r, _ in malformed()})} reasons"

    def _wait_for(self, before, n):
        end = time.monotonic() + 1.5
        while sum(self.device.drops().values()) - sum(before.values()) < n:
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(0.01)

    @spillway_only
    def test_frames_for_somebody_else(self):
        before = self.device.drops().get("not_our_mac", 0)
        with self.in2.raw() as wire:
            for _ in range(10):
                wire.send(ethernet(bytes.fromhex("020000000099"), self.own, ipv4(IN2, OUT, 17, udp(IN2, 1, OUT, 7, b"x"))))
        counted = self._settled(lambda: self.device.drops().get("not_our_mac", 0)) - before
        return expect(counted == 10, f"not_our_mac {counted} of 10")

    @spillway_only
    def test_other_ethertypes_go_to_the_kernel_and_are_counted(self):
        before = self.device.counters()
        with self.in2.raw() as wire:
            for kind in (0x86DD, 0x0806, 0x88CC):
                for _ in range(10):
                    wire.send(ethernet(self.gateway, self.own, b"\0" * 46, kind))
        self._settled(lambda: [self.device.counters()[k] for k in ("punted_ipv6", "punted_arp", "punted_other")])
        after = self.device.counters()
        seen = {k: after[k] - before[k] for k in ("punted_ipv6", "punted_arp", "punted_other")}
        return expect(seen["punted_ipv6"] == seen["punted_other"] == 10 and seen["punted_arp"] >= 10, f"{seen}")

    def _beside(self, frame, seconds=5):
        """Sends what `frame()` makes on in2's wire as fast as the appliance takes it, with pings of in1 beside it.

        "As fast as it takes it": after each 512 frames one datagram must have gone through and come back, so that the
        flood never fills the port's ring of 4096. A ring that overflows loses whatever comes, also what is good.
        """
        sent, stop, failures = [0], threading.Event(), []

        def work():
            try:
                with self.in2.raw() as wire, self.in2.udp(port=51000, timeout=0.5) as barrier:
                    while not stop.is_set():
                        for _ in range(512):
                            wire.send(frame())
                        sent[0] += 512
                        back = False
                        while not back and not stop.is_set():
                            barrier.sendto(b"through?", (OUT, 51001))
                            try:
                                back = barrier.recv(100) == b"through?"
                            except TimeoutError:
                                pass
            except Exception as e:  # told below
                failures.append(e)
        with traffic.UdpEcho(self.out, [51001]):
            running = traffic.start_ping(self.in1, OUT, int(seconds / 0.01), 0.01)
            thread = threading.Thread(target=work)
            thread.start()
            try:
                p = traffic.end_ping(running)
            finally:
                stop.set()
                thread.join()
        if failures:
            raise failures[0]
        expect(sent[0] > 1000, f"only {sent[0]} frames went")
        return expect(p.lost == 0, f"{sent[0]} frames in {seconds} s, pings beside: {p}")

    def test_random_octets_at_a_high_rate(self):
        dice = random.Random(11)

        def frame():
            return ethernet(self.gateway, self.own, dice.randbytes(dice.randrange(0, 1500)), dice.choice((0x0800, 0x0800, 0x0800, dice.randrange(65536))))
        return self._beside(frame)

    def test_broken_copies_of_good_packets_at_a_high_rate(self):
        dice = random.Random(12)
        good = [ipv4(IN2, OUT, 17, udp(IN2, 1000, OUT, 7, b"payload" * 10)), ipv4(IN2, OUT, 6, tcp(IN2, 1000, OUT, 7, 2)),
                ipv4(IN2, OUT, 1, icmp(8, 0, 77, b"ping" * 10)), ipv4(IN2, OUT, 1, icmp(3, 3, 0, ipv4(OUT, IN2, 17, udp(OUT, 9, IN2, 9, b"x" * 20))))]

        def frame():
            packet = bytearray(dice.choice(good))
            for _ in range(dice.randrange(1, 4)):
                packet[dice.randrange(len(packet))] = dice.randrange(256)
            return ethernet(self.gateway, self.own, bytes(packet[:dice.randrange(1, len(packet) + 1)]))
        return self._beside(frame)

    def test_tcp_is_not_hurt_beside_a_flood(self):
        frames = [ethernet(self.gateway, self.own, payload) for payload in (p for _, _, p in malformed())]
        stop = threading.Event()

        def work():
            with self.in2.raw() as wire:
                while not stop.is_set():
                    for frame in frames:
                        wire.send(frame)
                    time.sleep(0.005)
        thread = threading.Thread(target=work)
        thread.start()
        try:
            t = traffic.transfer(self.in1, self.out, OUT, 64 << 20, upload=True)
        finally:
            stop.set()
            thread.join()
        return expect(t.identical, t)

    def test_a_thousand_arp_requests_for_others_do_no_harm(self):
        who = b"\0\1\x08\0\x06\x04\0\1"
        with self.in2.raw() as wire:
            for k in range(1000):
                wire.send(ethernet(b"\xff" * 6, self.own, who + self.own + bytes([10, 1, 0, 12]) + b"\0" * 6 + bytes([10, 1, 0, 100 + k % 100]), 0x0806))
        p = traffic.ping(self.in1, OUT, 100)
        return expect(p.lost == 0, p)
