"""Sums over samples of products of pixels at given offsets.

The 8-bit kernel is exact and does nearly all the arithmetic of training. Its inner loop multiplies
the samples of a tile of adjacent pixels, in several rows, by the samples of several neighbours in
one row, so that everything that is loaded is used several times. Each element of a vector is the
sum of one pixel; no horizontal sums are needed.

Most of the time is spent on moving samples between caches. Hence memory that begins at a cache line
(a sixth less time), rows from left to right, prefetching for the row below, and kernels one after
the other that read the same rows.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlr.kernels import jit
from mlr.kernels._llvm import BIAS, BLOCK, LINE, TALL, TILE, WIDE, add_up, address, multiply
from mlr.kernels.parallel import Loop, parallel_for_all

ROWS = 16  # of pixels in a task
BLOCKS = 64  # of samples, processed together, so that a tile's stay in the cache
MOST = 33025  # samples: 255^2 MOST < 2^31
NONE = -(2**62)  # shift that stands for no offset

Array = NDArray[Any]


def add_products(terms: Sequence[tuple[Array, Array, Array, Array, Array]]) -> None:
    """Add the products of all pixels with their neighbours, summed over the samples.

        planes[c, l, y, x] += sum_n a_n(c, y, x) b_n(c, y + offsets[l, 0], x + offsets[l, 1])

    Neighbours outside the image count as zero. The result does not depend on the number of threads.

    Parameters
    ----------
    terms : sequence of tuple
        Any number of (a, b, offsets, totals, planes):

        a, b : ndarray of uint8 or float64, shape (P, H, B, R, BLOCK), C-contiguous
            Samples as `mlr.kernels.pack.pack` lays them out; at most `MOST` of 8 bits.
        offsets : ndarray of int64, shape (L, 2)
            Distinct pairs (dy, dx) in any order.
        totals : ndarray of int32 or float64, shape (P, H, R)
            What `sums_of` returns for b.
        planes : ndarray of int32 or float64, shape (P, L, H, W), C-contiguous
            Sums to add to: int32 for uint8 samples, exact for up to `MOST` of them; float64 for
            float64 samples. Each term has its own.

    Raises
    ------
    ValueError
        If there are more samples than `MOST`.
    """
    in_turn = any(a.dtype == np.uint8 for a, *_ in terms)  # others do little for each row
    parallel_for_all([loop for term in terms for loop in _products(*term)], in_turn)


def _products(a: Array, b: Array, offsets: Array, totals: Array, planes: Array) -> list[Loop]:
    """Return the loops for a term, at most one."""
    height, width = planes.shape[2:]
    if not (offsets.size and a.size):
        return []
    exact = a.dtype == np.uint8
    if exact and a.shape[2] * BLOCK > MOST + BLOCK - 1:
        raise ValueError(f"{a.shape[2] * BLOCK} samples at once are too many")
    if not exact or jit.PLAIN_KERNELS or width < TILE:
        return [(_add_products_plain, a.shape[0] * height, (a, b, offsets, planes))]
    table = _rectangles(offsets.tobytes(), planes.shape[2:])
    tasks = a.shape[0] * -(-height // ROWS) if len(table[0]) else 0
    samples = a.reshape(-1), b.reshape(-1), totals.reshape(-1)
    return [(_add_products_uint8, tasks, (samples, a.shape, table, planes))]


def sums_of(arrays: Sequence[Array]) -> list[Array]:
    """Return the sums of the samples of all pixels, int32 or float64, (P, H, R) for each array.

    The arrays (P, H, B, R, BLOCK) are uint8 or float64, and C-contiguous. Sums beyond the width of
    the images are undefined.
    """
    loops: list[Loop] = []
    for a in arrays:
        exact = a.dtype == np.uint8
        sums = np.empty((*a.shape[:2], a.shape[3]), np.int32 if exact else np.float64)
        kernel = _sums_uint8 if exact and not jit.PLAIN_KERNELS else _sums_plain
        loops.append((kernel, a.shape[0] * a.shape[1], (a, sums)))
    parallel_for_all(loops)
    return [sums for _, _, (_, sums) in loops]


@functools.lru_cache(maxsize=64)
def _rectangles(table: bytes, size: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Cover the offsets within images (height, width) by rectangles of at most `TALL` x `WIDE`.

    Parameters
    ----------
    table : bytes
        The offsets, int64 (L, 2).

    Returns
    -------
    rectangles : ndarray of int64, shape (R, 4)
        dy, dx, height, width: the offsets (dy, dx) ... (dy + height - 1, dx + width - 1).
    shifts : ndarray of int64, shape (R, TALL, WIDE)
        Number of elements between pixel (y, x) of the first plane and the pixel of each offset's
        plane whose neighbour it is; `NONE` where a rectangle has no offset.
    masks : ndarray of int32, shape (T, R, WIDE, TILE)
        -1 for the pixels of a tile that have a neighbour in the image and are in no earlier tile.
    """
    offsets = np.frombuffer(table, np.int64).reshape(-1, 2)
    height, width = size
    near = np.flatnonzero((np.abs(offsets) < size).all(axis=1))
    offsets = offsets[near]
    parts = (offsets - offsets.min(axis=0, initial=0)) // (TALL, WIDE)
    cells, cell = np.unique(parts, axis=0, return_inverse=True)
    rectangles = np.empty((len(cells), 4), np.int64)
    shifts = np.full((len(cells), TALL, WIDE), NONE, np.int64)
    for number in range(len(cells)):
        index = np.flatnonzero(cell.reshape(-1) == number)
        corner = offsets[index].min(axis=0)
        i, j = (offsets[index] - corner).T
        rectangles[number] = *corner, i.max() + 1, j.max() + 1
        shifts[number, i, j] = (near[index] * height - offsets[index, 0]) * width
    left = np.arange(0, width, TILE)[:, None]
    x = np.minimum(left, width - TILE) + np.arange(TILE)
    neighbour = x[:, None, None] + rectangles[:, 1, None, None] + np.arange(WIDE)[:, None]
    inside = (x >= left)[:, None, None] & (neighbour >= 0) & (neighbour < width)
    return rectangles, shifts, -inside.astype(np.int32)


