"""Moments that are made once, band by band, and read again for each question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import overload

from mlr.data.spool import RowFile, RowMemory
from mlr.errors import MlrError
from mlr.receptive_field import ReceptiveField
from mlr.recipes.moments import Moments, planes_of

IN_MEMORY = 1 << 20  # bytes of moments that are not worth a file


@dataclass(frozen=True)
class Kept:
    """Where all rows of the moments of a fold are.

    Attributes
    ----------
    receptive_field : ReceptiveField
        The taps.
    margin : int
        How far the frame extends beyond the image, in pixels.
    expressions : tuple of str
        Names of the targets.
    samples : float
        Number of samples.
    rows : RowFile or RowMemory
        Their planes.
    """

    receptive_field: ReceptiveField
    margin: int
    expressions: tuple[str, ...]
    samples: float
    rows: RowFile | RowMemory

    def write(self, first: int, some: Moments) -> None:
        """Keep rows of the frame, from the first on."""
        stacks = (plane.reshape(-1, *plane.shape[-2:]) for plane in some.planes)
        self.rows.write(first, chain.from_iterable(stacks))

    def read(self, first: int, end: int) -> Moments:
        """Return the rows first, ..., end - 1 of the frame."""
        return Moments.of(
            self.receptive_field,
            self.margin,
            self.expressions,
            self.samples,
            self.rows.read(first, end),
        )


class Reading(Sequence[Moments]):
    """Some rows of each fold, read whenever they are asked for.

    Parameters
    ----------
    folds : sequence of Kept
        Of the same expressions.
    first, end : int
        The rows first, ..., end - 1 of the frame.
    """

    def __init__(self, folds: Sequence[Kept], first: int, end: int) -> None:
        self._folds, self._first, self._end = folds, first, end

    def __len__(self) -> int:
        return len(self._folds)

    @overload
    def __getitem__(self, place: int) -> Moments: ...

    @overload
    def __getitem__(self, place: slice) -> Reading: ...

    def __getitem__(self, place: int | slice) -> Moments | Reading:
        if isinstance(place, slice):
            return Reading(self._folds[place], self._first, self._end)
        return self._folds[place].read(self._first, self._end)


def room_for(
    field: ReceptiveField, each: int, size: tuple[int, int], folder: Path | None, spare: float
) -> RowFile | RowMemory:
    """Return room for the moments of a fold: on the disk, or in memory if there is none.

    Parameters
    ----------
    field : ReceptiveField
        The taps.
    each : int
        How many expressions.
    size : tuple of int
        (height, width) of the frame.
    folder : Path, optional
        Where a file takes up room.
    spare : float
        Bytes that may be kept in memory.

    Raises
    ------
    MlrError
        If there is room in neither.
    """
    shape = planes_of(field, each), *size
    wanted = 8 * shape[0] * shape[1] * shape[2]
    if wanted <= min(IN_MEMORY, spare):
        return RowMemory(shape)
    try:
        return RowFile(shape, folder)
    except MlrError:
        if wanted > spare:
            raise
        return RowMemory(shape)
