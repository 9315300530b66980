"""The penalised Gram matrices of a few adjacent pixels, read off the lag planes.

The lower triangle of the matrix, with the right-hand sides appended as further rows, is stored row
by row in blocks of 3 x 3 elements; all three rows of block row p have 3 (p + 1) elements, that is,
the blocks of the diagonal are whole.
"""

import numpy as np

from mlr.kernels import jit
from mlr.kernels.lanes import LANES, fill, load, minus_product, plus, store, times

#: Rows and columns of a block: nine sums, three factors and what is loaded next fill 16 registers.
#: The bodies of the loops that factor are written out for 3.
BLOCK = 3


@jit.inlined
def block_row_begin(p):
    """Return where block row p begins."""
    return BLOCK * BLOCK * (p * (p + 1) // 2)


@jit.inlined
def row_begin(i):
    """Return where row i begins."""
    p = i // BLOCK
    return block_row_begin(p) + (i - BLOCK * p) * BLOCK * (p + 1)


@jit.inlined
def find_margin(y, height, taps):
    """Find how many pixels at the ends of row y may have taps out of the frame."""
    margin = 0
    for a in range(len(taps)):
        if not 0 <= y + taps[a, 0] < height:
            return np.int64(1) << 62
        margin = max(margin, abs(taps[a, 1]))
    return margin


@jit.inlined
def find_inside(y, x, height, width, taps, inside):
    """Write 1 to the lanes whose tap, or bias, lies in the frame, 0 to the others."""
    for a in range(len(taps) + 1):
        dy, dx = (taps[a, 0], taps[a, 1]) if a < len(taps) else (0, 0)
        for i in range(LANES):
            found = 0 <= y + dy < height and 0 <= x + i + dx < width and x + i < width
            inside[a, i] = 1.0 if found else 0.0


@jit.inlined
def _gather(source, start, whole, inside, a, b):
    """Load the lanes from the given element of a plane; zero unless taps a and b lie inside.

    The last row of `inside` is scratch.
    """
    if whole:
        return load(source, start)
    both = times(load(inside, a), load(inside, b))
    if 0 <= start <= source.size - LANES:
        return times(load(source, start), both)
    scratch = len(inside) - 1
    store(inside, scratch, both)
    for i in range(LANES):
        if inside[scratch, i] != 0.0:
            inside[scratch, i] = source[start + i]
    return load(inside, scratch)


@jit.inlined
def _penalised(element, a, b, whole, ridge, inside):
    """Add s^2 D[a, b] to an element of G, if both taps lie inside."""
    if ridge[a, b] == 0.0:
        return element
    more = fill(ridge[a, b])
    if not whole:
        more = times(more, times(load(inside, a), load(inside, b)))
    return plus(element, more)


@jit.inlined
def assemble_matrix(pixel, whole, lags, source_sums, starts, ridge, scalars, inside, matrix, floor):
    """Gather the lower triangle of G + s^2 D, and ones on the diagonal out of the frame.

    The last two rows of `ridge` are not of D.

    Also set the pivots up to which the matrix counts as singular.
    """
    bias = starts.shape[1]
    for a in range(bias):
        row = row_begin(a)
        for b in range(a + 1):
            products = _gather(lags, pixel + starts[a, b], whole, inside, a, b)
            store(matrix, row + b, _penalised(products, a, b, whole, ridge, inside))
    row = row_begin(bias)
    for b in range(bias):
        sums = _gather(source_sums, pixel + starts[bias, b], whole, inside, b, b)
        sums = times(sums, fill(scalars[0]))
        store(matrix, row + b, _penalised(sums, bias, b, whole, ridge, inside))
    count = _penalised(fill(scalars[1]), bias, bias, whole, ridge, inside)
    store(matrix, row + bias, count)
    for a in range(bias + 1):
        pivot = load(matrix, row_begin(a) + a)
        if not whole:
            both = load(inside, a)
            pivot = plus(times(both, pivot), minus_product(fill(1.0), both, both))
            store(matrix, row_begin(a) + a, pivot)
        store(floor, a, times(fill(scalars[2]), pivot))


@jit.inlined
def _pull(b, whole, ridge, inside):
    """Return s^2 (D w0)[b], of the taps inside the frame.

    The last rows of `ridge` are w0, and s^2 D w0 of all taps.
    """
    bias = ridge.shape[1] - 1
    if whole:
        return fill(ridge[bias + 2, b])
    total = fill(0.0)
    for a in range(bias + 1):
        if ridge[a, b] != 0.0 and ridge[bias + 1, a] != 0.0:
            pull = fill(ridge[a, b] * ridge[bias + 1, a])
            total = plus(total, times(pull, times(load(inside, a), load(inside, b))))
    return total


@jit.inlined
def assemble_targets(
    pixel, whole, targets, size, cross, target_sums, ridge, scalars, inside, matrix
):
    """Append b + s^2 D w0 of each target as a row; a plane has so many pixels."""
    bias = ridge.shape[1] - 1
    for e in range(targets):
        row = row_begin(bias + 1 + e)
        for b in range(bias + 1):
            if b < bias:
                right = _gather(cross, (e * bias + b) * size + pixel, whole, inside, b, b)
            else:
                right = _gather(target_sums, e * size + pixel, whole, inside, b, b)
                right = times(right, fill(scalars[0]))
            store(matrix, row + b, plus(right, _pull(b, whole, ridge, inside)))
        for b in range(bias + 1, bias + 2 + e):
            store(matrix, row + b, fill(0.0))
