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
            row[:] = 0.0
            for k in range(len(weights)):
                source = planes[plane, min(max(y + k - radius, 0), height - 1)]
                for x in range(width):
                    row[radius + x] += weights[k] * source[x]
            row[:radius] = row[radius]
            row[radius + width :] = row[radius + width - 1]
            target = result[plane, y - cut]
            target[:] = 0.0
            for k in range(len(weights)):
                for x in range(len(target)):
                    target[x] += weights[k] * row[cut + x + k]
