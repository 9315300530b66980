"""Sums over products of pixels, as they would be for images whose pixels are displaced.

A displaced pixel is a weighted sum of pixels, x'(q) = sum_i a_i(q) x(v_i(q)), so a sum over its
products is a weighted sum of sums over products that are there already,

    sum_n x'_n(q) x'_n(r) = sum_ij a_i(q) a_j(r) sum_n x_n(v_i(q)) x_n(v_j(r)).

The places v and weights a are products of those down and across: `rows` and `columns` are int64 of
shape (height, width, 4) with the pixel's coordinates, `down` and `across` float64 with the weights;
or the last axis is 1 where nothing is displaced.
"""

import math

import numpy as np

from mlr.kernels import jit
from mlr.kernels.parallel import share_out
from mlr.kernels.vectors import BLENDED, blend

LINE = 8  # float64 elements in a cache line
SIDE = 4  # pixels that interpolation looks at, each way; one if nothing is displaced


def interleaved(planes, index, shifts, first):
    """Return result[y, x, i] = planes[index[i], first + y - shifts[i, 0], x - shifts[i, 1]].

    Parameters
    ----------
    planes : ndarray of float64, shape (P, H, W)
        0 is read outside the frame.
    index : ndarray of int64, shape (N,)
    shifts : ndarray of int64, shape (N, 2)
    first : int
        First row wanted.

    Returns
    -------
    ndarray of float64, shape (H - first, W, N)
        What belongs to a pixel lies together.
    """
    shape = planes.shape[1] - first, planes.shape[2], len(index)
    room = np.empty(math.prod(shape) + BLENDED)  # `blend` reads on
    result = room[:-BLENDED].reshape(shape)
    share_out(_interleave, len(result), planes, index, shifts, first, result)
    return result


def displaced_lags(products, places, lags, frame_rows):
    """Return sum_n x'_n(q) x'_n(q + d); q + d is moved to the frame's edge if it lies outside.

    Parameters
    ----------
    products : ndarray of float64, shape (H, W, S * S)
        sum_n x_n(v) x_n(v + e) for e from (-R, -R) to (R, R), S = 2 R + 1, row by row; as
        `interleaved` makes them, with all that the places of two such pixels may be apart.
    places : tuple
        (rows, columns, down, across) of a frame.
    lags : ndarray of int64, shape (L, 2)
        Differences (dy, dx).
    frame_rows : slice
        Rows of the frame that are wanted.

    Returns
    -------
    ndarray of float64, shape (L, rows, width)
    """
    first, end, _ = frame_rows.indices(len(places[0]))
    result = np.empty((len(lags), end - first, places[0].shape[1]))
    side = round(products.shape[2] ** 0.5)
    size = (products.shape[1], side, first)
    arrays = *places, lags, result
    share_out(_displace_lags, end - first, products.reshape(-1), *size, *arrays, jit.PLAIN_KERNELS)
    return result


def displaced_cross(products, places, still, taps, frame_rows):
    """Return sum_n x'_n(p + o) t_n(p); p + o is moved to the frame's edge if it lies outside.

    Parameters
    ----------
    products : ndarray of float64, shape (H, W, S * S)
        sum_n x_n(v + e) t_n(v) for e from (-R, -R) to (R, R), S = 2 R + 1, row by row.
    places : tuple
        (rows, columns, down, across) of a frame.
    still : tuple
        (rows, columns) of int64, shape (height, width): the pixels of t, which is not displaced.
    taps : ndarray of int64, shape (K, 2)
        Offsets (dy, dx).
    frame_rows : slice
        Rows of the frame that are wanted.

    Returns
    -------
    ndarray of float64, shape (K, rows, width)
    """
    first, end, _ = frame_rows.indices(len(places[0]))
    result = np.empty((len(taps), end - first, places[0].shape[1]))
    side = round(products.shape[2] ** 0.5)
    size, where = (products.shape[1], side, first), (*places, *still)
    share_out(_displace_cross, end - first, products.reshape(-1), *size, *where, taps, result)
    return result


@jit.serial
def _interleave(begin, end, planes, index, shifts, first, result):
    """Fill the rows begin .. end, a cache line of each plane at a time."""
    _, height, width = planes.shape
    for y in range(begin, end):
        for left in range(0, width, LINE):
            for i in range(len(index)):
                v, u = first + y - shifts[i, 0], left - shifts[i, 1]
                if 0 <= v < height and 0 <= u <= width - LINE and left <= width - LINE:
                    for x in range(LINE):  # a fixed number of steps takes a quarter less time
                        result[y, left + x, i] = planes[index[i], v, u + x]
                else:
                    for x in range(min(LINE, width - left)):
                        inside = 0 <= v < height and 0 <= u + x < width
                        result[y, left + x, i] = planes[index[i], v, u + x] if inside else 0.0


