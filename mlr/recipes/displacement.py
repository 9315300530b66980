"""Displacement: where the pixels of an expression come from, and the moments after the move.

An expression moves things: the corners of the mouth go up by several pixels. A model may first move
its input by a fixed field u, one vector for each pixel in (dy, dx), and then apply its weights,

    x'(p) = x(p + u(p))        Catmull-Rom interpolation, edge pixels repeated outside the image,

so that lines move instead of being smeared. Whatever is needed of the moved images follows from the
sums over the unmoved ones, for x' is linear in x.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from mlr.folds import Folds
from mlr.kernels.blur import blur, radius_of
from mlr.kernels.displaced import displaced_cross, displaced_lags, interleaved
from mlr.kernels.parallel import share_out
from mlr.layout import Layout
from mlr.planes import Planes
from mlr.receptive_field import ReceptiveField
from mlr.recipes.moments import Moments, lags_of, planes_of
from mlr.running.bands import LEAST_ROWS, Band, Cost, RowSums
from mlr.statistics import SourceSums, Statistics, TargetSums
from mlr.warping import INTERPOLATION_REACH, interpolation
from mlr.warping import Places as Moved

Field = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]

SIZE = 128  # side of the images that the lengths below are for, in pixels
BLUR = 3.0  # pixels: neighbours that look for a common displacement
SMOOTH = 2.0  # pixels: blur of the displacement itself
PENALTY = 8e-5  # mean squared error that a displacement of one pixel must at least save
LEAST_GAIN = 0.03  # part of the squared error that a displacement must save, or nothing is moved
FULL_GAIN = 0.15  # and from which on everything is; in between, a part of the way
STRETCH = 2  # pixels by which two taps may be moved apart
PRODUCT_BYTES = 8 << 20  # of products of pixels with their neighbours, made at a time
PRODUCT_ROWS = 14  # at most


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
    margin = int(np.abs(field.taps).max()) + INTERPOLATION_REACH - 1
    reach = max(int(np.abs(layout.receptive_field.taps).max()) - margin, 0)
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


def estimate(sums: RowSums, expression: str, reach: int, *, mirrored: bool) -> Field:
    """Return the field of displacements that brings the inputs closest to their targets.

    u(p) is the d with the least blurred mean of (x_n(p + d) - t_n(p))^2, plus `PENALTY` |d|^2, to
    parts of a pixel by the parabola through the least value and its neighbours; then blurred. Where
    it saves little, as in hair and beside the face, it is shortened: what moves there differs from
    person to person, and straight lines of a background stay straight.

    Parameters
    ----------
    sums : RowSums
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
    _, height, width = sums.shape
    scale = np.sqrt(height * width) / SIZE
    found = np.empty((2, height, width))
    work = partial(_closest, expression=expression, reach=reach, scale=scale, mirrored=mirrored)
    for band, rows in sums.each(work, sums.bands(*estimating(sums, reach))):
        found[:, band.rows] = rows
    found = blur(found, SMOOTH * scale)
    # The lag planes do not hold products of neighbours torn farther apart.
    while _stretch(found, sums.head.layout.lag_reach or 0) > 0:
        found = blur(found, max(scale, 1.0))
    return found.astype(np.float32)


def estimating(sums: RowSums, reach: int) -> tuple[Cost, int]:
    """Return what `estimate` takes for a band of rows, in bytes, and how many rows around it."""
    _, height, width = sums.shape
    halo = radius_of(BLUR * np.sqrt(height * width) / SIZE) + reach
    side = 2 * reach + 1

    def cost(rows: int) -> int:
        return 8 * width * (side * (side + 4) * (rows + 2 * halo) + 8 * rows)

    return cost, halo


def _closest(
    sums: Folds, band: Band, *, expression: str, reach: int, scale: float, mirrored: bool
) -> Float:
    """Return the displacement of least error at each pixel of a band."""
    errors = _errors(sums, expression, reach, mirrored=mirrored)
    for of_row in errors:
        of_row[:] = blur(of_row, BLUR * scale)
    errors = errors[:, :, band.inner]
    steps = np.arange(-reach, reach + 1) / scale
    return _best(errors, PENALTY * (steps[:, None] ** 2 + steps**2)) * _share(errors)


