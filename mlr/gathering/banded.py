"""Sums that do not fit in memory: made, or read, for some rows at a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from mlr.data.mapped import Results, release
from mlr.data.pairs import Person
from mlr.data.spool import Spool
from mlr.data.stream import DecodedPerson
from mlr.errors import DataError
from mlr.folds import Folds, fold_of
from mlr.gathering.accumulate import (
    BATCH,
    LEAST,
    Accumulator,
    pair_digest,
    statistics_of_arrays,
)
from mlr.gathering.collect import Job, Kind, kinds_of, with_dtype
from mlr.kernels.pack import samples_shape
from mlr.layout import Layout
from mlr.running.bands import (
    Band,
    Cost,
    RowSums,
    WorkedOnHere,
    bands,
    check_memory,
    rows_within,
)
from mlr.running.memory import give_back_freed
from mlr.statistics import NARROW_SAMPLES, WHITE, Statistics, total

Result = TypeVar("Result")

BATCH_SHARE = 0.25  # of the memory, for a batch of samples
PACK_SHARE = 0.05  # for what is read at a time
ARRAY_SHARE = 0.1  # for results; what is more lives on the disk
WORK_SHARE = 1 - PACK_SHARE - ARRAY_SHARE  # for all else
PACK = 32  # people read at a time


class Banded(WorkedOnHere, ABC):
    """Row sums that are worked out when they are asked for.

    Parameters
    ----------
    shape : tuple of int
        (channels, height, width) of the images.
    memory : int
        Bytes that may be taken, by the sums and by the work on them.
    folder : Path, optional
        Where temporary files take up room.
    """

    def __init__(self, shape: tuple[int, int, int], memory: int, folder: Path | None) -> None:
        self.shape, self.folder = shape, folder
        self.memory: float = memory
        give_back_freed()
        self._results = Results(folder)

    @abstractmethod
    def rows(self, first: int, end: int) -> Folds:
        """Return the sums of images of which there are only these rows."""

    @abstractmethod
    def only(self, expressions: Iterable[str]) -> Banded:
        """Return the sums of the pairs of some expressions."""

    @abstractmethod
    def restricted(self, layout: Layout) -> Banded:
        """Return the sums with some of the planes."""

    @property
    @abstractmethod
    def making_bytes(self) -> int:
        """Bytes that it takes to have a row of the sums."""

    @cached_property
    def head(self) -> Folds:
        """The sums of the first row; its shape is that of the whole images."""
        return Folds(tuple(replace(part, shape=self.shape) for part in self.rows(0, 1).parts))

    def batch_bytes(self, rows: int) -> tuple[int, int]:
        """Return the least and the most bytes of pixels that rows of the sums are made from."""
        return 0, 0

    def bands(self, cost: Cost, halo: int = 0) -> list[Band]:
        """Return bands that leave enough memory for work on them.

        Raises
        ------
        OptionError
            If there are none.
        """
        height = self.shape[1]

        def all_of_it(rows: int) -> float:
            work, least, most = self._needed(rows, cost, halo)
            return work + max(least, min(most, BATCH_SHARE * self.memory))

        rows = rows_within(WORK_SHARE * self.memory, height, all_of_it)
        if rows == 0:
            check_memory([(self, cost, halo)])
        return bands(height, max(rows, 1), halo)

    def _needed(self, rows: int, cost: Cost, halo: int) -> tuple[float, int, int]:
        """Return the bytes that a band takes, and the least and the most for a batch of pixels."""
        crop = min(rows + 2 * halo, self.shape[1])
        return crop * self.making_bytes + cost(rows), *self.batch_bytes(crop)

    def least_memory(self, cost: Cost, halo: int = 0) -> float:
        """Return the least memory, in bytes, that leaves bands of a row, given as for `bands`."""
        work, least, most = self._needed(1, cost, halo)
        share = BATCH_SHARE / WORK_SHARE
        return max(work + least, min(work + most, work / (1 - share))) / WORK_SHARE

    @property
    def spare(self) -> float:
        """None: bands are as high as the memory allows."""
        return 0

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of zeros for a result, on the disk if it is large."""
        return self._results.zeros(shape, dtype, ARRAY_SHARE * self.memory)

    def _release(self) -> None:
        """Let go of what results on the disk have taken of the memory."""
        self._results.release()

    def _changed(self, **changes: Any) -> Self:
        """Return the sums with some attributes changed."""
        other = copy(self)
        other.__dict__.pop("head", None)
        other.__dict__.update(changes)
        return other


