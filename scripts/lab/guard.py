"""Takes a lab away when the process that made it ends, however it ends.

    guard.py OWNER_PID

A lab is named after its guard: `spw-PID`. The owner holds the other end of the guard's standard
input. When that closes, the guard ends the lab's processes, deletes its namespaces and its folder.
The word `keep` on standard input lets the lab outlive its owner until the guard gets SIGTERM.
A guard that was killed itself leaves a lab behind; the next lab to start collects it.
"""

import contextlib
import os
import shutil
import signal
import sys
import time

if __package__ in (None, ""):
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import namespaces  # noqa: E402

FOLDER = "/run/spillway-lab"
PREFIX = "spw-"


def start_time(pid):
    """When a process started, in clock ticks since boot; `None` if there is none or it has ended. Tells it from a
    later process with the same number."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
            return None if fields[0] == "Z" else fields[19]
    except OSError:
        return None


def take_away(name, spare=()):
    """Ends and deletes everything of the lab `name`."""
    namespaces.remove(name + "-", spare=spare)
    shutil.rmtree(f"{FOLDER}/{name}", ignore_errors=True)


def labs():
    """Names of all labs on this machine, with whether their guard lives."""
    found = {"-".join(n.split("-")[:2]) for n in namespaces.names(PREFIX)}
    with contextlib.suppress(FileNotFoundError):
        found |= {n for n in os.listdir(FOLDER) if n.startswith(PREFIX)}
    result = {}
    for name in sorted(found):
        pid = name[len(PREFIX):]
        born = None
        with contextlib.suppress(OSError), open(f"{FOLDER}/{name}/guard") as f:
            # Empty while the lab that begins writes it.
            born = f.read().strip() or None
        result[name] = pid.isdigit() and start_time(pid) is not None and born in (None, start_time(pid))
    return result


def is_kept(name):
    """Whether the lab outlives its owner."""
    return os.path.exists(f"{FOLDER}/{name}/kept")


def end(name):
    """Ends a kept lab, or a dead one, and waits until it is gone."""
    if labs().get(name):
        pid = int(name[len(PREFIX):])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        for _ in range(600):
            if start_time(pid) is None:
                return
            time.sleep(0.05)
    take_away(name)


def collect():
    """Takes away labs whose guard is dead; returns their names."""
    dead = [name for name, alive in labs().items() if not alive]
    for name in dead:
        take_away(name)
    return dead


def main():
    owner = int(sys.argv[1])
    name = f"{PREFIX}{os.getpid()}"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    class Told(Exception):
        pass

    def told(*_):
        raise Told

    signal.signal(signal.SIGTERM, told)
    with contextlib.suppress(Told):
        words = sys.stdin.read()
        if "keep" in words.split():
            with open(f"{FOLDER}/{name}/kept", "w"):
                pass
            while True:
                signal.pause()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    take_away(name, spare={owner})


if __name__ == "__main__":
    main()
