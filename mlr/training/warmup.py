"""Compiling the kernels: before the first training, or ahead of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np

from mlr.core.accumulate import statistics_of_arrays
from mlr.core.apply import apply
from mlr.core.receptive_field import ReceptiveField
from mlr.core.solve import solve
from mlr.io.files import lock
from mlr.kernels import jit
from mlr.kernels.products import TILE
from mlr.recipes.best import Best
from mlr.recipes.fit import fit
from mlr.training.register import framed_statistics
from mlr.utils.progress import Report

LOCK = "mlr-compiling.lock"
SECONDS = "fifteen"  # that compiling takes, in words
_announcing: list[Report] = []  # told already, in a block that goes on


@contextmanager
def announced(report: Report) -> Iterator[None]:
    """Say so, once, if kernels have to be compiled in the block; the outermost block does."""
    if any(other is report for other in _announcing):
        yield
        return

    def announce() -> None:
        how_often = "this once" if jit.cache_folder() else "for want of a folder to keep them in"
        report.note(f"compiling the kernels, {how_often}: about {SECONDS} seconds")

    _announcing.append(report)
    try:
        with jit.announced(announce):
            yield
    finally:
        _announcing.pop()


def warm_up(report: Report | None = None) -> dict[str, Any]:
    """Compile all kernels, unless they are in the cache.

    Parameters
    ----------
    report : Report, optional
        Told if something has to be compiled.

    Returns
    -------
    dict
        ``folder``: where compiled kernels are kept, None if they cannot be kept. ``seconds``: the
        time it took. ``compiled``: false if all of them were in the cache.
    """
    compiled: list[bool] = []
    field = ReceptiveField.square(3)
    start = time.perf_counter()
    with announced(report or Report()), jit.announced(lambda: compiled.append(True)):
        for dtype in (np.uint8, np.uint16):
            images = np.zeros((1, 4, 4, 1), dtype)
            solve(statistics_of_arrays(images, {"target": images}, field), 1.0)
        images = np.zeros((1, TILE, TILE, 1), np.uint8)  # smaller ones go to the plain kernels
        best = Best()
        framed = framed_statistics(images, {"target": images}, best.layout())
        fit(best, framed).synthesize(images)
        apply(
            np.zeros((1, len(field) + 1, 4, 4), np.float32),
            field,
            np.zeros((1, 1, 4, 4), np.float32),
        )
    folder = jit.cache_folder()
    return {
        "folder": None if folder is None else str(folder),
        "seconds": time.perf_counter() - start,
        "compiled": bool(compiled),
    }


def compiled() -> bool:
    """Tell whether `compile_alone` has compiled these kernels before."""
    folder = jit.cache_folder()
    with suppress(OSError):
        return folder is not None and (folder / LOCK).read_bytes() == jit.version().encode()
    return False


def compile_alone() -> None:
    """Compile all kernels like `warm_up`, while no other process does so into the same cache.

    The file that is locked meanwhile says which kernels were compiled last, to know at once.
    """
    with ExitStack() as stack:
        folder, file = jit.cache_folder(), None
        if folder is not None:
            with suppress(OSError):  # a folder that is read-only, or gone
                folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context((folder / LOCK).open("a+b"))
                lock(file, wait=True)
        version = jit.version().encode()
        if file is not None:
            file.seek(0)
            if file.read() == version:
                return
        warm_up()
        if file is not None:
            file.truncate(0)
            file.write(version)
