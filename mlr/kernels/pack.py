"""From images to samples: the image index moves behind the pixel index.

Tried and dropped: transposing the blocks of 64 images one after the other, so that a whole line of
the cache is written while it is there, takes 1 to 1.5 times as long.
"""

import numpy as np

from mlr.kernels import jit
from mlr.kernels.parallel import share_out
from mlr.kernels.vectors import fetch, transpose

LINE = 64  # bytes of a line of the cache
BLOCK = 16  # images, and bytes of a row of each, that are transposed together


def pack(images, samples, start):
    """Copy images so that all the samples of a pixel lie side by side.

        samples[c, y, x, start + n] = images[n, y, x, c]

    Parameters
    ----------
    images : ndarray of uint8 or float64, shape (N, H, W, C), C-contiguous
    samples : ndarray of the same dtype, shape (C, H, W, S), C-contiguous, with S >= start + N
        The other samples stay as they are.
    start : int
    """
    count, height, width, channels = images.shape
    if samples.shape[:3] != (channels, height, width) or start + count > samples.shape[3]:
        raise ValueError(f"no room for {images.shape} at {start} of {samples.shape}")
    if images.dtype == np.float64:
        share_out(_pack_float64, height, images, samples, start)
    else:
        flat = (images.reshape(-1), samples.reshape(-1), images.shape)
        share_out(_pack_uint8, height, *flat, start, samples.shape[3], jit.PLAIN_KERNELS)


@jit.serial
def _pack_uint8(begin, end, images, samples, shape, start, stride, plain):
    for y in range(begin, end):
        _pack_row(images, samples, shape, start, stride, y, plain)


@jit.helper
def _pack_row(images, samples, shape, start, stride, y, plain):
    """Transpose row y of all images, in blocks.

    The rows of a block of images are first brought together, for images a power of two bytes apart
    would get in each other's way in the cache. What the next block needs is fetched ahead: each row
    begins where no processor expects it. Images that are in no cache take less than half the time.
    """
    count, height, width, channels = shape
    size = width * channels
    rows = np.empty(BLOCK * size, np.uint8)
    places = np.empty(size, np.int64)
    for q in range(size):
        places[q] = ((q % channels * height + y) * width + q // channels) * stride
    whole = size // BLOCK * BLOCK
    for n in range(0, count, BLOCK):
        images_here = min(BLOCK, count - n)
        for m in range(images_here):
            begin = ((n + m) * height + y) * size
            _copy(images[begin : begin + size], rows[m * size : (m + 1) * size])
        if not plain:
            row, following = (y, n + BLOCK) if n + BLOCK < count else (y + 1, 0)
            for m in range(following, min(following + BLOCK, count) if row < height else 0):
                begin = (m * height + row) * size
                for i in range(begin, begin + size, LINE):
                    fetch(images, (i,))
        done = 0
        if images_here == BLOCK and not plain:
            done = whole
            for q in range(0, whole, BLOCK):
                transpose(rows, q, size, samples, places, q, start + n)
        for q in range(done, size):
            place = places[q] + start + n
            for m in range(images_here):
                samples[place + m] = rows[m * size + q]


@jit.helper
def _copy(source, target):
    for i in range(source.size):
        target[i] = source[i]


@jit.serial
def _pack_float64(begin, end, images, samples, start):
    count, _, width, channels = images.shape
    for y in range(begin, end):
        for first in range(0, count, BLOCK):
            for x in range(width):
                for c in range(channels):
                    for n in range(first, min(first + BLOCK, count)):
                        samples[c, y, x, start + n] = images[n, y, x, c]
