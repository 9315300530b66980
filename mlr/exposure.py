"""How bright faces are and how much contrast they have: of one image, and of a training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.data.alignment import face_share
from mlr.errors import ModelError
from mlr.folds import joined
from mlr.layout import Layout
from mlr.receptive_field import ReceptiveField
from mlr.running.bands import RowSums
from mlr.statistics import Statistics

LEAST_GAIN = 0.05  # for a face without any contrast, so that nothing is divided by zero

Gains = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Exposure:
    """Mean and standard deviation of the intensities of a face, for each channel.

    Pixels count as much as `face_share` says.

    Attributes
    ----------
    brightness : tuple of float
        The means, in [0, 1].
    contrast : tuple of float
        The standard deviations; of several images, over all their pixels together.
    """

    brightness: tuple[float, ...]
    contrast: tuple[float, ...]

    @classmethod
    def of_image(cls, image: npt.NDArray[Any], pooled: bool = False) -> Exposure:
        """Return that of an aligned image.

        Parameters
        ----------
        image : ndarray of float, shape (height, width, channels)
            Intensities in [0, 1].
        pooled : bool
            Take the channels together as one.
        """
        share = face_share(*image.shape[:2])[..., None].astype(np.float64)
        axes = (0, 1, 2) if pooled else (0, 1)
        count = share.sum() * (image.shape[2] if pooled else 1)
        mean = np.atleast_1d((share * image).sum(axis=axes) / count)
        variance = np.atleast_1d((share * (image - mean) ** 2).sum(axis=axes) / count)
        return cls(tuple(mean.tolist()), tuple(np.sqrt(variance).tolist()))

    @classmethod
    def of_statistics(cls, parts: Sequence[Statistics]) -> Exposure:
        """Return that of all source images together, from their sums.

        Of one channel if the channels are pooled.
        """
        first = parts[0]
        share = face_share(*first.shape[1:]).astype(np.float64)
        squares_at = int(np.flatnonzero(~first.layout.lags.any(axis=1))[0])
        groups = [(s, part.white) for part in parts for s, _ in part.groups()]
        samples = first.shape[0] if first.layout.pooled else 1
        count = sum(s.count for s, _ in groups) * samples * share.sum()
        mean = sum(_shared(share, s.sums) / white for s, white in groups) / count
        squares = [_shared(share, s.lags[:, squares_at]) / w**2 for s, w in groups]
        deviation = np.sqrt(np.maximum(0, sum(squares) / count - mean**2))
        return cls(tuple(mean.tolist()), tuple(deviation.tolist()))

    @classmethod
    def of_sums(cls, sums: RowSums) -> Exposure:
        """Return that of all source images together, from sums of which some rows can be had."""
        taps = sums.head.layout.receptive_field.offsets
        layout = Layout(ReceptiveField.of(taps[:1]), pooled=sums.head.layout.pooled)
        return cls.of_statistics(joined(sums.restricted(layout)).parts)

    @classmethod
    def from_meta(cls, noted: Any, channels: int) -> Exposure:
        """Return what a model's metadata says of its training images.

        Raises
        ------
        ModelError
            If it is not an exposure of so many channels, or of one for all of them.
        """
        try:
            brightness, contrast = (tuple(map(float, noted[key])) for key in _KEYS)
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


def _shared(share: npt.NDArray[np.float64], planes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the sum over each plane of what counts; one after the other, for they are large."""
    return np.array([(share * plane).sum() for plane in planes])


_KEYS = ("brightness", "contrast")
