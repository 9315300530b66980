"""Registration of images: windowed Gauss-Newton steps, and what they need.

Planes are float32. Each row is processed by loops over its pixels, which LLVM vectorises. Looking
up moved pixels is a loop of its own; one loop for everything took 1.6 times as long.
"""

import numpy as np
from numpy.typing import NDArray

from mlr.kernels import jit
from mlr.kernels.blur import blur_plane

FEATURES = 2
VALUES = 3 * FEATURES  # of each feature: itself, and its derivatives down and across

Floats = NDArray[np.float32]


@jit.serial
def with_derivatives(features: Floats, values: Floats) -> None:
    """Fill in features (H, W, FEATURES) and their derivatives, values (VALUES, H, W).

    Sobel operators over 8; edges repeat.
    """
    height, width, _ = features.shape
    eighth, two = np.float32(0.125), np.float32(2)
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            for n in range(FEATURES):
                a, b, c = features[above, left, n], features[above, x, n], features[above, right, n]
                d, e, f = features[y, left, n], features[y, x, n], features[y, right, n]
                g, h, i = features[below, left, n], features[below, x, n], features[below, right, n]
                values[3 * n, y, x] = e
                values[3 * n + 1, y, x] = (g + two * h + i - a - two * b - c) * eighth
                values[3 * n + 2, y, x] = (c + two * f + i - a - two * d - g) * eighth


@jit.serial
def gauss_newton(
    moving: Floats,
    fixed: Floats,
    weight: Floats,
    second: np.float32,
    field: Floats,
    kernels: tuple[Floats, Floats, Floats],
    damping: np.float32,
    steps: int,
) -> None:
    """Take steps that move a field towards moving(p + field(p)) = fixed(p).

    With r = fixed - moved, g = (the moved image's derivatives + the fixed one's) / 2 and
    q = weight / (1 + r^2), summed over the features,

        A = window * [q g g'],  b = window * [q g r],  v = prior * field,
        delta = (A + damping I)^-1 (b + damping (v - field)),  |delta| <= 1,
        field = smooth * (field + delta)

    where * is a blur. Where there is little structure, the pull to its own blur keeps the field
    from folding.

    Parameters
    ----------
    moving, fixed : ndarray of float32, shape (VALUES, H, W)
        From `with_derivatives`; at least `RUN` pixels wide.
    weight : ndarray of float32, shape (H, W)
    second : float32
        Weight of the second feature: 1, or 0 where an image has none.
    field : ndarray of float32, shape (2, H, W)
        (dy, dx) in pixels, changed in place.
    kernels : tuple of ndarray of float32
        window, prior and smooth, from `mlr.kernels.blur.gaussian`.
    """
    height, width = weight.shape
    window, prior, smooth = kernels
    products, normal = np.empty((2, 5, height, width), np.float32)
    pulled, stepped = np.empty((2, 2, height, width), np.float32)
    row = np.empty(width + 2 * max(len(window), len(prior), len(smooth)), np.float32)
    starts, shares = np.empty(width, np.int32), np.empty((4, width), np.float32)
    moved = np.empty((VALUES, width), np.float32)
    flat = moving.reshape(VALUES, height * width)
    for _ in range(steps):
        for y in range(height):
            _look_up(flat, field, y, height, starts, shares, moved)
            _normal_equations(moved, fixed, weight, second, y, products)
        for k in range(5):
            blur_plane(products[k], window, row, normal[k], 0)
        for k in range(2):
            blur_plane(field[k], prior, row, pulled[k], 0)
        _step(normal, pulled, damping, field, stepped)
        for k in range(2):
            blur_plane(stepped[k], smooth, row, field[k], 0)


@jit.helper
def _look_up(moving, field, y, height, starts, shares, moved):
    """Look up a row of the moving values at its moved positions, bilinearly."""
    width = moved.shape[1]
    zero, one = np.float32(0), np.float32(1)
    bottom, right = np.float32(height - 1), np.float32(width - 1)
    for x in range(width):
        py = min(max(np.float32(y) + field[0, y, x], zero), bottom)
        px = min(max(np.float32(x) + field[1, y, x], zero), right)
        y0, x0 = min(int(py), height - 2), min(int(px), width - 2)
        down, across = py - np.float32(y0), px - np.float32(x0)
        starts[x] = y0 * width + x0
        shares[0, x] = (one - down) * (one - across)
        shares[1, x] = (one - down) * across
        shares[2, x] = down * (one - across)
        shares[3, x] = down * across
    step = np.uintp(width)
    for k in range(VALUES):
        for x in range(width):
            i = np.uintp(starts[x])
            moved[k, x] = (
                shares[0, x] * moving[k, i]
                + shares[1, x] * moving[k, i + np.uintp(1)]
                + shares[2, x] * moving[k, i + step]
                + shares[3, x] * moving[k, i + step + np.uintp(1)]
            )


