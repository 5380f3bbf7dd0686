"""`scripts/bind`, as far as it goes without a card to spare: what it finds, what it refuses, hugepages."""

import glob
import os
import subprocess
import tempfile

from case import ROOT, Case, expect

BIND = os.path.join(ROOT, "scripts", "bind")
HUGEPAGES = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"


def run(*words, **environment):
    return subprocess.run([BIND, *words], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, env={**os.environ, **environment})


def tree(folder, cards, iommu_groups=4):
    """A sysfs with these cards: address, class, driver, interface name (or none)."""
    for address, kind, driver, name in cards:
        path = f"{folder}/bus/pci/devices/{address}"
        os.makedirs(f"{path}/net/{name}" if name else path)
        for file, text in (("class", kind), ("vendor", "0x8086"), ("device", "0x10fb"), ("numa_node", "0")):
            with open(f"{path}/{file}", "w") as f:
                f.write(text + "\n")
        if driver:
            os.makedirs(f"{folder}/bus/pci/drivers/{driver}", exist_ok=True)
            os.symlink(f"{folder}/bus/pci/drivers/{driver}", f"{path}/driver")
    for k in range(iommu_groups):
        os.makedirs(f"{folder}/kernel/iommu_groups/{k}")


class Bind(Case):
    needs_lab = False
    workers = (1,)

    def test_status_of_this_machine(self):
        done = run("status")
        return expect(done.returncode == 0 and "IOMMU:" in done.stdout, f"{len(done.stdout.splitlines())} lines, status {done.returncode} {done.stderr}".strip())

    def test_status_lists_cards_and_nothing_else(self):
        with tempfile.TemporaryDirectory() as folder:
            tree(folder, [("0000:03:00.0", "0x020000", "ixgbe", "enp3s0"), ("0000:03:00.1", "0x020000", "vfio-pci", None),
                          ("0000:04:00.0", "0x010802", "nvme", None), ("0000:05:00.0", "0x028000", "", None)])
            done = run("--sysfs", folder, "status")
        rows = [line.split() for line in done.stdout.splitlines() if line.startswith("0000:")]
        wanted = [["0000:03:00.0", "8086:10fb", "0", "ixgbe", "enp3s0"], ["0000:03:00.1", "8086:10fb", "0", "vfio-pci", "-"],
                  ["0000:05:00.0", "8086:10fb", "0", "none", "-"]]
        return expect(rows == wanted and "IOMMU: on, 4 groups" in done.stdout, f"{len(rows)} cards of 4 devices" if rows == wanted else rows)

    def test_a_card_by_address_short_address_or_name(self):
        with tempfile.TemporaryDirectory() as folder:
            tree(folder, [("0000:03:00.0", "0x020000", "ixgbe", "enp3s0")])
            said = {w: run("--sysfs", folder, "--dry-run", "nic", w).stdout for w in ("0000:03:00.0", "03:00.0", "enp3s0")}
        good = [w for w, text in said.items() if "dpdk-devbind.py --bind=vfio-pci 0000:03:00.0" in text]
        return expect(len(good) == 3, f"{len(good)} of 3 ways to name it" if len(good) == 3 else said)

    def test_the_way_out_is_not_taken_away(self):
        # An interface of this machine that is in use, standing on a card of a made-up tree.
        used = next((line.split("dev ")[1].split()[0] for line in subprocess.run(["ip", "route", "show", "default"], capture_output=True, text=True).stdout.splitlines()), None)
        if used is None:
            return "this machine has no default route: nothing to refuse"
        with tempfile.TemporaryDirectory() as folder:
            tree(folder, [("0000:03:00.0", "0x020000", "ixgbe", used)])
            done = run("--sysfs", folder, "--dry-run", "nic", used)
            forced = run("--sysfs", folder, "--dry-run", "nic", "--force", used)
        expect(done.returncode == 1 and "default route" in done.stderr and not done.stdout, f"{done.stdout} {done.stderr}")
        return expect(forced.returncode == 0 and "--force --bind=vfio-pci" in forced.stdout, f"{used} refused; with --force: {forced.stdout.strip().splitlines()[-1]}")

    def test_without_an_iommu_it_says_what_to_do(self):
        with tempfile.TemporaryDirectory() as folder:
            # An address that no machine has: should the refusal break, no card is taken.
            tree(folder, [("fffe:fe:1f.7", "0x020000", "ixgbe", "enpfes0")], iommu_groups=0)
            done = run("--sysfs", folder, "nic", "enpfes0")
        return expect(done.returncode == 1 and "iommu=on" in done.stderr, done.stderr.strip()[:100])

    def test_mistakes_are_told(self):
        wrong = []
        for words, status, about in ((["nic", "nowhere0"], 1, "nowhere0"), (["nic", "0000:ff:1f.7"], 1, "0000:ff:1f.7"), (["nic", "lo"], 1, "net_af_packet"),
                                     (["hugepages", "many"], 1, "many"), (["hugepages", "-5"], 1, "-5"), (["nic"], 2, "card"), ([], 2, "status"),
                                     (["frobnicate"], 2, "frobnicate"), (["nic", "lo", "--driver", "magic"], 2, "magic")):
            done = run(*words)
            if done.returncode != status or about not in done.stderr or "Traceback" in done.stderr:
                wrong.append(f"{words}: status {done.returncode}: {done.stderr}")
        return expect(not wrong, "\n".join(wrong) or "9 mistakes, each with a sentence")

    def test_hugepages_are_reserved_and_restored(self):
        if not glob.glob(HUGEPAGES):
            return "this kernel has no hugepages of 2 MiB: nothing to reserve"
        with open(HUGEPAGES) as f:
            before = int(f.read())
        with tempfile.TemporaryDirectory() as folder:
            state = ["--state", os.path.join(folder, "bind.json")]
            done = run(*state, "hugepages", str(before + 8))
            try:
                with open(HUGEPAGES) as f:
                    during = int(f.read())
            finally:
                restored = run(*state, "hugepages", "restore")
        with open(HUGEPAGES) as f:
            after = int(f.read())
        expect(done.returncode == 0 and restored.returncode == 0, f"{done.stderr} {restored.stderr}")
        return expect((during, after) == (before + 8, before), f"{before}, then {during}, then {after} again")
