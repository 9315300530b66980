"""Detail of a photograph that is too fine for the model, moved along with what the model moves.

A model of 128 pixels moves the corners of a mouth up. The fine line between the lips is not in its
input, and would stay where it was, beside the new ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.registration import fields
from mlr.photo.similarity import Similarity
from mlr.photo.warp import warp

Pixels = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

INTERPOLATION_REACH = 8  # pixels around; of those farther out a spline takes 1/40,000


@dataclass(frozen=True)
class Part:
    """A part of a photograph: rows from top to bottom, columns from left to right."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def seen_from(self, to_crop: Similarity) -> Similarity:
        """Return the map from an aligned crop to this part."""
        return Similarity(1, -complex(self.left, self.top)) @ to_crop.inverse


def moved_detail(
    pixels: Pixels,
    crop: Floats,
    to_crop: Similarity,
    motion: Floats,
    kept: Floats,
    wanted: Part,
) -> Floats:
    """Return what moving the detail changes, a(p) r(p + u(p)) - r(p).

    Parameters
    ----------
    pixels : ndarray of uint8 or uint16, shape (rows, columns, channels)
        The photograph.
    crop : ndarray of float32, shape (height, width, channels)
        Its aligned crop, in [0, 1]. The detail r is the photograph less the enlarged crop.
    to_crop : Similarity
        From the photograph to the crop.
    motion : ndarray of float32, shape (2, height, width)
        u, as (dy, dx) in pixels of the crop.
    kept : ndarray of float32, shape (height, width)
        a, the share of the detail that is kept. Where it is 1 and u is 0, so is the result.
    wanted : Part
        The part of the photograph that is wanted.

    Returns
    -------
    ndarray of float32, shape (height and width of the part, channels)
        In units of the range of intensities.
    """
    back = wanted.seen_from(to_crop)
    down, across = motion
    turned = (across + 1j * down) * back.factor
    planes = np.dstack([turned.imag, turned.real, 1 - kept]).astype(np.float32)
    planes = warp(planes, back, *wanted.size)
    field, lost = planes[..., :2], planes[..., 2:]
    still = np.asarray(~planes.any(axis=2), np.bool_)
    if still.all():
        return np.zeros((*wanted.size, pixels.shape[2]), np.float32)
    return _change(pixels, crop, to_crop, field, lost, wanted, still)


def _change(
    pixels: Pixels,
    crop: Floats,
    to_crop: Similarity,
    field: Floats,
    lost: Floats,
    wanted: Part,
    still: npt.NDArray[np.bool_],
) -> Floats:
    """Return (1 - lost(p)) r(p + field(p)) - r(p) for a part; 0 where it stands still."""
    around = math.ceil(np.abs(field).max()) + INTERPOLATION_REACH
    rows, columns = pixels.shape[:2]
    wide = Part(
        max(0, wanted.top - around),
        min(rows, wanted.bottom + around),
        max(0, wanted.left - around),
        min(columns, wanted.right + around),
    )
    detail = pixels[wide.top : wide.bottom, wide.left : wide.right] * np.float32(
        1 / np.iinfo(pixels.dtype).max
    )
    detail -= warp(crop, wide.seen_from(to_crop), *wide.size)
    inner = np.s_[
        wanted.top - wide.top : wanted.bottom - wide.top,
        wanted.left - wide.left : wanted.right - wide.left,
    ]
    whole = np.zeros((2, *wide.size), np.float32)
    whole[:, *inner] = field.transpose(2, 0, 1)
    found = fields.warp(np.ascontiguousarray(detail.transpose(2, 0, 1)), whole)
    change: Floats = (1 - lost) * found.transpose(1, 2, 0)[inner] - detail[inner]
    change[still] = 0
    return change
