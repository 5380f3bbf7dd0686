"""Ethernet frames made by hand, for what a kernel would never send, and views of received ones."""

import socket
import struct


def checksum(data):
    """The Internet checksum (RFC 1071) of some octets."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(to, source, payload, kind=0x0800):
    """A frame; MAC addresses are 6 octets."""
    return to + source + struct.pack("!H", kind) + payload


def ipv4(source, to, protocol, payload, ttl=64, identification=0, flags_offset=0, options=b"", version=4,
         header_words=None, total=None, header_checksum=None):
    """An IPv4 packet. What is not given is right; what is given is taken as it is.
    `flags_offset` is the field as it stands: 0x4000 don't fragment, 0x2000 more fragments, offset in eights."""
    words = 5 + len(options) // 4 if header_words is None else header_words
    total = 20 + len(options) + len(payload) if total is None else total

    def header(value):
        return struct.pack("!BBHHHBBH4s4s", version << 4 | words, 0, total, identification, flags_offset, ttl, protocol,
                           value, socket.inet_aton(source), socket.inet_aton(to)) + options
    value = checksum(header(0)) if header_checksum is None else header_checksum
    return header(value) + payload


def _with_pseudo(source, to, protocol, segment):
    return checksum(socket.inet_aton(source) + socket.inet_aton(to) + struct.pack("!BBH", 0, protocol, len(segment)) + segment)


def udp(source, source_port, to, port, payload, sum=None):
    """A UDP datagram; `sum` 0 means without checksum, `None` the right one."""
    def header(value):
        return struct.pack("!HHHH", source_port, port, 8 + len(payload), value)
    value = (_with_pseudo(source, to, 17, header(0) + payload) or 0xFFFF) if sum is None else sum
    return header(value) + payload


def tcp(source, source_port, to, port, flags, sequence=0, acknowledgement=0, payload=b"", window=65535):
    """A TCP segment; `flags` as in the header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16."""
    def header(value):
        return struct.pack("!HHIIBBHHH", source_port, port, sequence, acknowledgement, 5 << 4, flags, window, value, 0)
    return header(_with_pseudo(source, to, 6, header(0) + payload)) + payload


def icmp(kind, code, rest, payload=b"", sum=None):
    """An ICMP message; `rest` is the 32 bits after the checksum."""
    def header(value):
        return struct.pack("!BBHI", kind, code, value, rest)
    return header(checksum(header(0) + payload) if sum is None else sum) + payload


def fragments(source, to, protocol, segment, sizes, identification=1):
    """The fragments of a packet, in order; `sizes` are octets of payload a fragment, eights but the last."""
    result, at = [], 0
    for size in sizes:
        piece = segment[at:at + size]
        more = 0x2000 if at + size < len(segment) else 0
        result.append(ipv4(source, to, protocol, piece, identification=identification, flags_offset=more | at // 8))
        at += size
    assert at >= len(segment), "the sizes do not cover the segment"
    return result


class Seen:
    """A received frame's IPv4 part, or what there is of it."""

    def __init__(self, frame):
        self.frame = frame
        self.kind = struct.unpack("!H", frame[12:14])[0]
        self.is_ipv4 = self.kind == 0x0800 and len(frame) >= 34
        if not self.is_ipv4:
            return
        words, self.total, self.identification, self.flags_offset, self.ttl, self.protocol = struct.unpack("!BxHHHBB", frame[14:24])
        start = 14 + (words & 15) * 4
        self.source, self.to = socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])
        self.segment = frame[start:14 + self.total]
        self.header_is_right = checksum(frame[14:start]) == 0

    def udp_checksum(self):
        """The checksum field of its UDP header."""
        return struct.unpack("!H", self.segment[6:8])[0]
