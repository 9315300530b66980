"""From decoded images to statistics: at once, or in bands of rows from pixels in a file."""

from __future__ import annotations

import math
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mlr.core.accumulate import (
    BATCH_BYTES,
    LEAST,
    NO_SUMS,
    Accumulator,
    PairSums,
    Weights,
    pair_digest,
)
from mlr.core.planes import DATA_RANGE, NARROW_SAMPLES, TO_16_BITS, Layout
from mlr.core.registration.templates import Templates
from mlr.core.statistics import Group, SourceSums, Statistics, TargetSums, total
from mlr.errors import MlrError
from mlr.io.images import Format, Image, Pixels
from mlr.io.pairs import Subject
from mlr.kernels.pack import samples_shape
from mlr.training.decode import DecodedSubject
from mlr.utils.memory import no_room, temporary_file

PACK = 16  # subjects added at once; with single ones, training takes a sixth longer

Kind = tuple[tuple[str, ...], str]  # expressions and dtype of the images


@dataclass(frozen=True)
class Plan:
    """The settings of an accumulation, the same for all subjects."""

    source: str  # name of the source expression
    format: Format
    layout: Layout
    expressions: int
    templates: Templates | None = None
    rows: tuple[int, int] | None = None  # rows to accumulate, end excluded; by default all

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images, or of the rows to accumulate."""
        first, end = self.rows or (0, self.format.height)
        return self.format.channels, end - first, self.format.width

    @property
    def empty(self) -> Statistics:
        """Statistics without pairs."""
        white = DATA_RANGE["uint8"]
        return Statistics(self.layout, white, self.shape, (), self.source, self.templates)

    def groups(self, subjects: Iterable[Subject]) -> Counter[tuple[str, ...]]:
        """Return the number of subjects by their expressions; framed pairs count separately."""
        names = (tuple(sorted(subject.expressions)) for subject in subjects)
        if self.templates is None:
            return Counter(names)
        return Counter((name,) for several in names for name in several)

    def statistics_bytes(self, subjects: Iterable[Subject]) -> int:
        """Return the bytes of the statistics of subjects with 8-bit images."""
        channels, height, width = self.shape
        pooled = self.layout.channels(channels)
        styles = 0 if self.templates is None else 4 * 8 * channels * height * width
        result = 0
        for names, count in self.groups(subjects).items():
            each = 4 if count * channels // pooled <= NARROW_SAMPLES else 8
            result += self.layout.planes(len(names)) * pooled * height * width * each + styles
        return result

    def least_batch_bytes(self, subjects: Iterable[Subject]) -> int:
        """Return the bytes of the smallest mini-batches of subjects with 8-bit images."""
        images = sum(1 + len(names) for names in self.groups(subjects))
        return LEAST * math.prod(self.shape) * images


def accumulate(
    stream: Iterable[Sequence[DecodedSubject]],
    subjects: Iterable[Subject],
    plan: Plan,
    batch_bytes: int = BATCH_BYTES,
) -> Statistics:
    """Accumulate decoded subjects."""
    expected = plan.groups(subjects)
    each = batch_bytes // max(1, len(expected))
    found: dict[Kind, Accumulator] = {}
    waiting: dict[Kind, list[DecodedSubject]] = {}
    sums: defaultdict[Kind, PairSums] = defaultdict(PairSums)
    for decoded_subjects in stream:
        for subject in decoded_subjects:
            for kind, part in _split_by_dtype(subject):
                if kind not in found:
                    found[kind] = _accumulator(kind, plan, max(1, expected[kind[0]]), each)
                waiting.setdefault(kind, []).append(part)
                sums[kind] += _sums_of(part)
                if len(waiting[kind]) == PACK:
                    _add(found[kind], waiting.pop(kind), plan)
    for kind, some in waiting.items():
        _add(found[kind], some, plan)
    return _total([found[kind].statistics(sums[kind]) for kind in sorted(found)], plan)


class PixelStore:
    """Decoded images in a temporary file; an `mlr.core.bands.RowSource`.

    ``batch_bytes`` is the memory for a mini-batch, and ``folder`` is the temporary file's, by
    default the system's.
    """

    def __init__(self, plan: Plan, batch_bytes: int, folder: Path | None = None) -> None:
        self._plan, self._batch_bytes, self._folder = plan, batch_bytes, folder
        self._file = temporary_file(folder)
        weakref.finalize(self, self._file.close)
        self._end = 0
        self._stored: dict[Kind, _Stored] = {}

    @classmethod
    def expected(cls, subjects: Iterable[Subject], plan: Plan, batch_bytes: int) -> PixelStore:
        """Return a store without images, to ask for the `loading_bytes` of 8-bit images."""
        store, groups, none = cls(plan, batch_bytes), [], np.empty(0)
        for names, count in plan.groups(subjects).items():
            store._stored[names, "uint8"] = _Stored([0] * count)
            targets = dict.fromkeys(names, TargetSums(none, none, none))
            groups.append(Group(SourceSums(count, none, none), targets))
        store.head = replace(plan.empty, groups=tuple(groups))
        return store

    def add(self, stream: Iterable[Sequence[DecodedSubject]]) -> None:
        """Write the images of decoded subjects."""
        for subjects in stream:
            for subject in subjects:
                for kind, part in _split_by_dtype(subject):
                    stored = self._stored.setdefault(kind, _Stored())
                    stored.offsets.append(self._end)
                    stored.weights += _weights_of([part])
                    stored.sums += _sums_of(part)
                    for image in (part.source, *(part.targets[name] for name in kind[0])):
                        self._write(_with_dtype(image.pixels, np.dtype(kind[1])))

    @cached_property
    def head(self) -> Statistics:
        """The statistics of the first row, with the shape of the whole images."""
        return replace(self.rows(0, 1), shape=self._plan.shape)

    def rows(self, first: int, end: int) -> Statistics:
        """Return the statistics of the rows first, ..., end - 1."""
        plan = replace(self._plan, rows=(first, end))
        return _total([self._accumulated(kind, plan) for kind in sorted(self._stored)], plan)

    def loading_bytes(self, rows: int) -> float:
        """Return the bytes that `rows` allocates for this many rows and the smallest mini-batch."""
        layout, (channels, _, width) = self._plan.layout, self._plan.shape
        pooled, planes, batch = layout.channels(channels), 0, 0
        for (names, dtype), stored in self._stored.items():
            narrow = dtype == "uint8" and len(stored.offsets) * channels // pooled <= NARROW_SAMPLES
            each = layout.planes(len(names)) * pooled * width * (4 if narrow else 8)
            if self._plan.templates is not None:
                each += 2 * 4 * 8 * channels * width
            planes += each * (1 + (dtype != "uint8"))
            size = math.prod(samples_shape(pooled, rows, width, LEAST)) * (1 + len(names))
            images = 2 * PACK * (1 + len(names)) * channels * rows * width
            batch = max(batch, (size + images) * (1 if dtype == "uint8" else 8))
        return float(rows * planes * (1 + (len(self._stored) > 1)) + batch)

    def _accumulated(self, kind: Kind, plan: Plan) -> Statistics:
        stored = self._stored[kind]
        count = len(stored.offsets)
        accumulator = _accumulator(kind, plan, count, self._batch_bytes)
        for start in range(0, count, PACK):
            some = slice(start, start + PACK)
            sources, *images = self._images(stored.offsets[some], kind, plan)
            targets = dict(zip(kind[0], images, strict=True))
            accumulator.add(sources, targets, stored.weights[some])
        return accumulator.statistics(stored.sums)

    def _images(self, offsets: list[int], kind: Kind, plan: Plan) -> Iterator[Pixels]:
        """Yield rows of the sources and of the targets of each expression."""
        (channels, rows, width), (first, _) = plan.shape, plan.rows or (0, 0)
        row = channels * width * np.dtype(kind[1]).itemsize
        for index in range(1 + len(kind[0])):
            images = np.empty((len(offsets), rows, width, channels), kind[1])
            for image, offset in zip(images, offsets, strict=True):
                self._file.seek(offset + row * (index * plan.format.height + first))
                if self._file.readinto(image.data.cast("B")) != image.nbytes:  # type: ignore[attr-defined]
                    raise MlrError("the temporary file of decoded images was truncated")
            yield images

    def _write(self, pixels: Pixels) -> None:
        try:
            self._file.seek(self._end)
            self._file.write(np.ascontiguousarray(pixels).data)
            self._file.flush()
        except OSError as error:
            raise no_room(self._folder, self._end + pixels.nbytes, error) from error
        self._end += pixels.nbytes


@dataclass
class _Stored:
    """Subjects of a kind; ``offsets`` are where their images begin in the file."""

    offsets: list[int] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)
    sums: PairSums = NO_SUMS


def _accumulator(kind: Kind, plan: Plan, subjects: int, batch_bytes: int) -> Accumulator:
    return Accumulator(plan.layout, plan.shape, *kind, subjects, batch_bytes, plan.templates)


def _total(parts: Sequence[Statistics], plan: Plan) -> Statistics:
    return replace(total(parts or [plan.empty]), source=plan.source)


def _add(accumulator: Accumulator, subjects: Sequence[DecodedSubject], plan: Plan) -> None:
    rows = slice(*plan.rows) if plan.rows else slice(None)

    def stack(images: Iterable[Image]) -> Pixels:
        return np.stack([_with_dtype(image.pixels[rows], accumulator.dtype) for image in images])

    accumulator.add(
        stack(subject.source for subject in subjects),
        {
            name: stack(subject.targets[name] for subject in subjects)
            for name in accumulator.expressions
        },
        _weights_of(subjects),
    )


def _sums_of(subject: DecodedSubject) -> PairSums:
    """Return the sums over a subject's pairs; framed sources differ for each expression."""
    digest, names = subject.source.digest, ("",) if subject.weights is None else subject.targets
    return PairSums(
        sum(pair_digest(digest, b"", name) for name in names),
        {name: pair_digest(digest, image.digest, name) for name, image in subject.targets.items()},
        subject.shape,
    )


def _weights_of(subjects: Sequence[DecodedSubject]) -> list[Weights]:
    """Return the weights of framed subjects."""
    return [subject.weights for subject in subjects if subject.weights is not None]


def _split_by_dtype(subject: DecodedSubject) -> Iterator[tuple[Kind, DecodedSubject]]:
    """Yield the subject with the pairs of each dtype, the larger one of its two images."""
    by_dtype: dict[str, dict[str, Image]] = {}
    for name, image in subject.targets.items():
        dtype = np.result_type(subject.source.pixels, image.pixels).name
        by_dtype.setdefault(dtype, {})[name] = image
    for dtype, targets in by_dtype.items():
        yield (tuple(sorted(targets)), dtype), replace(subject, targets=targets)


def _with_dtype(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """Return 8-bit pixels as 16-bit ones if the pair has 16 bits; exact."""
    if pixels.dtype == dtype:
        return pixels
    widened: Pixels = pixels.astype(dtype) * dtype.type(TO_16_BITS)
    return widened
