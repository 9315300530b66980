"""From statistics to weights: the penalised normal equations of every pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlr.core.statistics import Group, Statistics
from mlr.errors import MlrError
from mlr.kernels.cholesky import NormalEquations, solve_pixels

Float = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

_CHUNK_BYTES = 1 << 25  # of the matrices of singular pixels that are solved at once


def solve(
    statistics: Statistics, penalty: float, rows: slice = slice(None)
) -> npt.NDArray[np.float32]:
    """Solve the ridge regression of every output pixel.

    Computes w(p) = (G(p) + penalty I)^-1 b(p), where the bias is penalised like every other
    coefficient (Khan et al. 2020, section 3). Where the matrix is not positive definite, as is
    possible with a penalty of 0, it is the minimum-norm solution.

    The penalty, for intensities in [0, 1], is not negative; ``rows`` are computed, by default all.
    Returns the weights for intensities in [0, 1], float32, (expressions, channels, taps + 1, rows,
    width), with the expressions in alphabetical order and the bias last. Raises an `MlrError` if
    weights overflow.
    """
    channels, height, width = statistics.shape
    unknowns = len(statistics.receptive_field) + 1
    order = {name: index for index, name in enumerate(statistics.expressions)}
    wanted = len(range(*rows.indices(height)))
    result = np.empty((len(order), channels, unknowns, wanted, width), np.float32)
    for group in statistics.groups:
        for channel in range(channels):
            weights = solve_equations(_equations(statistics, group, channel, penalty))
            with np.errstate(over="ignore"):
                for name, solution in zip(group.targets, weights, strict=True):
                    result[order[name], channel] = solution[:, rows]
            del weights  # before the next channel's are allocated
    if not np.isfinite(result).all():
        raise MlrError(
            "the weights are too large for a model: give intensities in [0, 1] or a larger penalty"
        )
    return result


def _equations(
    statistics: Statistics, group: Group, channel: int, penalty: float
) -> NormalEquations:
    """Return the equations of a channel for all targets of a group."""
    field = statistics.receptive_field
    table, targets = field.lag_table, group.targets.values()
    return NormalEquations(
        lags=group.source.lags[channel].astype(np.float64),
        source_sums=group.source.sums[channel].astype(np.float64),
        samples=float(group.source.count),
        cross=np.stack([target.cross[channel] for target in targets], dtype=np.float64),
        target_sums=np.stack([target.sums[channel] for target in targets], dtype=np.float64),
        taps=field.taps,
        lag_of=table.lag_of,
        base_of=table.base_of,
        penalty=np.full(len(field) + 1, penalty),
        prior=np.zeros(len(field) + 1),
        scale=statistics.data_range,
    )


def solving_bytes(statistics: Statistics) -> int:
    """Return the bytes that `solve` allocates for each row of images."""
    field, width = statistics.receptive_field, statistics.shape[2]
    each = max((len(group.targets) for group in statistics.groups), default=0)
    float64 = len(statistics.layout.lags) + 1 + 2 * each * (len(field) + 1)
    float32 = len(statistics.expressions) * statistics.shape[0] * (len(field) + 1)
    return width * (8 * float64 + 4 * float32)


def solve_equations(equations: NormalEquations) -> Float:
    """Return the weights of the ridge regression of every pixel, float64, (E, K + 1, h, w).

    The bias is last. Where the matrix is singular, as is possible with a penalty of 0, they are the
    solution closest to the prior,

        w = w0 + (G + s^2 D)^+ (b - G w0)

    The pseudo-inverse comes from the eigenvectors of the matrix; eigenvalues up to (K + 1) eps
    times the largest count as zero. Weights that overflow are infinite.
    """
    weights, singular = solve_pixels(equations)
    chunk = max(1, _CHUNK_BYTES // (8 * len(equations.penalty) ** 2))
    y, x = np.nonzero(singular)
    try:
        for first in range(0, len(y), chunk):
            some = slice(first, first + chunk)
            weights[:, :, y[some], x[some]] = _least_norm(equations, y[some], x[some])
    except np.linalg.LinAlgError:  # overflow
        weights[:] = np.inf
    return weights


def _least_norm(equations: NormalEquations, y: Index, x: Index) -> Float:
    """Return the weights of some pixels, (E, K + 1, n)."""
    penalty, prior, scale, margin = equations[8:]
    y, x = y + margin, x + margin
    gram, inside = _gram(equations, y, x)
    near = np.where(inside, prior, 0.0)  # (n, K + 1)
    sums = scale * equations.target_sums[:, None, y, x]
    right = np.concatenate([equations.cross[:, :, y, x], sums], axis=1)
    right = np.where(inside, right.transpose(0, 2, 1), 0.0)  # (E, n, K + 1)
    right -= (gram @ near[..., None])[..., 0]
    gram += scale * scale * np.eye(len(penalty)) * (penalty * inside)[:, None]
    values, vectors = np.linalg.eigh(gram)
    smallest = len(penalty) * np.finfo(np.float64).eps * values[:, -1:]
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=values > smallest)
    parts = (right[..., None, :] @ vectors)[..., 0, :] * inverse
    deviation = (vectors @ parts[..., None])[..., 0]
    return np.asarray(np.where(inside, near + deviation, 0.0).transpose(0, 2, 1))


def _gram(equations: NormalEquations, y: Index, x: Index) -> tuple[Float, npt.NDArray[np.bool_]]:
    """Return the matrices G of some pixels (n, K + 1, K + 1), and which taps are inside (n, K + 1).

    The rows and columns of other taps are zero.
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
