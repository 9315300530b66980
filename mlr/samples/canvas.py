"""Coordinate grid, soft masks and paint: the drawing tools of the sample faces.

Everything is measured in face units: one unit is the side of the picture, the origin is the
midpoint between the eyes, x grows to the right and y downwards.  Masks are polynomials of these
coordinates rather than exponentials, because they are faster and round alike on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import EYES

Array = npt.NDArray[Any]
"""A float32 array; layers are planar, (3, height, width)."""

EYE_X = (EYES[1][0] - EYES[0][0]) / 2
"""Distance of an eye from the axis of the face, in face units."""


@dataclass(frozen=True)
class Grid:
    """A rectangle of pixel centres: ``x`` is (1, width), ``y`` (height, 1), ``px`` a pixel's side.

    ``box`` is the position of the rectangle in the whole picture.
    """

    x: Array
    y: Array
    px: float
    box: tuple[slice, slice]

    def of(self, picture: Array) -> Array:
        """Return the view of these pixels in a whole picture, or in one of several layers."""
        return picture[..., *self.box]

    def moved(self, shift: tuple[float, float], scale: tuple[float, float] = (1, 1)) -> Grid:
        """Return the grid on which everything appears shifted, after scaling about the origin."""
        x, y = self.x * (1 / scale[0]) - shift[0], self.y * (1 / scale[1]) - shift[1]
        return Grid(x, y, self.px, self.box)

    def crop_side(self, side: int, near: float, far: float, y0: float, y1: float) -> Grid:
        """Return the part from ``near`` to ``far`` of the axis, at the left (-1) or right (1)."""
        x0, x1 = (near, far) if side > 0 else (-far, -near)
        return self.crop(x0, x1, y0, y1)

    def crop(self, x0: float, x1: float, y0: float, y1: float) -> Grid:
        """Return the part of the grid inside the given bounds (never empty)."""
        cols = _span(self.x[0], x0, x1)
        rows = _span(self.y[:, 0], y0, y1)
        return Grid(self.x[:, cols], self.y[rows], self.px, (rows, cols))


@dataclass
class Surface:
    """What is lit: relief in face units, reflectance (3, h, w), occlusion and gloss."""

    height: Array
    albedo: Array
    open: Array  # share of the surrounding light that arrives, 0 to 1
    gloss: Array

    def part(self, g: Grid) -> Surface:
        """Return the view of a part of a whole surface."""
        return Surface(g.of(self.height), g.of(self.albedo), g.of(self.open), g.of(self.gloss))


def _span(at: Array, start: float, stop: float) -> slice:
    """Return which of the evenly spaced values lie from ``start`` to ``stop``, at least one."""
    n, first, last = at.size, float(at[0]), float(at[-1])
    per = (n - 1) / (last - first)
    i = min(max(ceil((start - first) * per), 0), n - 1)
    return slice(i, max(min(ceil((stop - first) * per), n), i + 1))


@lru_cache(maxsize=8)
def whole(size: int) -> Grid:
    """Return the grid of a whole picture of ``size`` by ``size`` pixels."""
    centres = (np.arange(size) + 0.5) / size
    x = (centres - 0.5 * (EYES[0][0] + EYES[1][0])).astype(np.float32)[None, :]
    y = (centres - EYES[0][1]).astype(np.float32)[:, None]
    return Grid(x, y, 1.0 / size, (slice(0, size), slice(0, size)))


def bump(u: Array) -> Array:
    """Bell curve of ``u``: 1 at zero, close to exp(-u**2), exactly 0 beyond 2.83."""
    b = u * u
    b *= -0.125
    b += 1.0
    np.maximum(b, 0.0, out=b)
    b *= b
    b *= b
    b *= b
    return b


def blob(g: Grid, x: float, y: float, sx: float, sy: float) -> Array:
    """Soft spot of radii ``sx``, ``sy`` around (``x``, ``y``)."""
    return bump((g.x - x) * (1 / sx)) * bump((g.y - y) * (1 / sy))


def ramp(d: Array, width: float) -> Array:
    """Straight soft edge: 0 where ``d`` < -width/2, 1 where ``d`` > width/2."""
    r = d * (1 / width)
    r += 0.5
    np.maximum(r, 0.0, out=r)
    np.minimum(r, 1.0, out=r)
    return r


def smooth(d: Array, width: float) -> Array:
    """Soft edge like :func:`ramp`, without its kinks."""
    r = ramp(d, width)
    return r * r * (3.0 - 2.0 * r)


def band(y: Array, top: Array, bottom: Array, edge: float) -> Array:
    """Mask of what lies between two curves; vanishes where they meet."""
    m = ramp(y - top, edge)
    m *= ramp(bottom - y, edge)
    m *= np.clip((bottom - top) * (1 / edge), 0.0, 1.0)
    return m


def layer(colour: tuple[float, ...]) -> Array:
    """Return a colour as a layer (3, 1, 1)."""
    return np.asarray(colour, np.float32)[:, None, None]


def over(image: Array, mask: Array, colour: Array | tuple[float, ...]) -> None:
    """Paint ``colour`` (a triple or a planar layer) through ``mask`` onto ``image``, in place."""
    paint = layer(colour) if isinstance(colour, tuple) else colour
    image += mask * (paint - image)
