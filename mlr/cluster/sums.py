"""Sums that lie on the workers, and what is made of them there."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy.typing as npt
from distributed import Client, Future

from mlr.cluster import shares, tasks
from mlr.cluster.crops import ALL, View, put_together
from mlr.cluster.errors import as_mlr_errors
from mlr.cluster.workers import Workers
from mlr.core.bands import LEAST_ROWS, Band, Cost, bands, check_memory, rows_within
from mlr.core.folds import Folds
from mlr.core.layout import Layout
from mlr.training.banded import ARRAY_SHARE
from mlr.utils.mapped import Results

Result = TypeVar("Result")

Piece = tuple[int, int, list[Future]]  # the sum of all is that of the rows first, ..., end - 1


class Pieces:
    """Sums on the workers, in pieces from top to bottom, each the sum of some parts.

    Whoever works on a band is sent its rows alone.

    Parameters
    ----------
    client : Client
        Connected to the workers.
    pieces : sequence of Piece
        The sums; their parts `Folds`, or `Lent` ones.
    files : sequence of file, optional
        Open as long as somebody may map the parts that lie in them.
    """

    def __init__(
        self, client: Client, pieces: Sequence[Piece], files: Sequence[IO[bytes]] = ()
    ) -> None:
        self._client, self._pieces, self._lent = client, pieces, bool(files)
        for file in files:
            weakref.finalize(self, file.close)

    @property
    def copies(self) -> int:
        """How many there are of a row in the memory of who works on it."""
        return 0 if self._lent else 1 + (len(self._pieces) > 1)

    def crop(self, view: View, band: Band, home: Mapping[str, Any]) -> Iterator[list[Future]]:
        """Yield the parts of each piece of a band's crop, for somebody who works on it."""
        # Sums that are not lent are cut where they lie, wherever that is: at once.
        submit = partial(self._client.submit, view.of, pure=False)
        if self._lent:
            submit = partial(submit, **home)
        for first, end, parts in self._pieces:
            rows = max(band.above, first) - first, min(band.below, end) - first
            if rows[0] < rows[1]:
                yield [submit(part, *rows) for part in parts]


