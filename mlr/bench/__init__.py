"""The benchmark: how fast every stage runs on this machine, beside what the machine could do.

work      what is computed: images and numbers of operations
stages    the times of the program's own stages, with their checks and limits
peers     other ways to compute the same, timed in turn with the program's
machine   processor, versions and limits: matrix products, copies
table     all of it as text
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mlr.bench import machine
from mlr.bench.timing import once
from mlr.bench.work import PENALTY, Data, Work, generated
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import OptionError
from mlr.utils.progress import Report
from mlr.utils.threads import limited

__all__ = ["bench"]

SIZES = (64, 128, 256)
SIDE = 3
EXTRA = (128, 5)  # size and side of one more piece of work, if neither is asked for
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
        Sides of the square images in pixels, at least 16; none means 64, 128 and 256.
    pairs : int
        Number of training pairs.
    receptive_field : ReceptiveField, int or str, optional
        The taps: the odd side of a square window, a preset's name, or a field. By default 3x3, and
        5x5 too if no size is given.
    threads : int, optional
        Threads to decode and to compute with; by default one for each processor.
    repeat : int
        How often everything is timed.
    report : Report, optional
        Told about progress.

    Returns
    -------
    dict
        Ready for JSON, times in seconds, each of repeated runs as ``{"median", "min", "max",
        "runs"}``. ``machine``: processor, versions, and
        ``load``, the processors that were busy before. ``settings``: what was asked for.
        ``first_calls``: time of each kernel's first call, which compiles it or loads compiled code.
        ``limits``: rates of matrix products and of a copy in memory. ``stages``: seconds, rate,
        unit, the limit of the machine in the same unit and the fraction of it that was reached;
        what the recipe best does to a face has no limit, which is None.
        ``comparisons``: the same results made in other ways, and how many times longer that
        took. ``peak_memory``: bytes, after drawing, training and applying; None where unknown.

    Raises
    ------
    OptionError
        If an option makes no sense.
    MlrError
        If a result is wrong: times of wrong results are worthless.
    """
    report = report or Report()
    works = _works(sizes, pairs, receptive_field)
    if repeat < 1:
        raise OptionError(f"the number of repetitions must be positive, not {repeat}")
    load = machine.load()
    if load is not None and load > BUSY:
        report.note(f"note: other programs keep {load:.1f} processors busy, which spoils the times")
    loading = _loading()  # before anything else loads Numba
    from mlr.bench import stages
    from mlr.training.warmup import announced

    with limited(threads) as count, machine.blas_threads(count):
        data = _generated(works, count, report)
        with announced(report):
            first_calls = loading + stages.first_calls()
        for work in works:
            stages.check(work, data[work.size])
        peak_memory = machine.peak_memory()  # before measuring limits and others claims theirs
        limits = machine.limits(count, repeat)
        timed = stages.time_all(works, data, limits, count, repeat, report)
        compared = _compared(works, data, count, repeat, report)
        description = machine.describe(count) | {"load": load}
    return {
        "machine": description,
        "settings": {
            "sizes": sorted(data),
            "receptive_fields": list(dict.fromkeys(str(work.field) for work in works)),
            "pairs": pairs,
            "channels": 1,
            "penalty": PENALTY,
            "threads": count,
            "repeat": repeat,
        },
        "first_calls": first_calls,
        "limits": limits,
        "stages": timed,
        "comparisons": compared,
        "peak_memory": peak_memory,
    }


def _works(
    sizes: Sequence[int], pairs: int, receptive_field: ReceptiveField | int | str | None
) -> list[Work]:
    """Return the work that the options ask for."""
    if pairs < 1:
        raise OptionError(f"the number of pairs must be positive, not {pairs}")
    for size in sizes:
        if size < 16:
            raise OptionError(f"the size must be at least 16 pixels, not {size}")
    field = ReceptiveField.of(SIDE if receptive_field is None else receptive_field)
    works = [Work(size, pairs, field) for size in dict.fromkeys(sizes or SIZES)]
    if not sizes and receptive_field is None:
        works.append(Work(EXTRA[0], pairs, ReceptiveField.of(EXTRA[1])))
    return works


def _loading() -> list[dict[str, Any]]:
    """Import Numba and the kernels; return the time, if they were not there already."""
    before = "numba" in sys.modules

    def load() -> None:
        import mlr.core.accumulate
        import mlr.core.solve  # noqa: F401

    seconds = once(load)
    return [] if before else [{"name": "import of Numba", "seconds": seconds, "compiled": False}]


def _generated(works: Sequence[Work], threads: int, report: Report) -> dict[int, Data]:
    """Return the images of each size."""
    sizes = sorted({work.size for work in works})
    progress = report.progress(sizes, len(sizes), "drawing")
    return {size: generated(size, works[0].pairs, threads) for size in progress}


def _compared(
    works: Sequence[Work], data: dict[int, Data], threads: int, repeat: int, report: Report
) -> list[dict[str, Any]]:
    """Compare the program with others, at training and at applying."""
    from mlr.bench.peers import compare_applying, compare_training

    tasks: list[Callable[[], list[dict[str, Any]]]] = []
    for work in works:
        tasks.append(partial(compare_training, work, data[work.size], threads, repeat))
        tasks.append(partial(compare_applying, work, data[work.size], repeat))
    return [entry for task in report.progress(tasks, len(tasks), "comparing") for entry in task()]
