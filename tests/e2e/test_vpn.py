"""Real IPsec through port translation: three clients of one server, all Linux kernels of their own, behind one address."""

import os
import shutil
import time

from case import ROOT, Case, expect, wait_until
from lab.devices import Spillway, configuration
from lab.vpn import VpnLab
from lab.vpn_endpoint import SERVER_INNER, Ike
from lab.vpn_tap import without_twin

SERVER, OUTSIDE = "198.51.100.2", "198.51.100.1"
QUICKLY = 0.1


class Vpn(Case):
    """The guests boot once; each test begins with a Spillway that has just started, and with endpoints that know of nothing."""

    lane = 1
    kernel = None
    workers = (1,)

    own_losses = {}

    def begin(self):
        self.lab = VpnLab(3)
        self.clients, self.server = self.lab.clients, self.lab.server

    def gateway(self, extra=""):
        """A Spillway that has just started."""
        self.lab.quiet()
        if self.device is not None:
            self.device.stop()
            os.remove(self.device.log_file)
        self.device = Spillway(self.lab, configuration(extra=extra, queues=self.queues), workers=self.worker_count).start()
        self.lab.watch()
        self.own_losses = {e: e.own_losses() for e in self.lab.endpoints}

    def evidence(self, name):
        """For a failure: everything into a folder, and the most telling lines of it."""
        folder = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "test-logs", "vpn", name.replace(" ", "-"))
        shutil.rmtree(folder, ignore_errors=True)
        names = self.lab.evidence(folder)
        lines = [f"evidence in {folder}: {' '.join(names)}"]
        if self.device is not None and self.device.alive():
            lines += [f"esp: {self.device.stats().get('esp')}", *self.device.cli("show", "ip", "nat", "translations", "esp").splitlines()[:20]]
        for endpoint in self.lab.endpoints:
            lines.append(f"{endpoint.guest.name} " + (f"threw away by itself: {endpoint.drops() or 'nothing'}" if endpoint.guest.alive() else "is dead"))
        return lines

    # What tests are made of.

    def tunnels(self, ike, staggered_s=0.0):
        """IKE at all ends, then a tunnel for each client, all at once. Returns when both ends of each have it in full: a client of
        IKEv1 has its tunnel before its last message makes the server's."""
        for job in [self.server.begin_ike(ike)] + [c.begin_ike(ike) for c in self.clients]:
            job.end()
        jobs = []
        for c in self.clients:
            jobs.append(c.begin_tunnel())
            time.sleep(staggered_s)
        for job in jobs:
            job.end()
        self.complete(self.clients)

    def complete(self, clients):
        """Waits until both ends of these clients' newest tunnels have the SAs of both directions."""
        def both():
            there = {s.spi for s in self.server.sas()}
            return all(s.spi in there for c in clients for s in c.sas()) and all(len(c.sas()) >= 2 for c in clients)
        wait_until(both, 30, "both ends of all tunnels have both SAs", every_s=0.3)

        self.own_losses = {e: e.own_losses() for e in self.lab.endpoints}

    def ping_all(self, count=50):
        """All clients ping the server at once, which answers all."""
        return [p.end() for p in [c.ping(count, QUICKLY) for c in self.clients]]

    def esp(self):
        """The ESP figures of the device."""
        return self.device.stats()["esp"]

    def all_well(self, pings, names=None):
        """Nothing was lost, nothing dropped, and the wire says so too. Returns the figure."""
        replies = ", ".join(f"{n} {p}" for n, p in zip(names or [c.guest.name for c in self.clients], pings))
        # libreswan has moments without an outbound SA while it renews one: such a request never left its kernel, which counts it.
        # At most one for each renewal is let pass, and only if the endpoint's kernel says so.
        own = {e.guest.name: n for e in self.lab.endpoints if (n := e.own_losses() - self.own_losses.get(e, 0)) > 0}
        lost = sum(len(p.lost) for p in pings)
        expect(lost <= min(sum(own.values()), sum(self.rekeys())) and not any(p.duplicates for p in pings), f"{replies}; never left an endpoint: {own or 'none'}")
        if lost:
            replies += f"; never left an endpoint: {own}"
        dropped = {k: v for k, v in self.device.drops().items() if v}
        expect(not dropped, f"{replies}; but spillway dropped {dropped}")
        self.wire_is_clean()
        return replies

    def wire_is_clean(self):
        """Every ESP packet and IKE message that went into the device came out, and what has one SPI went to one client."""
        for into, out in (("inside", "outside"), ("outside", "inside")):
            sent = self.lab.taps[into].esp(to_device=True)
            time.sleep(0.2)
            kept = without_twin(sent, self.lab.taps[out].esp(to_device=False))
            # What went in is read first: endpoints that renew their tunnels go on talking.
            asked = self.lab.taps[into].ike(to_device=True)
            time.sleep(0.2)
            told = {f.message for f in self.lab.taps[out].ike(to_device=False)}
            untold = [f for f in asked if f.message not in told]
            expect(not untold, f"{len(untold)} IKE messages from {into} stayed in the device")
            expect(not kept, f"{len(kept)} ESP packets from {into} stayed in the device, the first with SPI {kept[0].spi:x}" if kept else "")
        clients = {}
        for f in self.lab.taps["inside"].esp(to_device=False):
            clients.setdefault(f.spi, set()).add(f.to)
        astray = {f"{spi:x}": sorted(to) for spi, to in clients.items() if len(to) > 1}
        expect(not astray, f"ESP of one SPI went to several clients: {astray}")

    def by_hand(self, pairs):
        """Tunnels without IKE; a pair has a client's SPI out and SPI in."""
        for c, (out, into) in zip(self.clients, pairs):
            c.keys_by_hand(SERVER, SERVER_INNER, out, into)
            self.server.keys_by_hand(OUTSIDE, c.inner, into, out, reqid=c.number)

    def outside_ports(self):
        """The ports at the outside address that IKE of each client, told by its cookie, had."""
        cookies = {}
        for f in self.lab.taps["inside"].ike(to_device=True):
            cookies[f.cookie] = f.source
        ports = {c.address: set() for c in self.clients}
        for f in self.lab.taps["outside"].ike(to_device=False):
            ports[cookies[f.cookie]].add(f.source_port)
        return ports

    def rekeys(self):
        """How many SPIs more than one the server sent to each client."""
        spis = {}
        for f in self.lab.taps["inside"].esp(to_device=False):
            spis.setdefault(f.to, set()).add(f.spi)
        return [max(len(spis.get(c.address, ())) - 1, 0) for c in self.clients]

    def live_through_rekeys(self, ike, seconds):
        self.gateway()
        # Not all in one instant, as nobody's clients are.
        self.tunnels(ike, staggered_s=0.7)
        pings = [p.end() for p in [c.ping(int(seconds / QUICKLY), QUICKLY) for c in self.clients]]
        figure = self.all_well(pings)
        return expect(min(self.rekeys()) >= 3, f"{figure}; rekeys {self.rekeys()}")


