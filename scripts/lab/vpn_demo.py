"""`scripts/demo vpn`: three VPN clients of one server, behind the Linux kernel's NAT and then behind Spillway."""

from .devices import KernelNat, Spillway, configuration
from .report import Report, expect
from .topology import wait_until
from .vpn import VpnLab
from .vpn_endpoint import Ike

PICTURE = """\
c1 10.1.0.11 --+
c2 10.1.0.12 --+-- 10.1.0.1 [ NAT device ] 198.51.100.1 -- VPN server 198.51.100.2
c3 10.1.0.13 --+
Each is a Linux kernel of its own, with libreswan. UDP encapsulation is off: the tunnels are native ESP, which has no ports."""
PINGS = 50


def _replies(lab, ike):
    """Brings up all tunnels at once and pings through all at once; returns the `Pings` of each client."""
    lab.quiet()
    for job in [e.begin_ike(ike) for e in lab.endpoints]:
        job.end()
    for job in [c.begin_tunnel() for c in lab.clients]:
        job.end()
    # With IKEv1 a client has its tunnel a message before the server has.
    wait_until(lambda: {s.spi for c in lab.clients for s in c.sas()} <= {s.spi for s in lab.server.sas()}, 30, "the server has all tunnels", every_s=0.3)
    return [p.end() for p in [c.ping(PINGS) for c in lab.clients]]


def vpn_demo(options):
    """Runs it; the status is 0 only if every client got every reply through Spillway."""
    report, ike, got = Report(), Ike(options.ike), {}
    report.heading("Three VPN clients of one server, through one address", f"IKEv{options.ike} and native ESP")
    report.block(PICTURE)
    report.line()
    with VpnLab(3) as lab:
        report.line(f"  {PINGS} echo requests from each client through its tunnel, all at once:")

        def through(name, make):
            lab.device = make()
            lab.device.start()
            got[name] = _replies(lab, ike)
            return ", ".join(f"{c.guest.name} {p.received} of {p.sent}" for c, p in zip(lab.clients, got[name]))

        def through_spillway():
            figure = through("Spillway", lambda: Spillway(lab, configuration(), workers=options.workers))
            return expect(not any(p.lost for p in got["Spillway"]), figure)
        # The kernel's NAT is shown, not judged.
        report.line(f"  {'':4}           {'the kernel NAT':<26}  {through('kernel', lambda: KernelNat(lab))}")
        lab.device.stop()
        well = report.check("Spillway", through_spillway)
        report.heading("Replies", "kernel: nftables masquerade")
        report.line(f"  {'':8}{'kernel':>12}{'Spillway':>12}")
        for k, c in enumerate(lab.clients):
            cells = [f"{got[name][k].received} of {got[name][k].sent}" if name in got else "-" for name in ("kernel", "Spillway")]
            report.line(f"  {c.guest.name:<8}{cells[0]:>12}{cells[1]:>12}")
        if lab.device.kind == "spillway" and lab.device.alive():
            report.heading("show ip nat translations esp", "out: what a client sends; in: what the server sends to it")
            report.block(lab.device.cli("show", "ip", "nat", "translations", "esp"))
            report.heading("show ip nat statistics")
            report.block(lab.device.cli("show", "ip", "nat", "statistics"))
        if not well:
            folder = f"/tmp/spillway-demo-vpn-{lab.name}"
            report.line(f"\n  what is needed to find out why is in {folder}: {' '.join(lab.evidence(folder))}")

    def served(name):
        return sum(p.received == p.sent for p in got.get(name, []))
    report.line()
    verdict = f"{served('kernel')} of 3 clients work behind the kernel's NAT, {served('Spillway')} of 3 behind Spillway"
    report.line(report.paint(verdict, "ok" if well else "FAIL"))
    return 0 if well else 1