@jit.helper
def _normal_equations(moved, fixed, weight, second, y, products):
    """Fill in a row of the five planes of q g g' and q g r."""
    half, one = np.float32(0.5), np.float32(1)
    for x in range(moved.shape[1]):
        r, s = fixed[0, y, x] - moved[0, x], fixed[3, y, x] - moved[3, x]
        gy, hy = half * (moved[1, x] + fixed[1, y, x]), half * (moved[4, x] + fixed[4, y, x])
        gx, hx = half * (moved[2, x] + fixed[2, y, x]), half * (moved[5, x] + fixed[5, y, x])
        p, q = weight[y, x] / (one + r * r), weight[y, x] * second / (one + s * s)
        products[0, y, x] = p * gy * gy + q * hy * hy
        products[1, y, x] = p * gy * gx + q * hy * hx
        products[2, y, x] = p * gx * gx + q * hx * hx
        products[3, y, x] = p * gy * r + q * hy * s
        products[4, y, x] = p * gx * r + q * hx * s


@jit.helper
def _step(normal, pulled, damping, field, stepped):
    """Add the solution of every pixel's two equations to the field, with length 1 at most."""
    _, height, width = field.shape
    one = np.float32(1)
    for y in range(height):
        for x in range(width):
            yy, yx, xx = normal[0, y, x] + damping, normal[1, y, x], normal[2, y, x] + damping
            right_y = normal[3, y, x] + damping * (pulled[0, y, x] - field[0, y, x])
            right_x = normal[4, y, x] + damping * (pulled[1, y, x] - field[1, y, x])
            inverse = one / (yy * xx - yx * yx)
            down = (xx * right_y - yx * right_x) * inverse
            across = (yy * right_x - yx * right_y) * inverse
            squared = down * down + across * across
            scale = one / np.sqrt(max(squared, one))
            stepped[0, y, x] = field[0, y, x] + down * scale
            stepped[1, y, x] = field[1, y, x] + across * scale


@jit.serial
def combine(fields: Floats, numbers: Floats, field: Floats) -> None:
    """Fill in the sum of fields (K, 2, H, W) times numbers (K,), field (2, H, W)."""
    count, _, height, width = fields.shape
    for axis in range(2):
        for y in range(height):
            field[axis, y] = 0
            for k in range(count):
                for x in range(width):
                    field[axis, y, x] += numbers[k] * fields[k, axis, y, x]


@jit.serial
def normal_equations_of(
    moving: Floats,
    fixed: Floats,
    weight: Floats,
    second: np.float32,
    bases: Floats,
    field: Floats,
    matrix: Floats,
    right: Floats,
) -> None:
    """Fill in the normal equations of a linear combination of fields.

    With r, g and q as in `gauss_newton`, J_k = g . base_k and sums over all pixels,

        matrix = sum q J J',  right = sum q J r.

    The first four arguments are as for `gauss_newton`. ``bases`` are the fields to combine,
    (K, 2, H, W), and ``field`` is their combination, (2, H, W); ``matrix`` is (K, K) and ``right``
    (K,).
    """
    height, width = weight.shape
    count = len(bases)
    products = np.empty((5, height, width), np.float32)
    starts, shares = np.empty(width, np.int32), np.empty((4, width), np.float32)
    moved = np.empty((VALUES, width), np.float32)
    flat = moving.reshape(VALUES, height * width)
    sums = np.zeros((count, count + 1, width), np.float32)  # a sum for each column
    down, across = np.empty((2, width), np.float32)
    for y in range(height):
        _look_up(flat, field, y, height, starts, shares, moved)
        _normal_equations(moved, fixed, weight, second, y, products)
        for i in range(count):
            for x in range(width):
                base_y, base_x = bases[i, 0, y, x], bases[i, 1, y, x]
                down[x] = base_y * products[0, y, x] + base_x * products[1, y, x]
                across[x] = base_y * products[1, y, x] + base_x * products[2, y, x]
                sums[i, count, x] += base_y * products[3, y, x] + base_x * products[4, y, x]
            for j in range(i, count):
                for x in range(width):
                    sums[i, j, x] += down[x] * bases[j, 0, y, x] + across[x] * bases[j, 1, y, x]
    for i in range(count):
        right[i] = _total(sums[i, count])
        for j in range(i, count):
            matrix[i, j] = matrix[j, i] = _total(sums[i, j])


@jit.helper
def _total(values):
    """Add up float32 values in order; ``values.sum()`` makes Numba import SciPy, .1 to .2 s."""
    total = np.float32(0)
    for value in values:
        total += value
    return total
