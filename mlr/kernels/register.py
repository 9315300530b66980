"""Registration of images: windowed Gauss-Newton steps, and what they need.

Planes are float32. Each row is worked on by loops over its pixels that LLVM turns into vectors;
what is looked up at moved places is gathered by loops of its own: one loop for all took 1.6 times
as long. Blurs keep their sums in registers; with a loop over the pixels for each weight they took
twice as long.
"""

import numpy as np

from mlr.kernels import jit
from mlr.kernels.vectors import BLURRED, blur_tile

FEATURES = 2
VALUES = 3 * FEATURES  # of each feature: itself, and its derivatives down and across


def gaussian(sigma):
    """Return half of a normalised Gaussian kernel cut at 3 sigma: centre first, float32.

    Its weights sum to 1 with the other half.
    """
    radius = int(3 * sigma + 0.5)
    half = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2) if sigma > 0 else np.ones(1)
    return (half / (half[0] + 2 * half[1:].sum())).astype(np.float32)


@jit.serial
def blur_planes(begin, end, planes, half):
    """Blur the planes begin .. end of (N, H, W) in place; edges repeat."""
    _, height, width = planes.shape
    padded, down = np.empty((2, room_for(height, width, len(half))), np.float32)
    for n in range(begin, end):
        _blur(planes, n, half, padded, down, jit.PLAIN_KERNELS)


@jit.helper
def room_for(height, width, length):
    """Return how many numbers a plane takes with the margins of a half kernel, and a tile."""
    return (height + 2 * length) * (width + 2 * length) + BLURRED


@jit.helper
def _blur(planes, n, half, padded, down, plain):
    """Blur a plane, down and then across; both are one run over a plane with margins."""
    _, height, width = planes.shape
    radius = len(half) - 1
    if radius == 0:
        return
    pitch = width + 2 * radius
    for y in range(-radius, height + radius):
        start = np.uintp((y + radius) * pitch)
        row = np.uintp(min(max(y, 0), height - 1))
        left, right = planes[n, row, 0], planes[n, row, width - 1]
        for x in range(np.uintp(radius)):
            padded[start + x] = left
            padded[start + np.uintp(radius + width) + x] = right
        start += np.uintp(radius)
        for x in range(np.uintp(width)):
            padded[start + x] = planes[n, row, x]
    count = height * pitch
    _weigh(half, padded, radius * pitch, pitch, down, count, plain)
    _weigh(half, down, radius, 1, padded, count - 2 * radius, plain)
    for y in range(height):
        start = np.uintp(y * pitch)
        for x in range(np.uintp(width)):
            planes[n, y, x] = padded[start + x]


@jit.helper
def _weigh(half, source, first, step, result, count, plain):
    """Weigh each pixel and its neighbours along steps on both sides, a tile at a time.

    The last tile reaches beyond the others, which the room for it allows.
    """
    if plain:
        for i in range(count):
            total = half[0] * source[first + i]
            for k in range(1, len(half)):
                total += half[k] * (source[first + i - k * step] + source[first + i + k * step])
            result[i] = total
    else:
        for i in range(0, count, BLURRED):
            blur_tile(half, source, first + i, step, result, i)


@jit.serial
def with_derivatives(features, values):
    """Fill in features (H, W, FEATURES) and their derivatives, values (VALUES, H, W).

    Sobel operators over 8; edges repeat.
    """
    height, width, _ = features.shape
    eighth, two = np.float32(0.125), np.float32(2)
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            for k in range(FEATURES):
                a, b, c = features[above, left, k], features[above, x, k], features[above, right, k]
                d, f = features[y, left, k], features[y, right, k]
                g, h, i = (
                    features[below, left, k],
                    features[below, x, k],
                    features[below, right, k],
                )
                values[3 * k, y, x] = features[y, x, k]
                values[3 * k + 1, y, x] = (g + two * h + i - a - two * b - c) * eighth
                values[3 * k + 2, y, x] = (c + two * f + i - a - two * d - g) * eighth


