"""The engine that `mlr.training.engine` asks for: work on many files, done by the workers.

They decode and sum up whole shards, or change and score batches of images; the sums go up a tree.
Since sums of integers are exact, the outcome is the same bits, whoever does it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TypeVar, cast

from distributed import Future, as_completed

from mlr.cluster import shares, tasks
from mlr.cluster.crops import row_bytes, summing_bytes
from mlr.cluster.errors import as_mlr_errors
from mlr.cluster.sums import ClusterSums, Pieces
from mlr.cluster.workers import Workers
from mlr.core.bands import RowSums, bands, rows_within
from mlr.core.folds import fold_of
from mlr.training.collect import Job
from mlr.training.shards import Failures, Make, Shard
from mlr.utils.mapped import temporary_file

Item = TypeVar("Item")
Result = TypeVar("Result")
Shared = TypeVar("Shared")

BATCH = 32  # items of a task

_OPEN = Path(f"/proc/{os.getpid()}/fd")  # where others find files of ours that have no name


class Cluster:
    """Processes here or elsewhere, as `mlr.training.engine.Engine`.

    Parameters
    ----------
    workers : Workers
        Who they are.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

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
        each = self._workers.memory(memory)
        rows = rows_within(shares.SUMS * each, job.shape[1], lambda rows: summing_bytes(job, rows))
        with as_mlr_errors():
            if rows == job.shape[1]:
                pieces = self._whole(make, shards, job, tell)
            else:
                # Pieces of all folds, small beside the memory: they come from and go to the disk.
                most = int(shares.KEPT / 2 * each / (job.folds * row_bytes(job)))
                rows = max(1, min(rows, most))
                pieces = self._by_bands(make, shards, job, tell, rows, each)
        return ClusterSums(self._workers, job.shape, [pieces], each, folder)

    def read(
        self,
        make: Callable[[], RowSums],
        sums: RowSums,
        memory: int | None,
        folder: Path | None,
    ) -> ClusterSums:
        """Return sums that workers can read by themselves, see `Engine`."""
        each, height = self._workers.memory(memory), sums.shape[1]
        rows = int(shares.SUMS * each / (4 * max(1, sums.head.row_bytes)))
        found = bands(height, max(1, min(-(-height // self._workers.count), rows)))
        client = self._workers.client
        submit = partial(client.submit, tasks.read, make, pure=False)
        pieces = [(band.first, band.end, [submit(band.first, band.end)]) for band in found]
        return ClusterSums(self._workers, sums.shape, [Pieces(client, pieces)], each, folder)

    def combined(
        self, added: Sequence[RowSums], removed: Sequence[tuple[str, RowSums]]
    ) -> ClusterSums:
        """Return sums of ours added up, with others taken out, see `Engine`."""
        first, *rest = cast(Sequence[ClusterSums], added)
        taken = [(name, cast(ClusterSums, sums)) for name, sums in removed]
        return first.combined(rest, taken)

    def _whole(
        self,
        make: Make,
        shards: Sequence[Shard],
        job: Job,
        tell: Callable[[Shard, Failures], None],
    ) -> Pieces:
        """Return the sums in one piece, of which there is a part for each fold."""
        submit = partial(self._workers.client.submit, pure=False)
        with self._workers.shared(make) as shared:
            # Neighbours, which are added up, by the same worker, unless it is slower than others.
            parts = [
                submit(tasks.part, shared, shard, **home)
                for shard, home in zip(shards, self._workers.homes(len(shards)), strict=True)
            ]
            # What is there is added up before other shards are begun: so few wait in memory.
            told = [submit(tasks.failures, part, priority=20) for part in parts]
            folds: dict[int, list[Future]] = {}
            for shard, part in zip(shards, parts, strict=True):
                fold = fold_of(shard[0].name, job.folds)
                folds.setdefault(fold, []).append(submit(tasks.sums, part, priority=20))
            del parts
            totals = [self._workers.added(level, 10) for level in folds.values()]
            self._tell(told, shards, tell)
        files: list[IO[bytes]] = []
        here = self._workers.how.compiled
        if here and _OPEN.is_dir():  # to send them takes far longer than to map them
            files = [temporary_file(None) for _ in totals]
            places = [_OPEN / str(file.fileno()) for file in files]
            totals = list(map(partial(submit, tasks.lent), totals, places))
        return Pieces(self._workers.client, [(0, job.shape[1], totals)], files)

    def _by_bands(
        self,
        make: Make,
        shards: Sequence[Shard],
        job: Job,
        tell: Callable[[Shard, Failures], None],
        rows: int,
        memory: int,
    ) -> Pieces:
        """Return the sums in pieces of so many rows; workers keep their shards on their disks."""
        submit = partial(self._workers.client.submit, pure=False)
        homes = self._workers.homes(len(shards))
        with self._workers.shared((make, job, memory)) as shared:
            told = [
                submit(tasks.decoded, shared, shard, **home)
                for shard, home in zip(shards, homes, strict=True)
            ]
            pieces = []
            for number, band in enumerate(bands(job.shape[1], rows)):
                level = [
                    submit(
                        tasks.band_of_shard,
                        shared,
                        shard,
                        band,
                        decoded,
                        **home,
                        priority=-2 * number,  # one band after the other
                    )
                    for shard, home, decoded in zip(shards, homes, told, strict=True)
                ]
                pieces.append((band.first, band.end, [self._workers.added(level, 1 - 2 * number)]))
            self._tell(told, shards, tell)
            futures = [future for _, _, (future,) in pieces]
            deque(as_completed(futures, loop=self._workers.client.loop), 0)
            self._workers.client.run(tasks.forget)
        return Pieces(self._workers.client, pieces)

    def _tell(
        self,
        told: Sequence[Future],
        shards: Sequence[Shard],
        tell: Callable[[Shard, Failures], None],
    ) -> None:
        """Tell of shards as they are done."""
        shard_of = {future.key: shard for future, shard in zip(told, shards, strict=True)}
        loop = self._workers.client.loop
        for future, failures in as_completed(told, loop=loop, with_results=True):
            if isinstance(failures, BaseException):  # of one that was cancelled with the cluster
                raise failures
            tell(shard_of[future.key], failures)

    def map(
        self, function: Callable[[Item, Shared], Result], items: Sequence[Item], shared: Shared
    ) -> Iterator[Result]:
        """Yield ``function(item, shared)`` in order, see `Engine`."""
        threads = sum(self._workers.client.nthreads().values())
        size = max(1, min(BATCH, len(items) // (4 * max(1, threads))))
        with as_mlr_errors(), self._workers.shared((function, shared)) as both:
            waiting = deque(
                self._workers.client.submit(tasks.batch, both, items[at : at + size], pure=False)
                for at in range(0, len(items), size)
            )
            while waiting:
                yield from waiting.popleft().result()
