"""Features that registration compares: luminance and redness, locally normalised.

With L the mean of the channels and G8 a Gaussian of 8 px, for a shorter side of 128 px,

    d = L - G8 L,              f1 = d / (sqrt(G8 d^2) + .03)
    rho = (R - G)/(L + .15),   d = rho - G8 rho,   f2 = d / (sqrt(G8 d^2) + .03)

Redness finds the lips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlr.core.registration.fields import area_averaged, halved
from mlr.core.registration.geometry import feature_size
from mlr.kernels.blur import blur
from mlr.kernels.register import FEATURES

Floats = npt.NDArray[np.float32]

SIGMA = 8.0  # pixels, for a side of 128
FLOOR = 0.03  # added to the local deviation
GREY = 2.5 / 255  # largest difference of the channels of a grey image stored as colour


@dataclass(frozen=True)
class Features:
    """The features of an image; arrays are float32."""

    whole: Floats  #: (height, width, 2), at a shorter side of 128 px
    half: Floats  #: (height / 2, width / 2, 2), means of 2 x 2 of them
    luminance: Floats  #: (height, width), mean of the channels of the image
    half_luminance: Floats  #: (height / 2, width / 2), the same at half size
    grey: bool  #: the second feature is 0 everywhere


def features_of(image: Floats) -> Features:
    """Return the features of an image (height, width, 1 or 3) in [0, 1], of any size."""
    return features_of_reduced(area_averaged(image, *feature_size(*image.shape[:2])))


def features_of_reduced(image: Floats) -> Features:
    """Return the features of an image (height, width, 1 or 3) whose shorter side is 128 px."""
    luminance = image.mean(axis=2, dtype=np.float32)
    grey = is_grey(image)
    planes = np.zeros((FEATURES, *luminance.shape), np.float32)
    planes[0] = luminance
    if not grey:
        planes[1] = (image[..., 0] - image[..., 1]) / (luminance + np.float32(0.15))
    used = planes[: FEATURES - grey]
    used -= blur(used, SIGMA, threads=False)
    used /= np.sqrt(blur(np.square(used), SIGMA, threads=False)) + np.float32(FLOOR)
    whole = np.ascontiguousarray(planes.transpose(1, 2, 0))
    half_luminance = halved(luminance[..., None])[..., 0]
    return Features(whole, halved(whole), luminance, half_luminance, grey)


def is_grey(image: Floats) -> bool:
    """Return whether an image (height, width, 1 or 3) is grey, or grey stored as colour."""
    if image.shape[2] == 1:
        return True
    green = image[..., 1]
    return all(float(np.abs(image[..., c] - green).max()) < GREY for c in (0, 2))
