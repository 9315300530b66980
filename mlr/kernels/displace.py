"""Moving the pixels of images."""

import numpy as np

from mlr.kernels import jit
from mlr.kernels.parallel import share_out
from mlr.kernels.vectors import interpolate

SIDE = 4  # pixels that interpolation looks at, each way
PIXELS = 1024  # of a task


def displace(planes, pitch, weights, places, result):
    """Compute the weighted sum of the 4 x 4 pixels from its place on, for every pixel.

        result[n, p] = (s_0 + s_1) + (s_2 + s_3)
        s_j = sum_i weights[p, 4 i + j] planes[n, places[p] + i pitch + j], one i after the other

    Gathering each tap of many pixels at once, as NumPy does, takes five times as long.

    Parameters
    ----------
    planes : ndarray of float32, shape (N, F)
        Framed images, their pixels in a row.
    pitch : int
        Pixels of a row.
    weights : ndarray of float32, shape (P, 16)
    places : ndarray of intp, shape (P,)
        Indices of pixels.
    result : ndarray of float32, shape (N, P)
        Overwritten.
    """
    tasks = -(-places.size // PIXELS)
    share_out(_displace, tasks, planes, pitch, weights, places, result, jit.PLAIN_KERNELS)


@jit.serial
def _displace(begin, end, planes, pitch, weights, places, result, plain):
    """Fill the pixels of the tasks begin .. end."""
    for p in range(begin * PIXELS, min(end * PIXELS, places.size)):
        for n in range(len(planes)):
            if plain:
                result[n, p] = _interpolate(weights[p], planes[n, places[p] :], pitch)
            else:
                result[n, p] = interpolate(weights, p, planes, n, places[p], pitch)


@jit.helper
def _interpolate(weights, pixels, pitch):
    """Do what `interpolate` does, to the bit."""
    total = pair = np.float32(0)
    for j in range(SIDE):
        along = weights[j] * pixels[j]
        for i in range(1, SIDE):
            along += weights[SIDE * i + j] * pixels[i * pitch + j]
        if j % 2 == 0:
            pair = along
        elif j == 1:
            total = pair + along
        else:
            total += pair + along
    return total