class ClusterSums:
    """Sums that lie on the workers, as `mlr.core.bands.RowSums`.

    Parameters
    ----------
    workers : Workers
        Where they are.
    shape : tuple of int
        (channels, height, width) of the images.
    terms : sequence of Pieces
        What adds up to the sums.
    memory : int
        Bytes that a worker may take.
    folder : Path, optional
        Where large results take up room here.
    removed : sequence of str
        So many of the terms, the last ones, are taken out of the others; names for errors.
    view : View
        What is used of them.
    """

    def __init__(
        self,
        workers: Workers,
        shape: tuple[int, int, int],
        terms: Sequence[Pieces],
        memory: float,
        folder: Path | None,
        removed: Sequence[str] = (),
        view: View = ALL,
    ) -> None:
        self.workers, self.shape, self._terms, self._view = workers, shape, terms, view
        self.memory, self.folder, self._removed = memory, folder, removed
        self._results = Results(folder)

    @cached_property
    def head(self) -> Folds:
        """The sums of the first row; its shape is that of the whole images."""
        return Folds(tuple(replace(part, shape=self.shape) for part in self.rows(0, 1).parts))

    def rows(self, first: int, end: int) -> Folds:
        """Return the sums of some rows."""
        self.release()
        whole = [Band(first, end, first, end)]
        ((_, found),) = self._on_bands(_as_they_are, whole)
        return found

    def _on_bands(
        self, work: Callable[[Folds, Band], Result], bands: Sequence[Band]
    ) -> Iterator[tuple[Band, Result]]:
        homes = self.workers.homes(len(bands))
        with as_mlr_errors(), self.workers.shared(work) as shared:
            yield from self.workers.in_turn(
                (bands[k], self.begun(shared, bands[k], homes[k])) for k in _alternating(homes)
            )

    def begun(self, shared: Future, band: Band, home: Mapping[str, Any]) -> Future:
        """Return what becomes the result of shared work on a band, which somebody shall do."""
        submit = self.workers.submit
        crops = [list(term.crop(self._view, band, home)) for term in self._terms]
        counts = [[len(parts) for parts in crop] for crop in crops]
        parts = (part for crop in crops for parts in crop for part in parts)
        crop = submit(put_together, self._removed, counts, *parts, **home)
        return submit(tasks.on_band, shared, band, crop, **home)

    def only(self, expressions: Iterable[str]) -> ClusterSums:
        """Return the sums of the pairs of some expressions."""
        return self._changed(_view=replace(self._view, names=frozenset(expressions)))

    def restricted(self, layout: Layout) -> ClusterSums:
        """Return the sums with some of the planes."""
        return self._changed(_view=replace(self._view, layout=layout))

    def combined(
        self, others: Sequence[ClusterSums], removed: Sequence[tuple[str, ClusterSums]]
    ) -> ClusterSums:
        """Return the sum of these and others, without some; none of them a view."""
        every = [self, *others, *(sums for _, sums in removed)]
        return self._changed(
            _terms=[term for sums in every for term in sums._terms],
            _removed=[name for name, _ in removed],
            memory=min(sums.memory for sums in every),
        )

    def _changed(self, **changes: Any) -> ClusterSums:
        other = copy(self)
        other.__dict__.pop("head", None)
        other.__dict__.update(changes)
        return other

    @property
    def making_bytes(self) -> int:
        """Bytes that it takes a worker to have a row: each term as sent, and put together."""
        several = len(self._terms) > 1  # then their sum, and what is left of it
        return (sum(term.copies for term in self._terms) + 2 * several) * self.head.row_bytes

    def _work_bytes(self, rows: int, cost: Cost, halo: int) -> float:
        """Return the bytes of work on a band, or of having its crop, if that is more."""
        crop = min(rows + 2 * halo, self.shape[1])
        there = crop * self.head.row_bytes if self.making_bytes else 0  # or else it is mapped
        return max(crop * self.making_bytes, there + cost(rows))

    def least_memory(self, cost: Cost, halo: int = 0) -> float:
        """Return the least memory, in bytes, that leaves bands of a row."""
        return self._work_bytes(1, cost, halo) / shares.WORK

    def bands(self, cost: Cost, halo: int = 0) -> list[Band]:
        """Return bands for all workers, as high as their memory allows."""
        height = self.shape[1]
        rows = rows_within(
            shares.WORK * self.memory, height, lambda rows: self._work_bytes(rows, cost, halo)
        )
        if rows == 0:
            check_memory([(self, cost, halo)])
        each = -(-height // self.workers.count)
        if rows < each:  # a band less for some of the workers would leave them idle
            each = -(-height // (self.workers.count * -(-each // max(rows, 1))))
        return bands(height, max(1, min(rows, max(each, LEAST_ROWS))), halo)

    def each(
        self, work: Callable[[Folds, Band], Result], bands: Iterable[Band]
    ) -> Iterator[tuple[Band, Result]]:
        """Yield each band with what work makes of the sums of its crop, on the workers."""
        for found in self._on_bands(work, list(bands)):
            yield found
            self.release()

    def release(self) -> None:
        """Let go of what results on the disk have taken of the memory."""
        self._results.release()

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of zeros for a result, on the disk if it is large."""
        return self._results.zeros(shape, dtype, ARRAY_SHARE * self.memory)


def _alternating(homes: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of tasks so that each worker has some of the first ones."""
    before = Counter[str]()
    order = []
    for number, home in enumerate(homes):
        worker = home.get("workers", "")
        order.append((before[worker], number))
        before[worker] += 1
    return [number for _, number in sorted(order)]


def _as_they_are(sums: Folds, band: Band) -> Folds:
    return sums
