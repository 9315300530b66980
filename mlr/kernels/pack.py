"""From images to samples: the image index moves behind the pixel index.

Samples lie in blocks, those of adjacent pixels side by side: a vector then holds two pixels, and
its sums need less adding up at the end; and the next pixels of a block follow in memory.
"""

import numpy as np

from mlr.kernels import jit
from mlr.kernels.parallel import share_out
from mlr.kernels.vectors import BLOCK, LINE, TOGETHER, fetch, transpose

#: The rows of a block have an odd multiple of so many pixels: those that are a power of two apart
#: would get in each other's way in the cache (1.3 times the time at 256 px), and so do those of an
#: odd multiple of 2 (1.1 times). With 32 it takes as long, but a quarter more memory at 128 px.
SPREAD = 8


def samples_shape(channels, height, width, count):
    """Return the shape (C, H, B, R, 16) of an array for so many samples of each pixel.

    There are B blocks, and rows of R pixels, some more than the width.
    """
    return (
        channels,
        height,
        -(-count // BLOCK),
        width + 1 + (SPREAD - width - 1) % (2 * SPREAD),
        BLOCK,
    )


def clear_from(samples, count):
    """Set the samples from number ``count`` on to zero; they do not count then."""
    block, rest = divmod(count, BLOCK)
    samples[:, :, block : block + 1, :, rest:] = 0
    samples[:, :, block + 1 :] = 0


def pack(images, samples, start):
    """Copy images so that the samples of a pixel lie side by side, in blocks.

        samples[c, y, m // BLOCK, x, m % BLOCK] = images[n, y, x, c],    m = start + n

    Parameters
    ----------
    images : ndarray of uint8 or float64, shape (N, H, W, C), C-contiguous
    samples : ndarray of the same dtype, shape (C, H, B, R, BLOCK), C-contiguous
        As `samples_shape` tells for at least start + N. The other samples stay as they are.
    start : int
    """
    count, height, width, channels = images.shape
    blocks = samples.shape[2]
    expected = samples_shape(channels, height, width, blocks * BLOCK)
    if samples.shape != expected or start + count > blocks * BLOCK:
        raise ValueError(f"no room for {images.shape} at {start} of {samples.shape}")
    if images.dtype == np.float64:
        share_out(_pack_float64, height, images, samples, start)
    else:
        flat = (images.reshape(-1), samples.reshape(-1), images.shape, samples.shape)
        share_out(_pack_uint8, height, *flat, start, jit.PLAIN_KERNELS)


@jit.serial
def _pack_uint8(begin, end, images, samples, shape, packed, start, plain):
    for y in range(begin, end):
        _pack_row(images, samples, shape, packed, start, y, plain)


@jit.helper
def _pack_row(images, samples, shape, packed, start, y, plain):
    """Transpose row y of all images, in blocks.

    The rows of a block of images are first brought together, for images a power of two bytes apart
    would get in each other's way in the cache. What the next block needs is fetched ahead: each row
    begins where no processor expects it. Images that are in no cache take less than half the time.
    """
    count, height, width, channels = shape
    _, _, blocks, pitch, _ = packed
    size = width * channels
    rows = np.empty(TOGETHER * size, np.uint8)
    places = np.empty(size, np.int64)
    for q in range(size):
        places[q] = ((q % channels * height + y) * blocks * pitch + q // channels) * BLOCK
    whole = size // TOGETHER * TOGETHER
    first = 0
    while first < count:  # up to the next block of samples, or the middle of it
        block, inside = divmod(start + first, BLOCK)
        last = min(first + TOGETHER - inside % TOGETHER, count)
        for n in range(first, last):
            begin = (n * height + y) * size
            m = n - first
            _copy(images[begin : begin + size], rows[m * size : (m + 1) * size])
        if not plain:
            row, following = (y, last) if last < count else (y + 1, 0)
            for n in range(following, min(following + TOGETHER, count) if row < height else 0):
                begin = (n * height + row) * size
                for i in range(begin, begin + size, LINE):
                    fetch(images, (i,))
        done, shift = 0, block * pitch * BLOCK + inside
        if last - first == TOGETHER and not plain:
            done = whole
            for q in range(0, whole, TOGETHER):
                transpose(rows, q, size, samples, places, q, shift)
        for q in range(done, size):
            place = places[q] + shift
            for m in range(last - first):
                samples[place + m] = rows[m * size + q]
        first = last


@jit.helper
def _copy(source, target):
    for i in range(source.size):
        target[i] = source[i]


@jit.serial
def _pack_float64(begin, end, images, samples, start):
    count, _, width, channels = images.shape
    for y in range(begin, end):
        for c in range(channels):
            for n in range(count):
                block, inside = divmod(start + n, BLOCK)
                for x in range(width):
                    samples[c, y, block, x, inside] = images[n, y, x, c]
