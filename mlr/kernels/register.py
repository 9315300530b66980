"""Registration of images: windowed Gauss-Newton steps, and what they need.

Planes are float32. The values that a step looks up at a moved place, a feature and its two
derivatives, lie together, `VALUES` for each pixel: one place is then one or two lines of the cache,
and the loop over them is one vector.
"""

import numpy as np

from mlr.kernels import jit

FEATURES = 2
VALUES = 8  # of a pixel: feature, its derivatives down and across, and one unused; of each feature


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
    rows = np.empty((height, width), np.float32)
    line = np.empty(width + 2 * (len(half) - 1), np.float32)
    for n in range(begin, end):
        _blur(planes, n, half, rows, line)


@jit.helper
def _blur(planes, n, half, rows, line):
    """Blur a plane, across and then down."""
    _, height, width = planes.shape
    radius = len(half) - 1
    for y in range(height):
        for x in range(radius):
            line[x] = planes[n, y, 0]
            line[radius + width + x] = planes[n, y, width - 1]
        for x in range(width):
            line[radius + x] = planes[n, y, x]
        for x in range(width):
            rows[y, x] = half[0] * line[np.uintp(radius + x)]
        for j in range(1, radius + 1):
            weight = half[j]
            for x in range(width):
                before, after = np.uintp(radius + x - j), np.uintp(radius + x + j)
                rows[y, x] += weight * (line[before] + line[after])
    for y in range(height):
        for x in range(width):
            planes[n, y, x] = half[0] * rows[y, x]
        for j in range(1, radius + 1):
            weight = half[j]
            above, below = np.uintp(max(y - j, 0)), np.uintp(min(y + j, height - 1))
            for x in range(width):
                planes[n, y, x] += weight * (rows[above, x] + rows[below, x])


@jit.serial
def with_derivatives(features, values):
    """Fill in features (H, W, FEATURES) and their derivatives, values (H, W, VALUES).

    Sobel operators over 8; edges repeat.
    """
    height, width, _ = features.shape
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
                first = VALUES // FEATURES * k
                eighth, two = np.float32(0.125), np.float32(2)
                values[y, x, first] = features[y, x, k]
                values[y, x, first + 1] = (g + two * h + i - a - two * b - c) * eighth
                values[y, x, first + 2] = (c + two * f + i - a - two * d - g) * eighth
                values[y, x, first + 3] = 0


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
    moving, fixed : ndarray of float32, shape (H, W, VALUES)
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
    rows = np.empty((height, width), np.float32)
    radius = max(len(window), len(prior), len(smooth))
    line = np.empty(width + 2 * radius, np.float32)
    looked = np.empty(VALUES, np.float32)
    for _ in range(steps):
        _normal_equations(moving, fixed, weight, second, field, normal, looked)
        for k in range(5):
            _blur(normal, k, window, rows, line)
        for k in range(2):
            for y in range(height):
                for x in range(width):
                    pulled[k, y, x] = field[k, y, x]
            _blur(pulled, k, prior, rows, line)
        _step(normal, pulled, damping, field)
        for k in range(2):
            _blur(field, k, smooth, rows, line)


@jit.helper
def _normal_equations(moving, fixed, weight, second, field, normal, looked):
    """Fill in q g g' and q g r of every pixel: five planes."""
    height, width = weight.shape
    half, one = np.float32(0.5), np.float32(1)
    bottom, right = np.float32(height - 1), np.float32(width - 1)
    for y in range(height):
        for x in range(width):
            py = min(max(np.float32(y) + field[0, y, x], np.float32(0)), bottom)
            px = min(max(np.float32(x) + field[1, y, x], np.float32(0)), right)
            y0, x0 = min(int(py), height - 2), min(int(px), width - 2)
            fy, fx = py - np.float32(y0), px - np.float32(x0)
            a, b, c, d = (one - fy) * (one - fx), (one - fy) * fx, fy * (one - fx), fy * fx
            i, j = np.uintp(y0), np.uintp(x0)
            for k in range(VALUES):
                looked[k] = (
                    a * moving[i, j, k]
                    + b * moving[i, j + np.uintp(1), k]
                    + c * moving[i + np.uintp(1), j, k]
                    + d * moving[i + np.uintp(1), j + np.uintp(1), k]
                )
            yy = yx = xx = yr = xr = np.float32(0)
            share = weight[y, x]
            for k in range(FEATURES):
                first = VALUES // FEATURES * k
                down = half * (looked[first + 1] + fixed[y, x, first + 1])
                across = half * (looked[first + 2] + fixed[y, x, first + 2])
                r = fixed[y, x, first] - looked[first]
                q = share / (one + r * r)
                yy += q * down * down
                yx += q * down * across
                xx += q * across * across
                yr += q * down * r
                xr += q * across * r
                share *= second
            normal[0, y, x], normal[1, y, x], normal[2, y, x] = yy, yx, xx
            normal[3, y, x], normal[4, y, x] = yr, xr


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