@dataclass(frozen=True)
class Frame:
    """Rows of a frame that extends beyond the image, which `moments` are to be worked out for.

    Attributes
    ----------
    height : int
        Rows of the image.
    margin : int
        How far the frame extends beyond it, in pixels.
    first, end : int
        The rows first, ..., end - 1; those of the whole frame are -margin, ...,
        height + margin - 1.
    """

    height: int
    margin: int
    first: int
    end: int

    @classmethod
    def whole(cls, height: int, margin: int) -> Frame:
        """Return all rows of the frame of an image."""
        return cls(height, margin, -margin, height + margin)

    def around(self, above: int, below: int) -> tuple[int, int]:
        """Return the first and the end of these rows with some more around, in the frame."""
        return max(self.first - above, -self.margin), min(
            self.end + below, self.height + self.margin
        )

    def parts(self, rows: int) -> list[Frame]:
        """Return the same rows, so many at a time."""
        starts = range(self.first, self.end, rows)
        return [replace(self, first=s, end=min(s + rows, self.end)) for s in starts]


@dataclass(frozen=True)
class Places:
    """Where the pixels of a few rows of a frame come from: the same in all folds.

    Attributes
    ----------
    frame : Frame
        The rows.
    wanted : slice
        Those rows among all that are here, for some around them are needed, too.
    moved : tuple of ndarray
        What `interpolation` returns, for all rows and columns of the frame.
    still : tuple of ndarray of int64
        Row and column of each pixel in the image, those beyond its edge moved there.
    reach_of_lags, reach_of_taps : int
        How far apart pixels are, at most, whose products moments depend on.
    """

    frame: Frame
    wanted: slice
    moved: Moved
    still: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    reach_of_lags: int
    reach_of_taps: int


def places_in(
    layout: Layout, field: ReceptiveField, displacement: Field | None, frame: Frame, width: int
) -> list[Places]:
    """Return where pixels come from, for so many rows at a time as `moments` works on.

    Parameters
    ----------
    layout : Layout
        Of the statistics.
    field, displacement, frame
        As for `moments`.
    width : int
        Of the image.
    """
    parts = frame.parts(_rows_at_once(layout, width))
    return [_places(field, displacement, part, width) for part in parts]


def _places(field: ReceptiveField, displacement: Field | None, frame: Frame, width: int) -> Places:
    lags, taps = lags_of(field), field.taps
    first, end = frame.around(-int(taps[:, 0].min()), int(max(lags[:, 0].max(), taps[:, 0].max())))
    y = np.clip(np.arange(first, end), 0, frame.height - 1)
    x = np.clip(np.arange(-frame.margin, width + frame.margin), 0, width - 1)
    here = slice(y[0], y[-1] + 1)
    rows, columns, down, across = (
        np.ascontiguousarray(part[np.ix_(y - y[0], x)])
        for part in interpolation(displacement, (frame.height, width), here)
    )
    still = tuple(np.ascontiguousarray(a) for a in np.broadcast_arrays(y[:, None], x))
    farthest = max(
        int(abs(moved - unmoved[..., None]).max())
        for moved, unmoved in zip((rows, columns), still, strict=True)
    )
    return Places(
        frame,
        slice(frame.first - first, frame.end - first),
        (rows, columns, down, across),
        (still[0], still[1]),
        _farthest((rows[..., 0], columns[..., 0]), lags) + rows.shape[2] - 1,
        farthest + int(np.abs(taps).max()),
    )


def halo_for(layout: Layout, reach: int) -> int:
    """Return how many rows of statistics around those of a frame its moments depend on."""
    return reach + INTERPOLATION_REACH + (layout.lag_reach or 0)


def moments(
    statistics: Statistics,
    expressions: tuple[str, ...],
    field: ReceptiveField,
    displacement: Field | None,
    frame: Frame,
    top: int = 0,
    places: Sequence[Places] | None = None,
) -> Moments:
    """Return the moments of the displaced inputs and their targets.

    Parameters
    ----------
    statistics : Statistics
        Of the layout for ``field`` and a reach that no displacement exceeds.
    expressions : tuple of str
        Which targets, of the same sources.
    field : ReceptiveField
        Taps of the model.
    displacement : ndarray of float32, shape (2, height, width), optional
        (dy, dx) in pixels, of the whole image.
    frame : Frame
        Where they are wanted.
    top : int
        Row of the image that the statistics begin with. They must extend by `halo_for` beyond the
        rows wanted, or to the edge of the image.
    places : sequence of Places, optional
        What `places_in` returns, if it has been called for other statistics already.

    Returns
    -------
    Moments
        Up to rounding those of images that are displaced one by one; zero if there are none.
    """
    width = statistics.shape[2]
    count = planes_of(field, len(expressions))
    stack = np.empty((count, frame.end - frame.first, width + 2 * frame.margin))
    samples = samples_of(statistics, expressions)
    result = Moments(field, frame.margin, expressions, samples, stack)
    for some in places or places_in(statistics.layout, field, displacement, frame, width):
        rows = slice(some.frame.first - frame.first, some.frame.end - frame.first)
        _fill(replace(result, planes=stack[:, rows]), statistics, some, top)
    return result


