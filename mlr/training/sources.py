"""Statistics of folders and files: in memory, or loaded for some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
from mlr.training.shards import Decoding, Part, Shard, cut, default_size
from mlr.utils.executor import Executor
from mlr.utils.mapped import release
from mlr.utils.memory import return_freed_memory
from mlr.utils.progress import Report, Silent


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
        return self._combined(_first_row).with_shape(self._added[0].head.shape)

    def rows(self, first: int, end: int) -> Statistics:
        """Return the statistics of the rows first, ..., end - 1.

        Raises
        ------
        DataError
            If pairs to take out are not in there.
        """
        return self._combined(lambda source: source.rows(first, end))

    def _combined(self, rows_of: Callable[[RowSource], Statistics]) -> Statistics:
        result = reduce(add, map(rows_of, self._added))
        for name, source in self._removed:
            try:
                result = result - rows_of(source)
            except DataError as error:
                raise DataError(f"{name}: {error}") from error
        return result

    def loading_bytes(self, rows: int) -> float:
        """Return the bytes that `rows` allocates for so many rows."""
        terms = [*self._added, *(source for _, source in self._removed)]
        largest = max(row_bytes(source.head) for source in terms)
        return max(loading_bytes(source, rows) for source in terms) + 3.0 * rows * largest


class RemoteShards:
    """Statistics of shards that an executor computes, for some rows at a time; a `RowSource`.

    Parameters
    ----------
    executor : Executor
    shards : sequence of Shard
    task : ShardTask
        What to do with them.
    budget : Budget
        Of this process.
    report : Report
        Told, now, about progress and files that are skipped.
    """

    def __init__(
        self,
        executor: Executor,
        shards: Sequence[Shard],
        task: ShardTask,
        budget: Budget,
        report: Report,
    ) -> None:
        self._executor, self._shards, self._task, self._budget = executor, shards, task, budget
        subjects = [subject for shard in shards for subject in shard]
        self._least = least_batch_bytes(subjects, replace(task.plan, rows=(0, 1)))
        self.head = self._total(0, 1, report).with_shape(task.plan.shape)

    def rows(self, first: int, end: int) -> Statistics:
        """Return the statistics of the rows first, ..., end - 1; images are decoded again.

        Raises
        ------
        DataError
            If images have changed.
        """
        total = self._total(first, end, Silent())
        if total.hexdigest != self.head.hexdigest:
            raise DataError("images have changed during the training; start it again")
        return total

    def loading_bytes(self, rows: int) -> float:
        """Return the bytes that `rows` allocates for so many rows, or more if workers have less."""
        batch = max(rows * self._least, Budget(self._task.memory).batch_bytes)
        needed = 4.0 * rows * row_bytes(self.head) + batch
        return needed * self._budget.memory / self._task.memory

    def _total(self, first: int, end: int, report: Report) -> Statistics:
        task = replace(self._task, plan=replace(self._task.plan, rows=(first, end)))
        parts = self._executor.map(run_shard, self._shards, task)
        return total_of(report.progress(parts, len(self._shards), "decoding"), task.plan, report)


def _first_row(source: RowSource) -> Statistics:
    return source.head.rows(0, 1)


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
    if settings.executor is None and settings.checkpoint is None:
        found = _at_once(subjects, plan, budget, report, check)
    else:
        found = _sharded(subjects, plan, budget, report, settings)
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
class ShardTask:
    """What to do with shards, sent to workers once.

    Attributes
    ----------
    plan : Plan
        What to accumulate.
    checkpoint : Checkpoint, optional
        Where to keep finished shards.
    memory : int
        Bytes that a worker may use.
    fits : bool
        Whether the statistics fit in there; otherwise they are only kept, and not returned.
    """

    plan: Plan
    checkpoint: Checkpoint | None
    memory: int
    fits: bool = True


def run_shard(shard: Shard, task: ShardTask) -> Part:
    """Load or compute a shard, and keep it."""
    store, plan = task.checkpoint, task.plan
    budget = Budget(task.memory, store.folder if store else None)
    part = store.load(shard, mapped=not task.fits) if store else None
    if part is None:
        decoding = Decoding(shard, plan)
        if task.fits:
            statistics = accumulate(decoding, shard, plan, min(budget.batch_bytes, BATCH_BYTES))
        else:
            pixels = PixelStore(plan, budget.batch_bytes, budget.folder)
            for found in decoding:
                for subject in found:
                    pixels.add(subject)
            statistics = load_all(pixels, budget)
        part = Part(statistics, tuple(decoding.failures), decoding.digests())
        if store:
            store.save(shard, part)
    return part if task.fits else replace(part, statistics=plan.empty)


def total_of(parts: Iterable[Part], plan: Plan, report: Report) -> Statistics:
    """Return the statistics of all shards, and name the files that cannot be read."""
    total = plan.empty
    for part in parts:
        for path, cause in part.failures:
            report.fail(path, cause)
        total += part.statistics
    return total


def _sharded(
    subjects: Sequence[Subject],
    plan: Plan,
    budget: Budget,
    report: Report,
    settings: RunSettings,
) -> RowSource:
    executor, folder = settings.executor, settings.checkpoint
    size = settings.shard or default_size(plan)
    memory = budget.memory if executor is None else min(budget.memory, executor.memory)
    batch = max(Budget(memory).batch_bytes, least_batch_bytes(subjects, plan))
    # A total, the shard added to it, and the result; with workers, copies that are sent, too.
    copies = 3 if executor is None else 6
    fits = copies * statistics_bytes(subjects, plan) + 2 * batch + WORK <= memory
    if folder is None:
        task, shards = ShardTask(plan, None, memory), cut(subjects, size)
        if executor is not None and not fits:
            return RemoteShards(executor, shards, task, budget, report)
        return _run_shards(executor, shards, task, report)
    store = Checkpoint(Path(folder).absolute(), plan)
    with store.opened():
        shards = store.shards(subjects, size)
        total = _run_shards(executor, shards, ShardTask(plan, store, memory, fits), report)
        if fits:
            return total
        kept = [load_statistics(store.path(shard), mapped=True) for shard in shards]
        return Combination([MappedStatistics(one) for one in kept if one.groups] or [total])


def _run_shards(
    executor: Executor | None, shards: Sequence[Shard], task: ShardTask, report: Report
) -> Statistics:
    parts = (
        (run_shard(shard, task) for shard in shards)
        if executor is None
        else executor.map(run_shard, shards, task)
    )
    return total_of(report.progress(parts, len(shards), "accumulating shards"), task.plan, report)