@dataclass
class _People:
    """Where the images of people of a kind are in a spool."""

    sources: list[int] = field(default_factory=list)
    targets: dict[str, list[int]] = field(default_factory=dict)
    digests: dict[str, int] = field(default_factory=dict)


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
        self._people: dict[Kind, _People] = {}
        self._names: frozenset[str] | None = None

    def add(self, person: DecodedPerson) -> None:
        """Keep somebody's images.

        Raises
        ------
        MlrError
            If the disk is full.
        """
        for kind, part in kinds_of(person, self._job.folds):
            people = self._people.setdefault(kind, _People())
            dtype = np.dtype(kind[2])
            people.sources.append(self._spool.add(with_dtype(part.source.pixels, dtype)))
            for name, image in part.targets.items():
                place = self._spool.add(with_dtype(image.pixels, dtype))
                people.targets.setdefault(name, []).append(place)
                digest = pair_digest(part.source.digest, image.digest, name)
                people.digests[name] = people.digests.get(name, 0) + digest

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
        empty = Statistics(self._layout, WHITE["uint8"], shape)
        return Folds(
            tuple(replace(total(found or [empty]), source=self._job.source) for found in parts)
        )

    def _wanted(self, kind: Kind) -> list[str]:
        return sorted(kind[1] if self._names is None else kind[1] & self._names)

    def _sums(self, kind: Kind, names: Sequence[str], first: int, end: int) -> Statistics:
        """Return the sums over people of a kind."""
        people, dtype = self._people[kind], np.dtype(kind[2])
        shape = self.shape[0], end - first, self.shape[2]
        count = len(people.sources)
        accumulator = Accumulator(
            self._layout, shape, names, dtype, count, int(BATCH_SHARE * self.memory)
        )
        pack = int(PACK_SHARE * self.memory / self._pack_bytes(kind, end - first))
        for start in range(0, count, max(1, min(PACK, pack))):
            some = slice(start, start + max(1, min(PACK, pack)))
            accumulator.add(
                self._spool.read(people.sources[some], dtype, first, end),
                {n: self._spool.read(people.targets[n][some], dtype, first, end) for n in names},
            )
        accumulator.add(
            np.empty((0, shape[1], shape[2], shape[0]), dtype),
            dict.fromkeys(names, np.empty((0, shape[1], shape[2], shape[0]), dtype)),
            {name: people.digests[name] for name in names},
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
            planes = len(layout.lags) + 1
            planes += len(self._wanted(kind)) * (len(layout.receptive_field) + 2)
            found[kind[0]] += planes * layout.channels(channels) * width * (4 if narrow else 8)
        several = len({kind[0] for kind in kinds}) < len(kinds)  # kinds of a fold are added up
        deep = any(kind[2] != "uint8" for kind in kinds)
        return sum(found) * (1 + several + deep)

    def batch_bytes(self, rows: int) -> tuple[int, int]:
        """Return the least and the most bytes of pixels that rows of the sums are made from."""
        channels, _, width = self.shape
        pooled = self._layout.channels(channels)
        least = most = 0
        for kind, people in self._people.items():
            block = math.prod(samples_shape(pooled, rows, width, LEAST))
            block *= (1 + len(self._wanted(kind))) * (1 if kind[2] == "uint8" else 8)
            samples = min(BATCH, len(people.sources) * channels // pooled)
            least, most = max(least, block), max(most, -(-samples // LEAST) * block)
        return least, most


class Expected(Spooled):
    """What sums over people will take, as far as can be told before their images are decoded.

    Parameters
    ----------
    people : iterable of Person
        Whose images are taken to have 8 bits, and to be black.
    job, memory
        As for `Spooled`.
    """

    def __init__(self, people: Iterable[Person], job: Job, memory: int) -> None:
        super().__init__(job, memory, None)
        for person in people:
            kind = fold_of(person.name, job.folds), frozenset(person.targets), "uint8"
            self._people.setdefault(kind, _People()).sources.append(0)

    def _sums(self, kind: Kind, names: Sequence[str], first: int, end: int) -> Statistics:
        channels, _, width = self.shape
        black = np.zeros((1, end - first, width, channels), np.uint8)
        return statistics_of_arrays(black, dict.fromkeys(names, black), self._layout)


class Mapped(Banded):
    """Sums in a file, of which some rows at a time are read.

    Parameters
    ----------
    folds : Folds
        All of them, their planes mapped to the file.
    memory, folder
        As for `Banded`.
    """

    def __init__(self, folds: Folds, memory: int, folder: Path | None) -> None:
        super().__init__(folds.shape, memory, folder)
        self._folds, self._layout = folds, folds.layout

    def only(self, expressions: Iterable[str]) -> Mapped:
        """Return the sums of the pairs of some expressions."""
        names = set(expressions)
        return self._changed(_folds=self._folds.only(names))

    def restricted(self, layout: Layout) -> Mapped:
        """Return the sums with some of the planes.

        Raises
        ------
        DataError
            If a plane is not there.
        """
        self._folds.rows(0, 1).restricted(layout)
        return self._changed(_layout=layout)

    def rows(self, first: int, end: int) -> Folds:
        """Return the sums of images of which there are only these rows."""
        self._release()
        some = self._folds.rows(first, end).restricted(self._layout)
        return Folds(tuple(part.changed(_in_memory, part.shape) for part in some.parts))

    def _release(self) -> None:
        super()._release()
        for part in self._folds.parts:
            for target in part.targets.values():
                release(target.sums)  # all are of one file

    @property
    def making_bytes(self) -> int:
        """Bytes that it takes to have a row of the sums."""
        return self.head.row_bytes


def _in_memory(planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return planes if planes.flags.owndata else planes.copy()


class Combined(Banded):
    """Sums added up, with others taken out.

    Parameters
    ----------
    added : sequence of RowSums
        At least one.
    removed : sequence of (name, RowSums)
        Of the same kind of images; the names are for errors.
    memory, folder
        As for `Banded`.
    """

    def __init__(
        self,
        added: Sequence[RowSums],
        removed: Sequence[tuple[str, RowSums]],
        memory: int,
        folder: Path | None,
    ) -> None:
        super().__init__(added[0].shape, memory, folder)
        self._added, self._removed = added, removed

    def _each(self, change: Callable[[RowSums], RowSums]) -> Combined:
        return self._changed(
            _added=[change(sums) for sums in self._added],
            _removed=[(name, change(sums)) for name, sums in self._removed],
        )

    def only(self, expressions: Iterable[str]) -> Combined:
        """Return the sums of the pairs of some expressions."""
        names = set(expressions)
        return self._each(lambda sums: sums.only(names & set(sums.head.expressions)))

    def restricted(self, layout: Layout) -> Combined:
        """Return the sums with some of the planes."""
        return self._each(lambda sums: sums.restricted(layout))

    def rows(self, first: int, end: int) -> Folds:
        """Return the sums of images of which there are only these rows.

        Raises
        ------
        DataError
            If there are not all pairs that are to be taken out.
        """
        self._release()
        result = reduce(add, (sums.rows(first, end) for sums in self._added))
        for name, sums in self._removed:
            try:
                result = result - sums.rows(first, end)
            except DataError as error:
                raise DataError(f"{name}: {error}") from error
        return result

    @property
    def making_bytes(self) -> int:
        """Bytes that it takes to have a row of the sums."""
        terms = [*self._added, *(sums for _, sums in self._removed)]
        result = max(sums.head.row_bytes for sums in terms)
        return max(sums.making_bytes for sums in terms) + 4 * result

    def batch_bytes(self, rows: int) -> tuple[int, int]:
        """Return the least and the most bytes of pixels that rows of the sums are made from."""
        terms = [*self._added, *(sums for _, sums in self._removed)]
        found = [sums.batch_bytes(rows) for sums in terms if isinstance(sums, Banded)]
        return max((least for least, _ in found), default=0), max(
            (most for _, most in found), default=0
        )


def combined(
    added: Sequence[RowSums],
    removed: Sequence[tuple[str, RowSums]],
    memory: int,
    folder: Path | None,
) -> RowSums:
    """Return sums added up, with others taken out: at once if there are few, or all in memory.

    Parameters
    ----------
    added : sequence of RowSums
        At least one.
    removed : sequence of (name, RowSums)
        Of the same kind; the names are for errors.
    memory, folder
        As for `Banded`.

    Raises
    ------
    DataError
        If there are not all pairs that are to be taken out.
    """
    if len(added) == 1 and not removed:
        return added[0]
    sums = Combined(added, removed, memory, folder)
    terms = [*added, *(part for _, part in removed)]
    there = [part.nbytes for part in terms if isinstance(part, Folds)]
    if len(there) == len(terms) and sum(there) + 2 * max(there) <= memory:
        return sums.rows(0, sums.shape[1])
    sums.memory -= sum(there)
    return sums
