"""What is computed: generated pairs of faces, and the operations that they need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.model import LUMA
from mlr.core.receptive_field import ReceptiveField
from mlr.samples import draw_face
from mlr.utils.threads import ordered_map

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

EXPRESSION = "happy"
PENALTY = 0.4
DRAWN = 16  # subjects; drawing hundreds takes seconds
NOISE = 4  # intensities out of 255


@dataclass(frozen=True)
class Work:
    """One training set, square and grey, and a receptive field.

    Attributes
    ----------
    size : int
        Side of the images in pixels.
    pairs : int
        Number of training pairs.
    field : ReceptiveField
        The taps.
    """

    size: int
    pairs: int
    field: ReceptiveField

    def __str__(self) -> str:
        return f"{self.pairs} pairs of {self.size} px, {self.field}"

    def key(self) -> dict[str, Any]:
        """Return what tells this work from other work."""
        return {"size": self.size, "pairs": self.pairs, "receptive_field": str(self.field)}

    @property
    def accumulate_operations(self) -> int:
        """Additions and multiplications of the lag planes and of the cross planes.

        A product of two pixels, added to a sum, counts as two; products with a pixel outside the
        frame are not made. Sums of single images and squares of targets do not count.
        """
        offsets = (*self.field.lag_table.lags.tolist(), *self.field.offsets)
        return 2 * self.pairs * sum(self._inside(dy, dx) for dy, dx in offsets)

    @property
    def solve_operations(self) -> int:
        """Additions and multiplications to solve the normal equations of all pixels.

        n^3 / 3 + 2 n^2 for n coefficients: a Cholesky factorisation and two substitutions.
        """
        inside = np.ones((self.size, self.size), dtype=np.int64)  # the bias
        places = np.arange(self.size)
        for dy, dx in self.field.offsets:
            rows = (places + dy >= 0) & (places + dy < self.size)
            columns = (places + dx >= 0) & (places + dx < self.size)
            inside += rows[:, None] & columns
        return int(np.sum(inside**3 / 3 + 2 * inside**2))

    @property
    def apply_operations(self) -> int:
        """Additions and multiplications to apply the weights to an image."""
        return 2 * sum(self._inside(dy, dx) for dy, dx in self.field.offsets)

    def _inside(self, dy: int, dx: int) -> int:
        """Return the number of pixels whose neighbour at this offset is in the frame."""
        return max(0, self.size - abs(dy)) * max(0, self.size - abs(dx))


@dataclass(frozen=True)
class Data:
    """Images to train on.

    Attributes
    ----------
    sources, targets : ndarray of uint8, shape (pairs, size, size, 1)
        Grey images.
    """

    sources: Pixels
    targets: Pixels


def as_planes(images: Pixels) -> Floats:
    """Return 8-bit images (N, H, W, C) as float32 in [0, 1] of shape (N, C, H, W)."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    return planes / np.float32(255)


def generated(size: int, pairs: int, threads: int) -> Data:
    """Draw a few subjects, and vary them into as many as are asked for.

    The others are the same faces mirrored, brighter or darker, each with noise of its own.

    Parameters
    ----------
    size : int
        Side in pixels, at least 16.
    pairs : int
        How many.
    threads : int
        Threads to draw with.
    """
    subjects = range(min(pairs, DRAWN))
    return Data(
        *(
            _varied(np.stack(list(ordered_map(draw, subjects, threads))), pairs, seed)
            for seed, draw in enumerate(
                (lambda p: _grey(p, "neutral", size), lambda p: _grey(p, EXPRESSION, size))
            )
        )
    )


def _grey(subject: int, expression: str, size: int) -> npt.NDArray[np.float32]:
    """Draw one subject, grey, (size, size), of 0 to 255."""
    return draw_face(0, subject, expression, size).astype(np.float32) @ LUMA


def _varied(faces: npt.NDArray[np.float32], count: int, seed: int) -> Pixels:
    """Return so many images, (count, size, size, 1), made out of a few."""
    rng = np.random.default_rng(seed)
    result = np.empty((count, *faces.shape[1:], 1), np.uint8)
    for n in range(count):
        turn, subject = divmod(n, len(faces))
        face = faces[subject, :, ::-1] if turn % 2 else faces[subject]
        brightness = 1 - 0.05 * (turn % 7)
        noise = rng.integers(-NOISE, NOISE + 1, face.shape)
        result[n, ..., 0] = np.clip(np.rint(face * brightness) + noise, 0, 255)
    return result
