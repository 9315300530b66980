"""From image files to statistics: one pass over the pairs of a folder."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mlr.core.accumulate import Accumulator, Weights, pair_digest
from mlr.core.folds import Folds, fold_of
from mlr.core.layout import Layout
from mlr.core.planes import NARROW_SAMPLES, TO_16_BITS, WHITE
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.templates import Templates
from mlr.core.statistics import Statistics
from mlr.errors import DataError
from mlr.io.images import Image, Pixels
from mlr.io.pairs import PairList, Subject
from mlr.training.decode import DecodedSubject, Format, common_format, decoded
from mlr.training.registering import FramedSubject, into_frames
from mlr.training.warmup import announced
from mlr.utils.progress import Report
from mlr.utils.threads import limited

PACK = 16  # subjects handed on at once


def collect(
    pairs: PairList,
    layout: Layout | ReceptiveField | Callable[[Shape], Layout],
    *,
    folds: int = 1,
    templates: Templates | None = None,
    threads: int | None = None,
    report: Report | None = None,
) -> Folds:
    """Sum up pairs of image files in one pass over them.

    Parameters
    ----------
    pairs : PairList
        What `find_pairs` found.
    layout : Layout, ReceptiveField, or function
        Which planes to make; or what tells it for the shape (channels, height, width) of the
        images.
    folds : int
        Sum up so many parts of the subjects, told apart by `fold_of` their names.
    templates : Templates, optional
        What the pairs are registered to.
    threads, report
        As for `mlr.training.train.train`.

    Raises
    ------
    DataError
        If no pair can be used.
    """
    report = report or Report()
    with limited(threads) as count, announced(report):
        subjects, job = prepared(pairs, layout, folds, report, templates)
        stream = job.decoded(subjects, count, report)
        statistics = sum_up(report.progress(stream, len(subjects), "summing up"), subjects, job)
    return finished(statistics, report)


@dataclass(frozen=True)
class Job:
    """What is to be made of subjects, the same for all of them.

    Attributes
    ----------
    source : str
        Name of the source expression.
    format : Format
        Of their images.
    layout : Layout
        Which planes to make.
    folds : int
        How many parts they are cut into by `fold_of` their names.
    expressions : int
        How many target expressions there are.
    templates : Templates, optional
        What pairs are registered to.
    """

    source: str
    format: Format
    layout: Layout
    folds: int
    expressions: int
    templates: Templates | None = None

    def decoded(
        self, subjects: Iterable[Subject], threads: int, report: Report
    ) -> Iterator[list[DecodedSubject]]:
        """Yield subjects as they are decoded, and moved into the frames if there are templates."""
        if self.templates is None:
            return decoded(subjects, self.format, threads, report)
        then = partial(into_frames, templates=self.templates)
        return decoded(subjects, self.format, threads, report, then)

    @property
    def shape(self) -> Shape:
        """(channels, height, width) of the images."""
        return self.format.channels, self.format.height, self.format.width


def prepared(
    pairs: PairList,
    layout: Layout | ReceptiveField | Callable[[Shape], Layout],
    folds: int,
    report: Report,
    templates: Templates | None = None,
) -> tuple[list[Subject], Job]:
    """Return the subjects that can be summed up, fold by fold, and what is to be made of them.

    Parameters
    ----------
    pairs, layout, folds, report, templates
        As for `collect`.

    Raises
    ------
    DataError
        If nobody is left.
    """
    for note in pairs.notes:
        report.note(note)
    for problem in pairs.problems:
        report.fail(problem.path, problem.cause)
    subjects, image_format = common_format(pairs, report)
    shape = (image_format.channels, image_format.height, image_format.width)
    if not isinstance(layout, Layout | ReceptiveField):
        layout = layout(shape)
    subjects.sort(key=lambda subject: fold_of(subject.name, folds))
    if templates is not None and templates.geometry.size != shape[1:]:
        height, width = templates.geometry.size
        raise DataError(
            f"images of {image_format}, but the templates are for {width}x{height} px; resize them"
        )
    expressions = len(pairs.expressions)
    return subjects, Job(
        pairs.source, image_format, Layout.of(layout), folds, expressions, templates
    )


def bytes_of_sums(subjects: Iterable[Subject], job: Job) -> tuple[int, int]:
    """Return the bytes that the sums over subjects take, and those of a model's weights at most."""
    layout, (channels, height, width) = job.layout, job.shape
    plane = layout.channels(channels) * height * width
    samples = channels // layout.channels(channels)
    counts = Counter(kind for subject in subjects for kind in bins_of(subject, job))
    sums = 0
    for (_, expressions), count in counts.items():
        each = 4 if count * samples <= NARROW_SAMPLES else 8
        sums += layout.planes(len(expressions)) * plane * each
        if job.templates is not None:
            sums += 4 * 8 * channels * height * width
    names = {name for _, expressions in counts for name in expressions}
    return sums, 4 * len(names) * (len(layout.receptive_field) + 1) * plane


