"""The centre of an iris near a place where the eye is known to be."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]

RADIUS = 0.09  # of an iris, in eye distances; 11.7 mm across at 63 mm, less what the lids hide
SEARCH = 0.12  # how far it may be, in eye distances
DOUBT = 0.05  # standard deviation of the place that is known, in eye distances
SHARPNESS = 0.1  # how much darker the best place must be to win; a share of its contrast


def pupil(grey: Floats, place: complex, distance: float) -> complex:
    """Return the centre of the iris: a disc darker than the white at its sides.

    The mean over places around ``place``, weighted by exp((c - 1) / SHARPNESS - d^2 / 2 DOUBT^2),
    where c is the contrast of the disc in units of the best one, and d the way from ``place``.

    Parameters
    ----------
    grey : ndarray of float, shape (height, width)
        A face with its eyes level, at least 0.3 eye distances wide around ``place``.
    place : complex
        Where the eye is, x + iy in pixels.
    distance : float
        Distance of the eyes, in pixels.
    """
    kernel = _iris(RADIUS * distance)
    reach, half = int(SEARCH * distance), len(kernel) // 2
    column, row = int(place.real), int(place.imag)  # the pixel that holds it
    span = reach + half
    part = grey[row - span : row + span + 1, column - span : column + span + 1]
    windows = np.lib.stride_tricks.sliding_window_view(part, kernel.shape)
    contrast = np.einsum("yxij,ij->yx", windows, kernel)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    places = (column + x + 0.5) + 1j * (row + y + 0.5)
    away = np.abs(places - place) / (DOUBT * distance)
    best = max(float(contrast.max()), 1e-6)
    weights = np.exp((contrast / best - 1) / SHARPNESS - away**2 / 2)
    return complex((weights * places).sum() / weights.sum())


@cache
def _iris(radius: float) -> Floats:
    """Return the kernel whose response is the contrast of a disc to what is left and right of it.

    Above and below are lids and lashes, as dark as the iris.
    """
    half = int(np.ceil(1.6 * radius)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    away = np.hypot(x, y)
    disc = np.clip(radius + 0.5 - away, 0, 1)
    sides = (np.clip(1.6 * radius + 0.5 - away, 0, 1) - disc) * (np.abs(x) > np.abs(y))
    return np.asarray(sides / sides.sum() - disc / disc.sum())
