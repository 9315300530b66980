"""What workers do: all that a task needs is in its arguments.

So Dask can have it done anew elsewhere when a worker is lost.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeVar

from dask.sizeof import sizeof
from distributed import Worker, get_worker

from mlr._version import __version__
from mlr.cluster import shares
from mlr.cluster.crops import reach_of, some_rows
from mlr.core.bands import Band, RowSums
from mlr.core.folds import Folds
from mlr.io.files import discard_unfinished
from mlr.training.collect import Job
from mlr.training.decode import ordered_map
from mlr.training.shards import Failures, Make, Part, Shard, address
from mlr.training.warmup import compile_alone
from mlr.utils.mapped import Lent
from mlr.utils.memory import give_back_now
from mlr.utils.threads import limited

Item = TypeVar("Item")
Result = TypeVar("Result")
Shared = TypeVar("Shared")

# For Dask to know what it moves and keeps.
sizeof.register(Folds, lambda folds: folds.nbytes)
sizeof.register(Part, lambda part: sizeof(part.sums))


@dataclass(frozen=True)
class How:
    """How workers do what they are told.

    Attributes
    ----------
    compiled : bool
        They find the kernels in the cache of the process that tells them.
    sparing : bool
        After each task they give back what memory they can.
    """

    compiled: bool
    sparing: bool


def version() -> str:
    """Return the version of mlr that this process has."""
    return __version__


def part(shared: tuple[Make, How], shard: Shard) -> Part:
    """Return what comes of a shard."""
    make, how = shared
    with _busy(how) as threads:
        return make(shard, threads, None, None)


_held: dict[str, Part] = {}  # shards that this process keeps on the disk


def _of_shard(shared: tuple[tuple[Make, Job, int], How], shard: Shard, threads: int) -> Part:
    """Return what came of a shard, on the disk."""
    (make, _, memory), _ = shared
    key = repr([(subject.name, address(subject.source)) for subject in shard])
    if key not in _held:
        folder = Path(get_worker().local_directory)
        _held[key] = make(shard, threads, int(shares.SHARD * memory), folder)
    return _held[key]


def decoded(shared: tuple[tuple[Make, Job, int], How], shard: Shard) -> Failures:
    """Keep what comes of a shard on the disk; returns what cannot be read of it."""
    with _busy(shared[1]) as threads:
        return _of_shard(shared, shard, threads).failures


def band_of_shard(
    shared: tuple[tuple[Make, Job, int], How], shard: Shard, band: Band, decoded: Failures
) -> Folds:
    """Return some rows of the sums of a shard; made again if the one who had it is lost."""
    job = shared[0][1]
    reach = reach_of(job)
    above, below = max(0, band.first - reach), min(job.shape[1], band.end + reach)
    with _busy(shared[1]) as threads, limited(threads):
        crop = _of_shard(shared, shard, threads).sums.rows(above, below)
    return some_rows(crop, band.first - above, band.end - above)


def read(make: Callable[[], RowSums], first: int, end: int) -> Folds:
    """Return some rows of sums that this process can read."""
    with _ONE:
        return some_rows(make().rows(first, end), 0, end - first)


def forget() -> None:
    """Delete what this process keeps of shards."""
    _held.clear()


def failures(part: Part) -> Failures:
    """Return what cannot be read of a shard."""
    return part.failures


def sums(part: Part) -> RowSums:
    """Return the sums of a shard."""
    return part.sums


def lent(sums: Folds, path: Path) -> Folds | Lent:
    """Return sums in a file, or as they are if there is no room for it."""
    try:
        return Lent(sums, path)
    except OSError:
        return sums


def on_band(shared: tuple[Callable[[Folds, Band], Result], How], band: Band, sums: Folds) -> Result:
    """Return what shared work makes of a band, of the sums of its crop."""
    work, how = shared
    with _busy(how) as threads, limited(threads):
        return work(sums, band)


def batch(
    shared: tuple[tuple[Callable[[Item, Shared], Result], Shared], How], items: Sequence[Item]
) -> list[Result]:
    """Return what a function makes of some items."""
    (function, what), how = shared
    with _busy(how) as threads:
        return list(ordered_map(partial(_call, function, what), items, threads))


def _call(function: Callable[[Item, Shared], Result], shared: Shared, item: Item) -> Result:
    return function(item, shared)


_ONE = threading.Lock()  # held by the task that has the worker's threads
_ready = False


@contextmanager
def _busy(how: How) -> Iterator[int]:
    """Have the worker's threads to oneself; yields their number.

    The kernels are compiled before the first work, by one process at a time: several that write
    into one cache can ruin it.
    """
    global _ready
    with _ONE:
        if not (_ready or how.compiled):
            compile_alone()
        _ready = True
        try:
            yield get_worker().state.nthreads
        finally:
            if how.sparing:
                give_back_now()


def dask_setup(worker: Worker) -> None:
    """Let a worker of ours, told to end, first delete what it is writing; Dask calls this."""

    def end(number: int, frame: FrameType | None) -> None:
        try:
            discard_unfinished()
        finally:
            os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal; who started it will tell it
