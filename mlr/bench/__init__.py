"""The benchmark: how long each stage of the program takes on this machine."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlr._version import __version__
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import OptionError
from mlr.utils.progress import Report
from mlr.utils.threads import limited, thread_count

__all__ = ["bench"]

SIZES = (64, 128, 256)
EXTRA = (128, 5)  # size and window of one more problem, unless the user asks for either
BUSY = 0.5  # processors that other programs use


def bench(
    *,
    sizes: Sequence[int] = (),
    pairs: int = 200,
    receptive_field: ReceptiveField | int | str | None = None,
    threads: int | None = None,
    repeat: int = 5,
    report: Report | None = None,
) -> dict[str, Any]:
    """Time every stage on square grey faces, with ``repeat`` runs of each.

    Without ``sizes`` they are 64, 128 and 256 pixels; without ``receptive_field`` it is 3x3, and
    without either 5x5 is timed as well.

    The result is ready for JSON. ``machine``: processor, versions, and ``load``, the number of
    processors that were busy before. ``settings``: the arguments. ``first_calls``: ``name``,
    ``seconds`` and whether something was ``compiled``. ``stages``: for each ``stage`` and ``work``,
    ``seconds`` as ``{"median", "min", "max", "runs"}``, ``items`` in a run and ``items_per_second``
    (None where neither images nor pairs are counted), and ``rate`` in ``unit``. ``peak_memory``:
    bytes, None where unknown.

    Raises `OptionError` if an argument is out of range, `MlrError` if a result is wrong.
    """
    report = report or Report()
    for what, number in (("pairs", pairs), ("repetitions", repeat)):
        if number < 1:
            raise OptionError(f"the number of {what} must be positive, not {number}")
    for size in sizes:
        if size < 16:
            raise OptionError(f"the size must be at least 16 pixels, not {size}")
    field = ReceptiveField.of(3 if receptive_field is None else receptive_field)
    problems = [(size, field) for size in dict.fromkeys(sizes or SIZES)]
    if not sizes and receptive_field is None:
        problems.append((EXTRA[0], ReceptiveField.of(EXTRA[1])))
    load = processors_busy()
    if load is not None and load > BUSY:
        report.note(f"note: other programs keep {load:.1f} processors busy, which distorts times")
    imported = "numba" in sys.modules
    start = time.perf_counter()
    from mlr.bench import stages
    from mlr.training.warmup import warm_up

    first = [{"name": "import", "seconds": time.perf_counter() - start, "compiled": False}]
    with limited(threads) as count:
        warm = warm_up(report)
        first.append({"name": "kernels", **{key: warm[key] for key in ("seconds", "compiled")}})
        sides = sorted({size for size, _ in problems})
        progress = report.progress(sides, len(sides), "drawing")
        data = {size: stages.generate(size, pairs) for size in progress}
        todo = [stages.Problem(field, *data[size]) for size, field in problems]
        timed = stages.time_all(todo, repeat, report)
    return {
        "machine": describe(count) | {"load": load},
        "settings": {
            "sizes": sides,
            "receptive_fields": list(dict.fromkeys(str(field) for _, field in problems)),
            "pairs": pairs,
            "channels": 1,
            "penalty": stages.PENALTY,
            "threads": count,
            "repeat": repeat,
        },
        "first_calls": first[imported:],
        "stages": timed,
        "peak_memory": peak_memory(),
    }


def describe(threads: int) -> dict[str, Any]:
    """Return the names and versions that times depend on, and the number of threads used."""
    import numba

    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "usable_processors": thread_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "mlr": __version__,
    }


def processors_busy() -> float | None:
    """Return the number of processors that were busy in the last minute, None if unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # not on Windows


def peak_memory() -> int | None:
    """Return the peak resident memory of this process in bytes, None if unknown."""
    try:
        resource = importlib.import_module("resource")  # not on Windows
    except ImportError:
        return None
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else peak * 1024


def _processor() -> str:
    """Return the name of the processor."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
            return done.stdout.strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return platform.processor() or platform.machine() or "unknown processor"
