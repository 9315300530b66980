"""Statistics of folders and files, in memory or loaded some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import chain
from operator import add
from pathlib import Path

import numpy as np

from mlr.core.accumulate import BATCH_BYTES
from mlr.core.bands import RowSource
from mlr.core.planes import Layout
from mlr.core.statistics import Statistics, check_expressions
from mlr.errors import DataError
from mlr.io.files import file_digest, is_here
from mlr.io.pairs import Subject
from mlr.io.statistics_file import load_statistics
from mlr.recipes.base import Recipe
from mlr.training.accumulate import PixelStore, Plan, accumulate
from mlr.training.budget import WORK, WORK_SHARE, Budget, load_all, row_bytes
from mlr.training.checkpoint import Checkpoint, Part, Shard, address, cut, files_of
from mlr.training.decode import DecodedSubject, decoded
from mlr.training.settings import RunSettings
from mlr.utils.executor import Executor
from mlr.utils.memory import release, return_freed_memory
from mlr.utils.progress import Report, Silent

LEAST = 128  # subjects of a shard

Choice = Callable[[Layout], Layout]  # of the planes of statistics


class MappedStatistics:
    """Some expressions and planes of statistics in a file, read in bands; a `RowSource`."""

    def __init__(
        self, statistics: Statistics, expressions: Sequence[str] = (), layout: Layout | None = None
    ) -> None:
        self._whole, self._layout = statistics, layout or statistics.layout
        self._expressions = expressions or statistics.expressions
        self.head = replace(self.rows(0, 1), shape=statistics.shape)

    def rows(self, first: int, end: int) -> Statistics:
        """Return a copy of the rows first, ..., end - 1."""
        found = self._whole.rows(first, end).only(self._expressions).restricted(self._layout)
        found = found.map_planes(lambda planes, *_: np.array(planes))
        for planes in self._whole.planes():
            release(planes)
        return found

    def loading_bytes(self, rows: int) -> float:
        """Return the bytes that `rows` allocates for this many rows."""
        return 2.0 * rows * row_bytes(self.head)


class Combination:
    """The sum of statistics, minus others, which have names for errors; a `RowSource`."""

    def __init__(
        self, added: Sequence[RowSource], removed: Sequence[tuple[str, RowSource]] = ()
    ) -> None:
        self._added, self._removed = added, removed

    @cached_property
    def head(self) -> Statistics:
        """The statistics of the first row, with the shape of the whole images."""
        first_row = self._combined(lambda source: source.head.rows(0, 1))
        return replace(first_row, shape=self._added[0].head.shape)

    def rows(self, first: int, end: int) -> Statistics:
        """Return the statistics of the rows first, ..., end - 1."""
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
        """Return the bytes that `rows` allocates for this many rows."""
        terms = [*self._added, *(source for _, source in self._removed)]
        largest = max(row_bytes(source.head) for source in terms)
        return max(source.loading_bytes(rows) for source in terms) + 3.0 * rows * largest


def combined(
    added: Sequence[RowSource], removed: Sequence[tuple[str, RowSource]], budget: Budget
) -> RowSource:
    """Return the sum of statistics, minus others; in memory if it fits."""
    if len(added) == 1 and not removed:
        return added[0]
    source = Combination(added, removed)
    terms = [*added, *(term for _, term in removed)]
    sizes = [term.nbytes for term in terms if isinstance(term, Statistics)]
    if len(sizes) == len(terms) and sum(sizes) + 2 * max(sizes) <= budget.memory:
        return source.rows(0, source.head.shape[1])
    return source


def of_file(
    path: Path, expressions: Sequence[str], source: str | None, layout: Choice, budget: Budget
) -> RowSource:
    """Return the statistics of a file."""
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
    subjects: Sequence[Subject],
    plan: Plan,
    budget: Budget,
    report: Report,
    settings: RunSettings,
    recipe: Recipe | None,
    known: Mapping[Path, bytes],
) -> RowSource:
    """Return the statistics of image files; the same bits with shards and without.

    A memory limit that is too low to solve them with a recipe is refused before decoding, and an
    image whose digest differs from a ``known`` one while decoding.
    """
    found: RowSource
    known_digests = _hexadecimal(known)
    stream = decoded(subjects, plan.format, report, plan.templates)
    if known:
        stream = _unchanged(stream, known_digests)
    if settings.executor is not None or settings.checkpoint is not None:
        found = _sharded(subjects, plan, budget, report, settings, known_digests)
    elif batch_bytes := _batch_bytes(subjects, plan, budget):
        what = "accumulating" if plan.templates is None else "registering and accumulating"
        stream = report.progress(stream, len(subjects), what)
        found = accumulate(stream, subjects, plan, batch_bytes)
    else:
        if recipe is not None:
            budget.bands(recipe, PixelStore.expected(subjects, plan, budget.batch_bytes))
        found = store = PixelStore(plan, budget.batch_bytes, budget.folder)
        return_freed_memory()
        store.add(report.progress(stream, len(subjects), "decoding"))
    if not found.head.expressions:
        raise DataError("no pair of images could be decoded")
    report.done += sum(found.head.pairs.values())
    return found


def _batch_bytes(subjects: Sequence[Subject], plan: Plan, budget: Budget) -> int:
    """Return the bytes left for a mini-batch, or 0 if the statistics do not fit in memory."""
    size = plan.statistics_bytes(subjects)
    channels, height, width = plan.shape
    weights = 4 * plan.expressions * (len(plan.layout.receptive_field) + 1)
    weights *= height * width * plan.layout.channels(channels)
    left = (budget.memory - size) // 2  # the other half is for decoded subjects
    fits = size + max(WORK, WORK_SHARE * size) + weights <= budget.memory
    return min(left, BATCH_BYTES) if fits and left >= plan.least_batch_bytes(subjects) else 0


def _sharded(
    subjects: Sequence[Subject],
    plan: Plan,
    budget: Budget,
    report: Report,
    settings: RunSettings,
    known: Mapping[str, str],
) -> RowSource:
    executor, folder = settings.executor, settings.checkpoint
    size = settings.shard or _default_size(plan)
    memory = budget.memory if executor is None else min(budget.memory, executor.memory)
    batch = max(Budget(memory).batch_bytes, plan.least_batch_bytes(subjects))
    # A total, the shard added to it, and the result; with workers also the copies that are sent.
    copies = 3 if executor is None else 6
    fits = copies * plan.statistics_bytes(subjects) + 2 * batch + WORK <= memory
    if folder is None:
        task, shards = ShardTask(plan, None, memory), cut(subjects, size)
        if executor is not None and not fits:
            return RemoteShards(executor, shards, task, budget.memory, report, known)
        return _total(executor, shards, task, report, "accumulating shards", known)
    store = Checkpoint(Path(folder).absolute(), plan)
    with store.opened():
        task, shards = ShardTask(plan, store, memory, fits), store.shards(subjects, size)
        total = _total(executor, shards, task, report, "accumulating shards", known)
        if fits:
            return total
        kept = [load_statistics(store.path(shard), mapped=True) for shard in shards]
        return Combination([MappedStatistics(one) for one in kept if one.groups] or [total])


class RemoteShards:
    """Statistics of shards that an executor computes, some rows at a time; a `RowSource`.

    Failures are reported only the first time.
    """

    def __init__(
        self,
        executor: Executor,
        shards: list[Shard],
        task: ShardTask,
        memory: int,
        report: Report,
        known: Mapping[str, str],
    ) -> None:
        self._executor, self._shards, self._task, self._memory = executor, shards, task, memory
        self._known = known
        one_row = replace(task.plan, rows=(0, 1))
        self._least = one_row.least_batch_bytes(list(chain.from_iterable(shards)))
        self.head = replace(self._rows(0, 1, report), shape=task.plan.shape)

    def rows(self, first: int, end: int) -> Statistics:
        """Return the statistics of the rows first, ..., end - 1; images are decoded again."""
        total = self._rows(first, end, Silent())
        if total.hexdigest != self.head.hexdigest:
            raise DataError("images have changed during the training; start it again")
        return total

    def loading_bytes(self, rows: int) -> float:
        """Return the bytes that `rows` allocates, scaled up if workers have less memory."""
        batch = max(rows * self._least, Budget(self._task.memory).batch_bytes)
        needed = 4.0 * rows * row_bytes(self.head) + batch
        return needed * self._memory / self._task.memory

    def _rows(self, first: int, end: int, report: Report) -> Statistics:
        task = replace(self._task, plan=replace(self._task.plan, rows=(first, end)))
        return _total(self._executor, self._shards, task, report, "decoding", self._known)


@dataclass(frozen=True)
class ShardTask:
    """The settings of a computation of shards, sent to workers once."""

    plan: Plan
    checkpoint: Checkpoint | None  # where to keep finished shards
    memory: int  # bytes that a worker may use
    fits: bool = True  # statistics fit in memory; otherwise they are saved, but not returned


def _total(
    executor: Executor | None,
    shards: Sequence[Shard],
    task: ShardTask,
    report: Report,
    what: str,
    known: Mapping[str, str],
) -> Statistics:
    """Return the statistics of all shards, and report failures; refuse changed images."""
    parts = (
        (run_shard(shard, task) for shard in shards)
        if executor is None
        else executor.map(run_shard, shards, task)
    )
    total = task.plan.empty
    for part in report.progress(parts, len(shards), what):
        for path, cause in part.failures:
            report.fail(path, cause)
        _check_unchanged(part.digests, known)
        total += part.statistics
    return total


def run_shard(shard: Shard, task: ShardTask) -> Part:
    """Load a shard, or compute and save it."""
    store, plan = task.checkpoint, task.plan
    budget = Budget(task.memory, store.folder if store else None)
    part = store.load(shard, mapped=not task.fits) if store else None
    if part is None:
        report, digests = Silent(), dict[str, str]()
        stream = decoded(shard, plan.format, report, plan.templates)
        stream = _noting_digests(stream, digests)
        if task.fits:
            statistics = accumulate(stream, shard, plan, min(budget.batch_bytes, BATCH_BYTES))
        else:
            pixels = PixelStore(plan, budget.batch_bytes, budget.folder)
            pixels.add(stream)
            statistics = load_all(pixels, budget)
        for path in files_of(shard):  # including files that could not be decoded
            if address(path) not in digests and (digest := file_digest(path)) is not None:
                digests[address(path)] = digest
        part = Part(statistics, tuple(report.failures), digests)
        if store:
            store.save(shard, part)
    return part if task.fits else replace(part, statistics=plan.empty)


def _noting_digests(
    stream: Iterable[list[DecodedSubject]], digests: dict[str, str]
) -> Iterator[list[DecodedSubject]]:
    """Yield decoded subjects, and note the digests of their files."""
    for found in stream:
        for part in found:
            digests |= _hexadecimal(part.digests)
        yield found


def _unchanged(
    stream: Iterable[list[DecodedSubject]], known: Mapping[str, str]
) -> Iterator[list[DecodedSubject]]:
    """Yield decoded subjects; refuse changed images."""
    for found in stream:
        for part in found:
            _check_unchanged(_hexadecimal(part.digests), known)
        yield found


def _hexadecimal(digests: Mapping[Path, bytes]) -> dict[str, str]:
    return {address(path): digest.hex() for path, digest in digests.items()}


def _check_unchanged(digests: Mapping[str, str], known: Mapping[str, str]) -> None:
    for file, digest in digests.items():
        if known.get(file, digest) != digest:
            raise DataError(
                f"{file}: has changed since the templates were computed; start the training again; "
                "with --checkpoint, in an empty folder"
            )


def _default_size(plan: Plan) -> int:
    """Return how many subjects make the images of a shard larger than its statistics."""
    layout, channels = plan.layout, plan.format.channels
    statistics = 4 * layout.planes(plan.expressions) * layout.channels(channels)  # bytes a pixel
    images = channels * (1 + plan.expressions)
    return max(LEAST, -(-statistics // images))
