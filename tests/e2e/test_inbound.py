"""From outside in: statics, port forwards, hairpinning, pools, and what nobody asked for."""

from case import Case, expect, spillway_only
from lab import traffic
from lab.frames import ethernet, ipv4, tcp
from lab.topology import IN1, IN2, OUT, OUTSIDE_ADDRESS

GLOBAL = "198.51.100.10"


def exchange(client, server, address, port, server_port, listen_address=""):
    """One TCP connection with a question and an answer; whom the server saw."""
    with server.listen(server_port, listen_address) as listener:
        listener.settimeout(5)
        with client.connect(address, port, timeout=5) as a:
            b, peer = listener.accept()
            with b:
                b.settimeout(5)
                a.sendall(b"question")
                expect(b.recv(100) == b"question", "the question changed")
                b.sendall(b"answer")
                expect(a.recv(100) == b"answer", "the answer changed")
                return peer[0]


class Static(Case):
    extra = (f"ip nat inside source static {IN2} {GLOBAL}\n"
             f"ip nat inside source static tcp {IN1} 8000 interface Outside 8080\n"
             f"ip nat inside source static udp {IN1} 5353 {OUTSIDE_ADDRESS} 53\n")
    kernel = {"addresses": [GLOBAL],
              "rules": [("dnat", f"ip daddr {GLOBAL} dnat to {IN2}"),
                        ("dnat", f"ip daddr {OUTSIDE_ADDRESS} tcp dport 8080 dnat to {IN1}:8000"),
                        ("dnat", f"ip daddr {OUTSIDE_ADDRESS} udp dport 53 dnat to {IN1}:5353"),
                        ("snat", f'ip saddr {IN2} oifname "outside" snat to {GLOBAL}'),
                        ("snat", f'iifname "inside" oifname "inside" ip saddr {IN2} snat to {GLOBAL}'),
                        ("snat", 'iifname "inside" oifname "inside" snat to 198.51.100.1')]}

    def test_ping_to_the_global_address(self):
        p = traffic.ping(self.out, GLOBAL, 200)
        return expect(p.lost == 0, p)

    def test_any_port_of_the_global_address(self):
        seen = {exchange(self.out, self.in2, GLOBAL, port, port) for port in (22, 80, 5000, 65535)}
        return expect(seen == {OUT}, f"4 ports, the inside host saw {' '.join(seen)}")

    def test_the_inside_host_goes_out_as_its_global_address(self):
        seen = exchange(self.in2, self.out, OUT, 80, 80)
        return expect(seen == GLOBAL, f"{IN2} is seen as {seen}")

    def test_tcp_port_forward(self):
        seen = exchange(self.out, self.in1, OUTSIDE_ADDRESS, 8080, 8000)
        return expect(seen == OUT, f"{OUTSIDE_ADDRESS}:8080 is {IN1}:8000, which saw {seen}")

    def test_udp_port_forward(self):
        with traffic.UdpEcho(self.in1, [5353]), self.out.udp() as s:
            s.connect((OUTSIDE_ADDRESS, 53))
            for k in range(100):
                s.send(b"question %d" % k)
                expect(s.recv(100) == b"question %d" % k, "another answer")
        return "100 of 100 answers, from the address asked"

    def test_a_forward_carries_much(self):
        t = traffic.transfer(self.out, self.in1, OUTSIDE_ADDRESS, 32 << 20, upload=True, port=8080, listen_port=8000)
        return expect(t.identical, t)

    def test_port_unreachable_of_an_inside_host_reaches_the_outside(self):
        with self.out.udp(timeout=3) as s:
            s.connect((GLOBAL, 9999))
            s.send(b"anybody?")
            try:
                got = repr(s.recv(10))
            except OSError as e:
                got = type(e).__name__
        return expect(got == "ConnectionRefusedError", got)

    @spillway_only  # the kernel gives its own ICMP errors about a forwarded destination that destination as source
    def test_traceroute_from_outside_shows_the_appliance(self):
        ways = [traffic.hops(self.out, GLOBAL, icmp) for icmp in (False, True)]
        return expect(ways == [[OUTSIDE_ADDRESS, GLOBAL]] * 2, " > ".join(ways[0]))

    def test_hairpin_by_a_static_address(self):
        seen = exchange(self.in1, self.in2, GLOBAL, 80, 80)
        return expect(seen == OUTSIDE_ADDRESS, f"in1 reached in2 by {GLOBAL}, seen as {seen}")

    def test_hairpin_by_a_port_forward(self):
        seen = exchange(self.in2, self.in1, OUTSIDE_ADDRESS, 8080, 8000)
        return expect(seen == GLOBAL, f"in2 reached in1 by {OUTSIDE_ADDRESS}:8080, seen as {seen}")

    def test_hairpin_to_oneself(self):
        seen = exchange(self.in1, self.in1, OUTSIDE_ADDRESS, 8080, 8000)
        return expect(seen == OUTSIDE_ADDRESS, f"in1 reached itself, seen as {seen}")

    def test_hairpin_ping(self):
        p = traffic.ping(self.in1, GLOBAL, 50)
        return expect(p.lost == 0, p)


