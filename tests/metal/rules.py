"""What is asserted of flow rules, on the one device here that takes some: net_tap, for which the kernel's traffic control does them.

    client1, client2 ── macvlan ── tapin ─┤ Spillway ├─ tapout ── macvlan ── servers      (namespaces of the guest)

Without rules the kernel spreads what a tap brings by its own hash, ESP by its SPI: half of it comes to a worker that it is not for. Answers it brings to the
queue on which their requests left, and so IKE comes right by itself: what its rules do, only the kernel's counts tell.
The taps stay where Spillway is: one that moves to another namespace loses its rules, and its driver finds it no more.
"""

import json

from appliance import configuration
from lab.report import expect
from lab.topology import IN1, IN2, INSIDE_GATEWAY, OUT, OUTSIDE_ADDRESS, wait_until

TAPS = ("tapin", "tapout")
CLIENTS = {"client1": IN1, "client2": IN2}
SERVERS = "servers"
#: Each belongs to another one of two workers.
PEERS = (OUT, "198.51.100.3")
TUNNELS_EACH = 4
#: What a peer's rules are for: ESP, as the kernel names it, and UDP ports.
KINDS_OF_RULES = ("32", 500, 4500)
RULES = len(KINDS_OF_RULES) * len(PEERS)
NONE = {"installed": 0, "missing": 0}
#: Without it the kernel refuses every rule.
CLASSIFIER = "cls_flower"


