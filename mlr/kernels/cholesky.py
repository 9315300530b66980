"""Ridge regression of every pixel: factor and solve many small symmetric systems.

The systems of `LANES` neighbouring pixels of a row are solved together: every number of the scalar
algorithm becomes a vector with one lane per pixel, and every operation one vector instruction.

The lower triangle of the n x n matrix A, n = K + 1, with the right-hand sides b_0, b_1, ...
appended as further rows, is factored without square roots, A = L D L' (L unit lower triangular, D
diagonal). What is kept is V = L D: column by column,

    V[i, j] = A[i, j] - sum_{k < j} V[i, k] L[j, k],        L[j, k] = V[j, k] / D[k],
    D[j] = V[j, j].

The appended rows thus become L^-1 b (forward substitution); the weights follow from the last to
the first, w[j] = (V[b, j] - sum_{i > j} V[i, j] w[i]) / D[j]. To reuse loaded numbers, all of this
works on blocks of 3 x 3 elements, whose nine sums stay in registers. Loops over 16 lanes that the
compiler vectorises take 1.6 to 2 times as long, because they cannot keep the sums in registers.

The triangle is stored row by row in blocks: all three rows of block row p have 3 (p + 1) elements,
so that blocks on the diagonal are complete.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlr.kernels import jit
from mlr.kernels._llvm import (
    LANES,
    empty_lines,
    fill,
    inverse_above,
    load,
    minus_product,
    smaller,
    store,
)
from mlr.kernels.parallel import parallel_for

#: Rows and columns of a block: nine sums, three factors and what is loaded next fill 16 registers.
#: The bodies of the loops that factor are written out for 3.
BLOCK = 3

#: A pivot must exceed this fraction of the diagonal element before elimination, times K + 1.
#: Rounding errors leave up to 1e5 eps of the zero pivots of singular matrices. The larger bound is
#: safe: the minimum-norm solution of pixels below it is right for regular matrices too.
PIVOT_TOLERANCE = 1e6 * float(np.finfo(np.float64).eps)


class NormalEquations(NamedTuple):
    """The penalised normal equations of every pixel of one channel, for E targets.

    With z = [x(p + o_1), ..., x(p + o_K), s], sums over the samples n and s = `scale`,

        (G + s^2 D) w = b + s^2 D w0,        G = sum_n z z',    b = sum_n z t,

    which is w = w0 + (G + s^2 D)^-1 (b - G w0). The matrices are read off the planes,

        G[a, b] = lags[lag_of[a, b]](p + o_base_of[a, b])    b[a] = cross[e, a](p)
        G[a, K] = s source_sums(p + o_a)                     b[K] = s target_sums(p)
        G[K, K] = s^2 samples

    Taps outside the image are omitted from the system of their pixel; their weight is 0.
    """

    lags: NDArray[np.float64]  #: (L, H, W), sum_n x_n(q) x_n(q + d), in units of 1 / s^2
    source_sums: NDArray[np.float64]  #: (H, W), sum_n x_n(q), in units of 1 / s
    samples: float  #: number of samples
    cross: NDArray[np.float64]  #: (E, K, H, W), sum_n x_n(p + o_a) t_n(p), in units of 1 / s^2
    target_sums: NDArray[np.float64]  #: (E, H, W), sum_n t_n(p), in units of 1 / s
    taps: NDArray[np.int64]  #: (K, 2), the offsets o_a = (dy, dx)
    lag_of: NDArray[np.int64]  #: (K, K): which lag plane holds the products of two taps
    base_of: NDArray[np.int64]  #: (K, K): from which of the two taps its difference starts
    penalty: NDArray[np.float64]  #: (K + 1,), diagonal of D, for intensities in [0, 1]; bias last
    prior: NDArray[np.float64]  #: (K + 1,), w0; bias last
    scale: float  #: units per intensity of 1: 255 for 8-bit images
    margin: int = 0  #: pixels at each edge of the planes for which no weights are computed


def solve_pixels(
    equations: NormalEquations,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Solve the ridge regression of every pixel whose matrix is positive definite.

    Returns the weights, float64 (E, K + 1, h, w), bias last, where h and w are H and W without the
    margins; and, as bool (h, w), whether the matrix is singular or close to it: a pivot is at most
    (K + 1) `PIVOT_TOLERANCE` times the diagonal element before elimination. The weights of such
    pixels are finite, but meaningless.
    """
    lags, source_sums, count, cross, target_sums, taps, lag_of, base_of = equations[:8]
    penalty, prior, scale, margin = equations[8:]
    unknowns = len(penalty)
    height, width = (side - 2 * margin for side in source_sums.shape)
    weights = np.empty((len(cross), unknowns, height, width))
    singular = np.zeros((height, width), dtype=np.bool_)
    shifts = taps[:, 0] * source_sums.shape[1] + taps[:, 1]
    starts = np.empty((unknowns, unknowns - 1), dtype=np.int64)
    starts[:-1] = lag_of * source_sums.size + shifts[base_of]
    starts[-1] = shifts
    ridge = scale * scale * np.stack([penalty, penalty * prior])
    scalars = np.array([scale, scale * scale * count, unknowns * PIVOT_TOLERANCE])
    planes = (np.ascontiguousarray(a).reshape(-1) for a in (lags, source_sums, cross, target_sums))
    system = (*planes, np.ascontiguousarray(taps), starts, ridge, scalars)
    margins = margin, *np.abs(taps).max(axis=0, initial=0).tolist()
    parallel_for(_solve_rows, height, system, margins, weights.reshape(-1), weights.shape, singular)
    return weights, singular


