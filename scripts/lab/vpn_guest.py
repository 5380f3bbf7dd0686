"""User Mode Linux guests: whole Linux kernels, with ESP, as ordinary processes in a namespace of the lab.

A guest is told what to do with shell scripts (`guest/README.md` says how) and is ended by closing its console,
or with `kill`, as if its plug were pulled.
"""

import os
import shutil
import signal
import subprocess
import threading
import time

from .topology import mac_of

HERE = os.path.dirname(os.path.abspath(__file__))
MEMORY = 128
MTU = 1400
"""Octets: ESP and the outer header must fit into 1500 behind it."""


class GuestError(RuntimeError):
    """A guest did not do what it was told."""


def root_folder():
    """The root file system of all guests, which `scripts/setup vpn` makes."""
    cache = os.environ.get("SPILLWAY_VPN_DIR", "/var/cache/spillway/vpn")
    if not os.path.exists(f"{cache}/recipe"):
        raise FileNotFoundError(f"no VPN guests' Debian in {cache}: run `scripts/setup vpn` first")
    return f"{cache}/root"


def _memory_folder():
    """Where a guest's memory may lie: it is a file that it maps to run from."""
    for folder in ("/dev/shm", "/run", "/tmp", "/var/tmp"):
        try:
            at = os.statvfs(folder)
        except OSError:
            continue
        if not at.f_flag & os.ST_NOEXEC and at.f_bavail * at.f_frsize > 1 << 30:
            return folder
    raise GuestError("no folder with a gigabyte free for the memory of guests: tried /dev/shm, /run, /tmp, /var/tmp")


class Job:
    """A script that runs in a guest."""

    def __init__(self, guest, number):
        self.guest, self.number = guest, number
        self.status = None
        self._over = threading.Event()

    def over(self, status):
        """The guest says that it has ended."""
        self.status = status
        self._over.set()

    def running(self):
        """Whether it has not ended."""
        return not self._over.is_set()

    def output(self):
        """What it has printed; all of it only after its end."""
        try:
            with open(self.guest.file(f"{self.number}.out"), errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def end(self, timeout_s=60, check=True):
        """Waits for its end; returns what it printed. With `check`, a status other than 0 is an error."""
        if not self._over.wait(timeout_s):
            raise GuestError(f"{self.guest.name}: script {self.number} runs for more than {timeout_s:g} s: {self.output()[-500:]}")
        if self.status is None:
            raise GuestError(f"{self.guest.name} ended while a script ran: {self.guest.log()[-500:]}")
        if check and self.status != 0:
            raise GuestError(f"{self.guest.name}: script {self.number} ended with status {self.status}: {self.output().strip()[-500:]}")
        return self.output()


class Guest:
    """A guest on the one interface `eth0` of a namespace, whose addresses it has to itself."""

    def __init__(self, host, name, address, gateway):
        self.host, self.name, self.address, self.gateway = host, name, address, gateway
        self.folder = host.lab.path(f"vpn-{name}")
        self._process = None
        self._jobs = {}
        self._count = 0
        self._lock = threading.Lock()
        self._ready = threading.Event()

    def file(self, name):
        """A file of the guest's `/control`."""
        return f"{self.folder}/{name}"

    def start(self):
        """Switches it on; `wait_ready` waits until it listens."""
        assert self._process is None, f"{self.name} runs already"
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        shutil.copy(f"{HERE}/guest/init", self.file("init"))
        with open(self.file("settings"), "w") as f:
            f.write(f"ADDRESS={self.address}/24\nGATEWAY={self.gateway}\nMTU={MTU}\n")
        self._ready.clear()
        command = ["linux.uml", f"mem={MEMORY}M", f"umid={self.name}", f"uml_dir={self.folder}/uml", "rootfstype=hostfs",
                   f"rootflags={root_folder()}", "ro", f"vec0:transport=raw,ifname=eth0,depth=128,gro=0,mac={mac_of(self.address)}", "con=null", "con0=fd:0,fd:1", "quiet",
                   "init=/bin/sh", "--", "-c", f'"mount -t hostfs -o {self.folder} none /control && exec sh /control/init"']
        with open(self.file("boot.log"), "ab") as errors, self.host.entered():
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
                                             env={**os.environ, "TMPDIR": _memory_folder()})
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        return self

    def _listen(self, process):
        """Takes the console apart: answers to the harness, and a log."""
        with open(self.file("console.log"), "a", errors="replace") as log:
            for line in process.stdout:
                text = line.decode(errors="replace").rstrip()
                words = text.split()
                if words[:2] == ["@", "ready"]:
                    self._ready.set()
                elif words[:2] == ["@", "done"] and len(words) == 4:
                    with self._lock:
                        job = self._jobs.pop(int(words[2]), None)
                    if job is not None:
                        job.over(int(words[3]))
                else:
                    log.write(text + "\n")
                    log.flush()
        # It has ended: nobody shall wait for an answer any more.
        with self._lock:
            if process is self._process:
                left, self._jobs = list(self._jobs.values()), {}
            else:
                left = []
        for job in left:
            job.over(None)

    def wait_ready(self, timeout_s=60):
        """Waits until it takes scripts."""
        end = time.monotonic() + timeout_s
        while not self._ready.wait(0.2):
            if self._process.poll() is not None:
                raise GuestError(f"{self.name} did not start: {self.log()[-1500:]}")
            if time.monotonic() > end:
                raise GuestError(f"{self.name} is not ready after {timeout_s:g} s: {self.log()[-1500:]}")
        return self

    def begin(self, script):
        """Starts a shell script in it."""
        with self._lock:
            self._count += 1
            job = self._jobs[self._count] = Job(self, self._count)
        with open(self.file(f"{job.number}.sh"), "w") as f:
            f.write(script + "\n")
        try:
            self._process.stdin.write(f"{job.number}\n".encode())
            self._process.stdin.flush()
        except (OSError, ValueError) as e:
            raise GuestError(f"{self.name} does not run: {e}") from None
        return job

    def run(self, script, timeout_s=60, check=True):
        """Runs a shell script in it; returns what it printed."""
        return self.begin(script).end(timeout_s, check)

    def log(self):
        """What the guest's kernel and its first process have said."""
        text = ""
        for name in ("boot.log", "console.log"):
            try:
                with open(self.file(name), errors="replace") as f:
                    text += f.read()
            except FileNotFoundError:
                continue
        return text

    def alive(self):
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self):
        """Pulls its plug: nothing of it says goodbye."""
        process, self._process = self._process, None
        if process is None:
            return
        # The processes inside of the guest are processes out here too, all in its namespace.
        while pids := self.host.processes():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.poll()
            time.sleep(0.02)
        process.wait(10)
        process.stdin.close()
