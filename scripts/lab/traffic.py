"""Real traffic between hosts of the lab, each with a figure that says how it went."""

import contextlib
import errno
import hashlib
import json
import os
import random
import re
import selectors
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from .topology import wait_until

PINGER = os.path.join(os.path.dirname(__file__), "pinger.py")


def octets_text(n):
    """1 GiB, 256 MiB, 64 KiB, 12 B."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n} B"


@dataclass
class Pings:
    """What a pinger counted."""
    sent: int
    received: int
    average_ms: float
    trouble: str

    @property
    def lost(self):
        return self.sent - self.received

    def __str__(self):
        return f"{self.lost} of {self.sent} lost, {self.average_ms:.2f} ms{self.trouble}"


def start_ping(host, address, count, interval_s=0.005, size=56, options=()):
    """Starts a pinger; give the result to `end_ping`."""
    with host.entered():
        return subprocess.Popen([sys.executable, PINGER, address, str(count), str(interval_s), str(size), *options],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end_ping(process, timeout_s=120):
    """Waits for a pinger and reads its counts."""
    text, _ = process.communicate(timeout=timeout_s)
    try:
        got = json.loads(text)
    except ValueError:
        raise RuntimeError(f"ping: {text.strip()}") from None
    if got["twice"] or got["wrong"]:
        raise RuntimeError(f"ping: {got['twice']} answers came twice, {got['wrong']} were not what was sent")
    trouble = f" ({', '.join(got['errors'])})" if got["errors"] else ""
    return Pings(got["sent"], got["received"], float("nan") if got["average_ms"] is None else got["average_ms"], trouble)


def ping(host, address, count, interval_s=0.005, size=56, options=()):
    """Pings and counts."""
    return end_ping(start_ping(host, address, count, interval_s, size, options))


class Service:
    """A thread that serves until its `with` block ends."""

    def __init__(self):
        self._selector = selectors.DefaultSelector()
        self._wake, wake = socket.socketpair()
        self._selector.register(wake, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.failure = None

    def watch(self, s, handler, events=selectors.EVENT_READ):
        """Calls `handler(socket, events)` when the socket is ready."""
        s.setblocking(False)
        self._selector.register(s, events, handler)

    def _serve(self):
        try:
            while True:
                for key, events in self._selector.select():
                    if key.data is None:
                        return
                    key.data(key.fileobj, events)
        except Exception as e:  # told to whoever ends the block
            self.failure = e

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._wake.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()
        if self.failure and kind is None:
            raise self.failure


class UdpEcho(Service):
    """Sends every datagram back from where it came in. Remembers who asked."""

    def __init__(self, host, ports, address=""):
        super().__init__()
        self.peers = set()
        self.sockets = []
        for port in ports:
            s = host.udp(address, port)
            s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            self.sockets.append(s)
            self.watch(s, self._echo)

    def _echo(self, s, _):
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                data, peer = s.recvfrom(65535)
                self.peers.add(peer)
                with contextlib.suppress(OSError):
                    s.sendto(data, peer)


class TcpEcho(Service):
    """Sends every octet back."""

    def __init__(self, host, port, address=""):
        super().__init__()
        self.accepted = 0
        self.peers = []
        self._waiting = {}
        self.watch(host.listen(port, address), self._accept)

    def _accept(self, s, _):
        with contextlib.suppress(BlockingIOError):
            while True:
                c, peer = s.accept()
                self.accepted += 1
                self.peers.append(peer)
                self._waiting[c] = bytearray()
                self.watch(c, self._echo)

    def _echo(self, c, events):
        waiting = self._waiting[c]
        try:
            if events & selectors.EVENT_READ:
                data = c.recv(1 << 16)
                if not data:
                    raise ConnectionError
                waiting += data
            if waiting:
                del waiting[:c.send(waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self._selector.unregister(c)
            del self._waiting[c]
            c.close()
            return
        # With much to send back, read no more until the other side has taken it.
        wanted = (selectors.EVENT_WRITE if waiting else 0) | (selectors.EVENT_READ if len(waiting) < 1 << 18 else 0)
        self._selector.modify(c, wanted, self._echo)


@dataclass
class Transfer:
    """One way of one TCP connection."""
    octets: int
    seconds: float
    identical: bool
    sha256: str

    def __str__(self):
        return (f"{octets_text(self.octets)} in {self.seconds:.1f} s, {self.octets * 8 / self.seconds / 1e6:.0f} Mbit/s, "
                f"checksum {'identical' if self.identical else 'DIFFERS'}")


_BLOCK = random.Random(7).randbytes((8 << 20) + 13)


def transfer(client, server, address, octets, upload, port=5001, listen_port=None, timeout_s=300):
    """Moves octets through one TCP connection from `client` to `address`, up or down, hashing both ends."""
    listener = server.listen(listen_port or port)
    hashes, failures = {}, []

    def send(s):
        made, left = hashlib.sha256(), octets
        while left:
            piece = memoryview(_BLOCK)[:min(left, len(_BLOCK))]
            s.sendall(piece)
            made.update(piece)
            left -= len(piece)
        s.shutdown(socket.SHUT_WR)
        hashes["sent"] = made.hexdigest()

    def receive(s):
        made, got, buffer = hashlib.sha256(), 0, bytearray(1 << 18)
        while n := s.recv_into(buffer):
            made.update(memoryview(buffer)[:n])
            got += n
        hashes["received"], hashes["octets"] = made.hexdigest(), got

    def serve():
        try:
            s, _ = listener.accept()
            with s:
                s.settimeout(timeout_s)
                (receive if upload else send)(s)
                s.recv(1) if not upload else s.shutdown(socket.SHUT_WR)
        except OSError as e:
            failures.append(e)

    with listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        started = time.monotonic()
        with client.connect(address, port) as s:
            s.settimeout(timeout_s)
            (send if upload else receive)(s)
            if upload:
                s.recv(1)
            else:
                s.shutdown(socket.SHUT_WR)
            seconds = time.monotonic() - started
        thread.join(timeout_s)
    if failures:
        raise failures[0]
    return Transfer(hashes["octets"], seconds, hashes["sent"] == hashes["received"] and hashes["octets"] == octets, hashes["received"])


@dataclass
class Flows:
    """Many UDP flows: how many got which reply."""
    flows: int
    right: int
    wrong: int
    seconds: float

    @property
    def missing(self):
        return self.flows - self.right - self.wrong

    def __str__(self):
        return f"{self.right} of {self.flows} flows got their own reply, {self.wrong} a wrong one, {self.seconds:.1f} s"


def udp_flows(sockets, destinations, window=96, patience_s=3.0, seed=1):
    """Every socket sends one datagram to every destination, in random order, with at most `window` unanswered;
    each reply must come to the socket that asked, from the address asked, with the octets sent. Nothing is sent twice."""
    flows = [(s, d) for s in sockets for d in destinations]
    random.Random(seed).shuffle(flows)
    poll = selectors.DefaultSelector()
    for s in sockets:
        s.setblocking(False)
        poll.register(s, selectors.EVENT_READ)
    waiting, right, wrong, sent = {}, 0, 0, 0
    started = last = time.monotonic()
    while sent < len(flows) or waiting:
        while sent < len(flows) and len(waiting) < window:
            s, to = flows[sent]
            data = b"flow %d of %d to port %d" % (sent, id(s), to[1])
            waiting[(s.fileno(), to)] = data
            s.sendto(data, to)
            sent += 1
        ready = poll.select(0.2)
        for key, _ in ready:
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, peer = key.fileobj.recvfrom(2048)
                    last = time.monotonic()
                    if waiting.pop((key.fileobj.fileno(), peer), None) == data:
                        right += 1
                    else:
                        wrong += 1
        if time.monotonic() - last > patience_s:
            # What is unanswered now is lost; the rest still gets its turn.
            waiting.clear()
            last = time.monotonic()
    poll.close()
    return Flows(len(flows), right, wrong, time.monotonic() - started)


@dataclass
class Connections:
    """Many TCP connections open at once."""
    wanted: int
    connected: int
    intact: int
    octets: int
    seconds: float
    refused: dict

    def __str__(self):
        return f"{self.connected} of {self.wanted} open at once, {self.intact} intact with {octets_text(self.octets)} each way, {self.seconds:.1f} s"


def tcp_connections(hosts, address, port, count, octets=32 << 10, timeout_s=90):
    """Opens `count` connections at once to an echo service, then sends `octets` on each and compares what comes back."""
    poll, started = selectors.DefaultSelector(), time.monotonic()
    pending, opened, failed = set(), [], {}
    for k in range(count):
        s = hosts[k % len(hosts)].socket()
        s.setblocking(False)
        code = s.connect_ex((address, port))
        if code not in (0, errno.EINPROGRESS):
            failed[code] = failed.get(code, 0) + 1
            continue
        pending.add(s)
        poll.register(s, selectors.EVENT_WRITE)
    end = started + timeout_s
    while pending and time.monotonic() < end:
        for key, _ in poll.select(0.5):
            s = key.fileobj
            code = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            pending.discard(s)
            poll.unregister(s)
            if code:
                failed[code] = failed.get(code, 0) + 1
                s.close()
            else:
                opened.append(s)
    connected, intact = len(opened), 0
    state = {}
    for k, s in enumerate(opened):
        at = (k * 4099) % (1 << 20)
        state[s] = [memoryview(_BLOCK)[at:at + octets], 0, bytearray()]
        poll.register(s, selectors.EVENT_READ | selectors.EVENT_WRITE)
    while state and time.monotonic() < end:
        for key, events in poll.select(0.5):
            s = key.fileobj
            data, at, got = mine = state[s]
            try:
                if events & selectors.EVENT_WRITE:
                    mine[1] += s.send(data[at:at + 16384])
                    if mine[1] == octets:
                        poll.modify(s, selectors.EVENT_READ)
                if events & selectors.EVENT_READ:
                    piece = s.recv(1 << 16)
                    if not piece:
                        raise ConnectionError(errno.ECONNRESET, "closed")
                    got += piece
            except BlockingIOError:
                continue
            except OSError as e:
                failed[e.errno] = failed.get(e.errno, 0) + 1
                poll.unregister(s)
                del state[s]
                continue
            if len(got) >= octets:
                intact += got == data
                poll.unregister(s)
                del state[s]
    seconds = time.monotonic() - started
    for s in (*opened, *pending):
        s.close()
    poll.close()
    return Connections(count, connected, intact, octets, seconds, {os.strerror(k or 0): v for k, v in failed.items()})


def iperf3(client, server, address, seconds=3, reverse=False, udp_rate=None, port=5201, listen_address=None):
    """Runs iperf3; returns its summary: TCP `sum_received`, UDP `sum`."""
    with server.entered():
        daemon = subprocess.Popen(["iperf3", "-s", "-1", "-p", str(port), *(["-B", listen_address] if listen_address else [])],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: f":{port} " in server.call("ss", "-Hltn"), 10, "iperf3 listens")
        text = client.call("iperf3", "-c", address, "-p", port, "-t", seconds, "-J", "--connect-timeout", 5000, *(["-R"] if reverse else []),
                           *(["-u", "-b", udp_rate, "-l", "1400"] if udp_rate else []), check=False, timeout=seconds + 40)
        result = json.loads(text)
        if "error" in result:
            raise RuntimeError(f"iperf3: {result['error']}")
        return result["end"]["sum" if udp_rate else "sum_received"]
    finally:
        daemon.terminate()
        daemon.wait()


def hops(host, address, icmp=False, options=()):
    """The addresses that traceroute meets on the way, one a hop (`*` where nobody answers)."""
    text = host.call("traceroute", "-n", "-q", "1", "-N", "1", "-w", "2", "-m", "6", *(["-I"] if icmp else []), *options, address)
    return [m[1] for m in re.finditer(r"^\s*\d+\s+(\S+)", text, re.M)]
