"""The layout of statistics: which planes there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlr.core.receptive_field import ReceptiveField


@dataclass(frozen=True)
class Layout:
    """Which sums over the training pairs are kept.

    Attributes
    ----------
    receptive_field : ReceptiveField
        The taps: one cross plane for each.
    pooled : bool
        The channels of a pixel are samples alike, summed up in one plane.
    """

    receptive_field: ReceptiveField
    pooled: bool = False

    @classmethod
    def of(cls, spec: Layout | ReceptiveField) -> Layout:
        """Return a layout as it is, or that of a receptive field: its taps and their lags."""
        return spec if isinstance(spec, Layout) else cls(spec)

    @property
    def lags(self) -> npt.NDArray[np.int64]:
        """The differences (dy, dx) of the lag planes, those of two taps: int64, (lags, 2)."""
        return self.receptive_field.lag_table.lags

    def channels(self, of_images: int) -> int:
        """Return how many planes there are of each kind for images of so many channels."""
        return 1 if self.pooled else of_images

    def planes(self, expressions: int) -> int:
        """Return how many planes so many expressions of the same sources have, of each channel.

        Lag planes and a sum for the sources; cross planes, a sum and squares for each expression.
        """
        return len(self.lags) + 1 + expressions * (len(self.receptive_field) + 2)

    def __str__(self) -> str:
        return f"{self.receptive_field}{', channels pooled' if self.pooled else ''}"
