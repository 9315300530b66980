"""Weighted sums over the taps of every pixel, for many images at once.

To the bias, one product after the other is added in float32, and each step is rounded: so the bits
are the same however many images and threads there are, and NumPy computes them too.

Tried and dropped, with times per image of 128 px, 3x3, on a busy machine:

- Batches with weights straight from the model: 39 us against 16, for a batch of 16. The weights of
  a pixel often lie a power of two apart, so that few lines of a cache may hold them, and they are
  gone before the next images need them.
- Batches with the weights of 16 pixels packed together: as fast, but packing takes 1.6 times as
  long as the copy of rows.
- Fetching the lines of the next images ahead: no gain.
- A single image with one tap at a time: 61 us against 58 with two, 7x7 at 256 px 1590 against 1172.
- A single image with all taps of 16 pixels at once: 34 us against 58, so few taps are done so;
  5x5 123 against 107, 7x7 at 256 px 3277 against 1172.
"""

import numpy as np

from mlr.kernels import jit
from mlr.kernels.parallel import share_out
from mlr.kernels.vectors import WEIGHED, weigh

IMAGES = 4  # images treated together: each weight is loaded once for them
BAND_BYTES = 128 << 10  # weights of some rows that stay in the second-level cache
FEW = 10  # taps whose weights can be read side by side, from as many places of the memory
APART = 16  # elements between the weights of one tap and those of the next


def apply_weights(weights, taps, images, edge, output):
    """Compute sum_k w_k(p) x(p + o_k) + w_bias(p).

    Parameters
    ----------
    weights : ndarray of float32, shape (C or 1, K + 1, H, W), C-contiguous
        Bias last.
    taps : ndarray of int64, shape (K, 2)
        Offsets (dy, dx), at most H and W pixels.
    images : ndarray of float32, shape (N, C, H, W), C-contiguous
    edge : bool
        Outside the frame an image goes on with its last pixel, instead of with zeros.
    output : ndarray of float32, shape (N, C, H, W), C-contiguous
    """
    weights, images = (_read_only(array) for array in (weights, images))
    _, channels, height, width = images.shape
    rows = max(1, min(height, BAND_BYTES // (4 * (len(taps) + 1) * width)))
    bands = channels * -(-height // rows)
    margins = tuple(np.abs(taps).max(axis=0).tolist())
    starts = (taps[:, 0] + margins[0]) * (width + 2 * margins[1]) + taps[:, 1] + margins[1]
    geometry = (rows, *margins, starts)
    share_out(_apply_bands, bands, weights, images, edge, output, *geometry, jit.PLAIN_KERNELS)


def _read_only(array):
    """Return a view that cannot be written to, as that of a loaded model: one type to compile."""
    view = array.view()
    view.flags.writeable = False
    return view


@jit.serial
def _apply_bands(begin, end, weights, images, edge, output, rows, down, across, starts, plain):
    """Compute some bands of rows, four images at a time.

    Of each image the rows are first copied with margins, so that starts[k] is where the first
    output pixel of a band finds its tap k.
    """
    count, _, height, width = images.shape
    pitch = width + 2 * across
    framed = np.empty((IMAGES, (rows + 2 * down) * pitch), np.float32)
    band = np.empty((len(starts) + 1, rows * width + APART), np.float32)
    vectors = width >= WEIGHED and not plain
    whole = count // IMAGES * IMAGES if vectors else 0
    few = vectors and len(starts) <= FEW
    bands = -(-height // rows)
    for task in range(begin, end):
        c, number = divmod(task, bands)
        top = number * rows
        bottom = min(top + rows, height)
        own = weights[c % len(weights)]
        planes = own.reshape(len(own), height * width)
        if whole:
            _copy_band(own, top, bottom, band)
        for n in range(count):
            i = n % IMAGES
            _frame(images[n, c], top - down, bottom + down, across, edge, framed[i])
            if n < whole:
                if i == IMAGES - 1:
                    _weigh_together(band, starts, framed, pitch, top, bottom, output, n - i, c)
            elif few:
                _weigh_few(planes, starts, framed[i : i + 1], pitch, top, bottom, output, n, c)
            else:
                _weigh_one(own, starts, framed[i], pitch, top, bottom, output[n, c])


@jit.helper
def _copy_band(weights, top, bottom, band):
    """Copy rows of the weights to where they do not get in each other's way in the cache."""
    width = weights.shape[2]
    for k in range(len(weights)):
        for y in range(top, bottom):
            place = (y - top) * width
            _copy(weights[k, y], band[k, place : place + width])


@jit.helper
def _frame(image, top, bottom, margin, edge, framed):
    """Copy rows of an image, and what counts for pixels outside the frame."""
    height, width = image.shape
    for y in range(top, bottom):
        source = image[min(max(y, 0), height - 1)]
        row = framed[(y - top) * (width + 2 * margin) :]
        inside = edge or 0 <= y < height
        for x in range(margin):
            row[x] = source[0] if edge else 0.0
            row[margin + width + x] = source[width - 1] if edge else 0.0
        if inside:
            _copy(source, row[margin : margin + width])
        else:
            for x in range(width):
                row[margin + x] = 0.0


@jit.helper
def _weigh_together(band, starts, framed, pitch, top, bottom, output, n, c):
    """Compute rows of the images n ... n + IMAGES - 1."""
    width = output.shape[3]
    for y in range(top, bottom):
        for x in range(0, width, WEIGHED):
            left = min(x, width - WEIGHED)  # the last pixels may be computed twice
            place, source = (y - top) * width + left, (y - top) * pitch + left
            weigh(band, place, starts, framed, source, output, n, c, y, left, IMAGES)


@jit.helper
def _weigh_few(weights, starts, framed, pitch, top, bottom, output, n, c):
    """Compute rows of image n, all taps of a few pixels at once."""
    width = output.shape[3]
    for y in range(top, bottom):
        for x in range(0, width, WEIGHED):
            left = min(x, width - WEIGHED)
            source = (y - top) * pitch + left
            weigh(weights, y * width + left, starts, framed, source, output, n, c, y, left, 1)


@jit.helper
def _weigh_one(weights, starts, framed, pitch, top, bottom, output):
    """Compute rows of one image, with weights that are read once and in long runs."""
    width, taps = output.shape[1], len(starts)
    for y in range(top, bottom):
        _copy(weights[taps, y], output[y])
    for k in range(0, taps, 2):
        for y in range(top, bottom):
            i = (y - top) * pitch + starts[k]
            if k + 1 < taps:
                j = (y - top) * pitch + starts[k + 1]
                pixels = framed[i : i + width], framed[j : j + width]
                _add_two(output[y], weights[k, y], pixels[0], weights[k + 1, y], pixels[1])
            else:
                _add_one(output[y], weights[k, y], framed[i : i + width])


@jit.helper
def _add_two(sums, a, x, b, y):
    for i in range(sums.size):
        sums[i] = (sums[i] + a[i] * x[i]) + b[i] * y[i]


@jit.helper
def _add_one(sums, a, x):
    for i in range(sums.size):
        sums[i] += a[i] * x[i]


@jit.helper
def _copy(source, target):
    for i in range(source.size):
        target[i] = source[i]
