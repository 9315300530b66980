"""The layout of statistics: which planes they hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlr.core.receptive_field import ReceptiveField


@dataclass(frozen=True)
class Layout:
    """Which planes statistics hold."""

    receptive_field: ReceptiveField  #: one cross plane for each tap
    pooled: bool = False  #: the channels of a pixel are samples of one plane

    @classmethod
    def of(cls, spec: Layout | ReceptiveField) -> Layout:
        """Return the layout of a receptive field, or a layout unchanged."""
        return spec if isinstance(spec, Layout) else cls(spec)

    @property
    def lags(self) -> npt.NDArray[np.int64]:
        """The lags (dy, dx), differences of two taps: int64, shape (lags, 2)."""
        return self.receptive_field.lag_table.lags

    def channels(self, of_images: int) -> int:
        """Return the number of channels of the planes, given that of the images."""
        return 1 if self.pooled else of_images

    def planes(self, expressions: int) -> int:
        """Return the number of planes of a group with this many expressions, for each channel.

        Lag planes and a sum for the sources; cross planes, a sum and squares for each expression.
        """
        return len(self.lags) + 1 + expressions * (len(self.receptive_field) + 2)

    def __str__(self) -> str:
        return f"{self.receptive_field}{', channels pooled' if self.pooled else ''}"
