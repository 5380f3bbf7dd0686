"""The shell in a real terminal, commands in scripts, and changes while traffic passes."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from case import Case, expect, wait_until
from lab import traffic
from lab.devices import Spillway
from lab.topology import IN1, IN2, INSIDE_GATEWAY, OUT, OUTSIDE_ADDRESS, Lab

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Terminal:
    """`spillway shell` at the end of a pseudo-terminal, 24 lines of 100 columns."""

    def __init__(self, device, rows=24):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(device.program, [device.program, "shell", "--socket", device.socket])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 100, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)
        if self.pid > 0:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def wait_for(self, wanted, timeout=15):
        """What came until `wanted`, a regular expression, was seen; the rest stays."""
        end = time.monotonic() + timeout
        while True:
            found = re.search(wanted, self.seen)
            if found:
                text, self.seen = self.seen[:found.end()], self.seen[found.end():]
                return text
            left = end - time.monotonic()
            expect(left > 0, f"no {wanted!r} within {timeout} s; last came {self.seen[-400:]!r}")
            if select.select([self.fd], [], [], left)[0]:
                try:
                    came = os.read(self.fd, 65536)
                except OSError:
                    came = b""
                expect(came, f"the shell ended; last came {self.seen[-400:]!r}")
                self.seen += _ESCAPES.sub("", came.decode(errors="replace"))

    def type(self, text):
        os.write(self.fd, text.encode())

    def run(self, line, prompt):
        """Types a line and return; returns what came before the prompt `prompt`."""
        self.type(line + "\r")
        text = self.wait_for(re.escape(prompt) + "$")
        # The editor draws the line that is typed again and again; the answer is what follows it.
        return text[:-len(prompt)].partition(line + "\n")[2]

    def ended(self, timeout=10):
        """Waits for the end; returns the exit code."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    os.read(self.fd, 65536)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise TimeoutError("the shell did not end")


