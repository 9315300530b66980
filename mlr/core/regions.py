"""Regions of an aligned face, in which images are compared: the face and the mouth."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Region = npt.NDArray[np.bool_]

#: The face is an ellipse: its middle and half-axes (y, x), in units of the image's sides.
FACE_MIDDLE = (0.54, 0.5)
FACE_HALF_AXES = (0.42, 0.33)

#: The mouth is a rectangle: its first row and the row after its last one, and so the columns.
MOUTH_ROWS = (0.62, 0.85)
MOUTH_COLUMNS = (0.28, 0.72)


@cache
def face(height: int, width: int) -> Region:
    """Return the pixels of an aligned image that lie in the face.

    Returns
    -------
    ndarray of bool, shape (height, width)
        Where ((y / height - 0.54) / 0.42)^2 + ((x / width - 0.5) / 0.33)^2 < 1, for a pixel's row y
        and column x. Read-only.
    """
    y, x = np.ogrid[:height, :width]
    down = (y / height - FACE_MIDDLE[0]) / FACE_HALF_AXES[0]
    across = (x / width - FACE_MIDDLE[1]) / FACE_HALF_AXES[1]
    return _read_only(down**2 + across**2 < 1)


@cache
def mouth(height: int, width: int) -> Region:
    """Return the pixels of an aligned image that lie around the mouth.

    Returns
    -------
    ndarray of bool, shape (height, width)
        True in the rectangle from row 0.62 height up to 0.85 height and from column 0.28 width up
        to 0.72 width, each rounded down; the ends are excluded. Read-only.
    """
    region = np.zeros((height, width), dtype=bool)
    rows = slice(*(int(share * height) for share in MOUTH_ROWS))
    columns = slice(*(int(share * width) for share in MOUTH_COLUMNS))
    region[rows, columns] = True
    return _read_only(region)


def _read_only(region: Region) -> Region:
    region.flags.writeable = False
    return region
