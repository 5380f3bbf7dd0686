"""`scripts/demo`: real hosts, real traffic, a NAT device between them, and what happened.

    demo [--workers N] [--nat kernel] [--keep]     address translation for a private network
    demo vpn [--workers N] [--ike 1|2]             three VPN clients of one server through one address
    demo end [NAME]                                ends what --keep left running
"""

import argparse
import hashlib
import os
import socket
import sys

if __package__ in (None, ""):
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lab import guard, traffic  # noqa: E402
from lab.devices import HTTP_PORT, KernelNat, Spillway, configuration, translations_in_kernel  # noqa: E402
from lab.report import Report, expect  # noqa: E402
from lab.topology import INSIDE_GATEWAY, OUT, OUTSIDE_ADDRESS, Lab, end_on_signals, wait_until  # noqa: E402
from lab.vpn_demo import vpn_demo  # noqa: E402

PICTURE = """\
in1 10.1.0.11 --+
                +-- 10.1.0.1 [ {device} ] 198.51.100.1 -- out 198.51.100.2
in2 10.1.0.12 --+"""
FORWARD = "ip nat inside source static tcp 10.1.0.12 80 interface Outside 8080"
KERNEL_FORWARD = [("dnat", "ip daddr 198.51.100.1 tcp dport 8080 dnat to 10.1.0.12:80")]
NAME = "www.example.net"
FILE_OCTETS = 64 << 20


def serve(lab):
    """Starts the servers of the demo: web servers outside and on in2, a name server outside."""
    os.makedirs(lab.path("www"))
    digest = hashlib.sha256()
    with open(lab.path("www/file"), "wb") as f:
        for _ in range(FILE_OCTETS >> 20):
            block = os.urandom(1 << 20)
            digest.update(block)
            f.write(block)
    with open(lab.path("www/index.html"), "w") as f:
        f.write("hello through the translation\n")
    for host, port in ((lab.out, 8080), (lab.in2, 80)):
        host.start("python3", "-m", "http.server", port, "--directory", lab.path("www"), log=f"http-{host.role}.log")
    lab.out.start("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=",
                  f"--listen-address={OUT}", "--bind-interfaces", f"--address=/{NAME}/{OUT}", log="dnsmasq.log")
    for host, port in ((lab.out, 8080), (lab.in2, 80), (lab.out, 53)):
        wait_until(lambda host=host, port=port: f":{port} " in host.call("ss", "-Hltn"), 20, f"a server on {host.role} port {port}")
    return digest.hexdigest()