class Shell(Case):
    kernel = None
    extra = f"ip nat inside source static {IN2} 198.51.100.10\n"

    def _terminal(self, rows=24):
        terminal = Terminal(self.device, rows)
        terminal.wait_for("lab>$")
        return terminal

    def _enabled(self, rows=24):
        terminal = self._terminal(rows)
        terminal.run("enable", "lab#")
        return terminal

    def _show(self, command):
        return self.device.cli("exec", command)

    def test_views_modes_and_the_end(self):
        prompts = []
        with self._terminal() as t:
            refused = t.run("configure terminal", "lab>")
            expect("Invalid input" in refused, refused)
            for line, prompt in (("en", "lab#"), ("conf t", "lab(config)#"), ("int Inside", "lab(config-if)#"), ("exit", "lab(config)#"),
                                 ("ip access-list extended X", "lab(config-ext-nacl)#"), ("permit ip any any", "lab(config-ext-nacl)#"),
                                 ("no ip access-list extended X", "lab(config)#"), ("route-map M permit 10", "lab(config-route-map)#"),
                                 ("no route-map M", "lab(config)#"), ("end", "lab#"), ("disable", "lab>")):
                t.run(line, prompt)
                prompts.append(prompt)
            t.type("exit\r")
            status = t.ended()
        return expect(status == 0, f"{', '.join(dict.fromkeys(prompts))}; exit code {status}")

    def test_help_and_completion_at_every_word(self):
        with self._enabled() as t:
            asked = []
            for start, word in (("", "configure"), ("sh", "show"), ("show ip ", "nat"), ("show ip nat ", "translations"), ("show ip nat translations ", "verbose"),
                                ("show arp | ", "include")):
                t.type(start + "?")
                text = t.wait_for(rf"lab#{re.escape(start)}$")
                expect(re.search(rf"\n  {word} +[A-Z]", text), f"`{start}?`: {text}")
                asked.append(start + "?")
                t.type("\x15")
            t.type("sh\tip n\ttr\tverb\t\r")
            t.wait_for(r"show ip nat translations verbose\s+Pro Inside global[\s\S]*?lab#$")
            t.run("conf t", "lab(config)#")
            for start, word in (("ip nat inside ", "source"), ("ip nat inside source list ", "<1-199>"), ("ip route 0.0.0.0 ", "A.B.C.D")):
                t.type(start + "?")
                text = t.wait_for(rf"\(config\)#{re.escape(start)}$")
                expect(f"\n  {word}" in text, f"`{start}?`: {text}")
                asked.append(start + "?")
                t.type("\x15")
        return f"{len(asked)} places, and a line by tab"

    def test_a_sub_mode_has_the_global_lines_that_begin_as_its_own(self):
        with self._terminal() as t:
            said = t.run(f"explain icmp {IN1} {OUT}", "lab>")
            expect("Invalid" not in said and OUT in said, f"explain before enable: {said}")
            refused = t.run("debug ip nat", "lab>")
            expect("Invalid input" in refused, refused)
            t.run("en", "lab#")
            t.run("conf t", "lab(config)#")
            t.run("int Inside", "lab(config-if)#")
            for start, words in (("ip ", ("address", "nat", "route")), ("ip nat ", ("inside", "pool", "translation")), ("ip nat inside ", ("<cr>", "source"))):
                t.type(start + "?")
                text = t.wait_for(rf"\(config-if\)#{re.escape(start)}$")
                missing = [w for w in words if f"\n  {w}" not in text]
                expect(not missing, f"`{start}?` lacks {missing}: {text}")
                t.type("\x15")
            t.type("ip na\ttr\ticmp-t\t61\r")
            t.wait_for(r"lab\(config\)#$")
            kept = self._show("show running-config | include icmp-timeout")
            t.run("no ip nat translation icmp-timeout", "lab(config)#")
        return expect(kept.strip() == "ip nat translation icmp-timeout 61", f"`ip na<tab>tr<tab>icmp-t<tab>61` below an interface is the global line: {kept.strip()}")

    def test_history_and_what_is_wrong(self):
        with self._enabled() as t:
            expect("Spillway, Version" in t.run("sh ver", "lab#"), "sh ver")
            t.type("\x1b[A")
            t.wait_for("sh ver$")
            t.type("\r")
            expect("Spillway, Version" in t.wait_for("lab#$"), "the line before, again")
            ambiguous = t.run("sh i nat t", "lab#")
            wrong = t.run("show ip nut", "lab#")
            caret = [len(line) - 1 for line in wrong.splitlines() if line.endswith("^")]
            expect("Ambiguous command" in ambiguous and caret == [8], f"{ambiguous!r} {wrong!r}")
            t.run("conf t", "lab(config)#")
            t.run("interface Inside", "lab(config-if)#")
            wrong = t.run("mtu 67", "lab(config-if)#")
        return expect("    ^" in wrong and "68-9216" in wrong, wrong.strip().splitlines()[-1])

    def test_filters_and_pages(self):
        with self._enabled(rows=8) as t:
            t.type("show running-config\r")
            first = t.wait_for("--More-- $")
            t.type("q")
            t.wait_for("lab#$")
            t.type("show running-config\r")
            pages = 1
            t.wait_for("--More-- $")
            while True:
                t.type(" ")
                text = t.wait_for("(--More-- |lab#)$")
                pages += 1
                if text.endswith("lab#"):
                    break
            t.run("terminal length 0", "lab#")
            whole = t.run("show running-config", "lab#")
            included = t.run("show running-config | include ^ ip address|hostname", "lab#").split("\n")
            excluded = t.run("show run | exclude interface", "lab#")
            begun = t.run("show run | begin access-list", "lab#")
            counted = t.run("show run | count ip address", "lab#")
            document = t.run("show version | json", "lab#")
        expect("--More--" not in whole and whole.rstrip().endswith("end") and len(first.splitlines()) <= 10, whole)
        expect([line.split()[0] for line in included if line] == ["hostname", "ip", "ip"], included)
        expect("interface" not in excluded and begun.startswith("access-list") and counted.strip().endswith("= 2"), counted)
        return expect(document.strip().startswith("{"), f"{pages} pages of 7 lines; include, exclude, begin, count, json")

    def test_a_change_at_the_prompt_is_in_force_and_loses_no_packet(self):
        def reaches():
            with self.in1.listen(8000) as listener:
                listener.settimeout(0.5)
                try:
                    self.out.connect(OUTSIDE_ADDRESS, 8080, timeout=1).close()
                    listener.accept()[0].close()
                    return True
                except OSError:
                    return False
        line = f"ip nat inside source static tcp {IN1} 8000 interface Outside 8080"
        running = traffic.start_ping(self.in1, OUT, 1000, 0.004)
        seen = [reaches()]
        with self._enabled() as t:
            t.run("conf t", "lab(config)#")
            t.run(line, "lab(config)#")
            seen.append(reaches())
            shown = t.run("do sh run | inc static tcp", "lab(config)#")
            t.run("no " + line, "lab(config)#")
            seen.append(reaches())
        p = traffic.end_ping(running)
        expect(f"{IN1} 8000" in shown, shown)
        return expect(seen == [False, True, False] and p.lost == 0, f"port forward before, with and after: {seen}; {p}")

    def test_sessions_that_a_change_does_not_allow_go_and_are_counted(self):
        with traffic.UdpEcho(self.out, [8]), self.in1.udp(port=49100) as a:
            a.sendto(b"1", (OUT, 8))
            a.recv(10)
            with self._enabled() as t:
                t.run("conf t", "lab(config)#")
                said = t.run("no ip nat inside source list 1 interface Outside overload", "lab(config)#")
                t.run("ip nat inside source list 1 interface Outside overload", "lab(config)#")
            withdrawn = re.search(r"% (\d+) entries withdrawn", said)
            expect(withdrawn and int(withdrawn[1]) >= 1, said)
            a.sendto(b"2", (OUT, 8))
            expect(a.recv(10) == b"2", "traffic after the rule came back")
        logged = re.findall(r"configured from the terminal: .*? (\d+) entries withdrawn, (\d+) kept", self.device.log())
        return expect([w for w, _ in logged if int(w)], f"{withdrawn[1]} entries withdrawn, told at the prompt and in the log")

    def test_written_compared_and_replaced(self):
        run = "show running-config"
        before = self._show(run)
        expect(self._show("show config diff") == "", "differs from its own file")
        done = self.device.try_cli("exec", "configure terminal", "ip nat translation udp-timeout 77", "end", "show config diff")
        expect(done.returncode == 0 and "+ip nat translation udp-timeout 77" in done.stdout, done)
        changed = self._show(run)
        expect(self.device.try_cli("exec", "write memory").returncode == 0, "write memory")
        expect(self._show("show config diff") == "" and self.device.try_cli("reload").returncode == 0, "saved")
        expect(self._show(run) == changed, "the saved file does not load to what ran")
        file = self.lab.path("other.conf")
        with open(file, "w") as f:
            f.write(before)
        done = self.device.try_cli("exec", f"configure replace {file}")
        expect(done.returncode == 0 and self._show(run) == before, done)
        with open(file, "w") as f:
            f.write(before.replace("ip nat inside source list", "ip nat inside sauce list"))
        done = self.device.try_cli("exec", f"configure replace {file}")
        expect(done.returncode == 1 and "sauce" in done.stderr and "^" in done.stderr and self._show(run) == before, done)
        self.device.try_cli("exec", "write memory")
        return f"{len(before.splitlines())} lines: written, reloaded to the same, replaced and back; a bad file changed nothing"

    def test_exit_codes_of_scripts(self):
        codes = {}
        for name, wanted, *commands in (("good", 0, "show version", "show ip nat statistics"),
                                        ("failed", 1, "clear ip nat translation tcp inside 1.2.3.4 5 1.2.3.4 5"),
                                        ("misunderstood", 2, "show nonsense", "show version"),
                                        ("refused", 2, "configure terminal", "interface Inside", "mtu 1"),
                                        ("confirm without need", 1, "configure confirm")):
            done = self.device.try_cli("exec", *commands)
            codes[name] = done.returncode
            expect(done.returncode == wanted, f"{commands}: {done}")
        expect("Version" not in self.device.try_cli("exec", "show nonsense", "show version").stdout, "went on after a failure")
        gone = subprocess.run([self.device.program, "exec", "show version", "--socket", "/nonexistent"], capture_output=True, text=True)
        codes["no appliance"] = gone.returncode
        expect(gone.returncode == 3 and "no daemon answers" in gone.stderr, gone)
        return f"{codes}"

    def test_ping(self):
        good = self.device.try_cli("exec", f"ping {OUT}")
        source = self.device.try_cli("exec", f"ping {IN1} source {INSIDE_GATEWAY} repeat 3")
        inside = self.device.try_cli("exec", f"ping {IN2} repeat 100", "--json")
        wrong = self.device.try_cli("exec", f"ping {OUT} source 192.0.2.77")
        nobody = self.device.try_cli("exec", "ping 198.51.100.77 repeat 1")
        expect("!!!!!\nSuccess rate is 100 percent (5/5), round-trip min/avg/max = " in good.stdout, good)
        expect(source.returncode == 0 and "(3/3)" in source.stdout and f"source address of {INSIDE_GATEWAY}" in source.stdout, source)
        expect('"received":100' in inside.stdout, inside)
        expect(wrong.returncode == 1 and nobody.returncode == 1 and "0 percent (0/1)" in nobody.stdout, (wrong, nobody))
        return good.stdout.strip().splitlines()[-1]

    def test_matches_of_an_access_list_are_exact(self):
        self.device.cli("clear", "ip", "nat", "translation", "*")

        def hits():
            found = re.search(r"permit 10\.1\.0\.0, wildcard bits 0\.0\.0\.255(?: \((\d+) match)?", self._show("show access-lists 1"))
            return int(found[1] or 0)
        before = hits()
        with traffic.UdpEcho(self.out, range(7100, 7110)):
            sockets = [self.in1.udp(port=20000 + k) for k in range(100)]
            try:
                flows = traffic.udp_flows(sockets, [(OUT, 7100 + k) for k in range(10)])
            finally:
                for s in sockets:
                    s.close()
        expect(flows.right == 1000, flows)
        return expect(hits() - before == 1000, f"1000 new flows are {hits() - before} matches")

    def test_a_streaming_answer_stops_at_control_c(self):
        with self._enabled() as t:
            t.type("ping 198.51.100.77 repeat 1000\r")
            t.wait_for("timeout is 2 seconds:")
            time.sleep(0.5)
            t.type("\x03")
            t.wait_for("lab#$", timeout=5)
            expect("Version" in t.run("show version", "lab#"), "the shell goes on")
        return "the answer ended, the shell went on"


