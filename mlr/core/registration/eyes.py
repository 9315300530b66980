"""Finding the eyes in a set of aligned faces, by the mean of their first feature.

In aligned faces the eyes coincide and, roughly, brows, nose, mouth and chin do too. The mean is
correlated with an analytic face of Gaussian spots, over positions and sizes; then each eye is
located again at full size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import EYES, Eyes
from mlr.core.registration.geometry import Geometry

Float = npt.NDArray[np.float64]

#: Spots of a face, from the middle between the eyes and in units of their distance: x, y, standard
#: deviations across and down, and height. Each spot off the middle stands for two.
SPOTS = (
    (0.50, 0.00, 0.055, 0.060, -1.10),  # eyes
    (0.37, 0.01, 0.045, 0.040, 0.70),
    (0.63, 0.01, 0.045, 0.040, 0.70),
    (0.50, -0.10, 0.130, 0.035, -0.50),
    (0.50, -0.23, 0.170, 0.050, -0.50),  # brows
    (0.50, 0.17, 0.140, 0.060, 0.25),
    (0.12, 0.58, 0.080, 0.060, -0.60),  # nose
    (0.00, 0.42, 0.060, 0.160, 0.40),
    (0.20, 0.30, 0.040, 0.200, -0.25),
    (0.00, 0.80, 0.100, 0.060, 0.20),
    (0.14, 1.03, 0.170, 0.050, -0.80),  # mouth
    (0.10, 1.18, 0.140, 0.060, 0.15),
)
EYE_SPOTS = 4  # the first ones
DISTANCES = (0.20, 0.58)  # least and largest distance of the eyes, in widths of the image
ASIDE = 0.1  # of the width: largest distance of the face's middle from the image's
WINDOW = (0.34, 1.2, 0.82)  # above, below and to each side of the middle, in eye distances
LEAST = 0.4  # correlation of a face
CLOSE = 0.04  # of the sides: largest distance from the canonical position
DOUBT = 0.15  # by how much the correlation of a face at another position must be larger
SNAP = 0.015  # of the sides: eyes this close to the canonical positions are taken to be there
RAISE = 0.033  # distances of the eyes: how far below the pupils the spots of an eye fit best
FLOOR = 0.02  # added to the variance

#: The mean correlation of each face with all others is mostly .2 if they are not aligned, and at
#: least .44 if they are. In photographs, faces are small: distances and level of their eyes.
ALIKE = 0.3
SMALL, SMALL_LEVEL = (0.07, 0.2), (0.25, 0.65)
MARGIN = 0.01  # of correlation, by which a small face must fit better


def find_eyes(mean: npt.NDArray[np.float32]) -> Eyes:
    """Return the left and the right eye as seen, (x, y) as fractions of the sides.

    Takes the mean of the first feature of aligned faces, (height, width), at a shorter side of
    128 px. The eyes are at the same height, and at the canonical positions if no face is found.
    """
    height, width = mean.shape
    whole = mean.astype(np.float64)
    half = whole.reshape(height // 2, 2, width // 2, 2).mean((1, 3))
    best, near = _faces(half)
    if best.correlation < LEAST:
        return EYES
    if near.correlation >= best.correlation - DOUBT and _eyes(whole, near) == EYES:
        return EYES
    return _eyes(whole, best) or EYES


def are_aligned(planes: Sequence[npt.NDArray[np.float32]]) -> bool:
    """Return whether faces seem to be aligned, and large enough in the image.

    Takes the first feature of at least three faces, (height, width), at a shorter side of 128 px.
    """
    whole = np.stack(planes).astype(np.float64)
    count, height, width = whole.shape
    half = whole.reshape(count, height // 2, 2, width // 2, 2).mean((2, 4))
    mean = half.mean(axis=0)
    oval = Geometry((height, width)).oval(height // 2, width // 2)
    alike = [np.corrcoef(each[oval], (count * mean - each)[oval])[0, 1] for each in half]
    if not np.mean(alike) >= ALIKE:
        return False
    small, _ = _faces(whole.mean(axis=0), SMALL, SMALL_LEVEL)
    return small.correlation <= _faces(mean)[0].correlation + MARGIN


class _Face(NamedTuple):
    """A face at half size: its correlation, the middle of the eyes, and their distance."""

    correlation: float
    y: float
    x: float
    apart: float


def _eyes(whole: Float, face: _Face) -> Eyes | None:
    """Return the eyes of a face found at half size, or None if the two do not agree."""
    height, width = whole.shape
    y, x, apart = 2 * face.y + 0.5, 2 * face.x + 0.5, 2 * face.apart
    kernel = _normalised(_spots(apart, SPOTS[:EYE_SPOTS], (0.15, 0.15, 0.24), -0.5, False))
    fits = _correlation(whole, kernel)
    found = [_eye(fits, kernel, y, x + side * apart / 2, apart) for side in (-1, 1)]
    (left_y, left_x), (right_y, right_x) = found
    if not abs(left_y - right_y) < 0.08 * apart or abs(right_x - left_x - apart) > 0.16 * apart:
        return None
    level = ((left_y + right_y) / 2 + 0.5 - RAISE * apart) / height
    eyes = ((left_x + 0.5) / width, level), ((right_x + 0.5) / width, level)
    return EYES if np.abs(np.subtract(eyes, EYES)).max() < SNAP else eyes


def _faces(
    half: Float,
    distances: tuple[float, float] = DISTANCES,
    level: tuple[float, float] = (0.0, 1.0),
) -> tuple[_Face, _Face]:
    """Return the best of all faces, and the best near the canonical position.

    Distances of the eyes are in widths of the image, their level in heights.
    """
    height, width = half.shape
    best = near = _Face(-1.0, 0.0, 0.0, 1.0)
    canonical = EYES[1][0] - EYES[0][0]
    above, _, aside = WINDOW
    for apart in np.arange(max(8.0, distances[0] * width), distances[1] * width).tolist():
        kernel = _normalised(_spots(apart, SPOTS, WINDOW, 0.0, True))
        if kernel.shape[0] > height or kernel.shape[1] > width:
            continue
        fits = _correlation(half, kernel)
        top, left = round(above * apart), round(aside * apart)
        y = (np.arange(fits.shape[0]) + top + 0.5) / height
        x = (np.arange(fits.shape[1]) + left + 0.5) / width
        fits[:, np.abs(x - 0.5) > ASIDE] = -1
        fits[(y < level[0]) | (y > level[1])] = -1
        best = max(best, _highest(fits, top, left, apart))
        if abs(apart / width - canonical) < CLOSE:
            fits[np.abs(y - EYES[0][1]) > CLOSE] = -1
            fits[:, np.abs(x - 0.5) > CLOSE] = -1
            near = max(near, _highest(fits, top, left, apart))
    return best, near


def _highest(fits: Float, top: int, left: int, apart: float) -> _Face:
    """Return the face that fits best."""
    y, x = np.unravel_index(int(fits.argmax()), fits.shape)
    return _Face(float(fits[y, x]), float(y + top), float(x + left), apart)


def _spots(
    apart: float,
    spots: tuple[tuple[float, ...], ...],
    window: tuple[float, float, float],
    shift: float,
    both: bool,
) -> Float:
    """Draw spots for eyes this many pixels apart, in a window above, below and around a point.

    The shift is added to x of all spots; with ``both``, spots off the middle are drawn twice.
    """
    above, below, side = (round(share * apart) for share in window)
    y = np.arange(-above, below + 1)[:, None] / apart
    x = np.arange(-side, side + 1) / apart
    total = np.zeros((y.size, x.size))
    for centre, down, across, high, height in spots:
        for sign in (1, -1) if both and centre else (1,):
            distance = ((x - sign * centre - shift) / across) ** 2 + ((y - down) / high) ** 2
            total += height * np.exp(-distance / 2)
    return total


def _normalised(kernel: Float) -> Float:
    """Return a kernel of mean 0 and norm 1."""
    kernel = kernel - kernel.mean()
    return np.asarray(kernel / np.sqrt((kernel * kernel).sum()), np.float64)


def _correlation(plane: Float, kernel: Float) -> Float:
    """Return the correlation of a plane with a kernel, at all positions inside the plane."""
    tall, wide = kernel.shape
    valid = np.s_[: plane.shape[0] - tall + 1, : plane.shape[1] - wide + 1]
    spectrum = np.fft.rfft2(plane) * np.conj(np.fft.rfft2(kernel, plane.shape))
    products = np.fft.irfft2(spectrum, plane.shape)[valid]
    sums, squares = (_box_sums(each, tall, wide) for each in (plane, plane * plane))
    count = tall * wide
    variance = np.maximum(squares - sums * sums / count, 0) + FLOOR * count
    return np.asarray(products / np.sqrt(variance), np.float64)


def _box_sums(plane: Float, tall: int, wide: int) -> Float:
    """Return the sums over all boxes of a size."""
    total = np.pad(plane.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide]
    return np.asarray(sums + total[:-tall, :-wide], np.float64)


def _eye(fits: Float, kernel: Float, y: float, x: float, apart: float) -> tuple[float, float]:
    """Return where an eye fits best near (y, x), to parts of a pixel; infinity if out of range."""
    top, left = (side // 2 for side in kernel.shape)
    reach = int(np.ceil(0.08 * apart))
    rows, columns = (
        range(max(1, middle - reach), min(size - 1, middle + reach + 1))
        for middle, size in ((round(y) - top, fits.shape[0]), (round(x) - left, fits.shape[1]))
    )
    if not rows or not columns:
        return np.inf, np.inf
    i, j = max(product(rows, columns), key=lambda index: fits[index])
    down, across = _vertex(*fits[i - 1 : i + 2, j]), _vertex(*fits[i, j - 1 : j + 2])
    return i + top + down, j + left + across


def _vertex(before: float, here: float, after: float) -> float:
    """Return where the parabola through three values at -1, 0, 1 is highest, within 1/2."""
    curvature = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0
