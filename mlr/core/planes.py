"""Planes of statistics, sums over samples for each pixel, and their layout.

Planes of 8-bit images are int32 for up to `NARROW_SAMPLES` samples and int64 for more; planes of
16-bit and floating-point images are float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.receptive_field import ReceptiveField

Planes = npt.NDArray[Any]  # int32, int64 or float64

#: Data range of every dtype that images may have.
DATA_RANGE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0, "float64": 1.0}
TO_16_BITS = 257  # 65535 / 255, turns an 8-bit intensity into a 16-bit one
#: Number of products of 8-bit intensities whose sum fits in a 32-bit plane.
NARROW_SAMPLES = (2**31 - 1) // 255**2


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
        """Return the number of channels of the planes, given the number of the images."""
        return 1 if self.pooled else of_images

    def planes(self, expressions: int) -> int:
        """Return the number of planes of a group with this many expressions, for each channel.

        Lag planes and a sum for the sources; cross planes, a sum and squares for each expression.
        """
        return len(self.lags) + 1 + expressions * (len(self.receptive_field) + 2)

    def __str__(self) -> str:
        return f"{self.receptive_field}{', channels pooled' if self.pooled else ''}"


def plane_dtypes(data_range: float) -> tuple[npt.DTypeLike, ...]:
    """Return the dtypes that planes may have: integers for 8-bit images."""
    return (np.int32, np.int64) if data_range == DATA_RANGE["uint8"] else (np.float64,)


def integer_dtype(samples: int) -> npt.DTypeLike:
    """Return the dtype of planes of 8-bit images with this many samples."""
    return np.int32 if samples <= NARROW_SAMPLES else np.int64


def combined(parts: Sequence[Planes], samples: int, sign: int = 1) -> Planes:
    """Return the first planes plus, or minus, the others; the result has ``samples`` samples.

    Integers may overflow in between, as the result has as many bits as it needs.
    """
    dtype = np.float64 if parts[0].dtype.kind == "f" else integer_dtype(samples)
    operation = np.add if sign > 0 else np.subtract
    result = operation(parts[0], parts[1], dtype=dtype)
    for part in parts[2:]:
        operation(result, part, out=result)
    return result


def taken(planes: Planes, indices: Sequence[int]) -> Planes:
    """Return some planes of (channels, planes, height, width); `np.take` would copy all first."""
    result = np.empty((len(planes), len(indices), *planes.shape[2:]), planes.dtype)
    for k, index in enumerate(indices):
        result[:, k] = planes[:, index]
    return result
