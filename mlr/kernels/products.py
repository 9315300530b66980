"""Sums over samples of the products of pixels a given offset apart.

The 8-bit kernel is exact and does nearly all the arithmetic of training. Its inner loop multiplies
the samples of a few adjacent pixels by those of a run of adjacent neighbours: every sample that is
loaded is used several times.

Tried and dropped: widening the samples to 16 bits beforehand, in a scratch array, makes the inner
loop a tenth faster, but filling the array costs more than twice that; a frame of zeros instead of
products that nobody uses; one pixel with nine neighbours (as fast, but only in a warm cache); all
samples of a pixel side by side, whose many sums in a vector took a third of the time to add up.
Fetching cache lines ahead is worth a fifth, wide tiles a tenth.
"""

import functools

import numpy as np

from mlr.kernels import jit
from mlr.kernels.parallel import Loop, share_out_all
from mlr.kernels.vectors import BLOCK, WIDEST, add_up, at_once, fetch, multiply

ROWS, COLUMNS = 16, 256  # pixels of a tile, the work of one task
PIXELS = 8  # adjacent pixels treated together
NEARBY = 30  # neighbours of a pixel whose samples stay in a first-level cache
LINE = 16  # int32 elements in a cache line
MOST = 33025  # samples: 255^2 MOST < 2^31


def add_products(jobs):
    """Add the products of all pixels with their neighbours, summed over the samples.

        planes[c, l, y, x] += sum_n a_n(c, y, x) b_n(c, y + offsets[l, 0], x + offsets[l, 1])

    Neighbours outside the frame count as zero. The result does not depend on the number of threads.

    Parameters
    ----------
    jobs : sequence of tuple
        Any number of (a, b, offsets, totals, planes):

        a, b : ndarray of uint8 or float64, shape (P, H, B, R, BLOCK), C-contiguous
            Samples as `mlr.kernels.pack.pack` lays them out; at most `MOST` of 8 bits.
        offsets : ndarray of int64, shape (L, 2)
            Pairs (dy, dx) in any order.
        totals : ndarray of int32 or float64, shape (P, H, R)
            What `sums_of` returns for b.
        planes : ndarray of int32 or float64, shape (P, L, H, W), C-contiguous
            Sums to add to: int32 for uint8 samples, exact for up to `MOST` of them; float64 for
            float64 samples. Each job has its own.
    """
    share_out_all([loop for job in jobs for loop in _products(*job)])


