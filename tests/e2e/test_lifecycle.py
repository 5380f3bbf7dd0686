"""Start, stop, and what may happen in between."""

import json
import os
import shutil
import signal
import subprocess
import time

from case import Case, expect, wait_until
from lab import traffic
from lab.devices import HTTP_PORT, Spillway, configuration
from lab.topology import INSIDE_GATEWAY, OUT


class Lifecycle(Case):
    kernel = None
    workers = (1, 2)

    def _traces(self):
        """What Spillway has in the kernel of its namespace: interfaces of its own, nftables tables, its socket."""
        links = {link["ifname"] for link in json.loads(self.dev.ip_json("link"))} - {"lo", "inside", "outside"}
        tables = self.dev.call("nft", "list", "tables").split("\n")
        return sorted(links), [t for t in tables if t], os.path.exists(self.device.socket)

    def _traffic_passes(self):
        p = traffic.ping(self.in1, OUT, 20, 0.01)
        q = traffic.ping(self.in2, OUT, 20, 0.01)
        expect(p.lost + q.lost == 0, f"pings after the start: {p}; {q}")

    def test_sigterm_takes_everything_away(self):
        self._traffic_passes()
        links, tables, there = self._traces()
        expect(len(links) >= 2 and there, f"while it ran there were {links} {tables}")
        started = time.monotonic()
        self.device.stop()
        took = time.monotonic() - started
        left = self._traces()
        self.device.start()
        self._traffic_passes()
        return expect(left == ([], [], False), f"{', '.join(links + tables)} gone within {took:.1f} s; left: {left}")

    def test_sigint_ends_it_as_well(self):
        self.device.signal(signal.SIGINT)
        status = self.device.process.wait(15)
        left = self._traces()
        self.device.start()
        return expect(status == 0 and left == ([], [], False), f"status {status}, nothing left")

    def test_a_killed_one_is_followed_by_a_working_one(self):
        self.device.signal(signal.SIGKILL)
        self.device.process.wait()
        left = self._traces()
        started = time.monotonic()
        self.device.start()
        took = time.monotonic() - started
        self._traffic_passes()
        lost = traffic.ping(self.out, "198.51.100.1", 50).lost
        return expect(lost == 0, f"it left {', '.join(left[1]) or 'no tables'}; works again {took:.1f} s after the start")

    def test_a_second_one_on_the_same_socket_is_refused(self):
        command = self.device.command_line()
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        self._traffic_passes()
        said = second.stderr.strip().splitlines()[-1] if second.stderr.strip() else ""
        return expect(second.returncode not in (0, -11) and self.device.socket in second.stderr, f"status {second.returncode}: {said[:150]}")

    def _unplugged(self, name):
        before = len(self.device.log())
        self.lab.unplug(name)
        wait_until(lambda: name in self.device.log()[before:] or name.capitalize() in self.device.log()[before:], 10, f"the log says that {name} is gone")
        expect(self.device.try_cli("show", "interfaces").returncode == 0, "it answers while an interface is gone")
        return before

    def _plugged(self, name):
        self.lab.plug(name)
        started = time.monotonic()

        def passes():
            return traffic.ping(self.in1, OUT, 3, 0.05).lost == 0
        wait_until(passes, 30, "traffic passes again")
        took = time.monotonic() - started
        self._traffic_passes()
        return took

    def test_the_outside_interface_goes_and_comes_back(self):
        self._unplugged("outside")
        p = traffic.ping(self.in1, INSIDE_GATEWAY, 50)
        expect(p.lost == 0, f"the other interface while it was gone: {p}")
        took = self._plugged("outside")
        return f"gone was logged, the gateway answered {p.received} of {p.sent} meanwhile, back {took:.1f} s after it was there again"

    def test_the_inside_interface_goes_and_comes_back(self):
        self._unplugged("inside")
        p = traffic.ping(self.out, "198.51.100.1", 50)
        expect(p.lost == 0, f"the other interface while it was gone: {p}")
        took = self._plugged("inside")
        return f"gone was logged, 198.51.100.1 answered {p.received} of {p.sent} meanwhile, back {took:.1f} s after it was there again"

    def test_an_interface_that_is_set_down_and_up(self):
        self.dev.ip("link set outside down")
        time.sleep(0.5)
        self.dev.ip("link set outside up")
        wait_until(lambda: traffic.ping(self.in1, OUT, 3, 0.05).lost == 0, 30, "traffic passes again")
        self._traffic_passes()
        return "traffic passes again"


