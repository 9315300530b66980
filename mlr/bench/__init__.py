"""The benchmark: how long each stage of the program takes on this machine.

stages   what is computed and timed, and a check of the results
machine  processor, versions and memory
table    the result as text
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from mlr.bench import machine
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import OptionError
from mlr.utils.progress import Report
from mlr.utils.threads import limited

__all__ = ["bench"]

SIZES = (64, 128, 256)
SIDE = 3
EXTRA = (128, 5)  # size and window of one more problem, unless the user asks for either
PAIRS = 200
REPEAT = 5
BUSY = 0.5  # processors that other programs use


def bench(
    *,
    sizes: Sequence[int] = (),
    pairs: int = PAIRS,
    receptive_field: ReceptiveField | int | str | None = None,
    threads: int | None = None,
    repeat: int = REPEAT,
    report: Report | None = None,
) -> dict[str, Any]:
    """Time every stage on generated grey faces.

    Parameters
    ----------
    sizes : sequence of int
        Sides of the square images in pixels, at least 16; by default 64, 128 and 256.
    pairs : int
        Number of training pairs.
    receptive_field : ReceptiveField, int or str, optional
        The taps: the odd side of a square window, a preset's name, or a field. By default 3x3, and
        5x5 as well if no size is given.
    threads : int, optional
        Threads to decode and to compute with; by default one for each processor.
    repeat : int
        Number of runs of each stage.
    report : Report, optional
        Receives progress and notes.

    Returns
    -------
    dict
        Ready for JSON. ``machine``: processor, versions, and ``load``, the number of processors
        that were busy before. ``settings``: the arguments. ``first_calls``: ``name``, ``seconds``
        and whether something was ``compiled``. ``stages``: for each ``stage`` and ``work``,
        ``seconds`` as ``{"median", "min", "max", "runs"}``, ``items`` in a run and
        ``items_per_second`` (None where neither images nor pairs are counted), and ``rate`` in
        ``unit``. ``peak_memory``: bytes, None where unknown.

    Raises
    ------
    OptionError
        If an argument is out of range.
    MlrError
        If a result is wrong.
    """
    report = report or Report()
    problems = _problems(sizes, pairs, receptive_field)
    if repeat < 1:
        raise OptionError(f"the number of repetitions must be positive, not {repeat}")
    load = machine.load()
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
        "machine": machine.describe(count) | {"load": load},
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
        "peak_memory": machine.peak_memory(),
    }


def _problems(
    sizes: Sequence[int], pairs: int, receptive_field: ReceptiveField | int | str | None
) -> list[tuple[int, ReceptiveField]]:
    """Return the sizes and receptive fields that the arguments ask for."""
    if pairs < 1:
        raise OptionError(f"the number of pairs must be positive, not {pairs}")
    for size in sizes:
        if size < 16:
            raise OptionError(f"the size must be at least 16 pixels, not {size}")
    field = ReceptiveField.of(SIDE if receptive_field is None else receptive_field)
    problems = [(size, field) for size in dict.fromkeys(sizes or SIZES)]
    if not sizes and receptive_field is None:
        problems.append((EXTRA[0], ReceptiveField.of(EXTRA[1])))
    return problems
