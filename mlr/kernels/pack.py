"""From images to samples: the image index becomes the last one.

Samples lie in blocks of four, and the blocks of adjacent pixels are adjacent: a vector then holds a
few samples of a tile of pixels, and a vector of sums has one element for each of these pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mlr.kernels import jit
from mlr.kernels._llvm import BLOCK as BLOCK
from mlr.kernels._llvm import LINE, RUN, address, fetch, interleave
from mlr.kernels.parallel import Loop, parallel_for, parallel_for_all

#: The rows of a block have an odd multiple of this number of pixels, whole cache lines: rows that
#: are a power of two apart would evict each other from the cache (1.2 times the time).
SPREAD = 16


def samples_shape(
    channels: int, height: int, width: int, count: int
) -> tuple[int, int, int, int, int]:
    """Return the shape (C, H, B, R, BLOCK) of an array for this many samples of each pixel.

    There are B blocks, and rows of R pixels, at least the width. Allocate the array with `at_line`.
    """
    row = width + (SPREAD - width) % (2 * SPREAD)
    return channels, height, -(-count // BLOCK), row, BLOCK


def at_line(size: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised array (size,) that begins at a cache line."""
    dtype = np.dtype(dtype)
    memory = np.empty(size * dtype.itemsize + LINE, np.uint8)
    first = -memory.ctypes.data % LINE
    return memory[first : first + size * dtype.itemsize].view(dtype)


def clear_from(samples: NDArray[Any], count: int) -> None:
    """Set the samples from number ``count`` on to zero, so that they add nothing."""
    block, rest = divmod(count, BLOCK)
    samples[:, :, block : block + 1, :, rest:] = 0
    samples[:, :, block + 1 :] = 0


def pack(images: NDArray[Any], samples: NDArray[Any], start: int) -> None:
    """Copy images so that the samples of a pixel are adjacent, in blocks.

        samples[c, y, m // BLOCK, x, m % BLOCK] = images[n, y, x, c],    m = start + n

    Parameters
    ----------
    images : ndarray of uint8 or float64, shape (N, H, W, C)
    samples : ndarray of the same dtype, shape (C, H, B, R, BLOCK), C-contiguous
        With the `samples_shape` for at least start + N. The other samples are kept.
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
    images = np.ascontiguousarray(images)
    if images.dtype == np.float64 or jit.PLAIN_KERNELS or width < RUN or channels not in (1, 3):
        parallel_for(_pack_plain, height, images, samples, start)
        return
    head = min(-start % BLOCK, count)  # in a block that is partly filled
    whole = (count - head) // BLOCK * BLOCK
    loops: list[Loop] = [
        (_pack_plain, height, (images[:head], samples, start)),
        (_pack_blocks, height, (images[head:][:whole], samples, (start + head) // BLOCK)),
        (_pack_plain, height, (images[head + whole :], samples, start + head + whole)),
    ]
    parallel_for_all(loops)


@jit.serial
def _pack_blocks(begin, end, images, samples, first):
    """Interleave rows begin .. end of all images, `BLOCK` at a time, from block ``first`` on.

    The images of the next block are prefetched, because processors cannot predict where their rows
    begin. Images that are in no cache take less than half the time.
    """
    count, height, width, channels = images.shape
    targets, row = np.empty(channels, np.int64), width * channels
    for y in range(begin, end):
        for n in range(0, count, BLOCK):
            source, stride = address(images, (n, y, 0, 0)), height * row
            ahead = (
                source + BLOCK * stride if n + BLOCK < count else address(images, (0, y + 1, 0, 0))
            )
            if n + BLOCK < count or y + 1 < height:
                for m in range(BLOCK):
                    for i in range(0, row, LINE):
                        fetch(ahead + m * stride + i)
            for c in range(channels):
                targets[c] = address(samples, (c, y, first + n // BLOCK, 0, 0))
            for left in range(0, width, RUN):
                x = min(left, width - RUN)
                if channels == 1:
                    interleave(source + x, stride, targets, x * BLOCK, 1)
                else:
                    interleave(source + 3 * x, stride, targets, x * BLOCK, 3)


@jit.serial
def _pack_plain(begin, end, images, samples, start):
    count, _, width, channels = images.shape
    for y in range(begin, end):
        for c in range(channels):
            for n in range(count):
                block, inside = divmod(start + n, BLOCK)
                for x in range(width):
                    samples[c, y, block, x, inside] = images[n, y, x, c]