class Refusals(Case):
    """One clear sentence each for what keeps it from starting."""
    kernel = None
    workers = (1,)

    def _start(self, config, prefix=(), program=None):
        path = self.lab.path("other.conf")
        with open(path, "w") as f:
            f.write(config)
        os.chmod(path, 0o644)
        words = ["ip", "netns", "exec", self.dev.name, *prefix, program or self.device.program, "run", "--config", path,
                 "--socket", self.lab.path("other.sock"), "--http", "127.0.0.1:9199"]
        try:
            return subprocess.run(words, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise AssertionError("it did not end; it runs, or hangs") from None

    def test_an_interface_that_is_not_there(self):
        done = self._start(configuration().replace("iface=inside", "iface=nowhere").replace("iface=outside", "iface=neither"))
        lines = [line for line in done.stderr.splitlines() if "nowhere" in line]
        return expect(done.returncode not in (0, 2, -11) and lines, f"status {done.returncode}: {lines[-1][:160] if lines else done.stderr[-300:]}")

    def test_no_permission(self):
        program = self.lab.path("spillway-copy")
        shutil.copy(self.device.program, program)
        os.chmod(program, 0o755)
        done = self._start(configuration(), ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], program)
        lines = [line for line in done.stderr.splitlines() if "root" in line or "CAP_" in line]
        return expect(done.returncode not in (0, 2, -11) and lines, f"status {done.returncode}: {lines[-1][:160] if lines else done.stderr[-300:]}")

    def test_a_driver_that_dpdk_does_not_know(self):
        done = self._start(configuration().replace("net_af_packet0", "net_nonsense0"))
        lines = [line for line in done.stderr.splitlines() if "net_nonsense0" in line]
        return expect(done.returncode not in (0, -11) and lines, f"status {done.returncode}: {lines[-1][:160] if lines else done.stderr[-300:]}")

    def test_more_workers_than_it_can_have(self):
        done = subprocess.run([*self.device.command_line()[:5], "run", "--config", self.device.config_file, "--socket", self.lab.path("other.sock"),
                               "--workers", "100000"], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
        return expect(done.returncode not in (0, -11) and "workers" in done.stderr, f"status {done.returncode}: {done.stderr.strip().splitlines()[-1][:160] if done.stderr.strip() else ''}")

    def test_a_client_without_a_daemon(self):
        done = subprocess.run([self.device.program, "show", "version", "--socket", "/run/spillway/nobody.sock"], capture_output=True, text=True, timeout=20)
        said = done.stderr.strip()
        return expect(done.returncode not in (0, -11) and "/run/spillway/nobody.sock" in said and "panicked" not in said, f"status {done.returncode}: {said[:160]}")

    def test_a_port_for_http_that_is_taken(self):
        self.device.stop()
        try:
            with self.dev.listen(9199, "127.0.0.1"):
                done = self._start(configuration())
        finally:
            self.device.start()
        lines = [line for line in done.stderr.splitlines() if "9199" in line]
        return expect(done.returncode not in (0, -11) and lines, f"status {done.returncode}: {lines[-1][:160] if lines else done.stderr[-300:]}")


class Start(Case):
    kernel = None
    workers = (1, 2)

    def test_it_says_what_it_drives(self):
        log = self.device.log()
        missing = [w for w in ("Inside", "Outside", "net_af_packet", "worker", "NUMA", "MiB") if w.lower() not in log.lower()]
        return expect(not missing, f"the log lacks {missing}" if missing else "ports, drivers, workers, NUMA node and memory are in the log")

    def test_without_hugepages_it_warns_once(self):
        with open("/proc/meminfo") as f:
            free = next(int(line.split()[1]) for line in f if line.startswith("HugePages_Free"))
        warnings = [line for line in self.device.log().splitlines() if "hugepage" in line.lower()]
        if free:
            return f"{free} hugepages are free here, {len(warnings)} lines about them"
        return expect(len(warnings) == 1, warnings[0][:160] if warnings else "no word about hugepages")

    def test_json_logs(self):
        other = Spillway(self.lab, workers=self.worker_count, options=["--log-format", "json"])
        self.lab.device = self.device
        self.device.stop()
        other.log_file = self.lab.path("json.log")
        try:
            other.start()
            other.stop()
        finally:
            self.device.start()
        lines = other.log().splitlines()
        bad = [line for line in lines if not _is_json(line)]
        return expect(lines and not bad, f"{len(lines)} lines, each a JSON object" if not bad else f"not JSON: {bad[0][:160]}")

    def test_http_is_on_the_loopback_only(self):
        status, _, _ = self.device.get("/stats")
        try:
            self.in1.connect(INSIDE_GATEWAY, HTTP_PORT, timeout=1).close()
            how = "open"
        except OSError as e:
            how = type(e).__name__
        return expect(status == 200 and how != "open", f"the loopback answers {status}, the inside host gets {how}")


def _is_json(line):
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False

