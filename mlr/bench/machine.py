"""The machine: its processor, versions and memory."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mlr._version import __version__
from mlr.utils.threads import thread_count


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


def load() -> float | None:
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
