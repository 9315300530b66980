"""Similarities of the plane: turning, scaling and shifting, as complex arithmetic."""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Similarity:
    """The map z -> factor z + shift of points z = x + iy, in pixels.

    The corner of an image is 0, the centre of its first pixel is 0.5 + 0.5i.

    Attributes
    ----------
    factor : complex
        Scale and angle; not zero.
    shift : complex
        Where the corner goes.
    """

    factor: complex
    shift: complex

    @classmethod
    def of_two_points(
        cls, sources: tuple[complex, complex], targets: tuple[complex, complex]
    ) -> Similarity:
        """Return the one similarity that takes two points to two others.

        For two points the least-squares solution of Umeyama (1991) is exact, and is this quotient.
        """
        factor = (targets[1] - targets[0]) / (sources[1] - sources[0])
        return cls(factor, targets[0] - factor * sources[0])

    def __call__(self, point: complex) -> complex:
        """Return where a point goes."""
        return self.factor * point + self.shift

    def __matmul__(self, first: Similarity) -> Similarity:
        """Return the map that does ``first`` and then this one."""
        return Similarity(self.factor * first.factor, self(first.shift))

    @property
    def inverse(self) -> Similarity:
        """The map back."""
        return Similarity(1 / self.factor, -self.shift / self.factor)

    @property
    def scale(self) -> float:
        """Length of what a pixel becomes."""
        return abs(self.factor)

    @property
    def degrees(self) -> float:
        """Angle it turns by, clockwise as seen, for y points down."""
        return math.degrees(cmath.phase(self.factor))