class Confirmed(Case):
    lane = 2
    kernel = None
    workers = (1,)

    def test_what_nobody_confirms_goes_back(self):
        show = "show running-config | include udp-timeout"
        first = self.device.try_cli("exec", "configure confirmed 1", "ip nat translation udp-timeout 44", "end", show)
        expect(first.returncode == 0 and "udp-timeout 44" in first.stdout, first)
        expect(self.device.try_cli("exec", "write memory").returncode == 1, "written before it was confirmed")
        confirmed = self.device.try_cli("exec", "configure confirm", "write memory")
        expect(confirmed.returncode == 0, confirmed)
        began = time.monotonic()
        second = self.device.try_cli("exec", "configure confirmed 1", "ip nat translation udp-timeout 45", "interface Outside", "shutdown")
        expect(second.returncode == 0, second)
        p = traffic.ping(self.in1, OUT, 3)
        expect(p.lost == 3, "shut down and still forwarding")
        wait_until(lambda: "udp-timeout 44" in self.device.cli("exec", show), 80, "the earlier configuration comes back")
        took = time.monotonic() - began
        wait_until(lambda: traffic.ping(self.in1, OUT, 3).lost == 0, 10, "traffic passes again")
        return expect(55 < took < 75, f"confirmed stayed; locked out came back after {took:.0f} s")


