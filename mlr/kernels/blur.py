"""Gaussian blur of planes; edges repeat."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mlr.kernels import jit
from mlr.kernels._llvm import RUN, fill_run, load_run, store_run
from mlr.kernels.parallel import parallel_for

TRUNCATE = 3.0  # standard deviations


def radius_of(sigma: float) -> int:
    """Return the radius of the kernel of a blur, in pixels."""
    return int(TRUNCATE * sigma + 0.5)


def gaussian(sigma: float, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Return half of a Gaussian kernel cut at 3 sigma, centre first; the whole has the sum 1."""
    radius = radius_of(sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-9)) ** 2)
    return (weights / weights.sum())[radius:].astype(dtype)


def blur(
    planes: NDArray[np.floating], sigma: float, cut: int = 0, *, threads: bool = True
) -> NDArray[Any]:
    """Return planes convolved with a Gaussian, along rows and along columns.

    Parameters
    ----------
    planes : ndarray of float32 or float64, shape (..., H, W)
    sigma : float
        Standard deviation in pixels.
    cut : int
        Pixels to omit at each edge of the result.
    threads : bool
        Compute in parallel.

    Returns
    -------
    ndarray of the same dtype, shape (..., H - 2 cut, W - 2 cut)
    """
    height, width = planes.shape[-2] - 2 * cut, planes.shape[-1] - 2 * cut
    stack = np.ascontiguousarray(planes).reshape(-1, *planes.shape[-2:])
    if width < RUN:  # rows shorter than vectors
        stack = np.pad(stack, ((0, 0), (0, 0), (0, RUN - width)), mode="edge")
    result = np.empty((len(stack), height, max(width, RUN)), planes.dtype)
    arguments = stack, gaussian(sigma, planes.dtype), result, cut
    if threads:
        parallel_for(_blur_planes, len(stack), *arguments)
    else:
        _blur_planes(0, len(stack), *arguments)
    return result[..., :width].reshape(*planes.shape[:-2], height, width)


@jit.serial
def _blur_planes(begin, end, planes, half, result, cut):
    row = np.empty(planes.shape[2] + 2 * len(half), planes.dtype)
    for n in range(begin, end):
        blur_plane(planes[n], half, row, result[n], cut)


@jit.helper
def blur_plane(plane, half, row, result, cut):
    """Blur a plane row by row: vertically into a row with margins, then along it.

    Sums stay in registers from one k to the next; a loop over rows for each k takes 1.5 times as
    long.
    """
    height, width = plane.shape
    radius = len(half) - 1
    for y in range(cut, height - cut):
        for left in range(0, width, RUN):
            x = min(left, width - RUN)
            total = fill_run(half[0]) * load_run(plane, (y, x))
            for k in range(1, len(half)):
                above, below = max(y - k, 0), min(y + k, height - 1)
                both = load_run(plane, (above, x)) + load_run(plane, (below, x))
                total += fill_run(half[k]) * both
            store_run(row, (radius + x,), total)
        for k in range(radius):
            row[k] = row[radius]
            row[radius + width + k] = row[radius + width - 1]
        for left in range(0, width - 2 * cut, RUN):
            x = min(left, width - 2 * cut - RUN)
            middle = radius + cut + x
            total = fill_run(half[0]) * load_run(row, (middle,))
            for k in range(1, len(half)):
                both = load_run(row, (middle - k,)) + load_run(row, (middle + k,))
                total += fill_run(half[k]) * both
            store_run(result, (y - cut, x), total)
