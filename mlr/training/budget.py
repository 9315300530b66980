"""The memory limit of a run, and bands and results that fit in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.bands import Band, RowSource, bands, rows_within
from mlr.core.statistics import Statistics
from mlr.errors import OptionError
from mlr.recipes.fit import Recipe
from mlr.utils.memory import format_bytes, mapped_zeros, release, return_freed_memory

LEAST_ROWS = 4  # of a band: fewer would mostly be halo
# If all statistics are in memory, solving may allocate this many bytes, or this share of theirs.
WORK, WORK_SHARE = 10 << 20, 0.24
# Otherwise, shares of the limit; the rest is for the allocator's overhead.
BAND_SHARE = 0.6  # the statistics of a band, loaded and solved
BATCH_SHARE = 0.15  # a mini-batch of pixels
ARRAY_SHARE = 0.1  # results; more are kept in a temporary file


@dataclass
class Budget:
    """The memory limit of a run."""

    memory: int  # bytes, in addition to the program's own
    folder: Path | None = None  # of temporary files; by default the system's
    _kept: int = 0
    _mapped: list[npt.NDArray[Any]] = field(default_factory=list)

    def bands(self, recipe: Recipe, source: RowSource) -> list[Band]:
        """Return the bands in which the statistics are solved."""
        head = source.head
        height, halo = head.shape[1], recipe.halo(head)
        if isinstance(source, Statistics):
            memory = max(WORK, WORK_SHARE * source.nbytes)
            rows = rows_within(memory, height, lambda rows: recipe.solving_bytes(head, rows))
            return bands(height, max(rows, LEAST_ROWS), halo)
        return self.bands_within(source, halo, lambda rows: recipe.solving_bytes(head, rows))

    def bands_within(
        self, source: RowSource, halo: int, cost: Callable[[int], float] = lambda rows: 0.0
    ) -> list[Band]:
        """Return bands that can be loaded, and processed at a cost in bytes for their rows."""
        height = source.head.shape[1]

        def needed(rows: int) -> float:
            return source.loading_bytes(min(rows + 2 * halo, height)) + cost(rows)

        rows = rows_within(BAND_SHARE * self.memory, height, needed)
        if rows == 0:
            raise OptionError(
                f"{format_bytes(self.memory)} of memory are too little for images and models of "
                f"this size; give at least {format_bytes(needed(1) / BAND_SHARE)}"
            )
        return_freed_memory()
        return bands(height, rows, halo)

    @property
    def batch_bytes(self) -> int:
        """Bytes for a mini-batch if the statistics are not in memory."""
        return int(BATCH_SHARE * self.memory)

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """Return zeros, in a temporary file if they are large."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self._kept + size <= ARRAY_SHARE * self.memory:
            self._kept += size
            return np.zeros(shape, dtype)
        self._mapped.append(mapped_zeros(shape, dtype, self.folder))
        return self._mapped[-1]

    def track(self, items: Iterable[Band]) -> Iterator[Band]:
        """Yield bands; after each, free the memory of results in temporary files."""
        for item in items:
            yield item
            for array in self._mapped:
                release(array)


def row_bytes(statistics: Statistics) -> int:
    """Return the bytes of a row of the planes."""
    rows = next((plane.shape[-2] for plane in statistics.planes()), 1)
    return statistics.nbytes // max(rows, 1)


def load_all(source: RowSource, budget: Budget) -> Statistics:
    """Return statistics with all rows, in a temporary file if they are large."""
    if isinstance(source, Statistics):
        return source
    layout, (channels, height, width) = source.head.layout, source.head.shape
    halo = int(max(np.abs(layout.receptive_field.taps[:, 0]).max(), layout.lags[:, 0].max()))
    result: Statistics | None = None
    for band in budget.track(budget.bands_within(source, halo)):
        rows = source.rows(band.above, band.below).rows(band.inner.start, band.inner.stop)
        if band.end - band.first == height:
            return rows
        if result is None:
            empty = rows.map_planes(
                lambda planes, *_: budget.zeros((*planes.shape[:-2], height, width), planes.dtype)
            )
            result = replace(empty, shape=(channels, height, width))
        for whole, part in zip(result.planes(), rows.planes(), strict=True):
            whole[..., band.rows, :] = part
        del rows  # before the next are loaded
    assert result is not None
    return result
