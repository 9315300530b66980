"""Applying the weights of a model to images: every output pixel is a sum over its taps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlr.frame import framed
from mlr.receptive_field import ReceptiveField

WORTH_LOADING = 1_000_000_000  # products that take NumPy a second, and Numba a third to import
BAND_BYTES = 64 << 10  # rows of pixels, and of their products, that stay in the cache

Floats = npt.NDArray[np.float32]

_computed = 0  # products, without Numba


def apply(weights: Floats, field: ReceptiveField, images: Floats, *, edge: bool = False) -> Floats:
    """Compute sum_k w_k(p) x(p + o_k) + w_bias(p) for every pixel and channel of every image.

    The bits of the result do not depend on the number of images or threads, nor on whether Numba
    is there: it is used if it has been loaded before, or if there is a lot to do.

    Parameters
    ----------
    weights : ndarray of float32, shape (channels or 1, taps + 1, height, width)
        The bias is last. One set of weights serves all channels.
    field : ReceptiveField
        The taps.
    images : ndarray of float32, shape (images, channels, height, width)
        Intensities in [0, 1].
    edge : bool
        Pixels outside the frame repeat the nearest one inside instead of counting as zero.

    Returns
    -------
    ndarray of float32, shape (images, channels, height, width)
        Not clipped.
    """
    channels, _, height, width = weights.shape
    around = neighbours(field, height, width)
    output = np.empty(images.shape, np.float32)
    # Channels that share weights are images like others.
    sources = np.ascontiguousarray(images).reshape(-1, channels, height, width)
    sums = output.reshape(-1, channels, height * width)
    planes = np.ascontiguousarray(weights).reshape(channels, -1, height * width)
    if kernels_are_worth_it(images.size * len(field)):
        _kernel()(planes, around, sources, edge, sums)
    else:
        apply_numpy(planes, around, sources, edge, sums)
    return output


class Neighbours(NamedTuple):
    """Where the taps of a pixel are in images of some size.

    Attributes
    ----------
    taps : ndarray of int64, shape (taps, 2)
        Offsets (dy, dx), none farther out than the image is large: there is nothing else.
    down, across : int
        Margins of a frame that has them all.
    starts : ndarray of int64, shape (taps,)
        Index of each tap of the first pixel in the framed image.
    """

    taps: npt.NDArray[np.int64]
    down: int
    across: int
    starts: npt.NDArray[np.int64]


@lru_cache(maxsize=64)  # working this out takes as long as a small image
def neighbours(field: ReceptiveField, height: int, width: int) -> Neighbours:
    """Return where the taps of pixels are in images of some size."""
    frame = (height, width)
    taps = np.clip(field.taps, np.negative(frame), frame)
    down, across = np.abs(taps).max(axis=0).tolist()
    starts = (taps[:, 0] + down) * (width + 2 * across) + taps[:, 1] + across
    return Neighbours(taps, down, across, starts)


@cache  # to import it each time takes as long as to call it
def _kernel() -> Callable[..., None]:
    from mlr.kernels.apply import apply_weights

    return apply_weights


def kernels_are_worth_it(products: int) -> bool:
    """Tell whether to use Numba: where it is loaded, or there is enough to do, or has been.

    Parameters
    ----------
    products : int
        How many are to be computed now. They are added to those that this process has computed
        without Numba: whoever changes one image after the other gets it, too, in the end.
    """
    global _computed
    if "mlr.kernels.jit" in sys.modules:
        return True
    _computed += products
    return _computed >= WORTH_LOADING


def apply_numpy(
    weights: Floats, around: Neighbours, images: Floats, edge: bool, output: Floats
) -> None:
    """Do what `mlr.kernels.apply.apply_weights` does, to the bit, without Numba.

    Parameters are the same. To the bias, one product after the other is added, a band of rows at a
    time. From an image with a frame, rows would have to be read one by one, which takes 1.8 times
    as long as the copies moved to the left and right. `numpy.einsum` adds in an order of its own.
    """
    count, channels, height, width = images.shape
    taps, down, across, _ = around
    rows = max(1, min(height, BAND_BYTES // (4 * width)))
    products = np.empty(rows * width, np.float32)
    for n, c in np.ndindex(count, channels):
        padded = framed(images[n, c, None], down, across, edge=edge)[0]
        for top in range(0, height, rows):
            size = min(rows, height - top) * width
            band = slice(top * width, top * width + size)
            source = padded[top : top + rows + 2 * down]
            moved = {
                dx: source[:, across + dx : across + dx + width].ravel()
                for dx in set(taps[:, 1].tolist())
            }
            sums, product = output[n, c, band], products[:size]
            sums[:] = weights[c, -1, band]
            for weight, (dy, dx) in zip(weights[c], taps.tolist(), strict=False):
                first = (down + dy) * width
                np.multiply(weight[band], moved[dx][first : first + size], out=product)
                sums += product
