"""Sums read from files for some rows at a time, and added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mlr.core.bands import RowSums
from mlr.core.folds import Folds
from mlr.core.layout import Layout
from mlr.errors import DataError
from mlr.training.banded import Banded
from mlr.utils.mapped import release


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
