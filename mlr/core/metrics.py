"""Error, structural similarity and sharpness of an image and its target, also by region."""

from __future__ import annotations

import math
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from mlr.core import regions
from mlr.core.regions import Region

Image = npt.NDArray[np.float64]
Map = npt.NDArray[np.float64]

#: Wang et al. 2004: a Gaussian window of sigma 1.5 cut off at 11 x 11 pixels.
_SIGMA = 1.5
_RADIUS = 5
_K1, _K2 = 0.01, 0.03


class RegionScores(TypedDict):
    """Scores of an output against its target, in a region.

    Structural similarity (Wang et al. 2004) is averaged over the channels and the pixels of the
    region whose windows lie inside the image. For a whole image it equals scikit-image's with
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1``.
    """

    mse: float  #: mean squared error; NaN if the region has no pixel
    ssim: float  #: structural similarity; NaN without a window
    #: mean absolute difference of adjacent pixels, over the target's; NaN if the target is flat
    sharpness: float


class Scores(RegionScores):
    """Scores of an output against its target, in the image and its regions face and mouth."""

    psnr: float  #: peak signal-to-noise ratio, in dB; infinite for equal images
    face: RegionScores  #: of `mlr.core.regions.face`
    mouth: RegionScores  #: of `mlr.core.regions.mouth`


def scores(output: Image, target: Image) -> Scores:
    """Return all scores of an output, given images (height, width, channels) in [0, 1]."""
    height, width, _ = target.shape
    error = np.square(output - target).mean(axis=2)
    similarity = _ssim_map(output, target)
    steps = _steps(output), _steps(target)
    inner = slice(_RADIUS, -_RADIUS)  # pixels of the map of similarity

    def within(region: Region | None) -> RegionScores:
        own, wanted = (_total(each, region) for each in steps)
        return {
            "mse": _mean(error if region is None else error[region]),
            "ssim": _mean(similarity if region is None else similarity[region[inner, inner]]),
            "sharpness": own / wanted if wanted > 0 else math.nan,
        }

    whole = within(None)
    return {
        **whole,
        "psnr": 10 * math.log10(1 / whole["mse"]) if whole["mse"] > 0 else math.inf,
        "face": within(regions.face(height, width)),
        "mouth": within(regions.mouth(height, width)),
    }


def _ssim_map(output: Image, target: Image) -> Map:
    """Return the structural similarity of each pixel whose window lies inside the image."""
    x, y = output, target
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x, variance_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    denominator = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return np.asarray((numerator / denominator).mean(axis=2))


def _steps(image: Image) -> tuple[Map, Map]:
    """Return the absolute differences of horizontal and vertical neighbours, over the channels."""
    across, down = np.abs(np.diff(image, axis=1)), np.abs(np.diff(image, axis=0))
    return across.sum(axis=2), down.sum(axis=2)


def _total(steps: tuple[Map, Map], region: Region | None) -> float:
    """Return the sum of all differences, or of differences between two pixels of a region."""
    across, down = steps
    if region is not None:
        across, down = across[region[:, 1:] & region[:, :-1]], down[region[1:] & region[:-1]]
    return float(across.sum() + down.sum())


def _mean(values: Map) -> float:
    return float(values.mean()) if values.size else math.nan


def _blurred(image: Image) -> Image:
    """Return the Gaussian-weighted mean around every pixel whose window lies inside the image."""
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    window = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    window /= window.sum()
    for axis in (0, 1):
        image = np.moveaxis(image, axis, 0)
        inside = max(len(image) - 2 * _RADIUS, 0)
        blurred = np.zeros((inside, *image.shape[1:]))
        for start, weight in enumerate(window):
            blurred += weight * image[start : start + inside]
        image = np.moveaxis(blurred, 0, axis)
    return image