def checks(lab, report, sha256):
    """Every check of the demo, in the order in which a person would try."""
    def pings():
        running = [traffic.start_ping(h, OUT, 200) for h in (lab.in1, lab.in2)]
        a, b = (traffic.end_ping(p) for p in running)
        return expect(a.lost + b.lost == 0, f"in1 {a.received} of {a.sent}, in2 {b.received} of {b.sent} answered, {a.average_ms:.2f} ms")

    def gateway():
        p = traffic.ping(lab.in1, INSIDE_GATEWAY, 20)
        q = traffic.ping(lab.out, OUTSIDE_ADDRESS, 20)
        return expect(p.lost + q.lost == 0, f"{INSIDE_GATEWAY} {p.received} of {p.sent}, {OUTSIDE_ADDRESS} {q.received} of {q.sent} answered")

    def tcp(reverse):
        rate = traffic.iperf3(lab.in1, lab.out, OUT, seconds=3, reverse=reverse)["bits_per_second"] / 1e6
        return expect(rate > 1, f"{rate:.0f} Mbit/s for 3 s with iperf3")

    def http():
        lab.in1.call("curl", "-sS", "--max-time", 60, "-o", lab.path("got"), f"http://{OUT}:8080/file")
        with open(lab.path("got"), "rb") as f:
            got = hashlib.file_digest(f, "sha256").hexdigest()
        return expect(got == sha256, f"{traffic.octets_text(FILE_OCTETS)} with curl, sha256 {got[:12]}... {'as sent' if got == sha256 else 'DIFFERS'}")

    def udp():
        end = traffic.iperf3(lab.in1, lab.out, OUT, seconds=2, udp_rate="20M")
        return expect(end["lost_packets"] == 0, f"{end['lost_packets']} of {end['packets']} datagrams lost at 20 Mbit/s")

    def flows():
        with traffic.UdpEcho(lab.out, [7007]):
            sockets = [h.udp(port=30000 + k) for h in (lab.in1, lab.in2) for k in range(500)]
            try:
                f = traffic.udp_flows(sockets, [(OUT, 7007)])
            finally:
                for s in sockets:
                    s.close()
        return expect(f.right == f.flows, f)

    def dns():
        good = 0
        for k in range(20):
            answer = lab.in2.call("dig", "+short", "+tries=1", "+time=2", *(["+tcp"] if k % 4 == 3 else []), f"@{OUT}", NAME, check=False)
            good += answer.strip() == OUT
        return expect(good == 20, f"{good} of 20 questions answered (5 by TCP)")

    def traceroute():
        way = traffic.hops(lab.in1, OUT)
        return expect(way == [INSIDE_GATEWAY, OUT], "in1 > " + " > ".join(way))

    def forward():
        page = lab.out.call("curl", "-sS", "--max-time", 10, f"http://{OUTSIDE_ADDRESS}:8080/index.html").strip()
        return expect(page.startswith("hello"), f"{OUTSIDE_ADDRESS}:8080 from outside is in2:80: \"{page}\"")

    def refused():
        with lab.in1.udp(port=40000, timeout=0.5) as asker, lab.out.udp(port=7009) as friend, lab.out.udp(port=7010) as stranger, \
                lab.in1.listen(2222) as listener:
            asker.sendto(b"?", (OUT, 7009))
            _, mapped = friend.recvfrom(100)
            stranger.sendto(b"unasked", mapped)
            friend.sendto(b"asked", mapped)
            got = [asker.recv(100)]
            try:
                got.append(asker.recv(100))
            except TimeoutError:
                pass
            expect(got == [b"asked"], f"the inside host got {got}")
            try:
                lab.out.connect(OUTSIDE_ADDRESS, 2222, timeout=1).close()
            except OSError as e:
                tcp = "refused" if isinstance(e, ConnectionRefusedError) else "unanswered"
            else:
                tcp = "CONNECTED"
            listener.settimeout(0.1)
            try:
                listener.accept()
                tcp = "REACHED THE INSIDE HOST"
            except TimeoutError:
                pass
            return expect(tcp in ("refused", "unanswered"), f"TCP from outside {tcp}, UDP from a stranger not delivered")

    report.check("ping", pings)
    report.check("ping the gateway", gateway)
    report.check("TCP up", lambda: tcp(False))
    report.check("TCP down", lambda: tcp(True))
    report.check("HTTP download", http)
    report.check("UDP stream", udp)
    report.check("1,000 UDP flows", flows)
    report.check("DNS", dns)
    report.check("traceroute", traceroute)
    report.check("port forward from outside", forward)
    report.check("unasked from outside", refused)


def show(lab, report):
    """What the device says about it."""
    device = lab.device
    if device.kind == "kernel":
        report.heading("The kernel's NAT", "for comparison")
        report.block(f"{translations_in_kernel(lab)} tracked connections")
        return
    report.heading("show ip nat translations")
    # Some of each protocol: a thousand rows of UDP would hide the others.
    header = None
    for protocol, rows in (("tcp", 6), ("udp", 6), ("icmp", 4)):
        first, *lines = device.cli("show", "ip", "nat", "translations", protocol).splitlines()
        if header is None:
            header = first
            report.block(header)
        if lines:
            report.block("\n".join(lines), rows=rows, of=protocol)
    report.heading("show ip nat statistics")
    report.block(device.cli("show", "ip", "nat", "statistics"))
    report.heading("Cost", "all that a worker does in busy rounds, the kernel's part of af_packet ports with it")
    for number, (cycles, packets) in enumerate(device.cycles_per_packet()):
        report.block(f"worker {number}: {cycles:.0f} cycles a packet, {packets} packets" if packets else f"worker {number}: no packets")
    report.heading("Drops by reason")
    drops = {k: v for k, v in device.drops().items() if v}
    report.block("\n".join(f"{v:>10}  {k}" for k, v in sorted(drops.items(), key=lambda d: -d[1])) or "none")


