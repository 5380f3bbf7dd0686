"""A new configuration while traffic passes."""

import signal
import time

from case import Case, expect, wait_until
from lab import traffic
from lab.devices import configuration
from lab.topology import IN1, IN2, OUT, OUTSIDE_ADDRESS

_MORE = (f"access-list 10 permit 10.1.0.0 0.0.0.255\nip nat inside source static tcp {IN1} 8000 interface Outside 8080\n"
         "ip nat translation udp-timeout 120\n")


class Reload(Case):
    kernel = None

    def _reload(self):
        return self.device.try_cli("reload")

    def test_under_load_nothing_is_lost(self):
        with traffic.TcpEcho(self.out, 7), traffic.UdpEcho(self.out, [8]), self.in1.connect(OUT, 7) as c, self.in2.udp(port=49000) as u:
            running = [traffic.start_ping(h, OUT, 1500, 0.004) for h in (self.in1, self.in2)]
            reloads = 0
            while any(p.poll() is None for p in running):
                self.device.configure(configuration(extra=_MORE if reloads % 2 == 0 else ""))
                if reloads % 3 == 2:
                    self.device.signal(signal.SIGHUP)
                else:
                    done = self._reload()
                    expect(done.returncode == 0, f"reload {reloads}: {done.stderr or done.stdout}")
                reloads += 1
                data = b"round %d" % reloads
                c.sendall(data)
                u.sendto(data, (OUT, 8))
                expect(c.recv(100) == data and u.recv(100) == data, f"an answer was lost at reload {reloads}")
                time.sleep(0.3)
            a, b = (traffic.end_ping(p) for p in running)
        return expect(a.lost + b.lost == 0 and reloads >= 5, f"{reloads} reloads, {a.lost + b.lost} of {a.sent + b.sent} pings lost, the TCP and UDP sessions live")

    def test_half_a_gibibyte_moves_while_it_reloads(self):
        import threading
        stop, reloads = threading.Event(), []

        def again():
            while not stop.wait(0.5):
                self.device.configure(configuration(extra=_MORE if len(reloads) % 2 == 0 else ""))
                reloads.append(self._reload().returncode)
        thread = threading.Thread(target=again)
        thread.start()
        try:
            t = traffic.transfer(self.in1, self.out, OUT, (64 if self.options.quick else 512) << 20, upload=True)
        finally:
            stop.set()
            thread.join()
        return expect(t.identical and not any(reloads), f"{len(reloads)} reloads, {t}")

    def test_what_is_new_works_and_what_is_gone_does_not(self):
        def reaches():
            with self.in1.listen(8000) as listener:
                listener.settimeout(0.5)
                try:
                    self.out.connect(OUTSIDE_ADDRESS, 8080, timeout=1).close()
                    listener.accept()[0].close()
                    return True
                except OSError:
                    return False
        seen = []
        for extra in ("", _MORE, ""):
            self.device.configure(configuration(extra=extra))
            done = self._reload()
            expect(done.returncode == 0, done.stderr)
            seen.append(reaches())
        return expect(seen == [False, True, False], f"port forward before, with and after: {seen}")

    def test_sessions_that_are_not_allowed_any_more_go(self):
        self.device.configure(configuration())
        expect(self._reload().returncode == 0, "reload")
        with traffic.UdpEcho(self.out, [8]), self.in1.udp(port=49100) as a, self.in2.udp(port=49100, timeout=1) as b:
            for s in (a, b):
                s.sendto(b"1", (OUT, 8))
                s.recv(10)
            self.device.configure(configuration(nat="access-list 3 permit 10.1.0.11\nip nat inside source list 3 interface Outside overload"))
            expect(self._reload().returncode == 0, "reload")
            wait_until(lambda: all(r["inside_local"]["address"] != IN2 for r in self._rows()), 5, "in2's entries go")
            rows = self._rows()
            a.sendto(b"2", (OUT, 8))
            a.recv(10)
        self.device.configure(configuration())
        expect(self._reload().returncode == 0, "reload")
        return expect(any(r["inside_local"] == {"address": IN1, "port": 49100} for r in rows), f"in2's entries went, {len(rows)} of in1 stayed")

    def _rows(self):
        return self.device.rows(self.device.cli_json("show", "ip", "nat", "translations"))

    def _configured(self):
        """What the running configuration can be told by."""
        statistics = self.device.cli_json("show", "ip", "nat", "statistics")
        ports = [{k: p[k] for k in ("name", "device", "address", "nat", "mtu", "up")} for p in self.device.stats()["ports"]]
        return [m["text"] for m in statistics["mappings"]], ports

    def test_a_bad_file_changes_nothing_and_says_why(self):
        before = self._configured()
        running = traffic.start_ping(self.in1, OUT, 300, 0.005)
        self.device.configure(configuration(extra="ip nat inside sauce list 1 interface Outside overload"))
        done = self._reload()
        said = done.stderr + done.stdout
        self.device.signal(signal.SIGHUP)
        p = traffic.end_ping(running)
        after = self._configured()
        expect(done.returncode != 0, f"reload of a bad file ended with 0: {said}")
        expect("sauce" in said and "^" in said, f"reload said: {said}")
        wait_until(lambda: "sauce" in self.device.log(), 5, "the log says why SIGHUP did nothing")
        self.device.configure(configuration())
        return expect(before == after and p.lost == 0, f"status {done.returncode}, line and caret told, 0 of {p.sent} pings lost, configuration as before")
