"""How close an image is to another one: error, structure and sharpness."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float64]

#: Wang et al. 2004: a Gaussian window of sigma 1.5 cut off at 11 x 11 pixels.
_SIGMA = 1.5
_RADIUS = 5
_K1, _K2 = 0.01, 0.03


def scores(output: Image, target: Image) -> dict[str, float]:
    """Return all measures of an output.

    Parameters
    ----------
    output, target : ndarray of float64, shape (height, width, channels)
        Intensities in [0, 1].

    Returns
    -------
    dict
        ``mse``, ``psnr`` (dB), ``ssim``, ``sharpness``.
    """
    error = mse(output, target)
    return {
        "mse": error,
        "psnr": psnr(error),
        "ssim": ssim(output, target),
        "sharpness": sharpness(output, target),
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
    reference = _roughness(target)
    return _roughness(output) / reference if reference > 0 else math.nan


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
    if min(output.shape[:2]) <= 2 * _RADIUS:
        return math.nan
    x, y = output, target
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x**2
    variance_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    denominator = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float((numerator / denominator).mean())


def _roughness(image: Image) -> float:
    """Return the mean absolute difference of neighbouring pixels."""
    across, down = np.abs(np.diff(image, axis=1)), np.abs(np.diff(image, axis=0))
    count = across.size + down.size
    return float((across.sum() + down.sum()) / count) if count else 0.0


def _blurred(image: Image) -> Image:
    """Return the Gaussian-weighted mean around every pixel whose window lies inside the image."""
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    window = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    window /= window.sum()
    for axis in (0, 1):
        inside = image.shape[axis] - 2 * _RADIUS
        parts = (
            weight * image.take(range(start, start + inside), axis=axis)
            for start, weight in enumerate(window)
        )
        image = np.sum(list(parts), axis=0)
    return image
