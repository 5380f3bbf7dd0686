"""A virtual machine with emulated network cards behind an emulated IOMMU, in the lab's namespace `wire`.

Its root folder is the host's own, read-only: it runs the host's programs. It has no network of its own: the host asks
its agent over a virtio port. It ends with the lab, however that ends.
"""

import glob
import json
import os
import shutil
import socket
import subprocess
import threading

from lab.namespaces import run
from lab.topology import wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MEMORY_MB = 1280
PROCESSORS = 3
_BOOT = ("virtio_pci", "9pnet_virtio", "9p", "overlay")


class GuestError(RuntimeError):
    """The guest did not do what it was told."""


def kernel_folder():
    """Where `scripts/setup metal` has put the guest's kernel and its modules."""
    folder = os.path.join(os.path.abspath(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))), "metal")
    if not os.path.exists(f"{folder}/vmlinux"):
        raise FileNotFoundError(f"no kernel for the guest in {folder}: run `scripts/setup metal` first")
    return folder


class Card:
    """An emulated card on a tap of the namespace `wire`. `kind` is QEMU's name of it."""

    def __init__(self, kind, slot, side):
        self.kind, self.side = kind, side
        self.address = f"0000:00:{slot:02x}.0"
        self.slot = slot
        self.mac = f"02:00:00:00:00:{slot:02x}"
        self.tap = f"{kind.split('-')[0]}-{side}"

    def arguments(self, queues):
        """QEMU's words for it."""
        several = self.kind == "virtio-net-pci"
        netdev = f"tap,id=n{self.slot},ifname={self.tap},script=no,downscript=no,vhost=off" + (f",queues={queues}" if several else "")
        device = f"{self.kind},id=card{self.slot},netdev=n{self.slot},mac={self.mac},bus=pcie.0,addr={self.slot:#x}"
        if several:
            device += f",disable-legacy=on,iommu_platform=on,ats=on,mq=on,rss=on,hash=on,vectors={2 * queues + 2},rx_queue_size=1024"
        return ["-netdev", netdev, "-device", device]


