"""What is asserted of Spillway on bound cards. Each check returns its figure, or raises."""

import json
import os

from appliance import Appliance, configuration
from guest import ROOT, Card, Guest
from lab import traffic
from lab.report import expect
from lab.topology import INSIDE_GATEWAY, OUT, OUTSIDE_ADDRESS, wait_until

BIND = os.path.join(ROOT, "scripts", "bind")
HUGEPAGES = 160
CLIENTS = [f"10.1.0.{host}" for host in range(24, 32)]
PORTS = range(6000, 6025)


class Kind:
    """Two cards of a kind, inside and outside, and what Spillway knows of them."""

    def __init__(self, name, model, driver, kernel, slot, queues_of_two, spread, hears_link):
        self.name, self.driver, self.kernel = name, driver, kernel
        self.cards = [Card(model, slot, "in"), Card(model, slot + 1, "out")]
        #: Queues with two workers; `spread` of the inside and the outside port; whether the driver tells of its link.
        self.queues, self.spread, self.hears_link = queues_of_two, spread, hears_link

    @property
    def config(self):
        return configuration(*[card.address for card in self.cards])


KINDS = [
    Kind("virtio-net", "virtio-net-pci", "net_virtio", "virtio-pci", 0x10, 2, ("source_address", "addresses_and_ports"), True),
    Kind("e1000e", "e1000e", "net_e1000_em", "e1000e", 0x12, 2, ("unknown", "unknown"), True),
    Kind("vmxnet3", "vmxnet3", "net_vmxnet3", "vmxnet3", 0x14, 2, ("unknown", "unknown"), True),
]


class Machine:
    """The guest with all cards, and checks of it as a whole."""

    def __init__(self, lab):
        self.lab, self.guest, self.appliance = lab, None, None
        self.cards = [card for kind in KINDS for card in kind.cards]

    def test_boots(self):
        self.guest = Guest(self.lab, self.cards)
        self.appliance = Appliance(self.guest)
        self.guest.run("modprobe", "-a", "virtio_net", "e1000e", "vmxnet3", "vfio-pci", "tun")
        self.lab.in1.ip(*[f"addr add {client}/24 dev eth0" for client in CLIENTS])
        return f"Linux {self.guest.release}, {len(self.cards)} cards"

    def test_cards_that_are_not_ready_are_refused(self):
        cases = [(configuration("0000:00:1b.0", "0000:00:11.0"), ("no PCI device at 0000:00:1b.0", "scripts/bind status", "kernel's driver virtio-pci")),
                 (configuration("0000:00:1f.2", "0000:00:11.0"), ("0000:00:1f.2 is no network card", "scripts/bind status")),
                 (KINDS[1].config, ("0000:00:12.0 is with the kernel's driver e1000e (eth", "scripts/bind nic 0000:00:12.0", "scripts/bind nic 0000:00:13.0")),
                 (configuration("0000:00:10.0", "00:10.0"), ("0000:00:10.0 is behind interface Inside already",))]
        for config, words in cases:
            said = self.appliance.refused(config)
            missing = [w for w in words if w not in said]
            expect(not missing and "EAL" not in said, f"{missing} not in: {said}")
        return f"{len(cases)} refused, each with what to do"

    def test_hugepages_are_reserved(self):
        said = self.guest.run(BIND, "hugepages", HUGEPAGES)
        return expect(f"{HUGEPAGES} reserved" in said, said.strip())

    def test_cards_are_bound(self):
        said = self.guest.run(BIND, "nic", *[c.address for c in self.cards], timeout=180)
        bound = [c for c in self.cards if f"{c.address} eth" in said and f"is with vfio-pci now: port pci {c.address}" in said]
        expect(len(bound) == len(self.cards), said)
        rows = self.rows()
        wrong = [r for r in rows if r[3] != "vfio-pci" or r[4] != "-" or "was with" not in " ".join(r)]
        expect(len(rows) == len(self.cards) and not wrong, f"{rows}")
        return f"{len(rows)} with vfio-pci, `scripts/bind status` says so"

    def rows(self):
        """The cards in `scripts/bind status`, word by word."""
        return [line.split() for line in self.guest.run(BIND, "status", timeout=60).splitlines() if line.startswith("0000:")]

    def test_a_card_without_permission_is_refused(self):
        self.guest.write("/run/metal/spillway.conf", KINDS[0].config)
        done = self.guest.try_run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *self.appliance.command(1))
        said = done["out"] + done["err"]
        return expect(done["status"] == 1 and "/dev/vfio/" in said and "run as root" in said and "EAL" not in said, said.strip().splitlines()[-1])

    def test_works_without_hugepages(self):
        Between(self, KINDS[0]).begin()
        self.appliance.start(KINDS[0].config, 1)
        pings = traffic.ping(self.lab.in1, OUT, 10, 0.02)
        log = self.appliance.log()
        self.appliance.stop()
        warned = [line for line in log.splitlines() if "using normal pages" in line and "vm.nr_hugepages=" in line]
        return expect(pings.lost == 0 and len(warned) == 1, f"on normal pages, {len(warned)} warning, pings: {pings}")

    def test_cards_are_given_back(self):
        said = self.guest.run(BIND, "back", *[c.address for c in self.cards], timeout=180)
        drivers = {r[0]: r[3] for r in self.rows()}
        wanted = {c.address: kind.kernel for kind in KINDS for c in kind.cards}
        expect(drivers == wanted, f"{drivers}\n{said}")
        macs = {link["address"] for link in json.loads(self.guest.run("ip", "-json", "link"))}
        missing = [c.mac for c in self.cards if c.mac not in macs]
        expect(not missing, f"the kernel has no interface {missing}")
        said = self.guest.run(BIND, "hugepages", "restore")
        return expect("0 reserved" in said, f"{len(drivers)} with the kernel's drivers again, {said.strip()}")