@jit.serial
def _add_products_uint8(begin, end, samples, shape, table, planes):
    """Add the products of some rows to the planes: the tasks begin .. end."""
    _, height, blocks, pitch, _ = shape
    down, chunks = -(-height // ROWS), -(-blocks // BLOCKS)
    rows, targets = np.empty(TALL, np.int64), np.empty(TALL * WIDE, np.int64)
    edge = np.empty((BLOCKS * pitch + TILE + WIDE) * BLOCK, np.uint8)
    edge_totals, unused = np.empty(TILE + WIDE, np.int32), np.zeros(TILE, np.int32)
    scratch = rows, targets, edge, edge_totals, unused
    for task in range(begin, end):
        c, part = divmod(task, down)
        for chunk in range(chunks):
            first, last = blocks * chunk // chunks, blocks * (chunk + 1) // chunks
            for y in range(part * ROWS, min((part + 1) * ROWS, height)):
                _add_row(samples, shape, table, planes, (c, y, first, last - first), scratch)


@jit.helper
def _add_row(samples, shape, table, planes, row, scratch):
    """Add the products with the neighbours in a row, of some blocks of samples."""
    a, b, totals = samples
    _, height, blocks, pitch, _ = shape
    rectangles, shifts, masks = table
    c, y, first, count = row
    rows, targets, edge, edge_totals, unused = scratch
    step = pitch * BLOCK
    for tile in range(len(masks)):
        x = min(tile * TILE, planes.shape[3] - TILE)
        origin = address(planes, (c, 0, y, x))
        for r in range(len(rectangles)):
            dy, dx, tall, wide = rectangles[r]
            for i in range(tall):
                above = c * height + min(max(y - dy - i, 0), height - 1)
                rows[i] = address(a, ((above * blocks + first) * pitch + x) * BLOCK)
                for k in range(WIDE):  # the sums of the pixels in that row
                    found = 0 <= y - dy - i < height and shifts[r, i, k] != NONE
                    nowhere = address(unused, 0)
                    targets[i * WIDE + k] = origin + 4 * shifts[r, i, k] if found else nowhere
            below = rows[0] + (blocks * pitch - x) * BLOCK + tile * count * LINE
            t = (c * height + y) * pitch + x + dx
            j = (((c * height + y) * blocks + first) * pitch + x + dx) * BLOCK
            neighbours = address(b, j), address(totals, t)
            last, last_sum = j + (count - 1) * step + (TILE + WIDE) * BLOCK, t + TILE + WIDE
            if min(j, t) < 0 or last > b.size or last_sum > totals.size:
                _copy_edge(b, j, step, count, totals, t, edge, edge_totals)
                neighbours = address(edge, 0), address(edge_totals, 0)
            bias = BIAS if first == 0 else 0
            size = tall, wide, count, step
            multiply(size, rows, targets, neighbours, below, bias, masks[tile, r])


@jit.helper
def _copy_edge(b, j, step, count, totals, t, edge, edge_totals):
    """Copy samples that would be read from outside the array."""
    for m in range(count):
        for n in range(m * step, m * step + (TILE + WIDE) * BLOCK):
            edge[n] = b[j + n] if 0 <= j + n < b.size else 0
    for n in range(TILE + WIDE):
        edge_totals[n] = totals[t + n] if 0 <= t + n < totals.size else 0


@jit.serial
def _add_products_plain(begin, end, a, b, offsets, planes):
    """Do the same without vectors."""
    _, _, height, width = planes.shape
    for row in range(begin, end):
        c, y = divmod(row, height)
        for k in range(len(offsets)):
            i, shift = y + offsets[k, 0], offsets[k, 1]
            if 0 <= i < height:
                for x in range(max(0, -shift), min(width, width - shift)):
                    zero = planes.dtype.type(0)
                    planes[c, k, y, x] += _dot(a[c, y, :, x], b[c, i, :, x + shift], zero)


@jit.helper_sum
def _dot(a, b, zero):
    """Add up products in the type of zero, or in a larger one."""
    total = zero
    for block in range(a.shape[0]):
        for n in range(BLOCK):
            total += (zero + a[block, n]) * (zero + b[block, n])
    return total


@jit.serial
def _sums_uint8(begin, end, a, sums):
    _, height, blocks, pitch, _ = a.shape
    for row in range(begin, end):
        c, y = divmod(row, height)
        for left in range(0, pitch, TILE):
            x = min(left, pitch - TILE)
            first = address(a, (c, y, 0, x, 0))
            add_up(first, pitch * BLOCK, blocks, address(sums, (c, y, x)))


@jit.serial
def _sums_plain(begin, end, a, sums):
    _, height, pitch = sums.shape
    for row in range(begin, end):
        c, y = divmod(row, height)
        for x in range(pitch):
            sums[c, y, x] = _total(a[c, y, :, x], sums.dtype.type(0))


@jit.helper_sum
def _total(values, zero):
    total = zero
    for block in range(values.shape[0]):
        for n in range(BLOCK):
            total += values[block, n]
    return total
