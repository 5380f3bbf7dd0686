"""Network namespaces: entering them, commands in them, and what runs in them.

A thread that enters a namespace makes its sockets and its child processes there; both stay there
when the thread goes back. So one Python process can hold sockets of every host of a lab.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time

ROOT = "/run/netns"
_CLONE_NEWNET = 0x40000000
# ethtool, nft and sysctl live where an ordinary PATH does not look.
os.environ["PATH"] = f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
_libc = ctypes.CDLL(None, use_errno=True)


class CommandError(RuntimeError):
    """A command of the lab's own building work failed."""


def run(*words, check=True, input=None, timeout=60):
    """Runs a command to its end; returns its standard output."""
    done = subprocess.run([str(w) for w in words], input=input, capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL if input is None else None)
    if check and done.returncode != 0:
        raise CommandError(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _setns(descriptor):
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


class Namespace:
    """One network namespace, known to `ip netns` by its name."""

    def __init__(self, name):
        self.name = name
        self.path = f"{ROOT}/{name}"

    def create(self):
        """Makes it, with the loopback interface up and IPv6 silent."""
        run("ip", "netns", "add", self.name)
        self.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
        self.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        self.ip("link set lo up")

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in this namespace while the block runs."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            there = os.open(self.path, os.O_RDONLY)
            try:
                _setns(there)
            finally:
                os.close(there)
            try:
                yield self
            finally:
                _setns(back)
        finally:
            os.close(back)

    def ip(self, *lines, check=True):
        """Runs lines of `ip` commands (`link set eth0 up`), all in one go."""
        return self.call("ip", "-batch", "-", input="\n".join(lines) + "\n", check=check)

    def ip_json(self, *words):
        """The JSON output of an `ip` command, as text."""
        return self.call("ip", "-json", *words)

    def nft(self, script):
        """Loads an nftables script."""
        with self.entered():
            run("nft", "-f", "-", input=script)

    def sysctl(self, name, value):
        """Sets a kernel parameter of this namespace."""
        with self.entered(), open("/proc/sys/" + name.replace(".", "/"), "w") as f:
            f.write(str(value))

    def call(self, *words, check=True, timeout=60, input=None):
        """Runs a command in here to its end; returns its standard output."""
        with self.entered():
            return run(*words, check=check, timeout=timeout, input=input)

    def spawn(self, *words, log=None, stdout=None, env=None):
        """Starts a command in here; its output goes to the file `log`, or `stdout`."""
        out = open(log, "ab") if log else (stdout or subprocess.DEVNULL)
        try:
            with self.entered():
                return subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=out,
                                        stderr=subprocess.STDOUT if log else subprocess.DEVNULL, env=env)
        finally:
            if log:
                out.close()

    def processes(self):
        """Process ids in here, this process's own not among them."""
        try:
            here = os.stat(self.path)
        except OSError:
            return []
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                there = os.stat(f"/proc/{entry}/ns/net")
                if (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev):
                    found.append(int(entry))
        return found


def names(prefix):
    """Names of the namespaces that begin with `prefix`."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(n for n in os.listdir(ROOT) if n.startswith(prefix))
    return []


def remove(prefix, spare=(), patience_s=8.0):
    """Ends what runs in the namespaces that begin with `prefix`, then deletes them."""
    spaces = [Namespace(n) for n in names(prefix)]
    deadline = time.monotonic() + patience_s
    for sent in (signal.SIGTERM, signal.SIGKILL):
        def left():
            return {p for s in spaces for p in s.processes()} - set(spare)
        for pid in left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        while left() and time.monotonic() < deadline:
            time.sleep(0.02)
        deadline = time.monotonic() + 2.0
    for space in spaces:
        run("ip", "netns", "del", space.name, check=False)