def samples_of(statistics: Statistics, expressions: tuple[str, ...]) -> float:
    """Return how many samples there are of expressions with the same sources."""
    return float(statistics.sources[expressions[0]].count * statistics.shape[0])


def moments_bytes(layout: Layout, width: int, reach: int, rows: int) -> int:
    """Return the bytes that `moments` takes beside its result, for so many rows of a frame."""
    rows = min(_rows_at_once(layout, width), rows) + 2 * (reach + INTERPOLATION_REACH)
    planes = (rows + (layout.lag_reach or 0)) * max(len(layout.lags), len(layout.receptive_field))
    return 8 * width * (rows * _products(layout) + planes)


def _products(layout: Layout) -> int:
    return max((2 * (layout.lag_reach or 0) + 1) ** 2, len(layout.receptive_field))


def _rows_at_once(layout: Layout, width: int) -> int:
    rows = PRODUCT_BYTES // (8 * width * _products(layout))
    return max(LEAST_ROWS, min(rows, PRODUCT_ROWS))


def _fill(result: Moments, statistics: Statistics, some: Places, top: int) -> None:
    """Fill in the planes of the moments of a few rows."""
    field, expressions = result.receptive_field, result.expressions
    source = statistics.sources[expressions[0]]
    targets = [statistics.targets[name] for name in expressions]
    unit, wanted = 1.0 / statistics.white, some.wanted
    lags, taps = lags_of(field), field.taps
    rows, columns, down, across = some.moved
    rows, still = rows - top, (some.still[0] - top, some.still[1])

    begin, stop = rows[wanted].min(), rows[wanted].max() + 1
    places = rows - begin, columns, down, across
    products = _all_products(statistics.layout, source, begin, stop, some.reach_of_lags)
    moved = displaced_lags(products, places, lags, wanted)
    del products  # they are large
    np.multiply(moved, unit**2, out=result.lags)
    del moved
    sums = np.zeros(rows[wanted].shape[:2])
    for i in range(rows.shape[2]):
        for j in range(columns.shape[2]):
            weights = down[wanted, :, i] * across[wanted, :, j]
            sums += weights * source.sums[0][rows[wanted, :, i], columns[wanted, :, j]]
    np.multiply(sums, unit, out=result.source_sums)
    begin, stop = still[0][wanted].min(), still[0][wanted].max() + 1
    places = rows - begin, columns, down, across
    where = still[0] - begin, still[1]
    at = still[0][wanted], still[1][wanted]
    for e, target in enumerate(targets):
        moved = displaced_cross(
            _cross_products(target, begin, stop, some.reach_of_taps), places, where, taps, wanted
        )
        np.multiply(moved, unit**2, out=result.cross[e])
        np.multiply(target.sums[0][at], unit, out=result.target_sums[e])
        np.multiply(target.squares[0][at], unit**2, out=result.squares[e])


def _errors(sums: Folds, expression: str, reach: int, *, mirrored: bool) -> Float:
    """Return the mean of (x_n(p + d) - t_n(p))^2 for all d from (-reach, -reach) to (reach, reach).

    Of shape (side, side, height, width). Pixels repeat beyond the edge, so that p + d and p + d'
    are the same there, d' being d cut off. The rows next to an edge are right where it is the
    image's.
    """
    _, height, width = sums.shape
    side = 2 * reach + 1
    errors = np.zeros((side, side, height, width))

    def fill(begin: int, end: int) -> None:
        for down in range(begin, end):
            _fill_row(errors[down], sums, expression, down - reach)
            if mirrored:
                errors[down] = (errors[down] + errors[down, ::-1, :, ::-1]) / 2

    share_out(fill, side)
    for y in range(min(reach, height)):
        errors[: reach - y, :, y] = errors[reach - y, :, y]
        errors[reach + y + 1 :, :, height - 1 - y] = errors[reach + y, :, height - 1 - y]
    return errors


def _fill_row(errors: Float, sums: Folds, expression: str, dy: int) -> None:
    """Fill in the errors of d from (dy, -reach) to (dy, reach), but for rows that leave the image.

    Of shape (side, height, width).
    """
    side, height, width = errors.shape
    reach = side // 2
    field = ReceptiveField.of([(dy, dx) for dx in range(-reach, reach + 1)])
    statistics = sums.restricted(Layout(field, 0, pooled=True)).total
    source, target = statistics.sources[expression], statistics.targets[expression]
    squares = source.lags[0, 0].astype(np.float64)
    rows = slice(max(0, -dy), max(0, height - max(0, dy)))
    moved = slice(rows.start + dy, rows.stop + dy)
    for j, dx in enumerate(range(-reach, reach + 1)):
        columns = slice(max(0, -dx), max(0, width - max(0, dx)))
        of_source = squares[moved, columns.start + dx : columns.stop + dx]
        both = target.cross[0, j, rows, columns]
        errors[j, rows, columns] = of_source - 2.0 * both + target.squares[0, rows, columns]
    errors /= statistics.white**2 * source.count * statistics.shape[0]
    for x in range(min(reach, width)):
        errors[: reach - x, :, x] = errors[reach - x, :, x]
        errors[reach + x + 1 :, :, width - 1 - x] = errors[reach + x, :, width - 1 - x]


