"""Bands of rows, in which statistics that do not fit in memory are processed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mlr.core.statistics import Statistics


class RowSource(Protocol):
    """Statistics that are read some rows at a time; `Statistics` in memory are one, too."""

    @property
    def head(self) -> Statistics:
        """The statistics of the first rows at least, with the shape of the whole images."""

    def rows(self, first: int, end: int) -> Statistics:
        """Return the statistics of the rows first, ..., end - 1.

        Products with pixels of other rows are undefined.
        """

    def loading_bytes(self, rows: int) -> float:
        """Return the bytes that `rows` allocates for this many rows."""


@dataclass(frozen=True)
class Band:
    """The rows first, ..., end - 1 of an image of some height, and of their crop.

    The crop, the rows above, ..., below - 1, holds the band and its halo inside the image.
    """

    first: int
    end: int
    above: int
    below: int
    height: int

    @property
    def rows(self) -> slice:
        """The rows of the band in the image."""
        return slice(self.first, self.end)

    @property
    def inner(self) -> slice:
        """The rows of the band in its crop."""
        return slice(self.first - self.above, self.end - self.above)


def bands(height: int, rows: int, halo: int = 0) -> list[Band]:
    """Cut an image into bands of nearly equal height, of at most ``rows`` rows and with a halo."""
    count = -(-height // rows)
    ends = [height * k // count for k in range(count + 1)]
    return [
        Band(first, end, max(0, first - halo), min(height, end + halo), height)
        for first, end in pairwise(ends)
    ]


def rows_within(memory: float, height: int, cost: Callable[[int], float]) -> int:
    """Return the most rows, at most the height, whose cost in bytes fits; 0 if none do.

    The cost grows with the rows.
    """
    return bisect_right(range(1, height + 1), memory, key=cost)