@jit.serial
def _displace_lags(
    begin, end, products, width, side, start, rows, columns, down, across, lags, result, plain
):
    """Fill the rows begin .. end, the first of which is row `start` of the frame.

    First sum_n x'_n(q) x_n(v) for all places v that are needed, then their weighted sums. Both at
    once, 256 products for each lag, take six times as long; the first with a row of sums that is
    added to for each of the 16 places, 1.35 times.
    """
    frame_height, frame_width, _ = rows.shape
    shift = side // 2 + 1 + rows.shape[2]  # of the first place in `half`
    half = np.empty((2 * shift + 1, 2 * shift + 1 + BLENDED))
    weights = np.empty(rows.shape[2] * columns.shape[2])
    starts = np.empty(len(weights), np.int64)
    for y in range(start + begin, start + end):
        for x in range(frame_width):
            row, column = rows[y, x, 0], columns[y, x, 0]
            top = bottom = row
            left = right = column
            for d in range(len(lags)):
                v = min(max(y + lags[d, 0], 0), frame_height - 1)
                u = min(max(x + lags[d, 1], 0), frame_width - 1)
                top, bottom = min(top, rows[v, u, 0]), max(bottom, rows[v, u, -1])
                left, right = min(left, columns[v, u, 0]), max(right, columns[v, u, -1])
            for i in range(rows.shape[2]):
                for j in range(columns.shape[2]):
                    v, u, term = rows[y, x, i], columns[y, x, j], i * columns.shape[2] + j
                    weights[term] = down[y, x, i] * across[y, x, j]
                    middle = (v * width + u) * (side * side) + (side // 2) * (side + 1)
                    starts[term] = middle + (top - v) * side + left - u
            for k in range(bottom - top + 1):
                line = top + k - row + shift
                for m in range(0, right - left + 1, BLENDED):
                    first = left + m - column + shift
                    if plain:
                        _blend(weights, products, starts, k * side + m, half[line, first:])
                    else:
                        blend(weights, products, starts, k * side + m, half, line, first)
            for d in range(len(lags)):
                v = min(max(y + lags[d, 0], 0), frame_height - 1)
                u = min(max(x + lags[d, 1], 0), frame_width - 1)
                total = 0.0
                for k in range(rows.shape[2]):
                    line, first = rows[v, u, k] - row + shift, shift - column
                    along = 0.0 + across[v, u, 0] * half[line, first + columns[v, u, 0]]
                    if columns.shape[2] == SIDE:  # in a loop all takes 1.25 times as long
                        along += across[v, u, 1] * half[line, first + columns[v, u, 1]]
                        along += across[v, u, 2] * half[line, first + columns[v, u, 2]]
                        along += across[v, u, 3] * half[line, first + columns[v, u, 3]]
                    total += down[v, u, k] * along
                result[d, y - start, x] = total


@jit.helper
def _blend(weights, products, starts, offset, result):
    """Do what `blend` does, to the bit."""
    result[:BLENDED] = 0.0
    for i in range(len(weights)):
        for j in range(min(BLENDED, len(products) - starts[i] - offset)):
            result[j] += weights[i] * products[starts[i] + offset + j]


@jit.serial
def _displace_cross(
    begin,
    end,
    products,
    width,
    side,
    start,
    rows,
    columns,
    down,
    across,
    still_rows,
    still_columns,
    taps,
    result,
):
    """Fill the rows begin .. end, the first of which is row `start` of the frame."""
    frame_height, frame_width, _ = rows.shape
    for y in range(start + begin, start + end):
        for x in range(frame_width):
            row, column = still_rows[y, x], still_columns[y, x]
            middle = (row * width + column) * (side * side) + (side // 2) * (side + 1)
            for k in range(len(taps)):
                v = min(max(y + taps[k, 0], 0), frame_height - 1)
                u = min(max(x + taps[k, 1], 0), frame_width - 1)
                total = 0.0
                for i in range(rows.shape[2]):
                    first = middle + (rows[v, u, i] - row) * side - column
                    along = 0.0
                    for j in range(columns.shape[2]):
                        along += across[v, u, j] * products[first + columns[v, u, j]]
                    total += down[v, u, i] * along
                result[k, y - start, x] = total
