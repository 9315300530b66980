"""Registration of one image to a template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlr.core.registration.features import Features
from mlr.core.registration.fields import enlarged, halved, looked_up
from mlr.core.registration.geometry import Geometry, planes_of
from mlr.kernels.register import VALUES, gauss_newton, gaussian, with_derivatives

Floats = npt.NDArray[np.float32]

DAMPING = np.float32(0.05)
#: Of the starts for strangers: how far the lower face is moved, in sides of the canonical crop.
STARTS = (0.0, -0.05, 0.05, 0.10)
HANDICAP = 0.03  # of every start but the first, in correlation


@dataclass(frozen=True)
class _Level:
    """Half kernels and number of the steps at one size."""

    window: Floats
    prior: Floats
    smooth: Floats
    steps: int


_QUARTER = _Level(gaussian(4.0), gaussian(1.875), gaussian(2.0), 6)
_HALF = _Level(gaussian(3.0), gaussian(2.5), gaussian(2.0), 6)
_WHOLE = _Level(gaussian(2.5), gaussian(5.0), gaussian(1.5), 4)


class Template:
    """Features that images are registered to.

    Parameters
    ----------
    geometry : Geometry
        Of the images.
    half : ndarray of float32, shape (*geometry.fields, 2)
        The features at the size of fields.
    whole : ndarray of float32, shape (*geometry.features, 2), optional
        The features at full size, for `refined`.
    """

    def __init__(self, geometry: Geometry, half: Floats, whole: Floats | None = None) -> None:
        self.geometry, self.half = geometry, half
        self._weights, self._oval = planes_of(geometry)
        self._quarter_values = _values(halved(half))
        self._half_values = _values(half)
        self._whole_values = None if whole is None else _values(whole)

    def register(self, features: Features, start: Floats | None = None) -> Floats:
        """Return the field u with features(p + u(p)) close to the template.

        Parameters
        ----------
        features : Features
            Of an image of the geometry's size.
        start : ndarray of float32, optional
            A field of the quarter size, by default 0, or of the half size.

        Returns
        -------
        ndarray of float32, shape (2, *geometry.fields)
            In pixels of its own grid, each at most a pixel from the smoothest that fits.
        """
        height, width = self.half.shape[:2]
        quarter = height // 2, width // 2
        if start is None:
            field = np.zeros((2, *quarter), np.float32)
        else:
            field = np.array(enlarged(start, *quarter), np.float32)
        second = np.float32(not features.grey)
        moving = _values(halved(features.half))
        _steps(_QUARTER, moving, self._quarter_values, self._weights[0], second, field)
        field = enlarged(field, height, width)
        _steps(_HALF, _values(features.half), self._half_values, self._weights[1], second, field)
        return field

    def refined(self, features: Features, field: Floats) -> Floats:
        """Return a field of the half size that was refined at full size."""
        assert self._whole_values is not None
        whole = enlarged(field, *features.whole.shape[:2])
        second = np.float32(not features.grey)
        moving = _values(features.whole)
        _steps(_WHOLE, moving, self._whole_values, self._weights[2], second, whole)
        mean = halved(np.ascontiguousarray(whole.transpose(1, 2, 0)))
        return np.ascontiguousarray(mean.transpose(2, 0, 1)) * np.float32(0.5)

    def best(self, features: Features, starts: tuple[float, ...] = STARTS) -> tuple[Floats, float]:
        """Return the field of the start that fits best, and its correlation."""
        quarter = self.half.shape[0] // 2, self.half.shape[1] // 2
        found: list[tuple[float, Floats]] = []
        for shift in starts:
            field = self.register(features, self.geometry.start(*quarter, shift))
            found.append((self.correlation(features, field) - HANDICAP * (shift != 0), field))
        best = max(range(len(found)), key=lambda k: found[k][0])
        return found[best][1], found[best][0]

    def correlation(self, features: Features, field: Floats) -> float:
        """Return the correlation of moved features with the template over the oval."""
        kept = 1 if features.grey else 2
        planes = np.ascontiguousarray(features.half[..., :kept].transpose(2, 0, 1))
        moved = looked_up(planes, field)[:, self._oval].astype(np.float64)
        wanted = self.half[..., :kept].transpose(2, 0, 1)[:, self._oval].astype(np.float64)
        moved -= moved.mean(axis=1, keepdims=True)
        wanted -= wanted.mean(axis=1, keepdims=True)
        scale = np.sqrt((moved * moved).sum() * (wanted * wanted).sum())
        return float((moved * wanted).sum() / scale) if scale > 0 else 0.0


def _values(features: Floats) -> Floats:
    """Return features (height, width, 2) with their derivatives, as steps take them."""
    values = np.empty((VALUES, *features.shape[:2]), np.float32)
    with_derivatives(np.ascontiguousarray(features, np.float32), values)
    return values


def _steps(
    level: _Level,
    moving: Floats,
    fixed: Floats,
    weight: Floats,
    second: np.float32,
    field: Floats,
) -> None:
    gauss_newton(
        moving,
        fixed,
        weight,
        second,
        field,
        level.window,
        level.prior,
        level.smooth,
        DAMPING,
        level.steps,
    )
