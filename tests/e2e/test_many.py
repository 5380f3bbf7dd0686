"""A million entries, all ports of an address, and a configuration of a hundred thousand lines, while traffic passes."""

import contextlib
import functools
import json
import random
import socket
import struct
import subprocess
import threading
import time

from case import Case, expect, wait_until
from lab import frames, traffic
from lab.devices import configuration
from lab.topology import IN1, INSIDE_GATEWAY, OUT

MEBIBYTE = 1 << 20


def resident(pid, what="VmRSS"):
    """Octets of memory that a process has (or, `VmHWM`, had at most); 0 where it has ended."""
    with open(f"/proc/{pid}/status") as f:
        return next((int(line.split()[1]) << 10 for line in f if line.startswith(what + ":")), 0)


class Reading:
    """A client program whose output is read as it comes: lines, seconds to the first, and its memory at most."""

    def __init__(self, device, *words):
        before, began = resident(device.process.pid), time.monotonic()
        self.lines, self.octets, self.first_s, self.client, self.server = 0, 0, None, 0, 0
        command = [device.program, *words, "--socket", device.socket]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            watching = threading.Thread(target=self._watch, args=(process, device.process.pid, before), daemon=True)
            watching.start()
            while piece := process.stdout.read1(1 << 18):
                if self.first_s is None:
                    self.first_s = time.monotonic() - began
                self.lines += piece.count(b"\n")
                self.octets += len(piece)
            said = process.stderr.read().decode()
            expect(process.wait() == 0, f"{' '.join(words)}: status {process.returncode}: {said}")
        self.took_s = time.monotonic() - began
        watching.join()

    def _watch(self, process, server, before):
        while process.poll() is None:
            self.client = max(self.client, resident(process.pid, "VmHWM"))
            self.server = max(self.server, resident(server) - before)
            time.sleep(0.02)

    def is_bounded(self):
        """Whether neither end kept what it passed on."""
        return 0 < self.client < 64 * MEBIBYTE and self.server < 48 * MEBIBYTE

    def __str__(self):
        return (f"{self.lines} lines of {self.octets >> 20} MiB in {self.took_s:.1f} s, the first after {self.first_s * 1000:.0f} ms, "
                f"client {self.client >> 20} MiB at most, server {self.server >> 20} MiB more")


class Many(Case):
    """Sends what makes entries, as many as it likes."""

    #: Frames that are sent before entries are counted: half of what the port's ring holds.
    at_once = 2048

    @functools.cached_property
    def _link(self):
        return self.in1.neighbour(INSIDE_GATEWAY), self.in1.mac()

    def _head(self, client):
        """The beginning of a frame of UDP from a client to the outside host, up to its ports."""
        return frames.ethernet(*self._link, frames.ipv4(client, OUT, 17, b"\0" * 16))[:34]

    def _make(self, flows):
        """Makes an entry by each frame, no more at a time than the kernel's ring takes; what is lost on the way is sent again."""
        # Nobody listens: an answer to each packet would only be in the way.
        self.out.call("sysctl", "-qw", "net.ipv4.icmp_ratelimit=1000000", "net.ipv4.icmp_msgs_per_sec=1")
        before = self._active()
        with self.in1.raw() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
            for at in range(0, len(flows), self.at_once):
                part = flows[at:at + self.at_once]
                for _ in range(100):
                    for frame in part:
                        s.send(frame)
                    with contextlib.suppress(TimeoutError):
                        wait_until(lambda: self._active() >= before + at + len(part), 0.2, "entries", every_s=0.002)
                        break
                else:
                    raise TimeoutError(f"{self._active() - before} of {at + len(part)} entries after a hundred tries")

    def _active(self):
        return self.device.stats()["table"]["active"]


def datagram(head, sport, dport):
    """A frame of UDP; it has no checksum, so that only its ports differ."""
    return head + struct.pack("!HHHHQ", sport, dport, 16, 0, 0)


