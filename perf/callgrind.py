"""Instructions of `spillway bench`, counted by callgrind: the same on a busy machine, and where there is no counter of the processor's."""

import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor


def _count(program, options):
    """Instructions of one run."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out",
                   program, "bench", *options]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode or not found:
        raise RuntimeError(f"{' '.join(command)}: {run.stderr.strip()[-400:]}")
    return int(found[1])


def count(program, runs):
    """Instructions of each run, by its name; `runs` are the options of `spillway bench` by name."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(runs, pool.map(lambda options: _count(program, options), runs.values())))
