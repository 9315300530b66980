"""How close an image is to another one: error, structure and sharpness, also by region."""

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
    """How close an output is to its target within a region.

    Attributes
    ----------
    mse : float
        Mean squared error; NaN if the region has no pixel.
    ssim : float
        Mean structural similarity; NaN if no pixel's window lies inside the image.
    sharpness : float
        Mean pixel-to-pixel difference over that of the target; NaN where the target is flat.
    """

    mse: float
    ssim: float
    sharpness: float


class Scores(RegionScores):
    """How close an output is to its target: the whole image, the face and the mouth.

    Attributes
    ----------
    psnr : float
        Peak signal-to-noise ratio of the whole image, in dB.
    face, mouth : RegionScores
        Measures of `mlr.core.regions.face` and `mlr.core.regions.mouth`.
    """

    psnr: float
    face: RegionScores
    mouth: RegionScores


def scores(output: Image, target: Image) -> Scores:
    """Return all measures of an output.

    Structural similarity is averaged over the pixels of a region whose windows lie inside the
    image, and may reach beyond the region. Sharpness counts differences of two pixels of a region.

    Parameters
    ----------
    output, target : ndarray of float64, shape (height, width, channels)
        Intensities in [0, 1].
    """
    error = np.square(output - target).mean(axis=2)
    mean_error = float(error.mean())
    similarity = _ssim_map(output, target)
    steps = _steps(output), _steps(target)
    height, width = error.shape

    def within(region: Region) -> RegionScores:
        return {
            "mse": _mean(error[region]),
            "ssim": _mean(similarity[_inner(region)]),
            "sharpness": _ratio(*(_total(each, region) for each in steps)),
        }

    return {
        "mse": mean_error,
        "psnr": psnr(mean_error),
        "ssim": _mean(similarity),
        "sharpness": _ratio(*(_total(each) for each in steps)),
        "face": within(regions.face(height, width)),
        "mouth": within(regions.mouth(height, width)),
    }


def mse(output: Image, target: Image) -> float:
    """Return the mean squared difference over all pixels and channels."""
    return float(np.square(output - target).mean())


def psnr(error: float) -> float:
    """Return the peak signal-to-noise ratio in dB for a mean squared error; infinite for 0."""
    return 10 * math.log10(1 / error) if error > 0 else math.inf


def sharpness(output: Image, target: Image) -> float:
    """Return the mean absolute pixel-to-pixel difference of the output over that of the target.

    Differences are taken between horizontal and between vertical neighbours. NaN where the target
    is of one colour.
    """
    return _ratio(_total(_steps(output)), _total(_steps(target)))


def ssim(output: Image, target: Image) -> float:
    """Return the structural similarity of Wang et al. 2004, averaged over pixels and channels.

    Equal to scikit-image's with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1``: only pixels whose window lies inside the image count. NaN for images with a side
    below 11 px.

    Parameters
    ----------
    output, target : ndarray of float64, shape (height, width, channels)
        Intensities in [0, 1].
    """
    return _mean(_ssim_map(output, target))


def _ssim_map(output: Image, target: Image) -> Map:
    """Return the structural similarity of each pixel whose window lies inside the image.

    Returns
    -------
    ndarray of float64, shape (max(height - 10, 0), max(width - 10, 0))
        Averaged over the channels, at most 1.
    """
    x, y = output, target
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x**2
    variance_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    denominator = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    similarity: Map = (numerator / denominator).mean(axis=2)
    return similarity


def _inner(region: Region) -> Region:
    """Return the part of a region that a map of structural similarity shows."""
    height, width = region.shape
    return region[_RADIUS : max(height - _RADIUS, _RADIUS), _RADIUS : max(width - _RADIUS, _RADIUS)]


def _steps(image: Image) -> tuple[Map, Map]:
    """Return the absolute differences of horizontal and vertical neighbours, over the channels."""
    across, down = np.abs(np.diff(image, axis=1)), np.abs(np.diff(image, axis=0))
    return across.sum(axis=2), down.sum(axis=2)


def _total(steps: tuple[Map, Map], region: Region | None = None) -> float:
    """Return the sum of differences, of a region only those between two of its pixels."""
    across, down = steps
    if region is not None:
        across = across[region[:, 1:] & region[:, :-1]]
        down = down[region[1:] & region[:-1]]
    return float(across.sum() + down.sum())


def _ratio(output: float, target: float) -> float:
    """Return a ratio of sums over as many differences, which is that of their means."""
    return output / target if target > 0 else math.nan


def _mean(values: Map) -> float:
    """Return the mean, NaN of nothing."""
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