class Million(Many):
    kernel = None
    workers = (2,)
    #: Addresses of clients, and flows of each to ports of the outside host.
    clients = [f"10.1.0.{k}" for k in range(20, 220)]
    first_port, ports = 9000, 50
    extra = "ip nat translation udp-timeout 7200"

    def _flows(self):
        """A frame for each flow, in an order that has nothing to do with the table's."""
        each = (100_000 if self.options.quick else 1_000_000) // (len(self.clients) * self.ports)
        flows = []
        for client in self.clients:
            head = self._head(client)
            flows += [datagram(head, 20000 + k, self.first_port + port) for k in range(each) for port in range(self.ports)]
        random.Random(1).shuffle(flows)
        return flows

    def prepare(self):
        flows, began = self._flows(), time.monotonic()
        self._make(flows)
        self.wanted, self.made_s = len(flows), time.monotonic() - began

    def _while_pinging(self, read):
        """Does `read` while pings and a UDP flow pass; nothing may be lost or dropped."""
        with self.drops(), traffic.UdpEcho(self.out, [8]), self.in1.udp(port=49000) as u:
            running = traffic.start_ping(self.in1, OUT, 100_000, 0.002)
            u.sendto(b"1", (OUT, 8))
            u.recv(10)
            seen = read()
            u.sendto(b"2", (OUT, 8))
            expect(u.recv(10) == b"2", "the UDP flow")
            running.stop()
            p = traffic.end_ping(running)
        expect(p.lost == 0 and p.sent > 50, f"pings meanwhile: {p}")
        return seen, p

    def test_show_of_all_streams_in_bounded_memory(self):
        seen, p = self._while_pinging(lambda: Reading(self.device, "exec", "show ip nat translations"))
        expect(seen.lines > self.wanted, f"{seen.lines} lines of {self.wanted} entries")
        return expect(seen.is_bounded(), f"{seen}; 0 of {p.sent} pings lost; {self.wanted} entries made in {self.made_s:.0f} s")

    def test_verbose_and_json_stream_too(self):
        verbose, p = self._while_pinging(lambda: Reading(self.device, "exec", "show ip nat translations verbose"))
        expect(verbose.lines > 3 * self.wanted and verbose.is_bounded(), f"verbose: {verbose}")
        document, q = self._while_pinging(lambda: Reading(self.device, "show", "ip", "nat", "translations", "--json"))
        expect(document.octets > 100 * self.wanted and document.is_bounded(), f"JSON: {document}")
        return f"verbose {verbose}; JSON {document}; 0 of {p.sent + q.sent} pings lost"

    def test_a_filter_counts_without_keeping(self):
        seen, p = self._while_pinging(lambda: Reading(self.device, "exec", "show ip nat translations | count udp"))
        return expect(seen.is_bounded() and seen.lines <= 2, f"{seen}; 0 of {p.sent} pings lost")

    def test_a_page_far_behind_is_a_page(self):
        def page():
            before = resident(self.device.process.pid)
            status, _, text = self.device.get(f"/translations?limit=10000&cursor={self.wanted - 20_000}")
            expect(status == 200, text[:200])
            return len(json.loads(text)["translations"]), len(text), resident(self.device.process.pid) - before
        (rows, octets, grown), p = self._while_pinging(page)
        return expect(rows == 10_000 and grown < 48 * MEBIBYTE, f"{rows} entries of {octets >> 20} MiB behind {self.wanted - 20_000}: server {grown >> 20} MiB more, "
                      f"0 of {p.sent} pings lost")

    def test_who_reads_slowly_or_leaves_disturbs_nobody(self):
        def leave():
            command = [self.device.program, "exec", "show ip nat translations", "--socket", self.device.socket]
            before = resident(self.device.process.pid)
            with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
                process.stdout.read(1000)
                time.sleep(2)
                grown = resident(self.device.process.pid) - before
                process.kill()
            return grown
        grown, p = self._while_pinging(leave)
        wait_until(lambda: self.device.try_cli("show", "version").returncode == 0, 5, "it still answers")
        return expect(grown < 48 * MEBIBYTE, f"a reader stopped for 2 s and left: server {grown >> 20} MiB more, 0 of {p.sent} pings lost")


