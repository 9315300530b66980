"""Bands of rows: how an image is worked on that is too large for all of its sums at once.

A band is a crop of the images. Whatever is done to images and their sums is done to the rows of a
band and to some rows around, its halo, that it depends on; what comes out for the halo is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy.typing as npt

from mlr.errors import OptionError
from mlr.utils.memory import said

if TYPE_CHECKING:
    from mlr.core.folds import Folds
    from mlr.core.layout import Layout

LEAST_ROWS = 4  # in a band: fewer would mostly work on their halo

Result = TypeVar("Result")
Cost = Callable[[int], float]


@dataclass(frozen=True)
class Band:
    """Rows of an image, with their halo.

    Attributes
    ----------
    first, end : int
        The rows first, ..., end - 1.
    above, below : int
        The rows of the crop, above, ..., below - 1: those of the band and the halo, inside of the
        image.
    """

    first: int
    end: int
    above: int
    below: int

    @property
    def rows(self) -> slice:
        """The rows of the band in the image."""
        return slice(self.first, self.end)

    @property
    def inner(self) -> slice:
        """The rows of the band in its crop."""
        return slice(self.first - self.above, self.end - self.above)


def bands(height: int, rows: int, halo: int = 0) -> list[Band]:
    """Cut an image into bands of nearly equal height.

    Parameters
    ----------
    height : int
        Rows of the image.
    rows : int
        Rows of a band, at most.
    halo : int
        Rows above and below a band that it depends on.
    """
    count = -(-height // rows)
    ends = [height * k // count for k in range(count + 1)]
    return [
        Band(first, end, max(0, first - halo), min(height, end + halo))
        for first, end in pairwise(ends)
    ]


def rows_within(memory: float, height: int, cost: Cost) -> int:
    """Return the most rows of a band whose cost in bytes, which grows with them, fits; maybe 0."""
    low, high = 0, height
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= memory else (low, middle - 1)
    return low


class RowSums(Protocol):
    """Sums over the training pairs, in folds, of which some rows at a time can be had.

    `mlr.core.folds.Folds` are such sums with all rows in memory.
    """

    @property
    def head(self) -> Folds:
        """The sums of the first row at least: all that is known of the pairs besides the planes.

        Its shape is that of the whole images.
        """

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images."""

    def rows(self, first: int, end: int) -> Folds:
        """Return the sums of images of which there are only these rows.

        Where a product takes a pixel outside of these rows it is undefined.
        """

    def only(self, expressions: Iterable[str]) -> RowSums:
        """Return the sums of the pairs of some expressions."""

    def restricted(self, layout: Layout) -> RowSums:
        """Return the sums with some of the planes."""

    @property
    def making_bytes(self) -> int:
        """Bytes that it takes to have a row of the sums."""

    @property
    def memory(self) -> float:
        """Bytes that the sums and the work on them may take; infinite if it is no concern."""

    @property
    def folder(self) -> Path | None:
        """Where temporary files take up room; by default where the system puts them."""

    def least_memory(self, cost: Cost, halo: int = 0) -> float:
        """Return the least memory, in bytes, that leaves bands of a row, given as for `bands`."""

    def bands(self, cost: Cost, halo: int = 0) -> list[Band]:
        """Return bands that leave enough memory for work on them.

        Parameters
        ----------
        cost : function
            Bytes that the work takes for a band of so many rows, besides the sums themselves.
        halo : int
            Rows of the sums around a band that it needs.
        """

    def each(
        self, work: Callable[[Folds, Band], Result], bands: Iterable[Band]
    ) -> Iterator[tuple[Band, Result]]:
        """Yield each band with what work makes of the sums of its crop.

        If it is done elsewhere they come in any order.

        Parameters
        ----------
        work : function
            Depends on nothing but its arguments.
        bands : iterable of Band
            As `bands` returns them.
        """

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of zeros for a result, in memory or on the disk."""


class WorkedOnHere:
    """`RowSums` whose bands this process works on, one after the other."""

    def each(
        self: RowSums, work: Callable[[Folds, Band], Result], bands: Iterable[Band]
    ) -> Iterator[tuple[Band, Result]]:
        """Yield each band with what work makes of the sums of its crop."""
        for band in bands:
            yield band, work(self.rows(band.above, band.below), band)


#: Work on some sums: what it takes for a band of so many rows, in bytes, and its halo.
Work = tuple[RowSums, Cost, int]


def check_memory(works: Iterable[Work]) -> None:
    """Raise unless there is memory for each work on some sums.

    Parameters
    ----------
    works : iterable of Work
        At least one.

    Raises
    ------
    OptionError
        If there is not; it says how much there must be.
    """
    needs = [(sums.least_memory(cost, halo), sums.memory) for sums, cost, halo in works]
    least, memory = max(needs)
    if least > memory:
        raise OptionError(
            f"{said(memory)} of memory are too little for images and models of this size; "
            f"give at least {said(least)}"
        )
