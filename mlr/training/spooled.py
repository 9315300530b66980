"""Sums that are made anew for some rows at a time, from pixels kept on the disk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mlr.core.accumulate import (
    BATCH,
    LEAST,
    Accumulator,
    Weights,
    pair_digest,
    statistics_of_arrays,
)
from mlr.core.folds import Folds
from mlr.core.layout import Layout
from mlr.core.planes import NARROW_SAMPLES, WHITE
from mlr.core.statistics import Statistics, total
from mlr.io.pairs import Subject
from mlr.kernels.pack import samples_shape
from mlr.training.banded import BATCH_SHARE, PACK_SHARE, Banded
from mlr.training.collect import Job, Kind, bins_of, kinds_of, with_dtype
from mlr.training.decode import DecodedSubject
from mlr.training.registering import FramedSubject
from mlr.training.spool import Spool

PACK = 32  # subjects read at a time


@dataclass
class _Subjects:
    """Where the images of subjects of a kind are in a spool, and what framed pairs count with."""

    sources: list[int] = field(default_factory=list)
    targets: dict[str, list[int]] = field(default_factory=dict)
    digests: dict[str, int] = field(default_factory=dict)
    weights: list[Weights] = field(default_factory=list)


class Spooled(Banded):
    """Sums over images that are decoded once and kept on the disk, made anew for each rows.

    Parameters
    ----------
    job : Job
        What is to be made of them.
    memory, folder
        As for `Banded`.
    """

    def __init__(self, job: Job, memory: int, folder: Path | None) -> None:
        super().__init__(job.shape, memory, folder)
        channels, height, width = job.shape
        self._job, self._layout = job, job.layout
        self._spool = Spool((height, width, channels), folder)
        self._people: dict[Kind, _Subjects] = {}
        self._names: frozenset[str] | None = None

    def add(self, subject: DecodedSubject) -> None:
        """Keep somebody's images.

        Raises
        ------
        MlrError
            If the disk is full.
        """
        for kind, part in kinds_of(subject, self._job.folds):
            subjects = self._people.setdefault(kind, _Subjects())
            dtype = np.dtype(kind[2])
            subjects.sources.append(self._spool.add(with_dtype(part.source.pixels, dtype)))
            if isinstance(part, FramedSubject) and part.weights is not None:
                subjects.weights.append(part.weights)
            for name, image in part.targets.items():
                place = self._spool.add(with_dtype(image.pixels, dtype))
                subjects.targets.setdefault(name, []).append(place)
                digest = pair_digest(part.source.digest, image.digest, name)
                subjects.digests[name] = subjects.digests.get(name, 0) + digest

    def only(self, expressions: Iterable[str]) -> Spooled:
        """Return the sums of the pairs of some expressions."""
        return self._changed(_names=frozenset(expressions))

    def restricted(self, layout: Layout) -> Spooled:
        """Return the sums with some of the planes."""
        return self._changed(_layout=layout)

    def rows(self, first: int, end: int) -> Folds:
        """Return the sums of images of which there are only these rows."""
        self._release()
        shape = self.shape[0], end - first, self.shape[2]
        parts: list[list[Statistics]] = [[] for _ in range(self._job.folds)]
        for kind in sorted(self._people, key=lambda kind: (kind[0], sorted(kind[1]), kind[2])):
            if names := self._wanted(kind):
                parts[kind[0]].append(self._sums(kind, names, first, end))
        templates = self._job.templates
        empty = Statistics(self._layout, WHITE["uint8"], shape, templates=templates)
        return Folds(
            tuple(replace(total(found or [empty]), source=self._job.source) for found in parts)
        )

    def _wanted(self, kind: Kind) -> list[str]:
        return sorted(kind[1] if self._names is None else kind[1] & self._names)

    def _sums(self, kind: Kind, names: Sequence[str], first: int, end: int) -> Statistics:
        """Return the sums over subjects of a kind."""
        subjects, dtype = self._people[kind], np.dtype(kind[2])
        shape = self.shape[0], end - first, self.shape[2]
        count = len(subjects.sources)
        accumulator = Accumulator(
            self._layout,
            shape,
            names,
            dtype,
            count,
            int(BATCH_SHARE * self.memory),
            templates=self._job.templates,
        )
        pack = int(PACK_SHARE * self.memory / self._pack_bytes(kind, end - first))
        for start in range(0, count, max(1, min(PACK, pack))):
            some = slice(start, start + max(1, min(PACK, pack)))
            accumulator.add(
                self._spool.read(subjects.sources[some], dtype, first, end),
                {n: self._spool.read(subjects.targets[n][some], dtype, first, end) for n in names},
                weights=subjects.weights[some],
            )
        accumulator.add(
            np.empty((0, shape[1], shape[2], shape[0]), dtype),
            dict.fromkeys(names, np.empty((0, shape[1], shape[2], shape[0]), dtype)),
            {name: subjects.digests[name] for name in names},
        )
        return accumulator.statistics()

    def _pack_bytes(self, kind: Kind, rows: int) -> int:
        """Return the bytes of somebody's rows: as read, and with channels apart or widened."""
        channels, _, width = self.shape
        copies = 1 + (8 if np.dtype(kind[2]).itemsize > 1 else 1)
        return channels * rows * width * copies * (1 + len(self._wanted(kind)))

    @property
    def making_bytes(self) -> int:
        """Bytes that it takes to have a row of the sums."""
        layout, (channels, _, width) = self._layout, self.shape
        each = channels // layout.channels(channels)
        found = [0] * self._job.folds
        kinds = [kind for kind in self._people if self._wanted(kind)]
        for kind in kinds:
            narrow = kind[2] == "uint8" and len(self._people[kind].sources) * each <= NARROW_SAMPLES
            planes = layout.planes(len(self._wanted(kind)))
            found[kind[0]] += planes * layout.channels(channels) * width * (4 if narrow else 8)
            if self._job.templates is not None:
                found[kind[0]] += 3 * 4 * 8 * channels * width  # kept, and made
        several = len({kind[0] for kind in kinds}) < len(kinds)  # kinds of a fold are added up
        deep = any(kind[2] != "uint8" for kind in kinds)
        return sum(found) * (1 + several + deep)

    def batch_bytes(self, rows: int) -> tuple[int, int]:
        """Return the least and the most bytes of pixels that rows of the sums are made from."""
        channels, _, width = self.shape
        pooled = self._layout.channels(channels)
        least = most = 0
        for kind, subjects in self._people.items():
            block = math.prod(samples_shape(pooled, rows, width, LEAST))
            block *= (1 + len(self._wanted(kind))) * (1 if kind[2] == "uint8" else 8)
            samples = min(BATCH, len(subjects.sources) * channels // pooled)
            least, most = max(least, block), max(most, -(-samples // LEAST) * block)
        return least, most


class Expected(Spooled):
    """What sums over subjects will take, as far as can be told before their images are decoded.

    Parameters
    ----------
    subjects : iterable of Subject
        Whose images are taken to have 8 bits, and to be black.
    job, memory
        As for `Spooled`.
    """

    def __init__(self, subjects: Iterable[Subject], job: Job, memory: int) -> None:
        super().__init__(job, memory, None)
        for subject in subjects:
            for fold, names in bins_of(subject, job):
                self._people.setdefault((fold, names, "uint8"), _Subjects()).sources.append(0)

    def _sums(self, kind: Kind, names: Sequence[str], first: int, end: int) -> Statistics:
        channels, _, width = self.shape
        black = np.zeros((1, end - first, width, channels), np.uint8)
        templates = self._job.templates
        weights: tuple[Weights, ...] = ()
        if templates is not None:
            shape = np.zeros((2, *templates.geometry.fields), np.int32)
            weights = (Weights(0, 0, 0, shape),)
        targets = dict.fromkeys(names, black)
        return statistics_of_arrays(black, targets, self._layout, templates, weights)
