"""From a training set to its statistics: at once, or in shards that are kept or sent elsewhere."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from mlr.core.accumulate import BATCH_BYTES, LEAST
from mlr.core.bands import RowSums
from mlr.core.folds import WORK, WORK_SHARE, Folds
from mlr.core.layout import Layout
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.templates import Templates
from mlr.errors import OptionError
from mlr.io.pairs import PairList, Subject
from mlr.training.checkpoint import Checkpoint
from mlr.training.collect import Job, bytes_of_sums, finished, prepared, sum_up
from mlr.training.combined import combined
from mlr.training.engine import Engine
from mlr.training.shards import (
    Failures,
    Make,
    Part,
    Shard,
    cut,
    size_for,
    spooled_shard,
    sum_shard,
)
from mlr.training.spooled import Expected, Spooled
from mlr.training.warmup import announced
from mlr.utils.progress import Report
from mlr.utils.threads import limited


@dataclass(frozen=True)
class Sharding:
    """How a training set is cut.

    Attributes
    ----------
    checkpoint : Path, optional
        Folder to keep finished shards in.
    subjects : int, optional
        Of a shard; by default as many as make it worth while.
    engine : Engine, optional
        Who sums them up; by default this process.
    """

    checkpoint: Path | None = None
    subjects: int | None = None
    engine: Engine | None = None

    @classmethod
    def of(
        cls, checkpoint: str | Path | None, subjects: int | None, engine: Engine | None = None
    ) -> Sharding | None:
        """Return how to cut, or None if nothing is asked for.

        Raises
        ------
        OptionError
            If there are to be less than one subject in a shard.
        """
        if subjects is not None and subjects < 1:
            raise OptionError(f"a shard needs at least one person, not {subjects}")
        if checkpoint is None and subjects is None and engine is None:
            return None
        folder = None if checkpoint is None else Path(checkpoint)
        return cls(
            folder if engine is None or folder is None else folder.absolute(), subjects, engine
        )


def gather_pairs(
    pairs: PairList,
    layout: Layout | ReceptiveField | Callable[[tuple[int, int, int]], Layout],
    *,
    folds: int,
    templates: Templates | None = None,
    threads: int | None,
    report: Report,
    sharding: Sharding | None = None,
    memory: int | None = None,
    spool: Path | None = None,
    check: Callable[[RowSums], None] = lambda sums: None,
) -> RowSums:
    """Sum up pairs of image files: the same bits in whichever way.

    Parameters
    ----------
    pairs, layout, folds, templates, threads, report
        As for `mlr.training.collect.collect`.
    sharding : Sharding, optional
        How to cut them; by default not at all.
    memory : int, optional
        Bytes that the sums and work on them may take; by default as many as they need.
    spool : Path, optional
        Folder for the decoded pixels of pairs whose sums do not fit.
    check : function
        Called with sums like those to come if they do not fit, to raise in time.

    Returns
    -------
    RowSums
        `Folds` if they fit in memory.

    Raises
    ------
    DataError
        If no pair can be used, or a checkpoint is not of such sums.
    MlrError
        If a checkpoint cannot be written.
    """
    if sharding is None:
        with limited(threads) as count, announced(report):
            subjects, job = prepared(pairs, layout, folds, report, templates)
            return _in_memory_or_not(subjects, job, count, report, memory, spool, check)
    with limited(threads) as count, announced(report):
        subjects, job = prepared(pairs, layout, folds, report, templates)
        size = sharding.subjects or size_for(job)
        folder = sharding.checkpoint
        store = None if folder is None else Checkpoint(folder, job)
        with store.opened() if store else nullcontext():
            shards = store.shards(subjects, size) if store else cut(subjects, size, folds)
            steps = report.progress(range(len(subjects)), len(subjects), "summing up")
            make = partial(make_part, job=job, store=store)

            def tell(shard: Shard, failures: Failures) -> None:
                if sharding.engine is not None:  # here everybody is counted when decoded
                    deque(islice(steps, len(shard)), 0)
                for path, cause in failures:
                    report.fail(path, cause)

            if sharding.engine is None:
                there = memory is None or _wanted(subjects, job) <= memory
                here = partial(make, advance=lambda: next(steps, None))
                total = _one_by_one(here, shards, count, tell, None if there else memory, spool)
            else:
                total = sharding.engine.sums(make, shards, job, tell, memory, spool)
            deque(steps, 0)  # those who could not be decoded
        finished(total.head, report)
        return total


def _in_memory_or_not(
    subjects: Sequence[Subject],
    job: Job,
    threads: int,
    report: Report,
    memory: int | None,
    spool: Path | None,
    check: Callable[[RowSums], None],
) -> RowSums:
    """Sum up pairs as they are decoded, if their sums fit; otherwise keep their pixels."""
    stream = job.decoded(subjects, threads, report)
    left = None if memory is None else _left_for_batch(subjects, job, memory)
    if left is None or left > 0:
        stream = report.progress(stream, len(subjects), "summing up")
        batch = BATCH_BYTES if left is None else min(left, BATCH_BYTES)
        return finished(sum_up(stream, subjects, job, batch), report)
    assert memory is not None
    check(Expected(subjects, job, memory))
    sums = Spooled(job, memory, spool)
    for found in report.progress(stream, len(subjects), "decoding"):
        for subject in found:
            sums.add(subject)
    finished(sums.head, report)
    return sums


def _left_for_batch(subjects: Sequence[Subject], job: Job, memory: int) -> int:
    """Return the bytes left for a batch of pixels, 0 if sums and work on them do not fit."""
    sums, weights = bytes_of_sums(subjects, job)
    if sums + max(WORK, WORK_SHARE * sums) + weights > memory:
        return 0
    expressions = max(len(subject.targets) for subject in subjects)
    least = LEAST * (1 + expressions) * math.prod(job.shape)
    left = (memory - sums) // 2  # the other half is for subjects decoded and not yet summed up
    return left if left >= least else 0


def _wanted(subjects: Sequence[Subject], job: Job) -> float:
    """Return the bytes that all sums take, with those of a shard and work on them."""
    sums, _ = bytes_of_sums(subjects, job)
    return sums * (2 + 1 / job.folds) + WORK


def _one_by_one(
    make: Make,
    shards: Sequence[Shard],
    threads: int,
    tell: Callable[[Shard, Failures], None],
    memory: int | None,
    spool: Path | None,
) -> RowSums:
    """Return the sum over all shards, made here; with a memory, for bands of rows."""
    total: Folds | None = None
    parts: list[RowSums] = []
    for shard in shards:
        part = make(shard, threads, memory, spool)
        if isinstance(part.sums, Folds):
            total = part.sums if total is None else total + part.sums
        else:
            parts.append(part.sums)
        tell(shard, part.failures)
    if total is None:
        assert memory is not None
        return combined(parts, [], memory, spool)
    return total


def make_part(
    shard: Shard,
    threads: int,
    memory: int | None,
    folder: Path | None,
    job: Job,
    store: Checkpoint | None,
    advance: Callable[[], object] = lambda: None,
) -> Part:
    """Return the sums of a shard, from the checkpoint if they are kept there.

    With a memory they are made, or read, for some rows at a time.
    """
    if memory is None:
        make = partial(sum_shard, shard, job, threads, advance)
    else:
        make = partial(spooled_shard, shard, job, threads, memory, folder, advance)
    return store.part(shard, threads, make, memory) if store else make()
