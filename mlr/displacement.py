"""Displacement: where the pixels of an expression come from, and the moments after the move.

An expression moves things: the corners of the mouth go up by several pixels. A model may first move
its input by a fixed field u, one vector for each pixel in (dy, dx), and then apply its weights,

    x'(p) = x(p + u(p))        Catmull-Rom interpolation, edge pixels repeated outside the image,

so that lines move instead of being smeared. Whatever is needed of the moved images follows from the
sums over the unmoved ones, for x' is linear in x.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlr.kernels.blur import blur
from mlr.kernels.displaced import displaced_cross, displaced_lags, interleaved
from mlr.layout import Layout
from mlr.moments import Moments, lags_of
from mlr.receptive_field import ReceptiveField
from mlr.statistics import Statistics
from mlr.warping import INTERPOLATION_REACH, interpolation

Field = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]

SIZE = 128  # side of the images that the lengths below are for, in pixels
BLUR = 3.0  # pixels: neighbours that look for a common displacement
SMOOTH = 2.0  # pixels: blur of the displacement itself
PENALTY = 8e-5  # mean squared error that a displacement of one pixel must at least save
LEAST_GAIN = 0.03  # part of the squared error that a displacement must save, or nothing is moved
FULL_GAIN = 0.15  # and from which on everything is; in between, a part of the way
STRETCH = 2  # pixels by which two taps may be moved apart


def layout_for(field: ReceptiveField, reach: int) -> Layout:
    """Return the layout of statistics from which displacements and moments can be told.

    Parameters
    ----------
    field : ReceptiveField
        Taps of the model.
    reach : int
        Longest displacement along an axis, in pixels; 0 for none.
    """
    margin = int(np.abs(field.taps).max())
    longest = int(np.abs(field.lag_table.lags).max())
    if reach == 0:
        return Layout(ReceptiveField.square(2 * margin + 1), longest, pooled=True)
    wide = reach + INTERPOLATION_REACH - 1 + margin
    lag_reach = longest + 2 * INTERPOLATION_REACH - 1 + STRETCH
    return Layout(ReceptiveField.square(2 * wide + 1), lag_reach, pooled=True)


def reach_of(layout: Layout, field: ReceptiveField) -> int:
    """Return the longest displacement, in pixels, that statistics of a layout allow for."""
    reach = max(int(np.abs(layout.receptive_field.taps).max()), 0)
    while reach > 0 and not holds(layout, field, reach):
        reach -= 1
    return reach


def holds(layout: Layout, field: ReceptiveField, reach: int = 0) -> bool:
    """Return whether statistics of a layout have all planes that these displacements need."""
    wanted = layout_for(field, reach)
    offsets, lags = set(layout.receptive_field.offsets), set(map(tuple, layout.lags.tolist()))
    return set(wanted.receptive_field.offsets) <= offsets and all(
        tuple(lag) in lags for lag in wanted.lags.tolist()
    )


def estimate(statistics: Statistics, expression: str, reach: int, *, mirrored: bool) -> Field:
    """Return the field of displacements that brings the inputs closest to their targets.

    u(p) is the d with the least blurred mean of (x_n(p + d) - t_n(p))^2, plus `PENALTY` |d|^2, to
    parts of a pixel by the parabola through the least value and its neighbours; then blurred. Where
    it saves little, as in hair and beside the face, it is shortened: what moves there differs from
    person to person, and straight lines of a background stay straight.

    Parameters
    ----------
    statistics : Statistics
        Of the layout for ``reach``.
    expression : str
        Which targets.
    reach : int
        Longest displacement along an axis, in pixels.
    mirrored : bool
        Look at mirrored pairs too; the field is then symmetric.

    Returns
    -------
    ndarray of float32, shape (2, height, width)
        (dy, dx) in pixels.
    """
    errors = _errors(statistics, expression, reach)
    if mirrored:
        errors = (errors + errors[:, ::-1, :, ::-1]) / 2
    height, width = errors.shape[2:]
    scale = np.sqrt(height * width) / SIZE
    errors = blur(errors, BLUR * scale)
    steps = np.arange(-reach, reach + 1) / scale
    found = _best(errors, PENALTY * (steps[:, None] ** 2 + steps**2)) * _share(errors)
    found = blur(found, SMOOTH * scale)
    # The lag planes do not hold products of neighbours torn farther apart.
    while _stretch(found, statistics.layout.lag_reach or 0) > 0:
        found = blur(found, max(scale, 1.0))
    return found.astype(np.float32)


def moments(
    statistics: Statistics,
    expression: str,
    field: ReceptiveField,
    displacement: Field | None,
    margin: int,
) -> Moments:
    """Return the moments of the displaced inputs and their targets.

    Parameters
    ----------
    statistics : Statistics
        Of the layout for ``field`` and a reach that no displacement exceeds.
    expression : str
        Which targets.
    field : ReceptiveField
        Taps of the model.
    displacement : ndarray of float32, shape (2, height, width), optional
        (dy, dx) in pixels.
    margin : int
        How far the moments' frame is to extend beyond the image, in pixels.

    Returns
    -------
    Moments
        Up to rounding those of images that are displaced one by one; zero if there are none.
    """
    source, target = statistics.sources[expression], statistics.targets[expression]
    channels, height, width = statistics.shape
    around = ((margin, margin), (margin, margin))
    unit = 1.0 / statistics.white

    places = tuple(
        np.ascontiguousarray(np.pad(part, (*around, (0, 0)), mode="edge"))
        for part in interpolation(displacement, (height, width))
    )
    rows, columns, down, across = places
    y, x = (np.pad(part, around, mode="edge") for part in np.indices((height, width)))
    sums = np.zeros(y.shape)
    for i in range(rows.shape[2]):
        for j in range(columns.shape[2]):
            weights = down[..., i] * across[..., j]
            sums += weights * source.sums[0][rows[..., i], columns[..., j]]
    return Moments(
        receptive_field=field,
        margin=margin,
        samples=float(source.count * channels),
        lags=displaced_lags(_all_products(statistics, expression), places, lags_of(field))
        * unit**2,
        source_sums=sums * unit,
        cross=displaced_cross(_cross_products(statistics, expression), places, (y, x), field.taps)
        * unit**2,
        target_sums=target.sums[0][y, x] * unit,
        squares=target.squares[0][y, x] * unit**2,
    )


def _errors(statistics: Statistics, expression: str, reach: int) -> Float:
    """Return the mean of (x_n(p + d) - t_n(p))^2 for d from (-reach, -reach) to (reach, reach)."""
    source, target = statistics.sources[expression], statistics.targets[expression]
    channels, height, width = statistics.shape
    squares = source.lags[0, statistics.layout.lags.tolist().index([0, 0])].astype(np.float64)
    wide = round(len(statistics.layout.receptive_field) ** 0.5)
    cross = target.cross[0].reshape(wide, wide, height, width)
    y, x = np.indices((height, width))
    errors = np.empty((2 * reach + 1, 2 * reach + 1, height, width))
    for i in range(2 * reach + 1):
        for j in range(2 * reach + 1):
            v, u = np.clip(y + i - reach, 0, height - 1), np.clip(x + j - reach, 0, width - 1)
            both = cross[v - y + wide // 2, u - x + wide // 2, y, x]
            errors[i, j] = squares[v, u] - 2.0 * both + target.squares[0]
    return errors / (statistics.white**2 * source.count * channels)


def _best(errors: Float, penalties: Float) -> Float:
    """Return the displacement of the least sum of both, (dy, dx), to parts of a pixel."""
    side, _, height, width = errors.shape
    errors = errors + penalties[:, :, None, None]
    least = errors.reshape(-1, height, width).argmin(axis=0)
    i, j = (np.clip(n, 1, side - 2) for n in np.divmod(least, side))  # both have neighbours
    y, x = np.indices((height, width))
    here = errors[i, j, y, x]
    down = _vertex(errors[i - 1, j, y, x], here, errors[i + 1, j, y, x])
    across = _vertex(errors[i, j - 1, y, x], here, errors[i, j + 1, y, x])
    return np.stack([i + down, j + across]) - side // 2


def _share(errors: Float) -> Float:
    """Return how much of its displacement each pixel takes part in, by the error that it saves."""
    unmoved = errors[len(errors) // 2, len(errors) // 2]
    gain = (unmoved - errors.min(axis=(0, 1))) / np.where(unmoved > 0, unmoved, 1.0)
    return np.clip((gain - LEAST_GAIN) / (FULL_GAIN - LEAST_GAIN), 0.0, 1.0)


def _vertex(before: Float, here: Float, after: Float) -> Float:
    """Return where the parabola through three values at -1, 0, 1 has its vertex, within 1/2."""
    curvature = before - 2 * here + after
    found = 0.5 * (before - after) / np.where(curvature > 1e-12, curvature, np.inf)
    return np.clip(found, -0.5, 0.5)


def _stretch(displacement: Float, lag_reach: int) -> int:
    """Return by how many pixels some taps are farther apart than the lag planes reach."""
    _, height, width = displacement.shape
    places = np.floor(displacement).astype(np.int64) + np.indices((height, width))
    apart = lag_reach - (2 * INTERPOLATION_REACH - 1) - STRETCH
    farthest = 0
    for dy in range(min(apart, height - 1) + 1):
        for dx in range(-min(apart, width - 1), min(apart, width - 1) + 1):
            a = places[:, : height - dy, max(0, -dx) : width - max(0, dx)]
            b = places[:, dy:, max(0, dx) : width + min(0, dx)]
            farthest = max(farthest, int(np.abs(b - a).max()))
    return farthest + 2 * INTERPOLATION_REACH - 1 - lag_reach


def _all_products(statistics: Statistics, expression: str) -> Float:
    """Return sum_n x_n(v) x_n(v + e) for all e, those of a pixel together: (H, W, e)."""
    lags = statistics.layout.lags.tolist()
    reach = statistics.layout.lag_reach or 0
    span = range(-reach, reach + 1)
    index, shifts = [], []
    for dy in span:
        for dx in span:
            forward = [dy, dx] in lags
            index.append(lags.index([dy, dx] if forward else [-dy, -dx]))
            shifts.append((0, 0) if forward else (-dy, -dx))
    planes = statistics.sources[expression].lags[0].astype(np.float64)
    return interleaved(planes, np.array(index), np.array(shifts))


def _cross_products(statistics: Statistics, expression: str) -> Float:
    """Return sum_n x_n(v + e) t_n(v) for all e, those of a pixel together: (H, W, e)."""
    planes = statistics.targets[expression].cross[0].astype(np.float64)
    index = np.arange(len(planes))
    return interleaved(planes, index, np.zeros((len(planes), 2), np.int64))
