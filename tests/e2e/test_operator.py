"""What the operator asks: show, clear, HTTP."""

import json
import re

from case import Case, expect, wait_until
from lab import traffic
from lab.topology import IN1, IN2, INSIDE_GATEWAY, OUT, OUTSIDE_ADDRESS

HEADER = "Pro Inside global      Inside local       Outside local      Outside global"


class Operator(Case):
    kernel = None
    extra = f"ip nat inside source static {IN2} 198.51.100.10\n"

    def _rows(self):
        return self.device.rows(self.device.cli_json("show", "ip", "nat", "translations"))

    def _some_traffic(self):
        """One entry of each kind; returns the outside ports by protocol."""
        with self.out.listen(7) as listener, self.in1.connect(OUT, 7, source_port=50001):
            listener.accept()[0].close()
        with traffic.UdpEcho(self.out, [8]), self.in1.udp(port=50002) as s:
            s.sendto(b"?", (OUT, 8))
            s.recv(10)
        traffic.ping(self.in1, OUT, 2)

    def test_translations_as_text(self):
        self.device.cli("clear", "ip", "nat", "translation", "*")
        self._some_traffic()
        lines = self.device.cli("show", "ip", "nat", "translations").splitlines()
        expect(lines[0].rstrip() == HEADER, f"header: {lines[0]}")
        rows = [line.split() for line in lines[1:]]
        wanted = [["tcp", f"{OUTSIDE_ADDRESS}:50001", f"{IN1}:50001", f"{OUT}:7", f"{OUT}:7"],
                  ["udp", f"{OUTSIDE_ADDRESS}:50002", f"{IN1}:50002", f"{OUT}:8", f"{OUT}:8"],
                  ["---", "198.51.100.10", IN2, "---", "---"]]
        missing = [w for w in wanted if w not in rows]
        expect(not missing, f"missing {missing} in {rows}")
        icmp = [r for r in rows if r[0] == "icmp"]
        return expect(len(icmp) == 1 and len(rows) == 4, f"{len(rows)} rows: tcp, udp, icmp and the static, as IOS writes them")

    def test_translations_of_one_protocol(self):
        self._some_traffic()
        seen = {}
        for protocol in ("tcp", "udp", "icmp"):
            lines = self.device.cli("show", "ip", "nat", "translations", protocol).splitlines()[1:]
            seen[protocol] = {line.split()[0] for line in lines if line.strip()}
        return expect(all(v == {k} for k, v in seen.items()), f"kinds of rows shown: {seen}")

    def test_translations_verbose(self):
        self._some_traffic()
        text = self.device.cli("show", "ip", "nat", "translations", "verbose")
        wanted = [r"create \d\d:\d\d:\d\d, use \d\d:\d\d:\d\d timeout:\d+, left \d\d:\d\d:\d\d", "extended, use_count: ", "static"]
        missing = [w for w in wanted if not re.search(w, text)]
        return expect(not missing, f"lacks {missing}:\n{text[:800]}" if missing else "age, use, timeout, time left and flags under each row")

    def test_translations_as_json(self):
        self.device.cli("clear", "ip", "nat", "translation", "*")
        self._some_traffic()
        rows = self._rows()
        row = next(r for r in rows if r["protocol"] == "udp")
        expect(row["inside_local"] == {"address": IN1, "port": 50002} and row["outside_global"] == {"address": OUT, "port": 8}, f"row {row}")
        return f"{len(rows)} entries, fields {', '.join(sorted(row))}"

    def test_many_translations_are_all_shown(self):
        self.device.cli("clear", "ip", "nat", "translation", "*")
        with traffic.UdpEcho(self.out, range(7100, 7110)):
            sockets = [self.in1.udp(port=20000 + k) for k in range(500)]
            try:
                flows = traffic.udp_flows(sockets, [(OUT, 7100 + k) for k in range(10)])
            finally:
                for s in sockets:
                    s.close()
        expect(flows.right == 5000, flows)
        lines = self.device.cli("show", "ip", "nat", "translations", "udp").splitlines()[1:]
        rows = [r for r in self._rows() if r["protocol"] == "udp"]
        keys = {json.dumps([r["inside_local"], r["outside_global"]]) for r in rows}
        return expect(len(lines) == len(rows) == len(keys) == 5000, f"5000 flows: {len(lines)} rows as text, {len(keys)} different ones as JSON")

    def test_clear_takes_dynamic_entries_and_leaves_statics(self):
        self._some_traffic()
        self.device.cli("clear", "ip", "nat", "translation", "*")
        lines = self.device.cli("show", "ip", "nat", "translations").splitlines()[1:]
        p = traffic.ping(self.in1, OUT, 20)
        return expect(len(lines) == 1 and lines[0].startswith("---") and p.lost == 0, f"{len(lines)} row left, the static; pings after it: {p}")

    def test_statistics(self):
        self._some_traffic()
        text = self.device.cli("show", "ip", "nat", "statistics")
        wanted = [r"Total active translations: \d+ \(1 static, \d+ dynamic; \d+ extended\)", r"Peak translations: \d+, occurred \d\d:\d\d:\d\d ago",
                  r"Outside interfaces:\n\s+Outside", r"Inside interfaces:\n\s+Inside", r"Hits: \d+\s+Misses: \d+", r"Expired translations: \d+",
                  r"Dynamic mappings:\n-- Inside Source\n\[Id: \d+\] access-list 1 interface Outside refcount \d+"]
        missing = [w for w in wanted if not re.search(w, text)]
        return expect(not missing, f"lacks {missing}:\n{text}" if missing else "totals, peak, interfaces, hits and misses, mappings")

    def test_statistics_count_and_clear(self):
        def hits():
            return int(re.search(r"Hits: (\d+)", self.device.cli("show", "ip", "nat", "statistics"))[1])
        before = hits()
        traffic.ping(self.in1, OUT, 100)
        counted = hits() - before
        self.device.cli("clear", "ip", "nat", "statistics")
        after = hits()
        return expect(199 <= counted <= 220 and after < 20, f"100 pings are {counted} hits; {after} after `clear ip nat statistics`")

    def test_every_show_answers_in_text_and_json(self):
        commands = ["show ip nat translations", "show ip nat statistics", "show interfaces", "show interfaces Outside",
                    "show ip route", "show arp", "show version"]
        traffic.ping(self.in1, OUT, 2)
        for command in commands:
            text = self.device.cli(*command.split())
            expect(text.strip(), f"{command}: nothing")
            self.device.cli_json(*command.split())
        return f"{len(commands)} commands"

    def test_interfaces_and_routes_and_arp(self):
        traffic.ping(self.in1, OUT, 2)
        interfaces = self.device.cli("show", "interfaces")
        route = self.device.cli("show", "ip", "route")
        arp = self.device.cli("show", "arp")
        missing = [w for w, text in (("Inside", interfaces), ("Outside", interfaces), (INSIDE_GATEWAY, interfaces), ("203.0.113.0", route),
                                     ("198.51.100.0", route), (IN1, arp), (OUT, arp)) if w not in text]
        return expect(not missing, f"lacks {missing}" if missing else "both interfaces, the routes and both neighbours")

    def test_a_command_that_is_not_one_is_refused(self):
        done = self.device.try_cli("show", "ip", "nat", "translators")
        said = (done.stderr + done.stdout).strip()
        return expect(done.returncode not in (0, -11) and "translat" in said, f"status {done.returncode}: {said.splitlines()[0] if said else ''}")

    def test_http_stats(self):
        status, kind, text = self.device.get("/stats")
        document = json.loads(text)
        return expect(status == 200 and "json" in kind and len(document["workers"]) == self.worker_count, f"{len(text)} octets of {kind}: {', '.join(document)}")

    def test_http_translations_by_pages(self):
        self.device.cli("clear", "ip", "nat", "translation", "*")
        with traffic.UdpEcho(self.out, [7100]):
            sockets = [self.in1.udp(port=21000 + k) for k in range(250)]
            try:
                traffic.udp_flows(sockets, [(OUT, 7100)])
            finally:
                for s in sockets:
                    s.close()
        seen, pages, path = [], 0, "/translations?proto=udp&limit=100"
        while path:
            status, _, text = self.device.get(path)
            expect(status == 200, f"{path}: {status} {text[:100]}")
            document = json.loads(text)
            seen += self.device.rows(document)
            pages += 1
            cursor = document["next_cursor"]
            path = f"/translations?proto=udp&limit=100&cursor={cursor}" if cursor is not None else None
            expect(pages < 20, "the pages do not end")
        ports = {r["inside_local"]["port"] for r in seen}
        return expect(len(seen) == 250 and len(ports) == 250, f"{len(seen)} entries in {pages} pages")

    def test_http_metrics(self):
        status, kind, text = self.device.get("/metrics")
        bad = [line for line in text.splitlines() if line and not re.fullmatch(
            r"#.*|[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*=\"(\\.|[^\"\\])*\",?)*\})? [-+0-9.eEInfNa]+", line)]
        families = len(re.findall(r"^# TYPE ", text, re.M))
        return expect(status == 200 and not bad and families > 5, f"{families} families as {kind.split(';')[0]}" if not bad else f"not a metric: {bad[0]}")

    def test_http_says_what_is_not_there(self):
        status, _, text = self.device.get("/nothing")
        return expect(status == 404, f"{status} {text.strip()[:80]}")

    def test_asking_all_the_time_costs_no_packet(self):
        running = traffic.start_ping(self.in1, OUT, 600, 0.003)
        asked = 0
        while running.poll() is None:
            self.device.cli("show", "ip", "nat", "translations")
            self.device.get("/stats")
            self.device.get("/metrics")
            asked += 3
        p = traffic.end_ping(running)
        return expect(p.lost == 0, f"{asked} questions, {p}")


class Timers(Case):
    lane = 2
    kernel = None
    extra = "ip nat translation udp-timeout 2\nip nat translation icmp-timeout 2\nip nat translation finrst-timeout 2\nip nat translation syn-timeout 3"

    def test_entries_end_by_their_timers(self):
        traffic.ping(self.in1, OUT, 2)
        with traffic.UdpEcho(self.out, [8]), self.in1.udp(port=50002) as s:
            s.sendto(b"?", (OUT, 8))
            s.recv(10)
        with self.out.listen(7) as listener, self.in1.connect(OUT, 7) as c, listener.accept()[0]:
            def kinds():
                return {r["protocol"] for r in self.device.rows(self.device.cli_json("show", "ip", "nat", "translations"))}
            before = kinds()
            wait_until(lambda: kinds() == {"tcp"}, 8, "UDP and ICMP entries end")
            c.sendall(b"still here")
        wait_until(lambda: not kinds(), 8, "the closed TCP connection's entry ends")
        return expect(before == {"tcp", "udp", "icmp"}, "udp 2 s, icmp 2 s, closed tcp 2 s; open tcp stayed")
