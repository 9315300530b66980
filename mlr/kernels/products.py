"""Sums over samples of the products of pixels a given offset apart.

The 8-bit kernel is exact and does nearly all the arithmetic of training. Its inner loop multiplies
the samples of a few adjacent pixels by those of a run of adjacent neighbours and adds the products
in pairs: every sample that is loaded is used several times, and sixteen are multiplied at once.

Tried and dropped: widening the samples to 16 bits beforehand, in a scratch array, makes the inner
loop a tenth faster, but filling the array costs more than twice that; a frame of zeros instead of
products that nobody uses; one pixel with nine neighbours (as fast, but only in a warm cache).
Fetching cache lines ahead is worth a tenth, wide tiles another tenth.
"""

import functools

import numpy as np

from mlr.kernels import jit
from mlr.kernels.parallel import share_out
from mlr.kernels.vectors import DOT, HALF, STEP, WIDEST, add_up, at_once, fetch, multiply

#: The number of samples of an array passed to a kernel is a multiple of this (pad with zeros).
SAMPLE_ALIGNMENT = 16
CHUNK = 512  # samples multiplied between two reductions of the sums: 255^2 * 512 < 2^31
ROWS, COLUMNS = 16, 256  # pixels of a tile, the work of one task
PIXELS = 4  # adjacent pixels treated together
NEARBY = 30  # neighbours of a pixel whose chunks of samples stay in a first-level cache
#: Pixels at the end of an array that are multiplied without vectors, lest these be loaded beyond.
LAST = (STEP - SAMPLE_ALIGNMENT) // SAMPLE_ALIGNMENT
LINE = 16  # int32 elements in a cache line