class OneAddress(Vpn):
    def test_three_clients_at_once_with_ikev2(self):
        self.gateway()
        self.tunnels(Ike(2))
        figure = self.all_well(self.ping_all())
        ports = self.outside_ports()
        expect(all(len(p) == 1 and min(p) < 512 for p in ports.values()) and len(set.union(*ports.values())) == 3, f"ports outside: {ports}")
        return f"{figure}; IKE ports outside {sorted(set.union(*ports.values()))}"

    def test_three_clients_at_once_with_ikev1(self):
        self.gateway()
        self.tunnels(Ike(1))
        return self.all_well(self.ping_all())

    def test_keys_by_hand(self):
        self.gateway()
        self.by_hand([(0x1000 + k, 0xA0000000 + k) for k in range(3)])
        figure = self.all_well(self.ping_all())
        esp = self.esp()
        expect((esp["tunnels"], esp["half_open"], esp["held"]) == (3, 0, 0) and esp["held_total"] == esp["released_total"], f"{figure}; {esp}")
        return f"{figure}; {esp['held_total']} held and released at the start"

    def test_preserve_port_keeps_500_for_all(self):
        self.gateway("ip nat service list 1 IKE preserve-port")
        self.tunnels(Ike(2))
        figure = self.all_well(self.ping_all())
        ports = self.outside_ports()
        return expect(set.union(*ports.values()) == {500} and all(ports.values()), f"{figure}; IKE ports outside: {ports}")

    def test_preserve_port_with_ikev1(self):
        self.gateway("ip nat service list 1 IKE preserve-port")
        self.tunnels(Ike(1))
        figure = self.all_well(self.ping_all())
        ports = self.outside_ports()
        return expect(set.union(*ports.values()) == {500} and all(ports.values()), f"{figure}; IKE ports outside: {ports}")

    def test_spi_matching_holds_nothing(self):
        self.gateway("ip nat service list 1 ESP spi-match")

        def answer(spi):
            return int(self.device.alone("spi", "match", f"{spi:x}"), 16)
        # The initiator is inside for the first two, and outside for the third.
        self.by_hand([(answer(0xB0000001), 0xB0000001), (answer(0xB0000002), 0xB0000002), (0xB0000003, answer(0xB0000003))])
        figure = self.all_well(self.ping_all())
        esp = self.esp()
        expect((esp["tunnels"], esp["held_total"]) == (3, 0), f"{figure}; {esp}")
        return f"{figure}; nothing was held"

    def test_the_server_speaks_first_after_a_rekey(self):
        self.gateway()
        self.tunnels(Ike(2), staggered_s=0.5)
        pings = self.ping_all(10)
        for c in self.clients:
            before = {s.spi for s in c.sas()}
            c.guest.run("ipsec whack --rekey-ipsec --name tunnel")
            wait_until(lambda c=c, before=before: len({s.spi for s in c.sas()} - before) == 2, 20, "the client has renewed its tunnel", every_s=0.3)
            # The old tunnel goes a second later; from then on the server can only use the new one.
            wait_until(lambda c=c, before=before: not {s.spi for s in c.sas()} & before, 20, "the old tunnel is gone", every_s=0.3)
            self.complete([c])
            pings.append(self.server.ping(c, 20, QUICKLY).end())
        return self.all_well(pings, ["c1", "c2", "c3", "server to c1", "to c2", "to c3"])

    def test_a_client_dies_and_comes_back_with_new_spis(self):
        self.gateway()
        ike = Ike(2)
        self.tunnels(ike)
        first = self.ping_all(20)
        old = {s.spi for s in self.clients[1].sas()}
        others = [self.clients[k].ping(None, QUICKLY) for k in (0, 2)]
        self.clients[1].guest.kill()
        time.sleep(1)
        self.clients[1].guest.start().wait_ready()
        self.clients[1].start_ike(ike)
        self.clients[1].begin_tunnel().end()
        self.complete([self.clients[1]])
        expect(not old & {s.spi for s in self.clients[1].sas()}, "the same SPIs again")
        again = self.clients[1].ping(50, QUICKLY).end()
        return self.all_well([p.stop() for p in others] + [again] + first, ["c1 meanwhile", "c3 meanwhile", "c2 after", "all before"])

    def test_rekeys_with_ikev2_lose_nothing(self):
        return self.live_through_rekeys(Ike(2, sa_lifetime=10, margin=5), 22)
    test_rekeys_with_ikev2_lose_nothing.limit_s = 200

    def test_rekeys_with_ikev1_lose_nothing(self):
        return self.live_through_rekeys(Ike(1, sa_lifetime=10, margin=5), 22)
    test_rekeys_with_ikev1_lose_nothing.limit_s = 200


class OneAddressTwoWorkers(Vpn):
    workers, queues = (2,), 2

    def test_three_clients_at_once_with_ikev2(self):
        self.gateway()
        self.tunnels(Ike(2))
        return self.all_well(self.ping_all())

    def test_preserve_port_with_ikev1(self):
        self.gateway("ip nat service list 1 IKE preserve-port")
        self.tunnels(Ike(1))
        return self.all_well(self.ping_all())

    def test_rekeys_with_ikev2_lose_nothing(self):
        return self.live_through_rekeys(Ike(2, sa_lifetime=10, margin=5), 22)
    test_rekeys_with_ikev2_lose_nothing.limit_s = 200
