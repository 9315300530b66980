"""Applying the weights of a model to images: every output pixel is a sum over its taps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlr.receptive_field import ReceptiveField

BAND_BYTES = 1 << 20  # taps of some rows of pixels that stay in the cache

Floats = npt.NDArray[np.float32]


def apply(weights: Floats, field: ReceptiveField, images: Floats, *, edge: bool = False) -> Floats:
    """Compute sum_k w_k(p) x(p + o_k) + w_bias(p) for every pixel and channel of every image.

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
    # NumPy rather than a kernel: a program that only applies a model need not load Numba. The taps
    # of a band of rows are gathered, in the cache, and multiplied with the weights that stream by.
    count, channels, height, width = images.shape
    rows = max(1, min(height, BAND_BYTES // (4 * width * (len(field) + 1))))
    reach_y, reach_x = np.abs(field.taps).max(axis=0)
    margins = ((0, 0), (0, 0), (reach_y, reach_y), (reach_x, reach_x))
    padded = np.pad(images, margins, mode="edge" if edge else "constant")
    gathered = np.ones((len(field) + 1, rows, width), np.float32)
    output = np.empty_like(images)
    for n, channel in np.ndindex(count, channels):
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            taps = gathered[:, : bottom - top]
            for k, (dy, dx) in enumerate(field.offsets):
                y, x = top + reach_y + dy, reach_x + dx
                taps[k] = padded[n, channel, y : y + bottom - top, x : x + width]
            band = output[n, channel, top:bottom]
            own = weights[channel % len(weights), :, top:bottom]
            np.einsum("kyx,kyx->yx", own, taps, out=band)
    return output
