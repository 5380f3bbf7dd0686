"""The two ends of a tunnel: what a guest does to be a VPN client or the server, with libreswan or with keys set by hand."""

import re
from dataclasses import dataclass, field

from .topology import OUT
from .vpn_guest import Guest

SERVER_INNER = "172.16.0.1"
SECRET = "a-secret-of-the-lab-and-of-nothing-else"
# Keys set by hand: all tunnels may share them, for nothing of this is secret.
ENCRYPTION_KEY, INTEGRITY_KEY = "0x" + "5b" * 16, "0x" + "c3" * 20
# Packets of the inner networks for which there is no tunnel end here and are counted, not sent in the clear.
NO_CLEAR_TEXT = "ip xfrm policy update src 172.16.0.0/16 dst 172.16.0.0/16 dir out action block priority 4000000000"
_FINGERS = "spi {spi:#010x} reqid {reqid} mode tunnel enc 'cbc(aes)' " + ENCRYPTION_KEY + " auth 'hmac(sha1)' " + INTEGRITY_KEY


@dataclass
class Ike:
    """How both ends speak IKE. Lifetimes in seconds; an SA is renewed `margin` before its end."""
    version: int = 2
    sa_lifetime: int = 3600
    margin: int = 300
    options: str = ""


@dataclass
class Sa:
    """One direction of a tunnel, as a guest's kernel has it."""
    source: str
    to: str
    spi: int
    packets: int


@dataclass
class Pings:
    """Echo requests through a tunnel, and which sequence numbers were never answered."""
    sent: int
    lost: list = field(default_factory=list)
    duplicates: int = 0

    @property
    def received(self):
        """How many were answered."""
        return self.sent - len(self.lost)

    def __str__(self):
        return f"{self.received} of {self.sent}" + (f" (lost: {_short(self.lost)})" if self.lost else "") \
            + (f", {self.duplicates} twice" if self.duplicates else "")


def _short(numbers):
    return " ".join(map(str, numbers[:12])) + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")


class Pinging:
    """Echo requests under way."""

    # `ping` waits for its last reply for two round trips only: requests of the last second are not counted.
    GRACE_S = 1.0

    def __init__(self, guest, source, to, count=None, interval_s=0.2):
        self.guest, self._extra = guest, round(self.GRACE_S / interval_s)
        self._file = f"/tmp/ping.{to}"
        number = "" if count is None else f"-c {count + self._extra}"
        self._job = guest.begin(f"echo $$ > {self._file}; exec ping -n -i {interval_s} {number} -W 2 -I {source} {to}")
        self._patience = 60 if count is None else 60 + count * interval_s

    def stop(self):
        """Sends no more; returns the `Pings`."""
        self.guest.run(f"kill -INT $(cat {self._file})")
        return self.end()

    def end(self):
        """Waits until all are sent; returns the `Pings`."""
        # ping's status says whether all were answered: what it prints says more.
        text = self._job.end(self._patience, check=False)
        sent = re.search(r"(\d+) packets transmitted", text)
        if not sent:
            raise RuntimeError(f"{self.guest.name}: ping said: {text[-300:]}")
        counted = max(int(sent[1]) - self._extra, 0)
        got = [int(n) for n in re.findall(r"bytes from .*icmp_seq=(\d+)", text)]
        # Sequence numbers have 16 bits: no test sends more.
        return Pings(counted, [n for n in range(1, counted + 1) if n not in set(got)], len(got) - len(set(got)))


