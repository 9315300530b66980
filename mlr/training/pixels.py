"""Decoded images in a temporary file, accumulated for some rows at a time."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mlr.core.accumulate import LEAST, NO_DIGESTS, Accumulator, PairDigests, Weights
from mlr.core.planes import NARROW_SAMPLES
from mlr.core.statistics import Group, SourceSums, Statistics, TargetSums, total
from mlr.errors import MlrError
from mlr.io.images import Pixels
from mlr.io.pairs import Subject
from mlr.kernels.pack import samples_shape
from mlr.training.accumulate import (
    Kind,
    Plan,
    digests_of,
    expected_groups,
    split_by_dtype,
    weights_of,
    with_dtype,
)
from mlr.training.decode import DecodedSubject
from mlr.utils.mapped import no_room, temporary_file

PACK = 16  # subjects read at a time


@dataclass
class _Stored:
    """Subjects of a kind: where their images begin in the file, and what is known of them."""

    offsets: list[int] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)
    digests: PairDigests = NO_DIGESTS


class PixelStore:
    """Images that are decoded once, as `mlr.core.bands.RowSource`.

    Parameters
    ----------
    plan : Plan
        What to accumulate.
    batch_bytes : int
        Memory for a mini-batch.
    folder : Path, optional
        Where the file takes up room; by default the system's folder for temporary files.

    Raises
    ------
    MlrError
        If the file cannot be created.
    """

    def __init__(self, plan: Plan, batch_bytes: int, folder: Path | None = None) -> None:
        self._plan, self._batch_bytes, self._folder = plan, batch_bytes, folder
        self._file = temporary_file(folder)
        weakref.finalize(self, self._file.close)
        self._end = 0
        self._stored: dict[Kind, _Stored] = {}

    @classmethod
    def expected(cls, subjects: Iterable[Subject], plan: Plan, batch_bytes: int) -> PixelStore:
        """Return what is known before decoding of a store of 8-bit images: without any images."""
        store, groups = cls(plan, batch_bytes), []
        layout, (channels, _, width) = plan.layout, plan.shape
        pooled, taps = layout.channels(channels), len(layout.receptive_field)
        row = np.zeros((pooled, 1, width), np.int32)
        for names, count in expected_groups(subjects, plan).items():
            store._stored[names, "uint8"] = _Stored([0] * count)
            source = SourceSums(count, row[:, None].repeat(len(layout.lags), axis=1), row)
            target = TargetSums(row[:, None].repeat(taps, axis=1), row, row)
            groups.append(Group(source, dict.fromkeys(names, target)))
        store.head = replace(plan.empty, groups=tuple(groups))
        return store

    def add(self, subject: DecodedSubject) -> None:
        """Write the images of a subject."""
        for kind, part in split_by_dtype(subject):
            stored = self._stored.setdefault(kind, _Stored())
            stored.offsets.append(self._end)
            stored.weights += weights_of(part)
            stored.digests += digests_of(part)
            for image in (part.source, *(part.targets[name] for name in kind[0])):
                self._write(with_dtype(image.pixels, np.dtype(kind[1])))

    @cached_property
    def head(self) -> Statistics:
        """The statistics of the first row, with the shape of the whole images."""
        return replace(self.rows(0, 1), shape=self._plan.shape)

    def rows(self, first: int, end: int) -> Statistics:
        """Return the statistics of the rows first, ..., end - 1."""
        plan = replace(self._plan, rows=(first, end))
        parts = [self._accumulated(kind, plan) for kind in sorted(self._stored)]
        return replace(total(parts or [plan.empty]), source=plan.source)

    def loading_bytes(self, rows: int) -> float:
        """Return the bytes that `rows` allocates for so many rows, with the least mini-batch."""
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
            deep = 1 if dtype == "uint8" else 8
            batch = max(batch, (size + images) * deep)
        return float(rows * planes * (1 + (len(self._stored) > 1)) + batch)

    def _accumulated(self, kind: Kind, plan: Plan) -> Statistics:
        (names, dtype), stored = kind, self._stored[kind]
        count = len(stored.offsets)
        accumulator = Accumulator(
            plan.layout, plan.shape, names, dtype, count, self._batch_bytes, plan.templates
        )
        first, end = plan.rows or (0, plan.format.height)
        for start in range(0, count, PACK):
            some = slice(start, start + PACK)
            sources, *targets = self._images(stored.offsets[some], kind, first, end)
            accumulator.add(
                sources, dict(zip(names, targets, strict=True)), weights=stored.weights[some]
            )
        nothing = np.empty((0, *plan.shape[1:], plan.shape[0]), dtype)
        accumulator.add(nothing, dict.fromkeys(names, nothing), stored.digests)
        return accumulator.statistics()

    def _images(self, offsets: list[int], kind: Kind, first: int, end: int) -> Iterator[Pixels]:
        """Yield rows of the sources and of the targets of each expression."""
        channels, height, width = self._plan.shape
        row = channels * width * np.dtype(kind[1]).itemsize
        for place in range(1 + len(kind[0])):
            images = np.empty((len(offsets), end - first, width, channels), kind[1])
            for image, offset in zip(images, offsets, strict=True):
                self._file.seek(offset + row * (place * height + first))
                if self._file.readinto(image.data.cast("B")) != image.nbytes:  # type: ignore[attr-defined]
                    raise MlrError("the temporary file of decoded images has been cut off")
            yield images

    def _write(self, pixels: Pixels) -> None:
        try:
            self._file.seek(self._end)
            self._file.write(np.ascontiguousarray(pixels).data)
            self._file.flush()
        except OSError as error:
            raise no_room(self._folder, self._end + pixels.nbytes, error) from error
        self._end += pixels.nbytes
