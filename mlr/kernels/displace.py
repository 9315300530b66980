"""Moving the pixels of images."""

from mlr.kernels import jit
from mlr.kernels.parallel import share_out


def displace(planes, weights, places, result):
    """Compute result[n, p] = sum_k weights[k, p] planes[n, places[k, p]], one k after the other.

    Parameters
    ----------
    planes : ndarray of float32, shape (N, P)
        Images, their pixels in a row.
    weights : ndarray of float32, shape (K, P)
    places : ndarray of intp, shape (K, P)
        Indices of pixels, from 0 to P - 1.
    result : ndarray of float32, shape (N, P)
        Overwritten.
    """
    share_out(_displace, planes.shape[1], planes, weights, places, result)


@jit.serial
def _displace(begin, end, planes, weights, places, result):
    """Fill the pixels begin .. end."""
    for n in range(len(planes)):
        source, target = planes[n], result[n]
        for p in range(begin, end):
            target[p] = 0.0
        for k in range(len(weights)):
            for p in range(begin, end):
                target[p] += weights[k, p] * source[places[k, p]]