@jit.serial
def gauss_newton(moving, fixed, weight, second, field, window, prior, smooth, damping, steps):
    """Take some steps that move a field towards moving(p + field(p)) = fixed(p).

    With r = fixed - moved, g = (the moved image's derivatives + the fixed one's) / 2 and
    q = weight / (1 + r^2), summed over the features,

        A = window * [q g g'],  b = window * [q g r],  v = prior * field,
        delta = (A + damping I)^-1 (b + damping (v - field)),  |delta| <= 1,
        field = smooth * (field + delta)

    where * is a blur. The pull to its own smoothing where there is little structure keeps the field
    from folding.

    Parameters
    ----------
    moving, fixed : ndarray of float32, shape (VALUES, H, W)
        As `with_derivatives` makes them.
    weight : ndarray of float32, shape (H, W)
    second : float32
        Weight of the second feature: 1, or 0 where an image has none.
    field : ndarray of float32, shape (2, H, W)
        (dy, dx) in pixels, changed in place.
    window, prior, smooth : ndarray of float32
        Half kernels of `gaussian`.
    damping : float32
    steps : int
    """
    height, width = weight.shape
    normal = np.empty((5, height, width), np.float32)
    pulled = np.empty((2, height, width), np.float32)
    longest = max(len(window), len(prior), len(smooth))
    padded, down = np.empty((2, room_for(height, width, longest)), np.float32)
    places = np.empty(width, np.int32)
    shares = np.empty((4, width), np.float32)
    looked = np.empty((VALUES, width), np.float32)
    flat = moving.reshape(VALUES, height * width)
    for _ in range(steps):
        for y in range(height):
            _look_up(flat, field, y, height, places, shares, looked)
            _normal_equations(looked, fixed, weight, second, y, normal)
        for k in range(5):
            _blur(normal, k, window, padded, down, jit.PLAIN_KERNELS)
        for k in range(2):
            for y in range(height):
                for x in range(width):
                    pulled[k, y, x] = field[k, y, x]
            _blur(pulled, k, prior, padded, down, jit.PLAIN_KERNELS)
        _step(normal, pulled, damping, field)
        for k in range(2):
            _blur(field, k, smooth, padded, down, jit.PLAIN_KERNELS)


@jit.helper
def _look_up(moving, field, y, height, places, shares, looked):
    """Look up a row of the moving values at its moved places, bilinearly."""
    width = looked.shape[1]
    zero, one = np.float32(0), np.float32(1)
    bottom, right = np.float32(height - 1), np.float32(width - 1)
    for x in range(width):
        py = min(max(np.float32(y) + field[0, y, x], zero), bottom)
        px = min(max(np.float32(x) + field[1, y, x], zero), right)
        y0, x0 = min(int(py), height - 2), min(int(px), width - 2)
        down, across = py - np.float32(y0), px - np.float32(x0)
        places[x] = y0 * width + x0
        shares[0, x] = (one - down) * (one - across)
        shares[1, x] = (one - down) * across
        shares[2, x] = down * (one - across)
        shares[3, x] = down * across
    step = np.uintp(width)
    for k in range(VALUES):
        for x in range(width):
            i = np.uintp(places[x])
            looked[k, x] = (
                shares[0, x] * moving[k, i]
                + shares[1, x] * moving[k, i + np.uintp(1)]
                + shares[2, x] * moving[k, i + step]
                + shares[3, x] * moving[k, i + step + np.uintp(1)]
            )


@jit.helper
def _normal_equations(looked, fixed, weight, second, y, normal):
    """Fill in q g g' and q g r of a row: of five planes."""
    half, one = np.float32(0.5), np.float32(1)
    for x in range(looked.shape[1]):
        r, s = fixed[0, y, x] - looked[0, x], fixed[3, y, x] - looked[3, x]
        gy, hy = half * (looked[1, x] + fixed[1, y, x]), half * (looked[4, x] + fixed[4, y, x])
        gx, hx = half * (looked[2, x] + fixed[2, y, x]), half * (looked[5, x] + fixed[5, y, x])
        p, q = weight[y, x] / (one + r * r), weight[y, x] * second / (one + s * s)
        normal[0, y, x] = p * gy * gy + q * hy * hy
        normal[1, y, x] = p * gy * gx + q * hy * hx
        normal[2, y, x] = p * gx * gx + q * hx * hx
        normal[3, y, x] = p * gy * r + q * hy * s
        normal[4, y, x] = p * gx * r + q * hx * s


@jit.helper
def _step(normal, pulled, damping, field):
    """Add the solution of every pixel's two equations, of length 1 at most, to the field."""
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
            field[0, y, x] += down * scale
            field[1, y, x] += across * scale