def sum_up(
    stream: Iterable[Sequence[DecodedSubject]],
    subjects: Iterable[Subject],
    job: Job,
    batch_bytes: int | None = None,
) -> Folds:
    """Sum up decoded subjects.

    Parameters
    ----------
    stream : iterable of sequence of DecodedSubject
        As `Job.decoded` yields them, one fold after the other.
    subjects : iterable of Subject
        Those that are expected in it, for cutting them into batches of equal size.
    job : Job
        What is to be made of them.
    batch_bytes : int, optional
        Memory for a batch of their pixels.
    """
    expected = Counter(kind for subject in subjects for kind in bins_of(subject, job))
    # Without a name for it, for the memory of its batch is given back then.
    parts = _Summing(job, expected, batch_bytes).statistics(stream)
    return Folds(tuple(replace(part, source=job.source) for part in parts))


def finished(statistics: Folds, report: Report) -> Folds:
    """Return statistics of all subjects, having counted their pairs.

    Raises
    ------
    DataError
        If there is none.
    """
    if not statistics.expressions:
        raise DataError("not one pair of images could be decoded")
    report.done += sum(statistics.pairs.values())
    return statistics


Shape = tuple[int, int, int]  # channels, height, width
_Bin = tuple[int, frozenset[str]]  # fold, expressions
Kind = tuple[int, frozenset[str], str]  # and dtype


def bins_of(subject: Subject, job: Job) -> list[_Bin]:
    """Return the bins of what becomes of a subject: each expression has a frame of its own."""
    fold, names = fold_of(subject.name, job.folds), frozenset(subject.expressions)
    if job.templates is None:
        return [(fold, names)]
    return [(fold, frozenset([name])) for name in names]


def kinds_of(subject: DecodedSubject, folds: int) -> Iterator[tuple[Kind, DecodedSubject]]:
    """Yield the subject with the pairs of each dtype, which is the larger one of the two images."""
    by_dtype: dict[str, dict[str, Image]] = {}
    for name, image in subject.targets.items():
        dtype = np.result_type(subject.source.pixels, image.pixels).name
        by_dtype.setdefault(dtype, {})[name] = image
    for dtype, targets in by_dtype.items():
        yield (
            (fold_of(subject.name, folds), frozenset(targets), dtype),
            replace(subject, targets=targets),
        )