class Endpoint:
    """A guest with a tunnel's end in it."""

    def __init__(self, host, name, gateway, inner):
        self.guest = Guest(host, name, host.address, gateway)
        self.address, self.inner = host.address, inner

    def connections(self, ike):
        """libreswan's connections of this end, as configuration text, and their names."""
        raise NotImplementedError

    def start_ike(self, ike):
        """Starts libreswan with its connections; nothing is set up yet."""
        return self.begin_ike(ike).end()

    def begin_ike(self, ike):
        """The same without waiting; returns the job."""
        text, names = self.connections(ike)
        # `_updown`, a shell script, would run while all else of libreswan waits, some seconds for each tunnel in a guest.
        # Nothing here needs it.
        configuration = (
            "config setup\n  logfile=/tmp/pluto.log\n  ikev1-policy=accept\n"
            "conn lab\n  authby=secret\n  auto=ignore\n  encapsulation=no\n  leftupdown=%disabled\n"
            f"  ikev2={'yes' if ike.version == 2 else 'no'}\n  ike=aes128-sha2_256-dh19\n  esp=aes128-sha1\n"
            f"  salifetime={ike.sa_lifetime}\n  rekeymargin={ike.margin}\n  rekeyfuzz=0%\n" + "".join(f"  {o}\n" for o in ike.options.split()) + text)
        return self.guest.begin(
            f"ip addr replace {self.inner}/32 dev lo\n"
            "mkdir -p /tmp/ike/nss /run/pluto\n"
            f"cat > /tmp/ike/conf <<'END'\n{configuration}END\n"
            f"echo ': PSK \"{SECRET}\"' > /tmp/ike/secrets\n"
            "[ -e /tmp/ike/nss/key4.db ] || ipsec initnss --nssdir /tmp/ike/nss\n"
            "ipsec pluto --config /tmp/ike/conf --secretsfile /tmp/ike/secrets --nssdir /tmp/ike/nss --logfile /tmp/pluto.log || exit 1\n"
            # It listens, and takes its secrets, only some time after it has started.
            "n=0; until grep -q 'loading secrets from' /tmp/pluto.log; do n=$((n + 1)); [ $n -lt 200 ] || exit 1; sleep 0.1; done\n"
            f"ipsec addconn --config /tmp/ike/conf {' '.join(names)} || exit 1\n" + NO_CLEAR_TEXT)

    def keys_by_hand(self, other, other_inner, spi_out, spi_in, reqid=1):
        """One tunnel without IKE: what goes to the address `other` has `spi_out`, what comes `spi_in`."""
        out, back = f"src {self.address} dst {other}", f"src {other} dst {self.address}"
        out_inner, back_inner = f"src {self.inner}/32 dst {other_inner}/32", f"src {other_inner}/32 dst {self.inner}/32"
        template = f"proto esp reqid {reqid} mode tunnel"
        self.guest.run("set -e\n" + "\n".join([
            f"ip addr replace {self.inner}/32 dev lo",
            f"ip xfrm state add {out} proto esp {_FINGERS.format(spi=spi_out, reqid=reqid)}",
            f"ip xfrm state add {back} proto esp {_FINGERS.format(spi=spi_in, reqid=reqid)}",
            f"ip xfrm policy update {out_inner} dir out tmpl {out} {template}",
            f"ip xfrm policy update {back_inner} dir in tmpl {back} {template}",
            NO_CLEAR_TEXT]))

    def begin_reset(self):
        """Stops IKE and forgets all tunnels, without a word to the other end; returns the job."""
        return self.guest.begin(
            "[ ! -e /run/pluto/pluto.pid ] || kill -9 $(cat /run/pluto/pluto.pid)\n"
            "rm -rf /run/pluto /tmp/pluto.log /tmp/ike/conf; ip xfrm state flush; ip xfrm policy flush; true")

    def sas(self):
        """The SAs in the guest's kernel; those that wait for keys are left out."""
        found = []
        for block in re.split(r"^(?=src )", self.guest.run("ip -s xfrm state"), flags=re.M):
            head = re.search(r"^src (\S+) dst (\S+)\s+proto esp spi (0x[0-9a-f]+)", block)
            if head and "enc " in block:
                packets = re.search(r"lifetime current:\s+\d+\(bytes\), (\d+)\(packets\)", block)
                found.append(Sa(head[1], head[2], int(head[3], 16), int(packets[1]) if packets else 0))
        return found

    def drops(self):
        """What the guest's IPsec threw away by itself, by the kernel's names for the reasons."""
        words = self.guest.run("cat /proc/net/xfrm_stat").split()
        return {name: int(n) for name, n in zip(words[::2], words[1::2]) if int(n)}

    def own_losses(self):
        """Packets that this end should have sent through a tunnel and threw away instead: they never reached the wire."""
        return sum(n for name, n in self.drops().items() if name.startswith("XfrmOut") or name == "XfrmAcquireError")

    def report(self):
        """All that this end knows, for somebody who looks for a cause."""
        return (self.guest.run("ip -s xfrm state; echo; ip xfrm policy; echo; grep -v ' 0$' /proc/net/xfrm_stat; echo; ipsec whack --showstates 2>&1; echo; "
                               "sed -n '/listening for IKE/,$p' /tmp/pluto.log 2>/dev/null | tail -n 400", check=False)
                + "\n--- the guest's kernel\n" + self.guest.log()[-4000:])


class Client(Endpoint):
    """Client K of the server."""

    def __init__(self, host, number, gateway):
        super().__init__(host, f"c{number}", gateway, f"172.16.{number}.1")
        self.number = number

    def connections(self, ike):
        return (f"conn tunnel\n  also=lab\n  left={self.address}\n  leftid=@c{self.number}\n  leftsubnet={self.inner}/32\n"
                f"  right={OUT}\n  rightid=@server\n  rightsubnet={SERVER_INNER}/32\n"), ["tunnel"]

    def begin_tunnel(self):
        """Asks libreswan for the tunnel; returns the job, which ends when this end has it."""
        return self.guest.begin("timeout 40 ipsec whack --initiate --name tunnel")

    def ping(self, count=None, interval_s=0.2):
        """Begins to ping the server through the tunnel."""
        return Pinging(self.guest, self.inner, SERVER_INNER, count, interval_s)


class Server(Endpoint):
    """The VPN server, which every client reaches from the same address."""

    def __init__(self, host, gateway, clients):
        super().__init__(host, "server", gateway, SERVER_INNER)
        self._clients = clients

    def connections(self, ike):
        text = "".join(
            f"conn c{k}\n  also=lab\n  left={OUT}\n  leftid=@server\n  leftsubnet={SERVER_INNER}/32\n"
            f"  right=%any\n  rightid=@c{k}\n  rightsubnet=172.16.{k}.1/32\n" for k in range(1, self._clients + 1))
        return text, [f"c{k}" for k in range(1, self._clients + 1)]

    def ping(self, client, count=None, interval_s=0.2):
        """Begins to ping a client through its tunnel."""
        return Pinging(self.guest, SERVER_INNER, client.inner, count, interval_s)

    def established(self):
        """The clients whose tunnels libreswan has in full here, by number."""
        text = self.guest.run("ipsec whack --trafficstatus")
        return sorted({int(n) for n in re.findall(r'"c(\d+)"', text)})
