"""Position of the face in an aligned image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Eyes = tuple[tuple[float, float], tuple[float, float]]

#: Centres of the left and the right eye as seen, (x, y) as fractions of the sides.
EYES: Eyes = ((0.32, 0.36), (0.68, 0.36))

#: The face is a superellipse: its middle and half-axes, in units of the image's sides.
MIDDLE = (0.5, 0.52)
HALF_AXES = (0.4, 0.46)
EXPONENT = 2.5
SOFT = 0.4  # share of the half-axes over which the face fades out
BORDER = 2  # pixels


def face_share(height: int, width: int, rows: slice = slice(None)) -> npt.NDArray[np.float32]:
    """Return how much each pixel of an aligned image (or of some rows) belongs to the face.

    It is float32, (rows, width): 1 in the face and exactly 0 near the border of an image of more
    than a few pixels, with a smooth slope in between.
    """
    at = np.arange(height)[rows]
    y = (at + 0.5) / height - MIDDLE[1]
    x = (np.arange(width) + 0.5) / width - MIDDLE[0]
    powers = np.abs(y / HALF_AXES[1])[:, None] ** EXPONENT + np.abs(x / HALF_AXES[0]) ** EXPONENT
    inward = np.clip((1 - powers ** (1 / EXPONENT)) / SOFT, 0, 1)
    share: npt.NDArray[np.float32] = (inward * inward * (3 - 2 * inward)).astype(np.float32)
    # A border of zeros, so that bicubic interpolation of the share stays inside the image.
    if min(height, width) > 4 * BORDER:
        share[(at < BORDER) | (at >= height - BORDER)] = 0
        share[:, :BORDER] = share[:, -BORDER:] = 0
    return share
