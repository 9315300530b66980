"""A Gaussian blur of planes; the value at the edge goes on beyond it."""

import numpy as np

from mlr.kernels import jit
from mlr.kernels.parallel import share_out

TRUNCATE = 3.0  # standard deviations


def radius_of(sigma):
    """Return how many pixels to each side a blur looks at."""
    return int(TRUNCATE * sigma + 0.5)


def gaussian(sigma):
    """Return the weights of a Gaussian at whole pixels, cut off at `TRUNCATE` sigma, of sum 1."""
    if sigma == 0:
        return np.ones(1)
    radius = radius_of(sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def blur(planes, sigma, cut=0):
    """Return planes convolved with a Gaussian, along rows and along columns.

    Parameters
    ----------
    planes : ndarray of float64, shape (..., H, W)
        Any number of planes.
    sigma : float
        Standard deviation in pixels.
    cut : int
        Pixels to leave out at each edge.

    Returns
    -------
    ndarray of float64, shape (..., H - 2 cut, W - 2 cut)
    """
    height, width = planes.shape[-2:]
    stack = np.ascontiguousarray(planes, np.float64).reshape(-1, height, width)
    result = np.empty((len(stack), height - 2 * cut, width - 2 * cut))
    share_out(_blur_planes, len(stack), stack, gaussian(sigma), cut, result)
    return result.reshape(*planes.shape[:-2], *result.shape[1:])


@jit.serial
def _blur_planes(begin, end, planes, weights, cut, result):
    """Blur the planes begin .. end, row by row: down into a row with margins, then along it."""
    _, height, width = planes.shape
    radius = len(weights) // 2
    row = np.empty(width + 2 * radius)
    for plane in range(begin, end):
        for y in range(cut, height - cut):
            down, along = row[radius : radius + width], result[plane, y - cut]
            down[:] = along[:] = 0.0
            for k in range(radius + 1):
                above, below = max(y - k, 0), min(y + k, height - 1)
                _add(down, _share(weights, k), planes[plane, above], planes[plane, below])
            row[:radius] = row[radius]
            row[radius + width :] = row[radius + width - 1]
            left = cut + radius
            for k in range(radius + 1):
                _add(along, _share(weights, k), row[left - k :], row[left + k :])


@jit.inlined
def _share(weights, k):
    """Return the weight of each of two pixels, k away from the middle to both sides."""
    return weights[len(weights) // 2 + k] / (1.0 if k else 2.0)


@jit.inlined
def _add(sums, weight, a, b):
    """Add two rows of equal weight: half of the work of adding each by itself."""
    for x in range(len(sums)):
        sums[x] += weight * (a[x] + b[x])
