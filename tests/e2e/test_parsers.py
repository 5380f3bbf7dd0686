"""What `show` prints, read by parsers that others made for routers: ntc-templates, and genie where it is installed."""

import json
import os
import socket
import struct
import subprocess

from case import ROOT, Case, expect
from lab import frames, traffic
from lab.topology import IN1, IN2, INSIDE_GATEWAY, OUT

PYTHON = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "parsers/bin/python")
READER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "outside_parsers.py")
COMMANDS = ("show ip nat translations", "show ip nat translations verbose", "show ip nat statistics", "show ip access-lists", "show route-map")

_LINES = f"""ip nat pool shared 198.51.100.20 198.51.100.29 prefix-length 24
ip nat inside source static {IN2} 198.51.100.10
ip nat inside source static tcp {IN1} 8000 198.51.100.11 80
ip nat inside source static udp {IN1} 5353 interface Outside 53
access-list 2 permit 10.9.0.0 0.0.255.255
access-list 2 deny 10.8.0.1
access-list 2 permit any
access-list 120 remark what is left alone
access-list 120 deny udp host {IN1} host {OUT} eq 7
access-list 120 permit tcp 10.1.0.0 0.0.0.255 any eq www
access-list 120 permit tcp any gt 1023 any range 8000 8100
access-list 120 permit udp any lt 1024 any neq domain
access-list 120 permit tcp any any established
access-list 120 permit icmp any any echo
access-list 120 permit icmp any any
access-list 120 permit esp any any
access-list 120 permit ip 10.1.0.0 0.0.0.255 any log
ip access-list standard kept
 15 permit 10.7.0.0 0.0.0.255
 25 deny any
ip access-list extended also
 permit gre host 10.7.0.1 any
 deny ip any any
route-map choose deny 5
 match ip address kept
route-map choose permit 10
 match ip address 120
 match interface Outside
route-map choose permit 20
 match ip address also 120
 match ip next-hop 2
"""


