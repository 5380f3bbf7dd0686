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
import struct
import subprocess
import threading
import time
from dataclasses import dataclass

from .topology import wait_until


def octets_text(n):
    """1 GiB, 256 MiB, 64 KiB, 12 B."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n} B"


@dataclass
class Pings:
    """What came of some echo requests."""
    sent: int
    received: int
    average_ms: float

    @property
    def lost(self):
        return self.sent - self.received

    def __str__(self):
        return f"{self.lost} of {self.sent} lost" + (f", {self.average_ms:.2f} ms" if self.received else "")


class Pinger(threading.Thread):
    """Sends echo requests at a steady pace and counts the replies that bring back what was sent.

    Not `ping`: that waits for its last reply no longer than two round trips, and calls a late one lost.
    """

    patience_s = 3.0

    def __init__(self, host, address, count, interval_s, size, whole, source):
        super().__init__(daemon=True)
        self.socket = host.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        if source:
            self.socket.bind((source, 0))
        if whole:
            self.socket.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 20)  # SO_RCVBUFFORCE
        self.socket.connect((address, 0))
        self.count, self.interval_s, self.size = count, interval_s, size
        self.sent, self.waiting, self.took, self.failure = 0, {}, [], None

    def _receive(self, until):
        """Takes replies until a moment, or until none is awaited and all is sent."""
        while (self.waiting or self.sent < self.count) and (left := until - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65535)
            except TimeoutError:
                return
            except OSError:  # an ICMP error about one of them: that one stays unanswered
                continue
            kind, _, _, _, number = struct.unpack("!BBHHH", data[:8])
            sent = self.waiting.get(number)
            if kind == 0 and sent is not None and data[8:] == sent[1]:
                self.took.append(time.monotonic() - sent[0])
                del self.waiting[number]

    def run(self):
        try:
            started = time.monotonic()
            for k in range(self.count):
                if k >= self.count:
                    break  # told to stop
                number = k & 0xFFFF
                payload = (struct.pack("!I", k) * (self.size // 4 + 1))[:self.size]
                self.waiting[number] = (time.monotonic(), payload)
                self.sent += 1
                with contextlib.suppress(OSError):  # not sent is not answered
                    self.socket.settimeout(1)
                    self.socket.send(struct.pack("!BBHHH", 8, 0, 0, 0, number) + payload)
                self._receive(started + (k + 1) * self.interval_s)
            self._receive(time.monotonic() + self.patience_s)
        except Exception as e:  # told by `end_ping`
            self.failure = e
        finally:
            self.socket.close()

    def poll(self):
        """`None` while it runs."""
        return None if self.is_alive() else 0

    def stop(self):
        """Sends no more; replies to what was sent are still awaited."""
        self.count = 0


def start_ping(host, address, count, interval_s=0.005, size=56, whole=False, source=None):
    """Starts sending echo requests; give the result to `end_ping`. `whole` sets Don't Fragment."""
    pinger = Pinger(host, address, count, interval_s, size, whole, source)
    pinger.start()
    return pinger


def end_ping(pinger, timeout_s=120):
    """Waits for the last reply and counts."""
    pinger.join(timeout_s)
    if pinger.is_alive():
        raise TimeoutError(f"pings not done within {timeout_s} s")
    if pinger.failure:
        raise pinger.failure
    received = len(pinger.took)
    return Pings(pinger.sent, received, 1000 * sum(pinger.took) / received if received else float("nan"))


def ping(host, address, count, interval_s=0.005, size=56, whole=False, source=None):
    """Sends echo requests and counts the replies."""
    return end_ping(start_ping(host, address, count, interval_s, size, whole, source))


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
    """The addresses that traceroute meets on the way, one a hop (`*` where nobody answers three times over).

    Once in sixty to three hundred times, `traceroute -I` takes no notice of echo replies that a capture on its own host's interface
    shows to have come in time and whole.
    """
    way = []
    for _ in range(3):
        text = host.call("traceroute", "-n", "-q", "1", "-N", "1", "-w", "2", "-m", "6", *(["-I"] if icmp else []), *options, address)
        way = re.findall(r"^\s*\d+\s+(\S+)", text, re.M)
        if "*" not in way:
            break
    return way
