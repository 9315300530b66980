"""Similarities of the plane (rotation, scale, shift), and images warped by them."""

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

REACH = 3  # pixels beyond the outline that the filters read, of the input and of the result


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


@dataclass(frozen=True)
class Similarity:
    """The map z -> factor z + shift of points z = x + iy, in pixels.

    The corner of an image is 0, the centre of its first pixel is 0.5 + 0.5i.

    Attributes
    ----------
    factor : complex
        Scale and angle; not zero.
    shift : complex
        Image of the corner.
    """

    factor: complex
    shift: complex

    @classmethod
    def of_two_points(
        cls, sources: tuple[complex, complex], targets: tuple[complex, complex]
    ) -> Similarity:
        """Return the similarity that maps two points to two others.

        For two points the least-squares solution of Umeyama (1991) is exact, and is this quotient.
        """
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
        """Angle of rotation, clockwise as seen, for y points down."""
        return math.degrees(cmath.phase(self.factor))

    def into(self, box: Box) -> Similarity:
        """Return the same map to the coordinates of a box of the result."""
        return Similarity(1, -complex(box.left, box.top)) @ self

    def bounds(self, height: int, width: int) -> Box:
        """Return the smallest box that holds a whole image of this size after the map."""
        corners = [self(complex(x, y)) for x in (0, width) for y in (0, height)]
        y, x = [corner.imag for corner in corners], [corner.real for corner in corners]
        return Box(math.floor(min(y)), math.ceil(max(y)), math.floor(min(x)), math.ceil(max(x)))


def warp(pixels: Pixels, transform: Similarity, height: int, width: int) -> Floats:
    """Return an image under a similarity, without aliasing.

    Parameters
    ----------
    pixels : ndarray of uint8, uint16 or float32, shape (rows, columns, channels)
        The image; beyond its edges it repeats the pixels there.
    transform : Similarity
        From its coordinates to those of the result.
    height, width : int
        Size of the result, in pixels.

    Returns
    -------
    ndarray of float32, shape (height, width, channels)
        In the units of the input, neither rounded nor clipped. Bicubic; where the image shrinks, it
        is sampled more finely first and then reduced with a Lanczos filter. Memory depends on the
        part of the image that is seen, not on the whole.
    """
    back = transform.inverse
    around = REACH if back.scale > 1 else 0
    if around:
        back = (Similarity(1, complex(around, around)) @ transform).inverse
        height, width = height + 2 * around, width + 2 * around
    # A large reduction starts with means of whole boxes, which leave a factor from 2 to 3.
    box = max(1, math.floor(back.scale / 2))
    fine = max(1, math.ceil(back.scale / box - 1e-9))  # samples for each pixel, each way
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
    result = np.empty((height, width, pixels.shape[2]), np.float32)
    for channel in range(pixels.shape[2]):
        image: PIL.Image.Image = PIL.Image.fromarray(pixels[..., channel][part].astype(np.float32))
        if box > 1:
            image = image.reduce(box)
        image = image.transform(
            (width * fine, height * fine),
            PIL.Image.Transform.AFFINE,
            affine,
            PIL.Image.Resampling.BICUBIC,
        )
        if fine > 1:
            image = image.resize((width, height), PIL.Image.Resampling.LANCZOS)
        result[..., channel] = np.asarray(image)
    return result[around : height - around, around : width - around]
