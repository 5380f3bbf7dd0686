"""What an end-to-end test is made of: a lab, a NAT device in it, and functions that return their figure."""

import contextlib
import os
import resource
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts"))

from lab.devices import KernelNat, Spillway, configuration  # noqa: E402
from lab.report import Wrong, expect  # noqa: E402,F401
from lab.topology import Lab, wait_until  # noqa: E402,F401

GIBIBYTE = 1 << 30
OVERLOAD = "ip nat inside source list 1 interface Outside overload"


def spillway_only(test):
    """Marks a test that asks what only Spillway can answer."""
    test.spillway_only = True
    return test


class Case:
    """A group of tests that share a lab and a configuration.

    Each method `test_...` is a test: it returns its figure, or raises. Tests of a group run in the order in which
    they are written. A group runs once for each number of workers in `workers`.
    """

    #: Numbers of workers that the group is run with.
    workers = (1, 2)
    #: Queues of each port. With fewer than workers, one worker receives and hands over to the others.
    queues = 1
    #: 0: the group runs alone. Else it waits more than it works: after all others, groups of lanes 1 and 2 run beside each other.
    lane = 0
    #: Whether the lab has `hop` and `far`.
    far = False
    #: More hosts, each behind an interface of the device of its own, as `Lab` takes them.
    spokes = {}
    #: Configuration beyond the lab's own: lines at the end, of the interfaces, and the translation rule.
    extra = inside = outside = ""
    nat = OVERLOAD
    #: Arguments of `KernelNat` that do the same, or `None` where the group is for Spillway alone.
    kernel = {}
    #: Whether a lab and a running device are wanted at all.
    needs_lab = True

    def __init__(self, options, workers):
        self.options, self.worker_count = options, workers
        self.lab = self.device = None

    def config(self):
        """The configuration of the group."""
        return configuration(extra=self.extra, inside=self.inside, outside=self.outside, nat=self.nat, queues=self.queues)

    def begin(self):
        """Builds the lab and starts the device."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        if not self.needs_lab:
            return
        self.lab = Lab(far=self.far, spokes=self.spokes)
        for role, host in self.lab.hosts.items():
            setattr(self, role if role != "far" else "far_host", host)
        self.dev = self.lab.dev
        if self.options.nat == "kernel":
            self.device = KernelNat(self.lab, **self.kernel)
        else:
            self.device = Spillway(self.lab, self.config(), workers=self.worker_count)
        self.device.start()
        self.prepare()

    def prepare(self):
        """What a group does once after the start."""

    def end(self, check=True):
        """Stops the device, which must end cleanly, and takes the lab away."""
        lab, self.lab = self.lab, None
        if lab is None:
            return
        try:
            if lab.device is not None:
                lab.device.stop(check=check)
                lab.device = None
        finally:
            lab.close()

    def evidence(self, name):
        """More lines that help to find the cause when the test `name` has failed."""
        return []

    @contextlib.contextmanager
    def drops(self, allowed=()):
        """No packet may be dropped in the block but for the reasons `allowed`. Yields a dictionary that has the
        drops of the block, by reason, after it. Empty with the kernel's NAT."""
        seen = {}
        if self.options.nat == "kernel":
            yield seen
            return
        before = self.device.drops()
        yield seen
        seen.update({k: v - before.get(k, 0) for k, v in self.device.drops().items() if v - before.get(k, 0)})
        bad = {k: v for k, v in seen.items() if k not in allowed}
        expect(not bad, f"packets were dropped: {bad}")
