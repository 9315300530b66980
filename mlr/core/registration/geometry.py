"""Position of the face in aligned images: weights and masks, relative to the eyes.

Shapes are given for the canonical crop, with the eyes at (.32, .36) and (.68, .36) of its sides;
for other crops they are moved and scaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import EYES, Eyes
from mlr.core.regions import Region, in_face

SIDE = 128  # pixels of the shorter side of the images that features are taken from
EDGE = 0.4  # over which ellipses of regions fade, in their half-axes
LEVEL, MIDDLE = 0.53, 0.12  # border of upper and lower face, and the height over which it fades
ASIDE = 0.01  # of the width: a face farther from the middle is not flipped

Floats = npt.NDArray[np.float32]


def feature_size(height: int, width: int) -> tuple[int, int]:
    """Return the size of the image that the features of one of this size are taken from.

    The shorter side has 128 px, the longer one a multiple of 4.
    """
    shorter = min(height, width)
    tall, wide = (4 * max(1, round(SIDE * side / shorter / 4)) for side in (height, width))
    return tall, wide


@dataclass(frozen=True)
class Geometry:
    """Position of the face in images of one size."""

    size: tuple[int, int]  #: height and width of the images, in pixels
    eyes: Eyes = EYES  #: centres, left and right as seen, (x, y) as fractions of the sides

    @property
    def features(self) -> tuple[int, int]:
        """Height and width of the images that features are taken from."""
        return feature_size(*self.size)

    @property
    def fields(self) -> tuple[int, int]:
        """Height and width of fields."""
        tall, wide = self.features
        return tall // 2, wide // 2

    @property
    def symmetric(self) -> bool:
        """Whether the face is in the middle of the images, so that flipping keeps it there."""
        (x0, _), (x1, _) = self.eyes
        return abs(x0 + x1 - 1) < ASIDE

    def side(self, width: int) -> float:
        """Return the side of the canonical crop, in pixels of a grid with this many columns."""
        (x0, _), (x1, _) = self.eyes
        return abs(x1 - x0) * width / (EYES[1][0] - EYES[0][0])

    def canonical(self, height: int, width: int) -> tuple[Floats, Floats]:
        """Return the positions of pixels in the canonical crop, as fractions of its side.

        These are y of shape (height, 1) and x of shape (1, width), for a grid of this size that
        covers the image.
        """
        (x0, y0), (x1, y1) = self.eyes
        tall, wide = self.size
        side = self.side(wide)
        y = EYES[0][1] + (np.arange(height) / height - (y0 + y1) / 2) * (tall / side)
        x = 0.5 + (np.arange(width) / width - (x0 + x1) / 2) * (wide / side)
        return y.astype(np.float32)[:, None], x.astype(np.float32)[None]

    def centres(self, height: int, width: int) -> tuple[Floats, Floats]:
        """Return `canonical` for the centres of pixels, so that masks are symmetric."""
        y, x = self.canonical(2 * height, 2 * width)
        return y[1::2], x[:, 1::2]

    def weight(self, height: int, width: int) -> Floats:
        """Return the weight of each pixel in registration, from .03 to 1, (height, width)."""
        y, x = self.canonical(height, width)
        weight = 1.5 - ((y - 0.55) / 0.46) ** 2 - ((x - 0.5) / 0.36) ** 2
        return np.clip(weight, 0.03, 1).astype(np.float32)

    def oval(self, height: int, width: int) -> Region:
        """Return which pixels belong to the face, (height, width)."""
        return in_face(*self.canonical(height, width))

    def mask(self, height: int, width: int) -> Floats:
        """Return the share of the change for each pixel of the frame, 0 to 1, (height, width)."""
        y, x = self.centres(height, width)
        radius = np.sqrt(((y - 0.55) / 0.46) ** 2 + ((x - 0.5) / 0.37) ** 2)
        return _smooth((1 - radius) / 0.16 + 0.5)

    def regions(self, names: tuple[str, ...], height: int, width: int) -> Floats:
        """Return how much each pixel of the frame belongs to regions, 0 to 1, (height, width).

        Without names it is 1 everywhere.
        """
        y, x = self.centres(height, width)
        shares = [REGIONS[name](y, x) + np.zeros((height, width)) for name in names]
        whole = np.max(shares, axis=0) if shares else np.ones((height, width))
        return whole.astype(np.float32)


def _inside(y: Floats, x: Floats, centre: float, half_axes: tuple[float, float]) -> Floats:
    """Return 1 in an ellipse in the middle of the face, fading to 0 across its edge."""
    radius = np.hypot((y - centre) / half_axes[0], (x - 0.5) / half_axes[1])
    return _smooth((1 - radius) / EDGE + 0.5)


def _smooth(share: npt.NDArray[Any]) -> Floats:
    share = np.clip(share, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


#: Parts of the face in the canonical crop, by name: functions of y and x.
REGIONS = {
    "mouth": lambda y, x: _inside(y, x, 0.76, (0.19, 0.31)),
    "eyes": lambda y, x: _inside(y, x, 0.385, (0.10, 0.42)),
    "brows": lambda y, x: _inside(y, x, 0.24, (0.11, 0.42)),
    "lower": lambda y, x: _smooth((y - LEVEL) / MIDDLE + 0.5),
    "upper": lambda y, x: _smooth((LEVEL - y) / MIDDLE + 0.5),
}


@lru_cache(16)
def mask_of(geometry: Geometry, size: tuple[int, int], regions: tuple[str, ...]) -> Floats:
    """Return the share of a change that each pixel of a frame of this size gets, 0 to 1."""
    return geometry.mask(*size) * geometry.regions(regions, *size)


@lru_cache(8)
def weights_and_oval(
    geometry: Geometry,
) -> tuple[tuple[Floats, Floats, Floats], npt.NDArray[np.bool_]]:
    """Return the weights at a quarter, half and all of the features' size, and the oval at half."""
    tall, wide = geometry.features
    whole = geometry.weight(tall, wide)
    half = whole.reshape(tall // 2, 2, wide // 2, 2).mean((1, 3))
    quarter = half.reshape(tall // 4, 2, wide // 4, 2).mean((1, 3))
    levels = tuple(np.ascontiguousarray(level, np.float32) for level in (quarter, half, whole))
    return (levels[0], levels[1], levels[2]), geometry.oval(tall // 2, wide // 2)
