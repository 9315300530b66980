"""Second moments of framed pairs, with pooled channels and blurred over neighbouring pixels.

With x the sources, whose edge pixels repeat outside the image, and t the targets,

    lags[d](q) = sum_n x_n(q) x_n(q + d)      cross[k](p) = sum_n x_n(p + o_k) t_n(p)

and sum_n l_n x_n, sum_n l_n t_n with the light l, for intensities in [0, 1]. The blur
makes them sums over the samples of a neighbourhood, weighted by a Gaussian.
"""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import numpy.typing as npt

from mlr.core.bands import Band
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.templates import UNITS
from mlr.core.solve import solve_equations
from mlr.core.statistics import Statistics
from mlr.kernels.blur import blur, radius_of
from mlr.kernels.cholesky import NormalEquations

Float = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


def halo_for(field: ReceptiveField, sigma: float) -> int:
    """Return the number of rows above and below a band that its weights depend on."""
    return radius_of(sigma) + 3 * _reach(field)


def moments_bytes(field: ReceptiveField, sigma: float, width: int, rows: int) -> int:
    """Return the bytes that `solved` allocates for a band of this many rows."""
    margin = 2 * (radius_of(sigma) + _reach(field))
    planes = len(field.lag_table.lags) + len(field) + 2
    around = (rows + margin) * (width + margin)
    return 8 * (2 * planes * around + 3 * (len(field) + 1) * rows * width)


def solved(
    statistics: Statistics,
    name: str,
    sigma: float,
    penalty: Float,
    prior: Float,
    band: Band,
) -> Float:
    """Solve the ridge regression of an expression for blurred moments.

        w(p) = (G(p) + D)^-1 (b(p) + D w0),      G, b blurred

    The last regressor is the light l_n of the pair, instead of the 1 of a bias. The statistics are
    those of the band's crop, with pooled channels; ``sigma`` is the blur in pixels; ``penalty`` and
    ``prior`` are the diagonal of D and w0, (taps + 1,), for intensities in [0, 1]. The weights have
    the shape (taps + 1, rows, width).
    """
    field = statistics.receptive_field
    source, target = statistics.sources[name], statistics.targets[name]
    reach, radius = _reach(field), radius_of(sigma)
    lags, taps = field.lag_table.lags, field.taps
    styles = target.styles
    assert styles is not None
    lit = styles.planes[::2].sum(axis=1)  # sums of l x, l t
    extend = partial(_extended, band=band, width=statistics.shape[2], margin=reach + radius)
    planes = [
        *extend(source.lags[0], lags, turn=True),
        *extend(target.cross[0], taps),
        *(extend(plane[None], np.zeros((1, 2), np.int64))[0] for plane in lit),
    ]
    stack = blur(np.stack(planes), sigma, radius)
    end = len(lags) + len(taps)
    stack[:end] /= statistics.data_range**2
    stack[end:] /= statistics.data_range * UNITS
    equations = NormalEquations(
        lags=stack[: len(lags)],
        source_sums=stack[-2],
        samples=styles.numbers[2] / UNITS**2 * statistics.shape[0],
        cross=stack[None, len(lags) : end],
        target_sums=stack[-1:],
        taps=taps,
        lag_of=field.lag_table.lag_of,
        base_of=field.lag_table.base_of,
        penalty=penalty,
        prior=prior,
        scale=1.0,
        margin=reach,
    )
    return solve_equations(equations)[0]


def residual(
    planes: npt.NDArray[np.generic],
    total: float,
    targets: npt.NDArray[np.generic],
    weights: Float,
    field: ReceptiveField,
    band: Band,
) -> Float:
    """Return sum_n a_n (t_n - w . z_n) of the rows of a band, (channels, rows, width).

    The last element of z_n is the light l_n. ``planes`` and ``targets`` are sum_n a_n x_n and
    sum_n a_n t_n, (channels, rows of the crop, width), ``total`` is sum_n a_n l_n, and ``weights``
    are w, (taps + 1, rows, width).
    """
    rows = np.arange(band.first, band.end)
    columns = np.arange(planes.shape[2])
    result = targets[:, band.inner].astype(np.float64) - weights[-1] * total
    for (dy, dx), weight in zip(field.offsets, weights[:-1], strict=True):
        y = np.clip(rows + dy, 0, band.height - 1) - band.above
        x = np.clip(columns + dx, 0, len(columns) - 1)
        result -= weight * planes[:, y[:, None], x]
    return result


def _extended(
    planes: npt.NDArray[np.generic],
    offsets: Index,
    band: Band,
    width: int,
    margin: int,
    turn: bool = False,
) -> Float:
    """Return sum_n x_n(p) y_n(p + offset) for all offsets, as if edge pixels repeated outside.

    Outside the image both pixels are clipped to its edge, which makes their offset smaller: planes
    of all offsets between (0, 0) and each offset are needed. The planes (offsets, rows, width) are
    from the band's crop; the result extends the band and the width of the image by the margin.
    If x and y are the same images, ``turn`` uses a plane for the opposite offset as well.
    """
    plane_of = {(dy, dx): k for k, (dy, dx) in enumerate(offsets.tolist())}
    rows = np.arange(band.first - margin, band.end + margin)
    columns = np.arange(-margin, width + margin)

    def inside(dy: int, dx: int) -> tuple[Index, Index]:
        return np.clip(rows + dy, 0, band.height - 1), np.clip(columns + dx, 0, width - 1)

    y, x = inside(0, 0)
    result = np.empty((len(offsets), len(y), len(x)))
    for extended, offset in zip(result, offsets.tolist(), strict=True):
        other_y, other_x = inside(*offset)
        down, across = other_y - y, other_x - x
        for dy, dx in itertools.product(np.unique(down).tolist(), np.unique(across).tolist()):
            turned = turn and (dy, dx) not in plane_of
            plane = planes[plane_of[(-dy, -dx) if turned else (dy, dx)]]
            v, u = (other_y, other_x) if turned else (y, x)
            part = np.ix_(down == dy, across == dx)
            extended[part] = plane[v[down == dy, None] - band.above, u[across == dx]]
    return result


def is_closed(field: ReceptiveField) -> bool:
    """Return whether a field has all taps between each of its taps and the middle."""
    taps = set(field.offsets)
    return (0, 0) in taps and all(
        {(dy - int(np.sign(dy)), dx), (dy, dx - int(np.sign(dx)))} <= taps for dy, dx in taps
    )


def _reach(field: ReceptiveField) -> int:
    return int(np.abs(field.taps).max())
