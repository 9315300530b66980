"""Applying the weights of a model to images: every output pixel is a sum over its taps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, cached_property, lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlr.core.padding import framed
from mlr.core.receptive_field import ReceptiveField
from mlr.kernels.aligned import aligned

WORTH_LOADING = 1_000_000_000  # products that take NumPy a second, and Numba a third to import
BAND_BYTES = 256 << 10  # rows of pixels, and of their products, that stay in the cache
TOGETHER = 3  # images, or channels of one, that each weight is read once for
KEPT_BYTES = 8 << 20  # weights of up to so many bytes are kept in two forms

Floats = npt.NDArray[np.float32]

_computed = 0  # products, without Numba


def apply(weights: Floats, field: ReceptiveField, images: Floats, *, edge: bool = False) -> Floats:
    """Do what an `Applier` does, once."""
    return Applier(weights, field, edge=edge)(images)


class Applier:
    """Applies the weights of a model to images, time and again.

    Parameters
    ----------
    weights : ndarray of float32, shape (channels or 1, taps + 1, height, width)
        The bias is last. One set of weights serves all channels. They must not change any more.
    field : ReceptiveField
        The taps.
    edge : bool
        Pixels outside the frame repeat the nearest one inside instead of counting as zero.
    """

    def __init__(self, weights: Floats, field: ReceptiveField, *, edge: bool = False) -> None:
        self._weights, self._edge = np.ascontiguousarray(weights), edge
        self._neighbours = neighbours(field, *weights.shape[2:])

    def __call__(self, images: Floats) -> Floats:
        """Compute sum_k w_k(p) x(p + o_k) + w_bias(p) for every pixel and channel of every image.

        The bits of the result do not depend on the number of images or threads, nor on whether
        Numba is there: it is used if it has been loaded before, or if there is a lot to do.

        Parameters
        ----------
        images : ndarray of float32, shape (images, channels, height, width)
            Intensities in [0, 1].

        Returns
        -------
        ndarray of float32, shape (images, channels, height, width)
            Not clipped.
        """
        channels, planes, height, width = self._weights.shape
        output = np.empty(images.shape, np.float32)
        # Channels that share weights are images like others.
        shape = -1, channels, height, width
        sources, results = np.ascontiguousarray(images).reshape(shape), output.reshape(shape)
        if kernels_are_worth_it(images.size * (planes - 1)):
            _kernel()(self._weights, self._neighbours, sources, self._edge, results)
        else:
            self.without_numba(sources, results)
        return output

    def without_numba(self, images: Floats, output: Floats) -> None:
        """Do what `mlr.kernels.apply.apply_weights` does, to the bit.

        To the bias, one product after the other is added, a band of rows of up to three images at a
        time, so that each weight is read once for the channels of one. `numpy.einsum` adds in an
        order of its own.

        Parameters
        ----------
        images, output : ndarray of float32, shape (images, channels of the weights, height, width)
            The output is overwritten.
        """
        count, channels, height, width = images.shape
        down, across, starts = self._neighbours
        pitch = width + 2 * across
        rows = BAND_BYTES // (4 * pitch * max(1, min(count, TOGETHER)))
        rows = max(1, min(height, rows))
        room = aligned(2, min(count, TOGETHER), rows * pitch)
        for c, n in product(range(channels), range(0, count, TOGETHER)):
            some = images[n : n + TOGETHER, c]
            # One row more above and below: a band reads on beyond its last pixel.
            padded = framed(some, down + 1, across, edge=self._edge).reshape(len(some), -1)
            for top in range(0, height, rows):
                weights = self._in_rows(c, top, min(rows, height - top))
                size, first = weights.shape[1], (top + 1) * pitch
                sums, products = room[:, : len(some), :size]
                sums[:] = weights[-1]
                for weight, start in zip(weights, (starts + first).tolist(), strict=False):
                    np.multiply(weight, padded[:, start : start + size], products)
                    np.add(sums, products, sums)
                result = sums.reshape(len(some), -1, pitch)[:, :, :width]
                output[n : n + TOGETHER, c, top : top + rows] = result

    def _in_rows(self, channel: int, top: int, rows: int) -> Floats:
        """Return weights of some rows, (taps + 1, rows times the width of a framed image).

        So each tap is a run of the framed image. Row by row, products take 1.8 times as long, and
        copies of the image that are moved to the left and right take the place of the weights in
        the cache: 1.3 times.
        """
        if self._weights.nbytes > KEPT_BYTES:
            return self._spread(slice(channel, channel + 1), slice(top, top + rows))[0]
        pitch = self._all_in_rows.shape[2] // self._weights.shape[2]
        return self._all_in_rows[channel, :, top * pitch : (top + rows) * pitch]

    @cached_property
    def _all_in_rows(self) -> Floats:
        return self._spread(slice(None), slice(None))

    def _spread(self, channels: slice, rows: slice) -> Floats:
        """Return weights with zeros for the margins of a framed image, rows joined."""
        weights = self._weights[channels, :, rows]
        *shape, width = weights.shape
        result = np.zeros((*shape, width + 2 * self._neighbours.across), np.float32)
        result[..., :width] = weights
        return result.reshape(*shape[:2], -1)


class Neighbours(NamedTuple):
    """Where the taps of a pixel are in images of some size.

    Attributes
    ----------
    down, across : int
        Margins of a frame that has them all, at most as wide as the image is: there is nothing
        else farther out.
    starts : ndarray of int64, shape (taps,)
        Index of each tap of the first pixel in the framed image.
    """

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
    return Neighbours(down, across, starts)


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