def _best(errors: Float, penalties: Float) -> Float:
    """Return the displacement of the least sum of both, (dy, dx), to parts of a pixel."""
    side, _, height, width = errors.shape
    least = np.zeros((height, width), np.intp)

    def find(begin: int, end: int) -> None:
        """Do what `argmin` does, four times as fast as over the first axis."""
        place, lowest = least[begin:end], np.full((end - begin, width), np.inf)
        for n, (i, j) in enumerate(np.ndindex(side, side)):
            found = errors[i, j, begin:end] + penalties[i, j]
            lower = found < lowest
            np.copyto(lowest, found, where=lower)
            np.copyto(place, n, where=lower)

    share_out(find, height)
    i, j = (np.clip(n, 1, side - 2) for n in np.divmod(least, side))  # both have neighbours
    y, x = np.indices((height, width))

    def at(i: npt.NDArray[np.int64], j: npt.NDArray[np.int64]) -> Float:
        found: Float = errors[i, j, y, x] + penalties[i, j]
        return found

    here = at(i, j)
    down = _vertex(at(i - 1, j), here, at(i + 1, j))
    across = _vertex(at(i, j - 1), here, at(i, j + 1))
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
    places = np.floor(displacement).astype(np.int64) + np.indices(displacement.shape[1:])
    apart = lag_reach - (2 * INTERPOLATION_REACH - 1) - STRETCH
    lags = np.array([[apart, apart]])
    return _farthest(places, lags) + 2 * INTERPOLATION_REACH - 1 - lag_reach


def _farthest(places: Iterable[npt.NDArray[np.int64]], lags: npt.NDArray[np.int64]) -> int:
    """Return how far apart two pixels' places are at most, of pixels up to the longest lag apart.

    Places are (rows, columns), of each pixel.
    """
    found = 0
    for coordinates in places:
        highest = coordinates  # of all pixels up to so far away
        for longest in np.abs(lags).max(axis=0):
            along, highest = highest, highest.copy()
            for d in range(1, min(int(longest), len(along) - 1) + 1):
                np.maximum(highest[d:], along[:-d], out=highest[d:])
                np.maximum(highest[:-d], along[d:], out=highest[:-d])
            highest = highest.T
        found = max(found, int((highest - coordinates).max()))
    return found


@cache
def _table(layout: Layout, reach: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return plane and shift of the products of a pixel with neighbours up to so far, by row."""
    lags = layout.lags.tolist()
    span = range(-reach, reach + 1)
    index, shifts = [], []
    for dy in span:
        for dx in span:
            forward = [dy, dx] in lags
            index.append(lags.index([dy, dx] if forward else [-dy, -dx]))
            shifts.append((0, 0) if forward else (-dy, -dx))
    return np.array(index), np.array(shifts)


def _all_products(layout: Layout, source: SourceSums, begin: int, stop: int, reach: int) -> Float:
    """Return sum_n x_n(v) x_n(v + e) for all e up to a reach, those of a pixel together."""
    index, shifts = _table(layout, reach)
    above = max(0, begin - int(shifts[:, 0].max()))
    there, index = np.unique(index, return_inverse=True)
    planes = _as_floats(source.lags[0, :, above:stop], there)
    return interleaved(planes, index, shifts, begin - above)


def _cross_products(target: TargetSums, begin: int, stop: int, reach: int) -> Float:
    """Return sum_n x_n(v + e) t_n(v) for all e up to a reach, those of a pixel together."""
    wide = round(target.cross.shape[1] ** 0.5)
    square = np.arange(wide * wide).reshape(wide, wide)
    cut = max(wide // 2 - reach, 0)
    index = square[cut : wide - cut, cut : wide - cut].reshape(-1)
    planes = _as_floats(target.cross[0, :, begin:stop], index)
    return interleaved(planes, np.arange(len(index)), np.zeros((len(index), 2), np.int64), 0)


def _as_floats(planes: Planes, places: npt.NDArray[np.int64]) -> Float:
    """Return some of the planes as float64; to index and then to convert takes twice as long."""
    result = np.empty((len(places), *planes.shape[1:]))

    def fill(begin: int, end: int) -> None:
        for k in range(begin, end):
            result[k] = planes[places[k]]

    share_out(fill, len(places))
    return result
