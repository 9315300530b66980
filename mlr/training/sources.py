"""Statistics of folders and files: in memory, or loaded for some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add
from pathlib import Path

import numpy as np

from mlr.core.accumulate import BATCH_BYTES
from mlr.core.bands import RowSource
from mlr.core.layout import Layout
from mlr.core.registration.templates import Templates
from mlr.core.statistics import Statistics, check_expressions
from mlr.errors import DataError
from mlr.io.files import is_here
from mlr.io.pairs import PairList, Subject
from mlr.io.statistics_file import load_statistics
from mlr.training.accumulate import Plan, accumulate, least_batch_bytes, prepare, statistics_bytes
from mlr.training.budget import WORK, WORK_SHARE, Budget, load_all, loading_bytes, row_bytes
from mlr.training.checkpoint import Checkpoint
from mlr.training.pixels import PixelStore
from mlr.training.settings import RunSettings
from mlr.training.shards import (
    Decoding,
    Part,
    Shard,
    accumulate_shard,
    cut,
    default_size,
)
from mlr.utils.executor import Executor, map_items
from mlr.utils.mapped import release
from mlr.utils.memory import return_freed_memory
from mlr.utils.progress import Report


class MappedStatistics:
    """Some expressions and planes of statistics in a file, read row by row; a `RowSource`."""

    def __init__(
        self, statistics: Statistics, expressions: Sequence[str] = (), layout: Layout | None = None
    ) -> None:
        self._whole, self._layout = statistics, layout or statistics.layout
        self._expressions = expressions or statistics.expressions
        self.head = self.rows(0, 1).with_shape(statistics.shape)

    def rows(self, first: int, end: int) -> Statistics:
        """Return a copy of the rows first, ..., end - 1."""
        found = self._whole.rows(first, end).only(self._expressions).restricted(self._layout)
        found = found.map_planes(lambda planes, *_: np.array(planes))
        for planes in self._whole.planes():
            release(planes)
        return found

    def loading_bytes(self, rows: int) -> float:
        """Return the bytes that `rows` allocates for so many rows."""
        return 2.0 * rows * row_bytes(self.head)


class Combination:
    """Statistics added up, with others taken out, or a part of them; a `RowSource`.

    Parameters
    ----------
    added : sequence of RowSource
        At least one.
    removed : sequence of (str, RowSource)
        With their names, for errors.
    """

    def __init__(
        self, added: Sequence[RowSource], removed: Sequence[tuple[str, RowSource]] = ()
    ) -> None:
        self._added, self._removed = added, removed

    @cached_property
    def head(self) -> Statistics:
        """The statistics of the first row, with the shape of the whole images."""
        return self.rows(0, 1).with_shape(self._added[0].head.shape)

    def rows(self, first: int, end: int) -> Statistics:
        """Return the statistics of the rows first, ..., end - 1.

        Raises
        ------
        DataError
            If pairs to take out are not in there.
        """
        result = reduce(add, (source.rows(first, end) for source in self._added))
        for name, source in self._removed:
            try:
                result = result - source.rows(first, end)
            except DataError as error:
                raise DataError(f"{name}: {error}") from error
        return result

    def loading_bytes(self, rows: int) -> float:
        """Return the bytes that `rows` allocates for so many rows."""
        terms = [*self._added, *(source for _, source in self._removed)]
        largest = max(row_bytes(source.head) for source in terms)
        return max(loading_bytes(source, rows) for source in terms) + 3.0 * rows * largest


class RemoteShards:
    """Statistics of shards that an executor computes, for some rows at a time; a `RowSource`."""

    def __init__(self, executor: Executor, shards: Sequence[Shard], plan: Plan) -> None:
        self._executor, self._shards, self._plan = executor, shards, plan

    @cached_property
    def head(self) -> Statistics:
        """The statistics of the first row, with the shape of the whole images."""
        return self.rows(0, 1).with_shape(self._plan.shape)

    def rows(self, first: int, end: int) -> Statistics:
        """Return the statistics of the rows first, ..., end - 1; images are decoded again."""
        plan = replace(self._plan, rows=(first, end))
        parts = self._executor.map(accumulate_shard, self._shards, plan)
        return reduce(add, (part.statistics for part in parts), plan.empty)

    def loading_bytes(self, rows: int) -> float:
        """Return the bytes that `rows` allocates for so many rows, here or on a worker."""
        return 4.0 * rows * row_bytes(self.head)


def combined(
    added: Sequence[RowSource], removed: Sequence[tuple[str, RowSource]], budget: Budget
) -> RowSource:
    """Return statistics added up, with others taken out: in memory if they fit.

    Raises
    ------
    DataError
        If pairs to take out are not in there.
    """
    if len(added) == 1 and not removed:
        return added[0]
    source = Combination(added, removed)
    terms = [*added, *(term for _, term in removed)]
    sizes = [term.nbytes for term in terms if isinstance(term, Statistics)]
    if len(sizes) == len(terms) and sum(sizes) + 2 * max(sizes) <= budget.memory:
        return source.rows(0, source.head.shape[1])
    return source


def of_file(
    path: Path,
    expressions: Sequence[str],
    source: str | None,
    layout: Callable[[Layout], Layout],
    budget: Budget,
) -> RowSource:
    """Return the statistics of a file.

    Parameters
    ----------
    path : Path
    expressions : sequence of str
        Those wanted; none means all.
    source : str, optional
        Name of the source expression that the file must have.
    layout : function
        Returns the layout wanted, given that of the file.
    budget : Budget
        Larger files are left on the disk.

    Raises
    ------
    ModelError
        If it cannot be read.
    DataError
        If it lacks something.
    """
    size = path.stat().st_size if is_here(path) else 0
    large = size * (1 + 2 * WORK_SHARE) + WORK > budget.memory
    found = load_statistics(path, mapped=large)
    try:
        if source not in (None, found.source):
            raise DataError(f"statistics of the source expression {found.source}, not {source}")
        check_expressions(expressions, found.expressions)
        if large:
            return MappedStatistics(found, expressions, layout(found.layout))
        return found.only(expressions or found.expressions).restricted(layout(found.layout))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def of_folder(
    pairs: PairList,
    layout: Layout,
    templates: Templates | None,
    budget: Budget,
    report: Report,
    settings: RunSettings,
    check: Callable[[RowSource], object] = lambda source: None,
) -> RowSource:
    """Return the statistics of pairs of image files; the same bits in shards or not.

    Parameters
    ----------
    pairs : PairList
        What `find_pairs` found.
    layout : Layout
        Which planes to compute.
    templates : Templates, optional
        What the pairs are registered to.
    budget : Budget
    report : Report
        Told about progress and files that are skipped.
    settings : RunSettings
    check : function, optional
        Called before images are decoded that do not fit in memory, with a source like that to be
        returned.

    Raises
    ------
    DataError
        If no pair can be used, or a checkpoint does not fit.
    MlrError
        If a checkpoint cannot be written, or a disk is full.
    """
    subjects, plan = prepare(pairs, layout, templates, report)
    if settings.in_shards:
        found = _sharded(subjects, plan, budget, report, settings, check)
    else:
        found = _at_once(subjects, plan, budget, report, check)
    if not found.head.expressions:
        raise DataError("not one pair of images could be decoded")
    report.done += sum(found.head.pairs.values())
    return found


def _at_once(
    subjects: Sequence[Subject],
    plan: Plan,
    budget: Budget,
    report: Report,
    check: Callable[[RowSource], object],
) -> RowSource:
    """Accumulate subjects as they are decoded if the statistics fit, else keep the pixels."""
    stream = plan.decoded(subjects, report)
    size = statistics_bytes(subjects, plan)
    weights = 4 * plan.expressions * (len(plan.layout.receptive_field) + 1)
    weights *= plan.shape[1] * plan.shape[2] * plan.layout.channels(plan.shape[0])
    left = (budget.memory - size) // 2  # the other half is for decoded subjects
    fits = size + max(WORK, WORK_SHARE * size) + weights <= budget.memory
    if fits and left >= least_batch_bytes(subjects, plan):
        stream = report.progress(stream, len(subjects), "accumulating")
        return accumulate(stream, subjects, plan, min(left, BATCH_BYTES))
    check(PixelStore.expected(subjects, plan, budget.batch_bytes))
    store = PixelStore(plan, budget.batch_bytes, budget.folder)
    return_freed_memory()
    for found in report.progress(stream, len(subjects), "decoding"):
        for subject in found:
            store.add(subject)
    return store


@dataclass(frozen=True)
class _ShardTask:
    """What to do with shards, sent to workers once."""

    plan: Plan
    checkpoint: Checkpoint | None
    budget: Budget | None  # if the statistics do not fit


def _run_shard(shard: Shard, task: _ShardTask) -> Part:
    """Load or compute a shard, and keep it; only the failures are returned if it does not fit."""
    store, plan = task.checkpoint, task.plan
    part = store.load(shard, mapped=task.budget is not None) if store else None
    if part is None:
        if task.budget is None:
            part = accumulate_shard(shard, plan)
        else:
            pixels = PixelStore(plan, task.budget.batch_bytes, task.budget.folder)
            decoding = Decoding(shard, plan)
            for found in decoding:
                for subject in found:
                    pixels.add(subject)
            statistics = load_all(pixels, task.budget)
            part = Part(statistics, tuple(decoding.failures), decoding.digests())
        if store:
            store.save(shard, part)
    return part if task.budget is None else replace(part, statistics=plan.empty)


def _sharded(
    subjects: Sequence[Subject],
    plan: Plan,
    budget: Budget,
    report: Report,
    settings: RunSettings,
    check: Callable[[RowSource], object],
) -> RowSource:
    executor, store = settings.executor, None
    size = settings.shard or default_size(plan)
    if settings.checkpoint is not None:
        store = Checkpoint(Path(settings.checkpoint).absolute(), plan)
    elif executor is None:
        return _at_once(subjects, plan, budget, report, check)
    memory = budget.memory if executor is None else min(budget.memory, executor.memory)
    fits = 3 * statistics_bytes(subjects, plan) + WORK <= memory
    with store.opened() if store else nullcontext():
        shards = store.shards(subjects, size) if store else cut(subjects, size)
        task = _ShardTask(plan, store, None if fits else Budget(memory, budget.folder))
        if not (fits or store):
            return _remote(shards, plan, executor, report)
        total = plan.empty
        parts = (
            map_items(executor, _run_shard, shards, task)
            if executor is not None
            else (_run_shard(shard, task) for shard in shards)
        )
        for part in report.progress(parts, len(shards), "accumulating shards"):
            for path, cause in part.failures:
                report.fail(path, cause)
            total = total + part.statistics
        if fits:
            return total
        assert store is not None
        kept = [load_statistics(store.path(shard), mapped=True) for shard in shards]
        return Combination([MappedStatistics(one) for one in kept if one.groups])


def _remote(
    shards: Sequence[Shard], plan: Plan, executor: Executor | None, report: Report
) -> RowSource:
    """Return shards that are accumulated when rows are asked for; name failures now."""
    assert executor is not None
    first = replace(plan, rows=(0, 1))
    parts = executor.map(accumulate_shard, shards, first)
    for part in report.progress(parts, len(shards), "decoding"):
        for path, cause in part.failures:
            report.fail(path, cause)
    return RemoteShards(executor, shards, plan)
