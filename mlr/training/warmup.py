"""Compiling the kernels ahead of time."""

from __future__ import annotations

import io
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import IO, Any

import numpy as np

from mlr.core.accumulate import statistics_of_arrays
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.fields import coefficients
from mlr.core.solve import solve
from mlr.io.files import lock
from mlr.kernels import jit
from mlr.kernels.fields import PLANES, enlarge_similar, move_and_add
from mlr.recipes.best import Best
from mlr.recipes.fit import fit
from mlr.training.decode import framed_statistics
from mlr.utils.progress import Report

LOCK = "mlr-compiling.lock"
SECONDS = "twenty"


def announced(report: Report) -> AbstractContextManager[None]:
    """Show a note, once, if kernels are compiled in the block."""

    def announce() -> None:
        often = "for their first use" if jit.cache_folder() else "without a folder to keep them in"
        report.note(f"compiling kernels {often}: up to {SECONDS} seconds")

    return jit.announced(announce)


def warm_up(report: Report | None = None) -> dict[str, Any]:
    """Compile all kernels, unless they are in the cache."""
    compiled: list[bool] = []
    start = time.perf_counter()
    with announced(report or Report()), jit.announced(lambda: compiled.append(True)):
        for dtype in (np.uint8, np.uint16):
            images = np.zeros((1, 4, 4, 1), dtype)
            solve(statistics_of_arrays(images, {"target": images}, ReceptiveField.square(3)), 1.0)
        images = np.zeros((1, 16, 16, 1), np.uint8)  # smaller ones use the plain kernels
        best = Best()
        framed = framed_statistics(images, {"target": images}, best.layout())
        fit(best, framed).synthesize(images)
        planes, image = np.zeros((4, 4, PLANES), np.float32), np.zeros((1, 4, 4), np.float32)
        enlarge_similar(planes, (planes[0, 0, 0], planes[0, 0, 0]), planes[0, 0, :2], planes)
        move_and_add(coefficients(image), image, (0, 0), planes, image.copy())
    folder = jit.cache_folder()
    return {
        "folder": None if folder is None else str(folder),
        "seconds": time.perf_counter() - start,
        "compiled": bool(compiled),
    }


def compile_alone() -> None:
    """Compile all kernels, one process at a time; a locked file records their version."""
    with ExitStack() as stack:
        file: IO[bytes] = io.BytesIO()  # if there is no folder
        if (folder := jit.cache_folder()) is not None:
            with suppress(OSError):  # a folder that is read-only, or gone
                folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context((folder / LOCK).open("a+b"))
                lock(file, wait=True)
        version = jit.version().encode()
        file.seek(0)
        if file.read() != version:
            warm_up()
            file.truncate(0)
            file.write(version)
