"""TCP through the translation."""

import select
import socket
import struct
import threading

from case import GIBIBYTE, Case, expect
from lab import traffic
from lab.topology import IN1, OUT, OUTSIDE_ADDRESS

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Bulk(Case):
    def _octets(self):
        return GIBIBYTE // 16 if self.options.quick else GIBIBYTE

    def test_a_gibibyte_up_arrives_as_sent(self):
        t = traffic.transfer(self.in1, self.out, OUT, self._octets(), upload=True)
        return expect(t.identical, t)

    def test_a_gibibyte_down_arrives_as_sent(self):
        t = traffic.transfer(self.in2, self.out, OUT, self._octets(), upload=False)
        return expect(t.identical, t)

    def test_a_thousand_connections_at_once(self):
        with traffic.TcpEcho(self.out, 7) as echo:
            c = traffic.tcp_connections([self.in1, self.in2], OUT, 7, 1000)
            expect({a for a, _ in echo.peers} == {OUTSIDE_ADDRESS}, f"the server saw {set(a for a, _ in echo.peers)}")
        return expect(c.connected == c.intact == 1000 and not c.refused, f"{c} {c.refused or ''}")


class Connection(Case):
    def _accepted(self, listener):
        listener.settimeout(5)
        s, peer = listener.accept()
        s.settimeout(5)
        return s, peer

    def test_the_server_sees_the_outside_address(self):
        with self.out.listen(7) as listener, self.in1.connect(OUT, 7, source_port=31000), self._accepted(listener)[0] as s:
            peer = s.getpeername()
            return expect(peer == (OUTSIDE_ADDRESS, 31000), f"{IN1}:31000 is seen as {peer[0]}:{peer[1]}")

    def test_one_source_port_on_both_hosts(self):
        with self.out.listen(7) as listener, self.in1.connect(OUT, 7, source_port=32000) as a:
            first, peer_a = self._accepted(listener)
            with first, self.in2.connect(OUT, 7, source_port=32000) as b:
                second, peer_b = self._accepted(listener)
                with second:
                    a.sendall(b"from in1")
                    b.sendall(b"from in2")
                    got = first.recv(100), second.recv(100)
                    first.sendall(b"to in1")
                    second.sendall(b"to in2")
                    got += a.recv(100), b.recv(100)
        expect(got == (b"from in1", b"from in2", b"to in1", b"to in2"), f"got {got}")
        return expect(peer_a != peer_b and peer_b[0] == OUTSIDE_ADDRESS, f"seen as ports {peer_a[1]} and {peer_b[1]}")

    def test_reset_passes_both_ways(self):
        seen = []
        for by_server in (True, False):
            with self.out.listen(7) as listener:
                client = self.in1.connect(OUT, 7)
                server, _ = self._accepted(listener)
                closing, other = (server, client) if by_server else (client, server)
                closing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                closing.close()
                try:
                    got = repr(other.recv(10))
                except OSError as e:
                    got = type(e).__name__
                other.close()
                seen.append(got)
        return expect(seen == ["ConnectionResetError"] * 2, f"client saw {seen[0]}, server saw {seen[1]}")

    def test_a_closed_port_refuses(self):
        try:
            self.in1.connect(OUT, 9, timeout=3).close()
            got = "connected"
        except OSError as e:
            got = type(e).__name__
        return expect(got == "ConnectionRefusedError", got)

    def test_a_port_is_free_again_after_a_reset(self):
        for _ in range(5):
            with self.out.listen(7) as listener, self.in1.connect(OUT, 7, source_port=34000) as client:
                server, _ = self._accepted(listener)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                server.close()
        return "5 connections in a row from one source port"

    def test_half_closed_goes_on(self):
        octets = 1 << 20
        with self.out.listen(7) as listener:
            def serve():
                s, _ = self._accepted(listener)
                with s:
                    while s.recv(1000):
                        pass
                    s.sendall(b"x" * octets)
            thread = threading.Thread(target=serve)
            thread.start()
            with self.in1.connect(OUT, 7) as client:
                client.sendall(b"done")
                client.shutdown(socket.SHUT_WR)
                got = 0
                while n := len(client.recv(1 << 16)):
                    got += n
            thread.join()
        return expect(got == octets, f"{got} octets came after the client's FIN")

    def test_urgent_data_passes(self):
        with self.out.listen(7) as listener, self.in1.connect(OUT, 7) as client, self._accepted(listener)[0] as server:
            client.send(b"!", socket.MSG_OOB)
            expect(select.select([], [], [server], 3)[2], "no urgent data came")
            server.settimeout(None)
            urgent = server.recv(1, socket.MSG_OOB)
            server.settimeout(5)
            client.sendall(b"plain")
            plain = server.recv(100)
        return expect((urgent, plain) == (b"!", b"plain"), f"urgent {urgent}, then {plain}")


class BulkOverTwoQueues(Bulk):
    """The same with a queue for each worker."""
    workers, queues, kernel = (2,), 2, None