class Unasked(Case):
    def test_tcp_does_not_reach_an_inside_host(self):
        with self.in1.listen(2222) as a, self.in2.listen(2222) as b:
            try:
                self.out.connect(OUTSIDE_ADDRESS, 2222, timeout=1).close()
                how = "connected"
            except OSError as e:
                how = type(e).__name__
            reached = 0
            for listener in (a, b):
                listener.settimeout(0.1)
                try:
                    listener.accept()
                    reached += 1
                except TimeoutError:
                    pass
        return expect(how != "connected" and reached == 0, f"{how} for the outside host, nothing at the inside hosts")

    def test_a_stranger_cannot_use_an_entry(self):
        with self.in1.udp(port=47000, timeout=0.5) as s, self.out.udp(port=7) as friend, self.out.udp(port=8) as stranger:
            s.sendto(b"open", (OUT, 7))
            _, mapped = friend.recvfrom(10)
            stranger.sendto(b"unasked", mapped)
            friend.sendto(b"asked", mapped)
            got = [s.recv(20)]
            try:
                got.append(s.recv(20))
            except TimeoutError:
                pass
        return expect(got == [b"asked"], f"the inside host got {got}")

    @spillway_only
    def test_a_stray_segment_makes_no_entry(self):
        before = self.device.cli_json("show", "ip", "nat", "translations")
        gateway = self.out.neighbour(OUTSIDE_ADDRESS)
        with self.out.raw() as wire:
            for flags in (0x10, 0x12, 0x01, 0x18, 0x29, 0x00):
                for k in range(50):
                    wire.send(ethernet(gateway, self.out.mac(), ipv4(OUT, OUTSIDE_ADDRESS, 6, tcp(OUT, 80, OUTSIDE_ADDRESS, 20000 + k, flags))))
        traffic.ping(self.in1, OUT, 5)
        after = self.device.cli_json("show", "ip", "nat", "translations")
        rows = [r for r in self.device.rows(after) if r["protocol"] == "tcp"]
        return expect(not rows, f"300 stray segments, {len(rows)} TCP entries, {len(self.device.rows(before))} entries before")


class Pool(Case):
    nat = ("ip nat pool two 198.51.100.64 198.51.100.65 netmask 255.255.255.0\n"
           "ip nat inside source list 1 pool two")
    kernel = None

    def test_each_host_has_an_address_of_its_own(self):
        seen = [exchange(h, self.out, OUT, 80, 80) for h in (self.in1, self.in2)]
        again = [exchange(h, self.out, OUT, 81, 81) for h in (self.in1, self.in2)]
        return expect(again == seen and sorted(seen) == ["198.51.100.64", "198.51.100.65"], f"in1 is {seen[0]}, in2 is {seen[1]}")

    def test_ping_keeps_its_identifier(self):
        p = traffic.ping(self.in1, OUT, 100)
        return expect(p.lost == 0, p)

    def test_outside_reaches_a_host_by_its_entry(self):
        known_as = exchange(self.in1, self.out, OUT, 80, 80)
        seen = exchange(self.out, self.in1, known_as, 2222, 2222)
        return expect(seen == OUT, f"{known_as}:2222 reached in1")

    def test_a_third_host_gets_none_and_is_counted(self):
        self.in1.ip("addr add 10.1.0.13/24 dev eth0")
        before = self.device.drops().get("pool_exhausted", 0)
        p = traffic.ping(self.in1, OUT, 5, 0.02, source="10.1.0.13")
        counted = self.device.drops().get("pool_exhausted", 0) - before
        return expect(p.received == 0 and counted == 5, f"0 of 5 pings answered, pool_exhausted {counted}")


class PoolOverload(Case):
    nat = ("ip nat pool one 198.51.100.70 198.51.100.70 prefix-length 24\n"
           "ip nat inside source list 1 pool one overload")
    kernel = {"addresses": ["198.51.100.70"], "rules": [("snat", 'oifname "outside" snat to 198.51.100.70')], "masquerade": False}

    def test_both_hosts_share_the_address(self):
        seen = {exchange(h, self.out, OUT, 80, 80) for h in (self.in1, self.in2)}
        return expect(seen == {"198.51.100.70"}, f"seen as {' '.join(seen)}")

    def test_pings(self):
        running = [traffic.start_ping(h, OUT, 300, 0.003) for h in (self.in1, self.in2)]
        lost = sum(traffic.end_ping(p).lost for p in running)
        return expect(lost == 0, f"{lost} of 600 lost")


class NotInTheList(Case):
    """What the list does not name goes out as it is; here, nowhere, since the outside host knows no way back."""
    nat = "access-list 2 permit 10.1.0.12\nip nat inside source list 2 interface Outside overload"
    kernel = {"rules": [("snat", f'ip saddr {IN2} oifname "outside" masquerade')], "masquerade": False}

    def test_only_the_named_host_is_translated(self):
        # The outside host is told a way back, so that the untranslated one gets its answers too.
        self.out.ip(f"route add 10.1.0.0/24 via {OUTSIDE_ADDRESS}")
        seen = exchange(self.in1, self.out, OUT, 80, 80), exchange(self.in2, self.out, OUT, 80, 80)
        return expect(seen == (IN1, OUTSIDE_ADDRESS), f"in1 is seen as {seen[0]}, in2 as {seen[1]}")


class StaticOverTwoQueues(Static):
    """The same with a queue for each worker."""
    workers, queues, kernel = (2,), 2, None
