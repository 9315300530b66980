"""The layout of statistics: which planes there are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlr.receptive_field import ReceptiveField


@dataclass(frozen=True)
class Layout:
    """Which sums over the training pairs are kept.

    Attributes
    ----------
    receptive_field : ReceptiveField
        The taps: one cross plane for each.
    lag_reach : int, optional
        Lag planes for all differences of up to so many pixels in each direction; by default for
        those of two taps.
    pooled : bool
        The channels of a pixel are samples alike, summed up in one plane.
    """

    receptive_field: ReceptiveField
    lag_reach: int | None = None
    pooled: bool = False

    @classmethod
    def of(cls, spec: Layout | ReceptiveField) -> Layout:
        """Return a layout as it is, or that of a receptive field: its taps and their lags."""
        return spec if isinstance(spec, Layout) else cls(spec)

    @cached_property
    def lags(self) -> npt.NDArray[np.int64]:
        """The differences (dy, dx) of the lag planes, int64 of shape (lags, 2).

        One of each pair d, -d: those with dy > 0, or dy == 0 and dx >= 0; in ascending order.
        """
        if self.lag_reach is None:
            return self.receptive_field.lag_table.lags
        reach = range(-self.lag_reach, self.lag_reach + 1)
        half = [(dy, dx) for dy in reach for dx in reach if dy > 0 or (dy == 0 and dx >= 0)]
        return np.array(half, dtype=np.int64)

    def channels(self, of_images: int) -> int:
        """Return how many planes there are of each kind for images of so many channels."""
        return 1 if self.pooled else of_images

    def planes(self, expressions: int) -> int:
        """Return how many planes so many expressions of the same sources have, of each channel.

        Lag planes and a sum for the sources; cross planes, a sum and squares for each expression.
        """
        return len(self.lags) + 1 + expressions * (len(self.receptive_field) + 2)

    def __str__(self) -> str:
        if self.lag_reach is None and not self.pooled:
            return str(self.receptive_field)
        wide = "" if self.lag_reach is None else f", lags up to {self.lag_reach} px"
        return f"{self.receptive_field}{wide}{', channels pooled' if self.pooled else ''}"
