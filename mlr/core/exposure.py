"""Brightness and contrast of faces, in one image or in a training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import face_share
from mlr.core.bands import Band
from mlr.core.statistics import Statistics
from mlr.errors import ModelError

LEAST_GAIN = 0.05  # for a face without any contrast, so that nothing is divided by zero

Gains = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Exposure:
    """Mean and standard deviation of a face for each channel, weighted by `face_share`."""

    brightness: tuple[float, ...]  #: the means, in [0, 1]
    contrast: tuple[float, ...]  #: the standard deviations; of several images, over all pixels

    @classmethod
    def of_image(cls, image: npt.NDArray[Any], pooled: bool = False) -> Exposure:
        """Return the exposure of an aligned image (height, width, channels) in [0, 1].

        Pooled channels count as one.
        """
        share = face_share(*image.shape[:2])[..., None].astype(np.float64)
        axes = (0, 1, 2) if pooled else (0, 1)
        count = share.sum() * (image.shape[2] if pooled else 1)
        mean = np.atleast_1d((share * image).sum(axis=axes) / count)
        variance = np.atleast_1d((share * (image - mean) ** 2).sum(axis=axes) / count)
        return cls(tuple(mean.tolist()), tuple(np.sqrt(variance).tolist()))

    @classmethod
    def of_rows(cls, rows: Sequence[Float], share: Float, statistics: Statistics) -> Exposure:
        """Return the exposure of all source images together; pooled channels are one.

        Takes the `row_sums` of each band from top to bottom, `face_share` of the images, and
        statistics of any rows.
        """
        sums = np.concatenate(rows, axis=-1)
        samples = share.sum(axis=1).sum() * statistics.samples_per_pair
        count = sum(group.source.count for group in statistics.groups)
        mean, square = sum(group.sum(axis=-1) for group in sums) / (count * samples)
        deviation = np.sqrt(np.maximum(0, square - mean**2))
        return cls(tuple(mean.tolist()), tuple(deviation.tolist()))

    @classmethod
    def from_meta(cls, noted: Any, channels: int) -> Exposure:
        """Return the exposure in a model's metadata.

        Raises a `ModelError` unless it is one of this many channels, or of pooled channels.
        """
        try:
            brightness, contrast = (
                tuple(map(float, noted[key])) for key in ("brightness", "contrast")
            )
        except (TypeError, ValueError, KeyError):
            brightness = contrast = ()
        numbers = np.array(brightness + contrast)
        if not len(brightness) == len(contrast) in (1, channels) or not np.isfinite(numbers).all():
            raise ModelError(f"the model's exposure is {noted!r}, expected {channels} channels")
        return cls(brightness, contrast)

    def to(self, other: Exposure) -> tuple[Gains, Gains]:
        """Return gain and offset of each channel: other = gain * self + offset."""
        own, wanted = np.array(self.contrast), np.array(other.contrast)
        gain = np.where(own > 0, np.maximum(wanted / np.where(own > 0, own, 1), LEAST_GAIN), 1)
        offset = np.array(other.brightness) - gain * np.array(self.brightness)
        return gain.astype(np.float32), offset.astype(np.float32)


def row_sums(crop: Statistics, band: Band, share: Float) -> Float:
    """Return the sums of each row of a band, which are the same in any band.

    These are the intensities and squared intensities of the sources, weighted by `face_share`:
    float64, (groups, 2, channels, rows).
    """
    statistics = crop.rows(band.inner.start, band.inner.stop)
    share = share[band.rows]
    squares = int(np.flatnonzero(~statistics.layout.lags.any(axis=1))[0])
    sources = [group.source for group in statistics.groups]
    planes = [[source.sums, source.lags[:, squares]] for source in sources]
    units = [[[1 / statistics.data_range]], [[1 / statistics.data_range**2]]]
    return np.asarray((share * np.array(planes)).sum(axis=-1) * units)
