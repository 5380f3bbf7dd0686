"""What IPsec hosts send, in the clear, from namespaces of the guest. The guest's agent calls `answer` with:

    {"clients": {"client1": "10.1.0.11"}, "servers": "servers", "peers": ["198.51.100.2"], "global": "198.51.100.1", "each": 4, "rounds": [1, 20]}

Clients and servers are names of namespaces. Each client has `each` tunnels with each peer, and IKE with it from ports 500 and 4500. `rounds` are the
first and the last sequence number: in each a packet goes out in every tunnel and a message from every IKE port, and the peer answers both. In round
1 they open, one after the other. The answer:

    {"esp": 80, "ike": 40, "right": 120, "wrong": [], "seconds": 0.5}

`esp` and `ike` are requests; as many answers have come back to whom they were for when all are `right`.
"""

import os
import selectors
import socket
import struct
import sys
import time

# By itself: all of the package takes seconds to load here.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "scripts", "lab"))
from namespaces import Namespace  # noqa: E402

PATIENCE_S = 2.0
IKE_PORTS = (500, 4500)
IKE_SA_INIT, INFORMATIONAL = 34, 37
INITIATOR, RESPONSE = 0x08, 0x20


def socket_in(namespace, kind, protocol, address):
    """A socket of that namespace, bound; raw ones get only what is sent to the address."""
    with namespace.entered():
        made = socket.socket(socket.AF_INET, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    made.bind(address)
    made.setblocking(False)
    return made


class Esp:
    """A tunnel: SPIs that no other one has, and packets that say whose they are."""

    def __init__(self, number, client, peer):
        self.client, self.peer = client, peer
        # As random ones would be; the two directions have nothing to do with each other.
        self.out, self.into = (0x1000_0000 | number * 0x9E37_79B9 & 0xFFF_FFFF), (0x2000_0000 | number * 0x85EB_CA6B & 0xFFF_FFFF)

    def packet(self, spi, sequence):
        return struct.pack("!II", spi, sequence) + f"{self.client} {self.peer} {spi:x} {sequence}".encode().ljust(64)


class Ike:
    """IKEv2 messages of a client to a peer's port. Those for 4500 stand behind four octets of zero."""

    def __init__(self, number, client, peer, port):
        self.client, self.peer, self.port = client, peer, port
        self.cookies = struct.pack("!Q", 0xC000_0000_0000_0001 + number), struct.pack("!Q", 0xD000_0000_0000_0001 + number)

    def message(self, sequence, answer):
        first = sequence == 1
        cookies = self.cookies[0] + (bytes(8) if first and not answer else self.cookies[1])
        body = f"{self.client} {self.peer}".encode().ljust(40)
        header = struct.pack("!BBBBII", 0, 0x20, IKE_SA_INIT if first else INFORMATIONAL, RESPONSE if answer else INITIATOR, sequence - 1, 28 + len(body))
        return (bytes(4) if self.port == 4500 else b"") + cookies + header + body


class Hosts:
    """All clients and servers, and what is on its way between them."""

    def __init__(self, asked):
        self.at = asked["global"]
        self.selector = selectors.DefaultSelector()
        self.awaited, self.answers, self.wrong = set(), {}, []
        self.sent = {Esp: 0, Ike: 0}
        self.right = 0
        servers = Namespace(asked["servers"])
        for peer in asked["peers"]:
            self.listen(socket_in(servers, socket.SOCK_RAW, 50, (peer, 0)), self.at_server, (peer, 50))
            for port in IKE_PORTS:
                self.listen(socket_in(servers, socket.SOCK_DGRAM, 0, (peer, port)), self.at_server, (peer, port))
        self.sockets = {}
        for name, client in asked["clients"].items():
            space = Namespace(name)
            self.sockets[client, 50] = self.listen(socket_in(space, socket.SOCK_RAW, 50, (client, 0)), self.at_client, (client, 50))
            for port in IKE_PORTS:
                self.sockets[client, port] = self.listen(socket_in(space, socket.SOCK_DGRAM, 0, (client, port)), self.at_client, (client, port))
        pairs = [(client, peer) for client in asked["clients"].values() for peer in asked["peers"]]
        self.esp = [Esp(1 + each * len(pairs) + at, *pair) for each in range(asked["each"]) for at, pair in enumerate(pairs)]
        self.ike = [Ike(2 * at + at_port, *pair, port) for at, pair in enumerate(pairs) for at_port, port in enumerate(IKE_PORTS)]

    def close(self):
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()

    def listen(self, s, handler, what):
        self.selector.register(s, selectors.EVENT_READ, (handler, what))
        return s

    def request(self, conversation, sequence):
        """Sends a client's packet; the server knows what it must look like and what it answers."""
        kind, client, peer = type(conversation), conversation.client, conversation.peer
        if kind is Esp:
            port, to, data, back = 50, (peer, 0), conversation.packet(conversation.out, sequence), conversation.packet(conversation.into, sequence)
        else:
            port, to = conversation.port, (peer, conversation.port)
            data, back = conversation.message(sequence, False), conversation.message(sequence, True)
        self.awaited.add((client, peer, port, back))
        self.answers[peer, port, data] = back
        self.sent[kind] += 1
        self.sockets[client, port].sendto(data, to)

    @staticmethod
    def receive(s, port):
        """A packet without its IP header, and who sent it."""
        data, source = s.recvfrom(4096)
        return (data[(data[0] & 15) * 4:] if port == 50 else data), source

    def at_server(self, s, peer, port):
        data, source = self.receive(s, port)
        back = self.answers.pop((peer, port, data), None)
        if back is None or source[0] != self.at:
            self.wrong.append(f"{peer} got {data[:48].hex()} from {source}, port {port}")
        else:
            s.sendto(back, source)

    def at_client(self, s, client, port):
        data, source = self.receive(s, port)
        try:
            self.awaited.remove((client, source[0], port, data))
            self.right += 1
        except KeyError:
            self.wrong.append(f"{client} got {data[:48].hex()} from {source}, port {port}")

    def settle(self):
        """Serves until all answers are there, or nothing comes any more."""
        while self.awaited and (ready := self.selector.select(PATIENCE_S)):
            for key, _ in ready:
                handler, what = key.data
                handler(key.fileobj, *what)

    def round(self, sequence):
        for conversation in self.ike + self.esp:
            self.request(conversation, sequence)
            if sequence == 1:
                self.settle()
        self.settle()


def answer(asked):
    """All rounds."""
    hosts = Hosts(asked)
    try:
        began = time.monotonic()
        first, last = asked["rounds"]
        for sequence in range(first, last + 1):
            hosts.round(sequence)
        seconds = time.monotonic() - began
    finally:
        hosts.close()
    return {"esp": hosts.sent[Esp], "ike": hosts.sent[Ike], "right": hosts.right, "wrong": hosts.wrong[:5], "seconds": seconds}
