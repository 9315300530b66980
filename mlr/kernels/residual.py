"""The squared error of given weights, read off the sums over the samples."""

import numpy as np

from mlr.kernels import jit
from mlr.kernels.parallel import share_out


def squared_errors(
    lags,
    source_sums,
    samples,
    cross,
    target_sums,
    squares,
    taps,
    lag_of,
    base_of,
    weights,
    margin,
):
    """Return sum_n (w . z_n - t_n)^2 = sum_n t_n^2 - 2 w'b + w'Gw at every pixel of the image.

    Parameters
    ----------
    lags : ndarray of float64, shape (L, H, W)
        sum_n x_n(q) x_n(q + d), in a frame that extends `margin` pixels beyond the image.
    source_sums, target_sums, squares : ndarray of float64, shape (H, W)
        sum_n x_n, sum_n t_n and sum_n t_n^2.
    samples : float
        Number of samples.
    cross : ndarray of float64, shape (K, H, W)
        sum_n x_n(p + o_k) t_n(p).
    taps : ndarray of int64, shape (K, 2)
        Offsets (dy, dx) of at most `margin`.
    lag_of, base_of : ndarray of int64, shape (K, K)
        Of two taps: the plane of their difference, and which of the two it starts from.
    weights : ndarray of float64, shape (K + 1, H - 2 margin, W - 2 margin)
        Bias last.
    margin : int
        Pixels.

    Returns
    -------
    ndarray of float64, shape (H - 2 margin, W - 2 margin)
    """
    height, width = squares.shape
    errors = np.empty((height - 2 * margin, width - 2 * margin))
    planes = (lags, source_sums, float(samples), cross, target_sums, squares)
    tables = (taps, lag_of, base_of)
    share_out(_squared_errors, len(errors), planes, tables, weights, margin, errors)
    return errors


@jit.serial
def _squared_errors(begin, end, planes, tables, weights, margin, errors):
    """Fill the rows begin .. end of the errors."""
    ones = np.ones(errors.shape[1])
    for row in range(begin, end):
        _errors_of_row(row, planes, tables, weights, margin, ones, errors[row])


@jit.helper
def _errors_of_row(row, planes, tables, weights, margin, ones, error):
    """Fill a row of the errors, term by term."""
    lags, source_sums, samples, cross, target_sums, squares = planes
    taps, lag_of, base_of = tables
    bias, width = len(taps), len(error)
    y, offset = row + margin, weights[len(taps), row]
    error[:] = 0.0
    _add(error, 1.0, squares[y, margin : margin + width], ones, ones)
    _add(error, samples, offset, offset, ones)
    _add(error, -2.0, offset, target_sums[y, margin : margin + width], ones)
    for a in range(bias):
        weight = weights[a, row]
        left = margin + taps[a, 1]
        _add(error, 2.0, weight, offset, source_sums[y + taps[a, 0], left : left + width])
        _add(error, -2.0, weight, cross[a, y, margin : margin + width], ones)
        for b in range(a + 1):
            base = base_of[a, b]
            left = margin + taps[base, 1]
            gram = lags[lag_of[a, b], y + taps[base, 0], left : left + width]
            _add(error, 1.0 if a == b else 2.0, weight, weights[b, row], gram)


@jit.helper
def _add(sums, factor, a, b, c):
    """Add the products; the only loop, for each that is vectorized takes a second to compile."""
    for x in range(len(sums)):
        sums[x] += factor * a[x] * b[x] * c[x]