class _Summing:
    """Sums up each fold of decoded subjects; best one fold after the other.

    Those who show the same expressions with the same bits are summed up together. They wait for
    being packed, so that changing from one kind of subjects to another is rare. Someone with pairs
    of 8 and pairs of 16 bits is of both kinds.

    Parameters
    ----------
    job : Job
        What is to be made of them.
    expected : mapping of (int, set of str) to int
        About how many subjects of a fold show these expressions.
    batch_bytes : int, optional
        Memory for a batch of their pixels.
    """

    def __init__(self, job: Job, expected: Mapping[_Bin, int], batch_bytes: int | None) -> None:
        self._job, self._expected, self._batch_bytes = job, expected, batch_bytes
        empty = Statistics(job.layout, WHITE["uint8"], job.shape, templates=job.templates)
        self._totals = [empty] * job.folds
        self._waiting: dict[Kind, _Waiting] = {}
        images = 1 + max((len(expressions) for _, expressions in expected), default=1)
        self._room = PACK
        if batch_bytes is not None:
            self._room = max(1, min(PACK, batch_bytes // (2 * images * math.prod(job.shape))))
        self._accumulator: Accumulator | None = None
        self._current: Kind | None = None  # that the accumulator is for

    def statistics(self, stream: Iterable[Sequence[DecodedSubject]]) -> list[Statistics]:
        """Return the statistics of each fold; once."""
        for subjects in stream:
            for subject in subjects:
                for kind, part in kinds_of(subject, self._job.folds):
                    self._add(kind, part)
        for kind in sorted(self._waiting, key=lambda kind: (kind != self._current, kind[0])):
            self._sum_up(kind)
        self._finish()
        return self._totals

    def _add(self, kind: Kind, subject: DecodedSubject) -> None:
        """Let somebody wait; if that makes a pack, or a new fold begins, sum up those who do."""
        if self._current is not None and kind[0] != self._current[0]:
            for left in sorted(self._waiting, key=lambda kind: kind != self._current):
                self._sum_up(left)
        if kind not in self._waiting:
            self._waiting[kind] = _Waiting(kind, self._job.shape, self._room)
        self._waiting[kind].add(subject)
        if self._waiting[kind].count == self._room:
            self._sum_up(kind)

    def _sum_up(self, kind: Kind) -> None:
        """Sum up those of a kind who wait."""
        subjects = self._waiting.pop(kind)
        if self._accumulator is None or kind != self._current:
            self._finish()
            fold, expressions, dtype = self._current = kind
            self._accumulator = Accumulator(
                self._job.layout,
                self._job.shape,
                sorted(expressions),
                dtype,
                subjects=max(self._expected.get((fold, expressions), 0), subjects.count),
                batch_bytes=self._batch_bytes,
                sparing=True,
                templates=self._job.templates,
            )
        subjects.hand_on(self._accumulator)

    def _finish(self) -> None:
        """Add what was summed up last to the rest of its fold."""
        if self._accumulator is not None and self._current is not None:
            fold = self._current[0]
            self._totals[fold] = self._totals[fold] + self._accumulator.statistics()


class _Waiting:
    """Images of subjects of one kind, stacked as they come, until they are summed up.

    Parameters
    ----------
    kind : Kind
        Of all of them.
    shape : tuple of int
        (channels, height, width) of each image.
    room : int
        How many subjects there may be.
    """

    def __init__(self, kind: Kind, shape: Shape, room: int) -> None:
        _, expressions, dtype = kind
        channels, *size = shape
        self.count = 0
        self._sources = np.empty((room, *size, channels), dtype)
        self._targets = {name: np.empty_like(self._sources) for name in expressions}
        self._digests = dict.fromkeys(expressions, 0)
        self._weights: list[Weights] = []

    def add(self, subject: DecodedSubject) -> None:
        """Add someone."""
        dtype = self._sources.dtype
        self._sources[self.count] = with_dtype(subject.source.pixels, dtype)
        for name, images in self._targets.items():
            target = subject.targets[name]
            images[self.count] = with_dtype(target.pixels, dtype)
            self._digests[name] += pair_digest(subject.source.digest, target.digest, name)
        if isinstance(subject, FramedSubject) and subject.weights is not None:
            self._weights.append(subject.weights)
        self.count += 1

    def hand_on(self, accumulator: Accumulator) -> None:
        """Let all of them be summed up."""
        targets = {name: images[: self.count] for name, images in self._targets.items()}
        accumulator.add(self._sources[: self.count], targets, self._digests, self._weights)


def with_dtype(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """Return 8-bit pixels as 16-bit ones where their partner has 16 bits; exact."""
    if pixels.dtype == dtype:
        return pixels
    widened: Pixels = pixels.astype(dtype) * dtype.type(TO_16_BITS)
    return widened
