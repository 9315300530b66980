"""The machine: its name, its versions, and how fast it multiplies matrices and copies memory."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr._version import __version__
from mlr.bench.timing import Timing, calls, once, timed
from mlr.utils.threads import thread_count

MATRIX = 1024  # rows and columns of the matrices multiplied
COPIED = 128 << 20  # bytes, more than caches hold


def describe(threads: int) -> dict[str, Any]:
    """Return the names and versions that times depend on.

    Parameters
    ----------
    threads : int
        Threads that decode and compute.
    """
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
        "blas": _blas(),
    }


@contextmanager
def blas_threads(threads: int) -> Iterator[None]:
    """Run NumPy's matrix products in the block on so many threads, if threadpoolctl is there."""
    control = optional("threadpoolctl")
    if control is None:
        yield
    else:
        with control.threadpool_limits(threads, user_api="blas"):
            yield


def limits(threads: int, repeat: int) -> dict[str, dict[str, Any]]:
    """Measure what the machine can do.

    Parameters
    ----------
    threads : int
        Threads to copy with; matrix products run on as many as NumPy's BLAS has been set to.
    repeat : int
        Runs of each.

    Returns
    -------
    dict
        ``float32`` and ``float64``: products of matrices, 10^9 operations a second; ``copy``: bytes
        read and written, 10^9 a second. Each with ``rate``, ``unit`` and ``seconds``.
    """
    found: dict[str, dict[str, Any]] = {}
    for dtype in (np.float32, np.float64):
        timing = _matrix_product(dtype, repeat)
        found[np.dtype(dtype).name] = {
            "rate": 2 * MATRIX**3 / timing.median / 1e9,
            "unit": "Gop/s",
            "seconds": timing.summary(),
        }
    timing = copy_timing(COPIED // threads, threads, repeat)
    found["copy"] = {
        "rate": 2 * (COPIED // threads) * threads / timing.median / 1e9,
        "unit": "GB/s",
        "seconds": timing.summary(),
    }
    return found


def copy_timing(size: int, threads: int, repeat: int) -> Timing:
    """Time copies of an array, made in every thread at the same time.

    Parameters
    ----------
    size : int
        Bytes of the array of each thread: small ones stay in the cache.
    threads, repeat : int
        Threads, and runs.

    Returns
    -------
    Timing
        Of one copy in every thread.
    """
    arrays = [(np.ones(size, np.uint8), np.zeros(size, np.uint8)) for _ in range(threads)]
    source, copy = arrays[0]
    number = calls(once(lambda: np.copyto(copy, source)))

    def copies(pair: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]) -> None:
        for _ in range(number):
            np.copyto(pair[1], pair[0])

    with ThreadPoolExecutor(threads) as pool:
        runs = timed(lambda: list(pool.map(copies, arrays)), repeat).runs
    return Timing(tuple(run / number for run in runs))


def reading_timing(size: int, repeat: int) -> Timing:
    """Time reading an array once from memory, in one thread.

    Parameters
    ----------
    size : int
        Bytes of the array. There are many of them, read in turn, so that none is in a cache.
    repeat : int
        Runs.

    Returns
    -------
    Timing
        Of reading one of them.
    """
    arrays = np.ones((copies_beyond_cache(size), size // 4), np.float32)

    def read_all() -> None:
        for array in arrays:
            array.max()

    return Timing(tuple(run / len(arrays) for run in timed(read_all, repeat).runs))


def copies_beyond_cache(size: int) -> int:
    """Return how many arrays of so many bytes no cache holds."""
    return -(-COPIED // size) + 1


def load() -> float | None:
    """Return how many processors other programs have kept busy in the last minute, if known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # not on Windows


def peak_memory() -> int | None:
    """Return the most bytes of memory that this process has held, None if it is unknown."""
    resource = optional("resource")  # not on Windows
    if resource is None:
        return None
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else peak * 1024


def optional(name: str) -> Any:
    """Return a module that need not be installed, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _matrix_product(dtype: npt.DTypeLike, repeat: int) -> Timing:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, MATRIX, MATRIX)).astype(dtype)
    out = np.empty_like(a)
    return timed(lambda: np.matmul(a, b, out=out), repeat)


def _blas() -> dict[str, Any]:
    """Return the name of the library that NumPy multiplies matrices with, its threads and kernel.

    The kernel is the family of processors that its code is for. Threads and kernel are None where
    nobody can tell: threadpoolctl is not installed, or does not know the library.
    """
    config: Any = np.show_config(mode="dicts")
    name = config.get("Build Dependencies", {}).get("blas", {}).get("name", "unknown")
    control = optional("threadpoolctl")
    pools = [] if control is None else control.threadpool_info()
    # SciPy and others bring a BLAS of their own: NumPy's lies in its own folder or the system's.
    pools = sorted(pools, key=lambda pool: "numpy" not in pool["filepath"])
    found: dict[str, Any] = next((pool for pool in pools if pool["user_api"] == "blas"), {})
    return {
        "name": name,
        "threads": found.get("num_threads"),
        "kernel": found.get("architecture"),
    }


def _processor() -> str:
    """Return the name of the processor, as well as this system tells it."""
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
