"""From statistics to weights: the penalised normal equations of every pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlr.core.singular import solve_singular
from mlr.core.statistics import Group, Statistics
from mlr.errors import MlrError, OptionError
from mlr.kernels.cholesky import NormalEquations, solve_pixels


def solve(
    statistics: Statistics, penalty: float, rows: slice = slice(None)
) -> npt.NDArray[np.float32]:
    """Solve the ridge regression of every output pixel.

    Computes w(p) = (G(p) + penalty I)^-1 b(p), where the bias is penalised like every other
    coefficient (Khan et al. 2020, section 3). Where the matrix is not positive definite, which
    takes a penalty of 0, it is the solution of least norm.

    Parameters
    ----------
    statistics : Statistics
        Sums over the training pairs.
    penalty : float
        Not negative; for intensities in [0, 1].
    rows : slice
        Rows wanted, by default all.

    Returns
    -------
    ndarray of float32, shape (expressions, channels, taps + 1, rows, width)
        Weights for intensities in [0, 1], expressions in alphabetical order, bias last.

    Raises
    ------
    MlrError
        If the penalty is negative or not finite, there is no training pair, or weights overflow.
    """
    check_penalty(penalty)
    if not statistics.expressions:
        raise MlrError("there is no training pair in these statistics")
    channels, height, width = statistics.shape
    field = statistics.receptive_field
    order = {name: index for index, name in enumerate(statistics.expressions)}
    wanted = len(range(*rows.indices(height)))
    result = np.empty((len(order), channels, len(field) + 1, wanted, width), np.float32)
    for group in statistics.groups:
        for channel in range(channels):
            weights = _solved(statistics, group, channel, penalty)
            with np.errstate(over="ignore"):
                for name, solution in zip(group.targets, weights, strict=True):
                    result[order[name], channel] = solution[:, rows]
            del weights  # before those of the next channel are allocated
    if not np.isfinite(result).all():
        raise MlrError(
            "the weights are too large for a model: give intensities in [0, 1] or a larger penalty"
        )
    return result


def _solved(
    statistics: Statistics, group: Group, channel: int, penalty: float
) -> npt.NDArray[np.float64]:
    """Return the weights of a channel, (targets, taps + 1, height, width)."""
    field = statistics.receptive_field
    table = field.lag_table
    unknowns, size = len(field) + 1, statistics.shape[1:]
    cross = np.empty((len(group.targets), len(field), *size))
    sums = np.empty((len(group.targets), *size))
    for k, target in enumerate(group.targets.values()):
        cross[k], sums[k] = target.cross[channel], target.sums[channel]
    weights = np.empty((len(group.targets), unknowns, *size))
    equations = NormalEquations(
        lags=group.source.lags[channel].astype(np.float64),
        source_sums=group.source.sums[channel].astype(np.float64),
        samples=float(group.source.count),
        cross=cross,
        target_sums=sums,
        taps=field.taps,
        lag_of=table.lag_of,
        base_of=table.base_of,
        penalty=penalty * np.eye(unknowns),
        prior=np.zeros(unknowns),
        scale=statistics.data_range,
    )
    singular = solve_pixels(equations, weights)
    try:
        solve_singular(equations, weights, singular)
    except np.linalg.LinAlgError:  # of numbers near the end of their range
        weights[:] = np.inf
    return weights


def solving_bytes(statistics: Statistics) -> int:
    """Return the bytes that `solve` allocates for each row of images."""
    field, width = statistics.receptive_field, statistics.shape[2]
    each = max((len(group.targets) for group in statistics.groups), default=0)
    float64 = len(statistics.layout.lags) + 1 + 2 * each * (len(field) + 1)
    float32 = len(statistics.expressions) * statistics.shape[0] * (len(field) + 1)
    return width * (8 * float64 + 4 * float32)


def check_penalty(penalty: float) -> None:
    """Raise unless a penalty makes sense.

    Raises
    ------
    OptionError
        If it is negative or not finite.
    """
    if not (np.isfinite(penalty) and penalty >= 0):
        raise OptionError(f"the penalty must be finite and not negative, not {penalty}")
