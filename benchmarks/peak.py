"""Peak memory of a training in a process of its own, as growth.py runs it.

    python -m benchmarks.peak FOLDER SMALL OPTIONS

Trains on the folder SMALL first, which loads all that is needed. OPTIONS are those of `mlr.train`,
as JSON. Prints as JSON the processor time in seconds, the peak memory in bytes above what the
process held after the small training, and the bytes of the weights.
"""

import json
import sys
import time
from pathlib import Path

from mlr.bench import peak_memory


def main(folder: str, small: str, options: str) -> None:
    sys.modules["scipy"] = None  # type: ignore[assignment]  # Numba loads it, mlr does not use it
    from mlr.training.train import train

    train(small, **json.loads(options))
    before = reset_peak() or 0
    start = time.process_time()
    weights = train(folder, **json.loads(options)).weights.nbytes
    seconds = time.process_time() - start
    held = memory("VmHWM") or peak_memory() or 0
    print(json.dumps({"seconds": seconds, "bytes": held - before, "weights": weights}))


def reset_peak() -> int | None:
    """Reset the peak memory of this process; return what it holds in bytes, None if unknown."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux
        return None
    return memory("VmRSS")


def memory(key: str, pid: int | str = "self") -> int | None:
    """Return a size that Linux states about a process in bytes, None if unknown.

    Parameters
    ----------
    key : {"VmHWM", "VmRSS", "RssAnon"}
        The peak resident memory since `reset_peak`, the resident memory, or that without files.
    pid : int or "self"
        The process.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # not Linux, or it has ended
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(key)), None)


if __name__ == "__main__":
    main(*sys.argv[1:])
