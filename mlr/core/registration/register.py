"""Registration of one image to a template."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlr.core.regions import Region
from mlr.core.registration.features import Features
from mlr.core.registration.fields import halved, look_up, resize_field
from mlr.core.registration.geometry import Geometry, weights_and_oval
from mlr.kernels.blur import blur, gaussian
from mlr.kernels.register import VALUES, gauss_newton, with_derivatives

Floats = npt.NDArray[np.float32]

DAMPING = np.float32(0.05)
FLAT = 0.02  # added to covariances and deviations around a pixel

#: At a quarter, half and all of the features' size: standard deviations of the blurs of the normal
#: equations, of the prior and of the field, in pixels; and the number of steps.
LEVELS = (((4.0, 1.875, 2.0), 6), ((3.0, 2.5, 2.0), 6), ((2.5, 5.0, 1.5), 4))


class Template:
    """Features that images are registered to.

    Parameters
    ----------
    geometry : Geometry
        Of the images.
    half : ndarray of float32, shape (*geometry.fields, 2)
        At the size of fields.
    whole : ndarray of float32, shape (*geometry.features, 2), optional
        At full size, for `refined`.
    """

    def __init__(self, geometry: Geometry, half: Floats, whole: Floats | None = None) -> None:
        self.geometry, self.half = geometry, half
        weights, self._oval = weights_and_oval(geometry)
        self._quarter = _Level(0, halved(half), weights[0])
        self._half = _Level(1, half, weights[1])
        self._whole = None if whole is None else _Level(2, whole, weights[2])

    def register(self, features: Features, start: Floats | None = None) -> Floats:
        """Return the field u, (2, half height, half width), that warps features to the template.

        That is, features(p + u(p)) is close to the template. ``start`` is a field of the quarter or
        half size, by default 0.
        """
        height, width = self.half.shape[:2]
        quarter = height // 2, width // 2
        if start is None:
            field = np.zeros((2, *quarter), np.float32)
        else:
            field = np.array(resize_field(start, *quarter), np.float32)
        self._quarter.refine(halved(features.half), features.grey, field)
        field = resize_field(field, height, width)
        self._half.refine(features.half, features.grey, field)
        return field

    def refined(self, features: Features, field: Floats) -> Floats:
        """Return a field of the half size, refined at full size."""
        assert self._whole is not None
        whole = resize_field(field, *features.whole.shape[:2])
        self._whole.refine(features.whole, features.grey, whole)
        mean = halved(np.ascontiguousarray(whole.transpose(1, 2, 0)))
        return np.ascontiguousarray(mean.transpose(2, 0, 1)) * np.float32(0.5)

    def polished(self, features: Features, field: Floats) -> Floats:
        """Return a field of the half size, refined at this size alone."""
        field = field.copy()
        self._half.refine(features.half, features.grey, field)
        return field

    def correlation(self, features: Features, field: Floats, region: Region | None = None) -> float:
        """Return the correlation of warped features with the template in a region or the oval.

        The larger value counts, with redness or without, as the light may be coloured.
        """
        moved, fixed = (
            each[:, region if region is not None else self._oval]
            for each in self._planes(features, field)
        )
        moved = moved - moved.mean(axis=1, keepdims=True)
        fixed = fixed - fixed.mean(axis=1, keepdims=True)
        products, energy, wanted = (
            (a * b).sum(axis=1) for a, b in ((moved, fixed), (moved, moved), (fixed, fixed))
        )
        both = products.sum(), energy.sum() * wanted.sum()
        alone = products[0], energy[0] * wanted[0]
        return max(float(p / np.sqrt(e)) if e > 0 else 0.0 for p, e in (both, alone))

    def local_correlation(self, features: Features, field: Floats, sigma: float) -> Floats:
        """Return the correlation around each pixel, (height, width), in a Gaussian window.

        Where both are flat it is 1.
        """

        def around(planes: Floats) -> Floats:
            return blur(planes, sigma, threads=False)

        def covariance(a: Floats, b: Floats) -> Floats:
            return np.asarray((around(a * b) - around(a) * around(b)).sum(axis=0))

        moved, fixed = self._planes(features, field)
        scale = covariance(moved, moved) * covariance(fixed, fixed)
        deviations = np.sqrt(np.maximum(scale, 0))
        return np.asarray((covariance(moved, fixed) + FLAT) / (deviations + FLAT), np.float32)

    def _planes(self, features: Features, field: Floats) -> tuple[Floats, Floats]:
        """Return the warped features and the template's, (1 or 2, height, width)."""
        kept = 1 if features.grey else 2
        planes, fixed = (each[..., :kept].transpose(2, 0, 1) for each in (features.half, self.half))
        return look_up(planes, field), fixed


class _Level:
    """A template at one size."""

    def __init__(self, number: int, features: Floats, weight: Floats) -> None:
        (window, prior, smooth), self._steps = LEVELS[number]
        self._kernels = gaussian(window), gaussian(prior), gaussian(smooth)
        self._fixed, self._weight = with_derivatives_of(features), weight

    def refine(self, features: Floats, grey: bool, field: Floats) -> None:
        """Change the field (2, height, width) of features (height, width, 2), in place."""
        gauss_newton(
            with_derivatives_of(features),
            self._fixed,
            self._weight,
            np.float32(not grey),
            field,
            self._kernels,
            DAMPING,
            self._steps,
        )


def with_derivatives_of(features: Floats) -> Floats:
    """Return features (height, width, 2) with their derivatives, (`VALUES`, height, width)."""
    values = np.empty((VALUES, *features.shape[:2]), np.float32)
    with_derivatives(np.require(features, np.float32, ["C", "W"]), values)
    return values