@jit.serial
def _solve_rows(begin, end, system, margins, weights, shape, singular):
    """Solve the rows begin <= y < end, `LANES` pixels at a time."""
    taps = system[4]
    margin, down, across = margins  # `down` and `across` are the reach of the taps
    targets, unknowns, height, width = shape
    height, width = height + 2 * margin, width + 2 * margin  # of the planes
    columns = (unknowns + BLOCK - 1) // BLOCK
    rows = (unknowns + targets + BLOCK - 1) // BLOCK
    matrix = empty_lines(_block_row_begin(rows))
    floor = empty_lines(columns * BLOCK)
    inverse = empty_lines(columns * BLOCK)
    scaled = empty_lines(columns * BLOCK * BLOCK)
    solution = empty_lines(columns * BLOCK)
    inside = empty_lines(unknowns + 1)
    matrix[:] = 0.0
    floor[unknowns:] = np.inf
    for y in range(begin + margin, end + margin):
        for x in range(margin, width - margin, LANES):
            whole = down <= y < height - down and across <= x <= width - across - LANES
            if not whole:
                _find_inside(y, x, height, width, taps, inside)
            pixel = y * width + x
            _assemble_matrix(pixel, whole, system, inside, matrix, floor)
            _assemble_targets(pixel, whole, targets, system, inside, matrix)
            _factor(rows, columns, matrix, floor, inverse, scaled)
            _note_singular(y - margin, x - margin, unknowns, inverse, solution, singular)
            for e in range(targets):
                _substitute_back(unknowns + e, columns, matrix, inverse, solution)
                _copy_weights(solution, shape, e, y - margin, x - margin, weights)