def add_products(a, b, offsets, planes):
    """Add the products of all pixels with their neighbours, summed over the samples.

        planes[c, l, y, x] += sum_n a[c, y, x, n] * b[c, y + offsets[l, 0], x + offsets[l, 1], n]

    Neighbours outside the frame count as zero. The result does not depend on the number of threads.

    Parameters
    ----------
    a, b : ndarray of uint8 or float64, shape (P, H, W, S), C-contiguous
        Samples; S is a multiple of `SAMPLE_ALIGNMENT`.
    offsets : ndarray of int64, shape (L, 2)
        Pairs (dy, dx) in any order.
    planes : ndarray of int32 or float64, shape (P, L, H, W), C-contiguous
        Sums to add to: int32 for uint8 samples, exact for up to 33,025 of them; float64 for float64
        samples.
    """
    if a.shape[3] % SAMPLE_ALIGNMENT:
        raise ValueError(f"{a.shape[3]} samples are not a multiple of {SAMPLE_ALIGNMENT}")
    near = np.flatnonzero((np.abs(offsets) < a.shape[1:3]).all(axis=1))
    if not (near.size and a.size):
        return
    if a.dtype == np.float64:
        share_out(_add_products_float64, a.shape[0] * a.shape[1], a, b, offsets, planes)
        return
    runs, groups, order = _runs(offsets[near].tobytes())
    tiles = a.shape[0] * -(-a.shape[1] // ROWS) * -(-a.shape[2] // COLUMNS)
    samples = (a.reshape(-1), b.reshape(-1), a.shape)
    table = (runs, groups, near[order])
    share_out(_add_products_uint8, tiles, *samples, *table, planes, jit.PLAIN_KERNELS)


def add_sums(a, sums):
    """Add up the samples of all pixels: ``sums[c, y, x] += sum_n a[c, y, x, n]``.

    Parameters
    ----------
    a : ndarray of uint8 or float64, shape (P, H, W, S), C-contiguous
    sums : ndarray of int32 or float64, shape (P, H, W), C-contiguous
    """
    kernel = _add_sums_float64 if a.dtype == np.float64 else _add_sums_uint8
    share_out(kernel, a.shape[0] * a.shape[1], a, sums)


@functools.lru_cache(maxsize=64)
def _runs(table):
    """Split a table of offsets into runs (dy, dx), (dy, dx + 1), ... of at most `WIDEST`.

    Parameters
    ----------
    table : bytes
        The int64 (L, 2) table.

    Returns
    -------
    runs : ndarray of int64, shape (R, 4)
        dy, dx, length, and the number of pixels that the inner loop treats at once.
    groups : ndarray of int64, shape (G + 1,)
        First run of each group of runs whose neighbours stay in the cache together.
    order : ndarray of int64, shape (L,)
        Index of the offset that each element of the runs stands for.
    """
    offsets = np.frombuffer(table, np.int64).reshape(-1, 2)
    order = np.lexsort(offsets.T[::-1])
    rows, columns = offsets[order].T
    breaks = np.flatnonzero((np.diff(rows) != 0) | (np.diff(columns) != 1)) + 1
    runs: list[tuple[int, int, int, int]] = []
    groups, nearby = [0], 0
    for run in np.split(np.arange(order.size), breaks):
        nearby += run.size + PIXELS - 1
        if nearby > NEARBY and runs:
            groups.append(len(runs))
            nearby = run.size + PIXELS - 1
        for part in np.array_split(run, -(-run.size // WIDEST)):
            runs.append((rows[part[0]], columns[part[0]], part.size, at_once(part.size)))
    return np.array(runs, np.int64), np.array([*groups, len(runs)], np.int64), order


@jit.serial
def _add_products_uint8(begin, end, a, b, shape, runs, groups, order, planes, plain):
    """Add to the planes at the pixels of the tiles begin .. end."""
    down, across = -(-shape[1] // ROWS), -(-shape[2] // COLUMNS)
    sums = np.empty((order.size, COLUMNS), np.int32)
    lifts = np.empty(COLUMNS, np.int32)
    for task in range(begin, end):
        c, tile = divmod(task, down * across)
        top, left = tile // across * ROWS, tile % across * COLUMNS
        _add_tile(a, b, shape, runs, groups, order, sums, lifts, planes, c, top, left, plain)


@jit.helper
def _add_tile(a, b, shape, runs, groups, order, sums, lifts, planes, c, top, left, plain):
    """Add to the planes at the pixels of a tile, a row and a chunk of the samples at a time."""
    _, height, width, samples = shape
    columns = min(COLUMNS, width - left)
    for n in range(0, samples, CHUNK):
        count = min(CHUNK, samples - n)
        for y in range(top, min(top + ROWS, height)):
            start = (c * height + y) * width + left
            _multiply_row(
                a, b, shape, runs, groups, sums, lifts, start, y, n, count, columns, plain
            )
            _add_row(sums, runs, order, planes, c, y, left, columns, plain)


@jit.helper
def _multiply_row(a, b, shape, runs, groups, sums, lifts, start, y, n, count, columns, plain):
    """Set sums[k, x] to the products of the pixels start + x with neighbour k of the runs.

    Neighbours to the left or right of the frame are taken from the adjacent rows: their products
    are as good as any others, for nobody uses them.
    """
    _, height, width, samples = shape
    pixels = a.size // samples
    begin = groups[0]
    for g in range(groups.size - 1):
        for x in range(0, columns, PIXELS):
            k, i = begin, start + x
            inside = i + PIXELS + LAST <= pixels
            if DOT and g == 0 and inside and not plain:
                add_up(a, i * samples + n, samples, count, HALF, lifts, x)
            for r in range(groups[g], groups[g + 1]):
                length = runs[r, 2]
                j = i + runs[r, 0] * width + runs[r, 1]
                if not 0 <= y + runs[r, 0] < height:
                    pass
                elif plain or not inside or j < 0 or j + length - 1 + PIXELS + LAST > pixels:
                    _multiply_plain(a, b, pixels, samples, i, j, n, count, length, sums, k, x)
                else:
                    p = 0
                    while p < PIXELS:
                        first, second = (i + p) * samples + n, (j + p) * samples + n
                        multiply(a, first, b, second, samples, count, length, lifts, sums, k, x + p)
                        p += runs[r, 3]
                k += length
        begin = k


@jit.helper
def _multiply_plain(a, b, pixels, samples, i, j, n, count, length, sums, k, x):
    """Set sums[k + d, x + p] to the products of pixels i + p and j + p + d, if they exist."""
    for p in range(PIXELS):
        for d in range(length):
            if i + p < pixels and 0 <= j + p + d < pixels:
                first, second = (i + p) * samples + n, (j + p + d) * samples + n
                sums[k + d, x + p] = _dot(a[first : first + count], b[second : second + count])


@jit.helper
def _dot(a, b):
    total = np.int32(0)
    for n in range(a.size):
        total += np.int32(a[n]) * np.int32(b[n])
    return total


@jit.helper
def _add_row(sums, runs, order, planes, c, y, left, columns, plain):
    """Add sums (L, columns) to a row of the planes, where the neighbours are in the frame."""
    _, _, height, width = planes.shape
    k = 0
    for r in range(len(runs)):
        for dx in range(runs[r, 1], runs[r, 1] + runs[r, 2]):
            first, last = max(left, -dx), min(left + columns, width - dx)
            if 0 <= y + runs[r, 0] < height and first < last:
                if not plain:
                    for x in range(first, last, LINE):
                        fetch(planes, (c, order[min(k + 1, order.size - 1)], y, x))
                source = sums[k, first - left : last - left]
                target = planes[c, order[k], y, first:last]
                for x in range(target.size):
                    target[x] += source[x]
            k += 1


@jit.serial
def _add_products_float64(begin, end, a, b, offsets, planes):
    _, height, width, _ = a.shape
    for task in range(begin, end):
        c, y = divmod(task, height)
        for x in range(width):
            for k in range(offsets.shape[0]):
                i, j = y + offsets[k, 0], x + offsets[k, 1]
                if 0 <= i < height and 0 <= j < width:
                    planes[c, k, y, x] += _dot_float64(a[c, y, x], b[c, i, j])


@jit.helper_sum
def _dot_float64(a, b):
    total = 0.0
    for n in range(a.size):
        total += a[n] * b[n]
    return total


@jit.serial
def _add_sums_uint8(begin, end, a, sums):
    _, height, width = sums.shape
    for task in range(begin, end):
        c, y = divmod(task, height)
        for x in range(width):
            sums[c, y, x] += _total_uint8(a[c, y, x])


@jit.helper
def _total_uint8(values):
    total = np.int32(0)
    for n in range(values.size):
        total += np.int32(values[n])
    return total


@jit.serial
def _add_sums_float64(begin, end, a, sums):
    _, height, width = sums.shape
    for task in range(begin, end):
        c, y = divmod(task, height)
        for x in range(width):
            sums[c, y, x] += _total_float64(a[c, y, x])


@jit.helper_sum
def _total_float64(values):
    total = 0.0
    for n in range(values.size):
        total += values[n]
    return total