def _products(a, b, offsets, totals, planes):
    """Return the loop for a job, or nothing if there is nothing to do."""
    frame = planes.shape[2:]
    near = np.flatnonzero((np.abs(offsets) < frame).all(axis=1))
    if not (near.size and a.size):
        return []
    if a.dtype == np.float64:
        return [(_add_products_float64, a.shape[0] * frame[0], (a, b, offsets, planes))]
    if a.shape[2] * BLOCK > MOST + BLOCK - 1:
        raise ValueError(f"{a.shape[2] * BLOCK} samples at once are too many")
    runs, groups, order = _runs(offsets[near].tobytes())
    tiles = a.shape[0] * -(-frame[0] // ROWS) * -(-frame[1] // COLUMNS)
    samples = (a.reshape(-1), b.reshape(-1), a.shape, totals.reshape(-1))
    table = (runs, groups, near[order])
    return [(_add_products_uint8, tiles, (*samples, *table, planes, jit.PLAIN_KERNELS))]


def sums_of(arrays):
    """Return the sums of the samples of all pixels.

    Parameters
    ----------
    arrays : sequence of ndarray of uint8 or float64, shape (P, H, B, R, BLOCK), C-contiguous

    Returns
    -------
    list of ndarray of int32 or float64, shape (P, H, R)
        Those beyond the width of the images mean nothing.
    """
    loops: list[Loop] = []
    found = []
    for a in arrays:
        rows = a.shape[0] * a.shape[1]
        if a.dtype == np.float64:
            sums = np.empty((*a.shape[:2], a.shape[3]))
            loops.append((_sums_float64, rows, (a, sums)))
        else:
            sums = np.empty((*a.shape[:2], a.shape[3]), np.int32)
            flat = (a.reshape(-1), a.shape, sums.reshape(-1), jit.PLAIN_KERNELS)
            loops.append((_sums_uint8, rows, flat))
        found.append(sums)
    share_out_all(loops)
    return found


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
def _add_products_uint8(begin, end, a, b, shape, totals, runs, groups, order, planes, plain):
    """Add to the planes at the pixels of the tiles begin .. end, a row at a time."""
    _, _, height, width = planes.shape
    down, across = -(-height // ROWS), -(-width // COLUMNS)
    sums = np.empty((order.size, COLUMNS + PIXELS), np.int32)
    for task in range(begin, end):
        c, tile = divmod(task, down * across)
        top, left = tile // across * ROWS, tile % across * COLUMNS
        columns = min(COLUMNS, width - left)
        for y in range(top, min(top + ROWS, height)):
            frame = c, y, left, columns, width
            _multiply_row(a, b, shape, totals, runs, groups, sums, frame, plain)
            _add_row(sums, runs, order, planes, c, y, left, columns, plain)


@jit.helper
def _multiply_row(a, b, shape, totals, runs, groups, sums, frame, plain):
    """Set sums[k, x] to the products of the pixels left + x with neighbour k of the runs.

    Neighbours to the left or right of the frame are taken from where they would lie in memory:
    their products are as good as any others, for nobody uses them.
    """
    _, height, blocks, pitch, _ = shape
    c, y, left, columns, width = frame
    stride = blocks * pitch  # pixels between the rows of a block
    row = (c * height + y) * stride + left
    beyond = a.size // BLOCK - (blocks - 1) * pitch - PIXELS - 1
    begin = groups[0]
    for g in range(groups.size - 1):
        for x in range(0, columns, PIXELS):
            k, i = begin, row + x
            for r in range(groups[g], groups[g + 1]):
                dy, dx, length = runs[r, 0], runs[r, 1], runs[r, 2]
                j = i + dy * stride + dx
                if not 0 <= y + dy < height:
                    pass
                elif plain or j < 0 or max(i, j + length) > beyond:
                    place = left + x, dx, width
                    _multiply_plain(a, b, shape, i, j, place, length, sums, k, x)
                else:
                    t = (c * height + y + dy) * pitch + left + x + dx
                    p = 0
                    while p < PIXELS:
                        first, second = (i + p) * BLOCK, (j + p) * BLOCK
                        step = pitch * BLOCK
                        multiply(
                            a, first, b, second, step, blocks, length, totals, t + p, sums, k, x + p
                        )
                        p += runs[r, 3]
                k += length
        begin = k


@jit.helper
def _multiply_plain(a, b, shape, i, j, place, length, sums, k, x):
    """Set sums[k + d, x + p] to the products of pixels i + p and j + p + d, if they exist."""
    _, _, blocks, pitch, _ = shape
    left, dx, width = place
    for p in range(min(PIXELS, width - left)):
        for d in range(length):
            if 0 <= left + p + dx + d < width:
                total = np.int32(0)
                for block in range(blocks):
                    first = (i + p + block * pitch) * BLOCK
                    second = (j + p + d + block * pitch) * BLOCK
                    total += _dot(a[first : first + BLOCK], b[second : second + BLOCK])
                sums[k + d, x + p] = total


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
    _, _, height, width = planes.shape
    for task in range(begin, end):
        c, y = divmod(task, height)
        for k in range(offsets.shape[0]):
            i, shift = y + offsets[k, 0], offsets[k, 1]
            if 0 <= i < height:
                for x in range(max(0, -shift), min(width, width - shift)):
                    planes[c, k, y, x] += _dot_float64(a[c, y, :, x], b[c, i, :, x + shift])


@jit.helper_sum
def _dot_float64(a, b):
    total = 0.0
    for block in range(a.shape[0]):
        for n in range(BLOCK):
            total += a[block, n] * b[block, n]
    return total


@jit.serial
def _sums_uint8(begin, end, a, shape, sums, plain):
    _, _, blocks, pitch, _ = shape
    for row in range(begin, end):
        first = row * blocks * pitch * BLOCK
        for x in range(0, pitch, 2):
            if not plain:
                add_up(a, first + x * BLOCK, pitch * BLOCK, blocks, sums, row * pitch + x)
                continue
            for p in range(x, x + 2):
                total = np.int32(0)
                for block in range(blocks):
                    place = first + (block * pitch + p) * BLOCK
                    for n in range(place, place + BLOCK):
                        total += np.int32(a[n])
                sums[row * pitch + p] = total


@jit.serial
def _sums_float64(begin, end, a, sums):
    _, height, pitch = sums.shape
    for task in range(begin, end):
        c, y = divmod(task, height)
        for x in range(pitch):
            sums[c, y, x] = _total_float64(a[c, y, :, x])


@jit.helper_sum
def _total_float64(values):
    total = 0.0
    for block in range(values.shape[0]):
        for n in range(BLOCK):
            total += values[block, n]
    return total