class RouterFile(Case):
    """A router's own configuration, its ports in a second file."""

    kernel = None
    workers = (1,)

    ROUTER = f"""version 12.2
service timestamps debug uptime
no service password-encryption
!
hostname office
!
ip subnet-zero
!
crypto isakmp policy 5
 hash md5
 authentication pre-share
crypto isakmp key example address 0.0.0.0 0.0.0.0
crypto ipsec transform-set strong esp-3des esp-sha-hmac
crypto map tunnel 20 ipsec-isakmp
 set peer 203.0.113.99
 set transform-set strong
 match address 140
!
interface Ethernet0
 ip address {INSIDE_GATEWAY} 255.255.255.0
 no ip directed-broadcast
 ip nat inside
 no mop enabled
!
interface Serial0
 ip address {OUTSIDE_ADDRESS} 255.255.255.0
 ip nat outside
 no ip route-cache
 crypto map tunnel
!
ip nat inside source list 7 interface Serial0 overload
ip classless
ip route 0.0.0.0 0.0.0.0 198.51.100.3
no ip http server
access-list 7 permit 10.1.0.0 0.0.0.255
access-list 140 permit ip 10.1.0.0 0.0.0.255 10.9.0.0 0.0.0.255
dialer-list 1 protocol ip permit
!
line vty 0 4
 login
!
end
"""
    PORTS = """interface Ethernet0
 port vdev net_af_packet0,iface=inside,framecnt=4096
interface Serial0
 port vdev net_af_packet1,iface=outside,framecnt=4096
"""

    def config(self):
        return self.ROUTER

    def begin(self):
        self.lab = Lab()
        for role, host in self.lab.hosts.items():
            setattr(self, role, host)
        ports = self.lab.path("ports.conf")
        with open(ports, "w") as f:
            f.write(self.PORTS)
        self.device = Spillway(self.lab, self.ROUTER, workers=self.worker_count, options=("--ports", ports))
        self.device.start()

    def test_it_runs_as_it_is(self):
        p = traffic.ping(self.in1, OUT, 50)
        names = [i["name"] for i in self.device.cli_json("exec", "show ip interface brief")["interfaces"]]
        log = self.device.log()
        expect("has no `port` line" not in log and "line vty" in log and names == ["Ethernet0", "Serial0"], log[:2000])
        expect(self.device.try_cli("reload").returncode == 0, "reload with both files")
        return expect(p.lost == 0, f"{len(self.ROUTER.splitlines())} lines of a router and {len(self.PORTS.splitlines())} of ports; {p}")

    def test_check_takes_both_files(self):
        result = subprocess.run([self.device.program, "check", self.device.config_file, "--ports", self.lab.path("ports.conf"), "--json"],
                                capture_output=True, text=True)
        return expect(result.returncode == 0 and '"good":true' in result.stdout, result.stdout[:80])
