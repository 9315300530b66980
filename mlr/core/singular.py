"""The minimum-norm solution of pixels with a singular matrix, which takes a penalty of 0."""

import numpy as np
from numpy.typing import NDArray

from mlr.kernels.cholesky import NormalEquations

#: Bytes that the matrices of one chunk of `solve_singular` may take.
_CHUNK_BYTES = 1 << 25


def solve_singular(
    equations: NormalEquations, weights: NDArray[np.float64], singular: NDArray[np.bool_]
) -> None:
    """Overwrite the weights of singular pixels by those closest to the prior.

        w = w0 + (G + s^2 D)^+ (b - G w0)

    The pseudo-inverse comes from the eigenvectors of the matrix; eigenvalues up to
    (K + 1) eps times the largest count as zero.

    Parameters
    ----------
    equations, weights
        As for `solve_pixels`.
    singular : bool (h, w)
        Pixels to solve.
    """
    cross, target_sums = equations.cross, equations.target_sums
    penalty, prior, scale, margin = equations[8:]
    unknowns = len(penalty)
    chunk = max(1, _CHUNK_BYTES // (8 * unknowns**2))
    ys, xs = np.nonzero(singular)
    for start in range(0, len(ys), chunk):
        within = ys[start : start + chunk], xs[start : start + chunk]
        y, x = (index + margin for index in within)
        gram, inside = gram_of_pixels(equations, y, x)
        near = np.where(inside, prior, 0.0)  # (n, K + 1)
        right = np.concatenate([cross[:, :, y, x], scale * target_sums[:, None, y, x]], axis=1)
        right = np.where(inside, right.transpose(0, 2, 1), 0.0)  # (E, n, K + 1)
        right -= (gram @ near[..., None])[..., 0]
        gram += scale * scale * penalty * (inside[:, :, None] & inside[:, None, :])
        values, vectors = np.linalg.eigh(gram)
        smallest = unknowns * np.finfo(np.float64).eps * values[:, -1:]
        inverse = np.divide(1.0, values, out=np.zeros_like(values), where=values > smallest)
        parts = (right[..., None, :] @ vectors)[..., 0, :] * inverse
        deviation = (vectors @ parts[..., None])[..., 0]
        weights[:, :, *within] = np.where(inside, near + deviation, 0.0).transpose(0, 2, 1)


def gram_of_pixels(
    equations: NormalEquations, y: NDArray[np.int64], x: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the matrices G of some pixels.

    Parameters
    ----------
    equations : NormalEquations
        Holds the planes of the statistics.
    y, x : int64 (n,)
        Pixels.

    Returns
    -------
    gram : float64 (n, K + 1, K + 1)
        Zero in the rows and columns of taps outside the frame.
    inside : bool (n, K + 1)
        Whether the taps lie in the frame; True for the bias.
    """
    lags, source_sums, count, _, _, taps, lag_of, base_of = equations[:8]
    scale = equations.scale
    height, width = source_sums.shape
    ty, tx = y[:, None] + taps[:, 0], x[:, None] + taps[:, 1]  # (n, K)
    inside = np.ones((len(y), len(taps) + 1), dtype=np.bool_)
    inside[:, :-1] = (ty >= 0) & (ty < height) & (tx >= 0) & (tx < width)
    ty, tx = np.clip(ty, 0, height - 1), np.clip(tx, 0, width - 1)
    gram = np.empty((len(y), len(taps) + 1, len(taps) + 1))
    gram[:, :-1, :-1] = lags[lag_of, ty[:, base_of], tx[:, base_of]]
    gram[:, :-1, -1] = gram[:, -1, :-1] = scale * source_sums[ty, tx]
    gram[:, -1, -1] = scale * scale * count
    gram *= inside[:, :, None] & inside[:, None, :]
    return gram, inside
