"""Weighted sums over the taps of every pixel, for many images at once.

Products are added to the bias one after the other in float32, and each step is rounded, so that
the bits do not depend on the number of images and threads.

A single image takes little longer than reading its weights from memory, nine taps at a time,
because the processor prefetches no more streams. In batches, six images share each weight that is
loaded, or three, such as the channels of a colour image that share their weights.

Tried and dropped (times per image of 128 px, 3x3): batches with weights directly from the model,
which are a power of two apart and evict each other from the cache (39 us instead of 16); packing
the weights of 16 pixels together (packing takes 1.6 times as long as copying rows); a single image
with all taps at once (7x7 at 256 px takes 2.8 times as long).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mlr.kernels import jit
from mlr.kernels._llvm import RUN, weigh
from mlr.kernels.parallel import parallel_for

IMAGES = 6  # images processed together: each weight is loaded once for them
COLOURS = 3  # of fewer images, such as the channels of one
BAND_BYTES = 128 << 10  # weights of a band of rows, which stay in the second-level cache
TAPS = 9  # read together, from as many streams of memory
MANY = 1 << 30  # taps if the weights are copied and in the cache: no limit
APART = 16  # elements between the weights of two taps

Floats = NDArray[np.float32]


def apply(
    weights: Floats, offsets: Sequence[tuple[int, int]], images: Floats, *, edge: bool = False
) -> Floats:
    """Compute sum_k w_k(p) x(p + o_k) + w_bias(p) for every pixel and channel of every image.

    Parameters
    ----------
    weights : ndarray of float32, shape (channels or 1, taps + 1, height, width)
        The bias is last. With 1, all channels share the weights.
    offsets : tuple of (dy, dx)
        The taps o_k.
    images : ndarray of float32, shape (N, channels, height, width)
    edge : bool
        Pixels outside the image repeat the nearest one inside, instead of being 0.

    Returns
    -------
    ndarray of float32, shape (N, channels, height, width)
        An image has the same bits in any batch and with any number of threads.
    """
    channels, planes, height, width = weights.shape
    output = np.empty(images.shape, np.float32)
    # Channels that share weights are processed like images.
    sources = np.ascontiguousarray(images).reshape(-1, channels, height, width)
    results = output.reshape(-1, channels, height * width)
    flat = np.ascontiguousarray(weights).reshape(channels, planes, height * width)
    rows = max(1, min(height, BAND_BYTES // (4 * planes * width)))
    bands = channels * -(-height // rows)
    neighbours = _neighbours(tuple(offsets), height, width)
    how = rows, edge, jit.PLAIN_KERNELS
    for array in (flat, sources):  # read-only as in loaded models, so that one type is compiled
        array.flags.writeable = False
    parallel_for(_apply_bands, bands, flat, neighbours, sources, results, how)
    return output


@lru_cache(maxsize=64)  # computing it takes as long as a small image
def _neighbours(
    offsets: tuple[tuple[int, int], ...], height: int, width: int
) -> tuple[int, int, NDArray[np.int64]]:
    """Return the margins that all taps need, and the indices of the first pixel's taps."""
    size = (height, width)
    taps = np.clip(np.array(offsets, np.int64), np.negative(size), size)  # farther, all are alike
    down, across = np.abs(taps).max(axis=0).tolist()
    return down, across, (taps[:, 0] + down) * (width + 2 * across) + taps[:, 1] + across


@jit.serial
def _apply_bands(begin, end, weights, neighbours, images, output, how):
    """Compute some bands of rows, `IMAGES` images at a time, or fewer.

    The rows of each image are first copied with margins, so that starts[k] is the index of tap k of
    the band's first pixel.
    """
    down, across, starts = neighbours
    rows, edge, plain = how
    count, _, height, width = images.shape
    pitch = width + 2 * across
    framed = np.empty((min(count, IMAGES), (rows + 2 * down) * pitch), np.float32)
    vectors = width >= RUN and not plain
    copied = vectors and count >= IMAGES
    band = np.empty((len(starts) + 1, rows * width + APART if copied else 0), np.float32)
    bands = -(-height // rows)
    for task in range(begin, end):
        c, number = divmod(task, bands)
        top = number * rows
        shape = min(rows, height - top), width, pitch
        own = weights[c, :, top * width : (top + shape[0]) * width]
        if copied:
            for k in range(len(band)):
                for i in range(shape[0] * width):  # rows that the cache can hold together
                    band[k, i] = weights[c, k, np.uintp(top * width + i)]
        n = 0
        while n < count:
            together = 1
            if vectors and count - n >= COLOURS:
                together = IMAGES if count - n >= IMAGES else COLOURS
            for i in range(together):
                source = n + i, c, top - down
                _frame(images, source, shape[0] + 2 * down, across, edge, framed, i)
            position = n, c, top * width
            if together == IMAGES:
                _weigh_many(band, starts, framed, shape, output, position)
            elif together == COLOURS:
                _weigh_colours(own, starts, framed, shape, output, position)
            elif vectors:
                _weigh_alone(own, starts, framed, shape, output, position)
            else:
                _weigh_plain(own, starts, framed, shape, output, position)
            n += together


@jit.helper
def _frame(images, source, rows, margin, edge, framed, m):
    """Copy rows of an image with a margin, and fill in the pixels outside the image.

    There are no slices, because counting references to them takes longer than the copy.
    """
    n, c, top = source
    _, _, height, width = images.shape
    pitch = width + 2 * margin
    for i in range(rows):
        y = min(max(top + i, 0), height - 1)
        first = i * pitch + margin
        shown = edge or y == top + i
        for x in range(width):
            framed[m, np.uintp(first + x)] = images[n, c, y, x] if shown else np.float32(0)
        for x in range(margin):
            framed[m, first - margin + x] = framed[m, first] if edge else 0.0
            framed[m, first + width + x] = framed[m, first + width - 1] if edge else 0.0


def _weigher(images, taps):
    """Return a helper that computes rows of this many images, this many taps at a time."""

    @jit.helper
    def weigh_rows(weights, starts, framed, shape, output, position):
        rows, width, pitch = shape
        n, c, q = position
        for first in range(0, len(starts), taps):
            some = first, min(first + taps, len(starts))
            for y in range(rows):
                for x in range(0, width - RUN + 1, RUN):
                    p = y * width + x
                    at = p, y * pitch + x, n, c, q + p
                    weigh(weights, starts, some, framed, output, at, images)
        if width % RUN:  # the last pixels, together with some that are computed again
            for y in range(rows):
                p = y * width + width - RUN
                at = p, y * pitch + width - RUN, n, c, q + p
                weigh(weights, starts, (0, len(starts)), framed, output, at, images)

    return weigh_rows


_weigh_many, _weigh_colours = _weigher(IMAGES, MANY), _weigher(COLOURS, TAPS)
_weigh_alone = _weigher(1, TAPS)


@jit.helper
def _weigh_plain(weights, starts, framed, shape, output, position):
    """Compute rows of one image."""
    rows, width, pitch = shape
    n, c, q = position
    for y in range(rows):
        for x in range(width):
            p = y * width + x
            total = weights[len(starts), p]
            for k in range(len(starts)):
                total += weights[k, p] * framed[0, y * pitch + x + starts[k]]
            output[n, c, q + p] = total
