"""Coordinate grids, soft masks and painting.

Lengths are in face units: one unit is the side of the image, the origin is the midpoint between the
eyes, x points right and y down. Masks are polynomials of the coordinates rather than exponentials,
because they are faster and give the same bytes on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import EYES

Array = npt.NDArray[Any]  # of float32; colour images have the shape (3, height, width)

LIT = 0.92  # intensity of light on eyes and teeth
EYE_X = (EYES[1][0] - EYES[0][0]) / 2  # distance of an eye from the axis of the face


@dataclass(frozen=True)
class Grid:
    """The pixel centres of an image, or of a rectangular part."""

    x: Array  # shape (1, width)
    y: Array  # shape (height, 1)
    px: float  # side of a pixel
    box: tuple[slice, slice]  # position of the part in the image

    def of(self, image: Array) -> Array:
        """Return the view of this part of an image."""
        return image[..., *self.box]

    def moved(self, shift: tuple[float, float], scale: tuple[float, float] = (1, 1)) -> Grid:
        """Return the grid on which drawings are scaled about the origin, then shifted."""
        x, y = self.x * (1 / scale[0]) - shift[0], self.y * (1 / scale[1]) - shift[1]
        return Grid(x, y, self.px, self.box)

    def crop_side(self, side: int, near: float, far: float, y0: float, y1: float) -> Grid:
        """Return the part at a distance from the axis, on the left (-1) or right (1) side."""
        x0, x1 = (near, far) if side > 0 else (-far, -near)
        return self.crop(x0, x1, y0, y1)

    def crop(self, x0: float, x1: float, y0: float, y1: float) -> Grid:
        """Return the part inside the bounds, at least one pixel."""
        columns, rows = _span(self.x[0], x0, x1), _span(self.y[:, 0], y0, y1)
        return Grid(self.x[:, columns], self.y[rows], self.px, (rows, columns))


@dataclass
class Surface:
    """A surface to be lit."""

    height: Array  # in face units
    albedo: Array  # reflectance of each channel, 0 to 1
    open: Array  # share of the ambient light that arrives, 0 to 1
    gloss: Array

    def part(self, g: Grid) -> Surface:
        """Return a view of a part."""
        return Surface(g.of(self.height), g.of(self.albedo), g.of(self.open), g.of(self.gloss))


def _span(at: Array, start: float, stop: float) -> slice:
    """Return the indices of evenly spaced values from ``start`` to ``stop``, at least one."""
    n, first, last = at.size, float(at[0]), float(at[-1])
    per = (n - 1) / (last - first)
    i = min(max(ceil((start - first) * per), 0), n - 1)
    return slice(i, max(min(ceil((stop - first) * per), n), i + 1))


@lru_cache(maxsize=8)
def whole(size: int) -> Grid:
    """Return the grid of an image of ``size`` x ``size`` pixels."""
    centres = (np.arange(size) + 0.5) / size
    x = (centres - 0.5 * (EYES[0][0] + EYES[1][0])).astype(np.float32)[None, :]
    y = (centres - EYES[0][1]).astype(np.float32)[:, None]
    return Grid(x, y, 1.0 / size, (slice(0, size), slice(0, size)))


def bump(u: Array) -> Array:
    """Return a bell curve: close to exp(-u**2), exactly 0 beyond 2.83."""
    b = u * u  # operations in place are up to a fifth faster, here and below
    b *= -0.125
    b += 1
    return power_8(np.maximum(b, 0, out=b))


def power_8(a: Array) -> Array:
    """Return the eighth power, with the same bytes on every machine."""
    a = a * a
    a *= a
    a *= a
    return a


def blob(g: Grid, x: float, y: float, sx: float, sy: float) -> Array:
    """Return a soft spot with radii ``sx`` and ``sy`` around (``x``, ``y``)."""
    return bump((g.x - x) * (1 / sx)) * bump((g.y - y) * (1 / sy))


def ramp(d: Array, width: float) -> Array:
    """Return a linear edge: 0 where ``d`` < -width/2, 1 where ``d`` > width/2."""
    r = d * (1 / width)
    r += 0.5
    return np.minimum(np.maximum(r, 0, out=r), 1, out=r)


def smooth(d: Array, width: float) -> Array:
    """Return a `ramp` without kinks."""
    r = ramp(d, width)
    return r * r * (3.0 - 2.0 * r)


def band(y: Array, top: Array, bottom: Array, edge: float) -> Array:
    """Return a mask of the area between two curves, 0 where they meet."""
    m = ramp(y - top, edge)
    m *= ramp(bottom - y, edge)
    m *= np.clip((bottom - top) * (1 / edge), 0, 1)
    return m


def layer(colour: tuple[float, ...]) -> Array:
    """Return a colour as an array of shape (3, 1, 1)."""
    return np.asarray(colour, np.float32)[:, None, None]


def over(image: Array, mask: Array, colour: Array | tuple[float, ...]) -> None:
    """Paint a colour, or an image, through a mask onto an image, in place."""
    paint = layer(colour) if isinstance(colour, tuple) else colour
    image += mask * (paint - image)
