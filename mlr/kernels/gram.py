"""The penalised Gram matrices of a few adjacent pixels, read off the lag planes.

The lower triangle of the matrix, with the right-hand sides appended as further rows, is stored row
by row in blocks of 3 x 3 elements; all three rows of block row p have 3 (p + 1) elements, that is,
the blocks of the diagonal are whole.
"""

import numpy as np

from mlr.kernels import jit
from mlr.kernels._llvm import LANES, fill, load, minus_product, store

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
    """Find how many pixels at the ends of row y may have taps outside the image."""
    margin = 0
    for a in range(len(taps)):
        if not 0 <= y + taps[a, 0] < height:
            return np.int64(1) << 62
        margin = max(margin, abs(taps[a, 1]))
    return margin


@jit.inlined
def find_inside(y, x, height, width, taps, inside):
    """Write 1 to the lanes whose tap, or bias, lies in the image, 0 to the others."""
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
    both = load(inside, a) * load(inside, b)
    if 0 <= start <= source.size - LANES:
        return load(source, start) * both
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
        more = more * (load(inside, a) * load(inside, b))
    return element + more


@jit.inlined
def assemble_matrix(pixel, whole, system, inside, matrix, floor):
    """Assemble the lower triangle of G + s^2 D, with ones on the diagonal outside the image.

    Also set the pivots up to which the matrix counts as singular.
    """
    lags, source_sums, _, _, _, starts, ridge, scalars = system
    bias = starts.shape[1]
    for a in range(bias):
        row = row_begin(a)
        for b in range(a + 1):
            products = _gather(lags, pixel + starts[a, b], whole, inside, a, b)
            store(matrix, row + b, _penalised(products, a, b, whole, ridge, inside))
    row = row_begin(bias)
    for b in range(bias):
        sums = _gather(source_sums, pixel + starts[bias, b], whole, inside, b, b)
        sums = sums * fill(scalars[0])
        store(matrix, row + b, _penalised(sums, bias, b, whole, ridge, inside))
    count = _penalised(fill(scalars[1]), bias, bias, whole, ridge, inside)
    store(matrix, row + bias, count)
    for a in range(bias + 1):
        pivot = load(matrix, row_begin(a) + a)
        if not whole:
            both = load(inside, a)
            pivot = both * pivot + minus_product(fill(1.0), both, both)
            store(matrix, row_begin(a) + a, pivot)
        store(floor, a, fill(scalars[2]) * pivot)


@jit.inlined
def _pull(b, whole, ridge, inside):
    """Return s^2 (D w0)[b], of the taps inside the image.

    The last rows of `ridge` are w0, and s^2 D w0 of all taps.
    """
    bias = ridge.shape[1] - 1
    if whole:
        return fill(ridge[bias + 2, b])
    total = fill(0.0)
    for a in range(bias + 1):
        if ridge[a, b] != 0.0 and ridge[bias + 1, a] != 0.0:
            pull = fill(ridge[a, b] * ridge[bias + 1, a])
            total = total + pull * (load(inside, a) * load(inside, b))
    return total


@jit.inlined
def assemble_targets(pixel, whole, targets, system, inside, matrix):
    """Append b + s^2 D w0 of each target as a row."""
    _, source_sums, cross, target_sums, _, _, ridge, scalars = system
    bias, size = ridge.shape[1] - 1, source_sums.size
    for e in range(targets):
        row = row_begin(bias + 1 + e)
        for b in range(bias + 1):
            if b < bias:
                right = _gather(cross, (e * bias + b) * size + pixel, whole, inside, b, b)
            else:
                right = _gather(target_sums, e * size + pixel, whole, inside, b, b)
                right = right * fill(scalars[0])
            store(matrix, row + b, right + _pull(b, whole, ridge, inside))
        for b in range(bias + 1, bias + 2 + e):
            store(matrix, row + b, fill(0.0))