def keep(lab, report):
    """Leaves it running and says how to look around."""
    space, device = lab.dev.name, lab.device
    report.heading("Left running", f"end it with: scripts/demo end {lab.name}")
    lines = [f"ip netns exec {lab.in1.name} ping {OUT}", f"ip netns exec {lab.in1.name} curl http://{OUT}:8080/index.html",
             f"ip netns exec {lab.out.name} curl http://{OUTSIDE_ADDRESS}:8080/index.html", f"ip netns exec {lab.in1.name} bash"]
    if device.kind == "spillway":
        program = device.program
        lines += [f"{program} show ip nat translations verbose --socket {device.socket}",
                  f"{program} show ip nat statistics --json --socket {device.socket}",
                  f"ip netns exec {space} curl -s http://127.0.0.1:{HTTP_PORT}/metrics",
                  f"$EDITOR {device.config_file} && {program} reload --socket {device.socket}", f"less {device.log_file}"]
    else:
        lines += [f"ip netns exec {space} nft list ruleset"]
    lines += [f"ip netns exec {space} tcpdump -ni outside", f"scripts/demo end {lab.name}"]
    report.block("\n".join(lines))
    lab.keep()


def nat_demo(options):
    """Two hosts share one address."""
    report = Report()
    report.heading("Two private hosts reach a public one through one address",
                   "the Linux kernel's masquerade" if options.nat == "kernel" else f"Spillway, {options.workers} worker{'s' * (options.workers > 1)}")
    report.block(PICTURE.format(device=options.nat))
    report.line()
    with Lab() as lab:
        if options.nat == "kernel":
            KernelNat(lab, rules=KERNEL_FORWARD).start()
        else:
            Spillway(lab, configuration(extra=FORWARD), workers=options.workers).start()
        sha256 = serve(lab)
        checks(lab, report, sha256)
        show(lab, report)
        if options.nat == "spillway" and not lab.device.alive():
            report.check("spillway still runs", lambda: expect(False, lab.device.log()[-1500:]))
        if options.keep:
            keep(lab, report)
        elif report.failed and lab.device.log():
            report.heading("Last lines of the log")
            report.block("\n".join(lab.device.log().splitlines()[-20:]))
    report.line()
    report.line(report.paint(f"{report.passed} of {report.passed + report.failed} checks ok", "ok" if not report.failed else "FAIL"))
    return 1 if report.failed else 0


def end_demo(options):
    """Ends labs that were kept."""
    alive = guard.labs()
    wanted = [options.name] if options.name else list(alive)
    for name in wanted:
        if name not in alive:
            print(f"demo: no lab {name}; there are: {' '.join(alive) or 'none'}", file=sys.stderr)
            return 1
        if not guard.is_kept(name) and alive[name]:
            print(f"{name}: in use by a running command, left alone")
            continue
        guard.end(name)
        print(f"{name}: ended")
    if not wanted:
        print("nothing is running")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="demo", description="Real hosts on a private and a public network, with Spillway between them.")
    commands = parser.add_subparsers(dest="command", metavar="nat|vpn|end")
    nat = commands.add_parser("nat", help="address translation for a private network (what runs without a sub-command)")
    nat.set_defaults(action=nat_demo)
    nat.add_argument("--workers", type=int, default=1, help="workers that Spillway runs (default 1)")
    nat.add_argument("--nat", choices=["spillway", "kernel"], default="spillway", help="the NAT device: Spillway, or the kernel's to compare")
    nat.add_argument("--keep", action="store_true", help="leave everything running and say how to look around")
    vpn = commands.add_parser("vpn", help="three VPN clients of one server: the kernel's NAT and Spillway, side by side")
    vpn.set_defaults(action=vpn_demo)
    vpn.add_argument("--workers", type=int, default=1, help="workers that Spillway runs (default 1)")
    vpn.add_argument("--ike", type=int, choices=[1, 2], default=2, help="version of IKE (default 2)")
    end = commands.add_parser("end", help="end what --keep left running")
    end.set_defaults(action=end_demo)
    end.add_argument("name", nargs="?", help="the lab's name (default: all that were kept)")
    words = sys.argv[1:]
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words = ["nat", *words]
    options = parser.parse_args(words)
    end_on_signals()
    try:
        return options.action(options)
    except KeyboardInterrupt:
        print("\ninterrupted: everything was taken away", file=sys.stderr)
        return 130
    except (FileNotFoundError, PermissionError, RuntimeError, TimeoutError, socket.error) as e:
        print(f"demo: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
