"""What is on the wire at one side of the device: IKE and ESP, frame by frame."""

import contextlib
import struct
import threading
import time

from .frames import Seen

_OUTGOING = 4
_MOST = 200_000
ESP, UDP = 50, 17


class Frame(Seen):
    """A recorded frame. `to_device` says which way it went, `at` when, in seconds."""

    def __init__(self, frame, at, to_device):
        super().__init__(frame)
        self.at, self.to_device = at, to_device
        self.spi = self.sequence = self.source_port = self.port = self.cookie = self.message = None
        if not self.is_ipv4 or self.flags_offset & 0x1FFF:
            return
        if self.protocol == ESP and len(self.segment) >= 8:
            self.spi, self.sequence = struct.unpack("!II", self.segment[:8])
        elif self.protocol == UDP and len(self.segment) >= 8:
            self.source_port, self.port = struct.unpack("!HH", self.segment[:4])
            # On ports other than 500, four zero octets come before IKE (RFC 3948 section 2.2).
            ike = self.segment[8:] if self.segment[8:12] != bytes(4) else self.segment[12:]
            if len(ike) >= 28:
                self.cookie, self.message = ike[:8].hex(), ike


class Tap:
    """Records the IPv4 frames of an interface of the namespace `wire`, from now until `stop`."""

    def __init__(self, wire, interface):
        self._socket = wire.raw(interface, timeout=0.2)
        self._frames, self._lost = [], 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    def _record(self):
        while not self._over.is_set():
            try:
                frame, about = self._socket.recvfrom(65535)
            except TimeoutError:
                continue
            if len(self._frames) < _MOST:
                self._frames.append((frame, time.time(), about[2] == _OUTGOING))
            else:
                self._lost += 1

    def frames(self):
        """The IPv4 frames so far."""
        return [f for f in (Frame(*record) for record in list(self._frames)) if f.is_ipv4]

    def esp(self, to_device):
        """The ESP frames that went to the device, or came from it."""
        return [f for f in self.frames() if f.spi is not None and f.to_device == to_device]

    def ike(self, to_device):
        """The IKE messages that went to the device, or came from it."""
        return [f for f in self.frames() if f.cookie is not None and f.to_device == to_device]

    def stop(self):
        """Ends the recording."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join()
            self._socket.close()

    def save(self, path):
        """Writes a pcap file of it."""
        with open(path, "wb") as f:
            f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
            for frame, at, _ in list(self._frames):
                f.write(struct.pack("<IIII", int(at), int(at % 1 * 1e6), len(frame), len(frame)) + frame)
        if self._lost:
            with contextlib.suppress(OSError), open(path + ".txt", "w") as f:
                f.write(f"{self._lost} more frames were not recorded\n")


def without_twin(before, after):
    """ESP frames of `before` (that went into the device) which are not in `after` (that came out of it): what the
    device kept. SPI and sequence number tell them apart."""
    out = {(f.spi, f.sequence) for f in after}
    return [f for f in before if (f.spi, f.sequence) not in out]