class Parsers(Case):
    kernel = None
    workers = (1,)
    nat = "ip nat inside source route-map choose interface Outside overload"
    extra = _LINES

    def prepare(self):
        """Entries of each kind, and what each parser reads of the outputs."""
        self._esp()
        with self.out.listen(80) as listener, self.in1.connect(OUT, 80) as c, traffic.UdpEcho(self.out, [8]), self.in1.udp() as u:
            taken, _ = listener.accept()
            u.sendto(b"?", (OUT, 8))
            u.recv(10)
            traffic.ping(self.in1, OUT, 2)
            self.texts = {command: self.device.cli("exec", command) for command in COMMANDS}
            self.entries = self.device.rows(self.device.cli_json("show", "ip", "nat", "translations"))
            self.lists = self.device.cli_json("show", "access-lists")["access_lists"]
            self.maps = self.device.cli_json("show", "route-map")["route_maps"]
            taken.close()
            c.close()
        done = subprocess.run([PYTHON, READER], input=json.dumps(self.texts), capture_output=True, text=True, timeout=240)
        expect(done.returncode == 0, f"{PYTHON} (scripts/setup parsers makes it): {done.stderr[-2000:]}")
        self.read = json.loads(done.stdout)

    def _esp(self):
        """A tunnel's first packet."""
        to, mine = self.in1.neighbour(INSIDE_GATEWAY), self.in1.mac()
        packet = frames.ipv4(IN1, OUT, socket.IPPROTO_ESP, struct.pack("!II", 0x1000, 1) + b"\0" * 32)
        with self.in1.raw() as s:
            s.send(frames.ethernet(to, mine, packet))

    def _templates(self, command):
        rows = self.read["ntc"][command]
        expect(isinstance(rows, list), f"{command}: {rows}\n{self.texts[command]}")
        return rows

    def _genie(self, command):
        """What genie read; `None` where it is not installed."""
        read = self.read["genie"]
        if isinstance(read, str):
            return None
        expect(isinstance(read.get(command), dict), f"{command}: {read.get(command)}\n{self.texts[command]}")
        return read[command]

    def _absent(self):
        return self.read["genie"] if isinstance(self.read["genie"], str) else ""

    def test_translations(self):
        lines = self.texts["show ip nat translations"].splitlines()[1:]
        esp = [line for line in lines if line.startswith("esp")]
        kinds = sorted({line.split()[0] for line in lines})
        expect(kinds == ["---", "esp", "icmp", "tcp", "udp"] and len(lines) == len(self.entries), f"{len(lines)} rows of {kinds}")
        rows = self._templates("show ip nat translations")
        expect(len(rows) == len(lines) - len(esp), f"ntc-templates reads {len(rows)} of {len(lines)} rows, {len(esp)} of ESP")
        # What was read is what was there.
        there = {(e["inside_local"]["address"], str(e["inside_local"]["port"] or "")) for e in self.entries if e["protocol"] != "esp"}
        seen = {(r["inside_local_ip"], r["inside_local_port"]) for r in rows}
        expect(seen == there, f"ntc-templates reads {seen}, not {there}")
        said = f"ntc-templates {len(rows)} rows"
        for command in ("show ip nat translations", "show ip nat translations verbose"):
            if (read := self._genie(command)) is not None:
                total = sum(len(vrf["index"]) for vrf in read["vrf"].values())
                expect(total == len(lines) - len(esp), f"{command}: genie reads {total} of {len(lines)} rows, {len(esp)} of ESP\n{self.texts[command]}")
                said += f", genie {total}{' with verbose' if 'verbose' in command else ''}"
        return f"{len(lines)} rows: {said}; {len(esp)} of ESP, which no parser takes {self._absent()}".strip()

    def test_statistics(self):
        read = self._genie("show ip nat statistics")
        if read is None:
            return f"not read: {self._absent()}"
        active = read["active_translations"]
        statics = sum(e["static"] for e in self.entries)
        expect(active["total"] == len(self.entries) and active["static"] == statics, f"{active}, {len(self.entries)} entries with {statics} statics")
        expect(read["interfaces"] == {"inside": ["Inside"], "outside": ["Outside"]}, read["interfaces"])
        return f"{active}, interfaces and mappings: {', '.join(sorted(read))}"

    def test_access_lists(self):
        entries = sum(len(one["entries"]) for one in self.lists)
        rows = [r for r in self._templates("show ip access-lists") if r["line_num"]]
        expect(len(rows) == entries, f"ntc-templates reads {len(rows)} of {entries} lines")
        hit = {(r["acl_name"], r["line_num"]): int(r["matches"]) for r in rows if r["matches"]}
        there = {(one["name"], str(e["sequence"])): e["matches"] for one in self.lists for e in one["entries"] if e["matches"]}
        expect(hit == there and hit, f"matches {hit}, not {there}")
        said = f"ntc-templates {len(rows)}"
        if (read := self._genie("show ip access-lists")) is not None:
            aces = sum(len(one["aces"]) for one in read.values())
            expect(aces == entries, f"genie reads {aces} of {entries} lines: { {name: sorted(one['aces']) for name, one in read.items()} }")
            said += f", genie {aces}"
        return f"{entries} lines of {len(self.lists)} lists: {said}, with the same matches {self._absent()}".strip()

    def test_route_maps(self):
        rows = self._templates("show route-map")
        expect([(r["name"], r["action"], r["seq"]) for r in rows] == [(m["name"], m["action"], str(m["sequence"])) for m in self.maps], rows)
        expect([len(r["match_clauses"]) for r in rows] == [len(m["matches"]) for m in self.maps], rows)
        said = f"ntc-templates {len(rows)}"
        if (read := self._genie("show route-map")) is not None:
            clauses = sum(len(one["statements"]) for one in read.values())
            expect(clauses == len(self.maps), f"genie reads {clauses} of {len(self.maps)} clauses")
            said += f", genie {clauses}"
        return f"{len(self.maps)} clauses: {said} {self._absent()}".strip()