class Ports(Many):
    kernel = None
    workers = (2,)
    server = 9000
    #: Flows of two clients, each of another worker, to one server: together all ports of the address, but few.
    few, all = 1000, 64_000

    def _clients(self):
        """A client of each of the two workers."""
        of_worker = {}
        for k in range(20, 220):
            before = self._entries()
            client = f"10.1.0.{k}"
            self._make([datagram(self._head(client), 1023, self.server)])
            worker, = [at for at, (a, b) in enumerate(zip(before, self._entries())) if b > a]
            of_worker.setdefault(worker, client)
            if len(of_worker) == 2:
                return list(of_worker.values())
        raise AssertionError(f"all clients are one worker's: {of_worker}")

    def _entries(self):
        return [worker["sessions"] for worker in self.device.stats()["workers"]]

    def test_one_worker_has_the_ports_that_the_other_does_not_need(self):
        first, second = self._clients()
        # Ports of the whole range, so that the first one's few are in every block that its worker may own.
        port = [1024 + n * 40_501 % 64_512 for n in range(self.all)]
        with self.drops():
            self._make([datagram(self._head(first), port[n], self.server) for n in range(self.few)])
            self._make([datagram(self._head(second), port[n], self.server) for n in range(self.few, self.all)])
            with traffic.UdpEcho(self.out, [8]):
                for k in range(20):
                    with self.in1.udp(port=40_000 + k) as u:
                        u.sendto(b"%d" % k, (OUT, 8))
                        expect(u.recv(10) == b"%d" % k, f"flow {k} of a client behind all these")
        counters = self.device.counters()
        expect(counters["ports_lent"] > 100, f"{counters['ports_lent']} times lent")
        return f"{self.few} and {self.all - self.few} flows to one server; ports were lent {counters['ports_lent']} times"


class LongLists(Case):
    kernel = None
    workers = (2,)
    nat = "ip nat inside source list 101 interface Outside overload"

    def _text(self, changed=0, timeout=300):
        """100,000 lines, 10,000 statics; one line of the list is numbered by `changed`."""
        lines = [f"access-list 101 permit tcp host 10.{64 + (k >> 16)}.{k >> 8 & 255}.{k & 255} any eq www" for k in range(100_000)]
        lines[50_000] = f"access-list 101 deny tcp host 10.80.0.1 any eq {1000 + changed}"
        lines.append("access-list 101 permit ip 10.1.0.0 0.0.0.255 any")
        lines += [f"ip nat inside source static 10.2.{k >> 8}.{k & 255} 100.64.{k >> 8}.{k & 255}" for k in range(10_000)]
        lines.append(f"ip nat translation udp-timeout {timeout}")
        return configuration(extra="\n".join(lines), nat=self.nat)

    def config(self):
        return self._text()

    def _reload(self, text):
        self.device.configure(text)
        began = time.monotonic()
        done = self.device.try_cli("reload")
        expect(done.returncode == 0, f"reload: {done.stderr or done.stdout}")
        return time.monotonic() - began

    def _matches(self):
        shown = self.device.cli("exec", "show access-lists 101 | include 10.1.0.0")
        return int(shown.split("(")[1].split()[0]) if "(" in shown else 0

    def test_one_changed_line_is_taken_in_under_traffic(self):
        with self.drops(), traffic.TcpEcho(self.out, 7), self.in1.connect(OUT, 7) as c:
            running = traffic.start_ping(self.in1, OUT, 100_000, 0.002)
            took = []
            for k in range(5):
                took.append(self._reload(self._text(changed=k + 1)))
                c.sendall(b"%d" % k)
                expect(c.recv(10) == b"%d" % k, f"the TCP session at reload {k}")
            running.stop()
            p = traffic.end_ping(running)
        return expect(p.lost == 0 and p.sent > 50, f"5 reloads of {max(took):.2f} s at most, {p.lost} of {p.sent} pings lost, the TCP session lives")

    def test_an_unchanged_list_keeps_its_counts(self):
        with traffic.UdpEcho(self.out, [8]), self.in1.udp() as u:
            u.sendto(b"1", (OUT, 8))
            u.recv(10)
        before = self._matches()
        self._reload(self._text(changed=5, timeout=200))
        after = self._matches()
        expect(before > 0 and after >= before, f"matches before {before}, after {after}")
        self._reload(self._text(changed=6, timeout=200))
        return expect(self._matches() < before, f"{before} matches stay over a reload that changes another line, and begin anew with the list")

    def test_show_of_it_streams(self):
        seen = [Reading(self.device, *words) for words in
                (("exec", "show access-lists"), ("show", "access-lists", "--json"), ("exec", "show running-config"))]
        expect(all(s.is_bounded() for s in seen), "; ".join(map(str, seen)))
        expect(seen[0].lines > 100_000 and seen[2].lines > 110_000, "; ".join(map(str, seen)))
        return "; ".join(map(str, seen))

    def test_a_typed_line_is_taken_in(self):
        began = time.monotonic()
        done = self.device.try_cli("exec", "configure terminal", "ip nat translation icmp-timeout 77", "end")
        expect(done.returncode == 0, done.stderr)
        took = time.monotonic() - began
        difference = self.device.cli("exec", "show config diff")
        lines = [line for line in difference.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        return expect(lines == ["+ip nat translation icmp-timeout 77"], f"a line took {took:.2f} s; the difference is {lines}")
