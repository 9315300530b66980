"""Regions of an aligned face for evaluation: the face and the mouth."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Region = npt.NDArray[np.bool_]

FACE_MIDDLE = (0.54, 0.5)  # (y, x), in units of the image's sides
FACE_HALF_AXES = (0.42, 0.33)
MOUTH_ROWS = (0.62, 0.85)
MOUTH_COLUMNS = (0.28, 0.72)


def in_face(y: npt.NDArray[Any], x: npt.NDArray[Any]) -> Region:
    """Return which positions, in units of the image's sides, lie in the ellipse of the face."""
    down = (y - FACE_MIDDLE[0]) / FACE_HALF_AXES[0]
    across = (x - FACE_MIDDLE[1]) / FACE_HALF_AXES[1]
    return np.asarray(down**2 + across**2 < 1)


def in_mouth(y: npt.NDArray[Any], x: npt.NDArray[Any]) -> Region:
    """Return which positions, in units of the image's sides, lie in the rectangle of the mouth."""
    rows = (y >= MOUTH_ROWS[0]) & (y < MOUTH_ROWS[1])
    return np.asarray(rows & (x >= MOUTH_COLUMNS[0]) & (x < MOUTH_COLUMNS[1]))


@cache
def face(height: int, width: int) -> Region:
    """Return the pixels of the face, (height, width), read-only; see `in_face`."""
    y, x = np.ogrid[:height, :width]
    return _read_only(in_face(y / height, x / width))


@cache
def mouth(height: int, width: int) -> Region:
    """Return the pixels of the mouth, (height, width), read-only: a rectangle."""
    region = np.zeros((height, width), dtype=bool)
    rows = slice(*(int(share * height) for share in MOUTH_ROWS))
    columns = slice(*(int(share * width) for share in MOUTH_COLUMNS))
    region[rows, columns] = True
    return _read_only(region)


def _read_only(region: Region) -> Region:
    region.flags.writeable = False
    return region