class Between:
    """Checks with Spillway between two cards of a kind and two workers."""

    def __init__(self, machine, kind):
        self.machine, self.kind, self.lab, self.guest, self.appliance = machine, kind, machine.lab, machine.guest, machine.appliance

    def begin(self):
        """Only these cards' taps are on the networks; hosts know nobody."""
        for card in self.machine.cards:
            self.lab.wire.ip(f"link set {card.tap} " + (f"master br{card.side} up" if card in self.kind.cards else "nomaster down"))
        for host in (self.lab.in1, self.lab.in2, self.lab.out):
            host.ip("neigh flush all")

    def start(self, workers):
        """Starts it and waits for the links, some of which take a moment; the ports."""
        self.appliance.start(self.kind.config, workers)
        return wait_until(lambda: (p := self.appliance.ports()) and all(port["link_up"] for port in p) and p, 15, "links are up", every_s=0.3)

    def test_starts(self):
        ports = self.start(2)
        for name, port, card, spread in zip(("Inside", "Outside"), ports, self.kind.cards, self.kind.spread):
            expect(port["name"] == name, f"{port['name']}, not {name}")
            seen = {k: port[k] for k in ("driver", "mac", "rx_queues", "tx_queues", "spread", "link_up")}
            wanted = {"driver": self.kind.driver, "mac": card.mac, "rx_queues": self.kind.queues, "tx_queues": 2, "spread": spread, "link_up": True}
            expect(seen == wanted, f"{name}: {seen}, not {wanted}")
        brief = self.appliance.exec("show ip interface brief")
        up = [line for line in brief.splitlines() if line.split()[-2:] == ["up", "up"]]
        expect(len(up) == 2, brief)
        return f"{self.kind.driver}, {self.kind.queues} queues a port, spread by {' and '.join(self.kind.spread)}"

    def test_pings(self):
        pings = {}
        for host, address in ((self.lab.in1, OUT), (self.lab.in2, OUT), (self.lab.in1, INSIDE_GATEWAY), (self.lab.out, OUTSIDE_ADDRESS)):
            traffic.ping(host, address, 1)  # who asks first waits for ARP
            for size in (56, 1472):
                pings[f"{host.role} to {address}, {size}"] = traffic.ping(host, address, 20, 0.01, size=size)
        lost = {who: p.lost for who, p in pings.items() if p.lost}
        return expect(not lost, f"{lost or 0} lost of {20 * len(pings)}, own addresses and through the translation")

    def test_tcp(self):
        figures = []
        for offload in ("off", "on"):
            for host in (self.lab.in1, self.lab.in2, self.lab.out):
                # With it on, hosts leave checksums for the card to finish: nothing behind it may be wrong.
                host.call("ethtool", "-K", "eth0", "tx", offload)
            for client, upload in ((self.lab.in1, True), (self.lab.in2, False)):
                got = traffic.transfer(client, self.lab.out, OUT, 4 << 20, upload, timeout_s=40)
                expect(got.identical, f"tx {offload}: {got}")
                figures.append(f"{got.octets * 8 / got.seconds / 1e6:.0f}")
        for host in (self.lab.in1, self.lab.in2, self.lab.out):
            host.call("ethtool", "-K", "eth0", "tx", "off")
        with traffic.TcpEcho(self.lab.out, 7000):
            many = traffic.tcp_connections([self.lab.in1, self.lab.in2], OUT, 7000, 60, octets=4 << 10)
        expect(many.intact == 60, f"{many} {many.refused}")
        return f"4 x 4 MiB identical, checksums by the sender and left to the card ({', '.join(figures)} Mbit/s); {many.intact} connections at once"

    def test_flows(self):
        ports_before = self.quiet()
        tap_before = [self.tap_sent(card) for card in self.kind.cards]
        drops_before, before = self.appliance.stats()
        with traffic.UdpEcho(self.lab.out, PORTS):
            sockets = [self.lab.in1.udp(client) for client in CLIENTS for _ in range(10)]
            flows = traffic.udp_flows(sockets, [(OUT, port) for port in PORTS], window=48)
            again = traffic.udp_flows(sockets, [(OUT, port) for port in PORTS], window=48, seed=2)
            for s in sockets:
                s.close()
        expect(flows.right == again.right == flows.flows, f"{flows}; again {again}")
        drops, after = self.appliance.stats()
        expect(drops == drops_before, f"drops before {drops_before}, after {drops}")
        total = {name: sum(w[name] - b[name] for w, b in zip(after, before)) for name in after[0] if isinstance(after[0][name], int)}
        shares = [w["created_udp"] - b["created_udp"] for w, b in zip(after, before)]
        listed = sum(line.startswith("udp 198.51.100.1:") for line in self.appliance.exec("show ip nat translations udp").splitlines())
        expect(total["created_udp"] == flows.flows == listed, f"{total['created_udp']} entries made, {listed} shown for {flows.flows} flows")
        # Both workers have work, and packets come to where their entries are where the card can be told to do so.
        expect(min(shares) * 4 > flows.flows, f"entries by worker: {shares}")
        if self.kind.spread[1] == "addresses_and_ports":
            expect(total["answers_steered"] == flows.flows and total["answers_not_steered"] == 0, f"steered {total['answers_steered']}, not {total['answers_not_steered']}")
            expect(total["handoff_out"] <= 4, f"{total['handoff_out']} handed over of {4 * flows.flows}")
        else:
            expect(total["handoff_out"] > flows.flows, f"{total['handoff_out']} handed over: who does that?")
        # What the taps gave the cards, the cards and the workers counted.
        ports = self.quiet()
        for card, sent, was, now in zip(self.kind.cards, tap_before, ports_before, ports):
            given = self.tap_sent(card) - sent
            counted = now["rx_packets"] - was["rx_packets"]
            # A neighbour may ask who somebody is between the two looks.
            expect(2 * flows.flows <= counted and abs(counted - given) <= 4, f"{card.side}: the tap gave {given}, workers counted {counted}")
            errors = {k: v for k, v in now["device_counters"].items() if v and ("err" in k or "miss" in k or "drop" in k)}
            expect(not errors, f"{card.side}: {errors}")
        return (f"{2 * flows.flows} datagrams and answers right, {total['handoff_out']} of {4 * flows.flows} handed over, entries by worker {shares}, "
                f"{4 * flows.flows / (flows.seconds + again.seconds):.0f} packets/s, counters agree")

    def quiet(self):
        """Both ports, once what the devices count is what the workers count."""
        def same():
            # Devices are asked once a second.
            ports = self.appliance.ports()
            counts = [(p[f"{way}_packets"], p["device_counters"][f"{way}_good_packets"]) for p in ports for way in ("rx", "tx")]
            seen.append(counts)
            return ports if all(workers == device for workers, device in counts) else None
        seen = []
        try:
            return wait_until(same, 15, "counters agree", every_s=0.3)
        except TimeoutError as e:
            raise TimeoutError(f"{e}: workers' and device's, received and sent, inside and outside: {seen[-1]}") from e

    def tap_sent(self, card):
        """Frames that the host has given the card."""
        return json.loads(self.lab.wire.call("ip", "-json", "-s", "link", "show", card.tap))[0]["stats64"]["tx"]["packets"]

    def test_link(self):
        card = self.kind.cards[1]
        states = []
        for up in (False, True):
            self.guest.set_link(card, up)
            if self.kind.hears_link:
                wait_until(lambda: self.appliance.ports()[1]["link_up"] == up, 15, f"the link is {'up' if up else 'down'}", every_s=0.3)
                # Its routes go and come with it, though the kernel's interface stands on no cable.
                wait_until(lambda: ("198.51.100.0/24" in self.appliance.exec("show ip route")) == up, 15, f"the route is {'there' if up else 'gone'}", every_s=0.3)
                answered = traffic.ping(self.lab.in1, OUT, 2, 0.05).received
                expect(up or not answered, f"{answered} pings answered without a link")
            brief = self.appliance.exec("show ip interface brief")
            states.append(next(line.split()[-1] for line in brief.splitlines() if line.startswith("Outside")))
        log = self.appliance.log()
        wait_until(lambda: traffic.ping(self.lab.in1, OUT, 5, 0.05).lost == 0, 15, "pings after the link is back", every_s=0.3)
        words = [f"the link of {card.address} is down", f"the link of {card.address} is up"]
        return expect(states == ["down", "up"] and all(w in log for w in words), f"{' then '.join(states)}, told and logged")

    def test_another_program_is_kept_out(self):
        said = self.appliance.refused(self.kind.config)
        expect("another program has it" in said and "EAL" not in said, said)
        return expect(traffic.ping(self.lab.in1, OUT, 5, 0.05).lost == 0, "refused, and the first one goes on")

    def test_ends_and_starts_again(self):
        seconds = self.appliance.stop()
        spreads = [port["spread"] for port in self.start(1)]
        wait_until(lambda: traffic.ping(self.lab.in1, OUT, 1).received, 10, "a ping is answered", every_s=0.1)
        pings = traffic.ping(self.lab.in1, OUT, 20, 0.01)
        self.appliance.stop()
        return expect(pings.lost == 0 and spreads == ["none", "none"], f"ended in {seconds:.1f} s; with one worker: {pings}")

    def end(self):
        """Whatever has happened, the next kind begins anew."""
        self.appliance.stop(check=False)
