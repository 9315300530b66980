"""A Gaussian blur of planes; the value at the edge goes on beyond it."""

import numpy as np

from mlr.kernels import jit
from mlr.kernels.lanes import LANES, fill, load, plus, store, times
from mlr.kernels.parallel import share_out

TRUNCATE = 3.0  # standard deviations
TILE = 4 * LANES  # adjacent pixels treated together


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
    weights = gaussian(sigma)
    shares = weights[len(weights) // 2 :].copy()  # of each of two pixels on both sides
    shares[0] /= 2.0
    arrays = stack.reshape(-1), shares, result.reshape(-1)
    share_out(_blur_planes, len(stack), *arrays, height, width, cut)
    return result.reshape(*planes.shape[:-2], *result.shape[1:])


@jit.serial
def _blur_planes(begin, end, planes, shares, result, height, width, cut):
    """Blur the planes begin .. end, row by row: down into a row with margins, then along it."""
    radius = len(shares) - 1
    row = np.empty(width + 2 * radius)
    pairs = np.empty((radius + 1, 2), np.int64)  # where rows begin that have the same weight
    high, wide = height - 2 * cut, width - 2 * cut
    for plane in range(begin, end):
        for y in range(cut, height - cut):
            for k in range(radius + 1):
                pairs[k, 0] = (plane * height + max(y - k, 0)) * width
                pairs[k, 1] = (plane * height + min(y + k, height - 1)) * width
            _weigh(planes, pairs, shares, row, radius, width)
            row[:radius] = row[radius]
            row[radius + width :] = row[radius + width - 1]
            for k in range(radius + 1):
                pairs[k, 0], pairs[k, 1] = cut + radius - k, cut + radius + k
            _weigh(row, pairs, shares, result, (plane * high + y - cut) * wide, wide)


@jit.helper
def _weigh(source, pairs, shares, result, first, size):
    """Set result[first + x] = sum_k shares[k] (source[pairs[k, 0] + x] + source[pairs[k, 1] + x]).

    Sums stay in registers from one k to the next: row by row, all takes 1.5 times as long.
    """
    if size < TILE:
        for x in range(size):
            total = 0.0
            for k in range(len(shares)):
                total += shares[k] * (source[pairs[k, 0] + x] + source[pairs[k, 1] + x])
            result[first + x] = total
        return
    for left in range(0, size, TILE):
        x = min(left, size - TILE)
        s0 = s1 = s2 = s3 = fill(0.0)
        for k in range(len(shares)):
            a, b, share = pairs[k, 0] + x, pairs[k, 1] + x, fill(shares[k])
            s0 = _more(s0, share, source, a, b)
            s1 = _more(s1, share, source, a + LANES, b + LANES)
            s2 = _more(s2, share, source, a + 2 * LANES, b + 2 * LANES)
            s3 = _more(s3, share, source, a + 3 * LANES, b + 3 * LANES)
        store(result, first + x, s0)
        store(result, first + x + LANES, s1)
        store(result, first + x + 2 * LANES, s2)
        store(result, first + x + 3 * LANES, s3)


@jit.inlined
def _more(sums, share, source, a, b):
    return plus(sums, times(share, plus(load(source, a), load(source, b))))