@jit.inlined
def _block_row_begin(p):
    """Return the index of the first element of block row p."""
    return BLOCK * BLOCK * (p * (p + 1) // 2)


@jit.inlined
def _row_begin(i):
    """Return the index of the first element of row i."""
    p = i // BLOCK
    return _block_row_begin(p) + (i - BLOCK * p) * BLOCK * (p + 1)


@jit.inlined
def _find_inside(y, x, height, width, taps, inside):
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
def _assemble_matrix(pixel, whole, system, inside, matrix, floor):
    """Assemble the lower triangle of G + s^2 D, with ones on the diagonal outside the image.

    Also set the pivots up to which the matrix counts as singular.
    """
    lags, source_sums, _, _, _, starts, ridge, scalars = system
    bias = starts.shape[1]
    for a in range(bias):
        for b in range(a + 1):
            products = _gather(lags, pixel + starts[a, b], whole, inside, a, b)
            store(matrix, _row_begin(a) + b, products)
    for b in range(bias):
        sums = _gather(source_sums, pixel + starts[bias, b], whole, inside, b, b)
        store(matrix, _row_begin(bias) + b, sums * fill(scalars[0]))
    store(matrix, _row_begin(bias) + bias, fill(scalars[1]))
    for a in range(bias + 1):
        pivot = load(matrix, _row_begin(a) + a) + fill(ridge[0, a])
        if not whole:
            both = load(inside, a)
            pivot = both * pivot + minus_product(fill(1.0), both, both)
        store(matrix, _row_begin(a) + a, pivot)
        store(floor, a, fill(scalars[2]) * pivot)


@jit.inlined
def _assemble_targets(pixel, whole, targets, system, inside, matrix):
    """Append b + s^2 D w0 of each target as a row."""
    _, source_sums, cross, target_sums, _, _, ridge, scalars = system
    bias, size = ridge.shape[1] - 1, source_sums.size
    for e in range(targets):
        row = _row_begin(bias + 1 + e)
        for b in range(bias + 1):
            if b < bias:
                right = _gather(cross, (e * bias + b) * size + pixel, whole, inside, b, b)
            else:
                right = _gather(target_sums, e * size + pixel, whole, inside, b, b)
                right = right * fill(scalars[0])
            pull = fill(ridge[1, b]) if whole else fill(ridge[1, b]) * load(inside, b)
            store(matrix, row + b, right + pull)
        for b in range(bias + 1, bias + 2 + e):
            store(matrix, row + b, fill(0.0))


@jit.inlined
def _note_singular(y, x, unknowns, inverse, scratch, singular):
    """Mark the pixels from (y, x) that have an unusable pivot."""
    smallest = load(inverse, 0)
    for j in range(1, unknowns):
        smallest = smaller(smallest, load(inverse, j))
    store(scratch, 0, smallest)
    for i in range(min(LANES, singular.shape[1] - x)):
        singular[y, x + i] = scratch[0, i] == 0.0


@jit.inlined
def _factor(rows, columns, matrix, floor, inverse, scaled):
    """Factor in place, block column by block column: A becomes V, `inverse` becomes 1 / D."""
    for q in range(columns):
        first, length = _block_row_begin(q), BLOCK * (q + 1)
        for k in range(BLOCK * q):
            for r in range(BLOCK):
                element = load(matrix, first + r * length + k)
                store(scaled, BLOCK * k + r, element * load(inverse, k))
        block = _subtract_products(matrix, first, length, scaled, BLOCK * q)
        at = first + BLOCK * q
        m10, m20, m21 = _factor_block(block, floor, inverse, BLOCK * q, matrix, at, length)
        for p in range(q + 1, rows):
            first, length = _block_row_begin(p), BLOCK * (p + 1)
            row_a, row_b, row_c = _subtract_products(matrix, first, length, scaled, BLOCK * q)
            at = first + BLOCK * q
            _eliminate(row_a, m10, m20, m21, matrix, at)
            _eliminate(row_b, m10, m20, m21, matrix, at + length)
            _eliminate(row_c, m10, m20, m21, matrix, at + 2 * length)


@jit.inlined
def _load3(array, index):
    return load(array, index), load(array, index + 1), load(array, index + 2)


@jit.inlined
def _store3(array, index, a, b, c):
    store(array, index, a)
    store(array, index + 1, b)
    store(array, index + 2, c)


@jit.inlined
def _subtract_products(matrix, first, length, scaled, columns):
    """Return the rows of the block at a column, minus the products of the columns before it."""
    a, b, c = first, first + length, first + 2 * length
    a0, a1, a2 = _load3(matrix, a + columns)
    b0, b1, b2 = _load3(matrix, b + columns)
    c0, c1, c2 = _load3(matrix, c + columns)
    for k in range(columns):
        u, v, w = load(matrix, a + k), load(matrix, b + k), load(matrix, c + k)
        s0, s1, s2 = _load3(scaled, 3 * k)
        a0, b0, c0 = minus_product(a0, u, s0), minus_product(b0, v, s0), minus_product(c0, w, s0)
        a1, b1, c1 = minus_product(a1, u, s1), minus_product(b1, v, s1), minus_product(c1, w, s1)
        a2, b2, c2 = minus_product(a2, u, s2), minus_product(b2, v, s2), minus_product(c2, w, s2)
    return (a0, a1, a2), (b0, b1, b2), (c0, c1, c2)


@jit.inlined
def _factor_block(block, floor, inverse, j, matrix, at, length):
    """Factor a block of the diagonal, given its rows; return its part of L.

    A pivot that is not above its floor gets the inverse 0, which excludes its column.
    """
    a, b, c = block
    v10, v20 = b[0], c[0]
    e0 = inverse_above(a[0], load(floor, j))
    m10, m20 = v10 * e0, v20 * e0
    e1 = inverse_above(minus_product(b[1], m10, v10), load(floor, j + 1))
    v21 = minus_product(c[1], m10, v20)
    m21 = v21 * e1
    pivot = minus_product(minus_product(c[2], m20, v20), m21, v21)
    _store3(inverse, j, e0, e1, inverse_above(pivot, load(floor, j + 2)))
    store(matrix, at + length, v10)
    store(matrix, at + 2 * length, v20)
    store(matrix, at + 2 * length + 1, v21)
    return m10, m20, m21


@jit.inlined
def _eliminate(v, m10, m20, m21, matrix, at):
    """Complete V in a row of a block below the diagonal: subtract the columns of the block."""
    v1 = minus_product(v[1], v[0], m10)
    v2 = minus_product(minus_product(v[2], v[0], m20), v1, m21)
    _store3(matrix, at, v[0], v1, v2)


@jit.inlined
def _substitute_back(row, columns, matrix, inverse, solution):
    """Find the weights of the target appended as the given row."""
    for q in range(columns - 1, -1, -1):
        j = BLOCK * q
        w0, w1, w2 = _load3(matrix, _row_begin(row) + j)
        for p in range(q + 1, columns):
            at, length = _block_row_begin(p) + j, BLOCK * (p + 1)
            for r in range(BLOCK):
                u = load(solution, BLOCK * p + r)
                v0, v1, v2 = _load3(matrix, at + r * length)
                w0, w1 = minus_product(w0, v0, u), minus_product(w1, v1, u)
                w2 = minus_product(w2, v2, u)
        at, length = _block_row_begin(q) + j, BLOCK * (q + 1)
        w2 = w2 * load(inverse, j + 2)
        w1 = minus_product(w1, load(matrix, at + 2 * length + 1), w2)
        w1 = w1 * load(inverse, j + 1)
        w0 = minus_product(w0, load(matrix, at + 2 * length), w2)
        w0 = minus_product(w0, load(matrix, at + length), w1)
        _store3(solution, j, w0 * load(inverse, j), w1, w2)


@jit.inlined
def _copy_weights(solution, shape, e, y, x, weights):
    """Copy the weights of the pixels from (y, x)."""
    _, unknowns, height, width = shape
    for j in range(unknowns):
        first = ((e * unknowns + j) * height + y) * width + x
        if x + LANES <= width:
            store(weights, first, load(solution, j))
        else:
            for i in range(width - x):
                weights[first + i] = solution[j, i]