class Guest:
    """The machine with these cards; ready when the constructor returns."""

    def __init__(self, lab, cards, queues=4, iommu=True, timeout_s=120):
        self.lab, self.cards = lab, cards
        self._answers, self._waiting, self._number = {}, threading.Condition(), 0
        self.console = lab.path("console")
        kernel = kernel_folder()
        self.process = lab.wire.spawn(*self._command_line(kernel, queues, iommu), log=self.console)
        self._monitor = self._connect("monitor")
        self._agent = self._connect("agent")
        threading.Thread(target=self._listen, daemon=True).start()
        self.release = self._answer(0, timeout_s)["ready"]

    def _command_line(self, kernel, queues, iommu):
        modules = glob.glob(f"{kernel}/lib/modules/*")[0]
        words = [f"console=ttyS0 panic=-1 quiet metal.modules={modules} metal.agent={HERE}/agent.py", *(["intel_iommu=on iommu=pt"] if iommu else [])]
        line = ["qemu-system-x86_64", "-M", "q35,accel=tcg,kernel-irqchip=split", "-cpu", "max", "-smp", str(PROCESSORS), "-m", str(MEMORY_MB),
                "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
                "-kernel", f"{kernel}/vmlinux", "-initrd", self._initramfs(kernel, modules), "-append", " ".join(words),
                "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
                "-chardev", f"socket,id=agent,path={self.lab.path('agent')},server=on,wait=off",
                "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=agent",
                "-qmp", f"unix:{self.lab.path('monitor')},server=on,wait=off"]
        if iommu:
            line += ["-device", "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on"]
        for card in self.cards:
            line += card.arguments(queues)
        return line

    def _initramfs(self, kernel, modules):
        """busybox, `init`, and the modules that it needs before the root folder is there."""
        root, release = self.lab.path("initramfs"), os.path.basename(modules)
        for folder in ("bin", "modules", "proc", "sys", "dev"):
            os.makedirs(f"{root}/{folder}")
        shutil.copy("/bin/busybox", f"{root}/bin/busybox")
        shutil.copy(f"{HERE}/init", f"{root}/init")
        os.chmod(f"{root}/init", 0o755)
        order = []
        for name in _BOOT:
            for line in run("modprobe", "-d", kernel, "-S", release, "--show-depends", name).splitlines():
                path = line.split()[1]
                if os.path.basename(path) not in order:
                    order.append(os.path.basename(path))
                    shutil.copy(path, f"{root}/modules/")
        with open(f"{root}/modules/order", "w") as f:
            f.write("".join(f"{name}\n" for name in order))
        file = self.lab.path("initramfs.cpio")
        with open(file, "wb") as f:
            names = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
            subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names, stdout=f, check=True)
        shutil.rmtree(root)
        return file

    def _connect(self, name):
        made = socket.socket(socket.AF_UNIX)

        def there():
            if not self.alive():
                raise GuestError(f"the guest did not start:\n{self.said()}")
            try:
                made.connect(self.lab.path(name))
            except OSError:
                return False
            return True
        wait_until(there, 20, f"QEMU opens its {name}", every_s=0.1)
        return made

    def alive(self):
        """Whether it runs."""
        return self.process.poll() is None

    def said(self, octets=3000):
        """The end of what the guest's console and QEMU said."""
        with open(self.console, errors="replace") as f:
            return f.read()[-octets:]

    # --- its agent ---

    def _listen(self):
        waiting = b""
        while data := self._agent.recv(1 << 16):
            *lines, waiting = (waiting + data).split(b"\n")
            with self._waiting:
                for answer in map(json.loads, lines):
                    self._answers[answer["id"]] = answer
                self._waiting.notify_all()

    def _answer(self, number, timeout_s):
        with self._waiting:
            if not self._waiting.wait_for(lambda: number in self._answers or not self.alive(), timeout_s) or number not in self._answers:
                raise GuestError(f"no answer from the guest within {timeout_s} s:\n{self.said()}")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise GuestError(answer["error"])
        return answer

    def ask(self, do, timeout_s=30, **about):
        """One request to the agent, and its answer."""
        with self._waiting:
            self._number += 1
            number = self._number
        self._agent.sendall(json.dumps({"id": number, "do": do, **about}).encode() + b"\n")
        return self._answer(number, timeout_s)

    def try_run(self, *words, timeout=60, **env):
        """Runs a command to its end: a dictionary with `status`, `out` and `err`."""
        return self.ask("run", timeout + 15, words=[str(w) for w in words], timeout=timeout, env=env)

    def run(self, *words, timeout=60):
        """Runs a command that must succeed; returns its standard output."""
        done = self.try_run(*words, timeout=timeout)
        if done["status"] != 0:
            raise GuestError(f"{' '.join(map(str, words))}: status {done['status']}: {done['err'].strip() or done['out'].strip()}")
        return done["out"]

    def write(self, path, text):
        """Writes a file in the guest's memory."""
        self.ask("write", path=path, text=text)

    # --- what holds it ---

    def monitor(self, command, **arguments):
        """A command to QEMU."""
        stream = self._monitor.makefile("rw")
        if not getattr(self, "_greeted", False):
            stream.readline()
            stream.write('{"execute": "qmp_capabilities"}\n')
            stream.flush()
            stream.readline()
            self._greeted = True
        stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        stream.flush()
        while "event" in (answer := json.loads(stream.readline())):
            pass
        if "error" in answer:
            raise GuestError(f"{command}: {answer['error']['desc']}")

    def set_link(self, card, up):
        """Plugs a card's cable in or out."""
        self.monitor("set_link", name=f"card{card.slot}", up=up)

    def end(self):
        """Pulls the plug."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for s in (self._agent, self._monitor):
            s.close()
