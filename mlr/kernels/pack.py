"""From images to samples: the image index moves behind the pixel index.

Samples lie in blocks of four, those of adjacent pixels side by side: a vector then holds a few
samples of a tile of pixels, and a vector of sums those of the same pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mlr.kernels import jit
from mlr.kernels._llvm import BLOCK as BLOCK
from mlr.kernels._llvm import LINE, RUN, address, fetch, interleave
from mlr.kernels.parallel import parallel_for

#: The rows of a block have an odd multiple of this number of pixels, whole lines of the cache: rows
#: that are a power of two apart would get in each other's way there (1.2 times the time).
SPREAD = 16


def samples_shape(
    channels: int, height: int, width: int, count: int
) -> tuple[int, int, int, int, int]:
    """Return the shape (C, H, B, R, BLOCK) of an array for so many samples of each pixel.

    There are B blocks, and rows of R pixels, at least the width. Allocate it with `at_line`.
    """
    row = width + (SPREAD - width) % (2 * SPREAD)
    return channels, height, -(-count // BLOCK), row, BLOCK


def at_line(size: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised array (size,) that begins at a line of the cache."""
    dtype = np.dtype(dtype)
    memory = np.empty(size * dtype.itemsize + LINE, np.uint8)
    first = -memory.ctypes.data % LINE
    return memory[first : first + size * dtype.itemsize].view(dtype)


def clear_from(samples: NDArray[Any], count: int) -> None:
    """Set the samples from number ``count`` on to zero; they do not count then."""
    block, rest = divmod(count, BLOCK)
    samples[:, :, block : block + 1, :, rest:] = 0
    samples[:, :, block + 1 :] = 0


def pack(images: NDArray[Any], samples: NDArray[Any], start: int) -> None:
    """Copy images so that the samples of a pixel lie side by side, in blocks.

        samples[c, y, m // BLOCK, x, m % BLOCK] = images[n, y, x, c],    m = start + n

    Parameters
    ----------
    images : ndarray of uint8 or float64, shape (N, H, W, C), C-contiguous
    samples : ndarray of the same dtype, shape (C, H, B, R, BLOCK), C-contiguous
        Of the `samples_shape` for at least start + N. The other samples stay as they are.
    start : int

    Raises
    ------
    ValueError
        If there is no room.
    """
    count, height, width, channels = images.shape
    blocks = samples.shape[2]
    expected = samples_shape(channels, height, width, blocks * BLOCK)
    if samples.shape != expected or start + count > blocks * BLOCK:
        raise ValueError(f"no room for {images.shape} at {start} of {samples.shape}")
    if images.dtype == np.float64:
        parallel_for(_pack_float64, height, images, samples, start)
    else:
        flat = (images.reshape(-1), samples.reshape(-1), images.shape, samples.shape)
        parallel_for(_pack_uint8, height, *flat, start, jit.PLAIN_KERNELS)


@jit.serial
def _pack_uint8(begin, end, images, samples, shape, packed, start, plain):
    starts = np.empty(shape[3], np.int64)
    for y in range(begin, end):
        _pack_row(images, samples, shape, packed, start, y, plain, starts)


@jit.helper
def _pack_row(images, samples, shape, packed, start, y, plain, starts):
    """Interleave row y of all images, a block at a time.

    What the next block needs is fetched ahead: each row begins where no processor expects it.
    Images that are in no cache take less than half the time.
    """
    count, height, width, channels = shape
    _, _, blocks, pitch, _ = packed
    for c in range(channels):
        starts[c] = (c * height + y) * blocks * pitch * BLOCK
    vectors = not plain and width >= RUN and channels in (1, 3)
    first = 0
    while first < count:
        block, inside = divmod(start + first, BLOCK)
        last = min(first + BLOCK - inside, count)
        if not plain:
            row, following = (y, last) if last < count else (y + 1, 0)
            for n in range(following, min(following + BLOCK, count) if row < height else 0):
                begin = (n * height + row) * width * channels
                for i in range(begin, begin + width * channels, LINE):
                    fetch(images, i)
        source, target = (first * height + y) * width * channels, block * pitch * BLOCK + inside
        stride = height * width * channels
        if vectors and last - first == BLOCK:
            for left in range(0, width, RUN):
                x = min(left, width - RUN)
                pixels = address(images, source + x * channels)
                to = address(samples, target + x * BLOCK)
                if channels == 1:
                    interleave(pixels, stride, to, starts, 1)
                else:
                    interleave(pixels, stride, to, starts, 3)
        else:
            for c in range(channels):
                for x in range(width):
                    for n in range(last - first):
                        i = starts[c] + target + x * BLOCK + n
                        samples[i] = images[source + n * stride + x * channels + c]
        first = last


@jit.serial
def _pack_float64(begin, end, images, samples, start):
    count, _, width, channels = images.shape
    for y in range(begin, end):
        for c in range(channels):
            for n in range(count):
                block, inside = divmod(start + n, BLOCK)
                for x in range(width):
                    samples[c, y, block, x, inside] = images[n, y, x, c]
