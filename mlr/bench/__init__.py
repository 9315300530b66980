"""The benchmark: times of each stage of the program on this machine."""

from __future__ import annotations

import importlib
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mlr._version import __version__
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import OptionError
from mlr.utils.progress import Report, counted
from mlr.utils.threads import limited, thread_count

__all__ = ["bench"]

SIZES = (64, 128, 256)
EXTRA = (128, 5)  # size and window of another problem, unless the user chooses either
BUSY = 0.5  # processors used by other programs, above which there is a note


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
    (None for stages without images or pairs), and ``rate`` in ``unit``. ``peak_memory``: bytes, or
    None if unknown.

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
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # not on Windows
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
    """Return the names and versions that times depend on, and the number of threads."""
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
    with suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.check_output(command, text=True, timeout=5).strip()
        found = re.search(r"^model name\s*: *(\S.*)", Path("/proc/cpuinfo").read_text(), re.M)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine() or "unknown processor"


def table(result: dict[str, Any]) -> str:
    """Return the result of `bench` as lines of at most 100 characters."""
    machine = result["machine"]
    lines = [
        f"mlr {machine['mlr']} on {machine['processor']}, "
        f"{counted(machine['usable_processors'], 'processor')}, "
        f"{counted(machine['threads'], 'thread')}",
        f"{machine['system']}, Python {machine['python']}, Numba {machine['numba']}, "
        f"NumPy {machine['numpy']}",
        "",
        "First calls in this process, which compile a kernel or load compiled code",
    ]
    for call in result["first_calls"]:
        note = "compiled" if call["compiled"] else ""
        lines.append(f"  {call['name']:30}{seconds(call['seconds']):>10}  {note}".rstrip())
    lines += ["", f"Stages: median of {counted(result['settings']['repeat'], 'run')}"]
    lines.append(f"  {'stage':11}{'work':40}{'time':>9}{'per second':>16}{'rate':>14}")
    for entry in result["stages"]:
        item = "pairs" if entry["stage"] in ("accumulate", "train") else "images"
        speed = entry["items_per_second"]
        lines.append(
            f"  {entry['stage']:11}{entry['work']:40}{seconds(entry['seconds']['median']):>9}"
            f"{'' if speed is None else f'{number(speed)} {item}':>16}"
            f"{number(entry['rate']) + ' ' + entry['unit']:>14}"
        )
    if result["peak_memory"] is not None:
        lines += ["", f"Peak memory: {result['peak_memory'] / 2**20:.0f} MiB"]
    return "\n".join(lines)


def seconds(value: float) -> str:
    """Return a time with three digits and a suitable unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size * 0.9995:
            return f"{number(value / size)} {unit}"
    return f"{number(value / 1e-6)} us"


def number(value: float) -> str:
    """Return a number with three digits, or all digits of its integer part."""
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}"
