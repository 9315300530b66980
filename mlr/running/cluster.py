"""Work on other processes and machines, with Dask: the only module that knows of it.

Workers decode and sum up whole shards, or change and score batches of images; the sums go up a
tree. All that a task needs is in its arguments, so that Dask can do it anew elsewhere when a worker
is lost, and since sums of integers are exact, the outcome is the same bits.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
import weakref
from asyncio import CancelledError
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future as Outcome
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import IO, Any, Generic, TypeVar, cast

import dask
import distributed.utils
import numpy.typing as npt
from dask.sizeof import sizeof
from distributed import Client, Future, LocalCluster, Worker, as_completed, get_worker
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from distributed.core import Status
from distributed.scheduler import KilledWorker

from mlr.data.files import at_end, discard_unfinished
from mlr.data.mapped import Lent, Results, temporary_file
from mlr.data.stream import ordered_map
from mlr.errors import MlrError
from mlr.folds import Folds, fold_of
from mlr.gathering.banded import ARRAY_SHARE
from mlr.gathering.collect import Job
from mlr.gathering.shards import Failures, Part, Shard, address
from mlr.layout import Layout
from mlr.recipes.moments import Moments
from mlr.running import processes
from mlr.running.bands import (
    LEAST_ROWS,
    Band,
    Cost,
    Making,
    RowSums,
    bands,
    check_memory,
    rows_within,
)
from mlr.running.crops import (
    ALL,
    View,
    added,
    put_together,
    reach_of,
    row_bytes,
    some_rows,
    summing_bytes,
)
from mlr.running.engine import Make
from mlr.running.memory import give_back_now
from mlr.running.report import Report
from mlr.running.threads import limited
from mlr.running.warmup import announced, compile_alone
from mlr.version import __version__

Item = TypeVar("Item")
Thing = TypeVar("Thing")
Result = TypeVar("Result")
Shared = TypeVar("Shared")

PATIENCE = 60  # seconds to wait for a scheduler, and for the first worker
WATCH = 5  # seconds between looks at whether anybody is left
FAILURES = 20  # workers that a task of ours may see die before it is given up
CLOSING = 10  # seconds that they have to end when all is done
ENDING = 2.0  # seconds that workers have to delete what they are writing
SUMS_SHARE = 0.3  # of a worker's memory, for making and adding up sums
SHARD_SHARE = 0.4  # for a shard whose sums are made in bands
WORK_SHARE = 0.3  # for work on bands of sums; as much again comes and goes while they are sent
KEPT_SHARE = 0.2  # for what lies there; what is more, Dask writes to the disk
UNKNOWN = 2 << 30  # bytes of memory of a worker that does not say
BATCH = 32  # items of a task

_LOST = (KilledWorker, CommClosedError, FutureCancelledError, CancelledError, TimeoutError)


@dataclass(frozen=True)
class _How:
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


class Cluster:
    """Processes here or elsewhere that work as told.

    Parameters
    ----------
    connecting : _Connecting
        Becomes a client of a scheduler that has workers.
    how : _How
        How workers do what they are told.
    """

    def __init__(self, connecting: _Connecting, how: _How) -> None:
        self._connecting, self._how = connecting, how

    @property
    def _client(self) -> Client:
        return self._connecting.result()

    def sums(
        self,
        make: Make,
        shards: Sequence[Shard],
        job: Job,
        tell: Callable[[Shard, Failures], None],
        memory: int | None,
        folder: Path | None,
    ) -> ClusterSums:
        """Return the sum over shards, see `Engine`."""
        each = self._memory(memory)
        rows = rows_within(SUMS_SHARE * each, job.shape[1], lambda rows: summing_bytes(job, rows))
        with _told():
            if rows == job.shape[1]:
                pieces = self._whole(make, shards, job, tell)
            else:
                # Pieces of all folds, small beside the memory: they come from and go to the disk.
                most = int(KEPT_SHARE / 2 * each / (job.folds * row_bytes(job)))
                rows = max(1, min(rows, most))
                pieces = self._by_bands(make, shards, job, tell, rows, each)
        return ClusterSums(self, job.shape, [pieces], each, folder)

    def read(
        self,
        make: Callable[[], RowSums],
        sums: RowSums,
        memory: int | None,
        folder: Path | None,
    ) -> ClusterSums:
        """Return sums that workers can read by themselves, see `Engine`."""
        each, height = self._memory(memory), sums.shape[1]
        rows = int(SUMS_SHARE * each / (4 * max(1, sums.head.row_bytes)))
        found = bands(height, max(1, min(-(-height // self.workers), rows)))
        submit = partial(self._client.submit, _read, make, pure=False)
        pieces = [(band.first, band.end, [submit(band.first, band.end)]) for band in found]
        return ClusterSums(self, sums.shape, [_Pieces(self._client, pieces)], each, folder)

    def combined(
        self, added: Sequence[RowSums], removed: Sequence[tuple[str, RowSums]]
    ) -> ClusterSums:
        """Return sums of ours added up, with others taken out, see `Engine`."""
        first, *rest = cast(Sequence[ClusterSums], added)
        taken = [(name, cast(ClusterSums, sums)) for name, sums in removed]
        return first.combined(rest, taken)

    def _memory(self, memory: int | None) -> int:
        """Return the bytes that a worker may take, given what it was told."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
        known = [*(limit // 2 for limit in limits), *([memory] if memory else [])]
        return min(known, default=UNKNOWN)

    def _whole(
        self,
        make: Make,
        shards: Sequence[Shard],
        job: Job,
        tell: Callable[[Shard, Failures], None],
    ) -> _Pieces:
        """Return the sums in one piece, of which there is a part for each fold."""
        submit = partial(self._client.submit, pure=False)
        with self.shared(make) as shared:
            # Neighbours, which are added up, by the same worker, unless it is slower than others.
            parts = [
                submit(_part, shared, shard, **home)
                for shard, home in zip(shards, self.homes(len(shards)), strict=True)
            ]
            # What is there is added up before other shards are begun: so few wait in memory.
            told = [submit(_failures, part, priority=20) for part in parts]
            folds: dict[int, list[Future]] = {}
            for shard, part in zip(shards, parts, strict=True):
                fold = fold_of(shard[0].name, job.folds)
                folds.setdefault(fold, []).append(submit(_sums, part, priority=20))
            del parts
            totals = [self._added(level, 10) for level in folds.values()]
            self._tell(told, shards, tell)
        files: list[IO[bytes]] = []
        if self._how.compiled and _OPEN.is_dir():  # to send them takes far longer than to map them
            files = [temporary_file(None) for _ in totals]
            places = [_OPEN / str(file.fileno()) for file in files]
            totals = list(map(partial(submit, _lent), totals, places))
        return _Pieces(self._client, [(0, job.shape[1], totals)], files)

    def _by_bands(
        self,
        make: Make,
        shards: Sequence[Shard],
        job: Job,
        tell: Callable[[Shard, Failures], None],
        rows: int,
        memory: int,
    ) -> _Pieces:
        """Return the sums in pieces of so many rows; workers keep their shards on their disks."""
        submit = partial(self._client.submit, pure=False)
        homes = self.homes(len(shards))
        with self.shared((make, job, memory)) as shared:
            told = [
                submit(_decoded, shared, shard, **home)
                for shard, home in zip(shards, homes, strict=True)
            ]
            pieces = []
            for number, band in enumerate(bands(job.shape[1], rows)):
                level = [
                    submit(
                        _band_of_shard,
                        shared,
                        shard,
                        band,
                        decoded,
                        **home,
                        priority=-2 * number,  # one band after the other
                    )
                    for shard, home, decoded in zip(shards, homes, told, strict=True)
                ]
                pieces.append((band.first, band.end, [self._added(level, 1 - 2 * number)]))
            self._tell(told, shards, tell)
            futures = [future for _, _, (future,) in pieces]
            deque(as_completed(futures, loop=self._client.loop), 0)
            self._client.run(_forget)
        return _Pieces(self._client, pieces)

    def homes(self, count: int) -> list[dict[str, Any]]:
        """Return who is to do each of so many tasks: the same for neighbours, if it is there."""
        workers = list(self._client.nthreads())
        if not workers:
            return [{}] * count
        some = [workers[k * len(workers) // count] for k in range(count)]
        return [{"workers": worker, "allow_other_workers": True} for worker in some]

    def _tell(
        self,
        told: Sequence[Future],
        shards: Sequence[Shard],
        tell: Callable[[Shard, Failures], None],
    ) -> None:
        """Tell of shards as they are done."""
        shard_of = {future.key: shard for future, shard in zip(told, shards, strict=True)}
        for future, failures in as_completed(told, loop=self._client.loop, with_results=True):
            if isinstance(failures, BaseException):  # of one that was cancelled with the cluster
                raise failures
            tell(shard_of[future.key], failures)

    def _added(self, level: list[Future], priority: int) -> Future:
        """Return the sum of sums, which go up a tree."""
        while len(level) > 1:
            pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
            level = [
                self._client.submit(added, *pair, priority=priority, pure=False) for pair in pairs
            ]
        return level[0]

    def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Future:
        """Return what becomes the result of a function."""
        return self._client.submit(function, *arguments, **options, pure=False)

    def in_turn(self, begun: Iterable[tuple[Band, Future]]) -> Iterator[tuple[Band, Any]]:
        """Yield each band with its result; few are begun before they are asked for."""
        ahead = self.workers * (1 if self._how.sparing else 2)
        waiting: deque[tuple[Band, Future]] = deque()
        for found in begun:
            waiting.append(found)
            if len(waiting) >= ahead:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())

    @property
    def workers(self) -> int:
        """How many there are, at least one."""
        return max(1, len(self._client.nthreads()))

    def map(
        self, function: Callable[[Item, Shared], Result], items: Sequence[Item], shared: Shared
    ) -> Iterator[Result]:
        """Yield ``function(item, shared)`` in order, see `Engine`."""
        threads = sum(self._client.nthreads().values())
        size = max(1, min(BATCH, len(items) // (4 * max(1, threads))))
        with _told(), self.shared((function, shared)) as both:
            waiting = deque(
                self._client.submit(_batch, both, items[at : at + size], pure=False)
                for at in range(0, len(items), size)
            )
            while waiting:
                yield from waiting.popleft().result()

    @contextmanager
    def shared(self, what: Any) -> Iterator[Future]:
        """Send something once, for many tasks; no worker that is lost takes it away."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is large
            yield self._client.submit(pickle.loads, pickle.dumps((what, self._how)))


_Piece = tuple[int, int, list[Future]]  # the sum of all is that of the rows first, ..., end - 1


class _Pieces:
    """Sums on the workers, in pieces from top to bottom, each the sum of some parts.

    Whoever works on a band is sent its rows alone.

    Parameters
    ----------
    client : Client
        Connected to the workers.
    pieces : sequence of _Piece
        The sums; their parts `Folds`, or `Lent` ones.
    files : sequence of file, optional
        Open as long as somebody may map the parts that lie in them.
    """

    def __init__(
        self, client: Client, pieces: Sequence[_Piece], files: Sequence[IO[bytes]] = ()
    ) -> None:
        self._client, self._pieces, self._lent = client, pieces, bool(files)
        for file in files:
            weakref.finalize(self, file.close)

    @property
    def copies(self) -> int:
        """How many there are of a row in the memory of who works on it."""
        return 0 if self._lent else 1 + (len(self._pieces) > 1)

    def crop(self, view: View, band: Band, home: Mapping[str, Any]) -> Iterator[list[Future]]:
        """Yield the parts of each piece of a band's crop, for somebody who works on it."""
        # Sums that are not lent are cut where they lie, wherever that is: at once.
        submit = partial(self._client.submit, view.of, pure=False)
        if self._lent:
            submit = partial(submit, **home)
        for first, end, parts in self._pieces:
            rows = max(band.above, first) - first, min(band.below, end) - first
            if rows[0] < rows[1]:
                yield [submit(part, *rows) for part in parts]


class ClusterSums:
    """Sums that lie on the workers, as `mlr.running.bands.RowSums`.

    Parameters
    ----------
    cluster : Cluster
        Where they are.
    shape : tuple of int
        (channels, height, width) of the images.
    terms : sequence of _Pieces
        What adds up to the sums.
    memory : int
        Bytes that a worker may take.
    folder : Path, optional
        Where large results take up room here.
    removed : sequence of str
        So many of the terms, the last ones, are taken out of the others; names for errors.
    view : View
        What is used of them.
    """

    def __init__(
        self,
        cluster: Cluster,
        shape: tuple[int, int, int],
        terms: Sequence[_Pieces],
        memory: float,
        folder: Path | None,
        removed: Sequence[str] = (),
        view: View = ALL,
    ) -> None:
        self.cluster, self.shape, self._terms, self._view = cluster, shape, terms, view
        self.memory, self.folder, self._removed = memory, folder, removed
        self._results = Results(folder)

    @property
    def elsewhere(self) -> ClusterSums:
        """Themselves: the workers do the work on bands."""
        return self

    @property
    def spare(self) -> float:
        """Bytes that all workers may keep besides the sums and the work on bands."""
        return KEPT_SHARE * self.memory * self.cluster.workers

    @cached_property
    def head(self) -> Folds:
        """The sums of the first row; its shape is that of the whole images."""
        return Folds(tuple(replace(part, shape=self.shape) for part in self.rows(0, 1).parts))

    def rows(self, first: int, end: int) -> Folds:
        """Return the sums of some rows."""
        self.release()
        whole = [Band(first, end, first, end)]
        ((_, found),) = self._on_bands(_as_they_are, whole)
        return found

    def _on_bands(
        self, work: Callable[[Folds, Band], Result], bands: Sequence[Band]
    ) -> Iterator[tuple[Band, Result]]:
        homes = self.cluster.homes(len(bands))
        with _told(), self.cluster.shared(work) as shared:
            yield from self.cluster.in_turn(
                (bands[k], self.begun(shared, bands[k], homes[k])) for k in _alternating(homes)
            )

    def begun(self, shared: Future, band: Band, home: Mapping[str, Any]) -> Future:
        """Return what becomes the result of shared work on a band, which somebody shall do."""
        submit = self.cluster.submit
        crops = [list(term.crop(self._view, band, home)) for term in self._terms]
        counts = [[len(parts) for parts in crop] for crop in crops]
        parts = (part for crop in crops for parts in crop for part in parts)
        crop = submit(put_together, self._removed, counts, *parts, **home)
        return submit(_on_band, shared, band, crop, **home)

    def only(self, expressions: Iterable[str]) -> ClusterSums:
        """Return the sums of the pairs of some expressions."""
        return self._changed(_view=replace(self._view, names=frozenset(expressions)))

    def restricted(self, layout: Layout) -> ClusterSums:
        """Return the sums with some of the planes."""
        return self._changed(_view=replace(self._view, layout=layout))

    def combined(
        self, others: Sequence[ClusterSums], removed: Sequence[tuple[str, ClusterSums]]
    ) -> ClusterSums:
        """Return the sum of these and others, without some; none of them a view."""
        every = [self, *others, *(sums for _, sums in removed)]
        return self._changed(
            _terms=[term for sums in every for term in sums._terms],
            _removed=[name for name, _ in removed],
            memory=min(sums.memory for sums in every),
        )

    def _changed(self, **changes: Any) -> ClusterSums:
        other = copy(self)
        other.__dict__.pop("head", None)
        other.__dict__.update(changes)
        return other

    @property
    def making_bytes(self) -> int:
        """Bytes that it takes a worker to have a row: each term as sent, and put together."""
        several = len(self._terms) > 1  # then their sum, and what is left of it
        return (sum(term.copies for term in self._terms) + 2 * several) * self.head.row_bytes

    def _work_bytes(self, rows: int, cost: Cost, halo: int) -> float:
        """Return the bytes of work on a band, or of having its crop, if that is more."""
        crop = min(rows + 2 * halo, self.shape[1])
        there = crop * self.head.row_bytes if self.making_bytes else 0  # or else it is mapped
        return max(crop * self.making_bytes, there + cost(rows))

    def least_memory(self, cost: Cost, halo: int = 0) -> float:
        """Return the least memory, in bytes, that leaves bands of a row."""
        return self._work_bytes(1, cost, halo) / WORK_SHARE

    def bands(self, cost: Cost, halo: int = 0) -> list[Band]:
        """Return bands for all workers, as high as their memory allows."""
        height = self.shape[1]
        rows = rows_within(
            WORK_SHARE * self.memory, height, lambda rows: self._work_bytes(rows, cost, halo)
        )
        if rows == 0:
            check_memory([(self, cost, halo)])
        each = -(-height // self.cluster.workers)
        if rows < each:  # a band less for some of the workers would leave them idle
            each = -(-height // (self.cluster.workers * -(-each // max(rows, 1))))
        return bands(height, max(1, min(rows, max(each, LEAST_ROWS))), halo)

    def each(
        self, work: Callable[[Folds, Band], Result], bands: Iterable[Band]
    ) -> Iterator[tuple[Band, Result]]:
        """Yield each band with what work makes of the sums of its crop, on the workers."""
        for found in self._on_bands(work, list(bands)):
            yield found
            self.release()

    def made(self, making: Making[Thing], bands: Sequence[Band], keep: bool) -> _Made[Thing]:
        """Let something be made of the sums, see `mlr.running.bands.Elsewhere`."""
        return _Made(self, making, bands, keep)

    def release(self) -> None:
        """Let go of what results on the disk have taken of the memory."""
        self._results.release()

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of zeros for a result, on the disk if it is large."""
        return self._results.zeros(shape, dtype, ARRAY_SHARE * self.memory)


_Begun = tuple[Band, Future, Mapping[str, Any]]  # what is made of a band, and who has it


class _Made(Generic[Thing]):
    """Something that workers make of bands, `mlr.running.bands.Made`.

    Parameters
    ----------
    sums : ClusterSums
        What they make it of.
    making, bands, keep
        As for `mlr.running.bands.Elsewhere.made`.
    """

    def __init__(
        self, sums: ClusterSums, making: Making[Thing], bands: Sequence[Band], keep: bool
    ) -> None:
        self._sums, self._making, self._bands = sums, making, bands
        self._cluster = sums.cluster
        self._kept = list(self._begun()) if keep else None

    def _begun(self) -> Iterator[_Begun]:
        """Yield each band with what is made of it and of the rows around."""
        making, bands, submit = self._making, self._bands, self._cluster.submit
        homes = self._cluster.homes(len(bands))
        near = [making.near(bands, band) for band in bands]
        wanted = Counter(other for others in near for other in others)
        made: dict[int, Future] = {}
        with (
            self._cluster.shared(making.make) as make,
            self._cluster.shared((making.cut, making.join)) as both,
        ):
            for k in _alternating(homes):
                parts = []
                for other in near[k]:
                    if other not in made:
                        made[other] = self._sums.begun(make, bands[other], homes[other])
                    cut = (_cut, both, made[other], bands[other], bands[k])
                    parts.append(submit(*cut, **homes[other], priority=20))
                    wanted[other] -= 1
                    if not wanted[other]:
                        del made[other]
                yield bands[k], submit(_joined, both, *parts, **homes[k]), homes[k]

    def each(self, work: Callable[[Thing], Result]) -> Iterator[tuple[Band, Result]]:
        """Yield each band with what work makes of it, on the workers."""
        with _told(), self._cluster.shared(work) as shared:
            begun = self._begun() if self._kept is None else self._kept
            submitted = (
                (band, self._cluster.submit(_on_made, shared, thing, **home))
                for band, thing, home in begun
            )
            for found in self._cluster.in_turn(submitted):
                yield found
                self._sums.release()


def _alternating(homes: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of tasks so that each worker has some of the first ones."""
    before = Counter[str]()
    order = []
    for number, home in enumerate(homes):
        worker = home.get("workers", "")
        order.append((before[worker], number))
        before[worker] += 1
    return [number for _, number in sorted(order)]


def _as_they_are(sums: Folds, band: Band) -> Folds:
    return sums


def _result(band: Band, future: Future) -> tuple[Band, Any]:
    return band, future.result()


# For Dask to know what it moves and keeps.
sizeof.register(Folds, lambda folds: folds.nbytes)
sizeof.register(Moments, lambda moments: moments.nbytes)
sizeof.register(Part, lambda part: sizeof(part.sums))

# What workers do.


def _part(shared: tuple[Make, _How], shard: Shard) -> Part:
    make, how = shared
    with _busy(how) as threads:
        return make(shard, threads, None, None)


_held: dict[str, Part] = {}  # shards that this process keeps on the disk


def _of_shard(shared: tuple[tuple[Make, Job, int], _How], shard: Shard, threads: int) -> Part:
    """Return what came of a shard, on the disk."""
    (make, _, memory), _ = shared
    key = repr([(person.name, address(person.source)) for person in shard])
    if key not in _held:
        folder = Path(get_worker().local_directory)
        _held[key] = make(shard, threads, int(SHARD_SHARE * memory), folder)
    return _held[key]


def _decoded(shared: tuple[tuple[Make, Job, int], _How], shard: Shard) -> Failures:
    with _busy(shared[1]) as threads:
        return _of_shard(shared, shard, threads).failures


def _band_of_shard(
    shared: tuple[tuple[Make, Job, int], _How], shard: Shard, band: Band, decoded: Failures
) -> Folds:
    """Return some rows of the sums of a shard; made again if the one who had it is lost."""
    job = shared[0][1]
    reach = reach_of(job)
    above, below = max(0, band.first - reach), min(job.shape[1], band.end + reach)
    with _busy(shared[1]) as threads, limited(threads):
        crop = _of_shard(shared, shard, threads).sums.rows(above, below)
    return some_rows(crop, band.first - above, band.end - above)


def _read(make: Callable[[], RowSums], first: int, end: int) -> Folds:
    """Return some rows of sums that this process can read."""
    with _ONE:
        return some_rows(make().rows(first, end), 0, end - first)


def _forget() -> None:
    _held.clear()


def _failures(part: Part) -> Failures:
    return part.failures


def _sums(part: Part) -> RowSums:
    return part.sums


def _lent(sums: Folds, path: Path) -> Folds | Lent:
    """Return sums in a file, or as they are if there is no room for it."""
    try:
        return Lent(sums, path)
    except OSError:
        return sums


def _on_band(
    shared: tuple[Callable[[Folds, Band], Result], _How], band: Band, sums: Folds
) -> Result:
    work, how = shared
    with _busy(how) as threads, limited(threads):
        return work(sums, band)


_Both = tuple[Callable[[Thing, Band, Band], Thing], Callable[[Sequence[Thing]], Thing]]


def _cut(shared: tuple[_Both[Thing], _How], thing: Thing, band: Band, wanted: Band) -> Thing:
    (cut, _), _ = shared
    return cut(thing, band, wanted)


def _joined(shared: tuple[_Both[Thing], _How], *parts: Thing) -> Thing:
    (_, join), _ = shared
    return join(parts)


def _on_made(shared: tuple[Callable[[Thing], Result], _How], made: Thing) -> Result:
    work, how = shared
    with _busy(how) as threads, limited(threads):
        return work(made)


def _batch(
    shared: tuple[tuple[Callable[[Item, Shared], Result], Shared], _How], items: Sequence[Item]
) -> list[Result]:
    (function, what), how = shared
    with _busy(how) as threads:
        return list(ordered_map(partial(_call, function, what), items, threads))


def _call(function: Callable[[Item, Shared], Result], shared: Shared, item: Item) -> Result:
    return function(item, shared)


_ONE = threading.Lock()  # held by the task that has the worker's threads
_ready = False


@contextmanager
def _busy(how: _How) -> Iterator[int]:
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


# Finding and starting them.


@contextmanager
def connected(where: str, report: Report, memory: int | None = None) -> Iterator[Cluster]:
    """Start or find a cluster.

    Parameters
    ----------
    where : str
        ``local:N`` for N processes here, or the address of a scheduler, ``tcp://HOST:PORT``.
    report : Report
        Told where it can be watched.
    memory : int, optional
        Bytes that a process here may take.

    Raises
    ------
    OptionError
        If it is neither.
    MlrError
        If nobody answers there, there are no workers, or they have another version of mlr.
    """
    number = processes.local(where)
    _silence("asyncio", "distributed", "tornado")  # what matters is raised as well
    with ExitStack() as stack:
        if number is not None:
            with announced(report):
                compile_alone()
        connecting = _Connecting(partial(_connect, where, number, report, memory, stack), where)
        try:
            if number is None:
                connecting.result()
            yield Cluster(connecting, _How(number is not None, memory is not None))
        finally:
            connecting.wait()  # before what it has put on the stack is closed


class _Connecting:
    """What takes as long as to look at a thousand pairs, in a thread of its own.

    Where the system gives Dask too few files or threads, it may never come to an end.
    """

    def __init__(self, connect: Callable[[], Client], where: str) -> None:
        self._outcome, self._where = Outcome[Client](), where
        self._deadline = time.monotonic() + 3 * PATIENCE
        try:
            threading.Thread(target=self._run, args=(connect,), daemon=True).start()
        except RuntimeError as error:
            raise MlrError(f"{where}: {error}") from error

    def _run(self, connect: Callable[[], Client]) -> None:
        try:
            self._outcome.set_result(connect())
        except BaseException as error:
            self._outcome.set_exception(error)

    def wait(self) -> bool:
        """Wait for the end, if there is one; tell whether there is."""
        return bool(wait([self._outcome], max(0.0, self._deadline - time.monotonic())).done)

    def result(self) -> Client:
        """Return the client, or raise what went wrong."""
        if not self.wait():
            raise MlrError(f"{self._where}: the processes do not start: nothing is heard of them")
        return self._outcome.result()


def _connect(
    where: str, number: int | None, report: Report, memory: int | None, stack: ExitStack
) -> Client:
    """Return a client; what is to be closed is put on the stack."""
    address = where
    if number is not None:
        try:
            address = stack.enter_context(_started(number, memory))
        except Exception as error:  # of many kinds, as the system's limits are
            raise MlrError(
                f"{where}: the processes do not start: {_first_line(error)} (a script that "
                'calls this needs: if __name__ == "__main__")'
            ) from error
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
        stack.callback(_close, client)
        client.wait_for_workers(number or 1, timeout=PATIENCE)
    except Exception as error:  # of each kind of address, as there are
        raise MlrError(f"{where}: no Dask scheduler with a worker answers there") from error
    with _told():
        _check_versions(client, where)
        services = client.scheduler_info()["services"]
        stack.enter_context(_watched(client))
    if "dashboard" in services and (number is None or _HAS_BOKEH):
        report.note(f"dashboard: {client.dashboard_link}")
    return client


@contextmanager
def _watched(client: Client) -> Iterator[None]:
    """Give up what is waited for once there have been no workers for some time."""
    done = threading.Event()

    def watch() -> None:
        last = time.monotonic()
        while not done.wait(WATCH):
            with suppress(Exception):  # without a scheduler Dask gives up by itself
                if client.nthreads():
                    last = time.monotonic()
            if time.monotonic() - last > PATIENCE:
                _close(client)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


_OPEN = Path(f"/proc/{os.getpid()}/fd")  # where others find files of ours that have no name
_HAS_BOKEH = find_spec("bokeh") is not None


@contextmanager
def _started(number: int, memory: int | None) -> Iterator[str]:
    """Start a scheduler in this process, and workers in processes of their own."""
    distributed.utils._forkserver_preload_set = True  # or Dask says what the server is to load
    settings = {
        # Dask has memory given back at once: to ask for it again took a sixth of all the time.
        "distributed.nanny.pre-spawn-environ": processes.environment(number),
        "distributed.scheduler.allowed-failures": FAILURES,
        "distributed.worker.memory.target": KEPT_SHARE / 2,  # of the limit, which is twice as much
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
        "distributed.worker.multiprocessing-method": processes.METHOD,
        "distributed.worker.profile.enabled": False,
    }
    before = set(multiprocessing.active_children())
    cluster: LocalCluster | None = None

    def ours() -> set[multiprocessing.process.BaseProcess]:
        return set(multiprocessing.active_children()) - before

    def end() -> None:
        """Let the workers delete what they are writing, and end; nobody starts others."""
        for nanny in [] if cluster is None else list(cluster.workers.values()):
            nanny.close_gracefully()
        for process in ours():
            process.terminate()
        deadline = time.monotonic() + ENDING
        while ours() and time.monotonic() < deadline:
            time.sleep(0.01)

    at_end.append(end)
    try:
        with dask.config.set(settings):
            cluster = LocalCluster(
                n_workers=0,
                threads_per_worker=processes.threads_of(number),
                host="127.0.0.1",
                memory_limit="auto" if memory is None else 2 * memory,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL + 1,
                death_timeout=PATIENCE,
                preload=[__name__],
            )
            for _ in range(number):
                cluster.worker_spec.update(cluster.new_worker_spec())
            # Dask would wait for ever for a process that its thread could not be started for.
            cluster.sync(cluster._correct_state, callback_timeout=PATIENCE)
            yield cluster.scheduler_address
    finally:
        at_end.remove(end)
        end()  # Dask's own way takes half a second
        if cluster is not None:
            _close(cluster)
        for process in ours():  # that hang
            process.kill()
            process.join(ENDING)
        processes.end()


def _close(what: Client | LocalCluster) -> None:
    """Close a connection or a cluster; if that goes wrong, the work has been done all the same."""
    with suppress(Exception):
        what.close(timeout=CLOSING)
    # Or its finaliser tries once more, and says so.
    what.status = "closed" if isinstance(what, Client) else Status.closed


def _silence(*libraries: str) -> None:
    """Let libraries log nothing, nor those loggers of theirs that have a level of their own."""
    for name in [*libraries, *logging.root.manager.loggerDict]:
        if name.split(".")[0] in libraries:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _check_versions(client: Client, where: str) -> None:
    """Raise unless all workers have this version of mlr."""
    try:
        versions = client.run(_version)
    except (ImportError, AttributeError, pickle.UnpicklingError) as error:
        raise MlrError(f"{where}: its workers need mlr {__version__}: {error}") from error
    for worker, version in versions.items():
        if version != __version__:
            raise MlrError(f"{where}: {worker} has mlr {version}, and this is {__version__}")


def _version() -> str:
    return __version__


@contextmanager
def _told() -> Iterator[None]:
    """Turn what Dask says of a cluster that is lost into an error of one line."""
    try:
        yield
    except MlrError:
        raise
    except KilledWorker as error:
        raise MlrError(
            "the cluster gave up: every worker that was given one of the shards has died; they may "
            "need more memory, or smaller shards"
        ) from error
    except _LOST as error:
        raise MlrError(f"the cluster is lost: {_first_line(error)}") from error
    except RuntimeError as error:
        if "thread" not in str(error):  # of which the system gives no more
            raise
        raise MlrError(f"the cluster is lost: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
