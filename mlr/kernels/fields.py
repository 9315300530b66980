"""Looking up fields, planes and images at moved positions.

Positions (y + dy, x + dx) in pixels are clipped to the image, so that edges repeat.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mlr.kernels import jit

POLE = math.sqrt(3) - 2  # of the filter that computes coefficients of cubic B-splines

Floats = NDArray[np.float32]


@jit.serial
def look_up(begin: int, end: int, planes: Floats, field: Floats, output: Floats) -> None:
    """Fill in output[n, p] = planes[n, p + field(p)] for the planes begin .. end; bilinear.

    Shapes are (N, h, w), (N, H, W) and (2, h, w).
    """
    _, height, width = planes.shape
    bottom, right = np.float32(height - 1), np.float32(width - 1)
    one = np.float32(1)
    for y in range(field.shape[1]):
        for x in range(field.shape[2]):
            py = min(max(np.float32(y) + field[0, y, x], np.float32(0)), bottom)
            px = min(max(np.float32(x) + field[1, y, x], np.float32(0)), right)
            y0, x0 = max(min(int(py), height - 2), 0), max(min(int(px), width - 2), 0)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            fy, fx = py - np.float32(y0), px - np.float32(x0)
            for n in range(begin, end):
                above = (one - fx) * planes[n, y0, x0] + fx * planes[n, y0, x1]
                below = (one - fx) * planes[n, y1, x0] + fx * planes[n, y1, x1]
                output[n, y, x] = (one - fy) * above + fy * below


@jit.serial
def enlarge(begin: int, end: int, planes: Floats, factors: Floats, output: Floats) -> None:
    """Resample planes (N, h, w) bilinearly about pixel centres into output (N, H, W).

    Plane n is multiplied by factors[n].
    """
    _, height, width = planes.shape
    _, tall, wide = output.shape
    left = np.empty(wide, np.int64)
    across = np.empty(wide, np.float32)
    for x in range(wide):
        at = min(max((x + 0.5) * width / wide - 0.5, 0.0), width - 1.0)
        left[x] = max(min(int(at), width - 2), 0)
        across[x] = at - left[x]
    row = np.empty(width, np.float32)
    for n in range(begin, end):
        for y in range(tall):
            at = min(max((y + 0.5) * height / tall - 0.5, 0.0), height - 1.0)
            top = max(min(int(at), height - 2), 0)
            below, down = min(top + 1, height - 1), np.float32(at - top)
            for x in range(width):
                first = planes[n, top, x]
                row[x] = (first + down * (planes[n, below, x] - first)) * factors[n]
            for x in range(wide):
                i = left[x]
                j = min(i + 1, width - 1)
                output[n, y, x] = row[i] + across[x] * (row[j] - row[i])


@jit.serial
def area_average(begin: int, end: int, image: Floats, output: Floats) -> None:
    """Fill in rows begin .. end of output (H, W, C): means of image (h, w, C) over each pixel."""
    height, width, channels = image.shape
    tall, wide, _ = output.shape
    down, across = height / tall, width / wide
    total = np.empty((width, channels), np.float64)
    for y in range(begin, end):
        top, bottom = y * down, min((y + 1) * down, float(height))
        total[:] = 0.0
        for i in range(int(top), min(math.ceil(bottom - 1e-9), height)):
            share = min(i + 1.0, bottom) - max(float(i), top)
            for x in range(width):
                for c in range(channels):
                    total[x, c] += share * image[i, x, c]
        for x in range(wide):
            left, right = x * across, min((x + 1) * across, float(width))
            for c in range(channels):
                mean = 0.0
                for j in range(int(left), min(math.ceil(right - 1e-9), width)):
                    mean += (min(j + 1.0, right) - max(float(j), left)) * total[j, c]
                output[y, x, c] = mean / (down * across)


@jit.serial
def spline_coefficients(begin: int, end: int, planes: Floats, output: Floats) -> None:
    """Fill in the cubic B-spline coefficients of the planes begin .. end, with a margin of a pixel.

    The spline interpolates the pixels (N, H, W), as if edges repeated infinitely. The output has
    the shape (N, H + 2, W + 2).
    """
    _, height, width = planes.shape
    for n in range(begin, end):
        across = np.empty((width + 2, height), np.float32)
        across[1:-1] = planes[n].T
        _filter_down(across)
        output[n, 1:-1] = across.T
        _filter_down(output[n])


@jit.helper
def _filter_down(values):
    """Filter columns in place; all rows but the first and last hold pixels.

    Loops run along rows, so that they are vectorised.
    """
    rows, columns = values.shape
    end, pole = rows - 1, np.float32(POLE)
    one, six = np.float32(1), np.float32(6)
    after, squared = one / (one - pole), one / (one - pole * pole)
    for x in range(columns):
        values[0, x] = after * values[1, x]
        values[end, x] = after * values[end - 1, x]
    for y in range(1, end):
        for x in range(columns):
            values[y, x] += pole * values[y - 1, x]
    for x in range(columns):
        last = values[end, x]
        values[end, x] = -pole * (after * last + pole * squared * (values[end - 1, x] - last))
    for y in range(end - 1, -1, -1):
        for x in range(columns):
            values[y, x] = pole * (values[y + 1, x] - values[y, x])
    for y in range(rows):
        for x in range(columns):
            values[y, x] *= six


@jit.serial
def cubic(begin: int, end: int, coefficients: Floats, field: Floats, output: Floats) -> None:
    """Fill in rows begin .. end of output[n, p] = image[n, p + field(p)], by its cubic B-spline.

    The image (N, H, W) is given by its `spline_coefficients`, the field has the shape (2, H, W).
    """
    count, height, width = output.shape
    bottom, right = np.float32(height - 1), np.float32(width - 1)
    for y in range(begin, end):
        for x in range(width):
            py = min(max(np.float32(y) + field[0, y, x], np.float32(0)), bottom)
            px = min(max(np.float32(x) + field[1, y, x], np.float32(0)), right)
            y0, x0 = max(min(int(py), height - 2), 0), max(min(int(px), width - 2), 0)
            d0, d1, d2, d3 = _spline_weights(py - np.float32(y0))
            a0, a1, a2, a3 = _spline_weights(px - np.float32(x0))
            i, j = np.uintp(y0), np.uintp(x0)
            i1, i2, j1, j2 = i + np.uintp(1), i + np.uintp(2), j + np.uintp(1), j + np.uintp(2)
            i3, j3 = np.uintp(min(y0 + 3, height + 1)), np.uintp(min(x0 + 3, width + 1))
            for n in range(count):
                p = coefficients[n]
                output[n, y, x] = (
                    d0 * (a0 * p[i, j] + a1 * p[i, j1] + a2 * p[i, j2] + a3 * p[i, j3])
                    + d1 * (a0 * p[i1, j] + a1 * p[i1, j1] + a2 * p[i1, j2] + a3 * p[i1, j3])
                    + d2 * (a0 * p[i2, j] + a1 * p[i2, j1] + a2 * p[i2, j2] + a3 * p[i2, j3])
                    + d3 * (a0 * p[i3, j] + a1 * p[i3, j1] + a2 * p[i3, j2] + a3 * p[i3, j3])
                )


@jit.inlined
def _spline_weights(t):
    """Return the weights of four coefficients, for a position t beyond the second one."""
    one, two, three, four = np.float32(1), np.float32(2), np.float32(3), np.float32(4)
    sixth = np.float32(1 / 6)
    first = (one - t) * (one - t) * (one - t) * sixth
    second = (four + three * t * t * (t - two)) * sixth
    last = t * t * t * sixth
    return first, second, one - first - second - last, last


PLANES = 8  # of `enlarge_similar`: one vector


@jit.serial
def enlarge_similar(
    planes: Floats, factor: tuple[np.float32, np.float32], shift: Floats, output: Floats
) -> None:
    """Fill in planes warped by a similarity, with Keys' bicubic interpolation; 0 outside.

    The pixel (y, x) of the output is looked up at row s x + c y + shift[0] and column
    c x - s y + shift[1], with (c, s) the factor.

    Parameters
    ----------
    planes : ndarray of float32, shape (h, w, PLANES)
        0 in the three outermost pixels at each edge.
    factor : tuple of float32
        Cosine and sine of the angle, times the scale, at most 1.
    shift : ndarray of float32, shape (2,)
    output : ndarray of float32, shape (H, W, PLANES)
    """
    height, width, _ = planes.shape
    tall, wide, _ = output.shape
    cosine, sine = factor
    zero = np.float32(0)
    total = np.empty(PLANES, np.float32)
    used = np.zeros((height, width), np.bool_)  # by the first of four pixels in each direction
    for y in range(height):
        for x in range(width):
            if (planes[y, x] != 0).any():
                used[max(y - 3, 0) : y + 1, max(x - 3, 0) : x + 1] = True
    for y in range(tall):
        for x in range(wide):
            row = sine * np.float32(x) + cosine * np.float32(y) + shift[0]
            column = cosine * np.float32(x) - sine * np.float32(y) + shift[1]
            top, left = int(np.floor(row)), int(np.floor(column))
            inside = 1 <= top <= height - 3 and 1 <= left <= width - 3
            if not inside or not used[top - 1, left - 1]:
                for k in range(PLANES):
                    output[y, x, k] = zero
                continue
            down = _keys_weights(row - np.float32(top))
            a, b, c, d = _keys_weights(column - np.float32(left))
            i, j = np.uintp(top - 1), np.uintp(left - 1)
            for k in range(PLANES):
                total[k] = zero
            for share in down:
                for k in range(PLANES):
                    total[k] += share * (
                        a * planes[i, j, k]
                        + b * planes[i, j + np.uintp(1), k]
                        + c * planes[i, j + np.uintp(2), k]
                        + d * planes[i, j + np.uintp(3), k]
                    )
                i += np.uintp(1)
            for k in range(PLANES):
                output[y, x, k] = total[k]


@jit.inlined
def _keys_weights(t):
    """Return the weights of four pixels, for a position t beyond the second one (a = -1/2)."""
    half, one = np.float32(0.5), np.float32(1)
    u = one - t
    first = -half * t * u * u
    second = one - t * t * (np.float32(2.5) - np.float32(1.5) * t)
    third = one - u * u * (np.float32(2.5) - np.float32(1.5) * u)
    return first, second, third, -half * u * t * t


@jit.serial
def move_and_add(
    coefficients: Floats, image: Floats, corner: tuple[int, int], planes: Floats, output: Floats
) -> None:
    """Fill in the change of a part of an image: (1 - lost) moved - image + added.

    Where there is neither motion nor loss, it is exactly what is added.

    Parameters
    ----------
    coefficients : ndarray of float32, shape (C, h + 2, w + 2)
        From `spline_coefficients`.
    image : ndarray of float32, shape (C, h, w)
        The part with its surroundings.
    corner : (int, int)
        Row and column of the part in the image.
    planes : ndarray of float32, shape (H, W, PLANES)
        What is added to each of at most 3 channels, the share that is lost, the motion (dy, dx).
    output : ndarray of float32, shape (C, H, W)
    """
    count, height, width = output.shape
    _, tall, wide = coefficients.shape
    bottom, right = np.float32(tall - 3), np.float32(wide - 3)
    one = np.float32(1)
    for y in range(height):
        for x in range(width):
            lost, dy, dx = planes[y, x, 3], planes[y, x, 4], planes[y, x, 5]
            for n in range(count):
                output[n, y, x] = planes[y, x, n]
            if lost == 0 and dy == 0 and dx == 0:
                continue
            py = min(max(np.float32(y + corner[0]) + dy, np.float32(0)), bottom)
            px = min(max(np.float32(x + corner[1]) + dx, np.float32(0)), right)
            i, j = min(int(py), tall - 4), min(int(px), wide - 4)
            down, across = _spline_weights(py - np.float32(i)), _spline_weights(px - np.float32(j))
            for n in range(count):
                moved = np.float32(0)
                for k in range(4):
                    part = np.float32(0)
                    for m in range(4):
                        part += across[m] * coefficients[n, i + k, j + m]
                    moved += down[k] * part
                here = image[n, y + corner[0], x + corner[1]]
                output[n, y, x] += (one - lost) * moved - here
