"""Similarity transforms (rotation, scale and shift), and images warped by them."""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image

from mlr.io.images import Pixels

Floats = npt.NDArray[np.float32]

REACH = 3  # pixels beyond the outlines of input and output that the filters read


class Box(NamedTuple):
    """A rectangle of pixels: rows from top to bottom, columns from left to right."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of these pixels in an image."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, margin: int, height: int, width: int) -> Box:
        """Return the box with a margin on each side, clipped to an image of this size."""
        top, bottom = max(0, self.top - margin), min(height, self.bottom + margin)
        return Box(top, bottom, max(0, self.left - margin), min(width, self.right + margin))


@dataclass(frozen=True)
class Similarity:
    """The map z -> factor z + shift of points z = x + iy, in pixels.

    The corner of an image is 0, the centre of its first pixel is 0.5 + 0.5i.
    """

    factor: complex  # scale and angle, not 0
    shift: complex

    @classmethod
    def of_two_points(
        cls, sources: tuple[complex, complex], targets: tuple[complex, complex]
    ) -> Similarity:
        """Return the similarity that maps two different points to two others."""
        factor = (targets[1] - targets[0]) / (sources[1] - sources[0])
        return cls(factor, targets[0] - factor * sources[0])

    def __call__(self, point: complex) -> complex:
        """Return the image of a point."""
        return self.factor * point + self.shift

    def __matmul__(self, first: Similarity) -> Similarity:
        """Return the map that applies ``first`` and then this one."""
        return Similarity(self.factor * first.factor, self(first.shift))

    @property
    def inverse(self) -> Similarity:
        """The inverse map."""
        return Similarity(1 / self.factor, -self.shift / self.factor)

    @property
    def scale(self) -> float:
        """Length of the image of a pixel's side."""
        return abs(self.factor)

    @property
    def degrees(self) -> float:
        """Angle of rotation; positive is clockwise on the screen, as y points down."""
        return math.degrees(cmath.phase(self.factor))

    def into(self, box: Box) -> Similarity:
        """Return the map to coordinates relative to the corner of a box."""
        return Similarity(1, -complex(box.left, box.top)) @ self

    def bounds(self, height: int, width: int) -> Box:
        """Return the smallest box that contains the mapped image of this size."""
        corners = [self(complex(x, y)) for x in (0, width) for y in (0, height)]
        y, x = [corner.imag for corner in corners], [corner.real for corner in corners]
        return Box(math.floor(min(y)), math.ceil(max(y)), math.floor(min(x)), math.ceil(max(x)))


def warp(pixels: Pixels, transform: Similarity, height: int, width: int) -> Floats:
    """Warp an image of shape (rows, columns, channels) by a similarity, without aliasing.

    Interpolation is bicubic. If the image shrinks, it is sampled more finely and then reduced with
    a Lanczos filter. Edge pixels repeat outside the image. Only the part that the result shows is
    copied. The result, of shape (height, width, channels), has the units of the input, neither
    rounded nor clipped.
    """
    back = transform.inverse
    border = REACH if back.scale > 1 else 0
    if border:
        back = (Similarity(1, complex(border, border)) @ transform).inverse
        height, width = height + 2 * border, width + 2 * border
    # Large reductions average boxes of pixels first, which leaves a factor from 2 to 3.
    box = max(1, math.floor(back.scale / 2))
    fine = max(1, math.ceil(back.scale / box - 1e-9))  # samples per pixel and axis
    top, bottom, left, right = back.bounds(height, width)
    margin = REACH * box
    top, left = top - margin, left - margin
    part = np.ix_(
        np.clip(np.arange(top, bottom + margin), 0, pixels.shape[0] - 1),
        np.clip(np.arange(left, right + margin), 0, pixels.shape[1] - 1),
    )
    to_part = Similarity(1 / box, -complex(left, top) / box) @ back @ Similarity(1 / fine, 0)
    a, b = to_part.factor.real, to_part.factor.imag
    affine = (a, -b, to_part.shift.real, b, a, to_part.shift.imag)
    size, method = (width * fine, height * fine), PIL.Image.Transform.AFFINE
    result = np.empty((height, width, pixels.shape[2]), np.float32)
    for channel in range(pixels.shape[2]):
        image: PIL.Image.Image = PIL.Image.fromarray(pixels[..., channel][part].astype(np.float32))
        if box > 1:
            image = image.reduce(box)
        image = image.transform(size, method, affine, PIL.Image.Resampling.BICUBIC)
        if fine > 1:
            image = image.resize((width, height), PIL.Image.Resampling.LANCZOS)
        result[..., channel] = np.asarray(image)
    return result[border : height - border, border : width - border]