class Rules:
    """Checks of rules with two workers, IPsec clients and servers."""

    name = "tap rules"

    def __init__(self, machine):
        self.guest, self.appliance = machine.guest, machine.appliance
        self.config = configuration(*[f"net_tap{n},iface={tap}" for n, tap in enumerate(TAPS)], bus="vdev")

    def begin(self):
        """The kernel has all that a tap with rules wants, but the classifier, and gets no more."""
        self.guest.run("modprobe", "-a", "tun", "macvlan", "sch_multiq", "sch_ingress", "act_skbedit")
        self.guest.run("modprobe", "-r", CLASSIFIER)
        self.modules_on_demand(False)

    def modules_on_demand(self, on):
        """Whether the guest's kernel loads modules that are asked for by network interfaces."""
        self.guest.run("sysctl", "-qw", f"kernel.modprobe={'/sbin/modprobe' if on else '/bin/false'}")

    def test_starts(self):
        self.appliance.start(self.config, 2)
        self.make_hosts()
        ports = self.appliance.ports()
        seen = [(p["driver"], p["rx_queues"], p["spread"], p["flow_rules"]) for p in ports]
        expect(seen == [("net_tap", 2, "unknown", NONE)] * 2, f"{seen}")
        return "net_tap, 2 queues a port, spread by the kernel, no rules yet"

    def make_hosts(self):
        """Namespaces behind the taps."""
        hosts = [(name, TAPS[0], [address]) for name, address in CLIENTS.items()] + [(SERVERS, TAPS[1], PEERS)]
        lines = [line for name, tap, _ in hosts for line in (f"netns add {name}", f"link add {name} link {tap} netns {name} type macvlan mode bridge")]
        script = ["set -e", "ip -batch - <<'LINES'", *lines, "LINES"]
        for name, tap, addresses in hosts:
            route = [f"route add default via {INSIDE_GATEWAY}"] if tap == TAPS[0] else []
            script += [f"ip -n {name} -batch - <<'LINES'", f"link set {name} up", *[f"addr add {a}/24 dev {name}" for a in addresses], *route, "LINES"]
        self.guest.run("bash", "-c", "\n".join(script))

    # --- what tests are made of ---

    def send(self, first, last):
        """ESP and IKE in these rounds, all answered; how many requests there were of both."""
        about = {"clients": CLIENTS, "servers": SERVERS, "peers": PEERS, "global": OUTSIDE_ADDRESS, "each": TUNNELS_EACH, "rounds": [first, last]}
        seen = self.guest.ask("call", timeout_s=60, module="tunnels", about=about)["answer"]
        expect(seen["right"] == seen["esp"] + seen["ike"] > 0 and not seen["wrong"], f"not all is right: {seen}")
        return seen["esp"], seen["ike"]

    def count(self, first, last):
        """As above, nothing dropped; (packets both ways, how many of them workers handed over, what they were)."""
        drops_before, before = self.appliance.stats()
        esp, ike = self.send(first, last)
        drops, after = self.appliance.stats()
        expect(drops == drops_before, f"drops before {drops_before}, after {drops}")
        handed = sum(w["handoff_out"] - b["handoff_out"] for w, b in zip(after, before))
        return 2 * (esp + ike), handed, f"{esp} ESP packets and {ike} of IKE, and their answers"

    def owners(self):
        """The worker of each peer: the one that knows its tunnels."""
        said = {peer: json.loads(self.guest.run(self.appliance.program, "explain", "esp", peer, "1000", "--json"))["answers"]
                for peer in PEERS}
        owners = {peer: answers[0]["worker"] for peer, answers in said.items()}
        return expect(sorted(owners.values()) == [0, 1], owners)

    def of_the_ports(self):
        """Rules of both ports, as Spillway tells."""
        return [port["flow_rules"] for port in self.appliance.ports()]

    def of_the_taps(self):
        """Rules of both taps, as the kernel has them: peer and kind to queue and packets."""
        return [self.of_the_kernel(tap, end) for tap, end in zip(TAPS, ("dst", "src"))]

    def of_the_kernel(self, tap, end):
        """Its filters on packets whose `end` is a peer."""
        found = {}
        for entry in json.loads(self.guest.run("tc", "-s", "-json", "filter", "show", "dev", tap, "parent", "1:")):
            if "actions" in (options := entry.get("options", {})):
                keys, (action,) = options["keys"], options["actions"]
                kind = keys[f"{end}_port"] if keys["ip_proto"] == "udp" else keys["ip_proto"]
                found[keys[f"{end}_ip"], kind] = (action["queue_mapping"], action["stats"]["packets"])
        return found

    def settle(self, installed, missing=0):
        """Waits until Spillway tells so many rules of each port; the kernel's, which must be as many."""
        wanted = [{"installed": installed, "missing": missing}] * len(TAPS)
        wait_until(lambda: self.of_the_ports() == wanted, 15, f"each port has {installed} rules and misses {missing}", every_s=0.3)
        kernel = self.of_the_taps()
        return expect([len(rules) for rules in kernel] == [installed] * len(TAPS), kernel)

    # --- the rest ---

    def test_handed_over_while_rules_are_refused(self):
        self.send(1, 2)
        self.settle(0, missing=RULES)
        packets, handed, what = self.count(3, 12)
        # Half of the ESP packets, give or take; else what follows says nothing.
        expect(handed * 10 > packets, f"{handed} of {packets} handed over")
        told = [line for line in self.appliance.log().splitlines() if "refused to take a flow rule" in line]
        expect(len(told) == len(TAPS), f"told {len(told)} times: {told}")
        return f"{what}; {handed} of {packets} handed over"

    def test_brought_to_their_workers(self):
        self.modules_on_demand(True)
        before = self.settle(RULES)
        packets, handed, what = self.count(13, 22)
        expect(handed == 0, f"{handed} of {packets} handed over in spite of {RULES} rules a port")
        owners = self.owners()
        wanted = {(peer, kind): (owners[peer], 10 * len(CLIENTS) * (TUNNELS_EACH if kind == "32" else 1)) for peer in PEERS for kind in KINDS_OF_RULES}
        for tap, was, now in zip(TAPS, before, self.of_the_taps()):
            counted = {rule: (queue, count - was[rule][1]) for rule, (queue, count) in now.items()}
            expect(counted == wanted, f"{tap}: queues and packets of rules are {counted}, not {wanted}")
        return f"{what}; none handed over, {RULES} rules a port, each had its packets"

    def test_rules_go(self):
        self.appliance.exec("clear ip nat translation *")
        self.settle(0)
        self.send(1, 2)
        self.settle(RULES)
        return "with the last tunnel, and come with the next one"

    def test_ends(self):
        seconds = self.appliance.stop()
        log = self.appliance.log()
        return expect("take a flow rule away" not in log and "did not close cleanly" not in log, f"with rules, in {seconds:.1f} s")

    def end(self):
        """Whatever has happened, the guest is as it was."""
        self.appliance.stop(check=False)
        self.modules_on_demand(True)
        for name in (*CLIENTS, SERVERS):
            self.guest.try_run("ip", "netns", "del", name)
