"""Sums that do not fit in memory: what is common to all ways to have some rows at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt

from mlr.core.bands import Band, Cost, WorkedOnHere, bands, check_memory, rows_within
from mlr.core.folds import Folds
from mlr.core.layout import Layout
from mlr.utils.mapped import Results
from mlr.utils.memory import give_back_freed

BATCH_SHARE = 0.25  # of the memory, for a batch of samples
PACK_SHARE = 0.05  # for what is read at a time
ARRAY_SHARE = 0.1  # for results; what is more lives on the disk
WORK_SHARE = 1 - PACK_SHARE - ARRAY_SHARE  # for all else


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
