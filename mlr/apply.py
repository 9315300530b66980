"""Applying the weights of a model to images: every output pixel is a sum over its taps."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from mlr.receptive_field import ReceptiveField

WORTH_LOADING = 1_000_000_000  # products that take NumPy a second, and Numba a third to import
BAND_BYTES = 128 << 10  # rows of pixels, and of their products, that stay in the cache

Floats = npt.NDArray[np.float32]


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
    images, weights = np.ascontiguousarray(images), np.ascontiguousarray(weights)
    frame = np.array(images.shape[2:])
    taps = np.clip(field.taps, -frame, frame)  # farther out there is nothing else
    output = np.empty_like(images)
    if _kernel_is_worth_it(images.size * len(field)):
        from mlr.kernels.apply import apply_weights

        apply_weights(weights, taps, images, edge, output)
    else:
        apply_numpy(weights, taps, images, edge, output)
    return output


def _kernel_is_worth_it(products: int) -> bool:
    """Tell whether to use Numba: where it is loaded, or there are so many products to compute."""
    return "mlr.kernels.jit" in sys.modules or products >= WORTH_LOADING


def apply_numpy(
    weights: Floats, taps: npt.NDArray[np.int64], images: Floats, edge: bool, output: Floats
) -> None:
    """Do what `mlr.kernels.apply.apply_weights` does, to the bit, without Numba.

    Parameters are the same. To the bias, one product after the other is added, a band of rows at a
    time. `numpy.einsum` is no faster and adds in an order of its own.
    """
    count, channels, height, width = images.shape
    down, across = np.abs(taps).max(axis=0)
    margins = ((down, down), (across, across))
    rows = max(1, min(height, BAND_BYTES // (4 * width)))
    products = np.empty((rows, width), np.float32)
    for n, c in np.ndindex(count, channels):
        framed = np.pad(images[n, c], margins, mode="edge" if edge else "constant")
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            own = weights[c % len(weights), :, top:bottom]
            sums, product = output[n, c, top:bottom], products[: bottom - top]
            sums[:] = own[-1]
            for weight, (dy, dx) in zip(own, taps, strict=False):
                y, x = top + down + dy, across + dx
                pixels = framed[y : y + bottom - top, x : x + width]
                np.add(sums, np.multiply(weight, pixels, out=product), out=sums)
