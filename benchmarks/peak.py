"""Train on a folder in a process of its own, as growth.py has it do; print what it took as JSON.

    python benchmarks/peak.py FOLDER SMALL OPTIONS

First trains on the folder SMALL, which loads all that is needed. OPTIONS are those of
`mlr.train`, as JSON. Prints the seconds of all processors, the most bytes that the process
has held less what it held after the small training, and the bytes of the weights.
"""

import json
import sys
import time
from pathlib import Path

# What a plain installation takes is measured: where there is SciPy, Numba loads it, mlr does not
# use it, and Python's table of strings happens to grow by 1.9 MB in some trainings.
sys.modules["scipy"] = None

from mlr.bench.machine import peak_memory  # noqa: E402
from mlr.training.train import train  # noqa: E402


def run(folder, small, options):
    """Train on both folders; return the seconds, and the bytes."""
    train(small, **options)
    before = reset_peak()
    start = time.process_time()
    weights = train(folder, **options).weights.nbytes
    seconds = time.process_time() - start
    return {"seconds": seconds, "bytes": peak("VmHWM") - before, "weights": weights}


def reset_peak():
    """Forget the most bytes that this process has held; return what it holds."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
    return peak("VmRSS")


def peak(key):
    """Return what the system says of this process, in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():  # not on Linux
        return peak_memory()
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(lines[key].split()[0])


if __name__ == "__main__":
    folder, small, options = sys.argv[1:]
    print(json.dumps(run(Path(folder), Path(small), json.loads(options))))
