"""How bright faces are and how much contrast they have: of one image, and of a training set."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import face_share
from mlr.core.bands import Band, RowSums
from mlr.core.folds import Folds
from mlr.core.layout import Layout
from mlr.core.receptive_field import ReceptiveField
from mlr.core.statistics import SourceSums
from mlr.errors import ModelError

LEAST_GAIN = 0.05  # for a face without any contrast, so that nothing is divided by zero

Gains = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]


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
    def of_sums(cls, sums: RowSums) -> Exposure:
        """Return that of all source images together, of one channel if the channels are pooled."""
        layout, (channels, height, width) = sums.head.layout, sums.shape
        offsets = layout.receptive_field.offsets
        tap = (0, 0) if (0, 0) in offsets else offsets[0]
        sources = sums.restricted(Layout(ReceptiveField.of([tap]), pooled=layout.pooled))
        found: dict[tuple[int, str], _Source] = {}
        shares: list[Float] = []
        bands = sources.bands(lambda rows: 5 * 8 * width * rows)
        each = sources.each(partial(_shared, height=height), bands)
        for _, (share, folds) in sorted(each, key=lambda found: found[0].first):
            shares.append(share)
            for fold, groups in enumerate(folds):
                for place, (names, count, rows) in enumerate(groups):
                    for name in names:
                        part = found.setdefault((fold, name), _Source(count))
                        part.places.append(place)
                        part.rows.append(rows)
        # Expressions share their sources if they do in all rows.
        distinct = {(key[0], *found[key].places): found[key] for key in sorted(found)}
        samples = np.concatenate(shares).sum() * (channels if layout.pooled else 1)
        count = sum(part.count for part in distinct.values())
        totals = (np.concatenate(part.rows, axis=-1).sum(axis=-1) for part in distinct.values())
        mean, square = sum(totals) / (count * samples)
        deviation = np.sqrt(np.maximum(0, square - mean**2))
        return cls(tuple(mean.tolist()), tuple(deviation.tolist()))

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


@dataclass
class _Source:
    """Who shows an expression in a fold, and what they look like before.

    Attributes
    ----------
    count : int
        How many they are.
    places : list of int
        For each band, their place among the groups there.
    rows : list of ndarray of float64, shape (2, channels, rows)
        For each band, what `_Group` holds of it.
    """

    count: int
    places: list[int] = field(default_factory=list)
    rows: list[Float] = field(default_factory=list)


#: Expressions with the same sources, how many these are, and their intensities and squares,
#: summed over what counts in each row: (2, channels, rows).
_Group = tuple[list[str], int, Float]


def _shared(folds: Folds, band: Band, *, height: int) -> tuple[Float, list[list[_Group]]]:
    """Return how much counts in each row of a band, and the groups of each fold.

    Rows are summed up by themselves, so that they have the same sums in any band.
    """
    share = face_share(height, folds.shape[2], band.rows).astype(np.float64)
    squares_at = int(np.flatnonzero(~folds.layout.lags.any(axis=1))[0])

    def group(source: SourceSums, names: list[str], white: float) -> _Group:
        planes = (source.sums, 1 / white), (source.lags[:, squares_at], 1 / white**2)
        # One plane after the other, for they are large.
        sums = [[(share * p).sum(axis=1) * unit for p in some] for some, unit in planes]
        return names, source.count, np.array(sums)

    parts = folds.rows(band.inner.start, band.inner.stop).parts
    groups = [[group(*found, part.white) for found in part.groups()] for part in parts]
    return share.sum(axis=1), groups


_KEYS = ("brightness", "contrast")
