"""ICMP echo through the translation, and to the appliance itself."""

from case import Case, expect
from lab import traffic
from lab.topology import INSIDE_GATEWAY, OUT, OUTSIDE_ADDRESS


class Ping(Case):
    def prepare(self):
        for host in (self.in1, self.in2):
            traffic.ping(host, OUT, 2)

    def test_none_of_4000_is_lost(self):
        with self.drops():
            running = [traffic.start_ping(h, OUT, 2000, 0.001) for h in (self.in1, self.in2)]
            a, b = (traffic.end_ping(p) for p in running)
        return expect(a.lost + b.lost == 0, f"in1 {a}; in2 {b}")

    def test_every_size_of_payload(self):
        sizes = [0, 1, 2, 17, 18, 19, 55, 1471, 1472]
        lost = {s: traffic.ping(self.in1, OUT, 5, size=s, whole=True).lost for s in sizes}
        return expect(not any(lost.values()), f"lost by size: {lost}")

    def test_fifty_pings_at_once_from_each_host(self):
        running = [traffic.start_ping(h, OUT, 20, 0.02) for _ in range(50) for h in (self.in1, self.in2)]
        lost = sum(traffic.end_ping(p).lost for p in running)
        return expect(lost == 0, f"{lost} of 2000 lost, 100 identifiers")

    def test_the_appliance_answers_on_its_own_addresses(self):
        lost = {f"{h.role} to {a}": traffic.ping(h, a, 50).lost
                for h, a in ((self.in1, INSIDE_GATEWAY), (self.in1, OUTSIDE_ADDRESS), (self.out, OUTSIDE_ADDRESS))}
        return expect(not any(lost.values()), f"lost of 50: {lost}")


class PingOverTwoQueues(Ping):
    """The same with a queue for each worker."""
    workers, queues, kernel = (2,), 2, None
